"""What the page says of texts, copies and readers: the words fit the figures."""

import copy

import pytest
from report_runs import whole

from mdlm_jax.evaluation import page_measures, readers
from mdlm_jax.evaluation.findings import collect


@pytest.fixture(scope="module")
def collected(smoke_run, tmp_path_factory):
    return collect(whole(smoke_run, tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture
def found(collected) -> dict:
    return copy.deepcopy(collected)


def test_readers_of_the_same_pairs_are_not_independent(found, tmp_path):
    """Each test by itself, with what its interval says and why it is too narrow."""
    pairs = [{"book": f"b{i}", "run": f"r{i}", "answer": 1} for i in range(20)]
    for seed, who in ((0, ("Ann", "Ben")), (1, ("Ann",))):
        asked = {"seed": seed, "pairs": 20, "words": 5, "from": "held_out", "texts": "samples"}
        test = readers.save_test(tmp_path, {"asked": asked, "checkpoint": None, "pairs": pairs})
        for name in who:
            for pair in range(20):
                readers.answer(tmp_path, test, name, pair, 1 if seed == 0 else 1 + pair % 2, 1.0)
    human = readers.human_figures(tmp_path)
    assert human["shared"] and human["all"]["answers"] == 60
    one, two = sorted(human["tests"], key=lambda test: -test["readers"])
    assert (one["readers"], one["answers"], one["right"], one["shared"]) == (2, 40, 40, True)
    assert (two["readers"], two["answers"], two["right"], two["shared"]) == (1, 20, 10, False)
    assert (two["low"], two["high"]) == readers.interval(10, 20)
    found["evaluation"]["human"] = human
    page = page_measures.human(found)
    assert page.count(readers.SHARED) == 1 and one["meaning"] in page and two["meaning"] in page
    assert page.index(one["meaning"] + "</bdi> " + readers.SHARED)
    assert "too narrow" in page_measures.human_in_words(human)
    assert "too narrow" not in page_measures.human_in_words(human | {"shared": False})
    older = {"id": two["id"], "from": "held_out", "checkpoint": None}
    found["evaluation"]["human"] = human | {"tests": [older]}
    assert readers.SHARED in page_measures.human(found)
