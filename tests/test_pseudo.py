"""Pseudo-examples: where their spans are, who judges them, and that held-out chapters play no part."""

import dataclasses
import hashlib
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from test_losses import toy_run

from mdlm_jax import checkpoint, curriculum, data
from mdlm_jax.configuration import StageConfig
from mdlm_jax.evaluation import pseudo, style
from mdlm_jax.evaluation.summary import WRITTEN
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.run_directory import RunError
from mdlm_jax.tokenizer import load_tokenizer

WANTED, SEED = 8, 3


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return data.open_dataset(dataset_dir)


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Random weights find all text about as likely: of a narrow range some is refused on both sides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudo, "RANGE", (0.3, 0.7))
        yield


@pytest.fixture(scope="module")
def records(dataset):
    return data.read_records(dataset, "refinement", "train")


@pytest.fixture(scope="module")
def run(dataset):
    """Random weights, but flat enough to write tokens that are about as likely as real ones."""
    toy = toy_run(dataset)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 0.2 if "embed" in jax.tree_util.keystr(path) else x, toy.params
    )
    config = dataclasses.replace(toy.config, seed=SEED)
    tokenizer = load_tokenizer(dataset.path / "tokenizer.json")
    return dataclasses.replace(toy, config=config, params=params, tokenizer=tokenizer)


def lines_of(records) -> list[dict]:
    """A line per sentence, its loss a number of its own."""
    found = []
    for r in records:
        edges = [*r.sentences, len(r.ids)]
        for i, (a, b) in enumerate(itertools.pairwise(edges)):
            place = {"chapter": r.chapter, "paragraph": r.paragraph, "sentence": i}
            found += [place | {"loss": float(len(found)), "tokens": b - a}] if b > a else []
    return found


def test_a_span_is_half_of_its_sentence_and_a_passage_is_text_of_one_run(records):
    lines, longest = lines_of(records), 40
    found = pseudo.passages(records, lines, longest, SEED)
    fitting = [line for line in lines if pseudo.SHORTEST <= line["tokens"] <= longest]
    assert len(found) == len(fitting) > 30
    text = np.concatenate([r.ids for r in records])
    ends = np.cumsum([len(stream) for stream in data.chapters(records)])
    begins = {(r.chapter, r.paragraph): at for r, at in
              zip(records, np.cumsum([0, *(len(r.ids) for r in records)]), strict=False)}  # fmt: skip
    paragraphs = {(r.chapter, r.paragraph): r for r in records}
    for p, line in zip(found, fitting, strict=True):
        key = p.place["chapter"], p.place["paragraph"]
        sentence = begins[key] + paragraphs[key].sentences[p.place["sentence"]]
        assert sentence <= p.position and p.position + p.stop - p.start <= sentence + line["tokens"]
        assert p.stop - p.start == line["tokens"] // 2 and p.loss == line["loss"]
        lo = p.position - p.start
        assert np.array_equal(p.tokens, text[lo : lo + len(p.tokens)])
        first, stream, last = np.searchsorted(ends, (lo, p.position, lo + len(p.tokens) - 1), "right")
        assert first == stream == last
        assert len(p.tokens) == min(longest, np.diff([0, *ends])[stream])
    assert len({p.position - p.start for p in found}) > len(found) / 2
    other = pseudo.passages(records, lines, longest, SEED + 1)
    assert [p.position for p in other] != [p.position for p in found]
    turned = pseudo.passages(records, lines[::-1], longest, SEED)  # a span's place is its own
    assert [p.position for p in turned[::-1]] == [p.position for p in found]


def test_a_copy_is_a_run_of_written_tokens_that_the_book_has(records):
    text, rng = np.concatenate([r.ids for r in records]), np.random.default_rng(0)
    index = style.runs(data.chapters(records), pseudo.SHORTEST // 2 - 1)
    book = {tuple(text[i : i + n]) for n in (5, 8) for i in range(len(text) - n + 1)}

    def passage(tokens, start, stop):
        return pseudo.Passage(np.array(tokens, np.int32), start, stop, {}, 0, 0.0)

    strange = text.copy()
    rng.shuffle(strange)
    for at in range(0, 300, 30):
        whole = passage(text[at : at + 30], 10, 15)
        assert pseudo.is_copy(whole, index)  # all of a short span
        mixed = np.concatenate([text[at : at + 10], strange[at : at + 5], text[at + 15 : at + 30]])
        assert pseudo.is_copy(passage(mixed, 10, 15), index) == (tuple(mixed[10:15]) in book)
        long = np.concatenate([text[at : at + 9], strange[at : at + 4], text[at + 4 : at + 12], strange[:9]])
        assert pseudo.is_copy(passage(long, 9, 25), index)  # eight in a row of a longer one
        long[14::3] = 4 + rng.integers(0, 200, len(long[14::3]))
        runs = [tuple(long[i : i + 8]) for i in range(9, 18)]
        assert pseudo.is_copy(passage(long, 9, 25), index) == any(r in book for r in runs)


@pytest.fixture(scope="module")
def made(run, dataset):
    said: list[str] = []
    return *pseudo.make(run, dataset, WANTED, SEED, said.append), said


def test_what_is_kept_is_likely_new_and_otherwise_the_book(run, dataset, records, made):
    kept, told, said = made
    assert 0 < len(kept) <= WANTED and told["verdicts"]["kept"] == len(kept)
    assert sum(told["verdicts"].values()) == told["made"] == pseudo.TRIED * WANTED and len(said) == 2
    text, (low, high) = np.concatenate([r.ids for r in records]), told["range"]
    nats = pseudo.span_nats(run, [p for p, _ in kept])
    for (p, cost), again in zip(kept, nats, strict=True):
        lo = p.position - p.start
        real = text[lo : lo + len(p.tokens)]
        changed = np.flatnonzero(p.tokens != real)
        assert len(changed) and changed.min() >= p.start and changed.max() < p.stop
        assert low <= cost <= high and cost == pytest.approx(again, rel=0.3)  # other masks
        assert not set(p.tokens[p.span]) & set(dataset.special_ids.values())
    assert told["verdicts"]["too plain"] and told["verdicts"]["too odd"]
    losses = [p.loss for p, _ in kept]
    assert losses == sorted(losses, reverse=True)


def test_a_full_disk_is_one_line(made, tmp_path):
    path = tmp_path / "2_refinement.array_record"
    path.with_name(f"{path.name}.tmp").symlink_to("/dev/full")
    with pytest.raises(RunError, match=f"cannot write {path}: no space left; free some and run the same"):
        pseudo.write_shard(path, made[0], "uint16")
    assert not path.exists()


def test_held_out_chapters_are_never_read(run, dataset, made, tmp_path):
    """Without their shards the same passages are made, to the bit."""
    shutil.copytree(dataset.path, tmp_path / "data")
    gone = [p for split in ("validation", "test") for p in (tmp_path / "data").glob(f"*-{split}-*")]
    assert len(gone) == 6
    for path in gone:
        path.unlink()
    blind = data.open_dataset(tmp_path / "data")
    kept, told = pseudo.make(dataclasses.replace(run, dataset=blind), blind, WANTED, SEED, lambda text: None)
    assert told == made[1] and len(kept) == len(made[0])
    for (p, cost), (q, other) in zip(kept, made[0], strict=True):
        assert np.array_equal(p.tokens, q.tokens) and (p.place, cost) == (q.place, other)


def test_spans_come_from_the_law_of_the_model_whatever_the_settings_of_the_run(run, records):
    passage = pseudo.passages(records, lines_of(records), run.config.model.seq_len - 1, SEED)[0]
    colder = dataclasses.replace(run.config.sampling, temperature=1e-3, top_k=1)
    cold = dataclasses.replace(run, config=dataclasses.replace(run.config, sampling=colder))
    one, other = (pseudo.write(r, passage, SEED).tokens for r in (run, cold))
    assert np.array_equal(one, other) and not np.array_equal(one, passage.tokens)


def test_a_shard_is_made_once_and_again_if_it_is_damaged(run, dataset, tmp_path):
    """By the weights with which the stage began: here the best of the stage before, not the last."""
    shutil.copyfile(dataset.path / "tokenizer.json", tmp_path / "tokenizer.json")
    before = StageConfig("structural", 1, (0.4, 0.6), 1.0, "last")
    last = StageConfig("refinement", 2, (0.05, 0.2), 1.0, "best", self_training=0.1)
    config = dataclasses.replace(run.config, stages=(before, last))
    stages, said = curriculum.plan(config, dataset), []
    for step, ema in ((5, run.params), (9, jax.tree.map(jax.numpy.zeros_like, run.params))):
        state = curriculum.begin(run.params, ema, make_optimizer(config.optimizer, 1), 0, stages[0])
        path = tmp_path / "checkpoints" / "1_structural"
        checkpoint.save(path, step, state, {"best": {"step": 5}}, keep=set())

    def shard() -> data.Dataset:
        return pseudo.shard(config, dataset, tmp_path, stages[1], said.append)

    first, place = shard(), tmp_path / "self_training"
    assert len(said) == 2 and first.info["verdicts"]["kept"] > 0
    made = {path.name: path.read_bytes() for path in place.iterdir()}
    assert made.keys() == {"2_refinement.json", "2_refinement.array_record"}
    assert all(WRITTEN.fullmatch(f"self_training/{name}") for name in made)
    assert shard().info == first.info and len(said) == 2
    (place / "2_refinement.array_record").write_bytes(made["2_refinement.array_record"][:-9])
    assert shard().info == first.info and len(said) == 4
    assert {path.name: path.read_bytes() for path in place.iterdir()} == made
    (place / "2_refinement.json").write_bytes(made["2_refinement.json"][:-9])
    assert shard().info == first.info and len(said) == 6
    # What is not the same again is not taken for it: here the weights that wrote it are gone.
    (place / "2_refinement.array_record").unlink()
    kept = json.dumps(json.loads(made["2_refinement.json"]) | {"sha256": "0" * 64})
    (place / "2_refinement.json").write_text(kept)
    with pytest.raises(RunError, match=r"2_refinement.array_record was damaged, .*; with the new"):
        shard()
    told = json.loads(made["2_refinement.json"])
    assert (told["checkpoint"], told["seed"]) == ("1_structural/5", SEED)
    digest = hashlib.sha256((path / "5" / "MANIFEST.json").read_bytes()).hexdigest()
    assert told["model_hash"] == digest[:16] and told["sampling"]["temperature"] == 1.0
    records = data.read_records(first, "refinement", "train")
    assert len(records) == told["verdicts"]["kept"]
    assert {r.chapter for r in records} <= set(dataset.info["split"]["chapters"]["train"])
