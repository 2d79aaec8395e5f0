"""A run directory: its config, its data, its weights; and the settings of the process that works on it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config, ConfigError, UserError, difference, resolve, to_dict
from mdlm_jax.data import Dataset, open_dataset
from mdlm_jax.train_state import build, forbidden_rows, init_params


class RunError(UserError):
    """A run directory that cannot be used as asked; one line."""


def cache_compilations(directory: Path) -> None:
    """Keeps compiled programs in `directory` for later processes, unless JAX_COMPILATION_CACHE_DIR says
    where.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(directory.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def complete(config: Config, dataset: Dataset) -> Config:
    """Fills in what the data and the device decide: vocabulary rows and precision."""
    precision = config.precision
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bf16"
    if precision == "bf16_products" and platform.machine().lower() not in ("x86_64", "amd64"):
        precision = "float32"  # XLA's other CPU back ends may not have the mixed product
    model = dataclasses.replace(
        config.model, vocab_rows=dataset.info["vocab_rows"], bf16_products=precision == "bf16_products"
    )
    return dataclasses.replace(config, precision=precision, model=model)


def environment() -> dict[str, Any]:
    """Versions and devices, for environment.json."""
    names = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{d.platform} {d.device_kind}" for d in jax.devices()],
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def read_config(workdir: Path) -> Config:
    """config.json of a run. Raises RunError when there is none or it cannot be read."""
    path = workdir / "config.json"
    try:
        return resolve(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{workdir} is not a run directory (it has no config.json); train one with launch.py"
        ) from None
    except (OSError, ConfigError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def check_unchanged(workdir: Path, config: Config, book_sha256: str | None = None) -> None:
    """Refuses to go on with another config or book in a directory that holds a run; raises RunError.

    Meant to be called before anything is written, so that the run's own data survive a wrong command.
    """
    if not (workdir / "config.json").exists():
        return
    dataset = open_dataset(workdir)
    changed = difference(to_dict(read_config(workdir)), to_dict(complete(config, dataset)))
    if book_sha256 not in (None, dataset.info["book"]["sha256"]):
        changed.append(f"book: it was trained on {dataset.info['book']['name']}")
    if changed:
        raise RunError(f"{workdir} has another config; use a new --workdir or undo: {'; '.join(changed)}")


def claim(workdir: Path, config: Config, dataset: Dataset) -> None:
    """Makes `workdir` the directory of this (completed) plan, or checks that it already is.

    Raises RunError, with the fields that differ, when it holds a run of another config or another data set.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if (workdir / "config.json").exists():
        check_unchanged(workdir, config)
        changed = difference(open_dataset(workdir).info, dataset.info)
        if changed:
            raise RunError(f"{workdir} was trained on other data; use a new --workdir ({changed[0]}, ...)")
        return
    shutil.copyfile(dataset.path / "tokenizer.json", workdir / "tokenizer.json")
    shutil.copyfile(dataset.path / "dataset.json", workdir / "dataset.json")
    (workdir / "command.txt").write_text(shlex.join([sys.executable, *sys.argv]) + "\n", encoding="utf-8")
    checkpoint.write_json(workdir / "environment.json", environment())
    checkpoint.write_json(workdir / "config.json", to_dict(config))  # last: with it the directory is claimed


@dataclasses.dataclass(frozen=True)
class Trained:
    """What generation and evaluation need of a run."""

    config: Config
    dataset: Dataset
    graphdef: nnx.GraphDef
    params: Any
    forbidden: np.ndarray
    checkpoint: str  # <stage>/<step>
    model_hash: str


def load(workdir: Path, weights: str = "ema") -> Trained:
    """The newest weights of a run ("ema" or "params"). Raises RunError or CheckpointError, one line."""
    config, dataset = read_config(workdir), open_dataset(workdir)
    like = jax.eval_shape(lambda: init_params(config.model, 0))
    for stage in range(len(config.stages), 0, -1):
        directory = workdir / "checkpoints" / f"{stage}_{config.stages[stage - 1].name}"
        for step in reversed(checkpoint.steps(directory)):
            path = directory / str(step)
            if checkpoint.verify(path) is None:
                manifest = (path / checkpoint.MANIFEST).read_bytes()
                return Trained(
                    config,
                    dataset,
                    build(config.model),
                    checkpoint.restore(path, like, f".{weights}"),
                    forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids),
                    f"{directory.name}/{step}",
                    hashlib.sha256(manifest).hexdigest()[:16],
                )
    raise RunError(f"{workdir} has no intact checkpoint yet")
