"""The samplers: their law against enumeration, what they may never do, one step function for both loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import soak_count
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from toys import quick_jit

from mdlm_jax import sampler
from mdlm_jax.diffusion import subs
from mdlm_jax.sampler import Law, sample, sample_stream, truncate

LETTERS, MASK, PAD, V, L = 4, 4, 5, 6, 4
FORBIDDEN = np.isin(np.arange(V), (MASK, PAD))
PROMPT = np.array([MASK, 2, MASK, MASK])  # three letters to write around one that is given
# An arbitrary network: logits of every position, by the whole canvas.
TABLE = np.random.default_rng(3).normal(size=(V**L, L, V)) * 1.5
KINDS = [(kind, steps) for kind in ("ancestral", "confidence") for steps in (0, 2, 9)]


def denoise(table: jax.Array, tokens: jax.Array, index: jax.Array) -> jax.Array:
    logits = table[jnp.sum(tokens * V ** np.arange(L), axis=1)]
    return subs(logits.reshape(-1, V)[index], FORBIDDEN)


def numpy_truncate(logits: np.ndarray, law: Law) -> np.ndarray:
    """Probabilities [V]: temperature, then the k likeliest, then the fewest likeliest that reach top_p."""
    p = np.exp(logits / law.temperature - np.max(logits / law.temperature))
    order = np.argsort(-p, kind="stable")
    if law.top_k:
        p[order[law.top_k :]] = 0
    p /= p.sum()
    reached = 0.0
    for token in order:
        if reached >= law.top_p:
            p[token] = 0
        reached += p[token]
    return p / p.sum()


def probabilities(canvas: tuple[int, ...], place: int, law: Law) -> np.ndarray:
    logits = TABLE[sum(t * V**i for i, t in enumerate(canvas)), place]
    return numpy_truncate(np.where(FORBIDDEN, -np.inf, logits), law)


def write(canvases: dict[tuple, float], places: tuple[int, ...], law: Law) -> dict[tuple, float]:
    """The law of the canvas after the letters at `places` are drawn together, given the canvas before."""
    after: dict[tuple, float] = {}
    for canvas, weight in canvases.items():
        p = [probabilities(canvas, place, law) for place in places]
        for letters in itertools.product(range(LETTERS), repeat=len(places)):
            filled = list(canvas)
            for place, letter in zip(places, letters, strict=True):
                filled[place] = letter
            weight_here = weight * np.prod([q[letter] for q, letter in zip(p, letters, strict=True)])
            after[tuple(filled)] = after.get(tuple(filled), 0) + weight_here
    return after


def enumerate_law(kind: str, steps: int, law: Law) -> dict[tuple, float]:
    """The probability of every text, over all orders or times of unmasking, or along the confidence rule."""
    start, free = {tuple(PROMPT): 1.0}, [0, 2, 3]
    total: dict[tuple, float] = {}
    if kind == "ancestral":
        plans = (
            list(itertools.permutations(range(3)))
            if steps == 0
            else list(itertools.product(range(steps), repeat=3))
        )
        for times in plans:
            canvases = start
            for time in sorted(set(times)):
                canvases = write(
                    canvases, tuple(p for p, t in zip(free, times, strict=True) if t == time), law
                )
            for text, weight in canvases.items():
                total[text] = total.get(text, 0) + weight / len(plans)
        return total
    sizes = {1: [3], 2: [1, 2]}.get(steps, [1, 1, 1]) if steps else [1, 1, 1]
    canvases = start
    for size in sizes:
        after: dict[tuple, float] = {}
        for canvas, weight in canvases.items():
            left = [p for p in free if canvas[p] == MASK]
            sure = sorted(left, key=lambda p: -probabilities(canvas, p, Law()).max())
            for text, w in write({canvas: weight}, tuple(sure[:size]), law).items():
                after[text] = after.get(text, 0) + w
        canvases = after
    return canvases


def draws(number: int, kind: str, steps: int, law: Law, seed: int = 0) -> jax.Array:
    """Tokens [number, L]."""
    tokens = np.broadcast_to(PROMPT, (number, L))
    run = functools.partial(sample, denoise, steps=steps, sampler=kind, mask_id=MASK)
    key = jax.random.key(seed)
    return quick_jit(run)(jnp.float32(TABLE), key, tokens, tokens == MASK, law).tokens


def law_holds(number: int, kind: str, steps: int, law: Law, seed: int) -> float:
    """Chi-square p-value of the texts drawn against the enumeration; rare texts share a bin."""
    expected = enumerate_law(kind, steps, law)
    np.testing.assert_allclose(sum(expected.values()), 1, rtol=1e-9)
    texts, counts = np.unique(draws(number, kind, steps, law, seed), axis=0, return_counts=True)
    observed = dict(zip(map(tuple, texts.tolist()), counts, strict=True))
    assert all(expected.get(text, 0) > 0 for text in observed)
    pairs = np.array([[observed.get(text, 0), number * p] for text, p in expected.items()])
    rare = pairs[:, 1] < 5
    bins = np.concatenate([pairs[~rare], pairs[rare].sum(0, keepdims=True)])
    bins = bins[bins[:, 1] > 0]
    return stats.chisquare(bins[:, 0], bins[:, 1]).pvalue


LAWS = [
    ("ancestral", 0, Law()),
    ("ancestral", 1, Law()),
    ("ancestral", 2, Law(0.7, 3, 0.9)),
    ("confidence", 2, Law()),
    ("confidence", 0, Law(1.3, 0, 0.8)),
]


@pytest.mark.parametrize(("kind", "steps", "law"), LAWS)
def test_the_law_of_the_texts(kind: str, steps: int, law: Law):
    assert law_holds(20_000, kind, steps, law, seed=1) > 1e-4


def test_the_enumerated_laws_differ():
    """Or the test above could not tell one sampler from another."""
    laws = [enumerate_law(kind, steps, Law()) for kind, steps in [("ancestral", 1), *KINDS[:2], *KINDS[3:5]]]
    texts = sorted(set().union(*laws))
    table = np.array([[law.get(text, 0) for text in texts] for law in laws])
    for a, b in itertools.combinations(table, 2):
        assert np.abs(a - b).sum() / 2 > 0.04


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "steps", "law"), LAWS)
def test_the_law_of_many_texts(kind: str, steps: int, law: Law):
    values = [law_holds(200_000, kind, steps, law, seed) for seed in range(soak_count(10))]
    assert min(values) > 1e-5, values


@pytest.mark.parametrize(("kind", "steps"), KINDS)
def test_the_stream_is_the_same_sampler_and_keeps_its_promises(kind: str, steps: int):
    law, tokens = Law(0.9, 0, 0.95), np.array([PROMPT, [1, 0, 3, MASK]])
    masked = tokens == MASK
    arguments = jnp.float32(TABLE), jax.random.key(4), tokens, masked, law
    options = dict(steps=steps, sampler=kind, mask_id=MASK)
    state = quick_jit(functools.partial(sample, denoise, **options))(*arguments)
    frames = list(sample_stream(denoise, *arguments, **options))
    calls = 3 if steps == 0 else min(steps, 3) if kind == "confidence" else steps
    assert [(f.step, f.num_steps) for f in frames] == [(i, calls) for i in range(1, calls + 1)]
    np.testing.assert_array_equal(frames[-1].tokens, state.tokens[0])
    np.testing.assert_allclose(frames[-1].confidence, state.confidence[0], atol=1e-5)
    np.testing.assert_allclose(sum(f.log_prob for f in frames), state.log_prob[0], rtol=1e-5)
    assert not state.masked.any() and not FORBIDDEN[np.asarray(state.tokens)].any()
    np.testing.assert_array_equal(np.asarray(state.tokens)[~masked], tokens[~masked])
    canvas, hidden = tokens[0], masked[0]
    for frame in frames:
        new = frame.changed
        np.testing.assert_array_equal(hidden & ~frame.is_masked, new)
        assert not (frame.is_masked & ~hidden).any()  # never masked again
        np.testing.assert_array_equal(frame.tokens[~new], canvas[~new])  # nothing else is touched
        assert (
            not FORBIDDEN[frame.tokens[~frame.is_masked]].any()
            and (frame.tokens[frame.is_masked] == MASK).all()
        )
        golden = np.where(frame.is_masked, 0.0, 1.0)
        written = [probabilities(tuple(canvas), p, law)[frame.tokens[p]] for p in np.flatnonzero(new)]
        np.testing.assert_allclose(frame.confidence[new], written, rtol=1e-4)
        np.testing.assert_allclose(frame.log_prob, np.log(written).sum(), rtol=1e-4, atol=1e-6)
        given = ~masked[0] | frame.is_masked
        np.testing.assert_array_equal(frame.confidence[given], golden[given])
        canvas, hidden = frame.tokens, frame.is_masked


def test_only_the_chosen_positions_are_scored():
    """Ancestral, one at a time: a call asks for one position of a row, a masked one, and each once."""
    calls = []

    def recording(table: jax.Array, tokens: jax.Array, index: jax.Array) -> jax.Array:
        jax.debug.callback(lambda *x: calls.append([np.asarray(y) for y in x]), tokens, index, ordered=True)
        return denoise(table, tokens, index)

    tokens = np.array([PROMPT, [1, 0, 3, MASK]])
    sample(
        recording, jnp.float32(TABLE), jax.random.key(0), tokens, tokens == MASK, Law(),
        steps=0, sampler="ancestral", mask_id=MASK,
    )  # fmt: skip
    jax.effects_barrier()
    assert len(calls) == 3 and all(index.shape == (2,) for _, index in calls)
    asked = [index[0] for _, index in calls]
    assert sorted(asked) == [0, 2, 3]
    assert all(canvas[0, place] == MASK for (canvas, _), place in zip(calls, asked, strict=True))


def test_a_crowded_step_writes_all_that_are_due():
    """More positions can fall into a step than are gathered in the usual case; all of them are written."""
    length, steps = 64, 16

    def even(table: jax.Array, tokens: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.zeros((index.shape[0], V)) + jnp.where(FORBIDDEN, -jnp.inf, 0.0)

    state = sampler.begin(
        jax.random.key(0), jnp.full((2, length), MASK), jnp.ones((2, length), bool), steps, MASK
    )
    group = sampler.group_size(length, steps, "ancestral")
    assert group < length
    crowded = state._replace(when=jnp.where(jnp.arange(length) < group + 3, 1, 2).astype(jnp.int32))
    step = quick_jit(
        functools.partial(
            sampler.sample_step,
            even,
            None,
            law=Law(),
            sampler="ancestral",
            num_steps=steps,
            group=group,
        )
    )
    after = step(crowded, jnp.int32(1))
    np.testing.assert_array_equal(after.masked, np.broadcast_to(np.arange(length) >= group + 3, (2, length)))


def test_changing_what_is_traced_compiles_nothing():

    def run(
        tokens: np.ndarray, law: Law = LAWS[0][2], steps: int = 0, seed: int = 0, scale: float = 1.0
    ) -> int:
        table, key = jnp.float32(TABLE * scale), jax.random.key(seed)
        options = dict(steps=steps, sampler="ancestral", mask_id=MASK)
        sample(denoise, table, key, tokens, tokens == MASK, law, **options)
        return sample._cache_size()

    first = run(PROMPT[None])
    for law in (Law(0.5, 0, 1.0), Law(1.0, 3, 1.0), Law(1.0, 0, 0.5)):
        assert run(PROMPT[None], law) == first
    assert run(np.array([[0, MASK, 1, MASK]]), seed=7, scale=2.0) == first
    assert run(PROMPT[None], steps=1) == first + 1  # the count does see a new program


quick_truncate = quick_jit(truncate)


@given(
    st.integers(0, 2**31),
    st.floats(0.2, 5.0),
    st.integers(0, 12),
    st.floats(0.01, 1.0) | st.just(1.0),
    st.integers(0, 8),
)
def test_truncate_equals_numpy(seed: int, temperature: float, top_k: int, top_p: float, forbidden: int):
    logits = np.random.default_rng(seed).normal(size=(3, 9)) * 2
    logits[:, :forbidden] = -np.inf
    law = Law(temperature, top_k, top_p)
    log_p = np.asarray(quick_truncate(jnp.float32(logits), law))
    for ours, row in zip(log_p, logits, strict=True):
        untruncated = numpy_truncate(row, law._replace(top_p=1.0))
        if np.abs(np.cumsum(np.sort(untruncated)[::-1]) - top_p).min() < 1e-5 and top_p < 1:
            continue  # on the edge, where rounding decides
        golden = numpy_truncate(row, law)
        np.testing.assert_array_equal(ours > -np.inf, golden > 0)
        np.testing.assert_allclose(np.exp(ours), golden, rtol=1e-3, atol=1e-6)


def test_limits_of_the_law_are_greedy():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 9)), jnp.float32)
    best = np.eye(9)[np.argmax(logits, 1)]
    for law in (Law(1e-4, 0, 1.0), Law(1.0, 1, 1.0), Law(1.0, 0, 1e-6)):
        np.testing.assert_allclose(np.exp(quick_truncate(logits, law)), best, atol=1e-4)


def test_off_is_off():
    """top_k = 0 and top_p = 1 leave every probability, however small: the law of the model itself."""
    logits = jnp.array([[0.0, -20.0, -30.0, -jnp.inf], [5.0, 5.0, 5.0, -5.0]])
    np.testing.assert_allclose(quick_truncate(logits, Law()), jax.nn.log_softmax(logits), rtol=1e-5)
