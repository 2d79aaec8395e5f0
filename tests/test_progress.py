"""The ETA counts neither compilation nor what an earlier process did."""

import pytest

from mdlm_jax.ui import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_eta_is_the_pace_since_the_restart(clock):
    shown = progress.PlanProgress(total=1000.0)
    assert shown.eta() == 0
    clock[0] += 60  # compiling
    shown.restart(900.0)  # a resumed run
    clock[0] += 10
    shown.update(910.0, "")
    assert shown.eta() == pytest.approx(90.0)


def test_lines_come_no_more_often_than_asked(clock, capsys):
    shown = progress.PlanProgress(total=10.0, line_every=5.0)
    for second in range(1, 11):
        clock[0] += 1
        shown.update(second, f"at {second}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("at ")[1].split()[0] for line in lines] == ["5", "10"]
    assert lines[0].startswith(" 50.0 %") and lines[0].endswith("ETA 5 s")


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12240, "3.4 h")])
def test_clock(seconds, text):
    assert progress.clock(seconds) == text
