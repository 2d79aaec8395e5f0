"""The samplers: what they may never do, their budgets, one step function for both loops."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import FORBIDDEN, LETTERS, MASK, PROMPT, TABLE, V, denoise, probabilities, quick_jit

from mdlm_jax import sampler
from mdlm_jax.diffusion import subs
from mdlm_jax.laws import Law
from mdlm_jax.sampler import Plan, sample, sample_stream
from mdlm_jax.ui.request import IN_ORDER, RANKED

NEUTRAL = Law()


def rarely(*plans: Plan) -> list:
    """Each compiles programs of its own, seconds of them: in the soak."""
    return [pytest.param(plan, marks=pytest.mark.soak) for plan in plans]


PLANS = [Plan("interleaved", 2), Plan("confidence", 2, "cosine", 0.7)]
PLANS += rarely(
    Plan(),
    Plan("dilated", 2),
    Plan("importance", 9),
    Plan("margin", 2, "cosine"),
    Plan("entropy", 0, "linear", 1.0),
)


@pytest.mark.parametrize("plan", PLANS)
def test_the_stream_is_the_same_sampler_and_keeps_its_promises(plan: Plan):
    whole = quick_jit(functools.partial(sample, denoise, plan=plan, mask_id=MASK))
    for law in (Law(0.9, 0, 0.95), Law(0.9, 3, 0.95, 1.4, 1.0 if plan.sampler == "ancestral" else 0.5)):
        compare(whole, plan, law)


def compare(whole: Callable, plan: Plan, law: Law) -> None:
    """`whole` is `sample` of this plan."""
    tokens = np.array([PROMPT, [1, 0, 3, MASK]])
    masked = tokens == MASK
    arguments = jnp.float32(TABLE), jax.random.key(4), tokens, masked, law
    state, frames = whole(*arguments), list(sample_stream(denoise, *arguments, plan=plan, mask_id=MASK))
    most = 3 + math.floor(3 * plan.remask)
    assert [f.step for f in frames] == list(range(1, len(frames) + 1))
    assert len({f.num_steps for f in frames}) == 1
    assert len(frames) <= frames[0].num_steps <= (min(plan.steps, most) if plan.steps else most)
    if plan.steps != 9 and plan.schedule == "linear" and law.threshold == 1:
        assert len(frames) == frames[0].num_steps
    np.testing.assert_array_equal(frames[-1].tokens, state.tokens[0])
    np.testing.assert_allclose(frames[-1].confidence, state.confidence[0], atol=1e-5)
    np.testing.assert_allclose(sum(f.log_prob for f in frames), state.log_prob[0], rtol=1e-5, atol=1e-6)
    assert not state.masked.any() and not FORBIDDEN[np.asarray(state.tokens)].any()
    np.testing.assert_array_equal(np.asarray(state.tokens)[~masked], tokens[~masked])
    canvas, hidden, sure = tokens[0], masked[0], np.where(masked[0], 0.0, 1.0)
    for frame in frames:
        assert not frame.changed[~masked[0]].any()  # what is given
        still = ~frame.changed
        np.testing.assert_array_equal(frame.tokens[still], canvas[still])
        np.testing.assert_array_equal(frame.is_masked[still], hidden[still])
        np.testing.assert_array_equal(frame.confidence[still], np.float32(sure)[still])
        back = frame.changed & frame.is_masked
        assert (~hidden[back]).all() and (plan.remask or not back.any())
        assert (frame.tokens[frame.is_masked] == MASK).all()
        assert (frame.confidence[frame.is_masked] == 0).all()
        new = frame.changed & ~frame.is_masked
        if not plan.remask:
            written = [probabilities(canvas, p, law)[frame.tokens[p]] for p in np.flatnonzero(new)]
            np.testing.assert_allclose(frame.confidence[new], written, rtol=1e-4)
            np.testing.assert_allclose(frame.log_prob, np.log(written).sum(), rtol=1e-4, atol=1e-6)
        canvas, hidden, sure = frame.tokens, frame.is_masked, frame.confidence
    nats = np.log(np.asarray(state.confidence)).sum(1)
    np.testing.assert_allclose(state.log_prob, nats, rtol=1e-4, atol=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize("name", IN_ORDER + RANKED)
def test_the_last_frame_of_every_sampler_is_its_text(name: str):
    tokens, plan = np.array([PROMPT]), Plan(name, 0 if name == "left_to_right" else 2)
    arguments = jnp.float32(TABLE), jax.random.key(7), tokens, tokens == MASK, Law(0.9, 0, 0.95)
    frames = list(sample_stream(denoise, *arguments, plan=plan, mask_id=MASK))
    state = sample(denoise, *arguments, plan=plan, mask_id=MASK)
    np.testing.assert_array_equal(frames[-1].tokens, state.tokens[0])
    np.testing.assert_allclose(frames[-1].confidence, state.confidence[0], atol=1e-5)


def network(seed: int, length: int) -> jax.Array:
    """Logits [V] by position and number of masks left: cheap, and of any length."""
    return jnp.float32(np.random.default_rng(seed).normal(size=(length + 1, length, V)) * 2)


def by_number(table: jax.Array, memory: tuple, tokens: jax.Array, index: jax.Array) -> tuple:
    logits = table[jnp.sum(tokens == MASK, axis=1)]
    return subs(logits.reshape(-1, V)[index], FORBIDDEN), memory


BUDGETS = [Plan(steps=5), Plan("margin", 5, "cosine"), Plan("entropy", 0, "linear", 0.3)]
BUDGETS += rarely(
    Plan(),
    Plan("greedy", 5),
    Plan("confidence", 11, "cosine", 2.0),
    Plan("importance", 1, "linear", 0.3),
    Plan("margin", 40, "linear", 2.0),
)


@pytest.mark.parametrize("plan", BUDGETS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), threshold=st.sampled_from([1.0, 0.6]))
def test_calls_and_remasking_stay_within_their_budgets(plan: Plan, seed: int, threshold: float):
    rng, length = np.random.default_rng(seed), 12
    tokens = np.where(rng.random((2, length)) < 0.7, MASK, rng.integers(0, LETTERS, (2, length)))
    masked, law = tokens == MASK, Law(threshold=1.0 if plan.sampler == "ancestral" else threshold)
    arguments = network(seed, length), jax.random.key(seed), tokens, masked, law
    frames = list(sample_stream(by_number, *arguments, plan=plan, mask_id=MASK))
    free = masked.sum(1)
    if not free.any():
        assert frames == []
        return
    total = free + np.floor(free * np.float32(plan.remask)).astype(int)
    assert len(frames) <= min(plan.steps or total.max(), total.max())
    changes = np.sum([f.changed & ~f.is_masked for f in frames])
    assert free[0] <= changes <= total[0]
    assert not np.any([f.changed for f in frames], axis=0)[~masked[0]].any()
    np.testing.assert_array_equal(frames[-1].tokens[~masked[0]], tokens[0][~masked[0]])
    assert not frames[-1].is_masked.any()
    if law.threshold == 1 and plan.schedule == "linear" and plan.steps != 1 and free[0] == free.max():
        assert changes == total[0]  # all of the budget is used


def test_remasking_takes_the_least_probable():
    state = sampler.begin(
        jax.random.key(0), jnp.array([[3, 1, 2, 0, 1, 0]]), jnp.ones((1, 6), bool), Plan(), MASK
    )
    masked = jnp.array([[False, False, True, False, False, False]])
    sure = jnp.array([[0.1, 0.5, 0.0, 0.3, 0.2, 0.9]])
    free = jnp.array([[False, True, True, True, True, True]])  # the first is given, however low its figure
    tokens = jnp.array([[3, 1, MASK, 0, 1, 0]])
    state = state._replace(tokens=tokens, masked=masked, confidence=sure, free=free, log_prob=jnp.zeros(1))
    after = sampler.remask(state, jnp.array([2]), MASK)
    assert after.tokens.tolist() == [[3, 1, MASK, MASK, MASK, 0]]
    assert after.changed.tolist() == [[False, False, False, True, True, False]]
    np.testing.assert_allclose(after.confidence, [[0.1, 0.5, 0, 0, 0, 0.9]])
    np.testing.assert_allclose(after.log_prob, [-np.log(0.3) - np.log(0.2)], rtol=1e-6)
    assert sampler.remask(state, jnp.array([9]), MASK).masked.sum() == 5  # no more than there is


def test_greedy_is_the_same_for_every_seed():
    tokens, number = np.array([PROMPT]), {}
    for kind in ("greedy", "confidence"):
        keys = [jax.random.key(seed) for seed in range(6)]
        arguments = [(jnp.float32(TABLE), key, tokens, tokens == MASK, NEUTRAL) for key in keys]
        texts = [sample(denoise, *a, plan=Plan(kind, 2), mask_id=MASK).tokens for a in arguments]
        number[kind] = len({str(text) for text in texts})
    assert number["greedy"] == 1 < number["confidence"]


def test_a_threshold_writes_all_that_is_above_it():
    sure = np.array([0.99, 0.5, 0.95, 0.7, 0.97, 0.4])
    logits = np.log(np.stack([sure, *[(1 - sure) / 3] * 3, sure, sure], axis=1))
    table = jnp.float32(np.broadcast_to(logits, (7, 6, V)))
    tokens, order = np.full((1, 6), MASK), []
    for frame in sample_stream(
        by_number, table, jax.random.key(0), tokens, tokens == MASK, Law(threshold=0.9),
        plan=Plan("confidence"), mask_id=MASK,
    ):  # fmt: skip
        order.append(np.flatnonzero(frame.changed).tolist())
    assert order == [[0, 2, 4], [3], [1], [5]]


def test_only_the_chosen_positions_are_scored():
    """Ancestral, one at a time: a call asks for one position of a row, a masked one, and each once."""
    calls = []

    def recording(table: jax.Array, memory: tuple, tokens: jax.Array, index: jax.Array) -> tuple:
        jax.debug.callback(lambda *x: calls.append([np.asarray(y) for y in x]), tokens, index, ordered=True)
        return denoise(table, memory, tokens, index)

    tokens = np.array([PROMPT, [1, 0, 3, MASK]])
    arguments = jnp.float32(TABLE), jax.random.key(0), tokens, tokens == MASK, Law()
    sample(recording, *arguments, plan=Plan("ancestral", 0), mask_id=MASK)
    jax.effects_barrier()
    assert len(calls) == 3 and all(index.shape == (2,) for _, index in calls)
    asked = [index[0] for _, index in calls]
    assert sorted(asked) == [0, 2, 3]
    assert all(canvas[0, place] == MASK for (canvas, _), place in zip(calls, asked, strict=True))


def test_left_to_right_is_in_reading_order():
    tokens = np.array([[MASK, 2, MASK, MASK]])
    arguments = jnp.float32(TABLE), jax.random.key(0), tokens, tokens == MASK, Law()
    frames = list(sample_stream(denoise, *arguments, plan=Plan("left_to_right"), mask_id=MASK))
    assert [np.flatnonzero(f.changed).tolist() for f in frames] == [[0], [2], [3]]


def test_seats_change_nothing_but_the_work():
    """Told how many positions are masked, a sampler asks for no others and writes the same text."""
    asked, plan = [], Plan("margin", 0, "linear", 0.5)

    def recording(table: jax.Array, memory: tuple, tokens: jax.Array, index: jax.Array) -> tuple:
        asked.append(index.shape[0])
        return by_number(table, memory, tokens, index)

    length = 12
    tokens = np.random.default_rng(0).integers(0, LETTERS, (2, length))
    tokens[0, [1, 4, 7, 8, 11]], tokens[1, 2:5] = MASK, MASK
    arguments = network(0, length), jax.random.key(2), tokens, tokens == MASK, Law()
    texts = []
    for seats in (0, 5):
        texts.append(sample(recording, *arguments, plan=plan._replace(seats=seats), mask_id=MASK).tokens)
        assert max(asked) <= 2 * (seats or length)
        asked.clear()
    np.testing.assert_array_equal(texts[0], texts[1])


def test_the_memory_goes_from_call_to_call_and_the_likeliest_are_shown():
    """A network that counts its calls, in the memory, and says the count by what it finds likely."""

    def counting(_: None, memory: jax.Array, tokens: jax.Array, index: jax.Array) -> tuple:
        logits = jnp.where(jnp.arange(V) == memory % LETTERS, 2.0, 0.0) - 0.1 * jnp.arange(V)
        return subs(jnp.broadcast_to(logits, (len(index), V)), FORBIDDEN), memory + 1

    tokens = np.full((1, 6), MASK)
    for plan in (Plan("margin", 3, shown=3),):
        arguments = None, jax.random.key(0), tokens, tokens == MASK, Law()
        frames = list(sample_stream(counting, *arguments, plan=plan, mask_id=MASK, memory=jnp.int32(0)))
        assert len(frames) == (plan.steps or 6)
        for i, frame in enumerate(frames):
            assert len(frame.top_k) == frame.changed.sum()
            for top in frame.top_k:
                others = [letter for letter in range(LETTERS) if letter != i % LETTERS]
                assert [token for token, _ in top] == [i % LETTERS, *others[:2]]
                p = np.exp(2.0 * (np.arange(LETTERS) == i % LETTERS) - 0.1 * np.arange(LETTERS))
                np.testing.assert_allclose([q for _, q in top], [(p / p.sum())[t] for t, _ in top], rtol=1e-5)
    state = sample(counting, *arguments, plan=plan, mask_id=MASK, memory=jnp.int32(0))
    assert state.memory == state.calls == len(frames)


def test_a_crowded_step_writes_all_that_are_due():
    """More positions can fall into a step than are gathered in the usual case; all of them are written."""
    length, steps = 64, 16

    def even(table: None, memory: tuple, tokens: jax.Array, index: jax.Array) -> tuple:
        return jnp.zeros((index.shape[0], V)) + jnp.where(FORBIDDEN, -jnp.inf, 0.0), memory

    plan, tokens = Plan("ancestral", steps), jnp.full((2, length), MASK)
    state = sampler.begin(jax.random.key(0), tokens, tokens == MASK, plan, MASK)
    group = sampler.group_size(length, plan)
    assert group < length
    crowded = state._replace(when=jnp.where(jnp.arange(length) < group + 3, 1, 2).astype(jnp.int32))
    step = functools.partial(sampler.sample_step, even, None, plan=plan, num_steps=steps, mask_id=MASK)
    after = quick_jit(step)(crowded, jnp.int32(1), Law())
    np.testing.assert_array_equal(after.masked, np.broadcast_to(np.arange(length) >= group + 3, (2, length)))


def test_a_step_without_an_event_is_not_taken():
    """One call per distinct interval, and never more than positions, of however many steps."""
    tokens = np.array([PROMPT])
    for seed in range(20):
        first = sampler.begin(jax.random.key(seed), tokens, tokens == MASK, Plan(steps=4), MASK)
        number = len(set(np.asarray(first.when)[tokens == MASK].tolist()))
        frames = list(
            sample_stream(
                denoise, jnp.float32(TABLE), jax.random.key(seed), tokens, tokens == MASK, Law(),
                plan=Plan("ancestral", 4), mask_id=MASK,
            )
        )  # fmt: skip
        assert len(frames) == frames[0].num_steps == number
    first = sampler.begin(jax.random.key(0), tokens, tokens == MASK, Plan(steps=1000), MASK)
    assert sampler.most_steps(first, Plan(steps=1000)) <= 3


def test_changing_what_is_traced_compiles_nothing():

    def run(tokens: np.ndarray, law: Law = NEUTRAL, steps: int = 0, seed: int = 0, scale: float = 1.0) -> int:
        table, key = jnp.float32(TABLE * scale), jax.random.key(seed)
        sample(denoise, table, key, tokens, tokens == MASK, law, plan=Plan("margin", steps), mask_id=MASK)
        return sample._cache_size()

    prompt = np.array([PROMPT])
    first = run(prompt)
    for law in (Law(0.5, 0, 1.0), Law(1.0, 3, 1.0), Law(1.0, 0, 0.5), Law(1.0, 0, 1.0, 1.2, 0.9)):
        assert run(prompt, law) == first
    assert run(np.array([[0, MASK, 1, MASK]]), seed=7, scale=2.0) == first
    assert run(prompt, steps=1) == first + 1  # the count does see a new program
