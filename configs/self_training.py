"""Self-training: a quarter of the last stage's rows are passages that the model of stage II wrote in part.

    python launch.py --config configs/self_training.py:tiny

At the transition into refinement the averaged weights rank the training sentences by their loss and write
half of each of the hardest anew; what is likely enough and no copy takes the place of real rows, so that the
steps stay as many. Expect the time of three_stage.py and a tenth more; what it does to the figures at tiny
is in docs/results.md.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with a quarter of pseudo-examples in its last stage."""
    config = three_stage.get_config(preset)
    config.stages[-1].self_training = 0.25
    return config
