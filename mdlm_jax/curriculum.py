"""The plan of a run, stage by stage, and the transition from one stage to the next."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mdlm_jax.configuration import Config, StageConfig
from mdlm_jax.data import Dataset, StageData, stage_data
from mdlm_jax.diffusion import Density
from mdlm_jax.train_state import Guard, TrainState


class TransitionError(RuntimeError):
    """A stage transition that lost weights or kept optimizer state: a bug, stated before it costs a run."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage made concrete: its data and density."""

    index: int
    config: StageConfig
    data: StageData
    density: Density

    @property
    def directory(self) -> str:
        """Name of the stage's checkpoint folder, <n>_<stage>."""
        return f"{self.index + 1}_{self.config.name}"


def plan(config: Config, dataset: Dataset) -> list[Stage]:
    """All stages. Raises DataError when one has no training data."""
    stages: list[Stage] = []
    for i, stage in enumerate(config.stages):
        sizes = config.model.seq_len, config.batch_size, config.seed * 16 + i
        data = stage_data(dataset, stage, *sizes, importance=config.soft_masking > 0)
        slices = config.mask_schedule == "curriculum"
        density = Density(*stage.mask_rate, config.full_range_fraction) if slices else Density()
        stages.append(Stage(i, stage, data, density))
    return stages


def begin(
    params: Any, ema: Any, optimizer: optax.GradientTransformation, seed: int, stage: Stage
) -> TrainState:
    """The first state of a stage: given weights, fresh optimizer state, step 0, a key of its own."""
    key = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), stage.index))
    # Copies, because the train step donates its input: nothing may be held twice.
    params, ema = (jax.tree.map(jnp.array, tree) for tree in (params, ema))
    opt_state, guard = jax.jit(optimizer.init)(params), jax.tree.map(jnp.asarray, Guard())
    return TrainState(jnp.int32(0), params, ema, opt_state, key, guard)


def transition(
    previous: TrainState, optimizer: optax.GradientTransformation, seed: int, stage: Stage
) -> tuple[TrainState, dict[str, bool]]:
    """Carries weights and average into `stage`, fresh optimizer. Raises TransitionError if a check fails."""
    state = begin(previous.params, previous.ema, optimizer, seed, stage)

    def equal(a: Any, b: Any) -> bool:
        return jax.tree.all(jax.tree.map(jnp.array_equal, a, b))

    named = [(jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(state.opt_state)]
    moments = [x for name, x in named if ".mu" in name or ".nu" in name]
    counters = [x for name, x in named if ".count" in name]
    checks = {
        "weights_equal": equal(previous.params, state.params),
        "ema_equal": equal(previous.ema, state.ema),
        "moments_zero": bool(moments) and not any(m.any() for m in moments),
        "schedule_fresh": bool(counters) and not any(c.any() for c in counters),
        "step_zero": int(state.step) == 0,
        "data_non_empty": len(stage.data.source) > 0,
    }
    failed = [name for name, passed in checks.items() if not passed]
    if failed:
        raise TransitionError(f"transition to {stage.directory} failed: {', '.join(failed)}")
    return state, checks
