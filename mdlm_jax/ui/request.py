"""What a person may ask of a sampling, and how it is drawn. No jax; needs nothing of ours but `values`."""

import dataclasses
from typing import Any

from mdlm_jax.ui.values import ConfigError, UserError, field

IN_ORDER = ("ancestral", "dilated", "interleaved", "left_to_right")  # places are known before logits are
RANKED = ("confidence", "margin", "entropy", "importance", "greedy")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How a text is drawn: defaults of python -m mdlm_jax.sample."""

    sampler: str = field(
        "ancestral (random places), dilated (places far apart), interleaved (many writers, each from left to "
        "right), left_to_right, or the surest places first: by confidence, margin, entropy, importance (easy "
        "words first) or greedy (the likeliest token there)",
        choices=IN_ORDER + RANKED,
    )
    steps: int = field("network calls of a block at most; 0 means one per token", least=0, most=65_536)
    temperature: float = field("divides the logits when a token is drawn", above=0, least=1e-6, most=1e6)
    top_k: int = field("draw among the k likeliest tokens; 0 is off", least=0, most=10**9)
    top_p: float = field(
        "draw from the smallest set with this probability; 1 is off", above=0, least=1e-6, most=1
    )
    threshold: float = field("write all places surer than this; 1 is off", least=0, most=1, default=1.0)
    schedule: str = field("places a step: linear or cosine", choices=("linear", "cosine"), default="linear")
    remask: float = field("share of the tokens written again, the worst", least=0, most=4, default=0.0)
    repetition: float = field(
        "penalty on tokens that the canvas holds; 1 is off", least=1, most=1e6, default=1.0
    )
    vocabulary_level: int = field(
        "tokens of levels 1 to this; 5 is all; at 1 even words come in pieces", least=1, most=5, default=5
    )
    block: int = field("tokens in a block; 0: the whole text, or half the canvas", least=0, default=0)
    cache: bool = field("read what is around a block once a block, not in every call", default=False)


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be written; with a `SamplingConfig`, all that a text depends on."""

    prompt: str = field("text at the start; ____, [MASK:12] and [EDIT:words] are gaps in it", default="")
    ending: str = field("text at the end", default="")
    length: int = field("tokens between them; 0: fills the canvas", least=0, most=65_536, default=0)
    seed: int = field("the same seed gives the same text", least=0, default=0)
    best_of: int = field("texts that the best is chosen from", least=1, most=256, default=1)
    style: str = field(
        "by nearness to the book, or to a chapter (its title, or number from 0)", default="book"
    )
    sentence_length: float = field("and to so many words a sentence; 0: any", least=0, default=0.0)
    most_copied: int = field("longest run of the book's tokens that may stand; 0: any", least=0, default=0)


# Laid over a run's own settings; docs/results.md has what they do to speed and quality.
SAMPLING_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "creative": {"temperature": 1.0, "top_p": 0.97},
    "conservative": {"temperature": 0.4, "top_p": 0.8},
    "fast": {"sampler": "interleaved", "steps": 4, "block": 64, "cache": True},
}


class SampleError(UserError):
    """A request that cannot be met; one line."""


def unused(sampler: str) -> dict[str, Any]:
    """The settings that a sampler cannot use, at the values that turn them off."""
    steps = {"steps": 0} if sampler == "left_to_right" else {}
    return {"threshold": 1.0, "schedule": "linear", "remask": 0.0} | steps if sampler in IN_ORDER else {}


def check_sampling(sampling: SamplingConfig, request: Request | None = None) -> None:
    """Refuses settings that contradict one another; raises ConfigError."""
    if request and request.best_of == 1 and (request.sentence_length or request.style != "book"):
        raise ConfigError("config.best_of=1 leaves nothing to choose by style or sentence_length; raise it")
    for name, off in unused(sampling.sampler).items():
        if (value := getattr(sampling, name)) != off:
            others = ", ".join(s for s in IN_ORDER + RANKED if name not in unused(s))
            raise ConfigError(
                f"config.sampling.{name}={value} is nothing that {sampling.sampler} can use; {others} can"
            )
