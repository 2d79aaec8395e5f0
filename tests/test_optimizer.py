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

from mdlm_jax.optimizer import clip, labels, make_optimizer, schedule

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
    st.sampled_from(["cosine", "restarts", "wsd", "constant"]),
    st.integers(0, 2000),
    st.integers(1, 3000),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.3, 1.5]),
    st.integers(1, 5),
)
def test_schedules_by_formula(kind: str, warmup: int, steps: int, final: float, begin: float, cycles: int):
    """Up to the peak within a tenth of the stage, then the named shape, ending at final_rate of the peak."""
    config = replace(OPTIMIZER, schedule=kind, warmup_steps=warmup, final_rate=final, restarts=cycles)
    rate = schedule(config, 2.0, steps, begin)
    up = max(1, min(warmup, steps // 10))
    rest = max(1, steps - up)
    fall = max(1, rest // 5)
    for i in sorted({0, up // 2, up - 1, up, up + rest // 3, up + rest - fall, up + rest - fall // 2, steps}):
        done = min(1.0, max(0, i - up) / rest)
        body = {
            "cosine": final + (1 - final) * (1 + np.cos(np.pi * done)) / 2,
            "restarts": final
            + (1 - final) * (1 + np.cos(np.pi * (done * cycles % 1 if done < 1 else 1))) / 2,
            "wsd": 1 - (1 - final) * min(1.0, max(0, i - up - rest + fall) / fall),
            "constant": 1.0,
        }[kind]
        first = begin or 1 / up
        expected = 2.0 * (first + (1 - first) * i / max(1, up - 1) if i < up else body)
        if kind == "restarts" and abs(done * cycles - round(done * cycles)) < 1e-4 and 0 < done < 1:
            continue  # float32 may be on either side of a restart
        np.testing.assert_allclose(rate(i), expected, rtol=1e-3, atol=1e-5, err_msg=f"step {i}")


def test_warm_restarts_go_back_to_the_peak():
    config = replace(OPTIMIZER, schedule="restarts", warmup_steps=0, final_rate=0.1, restarts=3)
    rates = np.array([schedule(config, 1.0, 91)(i) for i in range(91)])[1:]
    peaks = np.flatnonzero(rates > 0.999)
    assert peaks.tolist() == [0, 30, 60] and rates.min() < 0.11 and rates[-1] < 0.11
    assert (np.diff(rates) < 0).sum() == 87  # down everywhere else


@pytest.mark.parametrize("kind", ["global", "adaptive"])
def test_clipping_and_what_it_reports(kind: str):
    """Against numpy, over 60 norms with outliers; adaptive clipping follows the scale of the run."""
    config = replace(OPTIMIZER, clip=kind, clip_norm=1.0)
    step, state, mean = quick_jit(clip(config).update), clip(config).init(PARAMS), 0.0
    norms = RNG.lognormal(1.0, 0.2, 60)
    norms[[5, 40, 55]] = 0.1, 100.0, 1e4
    for i, norm in enumerate(norms):
        direction = RNG.normal(size=(2, 3, 4))  # stacked matrices: one norm over all of them
        grads = {"w": jnp.float32(norm * direction / np.linalg.norm(direction))}
        clipped, state = step(grads, state)
        limit = 1.0 if kind == "global" or i < 20 else 2 * mean
        expected = np.float64(grads["w"]) * min(1.0, limit / norm)
        np.testing.assert_allclose(clipped["w"], expected, rtol=1e-4)
        assert float(state["clipped"]) == (norm >= limit)
        counted = norm if i < 20 else min(norm, 2 * mean)
        mean += (1 - min(0.98, i / (i + 1))) * (counted - mean)
    assert 2 < mean < 4
    assert float(state["clipped"]) == (kind == "global")
