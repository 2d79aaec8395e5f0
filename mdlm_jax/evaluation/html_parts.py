"""Pieces of a report in HTML: numbers that carry their exact value, sections, tables, the page. No jax.

Text of a book or of a model goes through `svg.escaped` and into an element of its own direction (bdi).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mdlm_jax.evaluation.svg import escaped

_HERE = Path(__file__).resolve().parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"


def said(text: str) -> str:
    """Text that was given, such as a name: in a direction of its own, so that it turns nothing around it."""
    return f"<bdi>{escaped(text)}</bdi>"


def exact(value: float, shown: str) -> str:
    """A number as it is shown, with its exact value: every one of a report is in its JSON."""
    return f'<data value="{value!r}">{shown}</data>'


def num(value: float | None, digits: int = 3) -> str:
    """With so many decimals; a dash for none."""
    return "–" if value is None else exact(value, f"{value:.{digits}f}".replace("-", "−"))


def count(value: float | None) -> str:
    """A whole number: 1,345,152."""
    return "–" if value is None else exact(value, f"{value:,.0f}")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as 12.3 %."""
    return "–" if share is None else exact(share, f"{100 * share:.{digits}f}".replace("-", "−") + "\u00a0%")


def power(value: float | None) -> str:
    """A large number: 2.1 × 10^13."""
    if not value:
        return num(value, 0)
    mantissa, exponent = f"{value:.1e}".split("e")
    return exact(value, f"{mantissa} × 10<sup>{int(exponent)}</sup>")


def about(value: float | None, digits: int = 4) -> str:
    """A number to so many digits, small or large."""
    if value is None:
        return "–"
    large = value and not 1e-3 <= abs(value) < 1e6
    return (
        power(value)
        if large
        else exact(value, f"{value:,.{digits}g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}")
    )


def ends(interval: Sequence[float] | None, digits: int = 3) -> str:
    """The ends of an interval."""
    return "not known" if interval is None else f"{num(interval[0], digits)} to {num(interval[1], digits)}"


def quoted(text: str, language: str | None, spans: Iterable[tuple[int, int, str]] = ()) -> str:
    """A text that was written, with links for its (start, stop, target) spans, which do not overlap."""
    parts, at = [], 0
    for start, stop, target in sorted(spans):
        link = f'<a href="#{target}"><mark>{escaped(text[start:stop])}</mark></a>'
        parts += [escaped(text[at:start]), link]
        at = stop
    code = escaped(language if language and language != "other" else "")  # of no known language
    return f'<blockquote lang="{code}"><bdi>{"".join(parts)}{escaped(text[at:])}</bdi></blockquote>'


def figure(drawing: str | None, caption: str, kind: str = "") -> str:
    """A chart and what it says, beside it for the kind "single"; nothing without a chart. HTML."""
    return f'<figure class="{kind}">{drawing}<figcaption>{caption}</figcaption></figure>' if drawing else ""


def pair(*figures: str) -> str:
    """Figures side by side where there is room."""
    there = [one for one in figures if one]
    return f'<div class="pair">{"".join(there)}</div>' if there else ""


def section(name: str, title: str, *parts: str) -> str:
    """A section with its heading; nothing without parts."""
    there = [part for part in parts if part]
    if not there:
        return ""
    heading = f'<h2 id="{name}-title">{title}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{"".join(there)}</section>\n'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; the first of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' if cell else "<td></td>" for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    named = f'aria-label="{caption}"'
    return (
        f'<p class="caption">{caption}</p><div class="scroll" role="region" {named} tabindex="0">'
        f"<table {named}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what is said of them."""
    rows = (f"<div><dt>{name}</dt><dd>{told}</dd></div>" for name, told in pairs if told)
    return f'<dl class="facts">{"".join(rows)}</dl>'


WANTED = {  # of thresholds, what was found and what is wanted, in words
    "beats_ngram": "up to {}; below {} wanted",
    "precise": "to {}; {} wanted",
    "beats_twin": "up to {}; below {} wanted",
    "not_overfitted": "{}; {} at its best",
    "style": "up to {}; below {} wanted",
}


def checklist(checks: Iterable[dict[str, Any]]) -> str:
    """Thresholds, passed or not."""
    items = []
    for one in checks:
        numbers = ""
        if one["value"] is not None:
            pair = (one["value"], one["limit"])
            shown = [percent(x, 2) if one["name"] == "precise" else about(x) for x in pair]
            numbers = f" ({WANTED[one['name']].format(*shown)})"
        kind, text = "pass" if one["passed"] else "warn", escaped(one["text"].replace("'", "’"))
        items.append(f'<li class="{kind}"><span>{text}{numbers}</span></li>')
    return f'<ul class="checks">{"".join(items)}</ul>' if items else ""


WORDS = {  # of the page that are not everybody's, a line each
    "bits per byte": "how many bits of a file each byte of a text would take if the model packed it; eight "
    "without any model, fewer for a better one",
    "nats per token": "the same for each token (a word or a piece of one), in units of the natural logarithm",
    "perplexity": "among how many equally likely tokens, or words, one would have to choose to be as unsure; "
    "words are what stands between white space",
    "95 %": "an interval that holds the true figure in nineteen of twenty measurements like this one",
    "chapters": "validation and test chapters are both unseen; training may have stopped by the former, and "
    "the latter were looked at once, at the end",
    "weights": "what the model has learned, as numbers: averaged over its last steps, or those of the last",
    "settled": "measured again a while after the border of two stages, when the model has found its way",
    "floor": "by a measure of style, how far the book’s own unseen chapters are from those it learned from",
    "ceiling": "how far another book is from them, or the same sentences in a shuffled order",
    "position": "where its texts stand on that way: 0 at the floor, 1 at the ceiling. Below 0 they are "
    "nearer than the book’s own chapters, as texts are that say the commonest things again and again: "
    "nearer is not better. Above 1 they are farther off than the other book",
    "Burrows’ Delta": "how much the use of the commonest words and marks differs, on the mean",
    "function words": "the small words of grammar, such as the, of, and",
    "self-BLEU": "how far texts are made of the same runs of words as one another; higher is more alike",
    "temperature": "how boldly it chooses words: below 1 the likelier ones gain. Top-p says "
    "from how large a share, the likelier ones, it chooses at all",
    "FLOPs": "single calculations that training took, additions and multiplications",
}


def term(name: str, shown: str = "") -> str:
    """One of WORDS, or what is `shown` for it, with a link to its line."""
    return f'<a href="#word-{list(WORDS).index(name)}">{shown or name}</a>'


def glossary() -> str:
    """WORDS, a line each."""
    rows = (
        f'<div id="word-{i}"><dt>{name}</dt><dd>{told}</dd></div>'
        for i, (name, told) in enumerate(WORDS.items())
    )
    return section("words", "Words", f'<dl class="facts">{"".join(rows)}</dl>')


def page(title: str, top: str, parts: Iterable[str]) -> str:
    """The whole document: nothing in it is fetched, and nothing in it may be."""
    style, script = ((_HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<main class="sheet">\n<div class="top"><p>{top}</p>'
        f'<button id="theme" type="button" hidden>Dark</button></div>\n{"".join(parts)}</main>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )
