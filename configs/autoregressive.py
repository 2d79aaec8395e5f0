"""The autoregressive twin: the same network, code, data and stages, causal, with next-token prediction.

    python launch.py --config configs/autoregressive.py:tiny

It learns from every token of every row, and so has a book by heart after a fraction of the epochs. Hence two
thirds of the epochs at most, dropout, and early stopping in the last stage, whose best weights are delivered;
tuned at tiny on another book (docs/results.md, "The twin, tuned"). Expect at tiny, on the built-in novel: a
minute on two cores, 2.025 and 1.997 bits per byte (validation, test; exact, one seed), where
three_stage.py:tiny has bounds of 2.124 and 2.093.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with model.causal, dropout 0.2, two thirds of the epochs, patience at the end."""
    config = three_stage.get_config(preset)
    config.model.update(causal=True, dropout=0.2)
    for stage in config.stages:
        stage.num_epochs = -(-2 * stage.num_epochs // 3)
    config.stages[-1].patience = 3
    config.evaluation.per_stage = 10
    return config
