"""python -m mdlm_jax.runs tells what the files say, survives broken ones, removes runs and nothing else."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.filesize import decimal

from mdlm_jax import runs
from mdlm_jax.evaluation import summary
from mdlm_jax.ui import modes
from mdlm_jax.ui.lock import locked

FILES = ("config.json", "dataset.json", "STATUS.json", "report/report.json")
BROKEN = [b"", b'{"a": ', b"[1]", b"null", b"7", b"\xff\xfe\x00", b"[" * 100_000, None]
STATES = [  # STATUS.json, state, state while the lock is held
    ("finished", "finished", "finished"), ("stopped", "stopped", "running"), ("else", "killed", "running"),
    ("no status", "killed", "running"), ("running", "killed", "running"),
    ("nothing", "no weights yet", "running"),
]  # fmt: skip
HOLD = "import fcntl; f = open('lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
PLACES = ("lock.txt", "samples/notes.md", "data/book.txt", "report/mine.html", "checkpoints/mine.txt")
PLACES += ("checkpoints/1_foundational/mine.txt", "checkpoints/1_foundational/5/mine.txt", "mine/config.json")
ANSWERS = {"y\nyes\n": [], "Y\nn\n": ["two"], "\ny\n": ["one"], "": ["one", "two"], "yep\n": ["one", "two"]}
MISTAKES = {
    "show {0}/rum": "it has no config.json; launch.py makes one); did you mean {0}/run?",
    "compare {0}/run {0}/other": "other is not a run directory",
    "remove {0}/run": "--yes",
    "remove {0}/run --yse": "unknown option --yse; did you mean --yes?",
    "remove {0}/run {0}/run/report --yes": "report is not a run directory",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("model", "stages", "state", "stage", "step", "steps", "share_done", "bits_per_byte", "book", "split")
NAMES += ("name", "chapters", "validation", "test", "kind", "parameters", "training_flops", "seed", "causal")
NAMES += ("critical", "passed", "extrapolated")


class Terminal(io.StringIO):
    """A person at a keyboard."""

    isatty = lambda self: True  # noqa: E731


@pytest.fixture
def make(smoke_run, tmp_path):
    """make(name, config=change, ...) copies the finished run into the test's own runs/ and edits its JSON."""

    def copy(name: str = "run", **changes) -> Path:
        run = tmp_path / "runs" / name
        shutil.copytree(smoke_run, run, ignore=shutil.ignore_patterns("data", "events*"))
        for stem, change in changes.items():
            [path] = (run / file for file in FILES if Path(file).stem == stem)
            values = json.loads(path.read_text())
            change(values)
            path.write_text(json.dumps(values))
        return run

    return copy


def told(run: Path, file: str) -> dict:
    return json.loads((run / file).read_text())


def tree(folder: Path) -> dict[str, int]:
    """{path: hash of the content, or of where a link leads} of all below."""
    paths = [p for p in folder.rglob("*") if p.is_symlink() or p.is_file()]
    return {str(p): hash(os.readlink(p) if p.is_symlink() else p.read_bytes()) for p in paths}


def total(folder: Path) -> str:
    return decimal(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))


def ask(capsys, *arguments) -> str:
    """What a command prints when all is well."""
    assert runs.main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments) -> str:
    """The one line of a command that is refused."""
    assert runs.main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def line_of(text: str, label: str) -> str:
    [line] = [line for line in text.splitlines() if line.split("  ")[0] == label]
    return line


def test_list_has_a_line_for_every_run_below(make, monkeypatch, capsys):
    old, new = make("old"), make("new")
    for run, when in ((old, 1e9), (new, 4e9)):
        for file in run.rglob("*"):
            os.utime(file, (when, when))
    (old.parent / "folder").mkdir()
    (old.parent / "notes.txt").touch()
    shutil.copytree(old, old.parent / "folder" / "deeper")
    shutil.copytree(old, old.parent / ".old.removed-7")
    monkeypatch.chdir(old.parent.parent)
    out = ask(capsys, "list")
    assert out == ask(capsys, "list", "--dir", "runs")
    head, first, second, foot, _ = out.splitlines()
    assert first.startswith("old ") and second.startswith("new ") and "lower is better" in foot
    report, status = told(new, "report/report.json"), told(new, "STATUS.json")
    texts = [f"{report[split]['bits_per_byte']:.3f}" for split in ("validation", "test")]
    texts += [f"{status['stage']} {status['step']}/{status['steps']} (100%)", total(new), "0 s ago"]
    assert all(f"  {text}  " in second for text in texts)
    assert " days ago  " in first and second.endswith("  finished")
    assert head.index("state") == second.index("finished") and head.index("book") == second.index("book.txt")


@pytest.mark.parametrize(("said", "alone", "in_training"), STATES)
def test_state(make, capsys, said, alone, in_training):
    """A resumed run compiles for a while before it says anything: the lock tells."""
    run = make(STATUS=lambda v: v.update(state=said))
    if said in ("no status", "nothing"):
        (run / "STATUS.json").unlink()
    if said == "nothing":
        shutil.rmtree(run / "checkpoints")
    before = tree(run)
    for held in (False, True, False):
        expected = in_training if held else alone
        with locked(run) if held else contextlib.nullcontext():
            assert line_of(ask(capsys, "list", "--dir", run.parent), "run").endswith(f"  {expected}")
            assert f"run: {expected}, " in ask(capsys, "show", run)
    assert tree(run) == before
    (run / "lock").unlink()  # an older run has none, and gets none
    assert f"run: {alone}, " in ask(capsys, "show", run) and not (run / "lock").exists()


@pytest.mark.parametrize("content", BROKEN, ids=lambda c: repr(c)[:12])
@pytest.mark.parametrize("file", FILES)
def test_a_broken_file_is_named_and_the_rest_told(make, capsys, file, content):
    run, whole = make("hurt"), make("whole")
    (run / file).unlink()
    (run / file).write_bytes(content) if content is not None else (run / file).mkdir()
    fault = f"broken: {file}: {'no JSON object' if content is not None else 'Is a directory'}"
    table = ask(capsys, "list", "--dir", run.parent)
    assert line_of(table, "hurt").endswith(fault) and line_of(table, "whole").endswith("  finished")
    screen = ask(capsys, "show", run)
    assert fault in screen and "tensorboard --logdir" in screen
    assert fault in ask(capsys, "compare", run, whole)


@settings(max_examples=100)
@example(({}, {}, {"stage": "x", "step": 1, "steps": 1, "share_done": 10**400}, {}))
@given(st.tuples(*[st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6)] * 4))
def test_whatever_the_files_hold_it_is_told(tmp_path_factory, contents):
    run = tmp_path_factory.mktemp("any") / "run"
    (run / "report").mkdir(parents=True)
    for file, content in zip(FILES, contents, strict=True):
        (run / file).write_text(json.dumps(content))
    for command in (["list", "--dir", str(run.parent)], ["show", str(run)], ["compare", str(run), str(run)]):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert runs.main(command) == 0
        assert all(c.isprintable() or c == "\n" for c in out.getvalue())


def test_show_tells_all(make, capsys):
    run = make("my run")
    for seed in (1, 2):
        modes.save({"seed": seed, "text": "x"}, run)
    first = run / "checkpoints" / "1_foundational"
    shutil.copytree(first / "10", first / "1")
    (run / "plan.txt").write_text("The plan")
    screen = ask(capsys, "show", run)
    config, dataset, report = (told(run, f) for f in ("config.json", "dataset.json", "report/report.json"))
    assert (run / "command.txt").read_text().strip() in screen
    assert f"{run}: finished, {total(run)}, " in screen
    book = next(line for line in screen.splitlines() if line.startswith("Book "))
    assert f"book.txt, {dataset['book']['bytes']:,} bytes" in book
    for split, numbers in dataset["split"]["chapters"].items():
        assert f" {len(numbers)} {split}" in book
    shape = "{num_layers} layers x {d_model} x {num_heads} heads, {seq_len} positions"
    shape = shape.format(**config["model"])
    assert f"masked diffusion, {shape}, {config['precision']}\n" in screen
    stages = [line for line in screen.splitlines() if line.startswith("Stage ")]
    for stage, line in zip(config["stages"], stages, strict=True):
        tokens = dataset["stages"][stage["name"]]["train"]["tokens"]
        assert line.endswith(f"{stage['name']}: {stage['num_epochs']} epochs of {tokens:,} tokens")
    for split in ("validation", "test"):
        figure, error = report[split]["bits_per_byte"], report[split]["bits_per_byte_se"]
        assert f"{split.capitalize():12}at most {figure:.3f} +- {error:.3f}\n" in screen
        assert f"{report['ngram_5_bits_per_byte'][split]:.3f} {split}" in screen
    assert "lower is better" in screen and f"{report['parameters']['true']:,}" in screen
    found = [p for p in (run / "checkpoints").glob("*/*") if p.name.isdigit()]
    assert len(found) == screen.count("\nCheckpoint ") > 2
    assert all(f"{p.parent.name} step {p.name}, {total(p)}\n" in screen for p in found)
    assert "\nSamples     2\n" in screen and f"tensorboard --logdir '{run}'\n" in screen
    assert f"\nPlan        {run}/plan.txt: " in screen


def test_a_figure_says_what_kind_it_is_and_may_be_missing(make, capsys):
    twin = make("twin", report=lambda v: v["test"].update(kind="exact", bits_per_byte=1.25))
    assert "\nTest        1.250 exactly\n" in ask(capsys, "show", twin)
    begun = make("begun", STATUS=lambda v: v.update(state="running", bits_per_byte=2.5))
    (begun / "report" / "report.json").unlink()
    screen = ask(capsys, "show", begun)
    assert "\nLatest      2.500 " in screen and "\nValidation" not in screen
    assert "broken" not in screen
    (begun / "dataset.json").unlink()
    assert "broken: dataset.json: No such file" in ask(capsys, "show", begun)


def test_compare_of_equals(make, capsys):
    one, two = make("x/run"), make("y/run")
    out = ask(capsys, "compare", one, two)
    assert "same configuration" in out and "NOT comparable" not in out and "lower is better" in out
    assert out.split()[:2] == ["x/run", "y/run"]
    report = told(one, "report/report.json")
    validation, test, ngram = (report[k] for k in ("validation", "test", "ngram_5_bits_per_byte"))
    assert line_of(out, "Validation").count(f"at most {validation['bits_per_byte']:.3f} +- ") == 2
    assert line_of(out, "Test").count(f" +- {test['bits_per_byte_se']:.3f}") == 2
    assert line_of(out, "Byte 5-gram").count(f"{ngram['test']:.3f} test") == 2
    trained = f"{report['training_tokens']:,} tokens, {report['training_flops']:.2e} FLOPs"
    assert line_of(out, "Trained").count(trained) == 2
    assert line_of(out, "Parameters").count(f"{report['parameters']['true']:,}") == 2


def test_compare_names_the_fields_that_differ_and_no_others(make, capsys):
    def change(config):
        config["model"]["d_model"] = 512
        config["stages"][1]["num_epochs"] = 77
        config["new.field\x1b"] = "x" * 99

    out = ask(capsys, "compare", make("a"), make("b", config=change), make("c"))
    assert "same configuration" not in out and "NOT comparable" not in out
    fields = [row.split() for row in out.splitlines() if "." in row.split()[0]]
    assert [row[0] for row in fields] == ["model.d_model", "new.field", "stages[1].num_epochs"]
    assert fields[0][1:] == ["64", "512", "64"] and fields[1][1:] == ["-", "x" * 55 + "…", "-"]


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (lambda v: v["book"].update(sha256="0" * 64), ["books"]),
        (lambda v: v["split"].update(seed=5), ["split seeds"]),
        (lambda v: v.update(book={"sha256": "0" * 64}, split={"seed": 5}), ["books", "split seeds"]),
        (lambda v: v["book"].update(name="another name.txt"), []),
    ],
)
def test_figures_of_other_texts_are_not_compared(make, capsys, change, reasons):
    out = ask(capsys, "compare", make("a"), make("b", dataset=change))
    assert out.count("NOT comparable") == len(reasons)
    assert all(f"NOT comparable: the {reason} differ" in out for reason in reasons)


def test_nothing_of_a_book_or_a_directory_reaches_the_terminal(make, capsys):
    evil = "\x1b[2J\x1b]0;x\x07 a\u202eb\r\n\x9b31m"
    run = make("bad\x1b[31m\nname", dataset=lambda v: v["book"].update(name=evil))
    for command in (["list", "--dir", run.parent], ["show", run], ["compare", run, make("other")]):
        out = ask(capsys, *command)
        assert all(c.isprintable() or c == "\n" for c in out)
        assert "[2J]0;x ab31m" in out and "bad[31mname" in out
    (run / "notes").touch()
    assert "\x1b" not in refused(capsys, "remove", run, "--yes")
    (run / "config.json").unlink()
    assert "\x1b" not in refused(capsys, "show", run)


@example([("x" * 57, ""), ("", "x" * 56)])
@given(st.lists(st.tuples(*[st.text(max_size=70).map(summary.clean)] * 2), min_size=1, max_size=5))
def test_columns_are_aligned(rows):
    lines = summary.table([[*row, "|"] for row in rows]).splitlines()
    one, two = (min(56, max(map(cell_len, column))) for column in zip(*rows, strict=True))
    assert [cell_len(line) for line in lines] == [one + 2 + two + 2 + 1] * len(rows)


@pytest.mark.parametrize("place", PLACES)
def test_a_run_with_other_files_stays_and_so_do_the_others(make, capsys, place):
    good, bad = make("good"), make("bad")
    (bad / place).parent.mkdir(exist_ok=True)
    (bad / place).write_text("mine")
    before = tree(bad.parent)
    assert f"{bad} holds {place!r}" in refused(capsys, "remove", good, bad, "--yes")
    assert tree(bad.parent) == before


def test_links_are_never_followed(make, tmp_path, capsys):
    run = make()
    (run.parent / "link").symlink_to(run)
    for place in ("link", "link/", "link/."):
        assert "is a link" in refused(capsys, "remove", f"{run.parent}/{place}", "--yes")
    (tmp_path / "disk").mkdir()
    for name in ("checkpoints", "lock"):
        (run / name).symlink_to((run / name).rename(tmp_path / "disk" / name))
        before = tree(tmp_path)
        assert f"holds {name!r}" in refused(capsys, "remove", run, "--yes")
        assert tree(tmp_path) == before
        (run / name).unlink()


def test_a_run_in_training_stays(make, capsys):
    run, other = make(), make("other")
    before = tree(run.parent)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=run, **pipes) as holder:
        holder.stdout.readline()
        assert "another process is training" in refused(capsys, "remove", other, run, "--yes")
        holder.communicate(b"\n")
    assert tree(run.parent) == before
    ask(capsys, "remove", other, run, "--yes")
    assert list(run.parent.iterdir()) == []


@pytest.mark.parametrize("broken", ["config.json", "STATUS.json", None])
def test_remove_takes_the_run_and_nothing_else(make, monkeypatch, capsys, broken):
    run, other = make(), make("run2")
    (run.parent / "run.txt").write_text("mine")
    if broken:
        (run / broken).write_text("{")
    kept = {path: content for path, content in tree(run.parent).items() if not path.startswith(f"{run}/")}
    removed = f"removed {run}, {total(run)} freed\n"
    assert ask(capsys, "remove", f"{run}/../run/", run, "--yes") == removed
    assert tree(run.parent) == kept and sorted(os.listdir(run.parent)) == ["run.txt", "run2"]
    monkeypatch.chdir(other)
    ask(capsys, "remove", ".", "--yes")
    assert os.listdir(run.parent) == ["run.txt"]


@pytest.mark.parametrize(("answers", "stay"), ANSWERS.items())
def test_a_person_is_asked(make, monkeypatch, capsys, answers, stay):
    one, two = make("one"), make("two")
    sizes = {run: total(run) for run in (one, two)}
    monkeypatch.setattr(sys, "stdin", Terminal(answers))
    assert runs.main(["remove", str(one), str(two)]) == 0
    out, err = capsys.readouterr()
    assert sorted(os.listdir(one.parent)) == stay and out.count("removed ") == 2 - len(stay)
    assert err == "".join(f"remove {run} ({size})? [y/N] " for run, size in sizes.items())


def test_training_may_begin_during_the_question(make, monkeypatch, capsys):
    run, terminal = make(), Terminal()
    with contextlib.ExitStack() as stack:
        terminal.readline = lambda: stack.enter_context(locked(run)) or "y\n"
        monkeypatch.setattr(sys, "stdin", terminal)
        assert runs.main(["remove", str(run)]) == 2
    assert "another process is training" in capsys.readouterr().err and (run / "config.json").exists()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(5, "broken disk"), 2)])
def test_an_interrupted_removal_leaves_no_half_run(make, monkeypatch, capsys, error, code):
    run = make()

    def stop(path):
        (path / "dataset.json").unlink()
        raise error

    monkeypatch.setattr(shutil, "rmtree", stop)
    assert runs.main(["remove", str(run), "--yes"]) == code
    assert not run.exists() and capsys.readouterr().err.count("\n") == 1
    assert [name.startswith(".run.removed-") for name in os.listdir(run.parent)] == [True]
    out = ask(capsys, "list", "--dir", run.parent)
    assert "no runs" in out and "launch.py" in out and out.count("\n") == 1


def test_a_run_writes_nothing_that_remove_does_not_know(smoke_run, make):
    run = make()
    modes.save({"seed": 1, "text": "x"}, run)
    names = {name for place in (smoke_run, run) for name in summary.files_below(place)}
    assert {"data/dataset.json", "STATUS.json", "lock"} < names and any("events" in name for name in names)
    assert [name for name in names if not summary.WRITTEN.fullmatch(name)] == []


@pytest.mark.parametrize(("options", "reason"), MISTAKES.items())
def test_a_mistake_is_one_line(make, monkeypatch, capsys, options, reason):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    run = make()
    before = tree(run.parent)
    assert reason.format(run.parent) in refused(capsys, *options.format(run.parent).split())
    assert tree(run.parent) == before


def test_without_jax(smoke_run, child_env):
    code, run = "import sys; sys.modules['jax'] = None; from mdlm_jax import runs; ", str(smoke_run)
    commands = [["list", "--dir", str(smoke_run.parent)], ["show", run], ["compare", run, run]]
    command = [sys.executable, "-c", f"{code} sys.exit(sum(map(runs.main, {commands})))"]
    done = subprocess.run(command, cwd=REPO, env=child_env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "finished" in done.stdout and "same configuration" in done.stdout
