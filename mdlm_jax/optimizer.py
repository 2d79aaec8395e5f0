"""Optimizer groups by parameter path (`optax.multi_transform`), and each stage's learning-rate schedule.

Labels come from the path, not from the rank: stacked layers give every norm scale two axes, so rules like
`ndim >= 2` (and optax.contrib.muon's own) would take norms for matrices.
"""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from mdlm_jax.configuration import OptimizerConfig


def labels(params: Any) -> Any:
    """The group of each leaf: "embeddings", "norms" or "matrices"."""

    def label(path: tuple, _: Any) -> str:
        name = jax.tree_util.keystr(path)
        return "embeddings" if "embed" in name else "norms" if "norm" in name else "matrices"

    return jax.tree_util.tree_map_with_path(label, params)


def schedule(config: OptimizerConfig, peak: float, steps: int) -> optax.Schedule:
    """Linear warm-up over min(warmup_steps, a tenth of `steps`), then cosine, wsd or constant to `steps`."""
    warmup = max(1, min(config.warmup_steps, steps // 10))
    rest = max(1, steps - warmup)
    if config.schedule == "cosine":
        body: Any = optax.cosine_decay_schedule(peak, rest, alpha=config.final_rate)
    elif config.schedule == "wsd":
        fall = max(1, rest // 5)
        body = optax.linear_schedule(peak, peak * config.final_rate, fall, transition_begin=rest - fall)
    else:
        body = optax.constant_schedule(peak)
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, body], [warmup])


def make_optimizer(
    config: OptimizerConfig, steps: int, rate_scale: float = 1.0
) -> optax.GradientTransformation:
    """The transformation of one stage of `steps` steps: global-norm clipping, then each group's own rule.

    Muon (Jordan et al. 2024) sees stacked matrices [S, rows, columns], orthogonalised layer by layer; its
    update is scaled to a root mean square of 0.2 (Liu et al. 2025, "Muon is scalable"), so one rate suits
    both optimizers.
    """

    def rate(peak: float) -> optax.Schedule:
        return schedule(config, peak * rate_scale, steps)

    if config.name == "muon":
        numbers = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        matrices = muon(
            rate(config.learning_rate),
            beta=config.b1,
            weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(lambda _: numbers, params),
            consistent_rms=0.2,
        )
    else:
        matrices = optax.adamw(
            rate(config.learning_rate), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
        )
    b1 = 0.9 if config.name == "muon" else config.b1  # b1 is Muon's momentum then
    groups = {
        "matrices": matrices,
        "embeddings": optax.adam(rate(config.embedding_rate), b1=b1, b2=config.b2),
        "norms": optax.adam(rate(config.norm_rate), b1=b1, b2=config.b2),
    }
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.multi_transform(groups, labels))
