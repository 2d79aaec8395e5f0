"""A command on a terminal of its own, for tests: what it shows, what is typed, and whether it cleans up."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from conftest import REPO

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # the alternate screen
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


class Session:
    """A child whose standard streams are a terminal of `columns` x `rows`; `options`: environment."""

    def __init__(self, command: list[str], columns: int = 80, rows: int = 24, **options: str):
        self.master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self._slave)
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "COLORTERM", "NO_COLOR")}
        env = kept | {"TERM": "xterm-256color"} | options
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self._slave)
        self.child = subprocess.Popen(command, cwd=REPO, env=env, start_new_session=True, **streams)
        self.shown = ""
        self._read = 0

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self._slave)

    def _take(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.master, 65536).decode(errors="replace")
        return True

    def until(self, text: str) -> None:
        """Waits until `text` is shown after what was waited for before."""
        end = time.monotonic() + 60
        while (found := self.shown.find(text, self._read)) < 0:
            self._take(0.1)
            assert time.monotonic() < end and (self.child.poll() is None or self._take(0)), self.shown
        self._read = found + len(text)

    def type(self, keys: str) -> None:
        """Types keys."""
        os.write(self.master, keys.encode())

    def end(self, number: int = 0) -> int:
        """The exit code, after a signal or by itself; the terminal must be as it was."""
        if number:
            self.child.send_signal(number)
        end = time.monotonic() + 60
        while self.child.poll() is None:
            self._take(0.1)
            assert time.monotonic() < end, self.shown
        while self._take(0):
            pass
        assert termios.tcgetattr(self._slave) == self.before
        assert self.shown.count(ENTER) == self.shown.count(LEAVE)
        assert self.shown.count(HIDE) <= self.shown.count(SHOW)
        return self.child.returncode

    def after(self) -> str:
        """What stands on the terminal below the view."""
        return self.shown.rpartition(LEAVE)[2].replace(SHOW, "").replace("\r\n", "\n")


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
STYLE = re.compile(r"\x1b\[[\d;]*m")
