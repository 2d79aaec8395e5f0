"""The book's style and what is ranked by it; copied spans against a search of every span."""

import math
import re

import numpy as np
import pytest
from conftest import built_in_chapters
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.data import chapters, open_dataset, read_records
from mdlm_jax.evaluation import prose, style
from mdlm_jax.evaluation.prose import distance, sentence_lengths
from mdlm_jax.evaluation.style import StyleError, copied, diversity, runs, score
from mdlm_jax.tokenizer import load_tokenizer

BOOK = re.split(r"(?m)^(?=Chapter \d+$)", built_in_chapters(28))[1:]


@pytest.fixture(scope="module")
def novel() -> prose.Reference:
    """The style of the built-in novel's even chapters."""
    return prose.fit(BOOK[::2], BOOK[::2])


def test_reference_of_a_data_directory(dataset_dir):
    dataset, tokenizer = open_dataset(dataset_dir), load_tokenizer(dataset_dir / "tokenizer.json")
    split, titles = dataset.info["split"]["chapters"], dataset.info["split"]["titles"]
    records = read_records(dataset, "refinement", "train")
    streams = [np.concatenate([r.ids for r in records if r.chapter == c]) for c in split["train"]]
    texts = [tokenizer.decode(stream.tolist()) for stream in streams]
    book, expected = style.reference(dataset, tokenizer), prose.fit(texts, texts)
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
