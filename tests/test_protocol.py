"""What a client may send: every text is a valid message, or refused in one line."""

import dataclasses
import json
import math

import pytest
from conftest import soak_count
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.ui.options import settings_of
from mdlm_jax.ui.protocol import LARGEST, MOST, Branch, Follow, Stop, Write, hello, parse
from mdlm_jax.ui.request import SamplingConfig
from mdlm_jax.ui.trajectory import plain
from mdlm_jax.ui.values import UserError

BRANCH = {"type": "branch", "of": 1, "step": 2, "start": 3, "stop": 5, "length": 0, "token": None}
VALID = [
    {"type": "write", "options": {"prompt": "It was ____.", "seed": 3, "temperature": 0.5, "cache": True}},
    BRANCH | {"options": {}},
    BRANCH | {"stop": 4, "token": 12, "options": {"seed": "7"}},
    {"type": "stop", "trajectory": 4},
    {"type": "follow", "trajectory": 4, "from": 17},
]
MADE = [
    Write(VALID[0]["options"]),
    Branch(1, 2, 3, 5, 0, None, {}),
    Branch(1, 2, 3, 4, 0, 12, {"seed": "7"}),
    Stop(4),
    Follow(4, 17),
]


def outcome(text: str | bytes) -> object:
    """A message that keeps its promises, or a line."""
    try:
        made = parse(text)
    except UserError as error:
        line = plain(error)
        assert line and "\n" not in line and "Traceback" not in line
        return line
    for name, value in dataclasses.asdict(made).items():
        if name == "options":
            assert all(isinstance(x, str | int | float) for x in value.values())
            assert all(math.isfinite(x) for x in value.values() if isinstance(x, float))
        else:
            assert (name == "token" and value is None) or (type(value) is int and 0 <= value < MOST)
    return made


@pytest.mark.parametrize(("message", "made"), [*zip(VALID, MADE, strict=True)])
def test_what_is_valid(message: dict, made: object):
    assert parse(json.dumps(message)) == made


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["type", "options", "of", "step", "start", "stop", "length", "token", "from", "x"])


@st.composite
def nearly_valid(draw) -> str:
    """A valid message with a field changed, added or left out."""
    message = dict(draw(st.sampled_from(VALID)))
    for name in draw(st.lists(names, max_size=2)):
        if draw(st.booleans()):
            message.pop(name, None)
        else:
            message[name] = draw(values)
    return json.dumps(message)


garbage = nearly_valid() | values.map(json.dumps) | st.text() | st.binary()


@settings(max_examples=300)
@given(garbage)
def test_anything_is_a_message_or_a_line(text: str | bytes):
    outcome(text)


@pytest.mark.soak
@settings(max_examples=soak_count(50_000))
@given(garbage)
def test_anything_is_a_message_or_a_line_often(text: str | bytes):
    outcome(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1e999",
        "[" * 60_000,
        '{"type":' * 8000,
        "9" * 60_000,
        json.dumps({"type": "stop", "trajectory": 1}).encode(),
        '{"type":"write","options":{"temperature":NaN}}',
        '{"type":"write","options":{"temperature":1e999}}',
        '{"type":"write","options":{"prompt":["a"]}}',
        '{"type":"write","options":{"prompt":null}}',
        '{"type":"write","options":[]}',
        '{"type":"write","options":{},"more":1}',
        '{"type":"write"}',
        '{"type":["write"],"options":{}}',
        '{"type":"writ","options":{}}',
        '{"type":"stop","trajectory":true}',
        '{"type":"stop","trajectory":-1}',
        '{"type":"stop","trajectory":1.0}',
        '{"type":"stop","trajectory":"1"}',
        '{"type":"stop","trajectory":9007199254740992}',
        '{"type":"follow","trajectory":1,"from":-1}',
        '{"type":"follow","trajectory":1}',
        json.dumps(BRANCH | {"start": 6, "options": {}}),
        json.dumps(BRANCH | {"token": 1, "options": {}}),
        json.dumps(BRANCH | {"length": 2**17, "options": {}}),
        json.dumps({"type": "write", "options": {"prompt": "a" * LARGEST}}),
        json.dumps({"type": "write", "options": {"prompt": "\u20ac" * (LARGEST // 3)}}, ensure_ascii=False),
    ],
)
def test_what_is_refused(text: str | bytes):
    assert isinstance(outcome(text), str)


def test_a_prompt_of_any_text_arrives_as_it_is():
    for prompt in ("\x00\x1b[31m", "\ud800", "<script>", "\u20ac" * 20_000):
        text = json.dumps({"type": "write", "options": {"prompt": prompt}}, ensure_ascii=len(prompt) < 100)
        assert parse(text) == Write({"prompt": prompt})


def test_the_options_that_a_page_is_told_are_those_of_the_command():
    base = SamplingConfig("interleaved", 16, 0.7, 0, 1.0)
    told = hello("run", ["a"], {"mask": 1}, 127, base)
    json.dumps(told, allow_nan=False)
    given = {option["name"]: option["default"] for option in told["options"]}
    request, made = settings_of(given, base)
    assert made == base and request.prompt == "" and "best_of" not in given
    for preset in told["presets"]:
        settings_of({"preset": preset}, base)
    for option in told["options"]:
        for choice in option["choices"] or []:
            assert getattr(settings_of({option["name"]: choice}, None)[1], option["name"]) == choice
