"""The configuration as frozen dataclasses: names, types, meanings and the checks that cross fields. No jax.

`configs/*.py` hold the values as ml_collections ConfigDicts, the flags override them, and `resolve` turns the
result into a `Config` at the border; nothing past it sees a ConfigDict.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable
from typing import Any

STAGE_NAMES = ("foundational", "structural", "refinement")


class UserError(ValueError):
    """Something a person can mend; the text is one line: what, where, how. `code` is the exit status."""

    code = 2


class ConfigError(UserError):
    """A configuration that cannot be used; the text is one line: what, where, how to mend it."""


def nearest(name: str, names: Iterable[str]) -> str:
    """ "; did you mean X?" with the nearest of `names`, or nothing."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def field(doc: str) -> Any:
    """A dataclass field that carries its one line of meaning."""
    return dataclasses.field(metadata={"doc": doc})


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network; `vocab_rows` and `bf16_products` are filled in from the data and the precision."""

    num_layers: int = field("transformer blocks")
    d_model: int = field("width of the residual stream")
    num_heads: int = field("attention heads; divides d_model into an even head width")
    seq_len: int = field("positions of a training row, and the longest canvas")
    dropout: float = field("dropout rate, rounded to 1/256")
    qk_norm: bool = field("normalise queries and keys per head")
    causal: bool = field("True is the autoregressive twin")
    layers: str = field("layer loop: scan (compiles fast, best on a GPU) or unroll (faster on a CPU)")
    remat: str = field(
        "activations kept for the backward pass: none = all, dots = products, full = block inputs"
    )
    vocab_rows: int = dataclasses.field(default=0, metadata={"doc": "set from the data"})
    bf16_products: bool = dataclasses.field(default=False, metadata={"doc": "set from the precision"})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Passed on to data_prep."""

    vocab_size: int = field("cap on the tokenizer's size")
    min_frequency: int = field("a merge must occur this often in the training split")
    split_seed: int = field("which chapters are held out")
    embedder: str = field("sentence embedder of the centrality score (lsa, bert:MODEL, st:MODEL, npy:PATH)")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon by parameter group, warm-up and a schedule, afresh in every stage."""

    name: str = field("adamw, or muon (matrices only; the rest stays with AdamW)")
    learning_rate: float = field("peak rate of the matrices")
    embedding_rate: float = field("peak rate of the embedding")
    norm_rate: float = field("peak rate of the norm scales")
    weight_decay: float = field("decoupled decay of the matrices; embedding and norms have none")
    b1: float = field("Adam's first-moment decay; Muon's momentum")
    b2: float = field("Adam's second-moment decay")
    clip_norm: float = field("global gradient norm is clipped to this")
    schedule: str = field(
        "after the warm-up: cosine, wsd (constant, then down over the last fifth) or constant"
    )
    warmup_steps: int = field("linear warm-up, capped at a tenth of the stage's steps")
    final_rate: float = field("last rate of cosine and wsd as a share of the peak")
    ema_decay: float = field("decay of the weight average, capped at (1 + step) / (10 + step)")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of the curriculum."""

    name: str = field("which shards: foundational, structural or refinement")
    num_epochs: int = field("passes over the stage's training examples")
    mask_rate: tuple[float, float] = field("lowest and highest mask rate under mask_schedule=curriculum")
    rate_scale: float = field("multiplies the optimizer's peak rates in this stage")
    init_from: str = field("weights carried from the stage before: last or best (by the held-out bound)")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The held-out bound (or the twin's exact figure), on the refinement split."""

    strata: int = field("strata of the mask rate, at least 16")
    replicates: int = field("independent repeats of all strata, at least 2: they give the standard error")
    per_stage: int = field("validation evaluations in a stage, the last at its end")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """Defaults of python -m mdlm_jax.sample."""

    sampler: str = field("ancestral (exact law at this many steps) or confidence (most certain first)")
    steps: int = field("network calls; 0 means one per token")
    temperature: float = field("divides the logits when a token is drawn")
    top_k: int = field("draw among the k likeliest tokens; 0 is off")
    top_p: float = field("draw from the smallest set with this probability; 1 is off")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole plan."""

    seed: int = field("seed of initial weights, masks, order and dropout")
    precision: str = field(
        "auto, float32, bf16 (params and compute; float32 master), bf16_products (fast on CPUs)"
    )
    batch_size: int = field("rows of seq_len positions in an optimizer step")
    micro_batch: int = field("rows at a time; divides batch_size, gradients are accumulated")
    mask_schedule: str = field(
        "mdlm (mask rates uniform over (0,1) everywhere) or curriculum (each stage's mask_rate)"
    )
    full_range_fraction: float = field(
        "share of rows with mask rates over (0,1) under mask_schedule=curriculum"
    )
    label_smoothing: float = field("share of the target spread over the vocabulary in training; 0 is off")
    log_every: int = field("optimizer steps between log lines")
    checkpoint_every: int = field("optimizer steps between checkpoints inside a stage")
    model: ModelConfig = field("the network")
    data: DataConfig = field("the preparation")
    optimizer: OptimizerConfig = field("the optimizer")
    stages: tuple[StageConfig, ...] = field("the curriculum, in order")
    evaluation: EvaluationConfig = field("the held-out figure")
    sampling: SamplingConfig = field("defaults of the sample command")
    init_from: str = field("run directory whose weights and tokenizer this run starts from; empty for none")


def _convert(kind: Any, value: Any, path: str) -> Any:
    """value as `kind`; raises ConfigError naming `path`."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, (tuple, list)) or isinstance(value, str):
            raise ConfigError(f"{path} must be a tuple, not {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{path} must have {len(arguments)} values, not {len(value)}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(
            _convert(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be of type {kind.__name__}, not {value!r}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{path} must be a finite number, not {value}")
    if kind is int and abs(value) >= 2**32:
        raise ConfigError(f"{path} must be below 2**32, not {value:.6g}")
    return value


def _build(kind: Any, values: Any, path: str = "config") -> Any:
    if not hasattr(values, "items"):
        raise ConfigError(f"{path} must be a group of fields, not {values!r}")
    hints = typing.get_type_hints(kind)
    given = dict(values.items())
    for name in given:
        if name not in hints:
            raise ConfigError(f"{path} has no field {name}{nearest(name, hints)}")
    defaults = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    missing = [n for n in hints if n not in given and n not in defaults]
    if missing:
        raise ConfigError(f"{path}.{missing[0]} is missing")
    return kind(**{n: _convert(hints[n], v, f"{path}.{n}") for n, v in given.items()})


def _one_of(path: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise ConfigError(f"{path} must be one of {', '.join(names)}, not {value!r}{nearest(value, names)}")


def resolve(values: Any) -> Config:
    """A ConfigDict (or nested mapping) to a checked `Config`. Raises ConfigError."""
    config: Config = _build(Config, values)
    model, optimizer, evaluation, sampling = (
        config.model,
        config.optimizer,
        config.evaluation,
        config.sampling,
    )
    _one_of("config.precision", config.precision, ("auto", "float32", "bf16", "bf16_products"))
    _one_of("config.mask_schedule", config.mask_schedule, ("mdlm", "curriculum"))
    _one_of("config.model.layers", model.layers, ("scan", "unroll"))
    _one_of("config.model.remat", model.remat, ("none", "dots", "full"))
    _one_of("config.optimizer.name", optimizer.name, ("adamw", "muon"))
    _one_of("config.optimizer.schedule", optimizer.schedule, ("cosine", "wsd", "constant"))
    _one_of("config.sampling.sampler", sampling.sampler, ("ancestral", "confidence"))
    positive = {
        "model.num_layers": model.num_layers,
        "model.d_model": model.d_model,
        "model.num_heads": model.num_heads,
        "data.min_frequency": config.data.min_frequency,
        "batch_size": config.batch_size,
        "micro_batch": config.micro_batch,
        "log_every": config.log_every,
        "checkpoint_every": config.checkpoint_every,
        "optimizer.learning_rate": optimizer.learning_rate,
        "optimizer.clip_norm": optimizer.clip_norm,
        "evaluation.per_stage": evaluation.per_stage,
        "sampling.temperature": sampling.temperature,
        "sampling.top_p": sampling.top_p,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ConfigError(f"config.{name} must be above 0, not {value}")
    for name, value in {
        "seed": config.seed,
        "data.split_seed": config.data.split_seed,
        "optimizer.embedding_rate": optimizer.embedding_rate,
        "optimizer.norm_rate": optimizer.norm_rate,
        "optimizer.weight_decay": optimizer.weight_decay,
        "optimizer.warmup_steps": optimizer.warmup_steps,
        "sampling.steps": sampling.steps,
        "sampling.top_k": sampling.top_k,
    }.items():
        if value < 0:
            raise ConfigError(f"config.{name} must be 0 or more, not {value}")
    if not (0 <= optimizer.b1 < 1 and 0 <= optimizer.b2 < 1):
        raise ConfigError(
            f"config.optimizer.b1 and b2 must lie in [0, 1), not {optimizer.b1} and {optimizer.b2}"
        )
    if model.d_model % (2 * model.num_heads):
        raise ConfigError(
            f"config.model.num_heads={model.num_heads} must divide d_model={model.d_model} into even heads"
        )
    if model.seq_len < 8:
        raise ConfigError(f"config.model.seq_len must be at least 8, not {model.seq_len}")
    if config.data.vocab_size < 260:
        raise ConfigError(f"config.data.vocab_size must be at least 260, not {config.data.vocab_size}")
    if config.batch_size % config.micro_batch:
        raise ConfigError(
            f"config.micro_batch={config.micro_batch} must divide batch_size={config.batch_size}"
        )
    for name, share in {
        "model.dropout": model.dropout,
        "full_range_fraction": config.full_range_fraction,
        "label_smoothing": config.label_smoothing,
        "optimizer.final_rate": optimizer.final_rate,
        "optimizer.ema_decay": optimizer.ema_decay,
        "sampling.top_p": sampling.top_p,
    }.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"config.{name} must lie in [0, 1], not {share}")
    if model.dropout > 0.9:
        raise ConfigError(f"config.model.dropout must be at most 0.9, not {model.dropout}")
    if evaluation.strata < 16 or evaluation.replicates < 2:
        raise ConfigError(
            "config.evaluation needs strata >= 16 and replicates >= 2: the figure carries a standard error"
        )
    if not config.stages:
        raise ConfigError("config.stages is empty; give at least one stage")
    for i, stage in enumerate(config.stages):
        path = f"config.stages[{i}]"
        _one_of(f"{path}.name", stage.name, STAGE_NAMES)
        _one_of(f"{path}.init_from", stage.init_from, ("last", "best"))
        if stage.num_epochs < 1:
            raise ConfigError(f"{path}.num_epochs must be at least 1, not {stage.num_epochs}")
        lo, hi = stage.mask_rate
        if not 0 <= lo < hi <= 1:
            raise ConfigError(f"{path}.mask_rate must be 0 <= lo < hi <= 1, not {stage.mask_rate}")
        if stage.rate_scale <= 0:
            raise ConfigError(f"{path}.rate_scale must be above 0, not {stage.rate_scale}")
    return config


def fields(kind: Any = Config, prefix: str = "") -> dict[str, tuple[Any, str]]:
    """{dotted name: (type, meaning)} of every field a person can set; `stages[0].` stands for each stage."""
    hints = typing.get_type_hints(kind)
    found: dict[str, tuple[Any, str]] = {}
    for f in dataclasses.fields(kind):
        hint, name = hints[f.name], prefix + f.name
        if f.default is not dataclasses.MISSING:  # filled in by the program
            continue
        if f.name == "stages":
            found |= fields(StageConfig, "stages[0].")
        elif dataclasses.is_dataclass(hint):
            found |= fields(hint, name + ".")
        else:
            found[name] = hint, f.metadata["doc"]
    return found


def to_dict(config: Any) -> Any:
    """Plain dicts, lists and scalars for JSON; `resolve` reads it back."""
    return dataclasses.asdict(config)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values to {"model.num_layers": 12, "stages[0].name": ...}."""
    if isinstance(values, dict):
        pairs = ((f"{prefix}.{k}" if prefix else str(k), v) for k, v in values.items())
    elif isinstance(values, (list, tuple)):
        pairs = ((f"{prefix}[{i}]", v) for i, v in enumerate(values))
    else:
        return {prefix: values}
    return {name: leaf for path, value in pairs for name, leaf in flat(value, path).items()}


def difference(old: dict, new: dict) -> list[str]:
    """Lines "field: old -> new" for the fields of two nested dicts that differ."""
    a, b = flat(old), flat(new)
    return [
        f"{k}: {a.get(k, '(none)')} -> {b.get(k, '(none)')}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)
    ]
