"""The record of a blind test: which pairs there were, who chose what, and what that means. No jax.

`human/<test>.json` holds a test, `human/answers.jsonl` a line per answer of every reader of every test.
"""

import contextlib
import datetime
import fcntl
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy.special import betaincinv

from mdlm_jax.evaluation.summary import clean, table
from mdlm_jax.ui.values import UserError, naming, read_json, write_json

SCHEMA_VERSION = 1
CHANCE, ABLE = 0.5, 0.75  # the share of right answers by chance; of a reader who can mostly tell
ENOUGH = 18  # the fewest answers of which half right rule out ABLE
LONGEST_NAME, LONGEST_FILE = 80, 10**6  # characters, bytes
SKIPPED = 0  # as a choice
SHARED = "Several read the same pairs; as if each answer stood alone, the interval is too narrow."

Values = dict[str, Any]


class HumanError(UserError):
    """A test, or answers, that cannot be used; one line."""


@functools.cache
def interval(right: int, answers: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper and Pearson 1934): (0, 1) without answers."""
    wrong = answers - right
    low = float(betaincinv(right, wrong + 1, 0.025)) if right else 0.0
    high = float(betaincinv(right + 1, wrong, 0.975)) if wrong else 1.0
    return low, high


def decided(right: int, answers: int) -> str:
    """What the interval says: "told", "reversed", "alike" (it holds CHANCE and not ABLE), or nothing yet."""
    low, high = interval(right, answers)
    if low > CHANCE or high < CHANCE:
        return "told" if low > CHANCE else "reversed"
    return "alike" if high < ABLE and answers >= ENOUGH else ""


def meaning(right: int, answers: int, who: str = "You") -> str:
    """One plain sentence. Where nothing is decided it says about how many answers would, at this share."""
    share, needed = right / answers if answers else CHANCE, answers + 1
    while not decided(round(share * needed), needed):
        needed += 1
    return {
        "told": f"{who} told the book from the run better than chance (50 %) would.",
        "reversed": f"{who} took the run's text for the book more often than chance (50 %) would.",
        "alike": f"{who} could not tell them apart: chance (50 %) is in the interval, three right in four "
        "(75 %) is not.",
        "": f"Too few answers to say whether it can be told: at this share about {needed} would decide it.",
    }[decided(right, answers)]


def percent(right: int, answers: int) -> str:
    """ "65 % (95 % interval 41 to 85 %; chance is 50 %)"."""
    low, high = interval(right, answers)
    share = f"{100 * right / answers:.0f} %"
    return f"{share} (95 % interval {100 * low:.0f} to {100 * high:.0f} %; chance is 50 %)"


def key(salt: str, pair: int, choice: int) -> int:
    """FNV-1a, 32 bits, of "salt:pair:choice". It keeps answers from being read at a glance, no more."""
    value = 0x811C9DC5
    for byte in f"{salt}:{pair}:{choice}".encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def _digest(test: Values) -> str:
    told = json.dumps({k: v for k, v in test.items() if k != "id"}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def save_test(workdir: Path, test: Values) -> Values:
    """Writes human/<id>.json, the id a digest of all that is in it; returns the test with it."""
    test = test | {"schema_version": SCHEMA_VERSION}
    test |= {"id": _digest(test)}
    (workdir / "human").mkdir(exist_ok=True)
    write_json(workdir / "human" / f"{test['id']}.json", test)
    return test


def read_test(workdir: Path, name: str) -> Values:
    """A test of this run by its id. Raises HumanError when there is none, or it was changed."""
    path = workdir / "human" / f"{name}.json"
    test = read_json(path, HumanError, f"{workdir} has no test {name}; the answers are of another run")
    if test.get("schema_version") != SCHEMA_VERSION or test.get("id") != name or _digest(test) != name:
        raise HumanError(f"{path} is damaged, or of another version; remove it")
    return test


def tests(workdir: Path) -> list[Values]:
    """All tests of a run. Raises HumanError."""
    found = (path.stem for path in sorted((workdir / "human").glob("*.json")))
    return [read_test(workdir, name) for name in found]


def check_name(name: object) -> str:
    """The name of a reader, "" for none. Raises HumanError."""
    if isinstance(name, str) and name == clean(name).strip() and len(name) <= LONGEST_NAME:
        return name
    raise HumanError(f"--name: a reader's name must be a line of at most {LONGEST_NAME} characters")


def _answer(answer: Any, who: object, test: Values) -> Values:
    """An answer as it is kept. Raises ValueError."""
    pair, choice, seconds = (answer[name] for name in ("pair", "choice", "seconds"))
    if not (type(pair) is int and 0 <= pair < len(test["pairs"])):
        raise ValueError(f"there is no pair {pair!r:.20}")
    if not (type(choice) is int and choice in (SKIPPED, 1, 2)):
        raise ValueError(f"the choice of pair {pair} must be 1, 2, or 0 for a skip")
    if not (type(seconds) in (int, float) and 0 <= seconds < math.inf):
        raise ValueError(f"the seconds of pair {pair} must be a number of at least 0")
    when = datetime.datetime.fromisoformat(answer["when"]).isoformat(timespec="seconds")
    right = choice == test["pairs"][pair]["answer"] if choice != SKIPPED else None
    found = {"test": test["id"], "who": check_name(who), "when": when, "pair": pair, "choice": choice}
    return found | {"right": right, "seconds": round(min(float(seconds), 1e6), 1)}


_FAULTS = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)


def _whole(record: bytes) -> bytes:
    """The lines of a record, without a last one that a power cut left half."""
    lines, newline, tail = record.rpartition(b"\n")
    with contextlib.suppress(*_FAULTS):
        json.loads(tail)
        return record + b"\n"  # an editor took its end
    return lines + newline


def answers(workdir: Path) -> list[Values]:
    """What every reader answered, the last word on a pair alone. A last line that was cut short is left out.

    Raises HumanError naming the line that is none.
    """
    path = workdir / "human" / "answers.jsonl"
    if not path.exists():
        return []
    known: dict[str, Values] = {}
    found: dict[tuple[str, str, int], Values] = {}
    for number, line in enumerate(_whole(path.read_bytes()).split(b"\n")[:-1], 1):
        try:
            told = json.loads(line)
            name = told["test"]
            if not re.fullmatch("[0-9a-f]{12}", name):
                raise ValueError("it names no test")
            known[name] = known.get(name) or read_test(workdir, name)
            answer = _answer(told, told["who"], known[name])
        except _FAULTS as error:
            raise HumanError(f"{path}, line {number} is no answer ({error}); remove it") from None
        found[answer["test"], answer["who"], answer["pair"]] = answer
    return list(found.values())


def keep(workdir: Path, found: Iterable[Values]) -> None:
    """Appends answers, all of them on disk when it returns."""
    path = workdir / "human" / "answers.jsonl"
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in found).encode()
    with naming(path), open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        held = file.read()
        whole = _whole(held)
        file.truncate(min(len(whole), len(held)))
        file.write(whole[len(held) :] + lines)
        file.flush()
        os.fsync(file.fileno())


def answered(workdir: Path, test: Values, who: str) -> dict[int, Values]:
    """The answers of one reader to one test, by pair; skips too. Raises HumanError."""
    return {a["pair"]: a for a in answers(workdir) if (a["test"], a["who"]) == (test["id"], who)}


def answer(workdir: Path, test: Values, who: str, pair: int, choice: int, seconds: float) -> bool | None:
    """Keeps one answer; whether it is right (None: a skip)."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made = _answer({"pair": pair, "choice": choice, "seconds": seconds, "when": when}, who, test)
    keep(workdir, [made])
    right: bool | None = made["right"]
    return right


def add(workdir: Path, path: Path, who: str | None) -> tuple[Values, str]:
    """Takes what the page saved into the record: the test, and the reader (`who`, else the file's name).

    All of it or nothing. Raises HumanError for anything else, for another run's, for what is there already.
    """
    if path.stat().st_size > LONGEST_FILE:
        raise HumanError(f"{path} is too long to be the answers of a test")
    try:
        told = json.loads(path.read_bytes())
        name, given, who = told["test"], told["answers"], who if who is not None else told["who"]
        if not (isinstance(name, str) and re.fullmatch("[0-9a-f]{12}", name) and isinstance(given, list)):
            raise ValueError("it names no test")
        who = check_name(who)
    except _FAULTS as error:
        raise HumanError(f"{path} is no file of answers that the page has saved ({error})") from None
    test = read_test(workdir, name)
    try:
        made = [_answer(one, who, test) for one in given]
    except _FAULTS as error:
        raise HumanError(f"{path} is no file of answers to test {name} ({error})") from None
    there = answered(workdir, test, who)
    new = [a["pair"] for a in made if a["choice"] != SKIPPED]
    again = sorted({p for p in new if there.get(p, {}).get("choice") or new.count(p) > 1})
    if again:
        reader = f"the reader {who}" if who else "a reader without a name"
        told = f"{path} answers pair {again[0] + 1} again, which {reader} has answered"
        raise HumanError(f"{told}; for another reader say --name")
    if not new:
        raise HumanError(f"{path} holds no answers")
    keep(workdir, [a for a in made if a["choice"] != SKIPPED or a["pair"] not in there])
    return test, who


def _figures(found: list[Values]) -> Values:
    counted = [a for a in found if a["choice"] != SKIPPED]
    right = sum(a["right"] for a in counted)
    low, high = interval(right, len(counted))
    share = right / len(counted) if counted else None
    figures = {"answers": len(counted), "right": right, "skipped": len(found) - len(counted)}
    return figures | {"share": share, "low": low, "high": high}


def _found(answers: list[Values]) -> Values:
    """Figures of answers, in words ("meaning"), and whether several read the same pairs ("shared")."""
    pairs = [(a["test"], a["pair"]) for a in answers if a["choice"] != SKIPPED]
    figures = _figures(answers)
    told = meaning(figures["right"], figures["answers"], "Readers")
    return figures | {"meaning": told, "shared": len(set(pairs)) < len(pairs)}


def human_figures(workdir: Path) -> Values | None:
    """What all readers found, None without an answer: "readers" (each with "who", "answers", "right",
    "skipped", "share", and its exact interval "low" to "high"), "all" (the same over all), "meaning",
    "shared" (whether several read the same pairs), and "tests" (each with "id", "from", "checkpoint", the
    number of its "readers", and the figures, meaning and shared of its own).

    Raises HumanError.
    """
    found = answers(workdir)
    total = _found(found)
    if not total["answers"]:
        return None
    names = sorted({a["who"] for a in found})
    tests = []
    for name in sorted({a["test"] for a in found}):
        test, own = read_test(workdir, name), [a for a in found if a["test"] == name]
        origin = {"id": name, "from": test["asked"]["from"], "checkpoint": test["checkpoint"]}
        tests.append(origin | {"readers": len({a["who"] for a in own})} | _found(own))
    return {
        "readers": [{"who": name} | _figures([a for a in found if a["who"] == name]) for name in names],
        "meaning": total.pop("meaning"),
        "shared": total.pop("shared"),
        "all": total,
        "tests": tests,
    }


def results(workdir: Path) -> str:
    """The screen of --results. Raises HumanError where nobody has answered."""
    figures = human_figures(workdir)
    if figures is None:
        raise HumanError(f"nobody has answered a test of {workdir} yet; leave out --results to take one")
    rows = [["reader", "answers", "right", "share", "95 % interval", "skipped"]]
    every = figures["readers"]
    for one in [*every, {"who": "all"} | figures["all"]] if len(every) > 1 else every:
        share = "-" if one["share"] is None else f"{100 * one['share']:.0f} %"
        span = f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %"
        counts = [str(one[name]) for name in ("answers", "right", "skipped")]
        rows.append([one["who"] or "(no name)", *counts[:2], share, span, counts[2]])
    lines = [table(rows), figures["meaning"]]
    if figures["shared"]:
        lines.append(SHARED)
    return "\n".join(lines)
