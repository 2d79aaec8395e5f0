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
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import ModelConfig
from mdlm_jax.diffusion import subs
from mdlm_jax.frames import SampleFrame
from mdlm_jax.laws import Law
from mdlm_jax.run_directory import Trained
from mdlm_jax.sampler import Plan, sample, sample_stream
from mdlm_jax.train_state import build
from mdlm_jax.ui.request import SampleError, SamplingConfig, unused


class Context(NamedTuple):
    """What a network is given beside tokens, in a window of L positions; arrays."""

    params: Any
    forbidden: Any  # bool [V], never written
    inside: Any  # bool [V], tokens that do not begin a word
    apart: Any  # bool [L], places at which a word must begin
    used: Any  # int32, positions in use
    start: Any  # int32, where the block begins


class Gap(NamedTuple):
    """A part of a text that is to be written."""

    length: int  # tokens; 0: to be chosen
    apart: bool = False  # a space was given before it, which is the gap's to write


Piece = list[int] | Gap  # token ids that are given, or a part to be written


class Document(NamedTuple):
    """B texts of N tokens, alike in what is masked; written in place."""

    tokens: np.ndarray  # int32 [B, N]
    sure: np.ndarray  # float [B, N], the probability with which a token was written; 1 where it was given
    apart: np.ndarray  # bool [N], places at which a word must begin


BUCKET = 64  # canvas lengths are rounded up to this, so that nearby lengths share a compiled program


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
    """What `sampler` calls; context: a `Context`. `width` positions from its start are computed, what is
    beside them is read from the memory.
    """

    def denoise(context: Context, memory: Any, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
        row, place = index // tokens.shape[1], index % tokens.shape[1]
        forbidden = context.forbidden | (context.apart[place][:, None] & context.inside)
        used, start = context.used, context.start
        if model.causal:  # a token is read from the output before it
            used, place = place[0], place - 1
            start = place[0]
        net, seen = nnx.merge(build(model), context.params), jnp.arange(tokens.shape[1]) < used
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


@functools.lru_cache(maxsize=2)
def within_words(run: Trained) -> np.ndarray:
    """bool [V]: tokens that begin with no space."""
    pieces = [run.tokenizer.id_to_token(i) or "" for i in range(len(run.forbidden))]
    return np.array([not piece.startswith("\u0120") for piece in pieces])


@functools.lru_cache(maxsize=2)
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


def window(
    run: Trained, settings: SamplingConfig, document: Document, key: jax.Array, shown: int = 0
) -> tuple[tuple[int, int, int, int], np.ndarray, tuple, dict[str, Any]]:
    """`next_window` of a document, which of its canvas bool [B, L] is due, and what `sampler.sample` is
    given: arguments and options. Raises SampleError.
    """
    special, model, room = run.dataset.special_ids, run.config.model, run.config.model.seq_len - 1
    rows, length = document.tokens.shape
    alone = length <= room  # in one window
    block = min(settings.block or (room if alone else max(room // 2, 1)), room)
    size = min(-(-(1 + length) // BUCKET) * BUCKET, model.seq_len) if alone else model.seq_len
    kept = settings.cache and (model.causal or block < length)  # else there is nothing to keep
    width = min(1 if model.causal else block, size) if kept else size
    masked = document.tokens[0] == special["mask"]
    place = lo, first, stop, hi = next_window(masked, room, block)
    used, canvas = np.int32(1 + hi - lo), np.full((rows, size), special["pad"], np.int32)
    canvas[:, 0], canvas[:, 1:used] = special["eos"], document.tokens[:, lo:hi]
    due, apart = np.zeros((rows, size), bool), np.zeros(size, bool)
    due[:, 1 + first - lo : 1 + stop - lo] = masked[first:stop]
    apart[1:used] = document.apart[lo:hi]
    forbidden = run.forbidden.copy()
    forbidden[[special["eos"], special["sep"]]] = True  # never inside a paragraph of the book
    if settings.vocabulary_level < 5:
        forbidden |= levels(run) > settings.vocabulary_level
    # Rare words carry most. The data's own importance is per occurrence, in shards a run may not have.
    rare: Any = np.float32((levels(run) - 1) / 5) if settings.sampler == "importance" else 0.0
    values: Any = dataclasses.asdict(settings)
    law = Law(**{name: values[name] for name in Law._fields[:-1]}, importance=rare)
    plan = Plan(**{n: values[n] for n in Plan._fields[:-2]}, seats=min(block, size), shown=shown)
    start, params = np.int32(min(1 + first - lo, size - width)), run.compute_params
    inside = within_words(run) & (not forbidden[~within_words(run)].all())
    context = Context(params, forbidden, inside, apart, used, start)
    memory = _read(model, params, canvas, used) if width < size else ()
    options = {"plan": plan, "mask_id": special["mask"], "memory": memory}
    return place, due, (_denoise(model, width), context, key, canvas, due, law), options


Frames = Generator[SampleFrame, None, Any]


def unmask(
    run: Trained,
    document: Document,
    key: jax.Array,
    settings: SamplingConfig,
    shown: int = -1,
    back: np.ndarray | None = None,
) -> Frames:
    """Masks the places `back` (bool [N]) again, then writes all that is masked, in place.

    With `shown` >= 0 it yields the whole document before that, and a frame of every step of row 0 (with that
    many likeliest tokens), of the part that begins at extras["start"]. Returns the number of network calls.
    """
    mask, calls, number = run.dataset.special_ids["mask"], 0, 0
    length = document.tokens.shape[1]
    back = np.zeros(length, bool) if back is None else back & (document.tokens[0] != mask)
    document.tokens[:, back] = mask
    if shown >= 0:  # the whole of it first: no window may hold all that is given
        masked = document.tokens[0] == mask
        nats = float(np.log(document.sure[0, back]).sum())
        sure = np.where(masked, 0.0, document.sure[0]).astype(np.float32)
        tokens, extras = document.tokens[0].copy(), {"start": 0, "length": length}
        yield SampleFrame(0, 0, 0, tokens, masked, back, sure, -nats, extras=extras)
    while (document.tokens[0] == mask).any():
        drawn = jax.random.fold_in(key, 2 + number)  # 0 and 1 are what a block makes of its own
        (lo, _, _, hi), due, arguments, options = window(run, settings, document, drawn, max(shown, 0))
        used = 1 + hi - lo
        part, due = slice(lo, hi), due[:, 1:used]
        if shown < 0:
            state = jax.device_get(sample(*arguments, **options)._replace(key=(), memory=()))
            written, certain, steps = state.tokens, state.confidence, int(state.calls)
        else:
            rest = (document.tokens[0, part] == mask) & ~due[0]  # masked, and not in this block
            others = np.where(rest, 0.0, document.sure[0, part]).astype(np.float32)
            for frame in sample_stream(*arguments, **options):
                view = frame.part(1, used, number, {"start": lo, "length": length})
                sure = np.where(due[0], view.confidence, others)
                yield dataclasses.replace(view, is_masked=view.is_masked | rest, confidence=sure)
            written, certain, steps = frame.tokens[None], frame.confidence[None], frame.step
        document.tokens[:, part] = written[:, 1:used]
        document.sure[:, part] = np.where(due, certain[:, 1:used], document.sure[:, part])
        calls, number = calls + steps, number + 1
    return calls


def document(run: Trained, found: list[Piece], rows: int = 1) -> tuple[Document, np.ndarray]:
    """The document of pieces, and which of its tokens are to be written, bool [N]."""
    mask = run.dataset.special_ids["mask"]
    row = [t for piece in found for t in ([mask] * piece.length if isinstance(piece, Gap) else piece)]
    starts = np.cumsum([0, *(p.length if isinstance(p, Gap) else len(p) for p in found)])
    apart = np.zeros(len(row), bool)
    apart[[i for i, p in zip(starts, found, strict=False) if isinstance(p, Gap) and p.apart]] = True
    tokens = np.tile(np.array(row, np.int32), (rows, 1))
    return Document(tokens, np.ones(tokens.shape), apart), tokens[0] == mask


def finish(frames: Frames, look: Callable[[SampleFrame], object] = lambda frame: None) -> Any:
    """What a generator returns in the end; `look` sees every frame."""
    while True:
        try:
            look(next(frames))
        except StopIteration as end:
            return end.value
