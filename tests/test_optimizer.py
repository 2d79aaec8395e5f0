"""Optimizer groups, their rules and schedules: against numpy, and by what orthogonalisation must give."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import NETWORK, OPTIMIZER, quick_jit, random_params

from mdlm_jax.optimizer import labels, make_optimizer, schedule

RNG = np.random.default_rng(0)
PARAMS = random_params(NETWORK)
replace = dataclasses.replace


def by_name(tree: object) -> dict[str, object]:
    """Leaves by the name of their parameter: blocks.qkv."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(str(getattr(k, "key", "")) for k in path).strip("."): x for path, x in leaves}


def first_update(config, grads, steps: int = 1, **kwargs) -> dict[str, np.ndarray]:
    """The update by name; at the peak rate, because one step leaves no warm-up."""
    optimizer = make_optimizer(config, steps, **kwargs)
    updates, _ = quick_jit(lambda g: optimizer.update(g, optimizer.init(PARAMS), PARAMS))(grads)
    return {name: np.float64(x) for name, x in by_name(updates).items()}


def test_labels_by_path():
    """Stacked norm scales have two axes and are norms all the same."""
    found = by_name(labels(PARAMS))
    norms = {"attention_norm.scale", "mlp_norm.scale", "q_norm.scale", "k_norm.scale"}
    matrices = {"qkv", "out", "gate_up", "down"}
    assert found == (
        {f"blocks.{n}": "norms" for n in norms}
        | {f"blocks.{n}": "matrices" for n in matrices}
        | {"final_norm.scale": "norms", "embed.embedding": "embeddings"}
    )
    assert by_name(PARAMS)["blocks.attention_norm.scale"].ndim == 2


def test_muon_orthogonalises_matrices_layer_by_layer_and_leaves_the_rest_to_adam():
    config = replace(
        OPTIMIZER, name="muon", learning_rate=0.1, embedding_rate=0.02, norm_rate=0.03, clip_norm=1e9
    )

    # The second layer's gradient is far larger: orthogonalised together, the first layer's would vanish.
    def gradient_of(path: tuple, x: jax.Array) -> jax.Array:
        layers = np.array([1.0, 1000.0]) if "blocks" in str(path[0]) else np.ones(1)
        return jnp.float32(RNG.normal(size=x.shape) * layers.reshape(-1, *[1] * (x.ndim - 1)))

    grads = jax.tree_util.tree_map_with_path(gradient_of, PARAMS)
    updates, gradient = first_update(config, grads), by_name(grads)
    for name in ("qkv", "out", "gate_up", "down"):
        for update, g in zip(updates[f"blocks.{name}"], gradient[f"blocks.{name}"], strict=True):
            values = np.linalg.svd(update, compute_uv=False)
            assert values.max() / values.min() < 2.0, (name, values)  # five Newton-Schulz steps: 0.7 to 1.2
            rms = np.sqrt((update**2).mean())
            assert 0.8 * 0.2 * 0.1 < rms < 1.2 * 0.2 * 0.1, (name, rms)
            u, _, v = np.linalg.svd(np.float64(g), full_matrices=False)
            direction = -(u @ v) / np.linalg.norm(u @ v)
            assert np.sum(direction * update) / np.linalg.norm(update) > 0.95, name
    for name, rate in (("embed.embedding", 0.02), ("final_norm.scale", 0.03), ("blocks.q_norm.scale", 0.03)):
        np.testing.assert_allclose(updates[name], -rate * np.sign(gradient[name]), rtol=1e-2)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_decay(name: str):
    """Without a gradient, matrices shrink by rate times decay, and nothing else moves."""
    config = replace(OPTIMIZER, name=name, weight_decay=0.1, learning_rate=0.5)
    updates = first_update(config, jax.tree.map(jnp.zeros_like, PARAMS), rate_scale=0.5)
    for leaf, update in updates.items():
        matrix = leaf in {"blocks.qkv", "blocks.out", "blocks.gate_up", "blocks.down"}
        expected = -0.5 * 0.5 * 0.1 * np.asarray(by_name(PARAMS)[leaf]) if matrix else 0
        np.testing.assert_allclose(update, expected, atol=1e-7)


def test_adamw_and_clipping_against_numpy():
    """Six steps of one global-norm clip and three groups, each with its own rate and decay."""
    config = replace(OPTIMIZER, learning_rate=0.1, embedding_rate=0.2, norm_rate=0.3, weight_decay=0.01)
    optimizer = make_optimizer(config, 6)
    params = {n: RNG.normal(size=s) for n, s in {"w": (2, 3), "embed": (4,), "norm": (2, 2)}.items()}
    rates, decay = {"w": 0.1, "embed": 0.2, "norm": 0.3}, {"w": 0.01, "embed": 0, "norm": 0}
    ours = jax.tree.map(jnp.float32, params)
    state = optimizer.init(ours)
    update = quick_jit(optimizer.update)
    m, v = ({n: np.zeros_like(x) for n, x in params.items()} for _ in range(2))
    for t in range(1, 7):
        grads = {n: RNG.normal(size=x.shape) * 10.0 ** (3 - t) for n, x in params.items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        assert (norm > 1) == (t <= 3)  # clipped at first, not at the end
        updates, state = update(jax.tree.map(jnp.float32, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        for n, g in grads.items():
            g = g / max(1.0, norm)
            m[n], v[n] = 0.9 * m[n] + 0.1 * g, 0.98 * v[n] + 0.02 * g**2
            step = m[n] / (1 - 0.9**t) / (np.sqrt(v[n] / (1 - 0.98**t)) + 1e-8)
            params[n] = params[n] - rates[n] * (step + decay[n] * params[n])
    for n in params:
        np.testing.assert_allclose(ours[n], params[n], rtol=1e-4, atol=1e-5)


@given(
    st.sampled_from(["cosine", "wsd", "constant"]),
    st.integers(0, 2000),
    st.integers(1, 3000),
    st.floats(0, 1),
)
def test_schedules_by_formula(kind: str, warmup: int, steps: int, final: float):
    """Up to the peak within a tenth of the stage, then the named shape, ending at final_rate of the peak."""
    rate = schedule(replace(OPTIMIZER, schedule=kind, warmup_steps=warmup, final_rate=final), 2.0, steps)
    up = max(1, min(warmup, steps // 10))
    rest = max(1, steps - up)
    fall = max(1, rest // 5)
    for i in sorted({0, up // 2, up - 1, up, up + rest // 3, up + rest - fall, up + rest - fall // 2, steps}):
        done = min(1.0, max(0, i - up) / rest)
        body = {
            "cosine": final + (1 - final) * (1 + np.cos(np.pi * done)) / 2,
            "wsd": 1 - (1 - final) * min(1.0, max(0, i - up - rest + fall) / fall),
            "constant": 1.0,
        }[kind]
        expected = 2.0 * ((i + 1) / up if i < up else body)
        np.testing.assert_allclose(rate(i), expected, rtol=1e-4, atol=1e-6, err_msg=f"step {i}")
