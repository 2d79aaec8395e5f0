"""How low can the held-out figure get? Trained runs measured together: an ensemble, and over several orders.

    python benchmarks/moonshot.py --runs R1 [R2 ...] [--data D] [--orders 8] [--split validation]

Runs of one shape on the same data are one model whose probabilities are the mean of theirs: its bound, or
for the twin its exact figure. With --orders K also the exact likelihood of the model that draws one of K
orders of writing, all alike (seeds 0 to K - 1), which is never above the mean over these orders (Jensen), of
which the bound is the mean over all orders. Adds a line of JSON to --rows.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from studies import ROOT, add, read_rows, run

from mdlm_jax.evaluation.analytics import commit
from mdlm_jax.evaluation.exact import make_in_order
from mdlm_jax.evaluation.likelihood import bytes_and_words, held_out, held_out_windows
from mdlm_jax.evaluation.losses import dataset_of
from mdlm_jax.run_directory import cache_compilations, load
from mdlm_jax.ui import cli
from mdlm_jax.ui.values import UserError


def ranks(windows: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """A random order [W, L] of the positions of each window."""
    return np.random.default_rng(seed).random(windows["tokens"].shape).argsort(axis=1)


def mixture(nats: np.ndarray) -> np.ndarray:
    """Nats [W] of the model that draws one of K models for each window, all alike; nats [K, W] of each."""
    return -(logsumexp(-nats, axis=0) - math.log(len(nats)))


def main() -> None:
    """Measures and prints."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="their shards, where they are not in <run>/data")
    parser.add_argument("--orders", type=int, default=0)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--rows", type=Path, default=ROOT / "docs" / "moonshot.jsonl")
    a = parser.parse_args()
    cache_compilations(ROOT / ".jax_cache")
    if a.orders < 0:
        raise UserError("--orders must be at least 0")
    read_rows(a.rows)  # before anything is measured
    for path in a.runs:
        dataset = dataset_of(path, a.data or a.runs[0] / "data")
    runs = [load(path) for path in a.runs]
    first = runs[0]
    if any(run.config.model != first.config.model for run in runs):
        raise UserError("--runs: their networks have different shapes")
    if a.orders and first.config.model.causal:
        raise UserError("--orders: an autoregressive model has one order only")
    weights = [run.params for run in runs]
    found = held_out(first.config, dataset, a.runs[0], a.split)(weights)
    line = {"runs": [path.name for path in a.runs], "split": a.split, "commit": commit()}
    line |= {name: found[name] for name in ("kind", "bits_per_byte", "bits_per_byte_se")}
    told = f"{line['kind']}: {line['bits_per_byte']:.4f} +- {line['bits_per_byte_se']:.4f} bits per byte"
    print(f"{a.split}, {told}", flush=True)
    if a.orders:
        windows = held_out_windows(dataset, a.split, first.config.model.seq_len)
        size = math.log(2) * bytes_and_words(dataset, a.runs[0], a.split)[0]
        nats: list[np.ndarray] = []
        for seed in range(a.orders):
            exact = make_in_order(
                first.config, first.forbidden, dataset.special_ids["mask"], windows, ranks(windows, seed)
            )
            nats.append(exact(weights).sum(axis=1))
            together = mixture(np.array(nats)).sum()
            print(f"order {seed}: {nats[-1].sum() / size:.4f}, together {together / size:.4f}", flush=True)
        line |= {"orders": a.orders, "mean_over_orders": float(np.mean(nats, 0).sum() / size)}
        line |= {"mixture_of_orders": float(together / size)}
    add(a.rows, line)


if __name__ == "__main__":
    run(main)
