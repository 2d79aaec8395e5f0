"""Writing by unmasking: positions first, then tokens at those positions only.

Every sampler is one pure `sample_step`; `sample` loops it inside one jit, `sample_stream` yields a frame per
step from the same function. No network here: `denoise_fn(tokens [B, L], index [M]) -> logits [M, V]`,
forbidden rows at -inf. How tokens are drawn is in `laws`.

ancestral: the reverse process of alpha_t = 1 - t. A position's unmasking time is uniform, so positions are
drawn before any token: with `steps` = 0 one at a time in a random order (first-hitting, Zheng et al. 2024:
exact), else all whose time falls into the same of `steps` intervals together (the law of that many uniform
steps). A step goes to each row's next event, so a row has at most one call a token, and rows share calls.

The others write the masked positions of highest certainty, as many a step as the schedule says, and all whose
certainty is above a threshold (Wu et al. 2025), at least one. confidence, margin and entropy differ in what
certainty is; greedy is confidence with the likeliest token; importance writes easy words first.

remask > 0: that share of the tokens, those that were least probable when written, return to [MASK] in
between and are written again (the confidence rule of ReMDM, Wang et al. 2025, the lowest taken instead of
drawn); what was given never does.
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
from mdlm_jax.laws import Law, certainty, draw, penalise, repeats, truncate, written_by


class Plan(NamedTuple):
    """What a sampling compiles by."""

    sampler: str = "ancestral"
    steps: int = 0
    schedule: str = "linear"
    remask: float = 0.0
    no_repeat: int = 0  # length of the n-grams that may not occur twice; 0 is off


class SampleState(NamedTuple):
    """The canvas between steps; B rows, L positions."""

    tokens: jax.Array  # int32 [B, L]
    masked: jax.Array  # bool [B, L]
    free: jax.Array  # bool [B, L], masked at the start; the rest never changes
    changed: jax.Array  # bool [B, L], written or masked again in the last step
    confidence: jax.Array  # float32 [B, L], probability with which a token was written; 0 masked, 1 given
    log_prob: jax.Array  # float32 [B], nats of everything written that stands
    when: jax.Array  # int32 [B, L], the interval that unmasks a position (ancestral)
    key: jax.Array


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
        masked,
        jnp.zeros_like(masked),
        jnp.where(masked, 0.0, 1.0),
        jnp.zeros(tokens.shape[0]),
        when,
        key,
    )


def group_size(length: int, plan: Plan) -> int:
    """Static number of positions that a step usually writes; a step that has more is dearer, not wrong."""
    writes = length + math.floor(length * plan.remask)
    if not plan.steps or (plan.steps >= writes and plan.sampler != "ancestral"):
        return 1
    mean = writes / plan.steps
    if plan.sampler == "ancestral":
        return min(length, math.ceil(mean + 4 * math.sqrt(mean) + 2))
    return min(length, math.ceil(mean if plan.schedule == "linear" else mean * math.pi / 2))


def remask(state: SampleState, number: jax.Array, mask_id: int) -> SampleState:
    """Returns to [MASK] the `number` [B] written tokens of each row that were least probable when written."""
    written = state.free & ~state.masked
    rank = jnp.argsort(jnp.argsort(jnp.where(written, state.confidence, 2.0), axis=1), axis=1)
    back = written & (rank < number[:, None])
    nats = jnp.log(jnp.maximum(state.confidence, jnp.finfo(jnp.float32).tiny))
    return state._replace(
        tokens=jnp.where(back, mask_id, state.tokens),
        masked=state.masked | back,
        changed=back,
        confidence=jnp.where(back, 0.0, state.confidence),
        log_prob=state.log_prob - jnp.sum(jnp.where(back, nats, 0.0), axis=1),
    )


def sample_step(
    denoise_fn: DenoiseFn,
    state: SampleState,
    i: jax.Array,
    law: Law,
    *,
    plan: Plan,
    num_steps: jax.Array,
    mask_id: int,
) -> SampleState:
    """Step i of num_steps: `remask`s what is due, then writes all that is due, whatever its number."""
    rows, length = state.tokens.shape
    row = jnp.arange(rows)[:, None]
    state, group = state._replace(changed=jnp.zeros_like(state.masked)), group_size(length, plan)
    if plan.sampler == "ancestral":
        event = jnp.min(jnp.where(state.masked, state.when, jnp.iinfo(jnp.int32).max), axis=1)
        score = (state.masked & (state.when == event[:, None])).astype(jnp.int32)
        count = score.sum(1)
        # The earliest next interval of all rows rises with every step, so that no key comes twice.
        key = jax.random.fold_in(state.key, event.min())
        logits_at: Callable[[jax.Array], jax.Array] = functools.partial(denoise_fn, state.tokens)
    else:
        key, initial = jax.random.fold_in(state.key, i), state.free.sum(1)
        budget = jnp.floor(initial * plan.remask).astype(jnp.int32)
        back = budget * i // jnp.maximum(num_steps - 1, 1)  # by now; all of it before the last step
        if plan.remask:
            earlier = budget * jnp.maximum(i - 1, 0) // jnp.maximum(num_steps - 1, 1)
            state = remask(state, back - earlier, mask_id)
        logits = denoise_fn(state.tokens, jnp.arange(rows * length))
        sure = certainty(plan.sampler, logits, law.importance).reshape(rows, length)
        score = jnp.where(state.masked, sure, -1.0)
        goal = initial + back - written_by(plan.schedule, initial + budget, i + 1, num_steps)
        left, above = state.masked.sum(1), jnp.sum(score > law.threshold, axis=1)
        least = jnp.maximum(left - jnp.maximum(goal, 0), 1)
        count, logits_at = jnp.minimum(jnp.maximum(least, above), left), logits.__getitem__
    _, order = jax.lax.top_k(score, length)

    def write(size: int) -> SampleState:
        places = order[:, :size]
        logits = logits_at((row * length + places).reshape(-1))
        vocab = logits.shape[-1]
        seen = jnp.zeros((rows, vocab), bool).at[row, state.tokens].max(~state.masked)
        logits = penalise(logits, jnp.repeat(seen, size, axis=0), law.repetition)
        if plan.no_repeat:
            canvas = jnp.where(state.masked, -1, state.tokens)
            again = repeats(canvas, places, plan.no_repeat, vocab).reshape(-1, vocab)
            barred = jnp.where(again, -jnp.inf, logits)
            logits = jnp.where(jnp.any(barred > -jnp.inf, axis=-1, keepdims=True), barred, logits)
        new, log_prob = draw(key, truncate(logits, law), plan.sampler == "greedy")
        new, log_prob = new.reshape(places.shape), log_prob.reshape(places.shape)
        due = jnp.arange(size) < count[:, None]
        target = jnp.where(due, places, length)  # out of bounds is dropped
        return state._replace(
            tokens=state.tokens.at[row, target].set(new, mode="drop"),
            masked=state.masked.at[row, target].set(False, mode="drop"),
            changed=state.changed.at[row, target].set(True, mode="drop"),
            confidence=state.confidence.at[row, target].set(jnp.exp(log_prob), mode="drop"),
            log_prob=state.log_prob + jnp.sum(jnp.where(due, log_prob, 0.0), axis=1),
        )

    if group == length or (plan.sampler == "ancestral" and not plan.steps):
        return write(group)
    return jax.lax.cond(count.max() <= group, lambda: write(group), lambda: write(length))


def most_steps(state: SampleState, plan: Plan) -> jax.Array:
    """Steps, each one network call, after which every row of the first `state` is written; a threshold or the
    schedule can make it fewer.
    """
    if plan.sampler == "ancestral":
        times = jnp.sort(jnp.where(state.masked, state.when, -1), axis=1)
        return jnp.max(jnp.sum(jnp.diff(times, axis=1, prepend=-1) > 0, axis=1))
    initial = state.free.sum(1)
    most = jnp.max(initial + jnp.floor(initial * plan.remask).astype(jnp.int32))
    return jnp.minimum(plan.steps, most) if plan.steps else most


@functools.partial(jax.jit, static_argnames=("denoise", "plan", "mask_id"))
def sample(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, plan: Plan, mask_id: int,
) -> SampleState:  # fmt: skip
    """Runs a whole sampling; `denoise(context, tokens, index) -> logits`, context: weights and whatever else.

    tokens int [B, L], masked bool [B, L]. Returns the last state; what was given is as it was.
    """
    first = begin(key, tokens, masked, plan.steps, mask_id)
    number, denoise_fn = most_steps(first, plan), functools.partial(denoise, context)

    def unfinished(carry: tuple[jax.Array, SampleState]) -> jax.Array:
        return (carry[0] < number) & (carry[1].masked.any() | (plan.remask > 0))

    def body(carry: tuple[jax.Array, SampleState]) -> tuple[jax.Array, SampleState]:
        i, state = carry
        return i + 1, sample_step(denoise_fn, state, i, law, plan=plan, num_steps=number, mask_id=mask_id)

    return jax.lax.while_loop(unfinished, body, (jnp.int32(0), first))[1]


@functools.partial(jax.jit, static_argnames=("denoise", "plan", "mask_id"))
def _one_step(
    denoise: Callable, context: object, state: SampleState, i: jax.Array, law: Law, num_steps: jax.Array,
    *, plan: Plan, mask_id: int,
) -> SampleState:  # fmt: skip
    denoise_fn = functools.partial(denoise, context)
    return sample_step(denoise_fn, state, i, law, plan=plan, num_steps=num_steps, mask_id=mask_id)


def sample_stream(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, plan: Plan, mask_id: int,
) -> Iterator[SampleFrame]:  # fmt: skip
    """As `sample`, a frame per step of row 0; the last frame holds the same tokens."""
    state = begin(key, tokens, masked, plan.steps, mask_id)
    number = int(most_steps(state, plan))
    for i in range(number):
        before = state.log_prob[0]
        state = _one_step(
            denoise, context, state, jnp.int32(i), law, jnp.int32(number), plan=plan, mask_id=mask_id
        )
        is_masked = np.asarray(state.masked)
        yield SampleFrame(
            step=i + 1,
            num_steps=number,
            block=0,
            tokens=np.asarray(state.tokens[0]),
            is_masked=is_masked[0],
            changed=np.asarray(state.changed[0]),
            confidence=np.asarray(state.confidence[0]),
            log_prob=float(state.log_prob[0] - before),
        )
        if not (plan.remask or is_masked.any()):
            return
