"""Critical compute: the FLOPs with which masked diffusion is said to draw level with its causal twin. No jax.

Prabhudesai et al. 2025, "Diffusion beats autoregressive in data-constrained settings".
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

FITTED = (25e6, 100e6)  # unique tokens of the corpora that the law was fitted on


class Spent(NamedTuple):
    """What one stage takes, or took."""

    name: str
    steps: int
    epochs: float
    flops: float


def critical_compute(tokens: float) -> float:
    """Ccrit in FLOPs for a corpus of `tokens` unique tokens, 2.12e15 * (tokens / 1e6) ** 2.174.

    For a single book, below FITTED, it is an extrapolation, and must be printed as one.
    """
    return 2.12e15 * (tokens / 1e6) ** 2.174


def against_critical(tokens: int, stages: Sequence[Spent]) -> dict[str, Any]:
    """The stages' FLOPs against Ccrit of `tokens` unique training tokens, for report.json.

    `passed` is the first step after which Ccrit FLOPs are spent: the name of its stage, the stage's number
    (from 1), the step and the epoch in it; None where all stages together spend less.
    """
    critical, before, passed = critical_compute(tokens), 0.0, None
    for number, stage in enumerate(stages, 1):
        if passed is None and stage.flops and before + stage.flops >= critical:
            step = max(1, math.ceil(stage.steps * (critical - before) / stage.flops))
            epoch = max(1, math.ceil(stage.epochs * step / stage.steps))
            passed = {"stage": number, "name": stage.name, "step": step, "epoch": epoch}
        before += stage.flops
    return {
        "unique_tokens": tokens,
        "flops": critical,
        "ratio": before / critical,
        "passed": passed,
        "extrapolated": not FITTED[0] <= tokens <= FITTED[1],
    }


def in_words(found: dict[str, Any]) -> str:
    """What `against_critical` says, in words."""
    law = f"{found['flops']:.2e} for {found['unique_tokens'] / 1e6:.3f}M unique tokens"
    if found["extrapolated"]:
        law += "; an extrapolation, fitted on 25M to 100M"
    where = "not passed"
    if passed := found["passed"]:
        where = "passed at step {step:,} of stage {stage}, {name} (epoch {epoch})".format(**passed)
    return f"{found['ratio']:.3g} times Ccrit ({law}): {where}"
