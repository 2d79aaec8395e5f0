"""A real browser on the live page of a real server, for the tests of the page."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import REPO

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested where playwright is")
pytest.importorskip("flask", reason="the page needs the extra `web`")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # the first text compiles

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium is installed", allow_module_level=True)


@pytest.fixture(scope="session")
def address(smoke_run, child_env) -> Iterator[str]:
    """Where a server of the smoke run listens."""
    command = [sys.executable, "-m", "mdlm_jax.serve", "--workdir", str(smoke_run), "--port", "0"]
    with subprocess.Popen(command, cwd=REPO, env=child_env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
        server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for a module: its loop would be in the way of what others await."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Any]]:
    """Opens the page in a context of its own; `page.heard` has what the server sent. Whatever
    the page did wrong in the console fails the test.
    """
    contexts, faults = [], []

    def opened(prepare: Callable[[Any], object] = lambda page: None, **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)

        def listen(socket: Any) -> None:
            socket.on("framereceived", lambda text: page.heard.append(json.loads(text)))

        page.on("websocket", listen)
        prepare(page)
        page.goto(address)
        expect(page.locator("#write")).to_be_enabled()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


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


def settle(page: Any) -> None:
    """Waits until the text on the page is written and shown to its end."""
    expect(page.locator("#status")).to_contain_text("written ·")
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
