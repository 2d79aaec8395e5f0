"""launch.py: every mistake is one line and exit code 2, and nothing half-written is left."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import REPO, built_in_chapters

import configs
import launch as program
from configs import fields, three_stage
from mdlm_jax import checkpoint, runs
from mdlm_jax.configuration import resolve
from mdlm_jax.data import DataError
from mdlm_jax.run_directory import load, read_config
from mdlm_jax.train_state import init_params
from mdlm_jax.ui import metrics
from mdlm_jax.ui.values import UserError, flat

SMOKE = "configs/three_stage.py:smoke"


def launch(env, *options) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", *map(str, options)]
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=600)


def test_help_lists_every_flag_and_field_within_a_second(child_env):
    began = time.perf_counter()
    done = launch(child_env, "--help", "--config", SMOKE)
    passed = time.perf_counter() - began
    assert done.returncode == 0 and done.stderr == "" and passed < 5, passed  # 0.15 s on an idle machine
    for flag in (
        "--config",
        "--config_overrides",
        "--book",
        "--workdir",
        "--data",
        "--init_from",
        "--recommend",
    ):
        assert re.search(rf"(?m)^  {flag} ", done.stdout), flag
    smoke = flat(dataclasses.asdict(resolve(three_stage.get_config("smoke"))))
    for name, (_, doc) in fields().items():
        [line] = [x for x in done.stdout.splitlines() if x.startswith(f"  --config.{name}=")]
        assert doc in line and (name not in smoke or f"={smoke[name]} " in line)
    assert launch(child_env, "-h").stdout.count("--config.model.num_layers=12 ") == 1


def test_flags_of_a_config_make_it_again():
    config = resolve(three_stage.get_config("tiny"))
    config = replace(config, init_from="runs/a b", seed=9)
    flags = dict(flag.removeprefix("--config.").split("=", 1) for flag in configs.as_flags(config))
    assert resolve(flags) == config


def test_help_shows_every_field_once():
    lines = configs.help_lines(resolve(flat(three_stage.get_config())))
    assert [line.split("=")[0].strip() for line in lines] == [f"--config.{name}" for name in fields()]
    assert any("mask_rate=0.75,0.9 " in line and " pair " in line for line in lines)


def test_help_imports_nothing_slow():
    """What makes the second: neither jax nor anything else that takes long."""
    code = "import sys, launch; sys.argv=['launch.py', '--help']; launch.command(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "absl.flags" in loaded and not loaded & {"jax", "numpy", "scipy", "tensorflow", "grain", "rich"}


def test_printed_flags_make_the_same_config(child_env, tmp_path):
    changes = ["--config.model.num_layers=1e1", "--config.stages[1].mask_rate=.3,.5", "--config.seed", "1k"]
    one = launch(child_env, "--config", SMOKE, "--print_config", *changes)
    assert one.returncode == 0 and one.stderr == ""
    lines = one.stdout.splitlines()
    assert {
        "--config.model.num_layers=10",
        "--config.seed=1000",
        "--config.stages[1].mask_rate[0]=0.3",
    } <= set(lines)
    two = launch(child_env, "--config", "configs/three_stage.py:tiny", "--print_config", *lines)
    assert two.stdout == one.stdout


def test_file_then_overrides_file_then_command_line(child_env, tmp_path):
    (tmp_path / "my.py").write_text(
        "overrides = {'model.num_layers': '6', 'stages[0]': {'num_epochs': 1e3}, 'seed': 4,\n"
        "             'model': {'d_model': 96}}"
    )
    done = launch(
        child_env,
        "--config.seed=5",
        "--config_overrides",
        tmp_path / "my.py",
        "--config",
        SMOKE,
        "--print_config",
    )
    assert done.returncode == 0, done.stderr
    changed = set(done.stdout.splitlines()) - set(
        launch(child_env, "--config", SMOKE, "--print_config").stdout.splitlines()
    )
    assert changed == {
        f"--config.{x}"
        for x in ("model.num_layers=6", "model.d_model=96", "seed=5", "stages[0].num_epochs=1000")
    }


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


def test_prepared_data_of_a_folder_are_known_again(tmp_path):
    """--book may name whatever data_prep reads; its fingerprint is that of dataset.json."""
    config = resolve(three_stage.get_config("smoke"))
    folder, data = tmp_path / "books", tmp_path / "data"
    folder.mkdir()
    for name in ("1.txt", "2.md"):
        (folder / name).write_text(built_in_chapters(3 + int(name[0])), encoding="utf-8")
    program.prepare(config, str(folder), data, None, lambda line: None)
    program.check_prepared(config, str(folder), data, None)
    for other in (str(folder / "1.txt"), str(tmp_path / "absent"), "gutenberg:x"):
        with pytest.raises(DataError, match="it holds books"):
            program.check_prepared(config, other, data, None)


def test_the_screen_before_training_and_the_figures_after(smoke_run, shared):
    shown = (shared / "smoke_run.txt").read_text(encoding="utf-8")
    for word in ("Book   ", "2,8", "Model  ", "Plan   foundational x 4", "Time   about", "Ctrl-C is safe"):
        assert word in shown
    parts = r"Memory [\d.]+ GB, estimated: state [\d.]+ MB, step .*gradients .*activations .*logits .*process"
    assert re.search(parts, shown)
    assert "A short book, 2,8" in shown
    details = (smoke_run / "plan.txt").read_text(encoding="utf-8")
    assert all(
        word in details for word in ("FLOPs", "Ccrit", "extrapolation", "stage 3, refinement", "formula")
    )
    assert (
        "validation: " in shown
        and "test: " in shown
        and "byte 5-gram" in shown
        and "lower is better" in shown
    )
    assert f"python -m mdlm_jax.sample --workdir {smoke_run}" in shown
    for stage in ("1_foundational", "2_structural", "3_refinement"):
        assert details.count(f"{stage}: the compiled step takes") == 1


def test_out_of_device_memory_is_one_line_that_names_auto(monkeypatch):
    def too_much(argv: list[str]) -> None:
        jax.numpy.zeros((2**30, 2**20)).block_until_ready()

    monkeypatch.setattr(program, "launch", too_much)
    with pytest.raises(UserError, match=r"out of device memory: .*micro_batch=auto") as caught:
        program.command()
    assert "\n" not in str(caught.value)


def test_a_finished_run_says_so_and_changes_nothing(smoke_run, shared, child_env, tmp_path):
    run = shutil.copytree(smoke_run, tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    done = launch(child_env, "--workdir", run)
    assert done.returncode == 0 and "is finished" in done.stderr
    shown = (shared / "smoke_run.txt").read_text(encoding="utf-8")
    told = done.stdout.splitlines()
    assert len(told) >= 5 and told == [
        x.replace(str(smoke_run), str(run)) for x in shown.splitlines()[-len(told) :]
    ]
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.soak
def test_a_second_book_from_the_first_ones_weights(smoke_run, light_env, tmp_path):
    """Weights and tokenizer are those of the first run; afterwards the first run is not needed any more."""
    first = shutil.copytree(smoke_run, tmp_path / "first", ignore=shutil.ignore_patterns("data", "events*"))
    book, run = tmp_path / "next.txt", tmp_path / "second"
    book.write_text(built_in_chapters(6)[len(built_in_chapters(3)) :], encoding="utf-8")
    options = ["--init_from", first, "--book", book, "--workdir", run]
    options += [f"--config.stages[{i}].num_epochs=1" for i in range(3)]
    done = launch(light_env, *options)
    assert done.returncode == 0, done.stderr
    assert "Weights and tokenizer of" in done.stderr and "kept from another run" in done.stderr
    assert (run / "tokenizer.json").read_bytes() == (smoke_run / "tokenizer.json").read_bytes()
    assert json.loads((run / "dataset.json").read_text())["tokenizer"]["kept"] is True
    began = run / "checkpoints" / "1_foundational" / "0"
    like = jax.eval_shape(lambda: init_params(read_config(run).model, 0))
    theirs = load(smoke_run).params
    for part in (".params", ".ema"):
        assert jax.tree.all(jax.tree.map(np.array_equal, checkpoint.restore(began, like, part), theirs))
    lines = list(metrics.read_lines(run / "metrics.jsonl"))
    at_start = next(line for line in lines if line["kind"] == "validation" and line["step"] == 0)
    assert at_start["bits_per_byte"] < 8
    shutil.rmtree(first)  # and the stages after the first start over
    shutil.rmtree(run / "report")
    for name in ("2_structural", "3_refinement"):
        shutil.rmtree(run / "checkpoints" / name)
    again = launch(light_env, "--workdir", run)
    assert again.returncode == 0, again.stderr
    assert "Resumed 1_foundational" in again.stderr


def test_what_was_prepared_for_a_run_that_never_began_can_be_seen_and_removed(dataset_dir, tmp_path, capsys):
    run = shutil.copytree(dataset_dir, tmp_path / "runs" / "early" / "data").parent
    for command in (["list", "--dir", str(run.parent)], ["show", str(run)]):
        assert runs.main(command) == 0 and "prepared, no training yet" in capsys.readouterr().out
    assert runs.main(["remove", str(run), "--yes"]) == 0 and not run.exists()


def test_nothing_leaves_the_machine(smoke_run, shared):
    """The whole run, under an audit hook on the sockets of Python (see `child_env`)."""
    assert (shared / "sockets.txt").read_text() == ""
