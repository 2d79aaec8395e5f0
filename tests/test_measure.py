"""The command mdlm_jax.evaluate: its figures, its file, and that nothing half-done is left."""

import dataclasses
import json
import math
import os
import shutil
import sys

import pytest
from conftest import indivisible
from report_runs import change as lay_over
from report_runs import whole

from mdlm_jax import evaluate
from mdlm_jax.evaluation import measure
from mdlm_jax.evaluation.likelihood import figures
from mdlm_jax.evaluation.likelihood_section import errors
from mdlm_jax.evaluation.subject import PRESETS
from mdlm_jax.evaluation.summary import WRITTEN

NAMES = {"nats_per_token", "bits_per_byte", "token_perplexity", "word_perplexity"}


def command(monkeypatch, capsys, *options) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, options)])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    code = evaluate.main()
    return code, *capsys.readouterr()


@pytest.fixture
def run(run_copy, smoke_run) -> tuple:
    """Options for a run that may be written into."""
    return "--workdir", run_copy, "--data", smoke_run / "data"


def by_kind(made: dict) -> dict[tuple, dict]:
    """{(checkpoint, weights, split, kind): figure}; no two are of the same."""
    figures = made["likelihood"]["figures"]
    found = {(x["checkpoint"], x["weights"], x["split"], x["kind"]): x for x in figures}
    assert len(found) == len(figures)
    return found


def test_every_stage_both_weights_and_a_damaged_file_is_replaced(run, monkeypatch, capsys):
    """The bound of the weights that the run delivers is that of its report."""
    path = run[1] / "report" / "evaluation.json"
    path.write_text("{")
    path.with_name("index.html").unlink(missing_ok=True)  # a full evaluation draws it
    few = dataclasses.replace(PRESETS["default"], texts=6, text_tokens=240, stage_texts=1, passages=4)
    monkeypatch.setitem(PRESETS, "default", few)
    code, out, error = command(monkeypatch, capsys, *run, "--split", "test")
    assert code == 0, error
    made, report = json.loads(path.read_text()), json.loads((run[1] / "report" / "report.json").read_text())
    assert {"evaluation.json", "report.json", "index.html", "index.json"} <= set(os.listdir(path.parent))
    assert not [name for name in os.listdir(path.parent) if name.endswith(".tmp")]
    assert WRITTEN.fullmatch("report/evaluation.json")
    last, found = report["checkpoint"], by_kind(made)
    assert made["delivered"] == last and made["preset"]["name"] == "default"
    assert made["environment"]["versions"].keys() >= {"jax", "mdlm-jax"}
    stages = {name.partition("/")[0] for name in made["checkpoints"]}
    assert stages == {p.name for p in (run[1] / "checkpoints").iterdir()} and len(stages) == 3
    more = {(last, "params", "test", "bound"), (last, "ema", "test", "left_to_right")}
    assert found.keys() == {(name, "ema", "test", "bound") for name in made["checkpoints"]} | more
    x, raw = found[last, "ema", "test", "bound"], found[last, "params", "test", "bound"]
    assert x["bits_per_byte"] == pytest.approx(report["test"]["bits_per_byte"], rel=1e-5)
    assert x["curve"] == pytest.approx(report["test"]["curve"], rel=1e-4)
    assert raw["bits_per_byte"] != x["bits_per_byte"]
    exact = found[last, "ema", "test", "left_to_right"]
    # What has learnt next to nothing differs little from order to order.
    assert 0.9 < exact["bits_per_byte"] / x["bits_per_byte"] < 1.1 and exact["bits_per_byte_se"] == 0
    assert exact["interval_95"]["bits_per_byte"] == [exact["bits_per_byte"]] * 2
    size = made["likelihood"]["sizes"]["test"]
    nats = x["bits_per_byte"] * size["bytes"] * math.log(2)
    assert math.exp(nats / size["words"]) == pytest.approx(x["word_perplexity"], rel=1e-6)
    simple = made["likelihood"]["simple_models"]["test"]
    assert simple["ngram_5"] == report["ngram_5_bits_per_byte"]["test"]
    assert 1 < simple["xz"] < 8 and 1 < simple["bz2"] < 8
    check_texts(made, out)
    assert f"{x['bits_per_byte']:.3f}" in out and f"{simple['bz2']:.3f}" in out


def check_texts(made: dict, out: str) -> None:
    """The sections about texts."""
    samples = made["samples"]
    assert len(samples["texts"]) == len(set(samples["texts"])) == 6 and samples["tokens"] == 240
    assert [len(x["texts"]) for x in samples["stages"]] == [1, 1, 1]
    assert samples["stages"][2]["checkpoint"] == samples["checkpoint"] == made["delivered"]
    assert made["style"]["texts"] + made["style"]["left_out"] == 6 == len(made["memory"]["texts"])
    drawn = made["memory"]["extraction"]
    assert len(drawn["training"]["log10_p"]) == len(drawn["held_out"]["log10_p"]) == 4
    assert drawn["training"] != drawn["held_out"]
    # A network that has learnt next to nothing: some nats a token.
    assert all(1 < -x / drawn["tokens"] * math.log(10) < 8 for x in drawn["training"]["log10_p"])
    assert "--twin RUN" in made["twin"]["absent"] and "No section 'twin'" in out
    assert made["cost"]["tokens"] > 0 and len(made["cost"]["stages"]) == 3


def test_a_twin_must_be_a_finished_causal_run_of_the_same_data(run, smoke_run, tmp_path, monkeypatch, capsys):
    twin = tmp_path / "twin"
    shutil.copytree(run[1], twin, ignore=shutil.ignore_patterns("checkpoints", "evaluation.json"))
    for wrong, change in (
        ("no autoregressive run", None),
        ("trained on other data", {"book": {"name": "another"}}),
        ("is not finished", None),
    ):
        if change:
            config = json.loads((twin / "config.json").read_text())
            config["model"]["causal"] = True
            (twin / "config.json").write_text(json.dumps(config))
            info = json.loads((twin / "dataset.json").read_text())
            (twin / "dataset.json").write_text(json.dumps(info | change))
        elif wrong == "is not finished":
            (twin / "report" / "report.json").unlink()
        code, out, error = command(monkeypatch, capsys, *run, "--twin", twin)
        assert code == 2 and wrong in error and error.count("\n") == 1 and not out


def test_strict_draws_and_compare(run, tmp_path, monkeypatch, capsys):
    """What learnt next to nothing is no better than counting: a warning, and an exit code on request."""
    assert command(monkeypatch, capsys, "--workdir", run[1], "--draw")[0] == 0
    code, out, _ = command(monkeypatch, capsys, "--workdir", run[1], "--draw", "--strict")
    assert code == measure.BELOW == 4 and "WARN  not clearly better than counting" in out
    page = tmp_path / "both.html"
    assert command(monkeypatch, capsys, "compare", run[1], run[1], "--out", page)[0] == 0
    assert "Runs side by side" in page.read_text(encoding="utf-8")
    code, _, error = command(monkeypatch, capsys, "compare", run[1])
    assert code == 2 and "two runs or more" in error


@pytest.mark.soak
@indivisible
def test_presets(run, tmp_path, monkeypatch, capsys):
    """Few rows at a time give the same figures; four times as many masks, half the error."""

    def found(preset: str, *options) -> dict[tuple, dict]:
        out = tmp_path / f"{preset}.json"
        options = (*run, "--preset", preset, "--out", out, *options)
        assert command(monkeypatch, capsys, *options)[0] == 0
        return by_kind(json.loads(out.read_text()))

    few, much = found("memory_efficient"), found("comprehensive", "--seed", 3)
    fast = found("fast")
    assert {key[1:] for key in fast} == {("ema", split, "bound") for split in ("validation", "test")}
    for key, x in fast.items():
        assert few[key]["bits_per_byte"] == pytest.approx(x["bits_per_byte"], rel=1e-5)
        other = much[key]
        assert other["bits_per_byte"] != x["bits_per_byte"] and len(other["curve"]) == 32
        assert 0.3 < other["bits_per_byte_se"] / x["bits_per_byte_se"] < 0.8
        assert abs(other["bits_per_byte"] - x["bits_per_byte"]) < 6 * x["bits_per_byte_se"]
        exact = [much[*key[:3], kind]["bits_per_byte"] for kind in ("left_to_right", "confidence_order")]
        assert few[*key[:3], "left_to_right"]["bits_per_byte"] == pytest.approx(exact[0], rel=1e-5)
        assert exact[0] != exact[1]


def test_errors_by_hand():
    """Two nats a token, known to 1 %: a perplexity of e^2 between e^1.96 and e^2.04, about."""
    found = figures(nats=16.0, standard_error=0.16, tokens=8, num_bytes=4, words=2)
    made = errors(found)
    assert made["standard_error"].keys() == made["interval_95"].keys() == NAMES
    assert made["standard_error"]["nats_per_token"] == pytest.approx(0.02)
    assert made["standard_error"]["bits_per_byte"] == pytest.approx(found["bits_per_byte_se"])
    assert made["standard_error"]["token_perplexity"] == pytest.approx(0.02 * math.exp(2))
    ends = [math.exp(2 - 1.96 * 0.02), math.exp(2 + 1.96 * 0.02)]
    assert made["interval_95"]["token_perplexity"] == pytest.approx(ends)
    assert made["interval_95"]["word_perplexity"] == pytest.approx([x**4 for x in ends])
    assert all(map(math.isfinite, errors(figures(1e9, 1e8, 8, 4, 2))["interval_95"]["word_perplexity"]))


def test_interrupted_it_leaves_what_was_there(run, monkeypatch, capsys):
    """A section is all that it takes to add a key; one that is interrupted leaves no file behind."""
    path = run[1] / "report" / "evaluation.json"
    section = measure.Section(
        lambda run, preset, progress, made: {"rows": preset.rows}, lambda x: [f"rows: {x['rows']}"]
    )

    def fails(*_):
        raise ValueError("for want of a nail")

    monkeypatch.setattr(measure, "SECTIONS", {"first": section, "none": measure.Section(fails, list)})
    options = (*run, "--preset", "memory_efficient", "--out", path)
    code, out, _ = command(monkeypatch, capsys, *options)
    assert code == 0 and "the page of the run is not updated" in out
    before, there = path.read_text(), sorted(os.listdir(path.parent))
    assert json.loads(before)["first"] == {"rows": PRESETS["memory_efficient"].rows}
    assert json.loads(before)["none"] == {"absent": "for want of a nail"}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "SECTIONS", {"first": section, "second": measure.Section(interrupted, list)})
    code, out, error = command(monkeypatch, capsys, *run)
    assert (code, out) == (130, "") and error.endswith("interrupted; nothing was written\n")
    assert path.read_text() == before and sorted(os.listdir(path.parent)) == there


def test_what_cannot_be_written_is_told_before_the_work(run, monkeypatch, capsys):
    def refused(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(measure.tempfile, "TemporaryFile", refused)
    code, out, error = command(monkeypatch, capsys, *run, "--preset", "fast")
    assert code == 2 and out == "" and error.endswith("report: permission denied\n"), error
    assert "evaluating" not in error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--prest", "fast"], "unknown option --prest; did you mean --preset?"),
        (["--draw", "--twin", "x"], "--draw measures nothing; leave out --twin"),
        (["--draw", "--out", "x"], "--draw measures nothing; leave out --out"),
        (["--strict", "--out", "x"], "--out draws none; leave one out"),
    ],
)
def test_options_that_cannot_be_heeded(run, monkeypatch, capsys, options, told):
    code, out, error = command(monkeypatch, capsys, *run[:2], *options)
    assert code == 2 and not out and told in error and error.count("\n") == 1


def test_strict_reads_every_check_and_what_is_missing(smoke_run, tmp_path, monkeypatch, capsys):
    run = whole(smoke_run, tmp_path / "run")
    report = json.loads((run / "report" / "report.json").read_text())
    lay_over(run / "report" / "report.json", ngram_5_bits_per_byte={"test": 99.0, "validation": 99.0})
    code, out, _ = command(monkeypatch, capsys, "--workdir", run, "--draw", "--strict")
    assert (
        code == measure.BELOW
        and out.startswith("pass  better than counting")
        and "WARN  not clearly better" in out
    )
    assert command(monkeypatch, capsys, "--workdir", run, "--draw")[0] == 0
    (run / "report" / "evaluation.json").unlink()
    test = report["test"] | {"bits_per_byte_se": 1e-9}
    lay_over(run / "report" / "report.json", test=test)
    code, out, _ = command(monkeypatch, capsys, "--workdir", run, "--draw", "--strict")
    missed = [line for line in out.splitlines() if "not measured" in line]
    assert code == measure.BELOW and len(missed) == 4 and all(x.startswith("WARN  ") for x in missed)
    assert "not measured" not in command(monkeypatch, capsys, "--workdir", run, "--draw")[1]
    (run / "report" / "report.json").unlink()
    assert command(monkeypatch, capsys, "--workdir", run, "--draw", "--strict")[0] == measure.BELOW


def test_what_was_meant(smoke_run, tmp_path, monkeypatch, capsys):
    """A run without its option, a mistyped run, a preset as people write it, a page over another file."""
    (tmp_path / "runs").mkdir()
    run = whole(smoke_run, tmp_path / "runs" / "novel_ar")
    monkeypatch.chdir(tmp_path)
    for options, told in (
        (["runs/novel ar"], "did you mean --workdir 'runs/novel ar'?"),
        (["compar", run, run], "did you mean compare?"),
        ([], "--workdir RUN"),
        (["--workdir", "novel_a", "--draw"], "did you mean runs/novel_ar?"),
        (["--workdir", run, "--twin", "runs/novel_a"], "did you mean runs/novel_ar?"),
        (["compare", run, "runs/novel_a"], "did you mean runs/novel_ar?"),
        (["--workdir", run, "--preset", "Fats"], "did you mean fast?"),
    ):
        code, out, error = command(monkeypatch, capsys, *options)
        assert code == 2 and not out and told in error and error.count("\n") == 1, error
    for name in ("Fast", "memory-efficient"):
        error = command(monkeypatch, capsys, "--workdir", run, "--draw", "--preset", name)[2]
        assert "leave out --preset" in error, error  # it is one of them
    for _ in range(2):  # over its own page it may write
        code, out, _ = command(monkeypatch, capsys, "compare", run, run)
        assert code == 0 and str(tmp_path / "comparison.html") in out
    (tmp_path / "comparison.html").write_text("my notes")
    code, _, error = command(monkeypatch, capsys, "compare", run, run)
    assert code == 2 and "holds something else" in error
    assert (tmp_path / "comparison.html").read_text() == "my notes"


def test_help_tells_every_default_once(monkeypatch, capsys):
    for options in (["--help"], ["compare", "--help"]):
        with pytest.raises(SystemExit):
            command(monkeypatch, capsys, *options)
        told = " ".join(capsys.readouterr().out.split())
        assert "(default: None)" not in told and "(default: False)" not in told
        for wanted in ("comparison.html",) if "compare" in options else ("both", "0", "<workdir>/report/"):
            assert told.count(f"(default: {wanted}") == 1, told


def test_files_of_others_and_more_thorough_evaluations(run, smoke_run, tmp_path, monkeypatch, capsys):
    """--out refuses the former before any work, and over the latter a line tells what goes."""
    (tmp_path / "my novel.txt").write_text("It was a dark and stormy night.")
    code, out, error = command(monkeypatch, capsys, *run, "--out", tmp_path / "my novel.txt")
    assert code == 2 and not out and "holds something else" in error and error.count("\n") == 1
    assert (tmp_path / "my novel.txt").read_text() == "It was a dark and stormy night."
    out = tmp_path / "evaluation.json"
    assert measure.replaced(out, "fast", "test") == ""  # there is none
    for text in ("{", '{"preset": 1}'):
        out.write_text(text)
        assert measure.replaced(out, "fast", "test") == ""  # nothing that could be lost
    out.write_text('{"schema_version": 1, "preset": {"name": "default"}}')
    assert "--preset default --split both" in measure.replaced(out, "fast", "both")
    assert "--preset default --split both" in measure.replaced(out, "default", "test")
    assert measure.replaced(out, "default", "both") == ""
