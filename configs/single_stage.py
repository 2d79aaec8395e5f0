"""The control without a curriculum: the refinement stage alone, same presets as three_stage.py.

At equal tokens only if the refinement epochs are raised by what the other two stages would have cost: at
`tiny` on Frankenstein, --config.stages[0].num_epochs=33 in place of 30.

    python launch.py --config configs/single_stage.py:tiny

Expect at tiny, on the built-in novel: 2 minutes on two cores, 2.099 and 2.077 bits per byte (validation,
test), one seed, with 0.98M tokens where the three stages of three_stage.py:tiny have 1.11M and 2.073 and
2.055.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with its last stage only."""
    config = three_stage.get_config(preset)
    config.stages = config.stages[-1:]
    return config
