"""What the stylometric distance of a short text can tell.

    python benchmarks/style.py --data D E [--pieces 50]

D and E are prepared books (python -m data_prep). Of random pieces of each book's held-out chapters: how many
are nearer to their own book's style than to the other's, by the length of the piece; and of a chapter's
second half, to how many of the other chapters it is not as near as to its own first half. Seed 0.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation import prose, style
from mdlm_jax.tokenizer import load_tokenizer


def pieces(texts: list[str], words: int, number: int, rng: np.random.Generator) -> list[str]:
    """Random runs of so many words, none across chapters."""
    split = [text.split(" ") for text in texts if len(text.split(" ")) > words]
    weights = np.array([len(x) - words for x in split], float)
    found = []
    for which in rng.choice(len(split), number, p=weights / weights.sum()):
        at = rng.integers(len(split[which]) - words)
        found.append(" ".join(split[which][at : at + words]))
    return found


def main() -> None:
    """Prints one table and two lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs=2, type=Path)
    parser.add_argument("--pieces", type=int, default=50)
    a = parser.parse_args()
    if a.data is None:
        print("nothing to compare: --data takes two prepared books")
        return
    books = [open_dataset(path) for path in a.data]
    tokenizers = [load_tokenizer(path / "tokenizer.json") for path in a.data]
    both = list(zip(books, tokenizers, strict=True))
    train = [list(style.chapter_texts(*book, "train").values()) for book in both]
    held = [list(style.chapter_texts(*book, "validation", "test").values()) for book in both]
    references = [prose.fit(texts, texts) for texts in train]
    print("| words | " + " | ".join(f"{b.info['book']['name']}: nearer to its own" for b in books) + " |")
    print("|---|---|---|")
    for words in (60, 120, 200):
        cells = []
        for own in (0, 1):
            drawn = pieces(held[own], words, a.pieces, np.random.default_rng(0))
            nearer = [
                prose.distance(references[own], x) < prose.distance(references[1 - own], x) for x in drawn
            ]
            cells.append(f"{sum(nearer)} of {a.pieces}")
        print(f"| {words} | {' | '.join(cells)} |")
    for book, texts in zip(books, train, strict=True):
        long = [text for text in texts if len(text.split()) > 600]
        targets = [prose.fit(texts, [text[: len(text) // 2]]) for text in long]
        rng, beaten = np.random.default_rng(0), []
        for own, text in enumerate(long):
            for piece in pieces([text[len(text) // 2 :]], 120, 5, rng):
                found = np.array([prose.distance(target, piece) for target in targets])
                beaten.append((np.delete(found, own) > found[own]).mean())
        name, share = book.info["book"]["name"], f"{np.mean(beaten):.0%}"
        print(f"\n{name}: 120 words of a second half are nearer to its first half than to {share} of the")
        print(f"other chapters ({len(beaten)} pieces, {len(long)} chapters)")


if __name__ == "__main__":
    main()
