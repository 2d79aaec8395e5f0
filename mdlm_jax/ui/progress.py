"""Progress with an ETA for the whole plan: a live bar on a terminal, else periodic lines. No jax."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def clock(seconds: float) -> str:
    """Seconds as "45 s", "12 min", "3.4 h" or "11 days"."""
    for most, unit, name in ((90, 1, ".0f} s"), (5400, 60, ".0f} min"), (172_800, 3600, ".1f} h")):
        if seconds < most:
            return ("{:" + name).format(seconds / unit)
    return f"{seconds / 86_400:.0f} days"


class PlanProgress:
    """Shows how much of `total` (FLOPs, the unit that makes stages comparable) is done."""

    def __init__(self, total: float, line_every: float = 10.0):
        self.total, self.done, self._line_every = total, 0.0, line_every
        self._began, self._began_at = time.monotonic(), 0.0
        self._last_line = time.monotonic()
        self.doing = ""  # beside the steps: compiling, measuring
        self.note: Callable[[], object] = lambda: None  # called when that changes
        self._bar: Progress | None = None
        if (console := Console(stderr=True)).is_terminal:
            columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
            self._bar = Progress(TextColumn("{task.description}", markup=False), *columns, console=console)
            self._task = self._bar.add_task("setting up", total=total)
            self._bar.start()

    @contextlib.contextmanager
    def apart(self, doing: str) -> Iterator[None]:
        """Says what goes on beside the steps; the time that it takes has no part in the pace."""
        self.say(f"{doing} ...")
        outer, began, self.doing = self.doing, time.monotonic(), doing
        self.note()
        try:
            yield
        finally:
            self.doing = outer
            self._began += 0.0 if outer else time.monotonic() - began
            self.note()

    def eta(self) -> float:
        """Seconds left at the pace since the start of this process; 0 before there is one."""
        passed = time.monotonic() - self._began
        pace = (self.done - self._began_at) / passed if passed > 3 else 0.0  # sooner it only alarms
        return (self.total - self.done) / pace if pace > 0 else 0.0

    def restart(self, done: float) -> None:
        """Starts the pace afresh at `done`, so that neither compilation nor an earlier process counts."""
        self.done = done
        self._began, self._began_at = time.monotonic(), done

    def update(self, done: float, text: str) -> None:
        """Moves to `done` with a one-line state."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=int(done), total=self.total, description=text)
        elif time.monotonic() - self._last_line >= self._line_every:
            self._last_line = time.monotonic()
            eta = f"  ETA {clock(self.eta())}" if self.eta() or done >= self.total else ""
            print(f"{100 * done / self.total:5.1f} %  {text}{eta}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Ends the live display."""
        if self._bar is not None:
            self._bar.stop()
