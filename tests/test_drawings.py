"""The charts of a report show the figures that they say."""

import re
from typing import Any

import pytest

from mdlm_jax.evaluation import drawings, readers
from mdlm_jax.evaluation.findings import collect


def test_l_of_t_is_that_of_the_averaged_weights():
    own = {"checkpoint": "x/1", "split": "test", "kind": "bound"}
    figures = [own | {"weights": w, "curve": c} for w, c in (("ema", [1.25, 2.5]), ("params", [7.5, 8.5]))]
    found = {"evaluation": {"delivered": "x/1", "likelihood": {"figures": figures}}, "report": {}}
    assert "0.25, 1.25<" in (made := drawings.noise(found)) and "7.5<" not in made


def test_floor_and_ceiling_of_style_are_not_swapped():
    ends = {"floor": {"p10": 1.0, "p90": 2.0}, "ceiling": {"p10": 5.0, "p90": 7.0}}
    measures = {"delta": {"value": 3.0, "position": 0.5} | ends}
    made = drawings.style({"evaluation": {"style": {"measures": measures}}})
    assert "own unseen chapters: 1 to 2<" in made and "another book: 5 to 7<" in made


def test_intervals_of_copies_are_as_long_as_they_are():
    x: dict[str, Any] = {"share": 0.1, "interval": [0.05, 0.3]}
    made = drawings.copies(
        {"evaluation": {"memory": {"shares": {"5": {"samples": x, "held_out": x | {"share": None}}}}}}
    )
    left, width = (float(v) for v in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', made)[0])
    low, high = (float(v) for v in re.findall(r'd="M([\d.]+) [\d.]+L([\d.]+) [\d.]+" class="ring"', made)[0])
    assert (low - left, high - left) == pytest.approx((0.5 * width, 3 * width), abs=0.05)


def test_readers_go_on_answering_after_an_evaluation(run_copy):
    pairs = [{"book": "b", "run": "r", "answer": 1}] * 3
    asked = {"seed": 0, "pairs": 3, "words": 5, "from": "held_out", "texts": "ema"}
    test = readers.save_test(run_copy, {"asked": asked, "checkpoint": None, "pairs": pairs})
    for n in (1, 2):
        readers.answer(run_copy, test, "Ann", n, 1, 1.0)
        assert collect(run_copy)["evaluation"]["human"]["all"]["answers"] == n
