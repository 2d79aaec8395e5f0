"""The train loop, read from top to bottom; one call trains all stages, or resumes where a run stopped."""

import dataclasses
import datetime
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage, begin, plan, transition
from mdlm_jax.data import Dataset
from mdlm_jax.devices import ROWS, SAME, largest, make_mesh, place, shardings
from mdlm_jax.evaluation.estimate import critical_compute, describe, fit, measured, stage_flops
from mdlm_jax.evaluation.likelihood import Evaluate, held_out
from mdlm_jax.evaluation.report import report
from mdlm_jax.metrics import MetricLog
from mdlm_jax.optimizer import make_optimizer, schedule
from mdlm_jax.run_directory import RunError, check_start, claim, complete, load, locked, recorded
from mdlm_jax.self_training import mixed
from mdlm_jax.train_state import TrainState, forbidden_rows, init_params, make_loss, make_train_step
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError, read_json, write_json

NO_NOTES: dict[str, Any] = {"best": {"step": -1, "bits_per_byte": None}, "latest": {}}


class Stopped(UserError):
    """Training was asked to stop by a signal and has saved; `code` is 130 (SIGINT) or 75 (SIGTERM)."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class Diverged(UserError):
    """The loss is not finite; one line that says where and what to try."""

    code = 3


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the stages of one call of `train_and_evaluate` share."""

    config: Config
    dataset: Dataset
    workdir: Path
    stages: list[Stage]
    flops: list[float]  # of each stage
    validate: Evaluate
    log: MetricLog
    progress: PlanProgress
    stop_signals: list[int]  # filled by the signal handler
    compiled: dict[int, jax.stages.Compiled]  # train steps that settled the micro-batch

    def place(self, state: TrainState) -> TrainState:
        return place(state, shardings(state, make_mesh(self.config)))

    def directory(self, stage: Stage) -> Path:
        return self.workdir / "checkpoints" / stage.directory

    def optimizer(self, stage: Stage) -> optax.GradientTransformation:
        return make_optimizer(self.config.optimizer, stage.data.num_steps, stage.config.rate_scale)


def train_and_evaluate(config: Config, dataset: Dataset, workdir: Path) -> dict[str, Any]:
    """Trains every stage in `workdir`, evaluates on validation and test, writes and returns report.json.

    The order of a resume: (1) the config must be the run's own; (2) the newest stage with an intact
    checkpoint is taken up at its step, weights, average, optimizer state and key as saved; (3) metrics.jsonl
    is cut back to it; (4) batches go on at that step's number. A stage without a checkpoint starts from the
    one before.

    Raises Stopped after a signal (everything saved), Diverged when the loss is not finite, RunError when the
    directory holds another run, ConfigError when the devices cannot share a step.
    """
    config = complete(config, dataset)
    make_mesh(config)  # a mistake in it is told before anything is written
    with locked(workdir):
        return _train_stages(config, dataset, workdir)


def _train_stages(config: Config, dataset: Dataset, workdir: Path) -> dict[str, Any]:
    stages, compiled = plan(config, dataset), dict[int, jax.stages.Compiled]()
    if not (config := recorded(config, workdir)).micro_batch:
        config, compiled = fit(config, stages, lambda c, s: compile_step(dataset, c, s))
    claim(workdir, config, dataset)
    screen, details = describe(config, dataset, stages)
    if not (workdir / "plan.txt").exists():
        (workdir / "plan.txt").write_text("\n".join([*screen, *details]) + "\n", encoding="utf-8")
    print("\n".join([*screen, "       Ctrl-C is safe at any time; the same command goes on"]), flush=True)
    stop: list[int] = []
    handlers = {int(s): signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def stop_soon(number: int, _: Any) -> None:
        stop.append(number)
        os.write(2, b"\nstopping: saves and ends soon; once more ends at once\n")  # print is not for handlers
        signal.signal(number, handlers[number])

    for number in handlers:
        signal.signal(number, stop_soon)
    flops = [stage_flops(config, s) for s in stages]
    progress = PlanProgress(sum(flops))
    log = MetricLog(workdir, progress.say)
    try:
        validate = held_out(config, dataset, workdir, "validation")
        run = _Run(config, dataset, workdir, stages, flops, validate, log, progress, stop, compiled)
        first, state, notes = _first_state(run)
        state, notes = _train_stage(run, stages[first], state, notes)
        for stage in stages[first + 1 :]:
            state = _enter(run, stage, state, notes)
            if number := largest(sum(stop[:1])):  # while measuring; the end of the stage before is saved
                raise _stopped(number, f"the end of {stages[stage.index - 1].directory}")
            state, notes = _train_stage(run, stage, state, dict(NO_NOTES))
        progress.stop()
        return _report(run, state, notes["latest"])
    finally:
        progress.stop()
        log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _first_state(run: _Run) -> tuple[int, TrainState, dict[str, Any]]:
    """Index of the stage to go on with, its state and what its checkpoint noted."""
    seed, params = run.config.seed, init_params(run.config.model, run.config.seed)
    for stage in reversed(run.stages):
        path = checkpoint.newest_intact(run.directory(stage), run.progress.say)
        if path is None:
            continue
        optimizer = run.optimizer(stage)
        like = jax.eval_shape(lambda s=stage, o=optimizer: begin(params, params, o, seed, s))
        state = checkpoint.restore(path, like, put=run.place)
        run.log.cut_back(stage.index, int(state.step))
        run.progress.say(f"Resumed {stage.directory} at step {int(state.step)} of {stage.data.num_steps}")
        return stage.index, state, read_json(path / "meta.json", RunError)
    run.log.cut_back(-1, 0)
    stage, source = run.stages[0], Path(run.config.init_from)
    if not run.config.init_from:
        return 0, run.place(begin(params, params, run.optimizer(stage), seed, stage)), dict(NO_NOTES)
    check_start(run.config)
    trained = load(source)
    theirs, ours = (d.info["tokenizer"]["sha256"] for d in (trained.dataset, run.dataset))
    if theirs != ours:
        raise RunError(f"the data are not prepared with the tokenizer of {source}; let launch.py do it")
    state = run.place(begin(trained.params, trained.params, run.optimizer(stage), seed, stage))
    # As a checkpoint: from here on the run stands alone.
    checkpoint.save(run.directory(stage), 0, state, NO_NOTES, keep=set())
    latest = _measure(run, state)
    run.log.write("validation", 0, 0, 0, latest)
    run.progress.say(f"Weights and tokenizer of {source} ({trained.checkpoint}): held-out {_figure(latest)}")
    return 0, state, dict(NO_NOTES)


def _enter(run: _Run, stage: Stage, state: TrainState, notes: dict[str, Any]) -> TrainState:
    """The validated, logged transition into `stage` from the `state` and `notes` at the end of the last."""
    before = notes["latest"]
    if stage.config.init_from == "best" and notes["best"]["step"] != int(state.step):
        before = notes["best"]
        last, path = state, run.directory(run.stages[stage.index - 1]) / str(before["step"])
        state = checkpoint.restore(path, last, put=run.place)
        jax.tree.map(lambda x: x.delete(), last)  # the caller holds it: there would be two states
    old, (state, checks) = state, transition(state, run.optimizer(stage), run.config.seed, stage)
    jax.tree.map(lambda x: x.delete(), old)
    state = run.place(state)
    after = _measure(run, state, "measuring again, as the next stage begins ...")
    run.progress.say(f"Transition to {stage.directory}: weights unchanged, held-out {_figure(after)}")
    scalars: dict[str, Any] = {name: int(passed) for name, passed in checks.items()}
    scalars |= {f"bits_per_byte_{k}": v["bits_per_byte"] for k, v in (("before", before), ("after", after))}
    run.log.write("transition", stage.index, 0, stage.steps_before, scalars)
    return state


def compile_step(dataset: Dataset, config: Config, stage: Stage) -> jax.stages.Compiled:
    """The train step of `stage`, compiled; it donates its state."""
    special = dataset.special_ids
    forbidden = forbidden_rows(config.model, dataset.info["vocab_size"], special)
    loss_fn = make_loss(config, forbidden, special["mask"], stage.density, stage.data.per_row)
    optimizer = make_optimizer(config.optimizer, stage.data.num_steps, stage.config.rate_scale)
    decay, mesh, before = config.optimizer.ema_decay, make_mesh(config), stage.steps_before
    train_step = make_train_step(loss_fn, optimizer, decay, config.micro_batch, before, mesh)
    params = jax.eval_shape(lambda: init_params(config.model, 0))
    state = jax.eval_shape(lambda p: begin(p, p, optimizer, 0, stage), params)
    batch = {name: jax.ShapeDtypeStruct((config.batch_size, *x.shape), x.dtype)
             for name, x in stage.data.source[0].items()}  # fmt: skip
    given = shardings(state, mesh), NamedSharding(mesh, ROWS)
    made = given[0], NamedSharding(mesh, SAME)  # figures: in every process
    step = jax.jit(train_step, donate_argnums=0, in_shardings=given, out_shardings=made)
    return step.lower(state, batch).compile()


def _train_stage(
    run: _Run, stage: Stage, state: TrainState, notes: dict[str, Any]
) -> tuple[TrainState, dict[str, Any]]:
    """Trains `stage` from its `state` to its last step; notes are the best and latest held-out figures."""
    config, steps = run.config, stage.data.num_steps
    if stage.config.self_training:  # as many rows, some of them others
        stage, counts = mixed(config, run.dataset, run.workdir, stage, run.progress.say)
        run.stages[stage.index] = stage
        if not int(state.step):
            run.log.write("self_training", stage.index, 0, stage.steps_before, counts)
    rate = schedule(config.optimizer, config.optimizer.learning_rate * stage.config.rate_scale, steps)
    per_stage = config.evaluation.per_stage
    evaluate_at = {round(steps * (i + 1) / per_stage) for i in range(per_stage)}
    flops_before, stage_flops = sum(run.flops[: stage.index]), run.flops[stage.index]
    tokens_before = sum(s.data.tokens for s in run.stages[: stage.index])
    critical = critical_compute(run.dataset.counts("refinement", "train")["tokens"])
    start = int(state.step)
    if start < steps:
        run.progress.say(f"{stage.directory}: {steps - start:,} steps; compiling ...")
        train_step = run.compiled.pop(stage.index, None) or compile_step(run.dataset, config, stage)
        held = measured(stage, train_step, run.workdir / "plan.txt", run.progress.say)
    window: list[dict[str, jax.Array]] = []
    began, tokens = time.perf_counter(), 0
    rows, part, parts = NamedSharding(make_mesh(config), ROWS), jax.process_index(), jax.process_count()
    for step, batch in enumerate(stage.data.batches(start, part, parts), start + 1):
        state, metrics = train_step(state, place(batch, dict.fromkeys(batch, rows)))
        window.append(metrics)
        jax.block_until_ready(window[-2:][0]["loss"])  # at most one step ahead: a stop comes soon
        tokens += int(batch["scored"].sum()) * parts  # about
        if step == start + 1:
            jax.block_until_ready(state.step)  # compiled by now: the pace begins here
            run.progress.restart(flops_before + stage_flops * step / steps)
            began, tokens = time.perf_counter(), 0
        save = step % config.checkpoint_every == 0 or step in evaluate_at
        due = save or step % config.log_every == 0  # here processes wait for each other anyway, and agree
        # Looked at once: one that comes later waits for the next step.
        stop = largest(sum(run.stop_signals[:1])) if due or parts == 1 else 0
        if not (due or stop):
            continue
        scalars = {k: float(np.mean([float(m[k]) for m in window])) for k in metrics}
        for name, value in scalars.items():  # the weights' norm too: they go bad a step before the loss
            if not np.isfinite(value):
                raise Diverged(
                    f"the {name.replace('_', ' ')} is {value} near step {step} of {stage.directory}; the "
                    "last checkpoint is intact: lower config.optimizer.learning_rate (in a new --workdir)"
                )
        flops = flops_before + stage_flops * step / steps
        scalars |= {
            "learning_rate": float(rate(step - 1)),
            "tokens": tokens_before + stage.data.tokens * step / steps,
            "flops": flops,
            "flops_over_critical": flops / critical,
            "compiled_bytes": held,
        }
        if tokens:
            scalars["tokens_per_second"] = tokens / (time.perf_counter() - began)
        if (stage.density.is_bound or config.model.causal) and not config.label_smoothing:
            counts = run.dataset.counts(stage.config.name, "train")
            scalars["bits_per_byte"] = scalars["loss"] / math.log(2) * counts["tokens"] / counts["bytes"]
        run.log.write("train", stage.index, step, stage.steps_before + step, scalars)
        latest = notes["latest"]
        text = f"{stage.config.name} {step}/{steps}  loss {scalars['loss']:.3f}"
        run.progress.update(flops, text + (f"  held-out {_figure(latest)}" if latest else ""))
        if step in evaluate_at:
            latest = notes["latest"] = _measure(run, state)
            run.log.write("validation", stage.index, step, stage.steps_before + step, latest)
            run.progress.say(f"{stage.directory} step {step}/{steps}: held-out {_figure(latest)}")
            if notes["best"]["step"] < 0 or latest["bits_per_byte"] < notes["best"]["bits_per_byte"]:
                notes["best"] = {"step": step, "bits_per_byte": latest["bits_per_byte"]}
        if save or stop:  # always with a log line, so that a resumed run averages over the same steps
            checkpoint.save(run.directory(stage), step, state, notes, keep={notes["best"]["step"]})
        _status(run, "running", stage, step, latest)
        if stop and not (step == steps and stage is run.stages[-1]):
            _status(run, "stopped", stage, step, latest)
            raise _stopped(stop, f"step {step} of {stage.directory}")
        window, began, tokens = [], time.perf_counter(), 0
    return state, notes


def _stopped(number: int, where: str) -> Stopped:
    text = f"{signal.Signals(number).name}: saved at {where}; the same command goes on from there"
    return Stopped(text, 130 if number == signal.SIGINT else 75)


def _measure(run: _Run, state: TrainState, said: str = "measuring the validation chapters ...") -> dict:
    """The held-out figure of the average weights."""
    run.progress.say(said)
    return run.validate(state.ema)


def _figure(result: dict[str, Any]) -> str:
    error = f" +- {result['bits_per_byte_se']:.3f}" if result["kind"] == "bound" else " (exact)"
    return f"{result['bits_per_byte']:.3f}{error} bits per byte"


def _status(run: _Run, what: str, stage: Stage, step: int, latest: dict[str, Any]) -> None:
    status = {
        "state": what,
        "stage": stage.directory,
        "step": step,
        "steps": stage.data.num_steps,
        "share_done": run.progress.done / run.progress.total,
        "eta_seconds": round(run.progress.eta(), 1),
        "bits_per_byte": latest.get("bits_per_byte"),
        "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(run.workdir / "STATUS.json", status)


def _report(run: _Run, state: TrainState, latest: dict[str, Any]) -> dict[str, Any]:
    """The figures of the finished run (`latest`: validation at its end); measured and written once."""
    path = run.workdir / "report" / "report.json"
    if largest(not path.exists()):
        run.progress.say("measuring the test chapters and the n-gram ...")
        path.parent.mkdir(exist_ok=True)
        done = sum(s.data.tokens for s in run.stages), sum(run.flops)
        found = report(run.config, run.dataset, run.workdir, state.ema, latest, *done)
        write_json(path, found)
    written = read_json(path, RunError)
    run.progress.update(run.progress.total, "finished")
    stage = run.stages[-1]
    _status(run, "finished", stage, stage.data.num_steps, written["validation"])
    return written
