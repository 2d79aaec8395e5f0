"""What the tests of the page do on it. Without playwright and a browser they are skipped."""

import re
import shutil
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested where playwright is")
pytest.importorskip("flask", reason="the page needs the extra `web`")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # the first text compiles

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium is installed", allow_module_level=True)

LONG = {"length": 3000, "sampler": "left_to_right", "steps": 0}  # a text that takes a while

# axe-core's rules, and what breaks them on a page.
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """async levels => (await axe.run(document, {runOnly: levels, resultTypes: ["violations"]}))
  .violations.map(x => [x.id, x.nodes.map(n => [n.html, n.failureSummary])])"""


def write(page: Any, prompt: str | None = "The inspector said", length: int = 40) -> None:
    """Asks for a text and waits until all of it is shown; None takes the prompt that is there."""
    if prompt is not None:
        page.fill("#prompt", prompt)
    page.fill("#option-length", str(length or ""))
    number = page.locator("#texts [aria-current] .number")
    before = number.text_content() if number.count() else ""
    page.click("#write")
    expect(number).not_to_have_text(str(before))
    settle(page)


def begin_long(page: Any) -> None:
    """Asks for a text that takes a while, and returns in the middle of it."""
    page.select_option("#speed", "15", force=True)
    page.click("#more summary")
    page.fill("#option-length", str(LONG["length"]))
    page.select_option("#option-sampler", str(LONG["sampler"]))
    page.fill("#option-steps", str(LONG["steps"]))
    page.click("#write")
    expect(page.locator("#status")).to_have_text(re.compile(r"step [1-9].*being written"))


def settle(page: Any) -> None:
    """Waits until the text on the page is written and shown to its end."""
    expect(page.locator("#status")).to_contain_text("finished in")
    expect(page.locator("#play")).to_have_text("Play")


def last(page: Any, kind: str) -> dict[str, Any]:
    """The server's latest message of a type."""
    return next(message for message in reversed(page.heard) if message["type"] == kind)


def plain(page: Any) -> str:
    """The text on the page, masks as dots."""
    if not page.locator("#plain-text").is_visible():
        page.click("#plain summary")
        expect(page.locator("#plain-text")).not_to_be_empty()
    return str(page.locator("#plain-text").text_content())


def masks(page: Any) -> int:
    """How many places are masked at the step shown."""
    return int(page.locator("#text [data-state=mask], #text [data-state=draft]").count())


def steps(page: Any) -> int:
    """The step shown."""
    return int(page.input_value("#scrub"))
