"""The configuration as frozen dataclasses: names, types, meanings and the checks that cross fields. No jax.

`configs/*.py` hold the values as ml_collections ConfigDicts, the flags override them, and `resolve` turns the
result into a `Config` at the border; nothing past it sees a ConfigDict.
"""

import dataclasses
from typing import Any

from mdlm_jax.ui.request import SamplingConfig, check_sampling
from mdlm_jax.ui.values import FILLED_IN, ConfigError, build, field, flat, nearest

STAGE_NAMES = ("foundational", "structural", "refinement")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network; `vocab_rows` and `bf16_products` are filled in from the data and the precision."""

    num_layers: int = field("transformer blocks", least=1)
    d_model: int = field("width of the residual stream", least=1)
    num_heads: int = field("attention heads; divides d_model into an even head width", least=1)
    seq_len: int = field("positions of a training row, and the longest canvas", least=8)
    dropout: float = field("dropout rate, rounded to 1/256", least=0, most=0.9)
    qk_norm: bool = field("normalise queries and keys per head")
    causal: bool = field("True is the autoregressive twin")
    layers: str = field(
        "layer loop: scan (compiles fast, for a GPU) or unroll (faster on a CPU)", choices=("scan", "unroll")
    )
    remat: str = field(
        "activations kept for the backward pass: none = all, dots = products, full = block inputs "
        "(unrolled on a CPU: all, whatever it says)",
        choices=("none", "dots", "full"),
    )
    vocab_rows: int = field(FILLED_IN, default=0)
    bf16_products: bool = field(FILLED_IN, default=False)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Passed on to data_prep."""

    vocab_size: int = field("cap on the tokenizer's size", least=260)
    min_frequency: int = field("a merge must occur this often in the training split", least=1)
    split_seed: int = field("which chapters are held out", least=0)
    embedder: str = field("sentence embedder of centrality (lsa, none, bert:MODEL, st:MODEL, npy:PATH)")
    importance: str = field("of a token", choices=("surprisal", "chen2023"), default="surprisal")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon by parameter group, warm-up and a schedule, afresh in every stage."""

    name: str = field("adamw, or muon (matrices only; the rest stays with AdamW)", choices=("adamw", "muon"))
    learning_rate: float = field("peak rate of the matrices", above=0)
    embedding_rate: float = field("peak rate of the embedding", least=0)
    norm_rate: float = field("peak rate of the norm scales", least=0)
    weight_decay: float = field("decoupled decay of the matrices; embedding and norms have none", least=0)
    b1: float = field("Adam's first-moment decay; Muon's momentum", least=0, most=0.9999)
    b2: float = field("Adam's second-moment decay", least=0, most=0.99999)
    clip_norm: float = field("the gradients' global norm is clipped to this", above=0)
    schedule: str = field(
        "after the warm-up: cosine, restarts (of it), wsd (down over the last fifth) or constant",
        choices=("cosine", "restarts", "wsd", "constant"),
    )
    warmup_steps: int = field("linear warm-up, capped at a tenth of the stage's steps", least=0)
    final_rate: float = field("last rate, but of constant, as a share of the peak", least=0, most=1)
    ema_decay: float = field("decay of the weight average, at most (1 + step) / (10 + step)", least=0, most=1)
    clip: str = field("clip_norm, or twice the mean norm", choices=("global", "adaptive"), default="global")
    restarts: int = field("cosines in a stage under schedule=restarts", least=1, default=3)


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of the curriculum."""

    name: str = field("which shards: foundational, structural or refinement", choices=STAGE_NAMES)
    num_epochs: int = field("passes over the stage's training examples", least=1)
    mask_rate: tuple[float, float] = field("lowest and highest if mask_schedule=curriculum", least=0, most=1)
    rate_scale: float = field("multiplies the optimizer's peak rates in this stage", above=0)
    init_from: str = field(
        "weights carried from the stage before: last, or best by the held-out bound", choices=("last", "best")
    )
    weighted: bool = field("draw sentences by centrality and pairs by trust, not all alike", default=False)
    patience: int = field("evaluations without a new best that end the stage; 0: off", least=0, default=0)
    anneal: bool = field("the warm-up begins at the last rate of the stage before, not at 0", default=False)
    self_training: float = field(
        "share of a refinement stage's rows that the model of the stage before has written in part; 0 is off",
        least=0, most=0.9, default=0.0,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The held-out bound (or the twin's exact figure), on the refinement split."""

    strata: int = field("strata of the mask rate", least=16)
    replicates: int = field("independent repeats of all strata: they give the standard error", least=2)
    per_stage: int = field("validation evaluations in a stage, the last at its end", least=1)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole plan."""

    seed: int = field("seed of initial weights, masks, order and dropout", least=0)
    precision: str = field(
        "auto, float32, bf16 (params and compute; float32 master), float16 (too), bf16_products (for CPUs)",
        choices=("auto", "float32", "bf16", "float16", "bf16_products"),
        words={"fp16": "float16", "half": "float16", "fp32": "float32", "bfloat16": "bf16"},
    )
    batch_size: int = field("rows of seq_len positions in an optimizer step", least=1)
    micro_batch: int = field(
        "rows at a time; divides batch_size, gradients are accumulated; auto (0): the most that fit",
        least=0, words={"auto": 0},
    )  # fmt: skip
    mask_schedule: str = field(
        "mdlm (mask rates uniform over (0,1) everywhere) or curriculum (each stage's mask_rate)",
        choices=("mdlm", "curriculum"),
    )
    full_range_fraction: float = field(
        "share of rows with mask rates over (0,1) under mask_schedule=curriculum", least=0, most=1
    )
    label_smoothing: float = field(
        "share of the target spread over the vocabulary in training; 0 is off", least=0, most=0.9
    )
    log_every: int = field("optimizer steps between log lines", least=1)
    checkpoint_every: int = field("optimizer steps between checkpoints inside a stage", least=1)
    model: ModelConfig = field("the network")
    data: DataConfig = field("the preparation")
    optimizer: OptimizerConfig = field("the optimizer")
    stages: tuple[StageConfig, ...] = field("the curriculum, in order")
    evaluation: EvaluationConfig = field("the held-out figure")
    sampling: SamplingConfig = field("defaults of the sample command")
    sample_tokens: int = field(
        "length of a short text that is written at every validation; 0: none", least=0, most=65_536, default=0
    )
    init_from: str = field("run whose weights and tokenizer this one starts from; empty: none", default="")
    mesh: tuple[int, int] = field("devices: data (copies) x fsdp (parts); 0: rest", least=0, default=(1, 1))
    soft_masking: float = field("mask important tokens more often; 0: off", least=0, most=20, default=0.0)
    memory_budget: float = field(
        "GB that training may take: bounds micro_batch=auto, and evaluation goes by micro-batches; 0: what "
        "the device has, and evaluation takes 64 rows at a time",
        least=0, default=0.0,
    )  # fmt: skip


def resolve(values: Any) -> Config:
    """Nested or flat values (a ConfigDict, a dict) to a checked `Config`. Raises ConfigError."""
    given = flat(values)
    missing: list[str] = []
    config: Config = build(Config, given, missing)
    for name in given:  # what nothing has taken
        names = list(flat(dataclasses.asdict(config)))
        inside = [n for n in names if n.startswith((f"{name}.", f"{name}["))]
        hint = f"; name a field of this group, such as {inside[0]}" if inside else nearest(name, names)
        raise ConfigError(f"config has no field {name}{hint}")
    if missing:
        new = " (a new stage needs all of its fields)" * missing[0].startswith("stages[")
        raise ConfigError(f"config.{missing[0]} is missing{new}")
    width, heads = config.model.d_model, config.model.num_heads
    rows, micro = config.batch_size, config.micro_batch
    if width % (2 * heads):
        raise ConfigError(f"config.model.num_heads={heads} must divide d_model={width} into even heads")
    if micro and rows % micro:
        raise ConfigError(f"config.micro_batch={micro} must divide batch_size={rows}")
    check_sampling(config.sampling)
    if not config.stages:
        raise ConfigError("config.stages is empty; give at least one stage")
    for i, stage in enumerate(config.stages):
        if not stage.mask_rate[0] < stage.mask_rate[1]:
            raise ConfigError(f"config.stages[{i}].mask_rate must be lo < hi, not {stage.mask_rate}")
        if stage.self_training and (not i or stage.name != "refinement" or config.model.causal):
            told = "is for a refinement stage with one before it, of a model that is not causal"
            raise ConfigError(f"config.stages[{i}].self_training={stage.self_training} {told}")
    return config
