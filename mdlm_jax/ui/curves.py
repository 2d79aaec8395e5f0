"""Curves for TensorBoard: clu's writer, or the same names on tensorboard's own; and for Weights & Biases."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mdlm_jax.ui.values import UserError, read_json


class EventWriter:
    """clu's names (`write_scalars`, ...) on tensorboard's event writer, where TensorFlow has no wheel."""

    def __init__(self, directory: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(directory))

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Adds one event with all scalars."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def write_texts(self, step: int, texts: dict[str, str]) -> None:
        """Adds one event with all texts."""
        from tensorboard.compat.proto.event_pb2 import Event
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
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Writes what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()


class WandbWriter:
    """The same names on a run of Weights & Biases; a resumed process goes on with the run of the directory.

    WANDB_MODE=offline keeps everything in `directory`/wandb. Raises UserError where wandb is not installed.
    """

    def __init__(self, directory: Path):
        try:
            import wandb
        except ImportError:
            raise UserError("--wandb: wandb is not installed; pip install 'mdlm-jax[wandb]'") from None
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
            full = "No space left" in str(error)
            why = "no space left; free some and run the same command" if full else str(error) or repr(error)
            raise UserError(f"cannot write the curves in {self._directory}: {why}") from error

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
