"""Measures of style by hand, by independent code, and by what must be near the book and what far from it."""

import json
import math
import random
import re
from collections import Counter

import numpy as np
import pytest
import scipy.spatial.distance
from conftest import built_in_chapters
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation import voice
from mdlm_jax.evaluation.prose import pieces, sentence_lengths, words
from mdlm_jax.evaluation.voice import (
    another_book,
    earth_movers,
    flesch,
    jensen_shannon,
    marks_per_thousand,
    measures,
    profile,
    style_figures,
    syllables,
    windowed,
)

BOOK = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]
TRAIN, HELD_OUT = BOOK[::2], BOOK[1::2]
SAMPLES = st.lists(st.floats(-50, 50, width=16), min_size=1, max_size=8)
COUNTS = st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any).map(lambda x: np.array(x) / sum(x))
TEXTS = st.text(max_size=40) | st.text("aA .!’'\"\n\x00²_—", max_size=60)


def test_earth_movers_by_hand():
    assert earth_movers([0, 1], [1, 2]) == 1
    assert earth_movers([0], [0, 0, 3]) == pytest.approx(1)
    assert earth_movers([1, 5], [5, 5, 1, 1]) == 0
    for empty in (([], [1]), ([1], []), ([], [])):
        with pytest.raises(ValueError, match="not empty"):
            earth_movers(*empty)


@given(SAMPLES, SAMPLES, SAMPLES, st.floats(-5, 5))
def test_earth_movers_is_a_distance(a, b, c, shift):
    """Of sorted samples of one size it is the mean difference; a shift costs its size."""
    assert earth_movers(a, b) == earth_movers(b, a) == pytest.approx(earth_movers(a[::-1], b))
    assert earth_movers(a, c) <= earth_movers(a, b) + earth_movers(b, c) + 1e-9
    n = min(len(a), len(b))
    assert earth_movers(a[:n], b[:n]) == pytest.approx(np.abs(np.sort(a[:n]) - np.sort(b[:n])).mean())
    assert earth_movers(a, np.array(a) + shift) == pytest.approx(abs(shift), abs=1e-9)


@given(COUNTS, COUNTS)
def test_jensen_shannon_equals_scipys(p, q):
    found, expected = jensen_shannon(p, q), scipy.spatial.distance.jensenshannon(p, q, 2)
    assert found == pytest.approx(float(np.nan_to_num(expected)), abs=1e-6)
    assert 0 <= found <= 1 and found == jensen_shannon(q, p)


def test_profiles_by_hand():
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert profile(["a", "b", "a", "c"], ["a", "b"]) == pytest.approx([2 / 3, 1 / 3])
    assert profile(["c"], ["a", "b"]) is None
    names = voice.FUNCTION_WORDS.split()
    assert len(names) == len(set(names)) == 70


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 8))
def test_windows_equal_a_count_of_each(found: list[str], window: int):
    counts = [Counter(found[i : i + window]) for i in range(len(found) - window + 1)]
    if not counts:
        assert windowed(found, window) is None
        return
    different, once = [len(c) for c in counts], [list(c.values()).count(1) for c in counts]
    assert windowed(found, window) == pytest.approx((np.mean(different) / window, np.mean(once) / window))


def test_richness_does_not_depend_on_the_length():
    found = words(" ".join(BOOK))
    whole, part = windowed(found), windowed(found[:4000])
    assert whole == pytest.approx(part, rel=0.03)
    assert len(set(found)) / len(found) < len(set(found[:4000])) / 4000 * 0.6


def test_marks_and_readability_by_hand():
    rates = marks_per_thousand("“Well,” he said—‘no…’ or (yes), -- why?!") * 7 / 1000
    expected = {",": 2, "?": 1, "!": 1, "--": 2, "...": 1, '"': 4, "(": 1}
    assert rates == pytest.approx([expected.get(mark, 0) for mark in voice.MARKS])
    assert marks_per_thousand("...") is None and marks_per_thousand("It's so") == pytest.approx(0)
    counted = {"the": 1, "make": 1, "table": 2, "whole": 1, "called": 1, "wanted": 2, "people": 2}
    assert {word: syllables(word) for word in counted} == counted and syllables("hm") == 1
    assert flesch("The cat sat on the mat. It sat.") == pytest.approx(206.835 - 1.015 * 8 / 2 - 84.6)
    assert flesch("went on. He made tables.") == pytest.approx(206.835 - 1.015 * 3 - 84.6 * 6 / 5)
    assert flesch(" . ") is None


def test_a_first_sentence_that_begins_before_the_text_is_left_out():
    assert voice.whole_sentence_lengths("and went on. He came there. She") == [3]
    assert voice.whole_sentence_lengths("and went") == [2] and voice.whole_sentence_lengths("") == []


def test_another_book_is_never_the_same_book():
    strange, own = "Nobody has ever written this. " * 50, another_book(BOOK)
    name, [novel] = another_book([strange])
    assert name == "The Sixty-Fifth Pint" and "Chapter 3" not in novel and len(words(novel)) > 25_000
    assert own[0].startswith("Alice") and len(words(own[1][0])) > 4000
    assert another_book(BOOK[:5]) == own  # a part of the novel is the novel
    assert another_book([*BOOK, *own[1]]) == (None, [])  # a floor alone, as in another language
    assert style_figures([], BOOK, [strange])["other_book"].startswith("Alice")  # training chapters count


SOME = measures(TRAIN[:2], 60)


@pytest.fixture(scope="module")
def judged() -> dict[str, dict]:
    """The figures of texts whose place is known, at 250 words; the ceiling is the first half of Alice."""
    alice = another_book(BOOK)[1][0]
    half = alice.index("\n\n", len(alice) // 2)
    own, length = HELD_OUT[::2], 250
    rng = random.Random(0)
    real = pieces(HELD_OUT[1::2], length, 16)
    texts = {
        "real": real,
        "other": pieces([alice[half:]], length, 16),
        "shuffled": [" ".join(rng.sample(text.split(), len(text.split()))) for text in real],
    }
    other = "Alice", [alice[:half]]
    return {name: style_figures(some, TRAIN, own, other, length=length) for name, some in texts.items()}


def test_held_out_pieces_are_at_the_floor_and_another_author_at_the_ceiling(judged):
    telling = [name for name, one in judged["real"]["measures"].items() if one["position"] is not None]
    assert {"delta", "punctuation", "function_words", "sentence_length"} <= set(telling)
    for name in telling:
        real, other = (judged[key]["measures"][name] for key in ("real", "other"))
        assert real["interval"][0] <= 0.2 and real["position"] < min(0.5, other["position"]), name
        assert other["samples_auc"] > real["samples_auc"], name
    assert abs(judged["real"]["overall"]) < 0.25 < 0.75 < judged["other"]["overall"]


def test_pairs_by_hand():
    of = measures(["The old cat. Sat down", "and so on"], 5)["new_pairs"]
    assert of("old cat sat down") == 0 and of("so on") == 0
    assert of("the cat sat the old") == 2 / 4  # "the cat" and "sat the" are new
    assert of("down and") == 1 and of("one") is None and of("") is None


def test_overall_is_the_median_of_positions_above_0():
    """By hand from the measures; the interval by the same draws of all of them."""
    found = style_figures(pieces(HELD_OUT[1::2], 100, 16), TRAIN, HELD_OUT[::2], length=100)
    places = [one["position"] for one in found["measures"].values() if one["position"] is not None]
    assert min(places) < 0 < max(places)
    assert found["overall"] == pytest.approx(np.median([max(0, place) for place in places]))
    assert found["overall"] != pytest.approx(np.mean([max(0, place) for place in places]))
    low, high = found["overall_interval"]
    assert 0 <= low <= found["overall"] <= high < 0.5


def test_shuffled_words_are_beyond_the_ceiling_where_order_counts(judged):
    real, mixed = (judged[key]["measures"] for key in ("real", "shuffled"))
    assert mixed["sentence_length"]["position"] > 1 and mixed["sentence_length"]["interval"][0] > 1
    assert mixed["readability"]["samples_auc"] > 0.95
    for name in ("delta", "new_words", "function_words"):  # they count words, in whatever order
        assert mixed[name]["position"] == pytest.approx(real[name]["position"], abs=0.35)


def test_what_is_farther_than_both_is_beyond_even_where_books_are_alike(monkeypatch):
    """A measure that cannot tell them apart, and tells the samples from either."""
    monkeypatch.setattr(
        voice, "measures", lambda *_: {n: SOME["mattr"] for n in ("sentence_length", "mattr")}
    )
    loops, train, rest = ["the pint and " * 20] * 6, TRAIN[:2], HELD_OUT[:3]
    found = style_figures(loops, train, rest, ("the same", rest), length=60)
    assert found["overall"] is None and found["reason"] == voice.NO_MEASURE
    assert found["beyond"] == ["sentence_length", "mattr"]


def test_a_text_that_repeats_itself_is_far_where_books_are_alike():
    loop = "the pint and " * 20
    for name in ("mattr", "hapax", "delta", "function_words"):
        far = SOME[name](loop)
        assert all(SOME[name](piece) < far for piece in pieces(HELD_OUT[:3], 60, 20)), name
    assert voice.FIGURES["mattr"](loop) == 3 / 50 and voice.FIGURES["hapax"](loop) == 0


def test_figures_are_json_and_do_not_depend_on_the_order_of_the_samples(judged):
    json.dumps(judged, allow_nan=False)
    share, lengths = judged["real"]["measures"]["sentence_length"], sentence_lengths("\n\n".join(TRAIN))
    assert share["share_of_mean"] == pytest.approx(share["value"] / np.mean(lengths))
    train, held_out, other = TRAIN[:2], HELD_OUT[:2], ("a part", TRAIN[5:6])
    samples = ["", "one", "!", *pieces(HELD_OUT[3:], 60, 6)]
    found = [style_figures(some, train, held_out, other, length=60) for some in (samples, samples[:3], [])]
    assert [one["texts"] for one in found] == [6, 0, 0] and [one["left_out"] for one in found] == [3, 3, 0]
    json.dumps(found, allow_nan=False)
    mixed = style_figures(samples[::-1], train, held_out, other, length=60)
    for name, one in mixed["measures"].items():
        assert one["position"] == found[0]["measures"][name]["position"]


def test_english_measures_and_parts_of_speech_are_asked_for():
    def tag(text: str) -> list[str]:
        return ["long" if len(word) > 4 else "short" for word in words(text)]

    english, german = measures(TRAIN[:2], 60), measures(TRAIN[:2], 60, "de", tag)
    assert english.keys() - german.keys() == {"function_words", "readability"}
    assert german.keys() - english.keys() == {"parts_of_speech"}
    assert german["parts_of_speech"](TRAIN[0] + TRAIN[1]) == pytest.approx(0, abs=1e-6)
    assert german["parts_of_speech"]("never wanting " * 9) > 0.4 and german["parts_of_speech"]("") is None


def typeset(texts: list[str]) -> list[str]:
    """As another edition might set them."""
    return [
        text.replace('"', "“").replace("--", "—").replace("'", "’").replace(" not ", " _not_ ")
        for text in texts
    ]


def test_how_an_edition_was_set_is_no_style():
    """Of samples, training chapters, held-out chapters and the other book alike."""
    dashed = [re.sub(r", (and|but) ", r"--\1 ", text) for text in (*TRAIN[:2], *HELD_OUT[:4])]
    groups = [pieces(dashed[4:], 60, 8), dashed[:2], dashed[2:4], [TRAIN[5]]]
    plainly = style_figures(*groups[:3], ("other", groups[3]), length=60)
    for i in range(4):
        samples, train, held_out, other = (typeset(x) if i == k else x for k, x in enumerate(groups))
        assert typeset(groups[i]) != groups[i]
        assert style_figures(samples, train, held_out, ("other", other), length=60) == plainly, i


def test_a_book_in_another_language_has_a_floor_only():
    """Unless a caller brings another book in it."""
    samples, train, held_out = pieces(HELD_OUT[3:], 60, 6), TRAIN[:2], HELD_OUT[:2]
    found = style_figures(samples, train, held_out, language="de")
    assert found["overall"] is found["overall_interval"] is found["other_book"] is None
    assert found["reason"] == voice.NO_BOOK and found["beyond"] == []
    for name, one in found["measures"].items():
        assert one["position"] is one["ceiling"] is None and one["floor"] and one["value"] is not None, name
    assert {one["verdict"] for one in found["measures"].values()} == {"not told from its own chapters"}
    json.dumps(found, allow_nan=False)
    brought = style_figures(samples, train, held_out, another_book(BOOK), "de")
    assert brought["overall"] is not None and brought["reason"] is None


@given(TEXTS)
def test_any_text_is_measured(text: str):
    for name, measure in SOME.items():
        value = measure(text)
        assert value is None or (math.isfinite(value) and value >= 0), name
        assert value is None or name not in ("mattr", "hapax", "new_words", "function_words") or value <= 1
    assert SOME["new_words"](TRAIN[0]) == 0
