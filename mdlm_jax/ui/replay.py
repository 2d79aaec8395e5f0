"""A recorded stream of frames, shown again; and the document that frames make, step by step."""

import codecs
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax import frames
from mdlm_jax.ui.values import UserError

LONGEST = 2**20  # tokens of a document; what claims more is damaged
MASK = " ··"  # about as wide as a token, so that little moves when it is written
Look = Callable[[frames.SampleFrame], object]


@functools.cache
def _bytes() -> dict[str, int]:
    """The byte of each letter of byte-level BPE (GPT-2's alphabet: unprintable bytes are moved past 255)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(moved)}


def spelled(pieces: Iterable[str]) -> list[bytes]:
    """The bytes of each token by the pieces of a header; letters of added tokens may be no bytes."""
    known = _bytes()
    return [b"".join(bytes([known[x]]) if x in known else x.encode() for x in piece) for piece in pieces]


def header(path: Path, lines: Iterable[str]) -> dict[str, Any]:
    """The first line of a recording. Raises UserError where it is none, or of another version."""
    try:
        head: dict[str, Any] = json.loads(next(iter(lines)))
        known = head["schema_version"] == frames.SCHEMA_VERSION and head["seed"] >= 0
        spelled(head["pieces"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, StopIteration):
        raise UserError(f"{path} does not begin with the header of a recording") from None
    if not known:
        told = f"{path} has schema {head['schema_version']}, this version reads {frames.SCHEMA_VERSION}"
        raise UserError(told)
    return head


class Document:
    """What frames have made so far: arrays over the places [N], and figures of the writing.

    `spelling` holds the bytes of every token. `fresh`: written in the last step; `given`: never masked.
    """

    def __init__(self, spelling: list[bytes]):
        self.spelling = spelling
        self.tokens, self.confidence = np.zeros(0, np.int32), np.zeros(0, np.float32)
        self.masked, self.fresh, self.given = (np.zeros(0, bool) for _ in range(3))
        self.step = self.num_steps = self.block = self.calls = self.changes = 0
        self.nats = 0.0

    def lay(self, frame: frames.SampleFrame) -> None:
        """Lays a frame over the document. Raises ValueError or TypeError where it cannot be."""
        start, length = frame.extras.get("start", 0), frame.extras.get("length", len(frame.tokens))
        counts, size = (frame.step, frame.num_steps, frame.block, start, length), len(frame.tokens)
        whole = all(isinstance(x, int) and 0 <= x <= LONGEST for x in counts)
        if not whole or not max(start + size, len(self.tokens)) <= length:
            raise ValueError("it is no part of the document")
        grown = length - len(self.tokens)
        shown = np.where(frame.is_masked, 0, frame.tokens)
        if any(x.shape != (size,) for x in (shown, frame.is_masked, frame.changed, frame.confidence)):
            raise ValueError("its columns are not of one length")
        if not ((shown >= 0) & (shown < len(self.spelling))).all():
            raise ValueError("a token is not in the vocabulary")
        self.tokens, self.confidence = np.pad(self.tokens, (0, grown)), np.pad(self.confidence, (0, grown))
        self.masked = np.pad(self.masked, (0, grown), constant_values=True)
        self.given = np.pad(self.given, (0, grown), constant_values=True)
        self.fresh = np.zeros(length, bool)
        part = slice(start, start + size)
        self.tokens[part], self.masked[part], self.confidence[part] = shown, frame.is_masked, frame.confidence
        self.fresh[part] = frame.changed
        self.given &= ~self.masked
        self.step, self.num_steps, self.block = frame.step, frame.num_steps, frame.block
        self.calls += frame.step > 0
        self.changes += int(frame.changed.sum())
        self.nats += frame.log_prob

    def characters(self) -> Iterator[tuple[str, int]]:
        """Every character that prints, with the place of its last byte; of a mask those of MASK."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for place, (token, masked) in enumerate(zip(self.tokens.tolist(), self.masked.tolist(), strict=True)):
            text = decoder.decode(b"" if masked else self.spelling[token], final=masked)
            for character in frames.printable(text) + MASK * masked:
                yield character, place
        for character in decoder.decode(b"", final=True):
            yield character, len(self.tokens) - 1

    def text(self) -> str:
        """Its text, without control characters."""
        return "".join(character for character, _ in self.characters())


def replay(
    path: Path,
    show: Callable[[list[str]], AbstractContextManager[Look]],
    say: Callable[[str], None],
) -> None:
    """Shows a recording and says the text at its end; `show`, of the pieces, yields what looks at frames.

    Raises UserError naming the file, and the line that is no frame.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        head = header(path, file)
        document = Document(spelled(head["pieces"]))
        with show(head["pieces"]) as look:
            for number, line in enumerate(file, 2):
                try:
                    frame = frames.loads(line)
                    document.lay(frame)
                except (ValueError, TypeError, AttributeError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: {error}") from None
                look(frame)
    if not len(document.tokens):
        raise UserError(f"{path} ends after its header; no text was recorded")
    told = f"{document.calls} steps, {document.changes} changes, {document.nats:.1f} nats"
    say(f"{document.text()}\n\n{told}, seed {head['seed']}")
