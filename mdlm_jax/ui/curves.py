"""Curves for TensorBoard: clu's writer, or the same names on tensorboard's own."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class EventWriter:
    """clu's `write_scalars` and `flush` on tensorboard's event writer, where TensorFlow has no wheel."""

    def __init__(self, directory: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(directory))

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Adds one event with all scalars."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Writes what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()


def make_writer(directory: Path, report: Callable[[str], None] = print) -> Any:
    """clu's SummaryWriter (seconds to import), or `EventWriter` where TensorFlow is not; says which."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # silences a notice; TensorFlow computes nothing here
    try:
        from clu import metric_writers
    except ImportError as error:
        report(f"curves for TensorBoard: its own writer ({error.name} is not installed)")
        return EventWriter(directory)
    report("curves for TensorBoard: clu.metric_writers")
    return metric_writers.SummaryWriter(str(directory))
