"""The train step: accumulation, keys, the weight average, purity, and that the whole of it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from toys import NETWORK, OPTIMIZER, config, quick_jit, random_params

from mdlm_jax import diffusion
from mdlm_jax.evaluation.likelihood import corrupt_strata
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import (
    Guard,
    TrainState,
    build,
    cast,
    denoiser,
    forbidden_rows,
    init_params,
    make_loss,
    make_train_step,
)

RNG = np.random.default_rng(0)
LETTERS, EOS, MASK, PAD = 8, 8, 9, 10
SPECIAL = {"eos": EOS, "mask": MASK, "pad": PAD, "sep": 11}
FORBIDDEN = forbidden_rows(NETWORK, 12, SPECIAL)
replace = dataclasses.replace


def batch(rows: int, length: int = 12) -> dict[str, np.ndarray]:
    """Rows of one segment of random length, [EOS] first."""
    tokens = np.full((rows, length), PAD, np.int32)
    segments = np.zeros((rows, length), np.int32)
    for i in range(rows):
        n = RNG.integers(3, length + 1)
        tokens[i, :n] = [EOS, *RNG.integers(0, LETTERS, n - 1)]
        segments[i, :n] = 1
    return {"tokens": tokens, "segments": segments, "scored": (segments > 0) & (tokens != EOS)}


def start(params: object, optimizer: optax.GradientTransformation, seed: int = 0) -> TrainState:
    key = jax.random.key_data(jax.random.key(seed))
    average = jax.tree.map(jnp.array, params)  # a copy: donating one buffer twice is an error
    return TrainState(
        jnp.int32(0), params, average, optimizer.init(params), key, jax.tree.map(jnp.asarray, Guard())
    )


def quadratic(params: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A loss without randomness: the mean over scored tokens of something nonlinear."""
    each = (params["w"][batch["tokens"]] - 0.1 * batch["tokens"]) ** 2
    total = jnp.maximum(batch["scored"].sum(), 1)
    return jnp.sum(each * batch["scored"]) / total, batch["scored"].sum() / batch["scored"].size


def test_accumulation_is_the_gradient_of_the_whole_batch():
    """However the batch is split, although its rows hold unequal numbers of scored tokens."""
    data, optimizer = batch(4), optax.sgd(1.0)
    data["scored"][2] = False  # a micro-batch with nothing to score must not count, nor divide by zero
    params = {"w": jnp.float32(RNG.normal(size=16))}
    grads = jax.grad(lambda p: quadratic(p, data, None)[0])(params)["w"]
    for micro in (1, 2, 4):
        step = quick_jit(make_train_step(quadratic, optimizer, 0.5, micro, 0))
        state, metrics = step(start(params, optimizer), data)
        np.testing.assert_allclose(params["w"] - state.params["w"], grads, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics["loss"], quadratic(params, data, None)[0], rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(grads), rtol=1e-5)
        np.testing.assert_allclose(metrics["parameter_norm"], jnp.linalg.norm(state.params["w"]), rtol=1e-5)


def test_every_micro_batch_step_and_stage_has_its_own_key():
    """The mean of four independent normals has a variance of 1/4; of four equal ones, 1."""

    def noise(params: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.random.normal(key) + 0 * params["w"].sum(), jnp.float32(0)

    optimizer, data = optax.sgd(1.0), batch(8, 3)  # rows of equal length: equal shares
    step = make_train_step(noise, optimizer, 0.5, 2, 0)
    state = start({"w": jnp.zeros(2)}, optimizer)

    def losses(seed: jax.Array) -> jax.Array:
        key = jax.random.key_data(jax.random.key(seed))
        return jnp.stack(
            [step(state._replace(key=key, step=jnp.int32(i)), data)[1]["loss"] for i in range(2)]
        )

    drawn = np.asarray(quick_jit(jax.vmap(losses))(jnp.arange(2000)))
    assert 0.2 < drawn.var() < 0.3
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("steps_before", [0, 5, 1000])
def test_the_average_by_formula(steps_before: int):
    optimizer, data = optax.sgd(0.1), batch(2)
    step = quick_jit(make_train_step(quadratic, optimizer, 0.9, 2, steps_before))
    state = start({"w": jnp.float32(RNG.normal(size=16))}, optimizer)
    average = np.float64(state.params["w"])
    for i in range(5):
        state, _ = step(state, data)
        decay = min(0.9, (1 + i + steps_before) / (10 + i + steps_before))
        average = decay * average + (1 - decay) * np.float64(state.params["w"])
        np.testing.assert_allclose(state.ema["w"], average, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 5


def network_step(plan, **changes):
    """The step of a toy network, and its first state."""
    loss = make_loss(plan, FORBIDDEN, MASK, diffusion.Density(), per_row=1)
    optimizer = make_optimizer(plan.optimizer, 100)
    step = make_train_step(loss, optimizer, 0.9, plan.micro_batch, 0)
    return step, start(random_params(plan.model), optimizer)


def test_the_step_is_pure_and_can_be_donated():
    """The same state and batch give the same bits; bfloat16 is a matter of the compute copy alone."""
    plan = config(replace(NETWORK, dropout=0.1, num_layers=1), precision="bf16", micro_batch=2)
    step, state = network_step(plan)
    jitted = jax.jit(step, donate_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
    kept, data = jax.tree.map(np.asarray, state), batch(4)

    def fresh() -> TrainState:
        return jax.tree.map(jnp.array, kept)

    state = fresh()
    (first, metrics), (second, _) = jitted(state, data), jitted(fresh(), data)
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.ema, state.opt_state)))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.key, kept.key)
    assert int(first.step) == 1 and np.isfinite(metrics["loss"]) and 0 < metrics["mask_rate"] < 1
    for before, after in zip(jax.tree.leaves(kept.params), jax.tree.leaves(first.params), strict=True):
        assert after.dtype == jnp.float32
        change = np.abs(after - before)  # the first step of Adam is at most its rate: nothing was rounded
        assert change.max() < 1.01e-3 and (change > 0).mean() > 0.3
    assert {x.dtype.name for x in jax.tree.leaves(first.opt_state)} == {"float32", "int32"}


def test_causal_loss_is_the_exact_mean():
    """The twin's loss has no masks: it is the mean of the next-token nats under every key."""
    plan = config(replace(NETWORK, causal=True, num_layers=1))
    data, params = batch(4), random_params(plan.model)
    loss_fn = make_loss(plan, FORBIDDEN, MASK, diffusion.Density(), per_row=1)

    def both(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = denoiser(plan.model, params, FORBIDDEN, data["segments"])(data["tokens"], jnp.arange(48))
        return loss_fn(params, jax.tree.map(jnp.asarray, data), key)[0], logits

    (loss, again), logits = quick_jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 2))
    log_p = np.asarray(jax.nn.log_softmax(logits[0])).reshape(4, 12, 16)
    rows, places = np.nonzero(data["scored"])
    np.testing.assert_allclose(loss, -log_p[rows, places - 1, data["tokens"][rows, places]].mean(), rtol=1e-5)
    assert loss == again


def test_forbidden_rows_and_the_compute_copy():
    np.testing.assert_array_equal(np.flatnonzero(FORBIDDEN), [MASK, PAD, 12, 13, 14, 15])
    params = {"w": jnp.ones(3)}
    assert cast(params, "bf16")["w"].dtype == jnp.bfloat16
    for precision in ("float32", "bf16_products"):
        assert cast(params, precision)["w"] is params["w"]


def test_the_bf16_copy_computes_in_bfloat16_and_gives_float32_logits():
    """Close to float32; hidden states in bfloat16; a logit is not rounded to bfloat16's eight bits."""
    graphdef, params, tokens = build(NETWORK), random_params(NETWORK), batch(4)["tokens"]

    def outputs(params: object) -> tuple[jax.Array, jax.Array]:
        network = nnx.merge(graphdef, params)
        hidden = network(tokens)
        return hidden, network.logits(hidden[0])

    hidden, logits = quick_jit(lambda: outputs(cast(params, "bf16")))()
    golden, exact = quick_jit(lambda: outputs(params))()
    assert (hidden.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    assert np.abs(hidden - golden).max() < 0.2 and np.abs(logits - exact).max() < 0.5
    assert np.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_the_denoiser_scores_the_positions_it_is_asked_for():
    params = random_params(NETWORK)
    data, index = batch(2), np.array([20, 3, 3])
    denoise = denoiser(NETWORK, params, FORBIDDEN, data["segments"])
    some, every = quick_jit(lambda t: (denoise(t, index), denoise(t, jnp.arange(24))))(data["tokens"])
    assert some.shape == (3, 16) and some.dtype == jnp.float32
    np.testing.assert_allclose(some, every[index], rtol=1e-5)
    np.testing.assert_array_equal(np.isneginf(some), np.broadcast_to(FORBIDDEN, (3, 16)))


def markov(rows: int, length: int) -> dict[str, np.ndarray]:
    """A language of eight equally frequent letters, nine in ten of which follow from the one before."""
    tokens = np.full((rows, length), EOS, np.int32)
    tokens[:, 1] = RNG.integers(0, LETTERS, rows)
    for p in range(2, length):
        free = RNG.random(rows) < 0.1
        tokens[:, p] = np.where(free, RNG.integers(0, LETTERS, rows), (tokens[:, p - 1] * 3 + 1) % LETTERS)
    segments = np.ones((rows, length), np.int32)
    return {"tokens": tokens, "segments": segments, "scored": tokens != EOS}


def test_the_loss_falls_below_the_unigram_entropy():
    """On unseen text, after a few epochs. A wrong attention scale stays on the unigram plateau."""
    model = replace(NETWORK, d_model=32, seq_len=16)
    rates = dict.fromkeys(("learning_rate", "embedding_rate", "norm_rate"), 0.02)
    plan = config(model, batch_size=32, micro_batch=32, optimizer=replace(OPTIMIZER, name="muon", **rates))
    train, test, epochs = markov(320, 16), markov(64, 16), 8
    order = np.concatenate([RNG.permutation(320).reshape(10, 32) for _ in range(epochs)])
    step, _ = network_step(plan)
    state = start(quick_jit(lambda: init_params(model, 0))(), make_optimizer(plan.optimizer, 100))
    data = jax.tree.map(lambda x: jnp.asarray(x)[order], train)
    state, _ = quick_jit(lambda s: jax.lax.scan(step, s, data))(state)

    def bound(params: object, key: jax.Array) -> jax.Array:
        denoise = denoiser(model, params, FORBIDDEN, test["segments"])
        tokens, scored = (jnp.asarray(test[n]) for n in ("tokens", "scored"))
        corrupted = corrupt_strata(
            key, tokens, test["segments"], scored, stratum=jnp.arange(64) % 16, strata=16, mask_id=MASK
        )
        return diffusion.masked_nats(denoise, tokens, corrupted, 64 * 16).sum()

    nats = float(quick_jit(bound)(state.ema, jax.random.key(0))) / test["scored"].sum()
    frequencies = np.bincount(train["tokens"][train["scored"]]) / train["scored"].sum()
    unigram = -np.sum(frequencies * np.log(frequencies))
    assert nats < 0.7 * unigram, (nats, unigram)
