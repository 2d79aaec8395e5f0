"""How a token is drawn from logits, and how sure the network is of a position. Pure; no network, no canvas
state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FEW = 128  # likeliest tokens of which a CPU draws in a tenth of the time that 4,096 take


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
    2020): the fewest likeliest tokens whose probability reaches top_p. Tokens that tie at the edge all stay.
    """
    log_p = jax.nn.log_softmax(logits / law.temperature, axis=-1)
    # The bits of floats that are not negative are ordered as they are, so that halving finds the exact edge;
    # a sort of 4,096 rows takes a CPU fifteen times as long.
    bits = jax.lax.bitcast_convert_type(jnp.exp(log_p), jnp.int32)

    def edge(weights: jax.Array, reached: jax.Array, on: jax.Array) -> jax.Array:
        """The highest bits [M] at and above which the weights [M, V] still sum to what is to be reached."""

        def halve(_: int, sides: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = sides
            middle = (low + high) // 2
            enough = jnp.sum(jnp.where(bits >= middle[:, None], weights, 0), axis=-1) >= reached
            return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

        top = jnp.full(bits.shape[0], 0x3F800001)  # above the bits of 1.0
        return jax.lax.fori_loop(0, jnp.where(on, 31, 0), halve, (jnp.zeros_like(top), top))[0][:, None]

    k = jnp.asarray(law.top_k)
    likeliest = bits >= edge(jnp.ones_like(bits), k, (k > 0) & (k < bits.shape[-1]))
    p = jnp.where(likeliest, jnp.exp(log_p), 0.0)
    kept = likeliest & (bits >= edge(p, law.top_p * p.sum(-1), jnp.asarray(law.top_p) < 1))
    return jax.nn.log_softmax(jnp.where(kept, log_p, -jnp.inf), axis=-1)


def penalise(logits: jax.Array, seen: jax.Array, repetition: float | jax.Array) -> jax.Array:
    """Logits [M, V] of tokens that are `seen` (bool [M, V]) made smaller: divided by `repetition` where
    positive, multiplied where negative (Keskar et al. 2019, section 4.1; the second is needed for a penalty).
    """
    return jnp.where(seen, jnp.where(logits > 0, logits / repetition, logits * repetition), logits)


def draw(key: jax.Array, logits: jax.Array, law: Law, greedy: bool = False) -> tuple[jax.Array, jax.Array]:
    """Tokens [M] from logits [M, V] under the law (`truncate`; the likeliest if `greedy`), and their
    log-probabilities. Full-resolution Gumbels ("high"), and where the law holds at most FEW tokens in every
    row, for these alone.
    """

    def choose(log_p: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jnp.argmax(log_p, -1) if greedy else jax.random.categorical(key, log_p, axis=-1, mode="high")
        return place, jnp.take_along_axis(log_p, place[:, None], axis=-1)[:, 0]

    def narrow() -> tuple[jax.Array, jax.Array]:
        before = jnp.cumsum(kept, axis=-1) - kept
        inside = (kept > 0) & ((before < law.top_p) | (jnp.asarray(law.top_p) >= 1))
        place, log_prob = choose(jax.nn.log_softmax(jnp.where(inside, log_p, -jnp.inf), axis=-1))
        return jnp.take_along_axis(tokens, place[:, None], axis=-1)[:, 0].astype(jnp.int32), log_prob

    def wide() -> tuple[jax.Array, jax.Array]:
        place, log_prob = choose(truncate(logits, law))
        return place.astype(jnp.int32), log_prob

    few, k = min(FEW, logits.shape[-1]), jnp.asarray(law.top_k)
    scaled = logits / law.temperature
    values, tokens = jax.lax.top_k(scaled, few)
    log_p = values - jax.nn.logsumexp(scaled, axis=-1, keepdims=True)
    bounded = (k > 0) & (k <= few)
    kept = jnp.where(jnp.arange(few) < jnp.where(bounded, k, few), jnp.exp(log_p), 0.0)
    kept = kept / jnp.where(bounded, kept.sum(-1, keepdims=True), 1.0)
    if few == logits.shape[-1]:
        return narrow()
    return jax.lax.cond(bounded | jnp.all(kept.sum(-1) > law.top_p), narrow, wide)


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
