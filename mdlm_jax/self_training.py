"""Self-training: a share of a stage's rows are passages that the model of the stage before wrote in part."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset, RowSource, StageData, read_shard
from mdlm_jax.evaluation import pseudo
from mdlm_jax.run_directory import RunError, load_checkpoint
from mdlm_jax.ui.values import read_json, write_json


def mixed(
    config: Config, dataset: Dataset, workdir: Path, stage: Stage, before: Path, say: Callable[[str], object]
) -> tuple[Stage, dict[str, Any]]:
    """`stage` with pseudo-examples among its rows, and how many were made, kept and refused.

    `before`: the checkpoints of the stage before; the weights that the stage began with write. The examples
    are a shard, and a JSON file written last that says where they come from: it is made once, or again, the
    same, if it is not whole.
    """
    path = workdir / "self_training" / f"{stage.directory}.json"
    shard, share = path.with_suffix(".array_record"), stage.config.self_training
    told = read_json(path, RunError) if path.exists() else {}
    if not shard.exists() or told.get("sha256") != hashlib.sha256(shard.read_bytes()).hexdigest():
        source = checkpoint.newest_intact(before, say)
        if source is None:
            raise RunError(f"{before} has no intact checkpoint, and {shard} is to be made from it")
        best = read_json(source / "meta.json", RunError)["best"]["step"]
        run = load_checkpoint(config, dataset, workdir,
                              before / str(best) if stage.config.init_from == "best" else source)  # fmt: skip
        wanted, seed = -(-round(share * len(stage.data.source)) // stage.config.num_epochs), config.seed
        kept, told = pseudo.make(run, dataset, wanted, seed, say)
        path.parent.mkdir(exist_ok=True)
        write_shard(shard, kept, dataset.info["ids_dtype"])
        told |= {"seed": seed, "checkpoint": run.checkpoint, "model_hash": run.model_hash}
        told |= {"sampling": dataclasses.asdict(config.sampling), "shard": shard.name}
        write_json(path, told | {"sha256": hashlib.sha256(shard.read_bytes()).hexdigest()})
    found = [record.ids for record in read_shard(dataset, shard)] if told["verdicts"]["kept"] else []
    data, rows = mix(stage.data, found, share, stage.config.num_epochs, config.seed)
    counts = {name.replace(" ", "_"): number for name, number in told["verdicts"].items()}
    counts |= {"made": told["made"], "share": rows / len(stage.data.source)}
    say(f"self-training: {counts['kept']} of {told['made']} passages kept, {counts['share']:.1%} of the rows")
    return dataclasses.replace(stage, data=data), counts


def write_shard(path: Path, kept: list[tuple[pseudo.Passage, float]], ids_dtype: str) -> None:
    """Records as `data.read_shard` reads them, with the places that were written and their nats per token."""
    temporary = path.with_name(path.name + ".tmp")
    writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
    for p, nats in kept:
        ids = p.tokens.astype(np.dtype(ids_dtype).newbyteorder("<")).tobytes()
        written = {"written": [p.start, p.stop], "nats": nats, "loss": p.loss}
        writer.write(msgpack.packb({"ids": ids, "weight": 1.0, **p.place, **written}))
    writer.close()
    os.replace(temporary, path)


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
