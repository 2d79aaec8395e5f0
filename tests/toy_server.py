"""A server whose model is the toy table, and a client that looks like a browser's page."""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import simple_websocket
from toys import MASK, PAD, TABLE, L, denoise

from mdlm_jax.frames import SampleFrame
from mdlm_jax.laws import Law
from mdlm_jax.sampler import Plan, sample_stream
from mdlm_jax.ui import protocol
from mdlm_jax.ui.jobs import Engine, Frames, Work
from mdlm_jax.ui.request import SamplingConfig
from mdlm_jax.ui.server import Gate, Server
from mdlm_jax.ui.values import UserError

PIECES = ["a", "b", "c", "d", "[MASK]", "[PAD]"]


class Toy:
    """Writes documents of letters, four places at a time, by the project's own sampler.

    The option length is their number of places; the prompt "boom" is a fault of the engine.
    """

    def __init__(self) -> None:
        self.made = 0  # frames of the text that is written now
        self.closed = threading.Event()
        self.choosing: list[int] = []  # how many were choosing a length whenever one began to
        self.free = threading.Event()  # else choosing a length does not end
        self.free.set()
        self.inside = 0  # who chooses a length now
        base = SamplingConfig("ancestral", 0, 1.0, 0, 1.0)
        told = protocol.hello("toy", PIECES, {"mask": MASK, "pad": PAD}, 64, base)
        self.engine = Engine(told, self.write, self.branch, self.length)

    def write(self, values: dict[str, Any]) -> Work:
        """All masked, or a fault."""
        if unknown := values.keys() - {"length", "seed", "prompt"}:
            raise UserError(f"there is no option {min(unknown)}")
        tokens = np.full(int(values.get("length", 8)), MASK, np.int32)
        return Work(int(values.get("seed", 0)), lambda: self.frames(tokens, np.zeros(len(tokens)), values))

    def branch(self, tokens: np.ndarray, sure: np.ndarray, token: int | None, values: dict) -> Work:
        """The masked places of a document."""
        if len(tokens) < L or (token or 0) >= MASK:
            raise UserError("the toy cannot do that")
        return Work(int(values.get("seed", 0)), lambda: self.frames(tokens.copy(), sure, values))

    def length(self, before: np.ndarray, after: np.ndarray) -> int:
        """By the text before alone."""
        self.inside += 1
        self.choosing.append(self.inside)
        self.free.wait(20)
        self.inside -= 1
        return 1 + len(before) % 5

    def frames(self, tokens: np.ndarray, sure: np.ndarray, values: dict[str, Any]) -> Frames:
        """A window of four places after the other."""
        self.made, calls, nats = 0, 0, 0.0
        self.closed.clear()
        if values.get("prompt") == "boom":
            raise ZeroDivisionError("the toy's\nown fault")
        masked, length = tokens == MASK, len(tokens)
        whole = tokens.copy(), masked, np.zeros_like(masked), sure.astype(np.float32)
        try:
            self.made += 1
            yield SampleFrame(0, 0, 0, *whole, 0.0, extras={"start": 0, "length": length})
            key = jax.random.key(int(values.get("seed", 0)))
            while (tokens == MASK).any():
                lo = min(int(np.argmax(tokens == MASK)), length - L)
                row = tokens[None, lo : lo + L].copy()
                stream = sample_stream(
                    denoise, jnp.asarray(TABLE), jax.random.fold_in(key, calls), row, row == MASK,
                    Law(1.0, 0, 1.0, 1.0, 1.0, 0.0), plan=Plan(shown=2), mask_id=MASK,
                )  # fmt: skip
                for frame in stream:
                    self.made, calls, nats = self.made + 1, calls + 1, nats + frame.log_prob
                    yield frame.part(0, L, calls, {"start": lo, "length": length})
                tokens[lo : lo + L] = frame.tokens
            text = "".join(PIECES[token] for token in tokens)
            return {"text": text, "network_calls": calls, "log_prob_per_token": nats / length}
        finally:
            self.closed.set()


@contextlib.contextmanager
def serving(
    engine: Engine, host: str = "127.0.0.1", grace: float = 0.3, at: str = "127.0.0.1"
) -> Iterator[Server]:
    """A server at a free port of this machine's address `at` that calls itself `host`."""
    server = Server(at, 0)
    server.gate = Gate(host, server.gate.port)
    server.start(engine, grace)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


class Client(simple_websocket.Client):
    """A page's socket."""

    def __init__(self, port: int, **headers: str):
        headers = {"Origin": f"http://127.0.0.1:{port}"} | headers
        super().__init__(f"ws://127.0.0.1:{port}/ws", headers=headers)

    def handshake(self) -> None:
        """As the library's, which leaves the port out of the Host, and forgets what comes with the answer."""
        self.host += f":{self.port}"
        super().handshake()
        self._handle_events()
        self.connected = True  # an end that came with the answer is noticed by the reading thread

    def ask(self, **message: Any) -> None:
        """Sends a message; `start_from` is "from"."""
        if "start_from" in message:
            message["from"] = message.pop("start_from")
        self.send(json.dumps(message))

    def next(self, *kinds: str, seconds: float = 20.0) -> dict[str, Any]:
        """The next message, of one of the kinds if there are any; others are passed over."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (text := self.receive(timeout=left)) is not None:
                told = json.loads(text)
                if not kinds or told["type"] in kinds:
                    return told
        raise AssertionError(f"no {' or '.join(kinds) or 'message'} in {seconds} s")

    def pending(self) -> Iterator[dict[str, Any]]:
        """What has arrived."""
        while (text := self.receive(timeout=0)) is not None:
            yield json.loads(text)


@functools.cache
def warm() -> None:
    """Compiles the toy's sampler."""
    toy = Toy()
    for _ in toy.write({}).frames():
        pass


def until(true: Any, seconds: float = 20.0) -> None:
    """Waits for `true()`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.005)
