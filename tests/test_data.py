"""From shards to batches: every token once an epoch, batches by number, and the held-out windows."""

import json
import shutil
from collections import Counter

import grain
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax import data
from mdlm_jax.configuration import STAGE_NAMES, StageConfig
from mdlm_jax.evaluation import likelihood
from mdlm_jax.evaluation.likelihood import held_out_windows
from mdlm_jax.tokenizer import load_tokenizer

SEQ_LEN = 64


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return data.open_dataset(dataset_dir)


@pytest.fixture
def copy(dataset_dir, tmp_path):
    shutil.copytree(dataset_dir, tmp_path / "data")
    return tmp_path / "data"


def planned(dataset, stage, num_epochs=1, seed=0):
    return data.plan_rows(data.read_records(dataset, stage, "train"), stage, SEQ_LEN, num_epochs, seed)


def stage_of(name, num_epochs=1, weighted=False):
    return StageConfig(name, num_epochs, (0.0, 1.0), 1.0, "last", weighted)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        len(x) == len(y) and all(np.array_equal(p, q) for p, q in zip(x, y, strict=True))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("split", ("train", "validation", "test"))
@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_grain_reads_the_shards_of_data_prep(dataset, stage, split):
    counts = dataset.counts(stage, split)
    records = data.read_records(dataset, stage, split)
    assert len(records) == counts["examples"] > 0
    assert sum(len(r.ids) for r in records) == counts["tokens"]
    top = max(int(r.ids.max()) for r in records)
    assert (
        all(r.ids.dtype == np.int32 and r.ids.min() >= 0 for r in records)
        and top < dataset.info["vocab_size"]
    )
    specials = {dataset.special_ids[name] for name in ("pad", "mask", "eos")}
    assert not specials & {int(i) for r in records for i in r.ids}
    [shard] = counts["shards"]
    fields = msgpack.unpackb(grain.sources.ArrayRecordDataSource(str(dataset.path / shard["file"]))[0])
    assert {"ids", "importance", "doc", "chapter", "paragraph", "sentence", "tier"} <= set(fields)
    width = np.dtype(dataset.info["ids_dtype"]).itemsize
    assert len(fields["importance"]) * width == len(fields["ids"]) == len(records[0].ids) * width


def test_refinement_decodes_to_the_book(dataset, book):
    tokenizer = load_tokenizer(dataset.path / "tokenizer.json")
    text = book.read_text(encoding="utf-8")
    for split in ("train", "validation", "test"):
        for record in data.read_records(dataset, "refinement", split):
            piece = tokenizer.decode(record.ids.tolist(), skip_special_tokens=False)
            assert piece.endswith("\n\n") and piece.strip() in text


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_token_once_an_epoch(dataset, stage):
    records = data.read_records(dataset, stage, "train")
    wanted = Counter(int(i) for r in records for i in r.ids)
    for rows in (planned(dataset, stage), planned(dataset, stage, seed=5)):
        assert Counter(int(i) for row in rows for segment in row for i in segment) == wanted
    two = planned(dataset, stage, num_epochs=2)
    assert Counter(int(i) for row in two for s in row for i in s) == Counter(
        {k: 2 * v for k, v in wanted.items()}
    )


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_order_follows_seed_and_epoch(dataset, stage):
    one, two = planned(dataset, stage), planned(dataset, stage, num_epochs=2)
    assert same(planned(dataset, stage), one)
    assert not same(planned(dataset, stage, seed=1), one)
    assert same(two[: len(one)], one) and not same(two[len(one) :], one)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_importance_stays_with_its_token(dataset, stage):
    """The same rows with or without it, and each token with that of its record; [EOS] and padding have 0."""
    config = StageConfig(stage, 2, (0.1, 0.2), 1.0, "last")
    plain, soft = (data.stage_data(dataset, config, SEQ_LEN, 4, 3, flag) for flag in (False, True))
    assert plain.tokens == soft.tokens and plain.per_row == soft.per_row
    pairs: Counter = Counter()
    for i in range(len(plain.source)):
        one, two = plain.source[i], soft.source[i]
        assert "importance" not in one and all(np.array_equal(one[name], two[name]) for name in one)
        assert not two["importance"][~two["scored"]].any()
        pairs.update(
            zip(*(two[name][two["scored"]].tolist() for name in ("tokens", "importance")), strict=True)
        )
    [shard] = dataset.counts(stage, "train")["shards"]
    wanted: Counter = Counter()
    for record in grain.sources.ArrayRecordDataSource(str(dataset.path / shard["file"])):
        fields = msgpack.unpackb(record)
        ids = np.frombuffer(fields["ids"], np.dtype(dataset.info["ids_dtype"]))
        wanted.update(zip(ids.tolist(), fields["importance"], strict=True))
    assert pairs == Counter({pair: 2 * count for pair, count in wanted.items()})
    assert len({importance for _, importance in pairs}) > 20


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_rows_start_segments_with_an_unscored_eos(dataset, stage):
    rows = planned(dataset, stage)
    source = data.RowSource(rows, SEQ_LEN, dataset.special_ids)
    for i, row in enumerate(rows):
        got = source[i]
        tokens, segments, scored = got["tokens"], got["segments"], got["scored"]
        starts = np.flatnonzero((segments != 0) & (np.diff(segments, prepend=0) != 0))
        assert len(starts) == len(row) and (np.diff(segments)[: np.count_nonzero(segments) - 1] >= 0).all()
        assert (tokens[starts] == dataset.special_ids["eos"]).all() and not scored[starts].any()
        assert np.array_equal(tokens[scored], np.concatenate(row))
        assert scored.sum() + len(starts) == np.count_nonzero(segments)
        assert (tokens[segments == 0] == dataset.special_ids["pad"]).all() and not scored[segments == 0].any()


def test_no_refinement_segment_crosses_chapters(dataset):
    records = data.read_records(dataset, "refinement", "train")
    assert len({r.chapter for r in records}) > 1
    # Tokens that name their chapter in place of the book's: every segment must hold one name only.
    named = [data.Record(np.full(len(r.ids), r.chapter, np.int32), r.chapter, r.paragraph) for r in records]
    rows = data.plan_rows(named, "refinement", SEQ_LEN, 3, seed=0)
    assert all(len(set(segment.tolist())) == 1 for row in rows for segment in row)
    assert max(len(segment) for row in rows for segment in row) == SEQ_LEN - 1


def test_no_refinement_segment_crosses_what_was_left_out():
    """Paragraphs 2 and 5 of the first chapter are missing: tokens name the stretch they are in."""
    stretches = [(0, 0), (0, 1), (1, 3), (1, 4), (2, 6), (2, 7)]
    records = [data.Record(np.full(40, n, np.int32), 0, p) for n, p in stretches]
    records.append(data.Record(np.full(40, 3, np.int32), 1, 8))
    assert [stream[0] for stream in data.chapters(records)] == [0, 1, 2, 3]
    rows = data.plan_rows(records, "refinement", SEQ_LEN, 5, seed=0)
    segments = [segment for row in rows for segment in row]
    assert all(len(set(segment.tolist())) == 1 for segment in segments)
    assert Counter(int(i) for s in segments for i in s) == {0: 400, 1: 400, 2: 400, 3: 200}


def test_weighted_epochs_draw_by_weight_and_unweighted_ones_draw_all():
    """Weights of 0.8, 0.4 and 0.08: a record is in an epoch with a chance of 1, 1/2 and 1/10."""
    weights = np.repeat([0.8, 0.4, 0.08], 200)
    records = [data.Record(np.array([i], np.int32), 0, 0, float(w)) for i, w in enumerate(weights)]

    def drawn(epochs, seed=0, weighted=True):
        rows = data.plan_rows(records, "structural", SEQ_LEN, epochs, seed, weighted)
        return rows, Counter(int(s[0]) for row in rows for s in row)

    rows, count = drawn(40)
    assert max(count.values()) == 40  # without replacement
    times = np.array([count[i] for i in range(600)]).reshape(3, 200)
    assert (times[0] == 40).all()
    for got, chance in zip(times[1:], (0.5, 0.1), strict=True):
        assert abs(got.mean() / 40 - chance) < 4.5 * (chance * (1 - chance) / 8000) ** 0.5
    assert times[2].std() > 1 and len({tuple(row) for row in times}) == 3  # anew every epoch
    assert same(drawn(40)[0], rows) and not same(drawn(40, seed=1)[0], rows)
    assert same(drawn(3)[0], rows[: len(drawn(3)[0])])  # an epoch depends on none that follows
    assert set(drawn(2, weighted=False)[1].values()) == {2}
    nothing = [data.Record(np.array([1], np.int32), 0, 0, 0.0)]
    assert len(data.plan_rows(nothing, "structural", SEQ_LEN, 2, 0, True)) == 2  # never an empty stage


def test_a_weighted_stage_resumes_by_number(dataset):
    plain, made = (
        data.stage_data(dataset, stage_of("structural", 6, w), SEQ_LEN, 4, 2) for w in (False, True)
    )
    every = list(made.batches())
    assert 0 < made.tokens < plain.tokens and len(every) == made.num_steps
    for got, wanted in zip(made.batches(made.num_steps // 2), every[made.num_steps // 2 :], strict=True):
        assert all(np.array_equal(got[k], wanted[k]) for k in got)


def test_refinement_windows_shift_every_epoch(dataset):
    stream = np.arange(1000, dtype=np.int32)
    starts = [
        {int(s[0]) % (SEQ_LEN - 1) for row in rows for s in row if s[0]}
        for rows in (
            data.plan_rows([data.Record(stream, 0)], "refinement", SEQ_LEN, 1, seed) for seed in range(8)
        )
    ]
    assert all(len(s) == 1 for s in starts) and len(set().union(*starts)) > 4


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_batch_is_found_by_its_number(dataset, stage):
    made = data.stage_data(dataset, stage_of(stage, 3), SEQ_LEN, 4, seed=2)
    every = list(made.batches())
    assert len(every) == made.num_steps == len(made.source) // 4
    assert made.tokens == sum(int(b["scored"].sum()) for b in every)
    assert made.per_row == max(int(b["segments"].max()) for b in every) or len(made.source) % 4
    for start in (0, 1, made.num_steps // 2, made.num_steps - 1, made.num_steps):
        tail = list(made.batches(start))
        assert len(tail) == made.num_steps - start
        for got, wanted in zip(tail, every[start:], strict=True):
            assert got.keys() == wanted.keys() == {"tokens", "segments", "scored"}
            assert all(got[k].shape == (4, SEQ_LEN) and np.array_equal(got[k], wanted[k]) for k in got)


def test_a_stage_smaller_than_a_batch_still_has_a_step(dataset):
    made = data.stage_data(dataset, stage_of("structural"), SEQ_LEN, 500, seed=0)
    assert made.num_steps == 1 and len(made.source) < 500
    [batch] = made.batches()
    assert batch["tokens"].shape == (500, SEQ_LEN) and batch["scored"].any(axis=1).all()


def test_empty_stage_is_refused(dataset, monkeypatch):
    for module in (data, likelihood):
        monkeypatch.setattr(module, "read_records", lambda *_: [])
    with pytest.raises(data.DataError, match=r"the structural stage of .* has no training examples"):
        data.stage_data(dataset, stage_of("structural"), SEQ_LEN, 4, seed=0)
    with pytest.raises(data.DataError, match=r"the refinement test split of .* is empty"):
        held_out_windows(dataset, "test", SEQ_LEN)


@given(lengths=st.lists(st.integers(1, 31), max_size=200))
def test_packing_keeps_every_segment_and_never_overflows(lengths):
    segments = [np.full(n, i, np.int32) for i, n in enumerate(lengths)]
    rows = data.pack(segments, 32)
    assert all(0 < sum(len(s) + 1 for s in row) <= 32 for row in rows)
    assert sorted(s.tolist() for row in rows for s in row) == sorted(s.tolist() for s in segments)


@given(n=st.integers(0, 300), length=st.integers(1, 80), share=st.floats(0, 0.999))
def test_cutting_loses_nothing(n, length, share):
    stream, offset = np.arange(n), int(share * length)
    pieces = data.cut(stream, length, offset)
    assert np.array_equal(np.concatenate([stream[:0], *pieces]), stream)
    assert all(0 < len(p) <= length for p in pieces)
    assert not offset or not n or len(pieces[0]) == min(offset, n)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_windows_are_the_chapters(dataset, split, book):
    windows = held_out_windows(dataset, split, SEQ_LEN)
    tokens, segments, scored = windows["tokens"], windows["segments"], windows["scored"]
    assert (tokens[:, 0] == dataset.special_ids["eos"]).all() and not scored[:, 0].any()
    assert segments.max() == 1 and np.array_equal(scored[:, 1:], segments[:, 1:] == 1)
    tokenizer = load_tokenizer(dataset.path / "tokenizer.json")
    text = tokenizer.decode(tokens[scored].tolist(), skip_special_tokens=False)
    assert len(text.encode()) == dataset.counts("refinement", split)["bytes"]
    # Each chapter in reading order, as it stands in the book.
    parts = {}
    for record in data.read_records(dataset, "refinement", split):
        piece = tokenizer.decode(record.ids.tolist(), skip_special_tokens=False)
        parts[record.chapter] = parts.get(record.chapter, "") + piece
    assert list(parts) == sorted(parts) == dataset.info["split"]["chapters"][split]
    assert text == "".join(parts.values())
    assert all(part.strip() in book.read_text(encoding="utf-8") for part in parts.values())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "dataset.json").unlink(), "has no dataset.json; prepare a book"),
        (lambda path: (path / "dataset.json").write_text("{"), "cannot read"),
        (lambda path: (path / "dataset.json").write_bytes(b"\xff\xfe"), "cannot read"),
        (lambda path: (path / "dataset.json").write_text("[]"), "cannot read"),
        (lambda path: (path / "dataset.json").write_text('{"schema_version": 99}'), "data schema 99"),
    ],
)
def test_unusable_directory_is_one_line(copy, damage, reason):
    damage(copy)
    with pytest.raises(data.DataError, match=reason) as caught:
        data.open_dataset(copy)
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def _remove(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[:100])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_remove, _cut, _flip, _empty])
def test_damaged_shard_is_one_line(copy, damage):
    damage(copy / "refinement-train-00000-of-00001.array_record")
    with pytest.raises(data.DataError, match=r"refinement-train-00000-of-00001\.array_record") as caught:
        data.read_records(data.open_dataset(copy), "refinement", "train")
    assert "\n" not in str(caught.value)


def test_two_preparations_are_identical(dataset_dir, smoke_run):
    one, two = (json.loads((d / "dataset.json").read_text()) for d in (dataset_dir, smoke_run / "data"))
    assert one == two
    for path in dataset_dir.iterdir():
        assert path.read_bytes() == (smoke_run / "data" / path.name).read_bytes()
