"""Exact likelihood of a masked model that writes one position after another.

The network gives a law of every masked token given the shown ones. An order in which positions are scored and
shown makes a likelihood of it by the chain rule, log p(x) = sum_i log p(x_s(i) | x_s(1), ..., x_s(i-1)), and
that holds for an order that is chosen on the way too, as long as the choice looks at nothing but tokens that
are shown already: summing from the last step backwards, the tokens at s(n) given all others sum to 1
whatever s(n) is, then those at s(n-1), and so on, as down the branches of a tree. The bound is the mean of
-log p over all orders (Ou et al. 2024, eq. 3.7); single orders differ (Kim et al. 2025, "Train for the worst,
plan for the best"), and each is a likelihood by itself: of a window, given that it is as long as it is.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax import diffusion
from mdlm_jax.configuration import Config
from mdlm_jax.evaluation.likelihood import law, rows_at_a_time

ROWS = 64  # rows that meet the network at once, where no budget says fewer
Windows = dict[str, np.ndarray]
Look = Callable[[int], object]  # is told how many tokens were scored since it was last told
Exact = Callable[..., np.ndarray]


def make_in_order(
    config: Config, forbidden: np.ndarray, mask_id: int, windows: Windows, ranks: np.ndarray | None = None
) -> Exact:
    """exact(params, look) -> float64 [W, L], -log p of each token given those of a lower rank, 0 where not
    scored. The ranks [W, L], different ones within a window, are by default those from left to right.

    One forward a token: what has a lower rank is shown, it and all the rest is masked. Masks are attended to,
    so that a row has the length of its window, and nothing of one row serves the next.
    """
    length, rows = windows["tokens"].shape[1], rows_at_a_time(config, ROWS)
    order = np.broadcast_to(np.arange(length), windows["tokens"].shape) if ranks is None else ranks
    window, place = np.nonzero(windows["scored"])

    @jax.jit
    def nats_of(
        params: object,
        tokens: jax.Array,
        segments: jax.Array,
        scored: jax.Array,
        order: jax.Array,
        place: jax.Array,
    ) -> jax.Array:
        denoise_fn = law(config, params, forbidden, segments)
        hidden = scored & (order >= jnp.take_along_axis(order, place[:, None], axis=1))
        index = jnp.arange(rows) * length + place
        logits = denoise_fn(jnp.where(hidden, mask_id, tokens), index)
        return diffusion.cross_entropy(logits, tokens.reshape(-1)[index])

    def exact(params: object, look: Look = lambda tokens: None) -> np.ndarray:
        nats = np.zeros(windows["tokens"].shape)
        for start in range(0, len(place), rows):
            some = np.minimum(np.arange(start, start + rows), len(place) - 1)  # the last again, to fill up
            three = (windows[name][window[some]] for name in ("tokens", "segments", "scored"))
            found = nats_of(params, *three, order[window[some]], place[some])
            nats[window[some], place[some]] = found
            look(len(place[start : start + rows]))
        return nats

    return exact


def make_confidence_order(config: Config, forbidden: np.ndarray, mask_id: int, windows: Windows) -> Exact:
    """exact(params, look) -> float64 [W, L], -log p of each token under an order by confidence.

    All of a window is masked; then, step by step, the position whose largest probability is the largest (the
    first of several) is scored and shown: without noise, and by what is shown alone.
    """
    number, length = windows["tokens"].shape
    groups = -(-number // rows_at_a_time(config, ROWS))
    rows = -(-number // groups)
    quarter = -(-rows * length // 256) * 64  # few sizes, and so few programs

    @functools.partial(jax.jit, static_argnames="size")
    def step(
        params: object, tokens: jax.Array, segments: jax.Array, hidden: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array]:
        """(nats [R] of the position that each row shows next, hidden [R, L] after it)."""
        denoise_fn = law(config, params, forbidden, segments)
        (index,) = jnp.nonzero(hidden.reshape(-1), size=size, fill_value=0)
        logits = denoise_fn(jnp.where(hidden, mask_id, tokens), index)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        found = jnp.stack(
            [logits.max(axis=-1) - log_z, diffusion.cross_entropy(logits, tokens.reshape(-1)[index])]
        )
        sure, nats = jnp.zeros((2, tokens.size)).at[:, index].set(found).reshape(2, *tokens.shape)
        place = jnp.argmax(jnp.where(hidden, sure, -jnp.inf), axis=1)
        shown = hidden & (jnp.arange(length) == place[:, None])
        return jnp.where(shown, nats, 0.0), hidden & ~shown

    def exact(params: object, look: Look = lambda tokens: None) -> np.ndarray:
        nats, longest_first = np.zeros((number, length)), np.argsort(-windows["scored"].sum(1), kind="stable")
        for start in range(0, number, rows):
            some = longest_first[start : start + rows]
            tokens, segments, hidden = (
                np.pad(windows[name][some], ((0, rows - len(some)), (0, 0)))
                for name in ("tokens", "segments", "scored")
            )
            left = hidden.sum(1)
            while left.any():
                size = min(-(-int(left.sum()) // quarter) * quarter, rows * length)
                found, hidden = step(params, tokens, segments, hidden, size)
                nats[some] += np.asarray(found)[: len(some)]
                look(int((left > 0).sum()))
                left = np.maximum(left - 1, 0)
        return nats

    return exact
