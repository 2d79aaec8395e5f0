"""Which plan suits a book and a machine: a table of what the plans cost, and the largest that fits."""

import shlex
from typing import Any

LONGEST = 3600.0  # seconds that a suggested plan may take
SHORT = 20_000  # words; with fewer, tiny wrote no sentences (docs/results.md)


def about_length(info: dict[str, Any]) -> list[str]:
    """A line for the owner of a short book."""
    words = sum(info["words"].values())
    told = f"A short book, {words:,} words: from so few the plan tiny, the one that was tried, learned no "
    told += f"sentences; {SHORT:,} and more are better."
    return [told] if words < SHORT else []


def suggest(costs: list[tuple], available: int | None, book: str | None) -> list[str]:
    """A table of (plan, parameters, tokens, steps, bytes, seconds), small to large; the plan that fits."""
    from mdlm_jax.evaluation.estimate import MEMORY_SHARE
    from mdlm_jax.ui.progress import clock

    head = f"{'plan':30} {'parameters':>12} {'tokens':>12} {'steps':>8} {'memory':>10} {'time':>8}"
    rows = [f"{c[0]:30} {c[1]:12,} {c[2]:12,} {c[3]:8,} {c[4] / 1e9:7.2f} GB {clock(c[5]):>8}" for c in costs]
    room = MEMORY_SHARE * available if available else float("inf")
    fitting = [name for name, *_, needed, lasts in costs if lasts <= LONGEST and needed <= room]
    best = fitting[-1] if fitting else costs[0][0]
    why = "the largest within" if fitting else "the smallest; be warned, none stays within"
    here = f" of {available / 1e9:.1f} GB" if available else ""
    return [
        f"Book: {book or 'the built-in novel'}",
        head,
        *rows,
        "(estimates; the times come from a short probe and may be off by a factor of two)",
        f"Suggested: {best}, {why} {clock(LONGEST)} and {MEMORY_SHARE:.0%} of this machine's memory{here}.",
        "That a larger network is better on one book has not been measured: only tiny has published figures.",
        shlex.join(["python", "launch.py", "--config", best, *(["--book", book] if book else [])]),
    ]
