"""What a plan is, and costs in memory and time on the device that jax finds, before it is trained.

Memory comes from tracing the loss, so it follows the network, the remat policy and the precision by itself;
time from a short probe and the constants below. Of the plan itself nothing is allocated or compiled.
"""

import contextlib
import functools
import os
import sys
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.configuration import Config, ModelConfig
from mdlm_jax.curriculum import Stage
from mdlm_jax.data import Dataset
from mdlm_jax.devices import make_mesh
from mdlm_jax.diffusion import Density, capacity
from mdlm_jax.evaluation.critical import Spent, against_critical, in_words
from mdlm_jax.evaluation.likelihood import held_out_windows, rows_at_a_time
from mdlm_jax.model import ffn_width
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import init_params, make_loss
from mdlm_jax.ui.progress import clock
from mdlm_jax.ui.values import ConfigError, write_text

# The share of the probe's rate that a run sustains, and seconds to compile a program. CPU: measured on two
# AVX-512 cores (0.33 tiny, 0.41 small, 0.55 base, 0.45 evaluation). Accelerator: assumed, not measured.
CPU_PACE, ACCELERATOR_PACE = (0.4, 6.0), (0.25, 30.0)
STEP_SECONDS = 0.015  # of a step beside its FLOPs; measured at `smoke`, whose FLOPs hardly count
RECOMPUTED = {"none": 1.0, "dots": 1.1, "full": 4 / 3}  # FLOPs done over FLOPs counted; full: forward twice
PROCESS = 1_500_000_000  # bytes beside the arrays (Python, libraries, XLA), on a CPU; measured at `tiny`
MEMORY_SHARE = 0.8  # of the device's that a plan may take: estimates err


def count_parameters(config: ModelConfig) -> dict[str, int]:
    """The true count beside the specification's 4lh^2 + 3lh*hf + 6lh + Vh, in parameters.

    `matrices` are the weights that multiply every token (what a FLOP count needs). The specification counts
    6h of norm and bias per layer; here a layer has two norm vectors (2h, plus two of a head's width under QK-
    norm) and no bias, and the final norm adds h: the difference is `true - specification`.
    """
    d, s, f = config.d_model, config.num_layers, ffn_width(config.d_model)
    matrices = s * (4 * d * d + 3 * d * f)
    norms = s * (2 * d + 2 * d // config.num_heads * config.qk_norm) + d
    embedding = config.vocab_rows * d
    return {
        "true": matrices + norms + embedding,
        "specification": matrices + 6 * s * d + embedding,
        "matrices": matrices,
        "embedding": embedding,
        "norms": norms,
    }


def flops_per_token(config: ModelConfig, head_fraction: float) -> float:
    """Training FLOPs per input token, forward and backward (6 per weight; Kaplan et al. 2020).

    `head_fraction` is the share of positions that meet the vocabulary. Attention scores and mixing count
    12*S*D*L (Chowdhery et al. 2022, appendix B; half of it where causal); recomputation under remat is not
    counted (model FLOPs, not hardware FLOPs).
    """
    counts = count_parameters(config)
    attention = 12 * config.num_layers * config.d_model * config.seq_len * (0.5 if config.causal else 1.0)
    return 6.0 * (counts["matrices"] + head_fraction * counts["embedding"]) + attention


def stage_flops(config: Config, stage: Stage) -> float:
    """Training FLOPs of all steps of a stage."""
    head = 1.0 if config.model.causal else stage.density.mean
    positions = stage.data.num_steps * config.batch_size * config.model.seq_len
    return positions * flops_per_token(config.model, head)


def against_law(config: Config, dataset: Dataset, stages: Sequence[Stage]) -> dict[str, Any]:
    """`critical.against_critical` of a whole plan."""
    spent = []
    for s in stages:
        epochs = s.data.tokens / dataset.counts(s.config.name, "train")["tokens"]
        spent.append(Spent(s.config.name, s.data.num_steps, epochs, stage_flops(config, s)))
    return against_critical(dataset.counts("refinement", "train")["tokens"], spent)


def describe(config: Config, dataset: Dataset, stages: list[Stage]) -> tuple[list[str], list[str]]:
    """What will happen, before anything is trained: a screen for everyone, and the details for plan.txt."""
    info, model = dataset.info, config.model
    counts = count_parameters(model)
    split = {name: len(indices) for name, indices in info["split"]["chapters"].items()}
    title = info["book"]["title"] or info["book"]["name"]
    kind = "autoregressive twin" if model.causal else "masked diffusion model"
    steps, tokens = (sum(x) for x in zip(*((s.data.num_steps, s.data.tokens) for s in stages), strict=True))
    screen = [
        f"Book   {title}: {sum(info['words'].values()):,} words in {sum(split.values())} "
        f"{info['split']['kind']}, {split['validation']} + {split['test']} of them held out",
        f"Model  {kind}, {counts['true'] / 1e6:.1f}M parameters, {model.seq_len} tokens of context, "
        f"vocabulary {info['vocab_size']:,}",
        f"Plan   {' -> '.join(f'{s.config.name} x {s.config.num_epochs}' for s in stages)} epochs: "
        f"{steps:,} steps, {tokens:,} tokens",
    ]
    flops = sum(stage_flops(config, s) for s in stages)
    screen.append(f"FLOPs  {flops:.2e}, {in_words(against_law(config, dataset, stages))}")
    expected = seconds(config, stages, dataset)
    device = jax.devices()[0].device_kind
    screen.append(f"Time   about {clock(expected)} for the whole plan on this machine ({device}), by a probe")
    needed = memory(config, stages)
    screen.append(f"Memory {gigabytes(needed.total)}, estimated: {needed}")
    if jax.default_backend() == "cpu" and expected > 2 * 3600:
        screen.append("       python launch.py --recommend suggests a plan for this machine")
    details = [
        f"network: {model.num_layers} layers x {model.d_model} x {model.num_heads} heads, "
        f"{config.precision}; {counts['true']:,} parameters "
        f"(formula 4lh^2 + 3lh*hf + 6lh + Vh: {counts['specification']:,}; "
        f"{counts['true'] - counts['specification']:+,}: norms without bias)"
    ]
    for stage in stages:
        d = stage.density
        rates = "next token" if model.causal else "mask rate 0 to 1"
        if not (model.causal or d.is_bound):
            rates = f"mask rate {d.lo} to {d.hi}, and {d.full_range:.0%} over 0 to 1"
        cost = (
            f"{stage.data.num_steps:,} steps, {stage.data.tokens:,} tokens, {stage_flops(config, stage):.2e}"
        )
        if stage.config.self_training:
            rates += f", at most {stage.config.self_training:.0%} of the rows written by the model itself"
        details.append(f"stage {stage.index + 1}, {stage.config.name}: {cost} FLOPs, {rates}")
    return screen, details


@dataclass(frozen=True)
class Memory:
    """Bytes on the device; all but `state` and `process` only while they run."""

    state: int  # weights, their average, the optimizer state, a step, a key and a guard (28 bytes): exact
    gradients: int  # these three are added by a train step
    activations: int
    logits: int
    evaluation: int  # added by a held-out evaluation
    sampling: int  # the weights and one canvas of seq_len, under the costliest sampler
    process: int  # on a CPU, which has one memory for all

    @property
    def step(self) -> int:
        """What a train step adds."""
        return self.gradients + self.activations + self.logits

    @property
    def total(self) -> int:
        """The most that training holds at once: at a transition there are two states for a moment."""
        return self.process + self.state + max(self.step, self.evaluation, self.state)

    def __str__(self) -> str:
        parts = (f"{name} {gigabytes(getattr(self, name))}" for name in ("state", "step", "evaluation"))
        step = (f"{name} {gigabytes(getattr(self, name))}" for name in ("gradients", "activations", "logits"))
        beside = f", the process {gigabytes(self.process)}" if self.process else ""
        return f"{', '.join(parts)} (step: {', '.join(step)}){beside}"


def gigabytes(size: float) -> str:
    """Bytes as "1.23 GB" or "45.6 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _kept(config: Config, density: Density, per_row: int, **changes: Any) -> int:
    """Bytes kept for the backward pass of a micro-batch: the outputs of `jax.vjp` that are not its inputs."""
    model = replace(config.model, **changes)
    config, allowed = replace(config, model=model), np.zeros(model.vocab_rows, bool)
    loss_fn = make_loss(config, allowed, 0, density, per_row)
    tokens = jax.ShapeDtypeStruct((config.micro_batch, model.seq_len), jnp.int32)
    batch = {"tokens": tokens, "segments": tokens, "scored": jax.ShapeDtypeStruct(tokens.shape, bool)}
    batch |= {"importance": tokens} if config.soft_masking else {}
    vjp = jax.make_jaxpr(lambda p, b: jax.vjp(lambda q: loss_fn(q, b, jax.random.key(0)), p, has_aux=True)[1])
    traced = vjp(jax.eval_shape(lambda: init_params(model, 0)), batch).jaxpr
    given = {id(v) for v in traced.invars}
    return sum({id(v): _bytes(v.aval) for v in traced.outvars if id(v) not in given}.values())


def _protocol(config: Config) -> tuple[int, int, int]:
    """Strata and replicates of a held-out window (1, 1 for the twin), and the rows of a batch."""
    strata, replicates = config.evaluation.strata, config.evaluation.replicates
    return (1, 1, 32) if config.model.causal else (strata, replicates, max(1, 64 // strata) * strata)


def memory(config: Config, stages: Sequence[Stage] = ()) -> Memory:
    """Bytes that a complete config needs; `stages` bound the masked positions (without: a segment a row).

    A step adds the gradients (twice where they are accumulated) and the larger of what the forward pass keeps
    and, when the logits (two copies) are behind it, the rest with all that one block keeps without remat.
    An evaluation under a `memory_budget` goes by micro-batches.

    State and step were 0.91 to 1.37 times XLA's own figures for a CPU (`smoke` to `base`, 1 to 32 rows, 512
    to 25,024 of vocabulary, every remat): below 0.96 in bfloat16, which XLA computes in float32 there, and
    with label smoothing; above 1.16 where layers are unrolled. Not measured on an accelerator.
    """
    model, micro, length = config.model, config.micro_batch, config.model.seq_len - 1
    cases = [(s.density, s.data.per_row) for s in stages] or [(Density(), 1)]
    bounds = {capacity(micro * length, length, micro * n, density): (density, n) for density, n in cases}
    scored, masks = micro * length if model.causal else max(bounds), bounds[max(bounds)]
    cpu = jax.default_backend() == "cpu"  # XLA undoes remat there where layers are unrolled
    kept = _kept(config, *masks, remat="none" if cpu and model.layers == "unroll" else model.remat)
    block = _kept(config, *masks, num_layers=1, remat="none")
    block -= _kept(config, *masks, num_layers=1, remat="full")
    params = jax.eval_shape(lambda: init_params(model, 0))
    weights, logits = _bytes(params), 8 * model.vocab_rows  # logits: two copies of a position's
    state = 28 + 2 * weights + _bytes(jax.eval_shape(make_optimizer(config.optimizer, 1).init, params))
    gradients = weights * (1 + (micro < config.batch_size))
    head = min(kept, logits * scored)
    activations = kept - head + max(0, block - logits * scored)
    copy, (strata, _, rows) = weights // 2 * (config.precision in ("bf16", "float16")), _protocol(config)
    rows = rows_at_a_time(config, rows)
    evaluated = logits * rows * model.seq_len * (strata + 1) // (2 * strata)
    evaluation = copy + max(evaluated, block * rows // micro // 2)  # forward alone holds half a block
    evaluation += weights * any(s.self_training for s in config.stages)  # of those that write
    sampling = weights + copy + block // micro + 5 * logits * model.seq_len  # top-p sorts
    return Memory(state, gradients, activations, head, evaluation, sampling, PROCESS * cpu)


def compiled_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes that XLA plans for a program, its arguments and results included; 0 where it does not say."""
    m = compiled.memory_analysis()
    if m is None:
        return 0
    return m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.temp_size_in_bytes


def measured(stage: Stage, train_step: jax.stages.Compiled, path: Path, say: Callable[[str], object]) -> int:
    """Bytes of the program that trains `stage`, said, and written down in the plan.txt at `path`."""
    held, analysis = compiled_bytes(train_step), train_step.memory_analysis()
    state = getattr(analysis, "alias_size_in_bytes", 0)  # what it is given and returns in the same place
    told = f"{stage.directory}: the compiled step takes {gigabytes(held)}"
    told += f", {gigabytes(state)} of it the state" if state else ""  # --debug_nans keeps what it is given
    if told not in (text := path.read_text(encoding="utf-8")):
        write_text(path, f"{text}{told}\n")
    say(told)
    return held


def fit(
    config: Config, stages: Sequence[Stage], compile_step: Callable[[Config, Stage], jax.stages.Compiled]
) -> tuple[Config, dict[int, jax.stages.Compiled]]:
    """A complete config with micro_batch=auto settled, and the train steps compiled for it, by stage.

    The largest divisor of batch_size whose training fits memory_budget (0: MEMORY_SHARE of the device's, and
    recorded) by the estimate, then by XLA's own figures for the stage whose steps are the largest. Raises
    ConfigError when a single row does not fit, or nothing says how much there is.
    """
    budget = config.memory_budget or MEMORY_SHARE * (device_memory() or 0) / 1e9
    if not budget:
        raise ConfigError("config.micro_batch=auto: the device does not tell its memory; set memory_budget")
    if jax.default_backend() == "cpu" and budget * 1e9 <= PROCESS:
        alone = f"memory_budget is {gigabytes(budget * 1e9)}, and Python and XLA by themselves take about"
        raise ConfigError(f"config.micro_batch=auto: {alone} {gigabytes(PROCESS)}; take a larger one")
    told = ""
    devices = make_mesh(config).size
    for micro in (n for n in range(config.batch_size, 0, -1) if config.batch_size % (n * devices) == 0):
        tried = replace(config, micro_batch=micro, memory_budget=config.memory_budget or round(budget, 3))
        needed = memory(tried, stages)
        told = f"estimated {gigabytes(needed.total)}"
        if needed.total > budget * 1e9:
            continue
        largest = max(stages, key=lambda s: (s.density.mean, s.data.per_row))
        print(f"micro_batch={micro}: {told}; compiling to see ...", file=sys.stderr, flush=True)
        compiled = compile_step(tried, largest)
        held = needed.process + compiled_bytes(compiled)
        if held <= budget * 1e9:
            return tried, {largest.index: compiled}
        told = f"compiled {gigabytes(held)}"
    raise ConfigError(
        f"config.micro_batch=auto: one row at a time takes more than {gigabytes(budget * 1e9)} ({told}); "
        "take a smaller model, remat=full with layers=scan, or a larger memory_budget"
    )


@functools.cache
def measured_flops() -> float:
    """FLOP/s of a matrix product, the best of four: float32 1024^3 on a CPU, bfloat16 4096^3 elsewhere."""
    size, kind = (1024, jnp.float32) if jax.default_backend() == "cpu" else (4096, jnp.bfloat16)
    x, product = jax.random.normal(jax.random.key(0), (size, size), kind), jax.jit(jnp.matmul)
    return 2 * size**3 / min(timeit.repeat(lambda: product(x, x).block_until_ready(), number=1, repeat=4))


def seconds(config: Config, stages: Sequence[Stage], dataset: Dataset) -> float:
    """Seconds that all `stages` take, with compilation and every held-out evaluation.

    Within a factor of two on the CPU of the constants when it is idle; elsewhere a guess. Raises DataError
    when a held-out split is empty or damaged.
    """
    model, (strata, replicates, rows) = config.model, _protocol(config)
    share, compilation = CPU_PACE if jax.default_backend() == "cpu" else ACCELERATOR_PACE
    flops = RECOMPUTED[model.remat] * sum(stage_flops(config, s) for s in stages)
    position = flops_per_token(model, (strata + 1) / (2 * strata)) / 3  # forward alone
    # Within a stage, at its start (of the first only if it has weights from a run) and soon after that of a
    # later one; the test at the end.
    validations = (config.evaluation.per_stage + 2) * len(stages) - 1 - (not config.init_from)
    for split, times in (("validation", validations), ("test", 1)):
        windows = len(held_out_windows(dataset, split, model.seq_len)["tokens"])
        flops += times * replicates * -(-windows * strata // rows) * rows * model.seq_len * position
    steps = sum(s.data.num_steps for s in stages)
    return flops / (share * measured_flops()) + steps * STEP_SECONDS + (len(stages) + 1) * compilation


def device_memory() -> int | None:
    """Bytes that jax may use of the accelerator, or that the machine or container has; None: not known."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system has these names
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits, default=None)
