"""The plan of the stages, and what a transition carries and what it leaves behind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import three_stage
from mdlm_jax import curriculum
from mdlm_jax.configuration import resolve
from mdlm_jax.data import open_dataset
from mdlm_jax.diffusion import Density
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import init_params


def smoke(**changes):
    values = three_stage.get_config("smoke")
    values.model.update(num_layers=1, d_model=32, vocab_rows=512)
    values.update(changes)
    return resolve(values)


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return open_dataset(dataset_dir)


@pytest.fixture(scope="module")
def stages(dataset):
    return curriculum.plan(smoke(), dataset)


def test_plan_is_the_three_stages_in_order(dataset, stages):
    config = smoke()
    assert [s.directory for s in stages] == ["1_foundational", "2_structural", "3_refinement"]
    for stage, wanted in zip(stages, config.stages, strict=True):
        assert stage.config == wanted
        tokens = dataset.counts(wanted.name, "train")["tokens"] * wanted.num_epochs
        # Rows beyond the last whole batch are dropped: fewer than one batch of tokens.
        assert tokens - config.batch_size * config.model.seq_len < stage.data.tokens <= tokens


def test_plan_depends_on_the_seed(dataset, stages):
    def first(config):
        return [next(s.data.batches())["tokens"] for s in curriculum.plan(config, dataset)]

    one, again, other = first(smoke()), first(smoke()), first(smoke(seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_density_follows_the_mask_schedule(dataset):
    assert [s.density for s in curriculum.plan(smoke(), dataset)] == [Density()] * 3
    falling = smoke(mask_schedule="curriculum", full_range_fraction=0.25)
    densities = [s.density for s in curriculum.plan(falling, dataset)]
    assert densities == [Density(0.75, 0.9, 0.25), Density(0.4, 0.6, 0.25), Density(0.05, 0.2, 0.25)]
    assert Density().is_bound and not any(d.is_bound for d in densities)


@pytest.fixture(scope="module")
def trained(stages):
    """(optimizer, state after a few steps): moments, counts and average all differ from a fresh state's."""
    config = smoke()
    optimizer = make_optimizer(config.optimizer, 100)
    params = init_params(config.model, 0)
    state = curriculum.begin(params, params, optimizer, 0, stages[0])

    @jax.jit
    def step(state, seed):
        grads = jax.tree.map(lambda x: jnp.sin(100 * x + seed), state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = jax.tree.map(lambda a, p: 0.5 * a + 0.5 * p, state.ema, params)
        return state._replace(step=state.step + 1, params=params, ema=ema, opt_state=opt_state)

    for seed in range(3):
        state = step(state, seed)
    return optimizer, state


def bits(tree):
    return [(np.asarray(x).dtype, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


def test_transition_carries_weights_and_resets_the_optimizer(trained, stages):
    optimizer, state = trained
    fresh = optimizer.init(state.params)
    assert bits(state.opt_state) != bits(fresh) and bits(state.ema) != bits(state.params)
    new, checks = curriculum.transition(state, optimizer, 0, stages[1])
    assert bits(new.params) == bits(state.params) and bits(new.ema) == bits(state.ema)
    assert bits(new.opt_state) == bits(fresh)
    assert int(new.step) == 0 and not np.array_equal(new.key, state.key)
    assert set(checks) == {
        *("weights_equal", "ema_equal", "moments_zero", "schedule_fresh", "step_zero", "data_non_empty")
    }
    assert all(value is True for value in checks.values())


def test_transition_shares_no_buffer(trained, stages):
    """The train step donates its input: a buffer held twice would be a deleted array later."""
    optimizer, state = trained
    new, _ = curriculum.transition(state, optimizer, 0, stages[1])
    jax.tree.map(lambda x: x.delete(), new)
    assert np.isfinite(bits(state) and float(jax.tree.leaves(state.params)[0].sum()))


def _nudge(tree):
    leaves, structure = jax.tree.flatten(tree)
    leaves[-1] = leaves[-1].at[(0,) * leaves[-1].ndim].add(1e-6)
    return jax.tree.unflatten(structure, leaves)


def _count_one(opt_state):
    """As if the schedule went on where the stage before ended."""
    return jax.tree.map(lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.integer) else x, opt_state)


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (lambda new, old: new._replace(params=_nudge(new.params)), "weights_equal"),
        (lambda new, old: new._replace(ema=_nudge(new.ema)), "ema_equal"),
        (lambda new, old: new._replace(ema=new.params), "ema_equal"),
        (lambda new, old: new._replace(opt_state=old.opt_state), "moments_zero, schedule_fresh"),
        (lambda new, old: new._replace(opt_state=_count_one(new.opt_state)), "schedule_fresh"),
        (lambda new, old: new._replace(step=jnp.int32(1)), "step_zero"),
    ],
)
def test_a_tampered_transition_is_refused(trained, stages, monkeypatch, tamper, check):
    optimizer, state = trained
    begin = curriculum.begin
    monkeypatch.setattr(curriculum, "begin", lambda *a: tamper(begin(*a), state))
    with pytest.raises(curriculum.TransitionError, match=f"transition to 2_structural failed: {check}$"):
        curriculum.transition(state, optimizer, 0, stages[1])


def test_a_stage_without_data_is_refused(trained, stages):
    optimizer, state = trained
    data = dataclasses.replace(stages[1].data, source=())
    with pytest.raises(curriculum.TransitionError, match="data_non_empty"):
        curriculum.transition(state, optimizer, 0, dataclasses.replace(stages[1], data=data))


def test_stages_have_keys_of_their_own(trained, stages):
    optimizer, state = trained
    keys = {
        tuple(np.asarray(curriculum.begin(state.params, state.ema, optimizer, seed, stage).key).tolist())
        for seed in (0, 1)
        for stage in stages
    }
    assert len(keys) == 6
