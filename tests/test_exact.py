"""Exact likelihoods are likelihoods: all texts together have probability 1, under either order."""

import dataclasses
import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from toys import NETWORK, config, quick_jit, random_params, within

from mdlm_jax.evaluation.exact import make_confidence_order, make_in_order
from mdlm_jax.evaluation.likelihood import make_bound
from mdlm_jax.train_state import denoiser, forbidden_rows

EOS, MASK, PAD, L, N = 3, 4, 5, 6, 3
MODEL = dataclasses.replace(NETWORK, num_layers=1, seq_len=L, vocab_rows=8)
FORBIDDEN = forbidden_rows(MODEL, 6, {"mask": MASK, "pad": PAD})
ALLOWED = np.flatnonzero(~FORBIDDEN)
PARAMS = random_params(MODEL)
# Sharp enough that orders differ.
PARAMS["embed"]["embedding"] = PARAMS["embed"]["embedding"][...] * 2
MAKE = {"left_to_right": make_in_order, "confidence_order": make_confidence_order}


def windows_of(texts: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    tokens, segments = np.full((len(texts), L), PAD, np.int32), np.zeros((len(texts), L), np.int32)
    for i, text in enumerate(texts):
        tokens[i, : len(text) + 1] = [EOS, *text]
        segments[i, : len(text) + 1] = 1
    return {"tokens": tokens, "segments": segments, "scored": (segments > 0) & (np.arange(L) > 0)}


EVERY = list(itertools.product(ALLOWED.tolist(), repeat=N))
MIXED = [(0, 1, 2, 3, 0), (2,), (1, 1, 3), (0, 2, 1, 0), (3, 0)]


@quick_jit
def logits_of(tokens, segments):
    return denoiser(MODEL, PARAMS, FORBIDDEN, segments)(tokens, jnp.arange(L))


def law(text: tuple[int, ...], hidden: set[int]) -> np.ndarray:
    """log p [N, V] of every position of a text of which some are hidden, one row by itself, in float64."""
    canvas = [EOS, *(MASK if i in hidden else t for i, t in enumerate(text))]
    row = np.array([canvas + [PAD] * (L - len(canvas))], np.int32)
    logits = np.float64(logits_of(row, np.int32([[1] * len(canvas) + [0] * (L - len(canvas))])))
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[1 : len(canvas)]


def by_hand(text: tuple[int, ...], order: tuple[int, ...] | None) -> np.ndarray:
    """-log p of each token of a text written in this order, or where that is None surest first."""
    hidden, nats = set(range(len(text))), np.zeros(len(text))
    for step in range(len(text)):
        log_p = law(text, hidden)
        surest = max(sorted(hidden), key=lambda i: log_p[i].max())  # of equal ones the first
        place = surest if order is None else order[step]
        nats[place] = -log_p[place, text[place]]
        hidden.remove(place)
    return nats


@pytest.fixture(scope="module")
def every() -> dict[str, np.ndarray]:
    """-log p [64, N] of all texts of three tokens, by each order."""
    made = {name: make(config(MODEL), FORBIDDEN, MASK, windows_of(EVERY)) for name, make in MAKE.items()}
    return {name: exact(PARAMS)[:, 1 : N + 1] for name, exact in made.items()}


@pytest.mark.parametrize("name", MAKE)
def test_all_texts_together_have_probability_one(name, every):
    assert abs(np.exp(-every[name].sum(1)).sum() - 1) < 1e-5
    assert every[name].min() > 0


def test_orders_are_those_that_they_say(every):
    """Against a loop over positions that shows the network one row at a time."""
    for i in range(0, len(EVERY), 5):
        text = EVERY[i]
        np.testing.assert_allclose(every["left_to_right"][i], by_hand(text, (0, 1, 2)), rtol=1e-4)
        np.testing.assert_allclose(every["confidence_order"][i], by_hand(text, None), rtol=1e-4)
    assert np.abs(every["left_to_right"] - every["confidence_order"]).max() > 0.1


def test_the_bound_is_the_mean_over_orders(every):
    """It lies above -log of the mean probability (Jensen), and above that of the best order."""
    text = EVERY[27]
    orders = list(itertools.permutations(range(N)))
    nats = np.array([by_hand(text, order).sum() for order in orders])
    assert nats[0] == pytest.approx(every["left_to_right"][27].sum(), rel=1e-4)
    bound = make_bound(config(MODEL, replicates=36), FORBIDDEN, MASK, windows_of([text]))(PARAMS)[0][:, 0]
    assert within(bound.mean(), bound.std(ddof=1) / 6, nats.mean())
    assert nats.mean() > -math.log(np.exp(-nats).mean()) > nats.min()


def test_any_ranks_and_the_mean_of_two_laws():
    """By ranks as by hand; of two networks the mean of the probabilities, of one twice its own."""
    texts, rng = [(0, 1, 2), (2, 2, 0)], np.random.default_rng(0)
    ranks = np.array([[0, *rng.permutation(N) + 1, *range(N + 1, L)] for _ in texts])
    make = functools.partial(make_in_order, config(MODEL), FORBIDDEN, MASK, windows_of(texts))
    nats = make(ranks)(PARAMS)[:, 1 : N + 1]
    for text, rank, found in zip(texts, ranks, nats, strict=True):
        np.testing.assert_allclose(found, by_hand(text, tuple(np.argsort(rank[1 : N + 1]))), rtol=1e-4)
    other = random_params(MODEL, seed=1)
    exact = make(ranks)
    each = np.stack([exact(p)[:, 1 : N + 1] for p in (PARAMS, other)])
    np.testing.assert_allclose(
        exact([PARAMS, other])[:, 1 : N + 1], -np.log(np.exp(-each).mean(0)), rtol=1e-4
    )
    np.testing.assert_allclose(exact([PARAMS, PARAMS])[:, 1 : N + 1], nats, rtol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_windows_of_any_length_few_rows_at_a_time(name):
    """Every token is scored once, and told of once; how many rows share a call does not matter."""
    windows, told = windows_of(MIXED), []
    whole = MAKE[name](config(MODEL), FORBIDDEN, MASK, windows)(PARAMS, told.append)
    assert sum(told) == windows["scored"].sum() and ((whole > 0) == windows["scored"]).all()
    for text, nats in zip(MIXED, whole, strict=True):
        order = tuple(range(len(text))) if name == "left_to_right" else None
        np.testing.assert_allclose(nats[1 : len(text) + 1], by_hand(text, order), rtol=1e-4)
    few = config(MODEL, memory_budget=1.0, micro_batch=2)
    parts = MAKE[name](few, FORBIDDEN, MASK, windows)(PARAMS)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
