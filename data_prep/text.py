"""Read a book from disk: encodings, control characters, Project Gutenberg boilerplate."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from data_prep.config import PrepError

MIN_WORDS = 300
MAX_CONTROL_SHARE = 0.005  # of the characters; a text file has next to none

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

_START = re.compile(r"^\s*\*{3}\s*START OF (?:TH(?:E|IS) )?PROJECT GUTENBERG.*$", re.IGNORECASE)
_END = re.compile(
    r"^\s*(?:\*{3}\s*END OF (?:TH(?:E|IS) )?PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg).*$",
    re.IGNORECASE,
)
_CREDITS = re.compile(
    r"^(?:Produced by|Transcribed (?:from|by)|Transcriber.s note|E-?text prepared by"
    r"|HTML version by|This e-?text)",
    re.IGNORECASE,
)
# What a file of another kind begins with, and what it is.
_OTHER_KINDS = {
    b"{\\rtf": "a rich text file",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a ZIP, Word, OpenDocument or EPUB file",
    b"\xd0\xcf\x11\xe0": "an old Word file",
    b"\x1f\x8b": "a gzip file",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
_LINE_ENDS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# C0 and C1 controls except tab and newline, DEL, and byte order marks left inside the text.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Book:
    """A decoded book without boilerplate; ``text`` has LF line ends and no control characters."""

    name: str
    sha256: str
    bytes: int
    title: str | None
    encoding: str
    boilerplate_lines: int
    text: str


def words(text: str) -> list[str]:
    """Lower-case words: letters with inner apostrophes, in order."""
    return [word.lower() for word in WORD.findall(text)]


def read_bytes(path: Path) -> bytes:
    """The bytes of a book file.

    Raises:
        PrepError: missing, a directory, or not readable.
    """
    if path.is_dir():
        raise PrepError(f"{path} is a directory; give one text file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PrepError(f"{path} does not exist; check --book") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PrepError(f"{path} cannot be read: {reason}") from None


def read_book(path: Path) -> Book:
    """Read, decode and clean one book.

    Raises:
        PrepError: missing, a directory, empty, binary, in no known encoding, or under 300 words.
    """
    data = read_bytes(path)
    text, encoding = decode(data, str(path))
    text, title, removed = strip_gutenberg(normalise(text))
    count = sum(1 for _ in WORD.finditer(text))
    if count < MIN_WORDS:
        raise PrepError(f"{path} has {count} words; at least {MIN_WORDS} are needed to hold out chapters")
    return Book(path.name, hashlib.sha256(data).hexdigest(), len(data), title, encoding, removed, text)


def decode(data: bytes, name: str) -> tuple[str, str]:
    """Text and the name of its encoding: by byte order mark, else UTF-8, else Windows-1252.

    Raises:
        PrepError: empty, binary, or none of these encodings.
    """
    if not data.strip():
        raise PrepError(f"{name} is empty; give a text file of at least {MIN_WORDS} words")
    start = data[:64].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for magic, kind in _OTHER_KINDS.items():
        if start.startswith(magic.lower()):
            raise PrepError(f"{name} is {kind}, not plain text; save it as a .txt file in UTF-8")
    try:
        if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
            text, encoding = data.decode("utf-32"), "utf-32"
        elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text, encoding = data.decode("utf-16"), "utf-16"
        else:
            text, encoding = _decode_bytewise(data)
    except UnicodeDecodeError:
        raise PrepError(f"{name} is not text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8") from None
    if len(_CONTROLS.findall(text)) > MAX_CONTROL_SHARE * len(text) + 2:
        raise PrepError(f"{name} is binary, not text; give a plain text file, saved as UTF-8")
    if not normalise(text).strip():
        raise PrepError(f"{name} is empty; give a text file of at least {MIN_WORDS} words")
    return text, encoding


def _decode_bytewise(data: bytes) -> tuple[str, str]:
    encoding = "utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError:
        return data.decode("cp1252"), "cp1252"


def normalise(text: str) -> str:
    """LF line ends, spaces for tabs, no control characters."""
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text)).replace("\t", " ")


def strip_gutenberg(text: str) -> tuple[str, str | None, int]:
    """The text between Project Gutenberg's markers, the header's title, and how many lines were removed."""
    lines = text.split("\n")
    start = max((i for i, line in enumerate(lines) if _START.match(line)), default=-1)
    end = next((i for i in range(start + 1, len(lines)) if _END.match(lines[i])), len(lines))
    if start < 0 and end == len(lines):
        return text, None, 0
    title = _header_title(lines[: start + 1])
    first = start + 1
    for skipped in _leading_blocks(lines, first, end):
        if not _CREDITS.match(lines[skipped[0]].strip()):
            break
        first = skipped[1]
    removed = len(lines) - (end - first)
    return "\n".join(lines[first:end]), title, removed


def _leading_blocks(lines: list[str], first: int, end: int) -> list[tuple[int, int]]:
    """Line ranges of the first few paragraphs after the header, where credits stand."""
    blocks: list[tuple[int, int]] = []
    at = first
    while at < end and len(blocks) < 3:
        while at < end and not lines[at].strip():
            at += 1
        begin = at
        while at < end and lines[at].strip():
            at += 1
        if at > begin:
            blocks.append((begin, at))
    return blocks


def _header_title(lines: list[str]) -> str | None:
    for i, line in enumerate(lines):
        if line.startswith("Title:"):
            parts = [line[len("Title:") :].strip()]
            for following in lines[i + 1 :]:
                if not following[:1].isspace() or not following.strip():
                    break
                parts.append(following.strip())
            return " ".join(parts) or None
    return None
