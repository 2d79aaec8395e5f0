"""Where numbers go: TensorBoard's own reader finds them, and metrics.jsonl is whole after a kill."""

import importlib.util
import json
import math
import os
import resource
import subprocess
import sys

import pytest
from conftest import REPO

import launch
from mdlm_jax.evaluation.summary import WRITTEN
from mdlm_jax.ui import metrics
from mdlm_jax.ui.curves import Curves
from mdlm_jax.ui.values import UserError

WANTED = {
    "train/loss",
    "train/learning_rate",
    "train/mask_rate",
    "train/gradient_norm",
    "train/tokens_per_second",
    "train/flops",
    "train/flops_over_critical",
    "validation/bits_per_byte",
    "transition/bits_per_byte_before",
    "transition/bits_per_byte_after",
    "transition/moments_zero",
}

# In a child without TensorFlow, which the reader would import for its file system alone.
READ = """
import json, sys
sys.modules["tensorflow"] = None
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
found = {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags["scalars"]}
for tag in tags["tensors"]:
    found[tag] = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
print(json.dumps(found))
"""


def tensorboard(directory, env) -> dict[str, list]:
    """What TensorBoard reads: {tag: [[step, value], ...]}."""
    child = [sys.executable, "-c", READ, str(directory)]
    done = subprocess.run(child, capture_output=True, text=True, env=env, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tensorboard_finds_the_scalars_of_a_run(smoke_run, child_env):
    found = tensorboard(smoke_run, child_env)
    assert set(found) >= WANTED
    lines = list(metrics.read_lines(smoke_run / "metrics.jsonl"))
    for tag, points in found.items():
        kind, name = tag.split("/")
        # A stage's first step is compiled and so not timed: its line has no tokens_per_second.
        wanted = [(line["total_step"], line[name]) for line in lines if line["kind"] == kind and name in line]
        assert [step for step, _ in points] == [step for step, _ in wanted], tag
        assert [v for _, v in points] == pytest.approx([v for _, v in wanted], rel=1e-6), tag


def child(code: str, directory, env) -> subprocess.CompletedProcess:
    """Runs `code` in a Python of its own; the directory is its argument."""
    command = [sys.executable, "-c", code, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=REPO)


def test_events_without_tensorflow(tmp_path, child_env):
    code = (
        "import sys; sys.modules['clu'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path; from mdlm_jax.ui.metrics import MetricLog\n"
        "log = MetricLog(Path(sys.argv[1]))\n"
        "log.write('train', 0, 1, 1, {'loss': 2.5})\n"
        "log.write('train', 1, 3, 7, {'loss': 1.25, 'name': 'text'})\n"
        "log.close()\n"
    )
    done = child(code, tmp_path, child_env)
    assert done.returncode == 0, done.stderr
    assert "its own writer (clu is not installed)" in done.stdout
    assert tensorboard(tmp_path, child_env) == {"train/loss": [[1, 2.5], [7, 1.25]]}


class Quiet:
    """Stands for an event writer."""

    def __init__(self):
        self.seen = []

    def write_scalars(self, step, scalars):
        self.seen.append((step, scalars))

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "make_writer", lambda *_: Quiet())
    return metrics.MetricLog(tmp_path)


def lines(log):
    return [(line["kind"], line["stage"], line["step"]) for line in metrics.read_lines(log.path)]


def fill(log):
    log.write("train", 0, 5, 5, {"loss": 3.0})
    log.write("train", 0, 10, 10, {"loss": 2.0})
    log.write("validation", 0, 10, 10, {"bits_per_byte": 2.0, "kind": "bound"})
    log.write("transition", 1, 0, 10, {"moments_zero": 1})
    log.write("train", 1, 5, 15, {"loss": 1.0})


def test_a_line_is_complete_json(log):
    fill(log)
    text = log.path.read_text()
    assert text.endswith("\n") and len(text.splitlines()) == 5
    first = json.loads(text.splitlines()[0])
    assert first == {"kind": "train", "stage": 0, "step": 5, "total_step": 5, "loss": 3.0}


def test_only_numbers_become_events(log):
    fill(log)
    assert log._writer.seen[0] == (5, {"train/loss": 3.0})
    assert log._writer.seen[2][1] == {"validation/bits_per_byte": 2.0}


def test_the_kind_of_a_line_is_not_overwritten(log):
    log.write("validation", 0, 10, 10, {"bits_per_byte": 2.0, "kind": "bound"})
    assert lines(log) == [("validation", 0, 10)]


@pytest.mark.parametrize(
    ("stage", "step", "left"),
    [(-1, 0, 0), (0, 0, 0), (0, 5, 1), (0, 9, 1), (0, 10, 3), (1, 0, 4), (1, 4, 4), (1, 5, 5), (2, 0, 5)],
)
def test_cut_back_drops_what_comes_after(log, stage, step, left):
    fill(log)
    before = lines(log)
    log.cut_back(stage, step)
    assert lines(log) == before[:left]
    log.write("train", 9, 1, 1, {"loss": 0.5})
    assert lines(log) == [*before[:left], ("train", 9, 1)]


def test_a_half_written_line_is_ignored_and_removed(log):
    fill(log)
    whole = log.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole) - 1):  # a complete line without its line break is still a line
        log.path.write_bytes(whole[:cut])
        assert len(lines(log)) == 4
        log.cut_back(5, 0)
        assert log.path.read_bytes() == whole[:last]


@pytest.mark.parametrize("last", [b'{"kind": "tr', b'{"kind": "\xff', b"7\n", b"null\n"])
def test_lines_end_where_one_is_none(tmp_path, last):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + last)
    assert list(metrics.read_lines(path)) == [{"step": 1}]


def test_cut_back_without_a_file(log):
    log.cut_back(0, 0)
    assert not log.path.exists()


def test_metrics_of_a_run_are_whole(smoke_run):
    read = list(metrics.read_lines(smoke_run / "metrics.jsonl"))
    assert len(read) == len((smoke_run / "metrics.jsonl").read_text().splitlines())
    for line in read:
        assert {"kind", "stage", "step", "total_step"} < set(line)
        assert all(math.isfinite(v) for v in line.values() if isinstance(v, float))
    train = [line for line in read if line["kind"] == "train"]
    assert [line["total_step"] for line in train] == list(range(1, len(train) + 1))
    assert train[-1]["loss"] < train[0]["loss"] - 0.5
    names = {"loss", "mask_rate", "gradient_norm", "learning_rate", "bits_per_byte", "flops"}
    assert all(names < set(line) for line in train)
    assert all(("tokens_per_second" in line) == (line["step"] > 1) for line in train)
    bounds = [line["bits_per_byte"] for line in read if line["kind"] == "validation"]
    assert len(bounds) == 3 and bounds[2] < min(bounds[:2])


def test_a_full_disk_is_named_and_leaves_what_was_whole(log, tmp_path):
    """A limit on the size of files stands for it: a line is cut in the middle, a new file is not made."""
    fill(log)
    before, size = lines(log), log.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, hard))
    try:
        with pytest.raises(OSError) as caught:
            log.write("train", 2, 1, 16, {"loss": 1.0})
        assert caught.value.filename == str(log.path) and log.path.stat().st_size == size + 9
        resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
        with pytest.raises(OSError) as caught:
            log.cut_back(2, 0)
        assert caught.value.filename == str(log.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert lines(log) == before and not list(tmp_path.glob("*.tmp"))
    log.cut_back(2, 0)
    assert lines(log) == before and log.path.stat().st_size == size


def test_texts_go_to_tensorboard_too(tmp_path, child_env):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\n"
        "from mdlm_jax.ui.curves import EventWriter\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "writer = EventWriter(Path(sys.argv[1]))\n"
        "writer.write_texts(7, {'sample/text': 'It was [MASK]'})\n"
        "writer.close()\n"
        "events = EventAccumulator(sys.argv[1]); events.Reload()\n"
        "[event] = events.Tensors('sample/text')\n"
        "print(event.step, event.tensor_proto.string_val[0].decode())\n"
        "print(events.SummaryMetadata('sample/text').plugin_data.plugin_name)\n"
    )
    done = child(code, tmp_path, child_env)
    assert done.stdout.splitlines() == ["7 It was [MASK]", "text"], done.stderr


class Full(Quiet):
    """Stands for a writer whose disk is full, and whose error is nothing that we know."""

    def flush(self):
        raise RuntimeError("events.out; No space left on device\n\tFailed to flush 2 events")


def test_what_a_writer_raises_is_one_line(tmp_path):
    curves = Curves(tmp_path, [Quiet(), Full()])
    curves.write_scalars(1, {"a": 1.0})
    with pytest.raises(UserError, match=f"curves in {tmp_path}: no space left; free some and run the same"):
        curves.flush()


def test_weights_and_biases_offline(tmp_path, child_env):
    """Two processes, one run; what they have logged lies in the directory."""
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed (the extra of that name)")
    (tmp_path / "config.json").write_text('{"seed": 4}')
    code = (
        "import sys; sys.modules['clu'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path; from mdlm_jax.ui.metrics import MetricLog\n"
        "log = MetricLog(Path(sys.argv[1]), wandb=True)\n"
        "log.write('train', 0, 1, 1, {'loss': 2.5})\n"
        "log.write('sample', 0, 1, 1, {'text': 'It was'})\n"
        "log.close()\n"
    )
    for _ in range(2):
        child = [sys.executable, "-c", code, str(tmp_path)]
        env = child_env | {"WANDB_MODE": "offline", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        done = subprocess.run(child, capture_output=True, text=True, env=env, cwd=REPO)
        assert done.returncode == 0, done.stderr
    kept = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len({path.name for path in kept}) == 1 and len(kept) == 2
    assert all(b"train/loss" in path.read_bytes() and b"It was" in path.read_bytes() for path in kept)
    files = (p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if not p.is_dir())
    assert all(WRITTEN.fullmatch(name) for name in files)


def test_weights_and_biases_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.chdir(REPO)
    arguments = ["--config", "configs/three_stage.py:smoke", "--workdir", str(tmp_path / "run"), "--wandb"]
    with pytest.raises(UserError, match=r"wandb is not installed; in the checkout: pip install -e"):
        launch.launch(arguments)
    assert not (tmp_path / "run").exists()  # nothing is prepared first
