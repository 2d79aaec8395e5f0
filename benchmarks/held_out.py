"""The table of docs/results.md: diffusion, single stage and autoregressive twin on several splits and seeds.

    python benchmarks/held_out.py [--book B] [--out DIR] [--preset tiny] [--splits 0 1 2] [--seeds 0 1]

Every run is a run directory of its own, so a stopped benchmark goes on where it was. The first split
is trained with every seed, the others with the first. Prints a Markdown table.
"""

import argparse
from pathlib import Path

from studies import ROOT, run, trained

from mdlm_jax.ui import cli


def train(config: str, preset: str, book: Path | None, out: Path, split: int, seed: int) -> dict:
    """report.json of one run, trained if it is not there yet."""
    options = [f"--config={ROOT}/configs/{config}.py:{preset}", f"--data={out / f'data-split{split}'}"]
    options += [f"--config.seed={seed}", f"--config.data.split_seed={split}"]
    options += [f"--book={book}"] if book else []
    return trained(out / f"{config}-split{split}-seed{seed}", options)


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--book", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/held_out"))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--configs", nargs="+", default=["three_stage", "single_stage", "autoregressive"])
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    a = parser.parse_args()
    book = a.book.resolve() if a.book else None
    print("Bits per byte of held-out chapters, average weights\n")
    print("| config | split | seed | tokens | validation | test | 5-gram validation | test | commit |")
    print("|---" * 9 + "|", flush=True)
    for i, split in enumerate(a.splits):
        for seed in a.seeds if i == 0 else a.seeds[:1]:
            for config in a.configs:
                r = train(config, a.preset, book, a.out.resolve(), split, seed)
                results = [r[s] for s in ("validation", "test")]
                errors = [f" ± {x['bits_per_byte_se']:.3f}" * (x["kind"] == "bound") for x in results]
                cells = [f"{x['bits_per_byte']:.3f}{e}" for x, e in zip(results, errors, strict=True)]
                floor = [f"{r['ngram_5_bits_per_byte'][s]:.3f}" for s in ("validation", "test")]
                row = [config, str(split), str(seed), f"{r['training_tokens'] / 1e6:.2f}M", *cells, *floor]
                row.append(str(r["commit"]))
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    run(main)
