"""Copies against a search of every span, planted ones at their place, and verdicts that must be."""

import json
import math
import re

import numpy as np
import pytest
from conftest import built_in_chapters
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.evaluation.copying import (
    copied_runs,
    copied_spans,
    density,
    extraction,
    longest_matches,
    memory_figures,
    shelf,
    verdict,
)
from mdlm_jax.evaluation.prose import pieces, words

BOOK = dict(enumerate(re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]))
TRAIN = {number: text for number, text in BOOK.items() if number % 3 != 1}
HELD_OUT = {number: text for number, text in BOOK.items() if number % 3 == 1}
STREAM = st.lists(st.sampled_from("abc"), max_size=12)


def stands(span: list[str], stream: list[str]) -> list[int]:
    return [i for i in range(len(stream) - len(span) + 1) if stream[i : i + len(span)] == span]


@settings(max_examples=150)
@given(st.lists(STREAM, max_size=4), st.lists(STREAM, max_size=3))
def test_matches_equal_a_search(book: list[list[str]], texts: list[list[str]]):
    whole, starts = [word for stream in book for word in stream], np.cumsum([0, *map(len, book)])
    found = longest_matches(book, texts)
    assert len(found) == len(texts)
    for text, (length, place) in zip(texts, found, strict=True):
        assert len(length) == len(place) == len(text)
        for i, (n, at) in enumerate(zip(length, place, strict=True)):
            sizes = [m for m in range(len(text) - i + 1) if any(stands(text[i : i + m], s) for s in book)]
            assert n == max(sizes, default=0)
            if n:
                assert whole[at : at + n] == text[i : i + n]
                assert not any(at < start < at + n for start in starts)
            else:
                assert at == -1
        spans = copied_spans(length)
        every = [(i, i + n) for i, n in enumerate(length) if n]
        within = [any(c <= a and b <= d and (c, d) != (a, b) for c, d in every) for a, b in every]
        assert spans == [span for span, inner in zip(every, within, strict=True) if not inner]


def test_a_long_copy_is_measured_whole():
    """Across every power of two, at the ends of chapters and of texts."""
    rng = np.random.default_rng(0)
    book = [[str(x) for x in rng.integers(0, 9, 700)], [str(x) for x in rng.integers(0, 9, 40)]]
    for n in (1, 2, 31, 32, 33, 255, 256, 257, 700):
        for text, at in ((book[0][-n:], 700 - n), (book[0][:n], 0), (["x", *book[0][:n], "x"], 0)):
            [(length, place)] = longest_matches(book, [text])
            assert length.max() == n and (n < 31 or place[length.argmax()] == at)


def test_shares_by_hand():
    length = np.array([6, 5, 4, 3, 2, 1, 0, 2, 1])  # a span of six words, then one of two
    assert copied_runs(length, 5).tolist() == [True, True, False, False, False]
    assert copied_runs(length, 9).tolist() == [False] and len(copied_runs(length, 10)) == 0
    assert copied_runs(np.arange(13, 0, -1), 13).tolist() == [True] and len(copied_runs(length[:0], 5)) == 0


def test_shares_are_of_all_runs_of_all_texts_and_spans_of_the_same_texts():
    """A text without a run of that length neither helps nor harms, and what is at a text's end counts."""
    copy = " ".join(TRAIN[0].split()[200:260])
    n = len(words(copy))
    strange = " ".join(f"x{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400))
    found = memory_figures([strange + " " + copy, "", "one", "!"], TRAIN, HELD_OUT)
    assert found["longest"]["samples"] == n == found["texts"][0]["longest_words"]
    for k in (5, 8, 13):
        assert found["shares"][str(k)]["samples"]["share"] == pytest.approx((n - k + 1) / (400 + n - k + 1))
    few = memory_figures([copy] * 5 + [""] * 40, TRAIN, HELD_OUT)
    assert few["shares"]["13"]["samples"] == {"share": 1, "interval": [1, 1]}
    assert few["verdict"] == "memorised"


def test_short_texts_do_not_switch_the_verdict_off():
    copies = pieces(list(TRAIN.values()), 120, 28)
    assert memory_figures([*copies, "", "", "", ""], TRAIN, HELD_OUT)["verdict"] == "memorised"
    short = pieces(list(TRAIN.values()), 20, 12)
    assert memory_figures(short, TRAIN, HELD_OUT)["verdict"] == "memorised"
    assert memory_figures([], TRAIN, HELD_OUT)["verdict"] is None
    assert memory_figures(["", "!"], TRAIN, HELD_OUT)["verdict"] is None


def test_held_out_chapters_are_the_yardstick_uncut():
    """A refrain of both halves of the book is no copying; its length is that of the whole span."""
    rng = np.random.default_rng(0)
    refrain = [f"r{chr(97 + a)}{chr(97 + b)}" for a, b in rng.integers(0, 26, (20, 2))]
    train = TRAIN | {0: TRAIN[0] + "\n\n" + " ".join(refrain) + "."}
    held_out = HELD_OUT | {1: HELD_OUT[1] + "\n\nIt said " + " ".join(refrain) + "."}
    found = memory_figures(["Sing " + " ".join(refrain), "nothing at all"], train, held_out)
    assert found["longest"]["held_out"] in (20, 21) and found["longest"]["samples"] == 20
    assert found["verdict"] == "little beyond held-out text"
    assert memory_figures(["Sing " + " ".join(refrain)], train, HELD_OUT)["verdict"] == "some copying"
    every = [
        length.max()
        for length, _ in longest_matches([*map(words, TRAIN.values())], [*map(words, HELD_OUT.values())])
    ]
    assert memory_figures([], TRAIN, HELD_OUT)["longest"]["held_out"] == max(every)


def test_intervals_of_chapters_are_of_stretches_of_them():
    """Words that follow one another are copied together: they are no thousands of draws."""
    train = {0: " ".join(f"a{i}" for i in range(400))}
    held_out = {1: " ".join([*(f"a{i}" for i in range(300)), *(f"b{i}" for i in range(2700))])}
    found = memory_figures([train[0]] * 5, train, held_out)["shares"]["8"]
    share, (low, high) = found["held_out"], found["held_out"]["interval"]
    assert found["difference"] == pytest.approx([1 - high, 1 - low])  # the samples' share is 1 in every draw
    assert share["share"] == pytest.approx(293 / 2993) and low < 0.03 and high > 0.2


def test_the_map_is_of_spans_of_eight_words_or_more():
    train = {0: " ".join(f"a{i}" for i in range(400))}
    for number, there in ((7, False), (8, True)):
        sample = " ".join(["x", *(f"a{i}" for i in range(40, 40 + number)), "y"])
        assert any(memory_figures([sample], train, {})["map"]) == there


def test_places_by_hand():
    train = {1: "Title\n\nOne two. Three\nfour.\n\nFive six", 4: "Seven eight."}
    found = shelf(train, {0: "A b c d.", 2: "E f."})
    assert found.streams == [words(train[1]), words(train[4])]
    assert found.chapter.tolist() == [1] * 7 + [4] * 2
    assert found.paragraph.tolist() == [0, 1, 1, 1, 1, 2, 2, 0, 0]
    assert found.sentence.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert found.before == pytest.approx(np.array([4, 5, 6, 7, 8, 9, 10, 13, 14]) / 15)
    assert density([(0, 2), (1, 2), (8, 9)], found.before, 5) == [None, 3 / 2, 0, 0, 1 / 2]


@given(st.dictionaries(st.integers(0, 5), st.text("aB.\n ’²İ!\t", max_size=40), max_size=4))
def test_every_word_has_a_place(chapters: dict[int, str]):
    found = shelf(chapters, {9: "a b"})
    expected = [word for number in sorted(chapters) for word in words(chapters[number])]
    assert [word for stream in found.streams for word in stream] == expected
    places = found.chapter, found.paragraph, found.sentence, found.before
    assert {len(place) for place in places} == {len(expected)}
    assert ((found.before >= 0) & (found.before < 1)).all() and (np.diff(found.before) > 0).all()


def test_thirty_copied_words_among_a_thousand_are_found_at_their_place():
    """In another case and with other marks; the chapter, paragraph, sentence and place of its first word."""
    rng = np.random.default_rng(0)
    strange = [f"x{chr(97 + a)}{chr(97 + b)}" for a, b in rng.integers(0, 26, (970, 2))]
    paragraph = next(i for i, p in enumerate(BOOK[12].split("\n\n")) if i > 5 and len(words(p)) > 80)
    text = BOOK[12].split("\n\n")[paragraph]
    copy = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text)[:30]
    sample = " ".join([*strange[:400], *(word.upper() for word in copy), *strange[400:]])
    found = memory_figures([sample], TRAIN, HELD_OUT)
    [span, *_] = found["texts"][0]["spans"]
    expected = {"words": 30, "start": 400, "chapter": 12, "paragraph": paragraph, "sentence": 0}
    assert {name: span[name] for name in expected} == expected
    assert span["text"] == " ".join(copy).upper() and span["characters"] == len(span["text"])
    total = sum(len(words(chapter)) for chapter in BOOK.values())
    before = sum(len(words(BOOK[i])) for i in range(12)) + len(words(BOOK[12][: BOOK[12].index(text)]))
    assert span["share"] == pytest.approx(before / total)
    place = min(99, int(100 * before / total))
    marked = [i for i, share in enumerate(found["map"]) if share]
    assert marked == [place] or marked == [place, place + 1]
    assert len(found["map"]) == 100 and None in found["map"]
    assert found["longest"]["samples"] == 30 and found["verdict"] == "some copying"


@pytest.fixture(scope="module")
def figures() -> dict[str, dict]:
    """Of held-out pieces, pieces of the training text, and held-out pieces with 20 of 120 words copied."""
    real = pieces(list(HELD_OUT.values()), 120, 24)
    copies = pieces(list(TRAIN.values()), 120, 24)
    mixed = [" ".join([*a.split()[:90], *b.split()[:20]]) for a, b in zip(real, copies, strict=True)]
    held_out = {number: text for number, text in HELD_OUT.items() if number % 2}
    other = [text for text in real if any(text in HELD_OUT[i] for i in HELD_OUT if not i % 2)]
    texts = {"real": other, "copies": copies, "mixed": mixed}
    return {name: memory_figures(some, TRAIN, held_out) for name, some in texts.items()}


def test_held_out_text_is_no_copy_and_copied_text_is_memorised(figures):
    assert figures["real"]["verdict"] == "little beyond held-out text"
    assert figures["copies"]["verdict"] == figures["mixed"]["verdict"] == "memorised"
    assert figures["copies"]["shares"]["13"]["samples"]["share"] == 1
    low, high = figures["real"]["shares"]["5"]["difference"]
    assert low <= 0.005 and high >= -0.005 and figures["real"]["longest"]["samples"] < 13
    for one in figures.values():
        for n in ("5", "8", "13"):
            part = one["shares"][n]
            for group in ("samples", "held_out"):
                low, high = part[group]["interval"]
                assert 0 <= low <= part[group]["share"] <= high <= 1
    assert sum(map(bool, figures["copies"]["map"])) > 24 and sum(map(bool, figures["real"]["map"])) <= 2


def test_verdicts_by_their_thresholds():
    for eight, thirteen, longest, usual, said in (
        (0.0, 0.0, 12, 4, "little beyond held-out text"),
        (0.0, 0.0, 13, 6, "some copying"),
        (0.0, 0.0, 14, 7, "little beyond held-out text"),
        (0.0, 0.0, 15, 7, "some copying"),
        (0.011, 0.0, 9, 9, "some copying"),
        (0.009, 0.0, 9, 9, "little beyond held-out text"),
        (0.2, 0.051, 20, 9, "memorised"),
        (0.0, 0.0, 50, 9, "memorised"),
        (0.0, 0.0, 50, 30, "memorised"),
        (0.0, 0.0, 80, 40, "memorised"),
        (0.0, 0.0, 60, 60, "little beyond held-out text"),
    ):
        assert verdict({"8": [eight, 1.0], "13": [thirteen, 1.0]}, longest, usual) == said
    none = {"5": None, "8": None, "13": None}
    assert verdict(none, 12, 0) == "little beyond held-out text"
    assert verdict(none | {"5": [0.051, 0.4]}, 7, 7) == "some copying"
    assert verdict(none | {"5": [0.049, 0.4]}, 7, 7) == "little beyond held-out text"


def test_figures_are_json_with_and_without_texts(figures):
    json.dumps(figures, allow_nan=False)
    for samples in ([], [""], ["", "one", "!"], ["one word more"] * 6):
        for train, held_out in ((TRAIN, {}), ({}, {}), ({0: ""}, {1: "a b c d e f g."})):
            found = memory_figures(samples, train, held_out)
            json.dumps(found, allow_nan=False)
            assert len(found["texts"]) == len(samples) and len(found["map"]) == 100
            assert found["verdict"] == ("little beyond held-out text" if any(map(words, samples)) else None)


def test_extraction_by_hand():
    found = extraction([np.log([0.5, 0.5]), np.zeros(3), np.log([0.1] * 40)], p=0.75)
    assert found["log10_p"] == pytest.approx([math.log10(0.25), 0, -40])
    assert found["log10_queries"][:2] == pytest.approx([math.log10(math.log(0.25) / math.log(0.75)), 0])
    assert found["log10_queries"][2] == pytest.approx(40 + math.log10(math.log(4)))
    assert list(found["extractable"]) == ["1", "10", "100", "1000", "10000", "100000"]
    assert list(found["extractable"].values()) == pytest.approx([1 / 3] + [2 / 3] * 5)
    json.dumps(extraction([np.array([-np.inf]), np.full(9, -1e300)]), allow_nan=False)
    assert extraction([])["extractable"] == {}
    for given_, p in (([np.array([0.1])], 0.5), ([], 0.0), ([], 1.0)):
        with pytest.raises(ValueError, match=r"must be between|or less"):
            extraction(given_, p)


@given(st.lists(st.floats(-40, 0), min_size=1, max_size=5), st.floats(0.01, 0.99))
def test_so_many_queries_are_enough_and_one_fewer_is_not(log_probs: list[float], p: float):
    """1 - (1 - p_z)^n, by the definition."""
    found = extraction([np.array(log_probs)], p)
    p_z, n = math.exp(sum(log_probs)), 10 ** found["log10_queries"][0]
    if 1 < n < 1e12:
        assert -math.expm1(n * math.log1p(-p_z)) == pytest.approx(p, rel=1e-3)
    assert (
        n >= 1 and extraction([np.array(log_probs)], p / 2)["log10_queries"][0] <= found["log10_queries"][0]
    )
