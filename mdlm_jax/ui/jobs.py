"""The queue of the live page: one model thread writes, one document at a time, for whoever watches."""

import collections
import dataclasses
import secrets
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.frames import SampleFrame, printable
from mdlm_jax.ui.protocol import LONGEST, Branch, Follow, Message, Stop, Values, Write
from mdlm_jax.ui.trajectory import Reader, Trajectory, line, plain
from mdlm_jax.ui.values import UserError

WAITING = 8  # trajectories in the queue
KEPT = 16  # finished ones
VIEWERS = 32
GRACE = 2.0  # seconds without a viewer before the work stops: a reload takes less

Frames = Generator[SampleFrame, None, dict[str, Any]]


class Work(NamedTuple):
    """A text that can be written; the frames return a text, network_calls and log_prob_per_token."""

    seed: int
    frames: Callable[[], Frames]


@dataclasses.dataclass(frozen=True)
class Engine:
    """What writes. `write` and `branch` refuse what cannot be (UserError); frames come when asked for."""

    hello: dict[str, Any]  # of `protocol.hello`
    write: Callable[[Values], Work]
    # tokens int [N], some masked; how sure they are, float [N]; the token that is pinned, if one is
    branch: Callable[[np.ndarray, np.ndarray, int | None, Values], Work]
    # places for a gap between tokens int [N] before it and after it, some of them masked
    length: Callable[[np.ndarray, np.ndarray], int]


class Viewer:
    """One who watches: the trajectory that is followed, and answers that were not read yet."""

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.answers: collections.deque[str] = collections.deque(maxlen=16)
        self.seen = 0  # version of the list of trajectories
        self.gone = False


class Jobs:
    """All trajectories, the queue, and who watches; `changed` guards all of it."""

    def __init__(self, engine: Engine, grace: float = GRACE):
        self.engine, self.grace = engine, grace
        self.name = secrets.token_hex(8)  # by which a page knows whether these are the same trajectories
        self._choosing = threading.Lock()  # a length, while the model may be writing besides
        self.changed = threading.Condition()
        self.trajectories: dict[int, Trajectory] = {}
        self.viewers: set[Viewer] = set()
        self._queue: collections.deque[tuple[Trajectory, Callable[[], Frames]]] = collections.deque()
        self._numbers = 0
        self._version = 1
        self._closed = False
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def close(self, wait: float = 1.0) -> None:
        """Stops everything; the model's thread, which ends with its step, is waited for so many seconds."""
        with self.changed:
            self._closed = True
            if self._timer:
                self._timer.cancel()
            self._stop_all("the server was stopped")
            for viewer in self.viewers:
                viewer.gone = True
            self.changed.notify_all()
        self._thread.join(wait)

    def join(self, viewer: Viewer) -> bool:
        """A viewer comes; False where there are too many."""
        with self.changed:
            if len(self.viewers) >= VIEWERS or self._closed:
                return False
            self.viewers.add(viewer)
            hello = {"type": "hello", "version": 1, "server": self.name} | self.engine.hello
            viewer.answers.append(line(hello | {"trajectories": self.listed()}))
            viewer.seen = self._version
            if self._timer:
                self._timer.cancel()
            return True

    def leave(self, viewer: Viewer) -> None:
        """A viewer goes; with the last, all work stops after the grace."""
        with self.changed:
            viewer.gone = True
            self.viewers.discard(viewer)
            self._forget()
            if not self.viewers and not self._closed:
                self._timer = threading.Timer(self.grace, self._nobody)
                self._timer.daemon = True
                self._timer.start()
            self.changed.notify_all()

    def _nobody(self) -> None:
        with self.changed:
            if not self.viewers:
                self._stop_all("nobody was watching")

    def _stop_all(self, message: str) -> None:
        for trajectory in list(self.trajectories.values()):
            if trajectory.end("stopped", message=message):
                self._listed_anew()
        self._queue.clear()

    def listed(self) -> list[dict[str, Any]]:
        """The trajectories as a viewer is told of them."""
        waiting = {t.number: i for i, (t, _) in enumerate(self._queue, 1)}
        found = []
        for t in self.trajectories.values():
            told = {"id": t.number, "title": t.title, "state": t.state}
            told |= {"parent": t.told["parent"], "step": t.told["step"]}
            found.append(told | ({"position": waiting[t.number]} if t.number in waiting else {}))
        return found

    def _listed_anew(self) -> None:
        self._version += 1
        self.changed.notify_all()

    def _forget(self) -> None:
        """The oldest of too many finished trajectories go, but for those that somebody follows."""
        followed = {v.reader.trajectory.number for v in self.viewers if v.reader}
        finished = [t.number for t in self.trajectories.values() if t.ended]
        loose = [number for number in finished if number not in followed]
        for number in loose[: max(0, len(finished) - KEPT)]:
            del self.trajectories[number]
            self._listed_anew()

    def messages(self, viewer: Viewer) -> list[str]:
        """What a viewer is to be sent next; waits for it. Empty when the viewer is gone."""
        with self.changed:
            self.changed.wait_for(lambda: self._due(viewer))
            if viewer.gone:
                return []
            found, reader, listed = list(viewer.answers), viewer.reader, []
            viewer.answers.clear()
            if viewer.seen != self._version:
                viewer.seen = self._version
                listed.append(line({"type": "trajectories", "trajectories": self.listed()}))
        told = reader.read() if reader else None
        return [*found, *([told] if told else []), *listed]

    def _due(self, viewer: Viewer) -> bool:
        reader = viewer.reader
        waiting = viewer.gone or viewer.answers or viewer.seen != self._version
        return bool(waiting or (reader and reader.due()))

    def answer(self, viewer: Viewer, message: dict[str, Any]) -> None:
        """Something that one viewer alone is told."""
        with self.changed:
            viewer.answers.append(line(message))
            self.changed.notify_all()

    def take(self, viewer: Viewer, message: Message) -> None:
        """Does what a viewer asks. Raises UserError."""
        if isinstance(message, Write | Branch):
            self._room()  # before anything that takes time
            asked = self._written(message) if isinstance(message, Write) else self._branched(message)
            self._submit(viewer, *asked)
        elif isinstance(message, Stop):
            self.stop(message.trajectory)
        elif isinstance(message, Follow):
            self._follow(viewer, message)

    def _room(self) -> None:
        with self.changed:
            if len(self._queue) >= WAITING:
                raise UserError(f"{WAITING} texts are waiting already; try again when one is done")

    def _find(self, number: int) -> Trajectory:
        with self.changed:
            if number not in self.trajectories:
                raise UserError(f"there is no trajectory {number} (any more)")
            return self.trajectories[number]

    def _written(self, message: Write) -> tuple[dict[str, Any], Work]:
        prompt = plain(printable(str(message.options.get("prompt", ""))), 60)
        told = {"title": prompt or "a page from nothing", "options": message.options}
        return told, self.engine.write(message.options)

    def _branched(self, edit: Branch) -> tuple[dict[str, Any], Work]:
        parent = self._find(edit.of)
        try:
            found = parent.after(edit.step)
        except IndexError:
            raise UserError(f"trajectory {edit.of} has no step {edit.step} (yet)") from None
        if edit.stop > len(found.tokens):
            raise UserError(f"trajectory {edit.of} has {len(found.tokens)} places, not {edit.stop}")
        number = 1 if edit.token is not None else edit.length
        number = number or self._length(found.tokens[: edit.start], found.tokens[edit.stop :])
        if len(found.tokens) - (edit.stop - edit.start) + number > LONGEST:
            raise UserError(f"a document may have {LONGEST} tokens")
        mask = self.engine.hello["special"]["mask"]

        def put(values: Any, new: Any) -> np.ndarray:
            values = np.asarray(values)
            made = [values[: edit.start], np.full(number, new, values.dtype), values[edit.stop :]]
            return np.concatenate(made)

        tokens = put(found.tokens, mask if edit.token is None else edit.token)
        sure = put(np.where(found.masked, 0.0, found.confidence), 0.0 if edit.token is None else 1.0)
        pinned = put(np.isin(np.arange(len(found.tokens)), parent.told["pinned"]), edit.token is not None)
        told = {
            "title": plain(f"branch of {edit.of} at step {edit.step}"),
            "options": edit.options,
            "parent": edit.of,
            "step": edit.step,
            "pinned": np.flatnonzero(pinned).tolist(),
            "given": put(np.asarray(parent.given, int), 0).tolist(),
        }
        return told, self.engine.branch(tokens, sure, edit.token, edit.options)

    def _length(self, before: np.ndarray, after: np.ndarray) -> int:
        with self._choosing:
            self._room()  # those who waited may have filled it
            return self.engine.length(before, after)

    def _submit(self, viewer: Viewer, told: dict[str, Any], work: Work) -> None:
        with self.changed:
            self._room()
            self._numbers += 1
            given = told.pop("given", [])
            trajectory = Trajectory(self.changed, self._numbers, told.pop("title"), seed=work.seed, **told)
            trajectory.given = given
            self.trajectories[trajectory.number] = trajectory
            self._queue.append((trajectory, work.frames))
            self._follow(viewer, Follow(trajectory.number, 0))
            self._listed_anew()

    def _follow(self, viewer: Viewer, message: Follow) -> None:
        with self.changed:
            trajectory = self._find(message.trajectory)
            if message.start > len(trajectory.deltas):
                raise UserError(f"trajectory {message.trajectory} has {len(trajectory.deltas)} steps so far")
            viewer.reader = Reader(trajectory, message.start)
            self._forget()
            self.answer(viewer, {"type": "following", "trajectory": trajectory.number})

    def stop(self, number: int) -> None:
        """Ends a trajectory at once; the model's thread follows with its next step. Raises UserError."""
        with self.changed:
            trajectory = self._find(number)
            if trajectory.end("stopped"):
                kept = [job for job in self._queue if job[0] is not trajectory]
                self._queue = collections.deque(kept)
                self._forget()
                self._listed_anew()

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._closed or self._queue)
                if self._closed:
                    return
                trajectory, make = self._queue.popleft()
                trajectory.start()
                self._listed_anew()
            state, told = _outcome(trajectory, make)
            with self.changed:
                trajectory.end(state, **told)
                self._forget()
                self._listed_anew()


def _outcome(trajectory: Trajectory, make: Callable[[], Frames]) -> tuple[str, dict[str, Any]]:
    """Writes a trajectory; how it ended, in which state and with what to tell."""
    try:
        frames = make()
        while True:
            try:
                frame = next(frames)
            except StopIteration as end:
                made = end.value
                break
            if not trajectory.append(frame):
                frames.close()
                return "stopped", {}
    except UserError as error:
        return "failed", {"message": plain(error)}
    except Exception as error:  # whatever it is, the next in the queue is written
        print(f"error: {plain(f'{type(error).__name__}: {error}')}", file=sys.stderr, flush=True)
        return "failed", {"message": "something went wrong while writing; the server's terminal says what"}
    return "done", {
        "text": printable(made["text"]),
        "calls": made["network_calls"],
        "log_prob_per_token": round(float(np.nan_to_num(made["log_prob_per_token"])), 4),
    }
