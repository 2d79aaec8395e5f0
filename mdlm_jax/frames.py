"""The stream of sampling events that every view, replay, export and test reads. numpy, no jax."""

import dataclasses
import json
from typing import Any

import numpy as np

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class SampleFrame:
    """The canvas after one step of the sampler (one row of a batch)."""

    step: int
    num_steps: int  # at most: a threshold or a schedule may end it sooner
    block: int
    tokens: np.ndarray  # int32 [L]
    is_masked: np.ndarray  # bool [L]
    changed: np.ndarray  # bool [L], written or masked again in this step
    confidence: np.ndarray  # float32 [L], a token's probability when written; 0 where masked, 1 if given
    log_prob: float  # nats, of the tokens written in this step under their law, less those masked again
    # The likeliest tokens of each place written in this step, in order (changed and not masked).
    top_k: list[list[tuple[int, float]]] = dataclasses.field(default_factory=list)
    extras: dict[str, Any] = dataclasses.field(default_factory=dict)

    def part(self, lo: int, hi: int, block: int, extras: dict[str, Any]) -> "SampleFrame":
        """The positions [lo, hi) alone, as a step of `block`. All changes must lie in them."""
        names = ("tokens", "is_masked", "changed", "confidence")
        arrays = {name: getattr(self, name)[lo:hi] for name in names}
        return dataclasses.replace(self, block=block, extras=extras, **arrays)


def printable(text: str) -> str:
    """Text without control characters other than line breaks and tabs."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def header(pieces: list[str], seed: int, sampler: str, model_hash: str) -> str:
    """The stream's first line: a replay decodes with it alone. `pieces`: of each id, in GPT-2's alphabet."""
    fields = {"pieces": pieces, "seed": seed, "sampler": sampler, "model": model_hash}
    return json.dumps({"schema_version": SCHEMA_VERSION} | fields)


def dumps(frame: SampleFrame) -> str:
    """One NDJSON line."""
    fields = dataclasses.asdict(frame)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            fields[name] = value.astype(int).tolist() if value.dtype == bool else value.tolist()
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def loads(line: str) -> SampleFrame:
    """The frame of a line. Raises ValueError when it is not one."""
    try:
        fields = json.loads(line)
        kinds = {"tokens": np.int32, "is_masked": bool, "changed": bool, "confidence": np.float32}
        for name, kind in kinds.items():
            fields[name] = np.asarray(fields[name], kind)
        fields["top_k"] = [[(int(i), float(p)) for i, p in place] for place in fields["top_k"]]
        return SampleFrame(**fields)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"not a sample frame: {error}") from None
