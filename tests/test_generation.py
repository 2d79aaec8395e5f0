"""Documents of any length: their windows, what the cache changes, the twin, gaps; on random weights."""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toys import NETWORK, config, quick_jit, random_params

from mdlm_jax import generation, sampler
from mdlm_jax.data import Dataset
from mdlm_jax.diffusion import autoregressive_nats
from mdlm_jax.evaluation.candidates import pieces
from mdlm_jax.generation import Document, Gap, finish, for_twin, next_window, unmask
from mdlm_jax.run_directory import Trained
from mdlm_jax.train_state import denoiser
from mdlm_jax.ui.request import Request, SampleError, SamplingConfig

SPECIAL = {"pad": 0, "mask": 1, "sep": 2, "eos": 3}
LETTERS = " abcdefghijk"  # tokens 4 to 15
LENGTH = 24
ROOM = LENGTH - 1
LAW = SamplingConfig(sampler="ancestral", steps=0, temperature=1.0, top_k=0, top_p=1.0)
WAYS: dict[str, dict] = {
    "whole": {"steps": 3},
    "cached": {"block": 6, "cache": True},
    "ranked": {"sampler": "confidence", "steps": 3, "block": 7, "cache": True, "remask": 0.3},
}


@functools.cache
def toy_run(causal: bool = False, layers: str = "scan") -> Trained:
    model = dataclasses.replace(NETWORK, seq_len=LENGTH, causal=causal, layers=layers)
    vocabulary = {f"[{name.upper()}]": i for name, i in SPECIAL.items()} | {
        c: 4 + i for i, c in enumerate(LETTERS)
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[EOS]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    levels = "".join(str(1 + i % 5) for i in range(16))
    info = {"special_ids": SPECIAL, "vocab_size": 16, "vocabulary_levels": {"level_of_id": levels}}
    forbidden = np.isin(np.arange(16), (0, 1))
    dataset = Dataset(Path("nowhere"), info)
    return Trained(
        config(model), dataset, tokenizer, random_params(model), forbidden, "3_refinement/1", "hash"
    )


def way(name: str, **changes) -> SamplingConfig:
    return dataclasses.replace(LAW, **WAYS[name], **changes)


def document(masked: np.ndarray, seed: int = 0, rows: int = 1) -> Document:
    tokens = np.random.default_rng(seed).integers(4, 16, (rows, len(masked)), np.int32)
    tokens[:, masked] = SPECIAL["mask"]
    return Document(tokens, np.ones(tokens.shape), np.zeros(len(masked), bool))


@settings(max_examples=300)
@given(st.lists(st.booleans(), min_size=1, max_size=70), st.integers(1, 30), st.integers(1, 30))
@example([True] * 60, 10, 30)
def test_a_window_shows_what_it_can(flags: list[bool], block: int, room: int):
    masked, block = np.array(flags), min(block, room)
    if not masked.any():
        return
    lo, first, stop, hi = next_window(masked, room, block)
    assert 0 <= lo <= first < stop <= hi <= len(masked)
    assert first == flags.index(True) and stop == min(first + block, len(masked)) and hi - lo <= room
    assert hi == stop or not masked[hi - 1]  # masks on the right are shown for the sake of a given text only
    assert first - lo == min(first, room - (hi - first))  # and nothing that fits is left out
    further = max(0, min(room - (stop - first), (room - (stop - first) + 1) // 2))
    assert all(masked[hi : stop + further]) or hi - lo == room


@pytest.mark.parametrize("name", ["ranked", pytest.param("whole", marks=pytest.mark.soak)])
@settings(max_examples=8)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 2**31))
@example([True] * 60, 1)
@example([False] * 30 + [True] * 3 + [False] * 30, 1)
def test_all_gaps_are_written_and_nothing_else(name: str, flags: list[bool], seed: int):
    run, masked = toy_run(), np.array(flags)
    text, law = document(masked, seed), way(name)
    before, key = text.tokens[0].copy(), jax.random.key(seed)
    calls = finish(unmask(run, text, key, law))
    tokens, sure = text.tokens[0], text.sure[0]
    np.testing.assert_array_equal(tokens[~masked], before[~masked])
    assert (tokens[masked] >= 4).all() and (sure[~masked] == 1).all()  # no special token is ever written
    assert ((sure[masked] > 0) & (sure[masked] <= 1)).all()
    block = law.block or (ROOM if len(flags) <= ROOM else ROOM // 2)
    most = min(law.steps, block) if law.steps else math.ceil(block * (1 + law.remask))
    windows, left = 0, masked.copy()
    while left.any():
        start = int(np.argmax(left))
        left[start : start + block] = False
        windows += 1
    assert windows <= calls <= windows * most or not masked.any()
    watched, canvas, nats = document(masked, seed), np.zeros(len(flags), int), 0.0
    shade = np.ones(len(flags))
    for frame in (frames := unmask(run, watched, key, law, 2)):
        lo, hi = frame.extras["start"], frame.extras["start"] + len(frame.tokens)
        assert frame.extras["length"] == len(flags) and masked[lo:hi][frame.changed].all()
        assert len(frame.top_k) == (frame.changed & ~frame.is_masked).sum()
        assert all(len(top) == 2 and top[0][1] >= top[1][1] for top in frame.top_k)
        canvas[lo:hi], nats = frame.tokens, nats + frame.log_prob
        np.testing.assert_array_equal(frame.is_masked, canvas[lo:hi] == SPECIAL["mask"])
        assert (frame.confidence[frame.is_masked] == 0).all() and (
            frame.confidence[~masked[lo:hi]] == 1
        ).all()
        shade[lo:hi] = frame.confidence
    frames.close()
    np.testing.assert_allclose(shade, sure, atol=1e-5)
    np.testing.assert_array_equal(watched.tokens[0], tokens)  # a stream writes the same text
    np.testing.assert_array_equal(canvas, tokens)  # and its frames add up to it
    np.testing.assert_allclose(watched.sure[0], sure, atol=1e-5)
    np.testing.assert_allclose(nats, np.log(sure[masked]).sum(), rtol=1e-3, atol=1e-3)


def logits_of(run: Trained, tokens: np.ndarray, width: int, start: int, read: np.ndarray) -> np.ndarray:
    """Probabilities [6, V] of a block, with the rest as it was when the window was `read`."""
    model, params, used = run.config.model, run.compute_params, np.int32(20)
    memory = generation._read(model, params, read, used) if width < LENGTH else ()
    denoise = jax.jit(generation._denoise(model, width))
    none = np.zeros(LENGTH, bool)
    first = np.int32(start if width < LENGTH else 0)
    context = generation.Context(params, run.forbidden, none[:16], none, used, first)
    places = np.arange(start, start + 6)
    return np.asarray(jax.nn.softmax(denoise(context, memory, tokens, places)[0], axis=-1))


def test_the_cache_is_exact_when_it_is_read():
    """And only then: what is written later would have changed what was read."""
    run, start = toy_run(layers="unroll"), 9
    tokens = np.random.default_rng(3).integers(4, 16, (1, LENGTH))
    tokens[0, start : start + 6] = SPECIAL["mask"]
    exact, cached = (logits_of(run, tokens, width, start, tokens) for width in (LENGTH, 6))
    np.testing.assert_allclose(cached, exact, atol=2e-5)
    segments = jnp.asarray(np.arange(LENGTH)[None] < 20, jnp.int32)
    plain = quick_jit(denoiser(run.config.model, run.compute_params, run.forbidden, segments))
    golden = plain(jnp.asarray(tokens), jnp.arange(start, start + 6))
    np.testing.assert_allclose(exact, jax.nn.softmax(golden, axis=-1), atol=2e-5)
    later = tokens.copy()
    later[0, start : start + 3] = 7
    exact, cached = (logits_of(run, later, width, start, tokens) for width in (LENGTH, 6))
    assert np.abs(cached - exact).max() > 1e-3
    beyond = tokens.copy()
    beyond[0, 20:] = 9  # what is past the end of the text says nothing
    np.testing.assert_allclose(
        logits_of(run, beyond, 6, start, beyond), logits_of(run, tokens, 6, start, tokens), atol=1e-6
    )


def test_the_twin_writes_by_its_exact_likelihood():
    """With its cache, one token a call: the probabilities are those of a pass over the finished text."""
    run, law = toy_run(causal=True), for_twin(way("cached"))
    law = dataclasses.replace(law, block=0)
    text, masked = document(np.arange(ROOM) >= 5), np.arange(ROOM) >= 5
    assert finish(unmask(run, text, jax.random.key(1), law)) == masked.sum()
    tokens, sure = text.tokens[0], text.sure[0]
    row = jnp.asarray(np.array([SPECIAL["eos"], *tokens])[None])
    barred = run.forbidden | np.isin(np.arange(16), (SPECIAL["eos"], SPECIAL["sep"]))
    segments = jnp.ones_like(row)
    denoise = denoiser(run.config.model, run.compute_params, barred, segments)
    golden = quick_jit(lambda: autoregressive_nats(denoise, row, segments > 0)[0, 1:])()
    np.testing.assert_allclose(-np.log(sure[masked]), np.asarray(golden)[masked], rtol=1e-3, atol=1e-4)


def test_the_likeliest_text_of_the_twin_is_that_of_a_plain_loop():
    run = toy_run(causal=True)
    law = for_twin(dataclasses.replace(LAW, top_k=1))
    text = document(np.arange(ROOM) >= 4)
    golden = [SPECIAL["eos"], *text.tokens[0, :4].tolist()]
    barred = np.isin(np.arange(16), list(SPECIAL.values()))
    plain = jax.jit(denoiser(run.config.model, run.compute_params, barred))
    while len(golden) < LENGTH:
        padded = np.array([golden + [0] * (LENGTH - len(golden))])
        golden.append(int(jnp.argmax(plain(padded, np.array([len(golden) - 1])))))
    finish(unmask(run, text, jax.random.key(0), law))
    assert text.tokens[0].tolist() == golden[1:]


def test_no_key_comes_twice(monkeypatch):
    """Not over blocks either, though a block splits its own for the places and folds it for the steps."""
    seen = []

    def spy(denoise, context, key, *rest, **options):
        places, own = jax.random.split(key)
        seen.extend([places, own, *(jax.random.fold_in(own, i) for i in range(7))])
        return sampler.sample(denoise, context, key, *rest, **options)

    monkeypatch.setattr(generation, "sample", spy)
    finish(unmask(toy_run(), document(np.ones(40, bool)), jax.random.key(0), way("cached")))
    assert len(seen) == 7 * 9 and len({str(jax.random.key_data(key)) for key in seen}) == len(seen)


def test_levels_bar_what_is_above_them():
    run, text = toy_run(), document(np.ones(40, bool))
    finish(unmask(run, text, jax.random.key(0), way("cached", vocabulary_level=3)))
    assert generation.levels(run)[text.tokens[0]].max() == 3


def test_what_changes_from_text_to_text_compiles_nothing():
    """Prompt, seed, temperature, the place of a gap, and any length beyond the canvas."""

    def write(masked: np.ndarray, seed: int = 0, **changes) -> list[int]:
        for law in (way("cached", **changes), way("ranked", **changes)):
            finish(unmask(toy_run(), document(masked, seed), jax.random.key(seed), law))
        return [f._cache_size() for f in (sampler.sample, generation._read)]

    before = write(np.ones(50, bool))
    for masked in (np.ones(90, bool), np.arange(40) > 30, np.arange(20) % 7 == 1, np.arange(70) % 50 < 4):
        assert write(masked, 5, temperature=0.7, top_p=0.9, repetition=1.1) == before


def test_a_prompt_is_cut_at_its_gaps():
    run, a, mask = toy_run(), 5, SPECIAL["mask"]
    for prompt, length, ending, apart, expected in (
        ("ab", 3, "", [], [a, a + 1, *[mask] * 3]),
        ("ab ", 3, "", [2], [a, a + 1, *[mask] * 3]),  # the space before a gap is the gap's
        ("ab [MASK:2] a", 0, "", [2], [a, a + 1, mask, mask, 4, a]),
        ("a [EDIT:bc] d", 1, "", [1], [a, *[mask] * 3, 4, a + 3, mask]),  # " bc" has three tokens
        ("a[EDIT:bc]", 0, "d", [], [a, mask, mask, a + 3]),
        ("a", 2, "bc", [], [a, mask, mask, a + 1, a + 2]),
        ("", 0, "", [], [mask] * ROOM),
        ("a", 0, "b", [], [a, *[mask] * (ROOM - 2), a + 1]),
    ):
        found = pieces(run, Request(prompt=prompt, length=length, ending=ending))
        text, masked = generation.document(run, found, 2)
        assert text.tokens.tolist() == [expected] * 2 and (masked == (text.tokens[0] == mask)).all()
        assert np.flatnonzero(text.apart).tolist() == apart
    found = pieces(run, Request(prompt="a____b ____"))
    assert found == [[a], Gap(0, False), [a + 1], Gap(0, True), [], []]
    with pytest.raises(SampleError, match="say with --length"):
        pieces(run, Request(prompt="a" * ROOM))
    for wrong in ("a [EDIT:] b", "[EDIT:a b", "[MASK] a", "a [mask:4]"):
        with pytest.raises(SampleError, match="is no gap"):
            pieces(run, Request(prompt=wrong))


def test_where_a_space_was_given_a_word_begins(monkeypatch):
    """A space before a gap goes to the gap, and may not be lost there."""
    run, begins = toy_run(), np.isin(np.arange(16), (6, 9))
    monkeypatch.setattr(generation, "within_words", lambda _: ~begins)
    text = document(np.ones(40, bool), rows=8)
    text.apart[[3, 17, 39]] = True
    finish(unmask(run, text, jax.random.key(0), way("cached")))
    assert begins[text.tokens[:, text.apart]].all()
    assert not begins[text.tokens[:, ~text.apart]].all()


def test_rows_are_texts_of_their_own():
    """Written together they differ, and each is complete."""
    text = document(np.arange(40) % 3 > 0, rows=4)
    finish(unmask(toy_run(), text, jax.random.key(0), way("cached")))
    assert (text.tokens != SPECIAL["mask"]).all() and len({str(row) for row in text.tokens}) == 4
