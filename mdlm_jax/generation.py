"""From a request to a text of any length: gaps, endings, windows, the best of several, nothing copied.

A document is a row of tokens, some of them masked. It is written block by block from the left (semi-auto-
regressive, as Arriola et al. 2025 call it): each block in a window of what the network can read, with the
text before it and, where it is given, after it. A text that fits the canvas is one block, unless the settings
say otherwise.

With `cache` the text around a block is read once, when all of the block is masked, and its keys and values
serve all calls of the block. The first call is exact. The later ones leave out what the tokens written
meanwhile would have changed in them; only in a causal network is that nothing (docs/design.md has figures).
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import ModelConfig, Request, SampleError, SamplingConfig
from mdlm_jax.diffusion import subs
from mdlm_jax.evaluation import style
from mdlm_jax.evaluation.likelihood import window_nats
from mdlm_jax.frames import SampleFrame
from mdlm_jax.laws import Law
from mdlm_jax.run_directory import Trained
from mdlm_jax.sampler import Plan, sample, sample_stream
from mdlm_jax.train_state import build

BUCKET = 64  # canvas lengths are rounded up to this, so that nearby lengths share a compiled program
GAP = re.compile(r"_{4,}|\[MASK:(\d{1,4})\]|\[EDIT:([^\]]+)\]")
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)  # that are tried for a gap of unknown length
ROUNDS = 8  # in which copied spans are written again before a text is refused


class Window(NamedTuple):
    """A part [lo, hi) of a document, with the block [first, stop) that is written in it."""

    lo: int
    first: int
    stop: int
    hi: int


def next_window(masked: np.ndarray, room: int, block: int) -> Window:
    """The window of the first masked position of a document, bool [N]; at most `room` wide.

    Half of what the block leaves is for the text after it where any is given there, else all for what is
    before. Masks on the right are shown only between the block and given text.
    """
    first = int(np.argmax(masked))
    stop = min(first + block, len(masked))
    spare, before, after = room - (stop - first), first, len(masked) - stop
    left = min(before, max(spare // 2, spare - after))
    right = min(after, spare - left)
    if masked[stop : stop + right].all():
        left, right = min(before, spare), 0
    return Window(first - left, first, stop, stop + right)


@functools.cache
def _denoise(model: ModelConfig, width: int) -> Callable:
    """What `sampler` calls; context: weights, forbidden rows [V], positions in use, and where the block begins.

    `width` positions from there are computed, what is beside them is read from the memory.
    """

    def denoise(context: tuple, memory: Any, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
        params, forbidden, used, start = context
        row, place = index // tokens.shape[1], index % tokens.shape[1]
        if model.causal:  # a token is read from the output before it
            used, place = place[0], place - 1
            start = place[0]
        net, seen = nnx.merge(build(model), params), jnp.arange(tokens.shape[1]) < used
        part = jax.lax.dynamic_slice_in_dim(tokens, start, width, 1)
        hidden, new = net.extend(part, seen[None, None, None], memory or None, start)
        return subs(net.logits(hidden[row, place - start]), forbidden), new if memory else ()

    return denoise


@functools.partial(jax.jit, static_argnames="model")
def _read(model: ModelConfig, params: Any, tokens: jax.Array, used: jax.Array) -> Any:
    """Keys and values of a window [B, L]."""
    position = jnp.arange(tokens.shape[1])
    seen = (position <= position[:, None]) & model.causal | (position < used) & (not model.causal)
    return nnx.merge(build(model), params).extend(tokens, seen[None, None])[1]


def levels(run: Trained) -> np.ndarray:
    """int [V]: the vocabulary level of each token id. Raises SampleError where the data name none."""
    if "vocabulary_levels" not in run.dataset.info:
        raise SampleError("this run's dataset.json has no vocabulary levels; prepare the book again")
    found = np.full(run.forbidden.shape, 5)
    digits = run.dataset.info["vocabulary_levels"]["level_of_id"]
    found[: len(digits)] = [int(digit) for digit in digits]
    return found


def for_twin(settings: SamplingConfig) -> SamplingConfig:
    """The settings as an autoregressive model can follow them: from left to right, one at a time."""
    off = {"steps": 0, "threshold": 1.0, "schedule": "linear", "remask": 0.0, "cache": True}
    return dataclasses.replace(settings, sampler="left_to_right", **off)


Frames = Generator[SampleFrame, None, Any]


def unmask(
    run: Trained, tokens: np.ndarray, sure: np.ndarray, key: jax.Array, settings: SamplingConfig, shown: int
) -> Frames:
    """Writes the masked tokens int [N] of a document in place, with their probabilities into `sure` [N].

    With `shown` >= 0 it yields the frames of every step (with that many likeliest tokens), each of the part
    of the document that begins at extras["start"]. Returns the number of network calls.
    """
    special, model, room = run.dataset.special_ids, run.config.model, run.config.model.seq_len - 1
    alone = len(tokens) <= room  # in one window
    block = min(settings.block or (room if alone else max(room // 2, 1)), room)
    canvas = min(-(-(1 + len(tokens)) // BUCKET) * BUCKET, model.seq_len) if alone else model.seq_len
    width = min(1 if model.causal else block, canvas) if settings.cache else canvas
    forbidden = run.forbidden.copy()
    forbidden[[special["eos"], special["sep"]]] = True  # never inside a paragraph of the book
    importance: Any = 0.0
    if settings.vocabulary_level < 5:
        forbidden |= levels(run) > settings.vocabulary_level
    if settings.sampler == "importance":
        # Rare words carry most. The data's own importance is per occurrence, in shards a run may not have.
        importance = ((levels(run) - 1) / 5).astype(np.float32)
    law = Law(*(getattr(settings, name) for name in Law._fields[:-1]), importance)
    plan = Plan(*(getattr(settings, name) for name in Plan._fields[:-2]), min(block, canvas), max(shown, 0))
    calls, number = 0, 0
    while (masked := tokens == special["mask"]).any():
        lo, first, stop, hi = next_window(masked, room, block)
        used, row = np.int32(1 + hi - lo), np.full((1, canvas), special["pad"], np.int32)
        row[0, 0], row[0, 1:used] = special["eos"], tokens[lo:hi]
        due = np.zeros((1, canvas), bool)
        due[0, 1 + first - lo : 1 + stop - lo] = masked[first:stop]
        start = np.int32(min(1 + first - lo, canvas - width))
        arguments: Any = (
            _denoise(model, width),
            (run.params, forbidden, used, start),
            jax.random.fold_in(key, number) if number else key,
            *(row, due, law),
        )
        memory = _read(model, run.params, row, used) if width < canvas else ()
        options: Any = {"plan": plan, "mask_id": special["mask"], "memory": memory}
        if shown < 0:
            state = jax.device_get(sample(*arguments, **options)._replace(key=(), memory=()))
            written, certain, steps = state.tokens[0], state.confidence[0], int(state.calls)
        else:
            for frame in sample_stream(*arguments, **options):
                yield frame.part(1, int(used), number, {"start": lo, "length": len(tokens)})
            written, certain, steps = frame.tokens, frame.confidence, frame.step
        tokens[lo:hi] = written[1:used]
        sure[lo:hi] = np.where(due[0, 1:used], certain[1:used], sure[lo:hi])
        calls, number = calls + steps, number + 1
    return calls


def pieces(run: Trained, request: Request, gaps: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The document of a request, int [N], and which of its tokens are to be written, bool [N].

    `gaps` are the lengths of the gaps that have none. Spaces before a gap are the gap's to write. Raises
    SampleError.
    """
    mask, found, at, unknown = run.dataset.special_ids["mask"], [], 0, iter(gaps)
    encode = functools.partial(run.tokenizer.encode)
    for gap in GAP.finditer(request.prompt):
        before = request.prompt[at : gap.start()]
        found += encode(before.rstrip(" ")).ids
        old = len(encode(" " * before.endswith(" ") + gap[2]).ids) if gap[2] else 0
        found += [mask] * (old or (int(gap[1]) if gap[1] else next(unknown)))
        at = gap.end()
    found += encode(request.prompt[at:]).ids
    ending, room = encode(request.ending).ids, run.config.model.seq_len - 1
    length = request.length
    if not length and not at:
        length = room - len(found) - len(ending)
        if length < 1:
            told = f"the prompt and the ending have {len(found) + len(ending)} tokens, the canvas {room}"
            raise SampleError(f"{told}; say with --length how many to write")
    tokens = np.array([*found, *[mask] * length, *ending], np.int32)
    return tokens, tokens == mask


def choose_gaps(run: Trained, request: Request, settings: SamplingConfig) -> list[int]:
    """A length for each ____, one after the other: that with the lowest bound of the text around it."""
    gaps = [LENGTHS[3] for gap in GAP.finditer(request.prompt) if not (gap[1] or gap[2])]
    room, special = run.config.model.seq_len - 1, run.dataset.special_ids
    for which in range(len(gaps)):
        bounds = []
        for length in LENGTHS:
            trial = [*gaps[:which], length, *gaps[which + 1 :]]
            tokens, masked = pieces(run, request, trial)
            finish(unmask(run, tokens, np.ones(len(tokens)), jax.random.key(request.seed), settings, -1))
            lo = max(0, min(int(np.argmax(masked)) - room // 2, len(tokens) - room))
            part = np.array([special["eos"], *tokens[lo : lo + room]], np.int32)
            row = np.pad(part, (0, room + 1 - len(part)), constant_values=special["pad"])
            nats = window_nats(run.config.model, run.params, run.forbidden, row, len(part), special["mask"])
            bounds.append(float(nats))
        gaps[which] = LENGTHS[int(np.argmin(bounds))]
    return gaps


def finish(frames: Frames, look: Callable[[SampleFrame], object] = lambda frame: None) -> Any:
    """What a generator returns in the end; `look` sees every frame."""
    while True:
        try:
            look(next(frames))
        except StopIteration as end:
            return end.value


@functools.lru_cache(maxsize=8)
def _reference(run: Trained, chapter: str) -> Any:
    return style.reference(run.dataset, run.tokenizer, None if chapter == "book" else chapter)


@functools.lru_cache(maxsize=2)
def _book_runs(run: Trained, n: int) -> Any:
    return style.book_runs(run.dataset, n)


def _written(
    run: Trained, request: Request, settings: SamplingConfig, gaps: list[int], candidate: int, shown: int
) -> Frames:
    """One candidate: frames, then tokens, written, sure, network calls, and how much of it was copied."""
    tokens, written = pieces(run, request, gaps)
    sure, key = np.ones(len(tokens)), jax.random.key(request.seed)
    key = jax.random.fold_in(key, 2**31 + candidate) if candidate else key
    calls, copied, rounds = (yield from unmask(run, tokens, sure, key, settings, shown)), [], 0
    if request.most_copied:
        runs = _book_runs(run, request.most_copied)
        while copied := [
            (a + int(begin), b + int(begin))
            for begin, end in _stretches(written)
            for a, b in style.copied(tokens[begin:end].tolist(), runs)
        ]:
            if rounds == ROUNDS:
                break
            rounds += 1
            for a, b in copied:
                tokens[a:b] = run.dataset.special_ids["mask"]
            again = jax.random.fold_in(key, 2**30 + rounds)
            calls += yield from unmask(run, tokens, sure, again, settings, shown)
    return tokens, written, sure, calls, copied, rounds


def _stretches(flags: np.ndarray) -> np.ndarray:
    """[K, 2]: where runs of true flags begin and end."""
    return np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1))).reshape(-1, 2)


def generate(
    run: Trained, request: Request, settings: SamplingConfig, shown: int = -1
) -> Generator[SampleFrame, None, dict[str, Any]]:
    """Yields the frames of one text (with `shown` likeliest tokens; none if it is negative), and
    returns it with the metadata that reproduce it. Raises SampleError.
    """
    if run.config.model.causal:
        settings = for_twin(settings)
        if GAP.search(request.prompt) or request.ending:
            raise SampleError("an autoregressive model writes on from the prompt: no gaps and no --ending")
    elif settings.sampler == "left_to_right" and settings.steps:
        settings = dataclasses.replace(settings, steps=0)
    for name in ("prompt", "ending"):
        if any("\ud800" <= c <= "\udfff" for c in getattr(request, name)):
            raise SampleError(f"--{name} is not valid UTF-8")
    gaps = choose_gaps(run, request, settings)
    scores, best = [], 0
    if request.best_of > 1:
        for candidate in range(request.best_of):
            tokens, *_ = finish(_written(run, request, settings, gaps, candidate, -1))
            text = run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
            target = request.sentence_length or None
            scores.append(style.score(_reference(run, request.style), text, target))
        best = int(np.argmin(scores))
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
