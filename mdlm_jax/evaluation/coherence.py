"""Whether sentences go with their neighbours, and how varied texts are; beside real and shuffled text."""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mdlm_jax.evaluation.placement import Measure, auc, measured, placed, spread
from mdlm_jax.evaluation.prose import equal_length, ngrams, pieces, plain, sentences, words

NUMBER = 60  # pieces of the real and of the shuffled text
REACH = 5  # sentences before and after: pronouns take a name's place in the very next one
DRAWS = 20  # of as many pieces of the book as there are samples
SHARE = 3  # of its pieces, one in so many at most: else draws are too alike to say what is usual
FAR = 3  # standard deviations: of 12 texts like 36 pieces one of five figures is off in some 5 % of cases
_NAME = re.compile(r"[^\W\d_]+")


def adjacent(train: Sequence[str]) -> Measure:
    """How strange neighbouring sentences are to one another: 1 less the mean similarity, 0 to 1.

    The similarity of two sentences is the Jaccard index of their words, each by its inverse frequency in the
    sentences of the training text, log((1 + n) / (1 + n_word)): what they share is only worth something where
    it is rare. Latent semantic analysis tells real from shuffled text no better (see docs/results.md). None
    for a text of one sentence.
    """
    found = [set(words(sentence)) for text in train for sentence in sentences(text)]
    frequency = Counter(itertools.chain.from_iterable(found))
    unseen = math.log(1 + len(found))
    weight = {word: unseen - math.log(1 + n) for word, n in frequency.items()}

    def total(some: set[str]) -> float:
        return sum(weight.get(word, unseen) for word in sorted(some))  # sorted: one order, one sum

    def strangeness(text: str) -> float | None:
        kept = [set(words(sentence)) for sentence in sentences(text)]
        shares = [total(a & b) / (total(a | b) or 1) for a, b in itertools.pairwise(kept)]
        return 1 - sum(shares) / len(shares) if shares else None

    return strangeness


def entities(train: Sequence[str]) -> Measure:
    """How short-lived names are: the share that no sentence within REACH of their own holds again, 0 to 1.

    A name is a capitalised word that is not a sentence's first and that the training text does not have more
    often in lower case (as it has what follows a quotation mark); a simple form of the entity grid (Barzilay
    & Lapata 2008). None for a text without names or of one sentence.
    """
    found = Counter(word for text in train for word in _NAME.findall(text))
    common = {word for word, n in found.items() if word.islower() and n >= found[word.capitalize()]}

    def named(sentence: str) -> list[str]:
        upper = [word for word in _NAME.findall(sentence) if word[0].isupper() and word != "I"]
        return [word for word in upper if word.lower() not in common]

    def loss(text: str) -> float | None:
        kept = sentences(text)
        everywhere = [set(named(sentence)) for sentence in kept]
        lost = mentions = 0
        for i, sentence in enumerate(kept):
            beside = set().union(*everywhere[max(0, i - REACH) : i], *everywhere[i + 1 : i + 1 + REACH])
            first = _NAME.search(sentence)
            names = set(named(sentence[first.end() :])) if first else set()
            mentions += len(names)
            lost += len(names - beside)
        return lost / mentions if mentions and len(kept) > 1 else None

    return loss


def shuffled(texts: Sequence[str], seed: int) -> str:
    """All sentences of the texts in a random order."""
    every = [sentence for text in texts for sentence in sentences(text)]
    return " ".join(every[i] for i in np.random.default_rng(seed).permutation(len(every)))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """The share of the runs of n words of all texts together that differ (distinct-n, Li et al. 2016); 1
    without any. It falls with their number: compare as many texts of one length.
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def self_bleu(texts: Sequence[Sequence[str]], order: int = 4) -> float:
    """How far texts are made of the same runs of words, 0 to 1: the mean BLEU (Papineni et al. 2002) of each
    against all others (Zhu et al. 2018, "Texygen"); 0 for fewer than two.

    Of a text of L words orders 1 to min(order, L) count, with 1 added to the matches and to the runs of
    orders above 1 (Lin & Och 2004). The reference length is the nearest, and the shorter of two.
    """
    if len(texts) < 2:
        return 0.0
    logs = np.zeros((len(texts), order))
    for n in range(1, order + 1):
        counts = [Counter(ngrams(text, n)) for text in texts]
        most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # greatest count, whose, and the next
        for i, grams in enumerate(counts):
            for gram, c in grams.items():
                best, owner, second = most.get(gram, (0, -1, 0))
                most[gram] = (c, i, best) if c > best else (best, owner, max(second, c))
        for i, grams in enumerate(counts):
            matches = sum(min(c, most[g][2] if most[g][1] == i else most[g][0]) for g, c in grams.items())
            share = (matches + (n > 1)) / max(1, grams.total() + (n > 1))
            logs[i, n - 1] = math.log(share) if share else -math.inf
    scores = []
    for i, text in enumerate(texts):
        if not text:
            scores.append(0.0)
            continue
        others = [len(other) for j, other in enumerate(texts) if j != i]
        nearest = min(others, key=lambda length: (abs(length - len(text)), length))
        brevity = min(0.0, 1 - nearest / len(text))
        scores.append(math.exp(brevity + logs[i, : min(order, len(text))].mean()))
    return sum(scores) / len(scores)


def repetition(found: Sequence[str], n: int = 4) -> float:
    """The share of the runs of n words of a text that stood in it before; 0 without any."""
    return 1 - distinct([found], n)


def longest_repeat(found: Sequence[str]) -> int:
    """The most words that follow a copy of themselves at once: 1 in "very, very", 2 in "I see, I see", 6 in
    "so it is, so it is, so it is".
    """
    ids = np.unique(np.array(found, dtype=np.str_), return_inverse=True)[1]
    longest = 0
    for period in range(1, len(ids) // 2 + 1):
        same = np.concatenate([[False], ids[period:] == ids[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        run = int((edges[1::2] - edges[::2]).max(initial=0))
        longest = max(longest, run) if run >= period else longest
    return longest


def above(low: np.ndarray, high: np.ndarray) -> float | None:
    """The share of pairs in which `high` is above, ties counted half; without NaNs, None without pairs."""
    signs = np.sign(high - low)
    signs = signs[~np.isnan(signs)]
    return float(np.mean((signs + 1) / 2)) if len(signs) else None


def coherence_figures(
    samples: Sequence[str],
    train: Sequence[str],
    held_out: Sequence[str],
    length: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Coherence and diversity of the samples, ready for JSON.

    Args:
        samples: generated texts; cut to `length` words (by default `equal_length`), shorter ones left out.
        train, held_out: texts of the chapters of the book.
        seed: of what is shuffled and drawn.

    "adjacent" and "entities" stand between pieces of the held-out chapters (0) and pieces of their sentences
    in a random order (1). Below 0 neighbours are more alike than the book's: a text that repeats itself, or
    has longer sentences, which share more. "own_order" is free of that: the share of texts that are
    stranger with their own sentences in a random order than as they stand, ties counted half; 1/2 where order
    plays no part, None without a text. For samples and for the held-out pieces.

    "together" has figures of all samples as one set, beside `DRAWS` draws of as many pieces of the training
    chapters, as a spread: distinct_1 to distinct_4 and self_bleu_4. "within" has what each text repeats,
    samples beside pieces of the training chapters: repeated_4 and longest_repeat. None without what it needs.
    """
    length, kept = equal_length(samples, length)
    drawn = [plain(text) for text in kept]
    chapters = [plain(text) for text in held_out]
    floor = pieces(chapters, length, NUMBER)
    ceiling = pieces([shuffled(chapters, seed)], length, NUMBER)
    own = [words(text) for text in drawn]
    book = [words(text) for text in pieces([plain(text) for text in train], length, 10**6)]
    together, number = _together(own, book, seed)
    within: dict[str, Callable[[list[str]], float]] = {
        "repeated_4": repetition,
        "longest_repeat": longest_repeat,
    }
    found: dict[str, Any] = {"words": length, "texts": len(kept), "left_out": len(samples) - len(kept)}
    for name, measure in {"adjacent": adjacent(train), "entities": entities(train)}.items():
        groups = [measured(measure, texts) for texts in (drawn, floor, ceiling)]
        mixed = [measured(measure, [shuffled([x], seed) for x in texts]) for texts in (drawn, floor)]
        found[name] = placed(groups[0], groups[1], groups[2], seed)
        order = [above(*both) for both in zip(groups[:2], mixed, strict=True)]
        found[name]["own_order"] = dict(zip(("samples", "held_out"), order, strict=True))
    found |= {"together": together, "texts_together": number, "within": {}}
    for name, of in within.items():
        a, b = np.array([of(x) for x in own], float), np.array([of(x) for x in book], float)
        found["within"][name] = {"samples": spread(a), "book": spread(b), "samples_auc": auc(b, a)}
    return found


def _together(own: list[list[str]], book: list[list[str]], seed: int) -> tuple[dict[str, Any], int]:
    """The figures of sets of texts, and of how many texts: so few that draws from the book differ."""
    number = min(len(own), len(book) // SHARE)
    if number < 2:
        return {}, number
    rng = np.random.default_rng(seed)
    draws = [[book[i] for i in rng.choice(len(book), number, replace=False)] for _ in range(DRAWS)]
    own = [own[i] for i in sorted(rng.choice(len(own), number, replace=False))]
    figures: dict[str, Callable[[list[list[str]]], float]] = {
        **{f"distinct_{n}": functools.partial(distinct, n=n) for n in (1, 2, 3, 4)},
        "self_bleu_4": self_bleu,
    }
    # Draws without replacement share pieces, and vary as 1/n - 1/N; what is written and the book's own mean
    # as 1/n + 1/N.
    wider = math.sqrt((1 + number / len(book)) / (1 - number / len(book)))
    together = {}
    for name, of in figures.items():
        value, usual = of(own), np.array([of(draw) for draw in draws])
        off = (value - usual.mean()) * (-1 if name == "self_bleu_4" else 1)
        verdict = "like the book"
        if abs(off) > FAR * wider * usual.std(ddof=1):
            verdict = f"{'more' if off > 0 else 'less'} varied than the book"
        together[name] = {"samples": value, "book": spread(usual), "verdict": verdict}
    return together, number
