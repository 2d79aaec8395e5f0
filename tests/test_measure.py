"""The command mdlm_jax.evaluate: its figures, its file, and that nothing half-done is left."""

import json
import math
import os
import sys

import pytest

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


def test_the_bound_is_that_of_the_report_and_a_damaged_file_is_replaced(run, monkeypatch, capsys):
    path = run[1] / "report" / "evaluation.json"
    path.write_text("{")
    code, out, error = command(monkeypatch, capsys, *run, "--preset", "fast")
    assert code == 0, error
    made, report = json.loads(path.read_text()), json.loads((run[1] / "report" / "report.json").read_text())
    assert sorted(os.listdir(path.parent)) == ["evaluation.json", "report.json"]
    assert WRITTEN.fullmatch("report/evaluation.json")
    found = {x["split"]: x for x in made["likelihood"]["figures"]}
    assert found.keys() == {"validation", "test"} and made["delivered"] == report["checkpoint"]
    for split, x in found.items():
        assert (x["checkpoint"], x["weights"], x["kind"]) == (report["checkpoint"], "ema", "bound")
        assert x["bits_per_byte"] == pytest.approx(report[split]["bits_per_byte"], rel=1e-5)
        assert x["curve"] == pytest.approx(report[split]["curve"], rel=1e-4)
        simple = made["likelihood"]["simple_models"][split]
        assert simple["ngram_5"] == report["ngram_5_bits_per_byte"][split]
        assert 1 < simple["xz"] < 8 and 1 < simple["bz2"] < 8
        assert f"{x['bits_per_byte']:.3f}" in out and f"{simple['bz2']:.3f}" in out
    assert made["checkpoints"].keys() >= {report["checkpoint"]} and made["preset"]["name"] == "fast"
    assert made["environment"]["versions"].keys() >= {"jax", "mdlm-jax"}


def test_every_checkpoint_and_both_orders(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    options = "--preset", "comprehensive", "--split", "test", "--seed", 3, "--out", out
    code, _, error = command(monkeypatch, capsys, *run, *options)
    assert code == 0, error
    made = json.loads(out.read_text())
    there = {p.parent.relative_to(run[1] / "checkpoints").as_posix() for p in run[1].rglob("MANIFEST.json")}
    last = {
        max((p for p in there if p.startswith(s)), key=lambda p: int(p[13:].rpartition("/")[2]))
        for s in "123"
    }
    found = made["likelihood"]["figures"]
    kinds = {(x["checkpoint"], x["weights"], x["kind"]): x for x in found}
    assert len(kinds) == len(found) and {x["split"] for x in found} == {"test"} and made["seed"] == 3
    delivered = made["delivered"]
    assert set(kinds) >= {(path, "ema", "bound") for path in last}
    rest = {("params", "bound"), ("ema", "bound"), ("ema", "left_to_right"), ("ema", "confidence_order")}
    assert {key[1:] for key in kinds if key[0] == delivered} == rest
    bound, raw = kinds[delivered, "ema", "bound"], kinds[delivered, "params", "bound"]
    exact = [kinds[delivered, "ema", kind] for kind in ("left_to_right", "confidence_order")]
    report = json.loads((run[1] / "report" / "report.json").read_text())["test"]
    # Other masks, four times as many: another figure, with half of the error, of the same thing.
    assert bound["bits_per_byte"] != report["bits_per_byte"] and len(bound["curve"]) == 32
    assert 0.3 < bound["bits_per_byte_se"] / report["bits_per_byte_se"] < 0.8
    assert abs(bound["bits_per_byte"] - report["bits_per_byte"]) < 6 * report["bits_per_byte_se"]
    assert raw["bits_per_byte"] != bound["bits_per_byte"]
    for x in exact:  # a network that has learnt next to nothing differs little from order to order
        assert 0.9 < x["bits_per_byte"] / bound["bits_per_byte"] < 1.1 and x["bits_per_byte_se"] == 0
        assert x["interval_95"]["bits_per_byte"] == [x["bits_per_byte"]] * 2
    assert exact[0]["bits_per_byte"] != exact[1]["bits_per_byte"]


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
