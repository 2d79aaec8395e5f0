"""All ways of writing side by side: tokens a second, network calls, and how good the text is.

    python benchmarks/sampling.py [--workdir R --twin T] [--quick | --sweep]

R is a masked diffusion run, T its autoregressive twin on the same data; without them both are trained.
Methods take turns, so that a busy machine slows all of them: trust the ratios, which are medians (least to
greatest) of the rounds. "Naive" is one token per network call on a canvas as long as the text. A canvas
longer than the trained one is for the clock alone, and only its first calls are timed: each costs the same.
The rows of a batch are written together, whatever the method.

Quality is of pieces of the trained length, whatever the text's: exact nats per token under T ([EOS] given
before each piece), entropy of the piece's tokens, share of its 4-grams that differ; ± the standard error over
texts. It is measured on the texts that the largest batch wrote, all rounds together, at least 16.
"""

import argparse
import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from held_out import train

from mdlm_jax import generation
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.evaluation.likelihood import held_out_windows, make_exact
from mdlm_jax.evaluation.losses import dataset_of
from mdlm_jax.evaluation.style import diversity
from mdlm_jax.laws import Law
from mdlm_jax.run_directory import Trained, cache_compilations, load
from mdlm_jax.sampler import Plan, SampleState, begin, most_steps, sample_step
from mdlm_jax.ui.request import RANKED, SAMPLING_PRESETS, Request, SamplingConfig

ROOT = Path(__file__).resolve().parent.parent
Figures = dict[str, tuple[float, float]]  # mean and standard error
PER_CALL = 16  # tokens, in the methods that write several at once, as in the preset fast


class Method(NamedTuple):
    """A row of a table."""

    name: str
    settings: SamplingConfig
    full: bool = False  # one canvas as long as the text
    twin: bool = False


def trained(workdir: Path | None, config: str) -> Trained:
    """A run, trained on the built-in book where none is named (as held_out.py does, in the same place)."""
    cache_compilations(ROOT / ".jax_cache")
    if workdir is None:
        train(config, "tiny", None, ROOT / "runs/held_out", 0, 0)
        workdir = ROOT / f"runs/held_out/{config}-split0-seed0"
    return load(workdir)


@functools.partial(jax.jit, static_argnames=("denoise", "plan", "mask_id"))
def first_calls(
    denoise: Callable, context: object, key: jax.Array, tokens: jax.Array, masked: jax.Array, law: Law,
    most: jax.Array, *, plan: Plan, mask_id: int,
) -> SampleState:  # fmt: skip
    """`sampler.sample` for the first `most` network calls."""
    state = begin(key, tokens, masked, plan, mask_id)
    step = functools.partial(sample_step, denoise, context, plan=plan, mask_id=mask_id)
    number = most_steps(state, plan)
    return jax.lax.fori_loop(0, most, lambda i, s: step(s, i, law, num_steps=number), state)


def write(
    run: Trained, settings: SamplingConfig, rows: int, length: int, key: jax.Array, most: int = 0
) -> tuple[np.ndarray, int]:
    """Texts [rows, length] written together, and the network calls: all, or as many as `most`."""
    text, _ = generation.document(run, [generation.Gap(length)], rows)
    if not most:
        calls = generation.finish(generation.unmask(run, text, key, settings))
        return text.tokens, calls
    _, _, arguments, options = generation.window(run, settings, text, key)
    del options["memory"]
    state = first_calls(*arguments, np.int32(most), **options)
    return np.asarray(state.tokens), int(state.calls)


def stretched(run: Trained, length: int) -> Trained:
    """The run with a canvas for `length` tokens; its weights do not depend on it."""
    model = dataclasses.replace(run.config.model, seq_len=length + 1)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))


def methods(run: Trained, length: int) -> list[Method]:
    """The rows of the table for texts of `length` tokens; the first is what the others are measured by."""
    base, room = run.config.sampling, run.config.model.seq_len - 1

    def many(sampler: str, block: int = 0, **more: Any) -> SamplingConfig:
        steps = max(round((block or length) / PER_CALL), 1)
        return dataclasses.replace(base, sampler=sampler, block=block, steps=steps, **more)

    ancestral = dataclasses.replace(base, sampler="ancestral", steps=0)
    one_by_one = dataclasses.replace(base, sampler="left_to_right", steps=0)
    found = [Method("naive: full canvas, one token a call", ancestral, full=True)]
    blocks = [0] if length <= room else [64]
    for sampler in ("interleaved", "ancestral") if length > room else ():
        found.append(Method(f"full canvas, {sampler}, {PER_CALL} a call", many(sampler), full=True))
    if length <= 512:
        for block in blocks:
            where = f"blocks of {block}" if block else "full canvas"
            for sampler in ("ancestral", "dilated", "interleaved", *RANKED):
                found.append(Method(f"{where}, {sampler}", many(sampler, block)))
            found.append(Method(f"{where}, confidence, remask 0.25", many("confidence", block, remask=0.25)))
            found.append(
                Method(f"{where}, left to right, one a call", dataclasses.replace(one_by_one, block=block))
            )
    for block in (32, 64) if length > room else ():
        for cache in (False, True):
            for sampler in ("interleaved", "ancestral"):
                name = f"blocks of {block}, {sampler}" + ", cache" * cache
                found.append(Method(name, many(sampler, block, cache=cache)))
    for name, values in SAMPLING_PRESETS.items():
        if name in ("default", "fast") or length <= 512:
            found.append(Method(f"preset {name}", dataclasses.replace(base, **values)))
    found.append(Method("autoregressive twin, KV cache", generation.for_twin(base), twin=True))
    return list({m.name: m for m in found}.values())


def quality(twin: Trained, texts: dict[str, np.ndarray]) -> dict[str, Figures]:
    """ "nats", "entropy" and "distinct_4" of texts [n, N], each a mean and its standard error over the n."""
    size, eos = twin.config.model.seq_len - 1, twin.dataset.special_ids["eos"]
    cut = {name: x[:, : x.shape[1] // size * size].reshape(-1, size) for name, x in texts.items()}
    tokens = np.pad(np.concatenate(list(cut.values())), ((0, 0), (1, 0)), constant_values=eos)
    scored = np.arange(size + 1) > 0
    windows = {
        "tokens": tokens,
        "segments": np.ones_like(tokens),
        "scored": np.broadcast_to(scored, tokens.shape),
    }
    nats, found, at = make_exact(twin.config, twin.forbidden, windows)(twin.params) / size, {}, 0
    for name, pieces in cut.items():
        varied = [diversity(piece.tolist()) for piece in pieces]
        columns = {"nats": nats[at : at + len(pieces)]}
        columns |= {key: np.array([v[key] for v in varied]) for key in ("entropy", "distinct_4")}
        means = {key: x.reshape(len(texts[name]), -1).mean(1) for key, x in columns.items()}
        found[name] = {k: (float(x.mean()), float(x.std(ddof=1) / len(x) ** 0.5)) for k, x in means.items()}
        at += len(pieces)
    return found


def book(run: Trained) -> np.ndarray:
    """The validation split's windows of full length, int [W, L - 1]."""
    windows = held_out_windows(
        dataset_of(run.dataset.path, run.dataset.path / "data"), "validation", run.config.model.seq_len
    )
    return windows["tokens"][windows["scored"][:, 1:].all(1), 1:]


def spread(ratios: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def measure(
    run: Trained, twin: Trained, chosen: list[Method], rows: int, length: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, int], dict[str, np.ndarray]]:
    """Seconds of each round, network calls, and the texts [rows * repeats, length], by method."""
    seconds: dict[str, list[float]] = {m.name: [] for m in chosen}
    texts: dict[str, list[np.ndarray]] = {m.name: [] for m in chosen}
    calls: dict[str, int] = {}
    for turn in range(repeats + 1):  # the first warms up
        told = f"{length} tokens, batch {rows}, round {turn} of {repeats}"
        print(f"{time.strftime('%H:%M:%S')} {told}", file=sys.stderr, flush=True)
        for m in chosen:
            part = m.full and length > run.config.model.seq_len - 1
            who = twin if m.twin else stretched(run, length) if part else run
            most = min(max(4, 64 // rows), m.settings.steps or length) if part else 0
            begun = time.perf_counter()
            tokens, number = write(who, m.settings, rows, length, jax.random.key(turn), most)
            took = time.perf_counter() - begun
            calls[m.name] = (m.settings.steps or length) if part else number
            if turn:
                seconds[m.name].append(took * (calls[m.name] / number if part else 1))
                texts[m.name] += [] if part else [tokens]
    return seconds, calls, {name: np.concatenate(x) for name, x in texts.items() if x}


def row(cells: list[str], figures: Figures | None) -> str:
    """A line of a table."""
    told = [f"{m:.3f} ± {se:.3f}" for m, se in figures.values()] if figures else ["", "", ""]
    return "| " + " | ".join([*cells, *told]) + " |"


HEAD = "| twin nats a token | entropy | distinct-4 |\n|"


def against(name: str, of: str, seconds: dict[str, list[float]]) -> str:
    """One sentence: how many times as fast `name` is."""
    ratios = [b / a for a, b in zip(seconds[name], seconds[of], strict=True)]
    return f"- {name}: {spread(ratios)} times the tokens a second of [{of}]"


def compare(of: Figures, than: Figures) -> str:
    """How far three figures are from three others."""
    parts = []
    for key, (mean, error) in of.items():
        other, its = than[key]
        parts.append(f"{key} {mean / other - 1:+.1%} ± {(error**2 + its**2) ** 0.5 / other:.1%}")
    return ", ".join(parts)


def tables(run: Trained, twin: Trained, lengths: list[int], batches: list[int], repeats: int) -> None:
    """A table for each length and batch, and the ratios that were asked for."""
    room, reference = run.config.model.seq_len - 1, None
    for length in sorted({room, *lengths}):
        chosen = methods(run, length)
        for rows in sorted(batches):
            seconds, calls, texts = measure(run, twin, chosen, rows, length, repeats)
            judged = {}
            if rows == max(batches) and rows * repeats >= 16:
                judged = quality(twin, texts | {"the book": book(run)})
            head = "method | times naive | tokens/s | calls | a call"
            print(f"\n### {length} tokens, batch {rows}\n\n| {head} {HEAD}{'---|' * 8}", flush=True)
            naive = seconds[chosen[0].name]
            for m in chosen:
                took, number = seconds[m.name], calls[m.name]
                ratio = spread([a / b for a, b in zip(naive, took, strict=True)])
                rate = f"{rows * length / statistics.median(took):,.0f}"
                cells = [m.name, ratio, rate, f"{number:,}", f"{length / number:.1f}"]
                print(row(cells, judged.get(m.name)), flush=True)
            if judged:
                print(row(["the book, held out", "", "", "", ""], judged["the book"]))
            print()
            fast, default, ar = "preset fast", "preset default", chosen[-1].name
            print(against(fast, ar, seconds))
            if length > room:
                print(against(fast, chosen[1].name, seconds), f"(both {PER_CALL} tokens a call)")
                print(against(fast, chosen[0].name, seconds))
                print(against(default, chosen[0].name, seconds))
            if judged:
                if length == room:
                    reference = judged[chosen[0].name]
                for name in (fast, default):
                    for other, figures in ((chosen[0].name, reference), (default, judged[default])):
                        if name != other and figures:
                            place = " at the trained length" * (figures is reference)
                            print(f"- {name} against [{other}]{place}: {compare(judged[name], figures)}")
            sys.stdout.flush()


def stream(run: Trained, repeats: int) -> None:
    """The first frame, and what a streamed step costs beside a silent one."""
    print("\n### Stream, one text\n\n| settings | shown | first frame, ms | streamed / silent step |")
    print("|---|---|---|---|", flush=True)
    for name, length in (("default", 0), ("fast", 512)):
        settings = dataclasses.replace(run.config.sampling, **SAMPLING_PRESETS[name])
        request = Request(length=length)
        found: dict[int, list[float]] = {-1: [], 0: [], 5: []}
        first: dict[int, list[float]] = {0: [], 5: []}
        for turn in range(2 * repeats + 2):  # two warm up
            for shown in found:
                begun = time.perf_counter()
                generation.finish(generate(run, request, settings, shown))
                found[shown] += [time.perf_counter() - begun] * (turn > 1)
            for shown in first:
                begun, frames = time.perf_counter(), generate(run, request, settings, shown)
                next(frames), next(frames)  # the first is the empty canvas
                first[shown] += [1000 * (time.perf_counter() - begun)] * (turn > 1)
        for shown in first:
            ratio = spread([a / b for a, b in zip(found[shown], found[-1], strict=True)])
            print(
                f"| {name}, {length or 'one canvas of'} tokens | {shown} | {spread(first[shown])} | {ratio} |"
            )


def sweep(run: Trained, twin: Trained, repeats: int, quick: bool) -> None:
    """Candidates for the preset `fast`: 512 tokens, speed at batch 1, quality of `repeats` batches of 16."""
    length, base = 512, run.config.sampling
    heat = base.temperature
    found = [Method("twin", generation.for_twin(base), twin=True), Method("default", base)]
    many = [
        (rule, block, calls, 1.0, heat)
        for rule in ("ancestral", "dilated", "interleaved", "confidence")
        for block in (32, 64, 127)
        for calls in (2, 4, 8, 16)
        if 4 <= block / calls <= 16
    ]
    many += [(rule, 64, calls, 1.0, heat) for rule in ("margin", "entropy") for calls in (4, 8)]
    many += [("confidence", 64, 8, threshold, heat) for threshold in (0.5, 0.3, 0.1)]
    many += [("interleaved", 64, calls, 1.0, heat + warmer) for calls in (4, 8) for warmer in (-0.1, 0.1)]
    for values in many[:2] if quick else many:
        laid: Any = dict(zip(("sampler", "block", "steps", "threshold", "temperature"), values, strict=True))
        name = ", ".join(f"{k} {v}" for k, v in laid.items() if v != 1.0 or k == "temperature")
        found.append(Method(name, dataclasses.replace(base, cache=True, **laid)))
    seconds = measure(run, twin, found, 1, length, repeats)[0]
    _, calls_of, texts = measure(run, twin, found, 16, length, repeats)
    judged = quality(twin, texts)
    print(f"| candidate | against default | times twin | calls {HEAD}{'---|' * 7}")
    for m in found:
        ratio = spread([a / b for a, b in zip(seconds["twin"], seconds[m.name], strict=True)])
        apart = compare(judged[m.name], judged["default"])
        print(row([m.name, apart, ratio, str(calls_of[m.name])], judged[m.name]))


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, help="default: a tiny run on the built-in book")
    parser.add_argument("--twin", type=Path, help="default: its twin")
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, 512 tokens")
    parser.add_argument("--sweep", action="store_true", help="candidates for the preset fast, nothing else")
    a = parser.parse_args()
    run, twin = trained(a.workdir, "three_stage"), trained(a.twin, "autoregressive")
    repeats = 1 if a.quick else a.repeats
    if a.sweep:
        return sweep(run, twin, repeats, a.quick)
    tables(run, twin, [512] if a.quick else a.lengths, a.batches, repeats)
    return stream(run, repeats)


if __name__ == "__main__":
    main()
