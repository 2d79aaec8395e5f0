"""python -m mdlm_jax.sample --workdir R: lets a trained model write.

Every text is saved to R/samples/ with the metadata that reproduces it (--again).
"""

import dataclasses
import datetime
import functools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

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
from mdlm_jax.progress import PlanProgress

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


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The options in each line of a prompts file. Raises SampleError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(x) if x.startswith("{") else {"prompt": x} for x in lines if x.strip()]
    except ValueError as error:
        raise SampleError(f"{path} is neither text in UTF-8 nor JSON lines: {error}") from None
    if not found:
        raise SampleError(f"{path} holds no prompts; write one a line")
    return found


def already(path: Path, jobs: list[dict[str, Any]]) -> int:
    """How many of the jobs an output holds; a line that was cut short goes. Raises SampleError."""
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
    try:
        told = [json.loads(line) for line in whole]
        same = all(t["prompt"] == j.get("prompt", "") and t["seed"] == j["seed"] for t, j in zip(told, jobs))
    except (ValueError, LookupError, TypeError):
        same = False
    if len(whole) > len(jobs) or not same:
        raise SampleError(f"{path} holds other things; remove it, or name another --output")
    path.write_bytes(b"".join(line + b"\n" for line in whole))
    return len(whole)


def timed(make: Callable[[], Any]) -> tuple[float, Any]:
    """The median seconds of five calls after two, and what the last returned."""
    seconds = []
    for _ in range(7):
        begun = time.perf_counter()
        found = make()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[2:]), found


def run_command() -> None:
    """Samples and prints. Raises SampleError, RunError, CheckpointError or DataError, one line each."""
    a = parser().parse_args()
    if a.replay:
        from mdlm_jax.ui.replay import replay

        with open(a.replay, encoding="utf-8") as file:
            return replay(file, sys.stdout.isatty(), functools.partial(print, flush=True))
    if a.workdir is None:
        raise SampleError("the following arguments are required: --workdir")
    told = read_json(a.again, SampleError, f"there is no {a.again}; see samples/ of a run") if a.again else {}
    given = {name: value for name in NAMES if (value := getattr(a, name)) is not None}
    given |= {name: told[name] for name in WHAT if name in told}
    lines = [given | line for line in read_prompts(a.prompts)] if a.prompts else [given]
    if a.num_samples < 1:
        raise SampleError(f"--num_samples must be at least 1, not {a.num_samples}")
    jobs = [x | {"seed": settings_of(x, None)[0].seed + i} for x in lines for i in range(a.num_samples)]
    for job in jobs:  # all mistakes are told before anything is slow
        settings_of(job, None)
    if (a.stream or a.record) and (len(jobs) > 1 or a.interactive or a.benchmark):
        raise SampleError("--stream and --record are for one text; leave the other options out")
    if a.output and not a.prompts:
        raise SampleError("--output needs --prompts; a single text is saved in the run's samples/")
    if not (a.workdir / "config.json").exists():
        raise SampleError(f"{no_run(a.workdir)}; launch.py makes one")
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.generation import finish, generate
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    run = load(a.workdir, told.get("weights", a.weights))
    if not (a.workdir / "report" / "report.json").exists():
        print(f"(training is not finished: the weights of {run.checkpoint})", file=sys.stderr, flush=True)
    if told and told.get("model_hash") != run.model_hash:
        raise SampleError(f"{a.again} is of other weights ({told.get('checkpoint')}, not {run.checkpoint})")

    def write(values: dict[str, Any], sinks: list[IO[str]]) -> dict[str, Any]:
        request, settings = settings_of(values, run.config.sampling)
        pieces = [run.tokenizer.id_to_token(i) for i in range(run.tokenizer.get_vocab_size())]
        head = frames.header(pieces, request.seed, settings.sampler, run.model_hash)

        def tell(line: str) -> None:
            for sink in sinks:
                print(line, file=sink, flush=True)

        tell(head)
        steps = generate(run, request, settings, SHOWN if sinks else -1)
        return finish(steps, lambda frame: tell(frames.dumps(frame))) | {"weights": a.weights}

    if a.interactive:
        from mdlm_jax.ui.prompt_loop import loop

        return loop(lambda values: frames.printable(write(given | values, [])["text"]), NAMES)
    print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
    if a.benchmark:
        seconds, made = timed(lambda: write(given, []))
        asked = settings_of(given, run.config.sampling)
        first, _ = timed(lambda: next(generate(run, *asked, 0), None))
        number, calls = made["written"], made["network_calls"]
        print(f"{number} tokens in {seconds:.3f} s, {number / seconds:,.0f} a second")
        print(f"{calls} network calls, {1000 * seconds / max(calls, 1):.2f} ms each")
        print(f"first frame of a stream: {1000 * first:.0f} ms")
        return None
    if a.prompts:
        progress, done = PlanProgress(len(jobs)), already(a.output, jobs) if a.output else 0
        sink = open(a.output, "a", encoding="utf-8") if a.output else sys.stdout
        for number, job in enumerate(jobs[done:], done + 1):
            print(json.dumps(write(job, []), ensure_ascii=False), file=sink, flush=True)
            progress.update(number, f"{number} of {len(jobs)} texts")
        return progress.stop()
    for job in jobs:
        sinks = [sys.stdout] if a.stream else []
        partial = a.record and a.record.with_name(f"{a.record.name}.partial")
        if partial:
            sinks.append(open(partial, "w", encoding="utf-8"))
        result = write(job, sinks)
        if partial:
            sinks[-1].close()
            partial.replace(a.record)
        if told:
            same = told["tokens"] == result["tokens"]
            print("the same text" if same else "ANOTHER text than was saved", file=sys.stderr)
        path, text = save(result, a.workdir), frames.printable(result["text"])
        if a.stream:
            print(f"saved as {path}", file=sys.stderr)
        else:
            print(f"--- seed {result['seed']}, {path} ---\n{text}\n", flush=True)
    return None


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 130 when interrupted."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "texts that were printed are saved")


if __name__ == "__main__":
    sys.exit(main())
