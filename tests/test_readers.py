"""The record of a blind test: exact intervals, what they mean, and what is taken in."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mdlm_jax.evaluation import readers
from mdlm_jax.evaluation.readers import HumanError, interval, meaning
from mdlm_jax.evaluation.summary import WRITTEN

counts = st.integers(0, 120).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def tail(p: float, values: range, n: int) -> float:
    """P(X in values), X binomial."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in values)


@given(counts)
def test_the_interval_is_where_either_tail_is_a_fortieth(pair):
    right, n = pair
    low, high = interval(right, n)
    assert 0 <= low <= (right / n if n else 0.5) <= high <= 1
    assert low == 0 if not right else tail(low, range(right, n + 1), n) == pytest.approx(0.025)
    assert high == 1 if right == n else tail(high, range(right + 1), n) == pytest.approx(0.025)
    if 0 < right < n:
        wanted = stats.beta.ppf(0.025, right, n - right + 1), stats.beta.ppf(0.975, right + 1, n - right)
        assert (low, high) == pytest.approx(wanted)
    assert interval(n - right, n) == pytest.approx((1 - high, 1 - low))


def test_intervals_that_are_known():
    """Tables of exact limits (Blyth and Still 1983 quote those of Clopper and Pearson)."""
    assert interval(0, 10) == pytest.approx((0, 0.3085), abs=1e-4)
    assert interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert interval(10, 20) == pytest.approx((0.2720, 0.7280), abs=1e-4)
    assert interval(1, 1) == pytest.approx((0.025, 1)) and interval(0, 0) == (0, 1)


@given(counts)
def test_a_meaning_says_no_more_than_the_interval(pair):
    right, n = pair
    low, high = interval(right, n)
    told = meaning(right, n)
    assert ("better than chance" in told) == (low > 0.5)
    assert ("more often than chance" in told) == (high < 0.5)
    alike = low <= 0.5 <= high < 0.75 and n >= 18
    assert ("could not tell" in told) == alike
    assert ("Too few answers" in told) == (low <= 0.5 <= high and not alike)


def test_how_many_answers_would_do():
    assert "about 18 would decide it" in meaning(2, 4) and "about 18 would" in meaning(0, 0)
    assert interval(9, 18)[1] < 0.75 <= interval(8, 16)[1]  # ENOUGH is the fewest
    for right, n in ((13, 20), (11, 20), (6, 10), (16, 25)):
        needed = int(meaning(right, n).partition("about ")[2].partition(" ")[0])
        assert needed > n and "Too few" not in meaning(round(right / n * needed), needed)
    assert meaning(20, 20, "Readers").startswith("Readers told the book from the run better")


def test_keys_are_fnv():
    """Of the published vectors, by their last byte, and no two choices share one."""
    assert readers.key("", 0, 1) == fnv(":0:1") and fnv("a") == 0xE40C292C and fnv("foobar") == 0xBF9CF968
    assert len({readers.key("salt", i, c) for i in range(200) for c in (1, 2)}) == 400


def fnv(text: str) -> int:
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


@pytest.fixture
def test_and_run(tmp_path):
    """A run directory with a test of six pairs."""
    pairs = [{"book": f"b{i}", "run": f"r{i}", "answer": 1 + i % 2} for i in range(6)]
    asked = {"seed": 0, "pairs": 6, "words": 5, "from": "held_out", "texts": "ema"}
    return readers.save_test(tmp_path, {"asked": asked, "checkpoint": "x/1", "pairs": pairs}), tmp_path


def saved(test, changes=()) -> dict:
    answers = [
        {"pair": i, "choice": 1, "seconds": 2.5, "when": "2026-01-02T03:04:05+00:00"} for i in range(6)
    ]
    return {"test": test["id"], "who": "Anna", "answers": answers} | dict(changes)


def written(folder, value) -> Path:
    path = folder / "answers.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_answers_are_taken_in_once(test_and_run):
    test, run = test_and_run
    assert readers.human_figures(run) is None
    with pytest.raises(HumanError, match="nobody has answered"):
        readers.results(run)
    readers.add(run, written(run, saved(test)), None)
    figures = readers.human_figures(run)
    assert figures["all"]["answers"] == 6 and figures["all"]["right"] == 3 and figures["all"]["share"] == 0.5
    assert (figures["all"]["low"], figures["all"]["high"]) == interval(3, 6) and not figures["shared"]
    assert [r["who"] for r in figures["readers"]] == ["Anna"] and figures["tests"][0]["checkpoint"] == "x/1"
    before = (run / "human" / "answers.jsonl").read_bytes()
    with pytest.raises(HumanError, match="answers pair 1 again, which the reader Anna has answered; for"):
        readers.add(run, written(run, saved(test)), None)
    assert (run / "human" / "answers.jsonl").read_bytes() == before
    readers.add(run, written(run, saved(test)), "Ben")
    told = readers.results(run)
    assert [line.split()[0] for line in told.split("\n")[:4]] == ["reader", "Anna", "Ben", "all"]
    assert "12" in told.split("\n")[3] and "too narrow" in told
    assert all(WRITTEN.fullmatch(f"human/{path.name}") for path in (run / "human").iterdir())


def test_a_skip_may_be_answered_later_and_a_half_line_is_no_answer(test_and_run):
    test, run = test_and_run
    readers.answer(run, test, "", 0, 0, 1.0)
    readers.answer(run, test, "", 1, 2, 1.0)
    path = run / "human" / "answers.jsonl"
    with open(path, "ab") as file:
        file.write(path.read_bytes()[:30])  # as a power cut leaves it
    assert [a["choice"] for a in readers.answered(run, test, "").values()] == [0, 2]
    assert readers.answer(run, test, "", 0, 1, 1.0) is True
    found = readers.human_figures(run)["all"]
    assert (found["answers"], found["right"], found["skipped"]) == (2, 2, 0)
    assert all(json.loads(line) for line in path.read_text().splitlines())


HOSTILE = [
    "", "[]", "3", "nul", "{", "{}", '"x"', "[" * 100_000, '{"test": 3}', "NaN", "\x00", "9" * 5000,
    {"test": "../../etc/pw"}, {"test": ["x"]}, {"who": 3}, {"who": "a\nb"}, {"who": "x" * 81},
    {"who": "\ud800"}, {"answers": {}}, {"answers": []}, {"answers": 3}, {"answers": [3]},
    *({"answers": [{"pair": 0, "choice": 1, "seconds": 1, "when": "2026-01-02"} | change]} for change in (
        {"pair": 6}, {"pair": -1}, {"pair": True}, {"pair": "0"}, {"pair": 10**30}, {"choice": 3},
        {"choice": "1"}, {"choice": True}, {"choice": None}, {"choice": 0}, {"seconds": -1},
        {"seconds": math.nan}, {"seconds": math.inf}, {"seconds": "1"}, {"when": 3}, {"when": "\x1b[2J"},
        {"when": "yesterday"},
    )),
    {"answers": [{"pair": 0, "choice": 1, "seconds": 1, "when": "2026-01-02"}] * 2},
    {"answers": [{"pair": 0}]}, {"test": "0" * 12}, {"x": "y" * 10**6},
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: str(value)[:40])
def test_hostile_answers_are_refused(test_and_run, value):
    test, run = test_and_run
    value = saved(test, value) if isinstance(value, dict) else value
    with pytest.raises(HumanError) as error:
        readers.add(run, written(run, value), None)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert not (run / "human" / "answers.jsonl").exists()


def test_a_changed_test_or_record_is_seen(test_and_run):
    test, run = test_and_run
    readers.answer(run, test, "", 0, 1, 1.0)
    path = run / "human" / "answers.jsonl"
    told = path.read_text()
    path.write_text(told + "{}\n")
    with pytest.raises(HumanError, match="line 2 is no answer"):
        readers.human_figures(run)
    path.write_text(told)
    kept = run / "human" / f"{test['id']}.json"
    kept.write_text(kept.read_text().replace('"answer": 1', '"answer": 2', 1))
    with pytest.raises(HumanError, match="damaged, or of another version; remove it"):
        readers.human_figures(run)
