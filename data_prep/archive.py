"""What kind of file it is; gzip and ZIP files in memory, read by what comes out of them.

What their headers promise is not believed, nothing is written, and a name in an archive is never a path.
"""

from __future__ import annotations

import codecs
import gzip
import io
import struct
import zipfile
import zlib
from itertools import pairwise
from typing import IO

from data_prep.config import PrepError

MAX_ENTRIES = 10_000
MAX_RATIO = 100  # of text to its compressed form; prose has 3, a bomb 1000
_SMALL = 1_000_000  # bytes that are let pass at any ratio
_CHUNK = 1 << 16
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    RuntimeError,
)

SAVE_AS = "save it as .txt, .html or .epub"
# (offset, what stands there in lower case, what such a file is)
_OTHER_KINDS = [
    (0, b"{\\rtf", "a rich text file (RTF)"),
    (0, b"%pdf-", "a PDF file"),
    (0, b"\xd0\xcf\x11\xe0", "an old Word file"),
    (60, b"bookmobi", "a Kindle file"),
    (257, b"ustar", "a tar archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"rar!\x1a\x07", "a RAR archive"),
    (0, b"\xfd7zxz\x00", "an xz archive"),
    (4, b"1ay&sy", "a bzip2 archive"),
]


def container(data: bytes, name: str) -> str:
    """ "gzip", "zip" or, for what may be text, nothing.

    Raises:
        PrepError: a kind of file that is not read.
    """
    start = data[:300].removeprefix(codecs.BOM_UTF8).lower()
    for offset, magic, what in _OTHER_KINDS:
        if (start if offset else start.lstrip()).startswith(magic, offset):
            raise PrepError(f"{name} is {what}, not text; {SAVE_AS}")
    return "gzip" if data[:2] == b"\x1f\x8b" else "zip" if data[:4] in (b"PK\3\4", b"PK\5\6") else ""


def gunzip(data: bytes, name: str, limit: int) -> bytes:
    """The content of a gzip file.

    Raises:
        PrepError: damaged, more than ``limit`` bytes, or blown up beyond belief.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _capped(file, name, limit, len(data))
    except _DAMAGE as error:
        raise _damaged(name, error) from None


class Archive:
    """A ZIP file in memory: the names in it, and their contents up to ``limit`` bytes in all.

    Raises:
        PrepError: damaged, encrypted, with too many entries or overlapping ones.
    """

    def __init__(self, data: bytes, name: str, limit: int) -> None:
        self._name, self._left, self._limit = name, limit, limit
        # Counted in the bytes: opening it makes an object of each, and a forged count costs nothing.
        if data.count(b"PK\x01\x02") > MAX_ENTRIES:
            raise PrepError(f"{name} has more than {MAX_ENTRIES:,} entries; unpack what you want to read")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as error:
            raise _damaged(name, error) from None
        entries = [info for info in self._zip.infolist() if not info.is_dir()]
        places = sorted((info.header_offset, info.header_offset + info.compress_size) for info in entries)
        if any(end > following for (_, end), (following, _) in pairwise(places)):
            raise PrepError(f"{name} is damaged or made to deceive: its entries overlap; pack it again")
        self.names = list(dict.fromkeys(info.filename for info in entries))

    def read(self, entry: str) -> bytes:
        """The bytes of one entry.

        Raises:
            PrepError: absent, damaged, encrypted, or too much came out of the archive.
        """
        shown = f"{self._name}: {entry}"
        try:
            info = self._zip.getinfo(entry)
            if info.flag_bits & 1:
                raise PrepError(f"{shown} is encrypted; unpack it with its password and give the text")
            # Python bounds what a step of these two gives out, not of the others.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PrepError(f"{shown} is packed in an unusual way; unpack it and give the text")
            with self._zip.open(info) as file:
                data = _capped(file, shown, self._left, info.compress_size, self._limit)
        except PrepError:
            raise
        except _DAMAGE as error:
            raise _damaged(shown, error) from None
        self._left -= len(data)
        return data


def too_large(name: str, limit: int) -> PrepError:
    """The error for a source of more than ``limit`` bytes."""
    return PrepError(
        f"{name} holds more than {limit / 1e6:g} MB; split it, or raise max_megabytes "
        "(--max_megabytes of python -m data_prep)"
    )


def _capped(
    file: IO[bytes] | gzip.GzipFile, name: str, limit: int, compressed: int, told: int | None = None
) -> bytes:
    """All that ``file`` gives, refused as soon as it is too much. The error names the limit ``told``."""
    chunks, size = [], 0
    while chunk := file.read(min(_CHUNK, limit - size + 1)):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise too_large(name, told or limit)
        if size > _SMALL and size > MAX_RATIO * compressed:
            raise PrepError(
                f"{name} unpacks to over {MAX_RATIO} times its size; no text does, so it is not read"
            )
    return b"".join(chunks)


def _damaged(name: str, error: Exception) -> PrepError:
    return PrepError(f"{name} is damaged ({error or type(error).__name__}); fetch or make it again")
