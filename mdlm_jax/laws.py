"""How a token is drawn from logits, and how sure the network is of a position. Pure; no network, no canvas
state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Law(NamedTuple):
    """What a sampling may change without compiling again; all traced."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition: float = 1.0  # 1 is off
    threshold: float = 1.0  # positions whose certainty is above are written at once; 1 is off
    importance: jax.Array | float = 0.0  # float32 [V] in [0, 1], of token ids


def truncate(logits: jax.Array, law: Law) -> jax.Array:
    """Log-probabilities [M, V] at the law's temperature, then top-k, then top-p (nucleus, Holtzman et al.
    2020).
    """
    log_p = jax.nn.log_softmax(logits / law.temperature, axis=-1)
    descending = -jnp.sort(-log_p, axis=-1)
    rank_k = jnp.where(law.top_k > 0, jnp.minimum(law.top_k, logits.shape[-1]), logits.shape[-1])
    kept = jnp.where(jnp.arange(logits.shape[-1]) < rank_k, jnp.exp(descending), 0.0)
    kept = kept / kept.sum(-1, keepdims=True)
    # The smallest set with probability >= top_p: a token stays if what is before it has not reached top_p
    # yet.
    before = jnp.cumsum(kept, axis=-1) - kept
    inside = ((before < law.top_p) | (law.top_p >= 1)) & (kept > 0)
    last = jnp.sum(inside, axis=-1, keepdims=True) - 1
    threshold = jnp.take_along_axis(descending, last, axis=-1)
    return jax.nn.log_softmax(jnp.where(log_p >= threshold, log_p, -jnp.inf), axis=-1)


def penalise(logits: jax.Array, seen: jax.Array, repetition: float | jax.Array) -> jax.Array:
    """Logits [M, V] of tokens that are `seen` (bool [M, V]) made smaller: divided by `repetition` where
    positive, multiplied where negative (Keskar et al. 2019, section 4.1; the second is needed for a penalty).
    """
    return jnp.where(seen, jnp.where(logits > 0, logits / repetition, logits * repetition), logits)


def repeats(canvas: jax.Array, places: jax.Array, n: int, vocab: int) -> jax.Array:
    """bool [B, P, vocab]: the tokens that at `places` [B, P] would make an n-gram the row already holds.

    canvas int [B, L], -1 where nothing is written. Places that are written together do not see each other,
    and a run that overlaps its own repetition is let through.
    """
    length, row = canvas.shape[1], jnp.arange(canvas.shape[0])[:, None]
    padded = jnp.pad(canvas, ((0, 0), (n - 1, n - 1)), constant_values=-1)
    found = jnp.zeros((*places.shape, vocab), bool)
    for k in range(n):  # the place is the k-th of the n-gram
        same = jnp.broadcast_to(canvas[:, None, :] >= 0, (*places.shape, length))
        for shift in (j - k + n - 1 for j in range(n) if j != k):
            here, there = padded[row, places + shift], padded[:, shift : shift + length]
            same &= (here[:, :, None] == there[:, None, :]) & (here >= 0)[:, :, None]
        columns = jnp.broadcast_to(jnp.maximum(canvas, 0)[:, None, :], same.shape)
        found = found.at[row[:, :, None], jnp.arange(places.shape[1])[None, :, None], columns].max(same)
    return found


def draw(key: jax.Array, log_p: jax.Array, greedy: bool = False) -> tuple[jax.Array, jax.Array]:
    """Tokens [M] drawn from log_p [M, V] (or the likeliest), with their log-probabilities; full-resolution
    Gumbels ("high").
    """
    tokens = jnp.argmax(log_p, -1) if greedy else jax.random.categorical(key, log_p, axis=-1, mode="high")
    tokens = tokens.astype(jnp.int32)
    return tokens, jnp.take_along_axis(log_p, tokens[:, None], axis=-1)[:, 0]


def certainty(rule: str, logits: jax.Array, importance: jax.Array | float) -> jax.Array:
    """How sure the network is of each of M positions, in [0, 1] and without noise; logits [M, V].

    confidence, greedy: the top probability. margin: less the second (Kim et al. 2025). entropy: exp(-H), the
    reciprocal of the perplexity. importance: the greatest p(v) * (1 - importance(v)), easy words first.
    """
    p = jax.nn.softmax(logits, axis=-1)
    if rule == "entropy":
        return jnp.exp(jnp.minimum(jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1), 0.0))
    if rule == "margin":
        others = jnp.where(jnp.arange(p.shape[-1]) == jnp.argmax(p, -1)[:, None], 0.0, p)
        return p.max(-1) - others.max(-1)
    return (p * (1 - importance) if rule == "importance" else p).max(-1)


def written_by(schedule: str, total: jax.Array, done: jax.Array, steps: jax.Array) -> jax.Array:
    """int32: how many of `total` tokens are written when `done` of `steps` steps are: in proportion, or few
    at first (cosine: Chang et al. 2022, eq. 3).
    """
    if schedule == "linear":
        return (total * done) // steps
    left = jnp.floor(total * jnp.cos(0.5 * jnp.pi * done / steps)).astype(jnp.int32)
    return total - jnp.maximum(left, 0)
