"""What watching costs: the live page's server on loopback, its viewers in another process.

    python benchmarks/serve.py [--workdir R] [--stall 120] [--quick]

R is a masked diffusion run; without it one is trained, as benchmarks/sampling.py does. All clocks are the
machine's monotonic one. The figure of Chromium needs playwright, and a page that marks
"mdlm:click" and "mdlm:painted".
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import gc
import json
import multiprocessing
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import simple_websocket
from sampling import trained

from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.generation import finish
from mdlm_jax.serve import engine
from mdlm_jax.ui.jobs import VIEWERS, Engine, Frames, Work
from mdlm_jax.ui.options import SHOWN, settings_of
from mdlm_jax.ui.server import Server

WATCHED = {"preset": "default", "length": 512}  # several windows, so that a text lasts longer than noise
LONG = {"sampler": "ancestral", "length": 8000}


class Client(simple_websocket.Client):
    """A page's socket; `heard` is the time at which the last message was read."""

    def __init__(self, port: int):
        super().__init__(f"ws://127.0.0.1:{port}/ws", headers={"Origin": f"http://127.0.0.1:{port}"})

    def handshake(self) -> None:
        """As the library's, which leaves the port out of the Host, and forgets what comes with the answer."""
        self.host += f":{self.port}"
        super().handshake()
        self.connected = self._handle_events()

    def ask(self, **message: Any) -> None:
        """Sends a message."""
        self.send(json.dumps(message))

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of the kinds. Raises TimeoutError."""
        while (text := self.receive(timeout=120)) is not None:
            self.heard = time.monotonic()
            if (told := json.loads(text))["type"] in kinds:
                return told
        raise TimeoutError(f"no {' or '.join(kinds)}")


def first_deltas(port: int, times: int) -> list[float]:
    """Seconds from asking for a text to its first step, as a client sees them."""
    client, found = Client(port), []
    for seed in range(times + 3):
        begun = time.monotonic()
        client.ask(type="write", options={"seed": seed})
        client.next("deltas")
        found.append(client.heard - begun)
        client.next("ended")
    client.close()
    return found[3:]


def watch(port: int, times: int) -> list[tuple[float, int]]:
    """Seconds and network calls of watched texts, by the server's own clock."""
    client, found = Client(port), []
    for _ in range(times):
        client.ask(type="write", options=WATCHED)
        ended = client.next("ended")
        found.append((ended["seconds"], ended["calls"]))
    client.close()
    return found


def stops(port: int, times: int) -> list[tuple[int, int, float]]:
    """Of trajectories that were stopped: number, deltas, and the seconds until that was known."""
    client, found = Client(port), []
    for seed in range(times):
        client.ask(type="write", options=LONG | {"seed": seed})
        number = client.next("following")["trajectory"]
        client.next("deltas")
        time.sleep(0.003 * (seed % 10))
        begun = time.monotonic()
        client.ask(type="stop", trajectory=number)
        ended = client.next("ended")
        found.append((number, ended["calls"], client.heard - begun))
    client.close()
    return found


def crowd(port: int, number: int, texts: int) -> list[tuple[int, int, float]]:
    """When each of so many viewers had each delta: trajectory, delta, time."""
    gc.freeze()  # a page has no jax to collect
    clients, found = [Client(port) for _ in range(number)], []

    def read(client: Client, wanted: int) -> list[tuple[int, int, float]]:
        had = []
        while (told := client.next("deltas", "ended"))["type"] == "deltas":
            places = range(told["from"] + 1, told["from"] + len(told["deltas"]) + 1)
            had += [(wanted, place, client.heard) for place in places]
        return had

    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        for seed in range(texts):
            asked = []
            for options in (LONG, WATCHED | {"seed": seed}):
                clients[0].ask(type="write", options=options)
                asked.append(clients[0].next("following")["trajectory"])
            before, wanted = asked
            for client in clients:  # all of them follow it before it begins
                client.ask(type="follow", trajectory=wanted, **{"from": 0})
                client.next("following")
            clients[0].ask(type="stop", trajectory=before)
            for had in pool.map(read, clients, [wanted] * number):
                found += had
    for client in clients:
        client.close()
    return found


def work(port: int, seconds: float, stalled: bool) -> int:
    """Texts that one viewer watched in so many seconds, perhaps beside one who reads nothing."""
    client, until, texts = Client(port), time.monotonic() + seconds, 0
    other = socket.create_connection(("127.0.0.1", port)) if stalled else None
    if other:
        head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        other.sendall(f"{head}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    while time.monotonic() < until:
        client.ask(type="write", options=WATCHED | {"seed": texts})
        number = client.next("following")["trajectory"]
        if other:
            follow = json.dumps({"type": "follow", "trajectory": number, "from": 0}).encode()
            with contextlib.suppress(OSError):  # the server may have given it up
                other.sendall(bytes([0x81, 0x80 | len(follow), 0, 0, 0, 0]) + follow)
        client.next("ended")
        texts += 1
    client.close()
    return texts


def painted(port: int, times: int) -> list[float]:
    """Seconds from a click to the first painted token in Chromium, as the page marks them."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as p:
        known = Path("/usr/bin/chromium")
        path = str(known) if known.exists() else None
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#write:enabled", timeout=10_000)
        for _ in range(times + 3):
            page.evaluate("performance.clearMarks()")
            page.click("#write")
            until = time.monotonic() + 30  # the page's policy forbids what Playwright waits with
            while not page.evaluate("performance.getEntriesByName('mdlm:painted').length"):
                if time.monotonic() > until:
                    raise TimeoutError("the page marks nothing")
                page.wait_for_timeout(20)
            marks = "performance.getEntriesByName('mdlm:painted')[0].startTime"
            marks += " - performance.getEntriesByName('mdlm:click')[0].startTime"
            found.append(page.evaluate(marks) / 1000)
            page.wait_for_selector("#stop:disabled", timeout=60_000)
        browser.close()
    return found[3:]


class Log:
    """When the frames of each trajectory were made; it wraps an engine."""

    def __init__(self, base: Engine):
        self.times: dict[int, list[float]] = {}  # [0]: the document before its first step
        self.engine, self.server = dataclasses.replace(base, write=self.write), Server("127.0.0.1", 0)
        self.base, self.jobs = base, self.server.start(self.engine)
        threading.Thread(target=self.server.run).start()

    def write(self, values: dict[str, Any]) -> Work:
        """The engine's own, timed."""
        made = self.base.write(values)

        def frames() -> Frames:
            number = next(t.number for t in self.jobs.trajectories.values() if t.state == "running")
            times = self.times[number] = []
            inner = made.frames()
            while True:
                try:
                    frame = next(inner)
                except StopIteration as end:
                    return end.value
                times.append(time.monotonic())
                yield frame

        return Work(made.seed, frames)


def resident() -> float:
    """MB of this process in memory."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def spread(values: list[float]) -> str:
    """The median and two tails, in ms."""
    p50, p95, p99 = (1000 * float(np.quantile(values, q)) for q in (0.5, 0.95, 0.99))
    return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"


def row(name: str, found: str, target: str) -> None:
    """A line of the table."""
    print(f"| {name} | {found} | {target} |", flush=True)


def steps(run: Any, log: Log, visit: Callable, rounds: int) -> None:
    """Seconds of a step, by turns: silent, as a stream that nobody reads, and watched."""
    settled = settings_of(WATCHED, run.config.sampling)
    found: dict[str, list[float]] = {"silent": [], "streamed": [], "watched": []}
    for turn in range(rounds + 2):  # two warm up
        for name, shown in (("silent", -1), ("streamed", SHOWN)):
            begun = time.monotonic()
            made = finish(generate(run, *settled, shown))
            found[name] += [(time.monotonic() - begun) / made["network_calls"]] * (turn > 1)
        [(seconds, calls)] = visit(watch, 1)
        found["watched"] += [seconds / calls] * (turn > 1)
    for other in ("streamed", "silent"):
        ratios = [a / b for a, b in zip(found["watched"], found[other], strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        base = 1000 * statistics.median(found[other])
        row(f"watched / {other} step", f"{middle:.3f} ({low:.3f}-{high:.3f}) of {base:.2f} ms", "1.15")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, help="default: a tiny run on the built-in book")
    parser.add_argument("--stall", type=float, default=120.0, help="seconds of a stalled viewer")
    parser.add_argument("--quick", action="store_true", help="few rounds, five seconds of a stalled viewer")
    a = parser.parse_args()
    share, stall = (10, 5.0) if a.quick else (1, a.stall)
    run = trained(a.workdir, "three_stage")
    log = Log(engine(run, "benchmark"))
    finish(log.base.write({}).frames())  # as the command does before it says its address
    gc.freeze()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:

        def visit(what: Callable, *options: Any) -> Any:
            return pool.submit(what, log.server.gate.port, *options).result()

        print("| figure | measured | target |\n|---|---|---|")
        row("write to first step, warm", spread(visit(first_deltas, 200 // share)), "p95 150 ms")
        try:
            row("click to first painted token, Chromium", spread(visit(painted, 100 // share)), "p95 150 ms")
        except Exception as error:  # no playwright, no browser, no page
            row("click to first painted token, Chromium", str(error).splitlines()[0], "p95 150 ms")
        steps(run, log, visit, 30 // share)
        late = [at - log.times[t][place] for t, place, at in visit(crowd, VIEWERS, max(20 // share, 3))]
        row(f"{VIEWERS} viewers, step made to read, {len(late):,} deliveries", spread(late), "p99 100 ms")
        found = visit(stops, 200 // share)
        halted = sum(len(log.times[number]) <= 1 + calls + 1 for number, calls, _ in found)
        told = spread([seconds for _, _, seconds in found])
        row("Stop halts within one step", f"{halted} of {len(found)}, known after {told}", "all")
        visit(work, stall / 4, False)  # the kept trajectories are those of this work from here on
        grown = []
        for stalled in (False, True):
            before = resident()
            texts = visit(work, stall, stalled)
            grown.append(f"{resident() - before:+.1f} MB in {texts} texts")
        told = f"{grown[1]} ({grown[0]} without)"
        row(f"memory beside a viewer stalled for {stall:.0f} s", told, "5 MB")
    log.server.stop()


if __name__ == "__main__":
    main()
