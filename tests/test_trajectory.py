"""The log of one document: whoever reads it, however slowly, ends where the writer is."""

import json
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import soak_count
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.frames import SampleFrame
from mdlm_jax.ui.trajectory import FAR, Reader, Trajectory, plain

MASK = 9


def frames_of(seed: int, length: int, steps: int) -> list[SampleFrame]:
    """The whole document, then steps that write, rewrite and mask again, each told of a part of it."""
    rng = np.random.default_rng(seed)
    masked = rng.random(length) < 0.7
    tokens = np.where(masked, MASK, rng.integers(0, MASK, length)).astype(np.int32)
    sure = np.where(masked, 0.0, 1.0).astype(np.float32)
    extras = {"start": 0, "length": length}
    found = [SampleFrame(0, 0, 0, tokens, masked, np.zeros_like(masked), sure, 0.0, extras=extras)]
    for step in range(1, steps + 1):
        changed = rng.random(length) < rng.choice([0.05, 0.5])
        back = changed & (rng.random(length) < 0.3)
        tokens = np.where(changed, rng.integers(0, MASK, length), tokens).astype(np.int32)
        tokens, masked = np.where(back, MASK, tokens).astype(np.int32), np.where(changed, back, masked)
        sure = np.where(changed, np.where(back, 0.0, rng.random(length)), sure).astype(np.float32)
        top = [[(int(t), 0.5), (0, 0.25)] for t in tokens[changed & ~back]]
        where = np.flatnonzero(changed)
        lo, hi = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, length)
        whole = SampleFrame(step, steps, 0, tokens, masked, changed, sure, float(-rng.random()), top)
        found.append(whole.part(lo, hi, 0, extras | {"start": lo}))
    return found


def begin(frames: list[SampleFrame]) -> Trajectory:
    trajectory = Trajectory(threading.Condition(), 7, "title", seed=3, options={})
    trajectory.start()
    assert trajectory.append(frames[0])
    return trajectory


class Page:
    """A client that knows the messages and nothing else."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def take(self, text: str | None) -> None:
        if text is None:
            return
        told = json.loads(text)
        assert told["trajectory"] == 7
        self.kinds.append(told["type"])
        if told["type"] == "begun":
            self.tokens, self.confidence, self.at = told["tokens"], told["confidence"], 0
            self.masked = [int(token == MASK) for token in self.tokens]
            self.when = [0] * len(self.tokens)
        elif told["type"] == "snapshot":
            names = ("at", "tokens", "masked", "confidence", "when")
            self.at, self.tokens, self.masked, self.confidence, self.when = (told[name] for name in names)
        elif told["type"] == "deltas":
            assert told["from"] == self.at
            for delta in told["deltas"]:
                self.at += 1
                assert len(delta["top_k"]) == delta["masked"].count(0)
                for place, *values in zip(
                    delta["at"], delta["tokens"], delta["masked"], delta["confidence"], strict=True
                ):
                    self.tokens[place], self.masked[place], self.confidence[place] = values
                    self.when[place] = self.at
        else:
            assert told["type"] == "ended" and told["calls"] == self.at

    def state(self) -> tuple:
        return self.at, self.tokens, self.masked, self.confidence, self.when


def whole(frames: list[SampleFrame]) -> tuple:
    """The state after the frames, from the frames alone."""
    tokens, masked = frames[0].tokens.copy(), frames[0].is_masked.copy()
    sure, when = frames[0].confidence.astype(float), np.zeros(len(tokens), int)
    for number, frame in enumerate(frames[1:], 1):
        at = slice(frame.extras["start"], frame.extras["start"] + len(frame.tokens))
        tokens[at], masked[at], sure[at] = frame.tokens, frame.is_masked, frame.confidence
        when[at] = np.where(frame.changed, number, when[at])
    state = tokens.tolist(), masked.astype(int).tolist(), np.round(sure, 4).tolist(), when.tolist()
    return len(frames) - 1, *state


cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 60))


@settings(max_examples=60)
@given(cases, st.lists(st.lists(st.integers(0, 3), max_size=60), min_size=1, max_size=4))
def test_readers_of_any_pace_end_where_the_writer_is(case: tuple, paces: list[list[int]]):
    frames = frames_of(*case)
    trajectory = begin(frames)
    readers = [(Reader(trajectory), Page()) for _ in paces]
    for turn, frame in enumerate(frames[1:]):
        for (reader, page), pace in zip(readers, paces, strict=True):
            for _ in range(pace[turn % len(pace)] if pace else 0):
                assert reader.due() == (reader.at < turn or not reader.begun)
                page.take(reader.read())
        assert trajectory.append(frame)
    assert trajectory.end("done", text="t") and not trajectory.end("stopped")
    assert not trajectory.append(frames[-1])
    for reader, page in readers:
        while reader.due():
            page.take(reader.read())
        assert reader.read() is None
        assert page.kinds[-1] == "ended" and page.kinds.count("ended") == page.kinds.count("begun") == 1
        assert page.state() == whole(frames)


@settings(max_examples=8)
@given(st.integers(0, 999), st.integers(FAR - 20, FAR + 50), st.integers(0, 80), st.integers(0, 2))
def test_a_snapshot_and_later_deltas_are_all_deltas(seed: int, late: int, more: int, read: int):
    frames = frames_of(seed, 12, late + more)
    trajectory, page = begin(frames), Page()
    reader = Reader(trajectory)
    for _ in range(read):
        page.take(reader.read())
    for frame in frames[1 : late + 1]:
        trajectory.append(frame)
    while reader.due():
        page.take(reader.read())
    assert ("snapshot" in page.kinds) == (late > FAR)
    assert page.state() == whole(frames[: late + 1])
    for frame in frames[late + 1 :]:
        trajectory.append(frame)
        page.take(reader.read())
    assert page.state() == whole(frames)
    trajectory.end("done")
    history, again = Page(), Reader(trajectory)  # of what is finished every step can be had
    while again.due():
        history.take(again.read())
    assert "snapshot" not in history.kinds and history.state() == page.state()


@settings(max_examples=40)
@given(cases, st.data())
def test_the_state_after_any_step_and_a_reader_who_goes_on_from_it(case: tuple, data):
    frames = frames_of(*case)
    trajectory = begin(frames)
    for frame in frames[1:]:
        trajectory.append(frame)
    step = data.draw(st.integers(0, len(frames) - 1))
    found = trajectory.after(step)
    arrays = found.tokens, found.masked.astype(int), found.confidence, found.when
    assert (step, *(array.tolist() for array in arrays)) == whole(frames[: step + 1])
    reader, page = Reader(trajectory, step), Page()
    page.take(reader.read())
    assert page.state() == whole(frames[:1])
    page.at, page.tokens, page.masked, page.confidence, page.when = whole(frames[: step + 1])
    while reader.due():
        page.take(reader.read())
    assert page.state() == whole(frames)
    for wrong in (-1, len(frames)):
        with pytest.raises(IndexError):
            trajectory.after(wrong)


def race(seed: int) -> None:
    frames = frames_of(seed, 20, 400)
    trajectory, pages = begin(frames), [Page() for _ in range(4)]

    def follow(page: Page, pause: float) -> None:
        reader = Reader(trajectory)
        while not reader.ended:
            with trajectory.changed:
                trajectory.changed.wait_for(reader.due)
            page.take(reader.read())
            time.sleep(pause)

    pauses = (0, 0.0001, 0.001, 0.02)
    threads = [threading.Thread(target=follow, args=pair) for pair in zip(pages, pauses, strict=True)]
    for thread in threads:
        thread.start()
    for frame in frames[1:]:
        assert trajectory.append(frame)
    trajectory.end("done")
    for thread in threads:
        thread.join(20)
    assert [page.state() for page in pages] == [whole(frames)] * 4


def test_threads_read_while_one_writes():
    race(0)


@pytest.mark.soak
def test_threads_read_while_one_writes_often():
    for seed in range(soak_count(300)):
        race(seed)


def test_readers_who_do_not_read_cost_nothing():
    def grown(readers: int) -> int:
        frames = frames_of(1, 50, 300)
        trajectory = begin(frames)
        held = [Reader(trajectory) for _ in range(readers)]
        for reader in held:
            reader.read()
        tracemalloc.start()
        for frame in frames[1:]:
            trajectory.append(frame)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    assert grown(1000) < grown(0) * 1.1


@given(st.text())
def test_plain_is_one_printable_line(text: str):
    told = plain(text, 40)
    assert len(told) <= 40 and told == " ".join(told.split())
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in told)
