"""The transformer: RoPE, RMSNorm, SwiGLU, tied embeddings; bidirectional, or causal for the twin.

Shapes: B rows, L positions, D model width, H heads, F = ceil(8D/3/64)*64, V vocabulary rows, M gathered
positions, S stacked layers. Layers are built by `nnx.vmap`, so every weight of a layer has a leading S.
The network is not told the mask rate: a bidirectional model can count the masks (MDLM, Sahoo et al. 2024).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdlm_jax.configuration import ModelConfig


def ffn_width(d_model: int) -> int:
    """The SwiGLU width, ceil(8*d/3/64)*64: two thirds of 4d, rounded up to a multiple of 64."""
    return math.ceil(8 * d_model / 3 / 64) * 64


@functools.lru_cache(maxsize=8)
def rope_tables(length: int, head_dim: int, base: float = 10_000.0) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine tables, float32 [length, head_dim/2] (RoFormer, Su et al. 2021, eq. 15)."""
    angle = np.outer(np.arange(length), base ** (-np.arange(0, head_dim, 2) / head_dim))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates x [B, L, H, C] by its position; cos, sin [L, C/2]. Pairs are (i, i + C/2)."""
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout with one random byte an element: the rate is rounded to 1/256, the scale is exact."""
    dropped = round(rate * 256)
    if key is None or dropped == 0:
        return x
    keep = jax.random.bits(key, x.shape, jnp.uint8) >= dropped
    return jnp.where(keep, x * (256 / (256 - dropped)), 0).astype(x.dtype)


def _turned(x: jax.Array) -> jax.Array:
    """x [..., N, I] as [..., I, N], moved in blocks: a plain transpose makes XLA multiply in float32."""
    *batch, n, i = x.shape
    return jnp.moveaxis(x.reshape(*batch, -1, math.gcd(n, 32), i), -1, -3).reshape(*batch, i, n)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def bf16_product(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    """a [..., N, I] against `axis` of b: [..., I, O] (-2) or [..., O, I] (-1); in bfloat16, float32 sums.

    So are its derivatives, each in one of these two orders: the only ones that XLA's CPU back end multiplies
    in bfloat16, at twice its float32 rate where there is AVX512-BF16.
    """
    dimensions = (((a.ndim - 1,), (b.ndim + axis,)), (tuple(range(a.ndim - 2)),) * 2)
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _pull(axis: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    (a, b), g = saved, g.astype(jnp.bfloat16)
    few = a.shape[-1] <= g.shape[-1]  # the narrower of the two is turned
    db = bf16_product(_turned(a), g, -2) if few else bf16_product(_turned(g), a, -2)
    return bf16_product(g, b, -3 - axis), db if few == (axis == -2) else _turned(db)


bf16_product.defvjp(lambda *x: (bf16_product(*x), [z.astype(jnp.bfloat16) for z in x[:2]]), _pull)


def dot(x: jax.Array, w: jax.Array, bf16_products: bool) -> jax.Array:
    """x [..., I] @ w [I, O]; under `bf16_products` rounded, while weights and activations stay float32."""
    if not bf16_products:
        return x @ w
    return bf16_product(x.reshape(-1, x.shape[-1]), w, -2).reshape(*x.shape[:-1], w.shape[-1])


def dots(x: jax.Array, w: jax.Array, n: int, bf16_products: bool) -> list[jax.Array]:
    """x @ w in n parts of its columns: apart under `bf16_products`, where joining gradients is slow."""
    if not bf16_products:
        return jnp.split(x @ w, n, axis=-1)
    return [dot(x, part, True) for part in jnp.split(w, n, axis=1)]


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation without bias (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-6)
        return (y * self.scale[...]).astype(x.dtype)


def _matrix(rngs: nnx.Rngs, rows: int, columns: int, scale: float = 1.0) -> nnx.Param:
    return nnx.Param(jax.random.normal(rngs.params(), (rows, columns)) * (scale * rows**-0.5))


class Block(nnx.Module):
    """Pre-norm attention and SwiGLU (Shazeer 2020). Output matrices start at zero: at first x -> x."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        d, f = config.d_model, ffn_width(config.d_model)
        self.config = config
        self.attention_norm = RMSNorm(d)
        self.qkv = _matrix(rngs, d, 3 * d)
        self.out = _matrix(rngs, d, d, scale=0.0)
        self.mlp_norm = RMSNorm(d)
        self.gate_up = _matrix(rngs, d, 2 * f)
        self.down = _matrix(rngs, f, d, scale=0.0)
        if config.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(d // config.num_heads), RMSNorm(d // config.num_heads)

    def __call__(
        self, x: jax.Array, mask: jax.Array | None, cos: jax.Array, sin: jax.Array, key: jax.Array | None,
        cache: tuple | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:  # fmt: skip
        """x [B, N, D]; mask bool [B, 1, N, L] or None (bf16_products: a bias). Returns x, (keys, values).

        `cache`: keys and values [B, L, H, C] among which those of x are put, and the position of the first.
        """
        c = self.config
        keys = (None, None) if key is None else jax.random.split(key)
        qkv = dots(self.attention_norm(x), self.qkv[...], 3, c.bf16_products)
        q, k, v = (z.reshape(*x.shape[:2], c.num_heads, -1) for z in qkv)
        if c.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        if cache is not None:
            put = jax.lax.dynamic_update_slice_in_dim
            k, v = (put(old, new, cache[2], 1) for old, new in zip(cache, (k, v), strict=False))
        # The scale stays 1/sqrt(head_dim) under QK-norm too (jax's default): others stall on the unigram.
        if c.bf16_products:
            q, k_heads, v_heads = (z.swapaxes(1, 2) for z in (q * q.shape[-1] ** -0.5, k, v))
            weights = jax.nn.softmax(bf16_product(q, k_heads, -1) + (0.0 if mask is None else mask))
            attended = bf16_product(weights, v_heads, -2).swapaxes(1, 2)
        else:
            narrow = x.dtype != jnp.float16 or jax.default_backend() == "gpu"  # no other takes it in float16
            qw, kw, vw = (z.astype(x.dtype if narrow else jnp.float32) for z in (q, k, v))
            attended = jax.nn.dot_product_attention(
                qw, kw, vw, mask=mask, is_causal=c.causal and cache is None
            )
            attended = attended.astype(x.dtype)
        out = dot(attended.reshape(x.shape), self.out[...], c.bf16_products)
        x = x + dropout(out, c.dropout, keys[0])
        gate, up = dots(self.mlp_norm(x), self.gate_up[...], 2, c.bf16_products)
        down = dot(jax.nn.silu(gate) * up, self.down[...], c.bf16_products)
        return x + dropout(down, c.dropout, keys[1]), (k, v)


class Transformer(nnx.Module):
    """Token ids to hidden states, and hidden states to logits by the same (tied) embedding.

    The two halves are apart so that only the positions that are scored or sampled meet the vocabulary.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        d = config.d_model
        normal = nnx.initializers.normal(d**-0.5)
        self.embed = nnx.Embed(config.vocab_rows, d, embedding_init=normal, rngs=rngs)

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def build(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs)

        self.blocks = build(rngs)
        self.final_norm = RMSNorm(d)

    def __call__(
        self, tokens: jax.Array, segments: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """tokens int [B, L]; segments int [B, L] (attention stays within a segment; 0 is padding) or None.

        Returns hidden states [B, L, D] after the final norm. `key` turns dropout on.
        Raises ValueError when L exceeds the RoPE table (`config.seq_len`).
        """
        mask = None if segments is None else (segments[:, None, :, None] == segments[:, None, None, :])
        return self.extend(tokens, mask, key=key, keep=False)[0]

    def extend(
        self, tokens: jax.Array, mask: jax.Array | None, cache: Any = None, start: jax.Array | int = 0,
        key: jax.Array | None = None, keep: bool = True,
    ) -> tuple[jax.Array, Any]:  # fmt: skip
        """tokens int [B, N] at the positions from `start` of a window of L; mask bool [B, 1, N, L].

        Without `cache` N is L. With that of an earlier call only these positions are computed again; what
        they attend to elsewhere is as it was then. Returns hidden states [B, N, D] and the new cache.
        """
        c, length = self.config, tokens.shape[1]
        if length > c.seq_len:
            raise ValueError(f"{length} positions, but the model was built for seq_len={c.seq_len}")
        tables = rope_tables(c.seq_len, c.d_model // c.num_heads)
        cos, sin = (jax.lax.dynamic_slice_in_dim(jnp.asarray(t), start, length) for t in tables)
        x = self.embed.embedding[...][tokens] * c.d_model**0.5  # nnx.Embed would promote bf16 to float32
        if key is not None:
            key, embed_key = jax.random.split(key)
            x = dropout(x, c.dropout, embed_key)
        if c.bf16_products:  # the mask as a bias, once for all layers
            seen = jnp.tri(length, dtype=bool) if c.causal and cache is None else jnp.ones((1, 1), bool)
            mask = jnp.where(seen if mask is None else seen & mask, 0.0, -1e30)
        graphdef, stacked = nnx.split(self.blocks)
        layer_keys = None if key is None else jax.random.split(key, c.num_layers)

        def body(x: jax.Array, layer: tuple) -> tuple[jax.Array, Any]:
            state, layer_key, old = layer
            before = None if old is None else (*old, start)
            x, new = nnx.merge(graphdef, state)(x, mask, cos, sin, layer_key, before)
            return x, new if keep else None

        if c.remat != "none":
            policy = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}[c.remat]
            body = jax.checkpoint(body, prevent_cse=c.layers != "scan", policy=policy)
        if c.layers == "scan":
            x, cache = jax.lax.scan(body, x, (stacked, layer_keys, cache))
            return self.final_norm(x), cache
        # lax.split, because its transpose is one concatenation; indexing would add S padded arrays.
        leaves, tree = jax.tree.flatten((stacked, layer_keys))
        columns = [[p[0] for p in jax.lax.split(leaf, [1] * c.num_layers)] for leaf in leaves]
        kept = []  # apart, not stacked, so that a loop can write into them in place
        for i, layer in enumerate(zip(*columns, strict=True)):
            x, new = body(x, (*jax.tree.unflatten(tree, layer), cache[i] if cache else None))
            kept.append(new)
        return self.final_norm(x), kept

    def logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [M, D] -> float32 logits [M, V] over the tied embedding."""
        table = self.embed.embedding[...]
        if self.config.bf16_products:
            return bf16_product(hidden, table, -1)
        return jax.lax.dot(hidden, table.T, preferred_element_type=jnp.float32)
