"""python -m mdlm_jax.sample --workdir R: lets a trained model write.

Every text is saved to R/samples/ with the metadata that reproduces it.
"""

import dataclasses
import datetime
import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from mdlm_jax import cli
from mdlm_jax.configuration import (
    SAMPLING_PRESETS,
    ConfigError,
    ModelConfig,
    SamplingConfig,
    UserError,
    build,
    check_sampling,
)
from mdlm_jax.evaluation.summary import no_run

BUCKET = 64  # canvas lengths are rounded up to this, so that nearby lengths share a compiled program


class SampleError(UserError):
    """A request that cannot be met; one line."""


def parser() -> cli.Parser:
    """The command line; None stands for the run's own configuration."""
    p = cli.Parser(prog="python -m mdlm_jax.sample", description="Let a trained model write.")
    p.add_argument("--workdir", type=Path, required=True, help="a run directory of launch.py")
    p.add_argument("--prompt", default="", help="text that stays where it is, at the start")
    p.add_argument("--length", type=int, help="tokens to write after the prompt (default: a full canvas)")
    p.add_argument("--num_samples", type=int, default=1, help="texts, at consecutive seeds (default: 1)")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same text (default: 0)")
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="average (default) or last")
    group = p.add_argument_group("how to draw (default: config.sampling of the run)")
    group.add_argument(
        "--preset", choices=tuple(SAMPLING_PRESETS), default="default", help="several of these at once"
    )
    for f in dataclasses.fields(SamplingConfig):
        group.add_argument(f"--{f.name}", help=f.metadata["doc"])
    return p


def settings_of(values: dict[str, Any]) -> SamplingConfig:
    """Checked settings, numbers as texts or not; None where there is none. Raises SampleError."""
    try:
        settings = build(SamplingConfig, dict(values), [])
        check_sampling(settings)
    except ConfigError as error:
        raise SampleError(re.sub(r"config\.(sampling\.)?", "--", str(error), count=1)) from None
    return settings


@functools.lru_cache(maxsize=4)
def _denoise(model: ModelConfig) -> Any:
    """denoise((params, segments, forbidden), tokens, index); one per model, so that jit caches by it."""
    from mdlm_jax.train_state import denoiser

    return lambda context, *canvas: denoiser(model, context[0], context[2], context[1])(*canvas)


def levels(run: Any) -> Any:
    """int [V]: the vocabulary level of each token id. Raises SampleError where the data name none."""
    import numpy as np

    if "vocabulary_levels" not in run.dataset.info:
        raise SampleError("this run's dataset.json has no vocabulary levels; prepare the book again")
    found = np.full(run.forbidden.shape, 5)
    digits = run.dataset.info["vocabulary_levels"]["level_of_id"]
    found[: len(digits)] = [int(digit) for digit in digits]
    return found


def generate(
    run: Any, prompt: str, length: int | None, seed: int, settings: SamplingConfig
) -> dict[str, Any]:
    """One text with its metadata; `run` is a `run_directory.Trained`.

    Raises SampleError when the canvas would be empty or longer than the model's, or the model is the twin.
    """
    import jax
    import numpy as np

    from mdlm_jax.laws import Law
    from mdlm_jax.sampler import Plan, sample
    from mdlm_jax.tokenizer import load_tokenizer
    from mdlm_jax.train_state import cast

    if run.config.model.causal:
        raise SampleError("this run is the autoregressive twin, which cannot unmask; sample a diffusion run")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise SampleError("--prompt is not valid UTF-8")
    tokenizer = load_tokenizer(run.dataset.path / "tokenizer.json")
    given, room = tokenizer.encode(prompt).ids, run.config.model.seq_len - 1
    length = room - len(given) if length is None else length
    if len(given) >= room:
        raise SampleError(f"--prompt has {len(given)} tokens; this model's canvas takes at most {room - 1}")
    if not 1 <= length <= room - len(given):
        raise SampleError(f"--length must lie in 1 to {room - len(given)} after this prompt, not {length}")
    special = run.dataset.special_ids
    used = 1 + len(given) + length
    canvas = min(-(-used // BUCKET) * BUCKET, run.config.model.seq_len)
    tokens = np.full((1, canvas), special["pad"], np.int32)
    tokens[0, : 1 + len(given)] = [special["eos"], *given]
    position = np.arange(canvas)[None]
    masked = (position > len(given)) & (position < used)
    segments = (position < used).astype(np.int32)
    forbidden = run.forbidden.copy()
    forbidden[[special["eos"], special["sep"]]] = True  # never inside a paragraph of the book
    importance: Any = 0.0
    if settings.vocabulary_level < 5:
        forbidden |= levels(run) > settings.vocabulary_level
    if settings.sampler == "importance":
        # Rare words carry most. The data's own importance is per occurrence, in shards a run may not have.
        importance = ((levels(run) - 1) / 5).astype(np.float32)
    state = sample(
        _denoise(run.config.model),
        (cast(run.params, run.config.precision), segments, forbidden),
        jax.random.key(seed),
        tokens,
        masked,
        Law(
            settings.temperature,
            settings.top_k,
            settings.top_p,
            settings.repetition,
            settings.threshold,
            importance,
        ),
        plan=Plan(settings.sampler, settings.steps, settings.schedule, settings.remask, settings.no_repeat),
        mask_id=special["mask"],
    )
    ids = np.asarray(state.tokens)[0, 1:used].tolist()
    return {
        "text": tokenizer.decode(ids, skip_special_tokens=False),
        "prompt": prompt,
        "length": length,
        "seed": seed,
        **dataclasses.asdict(settings),
        "log_prob_per_token": float(state.log_prob[0]) / length,
        "tokens": ids,
        "checkpoint": run.checkpoint,
        "model_hash": run.model_hash,
    }


def save(result: dict[str, Any], workdir: Path) -> Path:
    """Writes samples/<time>-seed<k>.json and the text beside it; returns the path of the text."""
    directory = workdir / "samples"
    directory.mkdir(exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    path = directory / f"{stamp}-seed{result['seed']}.txt"
    told = json.dumps(result, indent=1, ensure_ascii=False)
    path.with_suffix(".json").write_text(told + "\n", encoding="utf-8")
    path.write_text(result["text"] + "\n", encoding="utf-8")
    return path


def printable(text: str) -> str:
    """Text without control characters other than line breaks and tabs."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def run_command() -> None:
    """Samples and prints. Raises SampleError, RunError, CheckpointError or DataError, one line each."""
    arguments = parser().parse_args()
    given = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(SamplingConfig)}
    given = SAMPLING_PRESETS[arguments.preset] | {k: v for k, v in given.items() if v is not None}
    settings_of(NEUTRAL | given)  # before anything is slow
    if arguments.num_samples < 1:
        raise SampleError(f"--num_samples must be at least 1, not {arguments.num_samples}")
    if not 0 <= arguments.seed <= arguments.seed + arguments.num_samples - 1 < 2**32:  # jax keeps 32 bits
        raise SampleError(f"--seed must lie in [0, 4294967296), not {arguments.seed}")
    if not (arguments.workdir / "config.json").exists():
        raise SampleError(f"{no_run(arguments.workdir)}; launch.py makes one")
    print(f"loading {arguments.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    run = load(arguments.workdir, arguments.weights)
    if not (arguments.workdir / "report" / "report.json").exists():
        print(f"(training is not finished: the weights of {run.checkpoint})", file=sys.stderr, flush=True)
    settings = settings_of(dataclasses.asdict(run.config.sampling) | given)
    print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
    for seed in range(arguments.seed, arguments.seed + arguments.num_samples):
        result = generate(run, arguments.prompt, arguments.length, seed, settings)
        result["weights"] = arguments.weights
        path = save(result, arguments.workdir)
        print(f"--- seed {seed}, {path} ---\n{printable(result['text'])}\n", flush=True)


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 130 when interrupted."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "texts that were printed are saved")


if __name__ == "__main__":
    sys.exit(main())
