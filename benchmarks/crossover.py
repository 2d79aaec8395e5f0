"""From how much training on is masked diffusion better than its autoregressive twin? A grid of both families.

    python benchmarks/crossover.py --book B [--only 'masked-4x128x2-*' ...] [--most_flops 1e14]
    python benchmarks/crossover.py --draw

Both are configs/single_stage.py (refinement alone), with and without dropout and with two vocabularies (as
CAP-LEAST: so many tokens at most, each seen so often at least), the twin causal and with the rates of
configs/autoregressive.py; each run has its own number of epochs and a schedule to its own end, the cheapest
first. Every run is a run directory of its own below --out, so a stopped study goes on where it was; every
finished run adds a line to --rows (docs/crossover.jsonl, committed). Then, or with --draw alone, prints a
Markdown table for every book of the rows and draws crossover_<book>.svg beside them.

An envelope joins, on a logarithmic axis of compute, the runs that are better than every cheaper one. It is of
this grid: it says nothing about sizes and epochs that nobody has trained.
"""

import argparse
import itertools
import math
import operator
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from studies import ROOT, add, flags, known, planned, rates, read_rows, run, trained

import configs
from configs import autoregressive, single_stage
from mdlm_jax.evaluation.charts import Series, lines
from mdlm_jax.evaluation.critical import FITTED, critical_compute
from mdlm_jax.evaluation.likelihood_section import NORMAL_95
from mdlm_jax.evaluation.svg import Axis
from mdlm_jax.ui import cli
from mdlm_jax.ui.values import UserError

ROWS = ROOT / "docs" / "crossover.jsonl"
FAMILIES = {"masked": "masked diffusion (bound)", "causal": "causal twin (exact)"}
PLACE = ("size", "epochs", "dropout", "vocabulary", "decay", "rate")  # of the grid
SAME = ("book", "preset", "family", *PLACE, "seed")  # what makes two lines those of one run
ERRORS = 2.0  # standard errors by which the envelopes are moved


class Point(NamedTuple):
    """A place of the grid: training FLOPs, held-out bits per byte and its standard error, over the seeds."""

    flops: float
    value: float
    error: float
    lines: list[dict]


def options(line: dict, book: Path, out: Path) -> list[str]:
    """The flags of launch.py for the run of a line."""
    layers, width, heads = line["size"].split("x")
    most, least = line["vocabulary"].split("-")
    found = [f"--config={ROOT}/configs/single_stage.py:{line['preset']}", f"--book={book}"]
    found += [f"--data={out}/data-{book.stem}-{line['vocabulary']}"]
    fields = {"seed": line["seed"], "data.vocab_size": most, "data.min_frequency": least}
    fields |= {"model.num_layers": layers, "model.d_model": width, "model.num_heads": heads}
    fields |= {"model.causal": line["family"] == "causal", "model.dropout": line["dropout"]}
    fields |= {"stages[0].num_epochs": line["epochs"], "optimizer.weight_decay": line["decay"]}
    return found + flags(fields | rates(line["rate"]))


def cost(line: dict, book: Path, out: Path) -> tuple[float, float]:
    """FLOPs and, estimated, seconds of a run on this machine; prepares the book once for all."""
    from mdlm_jax.evaluation.estimate import seconds, stage_flops

    config, dataset, stages = planned(options(line, book, out))
    return sum(stage_flops(config, s) for s in stages), seconds(config, stages, dataset)


def named(line: dict) -> str:
    """What --only matches."""
    return "-".join(str(line[name]) for name in ("family", *PLACE))


def train(line: dict, book: Path, out: Path) -> dict:
    """The whole line of a run, trained if it has no report yet."""
    workdir = out / f"{book.stem}-{line['preset']}-{named(line)}-seed{line['seed']}"
    found = trained(workdir, options(line, book, out))
    return line | {
        "commit": found["commit"],
        "tokens": found["training_tokens"],
        "flops": found["training_flops"],
        "validation": found["validation"]["bits_per_byte"],
        "se": found["validation"]["bits_per_byte_se"],
        "test": found["test"]["bits_per_byte"],
        "kind": found["validation"]["kind"],
        "unique": found["critical"]["unique_tokens"],
        "ngram": found["ngram_5_bits_per_byte"]["validation"],
    }


def points(rows: list[dict], family: str) -> list[Point]:
    """The family's places of the grid by FLOPs. Their error is that of the bound's masks, which all seeds
    share, and where there are several seeds that of their mean too, as wide as Student's t asks for.
    """
    found, place = [], operator.itemgetter(*PLACE)
    own = sorted((r for r in rows if r["family"] == family), key=place)
    for same in (list(group) for _, group in itertools.groupby(own, place)):
        values = [r["validation"] for r in same]
        error = float(np.mean([r["se"] for r in same]))
        if len(same) > 1:
            error = math.hypot(
                error, float(stats.sem(values) * stats.t.ppf(0.975, len(same) - 1) / NORMAL_95)
            )
        found.append(Point(float(np.mean([r["flops"] for r in same])), float(np.mean(values)), error, same))
    return sorted(found, key=lambda p: (p.flops, p.value))


def unique_tokens(rows: list[dict]) -> int:
    """Of the book, in the vocabulary that makes them most."""
    return max(r["unique"] for r in rows)


def envelope(found: list[Point]) -> list[Point]:
    """Those that are better than every cheaper one."""
    best = list(itertools.accumulate((p.value for p in found), min, initial=math.inf))
    return [p for p, before in zip(found, best, strict=False) if p.value < before]


def at(found: list[Point], flops: float, errors: float) -> float:
    """The envelope `errors` standard errors above its place; beyond its last run it is level."""
    values = [p.value + errors * p.error for p in found]
    return float(np.interp(math.log10(flops), [math.log10(p.flops) for p in found], values))


def gap(masked: list[Point], causal: list[Point], flops: float, errors: float = 0.0) -> float:
    """Bits per byte by which masked diffusion is behind, both `errors` standard errors against it."""
    return at(envelope(masked), flops, errors) - at(envelope(causal), flops, -errors)


def crossing(masked: list[Point], causal: list[Point], errors: float = 0.0) -> float | None:
    """FLOPs from which masked diffusion is at least level at every budget that both families were trained to.

    None where there are none; the first budget of both where it always is. On a line of the gap against the
    logarithm of FLOPs.
    """
    low, high = budgets(masked, causal)
    knots = sorted({low, high, *(p.flops for p in (*masked, *causal) if low < p.flops < high)})
    gaps = [gap(masked, causal, flops, errors) for flops in knots]
    behind = [i for i, g in enumerate(gaps) if g > 0]
    if not behind:
        return low
    if (i := behind[-1]) + 1 == len(knots):
        return None
    share = gaps[i] / (gaps[i] - gaps[i + 1])
    return knots[i] * (knots[i + 1] / knots[i]) ** share


def budgets(masked: list[Point], causal: list[Point]) -> tuple[float, float]:
    """The least and the largest FLOPs that both families were trained to."""
    return max(masked[0].flops, causal[0].flops), min(masked[-1].flops, causal[-1].flops)


def compared(rows: list[dict]) -> tuple[list[Point], list[Point]] | None:
    """The points of both families, where there are budgets that both were trained to."""
    masked, causal = (points(rows, family) for family in FAMILIES)
    if not (masked and causal):
        return None
    low, high = budgets(masked, causal)
    return (masked, causal) if low < high else None


def behind(masked: list[Point], causal: list[Point]) -> str:
    """The gap at the last three budgets of masked diffusion, in words."""
    low, high = budgets(masked, causal)
    last = [p.flops for p in masked if low <= p.flops <= high][-3:] or [low, high]
    gaps = [gap(masked, causal, flops) for flops in last]
    if max(gaps) - min(gaps) < 5e-4:
        trend = "level"
    elif gaps == sorted(gaps):
        trend = "growing"
    else:
        trend = "falling" if gaps == sorted(gaps, reverse=True) else "not falling steadily"
    told = f"at its last budgets ({', '.join(f'{flops:.1e}' for flops in last)}) the envelope of masked "
    told += f"diffusion is behind by {', '.join(f'{g:.3f}' for g in gaps)} bits per byte"
    return f"{told}, {trend}" if len(gaps) > 1 else told


def verdict(rows: list[dict]) -> tuple[str, float | None]:
    """What the rows of one book say, in words, and the crossing where there is one."""
    pair = compared(rows)
    if not pair:
        return "No comparison: there are no budgets that both families were trained to.", None
    (low, high), critical = budgets(*pair), critical_compute(unique_tokens(rows))
    found, worst, best = (crossing(*pair, errors) for errors in (0.0, ERRORS, -ERRORS))
    if found is None:
        told = f"No crossing up to {high:.2e} FLOPs, {high / critical:.3g} times Ccrit: {behind(*pair)}. "
        would = f"would put one at {best:.2e}" if best else "would not make one"
        told += f"Two standard errors in its favour {would}."
    elif found == low:
        told = f"Masked diffusion is not behind at any budget from {low:.2e} to {high:.2e} FLOPs; with two "
        told += f"standard errors against it {f'from {worst:.2e} on' if worst else 'it is at the last'}."
    else:
        told = (
            f"Crossing at {found:.2e} FLOPs, {found / critical:.3g} times Ccrit, interpolated between runs; "
        )
        told += f"two standard errors for or against it: {best:.2e} to "
        told += f"{worst:.2e}." if worst else f"beyond {high:.2e}."
    seeds = sorted({r["seed"] for r in rows})
    if len(seeds) == 1:
        return f"{told} One seed: how much seeds differ is not in these errors.", found
    alone = [compared([r for r in rows if r["seed"] == seed]) for seed in seeds]
    each = [f"{flops:.2e}" if (flops := crossing(*p)) else "none" for p in alone if p]
    return f"{told} By seeds alone: {', '.join(each) or 'too few runs'}.", found


def table(rows: list[dict]) -> str:
    """Markdown; a row per place of the grid, by family and FLOPs."""
    shown = [name for name in PLACE if name in ("size", "epochs") or len({r[name] for r in rows}) > 1]
    head = ["family", *shown, "seeds", "tokens", "FLOPs", "times Ccrit", "validation", "test", "envelope"]
    out = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    critical = critical_compute(unique_tokens(rows))
    for family in FAMILIES:
        found = points(rows, family)
        best = envelope(found)
        for p in found:
            one, exact = p.lines[0], p.lines[0]["kind"] == "exact"
            cells = [family, *(str(one[name]) for name in shown), f"{len(p.lines)}"]
            cells += [f"{one['tokens'] / 1e6:.2f}M", f"{p.flops:.2e}", f"{p.flops / critical:.3g}"]
            alone = exact and len(p.lines) == 1
            cells += [f"{p.value:.3f}" if alone else f"{p.value:.3f} ± {p.error:.3f}"]
            cells += [f"{np.mean([r['test'] for r in p.lines]):.3f}", "yes" if p in best else ""]
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def drawn(rows: list[dict]) -> str:
    """The chart of one book, as SVG."""
    said, found = verdict(rows)
    unique, series = unique_tokens(rows), []
    for look, (family, name) in enumerate(FAMILIES.items()):
        runs = points(rows, family)
        if not runs:
            continue
        best = [(p.flops, p.value) for p in envelope(runs)]
        best += [(runs[-1].flops, best[-1][1])] if runs[-1].flops > best[-1][0] else []
        every = [(p.flops, p.value) for p in runs]
        errors = [ERRORS * p.error for p in runs]
        series.append(Series(name, every, errors, joined=False, look=look))
        series.append(Series("its envelope", best, marked=False, look=look))
    outside = not FITTED[0] <= unique <= FITTED[1]
    point = None
    if found is not None:
        runs = points(rows, "masked")
        point = (found, at(envelope(runs), found, 0.0), "crossing")
    title = f"{rows[0]['book']}: held-out bits per byte against training compute"
    return lines(
        title,
        f"{said} Ccrit of {unique:,} unique tokens is {critical_compute(unique):.2e} FLOPs"
        + (", an extrapolation from 25M to 100M." if outside else "."),
        Axis("training FLOPs", log=True),
        Axis("bits per byte of validation chapters, ± 2 s.e."),
        series,
        [(rows[0]["ngram"], "byte 5-gram")],
        [(critical_compute(unique), "Ccrit, extrapolated" if outside else "Ccrit")],
        point,
    )


def draw(path: Path) -> None:
    """Prints table and verdict of every book and preset of the rows, and draws them beside the file."""
    rows = read_rows(path)
    for book, preset in dict.fromkeys((r["book"], r["preset"]) for r in rows):
        own = [r for r in rows if (r["book"], r["preset"]) == (book, preset)]
        name = re.sub(r"\W+", "_", Path(book).stem) + (f"_{preset}" if preset != "tiny" else "")
        (path.parent / f"crossover_{name}.svg").write_text(drawn(own), encoding="utf-8")
        print(f"{book}, {preset}\n\n{table(own)}\n\n{verdict(own)[0]}\n")


def main() -> None:
    """Trains what is missing, then draws."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--book", type=Path)
    parser.add_argument("--draw", action="store_true", help="train nothing, draw what the rows hold")
    parser.add_argument("--preset", default="tiny", choices=configs.SIZES, help="what the grid does not say")
    parser.add_argument("--sizes", nargs="+", default=["2x64x2", "4x128x2", "6x192x3"], metavar="LxDxH")
    parser.add_argument("--epochs", nargs="+", type=int, default=[5, 15, 45, 135])
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.0, 0.2])
    parser.add_argument("--vocabulary", nargs="+", default=["4096-5", "8192-2"], metavar="CAP-LEAST")
    parser.add_argument("--rate", nargs="+", type=float, help="default: those of the plans")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="such as 'causal-4x128x2-*'")
    parser.add_argument("--most_flops", type=float, default=math.inf, help="runs that cost more are left out")
    parser.add_argument("--out", type=Path, default=Path("runs/crossover"))
    parser.add_argument("--rows", type=Path, default=ROWS)
    a = parser.parse_args()
    if bool(a.book) == a.draw:
        raise UserError("--draw goes without --book" if a.draw else "--book B is needed, or --draw")
    if a.draw:
        return draw(a.rows)
    book, out, costs = a.book.resolve(), a.out.resolve(), []
    plans = {"masked": single_stage, "causal": autoregressive}
    optimizers = {family: plans[family].get_config(a.preset).optimizer for family in FAMILIES}
    axes = {"seed": a.seeds, "size": a.sizes, "epochs": a.epochs, "dropout": a.dropout}
    axes |= {"vocabulary": a.vocabulary, "rate": a.rate or [None], "family": FAMILIES}
    for place in itertools.product(*axes.values()):
        line = {"book": book.name, "preset": a.preset} | dict(zip(axes, place, strict=True))
        own = optimizers[line["family"]]
        line |= {"decay": own.weight_decay, "rate": line["rate"] or own.learning_rate}
        if any(fnmatch(named(line), wanted) for wanted in a.only):
            costs.append((*cost(line, book, out), line))
    costs.sort(key=lambda found: found[0])
    for flops, lasts, line in costs:
        state = "too much" if flops > a.most_flops else "there" if known(a.rows, line, SAME) else ""
        told = f"{named(line):42} seed {line['seed']}: {flops:.2e} FLOPs, about {lasts / 60:.0f} min"
        print(f"{told}  {state}".rstrip(), file=sys.stderr)
    for flops, _, line in costs:
        if flops <= a.most_flops and not known(a.rows, line, SAME):
            add(a.rows, found := train(line, book, out))
            print(found, file=sys.stderr, flush=True)
    draw(a.rows)


if __name__ == "__main__":
    run(main)
