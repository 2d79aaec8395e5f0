"""python -m mdlm_jax.serve --workdir R: a page on which a trained model writes, and people reach in."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdlm_jax import cli, sample
from mdlm_jax.configuration import Request, SampleError, SamplingConfig
from mdlm_jax.frames import SampleFrame
from mdlm_jax.ui.jobs import Engine, Frames, Work
from mdlm_jax.ui.protocol import hello

if TYPE_CHECKING:
    from mdlm_jax.run_directory import Trained

GAPS = 8  # of unknown length in a text: choosing one takes a while in which nothing can be seen or stopped


def engine(run: "Trained", name: str) -> Engine:
    """What the page needs of a run."""
    import jax

    from mdlm_jax.evaluation.candidates import generate
    from mdlm_jax.generation import GAP, LONGEST, unmask

    special, base = dict(run.dataset.special_ids), run.config.sampling
    pieces = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]

    def settled(values: dict[str, Any]) -> tuple[Request, SamplingConfig]:
        request, settings = sample.settings_of(values, base)
        if request.best_of > 1:
            raise SampleError("--best_of is not for the page yet; python -m mdlm_jax.sample has it")
        gaps = [int(gap[1] or 0) for gap in GAP.finditer(request.prompt) if not gap[2]]
        if gaps.count(0) > GAPS or sum(gaps) > LONGEST:
            raise SampleError(f"a text may have {GAPS} gaps ____, and {LONGEST} tokens in its other gaps")
        return request, settings

    def write(values: dict[str, Any]) -> Work:
        request, settings = settled(values)
        return Work(request.seed, lambda: generate(run, request, settings, sample.SHOWN))

    def branch(tokens: np.ndarray, sure: np.ndarray, token: int | None, values: dict[str, Any]) -> Work:
        request, settings = settled(values)
        if run.config.model.causal:
            raise SampleError("an autoregressive model cannot write in the middle of a text: no branches")
        if token is not None and (token >= len(pieces) or run.forbidden[token] or token in special.values()):
            raise SampleError(f"there is no token {token} that a text may hold")

        def frames() -> Frames:
            masked = tokens == special["mask"]
            whole = tokens.copy(), masked, np.zeros_like(masked), sure.astype(np.float32)
            yield SampleFrame(0, 0, 0, *whole, 0.0, extras={"start": 0, "length": len(tokens)})
            key = jax.random.key(request.seed)
            calls = yield from unmask(run, tokens, sure, key, settings, sample.SHOWN)
            nats = float(np.log(np.maximum(sure[masked], np.finfo(np.float32).tiny)).sum())
            text = run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
            told = {"log_prob_per_token": nats / max(int(masked.sum()), 1), "network_calls": calls}
            return {"text": text} | told

        return Work(request.seed, frames)

    return Engine(hello(name, pieces, special, run.config.model.seq_len - 1, base), write, branch)


def run_command() -> int:
    """Serves until a Ctrl-C. Raises UserErrors and OSErrors, a line each."""
    usage = "python -m mdlm_jax.serve --workdir RUN [options]"
    p = cli.Parser(usage=usage, description="Watch a trained model write, in a browser.")
    p.add_argument("--workdir", type=Path, metavar="RUN", required=True, help="a run directory of launch.py")
    p.add_argument("--host", default="127.0.0.1", help="address to listen at; where other machines reach it, "
                   "the page needs the token that is printed (127.0.0.1)")  # fmt: skip
    p.add_argument("--port", type=int, default=8000, metavar="INT", help="port; 0: any that is free (8000)")
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="average (default) or last")
    a = p.parse_args()
    from mdlm_jax.ui.server import Server

    server = Server(a.host, a.port)
    print(f"loading {a.workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.run_directory import cache_compilations, load

    cache_compilations(Path(__file__).resolve().parent.parent / ".jax_cache")
    made = engine(load(a.workdir, a.weights), a.workdir.absolute().name)
    first = made.write({}).frames()  # compiles what the first click would wait for
    next(first), next(first)
    gc.freeze()  # else each full collection looks through all of jax, and every viewer waits 0.2 s
    server.start(made)
    print(f"open {server.gate.address()} (Ctrl-C ends)", flush=True)
    server.run()
    return 0


def main() -> int:
    """The exit code: 2 after a line on what is wrong, 130 after a Ctrl-C."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "what was being written is lost; the run is as it was")


if __name__ == "__main__":
    os._exit(main())  # the model's thread may be compiling: nothing can stop that, and Python would abort
