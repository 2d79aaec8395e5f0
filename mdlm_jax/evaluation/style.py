"""Measures of a generated text: how near its style is to the book's, what it copied, how varied it is."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from mdlm_jax.data import Dataset, chapters, read_records
from mdlm_jax.ui.values import UserError, nearest

PIECE = 150  # words: the length of a generated text
# The most frequent words and marks. The usual 150 belong to texts of thousands of words. One that is rarer
# than about once in two pieces is most often absent, so that a text without it, of whatever style, looks
# nearer than the book itself. The chance that of two held-out pieces of 120 words the book's own is nearer
# than another book's, for Frankenstein and for the built-in novel: 20 features 0.76, 0.84; 30 0.85, 0.83;
# 40 0.83, 0.89; 70 0.78, 0.82; 150 0.64, 0.44.
FEATURES = 40
WORD = r"[^\W\d_]+(?:'[^\W\d_]+)*"
_WORD, _TOKEN = re.compile(WORD), re.compile(rf'{WORD}|--|[,.;:!?…—–"“”«»()]')


class StyleError(UserError):
    """A chapter whose style cannot be the target; one line."""


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.casefold().replace("’", "'"))


def _frequencies(features: dict[str, int], tokens: list[str]) -> np.ndarray:
    """[F] occurrences of each feature, per word."""
    counts = Counter(tokens)
    words = sum(n for token, n in counts.items() if token[0].isalpha())
    return np.array([counts[feature] for feature in features]) / max(1, words)


@dataclass(frozen=True)
class Reference:
    """A style: frequencies of words and marks per word, and how far texts of PIECE words stray from them."""

    features: dict[str, int]  # each with its place in the arrays
    target: np.ndarray  # [F] of the book, or of a chapter
    deviation: np.ndarray  # [F] over the pieces of the book
    name: str = "the book"


def fit(texts: list[str], targets: list[str]) -> Reference:
    """The style of `targets` among `texts` (the book, of which they are parts)."""
    tokens = [token for text in texts for token in _tokens(text)]
    features = {token: i for i, (token, _) in enumerate(Counter(tokens).most_common(FEATURES))}
    words = np.cumsum([token[0].isalpha() for token in tokens], dtype=int)
    piece = np.maximum(words - 1, 0) // PIECE
    counts = np.zeros((piece.max(initial=0) + 1, FEATURES + 1))
    np.add.at(counts, (piece, [features.get(token, FEATURES) for token in tokens]), 1)
    whole = counts[: max(1, words.max(initial=0) // PIECE), : len(features)]  # without a short last piece
    deviation = whole.std(0) / PIECE
    target = _frequencies(features, [token for text in targets for token in _tokens(text)])
    return Reference(features, target, np.where(deviation > 0, deviation, 1))


def reference(dataset: Dataset, tokenizer: Tokenizer, chapter: int | str | None = None) -> Reference:
    """The style of the training split, or of one chapter of it, by its number in the data or by its title.

    Burrows' Delta (2002, "'Delta': a measure of stylistic difference and a guide to likely authorship"),
    with two changes: punctuation counts too, and a deviation is that of pieces of the book as long as a
    generated text, not that of a corpus of authors. There is one author here, and how much a frequency says
    depends on how much it wavers at this length: over whole chapters it wavers far less, and what is chance
    in 150 words would pass for a difference of style.

    A chapter is a weak target: 120 words of the half that was not fitted are nearer to their own chapter's
    than to 63 % of the others' (Frankenstein; the built-in novel 55 %).

    Raises StyleError, naming the chapters, for one that is not in the training split; DataError.
    """
    records = read_records(dataset, "refinement", "train")
    pieces = tokenizer.decode_batch([r.ids.tolist() for r in records], skip_special_tokens=False)
    texts: dict[int, str] = {}
    for record, piece in zip(records, pieces, strict=True):  # a paragraph ends with its blank line
        texts[record.chapter] = texts.get(record.chapter, "") + piece
    titles = {c: dataset.info["split"]["titles"][c] for c in texts}
    name = str(chapter).casefold()  # a number is never taken for a title: "4" may head chapter 3
    named = {c for c in texts if name == (str(c) if name.isdecimal() else titles[c].casefold())}
    if chapter is not None and not named:
        known = ", ".join(f"{c} ({title})" for c, title in list(titles.items())[:6])
        known += f" and {len(titles) - 6} more" * (len(titles) > 6)
        hint = nearest(name, (title.casefold() for title in titles.values()))
        every = [title.casefold() for title in dataset.info["split"]["titles"]]
        there = name in every or (name.isdecimal() and int(name) < len(every))
        told = "is held out" if there else "is not in the book"
        raise StyleError(
            f"chapter {chapter} {told}{hint}; it is trained on {known} (number from 0, and title)"
        )
    fitted = fit(list(texts.values()), [text for c, text in texts.items() if chapter is None or c in named])
    return fitted if chapter is None else replace(fitted, name=", ".join(titles[c] for c in sorted(named)))


def distance(reference: Reference, text: str) -> float:
    """Burrows' Delta: the mean absolute difference of z-scores; infinite without words.

    It falls with the length of the text (held out Frankenstein: 1.07 at 60 words, 0.85 at 120, 0.68 at 200),
    down to 0 for the whole text of the reference: compare texts of one length only, and by one reference
    only. The order of words plays no part.
    """
    tokens = _tokens(text)
    if not any(token[0].isalpha() for token in tokens):
        return math.inf
    z = (_frequencies(reference.features, tokens) - reference.target) / reference.deviation
    return float(np.abs(z).sum() / max(1, len(z)))


_MARKS, _OPENERS, _CLOSERS = ".!?…", "\"'“‘«»([_*-—–", "\"'”’«»)]_*"
_ABBREVIATIONS = "mr mrs ms messrs dr st rev prof capt col gen lt sgt maj hon esq mme mlle jr sr vs viz vol"


def _ends(piece: str, following: str) -> bool:
    """Whether a sentence ends with `piece`, which has no white space and stands before `following`."""
    marked = piece.rstrip(_CLOSERS)
    stem = marked.rstrip(_MARKS)
    if stem == marked or following.lstrip(_OPENERS)[:1].islower():
        return False
    word = (_WORD.findall(stem) or [""])[-1]
    initial = len(word) == 1 and word.isupper() and word != "I"
    return marked[len(stem) :] != "." or not (initial or word.casefold() in _ABBREVIATIONS.split())


def sentence_lengths(text: str) -> list[int]:
    """Words of each sentence. A rule for prose in Latin script; a paragraph ends its last sentence.

    What the canvas cut off, a last piece without an end mark, does not count unless it is all there is.
    """
    lengths, words = [], 0
    for paragraph in re.split(r"\n\s*\n", text.replace("’", "'")):
        pieces, words = paragraph.split(), 0
        for piece, following in zip(pieces, [*pieces, ""][1:], strict=True):
            words += len(_WORD.findall(piece))
            if words and _ends(piece, following):
                lengths.append(words)
                words = 0
        lengths += [words] if words else []
    return lengths[:-1] if words and len(lengths) > 1 else lengths


def score(reference: Reference, text: str, sentence_length: float | None = None) -> float:
    """What best-of-n ranks by, the least first: `distance`, and with a target in words (above 0) how far the
    mean sentence is from it, |log(mean / target)|.

    Twice too long or too short costs log 2 = 0.69, which is much: over held-out pieces of 120 words the
    distance has a standard deviation of 0.1, the second term of 0.3. Infinite for a text without words.
    """
    lengths = sentence_lengths(text)
    if not lengths:
        return math.inf
    aim = sentence_length or sum(lengths) / len(lengths)
    return distance(reference, text) + abs(math.log(sum(lengths) / len(lengths) / aim))


@dataclass(frozen=True)
class Runs:
    """Every run of n + 1 tokens of the training split, and where it is."""

    n: int
    positions: dict[bytes, list[int]]  # of the run's int32 ids; those of different streams are no neighbours


def book_runs(dataset: Dataset, n: int) -> Runs:
    """The index for `copied`. Runs cross paragraphs, but no chapter's end. Raises DataError."""
    return runs(chapters(read_records(dataset, "refinement", "train")), n)


def runs(streams: list[np.ndarray], n: int) -> Runs:
    """Every run of n + 1 tokens of `streams`, each [T]. Raises ValueError for a negative n."""
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    positions: dict[bytes, list[int]] = {}
    start, size = 0, 4 * (n + 1)
    for stream in streams:
        data = np.asarray(stream, np.int32).tobytes()
        for at in range(0, len(data) - size + 1, 4):
            positions.setdefault(data[at : at + size], []).append(start + at // 4)
        start += len(stream) + 1  # a gap
    return Runs(n, positions)


def copied(ids: np.ndarray | list[int], index: Runs) -> list[tuple[int, int]]:
    """Half-open spans (start, stop) of `ids` [L] of more than index.n tokens that stand in the book; exact.

    Each as long as can be, so none is within another, but two overlap where the book has both and not what
    they join to. Ids are compared: the same words cut into other tokens than the book's are no copy.
    """
    data, length = np.asarray(ids, np.int32).tobytes(), index.n + 1
    spans: list[tuple[int, int]] = []
    stops: dict[int, int] = {}  # where the match ends, for each place in the book at which `start` matches
    for start in range(len(ids) - length, -1, -1):
        places = index.positions.get(data[4 * start : 4 * (start + length)], ())
        stops = {place: stops.get(place + 1, start + length) for place in places}
        if stops:
            span = start, max(stops.values())
            while spans and spans[-1][1] <= span[1]:
                spans.pop()
            spans.append(span)
    return spans[::-1]


def diversity(ids: np.ndarray | list[int]) -> dict[str, float]:
    """Of `ids` [L]: "entropy" of their frequencies in nats, 0 without ids; and "distinct_4", the share of the
    4-grams that differ, 1 without 4-grams.

    Both depend on L: compare texts of one length.
    """
    counts = np.unique(np.asarray(ids, np.int32), return_counts=True)[1]
    p = counts / max(1, counts.sum())
    grams = [tuple(ids[i : i + 4]) for i in range(len(ids) - 3)]
    return {
        "entropy": float(-(p * np.log(p)).sum()),
        "distinct_4": len(set(grams)) / len(grams) if grams else 1.0,
    }
