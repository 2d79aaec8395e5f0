"""Masked diffusion language models on a single book, in JAX and Flax nnx."""

__version__ = "0.1.0"
