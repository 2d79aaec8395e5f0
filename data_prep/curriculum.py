"""Which sentences and pairs each stage gets, by percentile filters that relax when a stage would be short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_prep.config import SPLITS, PrepConfig, PrepError
from data_prep.difficulty import percentiles
from data_prep.pairs import Pair
from data_prep.segment import Sentence

RELAXATION_STEP = 15.0  # percentile points


def relaxed(
    stage: str, split: str, config: PrepConfig, choose: Callable[[PrepConfig], list[int]], least: int
) -> tuple[list[int], list[dict[str, Any]]]:
    """``choose`` with thresholds widened step by step until it gives ``least`` items, and a log of the steps.

    Each split relaxes alone, so that held-out text cannot move a training threshold.

    Raises:
        PrepError: nothing is left even at the widest.
    """
    chosen, log = choose(config), []
    while len(chosen) < least and (wider := widen(config, stage)) != config:
        config = wider
        chosen = choose(config)
        thresholds = {k: v for k, v in config.to_dict().items() if k.startswith(stage)}
        thresholds["min_sentence_words"] = config.min_sentence_words
        log.append({"stage": stage, "split": split, "thresholds": thresholds, "examples": len(chosen)})
    if not chosen:
        raise PrepError(f"the {split} split has nothing for the {stage} stage; give a longer book")
    return chosen, log


def widen(config: PrepConfig, stage: str) -> PrepConfig:
    """The next wider thresholds of a stage; equal to ``config`` when there are none."""
    values = config.to_dict()
    for name, value in values.items():
        if name.startswith(f"{stage}_max"):
            values[name] = min(100.0, value + RELAXATION_STEP)
        elif name.startswith(f"{stage}_min"):
            values[name] = max(0.0, value - RELAXATION_STEP)
    if values == config.to_dict():
        values["min_sentence_words"] = max(1, config.min_sentence_words - 1)
    return PrepConfig(**values)


def detrended_centrality(centrality: np.ndarray, lengths: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """float64[n] training percentile of centrality for a sentence of its length.

    Longer sentences hold more of any theme, so raw centrality mostly measures length; a quadratic in
    log(length), fitted on ``fit`` (bool[n]), is taken out.
    """
    x = np.log(np.maximum(lengths, 1))
    curve = np.polynomial.Polynomial.fit(x[fit], centrality[fit], 2 if len(np.unique(x[fit])) > 3 else 0)
    residual = centrality - curve(x)
    return percentiles(residual, np.sort(residual[fit]))


def unique(sentences: Sequence[Sentence], members: np.ndarray) -> np.ndarray:
    """bool[n]: the first of each text among ``members``, ignoring case and spacing."""
    first: set[str] = set()
    keep = np.zeros(len(sentences), bool)
    for i in map(int, np.flatnonzero(members)):
        key = " ".join(sentences[i].text.lower().split())
        keep[i] = key not in first
        first.add(key)
    return keep


def foundational(
    split_of: np.ndarray,
    usable: np.ndarray,
    lengths: np.ndarray,
    difficulty: np.ndarray,
    centrality: np.ndarray,
    config: PrepConfig,
) -> tuple[dict[str, list[int]], list[dict[str, Any]]]:
    """Sentence indices per split, simple and central, the most central first; and the relaxations.

    Args:
        split_of: int[n] index into ``SPLITS`` of each sentence.
        usable: bool[n], distinct prose sentences.
        lengths: int[n] words.
        difficulty: float[n] training percentile.
        centrality: float[n] training percentile.
        config: thresholds.
    """
    chosen: dict[str, list[int]] = {}
    log: list[dict[str, Any]] = []
    for s, split in enumerate(SPLITS):

        def choose(c: PrepConfig, s: int = s) -> list[int]:
            keep = usable & (split_of == s) & (lengths >= c.min_sentence_words)
            keep &= difficulty <= c.foundational_max_difficulty
            keep &= centrality >= c.foundational_min_centrality
            order = np.argsort(-centrality, kind="stable")
            return [int(i) for i in order if keep[i]]

        least = config.min_train_examples if split == "train" else 1
        chosen[split], steps = relaxed("foundational", split, config, choose, least)
        log += steps
    return chosen, log


def structural(
    pairs: Sequence[Pair],
    split_of: np.ndarray,
    lengths: np.ndarray,
    difficulty: np.ndarray,
    config: PrepConfig,
) -> tuple[dict[str, list[int]], list[dict[str, Any]]]:
    """Pair indices per split, in reading order; and the relaxations.

    All pairs of tiers 1 and 2 but the easiest, since they are few; tier 3 of moderate difficulty, the
    heaviest first, fills up to ``structural_fraction`` of the split's sentences. Arguments as in
    :func:`foundational`.
    """
    hard = np.array([(difficulty[p.evidence_at] + difficulty[p.claim_at]) / 2 for p in pairs])
    short = np.array([min(lengths[p.evidence_at], lengths[p.claim_at]) for p in pairs])
    tier = np.array([p.tier for p in pairs], int)
    weight = np.array([p.weight for p in pairs])
    member = np.array([split_of[p.claim_at] for p in pairs], int)
    chosen: dict[str, list[int]] = {}
    log: list[dict[str, Any]] = []
    for s, split in enumerate(SPLITS):
        wanted = int(config.structural_fraction * np.sum(split_of == s))

        def choose(c: PrepConfig, s: int = s, wanted: int = wanted) -> list[int]:
            keep = (member == s) & (short >= c.min_sentence_words)
            keep &= hard >= c.structural_min_difficulty
            keep &= (tier < 3) | (hard <= c.structural_max_difficulty)
            sure = np.flatnonzero(keep & (tier < 3))
            fill = np.flatnonzero(keep & (tier == 3))
            fill = fill[np.argsort(-weight[fill], kind="stable")][: max(1, wanted - len(sure))]
            return sorted(map(int, [*sure, *fill]))

        least = min(config.min_train_examples, wanted) if split == "train" else 1
        chosen[split], steps = relaxed("structural", split, config, choose, least)
        log += steps
    return chosen, log
