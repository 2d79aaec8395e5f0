"""What is said of a run: the figures of report.json, and what a stage transition changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.evaluation.likelihood import held_out
from mdlm_jax.evaluation.ngram import held_out_bits_per_byte


def report(
    config: Config, dataset: Dataset, workdir: Path, ema: Any, latest: dict, passed: dict[str, Any]
) -> dict[str, Any]:
    """The figures of the average weights `ema` (`latest`: validation), after the "tokens" and "flops"."""
    return {
        "weights": "ema",
        "validation": latest,
        "test": held_out(config, dataset, workdir, "test")(ema),
        "ngram_5_bits_per_byte": held_out_bits_per_byte(dataset, workdir),
        "training_tokens": round(passed["tokens"]),
        "training_flops": passed["flops"],
        "parameters": count_parameters(config.model),
        "split_seed": dataset.info["split"]["seed"],
        "seed": config.seed,
    }


def changes(
    dataset: Dataset, old: Stage, new: Stage, rates: Sequence[float]
) -> tuple[dict[str, Any], list[str]]:
    """What the transition from `old` to `new` changes, as scalars of a metrics line and as lines to read.

    `rates` of the matrices: the last one of the old stage, the first and the highest of the new. Examples and
    tokens are those of an epoch.
    """
    counts = [dataset.counts(stage.config.name, "train") for stage in (old, new)]
    found: dict[str, Any] = {}
    for when, stage, count in zip(("before", "after"), (old, new), counts, strict=True):
        d = stage.density
        found |= {f"examples_{when}": count["examples"], f"tokens_{when}": count["tokens"]}
        found[f"length_{when}"] = count["tokens"] / max(1, count["examples"])
        found[f"mask_rate_{when}"] = [0.0, 1.0] if d.is_bound else [d.lo, d.hi]
    found |= zip(("rate_last", "rate_first", "rate_peak"), rates, strict=True)
    lines = [
        "  data: {examples_before:,} -> {examples_after:,} examples, {tokens_before:,} -> {tokens_after:,} "
        "tokens, {length_before:.0f} -> {length_after:.0f} tokens an example",
        "  rate: {rate_last:.2g} -> {rate_first:.2g}, rising to {rate_peak:.2g}; optimizer afresh; mask rate "
        "{mask_rate_before[0]:g}-{mask_rate_before[1]:g} -> {mask_rate_after[0]:g}-{mask_rate_after[1]:g}",
    ]
    return found, [line.format(**found) for line in lines]
