"""Between floor and ceiling: by hand, and by what must hold of any figures."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation.placement import (
    BOOTSTRAPS,
    FARTHER,
    auc,
    farther,
    interval,
    measured,
    medians,
    placed,
    positions,
    spread,
    verdict,
)

VALUES = st.lists(st.floats(-10, 10, width=16), max_size=12).map(np.array)


def test_auc_by_hand():
    assert auc([1, 2], [3, 4]) == 1 and auc([3, 4], [1, 2]) == 0
    assert auc([1, 3], [2, 3]) == (1 + 0 + 1 + 0.5) / 4
    assert auc([], [1]) == auc([1], []) == 0.5


@given(VALUES, VALUES)
def test_auc_counts_pairs_and_is_symmetric(low: np.ndarray, high: np.ndarray):
    pairs = [(b > a) + (b == a) / 2 for a in low for b in high]
    assert auc(low, high) == pytest.approx(np.mean(pairs) if pairs else 0.5)
    assert auc(low, high) + auc(high, low) == pytest.approx(1)


def test_a_position_is_between_medians():
    floor, ceiling = np.linspace(0, 2, 21), np.linspace(10, 12, 21)
    for shift, position, said in (
        (0, 0, "may be at the floor"),
        (-3, -0.3, "nearer than its own chapters"),
        (5, 0.5, "between"),
        (10, 1, "may be at the ceiling"),
        (30, 3, "beyond the ceiling"),
    ):
        found = placed(floor + shift, floor, ceiling)
        assert found["position"] == pytest.approx(position) and found["verdict"] == said
        low, high = found["interval"]
        assert low < position < high and high - low < 0.4
    assert found["floor"] == pytest.approx({"p10": 0.2, "median": 1, "p90": 1.8})
    assert found["value"] == 31 and found["samples_auc"] == 1 and found["pieces"] == [21, 21, 21]


def test_verdicts_say_what_the_interval_holds():
    for low, high, said in (
        (-1.08, 2.99, "cannot be said"),
        (0.0, 1.0, "cannot be said"),
        (-20.0, -14.0, "nearer than its own chapters"),
        (-1.0, 0.9, "may be at the floor"),
        (-1.0, 0.0, "may be at the floor"),
        (0.1, 0.9, "between"),
        (0.14, 1.03, "may be at the ceiling"),
        (1.0, 5.0, "may be at the ceiling"),
        (1.01, 5.0, "beyond the ceiling"),
    ):
        assert verdict([low, high]) == said
    assert verdict(None) == "cannot be said"


@given(st.floats(-9, 9), st.floats(0, 9))
def test_a_verdict_names_an_end_only_where_the_interval_holds_it(low: float, width: float):
    said, high = verdict([low, low + width]), low + width
    assert (said == "may be at the floor") == (low <= 0 <= high < 1)
    assert (said == "may be at the ceiling") == (0 < low <= 1 <= high)
    assert (said == "cannot be said") == (low <= 0 and high >= 1)


def test_what_cannot_be_told_has_no_position():
    floor, far = np.linspace(0, 2, 21), np.linspace(10, 12, 21)
    same = placed(far, floor, floor + 0.2)
    assert same["verdict"] == FARTHER and same["position"] is None and same["auc"] < 0.75
    assert same["samples_auc"] == 1  # that the samples are not may be at the floor is known all the same
    for some in (floor, floor - 9, floor + 0.5, np.concatenate([floor[:12], far[:9]])):
        assert placed(some, floor, floor + 0.2)["verdict"] == "not telling apart"
    assert placed(floor + 1.9, floor, floor - 9)["verdict"] == FARTHER
    mixed = np.concatenate([floor[:12], far[-9:]])  # farther off than the floor, but not than this
    assert farther(far, floor) and placed(far, floor, mixed)["verdict"] == "not telling apart"
    near, over = np.repeat([0.0, 1.0], (10, 11)), np.repeat([1.0, 2.0], (11, 10))  # one median, AUC 0.87
    assert auc(near, over) > 0.75 and placed(near, near, over)["verdict"] == "not telling apart"
    nearer = placed(far, far, floor)
    assert nearer["verdict"] == "not telling apart" and nearer["auc"] == 0
    for groups in ((far[:4], floor, far), (far, floor[:4], far), (far, floor, far[:4])):
        assert placed(*groups)["verdict"] == "too few pieces" and placed(*groups)["position"] is None
    for some, said in ((far, "farther off than its own chapters"), (floor, "not told from its own chapters")):
        assert placed(some, floor, far[:0])["verdict"] == said


def test_the_interval_narrows_with_the_root_of_the_number_and_follows_the_seed():
    rng = np.random.default_rng(0)
    floor, ceiling = rng.normal(0, 0.01, 99), rng.normal(10, 0.01, 99)
    spreads = [
        np.mean([np.diff(placed(rng.normal(5, 1, n), floor, ceiling)["interval"]) for _ in range(5)])
        for n in (16, 400)
    ]
    assert 3.5 < spreads[0] / spreads[1] < 7
    again = [placed(ceiling[:50], floor, ceiling, seed)["interval"] for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


@given(VALUES, VALUES, VALUES)
def test_any_figures_give_json(samples: np.ndarray, floor: np.ndarray, ceiling: np.ndarray):
    found = placed(samples, floor, ceiling)
    json.dumps(found, allow_nan=False)
    between = {verdict([low, high]) for low in (-2, 0.5, 2) for high in (-1, 0.6, 3)}
    assert (found["position"] is None) == (found["verdict"] not in between)
    mixed = placed(samples[::-1], floor, ceiling)
    assert all(mixed[key] == found[key] for key in ("value", "position", "auc", "samples_auc"))


def test_farther_only_for_certain():
    """Told apart by so many that chance is no explanation; few texts are not enough."""
    rng = np.random.default_rng(0)
    floor, off = rng.normal(0, 1, 60), rng.normal(1.3, 1, 60)  # AUC 0.82
    assert auc(floor, off) > 0.75 and farther(off, floor) and not farther(off[:6], floor)
    assert not farther(floor, off) and not farther(floor, floor)


def test_the_interval_is_of_all_three_groups():
    """Where the samples are all alike, it is as wide as those of floor and ceiling are uncertain."""
    rng = np.random.default_rng(0)
    wide, flat = rng.normal(0, 1, 40), np.zeros(40)
    ends = [
        np.diff(placed(flat + 5, near, far + 10)["interval"])
        for near, far in ((flat, flat), (wide, flat), (flat, wide))
    ]
    assert ends[0] == 0 and ends[1] > 0.01 and ends[2] > 0.01


def test_resamples_are_the_same_texts_for_every_measure():
    """A measure that is twice another has the same positions in every draw, NaNs or not."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(middle, 1, n) for middle, n in ((5, 9), (0, 20), (9, 12))]
    groups[0][3] = np.nan
    found = positions(*groups)
    assert found.shape == (BOOTSTRAPS,) and np.unique(found).size > 100
    np.testing.assert_allclose(positions(*(2 * group + 1 for group in groups)), found)
    assert np.mean(positions(*groups, 1) == found) < 0.5


FIGURES = st.floats(-9, 9, width=16) | st.just(np.nan)


@given(st.lists(st.lists(FIGURES, min_size=4, max_size=4), min_size=1))
def test_medians_equal_numpys(rows: list[list[float]]):
    each = [[x for x in row if not np.isnan(x)] for row in rows]
    expected = [np.median(row) if row else np.nan for row in each]
    np.testing.assert_allclose(medians(np.array(rows)), expected)


def test_what_says_nothing_is_left_out():
    found = measured(lambda text: len(text) or None, ["aa", "", "b"])
    np.testing.assert_array_equal(found, [2, np.nan, 1])
    assert spread(found) == spread([1, 2]) and spread([]) is None and spread([np.nan]) is None
    assert auc(found, [np.nan, 3]) == 1 and auc([np.nan], [1]) == 0.5
    assert interval(np.array([np.nan, np.inf])) is None
    assert interval(np.array([np.nan, *range(1001)])) == [25, 975]
