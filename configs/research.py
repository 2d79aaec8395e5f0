"""The older, comprehensive plan: 50 / 100 / 150 epochs under each stage's own mask rates, tight error bars.

    python launch.py --config configs/research.py --book my_book.txt

Expect half the time of three_stage.py (`launch.py --recommend` estimates that) and a standard error about a
third as large. Its result has not been measured yet at any size.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with the older epochs, falling mask rates and four times the strata."""
    config = three_stage.get_config(preset)
    config.mask_schedule = "curriculum"
    config.evaluation.update(strata=64, replicates=4)
    for stage, epochs in zip(config.stages, (50, 100, 150), strict=True):
        stage.num_epochs = epochs
    return config
