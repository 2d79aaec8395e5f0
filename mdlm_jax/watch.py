"""python -m mdlm_jax.watch RUN: follows a training run from another terminal, until it is finished.

Reads the run's files alone; now and then the newest weights write a short text, in a process of their own.
"""

import sys
import time

from mdlm_jax.evaluation.summary import RunsError, is_run, no_run
from mdlm_jax.ui import cli, options
from mdlm_jax.ui.lock import in_training
from mdlm_jax.ui.monitor import Monitor, Run, Writer, follow, plain


def run_command() -> None:
    """Follows a run. Raises RunsError for a path that is none and never will be."""
    a = options.watch_parser().parse_args()
    begun, monitor = is_run(a.run), Monitor(a.run)
    names = {x.name for x in a.run.iterdir()} if a.run.is_dir() else {"a file"} if a.run.exists() else set()
    others = names and not any(n in ("data", "lock") or n.startswith(".data.") for n in names)
    if not begun and (a.once or others):
        raise RunsError(no_run(a.run))
    command = [sys.executable, "-m", "mdlm_jax.sample", "--workdir", str(a.run), "--prompts", "/dev/stdin"]
    with Writer(a.run, [] if a.no_sample or a.once else [*command, "--length", "60"]) as writer:

        def read() -> Run:
            return monitor.read(in_training(a.run), time.time(), writer.sample)

        if a.once:
            print(plain(read()))
        else:
            follow(read, writer.look, "" if begun else f"{no_run(a.run)}; waiting for it to begin")


def main() -> int:
    """The exit code: 0, 2 after a line on what is wrong, 130 after a Ctrl-C."""
    return cli.run(run_command, "the training goes on")


if __name__ == "__main__":
    sys.exit(main())
