"""Which text is taken: a gap's length by the bound of what is around it, the best of several by style."""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Generator
from typing import Any

import jax
import numpy as np

from mdlm_jax.data import Dataset
from mdlm_jax.evaluation import style
from mdlm_jax.evaluation.likelihood import gap_nats
from mdlm_jax.evaluation.losses import dataset_of
from mdlm_jax.frames import SampleFrame
from mdlm_jax.generation import Document, Frames, Gap, Piece, document, finish, for_twin, unmask
from mdlm_jax.run_directory import Trained
from mdlm_jax.ui.request import Request, SampleError, SamplingConfig

LONGEST = Request.__dataclass_fields__["length"].metadata["most"]  # tokens of all gaps
GAP = re.compile(r"_{4,}|\[MASK:(\d{1,9})\]|\[EDIT:([^\]]+)\]")
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)  # that are tried for a gap of unknown length
ROUNDS = 8  # in which copied spans are written again before a text is refused


def pieces(run: Trained, request: Request) -> list[Piece]:
    """What a request gives, as token ids, and its gaps in between. Raises SampleError."""
    for name in ("prompt", "ending"):
        if any("\ud800" <= c <= "\udfff" for c in getattr(request, name)):
            raise SampleError(f"--{name} is not valid UTF-8")
    found: list[Piece] = []
    encode, at, prompt, room = run.tokenizer.encode, 0, request.prompt, run.config.model.seq_len - 1
    for gap in GAP.finditer(prompt):
        before = prompt[at : gap.start()]
        number = len(encode(" " * before.endswith(" ") + gap[2]).ids) if gap[2] else int(gap[1] or 0)
        if gap[1] and not 1 <= number <= LONGEST:
            raise SampleError(f"the gap {gap[0]} must have 1 to {LONGEST} tokens")
        found += [encode(before.rstrip(" ")).ids, Gap(number, before.endswith(" "))]
        at = gap.end()
    if mistake := re.search(r"\[(MASK|EDIT)\b[^\]]{0,20}\]?", GAP.sub("", prompt), re.IGNORECASE):
        raise SampleError(f"{mistake[0]!r} is no gap; gaps are ____, [MASK:12] and [EDIT:words]")
    if sum(piece.length for piece in found if isinstance(piece, Gap)) > LONGEST:
        raise SampleError(f"the gaps have more than {LONGEST} tokens together")
    rest, ending = prompt[at:], encode(request.ending).ids
    length, apart = request.length, rest.endswith(" ")
    if length or not at:
        found.append(encode(rest.rstrip(" ")).ids)
        given = sum(len(piece) for piece in found if not isinstance(piece, Gap)) + len(ending)
        if not length and given >= room:
            told = f"the prompt and the ending have {given} tokens, the canvas {room}"
            raise SampleError(f"{told}; say with --length how many to write")
        return [*found, Gap(length or room - given, apart), ending]
    return [*found, encode(rest).ids, ending]


def choose_length(run: Trained, before: list[int], after: list[int]) -> int:
    """The likeliest length of a gap given the text around it (`gap_nats`), whose own tokens stay masked.

    Before that text is read a length n has probability proportional to 1 / n.
    """
    return LENGTHS[int(np.argmin(gap_nats(run, before, after, LENGTHS) + np.log(LENGTHS)))]


def choose_gaps(
    run: Trained, found: list[Piece], settings: SamplingConfig, seed: int
) -> tuple[list[Piece], int]:
    """The pieces of a request with a length for every gap that has none, and the network calls it took.

    From the left, by the text up to the next gap; what is still to be written before is drafted for it.
    """
    found, calls, before = list(found), 0, np.zeros(0, np.int32)
    unknown = [i for i, piece in enumerate(found) if isinstance(piece, Gap) and not piece.length]
    for i, piece in enumerate(found[: max(unknown, default=-1) + 1]):
        if i in unknown and isinstance(piece, Gap):
            before = before[-(run.config.model.seq_len - 1) :]  # all that is ever read
            draft = Document(before[None], np.ones((1, len(before))), np.zeros(len(before), bool))
            calls += finish(unmask(run, draft, jax.random.key(seed), settings))  # in place
            until = itertools.takewhile(lambda piece: not isinstance(piece, Gap), found[i + 1 :])
            after = [token for piece in until for token in piece]
            found[i] = piece = Gap(choose_length(run, before.tolist(), after), piece.apart)
            calls += len(LENGTHS)
        text, _ = document(run, [piece])
        before = np.concatenate([before, text.tokens[0]])
    return found, calls


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
    run: Trained, request: Request, settings: SamplingConfig, found: list[Piece], candidate: int, shown: int
) -> Frames:
    """One candidate: frames, then the document, what was written, network calls, and what of it is copied."""
    (text, written), key = document(run, found), jax.random.key(request.seed)
    key = jax.random.fold_in(key, 2**31 + candidate) if candidate else key
    calls, copied, rounds = (yield from unmask(run, text, key, settings, shown)), [], 0
    runs = _book_runs(run, request.most_copied) if request.most_copied else None
    while runs and (copied := _own_copies(text.tokens[0], written, runs, request.most_copied)):
        if rounds == ROUNDS:
            break
        rounds, back = rounds + 1, np.zeros_like(written)
        for a, b in copied:  # a causal model cannot write towards what follows
            back[a : None if run.config.model.causal else b] = True
        again = jax.random.fold_in(key, 2**30 + rounds)
        calls += yield from unmask(run, text, again, settings, shown, back & written)
    return text, written, calls, copied, rounds


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
    reference: Any = _reference(run, request.style) if request.best_of > 1 else None
    asked = pieces(run, request)
    found, calls = choose_gaps(run, asked, settings, request.seed)
    decode = functools.partial(run.tokenizer.decode, skip_special_tokens=False)
    scores: list[float | None] = []  # None: refused for its copies
    for candidate in range(request.best_of if reference else 0):
        text, _, more, copied, _ = finish(_written(run, request, settings, found, candidate, -1))
        score = style.score(reference, decode(text.tokens[0].tolist()), request.sentence_length or None)
        scores.append(None if copied or math.isinf(score) else score)
        calls += more
    best = int(np.argmin([math.inf if score is None else score for score in scores] or [0.0]))
    text, written, more, copied, rounds = yield from _written(run, request, settings, found, best, shown)
    if copied:
        a, b = copied[0]
        told = f"{decode(text.tokens[0, a:b].tolist())!r} is still the book's after {ROUNDS} rounds"
        raise SampleError(f"{told}; raise --most_copied or --temperature, or take another --seed")
    sure, tokens = text.sure[0, written], text.tokens[0].tolist()
    nats = float(-np.log(np.maximum(sure, np.finfo(np.float32).tiny)).sum())
    return {
        "text": decode(tokens),
        **dataclasses.asdict(request),
        **dataclasses.asdict(settings),
        "written": int(written.sum()),
        "log_prob_per_token": -nats / max(int(written.sum()), 1),
        "network_calls": more,
        "calls_to_choose": calls,
        "gaps": [
            new.length for new, old in zip(found, asked, strict=True) if isinstance(new, Gap) and new != old
        ],
        "chosen": best,
        "nearest_to": reference.name if reference else None,
        "scores": scores,
        "rounds_against_copies": rounds,
        "tokens": tokens,
        "checkpoint": run.checkpoint,
        "model_hash": run.model_hash,
    }
