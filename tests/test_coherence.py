"""Neighbours, names and variety by hand, by independent code, and by what must be told apart."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from conftest import built_in_chapters
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation.coherence import (
    SHARE,
    _together,
    above,
    adjacent,
    coherence_figures,
    distinct,
    entities,
    longest_repeat,
    repetition,
    self_bleu,
    shuffled,
)
from mdlm_jax.evaluation.placement import auc, measured
from mdlm_jax.evaluation.prose import pieces, sentences, words

BOOK = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]
TRAIN, HELD_OUT = BOOK[::2], BOOK[1::2]
STREAMS = st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=5)


def test_adjacent_by_hand():
    """n = 4 sentences: "the" is in all of them, "cat" in two, "dog" and what is new in fewer."""
    measure = adjacent(["The cat. The dog. The cat sat. The end."])
    the, cat, dog, sat, new = (math.log(5 / (1 + n)) for n in (4, 2, 1, 1, 0))
    assert the == 0
    assert measure("The cat. The dog.") == 1  # what stands everywhere is no likeness
    assert measure("A cat. A cat sat.") == pytest.approx(1 - (new + cat) / (new + cat + sat))
    assert measure("Cat dog. Dog cat. Cat.") == pytest.approx(1 - (1 + cat / (cat + dog)) / 2)
    assert measure("One alone.") is None and measure("") is None


def test_entities_by_hand():
    measure = entities(["He saw Anna. Then Anna saw him. She had, then, the look of Falk."])
    assert measure("We met Falk. Falk left.") == 0
    assert measure("We met Falk. He left.") == 1
    assert measure("We met Falk. He met Anna. He left. I fell. Anna is here.") == 1 / 2
    far = "We met Falk." + " He left." * 5 + " Falk came."
    assert measure(far) == 1 and measure(far.replace(" He left.", "", 1)) == 0
    assert measure('He said, "Then I will." Then it rained.') is None  # "then" is no name in the book
    assert measure("Anna.") is None and measure("") is None and measure("we met. we left.") is None


def test_real_text_is_told_from_its_sentences_shuffled():
    """At 500 words a piece; the sentences are the same."""
    real, mixed = pieces(HELD_OUT, 500, 30), pieces([shuffled(HELD_OUT, 0)], 500, 30)
    every = sorted(sentence for chapter in HELD_OUT for sentence in sentences(chapter + "\n\n"))
    assert sorted(words(" ".join(every))) == sorted(words(shuffled([c + "\n\n" for c in HELD_OUT], 1)))
    measure, names = adjacent(TRAIN), entities(TRAIN)
    assert auc(measured(measure, real), measured(measure, mixed)) > 0.65
    assert auc(measured(names, real), measured(names, mixed)) > 0.55


def test_distinct_and_repeats_by_hand():
    assert distinct([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3  # no run crosses texts
    assert distinct([], 2) == distinct([["a"]], 2) == 1
    assert (
        repetition(["so", "it", "is", "and", "so", "it", "is", "and", "then"]) == pytest.approx(1 / 6)
        and repetition([]) == 0
    )
    for text, most in {
        "very very": 1,
        "i see i see": 2,
        "so it is so it is so it is": 6,
        "a b a c": 0,
        "a a b b b a": 2,
        "x a b c a b c y": 3,
        "one": 0,
        "": 0,
    }.items():
        assert longest_repeat(text.split()) == most, text


@given(st.lists(st.sampled_from("ab"), max_size=14))
def test_longest_repeat_equals_a_search(found: list[str]):
    n = len(found)
    runs = [
        j - i
        for i in range(n)
        for j in range(i + 1, n + 1)
        for p in range(1, min(i, j - i) + 1)
        if found[i:j] == found[i - p : j - p]
    ]
    assert longest_repeat(found) == max(runs, default=0)


def bleu(text: list[str], others: list[list[str]]) -> float:
    """Papineni et al. (2002), section 2.3, with 1 added above order 1."""
    if not text or not others:
        return 0.0
    logs = []
    for n in range(1, min(4, len(text)) + 1):
        grams = [[tuple(x[i : i + n]) for i in range(len(x) - n + 1)] for x in (text, *others)]
        own, *counts = map(Counter, grams)
        clipped = sum(min(c, max((other[g] for other in counts), default=0)) for g, c in own.items())
        p = (clipped + (n > 1)) / (len(grams[0]) + (n > 1))
        logs.append(math.log(p) if p else -math.inf)
    r = min((abs(len(x) - len(text)), len(x)) for x in others)[1]
    return math.exp(min(0, 1 - r / len(text)) + sum(logs) / len(logs))


@given(STREAMS)
def test_self_bleu_equals_bleu_against_all_others(texts: list[list[str]]):
    found = self_bleu(texts)
    each = [bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert found == pytest.approx(np.mean(each) if len(texts) > 1 else 0)
    assert 0 <= found <= 1 and found == pytest.approx(self_bleu(texts[::-1]))
    assert 0 < distinct(texts, 2) == distinct(texts[::-1], 2) <= 1


def test_self_bleu_by_hand():
    """Papineni's example: seven "the" against a reference with two of them, 2/7; no run of two matches."""
    text, reference = ["the"] * 7, ["the", "cat", "is", "on", "the", "mat", "here"]
    first = (2 / 7) * (1 / 7) * (1 / 6) * (1 / 5)
    second = (2 / 7 * (1 / 7) * (1 / 6) * (1 / 5)) / (2 / 7) * (1 / 7 + 1 / 7)
    assert self_bleu([text, reference]) == pytest.approx((first**0.25 + second**0.25) / 2)
    assert self_bleu([reference] * 3) == 1 and self_bleu([["a"], ["b"]]) == self_bleu([text]) == 0
    # A text that is shorter than the other by one word of three, and one whose last words are new.
    brief, long = math.exp(-1 / 2), (2 / 3 * (2 / 3) * (1 / 2)) ** (1 / 3)
    assert self_bleu([["a", "b"], ["a", "b", "c"]]) == pytest.approx((brief + long) / 2)


@pytest.fixture(scope="module")
def figures() -> dict[str, dict]:
    """At 350 words, of real pieces, of shuffled ones, and of one sentence again and again."""
    train, held_out, unseen = BOOK[::3], BOOK[1::3], BOOK[2::3]
    texts = {
        "real": pieces(unseen, 350, 12),
        "shuffled": pieces([shuffled(unseen, 1)], 350, 12),
        "loops": ["It was late, and she went home. " * 80] * 12,
    }
    return {name: coherence_figures(some, train, held_out, 350) for name, some in texts.items()}


def test_real_shuffled_and_repeated_texts_are_in_their_places(figures):
    real, mixed, loops = (figures[name]["adjacent"] for name in ("real", "shuffled", "loops"))
    assert real["auc"] > 0.75 and abs(real["position"]) < 0.6 < mixed["position"]
    assert loops["position"] < -5 and loops["samples_auc"] == 0
    order = real["own_order"], mixed["own_order"], loops["own_order"]
    assert order[0]["held_out"] > 0.55 and abs(order[1]["samples"] - 0.5) < 0.2 and order[2]["samples"] == 0.5
    same = figures["loops"]["together"]
    assert {same[f"distinct_{n}"]["verdict"] for n in (1, 2, 3, 4)} == {"less varied than the book"}
    assert same["self_bleu_4"] == same["self_bleu_4"] | {"samples": 1, "verdict": "less varied than the book"}
    for name, one in figures["real"]["together"].items():
        assert one["verdict"] == "like the book", name
    within = figures["loops"]["within"]
    assert within["repeated_4"]["samples_auc"] == within["longest_repeat"]["samples_auc"] == 1
    assert 0.3 < figures["real"]["within"]["repeated_4"]["samples_auc"] < 0.7


def test_a_share_of_pairs():
    nan = float("nan")
    assert above(np.array([1.0, 5.0, 2.0, nan]), np.array([2.0, 4.0, 2.0, 9.0])) == 0.5
    assert (
        above(np.array([1.0, 10.0]), np.array([2.0, 11.0])) == 1
    )  # each beside its own, whatever the others
    assert above(np.array([nan]), np.array([1.0])) is None


def random_texts(rng: np.random.Generator, number: int) -> list[str]:
    """Texts of 80 words, of which the rarer come more seldom (Zipf's law)."""
    chance = 1 / np.arange(1, 301)
    drawn = rng.choice(300, (number, 80), p=chance / chance.sum())
    names = ["".join(chr(97 + int(digit)) for digit in str(i)) for i in range(300)]
    return [" ".join(names[i] for i in row) for row in drawn]


def test_texts_of_one_book_are_seldom_said_to_differ():
    """Variety, both sides drawn alike: one of the five figures is off in about 5 of 100 cases."""
    rng, alarms = np.random.default_rng(0), 0
    for seed in range(60):
        texts = [words(text) for text in random_texts(rng, 48)]
        together, number = _together(texts[:12], texts[12:], seed)
        assert number == 12
        alarms += any(one["verdict"] != "like the book" for one in together.values())
    assert alarms <= 6


def test_variety_is_compared_with_draws_of_the_training_chapters():
    """Not of the held-out ones; and of so few that they differ."""
    rng = np.random.default_rng(0)
    varied = ["\n\n".join(random_texts(rng, 12)) for _ in range(2)]
    loops = ["He came home and sat down. " * 200] * 2
    samples = random_texts(rng, 6)
    for train, held_out, said in (
        (varied, loops, "like the book"),
        (loops, varied, "more varied than the book"),
    ):
        found = coherence_figures(samples, train, held_out, 80)
        assert found["together"]["distinct_2"]["verdict"] == said
    few = coherence_figures(random_texts(rng, 30), varied, loops, 80)
    assert few["texts_together"] == 24 // SHARE
    book = few["together"]["distinct_2"]["book"]
    assert book["p10"] < book["p90"]


def test_too_few_disjoint_pieces_of_the_floor_have_no_position():
    found = coherence_figures(pieces(HELD_OUT[3:], 350, 12), TRAIN, HELD_OUT[:1], 350)
    assert found["adjacent"]["pieces"][1] < 5 and found["adjacent"]["verdict"] == "too few pieces"


def test_figures_are_json_and_do_not_depend_on_the_order_of_the_samples(figures):
    samples = ["", "one", "A. B. C. D. E. F. G.", *pieces(HELD_OUT[3:], 30, 6)]
    for some in ([], samples[:2], samples):
        found = coherence_figures(some, TRAIN[:1], HELD_OUT[:1], 30)
        assert found["texts"] == max(0, len(some) - 3) and found["left_out"] == min(3, len(some))
        json.dumps(found, allow_nan=False)
    mixed = coherence_figures(samples[::-1], TRAIN[:1], HELD_OUT[:1], 30)
    assert mixed["adjacent"] == found["adjacent"] and mixed["within"] == found["within"]
    empty = coherence_figures(samples, [], [], 30)
    assert empty["together"] == {} and empty["adjacent"]["position"] is None
    json.dumps([figures, empty], allow_nan=False)


@given(st.text(max_size=40) | st.text('aAB .!’"\n', max_size=60))
def test_any_text_is_measured(text: str):
    for measure in (adjacent(["A b. Anna c."]), entities(["A b. Anna c."])):
        value = measure(text)
        assert value is None or 0 <= value <= 1
    found = words(text)
    assert 0 <= repetition(found) < 1 and 0 <= longest_repeat(found) < max(1, len(found))
