"""Run by test_devices.py with eight simulated devices: what it finds, as JSON on its last line."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from toys import NETWORK, config, random_params

from mdlm_jax import checkpoint, curriculum, devices
from mdlm_jax.diffusion import Density
from mdlm_jax.evaluation.likelihood import make_bound
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import make_loss, make_train_step
from mdlm_jax.ui.values import ConfigError

MASK, FORBIDDEN, ROWS, STEPS = 1, np.arange(16) < 2, 16, 10
PLAN = config(dataclasses.replace(NETWORK, num_layers=1, layers="unroll"), batch_size=ROWS, micro_batch=2)
STAGE: Any = SimpleNamespace(index=0)
RNG = np.random.default_rng(7)


def rows(number: int) -> dict[str, np.ndarray]:
    """Rows of one or two segments, of which the padding differs from row to row."""
    cut, end = RNG.integers(2, 8, (number, 1)), RNG.integers(8, 13, (number, 1))
    place = np.arange(12)[None]
    segments = np.where(place < end, 1 + (place >= cut), 0).astype(np.int32)
    scored = (segments > 0) & (place != 0) & (place != cut)
    return {"tokens": RNG.integers(2, 16, (number, 12), np.int32), "segments": segments, "scored": scored}


BATCHES = [rows(ROWS) for _ in range(STEPS)]
OPTIMIZER = make_optimizer(PLAN.optimizer, STEPS)


def begin() -> Any:
    """A state on no mesh."""
    params = random_params(PLAN.model)
    return curriculum.begin(params, params, OPTIMIZER, 0, STAGE)


def mesh(*shape: int, **changes: Any) -> Mesh:
    """The mesh of the plan."""
    return devices.make_mesh(dataclasses.replace(PLAN, mesh=shape, **changes))


class Trainer:
    """Trains on a mesh as train.py does."""

    def __init__(self, shape: tuple[int, int]):
        self.mesh = mesh(*shape)
        loss = make_loss(PLAN, FORBIDDEN, MASK, Density(), 2)
        step = make_train_step(loss, OPTIMIZER, 0.9, PLAN.micro_batch, 0, mesh=self.mesh)
        self.lies = devices.shardings(jax.eval_shape(begin), self.mesh)
        self.rows = NamedSharding(self.mesh, devices.ROWS)
        out = self.lies, NamedSharding(self.mesh, PartitionSpec())
        self.step = jax.jit(step, donate_argnums=0, in_shardings=(self.lies, self.rows), out_shardings=out)

    def place(self, state: Any) -> Any:
        return devices.place(state, self.lies)

    def train(self, state: Any, first: int, last: int) -> tuple[Any, list[float]]:
        """Losses and gradient norms of the steps from `first` up to `last`."""
        found = []
        for batch in BATCHES[first:last]:
            state, metrics = self.step(state, devices.place(batch, dict.fromkeys(batch, self.rows)))
            found += [float(metrics["loss"]), float(metrics["gradient_norm"])]
        return state, found


def shares(tree: Any) -> dict[str, float]:
    """Of each array, by its path: the share of it that lies on the first device."""
    return {k: x.addressable_shards[0].data.size / x.size for k, x in checkpoint.flatten(tree).items()}


def main(directory: Path, several: bool) -> dict[str, Any]:
    """Of the mesh (4, 2) and, if `several`, of others too: every program takes seconds to compile."""
    found: dict[str, Any] = {"devices": jax.device_count(), "losses": {}, "shares": {}, "resumed": {}}
    trainers = {(1, 1): Trainer((1, 1))}
    for shape in ((1, 1), (4, 2), *(((8, 1), (1, 8)) if several else ())):
        trainer, name = trainers.get(shape) or Trainer(shape), "{}x{}".format(*shape)
        state, before = trainer.train(trainer.place(begin()), 0, STEPS // 2)
        if shape == (4, 2):
            checkpoint.save(directory, STEPS // 2, state, {}, set())
        state, after = trainer.train(state, STEPS // 2, STEPS)
        found["losses"][name], found["shares"][name] = before + after, shares(state)
    for shape in ((1, 1), *(((1, 2),) if several else ())):
        trainer, name = trainers.get(shape) or Trainer(shape), "{}x{}".format(*shape)
        state = checkpoint.restore(directory / str(STEPS // 2), jax.eval_shape(begin), put=trainer.place)
        found["resumed"][name] = trainer.train(state, STEPS // 2, STEPS)[1]
    if several:
        bound = make_bound(PLAN, FORBIDDEN, MASK, rows(9))  # no multiple of what the devices take at a time
        states = begin(), devices.place(begin(), devices.shardings(begin(), mesh(4, 2)))
        found["bounds"] = [bound(state.ema)[0].tolist() for state in states]
    found["mistakes"] = []
    for shape, changes in (((3, 1), {}), ((0, 3), {}), ((16, 1), {}), ((0, 1), {"micro_batch": 4})):
        try:
            mesh(*shape, **changes)
        except ConfigError as error:
            found["mistakes"].append(str(error))
    found["left"] = [dict(mesh(*shape).shape) for shape in ((0, 2), (2, 0))]
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2] == "several")))
