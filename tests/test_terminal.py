"""The live view: it fits, it holds the text, it moves no cursor by itself, and it leaves all as it was."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO, built_in_chapters, soak_count
from hypothesis import given, settings
from hypothesis import strategies as st
from pseudo_terminal import ENTER, LEAVE, SIGNALS, STYLE, Session
from rich.cells import cell_len
from rich.console import Console

from mdlm_jax import frames
from mdlm_jax.ui import terminal
from mdlm_jax.ui.replay import Document, _bytes, spelled
from mdlm_jax.ui.terminal import State, render

LETTERS = {byte: letter for letter, byte in _bytes().items()}
WIDTHS, HEIGHTS = (2, 10, 40, 80, 200), (1, 2, 3, 5, 8, 24, 200)


def film(data: bytes, seed: int, given: float = 0.2) -> tuple[list[str], list[frames.SampleFrame]]:
    """Pieces and frames of a document of these bytes, cut anywhere into tokens and written in any order."""
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(data)), min(len(data) // 4, len(data) - 1))) if data else []
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)] if data else []
    pieces = ["".join(LETTERS[byte] for byte in part) for part in parts] or ["x"]
    size = max(len(parts), 1)
    due = [place for place in range(size) if rng.random() >= given]
    rng.shuffle(due)
    steps = [due[i : i + 5] for i in range(0, len(due), 5)]
    masked, sure = np.isin(np.arange(size), due), np.array([rng.random() for _ in range(size)], np.float32)
    made = []
    for step, places in enumerate([[], *steps]):
        masked[places] = False
        changed = np.isin(np.arange(size), places)
        canvas = np.arange(size, dtype=np.int32), masked.copy(), changed, np.where(masked, 0, sure)
        extras = {"start": 0, "length": size}
        made.append(frames.SampleFrame(step, len(steps), 0, *canvas, -1.0, extras=extras))
    return pieces, made


def documents(pieces, made):
    """The document after every frame (the same object)."""
    document = Document(spelled(pieces))
    for frame in made:
        document.lay(frame)
        yield document


def ink(text: str) -> str:
    """Text without whitespace."""
    return "".join(text.split())


def lines(document, width, height, **state) -> list[str]:
    return render(State(document, **state), width, height).plain.split("\n")


BOOK = built_in_chapters(1)[:2500]


@pytest.fixture(scope="module")
def chapter():
    return film(BOOK.encode(), 0)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_step_fits_the_terminal(chapter, width):
    for document in documents(chapter[0], chapter[1][::9]):
        for height in HEIGHTS:
            shown = lines(document, width, height, pace=123456.789, speed=0.0625, paused=True)
            assert len(shown) <= height and max(map(cell_len, shown)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_all_that_is_written_is_there_when_there_is_room(chapter, width):
    *_, document = documents(*chapter)
    shown = lines(document, width, 5000)
    assert ink("".join(shown[1:-2])) == ink(BOOK) and "━" in shown[-2]
    words = {word for line in shown[1:-2] for word in line.split()}
    assert width < 40 or words == set(BOOK.split())  # no word is cut that has room


@pytest.mark.parametrize("height", [3, 5, 12, 24])
def test_what_is_written_is_in_sight(chapter, height):
    for document in documents(*chapter):
        spans = render(State(document), 40, height).spans
        assert not document.fresh.any() or terminal.FRESH in {span.style for span in spans}


def test_a_long_document_moves_forward_only_as_it_is_written_from_the_left():
    pieces = [LETTERS[32] + "word"]
    tops, size = [], 2000
    for written in range(0, size, 50):
        document = Document(spelled(pieces))
        place = np.arange(size)
        canvas = np.zeros(size, np.int32), place >= written, (place >= written - 50) & (place < written)
        document.lay(frames.SampleFrame(1, 9, 0, *canvas, np.ones(size, np.float32), 0.0))
        found = terminal.wrap(document.characters(), 38)
        tops.append(terminal._top(found, document, 10))
    assert tops == sorted(tops) and tops[0] == 0 and tops[-1] > 200


def raw(shown, **options) -> str:
    """What a terminal is sent for it."""
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=200, height=200, **options).print(shown)
    return file.getvalue()


def check_hostile(data: bytes, seed: int, width: int, height: int) -> None:
    pieces, made = film(data, seed)
    for number, document in enumerate(documents(pieces, made)):
        if number % 4 and number < len(made) - 1:
            continue
        shown = render(State(document), width, height)
        told = STYLE.sub("", raw(shown, color_system="256"))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", told)
        assert told == shown.plain + "\n"  # and nothing was markup
        assert max(map(cell_len, shown.plain.split("\n"))) <= width
    full = "".join(lines(document, width, 5000)[1:-2])
    assert ink(full) == ink(frames.printable(data.decode(errors="replace")))


HOSTILE = (
    st.lists(
        st.text(max_size=8).map(str.encode)
        | st.binary(max_size=6)
        | st.sampled_from(
            [
                "\x1b[2J",
                "\x1b]0;t\x07",
                "\x9b31m",
                "[red]",
                "[/]",
                "👩‍👩‍👧",
                "❤️",
                "日本語",
                "e\u0301\u0301",
                "\u202e",
            ]
        ).map(str.encode)
        | st.sampled_from([b"\x00", b"\r", b"\x08", b"\t", b"\n\n", b" ", b"\x7f", b"\xc2\x9b", b"a" * 50]),
        max_size=12,
    )
    .map(b"".join)
    .filter(bool)
)
SIZES = {"seed": st.integers(0, 99), "width": st.integers(20, 200), "height": st.integers(1, 60)}


@settings(max_examples=60)
@given(data=HOSTILE, **SIZES)
def test_a_hostile_text_moves_no_cursor(data, seed, width, height):
    check_hostile(data, seed, width, height)


@pytest.mark.soak
@settings(max_examples=soak_count(2000))
@given(data=HOSTILE, **SIZES)
def test_hostile_texts_at_length(data, seed, width, height):
    check_hostile(data, seed, width, height)


def test_wide_characters_break_anywhere_and_words_at_spaces():
    def wrapped(text, width) -> list[str]:
        return ["".join(c for c, _ in line) for line in terminal.wrap(((c, 0) for c in text), width)]

    assert wrapped("日本語です", 5) == ["日本", "語で", "す"]
    assert wrapped("to be, or not", 6) == ["to be,", "or not"]
    assert wrapped("a" * 7 + " b", 3) == ["aaa", "aaa", "a b"]
    assert wrapped("x\n\n  y", 9) == ["x", "", "y"] and wrapped("", 4) == [""]


# What is told without colour.


def styled(document, **options) -> str:
    return raw(render(State(document), 80, 24), color_system="256", **options)


def sure_of(*confidence: float):
    """Places: given, a mask, one just written, then written ones of these probabilities."""
    pieces = [f"{LETTERS[32]}w{i}" for i in range(3 + len(confidence))]
    size, document = len(pieces), Document(spelled(pieces))
    masked = np.arange(size) > 0
    sure = np.array([1, 0, 0.9, *confidence], np.float32)
    row = np.arange(size, dtype=np.int32), np.float32(0)
    document.lay(frames.SampleFrame(0, 2, 0, row[0], masked, ~masked & False, sure, 0.0))
    document.lay(frames.SampleFrame(1, 2, 0, row[0], np.arange(size) == 1, np.arange(size) == 2, sure, -1.0))
    return document


def test_attributes_tell_the_same_without_colour():
    document = sure_of(0.05, 0.9)
    plain = styled(document, no_color=True)
    assert not re.search(r"\x1b\[[\d;]*[34][0-8]", plain)
    for word, code in (("w0", "3"), ("··", "2"), ("w2", "1"), ("w3", "2")):
        assert re.search(rf"\x1b\[{code}m[^\x1b]*{word}", plain), word
    assert re.search(r"\x1b\[0m w4", plain)  # sure: as any text
    assert "38;5;" in styled(document)


def test_what_is_surer_is_further_from_the_background():
    shares = np.linspace(0, 1, 50) ** 2
    for light, sign in ((False, 1), (True, -1)):
        greys = [sign * int(re.sub(r"\D", "", terminal.tone(p, light))) for p in shares]
        assert greys == sorted(greys) and len(set(greys)) == 13
    render(State(sure_of(float("nan"), 7.0, -1.0), light=True), 80, 24)


@pytest.mark.parametrize(("answer", "grey"), [("ffff/ffff/dddd", 238), ("1c/1c/1c", 250), ("", None)])
def test_greys_are_for_a_known_background(tmp_path, answer, grey):
    canvas = np.zeros(1, np.int32), np.zeros(1, bool), np.zeros(1, bool), np.full(1, 0.5, np.float32)
    masked = dataclasses.replace(frames.SampleFrame(0, 1, 0, *canvas, 0.0), is_masked=np.ones(1, bool))
    path = tmp_path / "film.ndjson"
    lines = [
        frames.header(["word"], 0, "x", "x"),
        *map(frames.dumps, (masked, frames.SampleFrame(1, 1, 0, *canvas, 0.0))),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    with Session(replaying(path)) as session:
        session.until("\x1b]11;?\x1b\\")
        session.type(f"\x1b]11;rgb:{answer}\x1b\\" * bool(answer) + "\x1b[?62;c")
        session.until("step 1 of 1")
        assert (f"38;5;{grey}mword" in session.shown) == bool(grey) and session.end() == 0


def test_the_status_keeps_what_tells_most():
    document = sure_of(0.5)
    for width, told in ((16, "step 1 of 2"), (40, "step 1 of 2  block 1  1 call"), (80, "0.50 nats a token")):
        assert told in lines(document, width, 10)[-1]
    assert lines(document, 40, 10, paused=True)[-1].endswith("paused")


# On a terminal.


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of twenty steps, and its text."""
    text = (
        "The tide was out. “Now,” said Kezia, “we shall see what the harbour holds at last, and who owns it.”"
    )
    pieces, made = film(text.encode(), 3)
    path = tmp_path_factory.mktemp("film") / "film.ndjson"
    head = frames.header(pieces, 5, "confidence", "cafe")
    path.write_text("\n".join([head, *map(frames.dumps, made)]) + "\n", encoding="utf-8")
    return path, text, len(made) - 1


def replaying(path, *options: str) -> list[str]:
    return [sys.executable, "-m", "mdlm_jax.sample", "--replay", str(path), *options]


def test_a_replay_leaves_the_text_once(recording):
    path, text, steps = recording
    with Session(replaying(path, "--speed", "64"), 120) as session:
        assert session.end() == 0
        assert session.after().startswith(f"{text}\n\n{steps} steps, ") and session.after().count(text) == 1
        assert f"step {steps} of {steps}" in STYLE.sub("", session.shown) and "38;5;" in session.shown
    with Session(replaying(path, "--speed", "64"), 120, NO_COLOR="1") as session:
        assert session.end() == 0 and "38;5;" not in session.shown and "\x1b[1m" in session.shown


def test_keys(recording):
    path, text, steps = recording
    with Session(replaying(path, "--speed", "0.5"), 120) as session:
        session.until("0.5x")
        session.type(" ")
        session.until("paused")
        at = int(re.findall(r"step (\d+) of", session.shown)[-1])
        session.type("\x1b[C" * 2 + "\x1b[D")
        session.until(f"step {at + 1} of {steps}")
        session.type("\x1bOD" * 9)
        session.until(f"step 0 of {steps}")
        session.type("++")
        session.until("paused  2x")
        session.type(" ")
        session.until(f"step {steps} of {steps}")  # one between may not be drawn
        session.type("q")
        assert session.end() == 0 and session.after().count(text) == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_terminal_as_it_was(recording, number):
    with Session(replaying(recording[0], "--speed", "0.25")) as session:
        session.until("step 0 ")
        assert session.end(number) == SIGNALS[number]
        assert session.shown.count(ENTER) == 1 and "Traceback" not in session.shown
        assert session.after().count("\n") <= 1  # one line, and no text


def test_what_is_no_terminal_gets_plain_text(recording):
    path, text, _ = recording
    done = subprocess.run(replaying(path, "--ui", "terminal"), cwd=REPO, capture_output=True, text=True)
    assert done.stdout.startswith(text) and "\x1b" not in done.stdout + done.stderr and not done.stderr
    with Session(replaying(path), TERM="dumb") as session:
        assert session.end() == 0 and "\x1b" not in session.shown
    with Session(replaying(path, "--ui", "plain")) as session:
        assert session.end() == 0 and "\x1b" not in session.shown


def test_progress_of_a_long_text_is_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(terminal.PlanProgress.__init__, "__defaults__", (0.0,))  # a line every time
    pieces, made = film(BOOK.encode(), 1)
    with terminal.shown(True, 1.0, pieces) as look:
        for frame in made:
            look(frame)
    out, err = capsys.readouterr()
    assert not out and "100.0 %  block 1, step" in err and "\x1b" not in err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "fast", "1e9"])
def test_a_speed_that_is_none_is_one_line(value, recording):
    command = replaying(recording[0], f"--speed={value}")
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --speed: must be a number from")
    assert done.stderr.count("\n") == 1


def test_a_text_is_watched_recorded_and_left_once(run_copy, child_env, tmp_path):
    film = tmp_path / "film.ndjson"
    command = [sys.executable, "-m", "mdlm_jax.sample", "--workdir", str(run_copy), "--ui", "terminal"]
    command += ["--prompt", "The tide [MASK:3] out", "--length", "9", "--steps", "4", "--speed", "128"]
    env = child_env | {"PYTHONPATH": f"{child_env['PYTHONPATH']}{os.pathsep}{REPO}"}
    with Session([*command, "--record", str(film)], 200, **env) as session:
        assert session.end() == 0, session.shown
    saved = json.loads(max((run_copy / "samples").glob("*.json")).read_text(encoding="utf-8"))
    shown = frames.printable(saved["text"])
    assert ink(session.after()).count(ink(shown)) == 1 and session.shown.index(ENTER) > 0
    assert "step 4 of 4" in session.shown.partition(LEAVE)[0]
    done = subprocess.run(replaying(film), cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(shown)


def test_a_long_text_is_kept_in_few_frames(monkeypatch):
    """What the oldest have made is laid together, and the document is what it was."""
    monkeypatch.setattr(terminal, "KEPT", 8)
    pieces, made = film(b"the sea was cold and the light was far " * 8, 3)
    assert len(made) > 10
    view = terminal.View(contextlib.ExitStack(), pieces, 1.0)
    for count, (frame, whole) in enumerate(zip(made, documents(pieces, made), strict=True), 1):
        view._keep(frame)
        view._at += 1
        assert view._at == len(view._frames) <= 8 and (count <= 8 or len(view._frames) >= 4)
        again = copy.copy(view._before)
        for kept in view._frames:
            again.lay(kept)
        assert again.text() == whole.text() and again.nats == whole.nats and again.calls == whole.calls
