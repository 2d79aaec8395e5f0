"""The section "likelihood" of an evaluation: what the checkpoints of a run give to held-out text.

Of the masked model the bound with its standard error and its curve l(t), and exact figures under two orders;
of the twin its exact figure; beside them a byte 5-gram and two compressors that know the training text.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mdlm_jax.evaluation import compress, ngram
from mdlm_jax.evaluation.exact import Exact, Look, make_confidence_order, make_in_order
from mdlm_jax.evaluation.likelihood import bytes_and_words, figures, held_out, held_out_windows
from mdlm_jax.evaluation.subject import Preset, Subject
from mdlm_jax.evaluation.summary import table
from mdlm_jax.train_state import forbidden_rows
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import short

NORMAL_95 = 1.96  # the error is a sum over many windows: nearly normal
TOLD = {
    "bound": "bound",
    "exact": "exact",
    "left_to_right": "exact, left to right",
    "confidence_order": "exact, surest first",
}


class Part(NamedTuple):
    """One figure of one split: evaluate(params, look), where `look` is told of rows that met the network."""

    evaluate: Callable[[Any, Look], dict[str, Any]]
    rows: int
    delivered_only: bool = False


def errors(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The standard error and the 95 % interval of each figure of `likelihood.figures`.

    They are those of the bound's random masks; perplexities are exp of what they are known for, and so have
    lopsided intervals. An exact figure is known exactly.
    """
    names = ("nats_per_token", "bits_per_byte", "token_perplexity", "word_perplexity")
    share, error, interval = found["bits_per_byte_se"] / found["bits_per_byte"], {}, {}
    for name in names:
        value, ends = found[name], (1 - NORMAL_95 * share, 1 + NORMAL_95 * share)
        log = "perplexity" in name
        error[name] = share * value * (math.log(value) if log else 1.0)
        interval[name] = [math.exp(min(math.log(value) * e, 700.0)) if log else value * e for e in ends]
    return {"standard_error": error, "interval_95": interval}


def parts(run: Subject, preset: Preset, split: str) -> list[Part]:
    """The figures of a split, the cheapest first. Raises DataError."""
    config, special = run.config, run.dataset.special_ids
    windows = held_out_windows(run.dataset, split, config.model.seq_len)
    tokens, number = int(windows["scored"].sum()), len(windows["tokens"])
    sizes = tokens, *bytes_and_words(run.dataset, run.workdir, split)
    protocol = held_out(config, run.dataset, run.workdir, split, run.seed)
    calls = 1 if config.model.causal else config.evaluation.strata * config.evaluation.replicates

    def by_protocol(params: Any, look: Look) -> dict[str, Any]:
        found = protocol(params)
        look(number * calls)
        return found

    def by_order(kind: str, exact: Exact, params: Any, look: Look) -> dict[str, Any]:
        return {"kind": kind} | figures(float(exact(params, look).sum()), 0.0, *sizes)

    found = [Part(by_protocol, number * calls)]
    forbidden = forbidden_rows(config.model, run.dataset.info["vocab_size"], special)
    orders = (
        ("left_to_right", preset.left_to_right, make_in_order),
        ("confidence_order", preset.confidence, make_confidence_order),
    )
    for kind, wanted, make in orders:
        if wanted and not config.model.causal:
            exact = make(config, forbidden, special["mask"], windows)
            found.append(Part(functools.partial(by_order, kind, exact), tokens, delivered_only=True))
    return found


def simple_models(run: Subject) -> dict[str, dict[str, float]]:
    """Bits per byte of each split by the byte 5-gram and the compressors, given the training split."""
    train = b"".join(ngram.chapter_bytes(run.dataset, run.workdir, "train"))
    grams = ngram.held_out_bits_per_byte(run.dataset, run.workdir)
    texts = {s: b"".join(ngram.chapter_bytes(run.dataset, run.workdir, s)) for s in run.splits}
    return {s: {"ngram_5": grams[s]} | compress.bits_per_byte(train, text) for s, text in texts.items()}


def measure(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """{"simple_models": {split: bits per byte}, "sizes": {split: its bytes and words}, "figures": [of each
    checkpoint, weights and split]}.
    """
    splits = {split: parts(run, preset, split) for split in run.splits}
    weights = [(run.delivered, "ema")]
    if preset.everything:
        others = [(path, "ema") for path in run.checkpoints if path != run.delivered]
        weights = [*others, *weights, (run.delivered, "params")]
    jobs = [
        (path, kind, split, part)
        for path, kind in weights
        for split, all_parts in splits.items()
        for part in all_parts
        if (path, kind) == (run.delivered, "ema") or not part.delivered_only
    ]
    progress.total += sum(part.rows for *_, part in jobs)
    progress.say("the byte 5-gram and the compressors ...")
    found: dict[str, Any] = {"simple_models": simple_models(run), "figures": []}
    sizes = {split: bytes_and_words(run.dataset, run.workdir, split) for split in run.splits}
    found["sizes"] = {s: dict(zip(("bytes", "words"), size, strict=True)) for s, size in sizes.items()}
    progress.restart(progress.done)
    loaded: tuple[Any, Any] = None, None
    for path, kind, split, part in jobs:
        if loaded[0] != (path, kind):
            loaded = None, None  # never two at once
            loaded = (path, kind), run.trained(path, kind)
        where = {"checkpoint": loaded[1].checkpoint, "weights": kind, "split": split}

        def look(rows: int, told: str = " ".join(where.values())) -> None:
            progress.update(progress.done + rows, told)

        figure = part.evaluate(loaded[1].params, look)
        found["figures"].append(where | figure | errors(figure))
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """What `measure` has found, for a terminal."""
    rows = [
        [
            "split",
            "checkpoint",
            "weights",
            "figure",
            "bits/byte",
            "95 %",
            "nats/token",
            "per token",
            "per word",
        ]
    ]
    for x in sorted(found["figures"], key=lambda x: x["split"] == "test"):
        ends = "{:.3f}-{:.3f}".format(*x["interval_95"]["bits_per_byte"]) if x["bits_per_byte_se"] else ""
        numbers = [f"{x['bits_per_byte']:.3f}", ends, f"{x['nats_per_token']:.3f}"]
        numbers += [f"{x['token_perplexity']:.1f}", short(x["word_perplexity"])]
        rows.append([x["split"], x["checkpoint"], x["weights"], TOLD[x["kind"]], *numbers])
    for split, simple in found["simple_models"].items():
        rows += [[split, "", "", name, f"{value:.3f}", "", "", "", ""] for name, value in simple.items()]
    return [
        table(rows),
        "Held-out bits per byte, lower is better; per token and per word: perplexity.",
        "A bound is at most: the model may be better. Its interval is that of the random masks.",
        "The n-gram and the compressors have read the training chapters.",
    ]
