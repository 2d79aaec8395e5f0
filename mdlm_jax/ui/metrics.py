"""Where numbers go: metrics.jsonl, and TensorBoard events by clu's writers. No jax."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mdlm_jax.ui.curves import Curves, WandbWriter, make_writer
from mdlm_jax.ui.values import naming, write_text

Entry = dict[str, Any]


class MetricLog:
    """Appends lines to metrics.jsonl and the same scalars to TensorBoard."""

    def __init__(self, workdir: Path, report: Callable[[str], None] = print, wandb: bool = False):
        self.path = workdir / "metrics.jsonl"
        self._writer = make_writer(workdir, report)
        if wandb:
            self._writer = Curves(workdir, [self._writer, WandbWriter(workdir)])

    def cut_back(self, stage: int, step: int) -> None:
        """Drops a half-written last line and those after (stage, step), which a resumed run writes again."""
        if not self.path.exists():
            return
        kept = [line for line in read_lines(self.path) if (line["stage"], line["step"]) <= (stage, step)]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, kind: str, stage: int, step: int, total_step: int, scalars: dict[str, Any]) -> None:
        """One line; numbers go to TensorBoard as <kind>/<name> at `total_step` (steps over all stages), as
        does a "text".
        """
        head = {"kind": kind, "stage": stage, "step": step, "total_step": total_step}
        line = {**head, **scalars, **head}  # an evaluation has a "kind" of its own, which is not the line's
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        numbers = {f"{kind}/{k}": v for k, v in scalars.items() if isinstance(v, (int, float))}
        self._writer.write_scalars(total_step, numbers)
        if "text" in scalars:
            self._writer.write_texts(total_step, {f"{kind}/text": scalars["text"]})
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a metrics.jsonl."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off by a kill
            return
        if not isinstance(entry, dict):
            return
        yield entry


class Tail:
    """The whole lines of a file of JSON objects as it grows; from the start where it was replaced or cut."""

    def __init__(self, path: Path):
        self.path = path
        self.entries: list[Entry] = []
        self._inode, self._offset = -1, 0

    def read(self) -> list[Entry]:
        """The objects of all whole lines so far; none where there is no file."""
        data = b""
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            told = os.fstat(file.fileno())
            if told.st_ino != self._inode or told.st_size < self._offset:
                self.entries, self._inode, self._offset = [], told.st_ino, 0
            file.seek(self._offset)
            data = file.read()
        if not data and not self.path.exists():
            self.entries, self._inode, self._offset = [], -1, 0
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.split(b"\n"):
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(entry := json.loads(line), dict):
                    self.entries.append(entry)
        return self.entries
