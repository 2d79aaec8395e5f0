"""Which text is taken: the length of a gap by the bound, one of several by style, and none that copies."""

import dataclasses
import functools
import math
from collections.abc import Generator
from typing import Any

import jax
import numpy as np

from mdlm_jax.configuration import Request, SampleError, SamplingConfig
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation import style
from mdlm_jax.evaluation.likelihood import window_nats
from mdlm_jax.evaluation.losses import dataset_of
from mdlm_jax.frames import SampleFrame
from mdlm_jax.generation import GAP, Frames, finish, for_twin, pieces, unmask
from mdlm_jax.run_directory import Trained

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)  # that are tried for a gap of unknown length
ROUNDS = 8  # in which copied spans are written again before a text is refused


def choose_gaps(run: Trained, request: Request, settings: SamplingConfig) -> list[int]:
    """A length for each ____, one after the other: that with the lowest bound of the text around it."""
    ends = [gap.end() for gap in GAP.finditer(request.prompt) if not (gap[1] or gap[2])]
    gaps = [LENGTHS[3]] * len(ends)
    room, special = run.config.model.seq_len - 1, run.dataset.special_ids
    for which in range(len(gaps)):
        bounds = []
        for length in LENGTHS:
            trial = [*gaps[:which], length, *gaps[which + 1 :]]
            tokens, _ = pieces(run, dataclasses.replace(request, length=0), trial)
            until = dataclasses.replace(request, prompt=request.prompt[: ends[which]], ending="", length=0)
            start = len(pieces(run, until, trial)[0]) - length
            finish(unmask(run, tokens, np.ones(len(tokens)), jax.random.key(request.seed), settings, -1))
            lo = max(0, min(start - room // 2, len(tokens) - room))
            part = np.array([special["eos"], *tokens[lo : lo + room]], np.int32)
            row = np.pad(part, (0, room + 1 - len(part)), constant_values=special["pad"])
            nats = window_nats(
                run.config.model, run.compute_params, run.forbidden, row, len(part), special["mask"]
            )
            bounds.append(float(nats))
        gaps[which] = LENGTHS[int(np.argmin(bounds))]
    return gaps


def _shards(run: Trained) -> Dataset:
    return dataset_of(run.dataset.path, run.dataset.path / "data")


@functools.lru_cache(maxsize=8)
def _reference(run: Trained, chapter: str) -> style.Reference:
    return style.reference(_shards(run), run.tokenizer, None if chapter == "book" else chapter)


@functools.lru_cache(maxsize=2)
def _book_runs(run: Trained, n: int) -> Any:
    return style.book_runs(_shards(run), n)


def _own_copies(
    tokens: np.ndarray, written: np.ndarray, runs: style.Runs, most: int
) -> list[tuple[int, int]]:
    """Runs [a, b) of the book's tokens of which more than `most` were written, not given."""
    found = style.copied(tokens.tolist(), runs)
    return [(a, b) for a, b in found if written[a:b].sum() > most]


def _written(
    run: Trained, request: Request, settings: SamplingConfig, gaps: list[int], candidate: int, shown: int
) -> Frames:
    """One candidate: frames, then tokens, written, sure, network calls, and how much of it was copied."""
    tokens, written = pieces(run, request, gaps)
    sure, key = np.ones(len(tokens)), jax.random.key(request.seed)
    key = jax.random.fold_in(key, 2**31 + candidate) if candidate else key

    def whole(changed: np.ndarray, nats: float) -> SampleFrame:
        masked = tokens == run.dataset.special_ids["mask"]
        canvas = tokens.copy(), masked, changed, np.where(masked, 0.0, sure).astype(np.float32)
        return SampleFrame(0, 0, 0, *canvas, nats, extras={"start": 0, "length": len(tokens)})

    if shown >= 0:  # the whole of it first: no window may hold all that is given
        yield whole(np.zeros_like(written), 0.0)
    calls, copied, rounds = (yield from unmask(run, tokens, sure, key, settings, shown)), [], 0
    runs = _book_runs(run, request.most_copied) if request.most_copied else None
    while runs and (copied := _own_copies(tokens, written, runs, request.most_copied)):
        if rounds == ROUNDS:
            break
        rounds, back = rounds + 1, np.zeros_like(written)
        for a, b in copied:  # a causal model cannot write towards what follows
            back[a : None if run.config.model.causal else b] = True
        back &= written
        tokens[back] = run.dataset.special_ids["mask"]
        if shown >= 0:
            yield whole(back, -float(np.log(sure[back]).sum()))
        calls += yield from unmask(
            run, tokens, sure, jax.random.fold_in(key, 2**30 + rounds), settings, shown
        )
    return tokens, written, sure, calls, copied, rounds


def generate(
    run: Trained, request: Request, settings: SamplingConfig, shown: int = -1
) -> Generator[SampleFrame, None, dict[str, Any]]:
    """Yields the frames of one text (with `shown` likeliest tokens; none if it is negative), and returns it
    with the metadata that reproduce it. Raises SampleError.
    """
    if run.config.model.causal:
        settings = for_twin(settings)
        if GAP.search(request.prompt) or request.ending:
            raise SampleError("an autoregressive model writes on from the prompt: no gaps and no --ending")
    for name in ("prompt", "ending"):
        if any("\ud800" <= c <= "\udfff" for c in getattr(request, name)):
            raise SampleError(f"--{name} is not valid UTF-8")
    gaps = choose_gaps(run, request, settings)
    scores: list[float | None] = []  # None: refused for its copies
    if request.best_of > 1:
        reference = _reference(run, request.style)
        for candidate in range(request.best_of):
            tokens, *_, copied, _ = finish(_written(run, request, settings, gaps, candidate, -1))
            text = run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
            score = style.score(reference, text, request.sentence_length or None)
            scores.append(None if copied or math.isinf(score) else score)
    best = int(np.argmin([math.inf if score is None else score for score in scores] or [0.0]))
    tokens, written, sure, calls, copied, rounds = yield from _written(
        run, request, settings, gaps, best, shown
    )
    if copied:
        a, b = copied[0]
        told = f"a run of {b - a} tokens is still the book's after {ROUNDS} rounds"
        raise SampleError(f"{told}; raise --most_copied or --temperature, or take another --seed")
    nats = float(-np.log(np.maximum(sure[written], np.finfo(np.float32).tiny)).sum())
    return {
        "text": run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
        **dataclasses.asdict(request),
        **dataclasses.asdict(settings),
        "written": int(written.sum()),
        "log_prob_per_token": -nats / max(int(written.sum()), 1),
        "network_calls": calls,
        "gaps": gaps,
        "chosen": best,
        "scores": scores,
        "rounds_against_copies": rounds,
        "tokens": tokens.tolist(),
        "checkpoint": run.checkpoint,
        "model_hash": run.model_hash,
    }
