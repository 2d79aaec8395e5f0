"""A run directory: its config, its data, its weights; and the settings of the process that works on it."""

import dataclasses
import functools
import hashlib
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.data import Dataset, open_dataset
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.train_state import cast, forbidden_rows, init_params
from mdlm_jax.ui.values import ConfigError, UserError, difference, read_json, write_json
from mdlm_jax.ui.whole import has_steps, reported

# What a directory may hold before config.json, the file that makes it a run's.
CLAIMING = {"data", "plan.txt", "tokenizer.json", "dataset.json", "command.txt", "environment.json"}
CLAIMING |= {"shards.json", "lock"}
# Fields that a run may change on its way.
FREE = ("log_every", "checkpoint_every", "sampling", "sample_tokens", "mesh")


class RunError(UserError):
    """A run directory that cannot be used as asked; one line."""


def cache_compilations(directory: Path) -> None:
    """Keeps compiled programs in `directory`, or where JAX_COMPILATION_CACHE_DIR says, for later runs."""
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


def read_config(workdir: Path) -> Config:
    """config.json of a run. Raises RunError when there is none or it cannot be read."""
    absent = f"{workdir} is not a run directory (it has no config.json); train one with launch.py"
    values = read_json(workdir / "config.json", RunError, absent)
    try:
        return resolve(values)
    except ConfigError as error:
        raise RunError(f"cannot read {workdir / 'config.json'}: {error}") from None


def recorded(config: Config, workdir: Path) -> Config:
    """`config` with what micro_batch=auto came to when the run was begun."""
    if config.micro_batch or not has_steps(workdir):
        return config
    begun = read_config(workdir)
    budget = config.memory_budget or begun.memory_budget
    return dataclasses.replace(config, micro_batch=begun.micro_batch, memory_budget=budget)


def check_unchanged(workdir: Path, config: Config, book_sha256: str | None = None) -> None:
    """Before anything is written: refuses (RunError) a directory of other things, another plan or book."""
    if not (workdir / "config.json").exists():
        there = workdir.iterdir() if workdir.is_dir() else ()
        others = {p.name for p in there if not p.is_symlink()} - CLAIMING
        if others:
            raise RunError(f"{workdir} holds other things ({min(others)}); use a new or empty --workdir")
    if not has_steps(workdir):
        return
    dataset, config = open_dataset(workdir), recorded(config, workdir)
    ours, theirs = (dataclasses.asdict(c) for c in (complete(config, dataset), read_config(workdir)))
    allowed = ours | {name: theirs[name] for name in FREE}
    changed = difference(theirs, allowed, told="the run has {}, you ask for {}")
    changed = [line for line in changed if not line.startswith("model.bf16_products")]  # precision says it
    if book_sha256 not in (None, dataset.info["book"]["sha256"]):
        begun = f"{workdir} was begun with {dataset.info['book']['name']} as it was then"
        raise RunError(f"{begun}; another book needs another --workdir, and without --book the run goes on")
    if changed:
        shown = "; ".join(changed[:6] + [f"and {len(changed) - 6} more"] * (len(changed) > 6))
        raise RunError(f"{workdir} has another plan; use a new --workdir, or undo: {shown}")


def check_start(config: Config) -> None:
    """Refuses a `config.init_from` that is no run, or one of another network; raises RunError."""
    same = ("num_layers", "d_model", "num_heads", "qk_norm", "causal")
    models = (read_config(Path(config.init_from)).model, config.model)
    if changed := difference(*({f"model.{name}": getattr(m, name) for name in same} for m in models)):
        raise RunError(f"the weights of {config.init_from} are of another network ({'; '.join(changed)})")
    if not any(Path(config.init_from).glob("checkpoints/*/*/MANIFEST.json")):
        raise RunError(f"{config.init_from} has no weights yet; train it first")


def claim(workdir: Path, config: Config, dataset: Dataset, environment: dict[str, Any]) -> None:
    """Makes `workdir` the directory of this (completed) plan; raises RunError when it is that of another."""
    check_unchanged(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    if has_steps(workdir):
        if changed := difference(open_dataset(workdir).info, dataset.info):
            raise RunError(f"{workdir} was trained on other data; use a new --workdir ({changed[0]}, ...)")
    else:
        (workdir / "plan.txt").unlink(missing_ok=True)  # of another plan, before its first step
        for name in ("tokenizer.json", "dataset.json"):
            shutil.copyfile(dataset.path / name, workdir / name)
        (workdir / "command.txt").write_text(shlex.join([sys.executable, *sys.argv]) + "\n", encoding="utf-8")
        write_json(workdir / "environment.json", environment)
    write_json(workdir / "shards.json", {"path": str(dataset.path.absolute())})
    write_json(workdir / "config.json", dataclasses.asdict(config))  # last: it claims


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What generation and evaluation need of a run; equal to nothing but itself."""

    config: Config
    dataset: Dataset
    tokenizer: Tokenizer
    params: Any
    forbidden: np.ndarray
    checkpoint: str  # <stage>/<step>
    model_hash: str

    @functools.cached_property
    def compute_params(self) -> Any:
        """The weights in the precision of the run."""
        return cast(self.params, self.config.precision)


def load(workdir: Path, weights: str = "ema") -> Trained:
    """The newest weights of a run ("ema" or "params"). Raises RunError or CheckpointError, one line."""
    config, dataset = read_config(workdir), open_dataset(workdir)
    for stage in range(len(config.stages), 0, -1):
        directory = workdir / "checkpoints" / f"{stage}_{config.stages[stage - 1].name}"
        told = functools.partial(print, file=sys.stderr)
        if (path := checkpoint.newest_intact(directory, told, aside=False)) is not None:
            chosen = read_json(path / "meta.json", RunError).get("chosen")  # by a last stage with patience
            path = path if chosen is None else directory / str(chosen)
            if (named := reported(workdir)) not in (None, used := f"{directory.name}/{path.name}"):
                told(f"(the weights of {used}: not those of {named}, whose figures report.json has)")
            return load_checkpoint(config, dataset, workdir, path, weights)
    raise RunError(f"{workdir} has no intact checkpoint yet")


def model_hash(path: Path) -> str:
    """What tells the weights of one checkpoint from any others: a digest of its manifest."""
    return hashlib.sha256((path / checkpoint.MANIFEST).read_bytes()).hexdigest()[:16]


def load_checkpoint(config: Config, dataset: Dataset, workdir: Path, path: Path, weights: str) -> Trained:
    """The weights of one checkpoint of the run in `workdir`. Raises CheckpointError."""
    return Trained(
        config,
        dataset,
        load_tokenizer(workdir / "tokenizer.json"),
        checkpoint.restore(path, jax.eval_shape(lambda: init_params(config.model, 0)), f".{weights}"),
        forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids),
        f"{path.parent.name}/{path.name}",
        model_hash(path),
    )
