"""What is judged of a stage: its figures, its patience, its transition to the next, why it cannot go on."""

import contextlib
import datetime
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.critical import critical_compute
from mdlm_jax.evaluation.estimate import stage_flops
from mdlm_jax.optimizer import schedule
from mdlm_jax.train_state import Guard, TrainState
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError, read_json, write_json
from mdlm_jax.ui.whole import newest

Notes = dict[str, Any]

SETTLED = 50  # steps after which a transition is looked at again

# What a checkpoint says beside the state; nothing in it is changed in place.
NO_NOTES: Notes = {
    "latest": {},  # held-out figures of this stage
    "best": {"step": -1},  # the same, and their step
    "stale": 0,  # evaluations since the best
    "ended": False,  # before its last step: patience was over
    "chosen": None,  # step of the weights that the run delivers, where they are not the last
    "sound": 0,  # last regular checkpoint before which no step was skipped: where a roll-back goes
    "roll_backs": 0,  # of the run
    "before": {"steps": 0, "tokens": 0, "flops": 0.0, "rate": 0.0},  # what the stages before did
    "entered": {},  # held-out figures of the transition into this stage
}


def advice(workdir: Path) -> str:
    """What to do about a run that has diverged, and which weights there are."""
    found = newest(workdir)
    there = f"its last checkpoint is {found}" if found else "it has no checkpoint yet"
    return f"{there}; lower config.optimizer.learning_rate (in a new --workdir)"


class Stopped(UserError):
    """A signal asked training to stop, and it has saved at `where`; `code`: 130 (SIGINT) or 75 (SIGTERM)."""

    def __init__(self, number: int, where: str):
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at {where}; the same command goes on from there")
        self.code = 130 if number == signal.SIGINT else 75


class Diverged(UserError):
    """The loss is not finite; one line that says where and what to try."""

    code = 3


def shown(result: Notes) -> str:
    """A held-out figure with its error, in words."""
    error = f" +- {result['bits_per_byte_se']:.3f}" if result["kind"] == "bound" else " (exact)"
    return f"{result['bits_per_byte']:.3f}{error} bits per byte"


def status(progress: PlanProgress, what: str, stage: Stage, step: int, latest: Notes) -> Notes:
    """What STATUS.json says of a run in `stage`; `latest` is its last held-out figure."""
    return {
        "state": what,
        "stage": stage.directory,
        "step": step,
        "steps": stage.data.num_steps,
        "share_done": progress.done / progress.total,
        "eta_seconds": round(progress.eta(), 1),
        "bits_per_byte": latest.get("bits_per_byte"),
        "doing": progress.doing,
        "updated": _now(),
    }


def noted(workdir: Path, progress: PlanProgress) -> None:
    """STATUS.json with what goes on beside the steps; `status` writes all of it again."""
    there = _status_of(workdir)
    if progress.doing or there.get("doing"):
        now = {"doing": progress.doing, "eta_seconds": round(progress.eta(), 1), "updated": _now()}
        write_json(workdir / "STATUS.json", there | now | ({"state": "running"} if progress.doing else {}))


@contextlib.contextmanager
def told(workdir: Path) -> Iterator[None]:
    """Writes into STATUS.json how training ends where an error ends it that is known."""
    try:
        yield
    except Stopped:
        raise
    except (UserError, OSError) as error:
        state = "diverged" if isinstance(error, Diverged) else "failed"
        there = _status_of(workdir) | {"state": state, "doing": "", "why": str(error), "updated": _now()}
        with contextlib.suppress(OSError):  # the disk may be full
            write_json(workdir / "STATUS.json", there)
        raise


def _status_of(workdir: Path) -> Notes:
    with contextlib.suppress(UserError):
        return read_json(workdir / "STATUS.json", UserError)
    return {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def first_rate(stage: Stage, notes: Notes) -> float:
    """Where the warm-up begins, as a share of the stage's peak: under `anneal` at the last rate before it."""
    return notes["before"]["rate"] / stage.config.rate_scale if stage.config.anneal else 0.0


def rates(config: Config, stage: Stage, notes: Notes, peak: float = 1.0) -> Callable[[int], float]:
    """The stage's learning rate by the optimizer's own count of steps, which leaves out what is skipped."""
    scaled = peak * stage.config.rate_scale
    rate = schedule(config.optimizer, scaled, stage.data.num_steps, first_rate(stage, notes))
    return lambda count: float(rate(max(0, count)))


def passed(config: Config, flops: float, stage: Stage, state: TrainState, notes: Notes) -> Notes:
    """What all stages did when `stage`, of `flops` in all, ends in `state`; its last rate, of a peak of 1."""
    step, before = int(state.step), notes["before"]
    share = step / stage.data.num_steps  # 1 unless patience ended it
    return {
        "steps": before["steps"] + step,
        "tokens": before["tokens"] + stage.data.tokens * share,
        "flops": before["flops"] + flops * share,
        "rate": rates(config, stage, notes)(step - 1 - int(state.guard.skipped)),
    }


def judged(stage: Stage, step: int, last: bool, notes: Notes) -> Notes:
    """Notes with what the latest figure means: the best so far, the end of patience, what a last stage gives.

    Any lower figure is better. All evaluations share their random masks, so that two of them differ by far
    less than their standard errors, and a margin of one would end a stage that learns slowly.
    """
    latest, best, steps = notes["latest"], notes["best"], stage.data.num_steps
    better = best["step"] < 0 or math.isnan(best["bits_per_byte"])
    better = better or latest["bits_per_byte"] < best["bits_per_byte"]
    best, stale = (latest | {"step": step}, 0) if better else (best, notes["stale"] + 1)
    ended = 0 < stage.config.patience <= stale and step < steps
    delivers = last and stage.config.patience and (ended or step == steps) and best["step"] != step
    return notes | {
        "best": best,
        "stale": stale,
        "ended": ended,
        "chosen": best["step"] if delivers else None,
    }


def changes(
    config: Config, dataset: Dataset, old: Stage, new: Stage, notes: Notes
) -> tuple[Notes, list[str]]:
    """What the transition from `old` to `new` changes: scalars of a metrics line, and lines to read.

    `notes` are those with which `new` begins. Examples and tokens are those of an epoch, the rates those of
    the matrices.
    """
    found: Notes = {}
    for when, stage in (("before", old), ("after", new)):
        count, d = dataset.counts(stage.config.name, "train"), stage.density
        found |= {f"examples_{when}": count["examples"], f"tokens_{when}": count["tokens"]}
        found[f"length_{when}"] = count["tokens"] / count["examples"]
        found[f"mask_rate_{when}"] = [0.0, 1.0] if d.is_bound else [d.lo, d.hi]
    peak = config.optimizer.learning_rate
    found["rate_before"] = peak * notes["before"]["rate"]
    found["rate_after"] = rates(config, new, notes, peak)(0)
    found["rate_peak"] = peak * new.config.rate_scale
    lines = [
        "  data: {examples_before:,} -> {examples_after:,} examples, {tokens_before:,} -> {tokens_after:,} "
        "tokens, {length_before:.0f} -> {length_after:.0f} tokens an example",
        "  rate: {rate_before:.2g} -> {rate_after:.2g}, then up to {rate_peak:.2g}; fresh optimizer; "
        "mask rate {mask_rate_before[0]:g}-{mask_rate_before[1]:g} -> "
        "{mask_rate_after[0]:g}-{mask_rate_after[1]:g}",
    ]
    return found, [line.format(**found) for line in lines]


def settled(stage: Stage, step: int, notes: Notes, latest: Notes) -> tuple[Notes, str]:
    """The transition seen again with the held-out figures at `step`: scalars, and a line to read."""
    scalars = notes["entered"] | {"bits_per_byte_settled": latest["bits_per_byte"]}
    before, after, now = (scalars[f"bits_per_byte_{when}"] for when in ("before", "after", "settled"))
    return scalars, (
        f"{stage.directory}: held-out {before:.3f} before the transition, {after:.3f} after it, "
        f"{now:.3f} {step} steps later"
    )


def diagnosis(stage: Stage, step: int, metrics: dict[str, Any]) -> str:
    """The figures of a step after which training cannot go on."""
    names = ("loss", "gradient_norm", "parameter_norm")
    told = ", ".join(f"{name.replace('_', ' ')} {float(metrics[name]):.3g}" for name in names)
    return f"{told} at step {step} of {stage.directory}"


def figures(
    config: Config,
    dataset: Dataset,
    stage: Stage,
    notes: Notes,
    step: int,
    window: list[dict[str, jax.Array]],
    guard: Guard,
) -> Notes:
    """The scalars of a train line: means over the steps of `window` that were taken; the others were skipped.

    The loss is nan where none was. It is in bits per byte too where it is a bound: over the full range of
    mask rates, without smoothing and without an emphasis.
    """
    taken = [metrics for metrics in window if metrics["taken"]]
    found = {k: float(np.mean([float(m[k]) for m in taken or window])) for k in window[0] if k != "taken"}
    skipped, before = int(guard.skipped), notes["before"]
    rate = rates(config, stage, notes, config.optimizer.learning_rate)
    flops = before["flops"] + stage_flops(config, stage) * step / stage.data.num_steps
    critical = critical_compute(dataset.counts("refinement", "train")["tokens"])
    found |= {
        "skipped": skipped,
        "learning_rate": rate(step - 1 - skipped),
        "tokens": before["tokens"] + stage.data.tokens * step / stage.data.num_steps,
        "flops": flops,
        "flops_over_critical": flops / critical,
    }
    if config.precision == "float16":
        found["loss_scale"] = float(guard.scale)
    is_bound = config.model.causal or (stage.density.is_bound and not config.soft_masking)
    if is_bound and not config.label_smoothing:
        counts = dataset.counts(stage.config.name, "train")
        found["bits_per_byte"] = found["loss"] / math.log(2) * counts["tokens"] / counts["bytes"]
    return found
