"""The sections "twin", "human" and "cost" of an evaluation: what stands beside its own measures."""

from pathlib import Path
from typing import Any

from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset, open_dataset
from mdlm_jax.evaluation.analytics import stage_figures
from mdlm_jax.evaluation.critical import Spent, against_critical
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.evaluation.readers import human_figures
from mdlm_jax.evaluation.subject import Preset, Subject
from mdlm_jax.run_directory import RunError, read_config
from mdlm_jax.ui.metrics import read_lines
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError, difference, read_json

SAME = ("book", "split", "tokenizer", "stages")  # of two dataset.json, for figures that can be compared


class NothingBeside(UserError):
    """A section that this run cannot have; one line."""


def check_twin(twin: Path, info: dict[str, Any]) -> None:
    """Refuses (RunError) what is no finished autoregressive run on the data `info` (of dataset.json)."""
    if not read_config(twin).model.causal:
        raise RunError(f"--twin: {twin} is no autoregressive run; configs/autoregressive.py trains one")
    read_json(twin / "report" / "report.json", RunError, f"--twin: {twin} is not finished")
    theirs = open_dataset(twin).info
    if changed := difference(*({name: x.get(name) for name in SAME} for x in (theirs, info))):
        raise RunError(f"--twin: {twin} was trained on other data ({changed[0]})")


def twin(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """The figures of the autoregressive twin: those of its report.json and of its plan."""
    if run.twin is None:
        raise NothingBeside("no twin was named; --twin RUN takes an autoregressive run of the same data")
    report, config = read_json(run.twin / "report" / "report.json", RunError), read_config(run.twin)
    names = ("validation", "test", "training_tokens", "training_flops", "seed")
    found = {name: report.get(name) for name in names}
    epochs = [{"name": stage.name, "epochs": stage.num_epochs} for stage in config.stages]
    return found | {
        "name": run.twin.resolve().name,
        "parameters": count_parameters(config.model)["true"],
        "dropout": config.model.dropout,
        "stages": epochs,
    }


def twin_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    return [
        f"Autoregressive twin {found['name']}: {found['test']['bits_per_byte']:.3f} bits per byte on test"
    ]


def human_answers(workdir: Path) -> dict[str, Any]:
    """What readers answered in the blind test of a run. Raises NothingBeside where nobody did."""
    if not (figures := human_figures(workdir)):
        raise NothingBeside("nobody was asked yet; python -m mdlm_jax.evaluation.blind asks")
    return dict(figures)


def human(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """`human_answers` of the run."""
    return human_answers(run.workdir)


def human_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    return [f"Blind test: {found['all']['right']} of {found['all']['answers']} answers found the book"]


def cost_figures(workdir: Path, config: Config, dataset: Dataset) -> dict[str, Any]:
    """What training took, by metrics.jsonl: tokens, FLOPs and seconds in all and by stage, and the critical
    compute of the book. Raises NothingBeside where no step was logged.
    """
    path = workdir / "metrics.jsonl"
    lines = list(read_lines(path)) if path.exists() else []
    stages, spent, before = [], [], 0.0
    for index, stage in enumerate(config.stages):
        own = [x for x in lines if (x["kind"], x["stage"]) == ("train", index)]
        if own:
            figures = stage_figures(lines, index)
            epochs = figures["tokens"] / dataset.counts(stage.name, "train")["tokens"]
            spent.append(Spent(stage.name, figures["steps"], epochs, own[-1]["flops"] - before))
            before = own[-1]["flops"]
            seconds = {"seconds": figures["seconds"], "tokens": figures["tokens"]}
            stages.append(spent[-1]._asdict() | seconds)
    if not stages:
        raise NothingBeside("no step of its training is on record")
    return {
        "tokens": sum(stage["tokens"] for stage in stages),
        "flops": before,
        "seconds": sum(stage["seconds"] for stage in stages),
        "stages": stages,
        "critical": against_critical(dataset.counts("refinement", "train")["tokens"], spent),
    }


def cost(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """`cost_figures` of the run."""
    return cost_figures(run.workdir, run.config, run.dataset)


def cost_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    told = "Training took {tokens:,.0f} tokens, {flops:.2e} FLOPs and {seconds:,.0f} seconds in its steps"
    return [told.format(**found)]
