"""Held-out likelihood by one protocol: windows of the refinement split, bits per UTF-8 byte of its text.

The masked model's figure is a bound: the stratified exact-k estimate of the full-range negative ELBO, without
dropout or label smoothing, repeated independently for its standard error. The twin's figure is exact.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdlm_jax import diffusion
from mdlm_jax.configuration import Config, ModelConfig
from mdlm_jax.data import DataError, Dataset, RowSource, chapters, cut, read_records
from mdlm_jax.run_directory import Trained
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.train_state import cast, denoiser, forbidden_rows

Evaluate = Callable[[Any], dict[str, Any]]


def held_out_windows(dataset: Dataset, split: str, seq_len: int) -> dict[str, np.ndarray]:
    """The protocol's windows: a split's chapters in reading order, cut into [EOS] + up to seq_len - 1 tokens.

    Returns tokens, segments, scored, each [W, seq_len]; every token is scored once. Raises DataError.
    """
    streams = chapters(read_records(dataset, "refinement", split))
    windows = [[piece] for stream in streams for piece in cut(stream, seq_len - 1)]
    if not windows:
        raise DataError(f"the refinement {split} split of {dataset.path} is empty")
    source = RowSource(windows, seq_len, dataset.special_ids)
    rows = [source[i] for i in range(len(source))]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def figures(nats: float, standard_error: float, tokens: int, num_bytes: int, words: int) -> dict[str, float]:
    """Units of one total: nats per token, bits per byte, token and word perplexity, with standard errors."""
    return {
        "nats_per_token": nats / tokens,
        "bits_per_byte": nats / math.log(2) / num_bytes,
        "bits_per_byte_se": standard_error / math.log(2) / num_bytes,
        "token_perplexity": math.exp(min(nats / tokens, 700.0)),
        "word_perplexity": math.exp(min(nats / words, 700.0)),
    }


def _grouped(windows: dict[str, np.ndarray], group: int, devices: int) -> list[np.ndarray]:
    """tokens, segments and scored, [groups, group, L]; empty windows (nothing scored) fill up the last groups
    to as many as `devices` share evenly.
    """
    three = [windows[name] for name in ("tokens", "segments", "scored")]
    padded = [np.pad(x, ((0, -len(x) % (group * devices)), (0, 0))) for x in three]
    return [x.reshape(-1, group, x.shape[1]) for x in padded]


def per_device(function: Callable[..., jax.Array]) -> Callable[[Any], tuple[Callable, int]]:
    """on(params) -> (each, D), D devices sharing `params`; each(params, *inputs) -> [D, ...] is `function`
    of these weights and of each of the D entries along the first axis of the inputs.
    """

    def some(params: Any, *inputs: Any) -> jax.Array:
        return function(params, *(x[0] for x in inputs))[None]

    @functools.cache
    def spread(mesh: Mesh) -> Callable:
        def each(params: Any, *inputs: Any) -> jax.Array:
            cut = (PartitionSpec(), *[PartitionSpec(mesh.axis_names)] * len(inputs))
            return jax.shard_map(some, mesh=mesh, in_specs=cut, out_specs=cut[1], check_vma=False)(
                params, *inputs
            )

        return jax.jit(each, out_shardings=NamedSharding(mesh, PartitionSpec()))  # every process has them all

    def on(params: Any) -> tuple[Callable, int]:
        mesh = getattr(getattr(jax.tree.leaves(params)[0], "sharding", None), "mesh", None)
        return (some, 1) if mesh is None or mesh.size == 1 else (spread(mesh), mesh.size)

    return on


def corrupt_strata(
    key: jax.Array, tokens: jax.Array, segments: jax.Array, scored: jax.Array,
    *, stratum: jax.Array, strata: int, mask_id: int,
) -> diffusion.Corrupted:  # fmt: skip
    """Rows [B, L] of one segment each, corrupted at t uniform on ((stratum, stratum + 1) / strata).

    stratum int [B] in {0..strata-1}.
    """
    rate_key, mask_key = jax.random.split(key)
    rate = (stratum + jax.random.uniform(rate_key, stratum.shape)) / strata
    return diffusion.corrupt(mask_key, tokens, segments, scored, rate[:, None], mask_id)


def law(
    config: Config, params: Any, forbidden: np.ndarray, segments: jax.Array | None
) -> diffusion.DenoiseFn:
    """The denoiser of weights; of a list of weights the mean of their probabilities, unnormalised."""
    members = params if isinstance(params, list) else [params]
    networks = [denoiser(config.model, cast(x, config.precision), forbidden, segments) for x in members]

    def mean(tokens: jax.Array, index: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(jnp.stack([jax.nn.log_softmax(f(tokens, index)) for f in networks]), axis=0)

    return networks[0] if len(networks) == 1 else mean


def rows_at_a_time(config: Config, rows: int) -> int:
    """How many of a batch's `rows` meet the network at once: all, or under a budget a micro-batch's."""
    return math.gcd(rows, config.micro_batch) if config.memory_budget else rows


def make_nats(
    config: Config, forbidden: np.ndarray, mask_id: int, length: int, keep: Callable[[jax.Array], jax.Array]
) -> Callable[..., jax.Array]:
    """nats_of(params, tokens, segments, scored, key) -> keep(nats [windows, strata, L] of each token).

    Jitted; the three arrays are [64 // strata, `length`] (one window where that is 0). All strata of a window
    share a call, so k over them is nearly constant and half the head's work is saved. How many rows meet the
    network at a time (`rows_at_a_time`) changes no random number, only the last bits of a sum.
    """
    strata = config.evaluation.strata
    group = max(1, 64 // strata)
    rows, stratum = group * strata, np.tile(np.arange(strata), group)
    size = -(-group * ((length - 1) * (strata + 1) // 2 + strata) // 64) * 64
    size = min(size, group * strata * length)
    # Strata 0 and S - 1, 1 and S - 2, ... go together, so that the parts have about as many masks each.
    part, order = (
        rows_at_a_time(config, rows),
        np.argsort(np.minimum(stratum, strata - 1 - stratum), stable=True),
    )
    most = np.ceil((length - 1) * (stratum[order] + 1) / strata) + 1
    part_size = min(-(-int(most.reshape(-1, part).sum(1).max()) // 64) * 64, part * length)

    @jax.jit
    def nats_of(
        params: Any, tokens: jax.Array, segments: jax.Array, scored: jax.Array, key: jax.Array
    ) -> jax.Array:
        tokens, segments, scored = (jnp.repeat(x, strata, axis=0) for x in (tokens, segments, scored))
        network = functools.partial(law, config, params, forbidden)
        corrupted = corrupt_strata(
            key, tokens, segments, scored, stratum=jnp.asarray(stratum), strata=strata, mask_id=mask_id
        )
        if part == rows:
            nats = diffusion.masked_nats(network(segments), tokens, corrupted, size)
            return keep(nats.reshape(group, strata, length))

        def some(x: Any) -> jax.Array:
            tokens, segments, corrupted = x
            return diffusion.masked_nats(network(segments), tokens, corrupted, part_size)

        whole = tokens, segments, corrupted
        parts = jax.tree.map(lambda x: x[order].reshape(-1, part, length), whole)
        nats = jax.lax.map(some, parts).reshape(rows, length)[np.argsort(order)]
        return keep(nats.reshape(group, strata, length))

    return nats_of


def make_batches(
    config: Config,
    forbidden: np.ndarray,
    mask_id: int,
    windows: dict[str, np.ndarray],
    keep: Callable[[jax.Array], jax.Array],
    seed: int = 0,
) -> Callable[[Any], Iterator[jax.Array]]:
    """batches(params) -> keep(nats [windows, strata, L] of each token) of a few windows at a time.

    Replicate after replicate; the last batch of each is filled up with empty windows. The random numbers are
    the same in every call, those of `seed`: two calls differ by their weights alone.
    """
    length = windows["tokens"].shape[1]
    group, replicates = max(1, 64 // config.evaluation.strata), config.evaluation.replicates
    nats_of = make_nats(config, forbidden, mask_id, length, keep)

    def placed(params: Any, *inputs: Any) -> jax.Array:
        *rows, (replicate, place) = inputs
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), replicate), place)
        return nats_of(params, *rows, key)

    on_devices = per_device(placed)

    def batches(params: Any) -> Iterator[jax.Array]:
        each, devices = on_devices(params)
        padded = _grouped(windows, group, devices)
        places = group * np.arange(len(padded[0]))
        for replicate in range(replicates):
            for i in range(0, len(places), devices):
                here = np.stack([np.full(devices, replicate), places[i : i + devices]], axis=1)
                nats = each(params, *(x[i : i + devices] for x in padded), here)
                yield nats.reshape(-1, *nats.shape[2:])

    return batches


def make_bound(
    config: Config,
    forbidden: np.ndarray,
    mask_id: int,
    windows: dict[str, np.ndarray],
    seed: int = 0,
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """bound(params) -> (nats [replicates, W] of each window, l(t) [strata] in nats per token)."""
    number, replicates, strata = (
        len(windows["tokens"]),
        config.evaluation.replicates,
        config.evaluation.strata,
    )
    batches = make_batches(config, forbidden, mask_id, windows, lambda nats: nats.sum(axis=-1), seed)

    def bound(params: Any) -> tuple[np.ndarray, np.ndarray]:
        calls = list(batches(params))
        found = np.concatenate([np.asarray(c, np.float64) for c in calls])
        nats = found.reshape(replicates, -1, strata)[:, :number]
        curve = nats.sum((0, 1)) / (replicates * windows["scored"].sum())
        return nats.mean(2), curve

    return bound


def make_exact(
    config: Config,
    forbidden: np.ndarray,
    windows: dict[str, np.ndarray],
    keep: Callable[[jax.Array], jax.Array] = lambda nats: nats.sum(axis=-1),
) -> Callable[[Any], np.ndarray]:
    """exact(params) -> keep(nats [W, L] of each token) under the autoregressive twin, by default those [W] of
    each window.
    """
    number, rows = len(windows["tokens"]), rows_at_a_time(config, 32)

    @jax.jit
    def nats_of(params: Any, tokens: jax.Array, segments: jax.Array, scored: jax.Array) -> jax.Array:
        denoise_fn = law(config, params, forbidden, segments)
        return keep(diffusion.autoregressive_nats(denoise_fn, tokens, scored))

    on_devices = per_device(nats_of)

    def exact(params: Any) -> np.ndarray:
        each, devices = on_devices(params)
        padded = _grouped(windows, rows, devices)
        starts = range(0, len(padded[0]), devices)
        calls = [each(params, *(x[i : i + devices] for x in padded)) for i in starts]
        return np.concatenate([np.asarray(x, np.float64) for call in calls for x in call])[:number]

    return exact


def make_evaluate(
    config: Config,
    forbidden: np.ndarray,
    mask_id: int,
    windows: dict[str, np.ndarray],
    num_bytes: int,
    words: int,
    seed: int = 0,
) -> Evaluate:
    """evaluate(params) -> `figures` of the split, with "kind" ("bound" or "exact") and the curve l(t) of a
    bound.

    The standard error is that of the bound's random masks, from the spread of the replicates of each window;
    the text itself is fixed. An exact figure has none.
    """
    tokens = int(windows["scored"].sum())
    if config.model.causal:
        exact = make_exact(config, forbidden, windows)
        return lambda params: (
            {"kind": "exact"} | figures(float(exact(params).sum()), 0.0, tokens, num_bytes, words)
        )
    bound = make_bound(config, forbidden, mask_id, windows, seed)

    def evaluate(params: Any) -> dict[str, Any]:
        nats, curve = bound(params)
        error = math.sqrt(float(nats.var(axis=0, ddof=1).sum()) / nats.shape[0])
        total = float(nats.mean(0).sum())
        return {"kind": "bound", "curve": curve.tolist()} | figures(total, error, tokens, num_bytes, words)

    return evaluate


@functools.partial(jax.jit, static_argnames="model")
def _masked_sum(
    model: ModelConfig, params: Any, forbidden: jax.Array, tokens: jax.Array, real: jax.Array,
    corrupted: diffusion.Corrupted,
) -> jax.Array:  # fmt: skip
    """Weighted nats of the masked tokens of rows [B, L]."""
    network = denoiser(model, params, forbidden, real.astype(jnp.int32))
    return diffusion.masked_nats(network, tokens, corrupted, tokens.size).sum()


def gap_nats(
    run: Trained, before: list[int], after: list[int], lengths: Sequence[int], strata: int = 16
) -> np.ndarray:
    """float [len(lengths)]: the bound, in nats, of the tokens around a gap, for each length of it.

    The gap, and what else is masked, stays so, which sums over all that could be written there. Of the text
    as much is read as the canvas holds around the longest gap, and the same tokens are hidden whatever the
    length, so that only the length differs.
    """
    model, special = run.config.model, run.dataset.special_ids
    room = model.seq_len - 1 - max(lengths)
    left = min(len(before), max(room // 2, room - len(after)))
    before, after = before[len(before) - left :], after[: room - left]
    given = np.array([*before, *after], np.int32)
    rng, found, known = np.random.default_rng(0), [], np.flatnonzero(given != special["mask"])
    if not len(known):
        return np.zeros(len(lengths))
    count = np.ceil(len(known) * (np.arange(strata) + rng.random(strata)) / strata).astype(int)
    chosen = np.zeros((strata, len(given)), bool)
    chosen[:, known] = rng.random((strata, len(known))).argsort(1).argsort(1) < count[:, None]
    for length in lengths:
        place = 1 + np.arange(len(given)) + length * (np.arange(len(given)) >= left)
        tokens = np.full((strata, model.seq_len), special["pad"], np.int32)
        tokens[:, 0], tokens[:, 1 + left : 1 + left + length] = special["eos"], special["mask"]
        tokens[:, place], masked = given, np.zeros(tokens.shape, bool)
        masked[:, place], real = chosen, tokens != special["pad"]
        weights = jnp.asarray(masked * len(known) / count[:, None], jnp.float32)
        hidden = jnp.asarray(np.where(masked, special["mask"], tokens))
        corrupted = diffusion.Corrupted(hidden, jnp.asarray(masked), weights)
        nats = _masked_sum(model, run.compute_params, run.forbidden, tokens, real, corrupted)
        found.append(float(nats) / strata)
    return np.array(found)


def bytes_and_words(dataset: Dataset, workdir: Path, split: str) -> tuple[int, int]:
    """Of the text of a split; words are what stands between white space, marks and all."""
    tokenizer = load_tokenizer(workdir / "tokenizer.json")
    records = read_records(dataset, "refinement", split)
    words = sum(len(tokenizer.decode(r.ids.tolist(), skip_special_tokens=False).split()) for r in records)
    return dataset.counts("refinement", split)["bytes"], words


def held_out(config: Config, dataset: Dataset, workdir: Path, split: str, seed: int = 0) -> Evaluate:
    """evaluate(params) of one split by the protocol; `seed` is that of the bound's masks."""
    return make_evaluate(
        config,
        forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids),
        dataset.special_ids["mask"],
        held_out_windows(dataset, split, config.model.seq_len),
        *bytes_and_words(dataset, workdir, split),
        seed,
    )
