"""Turn one book into the shards of a three-stage curriculum.

``python -m data_prep --book book.txt --out data/`` or :func:`prepare`. Imports no accelerator library, and
nothing heavy until :func:`prepare` is first used.
"""

from typing import TYPE_CHECKING, Any

from data_prep.config import PrepConfig, PrepError

if TYPE_CHECKING:
    from data_prep.pipeline import prepare

__all__ = ["PrepConfig", "PrepError", "prepare"]


def __getattr__(name: str) -> Any:
    if name == "prepare":
        from data_prep.pipeline import prepare

        return prepare
    raise AttributeError(f"module 'data_prep' has no attribute {name!r}")
