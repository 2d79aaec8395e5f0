"""Thresholds of quality: what a good run passes, and a warning where one does not. No jax."""

from typing import Any

from mdlm_jax.evaluation.drawings import MEASURES
from mdlm_jax.evaluation.placement import BEYOND, FARTHER

MOST_ERROR = 0.005  # the bound's standard error, as a share of it
MIDDLE = 0.5  # of style, above its 95 % interval: between the book's own chapters (0) and another book (1)


def _check(name: str, passed: bool, text: str, value: float | None, limit: float | None) -> dict[str, Any]:
    return {"name": name, "passed": passed, "text": text, "value": value, "limit": limit}


def _style(style: dict[str, Any]) -> list[dict[str, Any]]:
    """The threshold of style: the interval of the whole, so that it is not the luck of one draw, and no single
    measure for certain beyond both books, since what is wrong in one way alone leaves the median as it is.
    """
    between, measures = style.get("overall_interval"), style.get("measures", {})
    beyond = [MEASURES[name] for name, one in measures.items() if one["verdict"] in (BEYOND, FARTHER)]
    if between is None and not beyond:
        return []
    high = between[1] if between else None
    told = "its style is for certain nearer to the book's than to another book's"
    if high is not None and high >= MIDDLE:
        told = "its style is not for certain nearer to the book's than to another book's"
    if beyond:
        told = f"its style is beyond another book's in: {', '.join(beyond)}"
    good = not beyond and high is not None and high < MIDDLE
    return [_check("style", good, told, high, None if high is None else MIDDLE)]


def checks(
    verdict: dict[str, Any], held_out: list[dict[str, Any]], evaluation: dict[str, Any]
) -> list[dict[str, Any]]:
    """The thresholds that the figures at hand can be held against; the others are left out.

    Args:
        verdict: of `findings.verdict`; empty for a run without figures.
        held_out: the points of the last stage's held-out curve.
        evaluation: of evaluation.json; empty without one.

    "name" and "passed" of each, "text" in words for either case, "value" and "limit" where it is of numbers.
    """
    found, value, ngram = [], verdict.get("bits_per_byte"), verdict.get("ngram_5")
    if value is not None and ngram is not None:
        good = verdict["interval"][1] < ngram
        told = (
            "better than counting runs of five bytes"
            if good
            else "not clearly better than counting runs of five bytes"
        )
        found.append(_check("beats_ngram", good, told, value, ngram))
    if value is not None and verdict["kind"] == "bound":
        share = verdict["standard_error"] / value
        good = share <= MOST_ERROR
        told = "the figure is known precisely" if good else "the figure is not known precisely"
        found.append(_check("precise", good, told, share, MOST_ERROR))
    if value is not None and verdict.get("twin") is not None:
        good = verdict["interval"][1] < verdict["twin"]
        told = "better than its autoregressive twin" if good else "not better than its autoregressive twin"
        found.append(_check("beats_twin", good, told, value, verdict["twin"]))
    if held_out:
        last, best = held_out[-1], min(held_out, key=lambda point: point["bits_per_byte"])
        good = last["bits_per_byte"] <= best["bits_per_byte"] + (last["bits_per_byte_se"] or 0.0)
        told = "training ended where it was best" if good else "training went on after it was best"
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


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The thresholds for a terminal, a line each."""
    told = []
    for check in found:
        numbers = "" if check["value"] is None else f" ({check['value']:.4g}; threshold {check['limit']:.4g})"
        told.append(f"{'pass' if check['passed'] else 'WARN'}  {check['text']}{numbers}")
    return told
