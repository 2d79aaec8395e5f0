"""The base model on a small GPU: two rows at a time, everything recomputed in the backward pass.

    python launch.py --config configs/memory_efficient.py --book my_book.txt

Expect the result of three_stage.py, because the batch stays 32 rows (16 accumulated micro-batches).
Estimated for the built-in novel in bf16: a train step needs 2.4 GB where three_stage.py needs 4.5, the
held-out evaluation brings the most to 5.1 GB, a canvas 0.6 GB. Neither that nor its time has been measured
on a GPU.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with full rematerialisation and micro-batches of 2."""
    config = three_stage.get_config(preset)
    config.micro_batch = 2
    config.model.update(layers="scan", remat="full")
    return config
