"""Many devices: where arrays lie, who takes which micro-batches, and what the processes of a run agree on.

Rows of a batch lie along both axes of the mesh; weights, their average and the optimizer's state along
`fsdp`, with copies along `data`. A device takes whole micro-batches, and a micro-batch has its own random
numbers and strata, so that a step is the same step on any mesh, up to the order of its sums.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdlm_jax.configuration import Config
from mdlm_jax.ui.values import ConfigError

AXES = ("data", "fsdp")
ROWS, SAME = PartitionSpec(AXES), PartitionSpec()  # cut along all devices; a copy on each


def make_mesh(config: Config) -> Mesh:
    """The mesh (data, fsdp) of the first devices. Raises ConfigError when they cannot share a step."""
    there, processes, (data, fsdp) = jax.device_count(), jax.process_count(), config.mesh
    data = data or there // (fsdp or 1)
    fsdp = fsdp or there // data
    number, told = data * fsdp, "config.mesh={},{} does not fit".format(*config.mesh)
    if not number or there % number or (processes > 1 and number < there):
        every = f" of {processes} processes, which need all" if processes > 1 else ""
        raise ConfigError(f"{told} {there} devices{every}; data x fsdp must divide them (0: all left)")
    alone = not config.micro_batch or config.sample_tokens or any(s.self_training for s in config.stages)
    if processes > 1 and alone:
        raise ConfigError("micro_batch=auto, sample_tokens and self_training are for one process alone")
    if (micro_batches := config.batch_size // (config.micro_batch or 1)) % number:
        few = f"{micro_batches} micro-batches a step, which {number} devices cannot share"
        raise ConfigError(f"{told} {few}; change config.micro_batch, in a new --workdir")
    return jax.make_mesh((data, fsdp), AXES, (AxisType.Auto,) * 2, devices=jax.devices()[:number])


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Of each array: cut along `fsdp` at its largest axis that divides; norms and vectors are copied."""

    def sharding(path: tuple, x: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(x.shape) if length % mesh.shape["fsdp"] == 0]
        if len(x.shape) < 2 or not axes or "norm" in jax.tree_util.keystr(path):
            return NamedSharding(mesh, SAME)
        return NamedSharding(mesh, PartitionSpec(*[None] * max(axes, key=x.shape.__getitem__), "fsdp"))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def place(tree: Any, lies: Any) -> Any:
    """The tree by its shardings. A process gives its own rows of what lies by ROWS, and all of the rest."""

    def put(x: Any, sharding: NamedSharding) -> jax.Array:
        if jax.process_count() == 1 or not getattr(x, "is_fully_addressable", True):
            return jax.device_put(x, sharding)
        shape = None if sharding.spec == ROWS else x.shape
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

    return jax.tree.map(put, tree, lies)


def summed(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """`function(params, inputs, key)`, sums over the leading axis of `inputs`, by all devices together.

    Weights are gathered and gradients summed whole; what is divided is the optimizer's work, and its state
    (the first stage of ZeRO, Rajbhandari et al. 2020).
    """
    if mesh is None or mesh.size == 1:
        return function

    def local(params: Any, inputs: Any, key: jax.Array) -> Any:
        return jax.lax.psum(function(params, inputs, key), AXES)

    return jax.shard_map(local, mesh=mesh, in_specs=(SAME, ROWS, SAME), out_specs=SAME, check_vma=False)


def largest(number: int) -> int:
    """The largest of what the processes say, told to all; they wait for each other here."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())
