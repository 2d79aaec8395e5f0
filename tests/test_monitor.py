"""Following a run: whatever its files hold is read without a fault, shown within the width, and told once."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pseudo_terminal import SIGNALS, STYLE, Session
from rich.cells import cell_len

from mdlm_jax import watch
from mdlm_jax.ui import monitor
from mdlm_jax.ui.metrics import Tail
from mdlm_jax.ui.monitor import Monitor, Run, Writer, sparkline
from mdlm_jax.ui.whole import newest

STAGES = [{"name": "foundational", "num_epochs": 4}, {"name": "refinement", "num_epochs": 12}]
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00+00:00
STATUS = {
    "state": "running",
    "stage": "2_refinement",
    "step": 50,
    "steps": 100,
    "share_done": 0.625,
    "eta_seconds": 80.0,
    "updated": "2027-01-15T08:00:00+00:00",
}
LINES = [
    *({"kind": "train", "stage": 0, "step": s, "loss": 6 - s / 10} for s in range(1, 11)),
    {"kind": "validation", "stage": 0, "step": 10, "bits_per_byte": 3.25, "bits_per_byte_se": 0.0125},
    {"kind": "transition", "stage": 1, "step": 0, "bits_per_byte_before": 3.25},
    {"kind": "train", "stage": 1, "step": 50, "loss": 4.5},
    {"kind": "validation", "stage": 1, "step": 1050, "bits_per_byte": 2.5},
]
REPORT = {
    "test": {"bits_per_byte": 2.4, "bits_per_byte_se": 0.01},
    "ngram_5_bits_per_byte": {"validation": 2.1, "test": 2.2},
}
PLAN = "Book   A [b]book[/b]: 12 words\nModel  tiny\nPlan   foundational x 4\nTime   soon\n"


def put(workdir, status=STATUS, lines=LINES, **files):
    """Writes a run's files."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({"stages": STAGES}))
    (workdir / "plan.txt").write_text(PLAN)
    (workdir / "STATUS.json").write_text(json.dumps(status))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "report").mkdir(exist_ok=True)
    for name, value in files.items():
        (workdir / f"{name}.json").write_text(json.dumps(value))
    return workdir


@pytest.fixture
def workdir(tmp_path):
    return put(tmp_path / "run")


def test_memory_clipping_and_the_text_of_the_training_are_shown(tmp_path):
    last = {"kind": "train", "stage": 1, "step": 60, "loss": 4.0, "peak_memory": 1.5e9, "clipped": 0.25}
    texts = [{"kind": "sample", "stage": 1, "step": s, "text": f"text {s}"} for s in (30, 60)]
    read = Monitor(put(tmp_path / "run", lines=[*LINES, last, *texts, {"kind": "sample", "text": 3}])).read
    run, gauges = read(True, NOW), "memory 1,500 MB  25% of the steps clipped"
    assert gauges in monitor.plain(run) and run.sample == ("2_refinement 60", "text 60")
    assert read(True, NOW, ("2_refinement/70", "newer")).sample[1] == "newer"
    assert Monitor(put(tmp_path / "old")).read(True, NOW).gauges == ""


NUMBERS = st.lists(st.floats(-1e9, 1e9), max_size=200)


@given(NUMBERS, st.integers(0, 90))
def test_a_sparkline_has_a_block_for_every_share(values, width):
    drawn = sparkline(values, width)
    assert len(drawn) == min(width, len(values)) and set(drawn) <= set(monitor.BLOCKS)
    if len(set(drawn)) > 1:
        assert {monitor.BLOCKS[0], monitor.BLOCKS[-1]} <= set(drawn)
    rising = sparkline(sorted(values), width)
    assert list(rising) == sorted(rising)


def test_a_sparkline_is_the_shape_of_the_values():
    assert sparkline([3.0] * 9, 4) == "▁▁▁▁" and sparkline([], 5) == "" == sparkline([1.0], 0)
    assert sparkline(range(8), 8) == monitor.BLOCKS
    assert sparkline([1, 1, 5, 5, 3, 3], 3) == "▁█▅"  # means of shares


def test_metrics_cut_at_every_byte_are_read(tmp_path):
    data = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    path, growing = tmp_path / "metrics.jsonl", Tail(tmp_path / "grown.jsonl")
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        with open(growing.path, "ab") as file:
            file.write(data[max(end - 1, 0) : end])
        whole = LINES[: data[:end].count(b"\n")]
        assert Tail(path).read() == whole == growing.read()


def test_what_a_run_says(workdir):
    run = Monitor(workdir).read(True, NOW + 30)
    assert (run.state, run.stage, run.step, run.steps, run.epochs) == ("running", "2_refinement", 50, 100, 12)
    assert run.losses == [6 - s / 10 for s in range(1, 11)] + [4.5] and run.facts[1] == "foundational x 4"
    assert run.held_out == [("1_foundational 10", "3.250 +- 0.013"), ("2_refinement 1,050", "2.500")]
    assert monitor.progress(run) == "2_refinement  step 50 of 100  epoch 7 of 12"
    put(workdir, STATUS | {"state": "finished"}, **{"report/report": REPORT})
    run = Monitor(workdir).read(False, NOW)
    figures = {"byte 5-gram": "2.100", "test": "2.400 +- 0.010", "test, byte 5-gram": "2.200"}
    assert run.state == "finished" and dict(run.final) == figures


@pytest.mark.parametrize("passed", [-50, 0, 30, 80, 10**6])
def test_the_eta_of_the_plan_counts_down_and_is_never_negative(workdir, passed):
    left = min(80.0 - passed, 80.0) if passed < 80 else None  # what was promised is over: unknown
    assert Monitor(workdir).read(True, NOW + passed).eta == left
    for training, changed in ((False, {}), (True, {"state": "finished"}), (True, {"eta_seconds": 0.0})):
        put(workdir, STATUS | changed)
        assert Monitor(workdir).read(training, NOW + passed).eta is None


@pytest.mark.parametrize(
    ("training", "status", "state"),
    [
        (True, STATUS, "running"),
        (True, STATUS | {"state": "stopped"}, "running"),  # it has been resumed
        (True, {}, "setting up"),
        (False, STATUS | {"state": "stopped"}, "stopped"),
        (False, STATUS, "stopped"),  # it was killed
        (False, {}, "stopped"),
        (False, STATUS | {"state": "finished"}, "finished"),
        (True, STATUS | {"state": "diverged"}, "running"),
    ],
)
def test_states(workdir, training, status, state):
    run = Monitor(put(workdir, status)).read(training, NOW)
    assert run.state == state and bool(run.advice) == (state == "stopped")
    shown = monitor.screen(run, 80, 40).plain
    assert state in shown and ("resume with python launch.py --workdir" in shown) == (state == "stopped")
    shutil.rmtree(workdir)
    assert Monitor(workdir).read(False, NOW).state == "waiting"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STATUS, "name"]), inner),
    max_leaves=6,
)


@settings(max_examples=60, phases=[Phase.generate])
@given(
    status=JSON | st.fixed_dictionaries(dict.fromkeys(STATUS, JSON)),
    lines=st.lists(
        JSON | st.fixed_dictionaries(dict.fromkeys(("stage", "step", "loss", "bits_per_byte"), JSON))
    ),
    kind=st.sampled_from(["train", "validation"]),
    config=JSON | st.fixed_dictionaries({"stages": JSON}),
    report=JSON | st.fixed_dictionaries(dict.fromkeys(REPORT, JSON)),
    width=st.integers(20, 220),
    height=st.integers(1, 40),
)
def test_whatever_the_files_hold_is_shown_within_the_screen(
    tmp_path_factory, status, lines, kind, config, report, width, height
):
    workdir = tmp_path_factory.getbasetemp() / "odd"
    lines = [line | {"kind": kind} if isinstance(line, dict) else line for line in lines]
    put(workdir, status, lines, config=config, **{"report/report": report})
    run = Monitor(workdir).read(True, NOW, ("1_x/\x1b1", "[b]\x1b[2J日本\x9b" * 30))
    told = monitor.screen(run, width, height).plain
    assert all(line.isprintable() for line in told.split("\n"))
    assert max(map(cell_len, told.split("\n"))) <= width and told.count("\n") < height
    for change in monitor.changes(None, run):
        assert change.isprintable()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_page_holds_what_matters(workdir, width):
    text = "2_refinement/50", "A text. " * 20
    run = Monitor(put(workdir, **{"report/report": REPORT})).read(True, NOW, text)
    told = monitor.screen(run, width, 60).plain
    parts = ("running", "A [b]book[/b]", "epoch 7 of 12", "62 %  ETA 80 s", "5.90 █", " 4.50", "2.500")
    parts += ("byte 5-gram", "a text of 2_refinement/50", "3.250 +- 0.013")
    ink = "".join(told.split())
    assert all("".join(part.split()) in ink for part in parts) and ink.count("Atext.") == 20
    small = monitor.screen(run, width, 7).plain
    assert "running" in small and "step 50" in small and "ETA" in small and small.count("\n") < 7


# Following.


@pytest.fixture
def following(monkeypatch, capsys):
    """What is printed on what is no terminal while a run goes through states."""
    monkeypatch.setattr(monitor, "EVERY", 0)

    def call(*runs: Run, more: bool = False) -> str:
        left = [runs[0], *runs]
        monitor.follow(lambda: left.pop(0), lambda: more and len(left) > 1, "a note")
        return capsys.readouterr().out

    return call


def test_a_line_for_every_change_and_the_page_once(workdir, following):
    read = Monitor(workdir).read
    waiting, stopped = Run(str(workdir), "waiting"), read(False, NOW)
    running, texted = read(True, NOW), read(True, NOW, ("2_refinement/50", "It\n\nwas."))
    put(workdir, STATUS | {"state": "finished", "share_done": 1.0})
    finished = Monitor(workdir).read(False, NOW, ("2_refinement/50", "It\n\nwas."))
    said = following(waiting, waiting, running, running, stopped, running, texted, finished)
    page = following(finished, more=True)  # nothing to wait for
    assert said.endswith(page)
    lines = said.removesuffix(page).splitlines()
    assert lines[0] == "a note"
    assert [line.partition(": ")[2].partition(";")[0] for line in lines if line.startswith(str(workdir))] == [
        *("waiting", "running", "stopped", "running", "finished"),
    ]
    assert lines.count("a text of 2_refinement/50: It was.") == 1
    assert sum(line.startswith("held-out after") for line in lines) == 2
    assert len(lines) == 11 and "\x1b" not in said
    assert f"{workdir}"[-20:] in page and "finished" in page and page.endswith("It\n\nwas.\n")


def test_the_last_text_is_waited_for(workdir, following):
    put(workdir, STATUS | {"state": "finished"})
    runs = [Monitor(workdir).read(False, NOW, x) for x in (("", ""), ("", ""), ("2_refinement/50", "Done."))]
    runs[0] = Run(str(workdir), "running")
    assert following(*runs, more=True).endswith("Done.\n")


# A text now and then.


def written(workdir, code: str, **files) -> tuple[str, str]:
    """What a writer takes of a child process that runs this code."""
    with Writer(workdir, [sys.executable, "-c", code]) as writer:
        while writer.look():
            time.sleep(0.02)
        assert not writer.look()  # nothing newer
        return writer.sample


def checkpoint(workdir, name: str) -> None:
    (workdir / "checkpoints" / name).mkdir(parents=True)
    (workdir / "checkpoints" / name / "MANIFEST.json").touch()


ECHO = """import json, os, sys
where = f"nice {os.nice(0)} {os.environ['JAX_PLATFORMS']}"
print(json.dumps({"text": sys.stdin.read().strip(), "checkpoint": where}))"""


def test_the_newest_checkpoint_writes(workdir):
    assert written(workdir, ECHO) == ("", "")
    for name in ("1_a/100", "2_b/9", "2_b/10.tmp", "2_b/12.damaged", "2_b/10", "x/99"):
        checkpoint(workdir, name)
    assert newest(workdir) == "2_b/10"
    assert written(workdir, ECHO) == ("nice 19 cpu", "{}")
    for broken in ("1 / 0", "print('{}')", "print([1])", "print('x')", "import os; os._exit(9)"):
        assert written(workdir, broken) == ("", "")


def test_a_writer_leaves_no_process(workdir):
    checkpoint(workdir, "1_a/1")
    with Writer(workdir, [sys.executable, "-c", "import time; time.sleep(600)"]) as writer:
        assert writer.look() and writer.look()
        child = writer._child
        assert child is not None
    assert child.returncode is not None
    with Writer(workdir, []) as writer:
        assert not writer.look()
    code = "import sys, time; from pathlib import Path; from mdlm_jax.ui.monitor import Writer\n"
    code += "with Writer(Path(sys.argv[1]), [sys.executable, '-c', 'import time; time.sleep(600)']) as w:\n"
    code += "    w.look(); print(w._child.pid, flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workdir)], cwd=REPO, stdout=subprocess.PIPE
    ) as one:
        child = int(one.stdout.readline())
        one.terminate()
        assert one.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# The command.


def command(*options) -> list[str]:
    return [sys.executable, "-m", "mdlm_jax.watch", *map(str, options)]


def called(capsys, monkeypatch, *options) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["watch", *map(str, options)])
    return (watch.main(), *capsys.readouterr())


def test_what_is_no_run_is_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    put(tmp_path / "demo")
    for path in (tmp_path, tmp_path / "file"):
        code, out, err = called(capsys, monkeypatch, path)
        assert (code, out) == (2, "") and "is not a run directory" in err and err.count("\n") == 1
    code, out, err = called(capsys, monkeypatch, tmp_path / "dmo", "--once")
    assert (code, out) == (2, "") and "did you mean" in err and err.count("\n") == 1


def test_once(workdir, capsys, monkeypatch):
    code, out, err = called(capsys, monkeypatch, workdir, "--once")
    assert (
        code == 0
        and not err
        and "stopped" in out
        and f"--workdir{workdir}" in "".join(out.split())
        and "\x1b" not in out
    )


def test_a_finished_run_is_told_and_left(smoke_run, capsys, monkeypatch):
    code, out, err = called(capsys, monkeypatch, smoke_run)
    assert code == 0 and not err and "finished" in out and "byte 5-gram" in out and "100 %" in out


def test_a_run_is_followed_from_before_it_begins_to_its_end(tmp_path):
    path = tmp_path / "run"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(path, "--no_sample"), cwd=REPO, **streams) as child:

        def until(text: str) -> None:
            while text not in (line := child.stdout.readline()):
                assert line

        until("waiting")
        put(path)
        until("stopped; resume with python launch.py --workdir")
        with open(path / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            until("running")
            shutil.rmtree(path)
            until("waiting")
            put(path, STATUS | {"state": "finished"})
            out, err = child.communicate()
    assert child.returncode == 0 and not err and "\x1b" not in out and out.count("epoch 7 of 12") == 2


@pytest.mark.soak
def test_a_text_of_the_newest_weights_is_told(run_copy, child_env):
    told = json.loads((run_copy / "STATUS.json").read_text())
    (run_copy / "STATUS.json").write_text(json.dumps(told | {"state": "running"}))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with open(run_copy / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with subprocess.Popen(command(run_copy), cwd=REPO, env=child_env, **streams) as child:
            while not (line := child.stdout.readline()).startswith("a text of "):
                assert line
            (run_copy / "STATUS.json").write_text(json.dumps(told))
            out, err = child.communicate()
    checkpoint, _, text = line.removeprefix("a text of ").partition(": ")
    page, _, again = out.partition(f"a text of {checkpoint}\n")
    assert child.returncode == 0 and not err and "finished" in page
    assert "".join(again.split()) == "".join(text.split()) and not (run_copy / "samples").exists()


@pytest.mark.parametrize(("number", "key"), [*((number, "") for number in SIGNALS), (0, "q")])
def test_the_terminal_is_left_as_it_was(workdir, number, key):
    with Session(command(workdir), 100) as session:
        session.until("resume with")
        session.type(key)
        assert session.end(number) == SIGNALS.get(number, 0)
        told = session.after()
    assert told.count("resume with") == (key == "q") and "Traceback" not in session.shown
    assert number != signal.SIGINT or told.endswith("interrupted; the training goes on\n")


def test_the_end_is_told_once_below_the_view(workdir):
    with Session(command(workdir, "--no_sample"), 100) as session:
        session.until("resume with")
        put(workdir, STATUS | {"state": "finished"})
        assert session.end() == 0 and session.after().count("epoch 7 of 12") == 1
        assert not STYLE.search(session.after())
