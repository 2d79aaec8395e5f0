"""A recorded stream of frames, shown again: in place on a terminal, else the text at its end."""

import json
import time
from collections.abc import Callable, Iterable

from mdlm_jax import frames

CLEAR = "\x1b[2J\x1b[H"


def replay(lines: Iterable[str], terminal: bool, say: Callable[[str], None], pause: float = 0.03) -> None:
    """Shows the frames after a header line. Raises ValueError, one line, where something is neither."""
    lines, number, shown, text = iter(lines), 0, 0, ""
    try:
        head = json.loads(next(lines))
        pieces = head["pieces"]
        known = head["schema_version"] == frames.SCHEMA_VERSION
    except (ValueError, KeyError, TypeError, StopIteration):
        raise ValueError("it does not begin with the header of a recording") from None
    if not known:
        raise ValueError(
            f"it has schema {head['schema_version']}, this version reads {frames.SCHEMA_VERSION}"
        )
    document: list[int | None] = []
    nats = 0.0
    for line in lines:
        frame = frames.loads(line)
        start, length = frame.extras.get("start", 0), frame.extras.get("length", len(frame.tokens))
        document += [None] * (length - len(document))
        document[start : start + len(frame.tokens)] = [
            None if masked else int(token)
            for token, masked in zip(frame.tokens, frame.is_masked, strict=True)
        ]
        number, nats = number + 1, nats + frame.log_prob
        text = frames.text(pieces, document)
        if terminal:
            place = f"step {frame.step} of {frame.num_steps}, block {frame.block + 1}"
            say(f"{CLEAR}{frames.printable(text)}\n\n{place}")
            time.sleep(pause)
        shown += int(frame.changed.sum())
    say(f"{frames.printable(text)}\n\n{number} steps, {shown} changes, {nats:.1f} nats, seed {head['seed']}")
