"""Faults by the dozen: a run that is killed, stopped, out of space or damaged ends as one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import indivisible, once, soak_count, timeless
from forked import Run

from mdlm_jax import checkpoint
from mdlm_jax.evaluation.summary import WRITTEN
from mdlm_jax.ui import metrics

# The smoke plan, smaller, since most of a start is tracing; the last stage begins with the best weights of
# the one before.
PLAN = ["--config", "configs/three_stage.py:smoke", "--config.log_every=1", "--config.checkpoint_every=4"]
PLAN += ["--config.model.num_layers=1", "--config.model.d_model=32", "--config.model.remat=none"]
PLAN += ["--config.optimizer.name=adamw", "--config.micro_batch=8", "--config.evaluation.per_stage=2"]
PLAN += [f"--config.stages[{i}].num_epochs={n}" for i, n in enumerate((3, 2, 3))]
PLAN += ["--config.stages[2].init_from=best"]


class Lab:
    """Starts the command on one book, one after the other."""

    def __init__(self, place: Path, book: Path, data: Path, cache: Path):
        self.place, self.cache, self.output = place, cache, place / "output.txt"
        self.options = [*PLAN, "--book", str(book), "--data", str(data)]
        self.whole, self.seconds = place / "whole", 0.0

    def start(self, workdir: Path, *extra: str, **how) -> Run:
        self.output.unlink(missing_ok=True)
        return Run([*self.options, *extra, "--workdir", str(workdir)], self.output, self.cache, **how)

    def finish(self, workdir: Path) -> None:
        """Lets it run to its end, which is that of the whole run."""
        run = self.start(workdir)
        assert run.wait() == 0, run.said()
        assert_same(workdir, self.whole)


@pytest.fixture(scope="module")
def lab(book, dataset_dir, shared, tmp_path_factory):
    common = shared / "lab"

    def make() -> None:
        common.mkdir()
        lab = Lab(common, book, dataset_dir, common / "cache")
        for workdir in (common / "first", lab.whole):  # the second with everything compiled
            began, run = time.monotonic(), lab.start(workdir)
            assert run.wait() == 0, run.said()
            lab.seconds = time.monotonic() - began
        assert_same(common / "first", lab.whole)
        (common / "seconds").write_text(str(lab.seconds))

    once(common, make)
    lab = Lab(tmp_path_factory.mktemp("lab"), book, dataset_dir, common / "cache")
    lab.whole, lab.seconds = common / "whole", float((common / "seconds").read_text())
    return lab


def arrays(path: Path) -> dict[str, tuple]:
    """{tree path: (dtype, shape, bytes)} of a checkpoint."""
    assert checkpoint.verify(path) is None
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.restore(path.absolute() / "state")
    return {k: ((a := np.asarray(v)).dtype, a.shape, a.tobytes()) for k, v in stored.items()}


def losses(workdir: Path) -> list[dict]:
    """Every line of metrics that is a figure of the weights."""
    return timeless(x for x in metrics.read_lines(workdir / "metrics.jsonl") if x["kind"] != "sample")


def assert_same(workdir: Path, whole: Path) -> None:
    """The last weights of every stage bit for bit, every figure, the report; and nothing left over."""
    names = [p.relative_to(whole) for p in sorted(whole.glob("checkpoints/*"))]
    assert len(names) == 3
    for name in names:
        newest = checkpoint.steps(whole / name)[-1]
        assert checkpoint.steps(workdir / name)[-1] == newest
        ours, theirs = (arrays(directory / name / str(newest)) for directory in (workdir, whole))
        assert len(ours) > 20 and ours == theirs, name
    assert losses(workdir) == losses(whole)
    report = "report/report.json"
    assert (workdir / report).read_bytes() == (whole / report).read_bytes()
    assert json.loads((workdir / "STATUS.json").read_text())["state"] == "finished"
    assert not [p for p in workdir.rglob("*.tmp") if p.parent.name != "checkpoints"]


def assert_sound(workdir: Path) -> None:
    """What a fault leaves can be told from what is whole: nothing with a step for a name is half there."""
    for path in workdir.rglob("*"):
        assert path.is_dir() or WRITTEN.fullmatch(path.relative_to(workdir).as_posix()), path
    for directory in workdir.glob("checkpoints/*"):
        for step in checkpoint.steps(directory):
            assert checkpoint.verify(directory / str(step)) is None


def place_of(workdir: Path, said: str) -> str:
    """Where a run was when it ended: the stage, or what it does beside the steps of one."""
    if "Ctrl-C is safe" not in said:
        return "setting up"
    doing = said.rstrip().splitlines()[-1]
    if "measuring again" in doing or "Transition" in doing:
        return "transition"
    if "measuring the test" in doing or ("bits per byte" in doing and "word" in doing):
        return "report"
    stages = [p.name for p in sorted(workdir.glob("checkpoints/*"))]
    return f"stage {stages[-1][0]}" if stages else "stage 1"


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written, or an old one removed."""
    return any(workdir.glob("checkpoints/*/*.tmp"))


def aim(lab: Lab, run: Run, workdir: Path, target: str, rng: random.Random) -> bool:
    """Waits for the moment; False when the run ended before."""
    if target == "save":
        for nth in range(last := rng.randrange(1, 6)):
            there = run.until(lambda: saving(workdir))
            if not there or (nth < last - 1 and not run.until(lambda: not saving(workdir))):
                return False
        time.sleep(rng.uniform(0, 0.1))
    elif target == "restore":
        if not run.until(lambda: "Ctrl-C is safe" in run.said()):
            return False
        time.sleep(rng.uniform(0, 0.6))
    elif target == "report":
        if not run.until(lambda: "measuring the test" in run.said()):
            return False
        time.sleep(rng.uniform(0, 0.8))
    else:
        return run.wait(rng.uniform(0.02, 1.0) * lab.seconds) is None
    return run.wait(0) is None


def strike(lab: Lab, number: int, count: int, targets: tuple, seed: int) -> Counter:
    """`count` signals at seeded moments, run after run; every run that ends, ends as the whole one."""
    rng, places, runs = random.Random(seed), Counter(), 1
    workdir = lab.place / f"{number}-{runs}"
    while sum(places.values()) < count:
        target = rng.choice(targets)
        run = lab.start(workdir)
        if aim(lab, run, workdir, target, rng):
            os.kill(run.process.pid, number)
        code, said = run.wait(), run.said()
        if code == 0:
            assert_same(workdir, lab.whole)
            shutil.rmtree(workdir)
            runs += 1
            workdir = lab.place / f"{number}-{runs}"
            continue
        assert code in ((-9,) if number == signal.SIGKILL else (75, -15)), said
        if number == signal.SIGTERM and code == 75:
            assert "Traceback" not in said
            assert "the same command" in said.splitlines()[-1], said
        places["save" if code == -9 and saving(workdir) else place_of(workdir, said)] += 1
        assert_sound(workdir)
    lab.finish(workdir)
    places["runs that ended"] = runs
    return places


@pytest.mark.soak
def test_kill_9(lab, capsys):
    places = strike(lab, signal.SIGKILL, soak_count(60), ("any", "any", "save", "restore", "report"), 0)
    with capsys.disabled():
        print(f"\nkill -9: {dict(places)}")


@pytest.mark.soak
def test_sigterm(lab, capsys):
    places = strike(lab, signal.SIGTERM, soak_count(20), ("any", "any", "any", "save", "report"), 1)
    with capsys.disabled():
        print(f"\nSIGTERM: {dict(places)}")


@pytest.mark.soak
def test_a_full_disk(lab, capsys):
    """A disk that is too small, or that somebody fills up: one line, the last good step, and then the end."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets no user mount a small disk (unshare -rm)")
    rng, count, hits, places = random.Random(2), soak_count(10), 0, Counter()
    size = sum(p.stat().st_blocks * 512 for p in lab.whole.rglob("*"))
    for number in range(4 * count):
        disk = lab.place / f"disk-{number}"
        disk.mkdir()
        after, workdir = disk.with_name(f"{disk.name}.after"), disk / "run"
        if number % 3 == 2:
            mount = disk, int(size * rng.uniform(0.05, 0.9)), None
        else:
            mount = disk, 4 * size, rng.uniform(0.1, 0.9) * lab.seconds
        run = lab.start(workdir, disk=mount)
        code, said = run.wait(), run.said()
        if code != 0:
            hits += 1
            assert code == 2 and "Traceback" not in said, said
            last = said.rstrip().splitlines()[-1]
            assert last.startswith("error: ") and "no space left" in last and "same command" in last, said
            places[last.split(":")[1].split("/run/")[-1].split("/")[0]] += 1
            if (after / "run").exists():
                assert_sound(after / "run")
                assert not list(after.rglob("*.tmp"))
        lab.finish(after / "run")
        shutil.rmtree(after)
        if hits == count:
            break
    with capsys.disabled():
        print(f"\nfull disks: {hits} ({dict(places)})")
    assert hits == count


def damage(path: Path, rng: random.Random) -> str:
    """Damages one file of a checkpoint; says how."""
    file = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    content, how = file.read_bytes(), rng.choice(["flip", "truncate", "delete"])
    if how == "delete":
        file.unlink()
    elif how == "truncate":
        file.write_bytes(content[: rng.randrange(len(content))] if content else b"x")
    else:
        at, bit = rng.randrange(max(len(content), 1)), 1 << rng.randrange(8)
        file.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :] if content else b"x")
    return f"{how} {file.name}"


def toy_train(directory: Path, steps: int, said: list[str]) -> tuple[int, dict]:
    """A training of three arrays, as train.py saves and resumes: (step it began with, the last state)."""
    checkpoint.tidy(directory, said.append)
    state, start = {"a": np.arange(64, dtype=np.float32), "b": np.float32([[1.5]]), "n": np.int32(0)}, 0
    if path := checkpoint.newest_intact(directory, said.append):
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
        state = jax.tree.map(np.asarray, checkpoint.restore(path, like))
        start = int(state["n"])
    for step in range(start + 1, steps + 1):
        a = np.sin(state["a"] * 1.7 + state["b"][0, 0])
        state = {"a": a, "b": state["b"] + a[:1, None], "n": np.int32(step)}
        if step % 2 == 0:
            checkpoint.save(directory, step, jax.tree.map(jnp.asarray, state), {"step": step}, keep=set())
    return start, state


@pytest.mark.soak
def test_damaged_checkpoints_are_never_used(tmp_path, capsys):
    """Bit flips, cuts, deletions in every kind of file, in the newest checkpoint and the one before it."""
    rng, ways = random.Random(3), Counter()
    begun = tmp_path / "begun"
    toy_train(begun, 6, [])
    _, expected = toy_train(tmp_path / "whole", 8, [])
    assert checkpoint.steps(begun) == [4, 6]
    for number in range(soak_count(200)):
        directory = tmp_path / f"run-{number}"
        shutil.copytree(begun, directory)
        hurt = [directory / str(step) for step in rng.choice([(6,), (6,), (6, 4)])]
        ways.update(damage(path, rng) for path in hurt)
        wrong = [path for path in hurt if checkpoint.verify(path) is not None]
        if len(wrong) < len(hurt):  # white space in a manifest may become other white space
            healed = [p for p in hurt if p not in wrong]
            assert all((p / "meta.json").read_bytes() == (begun / p.name / "meta.json").read_bytes()
                       and arrays(p) == arrays(begun / p.name) for p in healed)  # fmt: skip
        said: list[str] = []
        start, state = toy_train(directory, 8, said)
        assert start == max([0, *(s for s in (4, 6) if directory / str(s) not in wrong)])
        for path in [p for p in wrong if int(p.name) > start]:
            assert any(str(path) in line and "is damaged" in line for line in said)
        assert state["a"].tobytes() == expected["a"].tobytes()
        assert state["b"].tobytes() == expected["b"].tobytes()
        shutil.rmtree(directory)
    kinds = Counter(how.split()[0] for how in ways.elements())
    files = sorted({how.split()[1] for how in ways})
    with capsys.disabled():
        print(f"\ndamaged: {dict(kinds)} in files such as {', '.join(files[:8])}")


@pytest.mark.soak
def test_a_run_with_damaged_checkpoints(lab, capsys):
    """The newest, two in a row, all of the last stage, the best one that the last stage began with."""
    rng, told = random.Random(4), Counter()
    for number in range(soak_count(20)):
        workdir = lab.place / f"hurt-{number}"
        shutil.copytree(lab.whole, workdir)
        shutil.rmtree(workdir / "report")
        (workdir / "STATUS.json").unlink()
        stages = sorted((workdir / "checkpoints").iterdir())
        newest = [stages[2] / str(step) for step in reversed(checkpoint.steps(stages[2]))]
        case = number % 4
        victims = [newest[:1], newest[:2], newest, newest][case]
        if case == 3:
            victims = [*victims, *(stages[1] / str(step) for step in checkpoint.steps(stages[1]))]
        how = [damage(path, rng) for path in victims]
        if case == 1 and (manifest := newest[0] / checkpoint.MANIFEST).exists():
            manifest.unlink()
        run = lab.start(workdir)
        code, said = run.wait(), run.said()
        assert code == 0, said
        told["named"] += said.count("is damaged")
        assert said.count("is damaged") >= (1 if case < 2 else 2), (how, said)
        assert_same(workdir, lab.whole)
        shutil.rmtree(workdir)
    with capsys.disabled():
        print(f"\ndamaged checkpoints of runs: {dict(told)}")


@indivisible
@pytest.mark.soak
def test_aids_change_nothing(lab):
    """Begun with one set of aids, resumed without, and ended with another: the same run."""
    workdir, seen = lab.place / "aided", "metrics.jsonl"
    run = lab.start(workdir, "--blocking", "--profile=2:4")
    assert run.until(lambda: (workdir / seen).exists() and b'"step": 6' in (workdir / seen).read_bytes())
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.wait() == 75, run.said()
    assert list(workdir.glob("plugins/profile/*/*.xplane.pb")) and "profile: tensorboard" in run.said()
    run = lab.start(workdir, "--debug_nans", "--config.sample_tokens=8")
    assert run.wait() == 0, run.said()
    texts = [x["text"] for x in metrics.read_lines(workdir / seen) if x["kind"] == "sample"]
    assert len(texts) >= 5 and all(texts)
    assert_sound(workdir)
    assert_same(workdir, lab.whole)


@indivisible
@pytest.mark.soak
def test_the_first_nan_of_a_run_has_a_place(lab):
    rates = [f"--config.optimizer.{name}=3e38" for name in ("learning_rate", "embedding_rate", "norm_rate")]
    run = lab.start(lab.place / "nan", "--debug_nans", *rates, "--config.stages[0].rate_scale=10.0")
    code, said = run.wait(), run.said()
    assert code == 3 and "Traceback" not in said, said
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("error: step ") and "of 1_foundational" in last and "at mdlm_jax/" in last, last


@indivisible
@pytest.mark.soak
def test_two_threads_find_the_same(lab):
    """float32, one processor and two: losses within 1e-3 all the way."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one processor")
    run = lab.start(workdir := lab.place / "two", cpus=2)
    assert run.wait() == 0, run.said()

    def of(place: Path) -> list[float]:
        return [x["loss"] for x in metrics.read_lines(place / "metrics.jsonl") if x["kind"] == "train"]

    one, two = np.array(of(lab.whole)), np.array(of(workdir))
    assert one.shape == two.shape and np.abs(one - two).max() < 1e-3
