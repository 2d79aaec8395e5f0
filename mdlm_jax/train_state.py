"""The training state, a pure pytree, and the one train step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from mdlm_jax import diffusion
from mdlm_jax.configuration import Config, ModelConfig
from mdlm_jax.devices import summed
from mdlm_jax.model import Transformer

Batch = dict[str, jax.Array]
LossFn = Callable[[Any, Batch, jax.Array], tuple[jax.Array, jax.Array]]


SCALE, LARGEST = 2.0**15, 2.0**24  # float16's first and largest: loss times scale, gradients over it
GROWTH = 200  # good steps after which it is doubled; a stage of a book has hundreds or thousands


class Guard(NamedTuple):
    """What keeps gradients that are not finite away from the weights; as it is at a stage's first step."""

    scale: Any = np.float32(SCALE)  # of float16's loss (Micikevicius et al. 2018, section 3.2)
    good: Any = np.int32(0)  # steps since the scale last changed
    skipped: Any = np.int32(0)  # steps of this stage that changed nothing
    in_a_row: Any = np.int32(0)  # the last of them, but for float16's search for a scale above 1


def guarded(state: Guard, finite: jax.Array, scaled: bool) -> Guard:
    """After a step; where the loss is `scaled` an overflow halves the scale, GROWTH good steps double it."""
    scale, good, row = state.scale, state.good + 1, state.in_a_row + 1
    if scaled:
        row = state.in_a_row + (scale == 1)
        grown = jnp.where(good == GROWTH, jnp.minimum(2 * scale, LARGEST), scale)
        scale = jnp.where(finite, grown, jnp.maximum(1, scale / 2))
    good, row = jnp.where(finite, good % GROWTH, 0), jnp.where(finite, 0, row)
    return Guard(scale, good, state.skipped + ~finite, row)


class TrainState(NamedTuple):
    """What a checkpoint holds. `params` is the float32 master; the compute copy is cast in the step."""

    step: jax.Array  # int32, optimizer steps in this stage
    params: Any
    ema: Any
    opt_state: Any
    key: jax.Array  # uint32 key data of the stage; step and micro-batch are folded in
    guard: Guard


@functools.cache
def build(config: ModelConfig) -> nnx.GraphDef:
    """The static half of the network, without allocating weights."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]


def init_params(config: ModelConfig, seed: int) -> Any:
    """Fresh float32 weights."""
    return jax.jit(lambda: nnx.state(Transformer(config, nnx.Rngs(params=seed)), nnx.Param))()


def cast(params: Any, precision: str) -> Any:
    """The compute copy: bfloat16 under "bf16", float16 under "float16", else the weights themselves."""
    kind = {"bf16": jnp.bfloat16, "float16": jnp.float16}.get(precision)
    return params if kind is None else jax.tree.map(lambda x: x.astype(kind), params)


def forbidden_rows(config: ModelConfig, vocab_size: int, special_ids: dict[str, int]) -> np.ndarray:
    """Rows that no logit may leave: [MASK], [PAD] and the rows added to pad the vocabulary; bool [V]."""
    rows = np.arange(config.vocab_rows)
    return (rows >= vocab_size) | (rows == special_ids["mask"]) | (rows == special_ids["pad"])


def denoiser(
    config: ModelConfig, params: Any, forbidden: np.ndarray | jax.Array,
    segments: jax.Array | None = None, key: jax.Array | None = None,
) -> diffusion.DenoiseFn:  # fmt: skip
    """`denoise_fn(tokens [B, L], index [M]) -> float32 logits [M, V]` of the network, SUBS applied."""
    model = nnx.merge(build(config), params)

    def denoise_fn(tokens: jax.Array, index: jax.Array) -> jax.Array:
        hidden = model(tokens, segments, key)
        gathered = hidden.reshape(-1, hidden.shape[-1])[index]
        return diffusion.subs(model.logits(gathered), jnp.asarray(forbidden))

    return denoise_fn


def make_loss(
    config: Config, forbidden: np.ndarray, mask_id: int, density: diffusion.Density, per_row: int
) -> LossFn:
    """loss(params, batch, key) -> (nats per scored token, share of tokens masked), dropout on."""
    rows, length = config.micro_batch, config.model.seq_len
    size = diffusion.capacity(rows * (length - 1), length - 1, rows * per_row, density)

    def loss(params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        noise_key, dropout_key = jax.random.split(key)
        segments, scored = batch["segments"], batch["scored"]
        dropout_on = dropout_key if config.model.dropout else None
        denoise_fn = denoiser(config.model, cast(params, config.precision), forbidden, segments, dropout_on)
        smoothing, strength = config.label_smoothing, config.soft_masking
        if config.model.causal:
            nats = diffusion.autoregressive_nats(denoise_fn, batch["tokens"], scored, smoothing)
            return nats.sum() / jnp.maximum(scored.sum(), 1), jnp.float32(0)
        emphasis = jnp.exp(strength * (batch["importance"] / 100 - 0.5)) if strength else None
        return diffusion.loss(
            denoise_fn, noise_key, batch["tokens"], segments, scored, per_row=per_row, density=density,
            mask_id=mask_id, size=size, label_smoothing=smoothing, emphasis=emphasis,
        )  # fmt: skip

    return loss


def make_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, ema_decay: float, micro_batch: int,
    steps_before: int, scaled: bool = False, mesh: Mesh | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:  # fmt: skip
    """A pure train step: gradients of the micro-batches, one update, one step of the weight average.

    `steps_before` are the optimizer steps of earlier stages: the average's warm-up goes on. Where the loss or
    the gradients' norm is not finite, nothing moves but the step's number and the guard, and the metric
    "taken" is 0. `scaled` is for float16. The devices of `mesh` share the micro-batches evenly.
    """

    @functools.partial(summed, mesh=mesh)
    def accumulated(params: Any, inputs: tuple, fixed: tuple) -> Any:
        key, scale = fixed

        def scaled_loss(*args: Any) -> tuple[jax.Array, ...]:
            return tuple(x * scale for x in loss_fn(*args))

        def accumulate(total: Any, x: tuple) -> tuple[Any, None]:
            i, micro, weight = x
            gradient = jax.value_and_grad(scaled_loss, has_aux=True)
            (loss, rate), grads = gradient(params, micro, jax.random.fold_in(key, i))
            return jax.tree.map(lambda t, g: t + weight * g, total, (loss, rate, grads)), None

        zero = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
        if len(inputs[0]) == 1:  # no loop, so that XLA sees one straight program
            return accumulate(zero, jax.tree.map(lambda x: x[0], inputs))[0]
        return jax.lax.scan(accumulate, zero, inputs)[0]

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        micros = jax.tree.map(lambda x: x.reshape(-1, micro_batch, *x.shape[1:]), batch)
        # Every micro-batch's mean counts by its scored tokens, so that the split does not change the loss.
        share = micros["scored"].sum((1, 2)) / jnp.maximum(micros["scored"].sum(), 1)
        scale = state.guard.scale if scaled else 1.0
        inputs = (jnp.arange(len(share)), micros, share / scale)  # exact: a power of two
        loss, mask_rate, grads = accumulated(state.params, inputs, (key, scale))
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        passed = state.step + steps_before
        decay = jnp.minimum(ema_decay, (1 + passed) / (10 + passed))
        old = state.params, state.ema, state.opt_state

        def update(old: tuple) -> tuple:
            updates, opt_state = optimizer.update(grads, old[2], old[0])
            params = optax.apply_updates(old[0], updates)
            ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, old[1], params)
            return params, ema, opt_state, optax.tree.norm(updates)

        params, ema, opt_state, moved = jax.lax.cond(finite, update, lambda old: (*old, jnp.float32(0)), old)
        metrics = {
            "loss": loss,
            "mask_rate": mask_rate,
            "gradient_norm": norm,
            "parameter_norm": optax.tree.norm(params),
            "clipped": optax.tree.get(opt_state, "clipped", jnp.float32(0)),
            "taken": finite,
            "update_norm": moved,
        }
        guard = guarded(state.guard, finite, scaled)
        return TrainState(state.step + 1, params, ema, opt_state, state.key, guard), metrics

    return train_step
