"""What the key/value cache of block-by-block writing changes: logits and bound, on held-out text.

    python benchmarks/cache.py [--workdir R] [--windows 64] [--quick]

Windows of the validation split. A block of b tokens, at the window's end or in its middle, is partly masked;
the keys and values of the text around it were read when all of the block was masked (the cache), or are
computed now (exact). Differences of log-probabilities over the tokens that may be written, KL(exact || cached)
per masked token, the share of masked places whose likeliest token is another, and nats per token of the book's
own text, cached less exact, ± the standard error over windows. "all" is the block's bound: the mean over the
number of masks, 16 strata of it. With nothing written the two are the same computation: what differs is rounding.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np
from sampling import book, trained

from mdlm_jax import generation
from mdlm_jax.run_directory import Trained

SHARES = (0.0, 0.25, 0.5, 0.75, 0.95)  # of the block that are written already
STRATA = 16
ROUNDING = 0.1  # nats; of float32 sums and, where the run has them, bfloat16 products in another order


def masks(rng: np.random.Generator, block: int) -> np.ndarray:
    """bool [len(SHARES) + STRATA, block]: what is masked, for each share and for each stratum of the bound."""
    counts = [max(1, block - round(share * block)) for share in SHARES]
    counts += [int(np.ceil(block * (j + rng.uniform()) / STRATA)) for j in range(STRATA)]
    return np.array([rng.permutation(block) < max(1, k) for k in counts])


def differences(run: Trained, text: np.ndarray, masked: np.ndarray, first: int) -> np.ndarray:
    """float [R, 5]: mean and max absolute difference, KL, another likeliest token, nats exact, nats cached, of
    one window, int [L - 1], whose block at `first` is masked as masked [R, block] says; means of masked places.
    """
    special, model = run.dataset.special_ids, run.config.model
    (rows, block), length = masked.shape, model.seq_len
    window = np.tile(np.array([special["eos"], *text], np.int32), (rows, 1))
    inside = slice(1 + first, 1 + first + block)
    unread = window[:1].copy()
    unread[:, inside] = special["mask"]
    given = np.where(masked, special["mask"], window[:, inside])
    window[:, inside] = given
    used, start = np.int32(length), np.int32(1 + first)
    memory = generation._read(model, run.compute_params, unread, used)
    memory = jax.tree.map(lambda x: jnp.repeat(x, rows, axis=0), memory)
    index = (np.arange(rows)[:, None] * length + np.arange(length)[inside]).reshape(-1)
    context: Any = run.compute_params, run.forbidden, used
    return _compare(
        *(
            run.config.model,
            context,
            memory,
            window,
            start,
            index,
            masked,
            np.asarray(text[first : first + block]),
        )
    )
