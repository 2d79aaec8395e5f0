"""One document being written: a log that the model's thread appends to and any number of readers follow.

What is kept of a step is one line of JSON with the places that changed. A reader is a cursor, so that one who
reads slowly, or not at all, costs the writer nothing: he who is far behind gets the state as it is now.
"""

import dataclasses
import json
import threading
import time
from typing import Any

import numpy as np

from mdlm_jax.frames import SampleFrame, printable

FAR = 256  # deltas behind a running document, from which on one snapshot takes the place of all of them
PART = 60_000  # characters of deltas that one message holds, about


@dataclasses.dataclass
class Document:
    """A document of N tokens after some steps."""

    tokens: np.ndarray  # int32 [N]
    masked: np.ndarray  # bool [N]
    confidence: np.ndarray  # float64 [N], four digits: 0 masked, else the probability when written, 1 given
    when: np.ndarray  # int32 [N], the number of the delta that changed a place last; 0: none

    def lay(self, delta: dict[str, Any], number: int) -> None:
        """Lays a delta, the `number`th, over it."""
        at = delta["at"]
        self.tokens[at], self.masked[at], self.confidence[at] = (
            delta[name] for name in ("tokens", "masked", "confidence")
        )
        self.when[at] = number

    def copy(self) -> "Document":
        """Another, with arrays of its own."""
        return Document(self.tokens.copy(), self.masked.copy(), self.confidence.copy(), self.when.copy())


def line(message: dict[str, Any]) -> str:
    """JSON of one message; plain ASCII, so that no text is refused on its way."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def plain(text: object, most: int = 500) -> str:
    """A text as one printable line of at most `most` characters."""
    told = " ".join(printable(str(text)).split())
    return told if len(told) <= most else told[: most - 1] + "…"


def _delta(frame: SampleFrame) -> dict[str, Any]:
    at = np.flatnonzero(frame.changed)
    return {
        "step": frame.step,
        "num_steps": frame.num_steps,
        "block": frame.block,
        "at": (at + frame.extras.get("start", 0)).tolist(),
        "tokens": frame.tokens[at].tolist(),
        "masked": frame.is_masked[at].astype(int).tolist(),
        "confidence": np.round(frame.confidence[at].astype(float), 4).tolist(),
        "log_prob": round(float(np.nan_to_num(frame.log_prob)), 4),
        "top_k": [[[i, round(p, 4)] for i, p in place] for place in frame.top_k],
    }


class Trajectory:
    """A document that is queued, running, and then done, stopped or failed, with every step of its writing.

    One thread appends; every change is told to `changed`, whose lock guards all of it.
    """

    def __init__(self, changed: threading.Condition, number: int, title: str, **told: Any):
        """`told`: what its first message says besides the document; "parent" and "step" are of a branch."""
        self.changed, self.number, self.title, self.state = changed, number, title, "queued"
        self.told = {"parent": None, "step": None, "pinned": []} | told
        self.begun: str | None = None  # the first message
        self.given: list[int] = []  # [N], 1 where the place was given, not written
        self.first: Document | None = None
        self.now: Document | None = None
        self.deltas: list[str] = []
        self.ended: str | None = None  # the last message
        self._since = time.perf_counter()

    def start(self) -> None:
        """From queued to running."""
        with self.changed:
            self.state, self._since = "running", time.perf_counter()
            self.changed.notify_all()

    def append(self, frame: SampleFrame) -> bool:
        """The next step; the first frame is the whole document. False, and no change, after its end."""
        delta = _delta(frame)
        text = line(delta)
        with self.changed:
            if self.state != "running":
                return False
            if self.now is None:
                self._begin(frame)
            else:
                self.deltas.append(text)
                self.now.lay(delta, len(self.deltas))
            self.changed.notify_all()
            return True

    def _begin(self, frame: SampleFrame) -> None:
        sure = np.round(frame.confidence.astype(float), 4)
        none = np.zeros(len(frame.tokens), np.int32)
        self.first = Document(frame.tokens.copy(), frame.is_masked.copy(), sure, none)
        self.now = self.first.copy()
        self.given = self.given or (~frame.is_masked).astype(int).tolist()
        message = {"type": "begun", "trajectory": self.number} | self.told
        document = {"given": self.given, "tokens": frame.tokens.tolist(), "confidence": sure.tolist()}
        self.begun = line(message | document)

    def end(self, state: str, **told: Any) -> bool:
        """Done, stopped or failed; False where it had ended before. `told`: text, calls, message, ..."""
        with self.changed:
            if self.ended:
                return False
            seconds = round(time.perf_counter() - self._since, 3) if self.state == "running" else 0.0
            message = {"type": "ended", "trajectory": self.number, "state": state, "seconds": seconds}
            none = {"text": None, "message": None, "calls": len(self.deltas), "log_prob_per_token": 0.0}
            self.state, self.ended = state, line(message | none | told)
            self.changed.notify_all()
            return True

    def after(self, step: int) -> Document:
        """The document after so many deltas. Raises IndexError where there are not so many (yet)."""
        with self.changed:
            if self.first is None or not 0 <= step <= len(self.deltas):
                raise IndexError(step)
            found, deltas = self.first.copy(), self.deltas[:step]
        for number, delta in enumerate(deltas, 1):
            found.lay(json.loads(delta), number)
        return found


@dataclasses.dataclass
class Reader:
    """One who follows a trajectory, and has `at` of its deltas."""

    trajectory: Trajectory
    at: int = 0
    begun: bool = False
    ended: bool = False

    def due(self) -> bool:
        """Whether there is a message to read."""
        t = self.trajectory
        if self.begun and self.at < len(t.deltas):
            return True
        return (not self.begun and t.begun is not None) or (not self.ended and t.ended is not None)

    def read(self) -> str | None:
        """The next message, or None where there is none yet."""
        t = self.trajectory
        with t.changed:
            if not self.begun and t.begun is not None:
                self.begun = True
                return t.begun
            behind = len(t.deltas) - self.at if self.begun else 0
            if not behind and t.ended and not self.ended:
                self.ended = True
                return t.ended
            if not behind:
                return None
            if behind > FAR and t.state == "running" and t.now is not None:
                now, self.at = t.now.copy(), len(t.deltas)
                return self._snapshot(now)
            deltas, size, start = [], 0, self.at
            while self.at < len(t.deltas) and size < PART:
                deltas.append(t.deltas[self.at])
                size, self.at = size + len(deltas[-1]), self.at + 1
        return f'{{"type":"deltas","trajectory":{t.number},"from":{start},"deltas":[{",".join(deltas)}]}}'

    def _snapshot(self, now: Document) -> str:
        return line(
            {
                "type": "snapshot",
                "trajectory": self.trajectory.number,
                "at": self.at,
                "tokens": now.tokens.tolist(),
                "masked": now.masked.astype(int).tolist(),
                "confidence": now.confidence.tolist(),
                "when": now.when.tolist(),
            }
        )
