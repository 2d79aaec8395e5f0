"""Thresholds of quality: what a good run passes, and a warning where one does not. No jax."""

from typing import Any

from mdlm_jax.evaluation.drawings import MEASURES
from mdlm_jax.evaluation.placement import ALONE

MOST_ERROR = 0.005  # the bound's standard error, as a share of it
MIDDLE = 0.5  # style's 95 % interval lies below: 0 the book's own chapters, 1 another book


def _check(name: str, passed: bool, text: str, value: float | None, limit: float | None) -> dict[str, Any]:
    return {"name": name, "passed": passed, "text": text, "value": value, "limit": limit}


def _style(style: dict[str, Any]) -> list[dict[str, Any]]:
    """The threshold of style: the upper end of the interval, so that it is not the luck of one draw, and no
    measure beyond both books. Without another book: no measure farther off than the book's own chapters.
    """
    between, beyond = style.get("overall_interval"), style.get("beyond", [])
    if between is None and not beyond:
        verdicts = {name: x["verdict"] for name, x in style.get("measures", {}).items()}
        alone = {name: told for name, told in verdicts.items() if told in ALONE.values()}
        apart = [MEASURES[name] for name, told in alone.items() if told == ALONE[True]]
        told = f"its style is farther off than the book's own unseen chapters in: {', '.join(apart)}"
        told = told if apart else "its style is not told from the book's own unseen chapters"
        return [_check("style", not apart, told, None, None)] if alone else []
    near = between is not None and between[1] < MIDDLE
    told = f"its style is {'' if near else 'not '}for certain nearer to the book's than to another book's"
    if beyond:
        told = f"its style is farther off than another book's in: {', '.join(MEASURES[x] for x in beyond)}"
    value, limit = (between[1], MIDDLE) if between and not beyond else (None, None)
    return [_check("style", near and not beyond, told, value, limit)]


def checks(
    verdict: dict[str, Any], held_out: list[dict[str, Any]], evaluation: dict[str, Any]
) -> list[dict[str, Any]]:
    """The thresholds that the figures at hand can be held against; the others are left out.

    Args:
        verdict: of `findings.verdict`; empty for a run without figures.
        held_out: the points of the last stage's held-out curve, up to the weights that the run gives.
        evaluation: of evaluation.json; empty without one.

    "name" and "passed" of each, "text" in words for either case, "value" and "limit" where it is of numbers:
    what is compared, which is the upper end of an interval where there is one.
    """
    found, value, ngram = [], verdict.get("bits_per_byte"), verdict.get("ngram_5")
    if value is not None and ngram is not None:
        good = verdict["interval"][1] < ngram
        told = (
            "better than counting runs of five bytes"
            if good
            else "not clearly better than counting runs of five bytes"
        )
        found.append(_check("beats_ngram", good, told, verdict["interval"][1], ngram))
    if value is not None and verdict["kind"] == "bound":
        share = verdict["standard_error"] / value
        good = share <= MOST_ERROR
        told = "the figure is known precisely" if good else "the figure is not known precisely"
        found.append(_check("precise", good, told, share, MOST_ERROR))
    if value is not None and verdict.get("twin") is not None:
        good = verdict["interval"][1] < verdict["twin"]
        told = f"{'' if good else 'not clearly '}better than its autoregressive twin"
        found.append(_check("beats_twin", good, told, verdict["interval"][1], verdict["twin"]))
    if len(held_out) > 1:
        last, best = held_out[-1], min(held_out, key=lambda point: point["bits_per_byte"])
        good = last["bits_per_byte"] <= best["bits_per_byte"] + (last["bits_per_byte_se"] or 0.0)
        told = "its weights are those of where it was best" if good else "training went on after it was best"
        found.append(_check("not_overfitted", good, told, last["bits_per_byte"], best["bits_per_byte"]))
    found += _style(evaluation.get("style", {}))
    if copied := evaluation.get("memory", {}).get("verdict"):
        good = copied != "memorised"
        told = "it writes, rather than recites" if good else "it recites the book"
        found.append(_check("not_memorised", good, told, None, None))
    if together := evaluation.get("coherence", {}).get("together"):
        good = not any(one["verdict"].startswith("less") for one in together.values())
        told = "its texts differ as much as the book's pages do" if good else "its texts repeat one another"
        found.append(_check("varied", good, told, None, None))
    return found


ALWAYS = {  # what is measured of every run: not the twin, nor readers, who ask something of the user
    "beats_ngram": "the test chapters beside counting runs of five bytes",
    "precise": "how precisely the figure is known",
    "not_overfitted": "held-out chapters in training",
    "style": "its style",
    "not_memorised": "what it copies",
    "varied": "how varied its texts are",
}


def unmeasured(found: list[dict[str, Any]], kind: str | None) -> list[dict[str, Any]]:
    """A warning for each of ALWAYS that `found` has no check of; an exact figure (`kind`) has no error."""
    there = {check["name"] for check in found} | ({"precise"} if kind == "exact" else set())
    return [
        _check(n, False, f"not measured: {told}", None, None) for n, told in ALWAYS.items() if n not in there
    ]


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The thresholds for a terminal, a line each."""
    told = []
    for check in found:
        numbers = "" if check["value"] is None else f" ({check['value']:.4g}; threshold {check['limit']:.4g})"
        told.append(f"{'pass' if check['passed'] else 'WARN'}  {check['text']}{numbers}")
    return told
