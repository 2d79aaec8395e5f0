"""What the plans take, estimated and by XLA's own figures: state, train step, evaluation, one canvas.

    python benchmarks/memory.py [three_stage.py:tiny memory_efficient.py:base ...] [--precision float32 bf16]
        [--vocabulary 25024]

Nothing is trained and no weights are made: every program is compiled for shapes, on the device that jax
finds. On a CPU that says what an accelerator would need only so far as XLA lays out the same arrays: bfloat16
is computed in float32 there (products get converted copies), and layers that are unrolled keep what remat
would drop. So a CPU's figures are an estimate for a GPU until one confirms them. Prints a Markdown table, in
MB; evaluation and canvas include the weights that they read, training is the most that it holds at once.
"""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # the same buffers, compiled sooner

import jax
import jax.numpy as jnp
import numpy as np

import configs
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset, RowSource, StageData
from mdlm_jax.diffusion import Density
from mdlm_jax.evaluation.estimate import compiled_bytes, fit, memory
from mdlm_jax.evaluation.likelihood import make_nats
from mdlm_jax.laws import Law
from mdlm_jax.sampler import Plan, sample
from mdlm_jax.train import compile_step
from mdlm_jax.train_state import denoiser, forbidden_rows, init_params

ROOT = Path(__file__).resolve().parent.parent
PLANS = [*(f"three_stage.py:{size}" for size in configs.SIZES[::-1]), "memory_efficient.py:base"]
SPECIAL = {"pad": 0, "mask": 1, "sep": 2, "eos": 3}


def stage_of(config: Config) -> Stage:
    """A stage of one step: rows of one segment, as long as can be, over the full range of mask rates."""
    length = config.model.seq_len
    rows = [[np.full(length - 1, 4, np.int32)]] * config.batch_size
    return Stage(
        0, config.stages[-1], StageData(RowSource(rows, length, SPECIAL), config.batch_size), Density(), 0
    )


def evaluation(config: Config, forbidden: np.ndarray) -> jax.stages.Compiled:
    """The program of the held-out bound."""
    shape = max(1, 64 // config.evaluation.strata), config.model.seq_len
    tokens, scored = (jax.ShapeDtypeStruct(shape, kind) for kind in (jnp.int32, bool))
    nats_of: Any = make_nats(config, forbidden, SPECIAL["mask"], shape[1], lambda nats: nats.sum(-1))
    params = jax.eval_shape(lambda: init_params(config.model, 0))
    return nats_of.lower(params, tokens, tokens, scored, jax.eval_shape(lambda: jax.random.key(0))).compile()


def canvas(config: Config, forbidden: np.ndarray) -> jax.stages.Compiled:
    """The program that writes one canvas with the plan's own sampler."""
    model, s, shape = config.model, config.sampling, (1, config.model.seq_len)

    def denoise(context: Any, memory: Any, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
        return denoiser(model, context[0], forbidden, context[1])(tokens, index), memory

    kind = jnp.bfloat16 if config.precision == "bf16" else jnp.float32
    params = jax.eval_shape(lambda: jax.tree.map(lambda x: x.astype(kind), init_params(model, 0)))
    row, due = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, bool)
    key, law = jax.eval_shape(lambda: jax.random.key(0)), Law(temperature=s.temperature, top_p=s.top_p)
    plan = Plan(s.sampler, s.steps)
    return sample.lower(
        denoise, (params, row), key, row, due, law, plan=plan, mask_id=SPECIAL["mask"]
    ).compile()


def row(name: str, precision: str, vocabulary: int) -> list[str]:
    """A line of the table."""
    config = resolve(configs.load(str(ROOT / "configs" / name)))
    rows = min(vocabulary, -(-config.data.vocab_size // 64) * 64)
    model = dataclasses.replace(config.model, vocab_rows=rows, bf16_products=False)
    config = dataclasses.replace(config, model=model, precision=precision)
    dataset, stage = Dataset(Path(), {"special_ids": SPECIAL, "vocab_size": rows}), stage_of(config)
    forbidden = forbidden_rows(model, rows, SPECIAL)
    step = None
    if not config.micro_batch:
        config, made = fit(config, [stage], lambda c, s: compile_step(dataset, c, s))
        [step] = made.values()
    step = step or compile_step(dataset, config, stage)
    needed, bound, writing = memory(config, [stage]), evaluation(config, forbidden), canvas(config, forbidden)
    weights = sum(x.size * 4 for x in jax.tree.leaves(jax.eval_shape(lambda: init_params(model, 0))))
    held, evaluated, written = compiled_bytes(step), compiled_bytes(bound), compiled_bytes(writing)
    written += weights * (precision == "bf16")  # the float32 weights stay beside their copy
    pairs = [
        (needed.state, step.memory_analysis().alias_size_in_bytes),
        (needed.state + needed.step, held),
        (needed.evaluation + weights, evaluated),
        (needed.sampling, written),
        (needed.total - needed.process, max(held, needed.state - weights + evaluated, 2 * needed.state)),
    ]
    cells = [f"{estimated / 1e6:,.1f} / {compiled / 1e6:,.1f}" for estimated, compiled in pairs]
    return [name, precision, f"{config.micro_batch}", *cells]


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", nargs="*", default=PLANS)
    parser.add_argument("--precision", nargs="+", default=["float32", "bf16"])
    parser.add_argument("--vocabulary", type=int, default=25_024, help="rows at most")
    a = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}; MB, estimated / compiled\n")
    head = [
        "plan",
        "precision",
        "micro_batch",
        "state",
        "state + step",
        "evaluation",
        "one canvas",
        "training",
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in a.plans:
        for precision in a.precision:
            print(f"| {' | '.join(row(name, precision, a.vocabulary))} |", flush=True)


if __name__ == "__main__":
    main()
