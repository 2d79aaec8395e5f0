"""The network: against numpy, and by the laws it must obey whatever its weights are."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from toys import NETWORK, network, quick_jit, random_params

from mdlm_jax.evaluation.estimate import count_parameters, flops_per_token
from mdlm_jax.model import RMSNorm, Transformer, bf16_product, dropout, ffn_width, rope, rope_tables

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 16, (2, 12))
SEGMENTS = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
replace = dataclasses.replace


def numpy_norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def numpy_rotate(x: np.ndarray) -> np.ndarray:
    """RoPE on [L, H, C] by complex multiplication: pair (i, i + C/2) is one complex number."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * 10_000.0 ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
    return np.concatenate([z.real, z.imag], -1)


def numpy_forward(model: Transformer, tokens: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Hidden states of one row [L], written from the papers in float64."""
    c, p = model.config, jax.tree.map(np.float64, nnx.to_pure_dict(nnx.state(model)))
    blocks, embedding, length = p["blocks"], p["embed"]["embedding"], len(tokens)
    x = embedding[tokens] * np.sqrt(c.d_model)
    allowed = segments[:, None] == segments[None]
    if c.causal:
        allowed &= np.tri(length, dtype=bool)
    for s in range(c.num_layers):
        y = numpy_norm(x, blocks["attention_norm"]["scale"][s]) @ blocks["qkv"][s]
        q, k, v = (z.reshape(length, c.num_heads, -1) for z in np.split(y, 3, -1))
        if c.qk_norm:
            q, k = (numpy_norm(z, blocks[n]["scale"][s]) for z, n in ((q, "q_norm"), (k, "k_norm")))
        scores = np.einsum("qhc,khc->hqk", numpy_rotate(q), numpy_rotate(k)) / np.sqrt(q.shape[-1])
        weight = np.where(allowed, np.exp(scores - scores.max()), 0)
        weight /= weight.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khc->qhc", weight, v).reshape(length, -1) @ blocks["out"][s]
        gate, up = np.split(numpy_norm(x, blocks["mlp_norm"]["scale"][s]) @ blocks["gate_up"][s], 2, -1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ blocks["down"][s]
    return numpy_norm(x, p["final_norm"]["scale"])


@pytest.mark.parametrize(("causal", "qk_norm"), [(False, True), (True, False)])
def test_the_network_equals_numpy(causal: bool, qk_norm: bool):
    model = network(replace(NETWORK, causal=causal, qk_norm=qk_norm))
    hidden = quick_jit(lambda: model(TOKENS, SEGMENTS))()
    golden = np.stack([numpy_forward(model, *row) for row in zip(TOKENS, SEGMENTS, strict=True)])
    np.testing.assert_allclose(hidden, golden, atol=1e-4)
    embedding = np.float64(model.embed.embedding[...])
    np.testing.assert_allclose(model.logits(hidden[0]), golden[0] @ embedding.T, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_bf16_products_stay_close_to_float32(causal: bool):
    """Whatever the mask; nothing but the products is rounded."""
    exactly = replace(NETWORK, causal=causal)
    config = replace(exactly, bf16_products=True)
    both = quick_jit(lambda: [[network(c)(TOKENS, s) for c in (exactly, config)] for s in (SEGMENTS, None)])()
    for exact, rounded in both:
        assert rounded.dtype == jnp.float32
        error = np.abs(exact - rounded).max()
        assert 1e-5 < error < 0.1, error  # rounded at all, and no worse than bfloat16's 2^-8 a product


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("shape", [(64, 8, 4), (2, 3, 33, 8, 4), (1, 2, 96, 16, 1)])
def test_bf16_products_have_the_derivative_of_their_rounding(shape: tuple[int, ...], axis: int):
    """Against autodiff of the same rounding done in float32, straight through; cotangents representable."""

    def rounded(x: jax.Array) -> jax.Array:
        return x + jax.lax.stop_gradient(x.astype(jnp.bfloat16).astype(jnp.float32) - x)

    *batch, n, i, o = shape
    other = (i, o) if axis == -2 else (o, i)
    a, b = (jnp.asarray(RNG.normal(size=(*batch, *s)), jnp.float32) for s in ((n, i), other))
    g = jnp.asarray(RNG.integers(-4, 5, (*batch, n, o)), jnp.float32)
    equation = "...ni,...io->...no" if axis == -2 else "...ni,...oi->...no"
    value, pull = jax.vjp(lambda a, b: bf16_product(a, b, axis), a, b)
    reference, pull_reference = jax.vjp(lambda a, b: jnp.einsum(equation, rounded(a), rounded(b)), a, b)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(pull(g), pull_reference(g), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_rope_table_by_hand():
    cos, sin = rope_tables(7, 8)
    angle = [[p / 10_000 ** (2 * i / 8) for i in range(4)] for p in range(7)]
    np.testing.assert_allclose(cos, np.cos(angle), atol=1e-6)
    np.testing.assert_allclose(sin, np.sin(angle), atol=1e-6)


def test_rope_scores_depend_on_differences_only():
    q, k = RNG.normal(size=(2, 8))
    table = [jnp.asarray(t) for t in rope_tables(64, 8)]

    def turned(x: np.ndarray) -> np.ndarray:
        return np.asarray(rope(jnp.broadcast_to(jnp.float32(x), (1, 64, 1, 8)), *table))[0, :, 0]

    scores = turned(q) @ turned(k).T
    for shift in range(-63, 64):
        diagonal = np.diagonal(scores, shift)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    assert np.ptp(scores) > 0.5
    np.testing.assert_allclose(np.linalg.norm(turned(q), axis=-1), np.linalg.norm(q), rtol=1e-5)


def test_a_segment_may_stand_anywhere_in_its_row():
    """RoPE shift invariance of the whole network, and at the same time isolation of segments."""
    model, segment = network(NETWORK), RNG.integers(0, 16, 4)
    rows, numbers = RNG.integers(0, 16, (9, 12)), np.zeros((9, 12), np.int32)
    for i in range(9):
        rows[i, i : i + 4] = segment
        numbers[i, :i], numbers[i, i : i + 4], numbers[i, i + 4 :] = 1, 2, 3
    hidden = np.asarray(quick_jit(model)(rows, numbers))
    for i in range(9):
        np.testing.assert_allclose(hidden[i, i : i + 4], hidden[0, :4], atol=2e-5)


@pytest.mark.parametrize(
    ("causal", "segmented"), list(itertools.product((False, True), repeat=2)), ids=lambda x: str(x)
)
def test_who_depends_on_whom(causal: bool, segmented: bool):
    """d hidden[p] / d input[q] is exactly zero where p may not see q, and not where it may."""
    config = replace(NETWORK, causal=causal)
    segments = SEGMENTS[:1] if segmented else None
    graphdef, state = nnx.split(network(config))
    tokens = np.arange(12)[None]  # every position reads its own row of the embedding
    direction = jnp.asarray(RNG.normal(size=16), jnp.float32)

    def outputs(embedding: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        model.embed.embedding = nnx.Param(embedding)
        return model(tokens, segments)[0] @ direction

    jacobian = np.asarray(quick_jit(jax.jacrev(outputs))(state["embed"]["embedding"][...]))[:, :12]
    seen = np.ones((12, 12), bool)
    if causal:
        seen &= np.tri(12, dtype=bool)
    if segmented:
        seen &= SEGMENTS[0][:, None] == SEGMENTS[0][None]
    np.testing.assert_array_equal(np.abs(jacobian).max(-1) > 0, seen)


def test_layer_loops_and_remat_agree():
    """Value and gradient, dropout on: how layers run and what is kept changes nothing but time and memory."""
    base, key = replace(NETWORK, dropout=0.25), jax.random.key(3)
    params, direction = random_params(base), jnp.asarray(RNG.normal(size=(2, 12, 16)), jnp.float32)

    def value_of(layers: str, remat: str) -> Callable:
        config = replace(base, layers=layers, remat=remat)
        graphdef = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]
        return lambda params: jnp.sum(nnx.merge(graphdef, params)(TOKENS, SEGMENTS, key) * direction)

    def residuals(value: Callable, params: nnx.State) -> Callable:
        return jax.vjp(value, params)[1]

    kinds = [("scan", "none"), ("scan", "full"), ("unroll", "dots")]
    loss, grads = quick_jit(jax.value_and_grad(value_of(*kinds[0])))(params)
    for kind in kinds[1:]:
        other_loss, other_grads = quick_jit(jax.value_and_grad(value_of(*kind)))(params)
        np.testing.assert_allclose(loss, other_loss, rtol=1e-4, err_msg=str(kind))
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(other_grads), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=str(kind))
    for layers in ("scan", "unroll"):
        kept = []
        for remat in ("none", "dots", "full"):
            pull = jax.eval_shape(functools.partial(residuals, value_of(layers, remat)), params)
            kept.append(sum(x.size for x in jax.tree.leaves(pull)))
        assert kept == sorted(set(kept), reverse=True), kept  # each keeps less for the backward pass


def test_rms_norm_by_hand():
    norm = RMSNorm(4)
    norm.scale = nnx.Param(jnp.array([1.0, 2.0, 3.0, 4.0]))
    x = jnp.array([[1.0, -1.0, 1.0, -1.0], [0.0, 2.0, 0.0, 0.0]])
    np.testing.assert_allclose(norm(x), [[1, -2, 3, -4], [0, 4, 0, 0]], rtol=1e-5)
    assert norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@given(st.integers(1, 5000))
def test_ffn_width(d: int):
    f = ffn_width(d)
    assert f % 64 == 0 and 8 * d <= 3 * f < 8 * d + 3 * 64  # the least multiple of 64 at or above 8d/3


@pytest.mark.parametrize(
    ("layers", "d", "heads", "rows", "qk_norm"),
    [(1, 8, 2, 5, False), (3, 24, 3, 64, True), (2, 96, 4, 11, True)],
)
def test_count_parameters(layers: int, d: int, heads: int, rows: int, qk_norm: bool):
    config = replace(NETWORK, num_layers=layers, d_model=d, num_heads=heads, vocab_rows=rows, qk_norm=qk_norm)
    counts, f = count_parameters(config), ffn_width(d)
    leaves = jax.tree_util.tree_leaves_with_path(random_params(config))
    assert counts["true"] == sum(leaf.size for _, leaf in leaves)
    norms = sum(leaf.size for path, leaf in leaves if "norm" in jax.tree_util.keystr(path))
    assert counts["norms"] == norms
    assert counts["embedding"] == rows * d
    assert counts["matrices"] == counts["true"] - norms - rows * d
    assert counts["specification"] == 4 * layers * d**2 + 3 * layers * d * f + 6 * layers * d + rows * d


def test_flops_per_token_by_hand():
    """6 per weight that a token meets, 12 S D L for attention, half of that where causal."""
    counts, causal = count_parameters(NETWORK), replace(NETWORK, causal=True)
    attention = 12 * 2 * 16 * 12
    assert flops_per_token(NETWORK, 0.5) == 6 * (counts["matrices"] + 0.5 * 256) + attention
    assert flops_per_token(NETWORK, 1.0) - flops_per_token(causal, 1.0) == attention / 2


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(rate: float):
    n, share = 200_000, round(rate * 256) / 256
    x = jnp.full(n, 3.0)
    y = np.asarray(dropout(x, rate, jax.random.key(0)))
    assert abs(np.mean(y == 0) - share) < 4.5 * np.sqrt(share / n)
    np.testing.assert_allclose(np.unique(y), [0, 3 / (1 - share)], rtol=1e-6)  # hence the mean is kept
    assert np.array_equal(dropout(x, rate, None), x)


def test_without_a_key_dropout_is_off_and_with_one_it_is_drawn_from_it():
    model, plain = network(replace(NETWORK, dropout=0.5)), network(NETWORK)
    off, without = quick_jit(lambda: (model(TOKENS), plain(TOKENS)))()
    np.testing.assert_array_equal(off, without)
    keys = jax.random.wrap_key_data(np.array([[0, 1], [0, 1], [0, 2]], np.uint32))
    first, again, other = np.asarray(quick_jit(jax.vmap(lambda key: model(TOKENS, None, key)))(keys))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1 and np.abs(first - off).max() > 0.1


def test_layers_drop_independently():
    """Under one key every layer has its own mask: what a layer alone adds is zero where it was dropped."""
    config = replace(NETWORK, dropout=0.5)

    def hidden(on: jax.Array) -> jax.Array:
        model = network(config)
        model.final_norm = lambda x: x
        model.blocks.out = nnx.Param(jnp.zeros_like(model.blocks.out[...]))
        model.blocks.down = nnx.Param(model.blocks.down[...] * on[:, None, None])
        return model(TOKENS, None, jax.random.key(0))

    none, *alone = np.asarray(quick_jit(jax.vmap(hidden))(jnp.array([[0.0, 0], [1, 0], [0, 1]])))
    first, second = (hidden == none for hidden in alone)
    for dropped in (first, second):
        assert 0.4 < dropped.mean() < 0.6
    assert 0.4 < (first == second).mean() < 0.6


def test_at_the_start_every_block_is_the_identity():
    """And what enters the first block has unit variance: the embedding is scaled by the square root of d."""
    config = replace(NETWORK, num_layers=1, d_model=64, vocab_rows=512)
    graphdef = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]
    params = quick_jit(lambda: nnx.state(Transformer(config, nnx.Rngs(0)), nnx.Param))()
    model = nnx.merge(graphdef, params)
    tokens = np.arange(12)[None]
    x = np.float64(model.embed.embedding[...])[tokens] * 8
    assert 0.9 < x.std() < 1.1
    np.testing.assert_allclose(quick_jit(model)(tokens), numpy_norm(x, np.ones(64)), atol=1e-5)


def test_a_row_longer_than_the_table_is_refused():
    model = network(NETWORK)
    with pytest.raises(ValueError, match=r"13 positions.*seq_len=12"):
        model(np.zeros((1, 13), np.int32))
    assert jax.eval_shape(model, np.zeros((1, 3), np.int32)).shape == (1, 3, 16)
