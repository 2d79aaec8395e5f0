"""The held-out figures: units, the bound against enumeration, a standard error that means what it says."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import NETWORK, config, quick_jit, random_params, within

from mdlm_jax.evaluation.likelihood import figures, make_bound, make_evaluate, make_exact
from mdlm_jax.train_state import denoiser, forbidden_rows

RNG = np.random.default_rng(0)
EOS, MASK, PAD = 4, 5, 6
MODEL = dataclasses.replace(NETWORK, num_layers=1, seq_len=8, vocab_rows=8)
FORBIDDEN = forbidden_rows(MODEL, 7, {"mask": MASK, "pad": PAD})
PARAMS = random_params(MODEL)
# Sharp enough that the order of unmasking and the mask matter.
PARAMS["embed"]["embedding"] = PARAMS["embed"]["embedding"][...] * 2
LENGTHS = (4, 2, 3)  # scored tokens of each window
REPLICATES = 1000


def windows_of(lengths: tuple[int, ...]) -> dict[str, np.ndarray]:
    shape = (len(lengths), 8)
    tokens, segments = np.full(shape, PAD, np.int32), np.zeros(shape, np.int32)
    for i, n in enumerate(lengths):
        tokens[i, : n + 1] = [EOS, *RNG.integers(0, 4, n)]
        segments[i, : n + 1] = 1
    return {"tokens": tokens, "segments": segments, "scored": (segments > 0) & (tokens != EOS)}


WINDOWS = windows_of(LENGTHS)


def log_probabilities(tokens: np.ndarray, segments: np.ndarray, params=PARAMS, model=MODEL) -> np.ndarray:
    """log p of every position of [B, 8] canvases, float64 [B, 8, V]."""
    denoise = denoiser(model, params, FORBIDDEN, jnp.asarray(segments))
    logits = np.float64(quick_jit(denoise)(tokens, np.arange(tokens.size))).reshape(*tokens.shape, -1)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def enumerate_window(i: int) -> tuple[float, float]:
    """Negative ELBO by all masks, and minus log likelihood of the order-averaged sampler by all orders."""
    n, tokens = LENGTHS[i], WINDOWS["tokens"][i]
    masks = np.array(list(itertools.product([False, True], repeat=n)))
    wide = np.pad(masks, ((0, 0), (1, 7 - n)))
    canvases = np.where(wide, MASK, tokens)
    log_p = log_probabilities(canvases, np.repeat(WINDOWS["segments"][i : i + 1], len(masks), 0))
    nats = {tuple(m): -log_p[j, np.arange(8), tokens][1 : n + 1] for j, m in enumerate(masks)}
    nelbo = sum(np.mean([nats[tuple(m)][m].mean() for m in masks if m.sum() == k]) for k in range(1, n + 1))
    likelihoods = []
    for order in itertools.permutations(range(n)):
        masked, total = np.ones(n, bool), 0.0
        for place in order:
            total += nats[tuple(masked)][place]
            masked[place] = False
        likelihoods.append(math.exp(-total))
    return nelbo, -math.log(np.mean(likelihoods))


@pytest.fixture(scope="module")
def estimate() -> tuple[np.ndarray, np.ndarray]:
    plan = config(MODEL, strata=16, replicates=REPLICATES)
    return make_bound(plan, FORBIDDEN, MASK, WINDOWS)(PARAMS)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.array([enumerate_window(i) for i in range(len(LENGTHS))])


def test_the_bound_is_the_enumerated_one_and_bounds_the_likelihood(estimate, truth):
    nats, curve = estimate
    assert nats.shape == (REPLICATES, 3) and curve.shape == (16,)
    errors = nats.std(0, ddof=1) / np.sqrt(REPLICATES)
    for i in range(3):
        assert within(nats[:, i].mean(), errors[i], truth[i, 0]), i
    assert (truth[:, 0] > truth[:, 1]).all()  # Jensen, strictly: orders differ
    np.testing.assert_allclose(curve.mean(), nats.mean(0).sum() / sum(LENGTHS), rtol=1e-6)


def test_the_standard_error_is_calibrated(estimate, truth):
    """Over 500 pairs of replicates, as an evaluation has them: the mean squared error is the mean of the
    squared standard errors, with a relative deviation of about 0.08.
    """
    nats, total = estimate[0], truth[:, 0].sum()
    pairs = nats.reshape(-1, 2, 3)
    claimed = pairs.var(axis=1, ddof=1).sum(-1) / 2
    squared = (pairs.mean(1).sum(-1) - total) ** 2
    assert 0.8 < squared.mean() / claimed.mean() < 1.25


def test_evaluate_reports_the_bound_in_every_unit(estimate):
    plan = config(MODEL, strata=16, replicates=REPLICATES)
    result = make_evaluate(plan, FORBIDDEN, MASK, WINDOWS, num_bytes=30, words=5)(PARAMS)
    nats, curve = estimate
    total = nats.mean(0).sum()
    error = np.sqrt((nats.var(0, ddof=1) / REPLICATES).sum())
    assert result["kind"] == "bound"
    np.testing.assert_allclose(result["curve"], curve)  # the same numbers in every call
    np.testing.assert_allclose(result["bits_per_byte"], total / math.log(2) / 30)
    np.testing.assert_allclose(result["bits_per_byte_se"], error / math.log(2) / 30)
    np.testing.assert_allclose(result["nats_per_token"], total / sum(LENGTHS))


@pytest.mark.parametrize("causal", [False, True])
def test_a_uniform_model_costs_the_logarithm_of_the_vocabulary(causal: bool):
    """In every window, replicate and stratum: five rows are allowed. 70 windows need several batches."""
    model = dataclasses.replace(MODEL, causal=causal)
    windows = windows_of((4, 2, 7, 1, 3) * 14)
    params = jax.tree.map(jnp.zeros_like, PARAMS)
    plan, counts = config(model), windows["scored"].sum(1)
    if causal:
        nats = make_exact(plan, FORBIDDEN, windows)(params)
    else:
        nats, curve = make_bound(plan, FORBIDDEN, MASK, windows)(params)
        np.testing.assert_allclose(curve, math.log(5), rtol=1e-5)
        assert nats.shape == (2, 70)
    np.testing.assert_allclose(nats, np.broadcast_to(counts * math.log(5), nats.shape), rtol=1e-5)


@pytest.mark.parametrize(("causal", "strata"), [(False, 24), (True, 16)])
def test_rows_at_a_time_change_no_figure(causal: bool, strata: int):
    """The masks are the same; only sums may differ in their last bits."""
    plan = config(dataclasses.replace(MODEL, causal=causal), strata=strata)
    windows = windows_of((4, 2, 7, 1, 3) * 2)

    def found(plan):
        if causal:
            return make_exact(plan, FORBIDDEN, windows)(PARAMS), 0
        return make_bound(plan, FORBIDDEN, MASK, windows)(PARAMS)

    whole = found(plan)
    for micro in (1, 4):
        parts = found(dataclasses.replace(plan, memory_budget=1.0, micro_batch=micro))
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6)


def test_the_twins_figure_is_the_sum_over_tokens():
    model = dataclasses.replace(MODEL, causal=True)
    log_p = log_probabilities(WINDOWS["tokens"], WINDOWS["segments"], model=model)
    golden = np.zeros(3)
    for row, place in np.argwhere(WINDOWS["scored"]):
        golden[row] -= log_p[row, place - 1, WINDOWS["tokens"][row, place]]
    plan = config(model)
    exact = make_exact(plan, FORBIDDEN, WINDOWS)
    np.testing.assert_allclose(exact(PARAMS), golden, rtol=1e-5)
    result = make_evaluate(plan, FORBIDDEN, MASK, WINDOWS, 30, 5)(PARAMS)
    assert result["kind"] == "exact" and result["bits_per_byte_se"] == 0
    np.testing.assert_allclose(result["bits_per_byte"], golden.sum() / math.log(2) / 30, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_several_weights_are_one_model_whose_probabilities_are_the_mean(causal: bool):
    """Under the same masks: never above the mean of the two, window by window, and of one twice its own."""
    plan = config(dataclasses.replace(MODEL, causal=causal), strata=8, replicates=4)
    made = make_exact(plan, FORBIDDEN, WINDOWS) if causal else make_bound(plan, FORBIDDEN, MASK, WINDOWS)
    other = random_params(MODEL, seed=1)

    def nats(weights):
        return made(weights) if causal else made(weights)[0]

    both, one, two = nats([PARAMS, other]), nats(PARAMS), nats(other)
    np.testing.assert_allclose(nats([PARAMS, PARAMS]), one, rtol=1e-5)
    assert (both < (one + two) / 2).all() and (both != one).all()
    if causal:  # exactly: position by position
        text = WINDOWS["tokens"], WINDOWS["segments"]
        each = [log_probabilities(*text, weights, plan.model) for weights in (PARAMS, other)]
        log_p, golden = np.logaddexp(*each) - math.log(2), np.zeros(3)
        for row, place in np.argwhere(WINDOWS["scored"]):
            golden[row] -= log_p[row, place - 1, WINDOWS["tokens"][row, place]]
        np.testing.assert_allclose(both, golden, rtol=1e-5)


def test_units_by_hand():
    """Eight tokens of four equally likely values: 16 bits, over four bytes and two words."""
    result = figures(nats=16 * math.log(2), standard_error=math.log(2), tokens=8, num_bytes=4, words=2)
    expected = {
        "nats_per_token": 2 * math.log(2),
        "bits_per_byte": 4,
        "bits_per_byte_se": 0.25,
        "token_perplexity": 4,
        "word_perplexity": 256,
    }
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(result[name], value), name
    assert math.isfinite(figures(1e9, 0.0, 8, 4, 2)["word_perplexity"])
