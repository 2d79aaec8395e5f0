"""Thresholds of text: held-out text passes, the same words in another order do not."""

import random
import re

import pytest
from conftest import built_in_chapters

from mdlm_jax.evaluation.checks import ALWAYS, checks, unmeasured
from mdlm_jax.evaluation.prose import pieces
from mdlm_jax.evaluation.voice import another_book, style_figures

NOVEL = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]


def alice() -> list[str]:
    """The other book that is there, in twelve parts of a few paragraphs."""
    paragraphs = another_book(NOVEL)[1][0].split("\n\n")
    return ["\n\n".join(paragraphs[i::12]) for i in range(12)]


def salad(texts: list[str], rng: random.Random) -> list[str]:
    """The words of all texts in a random order, as many texts."""
    words = " ".join(texts).split()
    rng.shuffle(words)
    return [" ".join(words[i :: len(texts)]) for i in range(len(texts))]


@pytest.mark.parametrize(("book", "length"), [(NOVEL, 100), (NOVEL, 250), (alice(), 60)])
def test_word_salad_fails_where_held_out_text_passes(book: list[str], length: int):
    train, floor, samples = book[::2], book[1::4], book[3::4]
    real, rng = pieces(samples, length, 32), random.Random(0)
    each = [" ".join(rng.sample(text.split(), len(text.split()))) for text in real]
    for texts, good in ((real, True), (each, False), (salad(real, rng), False)):
        style = style_figures(texts, train, floor, length=length)
        [check] = checks({}, [], {"style": style})
        assert check["passed"] == good, check["text"]
        assert ("new_pairs" in style["beyond"]) != good
        assert ("farther off" in check["text"]) != good


def test_a_book_without_another_one_is_held_against_its_own_chapters():
    real, rng = pieces(NOVEL[3::4], 250, 32), random.Random(0)
    for texts, good in ((real, True), (salad(real, rng), False)):
        style = style_figures(texts, NOVEL[::2], NOVEL[1::4], language="de", length=250)
        assert style["other_book"] is None and style["overall"] is None and not style["beyond"]
        [check] = checks({}, [], {"style": style})
        assert check["passed"] == good, check["text"]
        assert ("neighbouring words" in check["text"]) != good


def test_what_lies_beyond_both_books_is_told_although_the_median_is_low():
    [check] = checks({}, [], {"style": {"overall_interval": [0.0, 0.1], "beyond": ["mattr"]}})
    assert not check["passed"] and "richness of the vocabulary" in check["text"]
    [alone] = checks({}, [], {"style": {"overall_interval": None, "beyond": ["mattr"]}})
    assert not alone["passed"] and alone["limit"] is None
    assert checks({}, [], {"style": {"overall_interval": None, "beyond": []}}) == []


def test_an_exact_figure_has_no_error_to_be_measured():
    assert {x["name"] for x in unmeasured([], "bound")} == ALWAYS.keys()
    assert {x["name"] for x in unmeasured([], "exact")} == ALWAYS.keys() - {"precise"}
    assert unmeasured([{"name": name} for name in ALWAYS], "bound") == []
