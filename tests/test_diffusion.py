"""The objective: against numpy, and its expectation against the enumeration of every mask."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from toys import quick_jit, within

from mdlm_jax import diffusion
from mdlm_jax.diffusion import Density
from mdlm_jax.evaluation.likelihood import corrupt_strata

EOS, MASK = 3, 4  # beside the letters 0, 1, 2
V = 5
FORBIDDEN = np.arange(V) == MASK
FULL = Density()
SLOTS = 6  # longest segment: [EOS] and five letters
RNG = np.random.default_rng(0)
# An arbitrary denoiser: logits by the segment's whole canvas and the place in it. It sees nothing else.
TABLE = RNG.normal(size=(V**SLOTS, SLOTS, V)) * 1.5

TOKENS = np.array(
    [[EOS, 0, 2, EOS, 1, 1, 0, MASK], [EOS, 2, 0, 1, 0, 2, MASK, MASK]]
)  # filled up with [MASK]
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 0, 0]])
SCORED = (SEGMENTS > 0) & (TOKENS != EOS)
PLACES = [[1, 2], [4, 5, 6]], [[1, 2, 3, 4, 5]]  # scored places of each segment of each row


def denoise_fn(tokens: jax.Array, index: jax.Array) -> jax.Array:
    """The table as a network of one batch: reads the segment that a position stands in."""
    slot = np.array([[(s[:p] == s[p]).sum() for p in range(len(s))] for s in SEGMENTS]) % SLOTS
    same = SEGMENTS[:, :, None] == SEGMENTS[:, None, :]
    code = jnp.sum(same * (tokens * V**slot)[:, None, :], axis=2) % V**SLOTS
    logits = jnp.asarray(TABLE, jnp.float32)[code, slot].reshape(-1, V)[index]
    return diffusion.subs(logits, FORBIDDEN)


def enumerate_nats(row: int, segment: int) -> list[np.ndarray]:
    """For k = 1..n: the mean cross-entropy of the masked tokens, under each mask of k tokens of a segment."""
    places = PLACES[row][segment]
    start, n, by_k = places[0] - 1, len(places), []
    ids = TOKENS[row, start : start + n + 1]
    for k in range(1, n + 1):
        means = []
        for masked in itertools.combinations(range(1, n + 1), k):
            canvas = np.where(np.isin(np.arange(n + 1), masked), MASK, ids)
            logits = TABLE[sum(int(t) * V**i for i, t in enumerate(canvas))][: n + 1, ~FORBIDDEN]
            nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(n + 1), ids]
            means.append(nats[list(masked)].mean())
        by_k.append(np.array(means))
    return by_k


def exact_nelbo(by_k: list[np.ndarray]) -> float:
    """n times the integral of l(t): over t^(|M|-1) (1-t)^(n-|M|) for every mask M, by the beta function."""
    n = len(by_k)
    beta = [math.gamma(k) * math.gamma(n - k + 1) / math.gamma(n + 1) for k in range(1, n + 1)]
    return sum(b * k * means.sum() for k, (b, means) in enumerate(zip(beta, by_k, strict=True), 1))


TRUTH = [[exact_nelbo(enumerate_nats(r, s)) for s in range(len(PLACES[r]))] for r in range(2)]
TOTAL = sum(map(sum, TRUTH)) / SCORED.sum()


def batch_loss(key: jax.Array, density: Density = FULL, smoothing: float = 0.0, denoise=denoise_fn):
    return diffusion.loss(
        denoise, key, *map(jnp.asarray, (TOKENS, SEGMENTS, SCORED)),
        per_row=2, density=density, mask_id=MASK, size=16, label_smoothing=smoothing,
    )  # fmt: skip


@quick_jit
def draw(key: jax.Array, rate: jax.Array) -> diffusion.Corrupted:
    return diffusion.corrupt(key, TOKENS, SEGMENTS, SCORED, rate, MASK)


RATES = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)


@given(RATES, st.integers(0, 2**31))
def test_exactly_k_scored_tokens_of_each_segment_are_masked(rates: list[float], seed: int):
    rate = np.float32(rates).reshape(2, 2)
    tokens, masked, weights = map(np.asarray, draw(jax.random.key(seed), rate))
    assert not masked[~SCORED].any()
    np.testing.assert_array_equal(tokens, np.where(masked, MASK, TOKENS))
    for row, segments in enumerate(PLACES):
        for i, places in enumerate(segments):
            n = len(places)
            k = max(1, math.ceil(np.float32(n) * rate[row, i]))
            assert masked[row, places].sum() == k
            np.testing.assert_allclose(
                weights[row, places], np.where(masked[row, places], n / k, 0), rtol=1e-6
            )
    assert (weights[~masked] == 0).all()


def test_every_mask_of_k_tokens_is_equally_likely():
    keys = jax.random.split(jax.random.key(0), 4000)
    masked = np.asarray(jax.vmap(draw, (0, None))(keys, jnp.full((2, 2), 0.4)).masked)[:, 1, 1:6]
    counts = np.unique(masked @ (2 ** np.arange(5)), return_counts=True)[1]
    assert len(counts) == 10  # 2 of 5
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_numpy(smoothing: float):
    """Given the corrupted tokens: n times the mean over a segment's masked tokens, over all scored tokens."""
    rate_key, mask_key = jax.random.split(jax.random.key(5))
    counts = diffusion.token_counts(SEGMENTS, SCORED, 2)
    np.testing.assert_array_equal(counts, [[2, 3], [5, 0]])
    rate = diffusion.stratified(rate_key, counts.reshape(-1)).reshape(2, 2)
    tokens, masked, _ = map(np.asarray, draw(mask_key, rate))
    logits = np.float64(quick_jit(denoise_fn)(tokens, np.arange(16))).reshape(2, 8, V)
    allowed = logits[..., ~FORBIDDEN]
    log_p = allowed - np.log(np.exp(allowed).sum(-1, keepdims=True))
    expected = 0.0
    for row, segments in enumerate(PLACES):
        for places in segments:
            nats = []
            for p in places:
                if masked[row, p]:
                    target = np.full(4, smoothing / 4)
                    target[TOKENS[row, p]] += 1 - smoothing
                    nats.append(-target @ log_p[row, p])
            expected += len(places) * np.mean(nats)
    loss, share = quick_jit(lambda: batch_loss(jax.random.key(5), smoothing=smoothing))()
    np.testing.assert_allclose(loss, expected / 10, rtol=1e-5)
    np.testing.assert_allclose(share, masked.sum() / 10, rtol=1e-6)


def test_the_loss_is_unbiased():
    """Its mean over keys is the negative ELBO: the integral of l(t), from every mask of every segment."""
    losses = np.float64(quick_jit(jax.vmap(batch_loss))(jax.random.split(jax.random.key(0), 20_000))[0])
    assert within(losses.mean(), losses.std() / np.sqrt(len(losses)), TOTAL), (losses.mean(), TOTAL)


def test_k_uniform_on_one_to_n_is_the_integral_over_t():
    """The any-order identity that the estimator rests on: three ways to the golden values of this file."""
    for row, segments in enumerate(PLACES):
        for i in range(len(segments)):
            by_k = enumerate_nats(row, i)
            n, t = len(by_k), (np.arange(20_000) + 0.5) / 20_000
            uniform_k = sum(means.mean() for means in by_k)  # n * mean over k
            # l(t) conditioned on nothing: each mask by its Bernoulli probability, cross-entropies over n t.
            integral = sum(
                np.mean(k * means.sum() * t ** (k - 1) * (1 - t) ** (n - k))
                for k, means in enumerate(by_k, 1)
            )
            np.testing.assert_allclose([uniform_k, integral], TRUTH[row][i], rtol=1e-6)


def test_a_density_takes_its_slice_of_the_integral():
    """Under a narrow density k is ceil(n t) for t in it: another expectation of the same enumeration."""
    density = Density(0.3, 0.5, 0.25)
    u = (np.arange(100_000) + 0.5) / 100_000
    t = np.float64(np.where(u < 0.25, u / 0.25, 0.3 + 0.2 * (u - 0.25) / 0.75))
    expected = 0.0
    for row, segments in enumerate(PLACES):
        for i, places in enumerate(segments):
            n = len(places)
            means = np.array([m.mean() for m in enumerate_nats(row, i)])
            expected += n * means[np.ceil(n * t).astype(int) - 1].mean() / 10
    keys = jax.random.split(jax.random.key(1), 10_000)
    losses = np.float64(quick_jit(jax.vmap(lambda key: batch_loss(key, density)[0]))(keys))
    assert within(losses.mean(), losses.std() / 100, expected), (losses.mean(), expected)
    assert not density.is_bound and abs(expected - TOTAL) > 0.02


def test_each_stratum_of_the_bound_and_their_mean():
    strata, n = 4, 5
    by_k = enumerate_nats(1, 0)
    tokens, segments, scored = (jnp.repeat(x[1:], strata, 0) for x in (TOKENS, SEGMENTS, SCORED))

    def denoise(tokens: jax.Array, index: jax.Array) -> jax.Array:
        code = jnp.sum(tokens[:, :SLOTS] * V ** np.arange(SLOTS), axis=1)
        logits = jnp.asarray(TABLE, jnp.float32)[code]
        return diffusion.subs(jnp.pad(logits, ((0, 0), (0, 2), (0, 0))).reshape(-1, V)[index], FORBIDDEN)

    def estimate(key: jax.Array) -> jax.Array:
        corrupted = corrupt_strata(
            key, tokens, segments, scored, stratum=jnp.arange(strata), strata=strata, mask_id=MASK
        )
        return diffusion.masked_nats(denoise, tokens, corrupted, 16).sum(axis=1)

    nats = np.float64(quick_jit(jax.vmap(estimate))(jax.random.split(jax.random.key(2), 10_000)))
    error = nats.std(0) / 100
    for s in range(strata):
        overlap = [
            max(0.0, min(k / n, (s + 1) / strata) - max((k - 1) / n, s / strata)) for k in range(1, n + 1)
        ]
        truth = strata * sum(o * n * m.mean() for o, m in zip(overlap, by_k, strict=True))
        assert within(nats[:, s].mean(), error[s], truth), s
    assert within(nats.mean(), np.sqrt((error**2).sum()) / strata, TRUTH[1][0])


def test_soft_masking_draws_without_replacement_in_proportion_to_the_weights():
    """Against the law of every ordered pair; exactly k in each segment, whatever the weights."""
    tokens, scored = np.zeros((1, 8), np.int32), np.array([[False, *[True] * 4, False, True, True]])
    segments = np.array([[1, 1, 1, 1, 1, 2, 2, 2]])
    w = np.array([1.0, 2.0, 0.5, 4.0])
    weight = jnp.asarray(np.array([[1.0, *w, 1.0, 1e-6, 1e6]]), jnp.float32)

    def masks(key: jax.Array, emphasis: jax.Array | None) -> jax.Array:
        rate = jnp.array([[0.5, 0.5]])
        return diffusion.corrupt(key, tokens, segments, scored, rate, MASK, emphasis).masked[0]

    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(quick_jit(jax.vmap(masks, (0, None)))(keys, weight))
    assert (drawn[:, 1:5].sum(1) == 2).all() and (drawn[:, 6:].sum(1) == 1).all()
    assert not drawn[:, [0, 5]].any() and drawn[:, 7].mean() > 0.999
    for i, j in itertools.combinations(range(4), 2):
        law = sum(w[a] / w.sum() * w[b] / (w.sum() - w[a]) for a, b in ((i, j), (j, i)))
        share = (drawn[:, 1 + i] & drawn[:, 1 + j]).mean()
        assert within(share, (law * (1 - law) / 20_000) ** 0.5, law), (i, j)
    few = keys[:50]
    even = quick_jit(jax.vmap(masks, (0, None)))(few, jnp.ones((1, 8)))
    np.testing.assert_array_equal(even, quick_jit(jax.vmap(lambda k: masks(k, None)))(few))


def test_only_masked_positions_are_scored_and_only_they_have_gradients():
    """Run without jit, so that the denoiser sees which positions it is asked for."""
    asked = []

    def denoise(table: jax.Array, tokens: jax.Array, index: jax.Array) -> jax.Array:
        asked.append((np.asarray(tokens), np.asarray(index)))
        return diffusion.subs(table[index], FORBIDDEN)

    table = jnp.asarray(RNG.normal(size=(16, V)), jnp.float32)
    rate = jnp.array([[0.5, 0.5], [0.5, 0.0]])
    corrupted = draw(jax.random.key(0), rate)
    masked = np.asarray(corrupted.masked).reshape(-1)

    def nats(table: jax.Array, labels: np.ndarray) -> jax.Array:
        fn = lambda tokens, index: denoise(table, tokens, index)  # noqa: E731
        return diffusion.masked_nats(fn, jnp.asarray(labels), corrupted, 12)

    value = nats(table, TOKENS)
    seen, index = asked[0]
    np.testing.assert_array_equal(index[: masked.sum()], np.flatnonzero(masked))
    assert (index[masked.sum() :] == 0).all()  # what fills the static size up
    assert (seen.reshape(-1)[masked] == MASK).all()
    np.testing.assert_array_equal(np.asarray(value).reshape(-1) > 0, masked)
    # Gradients reach the logits of the masked positions, never a forbidden row, and nothing else.
    grads = np.asarray(jax.grad(lambda t: nats(t, TOKENS).sum())(table))
    np.testing.assert_array_equal(grads != 0, masked[:, None] & ~FORBIDDEN)
    # A target that is not masked is no target: another label changes nothing. One that is masked changes.
    free = np.where(masked.reshape(2, 8), TOKENS, (TOKENS + 1) % 3)
    np.testing.assert_array_equal(nats(table, free), value)
    other = np.where(masked.reshape(2, 8), (TOKENS + 1) % 3, TOKENS)
    assert (np.asarray(nats(table, other) != value).reshape(-1) == masked).all()


def test_subs_forbids_rows_and_keeps_gradients_finite():
    """Even where the filler of the gather list points at a target that has no probability ([PAD] at 0)."""
    logits = jnp.asarray(RNG.normal(size=(7, V)), jnp.float32)
    forbidden = np.array([False, True, False, False, True])
    p = np.asarray(jax.nn.softmax(diffusion.subs(logits, forbidden)))
    assert (p[:, forbidden] == 0).all() and (p[:, ~forbidden] > 0).all()
    tokens = np.array([[4, 0, 2, 3, 0, 2, 4]])
    segments = scored = np.array([[0, 1, 1, 1, 1, 1, 0]])

    def loss(logits: jax.Array) -> jax.Array:
        corrupted = diffusion.corrupt(
            jax.random.key(0), tokens, segments, scored > 0, jnp.array([[0.5]]), mask_id=1
        )
        fn = lambda _, index: diffusion.subs(logits[index], forbidden)  # noqa: E731
        diffused = diffusion.masked_nats(fn, jnp.asarray(tokens), corrupted, 7, 0.1).sum()
        return diffused + diffusion.autoregressive_nats(fn, jnp.asarray(tokens), scored > 0, 0.1).sum()

    value, grads = quick_jit(jax.value_and_grad(loss))(logits)
    assert np.isfinite(value) and np.isfinite(grads).all() and (np.asarray(grads)[:, forbidden] == 0).all()


def test_autoregressive_nats_equal_a_loop():
    """Position p is predicted from the output at p - 1; what is not scored is 0."""
    table = RNG.normal(size=(16, V))
    fn = lambda tokens, index: diffusion.subs(jnp.float32(table)[index], FORBIDDEN)  # noqa: E731
    nats = quick_jit(lambda *x: diffusion.autoregressive_nats(fn, *x))(TOKENS, SCORED)
    golden = np.zeros((2, 8))
    for row, p in np.argwhere(SCORED):
        logits = table[row * 8 + p - 1]
        golden[row, p] = np.log(np.exp(logits[~FORBIDDEN]).sum()) - logits[TOKENS[row, p]]
    np.testing.assert_allclose(nats, golden, atol=1e-5)


many_rates = quick_jit(jax.vmap(diffusion.stratified, (0, None)))
COUNTS = np.array([3, 1, 30, 0, 25, 21, 40])


def test_each_stratified_rate_is_uniform_and_their_sum_varies_little():
    keys = jax.random.split(jax.random.key(0), 20_000)
    u = np.float64(many_rates(keys, jnp.asarray(COUNTS)))
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    independent = (COUNTS**2).sum() / 12
    assert (u @ COUNTS).var() < 0.6 * independent
    even = many_rates(keys[:2000], jnp.full(16, 10))
    assert np.asarray(even).sum(1).var() < 0.05 * 16 / 12


@settings(max_examples=60)
@given(st.lists(st.integers(0, 200), min_size=8, max_size=8), st.integers(0, 2**31))
def test_stratified_rates_have_a_hard_bound(counts: list[int], seed: int):
    u = np.float64(many_rates(jax.random.split(jax.random.key(seed), 64), jnp.asarray(counts)))
    assert (u >= 0).all() and (u <= 1).all()
    assert (u @ np.array(counts)).max() <= sum(counts) / 2 + max(counts) + 1e-3


DENSITIES = st.tuples(st.floats(0, 0.95), st.floats(0.01, 1), st.floats(0, 1)).map(
    lambda x: Density(x[0], min(1.0, x[0] + x[1]), x[2])
)


@settings(max_examples=60)
@given(DENSITIES, st.lists(st.integers(1, 3000), min_size=2, max_size=2), st.integers(0, 2**31))
def test_capacity_is_never_exceeded(density: Density, longest: list[int], seed: int):
    """Few segments: the extremes are likely. Counts repeat, so that many segments are the longest."""
    counts = np.array(longest * 2)
    u = many_rates(jax.random.split(jax.random.key(seed), 4096), jnp.asarray(counts))
    masked = np.ceil(counts * np.asarray(density.quantile(u))).sum(1)
    size = diffusion.capacity(int(counts.sum()), int(counts.max()), len(counts), density)
    assert masked.max() <= size <= counts.sum()
    assert size == counts.sum() or size % 64 == 0


def test_capacity_saves_half_of_a_full_batch():
    assert diffusion.capacity(32 * 511, 511, 64, Density()) < 0.6 * 32 * 511


@example(FULL)
@example(Density(0.0, 1.0, 0.0))
@example(Density(0.75, 0.9, 0.0))
@example(Density(0.75, 0.9, 0.3))
@given(DENSITIES)
def test_quantile_inverts_the_mixture(density: Density):
    lo, hi, share = density
    u = np.linspace(0, 1, 1001)[:-1]
    t = np.float64(density.quantile(jnp.float32(u)))
    cdf = share * t + (1 - share) * np.clip((t - lo) / (hi - lo), 0, 1)
    tolerance = 1e-5 * (share + (1 - share) / (hi - lo))  # float32 rounding of t, magnified by the density
    np.testing.assert_allclose(cdf, u, atol=tolerance + 1e-5)
    np.testing.assert_allclose(t.mean() + 0.5 * (t[-1] - t[0]) / 1000, density.mean, atol=2e-3)
    assert density.is_bound == (share == 1 or (lo, hi) == (0, 1))


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_cross_entropy_with_smoothing(seed: int, smoothing: float):
    """Against the smoothed target spread over the allowed rows."""
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(3, V)) * 5, rng.choice(np.flatnonzero(~FORBIDDEN), 3)
    p = np.exp(logits) * ~FORBIDDEN / (np.exp(logits) * ~FORBIDDEN).sum(1, keepdims=True)
    spread = smoothing * ~FORBIDDEN / 4 + (1 - smoothing) * np.eye(V)[targets]
    golden = -(spread * np.log(np.where(FORBIDDEN, 1, p))).sum(1)
    masked = diffusion.subs(jnp.float32(logits), FORBIDDEN)
    ours = diffusion.cross_entropy(masked, jnp.asarray(targets), smoothing)
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-5)
