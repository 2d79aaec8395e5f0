"""A training run as its files tell it, for a second terminal: a page, plain lines, and a text now and then.

The files are read while another process writes them, so whatever is half there, or of another kind than it
should be, counts as not there.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mdlm_jax.frames import printable
from mdlm_jax.ui import whole
from mdlm_jax.ui.metrics import Entry, Tail
from mdlm_jax.ui.progress import clock
from mdlm_jax.ui.terminal import DIM, MEASURE, alternate_screen, bar, interactive, paragraph

BLOCKS = "▁▂▃▄▅▆▇█"
EVERY = 0.5  # seconds between two looks
# What a page holds, from what is best to what fits a low terminal: facts, held-out figures, empty lines.
PAGES = ((True, 6, True), (False, 6, True), (False, 1, True), (False, 1, False))


def number(value: Any) -> float | None:
    """A number that can be shown, or None."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if known else None


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` blocks, the means of equal shares of the values, from the lowest to the highest."""
    count = min(width, len(values))
    shares = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    means = [math.fsum(share) / len(share) for share in shares]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(BLOCKS[round((mean - low) / span * 7) if span else 0] for mean in means)


@dataclasses.dataclass(frozen=True)
class Run:
    """What is known of a run at one moment; None, empty or 0 where it is not."""

    path: str
    state: str  # waiting, setting up, running, stopped, diverged, failed or finished
    facts: list[str] = dataclasses.field(default_factory=list)  # of plan.txt: the book, the plan
    stage: str = ""
    step: int = 0
    steps: int = 0
    epochs: int = 0
    share: float = 0.0  # of the whole plan
    eta: float | None = None  # seconds
    losses: list[float] = dataclasses.field(default_factory=list)
    held_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # where, bits per byte
    final: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # of the report
    sample: tuple[str, str] = ("", "")  # checkpoint, text
    gauges: str = ""  # memory, and the share of steps whose gradients were clipped
    doing: str = ""  # beside the steps: compiling, measuring
    why: str = ""  # it has diverged or failed

    @property
    def advice(self) -> str:
        """What a person may do about its state."""
        command = f"python launch.py --workdir {shlex.quote(self.path)}"
        resume = {"stopped": f"resume with {command}", "failed": f"then resume with {command}"}
        return "; ".join(filter(None, (self.why, resume.get(self.state))))


def line(text: str) -> str:
    """What prints of a text, in one line."""
    return "".join(character for character in text if character.isprintable())


def _figure(entry: Any, name: str = "bits_per_byte") -> str:
    found = entry if isinstance(entry, dict) else {}
    value, error = number(found.get(name)), number(found.get(f"{name}_se"))
    return "" if value is None else f"{value:.3f}" + (f" +- {error:.3f}" if error is not None else "")


def _object(path: Path) -> Entry:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if isinstance(value := json.loads(path.read_text(encoding="utf-8")), dict):
            return value
    return {}


class Monitor:
    """Reads a run directory again and again."""

    def __init__(self, workdir: Path):
        self.workdir = workdir
        self._metrics = Tail(workdir / "metrics.jsonl")

    def read(self, training: bool, now: float, sample: tuple[str, str] = ("", "")) -> Run:
        """What the files say; `training`: whether a process holds the run, `now`: seconds since 1970."""
        path, entries = str(self.workdir), self._metrics.read()
        config = _object(self.workdir / "config.json")
        if not config:
            return Run(path, "waiting")
        status, report = (_object(self.workdir / name) for name in ("STATUS.json", "report/report.json"))
        stages = config.get("stages")
        stages = [x for x in stages if isinstance(x, dict)] if isinstance(stages, list) else []
        epochs = {f"{i}_{x.get('name')}": number(x.get("num_epochs")) for i, x in enumerate(stages, 1)}
        stage = str(status.get("stage", ""))
        ngram = report.get("ngram_5_bits_per_byte")
        final = [("byte 5-gram", _figure(ngram, "validation")), ("test", _figure(report.get("test")))]
        final += [("test, byte 5-gram", _figure(ngram, "test"))]
        state = ("running" if status else "setting up") if training else "stopped"
        said, why = status.get("state"), ""
        if said == "finished" or (not training and said in ("diverged", "failed")):
            state, why = said, line(str(status.get("why", "")))
        return Run(
            path,
            state,
            self._facts(),
            line(stage),
            int(number(status.get("step")) or 0),
            int(number(status.get("steps")) or 0),
            int(epochs.get(stage) or 0),
            min(max(number(status.get("share_done")) or 0.0, 0.0), 1.0),
            _eta(status, now) if state == "running" else None,
            [y for x in entries if x.get("kind") == "train" and (y := number(x.get("loss"))) is not None],
            [
                (_where(x, [*epochs]), figure)
                for x in entries
                if x.get("kind") == "validation" and (figure := _figure(x))
            ],
            [(label, figure) for label, figure in final if figure],
            sample if sample[1] else _sample(entries, [*epochs]),
            _gauges(entries),
            line(str(status.get("doing", ""))) if state == "running" else "",
            why,
        )

    def _facts(self) -> list[str]:
        try:
            lines = (self.workdir / "plan.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return []
        return [line(x[7:]) for x in lines if x.startswith(("Book   ", "Plan   "))]


def _where(entry: Entry, names: list[str]) -> str:
    """The stage and the step of a line of metrics."""
    index, step = (int(number(entry.get(name)) or 0) for name in ("stage", "step"))
    return f"{line(names[index]) if 0 <= index < len(names) else index + 1} {step:,}"


def _sample(entries: list[Entry], names: list[str]) -> tuple[str, str]:
    """Where the last text that training itself wrote comes from, and the text."""
    found = [x for x in entries if x.get("kind") == "sample" and isinstance(x.get("text"), str)]
    return (_where(found[-1], names), found[-1]["text"]) if found else ("", "")


def _gauges(entries: list[Entry]) -> str:
    """The last line of training that tells of memory and clipping, in words."""
    last = next((x for x in reversed(entries) if x.get("kind") == "train"), {})
    memory, clipped = number(last.get("peak_memory")), number(last.get("clipped"))
    told = ["" if memory is None else f"memory {memory / 1e6:,.0f} MB"]
    told += ["" if clipped is None else f"{clipped:.0%} of the steps clipped"]
    return "  ".join(filter(None, told))


def _eta(status: Entry, now: float) -> float | None:
    """Seconds that are left now by what the status said when it was written; None where that has passed."""
    eta = number(status.get("eta_seconds"))
    with contextlib.suppress(LookupError, ValueError, TypeError, OverflowError):
        then = datetime.datetime.fromisoformat(status["updated"]).timestamp()
        left = (eta or 0.0) - (0.0 if status.get("doing") else max(now - then, 0.0))
        return left if left > 0 else None
    return eta or None


def progress(run: Run) -> str:
    """The stage, the step and the epoch in words."""
    told = f"{run.stage}  step {run.step:,} of {run.steps:,}"
    if run.epochs and run.steps:
        told += f"  epoch {min(run.step * run.epochs // run.steps + 1, run.epochs)} of {run.epochs}"
    return told


def _between(left: str, right: str, width: int, style: str = "") -> Text:
    """A line with something at both ends; of the left there is the end where there is no room for both."""
    room = max(width - cell_len(right) - 2, 0)
    if cell_len(left) > room:
        while left and cell_len(left) >= room:
            left = left[1:]
        left = f"…{left}"[:room]
    return Text(left, style).append(" " * (width - cell_len(left) - cell_len(right)) + right, "")


def _eta_told(run: Run) -> str:
    return f"  ETA {clock(run.eta)}" if run.eta is not None else ""


def page(run: Run, width: int, note: str = "", facts: bool = True, figures: int = 6) -> list[Text]:
    """The lines of the page, of at most `width` cells, with so many of the last held-out figures."""
    lines = [_between(line(run.path), run.state, width, "bold")]
    for text in (run.advice, note):
        lines += [Text(), *paragraph(text, width)] * bool(text)
    lines.append(Text())
    for fact in run.facts * facts:
        lines += paragraph(fact, width, DIM)
    if run.stage:
        share = f"  {100 * run.share:.0f} %{_eta_told(run)}"
        lines += [*[Text()] * bool(run.facts and facts), *paragraph(progress(run), width)]
        lines += [bar(run.share, max(width - len(share), 1)).append(share)]
    lines += paragraph(run.doing, width, DIM) * bool(run.doing)
    if run.losses:
        first, last = f"{run.losses[0]:.2f} ", f" {run.losses[-1]:.2f}"
        room = width - len(first + last)
        curve = Text(f"{first}{sparkline(run.losses, room)}{last}") if room > 0 else _between("", last, width)
        lines += [Text(), Text("training loss", DIM), curve]
        lines += paragraph(run.gauges, width, DIM) * bool(facts)
    if run.held_out:
        lines += [Text(), *paragraph("held-out bits per byte, lower is better", width, DIM)]
        rows = [*run.held_out[-figures:], *run.final]
        lines += [_between(where, f"{figure:<15}", min(width, 38)) for where, figure in rows]
    return lines


def text_lines(run: Run, width: int) -> list[Text]:
    """The last text that the weights have written, and which weights."""
    checkpoint, text = run.sample
    return [
        *paragraph(f"a text of {line(checkpoint)}", width, DIM),
        *paragraph(printable(text).strip(), width),
    ]


def screen(run: Run, width: int, height: int, note: str = "") -> Text:
    """The page, and the last text below it or beside it, whichever fits: at most `height` lines."""
    margin = 1 if width >= 20 else 0
    measure = min(width - 2 * margin, MEASURE)
    text = text_lines(run, measure) if run.sample[1] else []
    beside = width >= 2 * MEASURE + 8 and bool(text)
    for facts, figures, airy in PAGES:
        lines = page(run, measure, note, facts, figures)
        if beside:
            lines += [Text() for _ in text[len(lines) :]]
            for one, other in zip(lines, text, strict=False):
                one.append(" " * (measure + 4 - one.cell_len)).append_text(other)
        else:
            lines += [Text(), *text] * bool(text)
        lines = [Text(), *lines] if airy else [one for one in lines if one.plain.strip()]
        if len(lines) < height:
            break
    left = " " * ((width - measure - beside * (measure + 4)) // 2)
    return Text("\n", no_wrap=True).join(Text(left).append_text(one) for one in lines[:height])


def changes(before: Run | None, run: Run) -> list[str]:
    """A line for everything that has changed; of the progress, for every percent."""
    told = []
    if before is None or before.state != run.state:
        told.append(f"{run.path}: {run.state}{'; ' * bool(run.advice)}{run.advice}")
    if run.doing and (before is None or before.doing != run.doing):
        told.append(run.doing)
    if run.stage and (before is None or f"{before.share:.2f}" != f"{run.share:.2f}"):
        loss = f"  loss {run.losses[-1]:.3f}" if run.losses else ""
        told.append(f"{100 * run.share:5.1f} %  {progress(run)}{loss}{_eta_told(run)}")
    for where, figure in run.held_out[len(before.held_out) if before else 0 :]:
        told.append(f"held-out after {where}: {figure} bits per byte")
    if run.sample[1] and (before is None or before.sample != run.sample):
        told.append(f"a text of {run.sample[0]}: {' '.join(run.sample[1].split())}")
    return [line(x) for x in told]


class Writer:
    """A process of low priority that lets the newest weights of a run write a short text.

    `command` prints a line of JSON with "text" and "checkpoint" when it is given "{}"; without one, no text.
    """

    def __init__(self, workdir: Path, command: list[str]):
        self.workdir, self.command = workdir, command
        self.sample = ("", "")
        self._tried = ""
        self._child: subprocess.Popen[bytes] | None = None

    def look(self) -> bool:
        """Takes what has been written, and begins with a newer checkpoint; whether there is more to come."""
        if self._child is not None:
            if self._child.poll() is None:
                return True
            out = self._child.stdout.read() if self._child.stdout else b""
            self._end()
            with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
                told = json.loads(out)
                self.sample = str(told["checkpoint"]), str(told["text"])
        newest = whole.newest(self.workdir)
        if newest in ("", self._tried) or not self.command:
            return False
        self._tried = newest
        self._child = child = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},  # an accelerator is the training's
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, 19)
        with contextlib.suppress(OSError), child.stdin as stdin:  # type: ignore[union-attr]
            stdin.write(b"{}\n")
        return True

    def __enter__(self) -> "Writer":
        """From here on a SIGTERM ends the process too."""
        self._before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        signal.signal(signal.SIGTERM, self._before)

    def _end(self) -> None:
        if self._child is not None:
            self._child.terminate()
            with self._child:
                self._child = None


def follow(read: Callable[[], Run], look: Callable[[], bool], note: str) -> None:
    """Shows a run until it is finished, or q is pressed; then prints it once more.

    `read` says what is known, `look` whether there is a text to wait for, `note` what to say while it waits.
    """
    run = read()
    if run.state != "finished":
        run = (_on_screen if interactive() else _in_lines)(read, look, note)
    print(plain(run), flush=True)


def _on_screen(read: Callable[[], Run], look: Callable[[], bool], note: str) -> Run:
    with alternate_screen() as (console, update, keys):
        drawn: object = None
        while True:
            more, run = look(), read()
            shown = screen(run, *console.size, note if run.state == "waiting" else ""), console.size
            if shown != drawn:
                update(shown[0])
                drawn = shown
            if (run.state == "finished" and not more) or keys.wait(EVERY) in ("q", "Q"):
                return run


def _in_lines(read: Callable[[], Run], look: Callable[[], bool], note: str) -> Run:
    before = None
    print(note, end="\n" * bool(note), flush=True)
    while True:
        more, run = look(), read()
        for change in changes(before, run):
            print(change, flush=True)
        if run.state == "finished" and not more:
            return run
        before = run
        time.sleep(EVERY)


def plain(run: Run) -> str:
    """The page and the last text as plain lines."""
    width = min(Console().width - 1, MEASURE)
    lines = [*page(run, width), *([Text(), *text_lines(run, width)] if run.sample[1] else [])]
    return "\n".join(one.plain.rstrip() for one in lines).strip()
