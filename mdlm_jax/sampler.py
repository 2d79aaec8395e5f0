"""Writing by unmasking: positions first, then tokens at those positions only.

Every sampler is one pure `sample_step`; `sample` loops it inside one jit, `sample_stream` yields a frame per
step from the same function. No network here: `denoise(context, memory, tokens [B, L], index [M])` returns
logits [M, V], forbidden rows at -inf, and the memory of the next call (a key/value cache, or anything else).
How tokens are drawn is in `laws`.

ancestral: the reverse process of alpha_t = 1 - t. A position's unmasking time is uniform, so positions are
drawn before any token: with `steps` = 0 one at a time in a random order (first-hitting, Zheng et al. 2024:
exact), else all whose time falls into the same of `steps` intervals together (the law of that many uniform
steps). A step goes to each row's next event, so a row has at most one call a token, and rows share calls.
dilated: as many a step, as far from each other as they can be, which is when drawing them together costs
least (Luxembourg et al. 2025); interleaved: each step writes every steps-th place, from left to right.
left_to_right: one at a time in reading order, which is all that an autoregressive model can do.

The others write the masked positions of highest certainty, as many a step as the schedule says, and all whose
certainty is above a threshold (Wu et al. 2025), at least one. confidence, margin and entropy differ in what
certainty is; greedy is confidence with the likeliest token; importance writes easy words first.

remask > 0: that share of the tokens, those that were least probable when written, return to [MASK] in
between and are written again (the confidence rule of ReMDM, Wang et al. 2025, the lowest taken instead of
drawn); what was given never does.
"""

import functools
import math
import time
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.frames import SampleFrame
from mdlm_jax.laws import Law, certainty, draw, penalise, written_by
from mdlm_jax.ui.request import IN_ORDER

BURST = 16  # steps of a stream that one dispatch may hold
# Seconds that a step of a network took last; moves no token.
PACE: MutableMapping[Callable, float] = weakref.WeakKeyDictionary()


class Plan(NamedTuple):
    """What a sampling compiles by."""

    sampler: str = "ancestral"
    steps: int = 0
    schedule: str = "linear"
    remask: float = 0.0
    seats: int = 0  # at most so many positions of a row are masked at the start; 0: any number
    shown: int = 0  # likeliest tokens that are kept of a position when it is written, for views


class SampleState(NamedTuple):
    """The canvas between steps; B rows, L positions, K likeliest tokens."""

    tokens: jax.Array  # int32 [B, L]
    masked: jax.Array  # bool [B, L]
    free: jax.Array  # bool [B, L], masked at the start; the rest never changes
    changed: jax.Array  # bool [B, L], written or masked again in the last step
    confidence: jax.Array  # float32 [B, L], probability with which a token was written; 0 masked, 1 given
    log_prob: jax.Array  # float32 [B], nats of everything written that stands
    likeliest: jax.Array  # int32 [B, L, K], and how likely the network thought them
    chances: jax.Array  # float32 [B, L, K]
    when: jax.Array  # int32 [B, L], the interval that unmasks a position (samplers IN_ORDER)
    calls: jax.Array  # int32, of the network
    key: jax.Array
    memory: Any


def begin(
    key: jax.Array, tokens: jax.Array, masked: jax.Array, plan: Plan, mask_id: int, memory: Any = ()
) -> SampleState:
    """The first state; tokens int [B, L] (kept where not masked)."""
    times_key, key = jax.random.split(key)
    times, nth = jax.random.uniform(times_key, tokens.shape), jnp.cumsum(masked, axis=1) - 1
    if plan.sampler == "dilated":  # van der Corput's sequence from a random place on
        bits = (tokens.shape[1] - 1).bit_length()
        mirrored = sum((nth >> i & 1) << (bits - 1 - i) for i in range(bits))
        times = (mirrored / 2**bits + times[:, :1]) % 1
    if plan.sampler in ("interleaved", "left_to_right"):
        when = nth % (plan.steps or tokens.shape[1])
    elif plan.steps:
        when = jnp.floor(times * plan.steps)
    else:
        when = jnp.argsort(jnp.argsort(jnp.where(masked, times, 2.0), axis=1), axis=1)
    shown, canvas = (*tokens.shape, plan.shown), jnp.where(masked, mask_id, tokens).astype(jnp.int32)
    sure = jnp.where(masked, 0.0, 1.0), jnp.zeros(len(tokens)), jnp.zeros(shown, jnp.int32), jnp.zeros(shown)
    changed = jnp.zeros_like(masked)
    return SampleState(
        canvas, masked, masked, changed, *sure, when.astype(jnp.int32), jnp.int32(0), key, memory
    )


def group_size(seats: int, plan: Plan) -> int:
    """Static number of positions that a step usually writes; a step that has more is dearer, not wrong."""
    writes = seats + math.floor(seats * plan.remask)
    if not plan.steps or (plan.steps >= writes and plan.sampler not in ("ancestral", "dilated")):
        return 1
    mean = writes / plan.steps
    if plan.sampler == "ancestral":
        mean += 4 * math.sqrt(mean) + 2
    elif plan.sampler == "dilated":
        mean += 1
    return min(seats, math.ceil(mean if plan.schedule == "linear" else mean * math.pi / 2))


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
    denoise: Callable, context: object, state: SampleState, i: jax.Array, law: Law,
    *, plan: Plan, num_steps: jax.Array, mask_id: int,
) -> SampleState:  # fmt: skip
    """Step i of num_steps: `remask`s what is due, then writes all that is due, whatever its number."""
    rows, length = state.tokens.shape
    row = jnp.arange(rows)[:, None]
    seats = jnp.broadcast_to(jnp.arange(length), (rows, length))
    if plan.seats and plan.seats < length:
        _, seats = jax.lax.top_k(state.free.astype(jnp.int32), plan.seats)  # ties: the lowest position first
    size = seats.shape[1]
    state, group = state._replace(changed=jnp.zeros_like(state.masked)), group_size(size, plan)

    def ask(places: jax.Array) -> tuple[jax.Array, Any]:
        return denoise(context, state.memory, state.tokens, (row * length + places).reshape(-1))

    if plan.sampler in IN_ORDER:
        event = jnp.min(jnp.where(state.masked, state.when, jnp.iinfo(jnp.int32).max), axis=1)
        score = (state.masked & (state.when == event[:, None])).astype(jnp.int32)[row, seats]
        count = score.sum(1)
        # The earliest next interval of all rows rises with every step, so that no key comes twice.
        key = jax.random.fold_in(state.key, event.min())
    else:
        key, initial = jax.random.fold_in(state.key, i), state.free.sum(1)
        budget = jnp.floor(initial * plan.remask).astype(jnp.int32)
        back = budget * i // jnp.maximum(num_steps - 1, 1)  # by now; all of it before the last step
        if plan.remask:
            earlier = budget * jnp.maximum(i - 1, 0) // jnp.maximum(num_steps - 1, 1)
            state = remask(state, back - earlier, mask_id)
        ranked, memory = ask(seats)
        sure = certainty(plan.sampler, ranked, law.importance).reshape(rows, size)
        score = jnp.where(state.masked[row, seats], sure, -1.0)
        goal = initial + back - written_by(plan.schedule, initial + budget, i + 1, num_steps)
        left, above = state.masked.sum(1), jnp.sum(score > law.threshold, axis=1)
        least = jnp.maximum(left - jnp.maximum(goal, 0), 1)
        count = jnp.minimum(jnp.maximum(least, above), left)
    _, order = jax.lax.top_k(score, size)

    def write(number: int) -> SampleState:
        places = seats[row, order[:, :number]]
        if plan.sampler in IN_ORDER:
            logits, later = ask(places)
        else:
            logits, later = ranked[(row * size + order[:, :number]).reshape(-1)], memory
        chances, likeliest = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), plan.shown)
        vocab = logits.shape[-1]

        def penalised() -> jax.Array:
            seen = jnp.zeros((rows, vocab), bool).at[row, state.tokens].max(~state.masked)
            return penalise(logits, jnp.repeat(seen, number, axis=0), law.repetition)

        logits = jax.lax.cond(jnp.asarray(law.repetition) == 1, lambda: logits, penalised)
        new, log_prob = draw(key, logits, law, plan.sampler == "greedy")
        new, log_prob = new.reshape(places.shape), log_prob.reshape(places.shape)
        due = jnp.arange(number) < count[:, None]
        target = jnp.where(due, places, length)  # out of bounds is dropped
        shown = (*places.shape, plan.shown)
        return state._replace(
            tokens=state.tokens.at[row, target].set(new, mode="drop"),
            masked=state.masked.at[row, target].set(False, mode="drop"),
            changed=state.changed.at[row, target].set(True, mode="drop"),
            confidence=state.confidence.at[row, target].set(jnp.exp(log_prob), mode="drop"),
            log_prob=state.log_prob + jnp.sum(jnp.where(due, log_prob, 0.0), axis=1),
            likeliest=state.likeliest.at[row, target].set(likeliest.reshape(shown), mode="drop"),
            chances=state.chances.at[row, target].set(chances.reshape(shown), mode="drop"),
            calls=state.calls + 1,
            memory=later,
        )

    if group == size or (plan.sampler in IN_ORDER and group == 1):
        return write(group)
    return jax.lax.cond(count.max() <= group, lambda: write(group), lambda: write(size))


def most_steps(state: SampleState, plan: Plan) -> jax.Array:
    """Steps, each one network call, after which every row of the first `state` is written; a threshold or the
    schedule can make it fewer.
    """
    if plan.sampler in IN_ORDER:
        times = jnp.sort(jnp.where(state.masked, state.when, -1), axis=1)
        return jnp.max(jnp.sum(jnp.diff(times, axis=1, prepend=-1) > 0, axis=1))
    initial = state.free.sum(1)
    most = jnp.max(initial + jnp.floor(initial * plan.remask).astype(jnp.int32))
    return jnp.minimum(plan.steps, most) if plan.steps else most


def _unfinished(state: SampleState, i: jax.Array, number: jax.Array, plan: Plan) -> jax.Array:
    return (i < number) & (state.masked.any() | (plan.remask > 0))


@functools.partial(jax.jit, static_argnames=("denoise", "plan", "mask_id"))
def sample(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, plan: Plan, mask_id: int, memory: Any = (),
) -> SampleState:  # fmt: skip
    """Runs a whole sampling; `context`: the weights and whatever else `denoise` reads.

    tokens int [B, L], masked bool [B, L]. Returns the last state; what was given is as it was.
    """
    first = begin(key, tokens, masked, plan, mask_id, memory)
    number = most_steps(first, plan)

    def body(carry: tuple[jax.Array, SampleState]) -> tuple[jax.Array, SampleState]:
        i, state = carry
        step = sample_step(denoise, context, state, i, law, plan=plan, num_steps=number, mask_id=mask_id)
        return i + 1, step

    return jax.lax.while_loop(lambda c: _unfinished(c[1], c[0], number, plan), body, (jnp.int32(0), first))[1]


@functools.partial(jax.jit, static_argnames=("plan", "mask_id"))
def _first(
    key: jax.Array, tokens: jax.Array, masked: jax.Array, memory: Any, *, plan: Plan, mask_id: int
) -> tuple[SampleState, jax.Array]:
    state = begin(key, tokens, masked, plan, mask_id, memory)
    return state, most_steps(state, plan)


@functools.partial(jax.jit, static_argnames=("denoise", "plan", "mask_id"))
def _burst(
    denoise: Callable, context: object, state: SampleState, i: jax.Array, most: jax.Array, law: Law,
    *, plan: Plan, num_steps: jax.Array, mask_id: int,
) -> tuple[jax.Array, SampleState, SampleState]:  # fmt: skip
    """At most `most` steps from i: their number, the last state, and row 0 of each step's [BURST, ...]."""

    def view(state: SampleState) -> SampleState:
        unseen: Any = {"free": (), "when": (), "calls": (), "key": (), "memory": ()}
        return jax.tree.map(lambda x: x[0], state._replace(**unseen))

    def body(carry: tuple) -> tuple:
        n, state, seen = carry
        step = sample_step(
            denoise, context, state, i + n, law, plan=plan, num_steps=num_steps, mask_id=mask_id
        )
        return n + 1, step, jax.tree.map(lambda all, x: all.at[n].set(x), seen, view(step))

    seen = jax.tree.map(lambda x: jnp.zeros((BURST, *x.shape), x.dtype), view(state))
    go_on = lambda c: (c[0] < most) & _unfinished(c[1], i + c[0], num_steps, plan)  # noqa: E731
    return jax.lax.while_loop(go_on, body, (jnp.int32(0), state, seen))


def sample_stream(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    *, plan: Plan, mask_id: int, memory: Any = (),
) -> Iterator[SampleFrame]:  # fmt: skip
    """As `sample`, a frame per step of row 0; the last frame holds the same tokens.

    A dispatch holds as many steps as 20 ms allow by what earlier ones took, the very first a single one.
    """
    state, num_steps = _first(key, tokens, masked, memory, plan=plan, mask_id=mask_id)
    step = functools.partial(_burst, denoise, context, plan=plan, num_steps=num_steps, mask_id=mask_id)
    i, before, number = 0, 0.0, int(num_steps)
    while i < number:
        begun, limit = time.perf_counter(), max(1, min(BURST, int(0.02 / PACE.get(denoise, 1.0))))
        n, state, seen = step(state, jnp.int32(i), jnp.int32(limit), law)
        n, done = int(n), jax.tree.map(np.asarray, seen)
        if n:
            PACE[denoise] = (time.perf_counter() - begun) / n
        for j in range(n):
            frame = jax.tree.map(lambda x, j=j: x[j], done)
            written = frame.changed & ~frame.masked
            shown = zip(frame.likeliest[written].tolist(), frame.chances[written].tolist(), strict=True)
            top = [list(zip(*pair, strict=True)) for pair in shown] if plan.shown else []
            canvas = frame.tokens, frame.masked, frame.changed, frame.confidence
            yield SampleFrame(i + j + 1, number, 0, *canvas, float(frame.log_prob) - before, top)
            before = float(frame.log_prob)
        if n < limit:
            return
        i += n
