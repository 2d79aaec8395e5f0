"""The parts of a report that are about its texts: style, coherence, copies, samples, readers. No jax."""

from collections.abc import Mapping
from typing import Any

from mdlm_jax.evaluation.checks import MIDDLE
from mdlm_jax.evaluation.drawings import MEASURES
from mdlm_jax.evaluation.html_parts import (
    about,
    count,
    ends,
    figure,
    num,
    pair,
    percent,
    quoted,
    said,
    section,
    table,
    term,
)
from mdlm_jax.evaluation.prose import word_spans
from mdlm_jax.evaluation.readers import SHARED
from mdlm_jax.evaluation.svg import escaped

FROM = {"held_out": "of unseen chapters", "train": "of chapters it learned from"}
NEVER = 1e12  # answers that nobody will draw
RUNS = {"5": "five words", "8": "eight words", "13": "thirteen words"}
GLOSSED = {"delta": "Burrows’ Delta", "function_words": "function words"}
COPYING = {
    "memorised": "it recites the book",
    "some copying": "it copies now and then",
    "little beyond held-out text": "little beyond chapters it never saw",
    None: "no text to look for copies in",
}


def measured(own: Mapping[str, Any]) -> str:
    """How many texts a section is about, as HTML."""
    texts, short = own["texts"], own["left_out"]
    return f"{count(texts)} of {count(texts + short)} texts were measured; {count(short)} were too short"


def style_in_words(style: Mapping[str, Any]) -> str:
    """Where the style stands, as HTML."""
    told = escaped(style["reason"] or "")
    if style["overall"] is not None:
        low, high = style["overall_interval"]
        near = "nearer to another book’s" if low > MIDDLE else "not for certain nearer to either"
        near = "nearer to the book’s own" if high < MIDDLE else near
        told = f"{num(style['overall'], 2)} ({ends([low, high], 2)})"
        told += f", where 0 is the book’s own unseen chapters and 1 another book: {near}"
    if style["beyond"]:
        names = ", ".join(escaped(MEASURES[name]) for name in style["beyond"])
        told += f"; but farther off than both in: {names}"
    return told


def memory_in_words(memory: Mapping[str, Any]) -> str:
    """What was copied, as HTML."""
    longest = memory["longest"]
    told = f"{COPYING.get(memory['verdict'], memory['verdict'])}; longest span taken over word for word: "
    return f"{told}{count(longest['samples'])} words (unseen chapters: {count(longest['held_out'])})"


def placed_rows(measures: Mapping[str, Any]) -> list[list[str]]:
    """Rows of `placement.placed` for a table."""
    rows = []
    for name, x in measures.items():
        spans = [
            f"{about(x[end]['p10'], 3)} to {about(x[end]['p90'], 3)}" if x[end] else "–"
            for end in ("floor", "ceiling")
        ]
        known = escaped(MEASURES[name])
        cells = [escaped(x["verdict"]), about(x["value"], 3), *spans, num(x["position"], 2)]
        cells += [
            ends(x["interval"], 2) if x["interval"] else "–",
            percent(x["samples_auc"] if all(x["pieces"][:2]) else None, 0),
        ]
        rows.append([term(GLOSSED[name], known) if name in GLOSSED else known, *cells])
    return rows


def style(found: Mapping[str, Any], svg: Mapping[str, str]) -> str:
    """Style and coherence between floor and ceiling, and variety."""
    own, coherence = found["evaluation"].get("style"), found["evaluation"].get("coherence")
    parts: list[str] = []
    measures: dict[str, Any] = {}
    lower = ""
    caption = (
        "The diamond is how far its texts are from the chapters it learned from; the filled bar how far "
        "the book’s own unseen chapters are, the outlined one how far another book is. A bar leaves out "
        "the farthest tenth on either side; whether its texts can be told from the book, the verdict in the "
        "table says."
    )
    head = ["measure", "verdict", "samples", f"unseen chapters ({term('floor')})"]
    head += [f"another book ({term('ceiling')})", term("position"), term("95 %"), "farther off"]
    if own:
        told = f"No figure for the whole: {escaped(own['reason'] or '')}"
        if own["overall"] is not None:
            told = (
                f"On the way from the book itself (0) to {said(own['other_book'])} (1), which comes with "
                "this program as a yardstick, its texts stand at "
                f"{num(own['overall'], 2)} (95 %: {ends(own['overall_interval'], 2)}), the median of the "
                "measures that tell the two apart, where nearer than the book’s own chapters counts as 0, in "
                f"texts of {count(own['words'])} words"
            )
        parts.append(f"<p>{told}. {measured(own)}.</p>")
        measures |= own["measures"]
    if coherence:
        lower = figure(
            svg.get("coherence"),
            "Whether sentences go with their neighbours: beside the book’s own pages, and beside the same "
            "pages with their sentences shuffled.",
            "" if own else "single",
        )
        head[4] = f"another book, or shuffled ({term('ceiling')})"
        measures |= {name: coherence[name] for name in ("adjacent", "entities")}
    drawn = figure(svg.get("style"), caption, "" if lower else "single")
    parts.append(pair(drawn, lower) if drawn and lower else drawn + lower)
    if measures:
        caption = (
            "All measures, as distances from the chapters it learned from; “farther off”: how often one of "
            "its texts is farther from them than a piece of an unseen chapter, half of the time where alike"
        )
        parts.append(table(caption, head, placed_rows(measures)))
    return section("style", "Is it the book’s voice?", *parts, *(variety(coherence) if coherence else ()))


def variety(coherence: Mapping[str, Any]) -> list[str]:
    """Tables of the order of sentences, of texts together, and of what each text says again."""

    def spread(x: Mapping[str, Any] | None) -> str:
        return f"{about(x['p10'], 3)} to {about(x['p90'], 3)}" if x else "–"

    orders = {MEASURES[name]: coherence[name].get("own_order") for name in ("adjacent", "entities")}
    order = [
        [escaped(name), *(percent(x[group], 0) for group in ("samples", "held_out"))]
        for name, x in orders.items()
        if x
    ]
    together = [
        [
            TOGETHER[name],
            about(x["samples"], 3),
            spread(x["book"]),
            WORSE.get(name, "lower"),
            escaped(x["verdict"]),
        ]
        for name, x in coherence["together"].items()
    ]
    within = [
        [WITHIN[name], spread(x["samples"]), spread(x["book"]), "higher"]
        for name, x in coherence["within"].items()
    ]
    head = [
        "how often a text is stranger with its own sentences shuffled",
        "samples",
        "unseen chapters",
    ]
    caption = "The order of its sentences (chance: one in two; worse is lower)"
    return [
        table(caption, head, order) if order else "",
        table("Variety of its texts taken together", ["figure", "samples", "as many pages", "worse is", ""],
              together) if together else "",
        table("What each text says again", ["figure", "samples", "the book’s pages", "worse is"], within)
        if within else "",
    ]  # fmt: skip


TOGETHER = {
    "distinct_1": "different words",
    "distinct_2": "different pairs of words",
    "distinct_3": "different runs of three words",
    "distinct_4": "different runs of four words",
    "self_bleu_4": f"likeness of the texts to one another ({term('self-BLEU')})",
}
WORSE = {"self_bleu_4": "higher"}
WITHIN = {
    "repeated_4": "share of runs of four words that stood in it before",
    "longest_repeat": "most words said again at once (in “I see, I see” two)",
}


def place(run: Mapping[str, Any], span: Mapping[str, Any]) -> str:
    """Where a span stands in the book, as HTML."""
    titles = run["titles"]
    title = titles[span["chapter"]] if span["chapter"] < len(titles) else ""
    named = said(title) if title else f"{escaped(run['divisions'].removesuffix('s'))} "
    named += "" if title else count(span["shown"]["chapter"])
    paragraph = count(span["shown"]["paragraph"])
    return f"{named}, paragraph {paragraph}, {percent(span['share'], 0)} of the way through"


def memory(found: Mapping[str, Any], svg: Mapping[str, str]) -> str:
    """Copies: the verdict, where they stand in the book, shares and extraction."""
    own = found["evaluation"].get("memory")
    if not own:
        return ""
    caption = (
        "The book from its first page to its last. A bar says how much of what stands there came back in its "
        "texts, in spans of eight words or more; chapters kept from it have none."
    )
    items = []
    for i, span in enumerate(own["passages"]):
        back = f'<a href="#text-{span["sample"]}">text {count(span["shown"]["text"])}</a>'
        items.append(
            f'<li id="place-{i}"><p>{count(span["words"])} words in {back}: {place(found["run"], span)}</p>'
            f"{quoted(span['excerpt'], found['run']['language'])}</li>"
        )
    drawn = own.get("extraction")
    told = ""
    if drawn:
        told = (
            f"<p>Given a passage and asked for its next {count(drawn['tokens'])} tokens, how many answers "
            "would it take until one is the book’s own, word for word? Passages it never saw are the "
            "yardstick: what comes back there was guessed. Answers are drawn at temperature 1 from "
            "left to right, not by the run’s own sampling.</p>"
        )
        if len(half := found["verdict"].get("answers", {})) == 2:
            told += (
                f"<p>Half of the passages it learned from would come back within {about(half['training'])} "
                f"answers, half of those it never saw within {about(half['held_out'])}"
                f"{': practically never' * (min(half.values()) > NEVER)}.</p>"
            )
    rows = [
        [
            RUNS[n],
            percent(x["samples"]["share"], 2),
            percent(x["held_out"]["share"], 2),
            " to ".join(percent(end, 2) for end in x["difference"] or ()) or "–",
        ]
        for n, x in sorted(own["shares"].items(), key=lambda one: int(one[0]))
    ]
    return section(
        "memory",
        "Did it learn the book by heart?",
        f"<p>{memory_in_words(own).capitalize()}.</p>",
        figure(svg.get("memory"), caption, "single")
        or "<p>No span of eight words or more of its texts stands in the book.</p>" * (not any(own["map"])),
        "<h3>Where the longest stand in the book</h3>" * bool(items),
        f'<ol class="places">{"".join(items)}</ol>' if items else "",
        told,
        pair(
            figure(
                svg.get("copies"),
                "Runs of words that stand in the book too, in its texts and in unseen pages.",
            ),
            figure(svg.get("extraction"), "Passages that come back word for word, by the number of answers."),
        ),
        table(
            "Runs of words that stand in the book",
            ["run", "samples", "unseen", "more than unseen, 95 %"],
            rows,
        ),
    )


def links(found: Mapping[str, Any]) -> dict[int, list[tuple[int, int, str]]]:
    """Of each text, the copied spans that have a place in the list: (start, stop, target), in characters."""
    memory = found["evaluation"].get("memory")
    made: dict[int, list[tuple[int, int, str]]] = {}
    texts = found["evaluation"]["samples"]["texts"]
    for i, span in enumerate(memory["passages"] if memory else []):
        at = word_spans(texts[span["sample"]])
        start, stop = at[span["start"]][0], at[span["start"] + span["words"] - 1][1]
        own = made.setdefault(span["sample"], [])
        if all(stop <= a or b <= start for a, b, _ in own):  # copies may overlap; links must not
            own.append((start, stop, f"place-{i}"))
    return made


def samples(found: Mapping[str, Any]) -> str:
    """Samples by stage side by side, and the texts that were measured."""
    own, language = found["evaluation"].get("samples"), found["run"]["language"]
    if not own:
        return ""
    columns = "".join(
        f'<div><h3>after {said(x["stage"])}</h3><p class="origin">{said(x["checkpoint"])}</p>'
        + "".join(quoted(text.strip(), language) for text in x["texts"])
        + "</div>"
        for x in own["stages"]
    )
    linked = links(found)
    texts = "".join(
        f'<li id="text-{i}">{quoted(text, language, linked.get(i, ()))}</li>'
        for i, text in enumerate(own["texts"])
    )
    settings = own["settings"]
    drawn = f"sampler {escaped(settings['sampler'])}, {count(settings['steps'])} steps"
    drawn += f", {term('temperature')} {num(settings['temperature'], 2)}, top-p {num(settings['top_p'], 2)}"
    return section(
        "samples",
        "What it writes",
        f"<p>Unedited and unchosen, by its own settings ({drawn}; seed {count(own['seed'])}).</p>",
        f'<div class="stages">{columns}</div>',
        f"<details><summary>All {count(len(own['texts']))} texts that were measured</summary>"
        f'<ol class="places">{texts}</ol></details>',
    )


def human_in_words(human: Mapping[str, Any]) -> str:
    """What readers found, as HTML."""
    own = human["all"]
    told = f"{percent(own['share'], 0)} of {count(own['answers'])} answers found the book"
    told += f" ({percent(own['low'], 0)} to {percent(own['high'], 0)}; chance is one in two)"
    return told + ("; several read the same pairs, so that the interval is too narrow" * human["shared"])


def human(found: Mapping[str, Any]) -> str:
    """The blind test: every reader, and what each test says by itself."""
    own = found["evaluation"].get("human")
    if not own:
        return ""

    def cells(x: Mapping[str, Any]) -> list[str]:
        span = f"{percent(x['low'], 0)} to {percent(x['high'], 0)}"
        return [count(x["answers"]), count(x["right"]), percent(x["share"], 0), span]

    head = ["answers", "right", "share", "95 %"]
    tests = [x for x in own["tests"] if "answers" in x]  # an older record has none
    means = []
    for x in tests or [own]:
        which = f"Test {said(x['id'])}: " if len(tests) > 1 else ""
        means.append(f"<p>{which}{said(x['meaning'])}{f' {SHARED}' if x['shared'] else ''}</p>")
    rows = [
        [said(x["id"]), FROM.get(x["from"], said(x["from"])), count(x["readers"]), *cells(x)] for x in tests
    ]
    return section(
        "human",
        "Can readers tell?",
        "<p>Readers were shown a passage of the book beside one the model wrote, and asked which is the "
        f"book. {human_in_words(own).capitalize()}.</p>",
        *means,
        table(
            "By reader",
            ["reader", *head],
            [
                [said(x["who"]) if x["who"] else "(no name)", *cells(x)]
                for x in [*own["readers"], {"who": "all"} | own["all"]]
            ],
        ),
        table("By test", ["test", "the book’s passages", "readers", *head], rows) if len(rows) > 1 else "",
    )
