"""The page of `python -m mdlm_jax.evaluate compare`: runs side by side. A pure function; no jax."""

from collections.abc import Mapping
from typing import Any

from mdlm_jax.evaluation.drawings import MEASURES
from mdlm_jax.evaluation.html_parts import (
    count,
    ends,
    figure,
    num,
    page,
    pair,
    percent,
    power,
    quoted,
    said,
    section,
    table,
)
from mdlm_jax.evaluation.page import first_texts, kind_of
from mdlm_jax.evaluation.svg import escaped
from mdlm_jax.ui.values import flat

Findings = Mapping[str, Any]
TOP = "A comparison of models"  # stands on every such page


def rows(findings: Mapping[str, Findings]) -> list[list[str]]:
    """The figures of every run, a line each."""
    every = list(findings.values())

    def line(name: str, tell: Any) -> list[str]:
        return [name, *(tell(found) for found in every)]

    def verdict(name: str, tell: Any = num) -> Any:
        return lambda found: tell(found["verdict"].get(name)) if found["verdict"] else "–"

    def of(section: str, name: str, tell: Any) -> Any:
        return lambda found: tell(found["evaluation"].get(section, {}).get(name))

    return [
        line("what it is", lambda found: kind_of(found["run"])),
        line("book", lambda found: said(found["run"]["book"])),
        line("state", lambda found: escaped(found["run"]["state"])),
        line("weights", lambda found: count(found["run"]["parameters"])),
        line("bits per byte, test chapters", verdict("bits_per_byte")),
        line("95 % interval", lambda found: ends(found["verdict"]["interval"])
             if found["verdict"].get("kind") == "bound" else "–"),
        line("a bound, or exact", verdict("kind", lambda kind: kind or "–")),
        line("byte 5-gram", verdict("ngram_5")),
        line("style (0 the book, 1 another)", of("style", "overall", lambda x: num(x, 2))),
        line("style farther off than both in", of("style", "beyond", lambda names: ", ".join(
            escaped(MEASURES.get(name, name)) for name in names or ()) or "–")),
        line("copying", of("memory", "verdict", lambda x: escaped(x or "–"))),
        line("tokens trained on", lambda found: count((found["cost"] or {}).get("tokens"))),
        line("training compute, FLOPs", lambda found: power((found["cost"] or {}).get("flops"))),
        line("share of critical compute", lambda found: "–" if found["run"]["causal"] else percent(
            (found["cost"] or {}).get("critical", {}).get("ratio"))),
    ]  # fmt: skip


def differences(configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Fields of the plan in which the runs differ, with their values as text."""
    plans = [flat(config) for config in configs.values()]
    names = sorted({name for plan in plans for name in plan})
    return [
        [said(name), *(said(str(plan.get(name, "–"))) for plan in plans)]
        for name in names
        if len({str(plan.get(name)) for plan in plans}) > 1
    ]


def unlike(findings: Mapping[str, Findings]) -> list[str]:
    """In what the evaluations of the runs differ, so that figures of their texts do not compare: lines."""
    made = [found["evaluation"] for found in findings.values()]

    def kinds(section: str, name: str) -> set[str]:
        values = [one[section][name] for one in made if section in one]
        return {f"{value:,}" if isinstance(value, int) else str(value or "none") for value in values}

    presets = {str(sorted(one["preset"].items())): one["preset"]["name"] for one in made if "preset" in one}
    looks = {
        "presets": presets.values(),
        "numbers of texts": kinds("style", "texts"),
        "words of each text, for style": kinds("style", "words"),
        "other books as the yardstick of style": kinds("style", "other_book"),
    }
    return [f"{name} ({', '.join(sorted(found))})" for name, found in looks.items() if len(found) > 1]


def html(
    findings: Mapping[str, Findings], configs: Mapping[str, Mapping[str, Any]], svg: Mapping[str, str]
) -> str:
    """The page: `findings` of `findings.collect` and config.json of each run by its name, `svg` of
    `drawings.compared`.
    """
    head, differing = ["", *map(said, findings)], differences(configs)
    books = {
        (found["run"]["sha256"], str(sorted(found["run"]["split"].items()))) for found in findings.values()
    }
    lead, warning = "Bits per byte of chapters that none of them saw; lower is better.", ""
    if len(books) > 1:
        lead = "Bits per byte of chapters that were kept from each; lower is better."
        warning = (
            '<p class="warn">The figures cannot be compared: the runs differ in their book or in the '
            "chapters that were kept from them.</p>"
        )
    if differ := unlike(findings):
        warning += (
            '<p class="warn">Their texts were not measured alike, so that style and copying may not compare: '
            f"different {said('; '.join(differ))}.</p>"
        )
    written = "".join(
        f"<div><h3>{said(name)}</h3>{quoted(texts[0].strip(), found['run']['language'])}</div>"
        for name, found in findings.items()
        if (texts := first_texts(found))
    )
    plan = "<p>All fields of their plans are the same.</p>"
    if differing:
        plan = table("Fields in which they differ", head, differing)
    captions = ("against what they read", "against what they cost to train")
    drawn = [
        figure(svg.get(name), f"Held-out chapters {told}.")
        for name, told in zip(("tokens", "flops"), captions, strict=True)
    ]
    parts = [
        "<h1>Runs side by side</h1>",
        f'<p class="lead">{lead} Of masked diffusion they are upper bounds.</p>',
        warning,
        section("figures", "Figures", table("Figures of each run", head, rows(findings))),
        section("curves", "How they learned", pair(*drawn)),
        section("plan", "Where their plans differ", plan),
        section("samples", "What they write", f'<div class="stages">{written}</div>' if written else ""),
    ]
    return page("Runs side by side", TOP, parts)
