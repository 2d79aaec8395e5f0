"""python -m mdlm_jax.serve --workdir R: a page on which a trained model writes, and people reach in."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.ui import cli, options
from mdlm_jax.ui.jobs import Engine, Frames, Work
from mdlm_jax.ui.protocol import hello
from mdlm_jax.ui.request import Request, SampleError, SamplingConfig

GAPS = 8  # of unknown length in a text: choosing one takes a while in which nothing can be seen or stopped


def engine(run: Any, name: str) -> Engine:
    """What the page needs of a `Trained` run."""
    import jax

    from mdlm_jax.evaluation.candidates import choose_length, generate, pieces
    from mdlm_jax.generation import Document, Gap, unmask

    special, base = dict(run.dataset.special_ids), run.config.sampling
    names = [str(run.tokenizer.id_to_token(i)) for i in range(run.tokenizer.get_vocab_size())]

    def settled(values: dict[str, Any]) -> tuple[Request, SamplingConfig]:
        request, settings = options.settings_of(values, base)
        if request.best_of > 1:
            raise SampleError("--best_of is not for the page yet; python -m mdlm_jax.sample has it")
        found = pieces(run, request)  # its mistakes are told at once, not when its turn has come
        if sum(isinstance(piece, Gap) and not piece.length for piece in found) > GAPS:
            raise SampleError(f"a text on the page may have {GAPS} gaps ____; say how long the others are")
        return request, settings

    def write(values: dict[str, Any]) -> Work:
        request, settings = settled(values)
        return Work(request.seed, lambda: generate(run, request, settings, options.SHOWN))

    def branch(tokens: np.ndarray, sure: np.ndarray, token: int | None, values: dict[str, Any]) -> Work:
        request, settings = settled(values)
        if run.config.model.causal:
            raise SampleError("an autoregressive model cannot write in the middle of a text: no branches")
        if token is not None and (token >= len(names) or run.forbidden[token] or token in special.values()):
            raise SampleError(f"there is no token {token} that a text may hold")

        def frames() -> Frames:
            masked, key = tokens == special["mask"], jax.random.key(request.seed)
            text = Document(tokens[None], sure[None], np.zeros_like(masked))  # written in place
            calls = yield from unmask(run, text, key, settings, options.SHOWN)
            nats = float(np.log(np.maximum(sure[masked], np.finfo(np.float32).tiny)).sum())
            words = run.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
            told = {"log_prob_per_token": nats / max(int(masked.sum()), 1), "network_calls": calls}
            return {"text": words} | told

        return Work(request.seed, frames)

    def length(before: np.ndarray, after: np.ndarray) -> int:
        return choose_length(run, list(map(int, before)), list(map(int, after)))

    told = hello(name, names, special, run.config.model.seq_len - 1, base)
    return Engine(told, write, branch, length)


def run_command() -> int:
    """Serves until a Ctrl-C. Raises UserErrors and OSErrors, a line each."""
    a = options.page_parser().parse_args()
    if not (a.workdir / "config.json").exists():
        raise SampleError(no_run(a.workdir))
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
