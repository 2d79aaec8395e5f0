"""The section "samples" of an evaluation: texts of the run by its own sampling settings.

A few fill a canvas with the last weights of each stage, to be read side by side; more and longer ones of the
weights that the run gives are what style, coherence and memory are measured on.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from mdlm_jax.evaluation.subject import Preset, Subject
from mdlm_jax.generation import Gap, document, finish, for_twin, unmask
from mdlm_jax.run_directory import Trained
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.request import SamplingConfig

ROWS = 16  # texts that share the network's calls


def write(
    run: Trained, number: int, length: int, settings: SamplingConfig, key: jax.Array, rows: int = ROWS
) -> list[str]:
    """`number` texts of `length` tokens, `rows` at a time; batch i draws from fold_in(key, i)."""
    texts: list[str] = []
    for i in range(-(-number // rows)):  # always as many rows: one program serves all batches
        text, _ = document(run, [Gap(length)], min(rows, number))
        finish(unmask(run, text, jax.random.fold_in(key, i), settings))
        texts += run.tokenizer.decode_batch(text.tokens.tolist(), skip_special_tokens=False)
    return texts[:number]


def last_of_stages(run: Subject) -> list[Path]:
    """The last checkpoint of each stage in order, of the last stage the one that the run gives."""
    last = {path.parent: path for path in sorted(run.checkpoints, key=lambda path: int(path.name))}
    last[run.delivered.parent] = run.delivered
    return [last[folder] for folder in sorted(last, key=lambda folder: int(folder.name.partition("_")[0]))]


def measure(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """{"settings", "seed", "checkpoint", "tokens", "texts", "stages": [{"stage", "checkpoint", "texts"}]}.

    Text by text the same for the same weights, seed and preset.
    """
    settings = for_twin(run.config.sampling) if run.config.model.causal else run.config.sampling
    canvas, key, rows = run.config.model.seq_len - 1, jax.random.key(run.seed), preset.rows or ROWS
    stages, tokens = last_of_stages(run), max(preset.text_tokens, canvas)
    progress.total += len(stages) * preset.stage_texts * canvas + preset.texts * tokens

    def written(path: Path, number: int, length: int, seed: jax.Array) -> dict[str, Any]:
        trained = run.trained(path)
        told = f"{number} text{'s' * (number > 1)} by {trained.checkpoint}"
        progress.update(progress.done, told)
        texts = write(trained, number, length, settings, seed, rows)
        progress.update(progress.done + number * length, told)
        return {"checkpoint": trained.checkpoint, "tokens": length, "texts": texts}

    by_stage = [
        {"stage": path.parent.name.partition("_")[2]}
        | written(path, preset.stage_texts, canvas, jax.random.fold_in(key, i + 1))
        for i, path in enumerate(stages)
    ]
    found = written(run.delivered, preset.texts, tokens, key)
    return {"settings": dataclasses.asdict(settings), "seed": run.seed, **found, "stages": by_stage}


def lines(found: dict[str, Any]) -> list[str]:
    """For a terminal: the beginning of the first text."""
    first = " ".join(found["texts"][0].split())
    return [f"{len(found['texts'])} texts of {found['tokens']} tokens; the first begins: {first[:160]} ..."]
