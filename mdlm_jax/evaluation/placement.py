"""Where a figure of samples stands between the book's own chapters (the floor) and what is not like it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Measure = Callable[[str], float | None]  # of a text; None where it says nothing

TELLS_APART = 0.75  # least AUC of ceiling against floor: below it three of ten single pieces are misjudged
FEWEST = 5  # pieces in each group: a median of fewer is one piece's figure
BOOTSTRAPS = 1000
BEYOND = "beyond the ceiling"
ALONE = {True: "farther off than its own chapters", False: "not told from its own chapters"}  # no ceiling
FARTHER = "cannot tell these two books apart; the samples are farther off than both"


def _known(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """[n] those that are no NaN."""
    found = np.asarray(values, float)
    return found[~np.isnan(found)]


def auc(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray) -> float:
    """The chance that one of `high` is above one of `low`, ties counted half; 1/2 where a group is empty.

    The area under the ROC curve (Hanley & McNeil 1982), with auc(a, b) = 1 - auc(b, a). NaNs are left out.
    """
    below, above = np.sort(_known(low)), _known(high)
    if not len(below) or not len(above):
        return 0.5
    left, right = (np.searchsorted(below, above, side) for side in ("left", "right"))
    return float(np.mean(left + right) / (2 * len(below)))


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Median and the quantiles 0.1 and 0.9, without NaNs; None without values."""
    if not len(known := _known(values)):
        return None
    low, middle, high = np.quantile(known, (0.1, 0.5, 0.9)).tolist()
    return {"p10": low, "median": middle, "p90": high}


def measured(measure: Measure, texts: Iterable[str]) -> np.ndarray:
    """[texts] their figures, NaN for one that has none."""
    return np.array([np.nan if (value := measure(text)) is None else value for text in texts], float)


def medians(values: np.ndarray) -> np.ndarray:
    """[n] the medians of the rows [n, m] without their NaNs; NaN for a row of nothing else."""
    ranked = np.concatenate([np.sort(values, axis=1), np.full((len(values), 1), np.nan)], axis=1)
    number, row = (~np.isnan(values)).sum(axis=1), np.arange(len(values))
    return (ranked[row, np.maximum(number - 1, 0) // 2] + ranked[row, number // 2]) / 2


def _drawn(groups: Iterable[np.ndarray], seed: int) -> list[np.ndarray]:
    """[BOOTSTRAPS, n] of each group, its texts drawn anew with replacement (Efron 1979): the same ones for
    the same seed and numbers of texts, whatever is measured.
    """
    rng = np.random.default_rng(seed)
    return [group[rng.integers(len(group), size=(BOOTSTRAPS, len(group)))] for group in groups]


def positions(samples: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, seed: int = 0) -> np.ndarray:
    """[BOOTSTRAPS] the samples' median between those of floor (0) and ceiling (1), all three groups drawn
    anew; NaN where the ceiling's is not above the floor's.
    """
    value, near, far = (medians(group) for group in _drawn((samples, floor, ceiling), seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (value - near) / np.where(far > near, far - near, np.nan)


def interval(statistic: np.ndarray) -> list[float] | None:
    """The middle 95 % of bootstrapped figures; None without a finite one."""
    finite = statistic[np.isfinite(statistic)]
    return np.quantile(finite, (0.025, 0.975)).tolist() if len(finite) else None


def farther(samples: np.ndarray, group: np.ndarray, seed: int = 0) -> bool:
    """Whether the samples are told from a group for certain, as the farther ones: the lower end of the 95 %
    interval of auc(group, samples) is TELLS_APART or more.
    """
    found = interval(np.array([auc(*both) for both in zip(*_drawn((group, samples), seed), strict=True)]))
    return found is not None and found[0] >= TELLS_APART


def placed(samples: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The samples' median between those of `floor` (0) and `ceiling` (1), higher figures being farther off;
    [texts] each, NaN for a text without a figure.

    "position" and its "interval" (95 %, of `positions`) are None where the figure means nothing: where the
    ceiling's pieces are not told from the floor's (AUC below TELLS_APART) or a group has fewer than FEWEST.
    "verdict" says it in words; of what cannot tell the two apart it says whether the samples are `farther`
    off than both, and without a ceiling whether they are farther off than the floor. "auc" is the ceiling's,
    "samples_auc" the chance that a sample is farther off than a piece of the floor: 1/2 for samples like it,
    whatever the ceiling is.
    """
    groups, apart = [_known(group) for group in (samples, floor, ceiling)], auc(floor, ceiling)
    found: dict[str, Any] = {
        "value": float(np.median(groups[0])) if len(groups[0]) else None,
        "floor": spread(floor),
        "ceiling": spread(ceiling),
        "pieces": [len(group) for group in groups],
        "auc": apart,
        "samples_auc": auc(floor, samples),
        "position": None,
        "interval": None,
    }
    if min(map(len, groups[:2])) < FEWEST or 0 < len(groups[2]) < FEWEST:
        return found | {"verdict": "too few pieces"}
    if not len(groups[2]):
        return found | {"verdict": ALONE[farther(samples, floor, seed)]}
    value, near, far = (float(np.median(group)) for group in groups)
    if apart < TELLS_APART or far <= near:
        beyond = farther(samples, floor, seed) and farther(samples, ceiling, seed)
        return found | {"verdict": FARTHER if beyond else "not telling apart"}
    between = interval(positions(samples, floor, ceiling, seed))
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
        return BEYOND
    return "may be at the floor" if low <= 0 else "may be at the ceiling" if high >= 1 else "between"
