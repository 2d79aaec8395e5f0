"""Early ends, skipped steps and roll-backs in whole runs; killed in between, each ends the same."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import indivisible, timeless
from test_train import arrays, last_checkpoints, light, small, written  # noqa: F401

from configs import three_stage
from mdlm_jax import checkpoint, train
from mdlm_jax.configuration import resolve
from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation.judge import Stopped
from mdlm_jax.run_directory import load
from mdlm_jax.ui import metrics

pytestmark = pytest.mark.usefixtures("light")


class Killed(Exception):
    """As if the process ended here."""


def dying(patch, kind: str, stage: int, step: int, before: bool):
    """Ends the run before or after the line of (kind, stage, step) is written."""
    write = metrics.MetricLog.write

    def stop(self, *args):
        if not before:
            write(self, *args)
        if args[:3] == (kind, stage, step):
            raise Killed
        if before:
            write(self, *args)

    patch.setattr(metrics.MetricLog, "write", stop)


def lines(workdir) -> list[dict]:
    return timeless(written(workdir))


def same(one, two):
    """Every array of the last checkpoints, every line and the report."""
    ours, theirs = last_checkpoints(one), last_checkpoints(two)
    assert [p.relative_to(one) for p in ours] == [p.relative_to(two) for p in theirs]
    assert all(arrays(a) == arrays(b) for a, b in zip(ours, theirs, strict=True))
    assert lines(one) == lines(two)
    for name in ("report/report.json",):
        assert (one / name).read_text() == (two / name).read_text()


def of_kind(workdir, kind: str) -> list[dict]:
    return [line for line in written(workdir) if line["kind"] == kind]


def stopping(function):
    """The function, with a SIGTERM to this process before it is called."""

    def called(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*given)

    return called


def plan(**changes):
    """Two refinement stages that overshoot: the held-out figure gets worse after a while."""
    values = three_stage.get_config("smoke")
    values.stages = values.stages[-2:]
    for stage in values.stages:
        stage.update(name="refinement", num_epochs=3, patience=1, init_from="best", anneal=True)
    values.model.update(num_layers=1, d_model=32, remat="none", dropout=0.0)
    values.optimizer.update(name="adamw", schedule="constant", weight_decay=0.0)
    values.optimizer.update(learning_rate=1.0, embedding_rate=1.0, norm_rate=1.0)
    values.micro_batch = values.batch_size
    values.evaluation.per_stage = 6
    values.log_every = 3
    values.update(changes)
    return resolve(values)


@pytest.fixture(scope="module")
def early(light, dataset_dir, tmp_path_factory):  # noqa: F811
    workdir = tmp_path_factory.mktemp("early") / "run"
    train.train_and_evaluate(plan(), open_dataset(dataset_dir), workdir)
    return workdir


def test_early_ends_count_what_was_done_and_deliver_the_best(early, dataset_dir):
    report = json.loads((early / "report" / "report.json").read_text())
    firsts, seconds = ([x for x in of_kind(early, "validation") if x["stage"] == i] for i in (0, 1))
    status, total = json.loads((early / "STATUS.json").read_text()), 0
    trains = of_kind(early, "train")
    for stage, lines in enumerate((firsts, seconds)):
        figures = [line["bits_per_byte"] for line in lines]
        assert 2 <= len(figures) < 6 and figures[-1] > min(figures) == figures[-2]  # patience 1
        assert all(x["total_step"] == total + x["step"] for x in trains if x["stage"] == stage)
        assert max(x["step"] for x in trains if x["stage"] == stage) == lines[-1]["step"]
        total += lines[-1]["step"]
    assert (status["state"], status["share_done"], status["step"]) == ("finished", 1.0, seconds[-1]["step"])
    assert status["steps"] > status["step"]
    last = trains[-1]
    assert report["training_tokens"] == round(last["tokens"])
    assert report["training_flops"] == pytest.approx(last["flops"])
    # The weights of the report, and those that write, are the best ones.
    assert report["checkpoint"] == f"2_refinement/{seconds[-2]['step']}" == load(early).checkpoint
    assert report["validation"] == {k: v for k, v in seconds[-2].items() if k in report["validation"]} | {
        "kind": "bound"
    }
    assert checkpoint.steps(early / "checkpoints" / "2_refinement")[-1] == seconds[-1]["step"]
    entered, settled = of_kind(early, "transition")
    assert entered["bits_per_byte_before"] == firsts[-2]["bits_per_byte"] == entered["bits_per_byte_after"]
    assert settled["step"] == min(50, seconds[-1]["step"]) and settled["bits_per_byte_settled"] > 0
    assert entered["rate_before"] == entered["rate_after"] == 1.0  # annealed: no warm-up from 0


def test_a_stop_after_an_early_end_says_how_far_the_stage_came(early, dataset_dir, tmp_path):
    workdir = shutil.copytree(early, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "2_refinement")
    shutil.rmtree(workdir / "report")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped, match="the end of 1_refinement"):
        patch.setattr(train, "transition", stopping(train.transition))
        train.train_and_evaluate(plan(), open_dataset(dataset_dir), workdir)
    status = json.loads((workdir / "STATUS.json").read_text())
    last = [x["step"] for x in of_kind(early, "validation") if x["stage"] == 0][-1]
    assert (status["state"], status["step"]) == ("stopped", last) and status["steps"] > last


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "before"), [("transition", False), ("transition", True), ("validation", True)]
)
def test_a_kill_around_an_early_end_changes_nothing(kind, before, early, dataset_dir, tmp_path):
    workdir, dataset = tmp_path / "run", open_dataset(dataset_dir)
    step = of_kind(early, "validation")[[x["stage"] for x in of_kind(early, "validation")].index(1) - 1][
        "step"
    ]
    where = (kind, 0, step) if kind == "validation" else (kind, 1, 0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        dying(patch, *where, before)
        train.train_and_evaluate(plan(), dataset, workdir)
    train.train_and_evaluate(plan(), dataset, workdir)
    same(workdir, early)


@pytest.mark.soak
def test_damaged_best_weights_that_the_report_wants_are_made_again(early, dataset_dir, tmp_path):
    workdir = shutil.copytree(early, tmp_path / "run")
    (workdir / "report" / "report.json").unlink()
    (workdir / "checkpoints" / load(early).checkpoint / "meta.json").write_text("{}")
    train.train_and_evaluate(plan(), open_dataset(dataset_dir), workdir)
    same(workdir, early)


def poison(patch, first: int, always: bool = False):
    """From step `first` on the loss is not a number: as long as the run has its first key, or for ever."""
    make = train.make_train_step

    def poisoned(loss_fn, *rest, **named):
        def loss(params, batch, key):
            value, rate = loss_fn(params, batch, key)
            return value * batch["poison"][0, 0], rate

        step = make(loss, *rest, **named)

        def train_step(state, batch):
            broken = (state.step >= first) & (always | (state.key == KEY).all())
            value = jnp.where(broken, jnp.nan, 1.0)
            return step(state, {**batch, "poison": jnp.full(batch["tokens"].shape, value)})

        return train_step

    patch.setattr(train, "make_train_step", poisoned)


KEY = np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0)))  # of the first stage


def broken_plan():
    return small(three_stage, log_every=3, checkpoint_every=5)


@pytest.fixture(scope="module")
def rolled(light, dataset_dir, tmp_path_factory):  # noqa: F811
    workdir = tmp_path_factory.mktemp("rolled") / "run"
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, 7)
        train.train_and_evaluate(broken_plan(), open_dataset(dataset_dir), workdir)
    return workdir


def test_a_run_is_rolled_back_and_goes_on_with_other_noise(rolled):
    [line] = of_kind(rolled, "roll_back")
    assert (line["stage"], line["step"], line["number"]) == (0, 6, 1)  # after the checkpoint of step 5
    assert "loss nan" in line["why"] and "at step 18 of 1_refinement" in line["why"]  # ten from step 8 on
    trains = of_kind(rolled, "train")
    assert [x["step"] for x in trains] == sorted({x["step"] for x in trains})
    assert all(np.isfinite(x["loss"]) for x in trains) and trains[-1]["skipped"] == 0
    newest = last_checkpoints(rolled)[-1]
    assert json.loads((newest / "meta.json").read_text())["roll_backs"] == 1


@pytest.mark.parametrize(
    ("kind", "step", "before"),
    [
        ("roll_back", 6, False),
        pytest.param("roll_back", 6, True, marks=pytest.mark.soak),
        pytest.param("train", 15, False, marks=pytest.mark.soak),
        pytest.param("train", 9, True, marks=pytest.mark.soak),
    ],
)
def test_a_kill_around_a_roll_back_changes_nothing(kind, step, before, rolled, dataset_dir, tmp_path):
    workdir, dataset = tmp_path / "run", open_dataset(dataset_dir)
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, 7)
        with pytest.MonkeyPatch.context() as death, pytest.raises(Killed):
            dying(death, kind, 0, step, before)
            train.train_and_evaluate(broken_plan(), dataset, workdir)
        train.train_and_evaluate(broken_plan(), dataset, workdir)
    same(workdir, rolled)


@indivisible
@pytest.mark.soak
@pytest.mark.parametrize(("kind", "stage", "step"), [("roll_back", 0, 5), ("self_training", 1, 0)])
def test_a_roll_back_past_the_beginning_of_a_stage_with_every_mode_on(
    kind,
    stage,
    step,
    light,  # noqa: F811
    dataset_dir,
    tmp_path,
    monkeypatch,
):
    """Into the end of the stage before, since the second has no regular checkpoint yet; killed around it."""
    second = jax.random.key_data(jax.random.fold_in(jax.random.key(0), 1))
    monkeypatch.setitem(globals(), "KEY", np.asarray(second))
    config, dataset = plan(micro_batch=0, memory_budget=3.0, soft_masking=1.0), open_dataset(dataset_dir)
    epochs = (dict(name="structural", num_epochs=1), dict(num_epochs=2, self_training=0.3))
    stages = tuple(dataclasses.replace(s, **e) for s, e in zip(config.stages, epochs, strict=True))
    often = dataclasses.replace(config.evaluation, per_stage=2)
    config = dataclasses.replace(config, stages=stages, evaluation=often, checkpoint_every=100, log_every=4)
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, 2)
        train.train_and_evaluate(config, dataset, tmp_path / "whole")
        [line] = of_kind(tmp_path / "whole", "roll_back")
        assert (line["stage"], line["step"], line["total_step"]) == (0, 5, 5)
        assert len(of_kind(tmp_path / "whole", "self_training")) == 1
        with pytest.MonkeyPatch.context() as death, pytest.raises(Killed):
            dying(death, kind, stage, step, before=False)
            train.train_and_evaluate(config, dataset, tmp_path / "run")
        train.train_and_evaluate(config, dataset, tmp_path / "run")
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.soak
def test_a_loss_that_stays_broken_ends_the_run_with_its_figures(dataset_dir, tmp_path, capsys):
    """After two roll-backs, exit code 3, one line; the checkpoint from before is intact and finite."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(train.Diverged) as caught:
        poison(patch, 7, always=True)
        train.train_and_evaluate(broken_plan(), open_dataset(dataset_dir), tmp_path / "run")
    told = str(caught.value)
    assert caught.value.code == 3 and "\n" not in told
    assert json.loads((tmp_path / "run" / "STATUS.json").read_text())["state"] == "diverged"
    assert "loss nan, gradient norm nan, parameter norm" in told and "2 roll-backs" in told
    assert [line["number"] for line in of_kind(tmp_path / "run", "roll_back")] == [1, 2]
    assert capsys.readouterr().err.count("with other noise") == 2
    [newest] = last_checkpoints(tmp_path / "run")
    assert newest.name == "15"  # a save in between; what is rolled back to is kept beside it
    assert checkpoint.steps(newest.parent)[0] == 5
