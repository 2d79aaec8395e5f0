"""The train loop, read from top to bottom; one call trains all stages, or resumes where a run stopped."""

import dataclasses
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage, begin, plan, transition
from mdlm_jax.data import Dataset
from mdlm_jax.devices import ROWS, SAME, largest, make_mesh, place, shardings
from mdlm_jax.evaluation import judge
from mdlm_jax.evaluation.analytics import environment, peak_memory, short_text, stage_figures
from mdlm_jax.evaluation.estimate import describe, fit, measured, stage_flops
from mdlm_jax.evaluation.judge import NO_NOTES, Diverged, Notes, Stopped, shown
from mdlm_jax.evaluation.likelihood import Evaluate, held_out
from mdlm_jax.evaluation.report import report
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.run_directory import RunError, check_start, claim, complete, load, recorded
from mdlm_jax.self_training import mixed
from mdlm_jax.train_state import TrainState, forbidden_rows, init_params, make_loss, make_train_step
from mdlm_jax.ui.debugging import Aids
from mdlm_jax.ui.lock import locked
from mdlm_jax.ui.metrics import MetricLog, read_lines
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import read_json, write_json, write_text

SKIPS, ROLL_BACKS = 10, 2  # skipped steps in a row that are too many, and the most roll-backs of a run


class _RollBack(Exception):
    """Training goes on from an earlier checkpoint: the number of the roll-back, and why."""


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
    aids: Aids = dataclasses.field(default_factory=Aids)

    def place(self, state: TrainState) -> TrainState:
        return place(state, shardings(state, make_mesh(self.config)))

    def directory(self, stage: Stage) -> Path:
        return self.workdir / "checkpoints" / stage.directory

    def optimizer(self, stage: Stage) -> optax.GradientTransformation:
        return make_optimizer(self.config.optimizer, stage.data.num_steps, stage.config.rate_scale)


def train_and_evaluate(
    config: Config, dataset: Dataset, workdir: Path, aids: Aids | None = None
) -> dict[str, Any]:
    """Trains every stage in `workdir`, evaluates on validation and test, writes and returns report.json.

    The order of a resume: (1) the config must be the run's own; (2) the newest stage with an intact
    checkpoint is taken up at its step, weights, average, optimizer state and key as saved; (3) metrics.jsonl
    is cut back to it; (4) batches go on at that step's number. A stage without a checkpoint starts from the
    one before.

    Steps whose gradients are not finite are skipped; ten in a row roll the run back to a checkpoint from
    before them, from where it goes on with other noise, twice at most.

    Raises Stopped after a signal (everything saved), Diverged when the loss stays not finite, RunError when
    the directory holds another run, ConfigError when the devices cannot share a step.
    """
    config = complete(config, dataset)
    make_mesh(config)  # a mistake in it is told before anything is written
    aids = aids or Aids()
    with locked(workdir), aids.at_work(workdir):
        return _train_stages(config, dataset, workdir, aids)


def _train_stages(config: Config, dataset: Dataset, workdir: Path, aids: Aids) -> dict[str, Any]:
    stages, compiled = plan(config, dataset), dict[int, jax.stages.Compiled]()
    if not (config := recorded(config, workdir)).micro_batch:
        config, compiled = fit(config, stages, lambda c, s: compile_step(dataset, c, s, NO_NOTES))
    make_mesh(config)  # and what has come of micro_batch=auto fits it
    claim(workdir, config, dataset, environment())
    screen, details = describe(config, dataset, stages)
    if not (workdir / "plan.txt").exists():
        write_text(workdir / "plan.txt", "\n".join([*screen, *details]) + "\n")
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
    log = MetricLog(workdir, progress.say, aids.wandb)
    progress.note = lambda: judge.noted(workdir, progress)
    try:
        with judge.told(workdir):
            validate = held_out(config, dataset, workdir, "validation")
            run = _Run(config, dataset, workdir, stages, flops, validate, log, progress, stop, compiled, aids)
            state, notes = _from_where_it_stands(run)
            progress.stop()
            return _report(run, state, notes)
    finally:
        progress.stop()
        log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _from_where_it_stands(run: _Run) -> tuple[TrainState, Notes]:
    """Trains what is left of the stages; a roll-back is a resume with another key."""
    faults: dict[int, str] = {}
    while True:
        first, state, notes = _first_state(run)
        step = int(state.step) + 1  # the first that it changes: a resume from before it writes the line again
        for number in range(notes["roll_backs"] + 1, max(faults, default=0) + 1):
            line = {"number": number, "why": faults[number]}
            run.log.write("roll_back", first, step, notes["before"]["steps"] + step, line)
            state, notes = _with_key(state, number), notes | {"roll_backs": number}
        try:
            for stage in run.stages[first:]:
                if stage.index > first:
                    reached = int(state.step)
                    state, notes = _enter(run, stage, state, notes)
                    if stop := largest(sum(run.stop_signals[:1])):  # the end of the stage before is saved
                        last = run.stages[stage.index - 1]
                        _status(run, "stopped", last, reached, notes["latest"])
                        raise Stopped(stop, f"the end of {last.directory}")
                state, notes = _train_stage(run, stage, state, notes)
            return state, notes
        except _RollBack as fault:
            faults |= dict([fault.args])
            run.progress.say("{1}; roll-back {0}, with other noise".format(*fault.args))


def _with_key(state: TrainState, number: int) -> TrainState:
    """The state with the key of that roll-back; the numbers of steps are far below."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 2**32 - number)
    return state._replace(key=jax.random.key_data(key))


def _first_state(run: _Run) -> tuple[int, TrainState, Notes]:
    """Index of the stage to go on with, its state and what its checkpoint noted."""
    seed, params = run.config.seed, init_params(run.config.model, run.config.seed)
    for stage in run.stages if jax.process_index() == 0 else ():
        checkpoint.tidy(run.directory(stage), run.progress.say)
    for stage in reversed(run.stages):
        path = checkpoint.newest_intact(run.directory(stage), run.progress.say)
        if path is None or not _best_is_intact(run, stage, path):
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
    run.progress.say(f"Weights and tokenizer of {source} ({trained.checkpoint}): held-out {shown(latest)}")
    return 0, state, dict(NO_NOTES)


def _best_is_intact(run: _Run, stage: Stage, path: Path) -> bool:
    """Whether the next stage, or the report, has the best weights if it wants them; if not, `stage` has to
    be trained again.
    """
    notes, after = read_json(path / "meta.json", RunError), run.stages[stage.index + 1 :][:1]
    best = path.with_name(str(notes["best"]["step"]))
    wanted = after[0].config.init_from == "best" if after else notes.get("chosen") is not None
    if best.name == "-1" or not wanted or (wrong := checkpoint.verify(best)) is None:
        return True
    run.progress.say(f"checkpoint {best}, the best, is damaged: {wrong}; {stage.directory} begins again")
    largest(0)  # all have seen it
    shutil.rmtree(run.directory(stage), ignore_errors=True)
    return False


def _enter(run: _Run, stage: Stage, state: TrainState, notes: Notes) -> tuple[TrainState, Notes]:
    """The validated, logged transition into `stage` from the `state` and `notes` at the end of the last."""
    old, before = run.stages[stage.index - 1], notes["latest"]
    done = judge.passed(run.config, run.flops[old.index], old, state, notes)
    if stage.config.init_from == "best" and notes["best"]["step"] != int(state.step):
        before = notes["best"]
        last, path = state, run.directory(old) / str(before["step"])
        state = checkpoint.restore(path, last, put=run.place)
        jax.tree.map(lambda x: x.delete(), last)  # the caller holds it: there would be two states
    carried, (state, checks) = state, transition(state, run.optimizer(stage), run.config.seed, stage)
    jax.tree.map(lambda x: x.delete(), carried)
    state = run.place(state)
    if notes["roll_backs"]:
        state = _with_key(state, notes["roll_backs"])
    after = _measure(run, state, "measuring again, as the next stage begins")
    run.progress.say(f"Transition to {stage.directory}: weights unchanged, held-out {shown(after)}")
    entered = {f"bits_per_byte_{k}": v["bits_per_byte"] for k, v in (("before", before), ("after", after))}
    notes = NO_NOTES | {"roll_backs": notes["roll_backs"], "before": done, "entered": entered}
    changed, lines = judge.changes(run.config, run.dataset, old, stage, notes)
    run.progress.say("\n".join(lines))
    scalars = {name: int(passed) for name, passed in checks.items()} | entered | changed
    run.log.write("transition", stage.index, 0, done["steps"], scalars)
    return state, notes


def jitted_step(dataset: Dataset, config: Config, stage: Stage, notes: Notes, state: Any) -> Any:
    """The train step of `stage` after those that `notes` tell of; it donates its state, such as `state`."""
    special = dataset.special_ids
    forbidden = forbidden_rows(config.model, dataset.info["vocab_size"], special)
    loss_fn = make_loss(config, forbidden, special["mask"], stage.density, stage.data.per_row)
    rates = stage.config.rate_scale, judge.first_rate(stage, notes)
    optimizer = make_optimizer(config.optimizer, stage.data.num_steps, *rates)
    sizes = config.optimizer.ema_decay, config.micro_batch, notes["before"]["steps"]
    mesh, scaled = make_mesh(config), config.precision == "float16"
    train_step = make_train_step(loss_fn, optimizer, *sizes, scaled, mesh)
    given = shardings(state, mesh), NamedSharding(mesh, ROWS)
    made = given[0], NamedSharding(mesh, SAME)  # figures: in every process
    return jax.jit(train_step, donate_argnums=0, in_shardings=given, out_shardings=made)


def compile_step(dataset: Dataset, config: Config, stage: Stage, notes: Notes) -> jax.stages.Compiled:
    """`jitted_step`, compiled."""
    optimizer = make_optimizer(config.optimizer, stage.data.num_steps)
    params = jax.eval_shape(lambda: init_params(config.model, 0))
    state = jax.eval_shape(lambda p: begin(p, p, optimizer, 0, stage), params)
    batch = {name: jax.ShapeDtypeStruct((config.batch_size, *x.shape), x.dtype)
             for name, x in stage.data.source[0].items()}  # fmt: skip
    return jitted_step(dataset, config, stage, notes, state).lower(state, batch).compile()


def _train_stage(run: _Run, stage: Stage, state: TrainState, notes: Notes) -> tuple[TrainState, Notes]:
    """Trains `stage` from its `state` to its last step, or to the end of its patience."""
    config, steps, before = run.config, stage.data.num_steps, notes["before"]
    if stage.config.self_training:  # as many rows, some of them others
        with run.progress.apart("writing and judging pseudo-examples"):
            stage, counts = mixed(config, run.dataset, run.workdir, stage, run.progress.say)
        run.stages[stage.index] = stage
        if not int(state.step):
            run.log.write("self_training", stage.index, 0, before["steps"], counts)
    start, flops_before, stage_flops = int(state.step), before["flops"], run.flops[stage.index]
    run.progress.total = flops_before + sum(run.flops[stage.index :])
    if notes["ended"]:
        return state, notes
    per_stage = config.evaluation.per_stage
    evaluate_at = {round(steps * (i + 1) / per_stage) for i in range(per_stage)}
    if start < steps:
        ready = run.compiled.pop(stage.index, None) if before == NO_NOTES["before"] else None
        with run.progress.apart(f"{stage.directory}: {steps - start:,} steps; compiling"):
            train_step = ready or compile_step(run.dataset, config, stage, notes)
        held = measured(stage, train_step, run.workdir / "plan.txt", run.progress.say)
        if run.aids.debug_nans:  # what is compiled ahead cannot be done again operation by operation
            train_step = jitted_step(run.dataset, config, stage, notes, state)
    window: list[dict[str, jax.Array]] = []
    began, tokens = time.perf_counter(), 0
    rows, part, parts = NamedSharding(make_mesh(config), ROWS), jax.process_index(), jax.process_count()
    for step, batch in enumerate(stage.data.batches(start, part, parts), start + 1):
        there = place(batch, dict.fromkeys(batch, rows))
        state, metrics = run.aids.step(train_step, state, there, f"step {step} of {stage.directory}")
        window.append(metrics)
        jax.block_until_ready(window[-2:][0]["loss"])  # at most one step ahead: a stop comes soon
        tokens += int(batch["scored"].sum()) * parts  # about
        if step == start + 1:
            jax.block_until_ready(state.step)  # compiled by now: the pace begins here
            run.progress.restart(flops_before + stage_flops * step / steps)
            began, tokens = time.perf_counter(), 0
        evaluate, settle = step in evaluate_at, notes["entered"] and step == min(judge.SETTLED, steps)
        save = step % config.checkpoint_every == 0 or evaluate
        look = save or settle or step % config.log_every == 0  # where processes wait and agree
        # Looked at once: one that comes later waits for the next step.
        stop = largest(sum(run.stop_signals[:1])) if look or parts == 1 else 0
        if not (look or stop):
            continue
        in_a_row = int(state.guard.in_a_row)
        # Where a signal comes must not matter to when a run is rolled back, nor to where.
        if (look and in_a_row >= SKIPS) or not jnp.isfinite(metrics["parameter_norm"]):
            raise _fault(run, stage, step, notes, metrics)
        scalars = judge.figures(config, run.dataset, stage, notes, step, window, state.guard)
        scalars["compiled_bytes"] = held
        scalars["peak_memory"] = peak_memory()
        if tokens:
            scalars["tokens_per_second"] = tokens / (time.perf_counter() - began)
        run.log.write("train", stage.index, step, before["steps"] + step, scalars)
        latest = notes["latest"]
        text = f"{stage.config.name} {step}/{steps}  loss {scalars['loss']:.3f}"
        run.progress.update(scalars["flops"], text + (f"  held-out {shown(latest)}" if latest else ""))
        sound = in_a_row == 0 or step == steps
        if evaluate:
            latest = _measure(run, state)
            notes = notes | {"latest": latest}
            run.log.write("validation", stage.index, step, before["steps"] + step, latest)
            run.progress.say(f"{stage.directory} step {step}/{steps}: held-out {shown(latest)}")
            if config.sample_tokens:
                with run.progress.apart("writing a short text"):
                    written = {"text": short_text(config, run.dataset, state.ema)}
                run.log.write("sample", stage.index, step, before["steps"] + step, written)
            if sound:
                notes = judge.judged(stage, step, stage is run.stages[-1], notes)
        if settle or (notes["ended"] and notes["entered"] and step < judge.SETTLED):
            seen, told = judge.settled(stage, step, notes, latest if evaluate else _measure(run, state))
            run.log.write("transition", stage.index, step, before["steps"] + step, seen)
            run.progress.say(told)
        done = step == steps or notes["ended"]
        if done:
            lines = list(read_lines(run.log.path))
            figures = stage_figures(lines, stage.index)
            run.log.write("stage", stage.index, step, before["steps"] + step, figures)
        if save or stop:  # always with a log line, so that a resumed run averages over the same steps
            notes = notes | ({"sound": step} if save and sound else {})
            kept = {notes["best"]["step"], notes["sound"]}
            checkpoint.save(run.directory(stage), step, state, notes, kept)
        _status(run, "running", stage, step, latest)
        if stop and not (done and stage is run.stages[-1]):
            _status(run, "stopped", stage, step, latest)
            raise Stopped(stop, f"step {step} of {stage.directory}")
        if notes["ended"]:
            run.progress.say(f"{stage.directory} ends early: no better since step {notes['best']['step']}")
            break
        window, began, tokens = [], time.perf_counter(), 0
    return state, notes


def _fault(run: _Run, stage: Stage, step: int, notes: Notes, metrics: dict) -> Exception:
    """A roll-back, for which later checkpoints are removed, or the end where there were enough."""
    why = judge.diagnosis(stage, step, metrics)
    if notes["roll_backs"] == ROLL_BACKS:
        _status(run, "diverged", stage, step, notes["latest"])
        return Diverged(f"{why}, after {ROLL_BACKS} roll-backs; {judge.advice(run.workdir)}")
    for later in checkpoint.steps(run.directory(stage)) if jax.process_index() == 0 else ():
        if later > notes["sound"]:
            checkpoint.remove(run.directory(stage) / str(later))
    return _RollBack(notes["roll_backs"] + 1, why)


def _measure(run: _Run, state: TrainState, said: str = "measuring the validation chapters") -> dict:
    """The held-out figure of the average weights."""
    with run.progress.apart(said):
        return run.validate(state.ema)


def _status(run: _Run, what: str, stage: Stage, step: int, latest: Notes) -> None:
    write_json(run.workdir / "STATUS.json", judge.status(run.progress, what, stage, step, latest))


def _report(run: _Run, state: TrainState, notes: Notes) -> dict[str, Any]:
    """The figures of the finished run, measured and written once; `notes` are those of its end."""
    path, stage, step = run.workdir / "report" / "report.json", run.stages[-1], int(state.step)
    if largest(not path.exists()):
        path.parent.mkdir(exist_ok=True)
        done, latest = judge.passed(run.config, run.flops[-1], stage, state, notes), notes["latest"]
        if notes.get("chosen") is not None:
            latest = {name: value for name, value in notes["best"].items() if name != "step"}
            state = checkpoint.restore(run.directory(stage) / str(notes["chosen"]), state, put=run.place)
        where = f"{stage.directory}/{int(state.step)}"
        with run.progress.apart("measuring the test chapters and the n-gram"):
            write_json(path, report(run.config, run.dataset, run.workdir, state.ema, latest, done, where))
    written = read_json(path, RunError)
    run.progress.update(run.progress.total, "finished")
    _status(run, "finished", stage, step, written["validation"])
    return written
