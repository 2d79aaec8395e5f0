"""Aids of one process: they find what they look for, and change nothing that is trained."""

import json
import math
import shutil
import subprocess
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import toys

import launch
from configs import one_epoch, three_stage
from mdlm_jax.configuration import resolve
from mdlm_jax.evaluation import architecture
from mdlm_jax.evaluation.analytics import commit, stage_figures
from mdlm_jax.evaluation.summary import remove
from mdlm_jax.train_state import init_params
from mdlm_jax.ui import metrics
from mdlm_jax.ui.debugging import Aids, NotANumber, location, span
from mdlm_jax.ui.values import UserError, flat


@pytest.mark.parametrize("text", ["3", "0:4", "5:4", "a:b", "1:2:3", "-1:3"])
def test_a_span_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="must be START:STOP"):
        span(text)
    assert span("3:3") == (3, 3)


def test_profile_may_stand_without_steps():
    plan = ["--config", "configs/three_stage.py:smoke"]
    assert launch.parse([*plan, "--profile"])[0]["profile"] == "10:15"
    assert launch.parse([*plan, "--profile=2:3", "--blocking"])[0] | {"profile": "2:3", "blocking": True}
    assert launch.parse(plan)[0]["profile"] is None


def broken_step(state, batch):
    """A train step, in a loop, with a zero divided by zero on the way."""
    total, _ = jax.lax.scan(lambda t, x: (t + jnp.sqrt(x - 1), None), state, batch)
    return total, {"loss": total}


def test_the_first_nan_is_found_inside_a_compiled_loop(tmp_path, monkeypatch):
    step = jax.jit(broken_step, donate_argnums=0)
    monkeypatch.setattr("mdlm_jax.ui.debugging.__name__", f"{Path(__file__).parent.name}.x")
    with pytest.raises(NotANumber) as caught, Aids(debug_nans=True).at_work(tmp_path) as _:
        aids = Aids(debug_nans=True)
        aids.step(step, jnp.float32(1), jnp.ones(3), "step 6 of 1_toy")
        aids.step(step, jnp.float32(1), jnp.float32([2, 0, 3]), "step 7 of 1_toy")
    told = str(caught.value)
    assert told.startswith("step 7 of 1_toy: ") and "encountered in sqrt" in told and "\n" not in told
    assert "test_debugging.py" in told and "jnp.sqrt(x - 1)" in told
    assert caught.value.code == 3 and "learning_rate" not in told


@pytest.mark.parametrize(
    ("weight", "loss", "told"),
    [
        (1e6, 3.0, "; before it a weight of 1e+06; lower config.optimizer.learning_rate"),
        (2.0, 500.0, "; before it a loss of 500; lower config.optimizer.learning_rate"),
        (2.0, 3.0, ""),
    ],
)
def test_a_nan_of_weights_that_had_grown_asks_for_a_lower_rate(tmp_path, weight, loss, told):
    aids, state = Aids(debug_nans=True), {"params": jnp.float32([1, -weight]), "step": jnp.int32(10**6)}
    with pytest.raises(NotANumber) as caught, aids.at_work(tmp_path):
        aids.step(lambda s, _: (s, {"loss": jnp.float32(loss)}), state, None, "step 1 of 1_toy")
        aids.step(lambda s, b: jnp.log(b), state, jnp.float32(-1), "step 2 of 1_toy")
    assert str(caught.value).partition("_toy: ")[2].partition(";")[2] == told.removeprefix(";") + (
        " (in a new --workdir)" if told else ""
    )


def test_without_the_aid_nothing_is_looked_for(tmp_path):
    aids = Aids()
    with aids.at_work(tmp_path):
        total, _ = aids.step(jax.jit(broken_step), jnp.float32(1), jnp.zeros(3), "step 1")
    assert jnp.isnan(total) and not list(tmp_path.iterdir())


def test_an_error_elsewhere_has_no_place():
    assert location(FloatingPointError("nan\nmore")) == "nan"


def test_blocking_waits(tmp_path):
    waited = []
    result = types.SimpleNamespace(block_until_ready=lambda: waited.append(1))
    for blocking in (True, False):
        Aids(blocking=blocking).step(lambda *_: result, None, None, "")
    assert waited == [1]


def test_one_epoch_of_any_plan():
    values = flat(three_stage.get_config("smoke"))
    short = resolve(values | one_epoch(values))
    assert [s.num_epochs for s in short.stages] == [1, 1, 1]
    assert (short.log_every, short.checkpoint_every, short.evaluation.per_stage) == (1, 1, 1)
    assert short.model == resolve(values).model
    given, debugged = (
        launch.configure(launch.parse(["--config", plan, *flag])[0], {"seed": "4"})
        for plan, flag in (("configs/debug.py:smoke", []), ("configs/three_stage.py:smoke", ["--debug"]))
    )
    assert given == debugged and given.seed == 4


LINES = [
    {"kind": "train", "stage": 0, "step": 4, "tokens": 400, "gradient_norm": 2.0},
    {"kind": "train", "stage": 0, "step": 6, "tokens": 600, "gradient_norm": 5.0, "tokens_per_second": 50.0},
    {"kind": "validation", "stage": 0, "step": 6, "bits_per_byte": 3.0},
    {"kind": "transition", "stage": 1, "step": 0},
    {"kind": "train", "stage": 1, "step": 2, "tokens": 900, "gradient_norm": 1.0, "tokens_per_second": 100.0},
    {"kind": "validation", "stage": 1, "step": 2, "bits_per_byte": 2.0},
    {"kind": "train", "stage": 1, "step": 3, "tokens": 1050, "gradient_norm": 4.0, "tokens_per_second": 50.0},
    {"kind": "validation", "stage": 1, "step": 3, "bits_per_byte": 2.5},
]


def test_a_profile_that_never_began_is_told(tmp_path, capsys):
    aids = Aids(profile=(3, 4))
    with aids.at_work(tmp_path):
        for _ in range(2):
            aids.step(lambda *given: given, 0, 0, "here")
    assert "had 2 steps and was to begin at 3" in capsys.readouterr().err


def test_figures_of_a_stage_weigh_every_step_alike():
    assert stage_figures(LINES, 0) == {
        "steps": 6, "tokens": 600, "gradient_norm": 3.0, "seconds": 4.0, "tokens_per_second": 50.0,
        "best_bits_per_byte": 3.0, "last_bits_per_byte": 3.0,
    }  # fmt: skip
    assert stage_figures(LINES, 1) == {
        "steps": 3, "tokens": 450, "gradient_norm": 2.0, "seconds": 6.0, "tokens_per_second": 75.0,
        "best_bits_per_byte": 2.0, "last_bits_per_byte": 2.5,
    }  # fmt: skip
    assert stage_figures(LINES, 2) == {}


@pytest.mark.parametrize(("skipped", "norm", "mean"), [(1, 4.0, 2.5), (2, math.inf, 1.0)])
def test_skipped_steps_have_no_part_in_the_mean_norm(skipped, norm, mean):
    """One of the last two is skipped, or both, whose norm is not finite; of none the mean is 0."""
    first = {"kind": "train", "stage": 0, "step": 1, "tokens": 9, "gradient_norm": 1.0, "skipped": 0}
    last = first | {"step": 3, "gradient_norm": norm, "skipped": skipped}
    assert stage_figures([first, last], 0)["gradient_norm"] == mean
    none = first | {"gradient_norm": math.nan, "skipped": 1}
    assert stage_figures([none], 0)["gradient_norm"] == 0


def test_links_that_wandb_makes_go_with_the_run_and_what_they_lead_to_stays(smoke_run, tmp_path):
    run, kept = tmp_path / "run", tmp_path / "kept"
    shutil.copytree(smoke_run, run)
    for folder in (run / "wandb", kept):
        folder.mkdir()
        (folder / "mine").write_text("curves")
    (run / "wandb" / "latest-run").symlink_to(kept, target_is_directory=True)
    remove([run], yes=True)
    assert not run.exists() and (kept / "mine").read_text() == "curves"


def test_a_run_tells_of_its_stages(smoke_run):
    lines = list(metrics.read_lines(smoke_run / "metrics.jsonl"))
    told = [line for line in lines if line["kind"] == "stage"]
    report = json.loads((smoke_run / "report" / "report.json").read_text())
    assert [line["stage"] for line in told] == [0, 1, 2] and len(report["stages"]) == 3
    for line, figures in zip(told, report["stages"], strict=True):
        assert figures.items() <= line.items() and line["step"] == figures["steps"]
        assert line["seconds"] > 0 and not {"seconds", "tokens_per_second"} & set(figures)
        assert figures["best_bits_per_byte"] <= figures["last_bits_per_byte"] < 8
    train = [line for line in lines if line["kind"] == "train"]
    assert sum(figures["tokens"] for figures in report["stages"]) == train[-1]["tokens"]
    assert all(1e7 < line["peak_memory"] < 1e12 and line["update_norm"] > 0 for line in train)


@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_the_architecture_of_a_toy_is_as_it_should_be(causal):
    model = toys.dataclasses.replace(toys.NETWORK, causal=causal)
    plan = toys.config(model, soft_masking=2.0)
    rows = {row.name: row for row in architecture.check(plan)}
    assert all(row.good for row in rows.values()), rows
    assert rows["tokens that move position 6"].found == f"7 before and {0 if causal else 5} after"
    assert rows["parameters"].wanted.startswith(f"{rows['parameters'].found} by")
    assert architecture.verdict(list(rows.values())) == "all 8 checks good"
    with pytest.raises(UserError, match="not what it should be: a, c"):
        architecture.verdict([architecture.Row(n, "", "", n not in "ac") for n in "abc"])
    assert architecture.table([architecture.Row("a", "b", "c", False)]) == ["NO  a  b  c"]
    # A network that sees what it should not is found.
    other = toys.config(toys.dataclasses.replace(model, causal=not causal, vocab_rows=64))
    seen = architecture.attended(other, init_params(other.model, 0), 6)
    assert seen.sum() == (12 if causal else 7)


def test_the_commit_is_marked_where_code_has_changed_since(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    for name in ("x.py", "rows.jsonl"):
        (package / name).write_text("1\n")
    monkeypatch.setattr("mdlm_jax.evaluation.analytics.__file__", str(package / "x.py"))
    assert commit() is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    assert commit() is None
    git("add", ".")
    git("commit", "-m", "first")
    made = git("rev-parse", "--short=12", "HEAD").strip()
    assert commit() == made
    (package / "rows.jsonl").write_text("2\n")
    assert commit() == made
    (package / "x.py").write_text("2\n")
    assert commit() == f"{made}+changes"
