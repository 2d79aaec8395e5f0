"""Everything that the report of a run shows, as one JSON object, from the run's files alone.

training's report.json and evaluation.json stay what they are, and are parts of it; what is worked out for the
page (the verdict, the thresholds, the curves, thinned) is beside them. report.schema.json says what is where.
"""

import contextlib
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset, open_dataset
from mdlm_jax.evaluation.beside_sections import cost_figures
from mdlm_jax.evaluation.checks import checks
from mdlm_jax.evaluation.estimate import count_parameters
from mdlm_jax.evaluation.likelihood_section import NORMAL_95
from mdlm_jax.evaluation.readers import human_figures
from mdlm_jax.evaluation.schema import SCHEMA, mistakes
from mdlm_jax.evaluation.voice import OTHERS
from mdlm_jax.run_directory import RunError, read_config
from mdlm_jax.ui.metrics import read_lines
from mdlm_jax.ui.values import UserError, read_json

SCHEMA_VERSION = 1
MEASURED = SCHEMA["properties"]["evaluation"] | {"required": ["checkpoints", "delivered", "preset", "seed"]}
MEND = "; make it again, or remove it"
POINTS = 150  # of a stage's training curve


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _intact(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    """The object in a file without the sections that are absent; {} without the file, and under "absent" why
    there is no section. Raises RunError, a line that names the file and the field, for what breaks `schema`.
    """
    if not path.exists():
        return {}
    try:
        found = read_json(path, RunError)
    except RunError as error:
        raise RunError(f"{error}{MEND}") from None
    absent = {k: v["absent"] for k, v in found.items() if isinstance(v, dict) and "absent" in v}
    found = {k: v for k, v in found.items() if k not in absent}
    if faults := mistakes(found, schema) + mistakes(absent, SCHEMA["properties"]["absent"], "$.absent"):
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise RunError(f"{path} is damaged, or of another version: {faults[0]}{more}{MEND}")
    return found | ({"absent": absent} if absent else {})


def curves(lines: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """{"training": [points of each stage], "held_out": [points], "borders": [step]}, steps over all stages.

    A training point is the mean loss since the last, in nats per masked token at the stage's own mask rates;
    a held-out one the figure of the validation chapters, with the tokens and FLOPs spent until then.
    """
    training, spent = [], {x["total_step"]: x for x in lines if x["kind"] == "train"}
    for index in range(len(config.stages)):
        own = [x for x in lines if (x["kind"], x["stage"]) == ("train", index)]
        every = -(-len(own) // POINTS) or 1
        kept = [x for i, x in enumerate(own[::-1]) if i % every == 0][::-1]
        points = [[x["total_step"], x["loss"]] for x in kept if math.isfinite(x["loss"])]
        training.append(points)
    held_out = [
        {name: x.get(name) for name in ("stage", "total_step", "nats_per_token", "bits_per_byte")}
        | {"bits_per_byte_se": x.get("bits_per_byte_se") or 0.0}
        | {name: spent.get(x["total_step"], {}).get(name, 0.0) for name in ("tokens", "flops")}
        for x in lines
        if x["kind"] == "validation" and math.isfinite(x["bits_per_byte"])
    ]
    ends = {x["stage"]: x["total_step"] for x in lines if x["kind"] == "train"}
    transitions = [
        {"stage": x["stage"], "total_step": x["total_step"]}
        | {name: value for name, value in x.items() if name.startswith("bits_per_byte_")}
        for x in lines
        if x["kind"] == "transition"
    ]
    borders = [ends[stage] for stage in sorted(ends)][:-1]
    return {"training": training, "held_out": held_out, "borders": borders, "transitions": transitions}


def verdict(
    report: dict[str, Any], evaluation: dict[str, Any], delivered: dict[tuple[str, str], Any]
) -> dict[str, Any]:
    """The figures of the first screen, of the test chapters; empty for a run without them.

    `delivered` has the figures of `likelihood` for the weights that the run gives, by (split, kind). A byte
    that costs b bits is as hard to guess as one of 2^b equally likely ones ("choices"). "answers" is
    how many it takes until half of the passages of `extraction` are written word for word.
    """
    found = report.get("test")
    if not found:
        return {}
    exact = delivered.get(("test", "left_to_right"))
    found = delivered.get(("test", found["kind"]), found)
    value, error = found["bits_per_byte"], found.get("bits_per_byte_se") or 0.0
    simple = evaluation.get("likelihood", {}).get("simple_models", {}).get("test", {})
    ngram = simple.get("ngram_5", (report.get("ngram_5_bits_per_byte") or {}).get("test"))
    twin = (evaluation.get("twin", {}).get("test") or {}).get("bits_per_byte")
    drawn = evaluation.get("memory", {}).get("extraction") or {}
    queries = {name: drawn[name]["log10_queries"] for name in ("training", "held_out") if name in drawn}
    others = {"ngram_5": ngram, "bz2": simple.get("bz2"), "xz": simple.get("xz"), "twin": twin}
    there = [name for name in ("ngram_5", "bz2", "xz") if others[name]]
    best = min(there, key=others.__getitem__, default=None)
    return {
        "kind": found["kind"],
        "bits_per_byte": value,
        "standard_error": error,
        "interval": [value - NORMAL_95 * error, value + NORMAL_95 * error],
        "exact_left_to_right": exact["bits_per_byte"] if exact else None,
        **others,
        "choices": {"model": 2**value, "ngram_5": ngram and 2**ngram, "twin": twin and 2**twin},
        "answers": {name: 10 ** min(float(np.median(x)), 300.0) for name, x in queries.items() if x},
        "best_simple": best,
        "better_than_simple": 1 - value / others[best] if best else None,
        "better_than_twin": twin and 1 - value / twin,
    }


def _title(name: str) -> str:
    """Of a book without one: that of a book that is here, else by its file's name."""
    for title, path in OTHERS.items():
        if path.name == name and path.parent.name == "books":  # nobody else's alice.txt
            return title
    words = Path(name).stem.replace("_", " ").strip() or name
    return words[:1].upper() + words[1:]


def about(workdir: Path, config: Config, dataset: Dataset) -> dict[str, Any]:
    """What the run is: its book, network, plan and command."""
    info, split = dataset.info, dataset.info["split"]
    book, words = info["book"], list[str]()
    with contextlib.suppress(OSError, ValueError):  # it is told where it is whole
        words = shlex.split((workdir / "command.txt").read_text(encoding="utf-8"))
    documents = book.get("documents") or [{}]
    network = config.model
    return {
        "name": workdir.resolve().name,
        "path": str(workdir),
        "state": (_json(workdir / "STATUS.json") or {}).get("state", "unknown"),
        "causal": network.causal,
        "book": (documents[0].get("title") if len(documents) == 1 else None)
        or book.get("title")
        or _title(book["name"]),
        "books": len(documents),
        "bytes": book["bytes"],
        "sha256": book["sha256"],
        "language": (info.get("language") or {}).get("code"),
        "divisions": split["kind"],
        "titles": split.get("titles") or [],
        "chapters": {name: len(found) for name, found in split["chapters"].items()},
        "held_out": sum(len(found) for name, found in split["chapters"].items() if name != "train"),
        "all_chapters": sum(map(len, split["chapters"].values())),
        "split": split["chapters"],
        "split_seed": split["seed"],
        "seed": config.seed,
        "precision": config.precision,
        "parameters": count_parameters(network)["true"],
        "layers": network.num_layers,
        "width": network.d_model,
        "heads": network.num_heads,
        "canvas": network.seq_len,
        "vocabulary": info["vocab_size"],
        "stages": [
            {
                "name": stage.name,
                "epochs": stage.num_epochs,
                "tokens": dataset.counts(stage.name, "train")["tokens"],
                "examples": dataset.counts(stage.name, "train")["examples"],
            }
            for stage in config.stages
        ],
        "command": shlex.join(["python", *words[1:]]) if words else None,
        "environment": _json(workdir / "environment.json"),
    }


def collect(workdir: Path, damaged: list[str] | None = None) -> dict[str, Any]:
    """All of it. A run that is not finished, or was not evaluated, has less in it.

    Raises RunError or DataError for a directory without a plan or data, RunError or HumanError for a damaged
    file, a line that names it; with a list `damaged` the line goes there, and the file counts as absent.
    """
    config, dataset = read_config(workdir), open_dataset(workdir)
    path = workdir / "metrics.jsonl"
    lines = list(read_lines(path)) if path.exists() else []

    def read(get: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
        try:
            return get(*given)
        except UserError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
            return {}

    report = read(_intact, workdir / "report" / "report.json", SCHEMA["properties"]["report"])
    evaluation = read(_intact, workdir / "report" / "evaluation.json", MEASURED)
    absent = evaluation.pop("absent", {})
    answers = read(lambda: human_figures(workdir) or {})  # readers go on answering after an evaluation
    evaluation |= {"human": answers} if answers else {}
    absent = {k: v for k, v in absent.items() if k not in evaluation}
    cost = evaluation.get("cost")
    if not cost and lines:
        with contextlib.suppress(ValueError):
            cost = cost_figures(workdir, config, dataset)
    figures = evaluation.get("likelihood", {}).get("figures", [])
    own = [x for x in figures if (x["checkpoint"], x["weights"]) == (evaluation.get("delivered"), "ema")]
    delivered = {(x["split"], x["kind"]): x for x in own}
    drawn, found = curves(lines, config), verdict(report, evaluation, delivered)
    final, given = len(config.stages) - 1, str(report.get("checkpoint")).rpartition("/")[2]  # its step
    own = [x for x in lines if (x["kind"], x["stage"], str(x["step"])) == ("validation", final, given)]
    end = own[-1]["total_step"] if own else math.inf  # with patience training goes on after it
    last = [x for x in drawn["held_out"] if x["stage"] == final and x["total_step"] <= end]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": about(workdir, config, dataset),
        "verdict": found,
        "checks": checks(found, last, evaluation),
        "curves": drawn,
        "written": [
            {name: x[name] for name in ("stage", "total_step", "text")}
            for x in lines
            if x["kind"] == "sample"
        ],
        "cost": cost,
        "report": report,
        "evaluation": evaluation,
        "absent": absent,
    }
