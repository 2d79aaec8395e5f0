"""Values as people write them: typed fields with limits, one-line errors, JSON. Needs nothing of ours."""

import contextlib
import dataclasses
import difflib
import json
import os
import re
import typing
from collections.abc import Iterable, Iterator
from decimal import Decimal
from operator import gt, le, lt
from pathlib import Path
from typing import Any

FILLED_IN = "filled in from the data and the device"
NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?)([kmb]?)", re.ASCII)
POWERS = {"": 0, "k": 3, "m": 6, "b": 9}
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
WANTED = {
    bool: "true or false",
    int: "a whole number below 2**32, such as 1000, 1e3 or 10k",
    float: "a number, such as 0.5, 1e-3 or 10k",
    str: "a text",
}


class UserError(ValueError):
    """Something a person can mend; the text is one line: what, where, how. `code` is the exit status."""

    code = 2


class ConfigError(UserError):
    """A configuration that cannot be used; the text is one line: what, where, how to mend it."""


def read_json(path: Path, error: type[UserError], absent: str = "") -> dict[str, Any]:
    """The JSON object in a file. Raises `error`: `absent` where there is no such file, else what is wrong."""
    try:
        if isinstance(value := json.loads(path.read_text(encoding="utf-8")), dict):
            return value
        raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as fault:
        if absent and isinstance(fault, FileNotFoundError):
            raise error(absent) from None
        raise error(f"cannot read {path}: {fault}") from None


def holds_else(path: Path, sign: str) -> bool:
    """Whether a file is there in whose text `sign` is not: somebody else's, not to be replaced."""
    return path.exists() and sign not in path.read_text(encoding="utf-8", errors="replace")


def nearest(name: str, names: Iterable[str]) -> str:
    """ "; did you mean X?" with the nearest of `names`, or nothing."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def field(
    doc: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    words: dict[str, Any] | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field with its line of meaning and the values it may have; `words` stand for some."""
    metadata = {
        "doc": doc,
        "least": least,
        "above": above,
        "most": most,
        "choices": choices,
        "words": words or {},
    }
    return dataclasses.field(default=default, metadata=metadata)


def _value(kind: Any, value: Any, path: str, meta: Any) -> Any:
    """`value` as bool, int, float or str, inside its field's limits; texts are read: true, 1e3, 10k, 0.5."""
    told = repr(value)
    if isinstance(value, str) and value.strip().lower() in meta["words"]:
        value = meta["words"][value.strip().lower()]
    elif isinstance(value, str) and kind is bool:
        value = TRUTHS.get(value.strip().lower(), value)
    elif isinstance(value, str) and kind is not str and (found := NUMBER.fullmatch(value.strip().lower())):
        value = Decimal(found[1].replace("_", "")).scaleb(POWERS[found[2]])
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if kind is int and number and abs(value) < 2**32 and value % 1 == 0:
        value = int(value)
    elif kind is float and number and abs(value) < 1e300:
        value = float(value)
    elif kind in (int, float) or not isinstance(value, kind):
        raise ConfigError(f"{path} must be {WANTED[kind]}, not {told}")
    if meta["choices"] and value not in meta["choices"]:
        there = ", ".join(meta["choices"])
        raise ConfigError(f"{path} must be one of {there}, not {value!r}{nearest(value, meta['choices'])}")
    for name, outside, wanted in (("above", le, "above"), ("least", lt, "at least"), ("most", gt, "at most")):
        if meta[name] is not None and outside(value, meta[name]):
            raise ConfigError(f"{path} must be {wanted} {meta[name]}, not {value}")
    return value


def build(kind: Any, given: dict[str, Any], missing: list[str], path: str = "") -> Any:
    """An instance of the dataclass from the values below `path`, which are taken out of `given`.

    Fields without a value become None, and their names go to `missing`. Raises ConfigError naming the field.
    """
    hints, made = typing.get_type_hints(kind), {}
    for f in dataclasses.fields(kind):
        hint, name = hints[f.name], path + f.name
        items = typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            made[f.name] = build(hint, given, missing, f"{name}.")
        elif items and items[-1] is Ellipsis:
            count = 0
            while any(n.startswith(f"{name}[{count}].") for n in given):
                count += 1
            made[f.name] = tuple(build(items[0], given, missing, f"{name}[{i}].") for i in range(count))
        elif items:
            parts = [given.pop(n) for n in list(given) if n == name or n.startswith(f"{name}[")]
            if len(parts) == 1 and isinstance(parts[0], str):  # "0.1,0.5"
                parts = parts[0].strip("()[] ").split(",")
            if not parts and f.default is not dataclasses.MISSING:
                parts = list(f.default)
            if len(parts) not in (0, len(items)):
                raise ConfigError(f"config.{name} must have {len(items)} values, not {len(parts)}")
            missing += [] if parts else [name]
            pairs = zip(items, parts, strict=False)
            made[f.name] = tuple(_value(item, part, f"config.{name}", f.metadata) for item, part in pairs)
        elif name in given:
            made[f.name] = _value(hint, given.pop(name), f"config.{name}", f.metadata)
        elif f.default is dataclasses.MISSING:
            missing.append(name)
            made[f.name] = None
    return kind(**made)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values to {"model.num_layers": 12, "stages[0].name": ...}; flat values stay as they are."""
    if hasattr(values, "items"):
        pairs = ((f"{prefix}.{k}" if prefix else str(k), v) for k, v in values.items())
    elif isinstance(values, list | tuple):
        pairs = ((f"{prefix}[{i}]", v) for i, v in enumerate(values))
    else:
        return {prefix: values}
    return {name: leaf for path, value in pairs for name, leaf in flat(value, path).items()}


def difference(old: dict, new: dict, *, told: str = "{} -> {}") -> list[str]:
    """Lines "field: old -> new", in the words of `told`, for the fields of two nested dicts that differ."""
    a, b = flat(old), flat(new)
    changed = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    return [f"{k}: {told.format(a.get(k, '(none)'), b.get(k, '(none)'))}" for k in changed]


def unwritten(error: BaseException) -> str:
    """Why something could not be written, whatever a library calls a full disk."""
    full = "RESOURCE_EXHAUSTED" in str(error) or "No space left" in str(error)
    return "no space left; free some and run the same command" if full else str(error) or repr(error)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError inside that names no file, as that of a full disk does not, gets this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader sees the old file or the new one, and a full disk leaves the old one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with naming(path), open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def short(number: float) -> str:
    """Rounded to a whole number, or where that has more than six digits to two: 1518, 1.5e+07."""
    return f"{number:.0f}" if number < 1e6 else f"{number:.1e}"
