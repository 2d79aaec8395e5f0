"""Turn one book into the shards of a three-stage curriculum.

``python -m data_prep --book book.txt --out data/`` or :func:`prepare`. Imports no accelerator library, and
nothing heavy until :func:`prepare` is first used; :func:`fingerprint` tells one book from another at once.
"""

from typing import TYPE_CHECKING, Any

from data_prep.config import PrepConfig, PrepError

if TYPE_CHECKING:
    from data_prep.pipeline import prepare
    from data_prep.read import fingerprint

__all__ = ["PrepConfig", "PrepError", "fingerprint", "prepare"]


def __getattr__(name: str) -> Any:
    if name == "prepare":
        from data_prep.pipeline import prepare

        return prepare
    if name == "fingerprint":
        from data_prep.read import fingerprint

        return fingerprint
    raise AttributeError(f"module 'data_prep' has no attribute {name!r}")
