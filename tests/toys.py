"""Toy configurations, random weights and table-driven denoisers whose laws can be enumerated."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    StageConfig,
)
from mdlm_jax.diffusion import subs
from mdlm_jax.laws import Law
from mdlm_jax.model import Transformer
from mdlm_jax.ui.request import SamplingConfig

LETTERS, MASK, PAD, V, L = 4, 4, 5, 6, 4
FORBIDDEN = np.isin(np.arange(V), (MASK, PAD))
PROMPT = (MASK, 2, MASK, MASK)  # three letters to write around one that is given
# An arbitrary network: logits of every position, by the whole canvas.
TABLE = np.random.default_rng(44).normal(size=(V**L, L, V)) * 1.5

NETWORK = ModelConfig(
    num_layers=2, d_model=16, num_heads=2, seq_len=12, dropout=0.0, qk_norm=True,
    causal=False, layers="scan", remat="none", vocab_rows=16,
)  # fmt: skip
OPTIMIZER = OptimizerConfig(
    name="adamw", learning_rate=1e-2, embedding_rate=1e-2, norm_rate=1e-2, weight_decay=0.0, b1=0.9, b2=0.98,
    clip_norm=1.0, schedule="constant", warmup_steps=10, final_rate=0.1, ema_decay=0.9,
)  # fmt: skip


def config(model: ModelConfig = NETWORK, strata: int = 16, replicates: int = 2, **changes: Any) -> Config:
    """A whole plan around a toy network."""
    plan = Config(
        seed=0,
        precision="float32",
        batch_size=4,
        micro_batch=4,
        mask_schedule="mdlm",
        full_range_fraction=0.3,
        label_smoothing=0.0,
        log_every=1,
        checkpoint_every=1,
        model=model,
        data=DataConfig(vocab_size=300, min_frequency=1, split_seed=0, embedder="lsa"),
        optimizer=OPTIMIZER,
        stages=(StageConfig("refinement", 1, (0.05, 0.2), 1.0, "last"),),
        evaluation=EvaluationConfig(strata, replicates, 1),
        sampling=SamplingConfig("ancestral", 0, 1.0, 0, 1.0),
    )
    return dataclasses.replace(plan, **changes)


def random_params(config: ModelConfig, seed: int = 0) -> nnx.State:
    """Weights in which nothing is zero or one, so that every part of the network shows in its output."""
    rng = np.random.default_rng(seed)

    def leaf(path: tuple, shape: Any) -> jax.Array:
        noise, name = rng.normal(size=shape.shape), jax.tree_util.keystr(path)
        if "norm" in name:
            values = 1 + 0.2 * noise
        else:
            values = noise * (config.d_model if "embed" in name else shape.shape[-2]) ** -0.5
        return jnp.asarray(values, jnp.float32)

    shapes = nnx.eval_shape(lambda: nnx.state(Transformer(config, nnx.Rngs(0)), nnx.Param))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


def network(config: ModelConfig, seed: int = 0) -> Transformer:
    """A network of `random_params`."""
    graphdef = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]
    return nnx.merge(graphdef, random_params(config, seed))


def numpy_truncate(logits: np.ndarray, law: Law) -> np.ndarray:
    """Probabilities [V]: temperature, then the k likeliest, then the fewest likeliest that reach top_p."""
    p = np.exp(logits / law.temperature - np.max(logits / law.temperature))
    order = np.argsort(-p, kind="stable")
    if law.top_k:
        p[order[law.top_k :]] = 0
    p /= p.sum()
    reached = 0.0
    for token in order:
        if reached >= law.top_p:
            p[token] = 0
        reached += p[token]
    return p / p.sum()


def quick_jit(function: Callable) -> Callable:
    """`jax.jit` for programs that run once: compiled in half the time, without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def within(mean: float, error: float, truth: float, errors: float = 4.5) -> bool:
    """Whether a Monte Carlo mean lies within so many standard errors of the truth (4.5: one in 150,000)."""
    return abs(mean - truth) <= errors * error + 1e-5 * (1 + abs(truth))


def denoise(table: jax.Array, memory: Any, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
    """Its network, as the samplers take one; nothing but letters is allowed."""
    logits = table[jnp.sum(tokens * V ** np.arange(L), axis=1)]
    return subs(logits.reshape(-1, V)[index], FORBIDDEN), memory


def probabilities(canvas: Sequence[int], place: int, law: Law) -> np.ndarray:
    """What TABLE and the law give the letter at `place`, [V]: with the penalty on what the canvas holds."""
    logits = TABLE[sum(t * V**i for i, t in enumerate(canvas)), place].copy()
    for token in {t for t in canvas if t != MASK}:
        logits[token] *= law.repetition if logits[token] < 0 else 1 / law.repetition
    return numpy_truncate(np.where(FORBIDDEN, -np.inf, logits), law)
