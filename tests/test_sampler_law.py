"""The law of what the samplers write, by chi-square against enumeration on a network of four letters."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import soak_count
from scipy import stats
from toys import LETTERS, MASK, PROMPT, TABLE, L, denoise, probabilities, quick_jit

from mdlm_jax.laws import Law
from mdlm_jax.sampler import Plan, sample

EMPTY = (MASK,) * L
# A network that knows nothing but that the first letter is rare.
RARE = np.broadcast_to(np.log([0.001, *[0.333] * 3, 1, 1]), TABLE.shape)
IMPORTANCE = np.array([0.0, 0.3, 0.5, 0.7, 0.0, 0.0])


def write(canvases: dict[tuple, float], places: tuple[int, ...], law: Law) -> dict[tuple, float]:
    """The law of the canvas after the letters at `places` are drawn together, given the canvas before."""
    after: dict[tuple, float] = {}
    for canvas, weight in canvases.items():
        p = [probabilities(canvas, place, law) for place in places]
        for letters in itertools.product(range(LETTERS), repeat=len(places)):
            filled = list(canvas)
            for place, letter in zip(places, letters, strict=True):
                filled[place] = letter
            weight_here = weight * math.prod(q[letter] for q, letter in zip(p, letters, strict=True))
            after[tuple(filled)] = after.get(tuple(filled), 0) + weight_here
    return after


def ancestral_law(steps: int, law: Law, prompt: tuple[int, ...]) -> dict[tuple, float]:
    """The probability of every text, over all ways in which the times can fall together, each by its weight.

    comb(steps, k) of the steps**n times of n positions put them into k intervals in a given order.
    """
    free = [place for place, token in enumerate(prompt) if token == MASK]
    total: dict[tuple, float] = {}
    for times in itertools.product(range(len(free)), repeat=len(free)):
        k = len(set(times))
        if set(times) != set(range(k)) or (steps == 0 and k < len(free)):
            continue
        share = math.comb(steps, k) / steps ** len(free) if steps else 1 / math.factorial(len(free))
        canvases = {prompt: share}
        for time in range(k if share else 0):
            canvases = write(canvases, tuple(p for p, t in zip(free, times, strict=True) if t == time), law)
        for text, weight in canvases.items():
            total[text] = total.get(text, 0) + weight * (share > 0)
    return {text: weight for text, weight in total.items() if MASK not in text}


def ordered_law(groups: list[list[int]], law: Law, prompt: tuple[int, ...]) -> dict[tuple, float]:
    """Places in a known order, those of a group together."""
    free, canvases = [p for p in range(L) if prompt[p] == MASK], {prompt: 1.0}
    for group in groups:
        canvases = write(canvases, tuple(free[i] for i in group), law)
    return canvases


RULES = {
    "confidence": max,
    "margin": lambda p: np.sort(p)[-1] - np.sort(p)[-2],
    "entropy": lambda p: sum(x * math.log(x) for x in p if x > 0),
    "importance": lambda p: max(p * (1 - IMPORTANCE)),
}


def ranked_law(rule: str, steps: int, law: Law, prompt: tuple[int, ...]) -> dict[tuple, float]:
    """The same along a rule, which is deterministic: the positions are known from the canvas."""
    canvases, free = {prompt: 1.0}, prompt.count(MASK)
    for size in np.diff([free * i // (steps or free) for i in range((steps or free) + 1)]):
        after: dict[tuple, float] = {}
        for canvas, weight in canvases.items():
            left = [p for p in range(L) if canvas[p] == MASK]
            sure = sorted(left, key=lambda p: -RULES[rule](probabilities(canvas, p, Law())))
            for text, w in write({canvas: weight}, tuple(sure[:size]), law).items():
                after[text] = after.get(text, 0) + w
        canvases = after
    return canvases


def enumerate_law(plan: Plan, law: Law, prompt: tuple[int, ...] = PROMPT) -> dict[tuple, float]:
    number = prompt.count(MASK)
    if plan.sampler in ("interleaved", "left_to_right"):
        stride = plan.steps or number
        return ordered_law([list(range(i, number, stride)) for i in range(min(stride, number))], law, prompt)
    if plan.sampler == "dilated":  # of four places: halves, then quarters, from any of them on
        assert number == L == 4
        order = [0, 2, 1, 3]
        turned: dict[tuple, float] = {}
        for first in range(4):
            around = order[first:] + order[:first]
            size = 4 // (plan.steps or 4)
            groups = [around[i : i + size] for i in range(0, 4, size)]
            for text, p in ordered_law(groups, law, prompt).items():
                turned[text] = turned.get(text, 0) + p / 4
        return turned
    if plan.sampler == "ancestral":
        return ancestral_law(plan.steps, law, prompt)
    return ranked_law(plan.sampler, plan.steps, law, prompt)


def draws(number: int, plan: Plan, law: Law, seed: int, prompt: tuple = PROMPT, table=TABLE) -> np.ndarray:
    """Tokens [number, L]."""
    tokens = np.broadcast_to(prompt, (number, L))
    run = functools.partial(sample, denoise, plan=plan, mask_id=MASK)
    law = law._replace(importance=jnp.float32(IMPORTANCE))
    return np.asarray(
        quick_jit(run)(jnp.float32(table), jax.random.key(seed), tokens, tokens == MASK, law).tokens
    )


def p_value(texts: np.ndarray, expected: dict[tuple, float]) -> float:
    """Chi-square p-value of the texts [number, L] against their law; rare texts share a bin."""
    np.testing.assert_allclose(sum(expected.values()), 1, rtol=1e-9)
    found, counts = np.unique(texts, axis=0, return_counts=True)
    observed = dict(zip(map(tuple, found.tolist()), counts, strict=True))
    assert all(expected.get(text, 0) > 0 for text in observed)
    pairs = np.array([[observed.get(text, 0), len(texts) * p] for text, p in expected.items()])
    rare = pairs[:, 1] < 5
    bins = np.concatenate([pairs[~rare], pairs[rare].sum(0, keepdims=True)])
    bins = bins[bins[:, 1] > 0]
    return stats.chisquare(bins[:, 0], bins[:, 1]).pvalue


LAWS = [
    (Plan("ancestral", 0), Law(), EMPTY),
    (Plan("ancestral", 1), Law(), EMPTY),
    (Plan("ancestral", 4), Law(), EMPTY),
    (Plan("ancestral", 64), Law(), EMPTY),
    (Plan("ancestral", 2), Law(0.7, 3, 0.9), PROMPT),
    (Plan("dilated", 0), Law(), EMPTY),
    (Plan("interleaved", 2), Law(), EMPTY),
    (Plan("left_to_right", 0), Law(0.7, 3, 0.9), PROMPT),
    (Plan("confidence", 2), Law(), EMPTY),
    (Plan("confidence", 0), Law(1.3, 0, 0.8), PROMPT),
    (Plan("margin", 0), Law(), EMPTY),
    (Plan("entropy", 0), Law(), EMPTY),
    (Plan("importance", 0), Law(), EMPTY),
]


# The soak has all of them, ten times as often.
@pytest.mark.parametrize(("plan", "law", "prompt"), [LAWS[2], LAWS[4], LAWS[6], LAWS[8]])
def test_the_law_of_the_texts(plan: Plan, law: Law, prompt: tuple):
    assert p_value(draws(20_000, plan, law, 1, prompt), enumerate_law(plan, law, prompt)) > 1e-4


@pytest.mark.soak
@pytest.mark.parametrize(("plan", "law", "prompt"), LAWS)
def test_the_law_of_many_texts(plan: Plan, law: Law, prompt: tuple):
    expected = enumerate_law(plan, law, prompt)
    values = [p_value(draws(200_000, plan, law, seed, prompt), expected) for seed in range(soak_count(10))]
    assert min(values) > 1e-5, values


def test_the_enumerated_laws_differ():
    """Or the test above could not tell one sampler from another."""
    plans = [Plan("ancestral", steps) for steps in (0, 1, 2)]
    plans += [
        Plan("dilated"),
        Plan("interleaved", 2),
        Plan("left_to_right"),
        Plan("confidence", 2),
        *(Plan(rule, 0) for rule in RULES),
    ]
    laws = [enumerate_law(plan, Law(), EMPTY) for plan in plans]
    texts = sorted(set().union(*laws))
    table = np.array([[law.get(text, 0) for text in texts] for law in laws])
    for (a, p), (b, q) in itertools.combinations(zip(table, plans, strict=True), 2):
        assert np.abs(a - b).sum() / 2 > 0.02, (p, q)


def one_shot(number: int, steps: int, seed: int) -> np.ndarray:
    """Texts [number, L] of RARE by the posterior of every position at every step, letter or [MASK] in one
    draw, as is usual, with Gumbels from uniforms of 10 bits.
    """
    rng, p = np.random.default_rng(seed), np.exp(RARE[0, 0, :LETTERS])
    tokens = np.full((number, L), MASK)
    for left in range(steps, 0, -1):
        posterior = np.append(p / left, 1 - 1 / left)
        with np.errstate(divide="ignore"):
            gumbel = -np.log(-np.log(rng.integers(1, 1024, size=(number, L, LETTERS + 1)) / 1024))
            new = np.argmax(np.log(posterior) + gumbel, axis=-1)
        tokens = np.where(tokens == MASK, new, tokens)
    return tokens


def rare_token(number: int) -> tuple[float, float]:
    """p-values of our sampler and of the one-shot posterior, 64 steps, a letter of probability 0.001."""
    p = np.exp(RARE[0, 0, :LETTERS])
    law = {text: math.prod(p[list(text)]) for text in itertools.product(range(LETTERS), repeat=L)}
    ours = draws(number, Plan("ancestral", 64), Law(), 2, EMPTY, RARE)
    return p_value(ours, law), p_value(one_shot(number, 64, 2), law)


def test_a_rare_token_keeps_its_probability():
    ours, coarse = rare_token(20_000)
    assert ours > 1e-4 > coarse


@pytest.mark.soak
def test_a_rare_token_keeps_its_probability_in_many_texts():
    ours, coarse = rare_token(200_000)
    assert ours > 1e-4 and coarse < 1e-30
