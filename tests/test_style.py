"""Style by hand and by what must be nearer; copied spans against a search of every span."""

import math
import re

import numpy as np
import pytest
from conftest import REPO, built_in_chapters
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.data import chapters, open_dataset, read_records
from mdlm_jax.evaluation import style
from mdlm_jax.evaluation.style import StyleError, copied, distance, diversity, runs, score, sentence_lengths
from mdlm_jax.tokenizer import load_tokenizer

BOOK = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]


@pytest.fixture(scope="module")
def novel() -> style.Reference:
    """The style of the built-in novel's even chapters."""
    return style.fit(BOOK[::2], BOOK[::2])


def pieces(text: str, words: int) -> list[str]:
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    return [text[spans[i][0] : spans[i + words - 1][1]] for i in range(0, len(spans) - words + 1, words)]


# --- Delta -----------------------------------------------------------------------------------------------


def test_delta_by_hand():
    """Two pieces with 2/3 and 1/3 of "a": half of all the words, give or take a sixth; as for "b"."""
    book = "a " * 100 + "B " * 50 + "b " * 100 + "A " * 50
    fitted = style.fit([book], [book])
    assert fitted.features.keys() == {"a", "b"}
    assert fitted.target == pytest.approx([1 / 2, 1 / 2]) and fitted.deviation == pytest.approx(
        [1 / 6, 1 / 6]
    )
    assert distance(fitted, "a b") == pytest.approx(0)
    assert distance(fitted, "a") == pytest.approx(3)
    assert distance(fitted, "a a a b") == pytest.approx(1.5)
    assert distance(fitted, "c") == pytest.approx(3)  # a word that is no feature is a word nevertheless
    short = style.fit([book + "a " * 149], [book])  # a piece that is too short says nothing of deviations
    assert short.deviation == pytest.approx(fitted.deviation) and short.target == pytest.approx(fitted.target)


def test_a_mark_counts_by_the_word():
    book = "one, two three. " * 100
    fitted = style.fit([book], [book])
    place = fitted.features[","], fitted.features["."], fitted.features["one"]
    assert fitted.target[list(place)] == pytest.approx([1 / 3] * 3)
    assert style.fit(["Don’t — don't"], []).features == {"don't": 0, "—": 1}


def test_the_reference_itself_is_at_0_and_order_plays_no_part(novel):
    whole = " ".join(BOOK[::2])
    assert distance(novel, whole) == pytest.approx(0, abs=1e-9)
    long, short = (np.mean([distance(novel, p) for p in pieces(whole, n)]) for n in (1000, 100))
    assert long < short / 2
    words = BOOK[1].split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    assert distance(novel, shuffled) == pytest.approx(distance(novel, BOOK[1]))


def test_held_out_chapters_are_nearer_than_other_texts(novel):
    """Than a page of documentation, than what a bad sampler writes, and than themselves as telegrams."""
    held_out = [piece for chapter in BOOK[1::2] for piece in pieces(chapter, 120)]
    own = np.array([distance(novel, piece) for piece in held_out])
    page = pieces((REPO / "docs" / "design.md").read_text(encoding="utf-8"), 120)
    assert min(len(own), len(page)) > 20
    assert np.mean(own[:, None] < [distance(novel, piece) for piece in page]) > 0.8
    telegrams = [distance(novel, re.sub(r"\b\w{1,3}\b", "", piece)) for piece in held_out]
    assert np.mean(own < telegrams) > 0.95
    loops = [distance(novel, text * 60) for text in ("the ", "the pint ", "said, ", "xylem ", "! a ")]
    assert min(loops) > np.quantile(own, 0.9)


def test_a_chapter_is_nearer_to_its_own_style():
    """By the half that was not fitted, whole. Its pieces of 120 words are so only 58 times in 100."""
    halves = [(chapter[: len(chapter) // 2], chapter[len(chapter) // 2 :]) for chapter in BOOK[::2]]
    fitted = [style.fit(BOOK[::2], [first]) for first, _ in halves]
    apart = np.array([[distance(one, second) for one in fitted] for _, second in halves])
    nearer = apart.diagonal()[:, None] < apart
    assert nearer.sum() / (nearer.size - len(halves)) > 0.6


def test_reference_of_a_data_directory(dataset_dir):
    dataset, tokenizer = open_dataset(dataset_dir), load_tokenizer(dataset_dir / "tokenizer.json")
    split, titles = dataset.info["split"]["chapters"], dataset.info["split"]["titles"]
    records = read_records(dataset, "refinement", "train")
    streams = [np.concatenate([r.ids for r in records if r.chapter == c]) for c in split["train"]]
    texts = [tokenizer.decode(stream.tolist()) for stream in streams]
    book, expected = style.reference(dataset, tokenizer), style.fit(texts, texts)
    assert book.features == expected.features
    assert np.array_equal(book.target, expected.target) and np.array_equal(book.deviation, expected.deviation)
    for name in (split["train"][0], str(split["train"][0]), titles[split["train"][0]].upper()):
        one = style.reference(dataset, tokenizer, name)
        assert distance(one, texts[0]) < 1e-9 < 0.1 < distance(book, texts[0])
        assert np.array_equal(one.deviation, book.deviation)
    for name in (split["test"][0], titles[split["test"][0]], 10**6, -1, "", "nowhere", "²"):
        with pytest.raises(StyleError) as raised:
            style.reference(dataset, tokenizer, name)
        message = str(raised.value)
        assert f"{split['train'][0]} ({titles[split['train'][0]]})" in message and "\n" not in message
        there = str(name) == str(split["test"][0]) or name == titles[split["test"][0]]
        assert ("is held out" if there else "is not in the book") in message


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
        ("Chapter 3\n\nIt was late. He went", [1, 3]),
        ("It was late. He went\n\n", [3, 2]),  # a paragraph ended it, not the canvas
        ("it was late and he", [5]),
        ("Don’t mother-in-law me.", [5]),
        ("* * *\n\n... One. — ! ?", [1]),
        ("", []),
        ("\x00\x1b[0m \U0001f600 12.5", [1]),
        (".", []),
        ("." * 100_000 + "x " + "'\"" * 50_000, [1]),
    ],
)
def test_sentence_lengths(text: str, lengths: list[int]):
    assert sentence_lengths(text) == lengths


def test_score_adds_the_ratio_of_sentence_lengths(novel):
    text = "She said it was so. He had not been there at the time."
    near = distance(novel, text)
    assert score(novel, text) == near == score(novel, text, 6.5)
    for target in (13, 3.25):
        assert score(novel, text, target) == pytest.approx(near + math.log(2))


@settings(max_examples=60)
@given(
    text=st.text() | st.text("aA .’'\"\n\x00\u0345²_\U0001f600", max_size=30),
    target=st.none() | st.floats(0.1, 100),
)
def test_any_text_has_a_score(novel, text: str, target: float | None):
    lengths = sentence_lengths(text)
    assert all(n > 0 for n in lengths)
    assert (score(novel, text, target) < math.inf) == (distance(novel, text) < math.inf and lengths != [])
    assert score(novel, text, target) >= distance(novel, text) >= 0


# --- copies ----------------------------------------------------------------------------------------------

TOKENS = st.integers(0, 3)
SHORT = st.lists(TOKENS, max_size=14)


def search(ids: list[int], streams: list[list[int]], n: int) -> list[tuple[int, int]]:
    """Every span of more than n tokens that stands in a stream and within no other such span."""
    found = [
        (i, j)
        for i in range(len(ids))
        for j in range(i + n + 1, len(ids) + 1)
        if any(ids[i:j] == s[k : k + j - i] for s in streams for k in range(len(s) - (j - i) + 1))
    ]
    return [(i, j) for i, j in found if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in found)]


@settings(max_examples=300)
@given(st.lists(SHORT, max_size=3), SHORT, st.integers(0, 6), st.data())
def test_copied_equals_a_search(streams, ids, n, data):
    for stream in streams:  # with pieces of the streams at the start, in the middle and at the end
        start, stop = sorted((data.draw(st.integers(0, len(stream))), data.draw(st.integers(0, len(stream)))))
        ids = ids + stream[start:stop] + data.draw(st.lists(TOKENS, max_size=2))
    index = runs([np.array(stream, int) for stream in streams], n)
    assert copied(np.array(ids, np.int32), index) == search(ids, streams, n)


def test_a_planted_copy_is_found_from_n_plus_1_tokens_on():
    rng = np.random.default_rng(0)
    stream, ids = rng.integers(0, 50_000, 2000), rng.integers(50_000, 99_000, 200)
    for at, size in ((0, 9), (100, 9), (191, 9), (40, 120), (40, 8)):
        planted = ids.copy()
        planted[at : at + size] = stream[700 : 700 + size]
        assert copied(planted.tolist(), runs([stream], 8)) == ([(at, at + size)] if size > 8 else [])
    # Two copies that overlap, where the book has not what they join to: never one.
    index = runs([np.array([1, 2, 3, 4]), np.array([2, 3, 4, 5])], 2)
    assert copied([1, 2, 3, 4, 5], index) == [(0, 4), (1, 5)]
    index = runs([np.array([1, 2]), np.array([3, 4])], 0)
    assert copied([1, 2, 3, 4], index) == [(0, 2), (2, 4)]
    with pytest.raises(ValueError, match="at least 0"):
        runs([stream], -1)


def test_runs_of_a_data_directory_cross_paragraphs_but_no_chapter(dataset_dir):
    dataset = open_dataset(dataset_dir)
    records, index = read_records(dataset, "refinement", "train"), style.book_runs(dataset, 16)
    first, second, *_ = chapters(records)
    assert len(records[0].ids) + len(records[1].ids) < len(first)
    assert copied(first, index) == [(0, len(first))]
    joined = copied(np.concatenate([first[-100:], second[:100]]), index)
    assert (0, 200) not in joined and {i for a, b in joined for i in range(a, b)} == set(range(200))
    [held_out, *_] = chapters(read_records(dataset, "refinement", "test"))
    assert sum(b - a for a, b in copied(held_out, index)) < 0.2 * len(held_out)


# --- diversity -------------------------------------------------------------------------------------------


def test_diversity():
    assert diversity([]) == {"entropy": 0.0, "distinct_4": 1.0}
    assert diversity([7] * 13) == {"entropy": 0.0, "distinct_4": 0.1}
    assert diversity(np.arange(8) % 2) == {"entropy": pytest.approx(math.log(2)), "distinct_4": 2 / 5}
    assert diversity(range(50)) == {"entropy": pytest.approx(math.log(50)), "distinct_4": 1.0}
    assert diversity([1, 1, 1, 2])["entropy"] == pytest.approx(math.log(4) - 0.75 * math.log(3))
