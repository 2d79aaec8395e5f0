"""How a token is drawn and how sure a position is: against numpy references, and on tables made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from toys import numpy_truncate, quick_jit

from mdlm_jax import laws
from mdlm_jax.laws import Law, certainty, draw, penalise, truncate, written_by

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


@given(st.integers(0, 2**31), st.floats(1.0, 3.0))
def test_repetition_equals_numpy(seed: int, repetition: float):
    rng = np.random.default_rng(seed)
    logits, seen = np.float32(rng.normal(size=(4, 9)) * 3), rng.random((4, 9)) < 0.4
    logits[:, 0] = -np.inf
    golden = logits.copy()
    for place in zip(*np.nonzero(seen), strict=True):
        golden[place] = golden[place] / repetition if golden[place] > 0 else golden[place] * repetition
    ours = np.asarray(penalise(jnp.asarray(logits), seen, repetition))
    np.testing.assert_allclose(ours, golden, rtol=1e-6)
    assert (ours <= logits).all() and (ours[~seen] == logits[~seen]).all()  # a penalty, on these alone
    np.testing.assert_array_equal(penalise(jnp.asarray(logits), seen, 1.0), logits)  # off, to the bit


# Three positions, each the first under another rule.
HAND = np.array([[0.52, 0.46, 0.01, 0.01], [0.50, 0.17, 0.17, 0.16], [0.495, 0.495, 0.005, 0.005]])


@pytest.mark.parametrize(
    ("rule", "order"),
    [("confidence", [0, 1, 2]), ("greedy", [0, 1, 2]), ("margin", [1, 0, 2]), ("entropy", [2, 0, 1])],
)
def test_the_order_of_the_rules(rule: str, order: list[int]):
    sure = np.asarray(certainty(rule, jnp.log(HAND), 0.0))
    assert np.argsort(-sure).tolist() == order
    two = np.sort(HAND)[:, ::-1]
    golden = {"margin": two[:, 0] - two[:, 1], "entropy": np.exp(np.sum(HAND * np.log(HAND), 1))}
    np.testing.assert_allclose(sure, golden.get(rule, two[:, 0]), rtol=1e-5, atol=1e-6)


def test_importance_puts_easy_words_first():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9]])  # proposes token 0, 1, 2
    for importance, order in (
        ([0.0, 0.0, 0.0], [2, 0, 1]),  # none: confidence
        ([0.0, 0.1, 0.8], [0, 1, 2]),  # the surest word is the hardest
        ([0.8, 0.0, 0.5], [1, 2, 0]),
    ):
        sure = np.asarray(certainty("importance", jnp.log(p), jnp.float32(importance)))
        assert np.argsort(-sure).tolist() == order
        np.testing.assert_allclose(sure, (p * (1 - np.array(importance))).max(1), rtol=1e-5)


@given(st.integers(0, 2**31), st.sampled_from(["confidence", "margin", "entropy", "importance"]))
def test_certainty_is_a_share(seed: int, rule: str):
    """Never above 1, which is the threshold that is off; 1 where one token has all probability."""
    logits = np.random.default_rng(seed).normal(size=(8, 9)) * 40
    logits[:, 5:] = -np.inf
    logits[0] = np.where(np.arange(9) == 2, 0.0, -np.inf)
    sure = np.asarray(certainty(rule, jnp.float32(logits), 0.0))
    assert (sure >= 0).all() and (sure <= 1).all() and sure[0] == 1


@pytest.mark.parametrize("few", [4, 128])
@pytest.mark.parametrize(
    "law", [Law(), Law(1.5, 0, 0.6), Law(1.5, 3, 1.0), Law(1.0, 6, 0.9), Law(2.0, 0, 0.99)]
)
def test_drawing_from_few_or_from_all_is_one_law(monkeypatch, few: int, law: Law):
    """Of nine tokens the likeliest four may be looked at, or all: by chi-square, and each log-probability."""
    monkeypatch.setattr(laws, "FEW", few)
    logits = np.random.default_rng(5).normal(size=9) * 1.5
    golden, number = numpy_truncate(logits, law), 20_000
    rows = jnp.broadcast_to(jnp.float32(logits), (number, 9))
    tokens, log_prob = quick_jit(lambda key, rows, law: draw(key, rows, law))(jax.random.key(3), rows, law)
    counts = np.bincount(tokens, minlength=9)
    assert not counts[golden == 0].any()
    np.testing.assert_allclose(log_prob, np.log(golden[np.asarray(tokens)]), atol=1e-4)
    assert stats.chisquare(counts[golden > 0], number * golden[golden > 0]).pvalue > 1e-4


@given(st.integers(0, 2**31), st.floats(0.3, 3.0), st.integers(0, 300), st.floats(0.05, 1.0))
@settings(max_examples=40)
def test_the_edge_is_found_in_a_real_vocabulary(seed: int, temperature: float, top_k: int, top_p: float):
    """Of 2,000 tokens: the kept set is the smallest that reaches top_p, whatever its size."""
    logits = np.random.default_rng(seed).normal(size=(2, 2000)) * 4
    law = Law(temperature, top_k, top_p)
    for ours, row in zip(np.asarray(quick_truncate(jnp.float32(logits), law)), logits, strict=True):
        p = numpy_truncate(row, law._replace(top_p=1.0))
        kept = ours > -np.inf
        assert p[kept].sum() >= top_p - 1e-4 and p[kept].min() >= p[~kept].max(initial=0)
        assert p[kept].sum() - p[kept].min() <= top_p + 1e-4  # one less would not reach it
        np.testing.assert_allclose(np.exp(ours[kept]), p[kept] / p[kept].sum(), rtol=2e-3, atol=1e-6)


def test_greedy_draws_the_likeliest_without_a_key():
    log_p = jax.nn.log_softmax(jnp.array([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]))
    for seed in range(5):
        tokens, found = draw(jax.random.key(seed), log_p, Law(), greedy=True)
        assert tokens.tolist() == [1, 0]
        np.testing.assert_allclose(found, log_p[jnp.arange(2), tokens], rtol=1e-6)


quick_written_by = jax.jit(written_by, static_argnums=0)


@given(st.sampled_from(["linear", "cosine"]), st.integers(1, 3000), st.integers(1, 300))
def test_a_schedule_writes_all_and_never_less(schedule: str, total: int, steps: int):
    done = np.minimum(np.arange(301), steps)  # one shape
    by = np.asarray(quick_written_by(schedule, jnp.int32(total), done, jnp.int32(steps)))
    assert by[0] == 0 and by[-1] == total and (np.diff(by) >= 0).all()
    golden = done / steps if schedule == "linear" else 1 - np.cos(np.pi / 2 * done / steps)
    assert np.abs(by - total * golden).max() <= 1.01
