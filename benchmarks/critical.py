"""What plans spend on a book against its critical compute. Prepares the book, trains nothing.

    python benchmarks/critical.py [--book B] [--plans three_stage.py:tiny ...]

Prints a Markdown table: unique tokens with the plan's vocabulary, Ccrit, the FLOPs, where they pass it.
Ccrit was fitted on 25M to 100M unique tokens; for a book it is an extrapolation.
"""

import argparse
import tempfile
from pathlib import Path

from studies import ROOT, planned, run

from mdlm_jax.evaluation.analytics import commit
from mdlm_jax.evaluation.estimate import against_law
from mdlm_jax.ui import cli

PLANS = [f"three_stage.py:{size}" for size in ("tiny", "small", "base")]


def row(plan: str, book: Path | None, data: Path) -> str:
    """A line of the table."""
    options = [f"--config={ROOT}/configs/{plan}", f"--data={data}", *([f"--book={book}"] if book else [])]
    found = against_law(*planned(options))
    where = "not passed"
    if passed := found["passed"]:
        where = "stage {stage}, step {step:,}, epoch {epoch}".format(**passed)
    cells = [plan, f"{found['unique_tokens']:,}", f"{found['flops']:.2e}"]
    cells += [f"{found['flops'] * found['ratio']:.2e}", f"{found['ratio']:.3g}", where]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--book", type=Path, help="default: the built-in novel")
    parser.add_argument("--plans", nargs="+", default=PLANS, help="of configs/")
    a = parser.parse_args()
    print(f"commit {commit()}\n")
    print("| plan | unique tokens | Ccrit | FLOPs of the plan | times Ccrit | passes it at |")
    print("|---" * 6 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for i, plan in enumerate(a.plans):
            print(row(plan, a.book.resolve() if a.book else None, Path(scratch) / str(i)), flush=True)


if __name__ == "__main__":
    run(main)
