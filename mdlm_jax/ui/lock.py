"""Who trains in a run directory: one process at a time holds its lock. No jax."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from mdlm_jax.ui.values import UserError


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds `workdir` until the process ends, however it does. Raises UserError when another trains there."""
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / "lock", "w", encoding="utf-8") as file:
        for again in (True, False):  # who only looks whether it is held (runs, watch) holds it for an instant
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not again:
                    told = f"another process is training in {workdir}; wait for it, or stop it"
                    raise UserError(told) from None
                time.sleep(0.05)
        yield


def in_training(path: Path) -> bool:
    """Whether another process holds the run's lock; True too when that cannot be told."""
    try:
        with open(path / "lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return False
