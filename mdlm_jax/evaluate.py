"""python -m mdlm_jax.evaluate --workdir R [--preset fast|default|comprehensive|memory_efficient]
python -m mdlm_jax.evaluate compare R1 R2 ... [--out comparison.html]

What a finished run is worth on chapters it never saw, beside simpler models; or runs side by side.
"""

import os
import sys

from mdlm_jax.ui import cli


def command() -> int:
    """measure.run_command; its imports are slow, and a Ctrl-C among them is told like any other."""
    from mdlm_jax.evaluation.measure import run_command

    return run_command()


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 4 (--strict) where a threshold is not met, 130
    when interrupted.
    """
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(command, "nothing was written")


if __name__ == "__main__":
    cli.huge_pages()
    sys.exit(main())
