"""Training survives kill -9, SIGTERM, SIGINT, a damaged checkpoint, a changed config, a diverging loss."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
import types

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import REPO, SMOKE, launch_command, once, timeless
from jax.experimental.compilation_cache import compilation_cache

from configs import autoregressive, single_stage
from mdlm_jax import checkpoint, curriculum, train
from mdlm_jax.configuration import resolve
from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation.judge import NO_NOTES
from mdlm_jax.run_directory import read_config
from mdlm_jax.train_state import init_params
from mdlm_jax.ui import metrics
from mdlm_jax.ui.curves import EventWriter
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import write_json

# (stage, step): killed as soon as metrics.jsonl has that step's line. Step 10 of stage 1 is when the
# first checkpoint is being written; stage 2 has none yet at step 4; stage 3 goes on from 50 after its kill.
KILLS = [
    (0, 10),
    (1, 4),
    (2, 57),
]


class Starter:
    """Starts the one command, again and again."""

    def __init__(self, book, data, env, log):
        self._options, self._env, self._log = ["--book", str(book), "--data", str(data)], env, log

    def begin(self, workdir, *extra) -> subprocess.Popen:
        command = [*launch_command(workdir, *SMOKE, *extra), *self._options]
        with open(self._log, "wb") as log:
            return subprocess.Popen(command, cwd=REPO, env=self._env, stdout=log, stderr=log)

    def end(self, child) -> tuple[int, str]:
        code = child.wait(timeout=300)
        return code, self._log.read_text(encoding="utf-8")

    def run(self, workdir, *extra) -> tuple[int, str]:
        return self.end(self.begin(workdir, *extra))


@pytest.fixture(scope="module")
def starter(book, dataset_dir, light_env, tmp_path_factory):
    return Starter(book, dataset_dir, light_env, tmp_path_factory.mktemp("starter") / "output.txt")


def written(workdir) -> list[dict]:
    with contextlib.suppress(FileNotFoundError):
        return list(metrics.read_lines(workdir / "metrics.jsonl"))
    return []


def wait_for(child, workdir, stage, step):
    """Until the line of (stage, step) is there."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if any((line["stage"], line["step"]) == (stage, step) for line in written(workdir)[-3:]):
            return
        assert child.poll() is None, f"ended before step {step} of stage {stage + 1}"
        time.sleep(0.004)
    child.kill()
    raise AssertionError(f"never came to step {step} of stage {stage + 1}")


def arrays(path) -> dict[str, tuple]:
    """{tree path: (dtype, shape, bytes)} of a checkpoint."""
    assert checkpoint.verify(path) is None
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.restore(path.absolute() / "state")
    return {k: ((a := np.asarray(v)).dtype, a.shape, a.tobytes()) for k, v in stored.items()}


def last_checkpoints(workdir) -> list:
    stages = sorted((workdir / "checkpoints").iterdir())
    return [directory / str(checkpoint.steps(directory)[-1]) for directory in stages]


def assert_same_run(workdir, smoke_run):
    """Every array of every stage's last checkpoint, every loss of every step, and the report."""
    ours, theirs = last_checkpoints(workdir), last_checkpoints(smoke_run)
    assert [p.relative_to(workdir) for p in ours] == [p.relative_to(smoke_run) for p in theirs]
    for a, b in zip(ours, theirs, strict=True):
        one, two = arrays(a), arrays(b)
        assert one.keys() == two.keys() and len(one) > 20
        assert [k for k in one if one[k] != two[k]] == [], a

    names = [(line["kind"], line["stage"], line["step"]) for line in written(workdir)]
    assert len(set(names)) == len(names)
    assert timeless(written(workdir)) == timeless(written(smoke_run))
    assert (workdir / "report/report.json").read_text() == (smoke_run / "report/report.json").read_text()
    assert not [p for p in (workdir / "checkpoints").rglob("*.tmp")]


@pytest.fixture(scope="module")
def killed(starter, smoke_run, shared):
    """A run killed in every stage: (workdir, [[exit code, output, [stage, step] reached], ...])."""
    workdir, notes = shared / "killed" / "run", shared / "killed" / "ends.json"

    def make():
        ends = []
        for stage, step in KILLS:
            child = starter.begin(workdir)
            wait_for(child, workdir, stage, step)
            child.kill()
            last = written(workdir)[-1]
            ends.append([*starter.end(child), [last["stage"], last["step"]]])
        code, output = starter.run(workdir)
        assert code == 0, output
        notes.write_text(json.dumps(ends), encoding="utf-8")

    once(shared / "killed", make)
    return workdir, json.loads(notes.read_text(encoding="utf-8"))


def test_the_kills_came_in_the_middle_of_every_stage(killed, smoke_run):
    steps = [checkpoint.steps(p.parent)[-1] for p in last_checkpoints(smoke_run)]
    for (stage, step), (code, output, reached) in zip(KILLS, killed[1], strict=True):
        assert code == -signal.SIGKILL, output
        assert reached[0] == stage and step <= reached[1] < steps[stage]
    assert (
        "Resumed 1_foundational at step" in killed[1][1][1] or "Transition to 2_structural" in killed[1][1][1]
    )


def test_a_run_killed_in_every_stage_ends_with_the_same_bits(killed, smoke_run):
    assert_same_run(killed[0], smoke_run)


def test_a_finished_run_returns_at_once(killed, starter, tmp_path):
    """Nothing is trained, the report stays, and a status that a late kill left behind is mended."""
    workdir = tmp_path / "run"
    shutil.copytree(killed[0], workdir)
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    status = json.loads((workdir / "STATUS.json").read_text())
    assert (status["state"], status["share_done"]) == ("finished", 1.0)
    write_json(workdir / "STATUS.json", status | {"state": "running", "share_done": 0.9})
    code, output = starter.run(workdir)
    assert code == 0 and "validation: " in output and "loss" not in output
    mended = json.loads((workdir / "STATUS.json").read_text())
    assert {**mended, "updated": ""} == {**status, "updated": ""}
    after = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != "STATUS.json"}
    changed = {p.name for p in after.keys() | before.keys() if after.get(p) != before.get(p)} - {
        "STATUS.json"
    }
    assert all("tfevents" in name for name in changed)


def test_a_changed_config_is_refused_and_changes_nothing(killed, starter):
    workdir, _ = killed
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    code, output = starter.run(workdir, "--config.seed=5", "--config.stages[1].num_epochs=3")
    assert code == 2 and output.count("\n") == 2 and output.splitlines()[-1].startswith("error: ")
    assert "seed: the run has 0, you ask for 5; stages[1].num_epochs: the run has 2, you ask for 3" in output
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before


def test_divergence_is_one_line_and_leaves_no_broken_checkpoint(starter, tmp_path):
    rates = [f"--config.optimizer.{name}=3e38" for name in ("learning_rate", "embedding_rate", "norm_rate")]
    # The first step's loss is finite, the weights after it are not.
    often = ["--config.checkpoint_every=1", "--config.log_every=1000", "--config.stages[0].rate_scale=10.0"]
    code, output = starter.run(tmp_path / "run", *rates, *often)
    assert code == 3 and "Traceback" not in output
    assert output.splitlines()[-1].startswith("error: ") and "1_foundational" in output.splitlines()[-1]
    for path in (tmp_path / "run" / "checkpoints").glob("*/[0-9]*"):
        for name, (dtype, _, content) in arrays(path).items():
            assert dtype != np.float32 or np.isfinite(np.frombuffer(content, dtype)).all(), (path, name)


def small(plan, **changes):
    """One refinement stage of a one-layer model, a few steps."""
    values = plan.get_config("smoke")
    values.stages = values.stages[-1:]
    values.stages[0].num_epochs = 2
    values.model.update(num_layers=1, d_model=32, remat="none", dropout=0.0)
    values.micro_batch = values.batch_size
    values.optimizer.name = "adamw"
    values.update(changes)
    return resolve(values)


@pytest.fixture(scope="module")
def light(shared):
    """Compiled programs are kept between runs, and TensorFlow is not imported: both take seconds."""
    settings = {
        "jax_compilation_cache_dir": (str(shared / "jax_cache_of_tests"), None),
        "jax_persistent_cache_min_compile_time_secs": (0.1, 1.0),
        "jax_disable_most_optimizations": (True, False),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "make_writer", lambda directory, _: EventWriter(directory))
        for name, (value, _) in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
        for name, (_, value) in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.mark.parametrize(
    ("plan", "number", "code"),
    [
        pytest.param(single_stage, signal.SIGINT, 130, marks=pytest.mark.soak),
        (autoregressive, signal.SIGTERM, 75),
    ],
)
def test_one_stage_stopped_by_a_signal_and_damaged(
    plan, number, code, light, dataset_dir, tmp_path, monkeypatch, capsys
):
    """Checkpoints between log lines, a signal, a damaged checkpoint: the same weights and report."""
    # The micro-batch is settled once: the same command, with auto in it, goes on.
    config, dataset = small(plan, log_every=3, checkpoint_every=4, micro_batch=0), open_dataset(dataset_dir)
    whole = train.train_and_evaluate(config, dataset, tmp_path / "whole")
    written_in = read_config(tmp_path / "whole")
    assert written_in.micro_batch == 8 and written_in.memory_budget > 0
    told = (tmp_path / "whole" / "plan.txt").read_text()
    assert told.count("1_refinement: the compiled step takes") == 1 and "estimated: state" in told
    assert written(tmp_path / "whole")[0]["compiled_bytes"] > 0
    assert whole["validation"]["kind"] == ("exact" if config.model.causal else "bound")
    losses = [line["loss"] for line in written(tmp_path / "whole") if line["kind"] == "train"]
    assert losses[-1] < losses[0]
    weights = arrays(last_checkpoints(tmp_path / "whole")[-1])

    write = metrics.MetricLog.write

    def interrupt(self, kind, stage, step, *rest):
        write(self, kind, stage, step, *rest)
        if step == 9 and kind == "train":
            os.kill(os.getpid(), number)

    workdir, handler = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(train.Stopped) as stopped:
        patch.setattr(metrics.MetricLog, "write", interrupt)
        train.train_and_evaluate(config, dataset, workdir)
    saved = checkpoint.steps(workdir / "checkpoints" / "1_refinement")[-1]
    assert stopped.value.code == code and saved in (9, 10)
    assert f"{number.name}: saved at step {saved} of 1_refinement; the same command" in str(stopped.value)
    status = json.loads((workdir / "STATUS.json").read_text())
    assert (status["state"], status["step"]) == ("stopped", saved)
    assert signal.getsignal(signal.SIGINT) is handler

    assert train.train_and_evaluate(config, dataset, workdir) == whole
    newest = last_checkpoints(workdir)[-1]
    assert arrays(newest) == weights

    lines = timeless(written(workdir))
    (newest / "meta.json").write_text("{}")
    shutil.rmtree(workdir / "report")
    assert train.train_and_evaluate(config, dataset, workdir) == whole
    assert f"checkpoint {newest} is damaged" in capsys.readouterr().err
    assert arrays(last_checkpoints(workdir)[-1]) == weights and timeless(written(workdir)) == lines


@pytest.mark.parametrize("init_from", ["last", "best"])
def test_a_stage_begins_with_the_last_or_the_best_weights(init_from, smoke_run):
    """The figure logged before the transition is that of the weights that were carried."""
    config, dataset = read_config(smoke_run), open_dataset(smoke_run / "data")
    stages = curriculum.plan(config, dataset)
    stages[1] = dataclasses.replace(
        stages[1], config=dataclasses.replace(stages[1].config, init_from=init_from)
    )
    logged, directory = [], smoke_run / "checkpoints" / stages[0].directory
    log = types.SimpleNamespace(write=lambda *a: logged.append(a[-1]))
    result, progress = {"kind": "exact", "bits_per_byte": 3.0}, PlanProgress(3e9)
    shared = config, dataset, smoke_run, stages, [1e9] * 3, lambda params: result, log, progress, [], {}
    run = train._Run(*shared)
    older, newest = checkpoint.steps(directory)[-2:]
    params = init_params(config.model, 0)
    like = curriculum.begin(params, params, run.optimizer(stages[0]), config.seed, stages[0])
    last = checkpoint.restore(directory / str(newest), like)
    notes = NO_NOTES | {"latest": {"bits_per_byte": 2.0}, "best": {"step": older, "bits_per_byte": 1.0}}
    state, _ = train._enter(run, stages[1], last, notes)
    assert all(x.is_deleted() for x in jax.tree.leaves(last))  # nobody holds two states
    expected = checkpoint.restore(directory / str(newest if init_from == "last" else older), like)
    for got, want in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        assert np.array_equal(got, want)
    assert logged[0]["bits_per_byte_before"] == (2.0 if init_from == "last" else 1.0)
