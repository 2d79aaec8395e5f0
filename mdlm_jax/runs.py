"""python -m mdlm_jax.runs list [--dir runs] | show RUN | compare RUN RUN ... | remove RUN ... [--yes]

What launch.py has trained; without jax. A run in training is never removed, nor are files that no run writes.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from mdlm_jax import cli

# Every file of a run, of its data and of its samples, by its path in the run directory.
WRITTEN = re.compile(
    r"(config|dataset|tokenizer|environment|STATUS)\.json(\.tmp)?|(command|plan)\.txt|lock"
    r"|metrics\.(jsonl|tmp)|events\.out\.tfevents\.[^/]+|report/report\.json(\.tmp)?"
    r"|samples/[^/]+\.(json|txt)(\.partial)?"
    r"|(data|\.data\.(partial|old)-\d+)"
    r"/([^/]+\.array_record|(dataset|tokenizer)\.json|difficulty\.csv|data_report\.html(\.tmp)?)"
    r"|checkpoints/\d+_\w+/\d+(\.tmp|\.damaged)?/((meta|MANIFEST)\.json(\.tmp)?|state[^/]*/.+)"
)


def remove(paths: list[Path], yes: bool) -> None:
    """Deletes runs, all checked first. Raises RunsError for links, runs in training and files of others."""
    from mdlm_jax.evaluation.summary import RunsError, clean, fill, in_training, read

    runs = {path: read(path) for path in map(Path, map(os.path.abspath, paths))}
    if not yes and not sys.stdin.isatty():
        raise RunsError("there is no terminal to ask on; --yes removes without a question")
    for path, run in list(runs.items()):
        strange = [n for n in run["files"] if not WRITTEN.fullmatch(n) or (path / n).is_symlink()]
        if path.is_symlink():
            raise RunsError(fill("{path} is a link; remove the run it leads to", run))
        if strange:
            raise RunsError(fill("{path} holds ", run) + f"{strange[0]!r}, which no run writes; move it away")
        if not yes:
            print(fill("remove {path} ({size})? [y/N] ", run), end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                del runs[path]
    for path in filter(in_training, runs):  # after the questions: an answer takes its time
        raise RunsError(clean(f"another process is training in {path}; wait for it, or stop it"))
    for path, run in runs.items():
        hidden = path.with_name(f".{path.name}.removed-{os.getpid()}")  # never a half run under its name
        path.rename(hidden)
        shutil.rmtree(hidden)
        print(fill("removed {path}, {size} freed", run))


def main(argv: list[str] | None = None) -> int:
    """The exit code."""
    parser = cli.Parser(prog="python -m mdlm_jax.runs", description="What launch.py has trained.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|show|compare|remove")
    listing = commands.add_parser("list", help="a line for every run below a directory")
    listing.add_argument("--dir", type=Path, default=Path("runs"), help="holds the runs (default: runs)")
    commands.add_parser("show", help="a screen about one run").add_argument("run", type=Path)
    comparing = commands.add_parser("compare", help="where configurations differ, and the figures")
    comparing.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="two or more")
    removing = commands.add_parser("remove", help="delete runs, after a question")
    removing.add_argument("runs", type=Path, nargs="+")
    removing.add_argument("--yes", action="store_true", help="without a question")

    def command() -> None:
        options = parser.parse_args(argv)
        from mdlm_jax.evaluation.summary import compare, list_runs, show

        if options.command == "remove":
            remove(options.runs, options.yes)
        elif options.command == "list":
            print(list_runs(options.dir))
        else:
            print(show(options.run) if options.command == "show" else compare(options.runs))

    return cli.run(command, "what was not said to be removed is whole (a hidden .NAME.removed-N may be left)")


if __name__ == "__main__":
    sys.exit(main())
