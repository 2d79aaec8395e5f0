"""What the studies share: what a run would be, a run that is trained once, a file with a line for each."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.config import PrepError
from mdlm_jax.ui import cli
from mdlm_jax.ui.values import UserError

ROOT = Path(__file__).resolve().parent.parent


def run(main: Callable[[], None]) -> None:
    """Ends the process with the exit code of a command line: errors of a person are one line."""
    sys.exit(cli.run(main, "the same command goes on where it was"))


def rates(rate: float) -> dict[str, object]:
    """One for all groups of weights, as fields of a plan."""
    return {f"optimizer.{group}_rate": rate for group in ("learning", "embedding", "norm")}


def flags(fields: Mapping[str, object]) -> list[str]:
    """The flags of launch.py that set them."""
    return [f"--config.{field}={value}" for field, value in fields.items()]


def trained(workdir: Path, options: Sequence[str]) -> dict:
    """report.json, and the commit, of a run that launch.py trains with `options`, or finds trained so."""
    command = [sys.executable, str(ROOT / "launch.py"), *options, f"--workdir={workdir}"]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        raise UserError(f"{workdir} was not trained; the reason is above")
    report, environment = (workdir / name for name in ("report/report.json", "environment.json"))
    found = json.loads(report.read_text(encoding="utf-8"))
    return found | {"commit": json.loads(environment.read_text(encoding="utf-8"))["commit"]}


def planned(options: Sequence[str]) -> tuple[Any, Any, Any]:
    """Config, dataset and stages of the run that launch.py would train; the book is prepared, no more."""
    import launch
    from mdlm_jax.curriculum import plan
    from mdlm_jax.data import open_dataset
    from mdlm_jax.run_directory import complete

    flags, overrides = launch.parse(list(options))
    config = launch.configure(flags, overrides)
    book, data = flags["book"] or str(launch.BUILT_IN), Path(flags["data"])
    try:
        launch.prepare(config, book, data, None, lambda text: None)
    except PrepError as error:
        raise UserError(str(error)) from None
    dataset = open_dataset(Path(flags["data"]))
    config = complete(config, dataset)
    return config, dataset, plan(config, dataset)


def read_rows(path: Path) -> list[dict]:
    """The lines of a study's file; none where there is no file yet. Raises UserError without its folder."""
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder; check --rows")
    return list(map(json.loads, path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def known(path: Path, line: dict, same: Iterable[str]) -> dict | None:
    """The line of the same run at any commit, where there is one: what `same` names is equal."""
    names = list(same)
    return next((found for found in read_rows(path) if all(found[n] == line[n] for n in names)), None)


def add(path: Path, line: dict) -> None:
    """Appends a line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
