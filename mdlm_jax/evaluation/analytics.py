"""What a run tells of itself while it trains: figures of a stage, memory, short texts."""

import contextlib
import functools
import importlib.metadata
import itertools
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from mdlm_jax.configuration import Config
from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.generation import finish
from mdlm_jax.run_directory import Trained
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.train_state import forbidden_rows
from mdlm_jax.ui.request import Request

OF_THE_CLOCK = ("seconds", "tokens_per_second")  # which a run done again does not repeat


def commit() -> str | None:
    """The commit of the checkout that this file is part of, marked if its code has changed; or None."""
    here = Path(__file__).resolve()
    git = functools.partial(
        subprocess.run, cwd=here.parent, check=True, capture_output=True, text=True, timeout=10
    )
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git(["git", "ls-files", "--error-unmatch", here.name])  # else the checkout is somebody else's
        found = str(git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip())
        changed = git(["git", "diff", "--name-only", "HEAD", "--", ":/*.py"]).stdout
        return f"{found}+changes" if changed else found
    return None


def environment() -> dict[str, Any]:
    """Versions, commit and devices, for environment.json."""
    names = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{d.platform} {d.device_kind}" for d in jax.devices()],
        "commit": commit(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def peak_memory() -> int:
    """Bytes: the most that arrays of the first device have held, or on a CPU the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def stage_figures(lines: Sequence[dict[str, Any]], stage: int) -> dict[str, Any]:
    """Of one stage by its lines in metrics.jsonl, whichever process wrote them: steps, tokens, best and last
    held-out bits per byte, mean gradient norm of the steps that were taken (to six digits), seconds in steps,
    tokens per second.

    A process's first step in a stage is compiled and so not timed: its seconds are left out.
    """
    train = [(x["stage"], x) for x in lines if x["kind"] == "train" and x["stage"] <= stage]
    edges = [{"step": 0, "tokens": max((x["tokens"] for n, x in train if n < stage), default=0)}]
    edges += (own := [x for n, x in train if n == stage])
    if not own:
        return {}
    parts = [
        (x, x["step"] - last["step"], x["tokens"] - last["tokens"]) for last, x in itertools.pairwise(edges)
    ]
    timed = [(tokens, x["tokens_per_second"]) for x, _, tokens in parts if x.get("tokens_per_second")]
    seconds = sum(tokens / pace for tokens, pace in timed)
    skips = [0, *(x.get("skipped", 0) for x in own)]
    taken = [steps - (b - a) for (_, steps, _), (a, b) in zip(parts, itertools.pairwise(skips), strict=True)]
    # Where no step was taken the norm is that of what was skipped: not finite.
    norm = sum(n * x["gradient_norm"] for x, n in zip(own, taken, strict=True) if n) / max(1, sum(taken))
    figures = {
        "steps": own[-1]["step"],
        "tokens": own[-1]["tokens"] - edges[0]["tokens"],
        "gradient_norm": float(f"{norm:.6g}"),
        "seconds": seconds,
        "tokens_per_second": sum(tokens for tokens, _ in timed) / seconds if seconds else 0.0,
    }
    held_out = [x["bits_per_byte"] for x in lines if (x["kind"], x["stage"]) == ("validation", stage)]
    if held_out:
        figures |= {"best_bits_per_byte": min(held_out), "last_bits_per_byte": held_out[-1]}
    return figures


def short_text(config: Config, dataset: Dataset, params: Any) -> str:
    """config.sample_tokens tokens by the weights `params`, with the run's sampling settings and seed 0.

    Draws from keys of its own: training's are not touched.
    """
    tokenizer = load_tokenizer(dataset.path / "tokenizer.json")
    forbidden = forbidden_rows(config.model, dataset.info["vocab_size"], dataset.special_ids)
    run = Trained(config, dataset, tokenizer, params, forbidden, "", "")
    request = Request(length=config.sample_tokens)
    return str(finish(generate(run, request, config.sampling))["text"])
