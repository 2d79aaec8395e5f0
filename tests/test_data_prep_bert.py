"""`bert:` computes what sentence-transformers computes."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from bert_checkpoint import POSITIONS, plain_vector, tensors, write_checkpoint, write_safetensors
from conftest import REPO
from hypothesis import given
from hypothesis import strategies as st

from data_prep.bert import BATCH_TOKENS, BertEncoder, _batches
from data_prep.checkpoint import find_model
from data_prep.config import PrepError
from data_prep.pretrained import open_embedder

SENTENCES = ["the lamp was out.", "The keepers, and the sea.", "sea " * 30]  # the last is cut at 24 tokens

# First components of what sentence-transformers 6.2.0 (torch 2.15.0) makes of SENTENCES.
GOLDEN = {
    "mean": (
        {},
        [
            [-0.14644, 0.26967, -0.05995, -0.26515],
            [-0.21895, 0.26401, 0.02321, -0.23209],
            [-0.07175, 0.27536, -0.04767, -0.1683],
        ],
    ),
    "cls, not normalised, format of version 5": (
        {"pooling": "cls", "normalize": False, "new_format": True},
        [
            [-0.50738, 1.34296, -0.48258, -1.70646],
            [-0.68677, 1.3245, -0.06824, -1.63977],
            [-0.17592, 1.57905, -0.2063, -1.25114],
        ],
    ),
    "roberta": (
        {"model_type": "roberta", "max_tokens": None, "prefix": "roberta."},
        [
            [-0.20433, 0.28028, 0.0828, -0.08492],
            [-0.2327, 0.297, 0.08688, -0.14389],
            [-0.0599, 0.29376, -0.00769, -0.07722],
        ],
    ),
    "lower case": (
        {"lower_case": True, "max_tokens": None},
        [
            [-0.14644, 0.26967, -0.05995, -0.26515],
            [-0.23616, 0.26029, 0.05074, -0.22567],
            [-0.06462, 0.2668, -0.05282, -0.16427],
        ],
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_equals_sentence_transformers_on_golden_vectors(tmp_path, case):
    settings, golden = GOLDEN[case]
    vectors = BertEncoder(write_checkpoint(tmp_path / "model", **settings)).encode(SENTENCES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, :4], golden, atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> BertEncoder:
    return BertEncoder(write_checkpoint(tmp_path_factory.mktemp("tiny") / "model"))


words = st.sampled_from(["the", "lamp", "keepers", "sea", ".", "zq", "É", "a" * 101, "cab", "[SEP]"])


@given(st.lists(st.lists(words, max_size=14).map(" ".join), max_size=40))
def test_neither_neighbours_nor_padding_reach_a_vector(tiny, texts):
    """Any sentences, packed, equal each alone by the plain computation: long, empty and repeated ones too."""
    vectors = tiny.encode(texts)
    assert vectors.shape == (len(texts), 32)
    for text, vector in zip(texts, vectors, strict=True):
        expected = plain_vector(text, tensors())
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-6)


def test_rows_are_full_and_hold_every_sentence_once():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(3.2, 0.6, 3000).astype(int) + 2, 256)  # as the sentences of a novel
    tokens = [[i] * n for i, n in enumerate(lengths)]
    seen, positions = [], 0
    widths = set()
    for batch in _batches(tokens):
        assert batch.ids.size == BATCH_TOKENS
        widths.add(batch.ids.shape[1])
        positions += batch.ids.size
        owned = np.zeros(batch.ids.shape, bool)
        for i, row, part in batch.places:
            assert batch.ids[row, part].tolist() == tokens[i]
            assert batch.positions[row, part].tolist() == list(range(lengths[i]))
            assert len(set(batch.owner[row, part])) == 1 and not owned[row, part].any()
            owned[row, part] = True
            seen.append(i)
        assert np.array_equal(owned, batch.owner > 0)
        assert len(np.unique(batch.owner[owned])) == len(batch.places)
    assert sorted(seen) == list(range(3000))
    assert widths <= {64, 128, 256}
    assert positions < 1.1 * lengths.sum()  # under a tenth is padding
    assert list(_batches([])) == [] and list(_batches([[], []])) == []


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_weights_are_widened(tmp_path, tiny, dtype):
    stored = tensors()
    for name, tensor in stored.items():
        if dtype == "F16":
            stored[name] = tensor.astype(np.float16).astype(np.float32)
        else:
            stored[name] = (tensor.view(np.uint32) & 0xFFFF0000).view(np.float32)
    vector = BertEncoder(write_checkpoint(tmp_path / "model", dtype=dtype)).encode(SENTENCES[:1])[0]
    expected = plain_vector(SENTENCES[0], stored)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-6)
    assert abs(vector - tiny.encode(SENTENCES[:1])[0]).max() > 2e-5


def test_fingerprint_follows_weights_tokenizer_and_settings_and_nothing_else(tmp_path, tiny):
    """Also: it needs neither jax nor an encoding."""
    folder = write_checkpoint(tmp_path / "model")
    (folder / "README.md").write_text("words")
    code = "import sys; sys.modules['jax'] = None\nfrom data_prep.pretrained import open_embedder\n"
    code += "print(open_embedder(sys.argv[1]).fingerprint)"
    child = [sys.executable, "-c", code, f"bert:{folder}"]
    done = subprocess.run(child, cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tiny.fingerprint
    seen = [tiny.fingerprint]
    for settings in ({"pooling": "cls"}, {"normalize": False}, {"max_tokens": 23}, {"lower_case": True}):
        shutil.rmtree(folder)
        seen.append(BertEncoder(write_checkpoint(folder, **settings)).fingerprint)
    for name, at in (("model.safetensors", -2000), ("tokenizer.json", -1)):
        shutil.rmtree(folder)
        write_checkpoint(folder)
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)
        seen.append(BertEncoder(folder).fingerprint)
    assert len(set(seen)) == 7


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = {
    "modules": ("st:", lambda f: (f / "modules.json").write_text('[{"type": "a.Transformer", "path": ""}]')),
    "'max'": ("st:", lambda f: edit(f / "1_Pooling/config.json", pooling_mode="max")),
    "'cls+mean'": ("st:", lambda f: edit(f / "1_Pooling/config.json", pooling_mode_cls_token=True)),
    "model_type 'mpnet'": ("st:", lambda f: edit(f / "config.json", model_type="mpnet")),
    "hidden_act 'gelu_new'": ("st:", lambda f: edit(f / "config.json", hidden_act="gelu_new")),
    "'relative_key'": ("st:", lambda f: edit(f / "config.json", position_embedding_type="relative_key")),
    "default_prompt_name 'query'": (
        "st:",
        lambda f: (f / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}'),
    ),
    "no sentence-transformers model": ("is missing", lambda f: (f / "modules.json").unlink()),
    "config.json": ("is missing", lambda f: (f / "config.json").unlink()),
    "TypeError": ("damaged", lambda f: (f / "modules.json").write_text('{"type": 1}')),
    "JSONDecodeError": ("damaged", lambda f: (f / "config.json").write_text("{")),
    "model.safetensors": ("cannot be read", lambda f: (f / "model.safetensors").unlink()),
    "tokenizer.json": ("cannot be read", lambda f: (f / "tokenizer.json").unlink()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_does_not_compute_is_one_line(tmp_path, reason):
    folder = write_checkpoint(tmp_path / "model")
    also, change = REFUSED[reason]
    change(folder)
    with pytest.raises(PrepError) as error:
        BertEncoder(folder)
    assert reason in str(error.value) and also in str(error.value) and "\n" not in str(error.value)


def damaged_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    made = tensors()
    del made["encoder.layer.1.output.dense.bias"]
    yield data[:-1000]
    yield data[:300]
    yield b""
    yield b"\xff" * 3000
    write_safetensors(folder / "model.safetensors", made)
    yield (folder / "model.safetensors").read_bytes()


def test_damaged_weights_are_one_line(tmp_path):
    folder = write_checkpoint(tmp_path / "model")
    for data in damaged_weights(folder):
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(PrepError, match="is damaged, or no BERT network"):
            BertEncoder(folder).encode(["the sea"])
    write_safetensors(folder / "model.safetensors", tensors())
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PrepError, match="is damaged"):
        BertEncoder(folder).encode(["the sea"])


def test_positions_beyond_the_table_are_never_looked_up(tmp_path):
    folder = write_checkpoint(tmp_path / "model", model_type="roberta", max_tokens=512)
    vectors = BertEncoder(folder).encode(["sea " * 60])
    expected = plain_vector("sea " * 60, tensors(), first=1, max_tokens=POSITIONS - 1)
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=2e-6)


@pytest.mark.soak
def test_all_minilm_equals_sentence_transformers(capsys, tmp_path):
    """The published weights, where they are: MDLM_MINILM names them, or the cache or package has them.

    golden_minilm.json holds first components by sentence-transformers 6.2.0.
    """
    try:
        name = str(find_model(os.environ.get("MDLM_MINILM", "all-MiniLM-L6-v2")))
    except PrepError as error:
        if "MDLM_MINILM" in os.environ:
            raise
        pytest.skip(str(error))
    golden = json.loads((REPO / "tests" / "golden_minilm.json").read_text(encoding="utf-8"))
    start = time.process_time()
    vectors = open_embedder(f"bert:{name}", tmp_path).encode(list(golden))
    seconds = time.process_time() - start
    difference = np.abs(vectors[:, :8] - np.array(list(golden.values()))).max()
    with capsys.disabled():
        print(f"\nall-MiniLM-L6-v2: differs by {difference:.1e} at most, {seconds:.1f} CPU seconds, {name}")
    assert difference < 1e-5
