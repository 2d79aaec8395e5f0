"""What a plan costs: memory against XLA's own figures, what time is made of, and what is suggested."""

import dataclasses
import shlex
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from configs import three_stage
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.curriculum import begin, plan
from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation import estimate
from mdlm_jax.evaluation.estimate import (
    device_memory,
    fit,
    flops_per_token,
    measured,
    measured_flops,
    memory,
    seconds,
    stage_flops,
)
from mdlm_jax.evaluation.likelihood import held_out_windows, make_nats
from mdlm_jax.laws import Law
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.run_directory import complete
from mdlm_jax.sampler import Plan, sample
from mdlm_jax.train_state import denoiser, init_params, make_loss, make_train_step
from mdlm_jax.ui.values import ConfigError

replace = dataclasses.replace
QUICK = {"xla_backend_optimization_level": 0}  # the buffers are the same


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return open_dataset(dataset_dir)


def preset(name: str, dataset, micro: int = 4, batch: int = 8, precision: str = "float32", **model) -> Config:
    config = resolve(three_stage.get_config(name))
    config = replace(config, micro_batch=micro, batch_size=batch, precision=precision)
    return complete(replace(config, model=replace(config.model, **model)), dataset)


def struct(shape: tuple, kind: type) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, kind)


def held(compiled: jax.stages.Compiled) -> int:
    """Bytes that XLA plans for a program, its arguments included."""
    m = compiled.memory_analysis()
    return m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.temp_size_in_bytes


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("smoke", dict(remat="none", micro=8), marks=pytest.mark.soak),
        pytest.param("smoke", dict(remat="dots", micro=1), marks=pytest.mark.soak),
        pytest.param("smoke", dict(remat="full", micro=8), marks=pytest.mark.soak),
        ("smoke", dict(remat="full", layers="unroll", causal=True)),
        ("tiny", dict(remat="none", micro=8, precision="bf16_products")),
    ],
)
def test_memory_of_a_train_step_is_what_xla_says(name, changes, dataset):
    config = preset(name, dataset, **changes)
    if name == "smoke":  # Muon takes seconds to compile
        config = replace(config, optimizer=replace(config.optimizer, name="adamw"))
    stage = plan(config, dataset)[-1]
    optimizer = make_optimizer(config.optimizer, stage.data.num_steps)
    forbidden = np.zeros(config.model.vocab_rows, bool)
    loss_fn = make_loss(config, forbidden, 1, stage.density, stage.data.per_row)
    train_step = make_train_step(loss_fn, optimizer, 0.9, config.micro_batch, 0)

    params = jax.eval_shape(lambda: init_params(config.model, 0))
    state = jax.eval_shape(lambda p: begin(p, p, optimizer, 0, stage), params)
    batch = {k: struct(v.shape, v.dtype) for k, v in next(stage.data.batches()).items()}
    compiled = jax.jit(train_step, donate_argnums=0).lower(state, batch).compile(QUICK)

    needed = memory(config, [stage])
    assert needed.state == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert 0.9 <= (needed.state + needed.step) / held(compiled) <= 1.4
    assert needed.total >= estimate.PROCESS + needed.state + needed.step


def test_memory_of_evaluation_and_sampling_is_bounded(dataset):
    config = preset("tiny", dataset)
    needed, model = memory(config), config.model
    params, forbidden = jax.eval_shape(lambda: init_params(model, 0)), np.zeros(model.vocab_rows, bool)
    weights, key = (needed.state - 28) // 4, jax.eval_shape(lambda: jax.random.key(0))

    group, length = 64 // config.evaluation.strata, model.seq_len
    program = make_nats(config, forbidden, 1, length, lambda nats: nats.sum(axis=-1))
    tokens, scored = struct((group, length), jnp.int32), struct((group, length), bool)
    compiled = program.lower(params, tokens, tokens, scored, key).compile(QUICK)
    assert 0.8 <= needed.evaluation / (held(compiled) - weights) <= 2

    def denoise(context, memory, tokens, index):
        return denoiser(model, context[0], forbidden, context[1])(tokens, index), memory

    row = struct((1, length), jnp.int32)
    compiled = sample.lower(
        denoise, (params, row), key, row, struct(row.shape, bool), Law(),
        plan=Plan("ancestral", 32), mask_id=1,
    ).compile(QUICK)  # fmt: skip
    assert 0.8 <= needed.sampling / held(compiled) <= 2


def test_memory_allocates_nothing_and_follows_the_plan(dataset):
    config = preset("base", dataset, micro=32, batch=32, remat="full")
    before = len(jax.live_arrays())
    huge = memory(replace(config, model=replace(config.model, d_model=12288, num_layers=96, num_heads=96)))
    assert huge.state > 16 * 96 * 12 * 12288**2
    assert len(jax.live_arrays()) <= before + 1  # a random key
    base = memory(config)
    # Micro-batches cost a second copy of the gradients, and save activations; evaluation stays.
    small = memory(replace(config, micro_batch=1))
    assert small.step < base.step and small.state == base.state
    assert small.step >= 2 * (base.state - 12) // 4
    assert small.evaluation == pytest.approx(base.evaluation, rel=0.05)
    for remat, other in (("dots", "full"), ("none", "dots")):
        more, less = (memory(replace(config, model=replace(config.model, remat=r))) for r in (remat, other))
        assert more.step > 1.5 * less.step
    assert memory(replace(config, precision="bf16")).step < base.step
    assert small.total - estimate.PROCESS == small.state + small.evaluation
    assert base.step == base.gradients + base.activations + base.logits
    assert base.gradients == pytest.approx(base.state / 4) and small.gradients == 2 * base.gradients
    # Under a budget evaluation goes by micro-batches; those that write pseudo-examples are weights more.
    tight = replace(config, micro_batch=2, memory_budget=9.0)
    assert memory(tight).evaluation < small.evaluation / 8
    stages = (*config.stages[:2], replace(config.stages[2], self_training=0.2))
    assert memory(replace(config, stages=stages)).evaluation == base.evaluation + base.gradients
    assert memory(tight).total - estimate.PROCESS == 2 * base.state  # a transition, for a moment


def test_auto_is_the_largest_micro_batch_that_fits(dataset, monkeypatch):
    """By the estimate, then by what the compiled program holds; the budget that was found is recorded."""
    config = preset("smoke", dataset, micro=0, batch=4)
    stages = plan(config, dataset)
    asked: list[tuple[int, int]] = []

    def compile_step(config: Config, stage) -> jax.stages.Compiled:
        asked.append((config.micro_batch, stage.index))
        size = 10**8 if config.micro_batch > 2 else 10
        return jax.jit(jnp.sin).lower(struct((size,), jnp.float32)).compile()

    two, four = (memory(replace(config, micro_batch=n, memory_budget=9.0), stages).total for n in (2, 4))
    exact = replace(config, memory_budget=two / 1e9)
    settled, made = fit(exact, stages, compile_step)
    assert two < four and settled == replace(exact, micro_batch=2)
    [(micro, index)] = asked
    assert micro == 2 and list(made) == [index]
    assert stages[index].data.per_row == max(s.data.per_row for s in stages)
    # 800 MB more than the estimate: compiled it does not fit.
    asked.clear()
    roomy = replace(config, memory_budget=four / 1e9 + 0.01)
    assert fit(roomy, stages, compile_step)[0] == replace(roomy, micro_batch=2)
    assert [micro for micro, _ in asked] == [4, 2]
    with pytest.raises(ConfigError, match=r"one row at a time takes more than 1.50 GB .estimated 1.5"):
        fit(replace(config, memory_budget=1.500001), stages, compile_step)
    with pytest.raises(ConfigError, match=r"memory_budget is 1.0 MB, and Python and XLA .* about 1.50 GB"):
        fit(replace(config, memory_budget=0.001), stages, compile_step)
    monkeypatch.setattr(estimate, "device_memory", lambda: 4 * 10**9)
    found, _ = fit(config, stages, compile_step)
    assert found.memory_budget == pytest.approx(4 * estimate.MEMORY_SHARE) and found.micro_batch == 4
    monkeypatch.setattr(estimate, "device_memory", lambda: None)
    with pytest.raises(ConfigError, match="set memory_budget"):
        fit(config, stages, compile_step)


def test_what_was_compiled_is_written_down_once(dataset, tmp_path):
    stage, said = plan(preset("smoke", dataset), dataset)[0], []
    (tmp_path / "plan.txt").write_text("Book   a book\n")
    add = jax.jit(lambda a, b: (a + b, b), donate_argnums=0)
    program = add.lower(*[struct((2_000_000,), jnp.float32)] * 2).compile()
    for _ in range(2):
        assert measured(stage, program, tmp_path / "plan.txt", said.append) >= 24e6
    lines = (tmp_path / "plan.txt").read_text().splitlines()
    assert lines == ["Book   a book", said[0]] and said[0] == said[1]
    assert said[0].startswith("1_foundational: the compiled step takes 24.0 MB, 8.0 MB of it")


def test_fewer_masks_cost_less_and_the_twin_scores_all(dataset):
    def flops(**model):
        config = preset("smoke", dataset, **model)
        return [stage_flops(config, s) for s in plan(config, dataset)]

    config, uniform = preset("smoke", dataset), flops()
    slices = replace(config, mask_schedule="curriculum", full_range_fraction=0.0)
    falling = [stage_flops(slices, s) for s in plan(slices, dataset)]
    assert falling[2] < uniform[2] < falling[0] * uniform[2] / uniform[0]
    assert flops(causal=True)[0] > uniform[0] > 0
    steps = [s.data.num_steps for s in plan(config, dataset)]
    assert uniform[2] / uniform[0] == pytest.approx(steps[2] / steps[0])


def test_time_is_made_of_training_evaluation_steps_and_compilation(dataset, monkeypatch):
    config = preset("smoke", dataset, remat="none")
    stages = plan(config, dataset)
    rest = sum(s.data.num_steps for s in stages) * estimate.STEP_SECONDS + 4 * estimate.CPU_PACE[1]
    monkeypatch.setattr(estimate, "measured_flops", lambda: 1 / estimate.CPU_PACE[0])  # a FLOP takes a second

    def flops(config: Config) -> float:
        return seconds(config, stages, dataset) - rest

    training = sum(stage_flops(config, s) for s in stages)
    validation, test = (len(held_out_windows(dataset, s, 64)["tokens"]) for s in ("validation", "test"))
    # At three ends, two starts of stages and 50 steps later, and the test; 2 x 16 strata, 4 windows a call.
    window = 2 * 16 * 64 * flops_per_token(config.model, 17 / 32) / 3
    one, last = (-(-number // 4) * 4 * window for number in (validation, test))
    assert flops(config) == pytest.approx(training + 7 * one + last)
    more = replace(config, evaluation=replace(config.evaluation, replicates=4))
    assert flops(more) == pytest.approx(training + 2 * (7 * one + last))
    often = replace(config, evaluation=replace(config.evaluation, per_stage=2), init_from="a run")
    assert flops(often) == pytest.approx(training + 11 * one + last)
    remat = replace(config, model=replace(config.model, remat="full"))
    assert flops(remat) == pytest.approx(4 / 3 * training + 7 * one + last)
    twin = replace(config, model=replace(config.model, causal=True))  # each window once, 32 a call
    window = 64 * flops_per_token(twin.model, 1.0) / 3
    one, last = (-(-number // 32) * 32 * window for number in (validation, test))
    training = sum(stage_flops(twin, s) for s in stages)
    assert flops(twin) == pytest.approx(training + 7 * one + last)


def test_the_probe_runs_once():
    assert 1e8 < measured_flops() < 1e14
    assert measured_flops() == measured_flops()


def test_device_memory(monkeypatch, tmp_path):
    here = device_memory()
    assert here is None or here > 1e8
    monkeypatch.setattr(estimate, "Path", lambda _: tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("12345678\n")
    assert device_memory() == 12345678
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory() != 12345678
    monkeypatch.delattr(estimate.os, "sysconf")
    assert device_memory() is None
    for stats, expected in (({"bytes_limit": 5}, 5), ({}, None), (None, None)):
        device = types.SimpleNamespace(platform="gpu", memory_stats=lambda stats=stats: stats)
        monkeypatch.setattr(jax, "devices", lambda device=device: [device])
        assert device_memory() == expected


@pytest.mark.parametrize(
    ("available", "hours", "suggested", "warned"),
    [
        (100, (0.1, 0.5, 0.9), "c", False),
        (100, (0.1, 0.5, 1.1), "b", False),
        (30, (0.1, 0.5, 0.9), "b", False),  # c needs more than 80 %
        (100, (2.0, 3.0, 4.0), "a", True),
        (5, (0.1, 0.5, 0.9), "a", True),
        (None, (0.1, 0.5, 0.9), "c", False),
    ],
)
def test_the_largest_plan_that_fits_is_suggested(available, hours, suggested, warned):
    sizes = zip("abc", (10, 20, 30), hours, strict=True)
    costs = [(name, 10**6, 2000, 300, gigabytes * 10**9, 3600 * h) for name, gigabytes, h in sizes]
    lines = launch.suggest(costs, available and available * 10**9, "my book's.txt")
    assert ("be warned" in "\n".join(lines)) == warned
    [c] = [line for line in lines if line.startswith("c ")]
    assert "30.00 GB" in c and "1,000,000" in c
    assert "has not been measured" in lines[-2]
    assert shlex.split(lines[-1]) == [
        "python", "launch.py", "--config", suggested, "--book", "my book's.txt",
    ]  # fmt: skip
    assert launch.suggest(costs, None, None)[-1] in {f"python launch.py --config {name}" for name in "abc"}
