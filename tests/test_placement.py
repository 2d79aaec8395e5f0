"""Between floor and ceiling: by hand, and by what must hold of any figures."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation.placement import auc, interval, measured, placed, spread, verdict

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
    for shift, position, verdict in (
        (0, 0, "like the floor"),
        (-3, -0.3, "nearer than its own chapters"),
        (5, 0.5, "between"),
        (10, 1, "like the ceiling"),
        (30, 3, "beyond the ceiling"),
    ):
        found = placed(floor + shift, floor, ceiling)
        assert found["position"] == pytest.approx(position) and found["verdict"] == verdict
        low, high = found["interval"]
        assert low < position < high and high - low < 0.4
    assert found["floor"] == pytest.approx({"p10": 0.2, "median": 1, "p90": 1.8})
    assert found["value"] == 31 and found["samples_auc"] == 1 and found["pieces"] == [21, 21, 21]


def test_verdicts_say_what_the_interval_holds():
    for low, high, said in (
        (-1.08, 2.99, "cannot be said"),
        (0.0, 1.0, "cannot be said"),
        (-20.0, -14.0, "nearer than its own chapters"),
        (-1.0, 0.9, "like the floor"),
        (-1.0, 0.0, "like the floor"),
        (0.1, 0.9, "between"),
        (0.14, 1.03, "like the ceiling"),
        (1.0, 5.0, "like the ceiling"),
        (1.01, 5.0, "beyond the ceiling"),
    ):
        assert verdict([low, high]) == said
    assert verdict(None) == "cannot be said"


@given(st.floats(-9, 9), st.floats(0, 9))
def test_a_verdict_names_an_end_only_where_the_interval_holds_it(low: float, width: float):
    said, high = verdict([low, low + width]), low + width
    assert (said == "like the floor") == (low <= 0 <= high < 1)
    assert (said == "like the ceiling") == (0 < low <= 1 <= high)
    assert (said == "cannot be said") == (low <= 0 and high >= 1)


def test_what_cannot_be_told_has_no_position():
    floor, far = np.linspace(0, 2, 21), np.linspace(10, 12, 21)
    same = placed(far, floor, floor + 0.2)
    assert same["verdict"] == "not telling apart" and same["position"] is None and same["auc"] < 0.75
    assert same["samples_auc"] == 1  # that the samples are not like the floor is known all the same
    nearer = placed(far, far, floor)
    assert nearer["verdict"] == "not telling apart" and nearer["auc"] == 0
    for groups in ((far[:4], floor, far), (far, floor[:4], far), (far, floor, far[:0])):
        assert placed(*groups)["verdict"] == "too few pieces" and placed(*groups)["position"] is None


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
    assert (found["position"] is None) == (found["verdict"] in ("not telling apart", "too few pieces"))
    mixed = placed(samples[::-1], floor, ceiling)
    assert all(mixed[key] == found[key] for key in ("value", "position", "auc", "samples_auc"))


def test_what_says_nothing_is_left_out():
    assert measured(lambda text: len(text) or None, ["aa", "", "b"]).tolist() == [2, 1]
    assert spread([]) is None and interval(np.array([np.nan, np.inf])) is None
