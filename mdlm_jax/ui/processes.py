"""A run of several processes: how they find each other, which of them writes, what is said when one is lost.

jax is imported where it is needed.
"""

import contextlib
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mdlm_jax.ui.values import UserError

AGREED = (0, 3, 75, 130)  # exit codes with which all processes end at the same step
SILENCE = 30  # seconds after which a process that is not heard of is lost (jax: 100)
LOST = re.compile(r"gloo|nccl|coordination|UNAVAILABLE|DEADLINE_EXCEEDED|connection", re.IGNORECASE)


class ProcessesError(UserError):
    """Processes that cannot be joined, or that have been lost; one line."""


class Lost(ProcessesError):
    """Another process of the run has ended; `code` is EX_UNAVAILABLE."""

    code = 69


def connect(text: str) -> int:
    """Joins the processes of a run; returns the number of this one, from 0. Raises ProcessesError.

    `text` is "host:port,processes,number", with the address of the first one, or "auto" where Slurm, Open MPI
    or a TPU says all that (`jax.distributed.initialize`). The port is open on that address alone.
    """
    found = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", text)
    if text != "auto" and (not found or int(found[3]) >= int(found[2])):
        raise ProcessesError(
            f"--distributed={text} is neither auto nor host:port,processes,number with a number from 0, "
            "such as 10.0.0.1:9000,2,0"
        )
    import jax

    try:
        if found:
            address, number, index = found[1], int(found[2]), int(found[3])
            jax.distributed.initialize(
                address, number, index,
                coordinator_bind_address=address, heartbeat_timeout_seconds=SILENCE,
            )  # fmt: skip
        else:
            jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)
        wait("joined")  # within five minutes; from here on they wait for each other, however long
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ProcessesError(f"--distributed={text}: the processes cannot be joined ({first})") from None
    return jax.process_index()


def wait(what: str) -> None:
    """Until all processes have come here."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(what)


def check_same(text: str) -> None:
    """Raises ProcessesError when the processes give different texts."""
    import numpy as np
    from jax.experimental import multihost_utils

    marks = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if len(set(marks.tolist())) > 1:
        raise ProcessesError("the processes have different plans or data; give all of them the same flags")


def leave(code: int) -> NoReturn:
    """Ends the process; where only one ends, at once: jax would wait for the others, and they for it."""
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized() and code not in AGREED:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def apart(index: int, workdir: Path) -> Iterator[Path]:
    """Where process `index` writes: the first into `workdir`, and it alone says what happens.

    The others have a directory that is thrown away, in which only the checkpoints are those of the run. An
    error of theirs is shown all the same, after this.
    """
    if index == 0:
        yield workdir
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
        tempfile.TemporaryDirectory() as scratch,
    ):
        (Path(scratch) / "checkpoints").symlink_to(workdir.absolute() / "checkpoints")
        yield Path(scratch)


@contextlib.contextmanager
def told_when_lost() -> Iterator[None]:
    """Raises Lost where the end of another process is why jax fails."""
    import jax

    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError) or jax.process_count() == 1 or not LOST.search(str(error)):
            raise
        raise Lost(
            "another process of this run has ended, or cannot be reached; start all of them again, they go "
            "on from the last checkpoint"
        ) from None
