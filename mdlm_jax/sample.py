"""python -m mdlm_jax.sample --workdir R: lets a trained model write.

Every text is saved to R/samples/ with the metadata that reproduces it (--again).
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdlm_jax import frames
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.ui import cli, modes, options, terminal
from mdlm_jax.ui.prompt_loop import prompt_loop
from mdlm_jax.ui.replay import replay
from mdlm_jax.ui.request import Request, SampleError, SamplingConfig


def run_command() -> int:
    """Samples and prints; 1 where --again gave another text. Raises UserErrors and OSErrors, a line each."""
    a = options.parser().parse_args()
    if recorded := options.replays(a):
        replay(recorded, functools.partial(terminal.shown, a.ui != "plain", a.speed), print)
        return 0
    told, given, jobs = options.asked(a)
    if not (a.workdir / "config.json").exists():
        raise SampleError(no_run(a.workdir))
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.evaluation.candidates import generate
    from mdlm_jax.generation import finish, for_twin
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    weights = told.get("weights") or a.weights or "ema"
    run = load(a.workdir, weights)
    base, marks = run.config.sampling, {"weights": weights, "model_hash": run.model_hash}
    order = sorted(given.keys() & {"sampler", "steps", "threshold", "schedule", "remask", "cache"})
    if order and run.config.model.causal and not told:
        raise SampleError(f"an autoregressive model writes from left to right; leave out --{order[0]}")
    if not (a.workdir / "report" / "report.json").exists():
        print(f"(training is not finished: the weights of {run.checkpoint})", file=sys.stderr, flush=True)
    if told and told["model_hash"] != run.model_hash:
        raise SampleError(f"{a.again} is of other weights ({told.get('checkpoint')}, not {run.checkpoint})")

    def settled(values: dict[str, Any]) -> tuple[Request, SamplingConfig]:
        request, settings = options.settings_of(given | values, base)
        return request, for_twin(settings) if run.config.model.causal else settings

    checked = [settled(job) for job in jobs]  # mistakes are told before anything is slow
    request, settings = checked[0]

    def write(values: dict[str, Any]) -> dict[str, Any]:
        return finish(generate(run, *settled(values))) | marks

    def tell_all(tell: Callable[[str], object]) -> dict[str, Any]:
        pieces = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]
        tell(frames.header(pieces, request.seed, settings.sampler, run.model_hash))
        with terminal.shown(a.ui == "terminal", a.speed, pieces) as look:
            texts = generate(run, request, settings, options.SHOWN)
            return finish(texts, lambda x: (tell(frames.dumps(x)), look(x))) | marks

    watched = a.stream or a.record or a.ui == "terminal"
    if a.interactive:
        prompt_loop(lambda values: modes.kept(write(values), a.workdir), settled, options.NAMES, request.seed)
        return 0
    print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
    if a.benchmark:
        modes.benchmark(lambda: write({}), lambda: generate(run, request, settings, options.SHOWN))
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
