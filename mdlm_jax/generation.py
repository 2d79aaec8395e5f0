"""From a request to a text of any length: gaps, endings, windows, blocks and what is kept between calls.

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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import ModelConfig, Request, SampleError, SamplingConfig, unused
from mdlm_jax.diffusion import subs
from mdlm_jax.frames import SampleFrame
from mdlm_jax.laws import Law
from mdlm_jax.run_directory import Trained
from mdlm_jax.sampler import Plan, sample, sample_stream
from mdlm_jax.train_state import build

BUCKET = 64  # canvas lengths are rounded up to this, so that nearby lengths share a compiled program
LONGEST = 65_536  # tokens of a gap
GAP = re.compile(r"_{4,}|\[MASK:(\d{1,9})\]|\[EDIT:([^\]]+)\]")


def next_window(masked: np.ndarray, room: int, block: int) -> tuple[int, int, int, int]:
    """lo, first, stop, hi: the part [lo, hi) of a document, bool [N], in which a block is written next.

    The block [first, stop) begins with the first masked position; the window is at most `room` wide. Half of
    what the block leaves is for the text after it where any is given there, else all for what is before.
    Masks on the right are shown only between the block and given text.
    """
    first = int(np.argmax(masked))
    stop = min(first + block, len(masked))
    spare, before, after = room - (stop - first), first, len(masked) - stop
    left = min(before, max(spare // 2, spare - after))
    given = np.flatnonzero(~masked[stop : stop + min(after, spare - left)])
    right = int(given[-1]) + 1 if len(given) else 0
    left = min(before, spare - right)
    return first - left, first, stop, stop + right


@functools.cache
def _denoise(model: ModelConfig, width: int) -> Callable:
    """What `sampler` calls; context: weights, forbidden rows [V], positions in use, where the block begins.

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
    return dataclasses.replace(settings, sampler="left_to_right", cache=True, **unused("left_to_right"))


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
    apart = settings.cache and (model.causal or block < len(tokens))  # else there is nothing to keep
    width = min(1 if model.causal else block, canvas) if apart else canvas
    forbidden = run.forbidden.copy()
    forbidden[[special["eos"], special["sep"]]] = True  # never inside a paragraph of the book
    importance: Any = 0.0
    if settings.vocabulary_level < 5:
        forbidden |= levels(run) > settings.vocabulary_level
    if settings.sampler == "importance":
        # Rare words carry most. The data's own importance is per occurrence, in shards a run may not have.
        importance = ((levels(run) - 1) / 5).astype(np.float32)
    values: Any = dataclasses.asdict(settings)
    law = Law(**{name: values[name] for name in Law._fields[:-1]}, importance=importance)
    named: Any = {name: values[name] for name in Plan._fields[:-2]}
    plan = Plan(**named, seats=min(block, canvas), shown=max(shown, 0))
    calls = number = 0
    while (masked := tokens == special["mask"]).any():
        lo, first, stop, hi = next_window(masked, room, block)
        used, row = np.int32(1 + hi - lo), np.full((1, canvas), special["pad"], np.int32)
        row[0, 0], row[0, 1:used] = special["eos"], tokens[lo:hi]
        due = np.zeros((1, canvas), bool)
        due[0, 1 + first - lo : 1 + stop - lo] = masked[first:stop]
        start = np.int32(min(1 + first - lo, canvas - width))
        arguments: Any = (
            _denoise(model, width),
            (run.compute_params, forbidden, used, start),
            jax.random.fold_in(key, 2 + number),  # 0 and 1 are what a block makes of its own
            *(row, due, law),
        )
        memory = _read(model, run.compute_params, row, used) if width < canvas else ()
        options: Any = {"plan": plan, "mask_id": special["mask"], "memory": memory}
        if shown < 0:
            state = jax.device_get(sample(*arguments, **options)._replace(key=(), memory=()))
            written, certain, steps = state.tokens[0], state.confidence[0], int(state.calls)
        else:
            rest = masked[lo:hi] & ~due[0, 1:used]  # masked, and not in this block
            others = np.where(rest, 0.0, sure[lo:hi]).astype(np.float32)
            for frame in sample_stream(*arguments, **options):
                part = frame.part(1, int(used), number, {"start": lo, "length": len(tokens)})
                certain = np.where(due[0, 1:used], part.confidence, others)
                yield dataclasses.replace(part, is_masked=part.is_masked | rest, confidence=certain)
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
    encode = run.tokenizer.encode
    for gap in GAP.finditer(request.prompt):
        before = request.prompt[at : gap.start()]
        found += encode(before.rstrip(" ")).ids
        old = len(encode(" " * before.endswith(" ") + gap[2]).ids) if gap[2] else 0
        number = old or (int(gap[1]) if gap[1] else next(unknown))
        if not 1 <= number <= LONGEST:
            raise SampleError(f"the gap {gap[0]} must have 1 to {LONGEST} tokens")
        found += [mask] * number
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


def finish(frames: Frames, look: Callable[[SampleFrame], object] = lambda frame: None) -> Any:
    """What a generator returns in the end; `look` sees every frame."""
    while True:
        try:
            look(next(frames))
        except StopIteration as end:
            return end.value
