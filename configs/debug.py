"""One epoch of every stage, a log line and a checkpoint at every turn: does this book get through?

python launch.py --config configs/debug.py --book my_book.txt
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "tiny") -> ConfigDict:
    """three_stage.py with one epoch a stage."""
    config = three_stage.get_config(preset)
    config.log_every = config.checkpoint_every = 1
    config.evaluation.per_stage = 1
    for stage in config.stages:
        stage.num_epochs = 1
    return config
