"""The sections "style", "coherence" and "memory" of an evaluation: the samples beside the book."""

import functools
import re
from typing import Any

import numpy as np

from mdlm_jax.evaluation import coherence, copying, voice
from mdlm_jax.evaluation.drawings import MEASURES
from mdlm_jax.evaluation.exact import make_in_order
from mdlm_jax.evaluation.likelihood import held_out_windows, make_exact
from mdlm_jax.evaluation.placement import FEWEST
from mdlm_jax.evaluation.prose import LEAST, equal_length
from mdlm_jax.evaluation.style import chapter_texts
from mdlm_jax.evaluation.subject import Preset, Subject
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError

PASSAGES = 12  # of the book, the longest that were copied
EXCERPT = 400  # characters of a paragraph around one


class NoSamples(UserError):
    """Nothing to measure: the samples are not there; one line."""


@functools.lru_cache(maxsize=1)
def book_texts(run: Subject) -> tuple[dict[int, str], dict[int, str]]:
    """The training and the held-out chapters by number. Raises DataError."""
    tokenizer = load_tokenizer(run.workdir / "tokenizer.json")
    held_out = chapter_texts(run.dataset, tokenizer, "validation", "test")
    return chapter_texts(run.dataset, tokenizer, "train"), held_out


def samples_of(made: dict[str, Any]) -> list[str]:
    """The texts of the section "samples". Raises NoSamples."""
    if not made.get("samples", {}).get("texts"):
        raise NoSamples("there are no samples to measure it on")
    return list(made["samples"]["texts"])


def measurable(made: dict[str, Any]) -> list[str]:
    """`samples_of`, where enough of them are long enough to be measured. Raises NoSamples."""
    texts = samples_of(made)
    if (number := len(equal_length(texts)[1])) < FEWEST:
        told = f"{number} of {len(texts)} texts are long enough to measure it on ({LEAST} words)"
        raise NoSamples(f"{told}; it takes {FEWEST}")
    return texts


def _told(found: dict[str, Any]) -> str:
    """How many texts a section is about."""
    texts, short = found["texts"], found["left_out"]
    return f"{texts} of {texts + short} texts were measured; {short} were too short"


def style(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """`voice.style_figures` of the samples."""
    texts, (train, held_out) = measurable(made), book_texts(run)
    progress.say("style ...")
    language = run.dataset.info.get("language", {}).get("code") or "en"
    chapters = [*train.values()], [*held_out.values()]
    return voice.style_figures(texts, *chapters, language=language, seed=run.seed)


def style_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    where = f"Style: {found['reason']}"
    if found["overall"] is not None:
        low, high = found["overall_interval"]
        where = f"Style, 0 like the book's own chapters, 1 like {found['other_book']}: "
        where += f"{found['overall']:.2f} ({low:.2f} to {high:.2f})"
    if found["beyond"]:
        where += f"; farther off than both in: {', '.join(MEASURES[name] for name in found['beyond'])}"
    return [f"{where}; {_told(found)}"]


def coherent(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """`coherence.coherence_figures` of the samples."""
    texts, (train, held_out) = measurable(made), book_texts(run)
    progress.say("coherence ...")
    return coherence.coherence_figures(texts, [*train.values()], [*held_out.values()], seed=run.seed)


def coherent_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    return [f"Neighbouring sentences, beside shuffled ones: {found['adjacent']['verdict']}; {_told(found)}"]


def passages(windows: dict[str, np.ndarray], number: int) -> tuple[dict[str, np.ndarray], int]:
    """`number` windows evenly along a split, of which only the second half of the tokens is scored, and how
    many tokens that are. The first half is given; windows that are not full are left out.
    """
    if not windows["scored"].any():
        raise ValueError("a split has no text to take passages from")
    full = np.flatnonzero(windows["scored"].sum(1) == windows["scored"].sum(1).max(initial=0))
    chosen = full[np.unique(np.linspace(0, len(full) - 1, number).round().astype(int))]
    picked = {name: values[chosen] for name, values in windows.items()}
    place = np.cumsum(picked["scored"], axis=1)
    half = int(place.max(initial=0)) // 2
    picked["scored"] = picked["scored"] & (place > half)
    return picked, int(picked["scored"].sum(1).max(initial=0))


def extraction(run: Subject, preset: Preset, progress: PlanProgress) -> dict[str, Any]:
    """`copying.extraction` of training and of held-out passages: the rest of a window, given its first half.

    Exact probabilities, token after token, by the model's own law (temperature 1).
    """
    config, trained = run.config, run.trained(run.delivered)
    found: dict[str, Any] = {}
    for name, split in (("training", "train"), ("held_out", "test")):
        windows = held_out_windows(run.dataset, split, config.model.seq_len)
        chosen, tokens = passages(windows, preset.passages)
        if config.model.causal:
            nats = make_exact(config, trained.forbidden, chosen, lambda nats: nats)(trained.params)
        else:
            exact = make_in_order(config, trained.forbidden, run.dataset.special_ids["mask"], chosen)
            progress.total += int(chosen["scored"].sum())
            nats = exact(trained.params, lambda rows: progress.update(progress.done + rows, "extraction"))
        each = [-row[scored] for row, scored in zip(nats, chosen["scored"], strict=True)]
        found[name] = copying.extraction([np.minimum(one, 0.0) for one in each])
        found["tokens"] = min(tokens, found.get("tokens", tokens))  # short chapters have shorter ones
    return found


def excerpts(memory: dict[str, Any], train: dict[int, str]) -> list[dict[str, Any]]:
    """The PASSAGES longest copied spans of `copying.MAPPED` words or more, the longest first, with their
    number in "texts", the paragraph of the book in which they stand, and "shown" the numbers counted from 1.
    """
    spans = [
        (span["words"], -i, -k, span)
        for i, text in enumerate(memory["texts"])
        for k, span in enumerate(text["spans"])
        if span["words"] >= copying.MAPPED
    ]
    found = []
    for _, i, k, span in sorted(spans, key=lambda x: x[:3], reverse=True)[:PASSAGES]:
        paragraphs = re.split(r"\n\s*\n", train[span["chapter"]].strip())
        paragraph = " ".join(paragraphs[min(span["paragraph"], len(paragraphs) - 1)].split())
        # Found by its first words: what is written in between may differ in marks and case (lower() keeps
        # the places of nearly all letters, casefold() does not).
        at = max(0, paragraph.lower().find(" ".join(span["text"].split()).lower()[:24]) - EXCERPT // 4)
        cut = paragraph[at : at + EXCERPT]
        cut = "… " * (at > 0) + cut + " …" * (at + EXCERPT < len(paragraph))
        shown = {"text": 1 - i, "chapter": span["chapter"] + 1, "paragraph": span["paragraph"] + 1}
        found.append({"sample": -i, "span": -k, "excerpt": cut, "shown": shown} | span)
    return found


def memory(run: Subject, preset: Preset, progress: PlanProgress, made: dict[str, Any]) -> dict[str, Any]:
    """`copying.memory_figures` of the samples, with the passages of the book that were copied at most
    ("passages") and how likely the model is to write what it was trained on ("extraction").
    """
    texts, (train, held_out) = samples_of(made), book_texts(run)
    progress.say("copies ...")
    found = copying.memory_figures(texts, train, held_out, seed=run.seed)
    found["passages"] = excerpts(found, train)
    found["extraction"] = extraction(run, preset, progress) if preset.passages else None
    return found


def memory_lines(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    longest = found["longest"]
    told = "Copies: {}; longest span {} words (of held-out chapters: {})"
    verdict = found["verdict"] or "no text to look for them in"
    return [told.format(verdict, longest["samples"], longest["held_out"])]
