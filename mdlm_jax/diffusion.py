"""Absorbing-state diffusion, alpha_t = 1 - t, with the SUBS parameterisation (MDLM, Sahoo et al. 2024).

With l(t) the mean cross-entropy of the masked tokens at rate t, the negative ELBO per token is the integral
of l over (0, 1) (their eq. 10 for alpha_t = 1 - t). The estimator: a segment of n tokens, k ceil of n*t,
exactly k positions masked, n * (mean cross-entropy over the k). With t uniform k is uniform on {1..n} and
this is unbiased (the any-order identity, Ou et al. 2024, eq. 3.7), with no 1/t and no epsilon.

No network here: `denoise_fn(tokens, index) -> logits[M, V]` scores the flat positions `index` [M] of tokens
[B, L]. Segments are numbered from 1 within a row, 0 is padding; `scored` marks the real tokens (an [EOS] is
given).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

DenoiseFn = Callable[[jax.Array, jax.Array], jax.Array]


class Density(NamedTuple):
    """Density of the mask rate t: (1 - full_range) on [lo, hi] mixed with full_range on (0, 1)."""

    lo: float = 0.0
    hi: float = 1.0
    full_range: float = 1.0

    @property
    def is_bound(self) -> bool:
        """Whether the loss under this density is the negative ELBO, not a slice of it."""
        return self.full_range == 1.0 or (self.lo, self.hi) == (0.0, 1.0)

    @property
    def mean(self) -> float:
        """Mean mask rate."""
        return self.full_range * 0.5 + (1 - self.full_range) * 0.5 * (self.lo + self.hi)

    def quantile(self, u: jax.Array) -> jax.Array:
        """Inverse CDF: uniform u in [0, 1) to mask rates (piecewise linear)."""
        f, lo, hi = self.full_range, self.lo, self.hi
        if self.is_bound:
            return u
        cdf = jnp.array([0.0, f * lo, f * hi + (1 - f), 1.0])
        return jnp.interp(u, cdf, jnp.array([0.0, lo, hi, 1.0])) if f > 0 else lo + (hi - lo) * u


def stratified(key: jax.Array, counts: jax.Array) -> jax.Array:
    """Uniforms [N], one per segment, jointly stratified in proportion to the segments' token counts [N].

    Segment i owns a stratum of width counts_i / sum(counts) on a randomly shifted circle; the tent map |2v -
    1| makes the circle continuous (a shifted lattice with the baker's transform, Hickernell 2002). Each is
    exactly uniform, and sum(counts * u) <= sum(counts)/2 + max(counts) always, which bounds the number of
    masked positions.
    """
    shift_key, jitter_key = jax.random.split(key)
    total = jnp.maximum(counts.sum(), 1)
    start = jnp.cumsum(counts) - counts
    jitter = jax.random.uniform(jitter_key, counts.shape)
    v = (jax.random.uniform(shift_key) + (start + counts * jitter) / total) % 1.0
    return jnp.abs(2 * v - 1)


def capacity(tokens: int, longest: int, segments: int, density: Density) -> int:
    """A bound, a multiple of 64, on the masked positions of `tokens` in `segments` of <= `longest`.

    `stratified` overshoots its mean by at most `longest` (u is 2-Lipschitz on the circle); through another
    quantile, which climbs from 0 to 1 and back once around it, by at most twice that. Rounding k up adds one
    a segment.
    """
    bound = int(tokens * density.mean) + (1 if density.is_bound else 2) * longest + segments
    return min(-(-bound // 64) * 64, tokens)


def token_counts(segments: jax.Array, scored: jax.Array, per_row: int) -> jax.Array:
    """Scored tokens of each segment, int32 [B, per_row]; segments, scored [B, L]."""
    one_hot = segments[..., None] == jnp.arange(1, per_row + 1)
    return jnp.sum(one_hot & scored[..., None], axis=1, dtype=jnp.int32)


class Corrupted(NamedTuple):
    """A batch with k_i tokens of each segment masked, and the gather list of the masked positions."""

    tokens: jax.Array  # int [B, L], masked
    masked: jax.Array  # bool [B, L]
    weights: jax.Array  # float32 [B, L], n_i / k_i where masked, else 0


def corrupt(
    key: jax.Array, tokens: jax.Array, segments: jax.Array, scored: jax.Array, rate: jax.Array, mask_id: int,
    emphasis: jax.Array | None = None,
) -> Corrupted:  # fmt: skip
    """Masks exactly max(1, ceil(n_i * rate_i)) scored tokens of each segment; rate [B, per_row].

    With `emphasis`, weights [B, L], they are drawn without replacement in proportion to them, as the first of
    a race of exponential times E_i / weight_i (Efraimidis & Spirakis 2006); the loss is no bound then.
    """
    counts = token_counts(segments, scored, rate.shape[1])
    k = jnp.clip(jnp.ceil(counts * rate).astype(jnp.int32), 1, jnp.maximum(counts, 1))
    slot = jnp.clip(segments - 1, 0, rate.shape[1] - 1)
    # Rank a random number among the scored tokens of its own segment; the k lowest are masked.
    noise = jax.random.uniform(key, tokens.shape)
    if emphasis is not None:
        noise = -jnp.log1p(-noise) / emphasis
    group = jnp.where(scored, segments, jnp.iinfo(jnp.int32).max)
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    _, _, order = jax.lax.sort((group, noise, position), dimension=1, num_keys=2)
    rank = jnp.argsort(order, axis=1)
    first = jnp.cumsum(counts, axis=1) - counts
    k_here = jnp.take_along_axis(k, slot, axis=1)
    masked = scored & (rank - jnp.take_along_axis(first, slot, axis=1) < k_here)
    weights = jnp.where(masked, jnp.take_along_axis(counts, slot, axis=1) / k_here, 0.0)
    return Corrupted(jnp.where(masked, mask_id, tokens), masked, weights)


def subs(logits: jax.Array, forbidden: jax.Array) -> jax.Array:
    """SUBS: minus infinity for [MASK], and for [PAD] and the padded rows; forbidden bool [V]."""
    return jnp.where(forbidden, -jnp.inf, logits)


def cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Nats [M] of targets [M] under logits [M, V] (minus infinity allowed off the targets)."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nats = log_z - jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    if label_smoothing == 0.0:
        return nats
    finite = jnp.isfinite(logits)
    mean = jnp.sum(jnp.where(finite, logits, 0), axis=-1) / jnp.sum(finite, axis=-1)
    return (1 - label_smoothing) * nats + label_smoothing * (log_z - mean)


def masked_nats(
    denoise_fn: DenoiseFn, tokens: jax.Array, corrupted: Corrupted, size: int, label_smoothing: float = 0.0
) -> jax.Array:
    """Weighted cross-entropy [B, L] of the masked positions, 0 elsewhere; `size` positions meet the head."""
    flat = corrupted.masked.reshape(-1)
    (index,) = jnp.nonzero(flat, size=size, fill_value=0)
    valid = jnp.arange(size) < flat.sum()
    nats = cross_entropy(denoise_fn(corrupted.tokens, index), tokens.reshape(-1)[index], label_smoothing)
    nats = jnp.where(valid, nats * corrupted.weights.reshape(-1)[index], 0.0)
    return jnp.zeros(flat.shape).at[index].add(nats).reshape(tokens.shape)


def loss(
    denoise_fn: DenoiseFn, key: jax.Array, tokens: jax.Array, segments: jax.Array, scored: jax.Array,
    *, per_row: int, density: Density, mask_id: int, size: int, label_smoothing: float = 0.0,
    emphasis: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """The training loss, nats per scored token: sum(n_i * mean_i) / sum(n_i); and the share of tokens masked.

    Under a `density` that is not the full range, or an `emphasis`, this is never a bound.
    """
    rate_key, mask_key = jax.random.split(key)
    counts = token_counts(segments, scored, per_row)
    rate = density.quantile(stratified(rate_key, counts.reshape(-1))).reshape(counts.shape)
    corrupted = corrupt(mask_key, tokens, segments, scored, rate, mask_id, emphasis)
    nats = masked_nats(denoise_fn, tokens, corrupted, size, label_smoothing)
    total = jnp.maximum(scored.sum(), 1)
    return nats.sum() / total, corrupted.masked.sum() / total


def autoregressive_nats(
    denoise_fn: DenoiseFn, tokens: jax.Array, scored: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Exact next-token nats [B, L], 0 where not scored: position p is predicted from the output at p - 1."""
    rows, length = tokens.shape
    before = (jnp.arange(rows)[:, None] * length + jnp.arange(length - 1)[None, :]).reshape(-1)
    nats = cross_entropy(denoise_fn(tokens, before), tokens[:, 1:].reshape(-1), label_smoothing)
    return jnp.pad(jnp.where(scored[:, 1:], nats.reshape(rows, length - 1), 0.0), ((0, 0), (1, 0)))
