"""What each choice of the plan is worth: the same run with one thing changed, over several seeds.

    python benchmarks/ablations.py --book B [--only NAME ...] [--seeds 0 1 2] [--set FIELD=VALUE ...]
    python benchmarks/ablations.py --draw

Every run is a run directory of its own below --out, so a stopped study goes on where it was; every finished
run adds a line to --rows (docs/ablations.jsonl, committed). Prints a Markdown table: the mean over seeds, and
the difference from the first row, seed by seed, with a 95 % interval of Student's t where there are several.
--draw trains nothing and prints the tables of all rows: of three seeds, of fewer, of the twin.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from studies import ROOT, add, flags, known, rates, read_rows, run, trained

from mdlm_jax.ui import cli
from mdlm_jax.ui.values import UserError, nearest

SAME = ("book", "preset", "name", "fields", "seed")  # what makes two lines those of one run
ROWS = ROOT / "docs" / "ablations.jsonl"
ADAMW = {"optimizer.name": "adamw", "optimizer.b1": 0.9}


def epochs(*counts: int) -> dict[str, object]:
    """Of each stage, as fields."""
    return {f"stages[{i}].num_epochs": count for i, count in enumerate(counts)}


# What every row has, unless it says otherwise: decay and rates of both families at tiny as they were before
# this study, which keeps rows comparable; and about two million tokens of Frankenstein.
BEFORE: dict[str, object] = {"optimizer.weight_decay": 0.1} | rates(4e-3)
EPOCHS = epochs(7, 4, 21)
TWIN = {"config": "autoregressive", "evaluation.per_stage": 10, "stages[2].patience": 3}
USUAL_TWIN = "twin, 20 epochs"  # with which the others are compared
# Twice the context, and as many tokens a batch.
WIDE = {"model.seq_len": 256, "batch_size": 8, "micro_batch": 8}
DECAY = {"optimizer.weight_decay": 1.0}
TUNED = TWIN | DECAY
WORDS = {"data.vocab_size": 8192, "data.min_frequency": 2}
# Fields of the plan that a row sets, and its config if not three_stage; the rest are compared with the first.
STUDY: dict[str, dict[str, object]] = {
    "mdlm": {},
    "falling": {"mask_schedule": "curriculum", "full_range_fraction": 0.0},
    "falling, 30 % full range": {"mask_schedule": "curriculum", "full_range_fraction": 0.3},
    "rising": {"mask_schedule": "curriculum", "full_range_fraction": 0.0}
    | {f"stages[{i}].mask_rate": r for i, r in enumerate(("0.05,0.2", "0.4,0.6", "0.75,0.9"))},
    "low rates": {"mask_schedule": "curriculum", "full_range_fraction": 0.5}
    | {f"stages[{i}].mask_rate": "0,0.5" for i in range(3)},
    "single stage, 23 epochs": {"config": "single_stage"} | epochs(23),  # 1.87M tokens
    "single stage": {"config": "single_stage"} | epochs(24),
    "stages reversed": {"stages[0].name": "refinement", "stages[2].name": "foundational"} | epochs(21, 4, 7),
    "adamw 1e-3": ADAMW | rates(1e-3),
    "adamw 2e-3": ADAMW | rates(2e-3),
    "adamw 4e-3": ADAMW | rates(4e-3),
    "self-training": {"stages[2].self_training": 0.25},
    "soft-masking, surprisal": {"soft_masking": 2.0},
    "soft-masking, chen2023": {"soft_masking": 2.0, "data.importance": "chen2023"},
    "smoothing 0.1": {"label_smoothing": 0.1},
    "average 0.999": {"optimizer.ema_decay": 0.999},
    "no average": {"optimizer.ema_decay": 0.0},
    "dropout 0.1": {"model.dropout": 0.1},
    "vocabulary 1k": {"data.vocab_size": 1024},
    "vocabulary 2k": {"data.vocab_size": 2048},
    "vocabulary 8k": WORDS,
    "vocabulary 16k": {"data.vocab_size": 16384, "data.min_frequency": 1},
    "decay 1": DECAY,
    "decay 3": {"optimizer.weight_decay": 3.0},
    "decay 1, vocabulary 8k": DECAY | WORDS,
    "decay 1, rates 8e-3": DECAY | rates(8e-3),
    "decay 1, rates 16e-3": DECAY | rates(16e-3),
    "decay 1, rates 8e-3, vocabulary 8k": DECAY | rates(8e-3) | WORDS,
    "decay 1, vocabulary 8k, dropout 0.1": DECAY | WORDS | {"model.dropout": 0.1},
    "short range": {"mask_schedule": "curriculum", "full_range_fraction": 0.7}
    | {f"stages[{i}].mask_rate": "0,0.15" for i in range(3)},
    # The twin, with early stopping, to be tuned; and the diffusion model with as much as it can use.
    "twin, 20 epochs": TWIN | epochs(7, 4, 20),
    "twin, 20 epochs, dropout 0.1": TWIN | epochs(7, 4, 20) | {"model.dropout": 0.1},
    "twin, 20 epochs, dropout 0.3": TWIN | epochs(7, 4, 20) | {"model.dropout": 0.3},
    "twin, 20 epochs, rates 2e-3": TWIN | epochs(7, 4, 20) | rates(2e-3),
    "twin, 20 epochs, rates 8e-3": TWIN | epochs(7, 4, 20) | rates(8e-3),
    "twin, 20 epochs, decay 1": TUNED | epochs(7, 4, 20),
    "twin, 20 epochs, decay 1, 256 positions": TUNED | epochs(7, 4, 20) | WIDE,
    "twin, 20 epochs, decay 1, vocabulary 8k": TUNED | epochs(7, 4, 20) | WORDS,
    "twin, 8 epochs, decay 1": TUNED | epochs(7, 4, 8),
    "twin, 10 epochs, decay 1": TUNED | epochs(7, 4, 10),
    "twin, 10 epochs, decay 1, rates 8e-3": TUNED | epochs(7, 4, 10) | rates(8e-3),
    "twin, 10 epochs, decay 1, rates 16e-3": TUNED | epochs(7, 4, 10) | rates(16e-3),
    "twin, 10 epochs, decay 1, rates 32e-3": TUNED | epochs(7, 4, 10) | rates(32e-3),
    "twin, 10 epochs, decay 1, rates 8e-3, vocabulary 8k": TUNED | epochs(7, 4, 10) | rates(8e-3) | WORDS,
    "decay 1, 256 positions": DECAY | WIDE,
    "long, dropout 0.1, decay 1": epochs(10, 5, 90) | DECAY | {"model.dropout": 0.1},
}


def train(book: Path, preset: str, name: str, fields: dict[str, object], seed: int, out: Path) -> dict:
    """The line of one run, trained if it has no report yet."""
    data = "-".join(["data", *(str(v) for f, v in fields.items() if f.startswith("data."))])
    options = [f"--config={ROOT}/configs/{fields.get('config', 'three_stage')}.py:{preset}"]
    options += [f"--data={out / data}", f"--book={book}", f"--config.seed={seed}"]
    options += flags({field: value for field, value in fields.items() if field != "config"})
    found = trained(out / f"{name.replace(' ', '_').replace(',', '')}-seed{seed}", options)
    line = {
        "book": book.name,
        "preset": preset,
        "name": name,
        "fields": fields,
        "seed": seed,
        "commit": found["commit"],
    }
    line |= {"tokens": found["training_tokens"], "flops": found["training_flops"]}
    for split in ("validation", "test"):
        line |= {split: found[split]["bits_per_byte"], f"{split}_se": found[split]["bits_per_byte_se"]}
    return line


def table(lines: list[dict]) -> str:
    """Markdown; `lines` in the order of the study. Differences are from the first row, seed by seed, with a
    95 % interval of Student's t; where it has fewer of the seeds it says so.
    """
    names = list(dict.fromkeys(line["name"] for line in lines))
    by_name = {name: {line["seed"]: line for line in lines if line["name"] == name} for name in names}
    head = "| change | seeds | tokens | FLOPs | validation | test | against the first, validation | test |"
    rows = [head, "|---" * 8 + "|"]
    for name, runs in by_name.items():
        means = [f"{np.mean([run[split] for run in runs.values()]):.3f}" for split in ("validation", "test")]
        cells = [
            name,
            str(len(runs)),
            f"{np.mean([run['tokens'] for run in runs.values()]) / 1e6:.2f}M",
            f"{np.mean([run['flops'] for run in runs.values()]):.2e}",
            *means,
        ]
        for split in ("validation", "test"):
            first = by_name[names[0]]
            gaps = [run[split] - first[seed][split] for seed, run in runs.items() if seed in first]
            shown = f"{np.mean(gaps):+.3f}" if gaps else "-"
            if len(gaps) > 1:
                shown += f" ± {stats.sem(gaps) * stats.t.ppf(0.975, len(gaps) - 1):.3f}"
            if 0 < len(gaps) < len(runs):
                shown += f" (of {len(gaps)})"
            cells.append("" if name == names[0] else shown)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def tables(lines: list[dict]) -> str:
    """Of the lines of a book: changes of three seeds, of fewer, and of the twin, beside the first row."""
    lines = sorted((x for x in lines if x["name"] in STUDY), key=lambda x: list(STUDY).index(x["name"]))
    seeds = {name: {x["seed"] for x in lines if x["name"] == name} for name in STUDY}
    first = [x for x in lines if x["name"] == "mdlm"]
    own = [x for x in lines if not x["name"].startswith(("mdlm", "twin"))]
    twins = sorted((x for x in lines if x["name"].startswith("twin")), key=lambda x: x["name"] != USUAL_TWIN)
    decided = [x for x in own if len(seeds[x["name"]]) >= 3]
    fewer = [x for x in own if x not in decided]
    same = {seed for x in fewer for seed in seeds[x["name"]]}
    groups = {
        "Three seeds": first + decided,
        "Fewer, not decided": [x for x in first if x["seed"] in same] + fewer,
        "The twin": twins,
    }
    return "\n\n".join(f"{title}\n\n{table(group)}" for title, group in groups.items() if group)


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--book", type=Path)
    parser.add_argument("--draw", action="store_true", help="train nothing, print the tables of the rows")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--only", nargs="+", default=list(STUDY), metavar="CHANGE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="in every run")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--rows", type=Path, default=ROWS)
    a = parser.parse_args()
    if bool(a.book) == a.draw:
        raise UserError("--draw goes without --book" if a.draw else "--book B is needed, or --draw")
    if a.draw:
        rows = read_rows(a.rows)
        for book, preset in dict.fromkeys((x["book"], x["preset"]) for x in rows):
            print(f"{book}, {preset}\n")
            print(tables([x for x in rows if (x["book"], x["preset"]) == (book, preset)]), end="\n\n")
        return
    if unknown := next((name for name in a.only if name not in STUDY), None):
        raise UserError(f"--only: no change {unknown}{nearest(unknown, STUDY)}")
    common = dict(text.split("=", 1) for text in a.set)
    lines = []
    for seed in a.seeds:
        for name in a.only:
            fields = BEFORE | ({} if "config" in STUDY[name] else EPOCHS) | STUDY[name] | common
            line = {"book": a.book.name, "preset": a.preset, "name": name, "fields": fields, "seed": seed}
            found = known(a.rows, line, SAME)
            if not found:
                found = train(a.book.resolve(), a.preset, name, fields, seed, a.out.resolve())
                add(a.rows, found)
            print(json.dumps(found), file=sys.stderr, flush=True)
            lines.append(found)
    lines.sort(key=lambda line: list(STUDY).index(line["name"]))
    print(table(lines))


if __name__ == "__main__":
    run(main)
