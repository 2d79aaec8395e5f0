"""The page of a blind test in a real browser: from the file alone to answers that the run takes in."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_visit import AXE, LEVELS, expect

from mdlm_jax.evaluation import blind, readers
from mdlm_jax.ui import quiz

pytest_plugins = ["page_browser"]

HOSTILE = "</script><img src=http://x.invalid/a onerror=alert(1)> & “é”\u2028 \x1b[31m 我"


@pytest.fixture
def made(tmp_path) -> tuple[Path, dict[str, Any], Path]:
    """A run directory, its test of four pairs, and the page."""
    pairs = [
        {
            "book": f"Book {i} {HOSTILE}\n\nand its second paragraph",
            "run": f"Run {i} and more",
            "answer": side,
        }
        for i, side in enumerate((1, 2, 2, 1))
    ]
    asked = {"seed": 0, "pairs": 4, "words": 5, "from": "held_out", "texts": "ema"}
    test = readers.save_test(tmp_path, {"asked": asked, "checkpoint": "x/1", "pairs": pairs})
    page = tmp_path / "test.html"
    page.write_text(quiz.page(blind.page_data(test, tell=False)), encoding="utf-8")
    return tmp_path, test, page


@pytest.fixture
def visit(browser, made) -> Iterator[Callable[..., Any]]:
    """Opens the file; what it says in the console, and what it asks of any network, fails the test."""
    contexts, faults = [], []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console", lambda told: faults.append(told.text) if told.type in ("error", "warning") else None
        )
        address = made[2].as_uri()
        allowed = (address, "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(allowed) else faults.append(asked.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def begin(page: Any, name: str) -> None:
    page.fill("#who", name)
    page.click("#begin button")
    expect(page.locator("#ask")).to_have_text("Pair 1 of 4")


def test_from_the_page_into_the_record(visit, made, tmp_path, monkeypatch, capsys):
    run, test, _ = made
    page = visit()
    begin(page, "Zoë")
    assert page.locator("#text-1").text_content().startswith("… Book 0 </script><img src=http://x.invalid/a")
    assert page.locator("#text-1 p").count() == 2 and page.locator("main img").count() == 0
    page.click("#choose-1")
    expect(page.locator("#ask")).to_be_focused()
    page.keyboard.press("1")
    assert page.locator("#told").text_content() == ""  # no hint until the end
    page.keyboard.press("s")
    expect(page.locator("#ask")).to_have_text("Pair 4 of 4")
    page.reload()  # nothing is lost
    expect(page.locator("#ask")).to_have_text("Pair 4 of 4")
    page.keyboard.press("1")
    expect(page.locator("#score")).to_have_text("You found the book in 2 of 3 pairs.")
    low, high = (round(100 * x) for x in readers.interval(2, 3))
    expect(page.locator("#span")).to_contain_text(f"67 %, with a 95 % interval of {low} to {high} %")
    expect(page.locator("#meaning")).to_have_text(readers.meaning(2, 3))
    expect(page.locator("#skipped")).to_contain_text("Skipped: 1")
    assert page.locator("#texts li").all_text_contents() == ["… Run 1 and more …"]
    with page.expect_download() as saving:
        page.click("#save")
    saved = tmp_path / "answers.json"
    saving.value.save_as(saved)
    assert json.loads(saved.read_text()) == json.loads(page.input_value("#json"))
    (run / "config.json").write_text("{}")
    for options, told in (
        (("--add", str(saved)), f"2 of 3 pairs: {readers.percent(2, 3)}"),
        (("--results",), "Zoë"),
    ):
        monkeypatch.setattr("sys.argv", ["blind", "--workdir", str(run), *options])
        assert blind.main() == 0 and told in capsys.readouterr().out
    kept = readers.answered(run, test, "Zoë")
    assert [(a["choice"], a["right"]) for a in kept.values()] == [(1, True), (1, False), (0, None), (1, True)]
    assert readers.human_figures(run)["all"]["right"] == 2
    monkeypatch.setattr("sys.argv", ["blind", "--workdir", str(run), "--add", str(saved)])
    assert blind.main() == 2 and "answers pair 1 again" in capsys.readouterr().err
    page.click("#again")
    begin(page, "")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing(visit, scheme: str, width: int):
    package = pytest.importorskip("axe_playwright_python", reason="axe-core comes with it")
    page = visit(
        viewport={"width": width, "height": 740}, color_scheme=scheme, has_touch=width < 400, bypass_csp=True
    )
    page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = {"intro": page.evaluate(AXE, LEVELS)}
    begin(page, "Anna")
    found["question"] = page.evaluate(AXE, LEVELS)
    press = page.tap if width < 400 else page.click
    small = page.locator("#question button").evaluate_all("all => all.map(x => x.offsetHeight)")
    for choice in "1112":
        press(f"#choose-{choice}")
    expect(page.locator("#score")).to_be_visible()
    found["end"] = page.evaluate(AXE, LEVELS)
    assert {state: fault for state, fault in found.items() if fault} == {} and min(small) >= 44
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_right_answers_cannot_be_read_in_the_source(made):
    """At a glance: no field says which is the book, and the pairs are all of one shape."""
    _, test, path = made
    html = path.read_text(encoding="utf-8")
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    assert all(pair.keys() == {"texts", "key"} and pair["key"] > 2 for pair in data["pairs"])
    for i, pair in enumerate(data["pairs"]):
        assert [c for c in (1, 2) if readers.key(data["salt"], i, c) == pair["key"]] == [
            test["pairs"][i]["answer"]
        ]
    assert html.count("<script") == 2 and "://" not in html.replace("http://x.invalid", "")
    assert "default-src 'none'" in html and "unsafe" not in html and "\x1b" not in html
