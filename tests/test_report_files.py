"""The report of a run: its numbers are in its JSON, which keeps to its schema; it is the same every time."""

import html
import json
import math
import os
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_runs import HOSTILE, change, chapters, texts, whole

from mdlm_jax.evaluation import checks, findings, report_files
from mdlm_jax.evaluation.report_files import drawn, write_comparison, write_report
from mdlm_jax.evaluation.schema import mistakes
from mdlm_jax.evaluation.summary import WRITTEN
from mdlm_jax.evaluation.voice import style_figures
from mdlm_jax.ui.values import UserError, flat

LITERAL = {"0", "1", "95", "2025"}  # numbers that are words of the page: ends of a scale, an interval, a year


QUIET = {"bdi", "pre", "svg", "style", "script", "title"}


class Page(HTMLParser):
    """The numbers that a page marks, and its own words: no quoted text, no drawing, no code."""

    def __init__(self, text: str):
        super().__init__()
        self.values: list[tuple[float, str]] = []
        self.words, self.addresses, self.targets, self.open = "", [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.addresses += [given[name] for name in ("href", "src", "action") if name in given]
        self.targets |= {given["id"]} if "id" in given else set()
        if tag == "data":
            self.values.append((float(given["value"]), ""))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "data" in self.open:
            self.values[-1] = self.values[-1][0], self.values[-1][1] + data
        elif not QUIET & set(self.open):
            self.words += data


@pytest.fixture
def run(smoke_run, tmp_path) -> Path:
    return whole(smoke_run, tmp_path / "run")


def read_as(shown: str) -> tuple[float, float]:
    """What a number on the page stands for, without its sign, and how far rounding may be off."""
    mantissa, _, power = shown.partition(" × 10")
    plain = mantissa.strip("\u00a0%").replace(",", "").lstrip("−")
    value, last = float(plain), 0.5001 * 10.0 ** -len(plain.partition(".")[2])
    scale = 10.0 ** int(power or 0) / (100 if "%" in mantissa else 1)
    return value * scale, last * scale


def opened(run: Path) -> tuple[Page, dict[str, Any]]:
    found = write_report(run)
    text = (run / "report" / "index.html").read_text(encoding="utf-8")
    read = json.loads((run / "report" / "index.json").read_text())
    assert mistakes(read) == [] and read == json.loads(json.dumps(found))
    page = Page(text)
    numbers = {float(x) for x in flat(read).values() if isinstance(x, int | float)}
    assert [x for x in page.values if x[0] not in numbers] == []
    assert [x for x in page.values if abs(read_as(x[1])[0] - abs(x[0])) > read_as(x[1])[1]] == []
    assert set(re.findall(r"(?<!bzip)\d+", page.words)) <= LITERAL, page.words
    assert all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= page.targets
    assert not re.search("https?:", text.replace("http://www.w3.org/2000/svg", ""))
    return page, read


def test_every_number_is_in_the_json_and_that_keeps_to_its_schema(run):
    page, found = opened(run)
    assert found["verdict"]["twin"] == 1.75 and found["evaluation"]["memory"]["passages"]
    assert {x["name"] for x in found["checks"]} == {
        "beats_ngram", "precise", "beats_twin", "not_memorised", "varied", "style"
    } - (set() if found["evaluation"]["style"]["beyond"] else {"style"})  # fmt: skip
    for heading in (
        "How it learned",
        "unseen chapters",
        "twin",
        "voice",
        "by heart",
        "writes",
        "cost",
        "again",
    ):
        assert heading in page.words, heading
    files = {path.name for path in (run / "report").iterdir()}
    assert files >= {
        "index.html",
        "index.json",
        "report.json",
        "evaluation.json",
        "learning.svg",
        "memory.svg",
    }
    assert all(WRITTEN.fullmatch(f"report/{name}") for name in files)
    assert all(f"place-{i}" in page.targets for i in range(len(found["evaluation"]["memory"]["passages"])))
    assert "#place-0" in page.addresses and "#text-0" in page.addresses
    broken = found | {"cost": {"tokens": "many"}}
    assert any("tokens" in fault for fault in mistakes(broken))
    assert any("figures is not in the schema" in x for x in mistakes(found | {"figures": 1}))


def test_its_commands_can_be_typed_again(run, tmp_path, monkeypatch):
    """With the path by which the page was drawn, from there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a run").symlink_to(run)
    options = {"seed": "3", "split": "test", "twin": "runs/its twin"}
    change(run / "report" / "evaluation.json", options=options)
    write_report(Path("a run"))
    text = (run / "report" / "index.html").read_text(encoding="utf-8")
    [typed] = re.findall("<pre>(.*?)</pre>", text, re.DOTALL)
    words = shlex.split(html.unescape(re.sub("<.*?>", "", typed)).splitlines()[-1])[3:]
    assert words == ["--workdir", "a run", "--seed", "3", "--split", "test", "--twin", "runs/its twin"]


def test_hostile_text_is_text(run):
    opened(run)
    text = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>window" not in text and "<img" not in text and "&lt;script&gt;window.harm" in text
    assert text.count("<script>") == 1 and not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text
    )


def test_the_same_run_the_same_bytes(run):
    write_report(run)
    before = {path.name: path.read_bytes() for path in (run / "report").iterdir()}
    write_report(run)
    assert {path.name: path.read_bytes() for path in (run / "report").iterdir()} == before


def test_another_language_has_no_yardstick(run):
    every = chapters()
    style = style_figures(texts(), [every[0], every[1]], [every[2]], language="de")
    change(run / "report" / "evaluation.json", style=style)
    page, found = opened(run)
    assert "no other book in its language" in page.words and "on the way from" not in page.words.lower()
    [check] = [x for x in found["checks"] if x["name"] == "style"]
    assert "the book's own unseen chapters" in check["text"] and check["limit"] is None


def test_without_an_evaluation(run):
    """As training leaves it; what an earlier evaluation drew is gone."""
    write_report(run)
    (run / "report" / "evaluation.json").unlink()
    page, found = opened(run)
    assert found["evaluation"] == {} and "mdlm_jax.evaluate measures the rest" in page.words
    assert found["verdict"]["bits_per_byte"] == found["report"]["test"]["bits_per_byte"]
    drawings = {path.stem for path in (run / "report").glob("*.svg")}
    assert drawings == {"learning", "noise", "comparison", "cost"}


def test_unfinished_causal_one_stage_and_without_a_line(run):
    config = json.loads((run / "config.json").read_text())
    change(run / "config.json", model=config["model"] | {"causal": True})
    path = run / "report" / "report.json"
    report = json.loads(path.read_text())
    exact = {
        x: report["test"][x]
        for x in ("bits_per_byte", "nats_per_token", "token_perplexity", "word_perplexity")
    }
    change(path, test=exact | {"kind": "exact", "bits_per_byte_se": 0.0})
    (run / "report" / "evaluation.json").unlink()
    page, found = opened(run)
    assert "autoregressive model" in page.words and "known exactly" in page.words
    assert "precise" not in {x["name"] for x in found["checks"]}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [line | {"stage": 0} for line in lines if line["stage"] == 2 and line["kind"] != "transition"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    change(run / "config.json", stages=config["stages"][2:])
    path.unlink()
    change(run / "STATUS.json", state="stopped")
    page, found = opened(run)
    assert (
        "its training is stopped" in page.words and found["verdict"] == {} and not found["curves"]["borders"]
    )
    assert "pairs" not in page.words
    (run / "metrics.jsonl").unlink()
    page, found = opened(run)
    assert found["cost"] is None and not list((run / "report").glob("*.svg"))


def test_what_cannot_be_drawn_loses_nothing(run, monkeypatch):
    before = (run / "report" / "report.json").read_bytes()
    write_report(run)
    page = (run / "report" / "index.html").read_bytes()

    def broken(*_):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(report_files.page, "html", broken)
    assert drawn(run) == [f"A page about it: {run / 'report' / 'index.html'}"]  # it is up to date
    os.utime(run / "report" / "index.html", (0, 0))
    [line] = drawn(run)
    assert "could not be drawn (ZeroDivisionError: no)" in line
    assert (run / "report" / "report.json").read_bytes() == before
    assert (run / "report" / "index.html").read_bytes() == page


def test_side_by_side(run, tmp_path):
    other = shutil.copytree(
        run, tmp_path / HOSTILE.replace("/", "").replace("\x00", "").replace("\ud800", "")
    )
    config = json.loads((other / "config.json").read_text())
    change(other / "config.json", seed=77, label_smoothing=0.125)
    assert config["seed"] == 0
    write_comparison([run, other], tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<bdi>77</bdi>" in text and "<bdi>0.125</bdi>" in text and "learning_rate" not in text
    assert text.count("<script>") == 1 and text.count("<svg") == 2 and "cannot be compared" not in page.words
    info = json.loads((other / "dataset.json").read_text())
    change(
        other / "dataset.json", split=info["split"] | {"chapters": info["split"]["chapters"] | {"test": []}}
    )
    write_comparison([run, other], tmp_path / "out.html")
    assert "cannot be compared" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_thresholds():
    verdict = {"bits_per_byte": 2.0, "interval": [1.98, 2.02], "standard_error": 0.01, "kind": "bound"}
    points = [{"bits_per_byte": x, "bits_per_byte_se": 0.01} for x in (2.5, 2.0, 2.005)]
    others = {
        "style": {"overall_interval": [0.3, 0.49], "beyond": []},
        "memory": {"verdict": "some copying"},
        "coherence": {"together": {"distinct_1": {"verdict": "more varied than the book"}}},
    }

    def passed(verdict=verdict, points=points, others=others) -> dict[str, bool]:
        return {x["name"]: x["passed"] for x in checks.checks(verdict, points, others)}

    good = passed(verdict | {"ngram_5": 2.03, "twin": 2.03})
    assert len(good) == 7 and all(good.values())
    assert passed() == {k: v for k, v in good.items() if k not in ("beats_ngram", "beats_twin")}
    assert passed({}, [], {}) == {}
    poor = passed(
        verdict | {"ngram_5": 2.01, "twin": 2.0, "standard_error": 0.0101},
        [*points, {"bits_per_byte": 2.02, "bits_per_byte_se": 0.01}],
        {
            "style": {"overall_interval": [0.3, 0.5], "beyond": []},
            "memory": {"verdict": "memorised"},
            "coherence": {"together": {"self_bleu_4": {"verdict": "less varied than the book"}}},
        },
    )
    assert poor.keys() == good.keys() and not any(poor.values())
    told = checks.lines(checks.checks(verdict | {"ngram_5": 2.01}, [], {}))
    assert told[0].startswith("WARN") and "2.01" in told[0] and told[1].startswith("pass")


def test_the_verdict_by_hand():
    report = {"test": {"kind": "bound", "bits_per_byte": 3.0, "bits_per_byte_se": 0.1},
              "ngram_5_bits_per_byte": {"test": 4.0}}  # fmt: skip
    evaluation = {"twin": {"test": {"bits_per_byte": 2.0}}}
    exact = {("test", "left_to_right"): {"bits_per_byte": 3.5}}
    made = findings.verdict(report, evaluation, exact)
    assert made["interval"] == pytest.approx([2.804, 3.196]) and made["exact_left_to_right"] == 3.5
    assert made["choices"] == {"model": 8.0, "ngram_5": 16.0, "twin": 4.0}
    assert made["best_simple"] == "ngram_5" and made["better_than_simple"] == 0.25
    assert made["better_than_twin"] == -0.5
    simple = {"likelihood": {"simple_models": {"test": {"ngram_5": 4.0, "bz2": 2.5, "xz": 5.0}}}}
    nearest = findings.verdict(report, simple, {})
    assert nearest["best_simple"] == "bz2" and nearest["better_than_simple"] == pytest.approx(-0.2)
    fresh = {("test", "bound"): {"bits_per_byte": 1.0, "bits_per_byte_se": 0.0, "kind": "bound"}}
    assert findings.verdict(report, {}, fresh)["bits_per_byte"] == 1.0
    assert findings.verdict({}, {}, {}) == {}


def test_curves_are_thinned_and_end_where_training_did():
    class Plan:
        stages = (1, 2)

    lines = [
        {"kind": "train", "stage": s, "step": i, "total_step": 1000 * s + i, "loss": float(i)}
        | {"tokens": i, "flops": 2.0 * i}
        for s in (0, 1)
        for i in range(1, 1001)
    ]
    lines[5]["loss"] = math.nan
    lines.append(
        {"kind": "validation", "stage": 1, "total_step": 2000, "bits_per_byte": 2.0, "nats_per_token": 5.0}
    )
    made = findings.curves(lines, Plan())
    assert [len(points) <= findings.POINTS for points in made["training"]] == [True, True]
    assert made["training"][0][-1] == [1000, 1000.0] and made["training"][1][-1] == [2000, 1000.0]
    assert made["borders"] == [1000] and made["held_out"][0]["flops"] == 2000.0
    assert made["held_out"][0]["tokens"] == 1000


def test_a_directory_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        write_report(tmp_path)
    assert "could not be drawn" in drawn(tmp_path)[0]
