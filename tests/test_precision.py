"""Half precision and gradients that are not finite: what is skipped, and how float16 finds its scale."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train_state import FORBIDDEN, MASK, batch, markov, start
from toys import NETWORK, OPTIMIZER, config, quick_jit, random_params

from mdlm_jax import diffusion
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import GROWTH, LARGEST, SCALE, Guard, guarded, make_loss, make_train_step

replace = dataclasses.replace
DATA = batch(4)


def bits(tree: object) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def breaking(params: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A loss whose gradient overflows where `poison` says so; in float16's way where it is 1e30."""
    return jnp.sum(params["w"] ** 2) * batch["poison"].max(), jnp.float32(0.5)


@functools.cache
def steps(scaled: bool):
    """(optimizer, compiled step): four micro-batches, Adam, clipping."""
    optimizer = make_optimizer(replace(OPTIMIZER, warmup_steps=0), 100)
    return optimizer, quick_jit(make_train_step(breaking, optimizer, 0.9, 1, 0, scaled))


def poisoned(*values: float) -> dict:
    return DATA | {"poison": np.repeat(np.float32(values)[:, None], 12, 1)}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e38])
def test_a_step_that_is_not_finite_moves_nothing_but_its_number_and_the_guard(scaled, poison):
    """In one of four micro-batches. 1e38: the loss is finite, the norm of the gradients is not."""
    optimizer, step = steps(scaled)
    state = start({"w": jnp.arange(1.0, 4.0)}, optimizer)
    state, metrics = step(state, poisoned(1, 1, 1, 1))
    assert metrics["taken"] and not np.array_equal(state.params["w"], [1.0, 2.0, 3.0])
    kept = state.params, state.ema, state.opt_state, state.key
    before = bits(kept)
    for number in (1, 2):
        state, metrics = step(state, poisoned(1, 1, poison, 1))
        assert not metrics["taken"]
        assert bits((state.params, state.ema, state.opt_state, state.key)) == before
        assert (int(state.step), int(state.guard.skipped)) == (1 + number, number)
        # A search for a scale is no failure: only at scale 1 does a skip count.
        assert int(state.guard.in_a_row) == (0 if scaled else number)
        assert float(state.guard.scale) == (SCALE / 2**number if scaled else SCALE)
    state, metrics = step(state, poisoned(1, 1, 1, 1))
    assert metrics["taken"] and bits(state.params) != before[:1] and int(state.guard.in_a_row) == 0
    assert int(state.guard.skipped) == 2


def test_the_scale_changes_nothing_but_what_overflows():
    """A power of two: the same bits as without. 1e30 overflows float32 under the first scale, not under 1."""
    (optimizer, plain), (_, scaled) = steps(False), steps(True)
    one = two = start({"w": jnp.array([0.3, -2.0, 5.0])}, optimizer)
    for _ in range(3):
        (one, first), (two, second) = plain(one, poisoned(1, 2, 3, 4)), scaled(two, poisoned(1, 2, 3, 4))
    assert bits((one.params, one.ema, one.opt_state)) == bits((two.params, two.ema, two.opt_state))
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}


def test_the_scale_by_hand():
    """Halved at an overflow down to 1, doubled after so many good steps up to the largest."""
    rng = np.random.default_rng(0)
    events = [False] * 20 + [True] * (GROWTH - 1) + [False] + [True] * (26 * GROWTH)
    events = [*events, *(bool(x) for x in rng.random(300) < 0.9)]

    def after(state: Guard, finite: jax.Array) -> tuple[Guard, Guard]:
        state = guarded(state, finite, True)
        return state, state

    first = jax.tree.map(jnp.asarray, Guard())
    _, found = quick_jit(lambda e: jax.lax.scan(after, first, e))(jnp.asarray(events))
    scale, good, row, skipped, known = SCALE, 0, 0, 0, []
    for finite in events:
        row = 0 if finite else row + (scale == 1)
        good, skipped = (good + 1 if finite else 0), skipped + (not finite)
        if not finite:
            scale = max(1, scale / 2)
        elif good == GROWTH:
            scale, good = min(2 * scale, LARGEST), 0
        known.append((scale, good, skipped, row))
    np.testing.assert_array_equal(np.stack(found, 1), known)
    assert {1, LARGEST} <= {scale for scale, *_ in known}


@functools.cache
def losses(precision: str, seed: int = 0) -> np.ndarray:
    """The training losses [80] of a toy network on a toy language."""
    model = replace(NETWORK, d_model=32, seq_len=16)
    rates = dict.fromkeys(("learning_rate", "embedding_rate", "norm_rate"), 0.02)
    plan = config(model, micro_batch=16, precision=precision, optimizer=replace(OPTIMIZER, **rates))
    optimizer = make_optimizer(plan.optimizer, 100)
    loss = make_loss(plan, FORBIDDEN, MASK, diffusion.Density(), per_row=1)
    step = make_train_step(loss, optimizer, 0.9, 16, 0, precision == "float16")
    data = jax.tree.map(lambda x: jnp.asarray(x).reshape(80, 16, 16), TEXT)
    _, metrics = quick_jit(lambda s: jax.lax.scan(step, s, data))(
        start(random_params(model), optimizer, seed)
    )
    assert np.asarray(metrics["taken"]).all()
    return np.asarray(metrics["loss"])


TEXT = markov(80 * 16, 16)


@pytest.mark.parametrize("precision", ["bf16", "float16"])
def test_half_precision_follows_float32(precision: str):
    """The mean loss of the last 20 of 80 steps stays within 0.07 nats: half of what other masks change."""
    exact = losses("float32")
    assert exact[:5].mean() > exact[-20:].mean() + 0.8
    assert abs(losses(precision)[-20:].mean() - exact[-20:].mean()) < 0.07
    assert np.abs(losses(precision)[:5] - exact[:5]).max() < 0.02
    assert not np.array_equal(losses(precision), exact)


def test_soft_masking_and_its_weights():
    """The loss reads importance where there is a strength, and only there."""
    tokens = np.tile(np.int32([8, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]), (4, 1))
    segments = np.ones_like(tokens)
    importance = np.tile(np.int32([0, 100, 0, 50, *[0] * 8]), (4, 1))
    data = jax.tree.map(jnp.asarray, {"tokens": tokens, "segments": segments, "scored": tokens != 8})

    def probe(plan, given):
        loss = make_loss(plan, FORBIDDEN, MASK, diffusion.Density(), per_row=1)
        return float(quick_jit(loss)(random_params(NETWORK), given, jax.random.key(0))[0])

    plain, soft = config(), config(soft_masking=3.0)
    even = probe(soft, data | {"importance": jnp.full((4, 12), 70)})
    assert probe(plain, data) == pytest.approx(even, rel=1e-5)  # all alike: nothing is preferred
    assert even != pytest.approx(probe(soft, data | {"importance": jnp.asarray(importance)}), rel=1e-3)
    with pytest.raises(KeyError, match="importance"):
        probe(soft, data)
