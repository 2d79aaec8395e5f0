"""Where a figure of samples stands between the book's own chapters (the floor) and what is not like it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Measure = Callable[[str], float | None]  # of a text; None where it says nothing

TELLS_APART = 0.75  # least AUC of ceiling against floor: below it three of ten single pieces are misjudged
FEWEST = 5  # pieces in each group: a median of fewer is one piece's figure
BOOTSTRAPS = 1000


def auc(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray) -> float:
    """The chance that one of `high` is above one of `low`, ties counted half; 1/2 where a group is empty.

    The area under the ROC curve (Hanley & McNeil 1982), with auc(a, b) = 1 - auc(b, a).
    """
    below = np.sort(np.asarray(low, float))
    if not len(below) or not len(high):
        return 0.5
    left, right = (np.searchsorted(below, high, side) for side in ("left", "right"))
    return float(np.mean(left + right) / (2 * len(below)))


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Median and the quantiles 0.1 and 0.9; None without values."""
    if not len(values):
        return None
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    return {"p10": low, "median": middle, "p90": high}


def measured(measure: Measure, texts: Iterable[str]) -> np.ndarray:
    """[n] the figures of the texts that have one."""
    found = (measure(text) for text in texts)
    return np.array([value for value in found if value is not None], float)


def _medians(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.median(values[rng.integers(len(values), size=(BOOTSTRAPS, len(values)))], axis=1)


def interval(statistic: np.ndarray) -> list[float] | None:
    """The middle 95 % of bootstrapped figures; None without a finite one."""
    finite = statistic[np.isfinite(statistic)]
    return np.quantile(finite, (0.025, 0.975)).tolist() if len(finite) else None


def placed(samples: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The samples' median between those of `floor` (0) and `ceiling` (1), higher figures being farther off.

    "position" and its "interval" (95 %, all three groups drawn anew, Efron 1979) are None where the figure
    means nothing: where the ceiling's pieces are not told from the floor's (AUC below TELLS_APART) or a group
    has fewer than FEWEST. "verdict" says it in words. "auc" is the ceiling's, "samples_auc" the chance that a
    sample is farther off than a piece of the floor: 1/2 for samples like it, whatever the ceiling is.
    """
    groups, apart = (samples, floor, ceiling), auc(floor, ceiling)
    found: dict[str, Any] = {
        "value": float(np.median(samples)) if len(samples) else None,
        "floor": spread(floor),
        "ceiling": spread(ceiling),
        "pieces": [len(group) for group in groups],
        "auc": apart,
        "samples_auc": auc(floor, samples),
        "position": None,
        "interval": None,
    }
    if min(map(len, groups)) < FEWEST:
        return found | {"verdict": "too few pieces"}
    value, near, far = (float(np.median(group)) for group in groups)
    if apart < TELLS_APART or far <= near:
        return found | {"verdict": "not telling apart"}
    rng = np.random.default_rng(seed)
    drawn, low, high = (_medians(group, rng) for group in groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = interval((drawn - low) / np.where(high > low, high - low, np.nan))
    position = (value - near) / (far - near)
    return found | {"position": position, "interval": between, "verdict": verdict(between)}


def verdict(between: Sequence[float] | None) -> str:
    """What the interval of a position says in words: which of 0, the floor, and 1, the ceiling, it holds."""
    low, high = between or (-np.inf, np.inf)
    if low <= 0 and high >= 1:
        return "cannot be said"
    if high < 0:
        return "nearer than its own chapters"
    if low > 1:
        return "beyond the ceiling"
    return "like the floor" if low <= 0 else "like the ceiling" if high >= 1 else "between"
