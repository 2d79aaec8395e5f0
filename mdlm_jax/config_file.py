"""A config file, an overrides file and the command line, in this order, to nested values. No jax.

A field is spelt the same everywhere: model.num_layers, stages[1].num_epochs, stages[0].mask_rate[1].
"""

import dataclasses
import decimal
import importlib.util
import re
import typing
from pathlib import Path
from typing import Any

from mdlm_jax.configuration import (
    Config,
    ConfigError,
    ModelConfig,
    UserError,
    fields,
    flat,
    nearest,
    to_dict,
)

POWERS = {"": 0, "k": 3, "m": 6, "b": 9}
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load(config: str) -> dict[str, Any]:
    """The nested values of "file.py" or "file.py:preset". Raises ConfigError, or what the file raises on
    purpose.
    """
    place, _, preset = config.rpartition(":") if ".py:" in config else (config, "", "")
    path = Path(place)
    make = getattr(_module(path, "--config"), "get_config", None)
    if not callable(make):
        raise ConfigError(f"--config: {path} has no function get_config()")
    values = plain(_called(path, make, *([preset] if preset else [])))
    if not isinstance(values, dict):
        raise ConfigError(f"--config: get_config() of {path} returned no ConfigDict")
    return values


def load_overrides(path: Path) -> dict[str, Any]:
    """{field: value} of a file that sets `overrides = {"model.num_layers": 6, ...}`, nested or not.

    Raises ConfigError.
    """
    values = getattr(_module(path, "--config_overrides"), "overrides", None)
    if not isinstance(values, dict):
        raise ConfigError(f'--config_overrides: {path} has no line overrides = {{"model.num_layers": 6}}')
    return flat(plain(values))


def plain(values: Any) -> Any:
    """ConfigDicts as dicts and tuples as lists, all the way down."""
    if hasattr(values, "items"):
        return {str(k): plain(v) for k, v in values.items()}
    return [plain(v) for v in values] if isinstance(values, list | tuple) else values


def _module(path: Path, flag: str) -> Any:
    if path.suffix != ".py":
        raise ConfigError(f"{flag}: {path} is not a .py file{_others(path)}")
    if not path.is_file():
        raise ConfigError(f"{flag}: {path} does not exist{_others(path)}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _called(path, spec.loader.exec_module, module)
    return module


def _others(path: Path) -> str:
    names = [str(p) for folder in (path.parent, Path("configs")) for p in sorted(folder.glob("*.py"))]
    return nearest(str(path), names) or nearest(f"configs/{path.stem}.py", names)


def _called(path: Path, function: Any, *arguments: Any) -> Any:
    """function(*arguments); what a config file raises by mistake becomes one line with its place."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        line, trace = getattr(error, "lineno", None), error.__traceback__  # of a SyntaxError
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path.absolute()):
                line = trace.tb_lineno
            trace = trace.tb_next
        place = f"{path}, line {line}" if line else str(path)
        raise ConfigError(f"{place}: {type(error).__name__}: {error}") from None


def override(values: dict[str, Any], name: str, value: Any) -> None:
    """Sets one field in place; a text is read as the field's type.

    Raises ConfigError, naming the field and the nearest one there is.
    """
    kinds, stage = fields(), re.match(r"stages\[(\d+)\]\.", name)
    if stage and int(stage[1]) >= len(values["stages"]):
        raise ConfigError(f"config.{name}: there are stages 0 to {len(values['stages']) - 1}")
    path = f"stages[0].{name[stage.end() :]}" if stage else name
    element = re.fullmatch(r"(.+)\[(\d+)\]", path)  # one value of a pair
    if element and typing.get_origin(kinds.get(element[1], ("",))[0]) is tuple:
        path = element[1]
    if path not in kinds:
        inside = [n for n in kinds if n.startswith((f"{path}.", f"{path}["))]
        if inside:
            raise ConfigError(f"config.{name} is a group; name a field of it, such as config.{inside[0]}")
        leaves = {n.rpartition(".")[2]: n for n in kinds}
        leaf = nearest(path.rpartition(".")[2], leaves)[len("; did you mean ") : -1]
        hint = nearest(path, kinds) or (f"; did you mean {leaves[leaf]}?" if leaf else "")
        raise ConfigError(f"config has no field {name}{hint}")
    group: Any = values["stages"][int(stage[1])] if stage else values
    *groups, last = path.removeprefix("stages[0].").split(".")
    for part in groups:
        group = group.setdefault(part, {})
    kind = kinds[path][0]
    if not element:
        group[last] = convert(kind, value, f"config.{name}")
        return
    whole, index = list(group[last]), int(element[2])
    if index >= len(whole):
        raise ConfigError(f"config.{name}: there are values 0 to {len(whole) - 1}")
    whole[index] = convert(typing.get_args(kind)[0], value, f"config.{name}")
    group[last] = whole


def convert(kind: Any, value: Any, path: str) -> Any:
    """A text as `kind`: numbers as 1000, 1e3, 10k or 2M, truths as true or false, pairs as 0.1,0.5.

    Whole floats become integers where one is meant. Raises ConfigError; other values are left to `resolve`.
    """
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str) or kind is str:
        return value
    text = value.strip()
    if typing.get_origin(kind) is tuple:
        parts = [p for p in text.strip("()[] ").split(",") if p.strip()]
        return [convert(typing.get_args(kind)[0], part, path) for part in parts]
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise ConfigError(f"{path} must be true or false, not {value!r}")
        return TRUTHS[text.lower()]
    number = re.fullmatch(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)([kKmMbB]?)", text)
    wanted = "a whole number such as 1000, 1e3 or 10k" if kind is int else "a number such as 0.5, 1e-3 or 10k"
    if not number:
        raise ConfigError(f"{path} must be {wanted}, not {value!r}")
    exact = decimal.Decimal(number[1].replace("_", "")).scaleb(POWERS[number[2].lower()])
    if kind is int and exact != exact.to_integral_value():
        raise ConfigError(f"{path} must be {wanted}, not {value!r}")
    return kind(exact)


def as_flags(config: Config) -> list[str]:
    """Every settable field of `config` as the flag that sets it."""
    filled_in = {
        f"model.{f.name}" for f in dataclasses.fields(ModelConfig) if f.default is not dataclasses.MISSING
    }
    values = flat(to_dict(config)).items()
    return [f"--config.{name}={value}" for name, value in values if name not in filled_in]


def help_lines(config: Config) -> list[str]:
    """A line per field: name, type, value in `config`, meaning; `stages[0]` stands for every stage."""
    values = flat(to_dict(config))
    lines = []
    for name, (kind, doc) in fields().items():
        pair = ",".join(str(v) for n, v in values.items() if n.startswith(f"{name}["))
        shown = f"--config.{name}={values.get(name, pair)}"
        kind = "pair" if typing.get_origin(kind) is tuple else kind.__name__
        lines.append(f"  {shown:46} {kind:5}  {doc}")
    return lines
