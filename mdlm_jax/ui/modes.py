"""The modes of `python -m mdlm_jax.sample` that are loops around a function that writes a text."""

import contextlib
import datetime
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mdlm_jax import frames
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError

Values = dict[str, Any]


def already(path: Path, jobs: list[Values], marks: Values) -> int:
    """How many of the jobs an output holds, in order, with these marks; a last line that was cut short goes.

    Raises UserError when it holds anything else, and leaves it as it is.
    """
    if not path.exists():
        return 0
    held = path.read_bytes()
    *lines, torn = held.split(b"\n")
    told = "holds other things"
    try:
        texts = [json.loads(line) for line in lines]
        for number, (text, job) in enumerate(zip(texts, jobs, strict=False), 1):
            asked, ours = text["asked"] | {n: text[n] for n in marks}, job | marks
            changed = [name for name in asked.keys() | ours.keys() if asked.get(name) != ours.get(name)]
            for name in sorted(changed)[:1]:
                told = f"holds text {number} with {name} {asked.get(name)!r}, not {ours.get(name)!r}"
                raise ValueError
        same = len(texts) <= len(jobs)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        same = False
    if same and torn:
        begun = _line(jobs[len(lines)], {}).encode()[:-2] if len(lines) < len(jobs) else b""
        same = torn.startswith(begun) if len(torn) > len(begun) else begun.startswith(torn)
        same = same and bool(begun)
    if not same:
        raise UserError(f"{path} {told}; name another --output")
    os.truncate(path, len(held) - len(torn))
    return len(lines)


def _line(job: Values, made: Values) -> str:
    return json.dumps({"asked": job} | made, ensure_ascii=False)


def batch(jobs: list[Values], output: Path | None, write: Callable[[Values], Values], marks: Values) -> None:
    """A line of JSON for every job, with what was asked, into `output` (which goes on where it ended) or
    printed. `write` makes a text with its metadata, `marks` among them.
    """
    done = already(output, jobs, marks) if output else 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(output, "a", encoding="utf-8")) if output else sys.stdout
        progress = PlanProgress(len(jobs))
        stack.callback(progress.stop)
        progress.restart(done)
        if done:
            progress.say(f"{output} holds {done} of {len(jobs)} texts already")
        for number, job in enumerate(jobs[done:], done + 1):
            try:
                line = _line(job, write(job))
            except UserError as error:
                raise UserError(f"text {number} of {len(jobs)}: {error}") from None
            print(line, file=file, flush=True)
            progress.update(number, f"{number} of {len(jobs)} texts")


def save(result: dict[str, Any], workdir: Path) -> Path:
    """Writes samples/<time>-seed<k>.json and the text beside it, each whole; returns the path of the text."""
    directory = workdir / "samples"
    directory.mkdir(exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    path = directory / f"{stamp}-seed{result['seed']}.txt"
    told = json.dumps(result, indent=1, ensure_ascii=False)
    for file, content in ((path.with_suffix(".json"), told), (path, result["text"])):
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(content + "\n", encoding="utf-8")
        partial.replace(file)
    return path


def kept(result: Values, workdir: Path) -> str:
    """What the screen shows of a text, which is saved."""
    path, scores = save(result, workdir), result["scores"]
    best = (
        f", {result['chosen'] + 1} of {len(scores)} by nearness to {result['nearest_to']}" if scores else ""
    )
    return f"--- seed {result['seed']}{best}, {path} ---\n{frames.printable(result['text'])}\n"


def timed(make: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """The median seconds of the calls after the first two, which compile, and what the last returned."""
    seconds = []
    for _ in range(repeats + 2):
        begun = time.perf_counter()
        found = make()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[2:]), found


def benchmark(write: Callable[[], Values], stream: Callable[[], Iterator[object]]) -> None:
    """Prints what a text takes, its programs compiled. A stream's first frame is what was given."""
    seconds, made = timed(write)
    number, calls = made["written"], made["network_calls"]
    first, _ = timed(lambda: next(itertools.islice(stream(), 1, None), None))
    print(f"{number} tokens in {seconds:.3f} s, {number / seconds:,.0f} a second (median of five)")
    print(f"{calls} network calls of {1000 * seconds / max(calls, 1):.2f} ms with all that is around them")
    print(f"first step of a stream after {1000 * first:.0f} ms", flush=True)


def record(path: Path | None, stream: bool, write: Callable[[Callable[[str], None]], Any]) -> Any:
    """What `write` returns; the lines that it tells go to the screen and, whole or not at all, to a file.

    Raises UserError where `path` is taken.
    """
    if path and path.exists():
        raise UserError(f"{path} is there already; remove it, or name another file to --record")
    partial = path and path.with_name(f"{path.name}.partial")
    with contextlib.ExitStack() as stack:
        sinks = [sys.stdout] if stream else []
        if partial:
            stack.callback(partial.unlink, missing_ok=True)
            sinks.append(stack.enter_context(open(partial, "w", encoding="utf-8")))

        def tell(line: str) -> None:
            for sink in sinks:
                print(line, file=sink, flush=True)

        made = write(tell)
        if path and partial:
            sinks[-1].close()
            partial.replace(path)
    return made
