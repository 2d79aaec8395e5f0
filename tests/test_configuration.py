"""Configurations: every shipped preset is valid; a mistake is refused in one line that names the field."""

import dataclasses
import importlib
import json
from dataclasses import asdict

import pytest
from conftest import REPO
from ml_collections import ConfigDict

from configs import SIZES, three_stage
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.ui.values import ConfigError, difference, flat

PLANS = sorted(path.stem for path in (REPO / "configs").glob("[!_]*.py"))


@pytest.mark.parametrize("preset", SIZES)
@pytest.mark.parametrize("plan", PLANS)
def test_every_preset_resolves_and_survives_json(plan, preset):
    values = importlib.import_module(f"configs.{plan}").get_config(preset)
    config = resolve(values)
    assert resolve(json.loads(json.dumps(asdict(config)))) == config
    assert isinstance(config.stages, tuple) and isinstance(config.stages[0].mask_rate, tuple)
    assert config.model.causal == (plan == "autoregressive")
    assert len(config.stages) == (1 if plan == "single_stage" else 3)
    doc = importlib.import_module(f"configs.{plan}").__doc__
    assert f"python launch.py --config configs/{plan}.py" in doc and "Expect" in doc


def test_base_is_the_specification():
    config = resolve(three_stage.get_config())
    model = config.model
    assert (model.num_layers, model.d_model, model.num_heads, model.seq_len) == (12, 768, 12, 512)
    assert config.batch_size == 32 and config.optimizer.warmup_steps == 1000
    assert [(s.name, s.num_epochs, s.mask_rate) for s in config.stages] == [
        ("foundational", 75, (0.75, 0.90)),
        ("structural", 150, (0.40, 0.60)),
        ("refinement", 300, (0.05, 0.20)),
    ]


def test_unknown_preset_names_the_presets():
    message = r"no preset tinny among base, small, tiny, smoke; did you mean tiny\?$"
    with pytest.raises(ConfigError, match=message):
        three_stage.get_config("tinny")


def test_every_field_has_its_meaning():
    for group in (Config, *(f.type for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type))):
        for field in dataclasses.fields(group):
            filled_in = field.default is not dataclasses.MISSING
            assert (
                filled_in
                or dataclasses.is_dataclass(field.type)
                or field.metadata.get("doc")
                or (field.name == "stages")
            ), field.name


def changed(path: str, value) -> ConfigDict:
    """The smoke configuration with one field replaced; "stages[1].name" style paths."""
    config = three_stage.get_config("smoke")
    group = config
    *parents, last = path.replace("[", ".[").split(".")
    for name in parents:
        group = group[int(name[1:-1])] if name.startswith("[") else group[name]
    with group.unlocked(), group.ignore_type():
        group[last] = value
    return config


BAD = [
    ("seed", "zero", "config.seed must be a whole number below 2**32, such as 1000, 1e3 or 10k, not 'zero'"),
    ("seed", True, "not True"),
    ("seed", 1.5, "not 1.5"),
    ("precision", "fp8", "config.precision must be one of"),
    ("precision", "float23", "did you mean float32?"),
    ("batch_size", 0, "config.batch_size must be at least 1, not 0"),
    ("batch_size", 10, "config.micro_batch=4 must divide batch_size=10"),
    ("micro_batch", -4, "config.micro_batch must be at least 0, not -4"),
    ("micro_batch", "automatic", "config.micro_batch must be a whole number"),
    ("memory_budget", -1, "config.memory_budget must be at least 0"),
    ("stages[2].self_training", 1.0, "config.stages[2].self_training must be at most 0.9"),
    ("stages[1].self_training", 0.2, "config.stages[1].self_training=0.2 is for a refinement stage with one"),
    ("mask_schedule", "linear", "config.mask_schedule must be one of mdlm, curriculum"),
    ("full_range_fraction", 1.5, "config.full_range_fraction must be at most 1, not 1.5"),
    ("label_smoothing", 1, "config.label_smoothing must be at most 0.9, not 1.0"),
    ("label_smoothing", -0.1, "config.label_smoothing must be at least 0, not -0.1"),
    ("log_every", 0, "config.log_every must be at least 1"),
    ("checkpoint_every", -1, "config.checkpoint_every must be at least 1"),
    ("model.num_layers", 0, "config.model.num_layers must be at least 1"),
    ("model.d_model", 64.5, "config.model.d_model must be a whole number"),
    ("model.num_heads", 3, "config.model.num_heads=3 must divide d_model=64"),
    ("model.num_heads", 64, "config.model.num_heads=64 must divide d_model=64 into even"),
    ("model.seq_len", 4, "config.model.seq_len must be at least 8"),
    ("model.dropout", 1.0, "config.model.dropout must be at most 0.9"),
    ("model.dropout", float("nan"), "config.model.dropout must be a number, such as"),
    ("model.qk_norm", 1, "config.model.qk_norm must be true or false, not 1"),
    ("model.causal", "never", "config.model.causal must be true or false"),
    ("model.layers", "loop", "config.model.layers must be one of scan, unroll"),
    ("model.remat", "some", "config.model.remat must be one of none, dots, full"),
    ("data.vocab_size", 100, "config.data.vocab_size must be at least 260"),
    ("data.min_frequency", 0, "config.data.min_frequency must be at least 1"),
    ("optimizer.name", "adam", "adamw, muon, not 'adam'; did you mean adamw?"),
    ("optimizer.learning_rate", 0.0, "config.optimizer.learning_rate must be above 0"),
    ("optimizer.learning_rate", float("nan"), "config.optimizer.learning_rate must be a number"),
    ("optimizer.clip_norm", "one", "config.optimizer.clip_norm must be a number, such as"),
    ("optimizer.schedule", "step", "config.optimizer.schedule must be one of cosine, restarts, wsd"),
    ("optimizer.ema_decay", 2, "config.optimizer.ema_decay must be at most 1"),
    ("evaluation.strata", 8, "config.evaluation.strata must be at least 16"),
    ("evaluation.replicates", 1, "config.evaluation.replicates must be at least 2"),
    ("evaluation.per_stage", 0, "config.evaluation.per_stage must be at least 1"),
    ("sampling.sampler", "beam", "config.sampling.sampler must be one of ancestral, dilated"),
    ("sampling.threshold", 0.9, "config.sampling.threshold=0.9 is nothing that interleaved can use"),
    ("sampling.schedule", "cosine", "config.sampling.schedule=cosine is nothing that interleaved"),
    ("sampling.remask", 0.1, "config.sampling.remask=0.1 is nothing that"),
    ("sampling.temperature", 0, "config.sampling.temperature must be above 0, not 0"),
    ("sampling.temperature", 1e-60, "config.sampling.temperature must be at least 1e-06"),
    ("sampling.repetition", 0.9, "config.sampling.repetition must be at least 1"),
    ("sampling.vocabulary_level", 6, "config.sampling.vocabulary_level must be at most 5"),
    ("sampling.temperature", 0.0, "config.sampling.temperature must be above 0"),
    ("sampling.top_p", 1.01, "config.sampling.top_p must be at most 1"),
    ("stages", (), "config.stages is empty"),
    ("stages", "refinement", "config has no field stages"),
    ("stages", (1,), "config has no field stages[0]"),
    ("stages[0].name", "foundation", "config.stages[0].name must be one of"),
    ("stages[2].num_epochs", 0, "config.stages[2].num_epochs must be at least 1"),
    ("stages[1].mask_rate", (0.6, 0.4), "config.stages[1].mask_rate must be lo < hi"),
    ("stages[1].mask_rate", (0.1,), "config.stages[1].mask_rate must have 2 values, not 1"),
    ("stages[1].mask_rate", ("a", "b"), "config.stages[1].mask_rate must be a number"),
    ("stages[1].rate_scale", 0.0, "config.stages[1].rate_scale must be above 0"),
    ("stages[1].init_from", "first", "config.stages[1].init_from must be one of last, best"),
    ("modle", 3, "config has no field modle"),
    ("model.d_modle", 3, "config has no field model.d_modle; did you mean model.d_model?"),
    ("stages[1].num_epoch", 3, "no field stages[1].num_epoch; did you mean stages[1].num_epochs?"),
    ("qqq", 3, "config has no field qqq"),
    ("model", 3, "name a field of this group, such as model.num_layers"),
    ("seed", -1, "seed"),
    ("optimizer.learning_rate", float("inf"), "learning_rate"),
    ("optimizer.embedding_rate", -1.0, "embedding_rate"),
    ("optimizer.norm_rate", -1.0, "norm_rate"),
    ("optimizer.weight_decay", -0.1, "weight_decay"),
    ("optimizer.weight_decay", float("nan"), "weight_decay"),
    ("optimizer.b1", 1.5, "b1"),
    ("optimizer.b2", -0.1, "b2"),
    ("optimizer.warmup_steps", -5, "warmup_steps"),
    ("data.split_seed", -1, "split_seed"),
    ("sampling.steps", -1, "steps"),
    ("sampling.top_k", -1, "top_k"),
    ("sampling.top_p", 0.0, "config.sampling.top_p must be above 0"),
    ("stages[0].rate_scale", float("nan"), "rate_scale"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "reason"), BAD)
def test_bad_values_are_refused_in_one_line(path, value, reason):
    with pytest.raises(ConfigError) as caught:
        resolve(changed(path, value))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_missing_field_is_named():
    values = asdict(resolve(three_stage.get_config("smoke")))
    del values["optimizer"]["b2"]
    with pytest.raises(ConfigError, match=r"^config\.optimizer\.b2 is missing$"):
        resolve(values)


def test_whole_numbers_serve_as_floats():
    config = resolve(changed("optimizer.clip_norm", 2))
    assert config.optimizer.clip_norm == 2.0 and isinstance(config.optimizer.clip_norm, float)


def test_difference_names_every_field_that_differs():
    old = asdict(resolve(three_stage.get_config("smoke")))
    assert difference(old, asdict(resolve(three_stage.get_config("smoke")))) == []
    values = changed("stages[1].num_epochs", 7)
    values.seed = 3
    assert difference(old, asdict(resolve(values))) == [
        "seed: 0 -> 3",
        "stages[1].num_epochs: 1 -> 7",
    ]
    values.stages = values.stages[:2]
    lines = difference(old, asdict(resolve(values)))
    assert "stages[2].name: refinement -> (none)" in lines
    assert difference({}, {"a": 1}) == ["a: (none) -> 1"]


def test_flat_names_leaves():
    assert flat({"a": {"b": (1, {"c": 2})}, "d": 3}) == {"a.b[0]": 1, "a.b[1].c": 2, "d": 3}


def test_auto_stands_for_a_micro_batch_of_zero():
    for text in ("auto", " AUTO ", "0", 0):
        assert resolve(changed("micro_batch", text)).micro_batch == 0
    assert resolve(changed("stages[2].self_training", 0.25)).stages[2].self_training == 0.25
    causal = changed("stages[2].self_training", 0.25)
    causal.model.causal = True
    with pytest.raises(ConfigError, match="that is not causal"):
        resolve(causal)


@pytest.mark.parametrize(
    ("given", "name"), [("fp16", "float16"), ("half", "float16"), ("fp32", "float32"), ("BFloat16", "bf16")]
)
def test_precisions_have_their_other_names(given, name):
    assert resolve(changed("precision", given)).precision == name
