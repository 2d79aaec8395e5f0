"""The live page and its connection: lost, found again, and to a server that is another."""

import json
import re
from collections.abc import Callable
from typing import Any

from page_visit import begin_long, expect, plain, settle, steps, write

pytest_plugins = ["page_browser"]


class Wire:
    """The page's WebSockets: what the page said, and a hand on what it hears."""

    def __init__(self, page: Any):
        self.routes: list[Any] = []
        self.said: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}  # laid over the server's
        page.route_web_socket("**/ws", self.route)

    def route(self, route: Any) -> None:
        server = route.connect_to_server()
        route.on_message(lambda text: [self.said.append(json.loads(text)), server.send(text)])
        server.on_message(lambda text: route.send(self.laid(text)))
        self.routes.append(route)

    def laid(self, text: str) -> str:
        told = json.loads(text)
        return json.dumps(told | self.hello) if told["type"] == "hello" else text

    def drop(self, page: Any) -> None:
        """Closes the page's socket and waits until the page has another."""
        self.routes[-1].close()
        expect(page.locator("#link")).to_contain_text("lost")
        expect(page.locator("#link")).to_be_empty()


def wired(visit: Callable[..., Any]) -> tuple[Any, Wire]:
    """A page and its wire."""
    wires: list[Wire] = []
    page = visit(lambda page: wires.append(Wire(page)))
    return page, wires[0]


def test_a_dropped_socket_comes_back_where_it_was(visit):
    page, wire = wired(visit)
    begin_long(page)
    wire.drop(page)
    assert len(wire.routes) == 2
    page.locator("#stop").dispatch_event("click")
    expect(page.locator("#stop")).to_be_disabled()
    page.press("#scrub", "End")
    other = visit()  # which hears all of it from the start
    expect(other.locator("#scrub")).to_have_attribute("max", str(page.get_attribute("#scrub", "max")))
    other.press("#scrub", "End")
    [asked] = [message for message in wire.said if message["type"] == "follow" and message["from"]]
    assert asked["from"] < steps(page) == steps(other)
    assert plain(page) == plain(other)


def test_a_dropped_socket_comes_back_to_a_text_that_waits(visit):
    busy, (page, wire) = visit(), wired(visit)
    write(page, "", 4)
    shown = page.locator("#texts [aria-current] .number").text_content()
    begin_long(busy)
    page.fill("#option-length", "6")
    page.click("#write")
    expect(page.locator("#queue")).to_contain_text("Waiting")
    wire.drop(page)
    busy.click("#stop")
    expect(page.locator("#texts [aria-current] .number")).not_to_have_text(str(shown))
    settle(page)
    assert page.locator("#text span").count() == 6


def test_texts_of_another_server_are_for_reading(visit):
    page, wire = wired(visit)
    begin_long(page)
    status = page.locator("#status")
    number = page.locator("#texts [aria-current]").get_attribute("data-text")
    page.locator("#text span").first.click()
    wire.hello = {"server": "another"}
    wire.drop(page)
    expect(status).to_contain_text("the server was started again")
    expect(page.locator("#panel")).to_contain_text("no branch can begin in it")
    expect(page.locator("#panel form button")).to_be_disabled()
    for button in page.locator("#mask, #anew, #panel table button").all():
        expect(button).to_be_disabled()
    expect(page.locator("#texts [aria-current]")).to_have_count(0)
    expect(page.locator("#stop")).to_be_disabled()
    page.press("#text [tabindex='0']", "m")
    expect(page.locator("#error")).to_contain_text("no branch can begin in it")
    assert [message for message in wire.said if message["type"] == "branch"] == []
    page.locator(f"#texts [data-text='{number}']").click()  # another text, by the same number
    expect(status).to_contain_text(re.compile("being written|stopped|finished"))
    page.locator("#stop").dispatch_event("click")  # it may have come to its end by now
    expect(status).to_contain_text(re.compile("stopped|finished"))
    page.press("#text [tabindex='0']", "m")
    expect(page.locator("#texts [aria-current]")).to_contain_text(f"branch of {number}")
    page.locator("#stop").dispatch_event("click")


KEPT = "() => import('/static/history.js').then(({ History }) => History.prototype)"


def test_texts_that_the_server_forgot_are_forgotten(visit):
    page, wire = wired(visit)
    for _ in range(3):
        write(page, "", 4)
    tools = page.context.new_cdp_session(page)

    def kept() -> int:
        asked = {"expression": f"({KEPT})()", "awaitPromise": True}
        prototype = tools.send("Runtime.evaluate", asked)["result"]["objectId"]
        found = tools.send("Runtime.queryObjects", {"prototypeObjectId": prototype})["objects"]["objectId"]
        count = {"objectId": found, "functionDeclaration": "function() { return this.length; }"}
        number = tools.send("Runtime.callFunctionOn", count)["result"]["value"]
        tools.send("Runtime.releaseObject", {"objectId": found})  # else it keeps them
        return int(number)

    assert kept() >= 3
    shown = plain(page)
    wire.routes[-1].send(json.dumps({"type": "trajectories", "trajectories": []}))
    expect(page.locator("#texts li")).to_have_count(0)
    assert kept() == 1 and plain(page) == shown


def test_a_text_that_fails_before_it_begins_is_told(visit):
    page, wire = wired(visit)
    told = {"type": "ended", "trajectory": 10**6, "state": "failed", "text": None, "message": "no room"}
    wire.routes[-1].send(json.dumps(told | {"seconds": 0.0, "calls": 0, "log_prob_per_token": 0.0}))
    expect(page.locator("#error")).to_have_text("no room")
