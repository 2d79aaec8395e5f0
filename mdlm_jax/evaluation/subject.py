"""What is evaluated: the checkpoints of a finished run; and how thoroughly: the presets."""

import dataclasses
import functools
import shlex
import sys
from pathlib import Path

from mdlm_jax import checkpoint
from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset
from mdlm_jax.run_directory import RunError, Trained, load_checkpoint, read_config
from mdlm_jax.ui.values import read_json


@dataclasses.dataclass(frozen=True)
class Preset:
    """How thoroughly a run is evaluated."""

    strata: int = 16  # of the mask rate, and replicates: the bound's standard error falls with their root
    replicates: int = 2
    everything: bool = True  # earlier stages and raw weights too, not the delivered averages alone
    left_to_right: bool = True  # exact, of the delivered averages
    confidence: bool = False  # exact too, under that order
    texts: int = 32  # that style, coherence and memory are measured on
    text_tokens: int = 384  # in each of them: coherence needs hundreds of words
    stage_texts: int = 2  # beside them, a canvas each, after every stage
    passages: int = 24  # of training and of held-out text, whose extraction is looked at
    rows: int = 0  # that meet the network at once; 0: as the run's memory allows


PRESETS = {
    "fast": Preset(everything=False, left_to_right=False, texts=8, text_tokens=0, stage_texts=1, passages=0),
    "default": Preset(),
    # Half the standard error.
    "comprehensive": Preset(strata=32, replicates=4, confidence=True, texts=128, stage_texts=4, passages=64),
    "memory_efficient": Preset(rows=4),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A finished run, what of its held-out text is looked at, and the seed of all that is random."""

    workdir: Path
    config: Config
    dataset: Dataset
    splits: tuple[str, ...]
    seed: int
    checkpoints: tuple[Path, ...]  # the last of each stage and, where it is another, its best
    delivered: Path  # the one of them that the run gives
    twin: Path | None = None  # an autoregressive run of the same data

    def trained(self, path: Path, weights: str = "ema") -> Trained:
        """The weights of a checkpoint: "ema" or "params". Raises CheckpointError."""
        return load_checkpoint(self.config, self.dataset, self.workdir, path, weights)


def find(
    workdir: Path,
    dataset: Dataset,
    splits: tuple[str, ...],
    seed: int,
    preset: Preset,
    twin: Path | None = None,
) -> Subject:
    """The run in `workdir`, to be evaluated by `preset`. Raises RunError where it is not finished, or has no
    intact checkpoint.
    """
    config, found, newest = read_config(workdir), dict[Path, None](), None
    if not (workdir / "report" / "report.json").exists():
        goes_on = f"python launch.py --workdir {shlex.quote(str(workdir))} goes on with it"
        raise RunError(f"{workdir} is not finished, or has lost its report; {goes_on}")
    for i, stage in enumerate(config.stages, 1):
        folder = workdir / "checkpoints" / f"{i}_{stage.name}"
        told = functools.partial(print, file=sys.stderr)
        if (newest := checkpoint.newest_intact(folder, told, aside=False)) is not None:
            notes = read_json(newest / "meta.json", RunError)
            best = folder / str(notes["best"]["step"])
            found |= dict.fromkeys([best, newest] if checkpoint.verify(best) is None else [newest])
    if newest is None:
        raise RunError(f"{workdir} has no intact checkpoint of its last stage")
    chosen = notes.get("chosen")  # by a last stage with patience
    delivered = newest if chosen is None else newest.with_name(str(chosen))
    sizes = dataclasses.replace(config.evaluation, strata=preset.strata, replicates=preset.replicates)
    config = dataclasses.replace(config, evaluation=sizes)
    if preset.rows:
        config = dataclasses.replace(config, memory_budget=1.0, micro_batch=preset.rows)
    return Subject(workdir, config, dataset, splits, seed, tuple(found), delivered, twin)
