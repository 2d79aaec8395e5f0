"""Aids for one process that trains: none of them is a field of the plan, none changes what is trained."""

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mdlm_jax.ui.values import UserError

SPAN = "10:15"  # steps of a profile, unless others are given
ENORMOUS = 100.0  # a weight or a loss beyond this was on its way to infinity (a loss begins near ln V = 10)


class NotANumber(UserError):
    """Something computed NaN; one line that says where."""

    code = 3


def span(text: str) -> tuple[int, int]:
    """ "10:15" as (10, 15), the first and the last step. Raises UserError."""
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--profile={text} must be START:STOP, steps from 1 on, such as {SPAN}")
    return int(found[1]), int(found[2])


def location(error: BaseException) -> str:
    """The innermost line of this package in an error's traceback or its causes'; else what the error says."""
    package, told = f"{__name__.partition('.')[0]}/", str(error).partition("\n")[0]
    while error is not None:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            name = frame.filename.replace("\\", "/")
            if package in name and not name.endswith("ui/debugging.py"):
                return f"{told} at {package}{name.rpartition(package)[2]}:{frame.lineno}: {frame.line}"
        error = error.__cause__  # type: ignore[assignment]
    return told


class Aids:
    """What a person may switch on for one process: see launch.py's flags of these names.

    Raises UserError where wandb is asked for and not installed.
    """

    def __init__(
        self,
        blocking: bool = False,
        debug_nans: bool = False,
        profile: tuple[int, int] | None = None,
        wandb: bool = False,
    ):
        if wandb and importlib.util.find_spec("wandb") is None:
            raise UserError("--wandb: wandb is not installed; in the checkout: pip install -e '.[wandb]'")
        self.blocking, self.debug_nans, self.profile, self.wandb = blocking, debug_nans, profile, wandb
        self._workdir = Path()
        self._steps = 0
        self._loss: Any = 0.0  # of the step before
        self._tracing = False

    @contextlib.contextmanager
    def at_work(self, workdir: Path) -> Iterator[None]:
        """While a run trains in `workdir`. Raises NotANumber for what `step` has not seen."""
        import jax

        self._workdir = workdir
        try:
            with jax.debug_nans(True) if self.debug_nans else contextlib.nullcontext():
                yield
        except FloatingPointError as error:
            raise NotANumber(f"beside the training steps: {location(error)}") from error
        finally:
            self._end_trace()
            if self.profile and self._steps < self.profile[0]:
                told = f"profile: none, the process had {self._steps} steps and was to begin at"
                print(f"{told} {self.profile[0]}", file=sys.stderr, flush=True)

    def step(self, train_step: Callable, state: Any, batch: Any, where: str) -> Any:
        """train_step(state, batch), watched. Raises NotANumber with the operation that made the first NaN."""
        import jax

        self._steps += 1
        if self.profile and self._steps == self.profile[0]:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._workdir)
            self._tracing = True
        try:
            done = train_step(state, batch)
            if self.blocking or (self._tracing and self.profile and self._steps == self.profile[1]):
                jax.block_until_ready(done)
        except FloatingPointError as error:
            told = f"{where}: {self._first_nan(train_step, state, batch, error)}"
            raise NotANumber(told + self._grown(state)) from error
        if self.debug_nans:
            self._loss = done[1]["loss"]
        if self._tracing and self.profile and self._steps == self.profile[1]:
            self._end_trace()
        return done

    def _first_nan(self, train_step: Callable, state: Any, batch: Any, error: BaseException) -> str:
        """Where the step, done again one operation at a time, makes its first NaN."""
        import jax

        try:
            with jax.disable_jit():
                train_step(state, batch)
        except FloatingPointError as found:
            return location(found)
        return f"{location(error)} (not when each operation is done by itself)"

    def _grown(self, state: Any) -> str:
        """What to do where it was training itself that went wrong, not an operation: the figures before."""
        import jax
        import jax.numpy as jnp

        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        found = {"weight": max((float(abs(x).max()) for x in floats), default=0.0), "loss": float(self._loss)}
        large = [f"a {name} of {value:.3g}" for name, value in found.items() if value > ENORMOUS]
        lower = "; lower config.optimizer.learning_rate (in a new --workdir)"
        return f"; before it {' and '.join(large)}{lower}" if large else ""

    def _end_trace(self) -> None:
        if self._tracing:
            import jax

            self._tracing = False
            jax.profiler.stop_trace()
            print(f"profile: tensorboard --logdir {self._workdir}", file=sys.stderr, flush=True)
