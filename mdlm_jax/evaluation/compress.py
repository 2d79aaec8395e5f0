"""What general compressors make of held-out text once they know the training text."""

import bz2
import lzma
from collections.abc import Callable

# At their strongest. bzip2 sorts blocks of 900 kB, and so knows no more of the training text than fits one.
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": lambda text: bz2.compress(text, 9),
    "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
}


def bits_per_byte(train: bytes, text: bytes) -> dict[str, float]:
    """Of each compressor: the bits that `text` adds to `train` before it, over the bytes of `text`."""
    added = {name: len(pack(train + text)) - len(pack(train)) for name, pack in COMPRESSORS.items()}
    return {name: 8 * size / len(text) for name, size in added.items()}
