"""The report in a real browser: light and dark, narrow and wide, harmless whatever the texts say."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import indivisible
from page_visit import AXE, LEVELS, expect
from report_runs import HOSTILE, change, whole

from mdlm_jax.evaluation.report_files import write_comparison, write_report

pytest_plugins = ["page_browser"]


@pytest.fixture(scope="module")
def pages(smoke_run, tmp_path_factory) -> dict[str, Path]:
    """The report of an evaluated run, of one that was not, and two runs side by side."""
    folder = tmp_path_factory.mktemp("reports")
    run = whole(smoke_run, folder / "run")
    write_report(run)
    bare = whole(smoke_run, folder / "bare")
    (bare / "report" / "evaluation.json").unlink()
    (bare / "report" / "report.json").unlink()
    write_report(bare)
    change(bare / "config.json", seed=12)
    write_comparison([run, bare], folder / "comparison.html")
    found = {"whole": run / "report" / "index.html", "unfinished": bare / "report" / "index.html"}
    return found | {"comparison": folder / "comparison.html"}


def faults(page: Any) -> list[Any]:
    """What axe-core finds wrong, and whether the page scrolls sideways."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core comes with it")
    # The page's policy lets no script in but its own: axe comes in from outside of it.
    page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return page.evaluate(AXE, LEVELS) + wide * ["scrolls sideways"]


SOAK = (pytest.mark.soak, indivisible)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        ("dark", 360),
        pytest.param("light", 360, marks=SOAK),
        pytest.param("dark", 1280, marks=SOAK),
    ],
)
def test_legible_quiet_and_alone(browser, pages, scheme, width):
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    context, told, asked, wrong = browser.new_context(**options), [], [], {}
    for name, path in pages.items():
        page = context.new_page()
        page.on("console", lambda line: told.append(line.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.evaluate("window.harm") is None
        wrong[name] = faults(page)
        page.close()
    context.close()
    assert wrong == {name: [] for name in pages} and not told
    assert asked == [path.as_uri() for path in pages.values()]


def test_texts_links_and_the_switch(browser, pages):
    page = browser.new_page(color_scheme="light")
    page.goto(pages["whole"].as_uri())
    shown = " ".join(page.locator(".stages blockquote").first.text_content().split())
    assert shown.startswith("<script>window.harm = 1</script><img src=x onerror=window.harm=1>")
    assert "שלום عليكم" in shown and "😀" in shown and "\u202e" not in shown and "\x1b" not in shown
    assert page.locator("blockquote :not(bdi, a, mark)").count() == 0
    page.click("details summary")
    link = page.locator("#text-0 a").first
    words = link.text_content().split()
    assert len(words) >= 8
    place = page.locator(str(link.get_attribute("href")))
    link.click()
    expect(place).to_be_in_viewport()
    assert " ".join(words[:4]) in " ".join(str(place.text_content()).split())
    back = place.locator("p a")
    assert back.get_attribute("href") == "#text-0"
    assert json.dumps(HOSTILE)[1:9] in page.title()
    ground = "getComputedStyle(document.querySelector('.sheet')).backgroundColor"
    light = page.evaluate(ground)
    expect(page.locator("#theme")).to_have_text("Dark")
    page.click("#theme")
    assert page.evaluate(ground) != light
    expect(page.locator("#theme")).to_have_text("Light")
    page.click("#theme")
    assert page.evaluate(ground) == light
    page.emulate_media(media="print")
    expect(page.locator("#theme")).to_be_hidden()
    page.close()


def test_a_link_opens_the_list_that_it_leads_into(browser, pages):
    page = browser.new_page()
    page.goto(pages["whole"].as_uri())
    assert not page.evaluate("document.querySelector('details').open")
    page.locator(".places p a").first.click()
    expect(page.locator("#text-0")).to_be_in_viewport()
    page.close()


def test_a_text_from_right_to_left_begins_on_the_right(browser, pages):
    page = browser.new_page()
    page.goto(pages["whole"].as_uri())
    text = page.locator(".stages blockquote bdi").first
    text.evaluate("bdi => { bdi.textContent = 'שלום'; }")
    told = "bdi => [getComputedStyle(bdi).direction, getComputedStyle(bdi).display]"
    assert text.evaluate(told) == ["rtl", "block"]
    page.close()
