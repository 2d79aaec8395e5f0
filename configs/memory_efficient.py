"""The base model on a small GPU: as many rows at a time as fit six gigabytes, activations computed again.

    python launch.py --config configs/memory_efficient.py --book my_book.txt

Expect the result of three_stage.py, because the batch stays 32 rows (accumulated micro-batches). Six of a
card's eight gigabytes are what JAX takes by itself. docs/results.md has what the programs hold, training with
evaluation and one canvas, by XLA's analysis on a CPU: an estimate, neither it nor the time has been measured
on a GPU.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with full rematerialisation and micro-batches that fit a budget."""
    config = three_stage.get_config(preset)
    config.micro_batch = 0  # auto
    config.memory_budget = 6.0
    config.model.update(layers="scan", remat="full")
    return config
