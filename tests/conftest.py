"""What every test shares: one CPU device, few threads, fixed example generation, and the size of a soak.

This file runs before any test module is imported, and so before jax reads its environment.
"""

import copy
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import settings

REPO = Path(__file__).resolve().parent.parent

os.environ["JAX_PLATFORMS"] = "cpu"
# pytest-xdist already runs a worker per core: more threads than that only wait for each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(name, "1")

# Most of the time goes into compiling programs that run once or twice. XLA's older CPU back ends have two
# ways of making kernels of fusions: the one that is not their default compiles three times as fast. Newer
# ones have one way, and end where they read a flag that they do not know.
QUICK = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([*os.environ.get("XLA_FLAGS", "").split(), *QUICK])

# A failure has to come back when the command is run again. No deadline: the first example compiles.
settings.register_profile("mdlm", derandomize=True, deadline=None, database=None)
settings.load_profile("mdlm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two runs are trained once for all workers, and a worker that needs one meanwhile only waits: a test of
    each goes first, the others that need them last. Before all of them `make demo`, minutes on one worker.
    """
    slow = [{"smoke_run", "killed"} & set(getattr(item, "fixturenames", ())) for item in items]
    first = [next((i for i, uses in enumerate(slow) if name in uses), -1) for name in ("smoke_run", "killed")]
    demo = [i for i, item in enumerate(items) if item.name == "test_make_demo"]
    rank = {i: order for order, i in enumerate(first)} | dict.fromkeys(demo, -1)
    order = sorted(range(len(items)), key=lambda i: (rank.get(i, 2 + bool(slow[i])), i))
    items[:] = [items[i] for i in order]


def soak_count(full: int) -> int:
    """Repetitions of a soak test whose full count is `full`: all under MDLM_SOAK=1, a tenth without."""
    return max(1, round(full * float(os.environ.get("MDLM_SOAK", "0.1"))))


# Of a soak test that is one long story, and so has no tenth.
indivisible = pytest.mark.skipif(soak_count(10) < 10, reason="it has no tenth: make soak runs it")


def timeless(lines: Iterable[dict]) -> list[dict]:
    """Lines of metrics.jsonl without what the clock and the machine decide."""
    here = "tokens_per_second", "seconds", "peak_memory", "compiled_bytes"
    return [{k: v for k, v in line.items() if k not in here} for line in lines]


def built_in_chapters(count: int) -> str:
    """The title and the first chapters of the built-in book."""
    [path] = (REPO / "data_prep" / "books").glob("*.txt")
    parts = re.split(r"(?m)^(?=Chapter \d+$)", path.read_text(encoding="utf-8"))
    return "".join(parts[: count + 1])


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A directory of this test run, the same for every worker of pytest-xdist.

    MDLM_SHARED names one for several runs on one tree: what the first has trained and compiled serves all.
    """
    if given := os.environ.get("MDLM_SHARED"):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(directory: Path, make: Callable[[], None]) -> Path:
    """`directory`, filled by `make`; a worker that comes second waits for the first."""
    done, failed = (
        directory.with_name(directory.name + ".done"),
        directory.with_name(directory.name + ".failed"),
    )
    try:
        directory.with_name(directory.name + ".lock").mkdir()
    except FileExistsError:
        for _ in range(6000):
            if done.exists():
                return directory
            assert not failed.exists(), failed.read_text()
            time.sleep(0.1)
        raise AssertionError(f"nobody finished {directory}") from None
    try:
        make()
    except BaseException as error:
        failed.write_text(repr(error))
        raise
    done.touch()
    return directory


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """A text file of the first three chapters of the built-in book, about 2,800 words."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(built_in_chapters(3), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def dataset_dir(book, shared) -> Path:
    """The data directory of `book`, as the smoke plan prepares it."""
    import data_prep

    config = data_prep.PrepConfig(vocab_size=512)
    return once(shared / "dataset", lambda: data_prep.prepare(book, shared / "dataset", config))


# Every attempt of a child process to reach another machine leaves a line.
AUDIT = """import sys

def listen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        host = arguments[0] if "get" in event else arguments[1][0]
        if host in ("127.0.0.1", "::1", "localhost"):  # a server that listens on this machine alone
            return
        with open({path!r}, "a") as file:
            print(event, arguments[1:], file=file)

sys.addaudithook(listen)
"""


@pytest.fixture(scope="session")
def child_env(shared) -> dict[str, str]:
    """The environment of child processes: compiled programs are kept for the next child."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # it costs 10 s a process
    (shared / "site").mkdir(exist_ok=True)
    (shared / "site" / "sitecustomize.py").write_text(AUDIT.format(path=str(shared / "sockets.txt")))
    (shared / "sockets.txt").touch()
    return kept | {
        "JAX_COMPILATION_CACHE_DIR": str(shared / "jax_cache"),
        "PYTHONPATH": str(shared / "site"),
    }


@pytest.fixture(scope="session")
def light_env(child_env, shared) -> dict[str, str]:
    """The same as if clu were not installed (TensorFlow takes seconds to import): the other event writer."""
    (shared / "light").mkdir(exist_ok=True)
    (shared / "light" / "clu.py").write_text("raise ImportError('not here', name='clu')")
    return child_env | {"PYTHONPATH": f"{shared / 'light'}{os.pathsep}{child_env['PYTHONPATH']}"}


# What the tests of training and sampling run: in every stage steps between checkpoints, to be killed at;
# a line for every step, so that losses can be compared.
EPOCHS = [f"--config.stages[{i}].num_epochs={n}" for i, n in enumerate((4, 2, 8))]
EVERY = ("--config.log_every=1", "--config.checkpoint_every=10")
SMOKE = ("--config", "configs/three_stage.py:smoke", *EPOCHS, *EVERY)


def launch_command(workdir: Path, *options: str) -> list[str]:
    """The command that trains in `workdir`."""
    return [sys.executable, "launch.py", *(options or SMOKE), "--workdir", str(workdir)]


@pytest.fixture(scope="session")
def smoke_run(book, shared, child_env) -> Path:
    """The directory of a finished run of the smoke plan on `book`, never interrupted."""
    workdir = shared / "smoke_run"

    def train() -> None:
        command = [*launch_command(workdir), "--book", str(book)]
        done = subprocess.run(command, cwd=REPO, env=child_env, capture_output=True, text=True)
        (shared / "smoke_run.txt").write_text(done.stdout, encoding="utf-8")
        assert done.returncode == 0, done.stderr

    return once(workdir, train)


@pytest.fixture(scope="session")
def collected(smoke_run, tmp_path_factory) -> dict:
    """What the report knows of the run, with an evaluation of made-up texts."""
    from report_runs import whole

    from mdlm_jax.evaluation.findings import collect

    return collect(whole(smoke_run, tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture
def found(collected) -> dict:
    """A copy of it, to be changed."""
    return copy.deepcopy(collected)


@pytest.fixture(scope="module")
def run_copy(smoke_run, tmp_path_factory) -> Path:
    """A copy of the run for commands that write into it: other workers of pytest-xdist read the original."""
    ignore = shutil.ignore_patterns("data", "events*")
    return shutil.copytree(smoke_run, tmp_path_factory.mktemp("copy") / "run", ignore=ignore)
