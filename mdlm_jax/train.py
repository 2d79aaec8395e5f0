"""The train loop, read from top to bottom; one call trains all stages, or resumes where a run stopped."""

import datetime
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config
from mdlm_jax.curriculum import Stage, begin, critical_compute, plan, transition
from mdlm_jax.data import Dataset, held_out_windows, read_records
from mdlm_jax.evaluation import ngram
from mdlm_jax.evaluation.likelihood import Evaluate, make_evaluate
from mdlm_jax.metrics import MetricLog
from mdlm_jax.model import count_parameters
from mdlm_jax.optimizer import make_optimizer, schedule
from mdlm_jax.progress import PlanProgress, clock
from mdlm_jax.run_directory import claim, complete
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.train_state import TrainState, build, forbidden_rows, init_params, make_loss, make_train_step


class Stopped(Exception):
    """Training was asked to stop by a signal and has saved; `code` is the exit status."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Diverged(RuntimeError):
    """The loss is not finite; one line that says where and what to try."""


def measured_flops() -> float:
    """FLOP/s of a float32 1024^3 matrix product here, the best of three."""
    x = jax.random.normal(jax.random.key(0), (1024, 1024))
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times)


def describe(config: Config, dataset: Dataset, stages: list[Stage]) -> list[str]:
    """One screen about what will happen, before anything is trained."""
    counts, info = count_parameters(config.model), dataset.info
    unique = dataset.counts("refinement", "train")["tokens"]
    flops, critical = sum(s.flops for s in stages), critical_compute(unique)
    model = config.model
    kind = "autoregressive twin (causal)" if model.causal else "masked diffusion (bidirectional)"
    difference = counts["true"] - counts["specification"]
    lines = [
        f"Book        {info['book']['name']}: {unique:,} training tokens, vocabulary {info['vocab_size']:,}",
        f"Model       {kind}: {model.num_layers} layers x {model.d_model} x {model.num_heads} heads, "
        f"{model.seq_len} positions, {config.precision}",
        f"Parameters  {counts['true']:,} (formula 4lh^2 + 3lh*hf + 6lh + Vh: {counts['specification']:,}; "
        f"{difference:+,} because norms have no bias)",
    ]
    for stage in stages:
        d = stage.density
        rates = "next token" if model.causal else "mask rate 0 to 1" if d.is_bound else f"mask rate {d.lo} to {d.hi}"
        lines.append(
            f"Stage {stage.index + 1}     {stage.config.name}: {stage.config.num_epochs} epochs, "
            f"{stage.data.num_steps:,} steps, {stage.data.tokens:,} tokens, {stage.flops:.2e} FLOPs, {rates}"
        )
    lines.append(
        f"Total       {sum(s.data.num_steps for s in stages):,} steps, {sum(s.data.tokens for s in stages):,} tokens, "
        f"{flops:.2e} FLOPs = {flops / critical:.3g} x Ccrit({unique / 1e6:.3f}M tokens) = {critical:.2e} "
        "(fitted on 25M-100M tokens: for one book an extrapolation)"
    )
    if jax.default_backend() == "cpu":
        seconds = flops / (0.5 * measured_flops())
        lines.append(f"Time        about {clock(seconds)} on this CPU, by a probe; measured once training runs")
        if seconds > 2 * 3600:
            lines.append("            on a CPU, take a smaller preset: --config configs/three_stage.py:tiny")
    return lines


def held_out(config: Config, dataset: Dataset, workdir: Path, split: str) -> Evaluate:
    """evaluate(params) of one split by the protocol."""
    tokenizer = load_tokenizer(workdir / "tokenizer.json")
    records = read_records(dataset, "refinement", split)
    words = sum(len(tokenizer.decode(r.ids.tolist(), skip_special_tokens=False).split()) for r in records)
    return make_evaluate(
        config,
        build(config.model),
        forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids),
        dataset.special_ids["mask"],
        held_out_windows(dataset, split, config.model.seq_len),
        dataset.counts("refinement", split)["bytes"],
        words,
    )


def ngram_bits_per_byte(dataset: Dataset, workdir: Path) -> dict[str, float]:
    """Bits per byte of the Witten-Bell byte 5-gram of the training split, on the held-out splits."""
    tokenizer = load_tokenizer(workdir / "tokenizer.json")

    def text(split: str) -> list[bytes]:
        parts: dict[int, list[str]] = {}
        for record in read_records(dataset, "refinement", split):
            piece = tokenizer.decode(record.ids.tolist(), skip_special_tokens=False)
            parts.setdefault(record.chapter, []).append(piece)
        return ["".join(p).encode() for p in parts.values()]

    tables = ngram.witten_bell(b"".join(text("train")))
    return {split: ngram.bits_per_byte(tables, text(split)) for split in ("validation", "test")}


def _resume_point(workdir: Path, stages: list[Stage], say: Callable[[str], None]) -> tuple[int, Path | None]:
    """Index of the newest stage with an intact checkpoint (0 if none), and that checkpoint."""
    for stage in reversed(stages):
        if path := checkpoint.newest_intact(workdir / "checkpoints" / stage.directory, say):
            return stage.index, path
    return 0, None


def train_and_evaluate(config: Config, dataset: Dataset, workdir: Path) -> dict[str, Any]:
    """Trains every stage in `workdir`, evaluates on validation and test, writes and returns report.json.

    The order of a resume: (1) the config must be the run's own; (2) the newest stage with an intact checkpoint is
    taken up at its step, weights, average, optimizer state and key as saved; (3) metrics.jsonl is cut back to it;
    (4) batches go on at that step's number. A stage that has no checkpoint yet starts from the one before.

    Raises Stopped after a signal (everything saved), Diverged when the loss is not finite, RunError when the
    directory holds another run.
    """
    config = complete(config, dataset)
    claim(workdir, config, dataset)
    stages = plan(config, dataset)
    for line in describe(config, dataset, stages):
        print(line, flush=True)
    total_flops = sum(s.flops for s in stages)
    progress = PlanProgress(total_flops)
    stop_signal: list[int] = []
    previous = {s: signal.signal(s, lambda n, _: stop_signal.append(n)) for s in (signal.SIGINT, signal.SIGTERM)}
    log = MetricLog(workdir, progress.say)
    try:
        validate = held_out(config, dataset, workdir, "validation")
        first, resumed_at = _resume_point(workdir, stages, progress.say)
        params = init_params(config.model, config.seed)
        state: TrainState | None = None
        for stage in stages[first:]:
            state = _run_stage(
                config, dataset, workdir, stage, stages, state, params, resumed_at, validate, log, progress, stop_signal
            )
            resumed_at = None
        progress.stop()
        assert state is not None
        return _report(config, dataset, workdir, stages, state, validate)
    finally:
        progress.stop()
        log.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_stage(
    config: Config, dataset: Dataset, workdir: Path, stage: Stage, stages: list[Stage], state: TrainState | None,
    params: Any, resumed_at: Path | None, validate: Evaluate, log: MetricLog, progress: PlanProgress,
    stop_signal: list[int],
) -> TrainState:  # fmt: skip
    """One stage from its first (or saved) state to its last. `state` is the stage before's, None when there is none."""
    steps, directory = stage.data.num_steps, workdir / "checkpoints" / stage.directory
    optimizer = make_optimizer(config.optimizer, steps, stage.config.rate_scale)
    flops_before = sum(s.flops for s in stages[: stage.index])
    tokens_before = sum(s.data.tokens for s in stages[: stage.index])
    best: dict[str, Any] = {"step": -1, "bits_per_byte": float("inf")}
    latest: dict[str, Any] = {}
    if resumed_at is not None:
        like = jax.eval_shape(lambda: begin(params, params, optimizer, config.seed, stage))
        state, meta = checkpoint.restore(resumed_at, like), checkpoint.read_meta(resumed_at)
        best, latest = meta["best"], meta["latest"]
        log.cut_back(stage.index, int(state.step))
        progress.say(f"Resumed {stage.directory} at step {int(state.step)} of {steps}")
    elif state is None:
        log.cut_back(-1, 0)
        state = begin(params, params, optimizer, config.seed, stage)
    else:
        if stage.config.init_from == "best":
            state = _best_of(workdir, stages[stage.index - 1], state)
        log.cut_back(stage.index, 0)
        before = validate(state.ema)
        state, checks = transition(state, optimizer, config.seed, stage)
        after = validate(state.ema)
        progress.say(f"Transition to {stage.directory}: " + ", ".join(checks) + f"; held-out {_figure(after)}")
        bounds = {"bits_per_byte_before": before["bits_per_byte"], "bits_per_byte_after": after["bits_per_byte"]}
        log.write("transition", stage.index, 0, stage.steps_before, bounds | {k: int(v) for k, v in checks.items()})

    forbidden = forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids)
    graphdef, mask_id = build(config.model), dataset.special_ids["mask"]
    loss_fn = make_loss(config, graphdef, forbidden, mask_id, stage.density, stage.data.per_row)
    step_fn = jax.jit(
        make_train_step(loss_fn, optimizer, config.optimizer.ema_decay, config.micro_batch, stage.steps_before),
        donate_argnums=0,
    )
    rate = schedule(config.optimizer, config.optimizer.learning_rate * stage.config.rate_scale, steps)
    evaluate_at = {round(steps * (i + 1) / config.evaluation.per_stage) for i in range(config.evaluation.per_stage)}
    start = int(state.step)
    window: list[dict[str, jax.Array]] = []
    began, tokens_in_window = time.perf_counter(), 0
    for step, batch in enumerate(stage.data.batches(start), start + 1):
        state, metrics = step_fn(state, batch)
        window.append(metrics)
        tokens_in_window += int(batch["scored"].sum())
        if step == start + 1:
            jax.block_until_ready(state.step)  # compiled by now: the pace begins here
            progress.restart()
        last = step == steps
        if step % config.log_every == 0 or last or step in evaluate_at or stop_signal:
            scalars = {k: float(np.mean([float(m[k]) for m in window])) for k in metrics}
            if not np.isfinite(scalars["loss"]):
                raise Diverged(
                    f"the loss is {scalars['loss']} near step {step} of {stage.directory}; the last checkpoint is intact: "
                    "lower config.optimizer.learning_rate (in a new --workdir)"
                )
            flops = flops_before + stage.flops * step / steps
            scalars |= {
                "learning_rate": float(rate(step - 1)),
                "tokens_per_second": tokens_in_window / (time.perf_counter() - began),
                "tokens": tokens_before + stage.data.tokens * step / steps,
                "flops": flops,
                "flops_over_critical": flops / critical_compute(dataset.counts("refinement", "train")["tokens"]),
            }
            log.write("train", stage.index, step, stage.steps_before + step, scalars)
            text = f"{stage.config.name} {step}/{steps}  loss {scalars['loss']:.3f}"
            if latest:
                text += f"  held-out {_figure(latest)}"
            progress.update(flops, text)
            _status(workdir, "running", stage, step, progress, latest)
            if step in evaluate_at:
                latest = validate(state.ema)
                log.write("validation", stage.index, step, stage.steps_before + step, latest)
                progress.say(f"{stage.directory} step {step}/{steps}: held-out {_figure(latest)}")
                if latest["bits_per_byte"] < best["bits_per_byte"]:
                    best = {"step": step, "bits_per_byte": latest["bits_per_byte"]}
            window, began, tokens_in_window = [], time.perf_counter(), 0
        if step % config.checkpoint_every == 0 or step in evaluate_at or last or stop_signal:
            checkpoint.save(directory, step, state, {"best": best, "latest": latest}, keep={best["step"]})
            began = time.perf_counter()
        if stop_signal and not (last and stage is stages[-1]):
            name = signal.Signals(stop_signal[0]).name
            _status(workdir, "stopped", stage, step, progress, latest)
            progress.say(f"{name}: saved at step {step} of {stage.directory}; the same command goes on from there")
            raise Stopped(130 if stop_signal[0] == signal.SIGINT else 75)
    return state


def _best_of(workdir: Path, stage: Stage, state: TrainState) -> TrainState:
    directory = workdir / "checkpoints" / stage.directory
    newest = directory / str(checkpoint.steps(directory)[-1])
    return checkpoint.restore(directory / str(checkpoint.read_meta(newest)["best"]["step"]), state)


def _figure(result: dict[str, Any]) -> str:
    error = f" +- {result['bits_per_byte_se']:.3f}" if result["kind"] == "bound" else " (exact)"
    return f"{result['bits_per_byte']:.3f}{error} bits per byte"


def _status(
    workdir: Path, what: str, stage: Stage, step: int, progress: PlanProgress, latest: dict[str, Any]
) -> None:
    status = {
        "state": what,
        "stage": stage.directory,
        "step": step,
        "steps": stage.data.num_steps,
        "share_done": progress.done / progress.total,
        "eta_seconds": round(progress.eta(), 1),
        "bits_per_byte": latest.get("bits_per_byte"),
        "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    checkpoint.write_json(workdir / "STATUS.json", status)


def _report(
    config: Config, dataset: Dataset, workdir: Path, stages: list[Stage], state: TrainState, validate: Evaluate
) -> dict[str, Any]:
    """Held-out figures of the finished run; written once, so a second call of a finished run returns at once."""
    path = workdir / "report" / "report.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    path.parent.mkdir(exist_ok=True)
    test = held_out(config, dataset, workdir, "test")
    report = {
        "validation": {"ema": validate(state.ema), "raw": validate(state.params)},
        "test": {"ema": test(state.ema), "raw": test(state.params)},
        "ngram_5_bits_per_byte": ngram_bits_per_byte(dataset, workdir),
        "training_tokens": sum(s.data.tokens for s in stages),
        "training_flops": sum(s.flops for s in stages),
        "parameters": count_parameters(config.model),
        "split_seed": dataset.info["split"]["seed"],
        "seed": config.seed,
    }
    checkpoint.write_json(path, report)
    done = {"state": "finished", "stage": stages[-1].directory, "share_done": 1.0, "eta_seconds": 0}
    checkpoint.write_json(workdir / "STATUS.json", done | {"bits_per_byte": report["validation"]["ema"]["bits_per_byte"]})
    return report
