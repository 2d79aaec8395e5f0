"""STATUS.json: what a run is doing, how it ended, and what those say who read it."""

import json
import os
import types

import pytest
from test_monitor import LINES, NOW, put

from mdlm_jax.evaluation import judge, summary
from mdlm_jax.ui import monitor, progress
from mdlm_jax.ui.metrics import Tail
from mdlm_jax.ui.monitor import Monitor
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError


@pytest.fixture
def workdir(tmp_path):
    return put(tmp_path / "run")


def status(workdir):
    return json.loads((workdir / "STATUS.json").read_text())


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UserError("cannot write the checkpoint x: no space left"), "failed"),
        (OSError(28, "No space left on device"), "failed"),
        (judge.Diverged("loss nan; lower it"), "diverged"),
    ],
)
def test_how_training_ended_is_kept_and_told(workdir, error, state):
    with pytest.raises(type(error)), judge.told(workdir):
        raise error
    told = status(workdir)
    assert (told["state"], told["why"], told["step"]) == (state, str(error), 50)
    assert f": {state}, broken" in summary.show(workdir) and str(error) in summary.show(workdir)
    run = Monitor(workdir).read(False, NOW)
    assert run.state == state and str(error) in run.advice
    assert ("resume with" in run.advice) == (state == "failed")
    assert Monitor(workdir).read(True, NOW).state == "running"  # it has been started again


def test_what_is_no_fault_is_not_told_as_one(workdir):
    before = status(workdir)
    for error in (judge.Stopped(2, "step 3"), KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises(type(error)), judge.told(workdir):
            raise error
    with judge.told(workdir):
        pass
    assert status(workdir) == before


def test_a_fault_before_there_is_a_status(tmp_path):
    with pytest.raises(UserError), judge.told(tmp_path):
        raise UserError("a damaged shard")
    assert status(tmp_path)["state"] == "failed"
    with pytest.raises(UserError, match="as it was"), judge.told(tmp_path / "absent"):
        raise UserError("as it was")  # where it cannot be written the fault is told all the same


def test_advice_names_the_checkpoint_that_there_is(tmp_path):
    assert judge.advice(tmp_path).startswith("it has no checkpoint yet; lower config.optimizer.learning_rate")
    for step in (5, 15):
        (tmp_path / "checkpoints" / "1_a" / str(step)).mkdir(parents=True)
        (tmp_path / "checkpoints" / "1_a" / str(step) / "MANIFEST.json").touch()
    assert judge.advice(tmp_path).startswith("its last checkpoint is 1_a/15; lower")


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_beside_the_steps_has_no_part_in_the_pace(clock):
    shown = PlanProgress(total=1000.0)
    seen = []
    shown.note = lambda: seen.append(shown.doing)
    shown.restart(0.0)
    clock[0] += 10
    shown.update(100.0, "")
    for name in ("measuring", "writing"):
        with shown.apart(name):
            clock[0] += 500
            with shown.apart("compiling"):
                clock[0] += 70
    assert shown.eta() == pytest.approx(90.0)  # 100 in 10 s
    assert seen == ["measuring", "compiling", "measuring", "", "writing", "compiling", "writing", ""]


def test_the_watch_view_says_what_goes_on(workdir, clock):
    shown = PlanProgress(total=1000.0)
    shown.note = lambda: judge.noted(workdir, shown)
    shown.restart(0.0)
    clock[0] += 10
    shown.update(100.0, "")
    with shown.apart("measuring the validation chapters"):
        told = status(workdir)
        assert (told["doing"], told["eta_seconds"], told["step"]) == (shown.doing, 90.0, 50)
        run = Monitor(workdir).read(True, NOW + 10**9)
        assert run.eta == 90.0  # it does not run down while nothing is trained
        assert "measuring the validation chapters" in monitor.screen(run, 80, 40).plain
        assert "measuring the validation chapters" in monitor.changes(None, run)
    run = Monitor(workdir).read(True, NOW)
    assert (run.doing, run.state) == ("", "running") and status(workdir)["doing"] == ""
    # What is written at the very end stays, and says nothing of what went before.
    stage = types.SimpleNamespace(directory="1_a", data=types.SimpleNamespace(num_steps=9))
    with shown.apart("measuring"):
        (workdir / "STATUS.json").write_text(json.dumps(judge.status(shown, "finished", stage, 9, {})))
    assert status(workdir)["state"] == "finished" and status(workdir)["doing"] == ""


def test_metrics_that_were_cut_back_or_removed_are_read_again(tmp_path):
    tail = Tail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    put(tmp_path)
    assert tail.read() == LINES
    temporary = tmp_path / "metrics.tmp"  # as a resumed run does it
    temporary.write_text("".join(json.dumps(line) + "\n" for line in [*LINES[:5], *LINES]))
    os.replace(temporary, tail.path)
    assert tail.read() == [*LINES[:5], *LINES]
    tail.path.unlink()
    tail.path.write_text('{"a": 1}\nnot json\n[]\n' + "[" * 100_000 + '\n{"b": 2}\n')
    assert tail.read() == [{"a": 1}, {"b": 2}]
    tail.path.unlink()
    assert tail.read() == []


def test_losses_of_many_digits_stay_within_a_narrow_screen():
    lines = monitor.page(monitor.Run("r", "running", losses=[338_901_055.0, 338_901_055.0]), 22)
    assert max(one.cell_len for one in lines) <= 22 and any("338901055.00" in one.plain for one in lines)
