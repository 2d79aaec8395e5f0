"""One epoch of every stage, a log line and a checkpoint at every turn: does this book get through?

    python launch.py --config configs/debug.py --book my_book.txt

The flag --debug does the same to any other plan.

Expect a minute on two cores, most of it compilation; 28 steps on the built-in novel leave it at 2.688 bits
per byte (validation), far behind a byte 5-gram (2.107).
"""

from typing import Any

from configs import one_epoch, three_stage
from mdlm_jax.ui.values import flat


def get_config(preset: str = "tiny") -> dict[str, Any]:
    """three_stage.py as --debug makes it."""
    values = flat(three_stage.get_config(preset))
    return values | one_epoch(values)
