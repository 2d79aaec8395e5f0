"""A real browser on the live page of a real server: a plugin of the tests of the page."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import REPO
from page_visit import CHROMIUM, expect, sync_api


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
        page.select_option("#speed", "Infinity", force=True)  # nobody is watching
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
