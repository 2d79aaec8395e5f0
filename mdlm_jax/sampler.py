"""Writing by unmasking: positions first, then tokens at those positions only.

Every sampler is one pure `sample_step`; `sample` loops it inside one jit, `sample_stream` yields a frame per
step from the same function. No network here: `denoise_fn(tokens [B, L], index [M]) -> logits [M, V]`,
forbidden rows at -inf.

ancestral: the reverse process of alpha_t = 1 - t. A position's unmasking time is uniform, so positions are
drawn before any token: with `steps` = 0 one at a time in a random order (first-hitting, Zheng et al. 2024:
exact, at most one call a token), else all whose time falls into a step's interval together (the law of that
many uniform steps). confidence: each step writes the masked positions where the noise-free top probability is
highest.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.diffusion import DenoiseFn
from mdlm_jax.frames import SampleFrame


class Law(NamedTuple):
    """How a token is drawn from logits; traced, so that changing one compiles nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class SampleState(NamedTuple):
    """The canvas between steps; B rows, L positions."""

    tokens: jax.Array  # int32 [B, L]
    masked: jax.Array  # bool [B, L]
    confidence: jax.Array  # float32 [B, L]
    log_prob: jax.Array  # float32 [B], nats of everything written so far
    when: jax.Array  # int32 [B, L], the step that unmasks a position (ancestral); the step count elsewhere
    initial: jax.Array  # int32 [B], masked positions at the start
    key: jax.Array


def truncate(logits: jax.Array, law: Law) -> jax.Array:
    """Log-probabilities [M, V] at the law's temperature, then top-k, then top-p (Holtzman et al. 2020)."""
    log_p = jax.nn.log_softmax(logits / law.temperature, axis=-1)
    descending = -jnp.sort(-log_p, axis=-1)
    rank_k = jnp.where(law.top_k > 0, jnp.minimum(law.top_k, logits.shape[-1]), logits.shape[-1])
    kept = jnp.where(jnp.arange(logits.shape[-1]) < rank_k, jnp.exp(descending), 0.0)
    kept = kept / kept.sum(-1, keepdims=True)
    # The smallest set with probability >= top_p: a token stays while what is before it has not reached it.
    before = jnp.cumsum(kept, axis=-1) - kept
    inside = ((before < law.top_p) | (law.top_p >= 1)) & (kept > 0)
    last = jnp.sum(inside, axis=-1, keepdims=True) - 1
    threshold = jnp.take_along_axis(descending, last, axis=-1)
    return jax.nn.log_softmax(jnp.where(log_p >= threshold, log_p, -jnp.inf), axis=-1)


def draw(key: jax.Array, log_p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tokens [M] drawn from log_p [M, V], with their log-probabilities; full-resolution Gumbels ("high")."""
    tokens = jax.random.categorical(key, log_p, axis=-1, mode="high").astype(jnp.int32)
    return tokens, jnp.take_along_axis(log_p, tokens[:, None], axis=-1)[:, 0]


def begin(key: jax.Array, tokens: jax.Array, masked: jax.Array, steps: int, mask_id: int) -> SampleState:
    """The first state; tokens int [B, L] (kept where not masked), `steps` = 0 draws a random order."""
    times_key, key = jax.random.split(key)
    times = jax.random.uniform(times_key, tokens.shape)
    if steps:
        when = jnp.floor(times * steps).astype(jnp.int32)
    else:
        when = jnp.argsort(jnp.argsort(jnp.where(masked, times, 2.0), axis=1), axis=1).astype(jnp.int32)
    return SampleState(
        jnp.where(masked, mask_id, tokens).astype(jnp.int32),
        masked,
        jnp.where(masked, 0.0, 1.0),
        jnp.zeros(tokens.shape[0]),
        when,
        masked.sum(1),
        key,
    )


def group_size(length: int, steps: int, sampler: str) -> int:
    """Static number of positions a step writes: exact for confidence, for ancestral rarely exceeded."""
    mean = length / (steps or length)
    if not steps or sampler == "confidence":
        return math.ceil(mean)
    return min(length, math.ceil(mean + 4 * math.sqrt(mean) + 2))


def sample_step(
    denoise: Callable, context: object, state: SampleState, i: jax.Array, law: Law,
    *, sampler: str, num_steps: jax.Array, group: int,
) -> SampleState:  # fmt: skip
    """Step i of num_steps; writes up to `group` positions a row (all that are due, whatever their number)."""
    rows, length = state.tokens.shape
    denoise_fn: DenoiseFn = functools.partial(denoise, context)
    key = jax.random.fold_in(state.key, i)
    base = jnp.arange(rows)[:, None] * length

    def write(places: jax.Array, due: jax.Array, logits: jax.Array) -> SampleState:
        new, log_prob = draw(key, truncate(logits, law))
        new, log_prob = new.reshape(places.shape), log_prob.reshape(places.shape)
        row = jnp.arange(rows)[:, None]
        target = jnp.where(due, places, length)  # out of bounds is dropped
        return state._replace(
            tokens=state.tokens.at[row, target].set(new, mode="drop"),
            masked=state.masked.at[row, target].set(False, mode="drop"),
            confidence=state.confidence.at[row, target].set(jnp.exp(log_prob), mode="drop"),
            log_prob=state.log_prob + jnp.sum(jnp.where(due, log_prob, 0.0), axis=1),
        )

    if sampler == "confidence":
        logits = denoise_fn(state.tokens, jnp.arange(rows * length))
        best = jax.nn.softmax(logits, axis=-1).max(-1).reshape(rows, length)
        _, places = jax.lax.top_k(jnp.where(state.masked, best, -1.0), group)
        left = state.masked.sum(1)
        goal = state.initial - (state.initial * (i + 1)) // num_steps
        due = jnp.arange(group) < (left - goal)[:, None]
        return write(places, due, logits[(base + places).reshape(-1)])

    flags = state.masked & (state.when == i)

    def gathered(size: int) -> SampleState:
        due, places = jax.lax.top_k(flags.astype(jnp.int32), size)
        return write(places, due > 0, denoise_fn(state.tokens, (base + places).reshape(-1)))

    if group == 1 or group == length:
        return gathered(group)
    return jax.lax.cond(flags.sum(1).max() <= group, lambda: gathered(group), lambda: gathered(length))


def _num_steps(state: SampleState, steps: int, sampler: str) -> jax.Array:
    most = jnp.max(state.initial)
    if not steps:
        return most
    return jnp.minimum(steps, most) if sampler == "confidence" else jnp.int32(steps)


@functools.partial(jax.jit, static_argnames=("denoise", "steps", "sampler", "mask_id"))
def sample(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, steps: int, sampler: str, mask_id: int,
) -> SampleState:  # fmt: skip
    """Runs a whole sampling; `denoise(context, tokens, index) -> logits`, context: weights and whatever else.

    tokens int [B, L], masked bool [B, L]. Returns the last state; what was given is as it was.
    """
    state = begin(key, tokens, masked, steps, mask_id)
    group, number = group_size(tokens.shape[1], steps, sampler), _num_steps(state, steps, sampler)

    def body(i: jax.Array, state: SampleState) -> SampleState:
        return sample_step(denoise, context, state, i, law, sampler=sampler, num_steps=number, group=group)

    return jax.lax.fori_loop(0, number, body, state)


_one_step = jax.jit(sample_step, static_argnames=("denoise", "sampler", "group"))


def sample_stream(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, steps: int, sampler: str, mask_id: int,
) -> Iterator[SampleFrame]:  # fmt: skip
    """As `sample`, a frame per step of row 0; the last frame holds the same tokens."""
    state = begin(key, tokens, masked, steps, mask_id)
    group, number = group_size(tokens.shape[1], steps, sampler), int(_num_steps(state, steps, sampler))
    step = functools.partial(_one_step, sampler=sampler, num_steps=jnp.int32(number), group=group)
    for i in range(number):
        before, state = state, step(denoise, context, state, jnp.int32(i), law)
        yield SampleFrame(
            step=i + 1,
            num_steps=number,
            block=0,
            tokens=np.asarray(state.tokens[0]),
            is_masked=np.asarray(state.masked[0]),
            changed=np.asarray(before.masked[0] & ~state.masked[0]),
            confidence=np.asarray(state.confidence[0]),
            log_prob=float(state.log_prob[0] - before.log_prob[0]),
        )
