"""Which text is taken: by the bound, by style, and none that copies; on a trained run."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_generation import LENGTH, SPECIAL, toy_run
from toys import quick_jit

from mdlm_jax import run_directory
from mdlm_jax.evaluation import candidates, style
from mdlm_jax.evaluation.candidates import LENGTHS, choose_gaps, generate, pieces
from mdlm_jax.evaluation.likelihood import gap_nats
from mdlm_jax.generation import Gap, finish
from mdlm_jax.train_state import denoiser
from mdlm_jax.ui.request import Request, SampleError, SamplingConfig

replace = dataclasses.replace
COLD = SamplingConfig(sampler="confidence", steps=12, temperature=0.5, top_k=0, top_p=1.0)


@pytest.fixture(scope="module")
def run(smoke_run):
    return run_directory.load(smoke_run)


def write(run, law: SamplingConfig = COLD, **asked) -> dict:
    return finish(generate(run, Request(**asked), law))


def test_the_bound_around_a_gap_is_the_bound():
    """Of two tokens around a gap it is the mean over the two orders of writing them, the gap unwritten."""
    run, mask = toy_run(), SPECIAL["mask"]
    nats = gap_nats(run, [7], [9], (1, 3), strata=64)

    @quick_jit
    def logits_of(row: jax.Array, real: jax.Array, place: jax.Array) -> jax.Array:
        return denoiser(run.config.model, run.params, run.forbidden, real)(row, place)

    for length, found in zip((1, 3), nats, strict=True):
        row = np.array([[SPECIAL["eos"], 7, *[mask] * length, 9]])

        def log_p(place: int, other_known: bool, row: np.ndarray = row, length: int = length) -> float:
            given, other = row.copy(), {1: 2 + length, 2 + length: 1}[place]
            given[0, place] = mask
            given[0, other] = row[0, other] if other_known else mask
            padded = np.pad(given, ((0, 0), (0, LENGTH - given.shape[1])))
            real = jnp.asarray((np.arange(LENGTH) < given.shape[1])[None], jnp.int32)
            logits = logits_of(padded, real, np.array([place]))
            return float(jax.nn.log_softmax(logits[0])[row[0, place]])

        a, b = 1, 2 + length
        orders = [log_p(a, False) + log_p(b, True), log_p(b, False) + log_p(a, True)]
        assert found == pytest.approx(-np.mean(orders), abs=0.15 * abs(orders[0] - orders[1]) + 1e-3)
    flat = replace(run, params=jax.tree.map(lambda x: x * 0, run.params))
    even = gap_nats(flat, [5] * 40, [6] * 40, LENGTHS)  # a network that finds all letters alike
    np.testing.assert_allclose(even, even[0], rtol=1e-5)
    assert even[0] == pytest.approx((LENGTH - 1 - max(LENGTHS)) * math.log(14), rel=1e-5)
    assert gap_nats(run, [], [], LENGTHS).tolist() == [0.0] * len(LENGTHS)


def test_the_best_is_the_nearest(run):
    made = write(run, length=40, best_of=4, seed=3)
    assert len(made["scores"]) == 4 and made["chosen"] == int(np.argmin(made["scores"]))
    shards = candidates._shards(run)
    reference = style.reference(shards, run.tokenizer)
    assert style.score(reference, made["text"]) == min(made["scores"])
    assert len({round(score, 9) for score in made["scores"]}) > 1  # there was a choice
    same = write(run, length=40, best_of=4, seed=3)
    assert same == made
    short = write(run, length=40, best_of=4, seed=3, sentence_length=3.0)
    assert style.score(reference, short["text"], 3.0) == min(short["scores"])
    chapters = write(run, length=20, best_of=2, style="0")
    assert chapters["scores"] != write(run, length=20, best_of=2)["scores"]
    with pytest.raises(ValueError, match="chapter"):
        write(run, length=20, best_of=2, style="no such chapter")


def test_no_long_run_is_the_books_own(run):
    """Texts copy pairs of tokens; under the guard none does, after some rounds."""
    index, law, copied, rounds = (
        style.book_runs(candidates._shards(run), 1),
        replace(COLD, temperature=1.0),
        0,
        0,
    )
    for seed in range(4):
        copied += len(style.copied(write(run, law, length=16, seed=seed)["tokens"], index))
        guarded = write(run, law, length=16, seed=seed, most_copied=1)
        assert not style.copied(guarded["tokens"], index) and guarded["most_copied"] == 1
        rounds += guarded["rounds_against_copies"]
    assert copied and rounds  # or nothing was guarded against


def test_what_still_copies_is_refused(run, monkeypatch):
    """Without rounds to mend it: exactly the texts that copy are errors."""
    monkeypatch.setattr(candidates, "ROUNDS", 0)
    index, law, refused = style.book_runs(candidates._shards(run), 1), replace(COLD, temperature=1.0), 0
    for seed in range(4):
        plain = write(run, law, length=16, seed=seed)
        if style.copied(plain["tokens"], index):
            with pytest.raises(SampleError, match="is still the book's after 0 rounds"):
                write(run, law, length=16, seed=seed, most_copied=1)
            refused += 1
        else:
            assert write(run, law, length=16, seed=seed, most_copied=1)["tokens"] == plain["tokens"]
    assert refused


def test_a_gap_takes_its_likeliest_length(run):
    request = Request(prompt="The vicar ____ the door, and ____ went on.", seed=1)
    found, _ = choose_gaps(run, pieces(run, request), COLD, seed=1)
    gaps = [piece.length for piece in found if isinstance(piece, Gap)]
    assert len(gaps) == 2 and set(gaps) <= set(LENGTHS)
    made = write(run, **dataclasses.asdict(request))
    assert made["gaps"] == gaps and made["written"] == sum(gaps)
    assert made["text"].startswith("The vicar") and made["text"].endswith(" went on.")
    assert " the door, and" in made["text"]
    encode = run.tokenizer.encode
    nats = gap_nats(run, encode("The vicar").ids, encode(" the door, and").ids, LENGTHS)
    assert gaps[0] == LENGTHS[int(np.argmin(nats + np.log(LENGTHS)))]


def test_a_text_that_names_the_length_decides_it(monkeypatch):
    """The prior is 1 / n; what is around a gap outweighs it."""
    run = toy_run()
    for nats, expected in (([0.0] * 8, 1), ([9, 9, 9, 0, 9, 9, 9, 9], 4), ([0.5, 0, 0, 0, 0, 0, 0, 0], 1)):
        monkeypatch.setattr(candidates, "gap_nats", lambda *_, nats=nats: np.array(nats))
        found, calls = choose_gaps(run, [[5], Gap(0), [6], Gap(3), [7]], COLD, seed=0)
        assert found[1] == Gap(expected) and found[3] == Gap(3) and calls


def test_a_far_gap_is_judged_by_what_is_around_it(run):
    """In a document longer than the canvas."""
    word = "He went on, and "
    prompt = word * 40 + "____" + word * 40
    made = write(run, prompt=prompt, seed=0)
    assert len(made["tokens"]) > 3 * run.config.model.seq_len
    assert made["gaps"][0] in LENGTHS and made["written"] == made["gaps"][0]
    assert made["text"].startswith((word * 39).rstrip()) and made["text"].endswith(word * 39)
    encode, seen = run.tokenizer.encode, run.config.model.seq_len
    before, after = encode((word * 40).rstrip()).ids, encode(word * 40).ids
    nats = [gap_nats(run, before[-k:], after[:k], LENGTHS) for k in (seen, 3 * seen)]
    np.testing.assert_array_equal(*nats)  # what is further away is not read


def test_what_stands_after_a_gap_counts_to_its_end(run, monkeypatch):
    """The rest of the prompt and the ending are two pieces; both are text after the gap."""
    seen = []
    monkeypatch.setattr(candidates, "choose_length", lambda _, *sides: seen.append(sides) or 2)
    encode = run.tokenizer.encode
    request = Request(prompt="She took the ____ of", ending=" it and left.")
    found, _ = choose_gaps(run, pieces(run, request), COLD, 0)
    assert seen == [(encode("She took the").ids, encode(" of").ids + encode(" it and left.").ids)]
    assert [p for p in found if isinstance(p, Gap)] == [Gap(2, True)]


def test_no_more_is_drafted_than_is_read(run):
    """A gap of known length before one that is unknown; nor is it drafted twice."""
    most = run.config.model.seq_len - 1
    found = [Gap(40 * most), [5], Gap(3), [5], Gap(0), [6]]
    _, calls = choose_gaps(run, found, COLD, 0)
    assert calls <= COLD.steps + len(LENGTHS)
