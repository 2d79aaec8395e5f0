"""A recorded stream of frames, shown again: in place on a terminal, else the text at its end."""

import functools
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mdlm_jax import frames
from mdlm_jax.configuration import UserError

CLEAR = "\x1b[2J\x1b[H"
LONGEST = 2**20  # tokens of a document; what claims more is damaged


@functools.cache
def _bytes() -> dict[str, int]:
    """The byte of each letter of byte-level BPE (GPT-2's alphabet: unprintable bytes are moved past 255)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(moved)}


def text(pieces: list[str], tokens: Iterable[int | None]) -> str:
    """The text of token ids by the pieces of a header; None, a position that is masked, shows as a dot."""
    found = bytearray()
    for token in tokens:  # letters of added tokens may be no bytes
        letters = [_bytes().get(letter, letter) for letter in pieces[token]] if token is not None else ["·"]
        found += b"".join(bytes([x]) if isinstance(x, int) else x.encode() for x in letters)
    return found.decode("utf-8", errors="replace")


def header(path: Path, lines: Iterable[str]) -> dict[str, Any]:
    """The first line of a recording. Raises UserError where it is none, or of another version."""
    try:
        head: dict[str, Any] = json.loads(next(iter(lines)))
        known = head["schema_version"] == frames.SCHEMA_VERSION and head["seed"] >= 0
        pieces = head["pieces"]
        text(pieces, range(len(pieces)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, StopIteration):
        raise UserError(f"{path} does not begin with the header of a recording") from None
    if not known:
        told = f"{path} has schema {head['schema_version']}, this version reads {frames.SCHEMA_VERSION}"
        raise UserError(told)
    return head


def lay(document: list[int | None], frame: frames.SampleFrame, vocabulary: int) -> None:
    """Lays a frame over the document, whose masked tokens are None. Raises ValueError where it cannot be."""
    start, length = frame.extras.get("start", 0), frame.extras.get("length", len(frame.tokens))
    whole = isinstance(start, int) and isinstance(length, int)
    shown = [None if m else int(t) for t, m in zip(frame.tokens, frame.is_masked, strict=True)]
    if not (whole and 0 <= start <= start + len(shown) <= length <= LONGEST and len(document) <= length):
        raise ValueError("it is no part of the document")
    if not all(token is None or 0 <= token < vocabulary for token in shown):
        raise ValueError("a token is not in the vocabulary")
    document += [None] * (length - len(document))
    document[start : start + len(shown)] = shown


def replay(path: Path, terminal: bool, say: Callable[[str], None], pause: float = 0.03) -> None:
    """Shows a recording. Raises UserError naming the file, and the line that is no frame."""
    document: list[int | None] = []
    number, steps, changes, nats = 1, 0, 0, 0.0
    with open(path, encoding="utf-8") as file:
        head = header(path, file)
        try:
            for line in file:
                number += 1
                frame = frames.loads(line)
                lay(document, frame, len(head["pieces"]))
                steps, changes = steps + (frame.step > 0), changes + int(frame.changed.sum())
                nats += frame.log_prob
                if terminal:
                    place = f"step {frame.step} of {frame.num_steps}, block {frame.block + 1}"
                    shown = frames.printable(text(head["pieces"], document))
                    say(f"{CLEAR}{shown}\n\n{place}")
                    time.sleep(pause)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not document:
        raise UserError(f"{path} ends after its header; no text was recorded")
    shown = frames.printable(text(head["pieces"], document))
    say(f"{shown}\n\n{steps} steps, {changes} changes, {nats:.1f} nats, seed {head['seed']}")
