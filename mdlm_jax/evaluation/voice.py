"""Style: measures of a text against the book, each between the book's own chapters and another book."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax.evaluation.placement import (
    BEYOND,
    FARTHER,
    Measure,
    interval,
    measured,
    medians,
    placed,
    positions,
    spread,
)
from mdlm_jax.evaluation.prose import (
    distance,
    equal_length,
    fit,
    ngrams,
    pieces,
    plain,
    sentence_lengths,
    words,
)

Tagger = Callable[[str], list[str]]  # the part of speech of each word of a text

_HERE = Path(__file__).resolve()
# What stands for "another book", the first that is not the one trained on: the built-in novel, and the first
# two chapters of Alice's Adventures in Wonderland (Lewis Carroll, 1865; in the public domain).
OTHERS = {
    "The Sixty-Fifth Pint": _HERE.parents[2] / "data_prep" / "books" / "the_sixty_fifth_pint.txt",
    "Alice's Adventures in Wonderland, I and II": _HERE.with_name("alice.txt"),
}
NO_BOOK = "there is no other book in its language to hold it against"
NO_MEASURE = "nothing tells the two books apart at this length"
SAME_BOOK = 0.05  # share of another book's runs of 8 words in this one: 0.0005 and less between strangers

NUMBER = 60  # pieces of the floor and of the ceiling
WINDOW = 50  # words: fits into the shortest text that is judged
# Mosteller & Wallace (1964, "Inference and Disputed Authorship: The Federalist"), their list of 70.
FUNCTION_WORDS = (
    "a all also an and any are as at be been but by can do down even every for from had has have her his if "
    "in into is it its may more must my no not now of on one only or our shall should so some such than that "
    "the their then there things this to up upon was were what when which who will with would your"
)
MARKS = (",", ".", ";", ":", "!", "?", "--", "...", '"', "(")
_MARK = re.compile("|".join(sorted(map(re.escape, MARKS), key=len, reverse=True)))
_VOWELS = re.compile(r"[aeiouyàâäéèêëîïôöùûüæœ]+")
_SILENT = re.compile(r"([^aeiouyl]|[aeiouy]l)e$|[^aeiouytd]ed$")


def earth_movers(a: Sequence[float], b: Sequence[float]) -> float:
    """The 1-Wasserstein distance of two samples in their unit: the area between their distribution functions.

    Raises ValueError where one is empty.
    """
    if not len(a) or not len(b):
        raise ValueError("a distance needs two samples that are not empty")
    values = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), values[:-1], "right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]) @ np.diff(values))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """The Jensen-Shannon distance of two [n] distributions: the root of the divergence in bits, in [0, 1]
    (Endres & Schindelin 2003).
    """
    middle = (p + q) / 2
    parts = (x[x > 0] @ np.log2(x[x > 0] / middle[x > 0]) for x in (p, q))
    return float(np.sqrt(np.clip(sum(parts) / 2, 0, 1)))


def whole_sentence_lengths(text: str) -> list[int]:
    """Words of each sentence, without a first one that the text begins within."""
    lengths = sentence_lengths(text)
    return lengths[1:] if text.lstrip()[:1].islower() and len(lengths) > 1 else lengths


def profile(found: Sequence[str], names: Sequence[str]) -> np.ndarray | None:
    """[n] the share of each name among those that are found; None where none is."""
    counts = Counter(found)
    occurrences = np.array([counts[name] for name in names], float)
    return occurrences / occurrences.sum() if occurrences.any() else None


def windowed(found: Sequence[str], window: int = WINDOW) -> tuple[float, float] | None:
    """Mean share of different words, and of words that occur once, over every `window` words that follow one
    another; None for a shorter text.

    The first is the moving-average type-token ratio (MATTR, Covington & McFall 2010, "Cutting the Gordian
    knot"); the second is hapax legomena counted in the same windows. Neither depends on the text's length,
    as shares of a whole text do.
    """
    if len(found) < window:
        return None
    counts = Counter(found[:window])
    once = sum(n == 1 for n in counts.values())
    different, single = len(counts), once
    for gone, come in zip(found, found[window:], strict=False):
        once += {1: -1, 2: 1}.get(counts[gone], 0)
        counts[gone] -= 1
        if not counts[gone]:
            del counts[gone]
        once += {0: 1, 1: -1}.get(counts[come], 0)
        counts[come] += 1
        different, single = different + len(counts), single + once
    steps = window * (len(found) - window + 1)
    return different / steps, single / steps


def marks_per_thousand(text: str) -> np.ndarray | None:
    """[marks] occurrences of each of MARKS per 1,000 words; None without words."""
    counts, number = Counter(_MARK.findall(plain(text))), len(words(text))
    return np.array([counts[mark] for mark in MARKS]) * 1000 / number if number else None


def syllables(word: str) -> int:
    """Of an English word, by rule: groups of vowels without a silent "e" or "ed" at the end; at least 1."""
    word = word.casefold()
    return max(1, len(_VOWELS.findall(word)) - bool(_SILENT.search(word)))


def flesch(text: str) -> float | None:
    """Reading ease of an English text, about 100 easy to 0 hard (Flesch 1948, "A new readability yardstick"):
    206.835 - 1.015 words per sentence - 84.6 syllables per word; None without words.
    """
    found, lengths = words(text), whole_sentence_lengths(text)
    if not lengths:
        return None
    return 206.835 - 1.015 * sum(lengths) / len(lengths) - 84.6 * sum(map(syllables, found)) / len(found)


def mean_sentence(text: str) -> float | None:
    """Words a sentence; None without words."""
    lengths = whole_sentence_lengths(text)
    return sum(lengths) / len(lengths) if lengths else None


def _richness(which: int) -> Measure:
    def share(text: str) -> float | None:
        found = windowed(words(text))
        return found[which] if found else None

    return share


def _marks(text: str) -> float | None:
    rates = marks_per_thousand(text)
    return None if rates is None else float(rates.sum())


# What a text is like by itself.
FIGURES: dict[str, Measure] = {
    "words_per_sentence": mean_sentence,
    "mattr": _richness(0),
    "hapax": _richness(1),
    "marks_per_thousand": _marks,
    "flesch": flesch,
}
ENGLISH = ("flesch", "readability", "function_words")  # made for English


def _off(value: float | None, usual: float | None) -> float | None:
    return None if value is None or usual is None else abs(value - usual)


def measures(
    train: Sequence[str], length: int, language: str = "en", tag: Tagger | None = None
) -> dict[str, Measure]:
    """How far a text of `length` words is from the training text, by name; 0 is no distance.

    * sentence_length: 1-Wasserstein distance of the lengths of sentences, in words.
    * delta: Burrows' Delta (`prose.distance`).
    * function_words: Jensen-Shannon distance of the shares of FUNCTION_WORDS (English).
    * mattr, hapax: of `windowed`, from the median of training pieces of that length.
    * new_words: share of words that the training text has not.
    * new_pairs: share of the pairs of words that follow one another that the training text has not. What
      the others count is mostly the same in any order of words; this is not.
    * punctuation: sum of the differences of `marks_per_thousand`.
    * readability: of `flesch`, from the median of training pieces of that length (English).
    * parts_of_speech: Jensen-Shannon distance of the shares of parts of speech (with a tagger).
    """
    train = [plain(text) for text in train]
    whole = "\n\n".join(train)
    fitted, known, of_book = fit(train, train), set(words(whole)), sentence_lengths(whole)
    known_pairs = {pair for text in train for pair in ngrams(words(text), 2)}
    usual = pieces(train, length, NUMBER)
    rates = marks_per_thousand(whole)

    def sentence_length(text: str) -> float | None:
        lengths = whole_sentence_lengths(text)
        return earth_movers(lengths, of_book) if lengths and of_book else None

    def delta(text: str) -> float | None:
        value = distance(fitted, text)
        return value if math.isfinite(value) else None

    def new_words(text: str) -> float | None:
        found = words(text)
        return sum(word not in known for word in found) / len(found) if found else None

    def new_pairs(text: str) -> float | None:
        found = ngrams(words(text), 2)
        return sum(pair not in known_pairs for pair in found) / len(found) if found else None

    def punctuation(text: str) -> float | None:
        own = marks_per_thousand(text)
        return None if own is None or rates is None else float(np.abs(own - rates).sum())

    def figure(name: str) -> Measure:
        values = measured(FIGURES[name], usual)
        median = float(np.median(values)) if len(values) else None
        return lambda text: _off(FIGURES[name](text), median)

    def shares(found: Callable[[str], list[str]], names: Sequence[str]) -> Measure:
        book = profile(found(whole), names)

        def from_book(text: str) -> float | None:
            own = profile(found(text), names)
            return None if own is None or book is None else jensen_shannon(own, book)

        return from_book

    made: dict[str, Measure] = {
        "sentence_length": sentence_length,
        "delta": delta,
        "function_words": shares(words, FUNCTION_WORDS.split()),
        "mattr": figure("mattr"),
        "hapax": figure("hapax"),
        "new_words": new_words,
        "new_pairs": new_pairs,
        "punctuation": punctuation,
        "readability": figure("flesch"),
    }
    if tag:
        made["parts_of_speech"] = shares(tag, sorted(set(tag(whole))))
    return {name: measure for name, measure in made.items() if language == "en" or name not in ENGLISH}


def another_book(texts: Iterable[str]) -> tuple[str | None, list[str]]:
    """Name and text of the first of OTHERS that is not the book of `texts`, headings left out; (None, [])
    where `texts` hold all of them.
    """
    grams = {gram for text in texts for gram in ngrams(words(text), 8)}
    for name, path in OTHERS.items():
        if path.exists():
            paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
            other = "\n\n".join(p for p in paragraphs if re.search(r"[.!?][\"')]*\s*$", p))
            own = ngrams(words(other), 8)
            if sum(gram in grams for gram in own) < SAME_BOOK * len(own):
                return name, [other]
    return None, []


def style_figures(
    samples: Sequence[str],
    train: Sequence[str],
    held_out: Sequence[str],
    other: tuple[str, Sequence[str]] | None = None,
    language: str = "en",
    tag: Tagger | None = None,
    length: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """How near the samples' style is to the book's, ready for JSON.

    Args:
        samples: generated texts; cut to `length` words (by default `equal_length`), shorter ones left out.
        train, held_out: texts of the chapters of the book. Everything is fitted on `train`.
        other: name and texts of the ceiling; by default `another_book`, and none for a language but English,
            which those are in: whatever is in the right language would be nearer than they.
        language: of the book, ISO 639-1; what is made for English is left out for others.
        tag: the part of speech of each word of a text.
        seed: of the intervals.

    "measures" has for each of `measures` where the samples stand (`placement.placed`): 0 is how far pieces
    of the held-out chapters are from the training text, 1 how far pieces of the other book are. "overall" is
    the median position of those that tell books apart at this length, a position below 0 taken as 0: to be
    nearer than the book itself in one is no merit that makes up for another. Without any, "reason" says why.
    "overall_interval" (95 %) is of
    the same texts drawn anew for all measures. A median passes over what is wrong in one way alone, so
    "beyond" names the measures by which the samples are for certain farther off than both books.
    "share_of_mean" is the distance of sentence lengths as a share of the book's mean. "samples", "book" and
    "other" have the plain FIGURES, as spreads.
    """
    length, kept = equal_length(samples, length)
    name, texts = other or (another_book([*train, *held_out]) if language == "en" else (None, []))
    drawn = [plain(text) for text in kept]
    floor, ceiling, book = (
        pieces([plain(text) for text in group], length, NUMBER) for group in (held_out, texts, train)
    )
    figures = {
        measure: (measured(of, drawn), measured(of, floor), measured(of, ceiling))
        for measure, of in measures(train, length, language, tag).items()
    }
    found = {measure: placed(*groups, seed) for measure, groups in figures.items()}
    telling = [measure for measure, one in found.items() if one["position"] is not None]
    redrawn = np.array([positions(*figures[measure], seed) for measure in telling])
    lengths = sentence_lengths("\n\n".join(map(plain, train)))
    value, mean = found["sentence_length"]["value"], sum(lengths) / max(1, len(lengths))
    found["sentence_length"]["share_of_mean"] = None if value is None or not mean else value / mean
    groups = {"samples": drawn, "book": book, "other": ceiling}
    return {
        "words": length,
        "texts": len(kept),
        "left_out": len(samples) - len(kept),
        "other_book": name,
        "measures": found,
        "overall": float(np.median([max(0.0, found[x]["position"]) for x in telling])) if telling else None,
        "overall_interval": interval(medians(np.maximum(redrawn.T, 0))) if telling else None,
        "reason": None if telling else NO_BOOK if name is None else NO_MEASURE,
        "beyond": [measure for measure, one in found.items() if one["verdict"] in (BEYOND, FARTHER)],
        **{group: _spreads(texts, language) for group, texts in groups.items()},
    }


def _spreads(texts: Sequence[str], language: str) -> dict[str, dict[str, float] | None]:
    kept = {name: figure for name, figure in FIGURES.items() if language == "en" or name not in ENGLISH}
    return {name: spread(measured(figure, texts)) for name, figure in kept.items()}
