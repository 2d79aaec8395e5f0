"""Runs for the tests of the report: what is trained once, with an evaluation of texts that are made up."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from conftest import built_in_chapters

from mdlm_jax.evaluation import coherence, copying, voice
from mdlm_jax.evaluation.text_sections import excerpts

HOSTILE = (
    "<script>window.harm = 1</script><img src=x onerror=window.harm=1></blockquote></svg>"
    "<style>*{display:none}</style> \u202e reversed \u2066 nul\x00 esc\x1b[31m c1\x9b \ud800 😀 👩\u200d👧 "
    "שלום عليكم \u2028 &lt;b&gt; ]]> <!-- -->"
)


def chapters() -> dict[int, str]:
    """The texts of three chapters by number."""
    parts = re.split(r"(?m)^Chapter \d+\s*$", built_in_chapters(3))[1:]
    return {i: part.strip() for i, part in enumerate(parts)}


def texts() -> list[str]:
    """Six samples of 60 words or more: one is copied from chapter 0, two are hostile."""
    every = chapters()
    words = every[1].split()
    plain = [" ".join(reversed(words[i * 100 : i * 100 + 100])) for i in range(4)]
    copied = HOSTILE + " " + " ".join(every[0].split()[200:300])
    return [copied, *plain, HOSTILE + " " + " ".join(reversed(words[500:600]))]


def extracted(log10: list[float]) -> dict[str, Any]:
    """`copying.extraction` of passages of these probabilities."""
    return copying.extraction([[x * 2.302585092994046] for x in log10])


def evaluation(delivered: str) -> dict[str, Any]:
    """What evaluation.json might hold, every section of it; the figures of texts are true."""
    every, samples = chapters(), texts()
    train, held_out = {0: every[0], 1: every[1]}, {2: every[2]}
    lists = [*train.values()], [*held_out.values()]
    memory = copying.memory_figures(samples, train, held_out)
    memory["passages"] = excerpts(memory, train)
    memory["extraction"] = {"training": extracted([-1, -3]), "held_out": extracted([-9, -40]), "tokens": 31}
    stages = [(1, "foundational"), (2, "structural"), (3, "refinement")]
    figure = {"bits_per_byte": 1.75, "bits_per_byte_se": 0.0, "kind": "exact", "nats_per_token": 4.25}
    figure |= {"token_perplexity": 70.1, "word_perplexity": 1111.0}
    answers = {"answers": 20, "right": 15, "skipped": 1, "share": 0.75, "low": 0.509, "high": 0.913}
    return {
        "schema_version": 1,
        "preset": {"name": "default"},
        "seed": 0,
        "precision": "float32",
        "delivered": delivered,
        "checkpoints": {delivered: "0123456789abcdef"},
        "environment": {"python": "3.11", "platform": "x", "devices": ["cpu"], "versions": {"jax": "0.10.2"}},
        "samples": {
            "settings": {"sampler": "interleaved", "steps": 16, "temperature": 0.7, "top_p": 0.9},
            "seed": 0,
            "checkpoint": delivered,
            "tokens": 100,
            "texts": samples,
            "stages": [
                {"stage": name, "checkpoint": f"{i}_{name}/8", "tokens": 63, "texts": [f"{HOSTILE} {name}"]}
                for i, name in stages
            ],
        },
        "style": voice.style_figures(samples, *lists),
        "coherence": coherence.coherence_figures(samples, *lists),
        "memory": memory,
        "twin": {
            "name": "</title><script>window.harm = 2</script>",
            "validation": figure,
            "test": figure,
            "training_tokens": 1000,
            "training_flops": 2e9,
            "seed": 1,
            "parameters": 1234,
            "dropout": 0.1,
            "stages": [{"name": "refinement", "epochs": 3.0}],
        },
        "human": {
            "readers": [{"who": HOSTILE} | answers],
            "all": answers,
            "meaning": "Readers told the book from the run.",
            "shared": False,
            "tests": [{"id": "0123456789ab", "from": "held_out", "checkpoint": delivered}],
        },
        "cost": {"absent": "no step is on record"},
    }


def change(path: Path, **values: Any) -> None:
    """Lays values over the JSON object in a file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def whole(run: Path, folder: Path) -> Path:
    """A copy of the run with an evaluation and a title that means harm."""
    ignored = shutil.ignore_patterns("data", "events*", "state*")
    path = shutil.copytree(run, folder, ignore=ignored)
    report = json.loads((path / "report" / "report.json").read_text())
    (path / "report" / "evaluation.json").write_text(json.dumps(evaluation(report["checkpoint"])))
    info = json.loads((path / "dataset.json").read_text())
    info["book"]["documents"][0]["title"] = f"A book {HOSTILE}"
    info["split"]["titles"] = [HOSTILE] * len(info["split"]["titles"])
    (path / "dataset.json").write_text(json.dumps(info))
    return path
