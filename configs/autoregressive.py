"""The autoregressive twin: the same network, code, data and stages, causal, with next-token prediction.

    python launch.py --config configs/autoregressive.py:tiny

It learns from every token of every row, and so has a book by heart after a fraction of the epochs. Hence a
third of them in the last stage and two thirds in the others, dropout, and early stopping in the last stage,
whose best weights are delivered. The last stage's epochs, rates and decay were tuned at tiny on another book
(docs/results.md, "The twin, tuned"); base and small were not. Expect at tiny, on the built-in novel: a minute
on two cores, 2.018 and 2.002 bits per byte (validation, test; exact, one seed), where three_stage.py:tiny has
bounds of 2.073 and 2.055.
"""

from ml_collections import ConfigDict

from configs import three_stage


def get_config(preset: str = "base") -> ConfigDict:
    """three_stage.py with model.causal, dropout 0.2, fewer epochs and patience; tiny with higher rates."""
    config = three_stage.get_config(preset)
    config.model.update(causal=True, dropout=0.2)
    for stage, thirds in zip(config.stages, (2, 2, 1), strict=True):
        stage.num_epochs = -(-thirds * stage.num_epochs // 3)
    config.stages[-1].patience = 3
    config.evaluation.per_stage = 10
    if preset == "tiny":
        config.optimizer.update(learning_rate=0.016, embedding_rate=0.016, norm_rate=0.016)
    return config
