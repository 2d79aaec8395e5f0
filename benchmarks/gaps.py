"""How well the length of a gap ____ is chosen: gaps cut into held-out paragraphs, whose length is known.

    python benchmarks/gaps.py [--workdir R]

For each length that is tried, `--number` places of the validation chapters lose so many tokens, 20 tokens or
more from either end of their paragraph. A choice is off by |log2(chosen / true)|: 1 is twice or half as long.
± is the standard error over the gaps.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from sampling import trained

from mdlm_jax.data import read_records
from mdlm_jax.evaluation.candidates import LENGTHS
from mdlm_jax.evaluation.likelihood import gap_nats
from mdlm_jax.evaluation.losses import dataset_of

MARGIN = 20


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, help="default: a tiny run on the built-in book")
    parser.add_argument("--number", type=int, default=24, help="gaps of each length")
    a = parser.parse_args()
    run, rng = trained(a.workdir, "three_stage"), np.random.default_rng(0)
    dataset = dataset_of(run.dataset.path, run.dataset.path / "data")
    texts = [r.ids.tolist() for r in read_records(dataset, "refinement", "validation")]
    texts = [text for text in texts if len(text) > 2 * MARGIN + max(LENGTHS)]
    true, nats = np.repeat(LENGTHS, a.number), []
    for length in true:
        text = texts[rng.integers(len(texts))]
        at = int(rng.integers(MARGIN, len(text) - length - MARGIN + 1))
        nats.append(gap_nats(run, text[:at], text[at + length :], LENGTHS))
    by_bound, lengths = np.array(nats), np.array(LENGTHS)
    chosen = {
        "the bound and 1 / n, as shipped": lengths[(by_bound + np.log(lengths)).argmin(1)],
        "the bound alone": lengths[by_bound.argmin(1)],
        "at random": rng.choice(lengths, len(true)),
        "always 1": np.full(len(true), 1),
        "always 4": np.full(len(true), 4),
    }
    short = true <= 4
    print(f"{len(true)} gaps of {', '.join(map(str, LENGTHS))} tokens\n")
    print("| length by | off by, all | off by, true length up to 4 | exact | median |\n|---|---|---|---|---|")
    for name, found in chosen.items():
        off = np.abs(np.log2(found / true))
        told = [f"{x.mean():.2f} ± {x.std(ddof=1) / len(x) ** 0.5:.2f}" for x in (off, off[short])]
        print(f"| {name} | {' | '.join(told)} | {(off == 0).mean():.0%} | {np.median(found):.0f} |")


if __name__ == "__main__":
    main()
