"""Self-training: a share of a stage's rows are passages that the model of the stage before wrote in part."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset, RowSource, StageData, read_records
from mdlm_jax.evaluation.pseudo import shard


def mixed(
    config: Config, dataset: Dataset, workdir: Path, stage: Stage, say: Callable[[str], None]
) -> tuple[Stage, dict[str, float]]:
    """`stage` with the pseudo-examples of `pseudo.shard` among its rows, and what is to be logged of them."""
    made, share = shard(config, dataset, workdir, stage, say), stage.config.self_training
    found = [record.ids for record in read_records(made, stage.config.name, "train")]
    if config.soft_masking:  # of middling importance
        found = [np.stack([ids, np.full_like(ids, 50)], axis=1) for ids in found]
    data, replaced = mix(stage.data, found, share, stage.config.num_epochs, config.seed)
    verdicts = made.info["verdicts"]
    counts = {name.replace(" ", "_"): number for name, number in verdicts.items()}
    counts |= {"made": made.info["made"], "share": replaced / len(data.source)}
    refused = ", ".join(f"{number} {name}" for name, number in verdicts.items() if name != "kept")
    told = f"self-training: {counts['kept']} of {counts['made']} passages, {counts['share']:.1%} of the rows"
    say(f"{told}; the rest: {refused}")
    return dataclasses.replace(stage, data=data), counts


def mix(
    data: StageData, found: list[np.ndarray], share: float, epochs: int, seed: int
) -> tuple[StageData, int]:
    """`data` with a share of its rows replaced, and how many: a passage a row, each at most once an epoch."""
    rows, rng = list(data.source.rows), np.random.default_rng([seed, len(data.source)])
    count = min(round(share * len(rows)), epochs * len(found))
    order = [i for _ in range(epochs) for i in rng.permutation(len(found))]
    for place, i in zip(sorted(rng.permutation(len(rows))[:count]), order, strict=False):
        rows[place] = [found[i]]
    source = RowSource(rows, data.source.seq_len, data.source.special_ids)
    return dataclasses.replace(data, source=source), count
