"""python -m mdlm_jax.serve --workdir R: a page on which a trained model writes, and people reach in."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax import cli
from mdlm_jax.configuration import SAMPLING_PRESETS, Request, SampleError, SamplingConfig
from mdlm_jax.sample import SHOWN, settings_of
from mdlm_jax.ui.jobs import Engine, Frames, Work

CHOOSING = ("best_of", "style", "sentence_length")  # candidates are written before there is anything to see


def engine(run: Any) -> Engine:
    """What the page needs of a run (a `Trained`): its vocabulary, its options, and two ways to write."""
    import jax

    from mdlm_jax.evaluation.candidates import generate
    from mdlm_jax.frames import SampleFrame
    from mdlm_jax.generation import unmask

    base, special = run.config.sampling, dict(run.dataset.special_ids)

    def settled(values: dict[str, Any]) -> tuple[Request, SamplingConfig]:
        request, settings = settings_of(values, base)
        if request.best_of > 1:
            raise SampleError("--best_of is not for the page yet; python -m mdlm_jax.sample has it")
        return request, settings

    def write(values: dict[str, Any]) -> Work:
        request, settings = settled(values)
        return Work(request.seed, lambda: generate(run, request, settings, SHOWN))

    def branch(tokens: np.ndarray, sure: np.ndarray, token: int | None, values: dict[str, Any]) -> Work:
        if run.config.model.causal:
            raise SampleError("an autoregressive model cannot write in the middle of a text: no branches")
        if token is not None and (token >= len(run.forbidden) or run.forbidden[token]):
            raise SampleError(f"there is no token {token} that a text may hold")
        request, settings = settled(values)

        def frames() -> Frames:
            masked = tokens == special["mask"]
            whole = tokens.copy(), masked, np.zeros_like(masked), sure.astype(np.float32)
            yield SampleFrame(0, 0, 0, *whole, 0.0, extras={"start": 0, "length": len(tokens)})
            key = jax.random.key(request.seed)
            calls = yield from unmask(run, tokens, sure, key, settings, SHOWN)
            nats = float(np.log(np.maximum(sure[masked], np.finfo(np.float32).tiny)).sum())
            text = run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
            told = {"log_prob_per_token": nats / max(int(masked.sum()), 1), "network_calls": calls}
            return {"text": text} | told

        return Work(request.seed, frames)

    fields = [
        (f, getattr(base, f.name, f.default))
        for c in (Request, SamplingConfig)
        for f in dataclasses.fields(c)
    ]
    limits = ("doc", "choices", "least", "most")
    options = [
        {"name": f.name, "default": default} | {name: f.metadata[name] or None for name in limits}
        for f, default in fields
        if f.name not in CHOOSING
    ]
    pieces = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]
    hello = {"pieces": pieces, "special": special, "canvas": run.config.model.seq_len - 1}
    return Engine(hello | {"options": options, "presets": [*SAMPLING_PRESETS]}, write, branch)


def run_command() -> int:
    """Serves until a Ctrl-C. Raises UserErrors and OSErrors, a line each."""
    p = cli.Parser(
        usage="python -m mdlm_jax.serve --workdir RUN [options]", description="Watch a model write."
    )
    p.add_argument("--workdir", type=Path, metavar="RUN", required=True, help="a run directory of launch.py")
    p.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; others than this machine's own need a token (127.0.0.1)",
    )
    p.add_argument("--port", type=int, default=8000, metavar="INT", help="port; 0: any that is free (8000)")
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="average (default) or last")
    a = p.parse_args()
    from mdlm_jax.ui.server import Server

    server = Server(a.host, a.port)
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    made = engine(load(a.workdir, a.weights))
    made.hello["name"] = a.workdir.absolute().name
    server.start(made)
    print(f"open {server.gate.address()} (Ctrl-C ends)", flush=True)
    server.run()
    return 0


def main() -> int:
    """The exit code: 2 after a line on what is wrong, 130 after a Ctrl-C."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "what was being written is lost, the run is as it was")


if __name__ == "__main__":
    sys.exit(main())
