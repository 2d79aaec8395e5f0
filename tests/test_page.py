"""The live page in a real browser: what a reader sees and can do, with the keyboard alone, in any theme."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_visit import AXE, LEVELS, LONG, begin_long, expect, last, masks, plain, settle, steps, write

pytest_plugins = ["page_browser"]


def test_a_text_is_written_paused_and_scrubbed(visit):
    page = visit()
    write(page, "", 4)
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
    shown = deltas(page)[at - 1]
    assert page.locator("#text .now").count() == shown["masked"].count(0) > 0
    page.click("#forward")
    assert steps(page) == at + 1 and masks(page) < left
    page.click("#back")
    assert steps(page) == at and masks(page) == left
    page.focus("#scrub")
    page.keyboard.press("Home")
    assert masks(page) == 40 and page.locator("#text .now").count() == 0
    page.keyboard.press("End")
    assert steps(page) == head and masks(page) == 0
    assert plain(page) == last(page, "ended")["text"]
    given = page.locator("#text [data-state=given]").all_text_contents()
    assert "".join(given).replace(" ", "") == "Theinspectorsaid"
    times = page.evaluate("performance.getEntriesByType('mark').map(({name}) => name)")
    assert times == 2 * ["mdlm:click", "mdlm:painted"]
    strip = page.locator("#strip")
    assert f"{head} steps down" in strip.get_attribute("aria-label")
    strip.click(position={"x": 5, "y": 2})
    assert steps(page) == 0
    page.check("[name=view][value=order]")
    page.press("#scrub", "End")
    whens = page.locator("#text [data-state=written]").evaluate_all("all => all.map(x => +x.dataset.when)")
    assert sorted(set(whens)) == list(range(1, head + 1))


def deltas(page: Any) -> list[dict[str, Any]]:
    """The steps of the latest text that the server told of."""
    number, found = last(page, "begun")["trajectory"], []
    for told in page.heard:
        if told["type"] == "deltas" and told["trajectory"] == number:
            found += told["deltas"]
    return found


def test_a_text_waits_and_another_is_stopped(visit):
    busy, page = visit(), visit()
    begin_long(busy)
    page.fill("#option-length", "4")
    page.click("#write")
    expect(page.locator("#queue")).to_have_text("Waiting: place 1 in the queue.")
    page.click("#stop")
    expect(page.locator("#queue")).to_be_empty()
    busy.click("#stop")
    expect(busy.locator("#status")).to_contain_text("stopped")
    assert last(busy, "ended")["state"] == "stopped" and last(busy, "ended")["calls"] < LONG["length"]


def test_a_mistake_is_told_in_one_line(visit):
    page = visit()
    page.fill("#option-length", "-3")
    page.click("#write")
    alert = page.locator("#error")
    expect(alert).to_contain_text("length")
    assert alert.get_attribute("role") == "alert" and "\n" not in str(alert.text_content())
    write(page, "", 4)
    expect(alert).to_be_empty()
    page.fill("#prompt", "word " * 400)  # more than there is room for
    page.fill("#option-length", "")
    page.click("#write")
    expect(alert).to_contain_text("the canvas")
    write(page, "", 4)
    expect(alert).to_be_empty()


def test_a_branch_has_the_options_of_the_form_and_no_others(visit):
    page = visit()
    page.click("#more summary")
    page.select_option("#option-sampler", "confidence")
    page.fill("#option-threshold", "0.9")
    write(page, "", 12)
    page.fill("#option-threshold", "")
    page.select_option("#option-sampler", "ancestral")
    page.locator("#text span").nth(3).click()
    page.get_by_role("button", name="Mask again").click()
    expect(page.locator("#texts [aria-current]")).to_contain_text("branch")
    settle(page)
    assert last(page, "begun")["options"].keys() == {"sampler", "seed"}


def test_a_token_tells_its_story_and_is_masked_again(visit):
    page = visit()
    write(page)
    before, begun = plain(page), last(page, "begun")
    place = 20
    page.locator("#text span").nth(place).click()
    panel = page.locator("#panel")
    expect(panel.locator("h2")).to_have_text(f"Token {place + 1} of {len(begun['tokens'])}")
    when = int(str(page.locator("#text span").nth(place).get_attribute("data-when")))
    expect(panel).to_contain_text(f"Written in step {when}, ")
    assert len(panel.locator("tbody tr").all()) >= 5
    branches = page.locator("#texts ul li").count()  # of other tests, by the same server
    page.get_by_role("button", name="Mask again").click()
    expect(page.locator("#texts ul li")).to_have_count(branches + 1)
    settle(page)
    branch = last(page, "begun")
    assert branch["parent"] == begun["trajectory"]
    mask = last(page, "hello")["special"]["mask"]
    assert [i for i, token in enumerate(branch["tokens"]) if token == mask] == [place]
    page.locator("#texts > li:last-child > button").click()  # the first text is as it was
    assert plain(page) == before


def test_a_token_is_replaced_and_a_branch_starts_at_an_earlier_step(visit):
    page = visit()
    write(page)
    page.focus("#scrub")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    written = page.locator("#text [data-state=written]").first
    place = int(written.evaluate("span => [...span.parentNode.children].filter(x => x.role).indexOf(span)"))
    written.click()
    row = page.locator("#panel tbody tr").filter(has_not_text="written").first
    name = str(row.locator("bdi").text_content())
    row.get_by_role("button").click()
    expect(page.locator("#texts [aria-current]")).to_contain_text("step 1")
    settle(page)
    begun = last(page, "begun")
    assert begun["pinned"] == [place] and begun["step"] == 1
    pinned = page.locator("#text .pinned")
    expect(pinned).to_have_count(1)
    pinned.click()
    expect(page.locator("#panel")).to_contain_text("Pinned")
    expect(page.locator("#panel .quote")).to_have_text(name)
    page.fill("#word", "xyzzyxyzzy")
    page.get_by_role("button", name="Replace", exact=True).click()
    expect(page.locator("#panel [role=alert]")).to_contain_text("not one token")
    page.fill("#word", "")
    page.get_by_role("button", name="Replace", exact=True).click()
    expect(page.locator("#panel [role=alert]")).to_have_text("Type a word.")
    page.fill("#word", "the")
    page.get_by_role("button", name="Replace", exact=True).click()
    expect(page.locator("#texts [aria-current]")).to_contain_text(f"branch of {begun['trajectory']}")
    settle(page)
    expect(page.locator("#text .pinned")).to_have_count(2 - (last(page, "begun")["pinned"] == [place]))


def test_a_selected_span_is_written_anew_with_another_length(visit):
    page = visit()
    write(page)
    spans = page.locator("#text span")
    length = spans.count()
    first, stop = spans.nth(10).bounding_box(), spans.nth(14).bounding_box()
    page.mouse.move(first["x"] + 3, first["y"] + 9)
    page.mouse.down()
    page.mouse.move(stop["x"] + 3, stop["y"] + 9, steps=8)
    page.mouse.up()
    expect(page.locator("#panel h2")).to_have_text("5 tokens selected")
    expect(page.locator("#text [aria-selected=true]")).to_have_count(5)
    page.get_by_role("button", name="Select more ›").click()
    expect(page.locator("#panel h2")).to_have_text("6 tokens selected")
    page.fill("#span-number", "9")
    page.get_by_role("button", name="Mask and write").click()
    expect(spans).to_have_count(length + 3)
    settle(page)
    branch = last(page, "begun")
    mask = last(page, "hello")["special"]["mask"]
    assert [i for i, token in enumerate(branch["tokens"]) if token == mask] == list(range(10, 19))


def test_a_selection_of_the_prompt_becomes_a_gap(visit):
    page = visit()
    for how, gap in (("same", "[EDIT:quick]"), ("free", "____"), ("count", "[MASK:12]")):
        page.fill("#prompt", "The quick fox")
        page.focus("#prompt")
        page.keyboard.press("Home")
        for key in 4 * ["ArrowRight"] + 5 * ["Shift+ArrowRight"]:
            page.keyboard.press(key)
        page.select_option("#gap", how)
        page.click("#gap-make")
        assert page.input_value("#prompt") == f"The {gap} fox"
    write(page, None, 0)
    assert masks(page) == 0 and page.locator("#text [data-state=written]").count() == 12


def focused(page: Any, what: str) -> Any:
    """A property of the element that has the focus."""
    return page.evaluate(f"document.activeElement.{what}")


def test_the_keyboard_is_enough(visit):
    page = visit(reduced_motion="reduce")
    press = page.keyboard.press
    while focused(page, "id") != "prompt":
        press("Tab")
    page.keyboard.type("The door")
    press("Control+Enter")
    settle(page)
    page.select_option("#speed", "2")
    while focused(page, "role") != "option":
        press("Tab")
        assert focused(page, "id") != "copy"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("End")
    assert page.locator("#text span:focus").get_attribute("tabindex") == "0"
    assert page.locator("#text [tabindex='0']").count() == 1
    press("Home")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    at = page.evaluate("document.activeElement.getBoundingClientRect().top")
    press("ArrowUp")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") < at
    press("ArrowDown")
    press("Enter")
    assert focused(page, "id") == "panel-title"
    press("Escape")
    assert focused(page, "role") == "option"
    press("Shift+ArrowRight")
    press("Shift+ArrowRight")
    expect(page.locator("#text [aria-selected=true]")).to_have_count(3)
    press("Escape")
    expect(page.locator("#text [aria-selected=true]")).to_have_count(0)
    shown = steps(page)
    press(",")
    assert steps(page) == shown - 1
    press(".")
    assert steps(page) == shown
    press(" ")
    expect(page.locator("#play")).to_have_text("Pause")
    press(" ")
    expect(page.locator("#play")).to_have_text("Play")
    press("?")
    expect(page.locator("#help")).to_be_visible()
    press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    press("m")
    expect(page.locator("#texts [aria-current]")).to_contain_text("branch")
    page.click("#help-open")
    page.uncheck("#keys")
    page.click("#help-close")
    press("?")
    expect(page.locator("#help")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('#text span')).animationName") == "none"


@pytest.fixture(scope="module")
def faults() -> Callable[[Any], Any]:
    """What axe-core finds wrong with the page as it is, and whether it scrolls sideways."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core comes with it")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def found(page: Any) -> Any:
        if not page.evaluate("'axe' in globalThis"):
            page.evaluate(axe)
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        return page.evaluate(AXE, LEVELS) + wide * ["scrolls sideways"]

    return found


def nothing_yet(page: Any) -> None:
    """Hides from a page that the server has texts."""

    def hear(route: Any) -> None:
        server = route.connect_to_server()
        server.on_message(lambda text: route.send(json.dumps(json.loads(text) | {"trajectories": []})))

    page.route_web_socket("**/ws", hear)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_nothing_in_any_state(visit, faults, scheme: str, width: int):
    page = visit(viewport={"width": width, "height": 760}, color_scheme=scheme, reduced_motion="reduce")
    write(page, "The inspector said", 12)
    page.locator("#text [data-state=written]").first.click()
    page.check("[name=view][value=order]")
    page.fill("#option-length", "-1")
    page.click("#write")
    expect(page.locator("#error")).not_to_be_empty()
    found = {"token, order, error": faults(page)}
    page.click("#help-open")
    found["help"] = faults(page)
    page.click("#help-close")
    page.check("[name=view][value=confidence]")
    page.focus("#scrub")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator("#text [data-state=mask]").first.click()
    page.keyboard.press("Shift+ArrowRight")
    found["in the middle, span"] = faults(page)
    if (scheme, width) == ("light", 1280):
        page.click("#more summary")
        page.click("#plain summary")
        page.select_option("#gap", "count")
        page.set_viewport_size({"width": 640, "height": 450})  # as a page of 1280 is at 200 %
        found["zoomed, options, plain text"] = faults(page)
        empty = visit(nothing_yet)
        expect(empty.locator("#empty")).to_be_visible()
        found["empty"] = faults(empty)
    assert {state: fault for state, fault in found.items() if fault} == {}
