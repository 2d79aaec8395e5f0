"""python -m mdlm_jax.evaluation.losses: what each training sentence costs a trained run, a line of JSON each.

For `python -m data_prep --rescore losses.jsonl`, which orders the next curriculum by it. Every sentence is
scored where it stands, in windows of running text, by the estimator of the held-out bound (`likelihood`): all
strata, all replicates, always the same random numbers.
"""

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from mdlm_jax.data import Dataset, Record, open_dataset, read_records
from mdlm_jax.evaluation.likelihood import held_out_windows, make_batches, make_exact
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.run_directory import Trained, cache_compilations, load
from mdlm_jax.ui import cli
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError, difference


class LossesError(UserError):
    """Losses that cannot be made; one line."""


def token_nats(
    run: Trained, dataset: Dataset, look: Callable[[float], object] = lambda share: None
) -> np.ndarray:
    """float64 [n] nats of each token of the refinement stage's training records, one after the other.

    The share that a token has in the bound of its window; exact for the autoregressive twin. `look` is told
    what share is done.
    """
    config, mask_id = run.config, dataset.special_ids["mask"]
    windows = held_out_windows(dataset, "train", config.model.seq_len)
    if config.model.causal:
        exact = make_exact(config, run.forbidden, windows, lambda nats: nats)
        return exact(run.params)[windows["scored"]]
    batches = make_batches(config, run.forbidden, mask_id, windows, lambda nats: nats.mean(axis=1))
    number, replicates = len(windows["tokens"]), config.evaluation.replicates
    found: list[np.ndarray] = []
    for batch in batches(run.params):
        found.append(np.asarray(batch, np.float64))
        look(min(1.0, len(found) * len(batch) / (number * replicates)))
    nats = np.concatenate(found).reshape(replicates, -1, config.model.seq_len)[:, :number].mean(0)
    return nats[windows["scored"]]


def by_sentence(records: list[Record], nats: np.ndarray) -> list[dict[str, float]]:
    """A line per sentence: its place, its mean nats per token ("loss") and its tokens; `nats` float [n]."""
    lines: list[dict[str, float]] = []
    at = 0
    for record in records:
        for index, (begin, end) in enumerate(pairwise([*record.sentences, len(record.ids)])):
            if begin < end:  # else no sentence has this index
                loss = round(float(nats[at + begin : at + end].mean()), 5)
                place = {"chapter": record.chapter, "paragraph": record.paragraph, "sentence": index}
                lines.append(place | {"loss": loss, "tokens": end - begin})
        at += len(record.ids)
    return lines


def dataset_of(workdir: Path, data: Path) -> Dataset:
    """The shards that the run was trained on. Raises LossesError when `data` holds others."""
    if not (workdir / "config.json").exists():
        raise LossesError(no_run(workdir))
    if not (data / "dataset.json").exists():
        raise LossesError(f"{data} has no dataset.json; name the shards of {workdir} with --data")
    dataset = open_dataset(data)
    if changed := difference(open_dataset(workdir).info, dataset.info):
        raise LossesError(
            f"{workdir} was trained on other data than {data} ({changed[0]}); give its own --data"
        )
    dataset.verify()
    return dataset


def parser() -> cli.Parser:
    """The command line."""
    made = cli.Parser(
        prog="python -m mdlm_jax.evaluation.losses",
        description="What each training sentence costs a trained run.",
        formatter_class=cli.Defaults,
    )
    made.add_argument("--workdir", required=True, type=Path, help="the run")
    made.add_argument("--out", required=True, type=Path, help="the file of losses to write")
    made.add_argument("--data", type=Path, help="its shards, where they are not in <workdir>/data")
    made.add_argument("--weights", choices=("ema", "params"), default="ema", help="averaged or last weights")
    return made


def run_command() -> None:
    """Scores and writes. Raises LossesError, RunError, CheckpointError or DataError, one line each."""
    given = parser().parse_args()
    if given.out.is_dir() or not given.out.parent.is_dir():
        raise LossesError(f"--out: {given.out} cannot be written; name a file in a directory that exists")
    dataset = dataset_of(given.workdir, given.data or given.workdir / "data")
    records = read_records(dataset, "refinement", "train")
    if not any(record.sentences for record in records):
        raise LossesError(f"{dataset.path} was prepared without the places of sentences; prepare it again")
    print(f"loading {given.workdir} ...", file=sys.stderr, flush=True)
    cache_compilations(Path(__file__).resolve().parents[2] / ".jax_cache")
    run, progress = load(given.workdir, given.weights), PlanProgress(1.0)
    try:
        nats = token_nats(run, dataset, lambda done: progress.update(done, "scoring the training sentences"))
    finally:
        progress.stop()
    lines = by_sentence(records, nats)
    temporary = given.out.with_name(given.out.name + ".tmp")
    try:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(temporary, given.out)
    finally:
        temporary.unlink(missing_ok=True)
    total = sum(line["loss"] * line["tokens"] for line in lines) / sum(line["tokens"] for line in lines)
    print(f"{len(lines)} sentences, {total:.3f} nats per token on the mean, in {given.out}")


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 130 when interrupted."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
