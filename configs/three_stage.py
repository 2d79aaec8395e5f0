"""The three-stage curriculum of one book: sentences, evidence-claim pairs, paragraphs.

    python launch.py --config configs/three_stage.py            # base: one GPU
    python launch.py --config configs/three_stage.py:small      # a small GPU, or a day of CPU
    python launch.py --config configs/three_stage.py:tiny       # minutes on two CPU cores
    python launch.py --config configs/three_stage.py:smoke      # half a minute: does everything work?

Expect, on the built-in novel (28k words; bits per byte of its validation and test chapters, byte 5-gram
2.107 and 2.113): tiny 2 minutes on two cores, 2.073 and 2.055; smoke half a minute (its programs compiled
before), 3.216 and 3.197. base and small have not been measured; `launch.py --recommend` estimates their time
and memory.
"""

from ml_collections import ConfigDict

from configs import SIZES
from mdlm_jax.ui.values import ConfigError, nearest


def get_config(preset: str = "base") -> ConfigDict:
    """`base` is the specification: 12 x 768 x 12, 512 tokens, batch 32, 75 / 150 / 300 epochs."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # a run to start from, with its tokenizer
    config.precision = "auto"  # bf16 on an accelerator, float32 on a CPU
    config.batch_size = 32
    config.micro_batch = 32  # "auto": the most that fit memory_budget
    config.memory_budget = 0.0
    config.mesh = (1, 1)  # of devices: data, fsdp (docs/scaling.md)
    config.mask_schedule = "mdlm"
    config.full_range_fraction = 0.3
    config.label_smoothing = 0.0
    config.soft_masking = 0.0
    config.log_every = 20
    config.checkpoint_every = 1000
    config.sample_tokens = 0
    config.model = ConfigDict(
        dict(num_layers=12, d_model=768, num_heads=12, seq_len=512, dropout=0.1)
        | dict(qk_norm=True, causal=False, layers="scan", remat="full")
    )
    config.data = ConfigDict(
        dict(vocab_size=25_000, min_frequency=5, split_seed=0, embedder="lsa", importance="surprisal")
    )
    config.optimizer = ConfigDict(
        dict(name="adamw", learning_rate=2e-4, embedding_rate=2e-4, norm_rate=2e-4, weight_decay=0.1)
        | dict(b1=0.9, b2=0.98, clip_norm=1.0, schedule="cosine", warmup_steps=1000, final_rate=0.01)
        | dict(ema_decay=0.999, clip="global", restarts=3)
    )
    config.stages = (
        _stage("foundational", epochs=75, mask_rate=(0.75, 0.90)),
        _stage("structural", epochs=150, mask_rate=(0.40, 0.60)),
        _stage("refinement", epochs=300, mask_rate=(0.05, 0.20)),
    )
    config.evaluation = ConfigDict(dict(strata=16, replicates=2, per_stage=10))
    config.sampling = ConfigDict(
        dict(sampler="interleaved", steps=16, temperature=0.7, top_k=0, top_p=0.9, block=0, cache=False)
        | dict(repetition=1.0, threshold=1.0, schedule="linear", remask=0.0, vocabulary_level=5)
    )
    if preset == "small":
        config.model.update(num_layers=6, d_model=384, num_heads=6, seq_len=256)
        config.data.vocab_size = 4096
    elif preset == "tiny":
        config.precision = "bf16_products"
        config.batch_size = config.micro_batch = 16
        config.model.update(num_layers=4, d_model=128, num_heads=2, seq_len=128, dropout=0.0)
        config.model.update(layers="unroll", remat="none")
        config.data.vocab_size = 4096
        config.optimizer.update(name="muon", learning_rate=8e-3, embedding_rate=8e-3, norm_rate=8e-3)
        config.optimizer.update(b1=0.95, warmup_steps=100, ema_decay=0.99, weight_decay=1.0)
        config.evaluation.per_stage = 3
        for stage, epochs in zip(config.stages, (10, 5, 30), strict=True):
            stage.num_epochs = epochs
    elif preset == "smoke":
        config.batch_size, config.micro_batch = 8, 4
        config.model.update(num_layers=2, d_model=64, num_heads=2, seq_len=64, dropout=0.1, remat="dots")
        config.data.vocab_size = 512
        config.optimizer.update(
            name="muon", learning_rate=1e-2, embedding_rate=1e-2, norm_rate=1e-2, ema_decay=0.9
        )
        config.log_every, config.checkpoint_every, config.evaluation.per_stage = 10, 100, 1
        for stage, epochs in zip(config.stages, (2, 1, 3), strict=True):
            stage.num_epochs = epochs
    elif preset != "base":
        there = ", ".join(SIZES)
        raise ConfigError(f"--config: no preset {preset} among {there}{nearest(preset, SIZES)}")
    return config


def _stage(name: str, epochs: int, mask_rate: tuple[float, float]) -> ConfigDict:
    return ConfigDict(
        dict(name=name, num_epochs=epochs, mask_rate=mask_rate, rate_scale=1.0, init_from="last")
        | dict(weighted=False, patience=0, anneal=False, self_training=0.0)
    )
