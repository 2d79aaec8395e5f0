"""The studies of benchmarks/: which runs are known, and what is read out of their rows, which are made up."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import REPO

sys.path.append(str(REPO / "benchmarks"))

import ablations
import crossover
import moonshot
import studies

SIZES, EPOCHS = ("2x64x2", "4x128x2", "6x192x3"), (5, 15, 45, 135)


def made_up(level: dict, slope: dict, seeds=(0,), noise: float = 0.0) -> list[dict]:
    """Rows whose envelopes are straight lines in log10 of FLOPs; `level` at 1e12. Larger sizes at few epochs
    are off the envelope.
    """
    rng, rows = np.random.default_rng(3), []
    for seed in seeds:
        for family in crossover.FAMILIES:
            for i, size in enumerate(SIZES):
                for epochs in EPOCHS:
                    flops = 1e11 * epochs * 8**i * (1.3 if family == "causal" else 1.0)
                    value = level[family] + slope[family] * np.log10(flops / 1e12)
                    value += 0.5 * (i > 0 and epochs < 45) + noise * rng.normal()
                    row = {
                        "book": "a.txt",
                        "preset": "tiny",
                        "family": family,
                        "size": size,
                        "epochs": epochs,
                        "dropout": 0.0,
                        "vocabulary": "4096-5",
                        "decay": 1.0,
                        "rate": 4e-3,
                    }
                    row |= {"seed": seed, "commit": "abc", "tokens": 1000 * epochs, "flops": flops}
                    row |= {"validation": value, "test": value, "unique": 100_000, "ngram": 2.0}
                    masked = family == "masked"
                    rows.append(row | {"se": 0.004 * masked, "kind": "bound" if masked else "exact"})
    return rows


FAST, SLOW = {"masked": -0.3, "causal": -0.1}, {"masked": -0.1, "causal": -0.1}


@pytest.mark.parametrize("decades", [0.7, 1.2, 1.9])
def test_a_known_crossing_is_found_where_it_is(decades):
    """Lines that meet `decades` above 1e12 FLOPs."""
    rows = made_up({"masked": 2.5 + 0.2 * decades, "causal": 2.5}, FAST)
    told, found = crossover.verdict(rows)
    assert np.log10(found) == pytest.approx(12 + decades, abs=1e-6)
    # The gap falls by 0.2 a decade, so that two standard errors of 0.004 move the crossing by 0.04 decades.
    low, high = map(
        float, re.search(r"two standard errors for or against it: (\S+) to (\S+)\.", told).groups()
    )
    assert np.log10([low, high]) == pytest.approx([12 + decades - 0.04, 12 + decades + 0.04], abs=0.006)
    assert told.startswith(f"Crossing at {found:.2e} FLOPs") and "One seed" in told
    ratio = float(re.search(r"(\S+) times Ccrit", told)[1])
    assert ratio == pytest.approx(found / (2.12e15 * 0.1**2.174), rel=0.01)


def test_no_crossing_is_said_with_the_gap_and_its_trend():
    parallel = made_up({"masked": 2.6, "causal": 2.5}, SLOW)
    told, found = crossover.verdict(parallel)
    assert found is None and told.startswith("No crossing up to ") and "would not make one" in told
    gaps = re.search(r"behind by ([\d., ]+) bits", told)[1].split(", ")
    assert len(gaps) == 3 and all(float(g) == pytest.approx(0.1, abs=1e-3) for g in gaps)
    meeting = made_up({"masked": 2.91, "causal": 2.5}, FAST)  # at 1e14, were it not for the 0.01
    short = [r for r in meeting if r["flops"] <= 1e14]
    last = min(max(r["flops"] for r in short if r["family"] == f) for f in crossover.FAMILIES)
    told, found = crossover.verdict(short)
    assert found is None and told.startswith(f"No crossing up to {last:.2e} FLOPs") and ", falling" in told
    level = made_up({"masked": 2.6, "causal": 2.5}, {"masked": 0.0, "causal": 0.0})
    assert ", level" in crossover.verdict(level)[0]
    apart = made_up({"masked": 2.8, "causal": 2.5}, {"masked": -0.1, "causal": -0.2})
    assert ", growing" in crossover.verdict(apart)[0]


def test_masked_that_is_never_behind_has_its_crossing_below_the_grid():
    rows = made_up({"masked": 2.4, "causal": 2.5}, SLOW)
    told, found = crossover.verdict(rows)
    assert told.startswith("Masked diffusion is not behind at any budget")
    assert found == crossover.budgets(*crossover.compared(rows))[0]
    alone = [r for r in rows if r["family"] == "masked"]
    assert crossover.verdict(alone) == (
        "No comparison: there are no budgets that both families were trained to.",
        None,
    )


def test_seeds_are_averaged_and_told_apart():
    level = {"masked": 2.74, "causal": 2.5}
    rows = made_up(level, FAST, seeds=(0, 1, 2), noise=0.003)
    told, found = crossover.verdict(rows)
    assert np.log10(found) == pytest.approx(13.2, abs=0.06) and "One seed" not in told
    each = re.search(r"By seeds alone: (.*)\.$", told)[1].split(", ")
    assert len(each) == 3 and len(set(each)) == 3
    assert all(abs(np.log10(float(flops)) - 13.2) < 0.15 for flops in each)
    for p in crossover.points(rows, "masked"):
        same = [r["validation"] for r in p.lines]
        assert p.value == pytest.approx(np.mean(same)) and len(same) == 3
        assert p.error == pytest.approx(np.hypot(0.004, 4.302653 / 1.96 * np.std(same, ddof=1) / np.sqrt(3)))


def test_the_envelope_is_what_no_cheaper_run_beats():
    found = crossover.points(made_up({"masked": 2.7, "causal": 2.5}, FAST, noise=0.2), "masked")
    best = crossover.envelope(found)
    assert [p.flops for p in found] == sorted(p.flops for p in found) and 1 < len(best) < len(found)
    for p in found:
        assert (p in best) == all(q.value > p.value for q in found if q.flops < p.flops)


def test_table_and_chart_hold_every_run(tmp_path, capsys):
    path = tmp_path / "crossover.jsonl"
    rows = made_up({"masked": 2.74, "causal": 2.5}, FAST)
    for row in rows:
        studies.add(path, row)
    crossover.draw(path)
    shown = capsys.readouterr().out
    assert len([x for x in shown.splitlines() if x.startswith(("| masked", "| causal"))]) == len(rows)
    assert crossover.verdict(rows)[0] in shown
    drawing = (tmp_path / "crossover_a.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(drawing)
    marks = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.find("{*}title") is not None]
    assert len(marks) == len(rows)
    text = " ".join(root.itertext())
    for word in (
        "Ccrit, extrapolated",
        "byte 5-gram",
        "crossing",
        "masked diffusion (bound)",
        "extrapolation",
    ):
        assert word in text
    crossover.draw(path)
    assert (tmp_path / "crossover_a.svg").read_text(encoding="utf-8") == drawing


def test_a_run_is_known_by_what_decides_it(tmp_path):
    path, [row, *_] = tmp_path / "rows.jsonl", made_up({"masked": 2.7, "causal": 2.5}, FAST)
    assert studies.read_rows(path) == [] and studies.known(path, row, crossover.SAME) is None
    studies.add(path, row)
    assert studies.known(path, row | {"commit": "other"}, crossover.SAME) == row
    for name in crossover.SAME:
        assert studies.known(path, row | {name: "other"}, crossover.SAME) is None
    # A line as ablations.py has written them since it is there.
    line = {
        "book": "b.txt",
        "preset": "tiny",
        "name": "mdlm",
        "fields": {"stages[0].num_epochs": 7},
        "seed": 1,
    }
    line |= {"commit": "3cc7228", "tokens": 2_000_000, "flops": 1e13}
    line |= {"validation": 1.9, "validation_se": 0.004, "test": 1.85, "test_se": 0.004}
    studies.add(path, line)
    asked = {name: line[name] for name in ablations.SAME}
    assert studies.known(path, asked, ablations.SAME) == line
    assert studies.known(path, asked | {"fields": {}}, ablations.SAME) is None
    assert ablations.table([line]).splitlines()[-1] == "| mdlm | 1 | 2.00M | 1.00e+13 | 1.900 | 1.850 |  |  |"


def test_one_of_several_orders_is_a_model_and_never_worse_than_they_are_on_the_mean():
    """All texts of three laws over fifty: together they have probability 1 under the mixture too."""
    laws = np.random.default_rng(0).dirichlet(np.full(50, 0.3), size=3)
    nats = moonshot.mixture(-np.log(laws))
    assert np.exp(-nats).sum() == pytest.approx(1)
    np.testing.assert_allclose(np.exp(-nats), laws.mean(0))
    assert (nats <= -np.log(laws).mean(0) + 1e-12).all()
    np.testing.assert_allclose(moonshot.mixture(-np.log(laws[:1])), -np.log(laws[0]))


def test_where_no_masked_run_has_a_common_budget_the_ends_are_told():
    rows = made_up({"masked": 2.6, "causal": 2.5}, SLOW)
    masked, causal = ([r for r in rows if r["family"] == f] for f in crossover.FAMILIES)
    least, most = (f(masked, key=lambda r: r["flops"]) for f in (min, max))
    inner = [r for r in causal if 2 * least["flops"] < r["flops"] < most["flops"] / 2]
    told, found = crossover.verdict([least, most, *inner])
    assert found is None and len(re.search(r"behind by ([\d., ]+) bits", told)[1].split(", ")) == 2


def test_places_of_the_grid_are_told_apart():
    """A run of the same size and epochs with another vocabulary, rate or dropout is a point of its own."""
    row = next(r for r in made_up({"masked": 2.6, "causal": 2.5}, SLOW) if r["epochs"] == 45)
    other = row | {"vocabulary": "8192-2", "rate": 8e-3, "dropout": 0.2, "unique": row["unique"] // 2}
    rows = [row, other, row | {"rate": 8e-3, "seed": 1}]
    assert len(crossover.points(rows, "masked")) == 3 and len({crossover.named(r) for r in rows}) == 3
    head = crossover.table(rows).splitlines()[0]
    assert head.startswith("| family | size | epochs | dropout | vocabulary | rate | seeds")
    assert "decay" not in head and "rate" not in crossover.table([row]).splitlines()[0]
    assert crossover.unique_tokens(rows) == row["unique"]
    better = row | {"rate": 8e-3, "validation": row["validation"] - 0.1}
    assert [p.lines for p in crossover.envelope(crossover.points([row, better], "masked"))] == [[better]]


def test_books_are_tabled_apart(tmp_path, capsys, monkeypatch):
    path = tmp_path / "rows.jsonl"
    for book, value in (("a.txt", 2.0), ("b.txt", 3.0)):
        for seed in range(2):
            line = {"book": book, "preset": "tiny", "name": "mdlm", "seed": seed, "tokens": 1e6}
            studies.add(path, line | {"flops": 1e12, "validation": value, "test": value})
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--draw", "--rows", str(path)])
    ablations.main()
    told = capsys.readouterr().out.splitlines()
    assert [x for x in told if x.endswith(", tiny")] == ["a.txt, tiny", "b.txt, tiny"]
    assert [x.split(" | ")[4] for x in told if x.startswith("| mdlm")] == ["2.000", "3.000"]
    assert not any("decided" in x for x in told)


@pytest.mark.soak
def test_a_pair_is_trained_once_and_drawn(book, tmp_path, child_env):
    command = [sys.executable, "benchmarks/crossover.py", "--book", str(book), "--preset", "smoke"]
    command += ["--sizes", "1x32x2", "2x32x2", "--epochs", "1", "--dropout", "0", "--vocabulary", "512-5"]
    command += ["--only", "*-1x32x2-1-0.0-*"]
    command += ["--out", str(tmp_path / "runs"), "--rows", str(tmp_path / "rows.jsonl")]

    def run() -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=REPO, env=child_env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    first = run()
    rows = studies.read_rows(tmp_path / "rows.jsonl")
    assert [r["family"] for r in rows] == ["masked", "causal"]
    assert [r["kind"] for r in rows] == ["bound", "exact"] and rows[1]["se"] == 0
    for row in rows:
        name = f"book-smoke-{crossover.named(row)}-seed0"
        config = json.loads((tmp_path / "runs" / name / "config.json").read_text())
        assert (config["model"]["num_layers"], config["model"]["d_model"]) == (1, 32)
        assert config["model"]["causal"] == (row["family"] == "causal")
        assert config["model"]["dropout"] == row["dropout"] == 0
        assert config["optimizer"]["learning_rate"] == config["optimizer"]["norm_rate"] == row["rate"]
        assert config["optimizer"]["weight_decay"] == row["decay"]
        assert (config["data"]["vocab_size"], config["data"]["min_frequency"]) == (512, 5)
        assert [s["name"] for s in config["stages"]] == ["refinement"]
        foretold = re.search(rf"{crossover.named(row)} +seed 0: (\S+) FLOPs", first.stderr)[1]
        assert foretold == f"{row['flops']:.2e}"
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    assert run().stdout == first.stdout and studies.read_rows(tmp_path / "rows.jsonl") == rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()} == written


def test_ablations_of_three_seeds_are_told_from_fewer_and_from_the_twin():
    def line(name: str, seed: int, value: float) -> dict:
        return {"name": name, "seed": seed, "tokens": 1e6, "flops": 1e12, "validation": value, "test": value}

    found = [line("mdlm", i, 2.0 + i) for i in range(3)] + [line("falling", i, 2.25 + i) for i in range(3)]
    found += [line("decay 1", 0, 1.5), line("no such row", 0, 9.0)]
    found += [line("twin, 10 epochs, decay 1", 0, 1.75), line(ablations.USUAL_TWIN, 0, 1.25)]
    parts = ablations.tables(found).split("\n\n")
    assert parts[::2] == ["Three seeds", "Fewer, not decided", "The twin"]
    three, fewer, twin = (part.splitlines()[2:] for part in parts[1::2])
    assert [row.split(" | ")[0] for row in three] == ["| mdlm", "| falling"]
    assert "+0.250 ± 0.000" in three[1]
    assert [row.split(" | ")[0] for row in fewer] == ["| mdlm", "| decay 1"] and "-0.500 |" in fewer[1]
    assert [row.split(" | ")[0] for row in twin] == ["| twin, 20 epochs", "| twin, 10 epochs, decay 1"]
    assert "+0.500 |" in twin[1]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("ablations.py", "error: --book B is needed, or --draw"),
        ("ablations.py --book x --only fallin", "error: --only: no change fallin; did you mean falling?"),
        ("ablations.py --seeds x --draw", "error: --seeds: invalid int value: 'x'"),
        ("crossover.py --draw --book x", "error: --draw goes without --book"),
        ("crossover.py --book nowhere.txt --rows rows.jsonl", "does not exist; check --book"),
        ("moonshot.py --runs nowhere --rows x/rows.jsonl", "error: x is no folder; check --rows"),
        ("moonshot.py --runs nowhere --rows rows.jsonl", "error: nowhere is not a run directory"),
    ],
)
def test_mistakes_are_one_line(command, told, tmp_path, monkeypatch, capsys):
    name, *arguments = command.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        studies.run(sys.modules[name.removesuffix(".py")].main)
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and told in err and err.count("\n") == 1 and out == ""
