"""Measures of a generated text: how near its style is to the book's, what it copied, how varied it is."""

import math
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from mdlm_jax.data import Dataset, chapters, read_records
from mdlm_jax.evaluation.prose import Reference, distance, fit, sentence_lengths
from mdlm_jax.ui.values import UserError, nearest


class StyleError(UserError):
    """A chapter whose style cannot be the target; one line."""


def chapter_texts(dataset: Dataset, tokenizer: Tokenizer, *splits: str) -> dict[int, str]:
    """The text of each chapter of the splits by number, a blank line after a paragraph. Raises DataError."""
    records = [record for split in splits for record in read_records(dataset, "refinement", split)]
    decoded = tokenizer.decode_batch([r.ids.tolist() for r in records], skip_special_tokens=False)
    texts: dict[int, str] = {}
    for record, piece in zip(records, decoded, strict=True):  # a paragraph ends with its blank line
        texts[record.chapter] = texts.get(record.chapter, "") + piece
    return dict(sorted(texts.items()))


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
    texts = chapter_texts(dataset, tokenizer, "train")
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
