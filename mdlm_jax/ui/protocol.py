"""What a client of the live page may send: one schema, and a plain line for everything else.

State k of a trajectory is its document after k deltas, state 0 what was given. A message of deltas "from" k
leads on from state k; a snapshot "at" k is state k. To follow "from" k is to have state k. Whoever asks for
something to be written follows it, and is told so ("following") before anything else of it.
"""

import dataclasses
import json
from typing import Any

from mdlm_jax.ui.request import SAMPLING_PRESETS, Request, SamplingConfig
from mdlm_jax.ui.values import UserError, nearest

LARGEST = 65_536  # bytes of a message
LONGEST = Request.__dataclass_fields__["length"].metadata["most"]  # tokens of a document
MOST = 2**53  # what a browser's numbers hold exactly
OF_A_TEXT = ("prompt", "ending", "length", "most_copied")  # a branch has a document instead
CHOOSING = ("best_of", "style", "sentence_length")  # candidates are written before there is anything to see
Values = dict[str, str | int | float | bool]


def hello(
    name: str, pieces: list[str], special: dict[str, int], canvas: int, base: SamplingConfig
) -> dict[str, Any]:
    """What every socket is told of a run first; `base`: its own settings, which are the page's defaults."""
    options = []
    for f in (*dataclasses.fields(Request), *dataclasses.fields(SamplingConfig)):
        if f.name not in CHOOSING:
            told = {what: f.metadata[what] or None for what in ("doc", "choices", "least", "most")}
            options.append({"name": f.name, "default": getattr(base, f.name, f.default)} | told)
    told = {"name": name, "pieces": pieces, "special": special, "canvas": canvas}
    return told | {"options": options, "presets": list(SAMPLING_PRESETS)}


@dataclasses.dataclass(frozen=True)
class Write:
    """A text by options of the sample command."""

    options: Values


@dataclasses.dataclass(frozen=True)
class Branch:
    """The document `of` a trajectory after `step` deltas, in which places [start, stop) are written again.

    It is written by its own options alone: none of its parent's hold.
    """

    of: int
    step: int
    start: int
    stop: int
    length: int  # places that take theirs; 0: the model's choice
    token: int | None  # or this one, which stays
    options: Values


@dataclasses.dataclass(frozen=True)
class Stop:
    """The end of a trajectory, whether it runs or waits."""

    trajectory: int


@dataclasses.dataclass(frozen=True)
class Follow:
    """A trajectory from a delta on; `start` is "from" in the message."""

    trajectory: int
    start: int


Message = Write | Branch | Stop | Follow
KINDS: dict[str, type[Message]] = {"write": Write, "branch": Branch, "stop": Stop, "follow": Follow}


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _object(text: str | bytes) -> dict[str, Any]:
    if isinstance(text, bytes):
        raise UserError("a message is JSON in a text, not bytes")
    try:
        if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
            raise UserError(f"a message may have {LARGEST} bytes")
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("the message is not JSON") from None
    if not isinstance(found, dict):
        raise UserError("a message is a JSON object with a type")
    return found


def _options(value: Any) -> Values:
    if not isinstance(value, dict) or not all(
        isinstance(x, str | int | float | bool) for x in value.values()
    ):
        raise UserError("options must be an object of texts, numbers and truths")
    if any(isinstance(x, float) and not abs(x) < float("inf") for x in value.values()):
        raise UserError("options must have finite numbers")
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
        raise UserError(f"{name} must be a whole number, 0 or more")
    return value


def parse(text: str | bytes) -> Message:
    """The message of a client. Raises UserError, one line, where it is none."""
    found = _object(text)
    kind = found.pop("type", None)
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(kind[:40], KINDS) if isinstance(kind, str) else ""
        raise UserError(f"type must be one of {', '.join(KINDS)}{hint}")
    names = [f.name for f in dataclasses.fields(KINDS[kind])]
    if kind == "follow" and "from" in found and "start" not in found:
        found["start"] = found.pop("from")
    wrong = sorted({*names} ^ {*found})
    if wrong:
        told = "from" if kind == "follow" and wrong[0] == "start" else wrong[0][:40]
        raise UserError(f"{kind} {'has no' if wrong[0] in found else 'must have'} {told!r}")
    made: Any = {}
    for name in names:
        value = found[name]
        if name == "options":
            made[name] = _options(value)
        else:
            made[name] = None if name == "token" and value is None else _count(name, value)
    message = KINDS[kind](**made)
    if isinstance(message, Branch):
        _check(message)
    return message


def _check(edit: Branch) -> None:
    if edit.start > edit.stop:
        raise UserError("a branch must start before it stops")
    if edit.length > LONGEST:
        raise UserError(f"length must be at most {LONGEST}")
    if edit.token is not None and (edit.stop != edit.start + 1 or edit.length > 1):
        raise UserError("a branch with a token must be of one place")
    for name in OF_A_TEXT:
        if name in edit.options:
            raise UserError(f"{name} is an option of a whole text, not of a branch; leave it out")
