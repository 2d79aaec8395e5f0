"""A text as it is written, on a terminal: words that flow, dots where something is still to come.

How sure the model was shows without colour too: what it doubted is dim, what it has just written is bold.
Nothing here is markup, and only characters that print are shown.
"""

import argparse
import contextlib
import copy
import dataclasses
import itertools
import math
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mdlm_jax.frames import SampleFrame
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.replay import Document, Look, spelled

STEPS_A_SECOND = 8.0  # at speed 1
SLOWEST, FASTEST = 1 / 16, 128
MEASURE = 72  # cells of a line that is good to read
UNSURE = 0.1  # a token of less probability is dim, where no greys can be had
# Colours that can be read on white and on black; without them bold, dim and italic tell the same.
FRESH, GIVEN, DIM = "bold color(166)", "italic color(67)", "dim"
KEYS = "space pause  ← → step  + - speed  q quit"
KEPT = 2048  # steps that a live view can go back
LINGER = 1.0  # seconds that the end stands
ARROWS = {b"\x1b[D": "left", b"\x1bOD": "left", b"\x1b[C": "right", b"\x1bOC": "right"}
Line = list[tuple[str, int]]


def speed(text: str) -> float:
    """The value of --speed. Raises ArgumentTypeError."""
    with contextlib.suppress(ValueError):
        if SLOWEST <= (value := float(text)) <= FASTEST:
            return value
    raise argparse.ArgumentTypeError(f"must be a number from {SLOWEST} to {FASTEST}, not {text!r}")


def size(character: str) -> int:
    """Cells of a character. U+FE0F can make the one before it wider."""
    return 1 if character == "\ufe0f" else cell_len(character)


def wrap(characters: Iterable[tuple[str, int]], width: int) -> list[Line]:
    """Lines of at most `width` cells (at least 2), broken at spaces and beside wide characters.

    Spaces at the beginning of a line are dropped; a word that is wider than a line is cut.
    """
    lines: list[Line] = [[]]
    word: Line = []
    used = wide = 0  # cells of the line, and of the word that follows

    def place() -> None:
        nonlocal used, wide
        if used + wide > width:
            lines.append([])
            used = 0
        lines[-1].extend(word)
        used, wide = used + wide, 0
        word.clear()

    for character, index in characters:
        cells = size(character)
        if character.isspace():
            place()
            if character == "\n":
                lines.append([])
                used = 0
            elif 0 < used < width:
                lines[-1].append((" ", index))
                used += 1
            continue
        if cells == 2 or wide + cells > width:
            place()
        word.append((character, index))
        wide += cells
        if cells == 2:
            place()
    place()
    return lines


def paragraph(text: str, width: int, style: str = "") -> list[Text]:
    """A text without places as lines of one style."""
    lines = wrap(((character, 0) for character in text), width)
    return [Text("".join(c for c, _ in line).rstrip(), style) for line in lines]


def bar(share: float, width: int) -> Text:
    """A rule of `width` cells of which a share is done."""
    done = round(min(max(share, 0.0), 1.0) * width)
    return Text("━" * done).append("─" * (width - done), DIM)


@dataclasses.dataclass(frozen=True)
class State:
    """What a view shows."""

    document: Document
    pace: float = 0.0  # steps a second; 0: not known
    speed: float = 1.0
    paused: bool = False
    light: bool | None = None  # the background; None: not known, or there are no greys


def tone(confidence: float, light: bool | None) -> str:
    """The style of a token of this probability, in [0, 1]: one of thirteen greys, or dim and plain."""
    if light is None:
        return "" if confidence >= UNSURE else DIM
    level = round(12 * math.sqrt(confidence))  # the eye asks which are unsure, and most are below a half
    return f"color({246 - level if light else 242 + level})"


def _styles(state: State) -> list[str]:
    """The style of each place."""
    document = state.document
    sure = np.clip(np.nan_to_num(document.confidence), 0, 1)
    styles = [tone(p, state.light) for p in sure.tolist()]
    for where, style in ((document.given, GIVEN), (document.fresh, FRESH), (document.masked, DIM)):
        for place in where.nonzero()[0].tolist():
            styles[place] = style
    return styles


def _top(lines: list[Line], document: Document, height: int) -> int:
    """The first line to show: the first mask stands in the upper third, what was just written in sight."""
    masked, fresh = document.masked.tolist(), document.fresh.tolist()
    due = [i for i, line in enumerate(lines) if any(masked[place] for _, place in line)]
    new = [i for i, line in enumerate(lines) if any(fresh[place] for _, place in line)]
    top = (due[0] if due else len(lines)) - height // 3
    if new:
        top = min(max(top, new[-1] - height + 1), new[0])
    return max(0, min(top, len(lines) - height))


def _status(state: State, width: int) -> Text:
    """What there is room for, the most telling first; at the right what the keys have changed."""
    document = state.document
    written = int((~document.masked & ~document.given).sum())
    of = f" of {document.num_steps}" if document.num_steps else ""
    parts = [f"step {document.step}{of}", f"block {document.block + 1}"]
    parts += [f"{document.calls} call{'s' * (document.calls != 1)}"]
    parts += [f"{-document.nats / written:.2f} nats a token"] if written else []
    parts += [f"{state.pace:.1f} steps/s"] if state.pace else []
    mode = f"{'paused' * state.paused}  {f'{state.speed:g}x' * (state.speed != 1)}".strip()
    room = width - len(mode) - 2 * bool(mode)
    line, *rest = (part[: max(room, 0)] for part in parts)
    for part in rest:
        line += f"  {part}" * (len(line) + 2 + len(part) <= room)
    shown = Text(line, DIM)
    if len(line) + 4 + len(KEYS) <= room:
        mode = f"{KEYS}  {mode}".rstrip()
    return shown.append(mode.rjust(width - len(line))[: width - len(line)], "" if state.paused else DIM)


def render(state: State, width: int, height: int) -> Text:
    """The screen, with margins and status: at most `height` lines of at most `width` cells (at least 2)."""
    document = state.document
    margin = 1 if width >= 20 else 0
    measure = min(width - 2 * margin, MEASURE)
    left = " " * ((width - measure) // 2)
    lines = wrap(document.characters(), measure)
    framed = height >= 8  # else the text takes every line but the last
    room = height - 4 if framed else max(height - 1, 1)
    top = _top(lines, document, room)
    styles = _styles(state)
    shown = [Text()] if framed else []
    for line in lines[top : top + room]:
        runs = itertools.groupby(line, key=lambda pair: styles[pair[1]])
        shown.append(Text(left))
        for style, run in runs:
            shown[-1].append("".join(character for character, _ in run), style)
    shown += [Text()] * (height - len(shown) - (2 if framed else 1))
    if framed:
        due, left_over = ~document.given, document.masked
        share = 1 - left_over.sum() / max(due.sum(), 1)
        shown.append(Text(left) + bar(float(share), measure))
    if height > 1:
        shown.append(Text(left) + _status(state, measure))
    return Text("\n", no_wrap=True).join(shown)


class Keys:
    """Keys as they are pressed; none where the standard input is no terminal."""

    def __init__(self) -> None:
        self.open = os.isatty(0)
        self._typed: deque[bytes] = deque()

    def __enter__(self) -> "Keys":
        if self.open:
            self._before = termios.tcgetattr(0)
            tty.setcbreak(0)
            quiet = termios.tcgetattr(0)
            quiet[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the terminal as it is
            termios.tcsetattr(0, termios.TCSANOW, quiet)
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_before"):
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(0, termios.TCSAFLUSH, self._before)

    def wait(self, seconds: float) -> str:
        """The next key that is pressed within `seconds`, or nothing."""
        if self._typed or not self.open:
            time.sleep(0 if self._typed else seconds)
        elif select.select([0], [], [], seconds)[0]:
            typed = os.read(0, 64)
            self.open = bool(typed)  # else it was hung up
            self._typed.extend(re.findall(rb"\x1b[\[O][A-D]|[^\x1b]", typed))
        key = self._typed.popleft() if self._typed else b""
        return ARROWS.get(key, key.decode("latin-1"))


def is_light() -> bool | None:
    """Whether the terminal, if it is asked and says so, has a light background."""
    os.write(1, b"\x1b]11;?\x1b\\\x1b[c")  # its colour, and then what every terminal answers
    answer, more = b"", b"."
    while more and not re.search(rb"\x1b\[\?[\d;]*c", answer) and select.select([0], [], [], 0.3)[0]:
        answer += (more := os.read(0, 256))
    found = re.search(rb"rgb:([\da-fA-F]+)/([\da-fA-F]+)/([\da-fA-F]+)", answer)
    if found is None:
        return None
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in found.groups())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5


def interactive() -> bool:
    """Whether the standard output is a terminal that moves its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def alternate_screen() -> Iterator[tuple[Console, Callable[[Text], None], Keys]]:
    """The terminal, what draws on its alternate screen, and its keys; however it ends, all is as before."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    try:
        with Keys() as keys, console.screen() as screen:
            yield console, screen.update, keys
    finally:
        signal.signal(signal.SIGTERM, before)


class View:
    """The loop of a live view, which looks at frames: waits, draws, and does what the keys say."""

    def __init__(self, stack: contextlib.ExitStack, pieces: list[str], speed: float):
        self._stack, self._spelling, self._speed = stack, spelled(pieces), speed
        self._frames: list[SampleFrame] = []  # the last KEPT or fewer, and
        self._before = Document(self._spelling)  # what those before them have made
        self._document = copy.copy(self._before)
        self._laid = self._at = 0  # frames in the document, and those that are shown
        self._paused = self._closed = False
        self._times: deque[float] = deque(maxlen=16)
        self._due = self._next_draw = 0.0
        self._seen: object = None  # what was drawn last

    def look(self, frame: SampleFrame) -> None:
        """Shows a frame and returns when the next is wanted."""
        if self._closed:
            return
        if not self._frames:
            self._console, self._update, self._keys = self._stack.enter_context(alternate_screen())
            console = self._console
            greys = os.isatty(0) and not console.no_color and console.color_system in ("256", "truecolor")
            self._light = is_light() if greys else None
            self._due = time.monotonic()
        self._keep(dataclasses.replace(frame, top_k=[]))
        self._go(1)
        self._play(ending=False)

    def _keep(self, frame: SampleFrame) -> None:
        self._frames.append(frame)
        if len(self._frames) > KEPT:
            for old in self._frames[: KEPT // 2]:
                self._before.lay(old)
            del self._frames[: KEPT // 2]
            self._at -= KEPT // 2
            self._document, self._laid = copy.copy(self._before), 0

    def end(self) -> None:
        """Lets the last step stand for a moment, or as long as it is paused."""
        if self._frames:
            self._next_draw = 0.0
            self._play(ending=True)

    def _play(self, ending: bool) -> None:
        """Shows the frames that there are, until the next is wanted or the end has stood."""
        while not self._closed:
            self._draw()
            last = self._at == len(self._frames)
            until = self._due + LINGER * (last and ending)
            left = 0.2 if self._paused else min(until - time.monotonic(), 0.2)
            asked = self._press(self._keys.wait(max(left, 0.0)))
            if self._at < len(self._frames):
                if asked or (not self._paused and time.monotonic() >= self._due):
                    self._go(1)
            elif last and ((asked and not ending) or (not self._paused and time.monotonic() >= until)):
                return

    def _go(self, by: int) -> None:
        """Moves to the frame that many on, and says when the next is due."""
        self._at = min(max(self._at + by, 1), len(self._frames))
        now, interval = time.monotonic(), 1 / (STEPS_A_SECOND * self._speed)
        self._due = max(now - interval, self._due) + interval
        self._times.append(now)

    def _press(self, key: str) -> bool:
        """Does what a key says; True where the next frame is asked for."""
        if key in ("left", "right", " "):
            self._paused = key != " " or not self._paused
            self._times.clear()
            self._due = time.monotonic()
        if key == "left":
            self._go(-1)
        elif key in ("+", "=", "-"):
            factor = 0.5 if key == "-" else 2
            self._speed = min(max(self._speed * factor, SLOWEST), FASTEST)
            self._times.clear()
        elif key in ("q", "Q"):
            self.close()
        return key == "right"

    def _draw(self) -> None:
        """Draws where something has changed; so seldom that four fifths of the time are the model's."""
        began = time.monotonic()
        seen = (self._at, self._paused, self._speed, self._console.size)
        if seen == self._seen or began < self._next_draw:
            return
        if self._at < self._laid:
            self._document, self._laid = copy.copy(self._before), 0
        for frame in self._frames[self._laid : self._at]:
            self._document.lay(frame)
        self._laid, self._seen = self._at, seen
        passed = self._times[-1] - self._times[0] if self._times else 0.0
        pace = (len(self._times) - 1) / passed if passed and not self._paused else 0.0
        state = State(self._document, pace, self._speed, self._paused, self._light)
        self._update(render(state, *self._console.size))
        now = time.monotonic()
        self._next_draw = now + max(1 / 30, 4 * (now - began))

    def close(self) -> None:
        """Leaves the alternate screen; what is still written is not shown."""
        self._closed = True
        self._stack.close()


@contextlib.contextmanager
def shown(on: bool, speed: float, pieces: list[str]) -> Iterator[Look]:
    """What looks at the frames of one text: on a terminal a live view, else a line of progress on stderr."""
    if not on:
        yield lambda frame: None
    elif interactive():
        with contextlib.ExitStack() as stack:
            view = View(stack, pieces, speed)
            yield view.look
            view.end()
    else:
        with contextlib.ExitStack() as stack:
            yield _progress(stack, spelled(pieces))


def _progress(stack: contextlib.ExitStack, spelling: list[bytes]) -> Look:
    document, progress = Document(spelling), None

    def look(frame: SampleFrame) -> None:
        nonlocal progress
        document.lay(frame)
        due, masked = int((~document.given).sum()), int(document.masked.sum())
        if progress is None:
            progress = PlanProgress(max(due, 1))
            stack.callback(progress.stop)
        progress.update(due - masked, f"block {document.block + 1}, step {document.step}")

    return look
