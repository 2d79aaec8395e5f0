"""python -m mdlm_jax.runs list [--dir runs] | show RUN | compare RUN RUN ... | remove RUN ... [--yes]

What launch.py has trained; without jax. A run in training is never removed, nor are files that no run writes.
"""

import sys
from pathlib import Path

from mdlm_jax.ui import cli


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
        from mdlm_jax.evaluation.summary import compare, list_runs, remove, show

        if options.command == "remove":
            remove(options.runs, options.yes)
        elif options.command == "list":
            print(list_runs(options.dir))
        else:
            print(show(options.run) if options.command == "show" else compare(options.runs))

    return cli.run(command, "what was not said to be removed is whole (a hidden .NAME.removed-N may be left)")


if __name__ == "__main__":
    sys.exit(main())
