"""Pseudo-examples: spans of hard training sentences that a model writes anew, and which of them are kept.

Self-training in the manner of noisy student training (Xie et al. 2020), with infilling for labels: what is
new is a few words in a passage of the book. Only the training split is read.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from mdlm_jax import checkpoint, generation
from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset, Record, RowSource, chapters, read_records
from mdlm_jax.evaluation import style
from mdlm_jax.evaluation.likelihood import make_batches
from mdlm_jax.evaluation.losses import by_sentence, token_nats
from mdlm_jax.run_directory import RunError, Trained, load_checkpoint
from mdlm_jax.ui.request import SamplingConfig
from mdlm_jax.ui.values import read_json, unwritten, write_json

STRATA = 8  # of the mask rate, in ranking and in judging: half of what a published figure takes
SHORTEST = 8  # tokens of a sentence of which a half is written
COPIED = 8  # written tokens in a row that may not stand in the training text; nor may all of a shorter span
RANGE = (0.05, 0.95)  # quantiles of real spans' nats per token, within which a written one's must be
TRIED = 2  # passages written for each that is wanted
# The model's own law: colder, nine of ten spans are plainer than nearly all real ones (docs/results.md).
LAW = SamplingConfig("interleaved", steps=16, temperature=1.0, top_k=0, top_p=1.0)
VERDICTS = ("kept", "spare", "too plain", "too odd", "copied")


@dataclasses.dataclass(frozen=True)
class Passage:
    """Running text of the training split, at most a row, with a span of one of its sentences."""

    tokens: np.ndarray  # int32 [N]
    start: int  # of the span
    stop: int
    place: dict[str, int]  # chapter, paragraph and sentence
    position: int  # of the span in the training text: a seed of its own
    loss: float  # nats per token of the sentence

    @property
    def span(self) -> slice:
        """Of the tokens."""
        return slice(self.start, self.stop)


def passages(
    records: list[Record], lines: Sequence[dict[str, float]], longest: int, seed: int
) -> list[Passage]:
    """A passage of at most `longest` tokens around each sentence of `lines` (`losses.by_sentence`).

    The span is half of the sentence, at a place drawn by `seed`; sentences shorter than SHORTEST or longer
    than the passage have none. A passage never crosses what `data.chapters` keeps apart.
    """
    text = np.concatenate([r.ids for r in records])
    starts = np.cumsum([0, *(len(r.ids) for r in records)])
    first = {(r.chapter, r.paragraph): (r, int(at)) for r, at in zip(records, starts, strict=False)}
    edges = np.cumsum([0, *(len(stream) for stream in chapters(records))])
    found = []
    for line in lines:
        place = {name: int(line[name]) for name in ("chapter", "paragraph", "sentence")}
        tokens = int(line["tokens"])
        if not SHORTEST <= tokens <= longest:
            continue
        record, at = first[place["chapter"], place["paragraph"]]
        begin, length = at + record.sentences[place["sentence"]], tokens // 2
        start = begin + int(np.random.default_rng([seed, begin]).integers(tokens - length + 1))
        stream = int(np.searchsorted(edges, start, "right"))
        lowest, highest = int(edges[stream - 1]), int(edges[stream])
        lo = max(lowest, min(start + length // 2 - longest // 2, highest - longest))
        part = text[lo : min(highest, lo + longest)]
        found.append(Passage(part, start - lo, start - lo + length, place, start, float(line["loss"])))
    return found


def span_nats(run: Trained, given: list[Passage]) -> np.ndarray:
    """float [len(given)]: the bound of each span's tokens given all around them, in nats per token."""
    config, special = quick(run).config, run.dataset.special_ids
    source = RowSource([[p.tokens] for p in given], config.model.seq_len, special)
    rows = [source[i] for i in range(len(given))]
    windows = {name: np.stack([row[name] for row in rows]) for name in ("tokens", "segments")}
    windows["scored"] = np.zeros(windows["tokens"].shape, bool)
    for row, p in zip(windows["scored"], given, strict=True):
        row[1 + p.start : 1 + p.stop] = True  # after the [EOS]
    batches = make_batches(config, run.forbidden, special["mask"], windows, lambda n: n.sum(-1).mean(1))
    found = np.concatenate([np.asarray(batch, np.float64) for batch in batches(run.params)])[: len(given)]
    return found / windows["scored"].sum(1)


def quick(run: Trained) -> Trained:
    """The run, measured once over STRATA strata: good enough to rank, an eighth of the rows of 2 x 64."""
    less = dataclasses.replace(run.config.evaluation, strata=STRATA, replicates=1)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, evaluation=less))


def write(run: Trained, passage: Passage, seed: int) -> Passage:
    """The passage with its span written anew, drawn from the model's law (LAW)."""
    tokens = passage.tokens[None].copy()
    tokens[:, passage.span] = run.dataset.special_ids["mask"]
    document = generation.Document(tokens, np.ones(tokens.shape), np.zeros(tokens.shape[1], bool))
    key = jax.random.fold_in(jax.random.key(seed), passage.position)
    generation.finish(generation.unmask(run, document, key, LAW))  # in place
    return dataclasses.replace(passage, tokens=tokens[0])


def is_copy(passage: Passage, index: style.Runs) -> bool:
    """Whether COPIED written tokens in a row, or all of a shorter span, stand so in the training text."""
    most = min(COPIED, passage.stop - passage.start)
    runs = style.copied(passage.tokens, index)
    return any(min(b, passage.stop) - max(a, passage.start) >= most for a, b in runs)


def make(
    run: Trained, dataset: Dataset, wanted: int, seed: int, say: Callable[[str], object]
) -> tuple[list[tuple[Passage, float]], dict[str, Any]]:
    """At most `wanted` passages with a span that `run` wrote, each with the span's nats per token, hardest
    sentences first; and what was made, kept and refused. A function of weights, training split and seed.

    A written span is kept if its nats per token are within RANGE of those of as many real spans, drawn alike
    from any sentences (plainer text teaches nothing, odder text teaches nonsense), and it is no copy.
    """
    records, longest = read_records(dataset, "refinement", "train"), run.config.model.seq_len - 1
    say("ranking the training sentences by their loss ...")
    lines = by_sentence(records, token_nats(quick(run), dataset))
    there = passages(records, lines, longest, seed)
    hard = sorted(there, key=lambda p: (-p.loss, p.position))[: TRIED * wanted]
    if not hard:
        return [], {"made": 0, "verdicts": dict.fromkeys(VERDICTS, 0)}
    say(f"writing {len(hard)} spans anew ...")
    written = [write(run, passage, seed) for passage in hard]
    drawn = np.random.default_rng(seed).choice(len(there), len(hard), replace=False)
    nats = span_nats(run, [there[i] for i in sorted(drawn)] + written)
    low, high = np.quantile(nats[: len(drawn)], RANGE)
    index, verdicts = style.book_runs(dataset, SHORTEST // 2 - 1), Counter[str]()
    kept: list[tuple[Passage, float]] = []
    for passage, cost in zip(written, nats[len(drawn) :], strict=True):
        verdict = "too plain" if cost < low else "too odd" if cost > high else "kept"
        if is_copy(passage, index):
            verdict = "copied"
        elif verdict == "kept" and len(kept) == wanted:
            verdict = "spare"
        elif verdict == "kept":
            kept.append((passage, float(cost)))
        verdicts[verdict] += 1
    generation.within_words.cache_clear()  # they hold the run, and with it the weights
    generation.levels.cache_clear()
    told = {"made": len(hard), "verdicts": {name: verdicts[name] for name in VERDICTS}}
    return kept, told | {"range": [float(low), float(high)]}


def write_shard(path: Path, kept: list[tuple[Passage, float]], ids_dtype: str) -> str:
    """Records as `data.read_records` takes them, with what was written and its nats. Returns the SHA-256.

    Raises RunError when it cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        for p, nats in kept:
            ids = p.tokens.astype(np.dtype(ids_dtype).newbyteorder("<")).tobytes()
            written = {"written": [p.start, p.stop], "nats": nats, "loss": p.loss}
            writer.write(msgpack.packb({"ids": ids, "weight": 1.0, **p.place, **written}))
        writer.close()
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"cannot write {path}: {unwritten(error)}") from error
    os.replace(temporary, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shard(
    config: Config, dataset: Dataset, workdir: Path, stage: Stage, say: Callable[[str], None]
) -> Dataset:
    """The pseudo-examples of `stage`, in `<workdir>/self_training`, made if they are not there whole.

    The average weights with which the stage begins write, from the checkpoint of the stage before. Beside the
    shard is a JSON file, written last: where it comes from, what was refused, and enough of a dataset.json
    for `data.read_records`. Raises RunError, also where a damaged shard does not become again what it was
    (its weights are gone), or CheckpointError.
    """
    place, name = workdir / "self_training", stage.config.name
    path = place / f"{stage.directory}.json"
    file = path.with_suffix(".array_record")
    info: dict[str, Any] = {}
    with contextlib.suppress(RunError):  # not there, or damaged
        info = read_json(path, RunError)
    was = info.get("sha256")
    if was and file.exists() and was == hashlib.sha256(file.read_bytes()).hexdigest():
        return Dataset(place, info)
    before = workdir / "checkpoints" / f"{stage.index}_{config.stages[stage.index - 1].name}"
    source = checkpoint.newest_intact(before, say)
    if source is None:
        raise RunError(f"{before} has no intact checkpoint, from which {file} is to be made")
    if stage.config.init_from == "best":
        source = before / str(read_json(source / "meta.json", RunError)["best"]["step"])
    run, rows = load_checkpoint(config, dataset, workdir, source, "ema"), len(stage.data.source)
    wanted = -(-round(stage.config.self_training * rows) // stage.config.num_epochs)
    kept, told = make(run, dataset, wanted, config.seed, say)
    place.mkdir(exist_ok=True)
    digest = write_shard(file, kept, dataset.info["ids_dtype"])
    if was not in (None, digest):
        gone = f"{file} was damaged, and what was made again is not what it was"
        raise RunError(f"{gone}; with the new passages the run goes on if {path} is removed")
    told |= {"seed": config.seed, "checkpoint": run.checkpoint, "model_hash": run.model_hash}
    told |= {"sampling": dataclasses.asdict(LAW), "sha256": digest}
    shards = {"shards": [{"file": file.name, "sha256": digest}] if kept else []}
    told |= {"ids_dtype": dataset.info["ids_dtype"], "stages": {name: {"train": shards}}}
    write_json(path, told)
    return Dataset(place, read_json(path, RunError))
