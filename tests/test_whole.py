"""What of a run is there, and whole: told from its files, without jax."""

import json
import shutil

import pytest

import launch
from mdlm_jax import checkpoint
from mdlm_jax.evaluation import summary
from mdlm_jax.ui import cli
from mdlm_jax.ui.values import write_json
from mdlm_jax.ui.whole import finished, has_steps, lost, reported


@pytest.fixture
def run(smoke_run, tmp_path):
    return shutil.copytree(smoke_run, tmp_path / "run", ignore=shutil.ignore_patterns("events*"))


def test_a_finished_run_whose_last_weights_are_hurt_is_not_whole(run):
    where = reported(run)
    path = run / "checkpoints" / where
    assert finished(run) and has_steps(run) and lost(run) is None
    assert "damaged" not in summary.show(run)
    largest = max((path / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)
    assert "not what was written" in lost(run) and str(path) in lost(run)
    assert f"step {path.name}" in summary.show(run)
    assert [line for line in summary.show(run).splitlines() if "; damaged: state/" in line]
    shutil.rmtree(path)
    assert "it is not there" in lost(run)
    assert f"{where}, whose figures the report has, is not there" in summary.show(run)
    older = path.with_name(str(checkpoint.steps(path.parent)[-1]))
    shutil.rmtree(older)  # what the report does not name is nobody's loss
    write_json(run / "report" / "report.json", {"checkpoint": None})
    assert lost(run) is None and finished(run)
    (run / "report" / "report.json").unlink()
    assert not finished(run) and reported(run) is None


def test_shards_are_found_in_the_run_or_where_they_were(run, tmp_path):
    told = json.loads((run / "shards.json").read_text())["path"]
    assert launch.shards(run) == run / "data"  # first, for the whole may have been moved
    own = shutil.move(run / "data", tmp_path / "elsewhere")
    write_json(run / "shards.json", {"path": str(own)})
    assert launch.shards(run) == own and told != own
    (run / "data").mkdir()
    write_json(run / "data" / "dataset.json", {"of": "another book"})
    assert launch.shards(run) == own
    shutil.move(own, tmp_path / "gone")
    with pytest.raises(cli.UsageError, match=r"give its --data again \(was .*elsewhere\), or --book"):
        launch.shards(run)
    (run / "shards.json").unlink()  # as of a run from before there was one
    with pytest.raises(cli.UsageError, match="give its --data again, or --book"):
        launch.shards(run)


def test_shards_of_the_built_in_book_can_be_made_again(run, monkeypatch):
    shutil.rmtree(run / "data")
    info = json.loads((run / "dataset.json").read_text())
    info["book"]["sha256"] = launch.fingerprint(str(launch.BUILT_IN))
    write_json(run / "dataset.json", info)
    assert launch.shards(run) == run / "data"


def test_the_short_form_never_prepares_another_book(run, monkeypatch):
    """In the place of training: what it would train on."""
    shutil.rmtree(run / "report")
    own = shutil.move(run / "data", run.parent / "shards")
    write_json(run / "shards.json", {"path": str(own)})
    trained = []
    monkeypatch.setattr("mdlm_jax.train.train_and_evaluate", lambda c, data, *_: trained.append(data.path))
    monkeypatch.setattr(launch, "show", lambda *_: None)
    launch.launch(["--workdir", str(run)])
    assert trained == [own] and not (run / "data").exists()
    shutil.rmtree(own)
    with pytest.raises(cli.UsageError, match=r"the shards of .* are gone"):
        launch.launch(["--workdir", str(run)])
    assert len(trained) == 1 and not (run / "data").exists()


def test_a_lost_end_is_trained_again(run, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr("mdlm_jax.train.train_and_evaluate", lambda *given: trained.append(given))
    monkeypatch.setattr(launch, "show", lambda *_: None)
    launch.launch(["--workdir", str(run)])
    assert not trained and "is finished" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints" / reported(run))
    launch.launch(["--workdir", str(run)])
    assert len(trained) == 1 and "is trained and measured again" in capsys.readouterr().err
    assert not (run / "report" / "report.json").exists()
