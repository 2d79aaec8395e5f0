"""A run directory: what it holds, who may use it, and what is loaded from it."""

import dataclasses
import fcntl
import hashlib
import json
import shutil
import threading

import jax
import numpy as np
import pytest
from conftest import SMOKE

from configs import three_stage
from mdlm_jax import checkpoint, run_directory
from mdlm_jax.configuration import resolve
from mdlm_jax.data import open_dataset
from mdlm_jax.run_directory import RunError
from mdlm_jax.ui.lock import locked
from mdlm_jax.ui.values import UserError, write_json


@pytest.fixture(scope="module")
def dataset(dataset_dir):
    return open_dataset(dataset_dir)


@pytest.fixture
def config(dataset):
    return run_directory.complete(resolve(three_stage.get_config("smoke")), dataset)


def contents(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_finished_run_holds_what_the_design_names(smoke_run):
    for name in ("config.json", "command.txt", "environment.json", "tokenizer.json", "dataset.json"):
        assert (smoke_run / name).is_file()
    assert list(smoke_run.glob("events.out.tfevents.*")) and (smoke_run / "metrics.jsonl").is_file()
    stages = sorted(p.name for p in (smoke_run / "checkpoints").iterdir())
    assert stages == ["1_foundational", "2_structural", "3_refinement"]
    for directory in (smoke_run / "checkpoints").iterdir():
        assert not list(directory.glob("*.tmp"))
        assert all(checkpoint.verify(directory / str(step)) is None for step in checkpoint.steps(directory))
    status = json.loads((smoke_run / "STATUS.json").read_text())
    assert status["state"] == "finished" and status["share_done"] == 1.0
    assert all(option in (smoke_run / "command.txt").read_text() for option in SMOKE)
    written = json.loads((smoke_run / "environment.json").read_text())
    assert written["versions"]["jax"] == jax.__version__ and written["devices"][0].startswith("cpu")
    report = json.loads((smoke_run / "report" / "report.json").read_text())
    for split in ("validation", "test"):
        assert 0 < report[split]["bits_per_byte"] < 8 and report[split]["kind"] == "bound"
        assert 0 < report["ngram_5_bits_per_byte"][split] < 8


def test_automatic_choices_are_written_in(smoke_run):
    config = run_directory.read_config(smoke_run)
    assert config.precision == "float32" and config.model.vocab_rows == 512
    assert config.log_every == 1 and config.seed == 0


def test_complete_follows_the_precision(dataset):
    values = three_stage.get_config("smoke")
    values.precision = "bf16_products"
    done = run_directory.complete(resolve(values), dataset)
    assert done.precision == "bf16_products" and done.model.bf16_products
    assert done.model.vocab_rows == dataset.info["vocab_rows"] >= dataset.info["vocab_size"]
    assert not run_directory.complete(resolve(three_stage.get_config("smoke")), dataset).model.bf16_products


def test_the_same_plan_may_come_again(tmp_path, config, dataset):
    run_directory.claim(tmp_path / "new" / "run", config, dataset, {})
    before = contents(tmp_path)
    run_directory.claim(tmp_path / "new" / "run", config, dataset, {})
    assert contents(tmp_path) == before
    assert run_directory.read_config(tmp_path / "new" / "run") == config


def claimed(workdir, config, dataset):
    """A run that has trained: a line of it is there."""
    run_directory.claim(workdir, config, dataset, {})
    (workdir / "metrics.jsonl").write_text("{}\n")


def test_another_config_is_refused_field_by_field(tmp_path, config, dataset):
    claimed(tmp_path, config, dataset)
    before = contents(tmp_path)
    stages = (dataclasses.replace(config.stages[0], num_epochs=9), *config.stages[1:])
    other = dataclasses.replace(config, seed=4, stages=stages)
    with pytest.raises(RunError) as caught:
        run_directory.claim(tmp_path, other, dataset, {})
    text = str(caught.value)
    assert "seed: the run has 0, you ask for 4; stages[0].num_epochs: the run has 2, you ask for 9" in text
    assert "\n" not in text and "batch" not in text
    assert contents(tmp_path) == before


def test_another_precision_goes_by_its_name(tmp_path, config, dataset):
    claimed(tmp_path, config, dataset)
    with pytest.raises(RunError, match=r"undo: precision: the run has \w+, you ask for bf16_products$"):
        run_directory.check_unchanged(tmp_path, dataclasses.replace(config, precision="bf16_products"))


@pytest.mark.parametrize("sign", ["metrics.jsonl", "checkpoints/1_foundational/1/MANIFEST.json"])
def test_before_its_first_step_a_run_may_have_another_plan(tmp_path, config, dataset, sign):
    """A directory whose training broke off while it compiled, or whose user was not served with the plan."""
    other = dataclasses.replace(config, seed=4)
    run_directory.claim(tmp_path, config, dataset, {})
    (tmp_path / "plan.txt").write_text("of the first plan")
    (tmp_path / "metrics.jsonl").touch()
    run_directory.claim(tmp_path, other, dataset, {})
    assert run_directory.read_config(tmp_path) == other and not (tmp_path / "plan.txt").exists()
    (tmp_path / sign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / sign).write_text("{}\n")
    with pytest.raises(RunError, match="seed: the run has 4, you ask for 0"):
        run_directory.claim(tmp_path, config, dataset, {})


def test_how_often_it_speaks_and_saves_may_change(tmp_path, config, dataset):
    run_directory.claim(tmp_path, config, dataset, {})
    other = dataclasses.replace(config, log_every=99, checkpoint_every=7)
    run_directory.claim(tmp_path, other, dataset, {})
    assert run_directory.read_config(tmp_path) == other


def test_the_command_that_left_the_micro_batch_open_may_come_again(tmp_path, config, dataset):
    """What it came to is the run's; another size or budget is another plan."""
    begun = dataclasses.replace(config, micro_batch=2, memory_budget=6.4)
    claimed(tmp_path, begun, dataset)
    for budget in (0.0, 6.4):
        auto = dataclasses.replace(config, micro_batch=0, memory_budget=budget)
        run_directory.check_unchanged(tmp_path, auto)
        assert run_directory.recorded(auto, tmp_path) == begun
    assert run_directory.recorded(config, tmp_path) == config
    for other, told in (
        (
            dataclasses.replace(config, micro_batch=0, memory_budget=5.0),
            "memory_budget: the run has 6.4, you ask for 5.0",
        ),
        (dataclasses.replace(begun, micro_batch=4), "micro_batch: the run has 2, you ask for 4"),
    ):
        with pytest.raises(RunError, match=told):
            run_directory.check_unchanged(tmp_path, other)


def test_other_data_are_refused(tmp_path, config, dataset):
    claimed(tmp_path, config, dataset)
    book = dataset.info["book"] | {"sha256": "0" * 64}
    other = dataclasses.replace(dataset, info=dataset.info | {"book": book})
    with pytest.raises(RunError, match=r"was trained on other data.*book\.sha256"):
        run_directory.claim(tmp_path, config, other, {})


def test_an_interrupted_claim_is_made_again(tmp_path, config, dataset):
    (tmp_path / "tokenizer.json").write_text("half")
    run_directory.claim(tmp_path, config, dataset, {})
    assert (tmp_path / "tokenizer.json").read_bytes() == (dataset.path / "tokenizer.json").read_bytes()


def test_config_survives_its_file(tmp_path, config):
    write_json(tmp_path / "config.json", dataclasses.asdict(config))
    assert run_directory.read_config(tmp_path) == config


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is not a run directory"),
        ("", "cannot read"),
        ("{}", "config.seed is missing"),
        ('{"sead": 1}', "config has no field sead; did you mean seed?"),
        ("[1]", "it holds no JSON object"),
    ],
)
def test_unreadable_config_is_one_line(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError) as caught:
        run_directory.load(tmp_path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def copy(smoke_run, tmp_path):
    shutil.copytree(smoke_run, tmp_path / "run", ignore=shutil.ignore_patterns("data", "events*"))
    return tmp_path / "run"


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_loads_the_newest_weights(smoke_run, capsys):
    run = run_directory.load(smoke_run)
    assert capsys.readouterr().err == ""
    directory = smoke_run / "checkpoints" / "3_refinement"
    newest = checkpoint.steps(directory)[-1]
    assert run.checkpoint == f"3_refinement/{newest}"
    manifest = (directory / str(newest) / "MANIFEST.json").read_bytes()
    assert run.model_hash == hashlib.sha256(manifest).hexdigest()[:16]
    raw = run_directory.load(smoke_run, "params")
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(run.params), leaves(raw.params), strict=True))
    special = run.dataset.special_ids
    assert run.forbidden.shape == (512,) and run.forbidden[[special["mask"], special["pad"]]].all()
    assert run.forbidden[run.dataset.info["vocab_size"] :].all() and not run.forbidden.all()


def test_load_passes_over_damage(copy, capsys):
    """Reading alone changes nothing: setting aside is the work of a resume."""
    last = copy / "checkpoints" / "3_refinement"
    newest, older = checkpoint.steps(last)[-1], checkpoint.steps(last)[-2]
    (last / str(newest) / "meta.json").write_text("{}")
    before = contents(copy)
    assert run_directory.load(copy).checkpoint == f"3_refinement/{older}"
    assert f"not those of 3_refinement/{newest}, whose figures" in capsys.readouterr().err
    shutil.rmtree(last / str(older))
    shutil.rmtree(last / str(newest))
    assert run_directory.load(copy).checkpoint.startswith("2_structural/")
    assert f"not those of 3_refinement/{newest}, whose figures" in capsys.readouterr().err
    assert contents(copy).items() <= before.items()
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(RunError, match="has no intact checkpoint yet"):
        run_directory.load(copy)


def test_two_processes_cannot_train_in_one_directory(tmp_path):
    refused = pytest.raises(UserError, match="another process is training in")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):  # let go
        pass


def test_who_only_looks_keeps_nobody_from_training(tmp_path):
    """`runs` and `watch` hold the lock for an instant, to see whether somebody trains."""
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.01, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass


def test_a_directory_of_other_things_is_refused(tmp_path, smoke_run):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(RunError, match=r"holds other things \(notes.md\)"):
        run_directory.check_unchanged(tmp_path, run_directory.read_config(smoke_run))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.md"]
