"""Orbax checkpoints with a SHA-256 manifest, written last and verified on every load.

`<directory>/<step>/` holds `state/` (orbax: a flat map from tree path to array), `meta.json` and
`MANIFEST.json`. Orbax restores flipped bits without a word; the manifest is what notices. A checkpoint is
written under a temporary name and renamed, so a directory with a number for a name was complete once.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mdlm_jax.devices import largest
from mdlm_jax.ui.values import UserError, read_json, unwritten, write_json

MANIFEST = "MANIFEST.json"
KEPT_DAMAGED = 2  # in a folder
# What fails in a thread of orbax fails in `save` too; its own tracebacks would fill the terminal.
logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


class CheckpointError(UserError):
    """No usable checkpoint; one line that names the directory and what is wrong with it."""


def flatten(tree: Any) -> dict[str, Any]:
    """{tree path: leaf}, the form in which a tree is stored."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _digests(directory: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(path, "rb") as file:
            digests[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def steps(directory: Path) -> list[int]:
    """Steps with a checkpoint, ascending."""
    found = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(p.name) for p in found if p.is_dir() and p.name.isdigit())


def remove(path: Path) -> None:
    """Under another name at first: a kill leaves no half checkpoint with a number for a name."""
    leftover = path.with_name(f"{path.name}.tmp")
    os.rename(path, leftover)
    shutil.rmtree(leftover)


def tidy(directory: Path, report: Callable[[str], None] = print) -> None:
    """Before training: what interrupted saves have left goes, of damaged checkpoints the newest are kept."""
    for leftover in directory.glob("*.tmp"):
        shutil.rmtree(leftover)
    damaged = sorted(directory.glob("*.damaged"), key=lambda path: path.stat().st_mtime)
    for path in damaged[:-KEPT_DAMAGED]:
        shutil.rmtree(path)
    for path in damaged[-KEPT_DAMAGED:]:
        report(f"{path} is kept; nothing needs it")


def save(directory: Path, step: int, state: Any, meta: dict[str, Any], keep: set[int]) -> None:
    """Writes `directory/<step>/`, then removes the checkpoints that are neither in `keep` nor the two newest.

    Raises CheckpointError when it cannot be written; what was there before is untouched then.
    """
    first = jax.process_index() == 0  # every process writes its arrays, one all else
    if first:
        directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("*.tmp") if first else ():
        shutil.rmtree(leftover)
    largest(0)
    temporary = directory / f"{step}.tmp"
    try:
        if shutil.disk_usage(directory).free < 1.2 * sum(x.nbytes for x in jax.tree.leaves(state)):
            raise OSError("No space left")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary.resolve() / "state", flatten(state))
        if not first:
            return
        write_json(temporary / "meta.json", meta)
        write_json(temporary / MANIFEST, _digests(temporary))
        if (final := directory / str(step)).exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
    except (OSError, ValueError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        told = f"cannot write the checkpoint {directory / str(step)}: {unwritten(error)}"
        raise CheckpointError(told) from error
    for old in steps(directory)[:-2]:
        if old not in keep:
            remove(directory / str(old))


def verify(path: Path) -> str | None:
    """None when every file of the checkpoint has its recorded digest, else what is wrong."""
    try:
        recorded = read_json(path / MANIFEST, CheckpointError)
    except CheckpointError as error:
        return f"unreadable manifest ({error})"
    found = _digests(path)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            return f"{name} is " + ("missing" if name not in found else "not what was written")
    return None


def newest_intact(directory: Path, report: Callable[[str], None] = print, aside: bool = True) -> Path | None:
    """The newest checkpoint that verifies; damaged ones are named and, if `aside`, renamed <step>.damaged."""
    found = -1  # the first process looks, for all
    for step in reversed(steps(directory)) if jax.process_index() == 0 else ():
        path = directory / str(step)
        if (wrong := verify(path)) is None:
            found = step
            break
        report(f"checkpoint {path} is damaged: {wrong}; {'set aside, ' * aside}an older one is used")
        if aside:
            damaged = path.with_name(f"{step}.damaged")
            shutil.rmtree(damaged, ignore_errors=True)  # of an earlier time
            os.replace(path, damaged)
    return directory / str(found) if (found := largest(found)) >= 0 else None


def restore(path: Path, like: Any, prefix: str = "", put: Callable[[Any], Any] = jax.device_put) -> Any:
    """What the checkpoint holds under `prefix` (a tree path, such as ".ema"), `put` as a tree like `like`.

    Raises CheckpointError when it does not verify or holds other arrays.
    """
    if wrong := verify(path):
        raise CheckpointError(f"checkpoint {path} is damaged: {wrong}")
    with ocp.StandardCheckpointer() as checkpointer:
        # Into numpy: orbax would put arrays on the devices they came from, which may not exist here.
        saved = checkpointer.metadata(path.resolve() / "state").item_metadata.tree
        targets = {name: np.empty(array.shape, array.dtype) for name, array in saved.items()}
        stored = checkpointer.restore(path.resolve() / "state", targets)
    leaves = []
    for name, leaf in flatten(like).items():
        found = stored.get(prefix + name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            told = f"checkpoint {path} does not fit the model at {prefix + name}"
            raise CheckpointError(f"{told}; another version wrote it? --init_from takes its weights")
        leaves.append(np.asarray(found))
    return put(jax.tree.unflatten(jax.tree.structure(like), leaves))
