"""Runs side by side: what can be compared, and a word where it cannot."""

import copy
import json

import pytest
from report_runs import whole

from mdlm_jax.evaluation import comparison
from mdlm_jax.evaluation.findings import collect


@pytest.fixture(scope="module")
def run(smoke_run, tmp_path_factory):
    return whole(smoke_run, tmp_path_factory.mktemp("side") / "run")


@pytest.fixture
def two(run) -> dict:
    """The same run twice."""
    found, again = collect(run), collect(run)
    return {"one": found, "two": copy.deepcopy(again)}


def page(two) -> str:
    return comparison.html(two, {"one": {}, "two": {}}, {})


def test_another_book_or_split_cannot_be_compared(two):
    """Whatever the title, the size and the seed of the split say."""
    good = page(two)
    assert "none of them saw" in good and "cannot be compared" not in good and "measured alike" not in good
    run = two["two"]["run"]
    split = {"train": [0, 1, 2], "validation": [], "test": [3]}
    for change in ({"sha256": "0" * 64}, {"split": run["split"] | split}):
        two["two"]["run"] = run | change
        told = page(two)
        assert "cannot be compared" in told and "none of them saw" not in told
    two["two"]["run"] = run | {"split_seed": 5, "name": "x"}
    assert "cannot be compared" not in page(two)


def test_what_was_measured_in_another_way_is_told(two):
    made = two["two"]["evaluation"]
    for section, change, told in (
        ("preset", {"name": "fast"}, "presets (default, fast)"),
        ("style", {"texts": 8000}, "numbers of texts (6, 8,000)"),
        ("style", {"words": 999}, "words of each text, for style (60, 999)"),
        ("style", {"other_book": "<b>Emma</b>"}, "&lt;b&gt;Emma&lt;/b&gt;"),
    ):
        told = told.replace("60", str(two["one"]["evaluation"].get(section, {}).get("words", "")))
        told = told.replace("(6,", f"({two['one']['evaluation']['style']['texts']},")
        two["two"]["evaluation"] = made | {section: made[section] | change}
        text = page(two)
        assert told in text and "measured alike" in text and "<b>Emma" not in text, told
    two["two"]["evaluation"] = {}
    assert "measured alike" not in page(two)


def test_rows_of_an_autoregressive_run_and_of_exact_figures(two):
    def cells(name: str) -> list[str]:
        return next(row[1:] for row in comparison.rows(two) if row[0] == name)

    assert "data" in cells("share of critical compute")[1] and "data" in cells("95 % interval")[1]
    two["two"]["run"] |= {"causal": True}
    two["two"]["verdict"] |= {"kind": "exact"}
    assert cells("share of critical compute")[1] == "–" == cells("95 % interval")[1]
    assert cells("95 % interval")[0] != "–" != cells("share of critical compute")[0]


def test_it_says_of_which_book_and_how_large_each_is(two):
    """A table of figures without them compares nothing."""
    two["two"]["run"] |= {"book": "Emma", "parameters": 123457}
    assert two["one"]["run"]["book"] not in ("", "Emma")
    rows = {row[0]: row[1:] for row in comparison.rows(two)}
    assert "<bdi>Emma</bdi>" == rows["book"][1] != rows["book"][0]
    assert (
        "123,457" in rows["weights"][1] and json.dumps(two["one"]["run"]["parameters"]) in rows["weights"][0]
    )


def test_what_is_farther_off_than_both_books_is_told(two):
    """The median alone would have shuffled words of the book in the first place."""
    two["one"]["evaluation"]["style"] |= {"beyond": []}
    two["two"]["evaluation"]["style"] |= {"beyond": ["new_pairs", "mattr"]}
    rows = {row[0]: row[1:] for row in comparison.rows(two)}
    told = "neighbouring words the book does not have, richness of the vocabulary"
    assert rows["style farther off than both in"] == ["–", told]
    two["two"]["evaluation"] = {}
    assert {row[0]: row[2] for row in comparison.rows(two)}["style farther off than both in"] == "–"


def test_a_style_without_another_book_has_none_as_its_yardstick(two):
    two["two"]["evaluation"]["style"] |= {"other_book": None}
    assert ", none)" in page(two) and "None" not in page(two)


def test_only_fields_that_differ_are_shown():
    plans = {"a": {"seed": 1, "model": {"width": 8}}, "b": {"seed": 2, "model": {"width": 8}}}
    assert [row[0] for row in comparison.differences(plans)] == ["<bdi>seed</bdi>"]
