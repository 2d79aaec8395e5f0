"""Recordings: shown again they end in the text that was written; whatever is damaged is told in one line."""

import contextlib
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax import frames
from mdlm_jax.ui import modes
from mdlm_jax.ui.replay import MASK, Document, replay, spelled
from mdlm_jax.ui.values import UserError

PIECES = ["[PAD]", "[MASK]", "The", "Ġtide", "Ġ", "Ċ", "Ġ[x", "/x]", "č", "ł", "Ģ"]  # č is a return, no
HEADER = frames.header(PIECES, 7, "confidence", "cafe")


def frame(start: int, tokens: list[int], length: int, step: int = 1) -> frames.SampleFrame:
    """A part of a document; 1 is masked."""
    row = np.array(tokens, np.int32)
    canvas = row, row == 1, row != 1, np.ones(len(row), np.float32)
    return frames.SampleFrame(step, 2, 0, *canvas, -0.5, extras={"start": start, "length": length})


WHOLE = [HEADER, *map(frames.dumps, (frame(0, [2, 1, 1, 5], 4, 0), frame(1, [3, 1], 4), frame(2, [4], 4)))]


def shown(tmp_path, lines, look=lambda frame: None) -> list[str]:
    """What is said of a recording of these lines; `look` sees its frames."""
    path, said = tmp_path / "rec.ndjson", []
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    replay(path, lambda pieces: contextlib.nullcontext(look), said.append)
    return said


def test_parts_are_laid_over_the_document(tmp_path):
    document, steps = Document(spelled(PIECES)), []

    def look(frame) -> None:
        document.lay(frame)
        steps.append(document.text())

    assert shown(tmp_path, WHOLE, look) == ["The tide \n\n\n2 steps, 4 changes, -1.5 nats, seed 7"]
    assert steps == [f"The{MASK}{MASK}\n", f"The tide{MASK}\n", "The tide \n"]
    assert document.given.tolist() == [True, False, False, True] and (document.calls, document.nats) == (
        2,
        -1.5,
    )


def test_a_character_of_several_tokens_comes_with_its_last_byte():
    document = Document(spelled(["âĤ", "¬", "x"]))  # a euro sign
    document.lay(frame(0, [0, 1, 2], 3))
    assert document.text() == f"\ufffd{MASK}x"
    document.lay(dataclasses.replace(frame(0, [0, 1, 2], 3), is_masked=np.zeros(3, bool)))
    assert list(document.characters()) == [("€", 1), ("x", 2)]


def test_what_is_shown_moves_no_cursor(tmp_path):
    pieces = ["\x1b[2Jx", "Ġ[/b]", chr(256 + 27) + "[2J", chr(256 + 127 - 94)]
    lines = [frames.header(pieces, 0, "x", "x"), frames.dumps(frame(0, [0, 2, 3], 3))]
    [text] = shown(tmp_path, lines)
    assert "\x1b" not in text and text.startswith("[2Jx[2J")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "does not begin with the header"),
        (["", *WHOLE], "does not begin with the header"),
        (["[]"], "does not begin with the header"),
        (["3"], "does not begin with the header"),
        (["{}"], "does not begin with the header"),
        (["[" * 100_000], "does not begin with the header"),
        (WHOLE[1:], "does not begin with the header"),
        ([HEADER.replace('"seed": 7', '"seed": null'), *WHOLE[1:]], "does not begin with the header"),
        ([HEADER.replace('"[PAD]"', "5"), *WHOLE[1:]], "does not begin with the header"),
        (
            [HEADER.replace('"schema_version": 1', '"schema_version": 99')],
            "has schema 99, this version",
        ),
        ([HEADER], "ends after its header"),
        ([*WHOLE, ""], "line 5: not a sample frame"),
        ([*WHOLE, HEADER], "line 5: not a sample frame"),
        ([*WHOLE[:2], WHOLE[2][:50]], "line 3: not a sample frame"),
        ([*WHOLE, "[" * 100_000], "line 5: "),
        ([HEADER, frames.dumps(frame(0, [99], 1))], "line 2: a token is not in the vocabulary"),
        ([HEADER, frames.dumps(frame(0, [-1], 1))], "line 2: a token is not in the vocabulary"),
        ([HEADER, frames.dumps(frame(-1, [2], 1))], "line 2: it is no part of the document"),
        ([HEADER, frames.dumps(frame(1, [2], 1))], "line 2: it is no part of the document"),
        ([HEADER, frames.dumps(frame(0, [2], 10**12))], "line 2: it is no part of the document"),
        ([*WHOLE, frames.dumps(frame(0, [2], 1))], "line 5: it is no part of the document"),
        ([HEADER, WHOLE[1].replace('"start":0', '"start":"0"')], "line 2: it is no part of the document"),
        ([HEADER, WHOLE[1].replace('"is_masked":[0,1,1,0]', '"is_masked":[0]')], "line 2: "),
        ([HEADER, WHOLE[1].replace('"log_prob":-0.5', '"log_prob":"x"')], "line 2: "),
        ([HEADER, WHOLE[1].replace('"step":0', '"step":[]')], "line 2: "),
        ([HEADER, WHOLE[1].replace('"extras":{', '"extras":[{').replace("}}", "}]}")], "line 2: "),
    ],
    ids=range(26),
)
def test_damage_is_one_line_with_file_and_place(tmp_path, lines, reason):
    with pytest.raises(UserError) as caught:
        shown(tmp_path, lines)
    told = str(caught.value)
    assert told.startswith(str(tmp_path / "rec.ndjson")) and reason in told and "\n" not in told


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n", HEADER.encode() + b"\n\xff\n"])
def test_what_is_no_text_is_one_line(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="x"):
        replay(tmp_path / "x", lambda pieces: contextlib.nullcontext(print), print)


@given(st.lists(st.sampled_from("Ġé\x00č[ÃłÄ😀"), max_size=8))
def test_any_pieces_have_a_text(letters):
    """Pieces of added tokens are not in GPT-2's alphabet; bytes may be no UTF-8."""
    document = Document(spelled([*letters, "x"]))
    document.lay(frame(0, [*range(len(letters) + 1)], len(letters) + 1))
    assert all(
        character.isprintable() or character in "\n\t" or ord(character) >= 160
        for character in document.text()
    )


def test_a_recording_is_whole_or_not_there(tmp_path):
    path = tmp_path / "rec.ndjson"

    def write(tell) -> str:
        for line in WHOLE:
            tell(line)
        return "made"

    def stopped(tell) -> None:
        tell(HEADER)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        modes.record(path, False, stopped)
    assert list(tmp_path.iterdir()) == []
    assert modes.record(path, False, write) == "made"
    whole = path.read_text()
    assert whole.splitlines() == WHOLE
    with pytest.raises(UserError, match="is there already"):
        modes.record(path, False, write)
    assert path.read_text() == whole and list(tmp_path.iterdir()) == [path]
    other = tmp_path / "other.ndjson"
    code = (
        "import os, sys, pathlib; from mdlm_jax.ui import modes; "
        "modes.record(pathlib.Path(sys.argv[1]), False, lambda tell: (tell('{}'), os._exit(9)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(other)], cwd=REPO).returncode == 9
    assert not other.exists()  # killed: it is not there
    assert modes.record(other, False, write) == "made" and sorted(tmp_path.iterdir()) == [other, path]


@pytest.mark.parametrize("data", [b"", b"dear diary\n", b"\xff\n", b"{}\n"])
def test_a_recording_replaces_nothing_else(tmp_path, data):
    path = tmp_path / "diary.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"diary\.txt"):
        modes.record(path, False, lambda tell: pytest.fail("it was begun"))
    assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]


def test_a_stream_is_told_as_it_comes(capsys):
    seen = []

    def write(tell) -> None:
        for line in WHOLE:
            tell(line)
            seen.append(capsys.readouterr().out)

    modes.record(None, True, write)
    assert seen == [f"{line}\n" for line in WHOLE]
