"""The stream of sampling events: what is written is read back, and a bad line says that it is one."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.frames import SCHEMA_VERSION, SampleFrame, dumps, header, loads

PROBABILITY = st.floats(0, 1, width=32)


@st.composite
def frames(draw) -> SampleFrame:
    length = draw(st.integers(0, 6))

    def column(elements, kind) -> np.ndarray:
        return np.array(draw(st.lists(elements, min_size=length, max_size=length)), kind)

    top_k = st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1)), max_size=3)
    return SampleFrame(
        step=draw(st.integers(1, 1000)),
        num_steps=draw(st.integers(1, 1000)),
        block=draw(st.integers(0, 9)),
        tokens=column(st.integers(0, 2**31 - 1), np.int32),
        is_masked=column(st.booleans(), bool),
        changed=column(st.booleans(), bool),
        confidence=column(PROBABILITY, np.float32),
        log_prob=draw(st.floats(-1e6, 0)),
        top_k=draw(st.lists(top_k, max_size=length)),
        extras=draw(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), max_size=3)),
    )


@given(frames())
def test_a_frame_is_read_back_to_the_bit(frame: SampleFrame):
    line = dumps(frame)
    assert "\n" not in line
    back = loads(line)
    for field in dataclasses.fields(SampleFrame):
        ours, theirs = getattr(back, field.name), getattr(frame, field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs
    assert dumps(back) == line


FRAME = SampleFrame(
    step=1, num_steps=2, block=0, tokens=np.array([5, 6], np.int32), is_masked=np.array([True, False]),
    changed=np.array([False, True]), confidence=np.array([0, 0.25], np.float32), log_prob=-1.5,
    top_k=[[], [(6, 0.25)]],
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["", "x", "null", "[1, 2]", "{}", dumps(FRAME)[:-1], header(["a"], 0, "ancestral", "x")],
    ids=["empty", "text", "null", "list", "no fields", "cut off", "header"],
)
def test_what_is_not_a_frame_is_refused(line: str):
    with pytest.raises(ValueError, match="not a sample frame"):
        loads(line)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(SampleFrame)][:8])
def test_a_missing_or_unknown_field_is_refused(name: str):
    fields = json.loads(dumps(FRAME))
    with pytest.raises(ValueError, match="not a sample frame"):
        loads(json.dumps(fields | {"other": 1}))
    del fields[name]
    with pytest.raises(ValueError, match="not a sample frame"):
        loads(json.dumps(fields))


@pytest.mark.parametrize(
    "change", [{"tokens": [2**40, 1]}, {"tokens": ["a", 1]}, {"tokens": [[1], [2, 3]]}, {"top_k": [[3]]}]
)
def test_values_that_do_not_fit_are_refused(change: dict):
    with pytest.raises(ValueError, match="not a sample frame"):
        loads(json.dumps(json.loads(dumps(FRAME)) | change))


def test_every_line_is_strict_json():
    """A page's JSON.parse knows neither NaN nor Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    fields = json.loads(dumps(FRAME), parse_constant=refuse)
    assert (
        fields["is_masked"] == [1, 0] and fields["tokens"] == [5, 6] and fields["top_k"] == [[], [[6, 0.25]]]
    )


def test_the_header_decodes_a_replay_alone():
    line = header(["a", "Ġb\n", "é"], 7, "confidence", "cafe")
    assert "\n" not in line
    assert json.loads(line) == {
        "schema_version": SCHEMA_VERSION,
        "pieces": ["a", "Ġb\n", "é"],
        "seed": 7,
        "sampler": "confidence",
        "model": "cafe",
    }
