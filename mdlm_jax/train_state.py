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


class TrainState(NamedTuple):
    """What a checkpoint holds. `params` is the float32 master; the compute copy is cast in the step."""

    step: jax.Array  # int32, optimizer steps in this stage
    params: Any
    ema: Any
    opt_state: Any
    key: jax.Array  # uint32 key data of the stage; step and micro-batch are folded in


@functools.cache
def build(config: ModelConfig) -> nnx.GraphDef:
    """The static half of the network, without allocating weights."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]


def init_params(config: ModelConfig, seed: int) -> Any:
    """Fresh float32 weights."""
    return jax.jit(lambda: nnx.state(Transformer(config, nnx.Rngs(params=seed)), nnx.Param))()


def cast(params: Any, precision: str) -> Any:
    """The compute copy: bfloat16 under "bf16", else the weights themselves."""
    if precision != "bf16":
        return params
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)


def forbidden_rows(config: ModelConfig, vocab_size: int, special_ids: dict[str, int]) -> np.ndarray:
    """Rows that no logit may leave: [MASK], [PAD] and the rows added to pad the vocabulary; bool [V]."""
    rows = np.arange(config.vocab_rows)
    return (rows >= vocab_size) | (rows == special_ids["mask"]) | (rows == special_ids["pad"])


def denoiser(
    config: ModelConfig,
    params: Any,
    forbidden: np.ndarray | jax.Array,
    segments: jax.Array | None = None,
    key: jax.Array | None = None,
) -> diffusion.DenoiseFn:
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
        smoothing = config.label_smoothing
        if config.model.causal:
            nats = diffusion.autoregressive_nats(denoise_fn, batch["tokens"], scored, smoothing)
            return nats.sum() / jnp.maximum(scored.sum(), 1), jnp.float32(0)
        return diffusion.loss(
            denoise_fn, noise_key, batch["tokens"], segments, scored,
            per_row=per_row, density=density, mask_id=mask_id, size=size, label_smoothing=smoothing,
        )  # fmt: skip

    return loss


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    micro_batch: int,
    steps_before: int,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """A pure train step: gradients of the micro-batches, one update, one step of the weight average.

    `steps_before` are the optimizer steps of earlier stages: the average's warm-up goes on. The devices of
    `mesh` take equal shares of the micro-batches.
    """

    @functools.partial(summed, mesh=mesh)
    def accumulated(params: Any, inputs: tuple, key: jax.Array) -> Any:
        def accumulate(total: Any, x: tuple) -> tuple[Any, None]:
            i, micro, weight = x
            gradient = jax.value_and_grad(loss_fn, has_aux=True)
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
        inputs = (jnp.arange(len(share)), micros, share)
        loss, mask_rate, grads = accumulated(state.params, inputs, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        passed = state.step + steps_before
        decay = jnp.minimum(ema_decay, (1 + passed) / (10 + passed))
        ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema, params)
        metrics = {
            "loss": loss,
            "mask_rate": mask_rate,
            "gradient_norm": optax.tree.norm(grads),
            "parameter_norm": optax.tree.norm(params),
        }
        return TrainState(state.step + 1, params, ema, opt_state, state.key), metrics

    return train_step
