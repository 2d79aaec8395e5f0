"""launch.py: every mistake is one line and exit code 2, and nothing half-written is left."""

import re
import subprocess
import sys

import pytest
from conftest import REPO

SMOKE = "configs/three_stage.py:smoke"


def launch(env, *options) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", *map(str, options)]
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--config and --workdir are needed"),
        (["--config", SMOKE], "--config and --workdir are needed"),
        (["--workdir", "{run}"], "--config and --workdir are needed"),
        (["--config", "configs/absent.py", "--workdir", "{run}"], "configs/absent.py"),
        (["--config", "configs", "--workdir", "{run}"], "Is a directory: 'configs'"),
        (["--config", "README.md", "--workdir", "{run}"], "README.md"),
        (["--config", SMOKE[:-1], "--workdir", "{run}"], "no preset 'smok'; there are base"),
        (["--config.seed=3", "--workdir", "{run}"], "Unknown command line flag 'config.seed'"),
        (["--config", SMOKE, "--workdir"], "Missing value for flag --workdir"),
        (["--config", SMOKE, "--wrkdir", "{run}"], "Did you mean: workdir"),
        (["--config", SMOKE, "--workdir", "{run}", "book.txt"], "unexpected argument 'book.txt'"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.modle.d_model=3"], 'Did you mean "model"'),
        (["--config", SMOKE, "--workdir", "{run}", "--config.model.d_modle=3"], 'Did you mean "d_model"'),
        (["--config", SMOKE, "--workdir", "{run}", "--config.stages[1].num_epoch=3"], '"num_epochs"'),
        (["--config", SMOKE, "--workdir", "{run}", "--config.zzz=3"], "zzz"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.stages[7].num_epochs=3"], "index out of range"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.seed=1e3"], "--config.seed=1e3: invalid"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.model.qk_norm=maybe"], "Non-boolean argument"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.optimizer.name=adam"], "did you mean adamw?"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.micro_batch=3"], "micro_batch=3 must divide"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.seed=-1"], "config.seed must be 0 or more"),
        (["--config", SMOKE, "--workdir", "{run}", "--config.data.embedder=x"], "unknown embedder 'x'"),
        (["--config", SMOKE, "--workdir", "{run}", "--book", "absent.txt"], "absent.txt does not exist"),
        (["--config", SMOKE, "--workdir", "{run}", "--book", "configs"], "configs is a directory"),
        (["--config", SMOKE, "--workdir", "{run}", "--book", "{empty}"], "empty.txt"),
        (["--config", SMOKE, "--workdir", "{run}", "--book", "{binary}"], "binary.txt"),
        (["--config", SMOKE, "--workdir", "{empty}"], "empty.txt"),
        (["--config", SMOKE, "--workdir", "{empty}/run"], "empty.txt"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(options, reason, child_env, tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 40)
    places = {name: tmp_path / f"{name}.txt" for name in ("empty", "binary")} | {"run": tmp_path / "run"}
    done = launch(child_env, *(o.format(**places) for o in options))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and reason in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["binary.txt", "empty.txt"]


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_names_every_field(flag, child_env):
    done = launch(child_env, flag)
    assert done.returncode == 0 and done.stderr == ""
    for name in ("--config", "--book", "--workdir", "--data", "--config.seed", "--config.model.d_model"):
        assert re.search(rf"(?m)^ *{re.escape(name)}\b", done.stdout), name
    assert "--config.stages[0].mask_rate" in done.stdout and "global gradient norm is clipped" in done.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--config.data.vocab_size=400"], "vocab_size: 512 -> 400"),
        (["--book", "README.md"], "it holds book.txt"),
    ],
)
def test_prepared_data_are_never_replaced(options, reason, child_env, dataset_dir, tmp_path):
    before = {p: p.read_bytes() for p in dataset_dir.iterdir()}
    done = launch(
        child_env, "--config", SMOKE, "--workdir", tmp_path / "run", "--data", dataset_dir, *options
    )
    assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1
    assert {p: p.read_bytes() for p in dataset_dir.iterdir()} == before and not (tmp_path / "run").exists()


def test_unwritable_workdir(child_env, book, dataset_dir):
    done = launch(
        child_env, "--config", SMOKE, "--workdir", "/proc/run", "--book", book, "--data", dataset_dir
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_screen_before_training_and_the_figures_after(smoke_run, shared):
    shown = (shared / "smoke_run.txt").read_text(encoding="utf-8")
    for word in (
        "Book ",
        "Model ",
        "Parameters ",
        "Stage 1 ",
        "Stage 3 ",
        "FLOPs",
        "Ccrit",
        "extrapolation",
        "Time ",
    ):
        assert word in shown
    assert "validation: " in shown and "test: " in shown and "byte 5-gram" in shown
    assert f"python -m mdlm_jax.sample --workdir {smoke_run}" in shown
