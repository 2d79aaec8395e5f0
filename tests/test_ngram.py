"""The byte n-gram: against a slow one written from the recursion, and by what any distribution obeys."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.evaluation.ngram import bits_per_byte, probability, witten_bell

TEXTS = st.lists(st.sampled_from(b"abcd"), max_size=40).map(bytes)


def slow(train: bytes, context: bytes, byte: int) -> float:
    """Witten & Bell, method C, by scanning the text: (c + types * lower order) / (total + types)."""
    lower = slow(train, context[1:], byte) if context else 1 / 256
    n = len(context)
    after = [train[i + n] for i in range(len(train) - n) if train[i : i + n] == context]
    if not after:
        return lower
    return (after.count(byte) + len(set(after)) * lower) / (len(after) + len(set(after)))


@settings(max_examples=40)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3).filter(any), st.integers(1, 5))
def test_it_equals_the_slow_one(train: bytes, texts: list[bytes], order: int):
    tables = witten_bell(train, order)
    bits = 0.0
    for text in texts:
        for i, byte in enumerate(text):
            context = text[max(0, i - order + 1) : i]
            expected = slow(train, context, byte)
            assert math.isclose(probability(tables, context, byte), expected, rel_tol=1e-9)
            bits -= math.log2(expected)
    assert math.isclose(bits_per_byte(tables, texts), bits / sum(map(len, texts)), rel_tol=1e-9)


@given(TEXTS, st.binary(max_size=6) | TEXTS)
def test_probabilities_sum_to_one_and_none_is_zero(train: bytes, context: bytes):
    tables = witten_bell(train)
    p = [probability(tables, context, byte) for byte in range(256)]
    assert math.isclose(sum(p), 1, rel_tol=1e-9) and min(p) > 0


def test_an_unseen_context_falls_back():
    """To its longest suffix that was seen; and an empty training text to 8 bits a byte."""
    tables = witten_bell(b"abracadabra")
    assert probability(tables, b"zzra", ord("c")) == probability(tables, b"ra", ord("c"))
    assert probability(tables, b"zzzz", ord("c")) == probability(tables, b"", ord("c"))
    assert probability(tables, b"abra", ord("c")) > 0.5 > probability(tables, b"", ord("c"))
    assert bits_per_byte(witten_bell(b""), [b"anything"]) == pytest.approx(8)


def test_each_order_and_each_repetition_helps():
    text = b"the quick brown fox jumps over the lazy dog; "
    held_out = b"the lazy fox jumps over the quick brown dog; "
    by_order = [bits_per_byte(witten_bell(text * 20, order), [held_out]) for order in (1, 2, 5)]
    assert by_order == sorted(by_order, reverse=True) and by_order[2] < 1.5 < 3.5 < by_order[0]
    by_repetition = [bits_per_byte(witten_bell(text * n), [text]) for n in (1, 4, 16)]
    assert by_repetition == sorted(by_repetition, reverse=True) and by_repetition[2] < 0.3


def test_every_text_starts_with_an_empty_context():
    """Chapters do not leak into one another: the figure is the byte-weighted mean of theirs."""
    tables, a, b = witten_bell(b"abcabcabc"), b"abcab", b"cabc"
    apart = (5 * bits_per_byte(tables, [a]) + 4 * bits_per_byte(tables, [b])) / 9
    assert math.isclose(bits_per_byte(tables, [a, b]), apart)
    assert not math.isclose(bits_per_byte(tables, [a + b]), apart)
