"""What the report of a run is made of: read whole, or refused in a line."""

import json
from pathlib import Path

import pytest
from report_runs import whole

from mdlm_jax.evaluation import findings, readers
from mdlm_jax.evaluation.report_files import drawn, write_report
from mdlm_jax.ui.values import UserError


@pytest.fixture
def run(smoke_run, tmp_path) -> Path:
    return whole(smoke_run, tmp_path / "run")


def test_a_damaged_file_is_named_with_its_field(run):
    """Never a traceback, and never a page without what the file held; at the end of training a line."""

    def cut(report, evaluation):
        return "evaluation.json", json.dumps(evaluation)[:500]

    def no_stages(report, evaluation):
        del evaluation["samples"]["stages"]
        return "evaluation.json", json.dumps(evaluation)

    def a_word(report, evaluation):
        evaluation["style"]["overall"] = "near"
        return "evaluation.json", json.dumps(evaluation)

    def strange(report, evaluation):
        evaluation["style"]["measures"]["charm"] = evaluation["style"]["measures"]["delta"]
        return "evaluation.json", json.dumps(evaluation)

    def strange_together(report, evaluation):
        evaluation["coherence"]["together"]["distinct_9"] = evaluation["coherence"]["together"]["distinct_1"]
        return "evaluation.json", json.dumps(evaluation)

    def no_weights(report, evaluation):
        figure = report["test"] | {"checkpoint": "x/1", "split": "test", "interval_95": {}}
        evaluation["likelihood"] = {"simple_models": {}, "figures": [figure]}
        return "evaluation.json", json.dumps(evaluation)

    def no_preset(report, evaluation):
        del evaluation["preset"]
        return "evaluation.json", json.dumps(evaluation)

    def a_reason(report, evaluation):
        return "evaluation.json", json.dumps(evaluation | {"cost": {"absent": 3}})

    def a_number(report, evaluation):
        return "report.json", json.dumps(report | {"test": 3})

    good = {name: (run / "report" / name).read_text() for name in ("evaluation.json", "report.json")}
    for damage, field in (
        (cut, ""),
        (no_stages, "$.samples: no stages"),
        (a_word, "$.style.overall"),
        (no_preset, "$: no preset"),
        (strange, "charm is not in the schema"),
        (strange_together, "distinct_9 is not in the schema"),
        (no_weights, "$.likelihood.figures[0]: no weights"),
        (a_reason, "$.absent.cost"),
        (a_number, "$.test"),
    ):
        name, text = damage(*(json.loads(good[x]) for x in ("report.json", "evaluation.json")))
        (run / "report" / name).write_text(text)
        with pytest.raises(UserError) as raised:
            write_report(run)
        assert name in str(raised.value) and field in str(raised.value), raised.value
        assert "\n" not in str(raised.value) and raised.value.code == 2
        (run / "report" / "index.html").unlink(missing_ok=True)
        line, page = drawn(run)
        assert "does without this file" in line and name in line and page.startswith("A page about it")
        (run / "report" / name).write_text(good[name])
    (run / "human").mkdir()
    for text in ("{}", "{}\n", "[]\n{"):
        (run / "human" / "answers.jsonl").write_text(text)
        with pytest.raises(UserError, match=r"answers\.jsonl, line 1 is no answer"):
            write_report(run)


def test_a_damaged_command_is_left_out(run):
    """The page is about the figures; it says the command where it can be read."""
    for text in ("python launch.py --workdir 'runs/half of a na", "\x00\x00"):
        (run / "command.txt").write_text(text)
        write_report(run)
    (run / "command.txt").write_bytes(b"python \xff")
    assert write_report(run)["run"]["command"] is None


def test_the_title_is_that_of_the_data(run):
    info = json.loads((run / "dataset.json").read_text())
    for own, found, said in (
        ("Emma", "x", "Emma"),
        (None, "Emma, a novel", "Emma, a novel"),
        (None, None, "Book"),
    ):
        info["book"] |= {"name": "book.txt", "title": found}
        info["book"]["documents"][0]["title"] = own
        (run / "dataset.json").write_text(json.dumps(info))
        assert findings.collect(run)["run"]["book"] == said
    info["book"]["documents"] *= 2
    (run / "dataset.json").write_text(json.dumps(info))
    assert findings.collect(run)["run"]["books"] == 2


def test_answers_are_of_the_passages_they_are_said_to_be():
    report = {"test": {"kind": "exact", "bits_per_byte": 2.0}}
    drawn = {"training": {"log10_queries": [1.0, 3.0]}, "held_out": {"log10_queries": [9.0]}}
    for name, other in (("training", "held_out"), ("held_out", "training")):
        evaluation = {"memory": {"extraction": drawn | {name: {"log10_queries": []}}}}
        made = findings.verdict(report, evaluation, {})["answers"]
        assert made == {other: 10.0 ** (2 if other == "training" else 9)}
    assert findings.verdict(report, {"memory": {"extraction": drawn}}, {})["answers"] == {
        "training": 100.0, "held_out": 1e9
    }  # fmt: skip


def test_a_run_with_patience_is_judged_by_the_weights_that_it_gives(run):
    """Not by those of after its best."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["kind"] == "validation"][-1]
    early = best | {"bits_per_byte": 0.5, "stage": 0, "total_step": 1, "step": 1}  # other text: no best of it
    later = best | {"bits_per_byte": 9.0, "step": best["step"] + 9, "total_step": best["total_step"] + 9}
    before = best | {"bits_per_byte": 8.0, "step": best["step"] - 1, "total_step": best["total_step"] - 1}
    every = [early, before, *lines, later]  # one point alone would say nothing
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in every))

    def judged() -> bool:
        return {x["name"]: x["passed"] for x in findings.collect(run)["checks"]}["not_overfitted"]

    assert judged()
    report = json.loads((run / "report" / "report.json").read_text())
    stage = report["checkpoint"].partition("/")[0]
    (run / "report" / "report.json").write_text(
        json.dumps(report | {"checkpoint": f"{stage}/{later['step']}"})
    )
    assert not judged()


def test_the_figures_of_the_verdict_are_those_of_the_averaged_weights_that_are_given(run):
    evaluation = json.loads((run / "report" / "evaluation.json").read_text())
    report, given = json.loads((run / "report" / "report.json").read_text()), evaluation["delivered"]
    several = ((given, "ema", 1.25), (given, "params", 9.0), ("1_x/9", "ema", 9.0))
    names = ("nats_per_token", "bits_per_byte", "token_perplexity", "word_perplexity")
    ends = (("standard_error", 0.1), ("interval_95", [1.0, 2.0]))
    figures = [
        report["test"] | {"checkpoint": where, "weights": weights, "split": "test", "bits_per_byte": value}
        | {key: dict.fromkeys(names, end) for key, end in ends}
        for where, weights, value in several
    ]  # fmt: skip
    evaluation["likelihood"] = {"simple_models": {}, "figures": figures}
    (run / "report" / "evaluation.json").write_text(json.dumps(evaluation))
    assert findings.collect(run)["verdict"]["bits_per_byte"] == 1.25


def test_readers_who_came_later_are_not_absent(run):
    evaluation = json.loads((run / "report" / "evaluation.json").read_text())
    evaluation |= {"human": {"absent": "nobody was asked yet"}, "twin": {"absent": "no twin was named"}}
    (run / "report" / "evaluation.json").write_text(json.dumps(evaluation))
    assert findings.collect(run)["absent"].keys() == {"human", "twin", "cost"}
    asked = {"seed": 0, "pairs": 1, "words": 5, "from": "held_out", "texts": "ema"}
    pairs = [{"book": "b", "run": "r", "answer": 1}]
    test = readers.save_test(run, {"asked": asked, "checkpoint": None, "pairs": pairs})
    readers.answer(run, test, "Ann", 0, 1, 1.0)
    assert findings.collect(run)["absent"].keys() == {"twin", "cost"}


def test_chapters_that_were_kept_from_it_are_counted(run):
    told = findings.collect(run)["run"]
    split = json.loads((run / "dataset.json").read_text())["split"]["chapters"]
    assert told["held_out"] == len(split["validation"]) + len(split["test"])
    assert told["all_chapters"] - told["held_out"] == len(split["train"])
