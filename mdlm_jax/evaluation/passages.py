"""Passages for a blind test: of the book and of a run, cut and typeset alike, and matched in their form.

Both are cut at the borders of words on both sides. For each text of the run the passage of the book is taken
that is most like it in what can be seen without reading: how it begins and ends, quotes, paragraphs, length.
What is left to tell them by is the writing (matched controls; Rosenbaum 2010, "Design of Observational
Studies", chapter 8).
"""

import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from mdlm_jax.data import Dataset, Record, read_records
from mdlm_jax.evaluation.prose import EACH
from mdlm_jax.frames import printable
from mdlm_jax.ui.values import UserError

SPLITS = {"held_out": ("validation", "test"), "train": ("train",)}
_PIECE = re.compile(rf"(?:[{EACH}]|[^\s{EACH}]+)\s*")
_ALIKE = str.maketrans({**dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‘’‚‛`", "'"), "_": "", "\ufffd": ""})
_KINDS = ('"', "'", ",;:", ".!?…", "—–-", "([{", ")]}")
# What a difference costs: in the kind of the first and of the last character, in the numbers of quotes and
# of paragraphs, and in characters. Only their order matters where the book has passages enough.
_COSTS = np.array([20.0, 20.0, 10.0, 6.0, 1.0])


class PassagesError(UserError):
    """A book, or a run, that has too little text for a test; one line."""


class Passages(NamedTuple):
    """Text to take passages from, as words with the space after them; "" between what does not follow."""

    pieces: list[str]
    places: list[tuple[int, int]]  # of each: its chapter, and which word of it this is


def normal(text: str) -> str:
    """A text in plain typography: straight quotes, no underscores (italics), no control characters, single
    spaces, and a blank line between paragraphs.
    """
    text = printable(unicodedata.normalize("NFC", text)).translate(_ALIKE)
    text = re.sub(r"\s*(?:--+|—)\s*", "—", text).replace("...", "…")
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(filter(None, paragraphs))


def words_of(text: str) -> list[str]:
    """The words of a text that is `normal`, each with the space after it."""
    return _PIECE.findall(text)


def passages(dataset: Dataset, tokenizer: Tokenizer, source: str) -> tuple[Passages, float]:
    """The held-out or the training chapters, and their tokens per word. Raises DataError."""
    found, tokens = Passages([], []), 0
    chapter, word, last = -1, 0, (-1, -1)

    def add(run: list[Record]) -> None:
        nonlocal chapter, word
        if run and run[0].chapter != chapter:
            chapter, word = run[0].chapter, 0
        texts = tokenizer.decode_batch([r.ids.tolist() for r in run], skip_special_tokens=True)
        pieces = words_of(normal("".join(texts)))
        found.pieces.extend([*pieces, ""])
        found.places.extend((chapter, word + i) for i in range(len(pieces) + 1))
        word += len(pieces)

    for split in SPLITS[source]:
        run: list[Record] = []
        for record in read_records(dataset, "refinement", split):
            if (record.chapter, record.paragraph - 1) != last:
                add(run)
                run = []
            run.append(record)
            tokens += len(record.ids)
            last = record.chapter, record.paragraph
        add(run)
    return found, tokens / max(1, sum(map(bool, found.pieces)))


def cut(text: str, words: int, skip: int, generator: np.random.Generator) -> str | None:
    """`words` words from anywhere in a written text but its first `skip` words and its last; None if there
    are too few. The last may be cut off, and a text of a run begins as a chapter does, a passage of the book
    hardly ever.
    """
    pieces = words_of(normal(text))
    if len(pieces) < skip + words + 1:
        return None
    begin = int(generator.integers(skip, len(pieces) - words))
    return "".join(pieces[begin : begin + words]).rstrip()


def _kind(character: str) -> int:
    """Lower case, capital, digit, a mark of one of _KINDS, or anything else."""
    tests = (character.islower(), character.isupper(), character.isdigit(), *(character in k for k in _KINDS))
    return tests.index(True) if True in tests else len(tests)


def forms(pieces: list[str], words: int) -> np.ndarray:
    """int [max(0, n - words + 1), 5] of the passage of so many words from each of the n pieces on: kind of
    the first and of the last character, quotes, paragraph breaks, characters.
    """
    number = max(0, len(pieces) - words + 1)
    first = np.array([_kind(piece[:1] or " ") for piece in pieces], int)[:number]
    last = np.array([_kind(piece.rstrip()[-1:] or " ") for piece in pieces], int)[words - 1 :]
    counts = [[p.count('"'), "\n" in p, len(p)] for p in pieces]
    sums = np.cumsum([[0, 0, 0], *counts], axis=0)
    inside = sums[words:] - sums[:-words] if number else np.zeros((0, 3), int)
    space = np.array([[0, "\n" in p, len(p) - len(p.rstrip())] for p in pieces[words - 1 :]], int)
    return np.column_stack([first, last, inside - space.reshape(-1, 3)])


def check_room(book: Passages, number: int, words: int) -> None:
    """Raises PassagesError where so many passages do not stand in the text without overlapping."""
    stretches = "".join(" x"[bool(piece)] for piece in book.pieces).split()
    if (room := sum(len(stretch) // words for stretch in stretches)) < number:
        told = f"this part of the book has room for {room} passages of {words} words, not {number}"
        raise PassagesError(f"{told}; take fewer --pairs or --words, or --from train")


def matched(
    book: Passages, texts: list[str], words: int, generator: np.random.Generator
) -> list[dict[str, Any]]:
    """A passage of the book for each text of as many words: {"book", "chapter", "word"}. None overlap.

    The nearest in form, of equals any. Raises PassagesError where the book has no room for so many.
    """
    check_room(book, len(texts), words)
    table, chosen = forms(book.pieces, words), []
    free, place = np.array([bool(piece) for piece in book.pieces]), np.arange(len(book.pieces))
    starts = place[: len(table)]
    for left_over, text in zip(range(len(texts) - 1, -1, -1), texts, strict=True):
        begin = np.maximum.accumulate(np.where(free, 0, place + 1))  # of the free stretch around a word
        end = np.minimum.accumulate(np.where(free, len(free), place)[::-1])[::-1]
        still = ((end - begin) // words)[free & (place == begin)].sum()
        before, after = starts - begin[starts], end[starts] - starts - words
        taken = (before + words + after) // words - before // words - after // words
        fits = free[starts] & (after >= 0) & (still - taken >= left_over)  # enough stays for the others
        form = forms(words_of(text), words)[0]
        apart = np.abs(table - form)
        apart[:, :2] = table[:, :2] != form[:2]
        cost = np.where(fits, apart @ _COSTS, np.inf)
        while True:
            at = int(generator.choice(np.flatnonzero(cost == cost.min())))
            passage = "".join(book.pieces[at : at + words]).rstrip()
            if passage != text or np.isfinite(cost).sum() == 1:
                break
            cost[at] = np.inf  # a copy of the training text, to the letter: no question
        free[at : at + words] = False
        chosen.append({"book": passage, "chapter": book.places[at][0], "word": book.places[at][1]})
    return chosen
