"""Which text is taken: by the bound, by style, and none that copies; on a trained run."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from test_generation import LENGTH, SPECIAL, document, toy_run

from mdlm_jax import run_directory
from mdlm_jax.configuration import Request, SampleError, SamplingConfig
from mdlm_jax.evaluation import candidates, style
from mdlm_jax.evaluation.candidates import LENGTHS, choose_gaps, generate
from mdlm_jax.evaluation.likelihood import window_nats
from mdlm_jax.generation import finish, pieces

replace = dataclasses.replace
COLD = SamplingConfig(sampler="confidence", steps=12, temperature=0.5, top_k=0, top_p=1.0)


@pytest.fixture(scope="module")
def run(smoke_run):
    return run_directory.load(smoke_run)


def write(run, law: SamplingConfig = COLD, **asked) -> dict:
    return finish(generate(run, Request(**asked), law))


def test_the_bound_of_a_window_is_the_bound():
    """A network that finds all letters alike has log(14) nats a token; nothing counts past the end."""
    run = toy_run()
    flat = jax.tree.map(lambda x: x * 0, run.params)
    for used in (3, LENGTH):
        tokens = document(np.zeros(LENGTH, bool))
        tokens[0] = SPECIAL["eos"]
        nats = [
            float(window_nats(run.config.model, params, run.forbidden, tokens, used, SPECIAL["mask"]))
            for params in (flat, run.params)
        ]
        assert nats[0] == pytest.approx(math.log(14), abs=1e-5) and nats[1] > nats[0]
        tokens[used:] = 9
        again = window_nats(run.config.model, run.params, run.forbidden, tokens, used, SPECIAL["mask"])
        assert float(again) == pytest.approx(nats[1], rel=1e-5)


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


def test_a_gap_takes_the_length_of_the_lowest_bound(run):
    request = Request(prompt="The vicar ____ the door, and ____ went on.", seed=1)
    gaps = choose_gaps(run, request, COLD)
    assert len(gaps) == 2 and set(gaps) <= set(LENGTHS)
    made = write(run, **dataclasses.asdict(request))
    assert made["gaps"] == gaps and made["written"] == sum(gaps)
    assert made["text"].startswith("The vicar") and made["text"].endswith(" went on.")
    assert " the door, and" in made["text"]
    special, bounds = run.dataset.special_ids, []
    for last in LENGTHS:  # the last gap is chosen with the others as they are
        request = Request(prompt=f"The vicar [MASK:{gaps[0]}] the door, and [MASK:{last}] went on.", seed=1)
        tokens = np.array([special["eos"], *write(run, **dataclasses.asdict(request))["tokens"]], np.int32)
        row = np.pad(tokens, (0, run.config.model.seq_len - len(tokens)), constant_values=special["pad"])
        nats = window_nats(
            run.config.model, run.compute_params, run.forbidden, row, len(tokens), special["mask"]
        )
        bounds.append(float(nats))
    assert LENGTHS[int(np.argmin(bounds))] == gaps[1]


def test_every_gap_of_a_long_document_is_judged_by_its_own_place(run, monkeypatch):
    """The windows that are compared for a gap hold it, each at its own length."""
    windows = []
    monkeypatch.setattr(
        candidates, "window_nats", lambda *a: windows.append((a[3].copy(), a[4])) or float(len(windows))
    )
    word = "He went on, and "
    choose_gaps(run, Request(prompt=f"____ {word * 30}____ {word}", length=500), COLD)
    assert len(windows) == 2 * len(LENGTHS)
    for which in (0, 1):
        rows = [row[:used].tolist() for row, used in windows[which * 8 : which * 8 + 8]]
        assert len({str(row) for row in rows}) == len(LENGTHS)


def test_a_far_gap_is_judged_by_what_is_around_it(run):
    """In a document longer than the canvas."""
    word = "He went on, and "
    request = Request(prompt=word * 40 + "____" + word * 40, seed=0)
    tokens = pieces(run, request, [1])[0]
    assert len(tokens) > 3 * run.config.model.seq_len
    made = write(run, **dataclasses.asdict(request))
    assert made["gaps"][0] in LENGTHS and made["written"] == made["gaps"][0]
    assert made["text"].startswith(word * 39) and made["text"].endswith(word * 39)
