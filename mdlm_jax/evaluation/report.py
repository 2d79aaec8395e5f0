"""The figures of a finished run: what report.json holds."""

from pathlib import Path
from typing import Any

from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.analytics import OF_THE_CLOCK, stage_figures
from mdlm_jax.evaluation.critical import Spent, against_critical
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.evaluation.likelihood import held_out
from mdlm_jax.evaluation.ngram import held_out_bits_per_byte
from mdlm_jax.ui.metrics import read_lines


def report(
    config: Config, dataset: Dataset, workdir: Path, ema: Any, latest: dict, done: dict, checkpoint: str
) -> dict[str, Any]:
    """The figures of the average weights `ema` of `checkpoint` (`latest`: validation) and what was `done`."""
    lines = list(read_lines(workdir / "metrics.jsonl"))
    stages = [stage_figures(lines, i) for i in range(len(config.stages))]
    return {
        "weights": "ema",
        "checkpoint": checkpoint,
        "validation": latest,
        "test": held_out(config, dataset, workdir, "test")(ema),
        "ngram_5_bits_per_byte": held_out_bits_per_byte(dataset, workdir),
        "stages": [{k: v for k, v in figures.items() if k not in OF_THE_CLOCK} for figures in stages],
        "training_tokens": round(done["tokens"]),
        "training_flops": done["flops"],
        "critical": _critical(config, dataset, lines),
        "parameters": count_parameters(config.model),
        "split_seed": dataset.info["split"]["seed"],
        "seed": config.seed,
    }


def _critical(config: Config, dataset: Dataset, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the stages spent, by their last lines, against the critical compute of the book."""
    ends = {x["stage"]: x for x in lines if x["kind"] == "train"}
    spent, tokens, flops = [], 0.0, 0.0
    for index, end in sorted(ends.items()):
        name = config.stages[index].name
        epochs = (end["tokens"] - tokens) / dataset.counts(name, "train")["tokens"]
        spent.append(Spent(name, end["step"], epochs, end["flops"] - flops))
        tokens, flops = end["tokens"], end["flops"]
    return against_critical(dataset.counts("refinement", "train")["tokens"], spent)
