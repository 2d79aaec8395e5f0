"""The autoregressive twin: the same network, code, data and stages with a causal mask and next-token
prediction.

python launch.py --config configs/autoregressive.py:tiny --workdir runs/twin
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with model.causal."""
    config = three_stage.get_config(preset)
    config.model.causal = True
    return config
