"""Runs of the real command in forked processes: JAX is imported once, in a process that only forks."""

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import sys
import threading
import time
from pathlib import Path

NEW_USER, NEW_MOUNTS = 0x10000000, 0x20000

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["launch", "mdlm_jax.train", "mdlm_jax.evaluation.architecture"])


def small_disk(place: Path, size: int) -> None:
    """Mounts a file system of `size` bytes at `place`, which this process alone sees; needs one thread.

    Raises OSError where the system lets no user do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()

    def checked(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    checked(libc.unshare(NEW_USER | NEW_MOUNTS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    checked(libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, f"size={size}".encode()))


def fill(place: Path) -> None:
    """Writes until there is no room left."""
    file = os.open(place / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"x" * 4096)


def command(argv: list[str], output: Path, cache: Path, disk: tuple | None, cpus: int) -> None:
    """launch.py with these flags, on `cpus` processors; stdout and stderr go to `output`.

    `disk`: (place, size in bytes, seconds or None): there a small disk is mounted, filled up after so many
    seconds, and copied to <place>.after at the end.
    """
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])
    os.environ["NPROC"] = str(cpus)
    if disk:
        small_disk(*disk[:2])
    import jax

    import launch
    from mdlm_jax.run_directory import cache_compilations
    from mdlm_jax.ui import cli

    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    cache_compilations(cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # TensorFlow takes seconds to import: the run uses the other event writer.
    sys.modules.update({"clu": None, "tensorflow": None})
    sys.argv = ["launch.py", *argv]
    if disk and disk[2] is not None:
        filler = threading.Timer(disk[2], fill, (disk[0],))
        filler.daemon = True
        filler.start()
    code = cli.run(launch.command, "nothing is lost, the same command starts again")
    sys.stdout.flush()
    if disk:
        (disk[0] / "filler").unlink(missing_ok=True)
        shutil.copytree(disk[0], disk[0].with_name(f"{disk[0].name}.after"))
    os._exit(code)


class Run:
    """One start of the command."""

    def __init__(self, argv, output: Path, cache: Path, disk: tuple | None = None, cpus: int = 1):
        self.output = output
        self.process = context.Process(target=command, args=(argv, output, cache, disk, cpus))
        self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, or None when it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def until(self, seen, timeout: float = 300) -> bool:
        """Waits until seen() is true: False when the run ended before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if seen():
                return True
            if self.process.exitcode is not None:
                return False
            time.sleep(0.001)
        raise AssertionError("nothing happened")

    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""
