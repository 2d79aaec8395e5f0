"""From shards to batches: array_record files through grain, packed rows, held-out windows.

A row is [EOS] + segment, [EOS] + segment, ...; the [EOS] are given and never scored. The plan of a stage
(which segments share which row in which epoch) is a pure function of the shards and the seed, so a batch is
found by its number alone, which is all that an exact resume needs.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import msgpack
import numpy as np

from mdlm_jax.configuration import StageConfig
from mdlm_jax.ui.values import UserError, read_json

SCHEMA_VERSION = 1


class DataError(UserError):
    """A data directory that cannot be used; one line."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data directory: its dataset.json, and where it lies."""

    path: Path
    info: dict[str, Any]

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of pad, mask, sep and eos."""
        return self.info["special_ids"]

    def verify(self) -> None:
        """Raises DataError when a file is not the one that was prepared."""
        splits = [counts for stage in self.info["stages"].values() for counts in stage.values()]
        files = [shard for counts in splits for shard in counts["shards"]] + [self.info["tokenizer"]]
        for entry in files:
            path = self.path / entry["file"]
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                raise DataError(f"{path} is missing or damaged; prepare the book again")

    def counts(self, stage: str, split: str) -> dict[str, Any]:
        """examples, tokens, bytes and shards of one split of one stage."""
        return self.info["stages"][stage][split]


def open_dataset(path: Path) -> Dataset:
    """Reads dataset.json. Raises DataError when it is missing, damaged or of another schema version."""
    absent = f"{path} has no dataset.json; prepare a book with python -m data_prep --out {path}"
    info = read_json(path / "dataset.json", DataError, absent)
    if info.get("schema_version") != SCHEMA_VERSION:
        found = info.get("schema_version")
        raise DataError(f"{path} has data schema {found}, this version reads {SCHEMA_VERSION}")
    return Dataset(path, info)


@dataclasses.dataclass(frozen=True)
class Record:
    """One example: a sentence, a pair, or a paragraph."""

    ids: np.ndarray  # int32 [n]; [n, 2] with the importance of each, where that is asked for
    chapter: int
    paragraph: int = 0
    weight: float = 1.0  # how often it is drawn, against others, where a stage is weighted
    sentences: tuple[int, ...] = ()  # of a paragraph: the token that each begins with


def read_records(dataset: Dataset, stage: str, split: str, importance: bool = False) -> list[Record]:
    """All records of a split in their order. Raises DataError when a shard is missing or unreadable."""
    dtype = np.dtype(dataset.info["ids_dtype"]).newbyteorder("<")
    records = []
    for shard in dataset.counts(stage, split)["shards"]:
        path = dataset.path / shard["file"]
        if not path.exists():
            raise DataError(f"the shard {path} is missing; prepare the book again")
        try:
            source = grain.sources.ArrayRecordDataSource(str(path))
            for i in range(len(source)):
                fields = msgpack.unpackb(source[i])
                ids = np.frombuffer(fields["ids"], dtype).astype(np.int32)
                if importance:
                    ids = np.stack([ids, np.frombuffer(fields["importance"], np.uint8)], axis=1)
                place = fields["chapter"], fields["paragraph"]
                records.append(Record(ids, *place, fields["weight"], tuple(fields.get("sentences", ()))))
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"the shard {path} is damaged ({error}); prepare the book again") from None
    return records


def chapters(records: list[Record]) -> list[np.ndarray]:
    """The token stream of each run of paragraphs that follow one another in a chapter, in reading order."""
    runs: list[list[np.ndarray]] = []
    last = None
    for record in records:
        if (record.chapter, record.paragraph - 1) != last:
            runs.append([])
        runs[-1].append(record.ids)
        last = record.chapter, record.paragraph
    return [np.concatenate(run) for run in runs]


def cut(stream: np.ndarray, length: int, offset: int = 0) -> list[np.ndarray]:
    """Pieces of at most `length` tokens; the first has `offset` tokens if that is not 0."""
    edges = [0, *range(offset or length, len(stream), length), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges) if b > a]


def pack(segments: list[np.ndarray], length: int) -> list[list[np.ndarray]]:
    """First-fit: each segment and its [EOS] go into the first row of `length` positions with room."""
    rows: list[list[np.ndarray]] = []
    room: list[int] = []
    open_rows: list[int] = []
    for segment in segments:
        need = len(segment) + 1
        row = next((r for r in open_rows if room[r] >= need), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
            open_rows.append(row)
        rows[row].append(segment)
        room[row] -= need
        open_rows = [r for r in open_rows[-64:] if room[r] > 1]  # a bounded look-back keeps this linear
    return rows


def plan_rows(
    records: list[Record], stage: str, seq_len: int, num_epochs: int, seed: int, weighted: bool = False
) -> list[list[np.ndarray]]:
    """The rows of all epochs of a stage, in training order.

    Refinement cuts each chapter into windows at an offset drawn anew every epoch; the other stages take a
    record as a segment (cut when it is too long), or if `weighted`, in each epoch, with a chance of its
    weight over the largest.
    """
    rows: list[list[np.ndarray]] = []
    top = max(record.weight for record in records)
    for epoch in range(num_epochs):
        rng = np.random.default_rng([seed, epoch])
        drawn = [r for r in records if not weighted or top * rng.random() <= r.weight]
        segments = []
        for stream in chapters(drawn) if stage == "refinement" else [record.ids for record in drawn]:
            offset = int(rng.integers(seq_len - 1)) if stage == "refinement" else 0
            segments += cut(stream, seq_len - 1, offset)
        order = rng.permutation(len(segments))
        packed = pack([segments[i] for i in order], seq_len)
        rows += [packed[i] for i in rng.permutation(len(packed))]
    return rows


class RowSource:
    """A grain source: row i as tokens, segments (from 1; 0: padding), scored (and importance): [seq_len]."""

    def __init__(self, rows: list[list[np.ndarray]], seq_len: int, special_ids: dict[str, int]):
        self.rows, self.seq_len, self.special_ids = rows, seq_len, special_ids

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
        tokens = np.full(self.seq_len, self.special_ids["pad"], np.int32)
        segments = np.zeros(self.seq_len, np.int32)
        scored = np.zeros(self.seq_len, bool)
        importance = np.zeros(self.seq_len, np.int32)
        at = 0
        for number, segment in enumerate(self.rows[index], 1):
            end = at + 1 + len(segment)
            columns = segment.reshape(len(segment), -1).T
            tokens[at], tokens[at + 1 : end] = self.special_ids["eos"], columns[0]
            segments[at:end], scored[at + 1 : end] = number, True
            importance[at + 1 : end] = columns[-1]
            at = end
        row = {"tokens": tokens, "segments": segments, "scored": scored}
        return row | {"importance": importance} if segment.ndim == 2 else row


@dataclasses.dataclass(frozen=True)
class StageData:
    """The batches of one stage, by number."""

    source: RowSource
    batch_size: int

    @property
    def num_steps(self) -> int:
        """Optimizer steps: whole batches over all epochs, at least one."""
        return max(1, len(self.source) // self.batch_size)

    @functools.cached_property
    def tokens(self) -> int:
        """Scored tokens over all steps."""
        used = self.source.rows[: self.num_steps * self.batch_size]
        return sum(len(segment) for row in used for segment in row)

    @functools.cached_property
    def per_row(self) -> int:
        """Most segments in a row."""
        return max(len(row) for row in self.source.rows)

    def batches(self, start: int = 0, part: int = 0, parts: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """Batches start, ... (of each one of equal `parts`), dicts of [rows, seq_len], prefetched."""
        rows = grain.MapDataset.source(self.source)
        if len(rows) < self.batch_size:  # a tiny stage: its rows once more, never an empty step
            rows = rows.repeat(-(-self.batch_size // len(rows)))
        cut = rows.batch(self.batch_size // parts, drop_remainder=True)
        numbered = cut[start * parts + part : self.num_steps * parts : parts]
        return iter(numbered.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))


def stage_data(
    dataset: Dataset, stage: StageConfig, seq_len: int, batch_size: int, seed: int, importance: bool = False
) -> StageData:
    """Reads and plans one stage's training split. Raises DataError when it is empty."""
    records = read_records(dataset, stage.name, "train", importance)
    if not records:
        raise DataError(f"the {stage.name} stage of {dataset.path} has no training examples")
    rows = plan_rows(records, stage.name, seq_len, stage.num_epochs, seed, stage.weighted)
    return StageData(RowSource(rows, seq_len, dataset.special_ids), batch_size)
