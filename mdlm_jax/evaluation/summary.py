"""What run directories say, for a terminal: a line, a screen, or side by side. Files only, no jax."""

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from mdlm_jax.ui import cli
from mdlm_jax.ui.lock import in_training
from mdlm_jax.ui.progress import clock
from mdlm_jax.ui.values import UserError, flat, nearest
from mdlm_jax.ui.whole import reported, verify

READ = ("config.json", "dataset.json", "STATUS.json", "report/report.json", "command.txt", "plan.txt")
PROGRESS = "{STATUS.stage} {STATUS.step:,}/{STATUS.steps:,} ({STATUS.share_done:.0%})"
BOOK = "{dataset.book.name}, {dataset.book.bytes:,} bytes: {split} {dataset.split.kind}"
SHAPE = "{config.model.num_layers} layers x {config.model.d_model} x {config.model.num_heads} heads"
FIGURES = {
    "Latest": "{STATUS.bits_per_byte:.3f} in validation",
    "Validation": "{validation}",
    "Test": "{test}",
    "Byte 5-gram": "{ngram.validation:.3f} validation, {ngram.test:.3f} test",
    "Trained": "{report.training_tokens:,} tokens, {report.training_flops:.2e} FLOPs",
    "Parameters": "{report.parameters.true:,}",
    "Split seed": "{dataset.split.seed}",
}
CRITICAL = "{%.ratio:.3g} times Ccrit ({%.flops:.2e} for {%.unique_tokens:,} unique tokens{law}): {passed}"
PASSED = "passed at step {%.step:,} of stage {%.stage}, {%.name}"
LOWER = "Held-out figures are bits per byte; lower is better. Those of masked diffusion are upper bounds."

RESUME = "What is not finished goes on with python launch.py --workdir RUN."

# Every file of a run, of its data and of its samples, by its path in the run directory.
WRITTEN = re.compile(
    r"(config|dataset|tokenizer|environment|shards|STATUS)\.json(\.tmp)?|(command|plan)\.txt(\.tmp)?|lock"
    r"|metrics\.jsonl(\.tmp)?|events\.out\.tfevents\.[^/]+|report/((report|evaluation|index)\.json|index\.html|[a-z]+\.svg)(\.tmp)?"
    r"|plugins/profile/[^/]+/[^/]+|wandb/.+"
    r"|human/([0-9a-f]{12}\.json(\.tmp)?|answers\.jsonl)"
    r"|samples/[^/]+\.(json|txt)(\.partial)?|self_training/[^/]+\.(json|array_record)(\.tmp)?"
    r"|(data|\.data\.(partial|old)-\d+)"
    r"/([^/]+\.array_record|(dataset|tokenizer)\.json|difficulty\.csv|data_report\.html(\.tmp)?)"
    r"|checkpoints/\d+_\w+/\d+(\.tmp|\.damaged)?/((meta|MANIFEST)\.json(\.tmp)?|state[^/]*/.+)"
)


class RunsError(UserError):
    """A directory that cannot be listed, shown, compared or removed; one line."""


def clean(text: str) -> str:
    """Text without what does not print: control characters, line breaks, half characters."""
    return "".join(c for c in text if c.isprintable())


def fill(template: str, run: dict[str, Any]) -> str:
    """The template with its {field} and {field:format} from `run`; "-" when one is missing or unfit."""
    try:
        return re.sub(r"\{([^{}:]+):?([^{}]*)\}", lambda m: clean(format(run[m[1]], m[2])), template)
    except (KeyError, TypeError, ValueError, OverflowError):
        return "-"


def table(rows: list[list[str]]) -> str:
    """Rows as aligned columns, none wider than 56."""
    rows = [[c if cell_len(c) <= 56 else set_cell_size(c, 55) + "…" for c in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows)


def files_below(path: Path) -> dict[str, os.stat_result]:
    """{path: what the system says} of all below but directories; a link is not followed."""
    found = {}
    for folder, directories, files in os.walk(path):
        for file in (Path(folder, name) for name in files + directories):
            with contextlib.suppress(FileNotFoundError):  # training replaces its checkpoints
                if file.is_symlink() or not file.is_dir():
                    found[file.relative_to(path).as_posix()] = file.lstat()
    return found


def is_run(path: Path) -> bool:
    """Whether a plan has claimed the directory, or was stopped between its preparation and that."""
    return any(os.path.exists(path / name) for name in ("config.json", "data/dataset.json"))


def no_run(path: Path) -> str:
    """The line for a path that is none, with the nearest that is."""
    folders = [folder for folder in (path.parent, Path("runs")) if folder.is_dir()]
    beside = [str(run) for folder in folders for run in sorted(filter(is_run, folder.iterdir()))]
    near = nearest(str(path), beside) or nearest(f"runs/{path}", beside)
    return clean(f"{path} is not a run directory (it has no config.json; launch.py makes one){near}")


def read(path: Path) -> dict[str, Any]:
    """What a run's files say (config.seed, STATUS.step) and what follows. Raises RunsError if it is none."""
    if not is_run(path):
        raise RunsError(no_run(path))
    files, faults = files_below(path), []
    claimed = (path / "config.json").exists()
    run: dict[str, Any] = {"path": path, "name": path.name, "files": files}
    for name in READ:
        try:
            text = (path / name).read_text(encoding="utf-8", errors="replace")
            run |= flat({**json.loads(text)}, Path(name).stem) if name.endswith("json") else {name: text}
        except (OSError, TypeError, ValueError, RecursionError) as error:  # TypeError: no JSON object
            if not isinstance(error, FileNotFoundError) or (name == "dataset.json" and claimed):
                faults.append(f"{name}: {getattr(error, 'strerror', None) or 'no JSON object'}")
    run["size"] = decimal(sum(file.st_size for file in files.values()))
    run["seconds"] = seconds = max(0.0, time.time() - max((f.st_mtime for f in files.values()), default=0.0))
    run["age"] = clock(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days"
    said, begun = run.get("STATUS.state"), any(name.startswith("checkpoints/") for name in files)
    ended = said in ("finished", "stopped", "diverged", "failed")
    state = said if ended else "killed" if said or begun else "no weights yet"
    state = state if claimed else "prepared, no training yet"
    run["state"] = "running" if said != "finished" and in_training(path) else state
    run["state"] += f", broken: {'; '.join(faults)}" if faults else ""
    for split in ("validation", "test"):
        exact = run.get(f"report.{split}.kind") == "exact"
        figure = "{%:.3f} exactly" if exact else "at most {%:.3f} +- {%_se:.3f}"
        run[split] = fill(figure.replace("%", f"report.{split}.bits_per_byte"), run)
        run[f"ngram.{split}"] = run.get(f"report.ngram_5_bits_per_byte.{split}")
    return run


def list_runs(directory: Path) -> str:
    """The table of `list`. Raises RunsError when there is no such directory."""
    if not directory.is_dir():
        raise RunsError(clean(f"{directory} is no directory; launch.py makes runs/..., --dir names another"))
    visible = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    paths = [directory / name for name in visible if is_run(directory / name)]
    if not paths:
        return clean(f"no runs in {directory} yet; python launch.py trains one")
    cells = ["{name}", PROGRESS, "{STATUS.bits_per_byte:.3f}", "{report.test.bits_per_byte:.3f}"]
    cells += ["{size}", "{age} ago", "{dataset.book.name}", "{state}"]
    rows = [["name", "progress", "validation", "test", "size", "updated", "book", "state"]]
    for run in sorted(map(read, paths), key=lambda run: -run["seconds"]):
        rows.append([fill(cell, run) for cell in cells])
    return f"{table(rows)}\n{LOWER}\n{RESUME}"


def show(path: Path) -> str:
    """The screen of `show`. Raises RunsError."""
    run = read(path)
    chapters = Counter(re.findall(r"dataset\.split\.chapters\.(\w+)\[", " ".join(run)))
    run["split"] = ", ".join(f"{count} {split}" for split, count in chapters.items())
    run["kind"] = "autoregressive twin" if run.get("config.model.causal") else "masked diffusion"
    run["quoted"] = shlex.quote(str(path))
    run["samples"] = sum(name.startswith("samples/") and name.endswith(".txt") for name in run["files"])
    found = (re.match(r"checkpoints/(\d+_\w+)/(\d+)/", name) for name in run["files"])
    lines = [("Run", "{path}: {state}, {size}, updated {age} ago"), ("Progress", PROGRESS)]
    lines += [("Why", "{STATUS.why}")] * (run.get("STATUS.state") == run["state"].partition(",")[0])
    lines += [("Command", "{command.txt}"), ("Book", BOOK)]
    lines += [("Model", f"{{kind}}, {SHAPE}, {{config.model.seq_len}} positions, {{config.precision}}")]
    for name in (name for name in run if re.fullmatch(r"config\.stages\[\d+\]\.name", name)):
        epochs, tokens = name.replace(".name", ".num_epochs"), f"dataset.stages.{run[name]}.train.tokens"
        lines += [("Stage", f"{{{name}}}: {{{epochs}}} epochs of {{{tokens}:,}} tokens")]
    run["law"] = ", extrapolated" if run.get("report.critical.extrapolated") else ""
    passed = fill(PASSED.replace("%", "report.critical.passed"), run)
    run["passed"] = "not passed" if passed == "-" else passed
    lines += [*FIGURES.items(), ("", LOWER), ("Critical", CRITICAL.replace("%", "report.critical"))]
    for stage, step in sorted({(match[1], int(match[2])) for match in found if match}):
        size = sum(f.st_size for n, f in run["files"].items() if n.startswith(f"checkpoints/{stage}/{step}/"))
        wrong = verify(path / "checkpoints" / stage / str(step))
        told = f"; damaged: {clean(wrong)}; training goes on from one before it" if wrong else ""
        lines += [("Checkpoint", f"{stage} step {step}, {decimal(size)}{told}")]
    if (where := reported(path)) and not (path / "checkpoints" / where).is_dir():
        lines += [("", clean(f"{where}, whose figures the report has, is not there"))]
    lines += [("Samples", "{samples}"), ("TensorBoard", "tensorboard --logdir {quoted}")]
    if "plan.txt" in run:
        lines += [("Plan", "{path}/plan.txt: layers, steps and FLOPs of every stage")]
    filled = [(label, fill(template, run)) for label, template in lines]
    return "\n".join(f"{label:<12}{text}" for label, text in filled if text != "-")


def compare(paths: list[Path]) -> str:
    """The table of `compare`. Raises RunsError."""
    if len(paths) < 2:
        raise RunsError("compare needs two runs or more")
    base = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    runs = [read(path) | {"name": os.path.relpath(path, base)} for path in paths]
    names = sorted({name for run in runs for name in run if name.startswith("config.")})
    differing = [name for name in names if len({run.get(name) for run in runs}) > 1]
    rows = {"": "{name}", "State": "{state}", "Book": "{dataset.book.name}"}
    rows |= {name.removeprefix("config."): f"{{{name}}}" for name in differing} | FIGURES
    cells = [[clean(label), *(fill(cell, run) for run in runs)] for label, cell in rows.items()]
    lines = [table(cells), LOWER] if differing else [table(cells), LOWER, "same configuration"]
    for what, field in (("books", "dataset.book.sha256"), ("split seeds", "dataset.split.seed")):
        if len({run.get(field) for run in runs}) > 1:
            lines += [f"The held-out figures are NOT comparable: the {what} differ."]
    return "\n".join(lines)


def remove(paths: list[Path], yes: bool) -> None:
    """Deletes runs, all checked first. Raises RunsError for links, runs in training and files of others."""
    runs = {path: read(path) for path in map(Path, map(os.path.abspath, paths))}
    if not yes and not sys.stdin.isatty():
        raise RunsError("there is no terminal to ask on; --yes removes without a question")
    for path, run in list(runs.items()):
        # wandb makes links of its own there; what they lead to stays.
        links = {n for n in run["files"] if (path / n).is_symlink() and not n.startswith("wandb/")}
        strange = [n for n in run["files"] if not WRITTEN.fullmatch(n) or n in links]
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
    """The command line of mdlm_jax.runs; the exit code."""
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
        if options.command == "remove":
            remove(options.runs, options.yes)
        elif options.command == "list":
            print(list_runs(options.dir))
        else:
            print(show(options.run) if options.command == "show" else compare(options.runs))

    return cli.run(command, "what was not said to be removed is whole (a hidden .NAME.removed-N may be left)")
