"""What texts copied from the book they were learned from: spans with their place, shares, a verdict."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdlm_jax.evaluation.placement import BOOTSTRAPS, FEWEST, interval
from mdlm_jax.evaluation.prose import PIECE, sentence_lengths, word_spans, words

GRAMS = (5, 8, 13)
MAPPED = 8  # words: shorter spans are phrases that anybody writes
QUERIES = (1, 10, 100, 1_000, 10_000, 100_000)
SHOWN = 5  # longest spans of a text
# Verdicts compare samples with held-out chapters, which cannot be copies: what they share with the training
# text is the author's habit and the language.
PATCHWORK = 0.05  # of 5-grams beyond the held-out share, ten times that share: patches of copied runs
TOLERANCE = 0.01  # of 8-grams beyond the held-out share: a copied run of 9 words in every 200
MEMORISED = 0.05  # of 13-grams beyond the held-out share: every text of 120 words has a copied run of 17
LONG = (
    13  # words, which is what Brown et al. (2020, "GPT-3", appendix C) took for an overlap that is no chance
)
VERY_LONG = 50  # words; Carlini et al. (2023, "Quantifying memorization") call 50 tokens extracted


def longest_matches(
    book: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each word of each text: how many words from it on stand together in the book, and where they do.

    A place is the number of a word of the chapters of `book`, one after the other; no match crosses chapters.
    Both arrays are int64[words]; the place of no match is -1. Exact. All suffixes are put in order by
    doubling (Karp, Miller & Rosenberg 1972; Manber & Myers 1993): names[k] ranks the runs of 2^k words, and
    the best match of a text's suffix is one of its two neighbours among the book's. O(n log n log L) for n
    words, L of them in the longest text.
    """
    known: dict[str, int] = {}
    streams = [[known.setdefault(word, len(known)) for word in stream] for stream in [*book, *texts]]
    ids = np.concatenate([[*stream, len(known) + i] for i, stream in enumerate(streams)] or [[]]).astype(int)
    edges = np.cumsum([0, *(len(stream) + 1 for stream in streams)])
    in_book = np.arange(len(ids)) < edges[len(book)]
    names, width = [ids], 1
    while width <= max(map(len, texts), default=0):  # then a run holds the unique id that ends every text
        after = np.full(len(ids), -1)
        after[:-width] = names[-1][width:]
        names.append(np.unique(names[-1] * (len(ids) + 1) + after + 1, return_inverse=True)[1])
        width *= 2
    order = np.argsort(names[-1], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    is_book = in_book[order]
    below = np.maximum.accumulate(np.where(is_book, np.arange(len(order)), -1))
    above = np.minimum.accumulate(np.where(is_book, np.arange(len(order)), len(order))[::-1])[::-1]
    chapter = np.repeat(np.arange(len(book)), np.diff(edges[: len(book) + 1]))
    found = []
    for begin, end in zip(edges[len(book) : -1], edges[len(book) + 1 :] - 1, strict=True):
        length, place = np.zeros(end - begin, int), np.full(end - begin, -1)
        for neighbour in (below, above):
            at = neighbour[rank[begin:end]]
            there = (at >= 0) & (at < len(order))
            other = order[np.where(there, at, 0)]
            common = np.zeros(end - begin, int)
            for k in range(len(names) - 1, -1, -1):
                a = np.minimum(np.arange(begin, end) + common, len(ids) - 1)
                b = np.minimum(other + common, len(ids) - 1)
                common += (names[k][a] == names[k][b]) * 2**k
            common *= there
            better = common > length
            length = np.where(better, common, length)
            place = np.where(better, other, place)
        place[length > 0] -= chapter[place[length > 0]]  # the ids that end chapters are no words
        found.append((length, place))
    return found


def copied_spans(length: np.ndarray) -> list[tuple[int, int]]:
    """Half-open spans (start, stop) of a text that stand in the book and within no longer one, by `length`
    int[words] of `longest_matches`.
    """
    ends = np.arange(len(length)) + length
    first = np.concatenate([[True], ends[1:] > ends[:-1]]) & (length > 0)
    return [(int(i), int(ends[i])) for i in np.flatnonzero(first)]


def copied_runs(length: np.ndarray, n: int) -> np.ndarray:
    """bool[runs] which of a text's runs of n words the book has, by `length` int[words]."""
    return length[: max(0, len(length) - n + 1)] >= n


@dataclass(frozen=True)
class Shelf:
    """The training chapters word by word, and where each word stands in the whole book."""

    streams: list[list[str]]  # of each training chapter
    chapter: np.ndarray  # int[words], the number of its chapter
    paragraph: np.ndarray  # int[words], from 0 in the chapter
    sentence: np.ndarray  # int[words], from 0 in the paragraph
    before: np.ndarray  # float[words], share of the book's words, held-out ones too, before it


def shelf(train: Mapping[int, str], held_out: Mapping[int, str]) -> Shelf:
    """The places of the words of `train`; both are chapters by their number in the book."""
    every = {number: text.strip() for number, text in sorted({**held_out, **train}.items())}
    total = max(1, sum(len(word_spans(text)) for text in every.values()))
    streams, columns, passed = [], [[np.zeros(0, int)] for _ in range(4)], 0
    for number, text in every.items():
        starts = np.array([begin for begin, _ in word_spans(text)], int)
        if number in train:
            breaks = [match.end() for match in re.finditer(r"\n\s*\n", text)]
            paragraph = np.searchsorted(breaks, starts, "right")
            lengths = sentence_lengths(text + "\n\n")  # a paragraph's end: no sentence is left out
            sentence = np.repeat(np.arange(len(lengths)), lengths)
            first = np.concatenate([[True], paragraph[1:] > paragraph[:-1]])[: len(starts)]
            opening = np.maximum.accumulate(np.where(first, sentence, 0))
            streams.append(words(text))
            new = np.full(len(starts), number), paragraph, sentence - opening, passed + np.arange(len(starts))
            for column, values in zip(columns, new, strict=True):
                column.append(values)
        passed += len(starts)
    chapter, paragraph, sentence, at = (np.concatenate(column) for column in columns)
    return Shelf(streams, chapter, paragraph, sentence, at / total)


def density(spans: Sequence[tuple[int, int]], before: np.ndarray, bins: int) -> list[float | None]:
    """The copied words per word of each of `bins` equal parts of the book; None where nothing is trained on.

    `spans` are half-open, by the number of a word in the training chapters, `before` is `Shelf.before`.
    """
    count = np.zeros(len(before) + 1)
    for start, stop in spans:
        count[start] += 1
        count[stop] -= 1
    part = np.minimum((before * bins).astype(int), bins - 1)
    held, copied = np.bincount(part, minlength=bins), np.bincount(part, count[:-1].cumsum(), minlength=bins)
    return [float(c / n) if n else None for c, n in zip(copied, held, strict=True)]


def extraction(log_probs: Sequence[np.ndarray], p: float = 0.5) -> dict[str, Any]:
    """How often a model must be asked until it writes passages it was trained on, word for word.

    `log_probs` holds for each passage the log-probabilities (nats) of its tokens, given the tokens before and
    by the law that samples are drawn by. A passage z comes with p_z, the product of its probabilities, and in
    n independent answers at least once with 1 - (1 - p_z)^n: (n, p)-discoverable extraction (Hayes et al.
    2024, "Measuring memorization through probabilistic discoverable extraction", eq. 2 and 3). "log10_p" and
    "log10_queries", the least n for which that is p, are of each passage; "extractable" is the share of
    passages for which n queries are enough, by n. Say the same of held-out passages: what is extracted there
    is guessed. Raises ValueError for a p outside (0, 1) or log-probabilities above 0.
    """
    if not 0 < p < 1:
        raise ValueError(f"p must be between 0 and 1, got {p}")
    if any((np.asarray(one) > 1e-6).any() for one in log_probs):
        raise ValueError("log-probabilities are 0 or less")
    total = np.minimum([float(np.sum(one)) for one in log_probs], 0.0)
    total = np.maximum(total, np.finfo(float).min)  # what cannot be written, -inf, is never: a finite figure
    with np.errstate(divide="ignore"):  # -log(1 - p_z) is p_z where that is small, and infinite for 1
        seldom = np.where(total < -30, total, np.log(-np.log1p(-np.exp(total))))
    queries = np.maximum(0, (np.log(-np.log1p(-p)) - seldom) / np.log(10))
    return {
        "log10_p": (total / np.log(10)).tolist(),
        "log10_queries": queries.tolist(),
        "extractable": {str(n): float(np.mean(queries <= np.log10(n))) for n in QUERIES}
        if len(total)
        else {},
    }


def verdict(excess: Mapping[str, Sequence[float] | None], longest: int, usual: int) -> str:
    """What was copied, in words: "memorised", "some copying", or "little beyond held-out text".

    Args:
        excess: by n, the interval of the n-gram share beyond that of held-out text; None: not known.
        longest: words of the samples' longest span.
        usual: words of the longest span of held-out text, 0 without any.

    * memorised: more than MEMORISED of the 13-grams beyond held-out text, for certain (the interval's lower
      end); or one span of VERY_LONG words, as long a text as nobody writes again by chance, that is longer
      than any of held-out text.
    * some copying: more than TOLERANCE of the 8-grams or PATCHWORK of the 5-grams beyond held-out text, for
      certain; or one span of LONG words or more that is over twice as long as any of held-out text. A figure
      that is certain but smaller is no finding: held-out chapters differ by as much.
    """
    five, eight, thirteen = (known[0] if (known := excess.get(str(n))) else 0.0 for n in GRAMS)
    if thirteen > MEMORISED or longest >= max(VERY_LONG, usual + 1):
        return "memorised"
    if five > PATCHWORK or eight > TOLERANCE or longest >= max(LONG, 2 * usual + 1):
        return "some copying"
    return "little beyond held-out text"


def _share(parts: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[float | None, np.ndarray | None]:
    """The share of true values in all parts, each bool[runs], and [BOOTSTRAPS] the same of the parts drawn
    anew; None without a run, and for fewer than FEWEST parts.
    """
    counts = np.array([(part.sum(), len(part)) for part in parts if len(part)]).reshape(-1, 2)
    share = float(counts[:, 0].sum() / counts[:, 1].sum()) if len(counts) else None
    if len(counts) < FEWEST:
        return share, None
    drawn = counts[rng.integers(len(counts), size=(BOOTSTRAPS, len(counts)))].sum(axis=1)
    return share, drawn[:, 0] / drawn[:, 1]


def memory_figures(
    samples: Sequence[str],
    train: Mapping[int, str],
    held_out: Mapping[int, str],
    bins: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """What the samples copied from the training chapters, ready for JSON. Case and marks play no part; no
    text is left out or cut.

    Args:
        samples: generated texts, without a prompt that was taken from the book.
        train, held_out: texts of the chapters of the book by their number.
        bins: of the map.
        seed: of the intervals.

    "shares" has by n the share of the n-grams that the training text has, of all samples and of all held-out
    chapters, and the difference, each with a 95 % interval (texts, and stretches of PIECE words of the
    chapters, drawn anew; None for fewer than FEWEST). "longest" is the longest span of either. "texts"
    has for each sample its longest span in words and characters and its `SHOWN` longest spans with their
    place: "start" in the sample in words, "chapter", "paragraph" in the chapter and "sentence" in the
    paragraph from 0, "share" of the book before it. "map" is the `density` of spans of MAPPED words or more.
    "verdict": see `verdict`; None where no sample has a word.
    """
    book = shelf(train, held_out)
    texts = [words(text) for text in (*samples, *held_out.values())]
    matches = longest_matches(book.streams, texts)
    own, unseen = matches[: len(samples)], [length for length, _ in matches[len(samples) :]]
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for n in GRAMS:
        runs = [copied_runs(length, n) for length in unseen]
        stretches = [part for run in runs for part in np.split(run, range(PIECE, len(run), PIECE))]
        parts = {"samples": [copied_runs(length, n) for length, _ in own], "held_out": stretches}
        both = {name: _share(part, rng) for name, part in parts.items()}
        drawn = [one for _, one in both.values() if one is not None]
        found[str(n)] = {
            name: {"share": share, "interval": None if one is None else interval(one)}
            for name, (share, one) in both.items()
        }
        found[str(n)]["difference"] = interval(drawn[0] - drawn[1]) if len(drawn) == 2 else None
    excess = {n: found[n]["difference"] for n in found}
    spans = [(int(p[a]), int(p[a]) + b - a) for m, p in own for a, b in copied_spans(m) if b - a >= MAPPED]
    longest = max((int(length.max(initial=0)) for length, _ in own), default=0)
    usual = max((int(length.max(initial=0)) for length in unseen), default=0)
    return {
        "shares": found,
        "longest": {"samples": longest, "held_out": usual},
        "verdict": verdict(excess, longest, usual) if any(len(length) for length, _ in own) else None,
        "texts": [_copies(text, *match, book) for text, match in zip(samples, own, strict=True)],
        "map": density(spans, book.before, bins),
    }


def _copies(text: str, length: np.ndarray, place: np.ndarray, book: Shelf) -> dict[str, Any]:
    """The entry of one sample: its longest copied spans and where they stand."""
    spans = sorted(copied_spans(length), key=lambda span: (span[0] - span[1], span[0]))[:SHOWN]
    at = word_spans(text)
    shown: list[dict[str, Any]] = []
    for start, stop in spans:
        i = int(place[start])
        written = text[at[start][0] : at[stop - 1][1]]
        shown.append({"text": written, "words": stop - start, "characters": len(written), "start": start})
        where = {"chapter": book.chapter, "paragraph": book.paragraph, "sentence": book.sentence}
        shown[-1] |= {name: int(values[i]) for name, values in where.items()}
        shown[-1]["share"] = float(book.before[i])
    return {
        "longest_words": shown[0]["words"] if shown else 0,
        "longest_characters": max((span["characters"] for span in shown), default=0),
        "spans": shown,
    }
