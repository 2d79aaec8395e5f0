"""Curves for TensorBoard: clu's writer, or the same names on tensorboard's own; and for Weights & Biases."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mdlm_jax.ui.values import UserError, read_json, unwritten


class EventWriter:
    """clu's names (`write_scalars`, ...) on tensorboard's event writer, where TensorFlow has no wheel."""

    def __init__(self, directory: Path):
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Not its EventFileWriter, whose thread would fill the terminal when the disk is full.
        self._file = open(directory / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}", "wb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Adds one event with all scalars."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
        self._add(step=step, summary=Summary(value=values))

    def write_texts(self, step: int, texts: dict[str, str]) -> None:
        """Adds one event with all texts."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        values = [
            Summary.Value(
                tag=n, metadata=kind, tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()])
            )
            for n, text in texts.items()
        ]
        self._add(step=step, summary=Summary(value=values))

    def flush(self) -> None:
        """Writes what is buffered."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()


class WandbWriter:
    """The same names on a run of Weights & Biases; a resumed process goes on with the run of the directory.

    WANDB_MODE=offline keeps everything in `directory`/wandb. `debugging.Aids` knows whether it is installed.
    """

    def __init__(self, directory: Path):
        import wandb

        known = sorted(directory.glob("wandb/*run-*-*"))
        self._run = wandb.init(
            project="mdlm_jax",
            name=directory.name,
            dir=str(directory),
            id=known[-1].name.rpartition("-")[2] if known else secrets.token_hex(4),
            resume="allow",
            config=read_json(directory / "config.json", UserError),
            settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
        )
        self._run.define_metric("*", step_metric="total_step")

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Logs them with the step."""
        self._run.log(scalars | {"total_step": step})

    def write_texts(self, step: int, texts: dict[str, str]) -> None:
        """Logs them with the step."""
        self._run.log(texts | {"total_step": step})

    def flush(self) -> None:
        """Its own process writes at once."""

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class Curves:
    """Writers as one; what goes wrong in theirs, of whatever class, is a UserError that names `directory`."""

    def __init__(self, directory: Path, writers: list[Any]):
        self._directory, self._writers = directory, writers

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise UserError(f"cannot write the curves in {self._directory}: {unwritten(error)}") from error

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """To every writer."""
        with self._told():
            for writer in self._writers:
                writer.write_scalars(step, scalars)

    def write_texts(self, step: int, texts: dict[str, str]) -> None:
        """To every writer."""
        with self._told():
            for writer in self._writers:
                writer.write_texts(step, texts)

    def flush(self) -> None:
        """Of every writer."""
        with self._told():
            for writer in self._writers:
                writer.flush()

    def close(self) -> None:
        """Of every writer."""
        with self._told():
            for writer in self._writers:
                writer.close()


def make_writer(directory: Path, report: Callable[[str], None] = print) -> Any:
    """clu's SummaryWriter (seconds to import), or `EventWriter` where TensorFlow is not; says which."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # silences a notice; TensorFlow computes nothing here
    try:
        from clu import metric_writers
    except ImportError as error:
        report(f"curves for TensorBoard: its own writer ({error.name} is not installed)")
        return Curves(directory, [EventWriter(directory)])
    report("curves for TensorBoard: clu.metric_writers")
    return Curves(directory, [metric_writers.SummaryWriter(str(directory))])
