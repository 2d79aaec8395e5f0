"""A run of several processes: how they find each other, which of them writes, what is said when one is lost.

jax is imported where it is needed.
"""

import contextlib
import os
import re
import selectors
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mdlm_jax.ui.values import UserError

AGREED = (0, 3, 75, 130)  # exit codes with which all processes end at the same step
PATIENCE = 300  # seconds that a process waits for the others to come
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
            meet(address, number, index)
            jax.distributed.initialize(
                address, number, index,
                coordinator_bind_address=address, heartbeat_timeout_seconds=SILENCE,
            )  # fmt: skip
        else:
            jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)
        with quiet():
            wait("joined")  # from here on they wait for each other, however long
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        first = str(error).splitlines()[0]
        raise ProcessesError(f"--distributed={text}: the processes cannot be joined ({first})") from None
    return jax.process_index()


def meet(address: str, number: int, index: int, patience: float = PATIENCE) -> None:
    """Returns when all `number` processes are there; `index` 0 waits at `address`, the others call there.

    jax would wait for them as well, but heeds no Ctrl-C meanwhile and ends with a stack trace. Raises Lost
    when they have not come after `patience` seconds, ProcessesError where one cannot wait at `address`.
    """
    host, _, port = address.rpartition(":")
    place, until = (host.strip("[]"), int(port)), time.monotonic() + patience
    if number > 1:
        (_host if index == 0 else _call)(place, number, index, until)


def _waits(whom: str, place: tuple[str, int], until: float) -> None:
    minutes = max(0.0, until - time.monotonic()) / 60
    told = f"waiting for {whom} at {place[0]}:{place[1]} ({minutes:.0f} min)"
    print(told, file=sys.stderr, flush=True)


def _late(whom: str, place: tuple[str, int]) -> Lost:
    return Lost(f"{whom} did not come to {place[0]}:{place[1]} in time; start all processes again")


def _host(place: tuple[str, int], number: int, _index: int, until: float) -> None:
    """Who has called, and is still there, is counted once; when all are, each is told."""
    there: dict[socket.socket, int] = {}
    said = 0
    with contextlib.ExitStack() as stack:
        family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
        try:
            door = stack.enter_context(socket.create_server(place, family=family))
        except OSError as error:
            raise ProcessesError(f"cannot wait at {place[0]}:{place[1]} ({error.strerror})") from None
        known = stack.enter_context(selectors.DefaultSelector())
        known.register(door, selectors.EVENT_READ)
        while missing := number - 1 - len(set(there.values()) & set(range(1, number))) or _gone(there):
            if missing != said:
                _waits(f"{missing} more", place, until)
                said = missing
            if time.monotonic() > until:
                raise _late(f"{missing} more", place)
            for key, _events in known.select(0.2):
                if key.fileobj is door:
                    caller = stack.enter_context(door.accept()[0])
                    known.register(caller, selectors.EVENT_READ)
                    continue
                caller, text = key.fileobj, b""  # type: ignore[assignment]
                with contextlib.suppress(OSError):
                    text = caller.recv(64)
                if called := re.fullmatch(rb"mdlm (\d+)\n", text):
                    there[caller] = int(called[1])
                else:  # gone, or no process of ours
                    known.unregister(caller)
                    there.pop(caller, None)
                    caller.close()
        for caller in there:
            with contextlib.suppress(OSError):
                caller.sendall(b"go\n")


def _gone(there: dict[socket.socket, int]) -> int:
    """How many of those who have called do not answer any more; they are forgotten."""
    before = len(there)
    for caller in list(there):
        answer = b""
        with contextlib.suppress(OSError):
            caller.settimeout(10)
            caller.sendall(b"there?\n")
            answer = caller.recv(64)
        if answer != b"yes\n":
            there.pop(caller)
    return before - len(there)


def _call(place: tuple[str, int], number: int, index: int, until: float) -> None:
    """Calls until the first process answers that all are there."""
    _waits(f"the {number - 1} others", place, until)
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=1) as line:
            line.sendall(f"mdlm {index}\n".encode())
            line.settimeout(0.2)
            while time.monotonic() < until:
                try:
                    told = line.recv(64)
                except TimeoutError:
                    continue
                if told == b"go\n":
                    return
                if told != b"there?\n":
                    break  # the first one has gone
                line.sendall(b"yes\n")
        time.sleep(0.2)
    raise _late(f"the {number - 1} others", place)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what libraries print on the standard output of the process (Gloo, of its connections)."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


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
