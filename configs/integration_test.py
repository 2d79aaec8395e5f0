"""A minute through every part the default plan leaves out: do all the switches work together?

    python launch.py --config configs/integration_test.py

The stages' own mask rates, important tokens first, best weights carried on, stages that end early, warm
restarts, adaptive clipping, float16, accumulated micro-batches, evaluation in parts, smoothing,
pseudo-examples. Expect a minute or two on two cores, exit code 0, and, on the built-in novel, 3.255 and 3.234
bits per byte (validation, test; one seed): it learns next to nothing.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "smoke") -> ConfigDict:
    """three_stage.py with the other value of every switch."""
    config = three_stage.get_config(preset)
    config.mask_schedule = "curriculum"
    config.label_smoothing = 0.1
    config.soft_masking = 2.0
    config.precision = "float16"
    config.data.importance = "chen2023"
    config.sample_tokens = 16
    config.micro_batch = config.batch_size // 4
    config.memory_budget = 4.0
    config.model.update(layers="scan", remat="full", dropout=0.1)
    config.optimizer.update(schedule="restarts", restarts=2, clip="adaptive")
    config.evaluation.per_stage = 2
    config.sampling.update(sampler="margin", steps=12, threshold=0.9, schedule="cosine", remask=0.2)
    config.sampling.update(repetition=1.1, vocabulary_level=4, block=24, cache=True)
    for stage, epochs in zip(config.stages, (2, 1, 3), strict=True):
        stage.update(num_epochs=epochs, init_from="best", patience=1, anneal=True)
    config.stages[-1].self_training = 0.2
    return config
