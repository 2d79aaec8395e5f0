"""The modes of `python -m mdlm_jax.sample` that are loops around a function that writes a text."""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The options in each line of a prompts file: a prompt, or a JSON object. Raises ValueError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(x) if x.startswith("{") else {"prompt": x} for x in lines if x.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is neither text in UTF-8 nor JSON lines: {error}") from None
    if not found:
        raise ValueError(f"{path} holds no prompts; write one a line")
    return found


def already(path: Path, jobs: list[dict[str, Any]]) -> int:
    """How many of the jobs an output holds, in order; a last line that was cut short goes.

    Raises ValueError when it holds anything else.
    """
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
    try:
        told = [json.loads(line) for line in whole]
        keys = [(text["prompt"], text["seed"]) for text in told]
    except (ValueError, LookupError, TypeError):
        keys = [("", -1)]
    if keys != [(job.get("prompt", ""), job["seed"]) for job in jobs][: len(keys)]:
        raise ValueError(f"{path} holds other things; remove it, or name another --output")
    if path.exists():
        path.write_bytes(b"".join(line + b"\n" for line in whole))
    return len(keys)


def batch(
    jobs: list[dict[str, Any]],
    output: Path | None,
    write: Callable[[dict[str, Any]], dict[str, Any]],
    update: Callable[[int, str], None],
) -> None:
    """A line of JSON for every job, into `output` (which goes on where it ended) or printed."""
    done = already(output, jobs) if output else 0
    for number, job in enumerate(jobs[done:], done + 1):
        line = json.dumps(write(job), ensure_ascii=False)
        if output:
            with open(output, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        else:
            print(line, flush=True)
        update(number, f"{number} of {len(jobs)} texts")


def timed(make: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """The median seconds of the calls after the first two, which compile, and what the last returned."""
    seconds = []
    for _ in range(repeats + 2):
        begun = time.perf_counter()
        found = make()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[2:]), found


def benchmark(write: Callable[[], dict[str, Any]], first_frame: Callable[[], object]) -> None:
    """Prints what a text takes, its programs compiled."""
    seconds, made = timed(write)
    number, calls = made["written"], made["network_calls"]
    print(f"{number} tokens in {seconds:.3f} s, {number / seconds:,.0f} a second (median of five)")
    print(f"{calls} network calls of {1000 * seconds / max(calls, 1):.2f} ms with all that is around them")
    print(f"first frame of a stream after {1000 * timed(first_frame)[0]:.0f} ms", flush=True)


def record(path: Path | None, stream: bool, write: Callable[[Callable[[str], None]], Any]) -> Any:
    """What `write` returns; the lines that it tells go to the screen and, whole or not at all, to a file."""
    partial = path and path.with_name(f"{path.name}.partial")
    with contextlib.ExitStack() as stack:
        sinks = [sys.stdout] if stream else []
        if partial:
            sinks.append(stack.enter_context(open(partial, "w", encoding="utf-8")))

        def tell(line: str) -> None:
            for sink in sinks:
                print(line, file=sink, flush=True)

        made = write(tell)
    if path and partial:
        partial.replace(path)
    return made
