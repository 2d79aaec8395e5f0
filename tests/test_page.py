"""The live page in a real browser: what a reader sees and can do, with the keyboard alone, in any theme."""

import gzip
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO, soak_count

from mdlm_jax.frames import printable
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.ui import replay

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested where playwright is")
pytest.importorskip("flask", reason="the page needs the extra `web`")
expect = sync_api.expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium is installed", allow_module_level=True)

PAGE = REPO / "mdlm_jax" / "ui" / "page"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # what the page leaves out beyond `printable`
LONG = {"length": 700, "sampler": "left_to_right", "steps": 0}  # a text that takes a while


@pytest.fixture(scope="module")
def address(run_copy, child_env) -> Iterator[str]:
    """Where the server of this module listens."""
    command = [sys.executable, "-m", "mdlm_jax.serve", "--workdir", str(run_copy), "--port", "0"]
    with subprocess.Popen(command, cwd=REPO, env=child_env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
        server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Any]]:
    """Opens the page in a context of its own; `page.heard` has what the server sent, `page.said` what it was
    sent. Whatever the page did wrong in the console fails the test.
    """
    contexts, faults = [], []

    def opened(prepare: Callable[[Any], object] = lambda page: None, **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.heard, page.said = [], []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)

        def listen(socket: Any) -> None:
            socket.on("framereceived", lambda text: page.heard.append(json.loads(text)))
            socket.on("framesent", lambda text: page.said.append(json.loads(text)))

        page.on("websocket", listen)
        prepare(page)
        page.goto(address)
        expect(page.locator("#write")).to_be_enabled()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def write(page: Any, prompt: str = "The inspector said", length: int | None = 40) -> None:
    """Asks for a text and waits until all of it is shown."""
    page.fill("#prompt", prompt)
    page.fill("#option-length", str(length or ""))
    page.click("#write")
    settle(page)


def settle(page: Any) -> None:
    """Waits until the text that was asked for is written and shown to its end."""
    expect(page.locator("#stop")).to_be_enabled() if not page.locator("#time").is_visible() else None
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#play")).to_have_text("Play")
    expect(page.locator("#status")).to_contain_text("written ·")


def last(page: Any, kind: str) -> dict[str, Any]:
    """The server's latest message of a type."""
    return next(message for message in reversed(page.heard) if message["type"] == kind)


def plain(page: Any) -> str:
    """The text on the page, masks as dots."""
    if not page.locator("#plain-text").is_visible():
        page.click("#plain summary")
    return str(page.locator("#plain-text").text_content())


def masks(page: Any) -> int:
    """How many places are masked at the step shown."""
    return int(page.locator("#text [data-state=mask], #text [data-state=draft]").count())


def steps(page: Any) -> int:
    """The step shown."""
    return int(page.input_value("#scrub"))


# --- watching ------------------------------------------------------------------------------------------------


def test_a_text_is_written_paused_and_scrubbed(visit):
    page = visit()
    page.select_option("#speed", "6")
    page.fill("#prompt", "The inspector said")
    page.fill("#option-length", "40")
    page.click("#write")
    expect(page.locator("#play")).to_have_text("Pause")
    expect(page.locator("#scrub")).not_to_have_value("0")
    page.click("#play")
    expect(page.locator("#stop")).to_be_disabled()  # the work went on
    at, left = steps(page), masks(page)
    head = last(page, "ended")["calls"]
    assert 0 < at < head and left > 0
    assert page.locator("#text .now").count() == len(page.locator("#text .now").all()) > 0
    page.click("#forward")
    assert steps(page) == at + 1 and masks(page) < left
    page.click("#back")
    assert steps(page) == at and masks(page) == left
    page.focus("#scrub")
    page.keyboard.press("Home")
    assert masks(page) == 40 and page.locator("#text .now").count() == 0
    page.keyboard.press("End")
    assert steps(page) == head and masks(page) == 0
    assert plain(page) == TURNS.sub("", last(page, "ended")["text"])
    given = page.locator("#text [data-state=given]").all_text_contents()
    assert "".join(given).replace(" ", "") == "Theinspectorsaid"
    times = page.evaluate("performance.getEntriesByType('mark').map(({name}) => name)")
    assert times == ["mdlm:click", "mdlm:painted"]
    strip = page.locator("#strip")
    assert f"{head} steps down" in strip.get_attribute("aria-label")
    strip.click(position={"x": 5, "y": 2})
    assert steps(page) == 0
    page.check("[name=view][value=order]")
    page.click("#last")
    whens = page.locator("#text [data-state=written]").evaluate_all("all => all.map(x => +x.dataset.when)")
    assert sorted(set(whens)) == list(range(1, head + 1))
