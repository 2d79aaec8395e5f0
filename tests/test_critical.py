"""The critical compute of a book, and where a plan passes it."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_jax.evaluation.critical import Spent, against_critical, critical_compute, in_words
from mdlm_jax.evaluation.summary import show


def test_the_papers_formula_takes_millions_of_tokens():
    assert critical_compute(1e5) == pytest.approx(1.42e13, rel=0.01)
    assert critical_compute(1e6) == pytest.approx(2.12e15)
    assert critical_compute(1e8) == pytest.approx(4.72e19, rel=0.01)


stages = st.lists(st.tuples(st.integers(1, 500), st.floats(1e-4, 0.7)), min_size=1, max_size=4)


@given(stages=stages, tokens=st.integers(1_000, 10**9))
def test_it_is_passed_at_the_first_step_that_has_spent_it(stages, tokens):
    """Against numpy: the FLOPs of every single step, summed up."""
    critical = critical_compute(tokens)
    spent = [Spent(f"s{i}", n, 10.0, share * critical) for i, (n, share) in enumerate(stages)]
    found = against_critical(tokens, spent)
    total = np.cumsum([s.flops / s.steps for s in spent for _ in range(s.steps)])
    assert found["ratio"] == pytest.approx(total[-1] / critical)
    places = [(i + 1, step + 1) for i, s in enumerate(spent) for step in range(s.steps)]
    if found["passed"] is None:
        assert total[-1] <= critical * (1 + 1e-9)
        assert "not passed" in in_words(found)
    else:
        at = places.index((found["passed"]["stage"], found["passed"]["step"]))
        assert total[at] >= critical * (1 - 1e-9)
        assert at == 0 or total[at - 1] <= critical * (1 + 1e-9)
        steps = spent[found["passed"]["stage"] - 1].steps
        assert (found["passed"]["epoch"] - 1) * steps < found["passed"]["step"] * 10 + 1e-6
        assert found["passed"]["step"] * 10 <= found["passed"]["epoch"] * steps + 1e-6


def test_outside_the_fitted_sizes_it_says_so():
    for tokens, warned in ((10**5, True), (25 * 10**6, False), (10**8, False), (10**9, True)):
        found = against_critical(tokens, [Spent("refinement", 5, 1.0, 1.0)])
        assert found["extrapolated"] == warned == ("extrapolation" in in_words(found))


def test_the_plan_the_metrics_and_the_report_of_a_run_agree(smoke_run):
    """The plan that was carried out whole: what was foretold is what was spent."""
    report = json.loads((smoke_run / "report" / "report.json").read_text())
    found, info = report["critical"], json.loads((smoke_run / "dataset.json").read_text())
    assert found["unique_tokens"] == info["stages"]["refinement"]["train"]["tokens"]
    critical = critical_compute(found["unique_tokens"])
    assert found["ratio"] == pytest.approx(report["training_flops"] / critical)
    plan = (smoke_run / "plan.txt").read_text(encoding="utf-8")
    assert re.search(r"(?m)^FLOPs  (.*), .* times Ccrit", plan)[1] == f"{report['training_flops']:.2e}"
    assert in_words(found) in plan
    lines = [json.loads(line) for line in (smoke_run / "metrics.jsonl").read_text().splitlines()]
    over = [(x["stage"] + 1, x["step"]) for x in lines if x.get("flops_over_critical", 0) >= 1]
    passed = found["passed"]
    assert (passed["stage"], passed["step"]) == over[0] if over else passed is None


def test_runs_show_says_it(run_copy):
    path = run_copy / "report" / "report.json"
    report = json.loads(path.read_text())
    found = report["critical"]
    law = f"({found['flops']:.2e} for {found['unique_tokens']:,} unique tokens, extrapolated)"
    passed = "passed at step {step:,} of stage {stage}, {name}".format(**found["passed"])
    assert f"\nCritical    {found['ratio']:.3g} times Ccrit {law}: {passed}\n" in show(run_copy)
    path.write_text(json.dumps(report | {"critical": found | {"ratio": 0.25, "passed": None}}))
    assert f"\nCritical    0.25 times Ccrit {law}: not passed\n" in show(run_copy)
    path.write_text(json.dumps({k: v for k, v in report.items() if k != "critical"}))  # of an older version
    assert "\nCritical" not in show(run_copy)
