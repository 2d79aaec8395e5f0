"""The figures of a finished run: what report.json holds."""

from pathlib import Path
from typing import Any

from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.analytics import OF_THE_CLOCK, stage_figures
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.evaluation.likelihood import held_out
from mdlm_jax.evaluation.ngram import held_out_bits_per_byte
from mdlm_jax.metrics import read_lines


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
        "parameters": count_parameters(config.model),
        "split_seed": dataset.info["split"]["seed"],
        "seed": config.seed,
    }
