"""The plans, and how they are read: config file, overrides file, command line, in this order. No jax.

Values are flat, {"model.num_layers": 12, "stages[0].num_epochs": 75}: a field is spelt the same everywhere.
"""

import dataclasses
import runpy
import traceback
import typing
from pathlib import Path
from typing import Any

from mdlm_jax.configuration import Config, StageConfig
from mdlm_jax.ui.values import FILLED_IN, ConfigError, UserError, flat, nearest

SIZES = ("base", "small", "tiny", "smoke")  # of configs/three_stage.py

HINTS = {
    "get_config": "see configs/three_stage.py",
    "overrides": 'it needs a line such as overrides = {"seed": 3, "model.num_layers": 6}',
}


def load(config: str) -> dict[str, Any]:
    """The values of "file.py" or "file.py:preset". Raises ConfigError, or the file's own UserError."""
    sized = ":" in Path(config).name and not config.endswith(".py")
    place, colon, preset = config.rpartition(":") if sized else (config, "", "")
    if colon and not preset:
        raise ConfigError(f"--config: no size after the colon of {config}; leave the colon out")
    make = _run(Path(place), "--config", "get_config", colon + preset)
    return flat(_called(Path(place), make, *([preset] if preset else [])))


def load_overrides(path: Path) -> dict[str, Any]:
    """The values of a file that sets `overrides = {"model.num_layers": 6, ...}`, nested or not.

    Raises ConfigError.
    """
    return flat(_run(path, "--config_overrides", "overrides"))


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes`; a pair given whole replaces both of its values."""
    kept = {n: v for n, v in values.items() if not any(n.startswith(f"{c}[") for c in changes)}
    return kept | changes


def one_epoch(values: dict[str, Any]) -> dict[str, Any]:
    """The changes that make a plan of flat `values` a quick look: --debug, and configs/debug.py."""
    names = ("log_every", "checkpoint_every", "evaluation.per_stage")
    return {name: 1 for name in values if name in names or name.endswith(".num_epochs")}


def fields(kind: Any = Config, prefix: str = "") -> dict[str, tuple[Any, str]]:
    """{dotted name: (type, meaning)} of every field a person can set; `stages[0].` stands for each stage."""
    hints = typing.get_type_hints(kind)
    found: dict[str, tuple[Any, str]] = {}
    for f in dataclasses.fields(kind):
        hint, name = hints[f.name], prefix + f.name
        if f.metadata["doc"] == FILLED_IN:
            continue
        if f.name == "stages":
            found |= fields(StageConfig, "stages[0].")
        elif dataclasses.is_dataclass(hint):
            found |= fields(hint, name + ".")
        else:
            found[name] = hint, f.metadata["doc"]
    return found


def as_flags(config: Config) -> list[str]:
    """Every settable field of `config` as the flag that sets it."""
    values, settable = flat(dataclasses.asdict(config)), tuple(fields())
    return [f"--config.{n}={v}" for n, v in values.items() if n.startswith(("stages[", *settable))]


def help_lines(config: Config) -> list[str]:
    """A line per field: name, value in `config`, type, meaning; `stages[0]` stands for every stage."""
    values = flat(dataclasses.asdict(config))
    lines = []
    for name, (kind, doc) in fields().items():
        pair = ",".join(str(v) for n, v in values.items() if n.startswith(f"{name}["))
        shown = f"--config.{name}={values.get(name, pair)}"
        lines.append(f"  {shown:46} {'pair' if pair else kind.__name__:5}  {doc}")
    return lines


def _run(path: Path, flag: str, name: str, preset: str = "") -> Any:
    """What the Python file at `path` calls `name`."""
    if path.suffix != ".py" or not path.is_file():
        folders = (path.parent, Path("configs"))
        names = [f"{p}{preset}" for folder in folders for p in sorted(folder.glob("[!_]*.py"))]
        hint = nearest(f"{path}{preset}", names) or nearest(f"configs/{path.stem}.py{preset}", names)
        if str(path) in SIZES:
            hint = f"; did you mean configs/three_stage.py:{path}?"
        what = "does not exist" if path.suffix == ".py" else "is not a .py file"
        raise ConfigError(f"{flag}: {path} {what}{hint if name == 'get_config' else ''}")
    found = _called(path, runpy.run_path, str(path)).get(name)
    if found is None:
        raise ConfigError(f"{flag}: {path} defines no {name}; {HINTS[name]}")
    return found


def _called(path: Path, function: Any, *arguments: Any) -> Any:
    """function(*arguments); what the file raises by mistake becomes one line with its place."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")  # the first is a SyntaxError's
        raise ConfigError(f"{path}, line {line}: {type(error).__name__}: {error}") from None
