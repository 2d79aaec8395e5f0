"""Is the network of a plan what it should be? Shapes, counts, gradients and one step, on random tokens."""

import dataclasses
import math
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import begin
from mdlm_jax.diffusion import Density
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.run_directory import complete
from mdlm_jax.train_state import (
    build,
    cast,
    denoiser,
    forbidden_rows,
    init_params,
    make_loss,
    make_train_step,
)
from mdlm_jax.ui.values import UserError

SPECIAL = {"pad": 0, "mask": 1, "sep": 2, "eos": 3}
ROWS = 2  # of a batch: enough for a step, and cheap at every size


class Row(NamedTuple):
    """A line of the table."""

    name: str
    found: str
    wanted: str = ""
    good: bool = True


def attended(config: Config, params: Any, position: int) -> np.ndarray:
    """bool [L]: by which tokens the output at `position` is moved, by its gradient to their embeddings."""
    length = min(config.model.seq_len, config.model.vocab_rows)
    tokens = jnp.arange(length)[None]  # each another, so that each has a row of the table to itself

    def output(params: Any) -> jax.Array:
        return nnx.merge(build(config.model), params)(tokens)[0, position].astype(jnp.float32).sum()

    noise = jax.random.key(1)  # some matrices begin at zero, and would let nothing through
    moved = jax.tree.map(lambda x: x + jax.random.normal(noise, x.shape, x.dtype) * 0.1, params)
    slope = np.asarray(jax.jit(jax.grad(output))(moved)["embed"]["embedding"][...], np.float32)
    return np.abs(slope[:length]).sum(1) > 0


def check(config: Config) -> list[Row]:
    """The table of a plan, whose vocabulary is taken to be `config.data.vocab_size`."""
    size = config.data.vocab_size
    dataset: Any = types.SimpleNamespace(info={"vocab_rows": -(-size // 64) * 64})
    config = dataclasses.replace(complete(config, dataset), batch_size=ROWS, micro_batch=ROWS)
    model, forbidden = config.model, forbidden_rows(complete(config, dataset).model, size, SPECIAL)
    params = init_params(model, config.seed)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(p, simple=True, separator=".").removesuffix(".value") for p, _ in leaves]
    rows = [Row(n, f"{x.dtype} {x.shape}") for n, (_, x) in zip(names, leaves, strict=True)]
    count, formula = sum(x.size for _, x in leaves), count_parameters(model)["true"]
    rows += [Row("parameters", f"{count:,}", f"{formula:,} by the formula", count == formula)]

    tokens = jax.random.randint(jax.random.key(0), (ROWS, model.seq_len), len(SPECIAL), size).at[:, 0].set(3)
    batch = {"tokens": tokens, "segments": jnp.ones_like(tokens)}
    batch["scored"] = jnp.ones(tokens.shape, bool).at[:, 0].set(False)
    if config.soft_masking:
        batch["importance"] = tokens % 100
    forward = jax.jit(
        lambda p, t: denoiser(model, cast(p, config.precision), forbidden)(t, jnp.arange(t.size))
    )
    masked = jnp.where(batch["scored"] & (jnp.arange(model.seq_len) % 2 == 0), SPECIAL["mask"], tokens)
    logits = np.asarray(forward(params, masked))
    wanted = (ROWS * model.seq_len, model.vocab_rows)
    rows += [Row("logits", str(logits.shape), str(wanted), logits.shape == wanted)]
    allowed = np.isfinite(logits[:, ~forbidden]).all()
    rows += [Row("logits of words", "finite" if allowed else "NOT finite", "finite", bool(allowed))]
    chance = float(np.asarray(jax.nn.softmax(logits, axis=-1))[:, forbidden].max())
    rows += [Row("chance of [MASK], [PAD] and unused rows", f"{chance:g}", "0", chance == 0)]

    length, middle = min(model.seq_len, model.vocab_rows), min(model.seq_len, model.vocab_rows) // 2
    seen = attended(config, params, middle)
    expected = np.arange(length) <= middle if model.causal else np.ones(length, bool)
    told = f"{seen[: middle + 1].sum()} before and {seen[middle + 1 :].sum()} after"
    wants = f"{expected[: middle + 1].sum()} before and {expected[middle + 1 :].sum()} after"
    kind = "causal" if model.causal else "bidirectional"
    rows += [
        Row(f"tokens that move position {middle}", told, f"{wants} ({kind})", bool((seen == expected).all()))
    ]

    optimizer = make_optimizer(config.optimizer, 10)
    first: Any = types.SimpleNamespace(index=0)
    state = begin(params, params, optimizer, config.seed, first)
    loss_fn = make_loss(config, forbidden, SPECIAL["mask"], Density(), 1)
    step = jax.jit(make_train_step(loss_fn, optimizer, config.optimizer.ema_decay, ROWS, 0))
    state, metrics = step(state, batch)
    loss, uniform = float(metrics["loss"]), math.log((~forbidden).sum())
    near = abs(loss - uniform) < 0.2 * uniform
    rows += [Row("loss of the first step", f"{loss:.2f}", f"about ln V = {uniform:.2f}", near)]
    finite = all(bool(np.isfinite(x).all()) for x in jax.tree.leaves((state.params, state.ema)))
    rows += [Row("weights after it", "finite" if finite else "NOT finite", "finite", finite)]
    change = float(metrics["update_norm"])
    return [*rows, Row("their change (norm)", f"{change:.3g}", "above 0", change > 0)]


def verdict(rows: list[Row]) -> str:
    """The last line of the table. Raises UserError where something is not as it should be."""
    if wrong := [row.name for row in rows if not row.good]:
        raise UserError(f"the network is not what it should be: {', '.join(wrong)}")
    return f"all {sum(bool(row.wanted) for row in rows)} checks good"


def table(rows: list[Row]) -> list[str]:
    """The lines of the table; "NO" before what is not as it should be."""
    names, founds = (max(len(x) for x in column) for column in zip(*(r[:2] for r in rows), strict=True))
    signs = [("ok" if row.good else "NO") if row.wanted else "  " for row in rows]
    told = zip(signs, rows, strict=True)
    return [f"{sign}  {r.name:{names}}  {r.found:{founds}}  {r.wanted}".rstrip() for sign, r in told]
