"""What each training sentence costs a run, and what the next preparation makes of it."""

import dataclasses
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import built_in_chapters
from toys import NETWORK, config, random_params

import data_prep
from mdlm_jax import data, run_directory
from mdlm_jax.evaluation import likelihood, losses
from mdlm_jax.evaluation.likelihood import held_out_windows
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.train_state import forbidden_rows


def command(monkeypatch, capsys, *options) -> tuple[int, str]:
    """Exit code and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["losses", *map(str, options)])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    code = losses.main()
    return code, capsys.readouterr().err


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return data.open_dataset(dataset_dir)


def toy_run(dataset, causal=False) -> run_directory.Trained:
    """A network with random weights, as a run of this data."""
    rows = dataset.info["vocab_rows"]
    model = dataclasses.replace(NETWORK, num_layers=1, seq_len=64, vocab_rows=rows, causal=causal)
    forbidden = forbidden_rows(model, dataset.info["vocab_size"], dataset.special_ids)
    return run_directory.Trained(config(model), dataset, None, random_params(model), forbidden, "", "")


@pytest.fixture(scope="module")
def run(dataset):
    return toy_run(dataset)


@pytest.fixture(scope="module")
def nats(run, dataset):
    return losses.token_nats(run, dataset)


def test_tokens_add_up_to_the_bound(run, dataset, nats):
    """Of the same text under the same masks: two ways to the same sum."""
    records = data.read_records(dataset, "refinement", "train")
    assert len(nats) == sum(len(r.ids) for r in records) and nats.min() >= 0
    windows = held_out_windows(dataset, "train", run.config.model.seq_len)
    mask = dataset.special_ids["mask"]
    bound = likelihood.make_bound(run.config, run.forbidden, mask, windows)
    assert nats.sum() == pytest.approx(bound(run.params)[0].mean(0).sum(), rel=1e-4)
    np.testing.assert_allclose(
        np.add.reduceat(nats, np.cumsum([0, *windows["scored"].sum(1)[:-1]])),
        bound(run.params)[0].mean(0),
        rtol=1e-3,
    )


def test_every_training_sentence_has_a_line_and_its_own_tokens(dataset, book, nats):
    records = data.read_records(dataset, "refinement", "train")
    lines = losses.by_sentence(records, nats)
    tokenizer = load_tokenizer(dataset.path / "tokenizer.json")
    assert len(lines) == dataset.info["sentences"]["train"]
    by_place = {(r.chapter, r.paragraph): r for r in records}
    # Numbering tokens in place of their costs shows which belong to a sentence.
    numbers = losses.by_sentence(records, np.arange(len(nats), dtype=float))
    text = np.concatenate([r.ids for r in records])
    simple = {
        (r.chapter, r.paragraph, n): r
        for n, r in enumerate(data.read_records(dataset, "foundational", "train"))
    }
    found = {}
    for line, number in zip(lines, numbers, strict=True):
        assert (line["chapter"], line["paragraph"]) in by_place and line["tokens"] > 0
        begin = round(number["loss"] - (line["tokens"] - 1) / 2)
        mine = text[begin : begin + line["tokens"]].tolist()
        found[line["chapter"], line["paragraph"], line["sentence"]] = tokenizer.decode(mine).strip()
        assert line["loss"] == pytest.approx(nats[begin : begin + line["tokens"]].mean(), abs=1e-4)
    assert len(found) == len(lines) and simple
    for (chapter, paragraph, _), record in simple.items():
        whole = tokenizer.decode(record.ids.tolist()).strip()
        assert whole in [t for (c, p, _), t in found.items() if (c, p) == (chapter, paragraph)]


def test_the_twin_is_exact(dataset):
    """Without weights every token costs the logarithm of the tokens that may stand there."""
    twin = toy_run(dataset, causal=True)
    twin = dataclasses.replace(twin, params=jax.tree.map(jnp.zeros_like, twin.params))
    nats = losses.token_nats(twin, dataset)
    assert len(nats) == dataset.counts("refinement", "train")["tokens"]
    np.testing.assert_allclose(nats, np.log(dataset.info["vocab_size"] - 2), rtol=1e-5)


def test_command_and_the_preparation_after_it(smoke_run, book, tmp_path, monkeypatch, capsys):
    """From a run to its losses to another choice from the same book."""
    out = tmp_path / "losses.jsonl"
    code, error = command(monkeypatch, capsys, "--workdir", smoke_run, "--out", out)
    assert code == 0, error
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert os.listdir(tmp_path) == ["losses.jsonl"]
    # Trained for a moment: better than any token as likely as any other.
    assert 1 < np.average([li["loss"] for li in lines], weights=[li["tokens"] for li in lines]) < np.log(512)
    settings = data_prep.PrepConfig(vocab_size=512)
    plain = data.open_dataset(smoke_run / "data").info
    made = data_prep.prepare(book, tmp_path / "data", settings, rescore=out)
    assert made["difficulty"]["rescored_sentences"] == plain["sentences"]["train"]
    assert made["tokenizer"]["sha256"] == plain["tokenizer"]["sha256"]
    assert made["stages"]["refinement"] == plain["stages"]["refinement"]
    assert made["stages"]["foundational"]["train"] != plain["stages"]["foundational"]["train"]


def test_mistakes_are_one_line(smoke_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "book.txt").write_text(built_in_chapters(4), encoding="utf-8")
    data_prep.prepare(tmp_path / "book.txt", tmp_path / "other", data_prep.PrepConfig(vocab_size=512))
    before = sorted(os.listdir(tmp_path))
    for options, reason in [
        (["--workdir", tmp_path, "--out", tmp_path / "x"], "is not a run directory"),
        (["--workdir", smoke_run, "--out", tmp_path], "cannot be written; name a file"),
        (["--workdir", smoke_run, "--out", tmp_path / "no" / "x"], "cannot be written; name a file"),
        (["--workdir", smoke_run, "--out", tmp_path / "x", "--data", tmp_path], "has no dataset.json"),
        (
            ["--workdir", smoke_run, "--out", tmp_path / "x", "--data", tmp_path / "other"],
            "on other data than",
        ),
        (["--workdir", smoke_run], "--out"),
    ]:
        code, error = command(monkeypatch, capsys, *options)
        assert code == 2 and reason in error and error.startswith("error: ") and error.count("\n") == 1, error
    assert sorted(os.listdir(tmp_path)) == before
