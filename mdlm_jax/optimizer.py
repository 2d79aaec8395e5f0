"""Clipping, optimizer groups by parameter path (`optax.multi_transform`), each stage's learning rates.

Labels come from the path, not from the rank: stacked layers give every norm scale two axes, so rules like
`ndim >= 2` (and optax.contrib.muon's own) would take norms for matrices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from mdlm_jax.configuration import OptimizerConfig

# Adaptive clipping: decay of the norms' mean (50 steps), the multiple allowed, steps before there is a mean.
NORMS_KEPT, ABOVE_MEAN, FEW = 0.98, 2.0, 20


def labels(params: Any) -> Any:
    """The group of each leaf: "embeddings", "norms" or "matrices"."""

    def label(path: tuple, _: Any) -> str:
        name = jax.tree_util.keystr(path)
        return "embeddings" if "embed" in name else "norms" if "norm" in name else "matrices"

    return jax.tree_util.tree_map_with_path(label, params)


def schedule(config: OptimizerConfig, peak: float, steps: int, begin: float = 0.0) -> optax.Schedule:
    """Linear warm-up over min(warmup_steps, a tenth of `steps`), then the named shape to `steps`.

    The warm-up starts at the share `begin` of `peak`; 0 is one step above 0. "restarts" is SGDR with cycles
    of equal length (Loshchilov & Hutter 2017, eq. 5).
    """
    warmup = max(1, min(config.warmup_steps, steps // 10))
    rest = max(1, steps - warmup)
    if config.schedule == "cosine":
        body: Any = optax.cosine_decay_schedule(peak, rest, alpha=config.final_rate)
    elif config.schedule == "restarts":
        one = optax.cosine_decay_schedule(peak, 1.0, alpha=config.final_rate)
        body = lambda i: one(jnp.where(i < rest, i * (config.restarts / rest) % 1, 1.0))  # noqa: E731
    elif config.schedule == "wsd":
        fall = max(1, rest // 5)
        body = optax.linear_schedule(peak, peak * config.final_rate, fall, transition_begin=rest - fall)
    else:
        body = optax.constant_schedule(peak)
    rise = optax.linear_schedule(peak * begin or peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, body], [warmup])


def clip(config: OptimizerConfig) -> optax.GradientTransformation:
    """Scales gradients down to a limit of their global norm (Pascanu et al. 2012); says whether it "clipped".

    "global": clip_norm. "adaptive": twice the mean of recent norms, counted as clipped, so that an outlier
    hardly moves it; clip_norm in the first steps (after AutoClip, Seetharaman et al. 2020, and AdaGC, Wang
    et al. 2025). optax.adaptive_grad_clip takes the norms of stacked matrices [S, rows, columns] over S.
    """

    def update(grads: Any, state: dict, params: Any = None) -> tuple[Any, dict]:
        norm, few = optax.tree.norm(grads), state["steps"] < FEW
        above = ABOVE_MEAN * state["mean"]
        within = norm < (limit := jnp.where(few | (config.clip == "global"), config.clip_norm, above))
        grads = jax.tree.map(lambda g: jax.lax.select(within, g, (g / norm) * limit), grads)
        kept = jnp.minimum(NORMS_KEPT, state["steps"] / (state["steps"] + 1))  # a plain mean at first
        mean = kept * state["mean"] + (1 - kept) * jnp.where(few, norm, jnp.minimum(norm, above))
        return grads, {"steps": state["steps"] + 1, "mean": mean, "clipped": 1.0 - within}

    none = {"steps": jnp.int32, "mean": jnp.float32, "clipped": jnp.float32}
    return optax.GradientTransformation(lambda _: {name: kind(0) for name, kind in none.items()}, update)


def make_optimizer(
    config: OptimizerConfig, steps: int, rate_scale: float = 1.0, begin: float = 0.0
) -> optax.GradientTransformation:
    """The transformation of one stage of `steps` steps: clipping, then each group's own rule.

    Muon (Jordan et al. 2024) sees stacked matrices [S, rows, columns], orthogonalised layer by layer; its
    update is scaled to a root mean square of 0.2 (Liu et al. 2025, "Muon is scalable"), so one rate suits
    both optimizers.
    """

    def rate(peak: float) -> optax.Schedule:
        return schedule(config, peak * rate_scale, steps, begin)

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
    return optax.chain(clip(config), optax.multi_transform(groups, labels))
