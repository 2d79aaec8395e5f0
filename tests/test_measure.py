"""The command mdlm_jax.evaluate: its figures, its file, and that nothing half-done is left."""

import json
import math
import os
import sys

import pytest
from conftest import indivisible

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
    code = measure.main()
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
    code, out, error = command(monkeypatch, capsys, *run, "--split", "test")
    assert code == 0, error
    made, report = json.loads(path.read_text()), json.loads((run[1] / "report" / "report.json").read_text())
    assert sorted(os.listdir(path.parent)) == ["evaluation.json", "report.json"]
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
    simple = made["likelihood"]["simple_models"]["test"]
    assert simple["ngram_5"] == report["ngram_5_bits_per_byte"]["test"]
    assert 1 < simple["xz"] < 8 and 1 < simple["bz2"] < 8
    assert f"{x['bits_per_byte']:.3f}" in out and f"{simple['bz2']:.3f}" in out


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
        lambda run, preset, progress: {"rows": preset.rows}, lambda x: [f"rows: {x['rows']}"]
    )
    monkeypatch.setattr(measure, "SECTIONS", {"first": section})
    assert command(monkeypatch, capsys, *run, "--preset", "memory_efficient")[:1] == (0,)
    before = path.read_text()
    assert json.loads(before)["first"] == {"rows": PRESETS["memory_efficient"].rows}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "SECTIONS", {"first": section, "second": measure.Section(interrupted, list)})
    code, out, error = command(monkeypatch, capsys, *run)
    assert (code, out) == (130, "") and error.endswith("interrupted; nothing was written\n")
    assert path.read_text() == before and sorted(os.listdir(path.parent)) == [
        "evaluation.json",
        "report.json",
    ]
