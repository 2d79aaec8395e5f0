"""The base model on a small GPU: two rows at a time, everything recomputed in the backward pass.

    python launch.py --config configs/memory_efficient.py --book my_book.txt

The batch stays 32 rows (16 accumulated micro-batches), so the result is that of three_stage.py.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with full rematerialisation and micro-batches of 2."""
    config = three_stage.get_config(preset)
    config.micro_batch = 2
    config.model.update(layers="scan", remat="full")
    return config
