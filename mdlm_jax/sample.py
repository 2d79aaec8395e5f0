"""python -m mdlm_jax.sample --workdir R: lets a trained model write.

Every text is saved to R/samples/ with the metadata that reproduces it (--again).
"""

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdlm_jax import frames
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
    unused,
)
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.ui import cli, modes, terminal
from mdlm_jax.ui.prompt_loop import prompt_loop
from mdlm_jax.ui.replay import replay

WHAT = {f.name: f for kind in (Request, SamplingConfig) for f in dataclasses.fields(kind)}
NAMES = (*WHAT, "preset")
SHOWN = 5  # likeliest tokens of a place in a recording


def settings_of(values: dict[str, Any], base: SamplingConfig | None) -> tuple[Request, SamplingConfig]:
    """What named values ask for, texts or not, laid over `base`. Raises SampleError."""
    preset = str(values.get("preset") or "default")
    for what, name, names in (*(("option", v, NAMES) for v in values), ("preset", preset, SAMPLING_PRESETS)):
        if name not in names:
            hint = nearest(name, names) or f"; there are {', '.join(names)}"
            raise SampleError(f"there is no {what} {name!r}{hint}")
    over = dataclasses.asdict(base) if base else dict.fromkeys(("steps", "top_k"), 0)
    over |= {} if base else {"sampler": "confidence", "temperature": 1.0, "top_p": 1.0}
    named = SAMPLING_PRESETS[preset] | {k: v for k, v in values.items() if k in WHAT}
    over |= unused(str(named.get("sampler", over["sampler"]))) | named
    try:
        made = build(Request, over, []), build(SamplingConfig, over, [])
        check_sampling(made[1], made[0])
    except ConfigError as error:
        raise SampleError(re.sub(r"config\.(sampling\.)?", "--", str(error), count=1)) from None
    return made


def run_command() -> int:
    """Samples and prints; 1 where --again gave another text. Raises UserErrors and OSErrors, a line each."""
    a = modes.parser().parse_args()
    if a.replay:
        replay(a.replay, functools.partial(terminal.shown, a.ui != "plain", a.speed), print)
        return 0
    if a.workdir is None:
        raise SampleError("the following arguments are required: --workdir")
    told = read_json(a.again, SampleError, f"there is no {a.again}; see samples/ of a run") if a.again else {}
    given = {name: value for name in NAMES if (value := getattr(a, name)) is not None}
    if a.again and given:
        raise SampleError(f"--again takes every option from its file; leave out --{min(given)}")
    known = {*WHAT, "tokens", "model_hash"} <= told.keys() and told.get("weights") in ("ema", "params")
    if a.again and not known:
        raise SampleError(f"{a.again} is no text that this command has saved")
    given |= {name: told[name] for name in WHAT if told}
    base: SamplingConfig | None = None

    def settled(values: dict[str, Any]) -> tuple[Request, SamplingConfig]:
        return settings_of(given | values, base)

    lines = modes.read_prompts(a.prompts, settled) if a.prompts else [{}]
    if a.num_samples < 1:
        raise SampleError(f"--num_samples must be at least 1, not {a.num_samples}")
    jobs = [given | x | {"seed": settled(x)[0].seed + i} for x in lines for i in range(a.num_samples)]
    watched = a.stream or a.record or a.ui == "terminal"
    if watched and (len(jobs) > 1 or a.prompts or a.interactive or a.benchmark):
        raise SampleError("--stream and --record are for one text, as is --ui; leave the other options out")
    if len(jobs) > 1 and (a.interactive or a.benchmark or a.again):
        raise SampleError("--num_samples is not for --interactive, --benchmark or --again")
    if a.output and not a.prompts:
        raise SampleError("--output needs --prompts; a single text is saved in the run's samples/")
    if not (a.workdir / "config.json").exists():
        raise SampleError(f"{no_run(a.workdir)}; launch.py makes one")
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.evaluation.candidates import generate
    from mdlm_jax.generation import finish
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    weights = told.get("weights", a.weights)
    run = load(a.workdir, weights)
    base, marks = run.config.sampling, {"weights": weights, "model_hash": run.model_hash}
    if not (a.workdir / "report" / "report.json").exists():
        print(f"(training is not finished: the weights of {run.checkpoint})", file=sys.stderr, flush=True)
    if told and told["model_hash"] != run.model_hash:
        raise SampleError(f"{a.again} is of other weights ({told.get('checkpoint')}, not {run.checkpoint})")
    checked = [settled(job) for job in jobs]  # mistakes are told before anything is slow
    request, settings = checked[0]

    def write(values: dict[str, Any]) -> dict[str, Any]:
        return finish(generate(run, *settled(values))) | marks

    def tell_all(tell: Callable[[str], object]) -> dict[str, Any]:
        pieces = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]
        tell(frames.header(pieces, request.seed, settings.sampler, run.model_hash))
        with terminal.shown(a.ui == "terminal", a.speed, pieces) as look:
            texts = generate(run, request, settings, SHOWN)
            return finish(texts, lambda x: (tell(frames.dumps(x)), look(x))) | marks

    if a.interactive:
        prompt_loop(lambda values: modes.kept(write(values), a.workdir), settled, NAMES, request.seed)
        return 0
    print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
    if a.benchmark:
        modes.benchmark(lambda: write({}), lambda: generate(run, request, settings, SHOWN))
    elif a.prompts:
        modes.batch(jobs, a.output, write, marks)
    else:
        for job in jobs:
            made = modes.record(a.record, a.stream, tell_all) if watched else write(job)
            print(modes.kept(made, a.workdir), file=sys.stderr if a.stream else sys.stdout, flush=True)
    if told:
        same = told["tokens"] == made["tokens"]
        print(f"{'the same text as' if same else 'ANOTHER text than'} {a.again} holds", file=sys.stderr)
        return int(not same)
    return 0


def main() -> int:
    """The exit code: 0, 1 for another text than --again names, 2 after a line on what is wrong, 130."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "texts that were printed or saved are whole")


if __name__ == "__main__":
    sys.exit(main())
