"""python -m mdlm_jax.sample --workdir R: lets a trained model write.

Every text is saved to R/samples/ with the metadata that reproduces it (--again).
"""

import dataclasses
import datetime
import functools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdlm_jax import cli, frames
from mdlm_jax.configuration import (
    SAMPLING_PRESETS,
    ConfigError,
    Request,
    SampleError,
    SamplingConfig,
    build,
    check_sampling,
    nearest,
    read_json,
)
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.ui import modes
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.prompt_loop import prompt_loop
from mdlm_jax.ui.replay import replay

WHAT = {f.name: f for kind in (Request, SamplingConfig) for f in dataclasses.fields(kind)}
NAMES = (*WHAT, "preset")
SHOWN = 5  # likeliest tokens of a place in a recording


def parser() -> cli.Parser:
    """The command line; None stands for the run's own configuration."""
    p = cli.Parser(prog="python -m mdlm_jax.sample", description="Let a trained model write.")
    p.add_argument("--workdir", type=Path, help="a run directory of launch.py")
    p.add_argument("--num_samples", type=int, default=1, help="texts, at consecutive seeds (default: 1)")
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="average (default) or last")
    p.add_argument("--stream", action="store_true", help="print every step as a line of JSON")
    p.add_argument("--record", type=Path, metavar="FILE", help="write every step to a file, for --replay")
    modes = p.add_argument_group("instead of one text").add_mutually_exclusive_group()
    modes.add_argument("--prompts", type=Path, metavar="FILE", help="a prompt, or JSON of options, a line")
    modes.add_argument("--interactive", action="store_true", help="prompts as they come, and commands")
    modes.add_argument("--benchmark", action="store_true", help="the time that one text takes")
    modes.add_argument("--again", type=Path, metavar="FILE", help="the text of samples/*.json, and compare")
    modes.add_argument("--replay", type=Path, metavar="FILE", help="what --record wrote; needs no run")
    p.add_argument("--output", type=Path, metavar="FILE", help="JSON lines of --prompts (default: printed)")
    for kind, title in ((Request, "what to write"), (SamplingConfig, "how (default: config.sampling)")):
        group = p.add_argument_group(title)
        for f in dataclasses.fields(kind):
            group.add_argument(f"--{f.name}", help=f.metadata["doc"])
    group.add_argument("--preset", help=f"several of these at once: {', '.join(SAMPLING_PRESETS)}")
    return p


def settings_of(values: dict[str, Any], base: SamplingConfig | None) -> tuple[Request, SamplingConfig]:
    """What named values ask for, texts or not, laid over `base`. Raises SampleError."""
    preset = str(values.get("preset") or "default")
    for name, names in (*((v, NAMES) for v in values), (preset, SAMPLING_PRESETS)):
        if name not in names:
            raise SampleError(f"there is no option or preset {name}{nearest(name, names)}")
    over = dataclasses.asdict(base) if base else dict.fromkeys(("steps", "top_k"), 0)
    over |= {} if base else {"sampler": "confidence", "temperature": 1.0, "top_p": 1.0}
    over |= SAMPLING_PRESETS[preset] | {k: v for k, v in values.items() if k in WHAT}
    try:
        made = build(Request, over, []), build(SamplingConfig, over, [])
        check_sampling(made[1], made[0])
    except ConfigError as error:
        raise SampleError(re.sub(r"config\.(sampling\.)?", "--", str(error), count=1)) from None
    return made


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


def run_command() -> None:
    """Samples and prints. Raises SampleError, RunError, CheckpointError or DataError, one line each."""
    a = parser().parse_args()
    if a.replay:
        with open(a.replay, encoding="utf-8") as file:
            return replay(file, sys.stdout.isatty(), functools.partial(print, flush=True))
    if a.workdir is None:
        raise SampleError("the following arguments are required: --workdir")
    told = read_json(a.again, SampleError, f"there is no {a.again}; see samples/ of a run") if a.again else {}
    given = {name: value for name in NAMES if (value := getattr(a, name)) is not None}
    given |= {name: told[name] for name in WHAT if name in told}
    lines = [given | line for line in modes.read_prompts(a.prompts)] if a.prompts else [given]
    if a.num_samples < 1:
        raise SampleError(f"--num_samples must be at least 1, not {a.num_samples}")
    jobs = [x | {"seed": settings_of(x, None)[0].seed + i} for x in lines for i in range(a.num_samples)]
    for job in jobs:  # all mistakes are told before anything is slow
        settings_of(job, None)
    recorded = a.stream or a.record
    if recorded and (len(jobs) > 1 or a.prompts or a.interactive or a.benchmark):
        raise SampleError("--stream and --record are for one text; leave the other options out")
    if a.output and not a.prompts:
        raise SampleError("--output needs --prompts; a single text is saved in the run's samples/")
    if not (a.workdir / "config.json").exists():
        raise SampleError(f"{no_run(a.workdir)}; launch.py makes one")
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.evaluation.candidates import generate
    from mdlm_jax.generation import finish
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    run = load(a.workdir, told.get("weights", a.weights))
    if not (a.workdir / "report" / "report.json").exists():
        print(f"(training is not finished: the weights of {run.checkpoint})", file=sys.stderr, flush=True)
    if told and told.get("model_hash") != run.model_hash:
        raise SampleError(f"{a.again} is of other weights ({told.get('checkpoint')}, not {run.checkpoint})")

    def steps(values: dict[str, Any], shown: int = -1) -> Any:
        return generate(run, *settings_of(values, run.config.sampling), shown)

    def write(values: dict[str, Any]) -> dict[str, Any]:
        return finish(steps(values)) | {"weights": a.weights}

    def tell_all(tell: Callable[[str], None]) -> dict[str, Any]:
        request, settings = settings_of(jobs[0], run.config.sampling)
        pieces = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]
        tell(frames.header(pieces, request.seed, settings.sampler, run.model_hash))
        return finish(steps(jobs[0], SHOWN), lambda x: tell(frames.dumps(x))) | {"weights": a.weights}

    if a.interactive:
        return prompt_loop(lambda values: frames.printable(write(given | values)["text"]), NAMES)
    print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
    if a.benchmark:
        return modes.benchmark(lambda: write(given), lambda: next(steps(given, 0), None))
    if a.prompts:
        return modes.batch(jobs, a.output, write, PlanProgress(len(jobs)).update)
    for job in jobs:
        result = modes.record(a.record, a.stream, tell_all) if recorded else write(job)
        path = save(result, a.workdir)
        if told:
            same = told["tokens"] == result["tokens"]
            print("the same text" if same else "ANOTHER text than was saved", file=sys.stderr)
        if a.stream:
            print(f"saved as {path}", file=sys.stderr)
        else:
            print(f"--- seed {result['seed']}, {path} ---\n{frames.printable(result['text'])}\n", flush=True)
    return None


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 130 when interrupted."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "texts that were printed are saved")


if __name__ == "__main__":
    sys.exit(main())
