"""Words, sentences and pieces by what must hold of them; Delta by hand and by what must be nearer."""

import re

import numpy as np
import pytest
from conftest import REPO, built_in_chapters
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation import prose
from mdlm_jax.evaluation.prose import distance, pieces, sentence_lengths, sentences, word_spans, words

BOOK = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]
TEXTS = st.text(max_size=60) | st.text("aA1猫の .’'\"\n\x00\u0345²_\U0001f600İŉß!", max_size=40)


@pytest.fixture(scope="module")
def novel() -> prose.Reference:
    """The style of the built-in novel's even chapters."""
    return prose.fit(BOOK[::2], BOOK[::2])


# --- Delta -----------------------------------------------------------------------------------------------


def test_delta_by_hand():
    """Two pieces with 2/3 and 1/3 of "a": half of all the words, give or take a sixth; as for "b"."""
    book = "a " * 100 + "B " * 50 + "b " * 100 + "A " * 50
    fitted = prose.fit([book], [book])
    assert fitted.features.keys() == {"a", "b"}
    assert fitted.target == pytest.approx([1 / 2, 1 / 2]) and fitted.deviation == pytest.approx(
        [1 / 6, 1 / 6]
    )
    assert distance(fitted, "a b") == pytest.approx(0)
    assert distance(fitted, "a") == pytest.approx(3)
    assert distance(fitted, "a a a b") == pytest.approx(1.5)
    assert distance(fitted, "c") == pytest.approx(3)  # a word that is no feature is a word nevertheless
    short = prose.fit([book + "a " * 149], [book])  # a piece that is too short says nothing of deviations
    assert short.deviation == pytest.approx(fitted.deviation) and short.target == pytest.approx(fitted.target)


def test_a_mark_counts_by_the_word():
    book = "one, two three. " * 100
    fitted = prose.fit([book], [book])
    place = fitted.features[","], fitted.features["."], fitted.features["one"]
    assert fitted.target[list(place)] == pytest.approx([1 / 3] * 3)
    assert prose.fit(["Don’t — don't"], []).features == {"don't": 0, "—": 1}


def test_the_reference_itself_is_at_0_and_order_plays_no_part(novel):
    whole = " ".join(BOOK[::2])
    assert distance(novel, whole) == pytest.approx(0, abs=1e-9)
    long, short = (np.mean([distance(novel, p) for p in pieces([whole], n, 10**6)]) for n in (1000, 100))
    assert long < short / 2
    words = BOOK[1].split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    assert distance(novel, shuffled) == pytest.approx(distance(novel, BOOK[1]))


def test_held_out_chapters_are_nearer_than_other_texts(novel):
    """Than a page of documentation, than what a bad sampler writes, and than themselves as telegrams."""
    held_out = pieces(BOOK[1::2], 120, 10**6)
    own = np.array([distance(novel, piece) for piece in held_out])
    page = pieces([(REPO / "docs" / "design.md").read_text(encoding="utf-8")], 120, 10**6)
    assert min(len(own), len(page)) > 20
    assert np.mean(own[:, None] < [distance(novel, piece) for piece in page]) > 0.8
    telegrams = [distance(novel, re.sub(r"\b\w{1,3}\b", "", piece)) for piece in held_out]
    assert np.mean(own < telegrams) > 0.95
    loops = [distance(novel, text * 60) for text in ("the ", "the pint ", "said, ", "xylem ", "! a ")]
    assert min(loops) > np.quantile(own, 0.9)


def test_a_chapter_is_nearer_to_its_own_style():
    """By the half that was not fitted, whole. Its pieces of 120 words are so only 58 times in 100."""
    halves = [(chapter[: len(chapter) // 2], chapter[len(chapter) // 2 :]) for chapter in BOOK[::2]]
    fitted = [prose.fit(BOOK[::2], [first]) for first, _ in halves]
    apart = np.array([[distance(one, second) for one in fitted] for _, second in halves])
    nearer = apart.diagonal()[:, None] < apart
    assert nearer.sum() / (nearer.size - len(halves)) > 0.6


# --- sentences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("One two. Three four five! Six?", [2, 3, 1]),
        ("Mr. Brown met Dr. Low at St. Ives. M. Krempe did not.", [8, 4]),
        ("“Come here.” She came. “Why?” he asked. 'So.' Nobody (not one.) Spoke.", [2, 2, 3, 1, 3, 1]),
        ("He chose plan b. Then it broke. “and then?” (she left.)", [4, 7]),
        ("It was I. She knew it... and wept. He … well … slept.", [3, 5, 3]),
        ("A line\nof a wrapped paragraph\n\nAnother one.\n\n", [6, 2]),
        ("Chapter 3\n\nIt was late. He went", [2, 3]),
        ("It was late. He went\n\n", [3, 2]),  # a paragraph ended it, not the canvas
        ("it was late and he", [5]),
        ("Don’t mother-in-law me.", [5]),
        ("* * *\n\n... One. — ! ?", [1]),
        ("", []),
        ("\x00\x1b[0m \U0001f600 12.5", [3]),
        ("In 1818 he had 2 sons. 41 came.", [6, 2]),
        ("吾輩は猫である", [7]),
        (".", []),
        ("." * 100_000 + "x " + "'\"" * 50_000, [1]),
    ],
)
def test_sentence_lengths(text: str, lengths: list[int]):
    assert sentence_lengths(text) == lengths


def test_an_ideograph_is_a_word_and_so_is_a_number():
    assert words("Chapter 24 of 1818: it's 3rd_class") == [
        "chapter",
        "24",
        "of",
        "1818",
        "it's",
        "3rd",
        "class",
    ]
    assert words("猫がTokyo 2に。") == ["猫", "が", "tokyo", "2", "に"]
    assert prose.equal_length(["猫" * 60] * 9) == (60, ["猫" * 60] * 9)
    page = "私は猫である。" * 40
    fitted = prose.fit([page], [page])
    assert distance(fitted, page) == pytest.approx(0) and distance(fitted, "12 34") < np.inf
    assert words(prose.shortened(page, 7)) == list("私は猫である私")


@given(TEXTS)
def test_sentences_lose_no_word_of_a_whole_text(text: str):
    assert sum(sentence_lengths(text + "\n\n")) == len(words(text)) == len(word_spans(text))
    assert [word for one in sentences(text + "\n\n") for word in words(one)] == words(text)
    spans = [text[a:b].replace("’", "'").casefold() for a, b in word_spans(text)]
    assert spans == words(text)
    assert prose.plain(prose.plain(text)) == prose.plain(text)


# --- pieces ----------------------------------------------------------------------------------------------


def test_pieces_begin_with_a_sentence_and_do_not_overlap():
    """However many are asked for, and all have the same number of words."""
    starts = {words(sentence)[0] for chapter in BOOK for sentence in sentences(chapter)}
    for number in (7, 40, 10**6):
        found = pieces(BOOK[:3], 100, number)
        assert len(found) <= number and {len(words(piece)) for piece in found} == {100}
        assert all(words(piece)[0] in starts for piece in found)
        at = [(i, BOOK[i].index(piece)) for piece in found for i in range(3) if piece in BOOK[i]]
        assert len(at) == len(found) and at == sorted(set(at))
        following = zip(found, at, at[1:], strict=False)
        assert all(i < j or a + len(piece) <= b for piece, (i, a), (j, b) in following)
    assert 40 > len(pieces(BOOK[:3], 100, 40)) > 20
    assert pieces(["A short one."], 4, 5) == pieces([], 4, 5) == pieces(BOOK, 10**6, 5) == []


def test_a_piece_keeps_its_opening_mark_and_no_more():
    assert pieces(['One two. "Three, four!" Five six.'], 2, 3) == ["One two", '"Three, four', "Five six"]


@given(st.lists(TEXTS | st.integers(30, 90).map("word ".__mul__), max_size=20), st.none() | st.integers(1, 9))
def test_samples_of_one_length(samples: list[str], asked: int | None):
    length, kept = prose.equal_length(samples, asked)
    assert length == asked if asked else length >= prose.LEAST
    assert {len(words(text)) for text in kept} <= {length}
    assert len(kept) == sum(len(words(text)) >= length for text in samples)
    long = sum(len(words(text)) >= prose.LEAST for text in samples)
    assert asked or len(kept) >= 0.9 * long


def test_short_texts_do_not_make_the_length_theirs():
    long = ["a word " * 60] * 28
    assert prose.equal_length([*long, "", "", "!", "one " * 49]) == prose.equal_length(long)
    assert prose.equal_length(long)[0] == 120 and len(prose.equal_length(long)[1]) == 28
    assert prose.equal_length(["", "one two"]) == prose.equal_length([]) == (prose.LEAST, [])


@given(TEXTS, st.integers(1, 5))
def test_ngrams_and_shortened(text: str, n: int):
    found = words(text)
    assert prose.ngrams(found, n) == [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    assert words(prose.shortened(text, n)) == found[:n] and text.startswith(prose.shortened(text, n))
