"""What the key/value cache of block-by-block writing changes: logits and bound, on held-out text.

    python benchmarks/cache.py [--workdir R] [--quick]

Windows of the validation split. A block of b tokens, at the window's end (writing on) or in its middle (a
gap), is partly masked. The keys and values of the text around it were read when all of the block was masked
(cached), or are computed now (exact). Of the masked places: the absolute difference of log-probabilities over
all tokens that may stand there, in nats; KL(exact || cached); how often another token is the likeliest; nats
per token of the book's own text, cached less exact, ± the standard error over windows. The last line of each
table is the block's bound, all numbers of masks alike (16 strata), the same masks for both.
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from sampling import book, trained

from mdlm_jax import generation
from mdlm_jax.configuration import ModelConfig

SHARES = (0.0, 0.25, 0.5, 0.75, 0.95)  # of the block, written already
STRATA = 16
ROUNDING = 1e-3  # nats, of float32 sums in another order


def masks(rng: np.random.Generator, block: int) -> np.ndarray:
    """bool [len(SHARES) + STRATA, block]: what is masked, for each share and for each stratum."""
    counts = [max(1, block - round(share * block)) for share in SHARES]
    counts += [int(np.ceil(block * (j + rng.uniform(1e-9, 1)) / STRATA)) for j in range(STRATA)]
    return np.array([rng.permutation(block) < k for k in counts])


@functools.partial(jax.jit, static_argnames=("model", "mask_id"))
def differences(
    model: ModelConfig, params: Any, forbidden: jax.Array, window: jax.Array, masked: jax.Array,
    start: jax.Array, mask_id: int,
) -> dict[str, jax.Array]:  # fmt: skip
    """Figures [R] of R ways (bool [R, b]) to mask the block at `start` of a window, int [L]."""
    (rows, block), length = masked.shape, len(window)
    text = jax.lax.dynamic_slice_in_dim(window, start, block)
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=1)
    canvas = jnp.broadcast_to(window, (rows, length))
    unread = put(canvas[:1], jnp.full((1, block), mask_id, canvas.dtype))
    read = generation._read(model, params, unread, jnp.int32(length))
    memory = jax.tree.map(lambda x: jnp.repeat(x, rows, axis=0), read)
    tokens = put(canvas, jnp.where(masked, mask_id, text))
    index = (jnp.arange(rows)[:, None] * length + start + jnp.arange(block)).reshape(-1)

    def log_p(width: int, first: jax.Array | int, memory: Any) -> jax.Array:
        free = jnp.zeros_like(forbidden)  # no place at which a word must begin
        context = generation.Context(params, forbidden, free, free[:1].repeat(length), length, first)
        logits = generation._denoise(model, width)(context, memory, tokens, index)[0]
        return jax.nn.log_softmax(logits).reshape(rows, block, -1)

    exact, cached = log_p(length, 0, ()), log_p(block, start, memory)
    apart = jnp.where(forbidden, 0.0, cached - exact)
    nats = [-jnp.take_along_axis(x, text[None, :, None], axis=-1)[..., 0] for x in (exact, cached)]

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(masked, x, 0.0), axis=1) / masked.sum(1)

    return {
        "mean": mean(jnp.abs(apart).sum(-1) / jnp.sum(~forbidden)),
        "max": jnp.where(masked, jnp.abs(apart).max(-1), 0.0).max(1),
        "KL": mean(-jnp.sum(jnp.exp(exact) * apart, axis=-1)),
        "other": mean(exact.argmax(-1) != cached.argmax(-1)),
        "nats": mean(nats[0]),
        "change": mean(nats[1] - nats[0]),
    }


def line(name: str, x: dict[str, np.ndarray]) -> str:
    """A line of the table; figures [windows]."""
    change, error = x["change"].mean(), x["change"].std(ddof=1) / len(x["change"]) ** 0.5
    cells = [name, f"{x['mean'].mean():.4f}", f"{x['max'].max():.3f}", f"{x['KL'].mean():.5f}"]
    cells += [f"{x['other'].mean():.2%}", f"{x['nats'].mean():.3f}", f"{change:+.5f} ± {error:.5f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table for each place and length of the block."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, help="default: a tiny run on the built-in book")
    parser.add_argument("--blocks", nargs="+", type=int, default=[16, 32, 64])
    parser.add_argument("--quick", action="store_true", help="eight windows")
    a = parser.parse_args()
    run = trained(a.workdir, "three_stage")
    model, special, rng = run.config.model, run.dataset.special_ids, np.random.default_rng(0)
    windows = np.pad(book(run), ((0, 0), (1, 0)), constant_values=special["eos"])[: 8 if a.quick else None]
    worst, rounding = 0.0, 0.0  # with nothing written, as the run computes and in float32
    exactly = dataclasses.replace(model, bf16_products=False), run.params
    own = model, run.compute_params
    print(f"{len(windows)} windows of {model.seq_len} positions, {run.config.precision}")

    def found(who: tuple, window: np.ndarray, masked: np.ndarray, start: int) -> dict[str, np.ndarray]:
        answer = differences(*who, run.forbidden, window, masked, np.int32(start), special["mask"])
        return {name: np.asarray(x, np.float64) for name, x in answer.items()}

    for block in a.blocks:
        for place, start in (("end", model.seq_len - block), ("middle", (model.seq_len - block) // 2)):
            each = [found(own, window, masks(rng, block), start) for window in windows]
            x = {name: np.stack([f[name] for f in each]) for name in each[0]}
            print(f"\n### A block of {block} at the {place}\n")
            print("| written | mean abs | max abs | KL | other likeliest | nats, exact | cached less exact |")
            print("|---|---|---|---|---|---|---|")
            for i, share in enumerate(SHARES):
                print(line(f"{share:.0%}", {name: y[:, i] for name, y in x.items()}))
            bound = {name: y[:, len(SHARES) :] for name, y in x.items()}
            print(line("bound", {n: y.max(1) if n == "max" else y.mean(1) for n, y in bound.items()}))
            sys.stdout.flush()
            worst = max(worst, x["max"][:, 0].max())
            unwritten = np.ones((1, block), bool)
            for window in windows[:8]:
                rounding = max(rounding, found(exactly, window, unwritten, start)["max"].max())
    told = f"{worst:.1g} nats in {run.config.precision}, {rounding:.1g} in float32 (eight windows)"
    print(f"\nWith nothing written the greatest difference is {told}.")
    if rounding > ROUNDING:
        raise SystemExit("That is more than rounding: the first call of a block is not exact.")
    print("That is rounding: the first call of a block is exact.")


if __name__ == "__main__":
    main()
