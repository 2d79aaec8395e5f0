"""The charts of a report, drawn from what `findings.collect` has found. No jax."""

from collections.abc import Callable
from typing import Any

from mdlm_jax.evaluation import charts
from mdlm_jax.evaluation.charts import Interval, Series
from mdlm_jax.evaluation.svg import Axis

Findings = dict[str, Any]
BITS, NATS = "bits per byte (lower is better)", "nats per token (lower is better)"
MEASURES = {  # of style and coherence, as a reader may call them
    "sentence_length": "lengths of sentences",
    "delta": "frequent words and marks (Burrows' Delta)",
    "function_words": "function words",
    "mattr": "richness of the vocabulary",
    "hapax": "words used once",
    "new_words": "words the book does not have",
    "new_pairs": "neighbouring words the book does not have",
    "punctuation": "punctuation marks",
    "readability": "ease of reading",
    "parts_of_speech": "parts of speech",
    "adjacent": "strangeness of neighbouring sentences",
    "entities": "names that do not come again",
}


def learning(found: Findings) -> str:
    """Training loss of every stage, held-out figures, and the borders between the stages."""
    names, drawn = [stage["name"] for stage in found["run"]["stages"]], found["curves"]
    series = [
        Series(f"{name}, training", points, marked=False, look=i)
        for i, (name, points) in enumerate(zip(names, drawn["training"], strict=True))
        if points
    ]
    held_out = [(x["total_step"], x["nats_per_token"]) for x in drawn["held_out"]]
    series += [Series("held-out chapters", held_out, look=4)] * bool(held_out)
    uprights = [(step, name) for step, name in zip(drawn["borders"], names[1:], strict=False)]
    about = "Loss in training by stage, and of the held-out validation chapters, against steps of training."
    return charts.lines("Learning", about, Axis("step"), Axis(NATS), series, uprights=uprights)


def noise(found: Findings) -> str:
    """l(t): what a hidden token costs when a share t of the text is hidden."""
    series = []
    figures = {
        (x["checkpoint"], x["weights"], x["split"], x["kind"]): x
        for x in found["evaluation"].get("likelihood", {}).get("figures", [])
    }
    for split in ("validation", "test"):
        own = figures.get((found["evaluation"].get("delivered"), "ema", split, "bound"))
        curve = (own or found["report"].get(split) or {}).get("curve")
        if curve:
            points = [((i + 0.5) / len(curve), value) for i, value in enumerate(curve)]
            series.append(Series(f"{split} chapters", points))
    about = (
        "Cross-entropy of hidden tokens against the share of the text that is hidden; its mean is the bound."
    )
    return charts.lines(
        "The more is hidden", about, Axis("share of the text that is hidden"), Axis(NATS), series
    )


def comparison(found: Findings) -> str:
    """Bits per byte of the model, its exact figure, the twin and the simple models."""
    verdict = found["verdict"]
    own = "this model" + (", at most" if verdict["kind"] == "bound" else "")
    rows = {own: "bits_per_byte", "this model, read from left to right": "exact_left_to_right"}
    rows |= {
        "autoregressive twin": "twin",
        "counting runs of five bytes": "ngram_5",
        "bzip2": "bz2",
        "xz": "xz",
    }
    values = [(name, verdict[key]) for name, key in rows.items() if verdict.get(key) is not None]
    bound = verdict["kind"] == "bound"  # the others are known exactly
    spans = [tuple(verdict["interval"]) if bound and name == own else None for name, _ in values]
    about = "Held-out bits per byte of the test chapters"
    about += "; the line on the first bar is its 95 % interval." if bound else "."
    return charts.bars("Against simpler models", about, Axis(BITS), values, spans)


def _between(title: str, about: str, names: tuple[str, str, str], rows: dict[str, Any]) -> str:
    """`charts.intervals` of the `placement.placed` in `rows` that have a value and two ranges."""
    drawn = [
        Interval(
            MEASURES[name], x["value"], *((x[end]["p10"], x[end]["p90"]) for end in ("floor", "ceiling"))
        )
        for name, x in rows.items()
        if x.get("value") is not None
        and x.get("floor")
        and x.get("ceiling")
        and x.get("position") is not None
    ]
    return charts.intervals(title, about, names, drawn)


def style(found: Findings) -> str:
    """Measures of style that tell books apart, between the book's own chapters and another book."""
    own = found["evaluation"]["style"]
    about = "Distance of the samples from the training chapters, beside held-out chapters and another book."
    names = ("the samples", "the book's own unseen chapters", "another book")
    return _between("Style", about, names, own["measures"])


def coherence(found: Findings) -> str:
    """The same of coherence, between held-out text and its sentences shuffled."""
    own = found["evaluation"]["coherence"]
    about = (
        "How strange sentences are to their neighbours, beside held-out chapters as they are and shuffled."
    )
    names = ("the samples", "the book's own unseen chapters", "the same sentences shuffled")
    return _between("Coherence", about, names, {name: own[name] for name in ("adjacent", "entities")})


def memory(found: Findings) -> str:
    """Where in the book the copied spans stand."""
    own, titles = found["evaluation"]["memory"], found["run"]["titles"]
    values = [value or 0.0 for value in own["map"]]
    places = {
        round(span["share"], 6): titles[span["chapter"]] if span["chapter"] < len(titles) else ""
        for span in own["passages"]
    }
    named = [(share, label or "") for share, label in sorted(places.items())]
    if not any(values):
        raise ValueError("nothing to draw: no span of the book came back")
    about = "Words that the samples share with the book in spans of eight words or more, along the book."
    axis = Axis("copied words for each word of the book")
    return charts.strip("Where it copied from", about, axis, values, named)


def copies(found: Findings) -> str:
    """Shares of n-grams that stand in the training chapters, of samples and of held-out pieces."""
    own, values, spans = found["evaluation"]["memory"]["shares"], [], []
    for n, x in sorted(own.items(), key=lambda one: int(one[0])):
        for name, told in (("samples", "samples"), ("held_out", "unseen chapters")):
            if x[name]["share"] is not None:
                values.append((f"{n} words in a row: {told}", 100 * x[name]["share"]))
                spans.append(tuple(100 * end for end in x[name]["interval"] or ()) or None)
    about = "Share of runs of 5, 8 and 13 words that also stand in the training chapters."
    return charts.bars("Copies", about, Axis("per cent of the runs"), values, spans)


def extraction(found: Findings) -> str:
    """How many answers it takes until passages are written word for word."""
    own = found["evaluation"]["memory"]["extraction"]
    if not any(any(own[name]["extractable"].values()) for name in ("training", "held_out")):
        raise ValueError("nothing to draw: no passage comes back")
    series = [
        Series(
            told,
            [
                (float(n), 100 * share)
                for n, share in sorted(own[name]["extractable"].items(), key=lambda one: int(one[0]))
            ],
        )
        for name, told in (("training", "passages it learned from"), ("held_out", "passages it never saw"))
    ]
    about = (
        "Share of passages of which the rest is written word for word at least once, by number of answers."
    )
    x, y = Axis("answers", log=True), Axis("per cent of the passages")
    return charts.lines("What can be drawn out of it", about, x, y, series)


def cost(found: Findings) -> str:
    """Held-out bits per byte against compute, with the critical compute of the book."""
    points = [(x["flops"], x["bits_per_byte"]) for x in found["curves"]["held_out"] if x["flops"]]
    errors = [x["bits_per_byte_se"] for x in found["curves"]["held_out"] if x["flops"]]
    law = found["cost"] and not found["run"]["causal"]  # it is about masked diffusion
    uprights = [(found["cost"]["critical"]["flops"], "critical compute")] if law else []
    about = "Held-out bits per byte of the validation chapters against training compute in FLOPs"
    about += "; the bars are one standard error." if any(errors) else "."
    x, series = Axis("training compute, FLOPs", log=True), [Series("this run", points, errors)]
    return charts.lines("What learning costs", about, x, Axis(BITS), series, uprights=uprights)


DRAWINGS: dict[str, Callable[[Findings], str]] = {
    "learning": learning,
    "noise": noise,
    "comparison": comparison,
    "style": style,
    "coherence": coherence,
    "memory": memory,
    "copies": copies,
    "extraction": extraction,
    "cost": cost,
}


def drawings(found: Findings) -> dict[str, str]:
    """{name: SVG} of the charts that the figures at hand are enough for."""
    made = {}
    for name, draw in DRAWINGS.items():
        try:
            made[name] = draw(found)
        except (KeyError, TypeError, ValueError):  # figures that are not there, or are not finite
            continue
    return made


def compared(findings: dict[str, Findings]) -> dict[str, str]:
    """{name: SVG} of several runs on the same axes: held-out figures against tokens and against compute."""
    made = {}
    axes = {"tokens": "tokens trained on", "flops": "training compute, FLOPs"}
    for name, label in axes.items():
        series = [
            Series(run, points)
            for run, found in findings.items()
            if (points := [(x[name], x["bits_per_byte"]) for x in found["curves"]["held_out"] if x[name]])
        ]
        about = f"Held-out bits per byte of the validation chapters against {label}, for each run."
        if series:
            x = Axis(label, log=name == "flops")
            made[name] = charts.lines(f"Held-out figures by {name}", about, x, Axis(BITS), series)
    return made
