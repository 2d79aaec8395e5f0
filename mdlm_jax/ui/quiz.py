"""A blind test in a terminal, two texts at a time; and the same as one page that needs nothing else."""

import base64
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mdlm_jax.frames import printable
from mdlm_jax.ui.terminal import MEASURE, Keys, interactive

BESIDE = 84  # columns from which two texts stand side by side
QUESTION = "Which one is the book?"
CHOICES = {"1": 1, "2": 2, "s": 0, "S": 0}
SIGN = f"<title>{QUESTION}</title>"  # stands on every page of a test
PAGE = Path(__file__).parent / "quiz_page"


def shown(text: str) -> str:
    """A passage as it is shown: it begins and ends anywhere."""
    return f"… {printable(text)} …"


def panels(one: str, two: str, width: int) -> RenderableType:
    """The two texts in panels, side by side where there is room; never as markup."""
    made = [
        Panel(Text(shown(text)), title=Text(f" {number} "), title_align="left", padding=(1, 2))
        for number, text in enumerate((one, two), 1)
    ]
    if width < BESIDE:
        return Group(*made)
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(*made)
    return table


def _typed(keys: Keys) -> str:
    """The next key, or line of a file, that means something; "q" at the end of the input."""
    while True:
        if keys.open:
            key = keys.wait(3600)
        else:
            line = "" if sys.stdin.isatty() else sys.stdin.readline()
            key = line.strip() if line else "q"
        if key in CHOICES or key in ("q", "Q"):
            return key


def ask(
    questions: Iterable[tuple[int, str, str]],
    number: int,
    answer: Callable[[int, int, float], bool | None],
    tell: bool = False,
) -> bool:
    """Asks (pair, first text, second text) after each other, of `number` in all; False if the reader quits.

    `answer(pair, choice, seconds)` keeps a choice (1, 2, or 0 for a skip) and says whether it was right,
    which the reader learns at once only with `tell`.
    """
    keys = Keys()
    keys.open = keys.open and interactive()
    console = Console(highlight=False, markup=False, emoji=False)
    with keys:
        for pair, one, two in questions:
            if keys.open:
                console.rule(Text(f"{QUESTION}  {pair + 1} of {number}"))
                console.print(panels(one, two, console.width))
                console.print(Text("1 or 2: this one is the book   s skip   q quit  ", "dim"), end="")
            else:
                console.width = MEASURE
                console.print(Text(f"{QUESTION} {pair + 1} of {number} (1, 2, s to skip, q to quit)\n"))
                for label, text in enumerate((one, two), 1):
                    console.print(Text(f"{label}. {shown(text)}\n"))
            began = time.monotonic()
            key = _typed(keys)
            if key in ("q", "Q"):
                console.print()
                return False
            right = answer(pair, CHOICES[key], time.monotonic() - began)
            told = {True: "right", False: "wrong", None: "skipped"}[right] if tell else ""
            console.print(Text(f"{key}  {told}\n"))
    return True


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def page(data: dict[str, Any]) -> str:
    """The page of a test as one file, which may load nothing and send nothing.

    Its colours and type are the live page's.
    """
    live = (PAGE.parent / "page" / "style.css").read_text(encoding="utf-8").split("\n\n")
    parts = [part for part in live if part.startswith((":root", "button,"))]
    style = "\n".join([*parts, (PAGE / "quiz.css").read_text(encoding="utf-8")])
    script = (PAGE / "quiz.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'"
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":  # nothing of a text can end the element it stands in
        told = told.replace(character, f"\\u{ord(character):04x}")
    html = (PAGE / "quiz.html").read_text(encoding="utf-8")
    for name, value in {"POLICY": policy, "STYLE": style, "SCRIPT": script, "DATA": told}.items():
        html = html.replace(f"%{name}%", value, 1)
    return html
