"""Unedited samples of a run, and three figures about them beside the book's own.

    python benchmarks/samples.py --workdir R --book B [--seeds 0 1 2 3 4] [--preset default]

Share of words that occur in the book, mean sentence length in words, and every run of 13 words that was
copied. Words and sentences are data_prep's.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.read import read_corpus
from data_prep.segment import sentences
from data_prep.text import words
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.frames import printable
from mdlm_jax.generation import finish
from mdlm_jax.run_directory import load
from mdlm_jax.ui.options import settings_of

COPY = 13


def sentence_lengths(text: str) -> list[int]:
    """Words of each sentence, paragraph by paragraph."""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    return [n for p in paragraphs for a, b in sentences(p) if (n := len(words(p[a:b])))]


def main() -> None:
    """Prints the samples, then the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--book")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    for name in ("preset", "temperature", "top_p", "length", "best_of"):
        parser.add_argument(f"--{name}", help="as of python -m mdlm_jax.sample")
    a = parser.parse_args()
    if not (a.workdir and a.book):
        print("nothing to sample: --workdir names a run, --book what it was trained on")
        return
    run = load(a.workdir)
    given = {k: v for k, v in vars(a).items() if v is not None and k not in ("workdir", "book", "seeds")}
    asked = [settings_of(given | {"seed": seed}, run.config.sampling) for seed in a.seeds]
    texts = [finish(generate(run, *each))["text"] for each in asked]
    for seed, text in zip(a.seeds, texts, strict=True):
        print(f"--- seed {seed}\n{printable(text)}\n")
    book = "\n\n".join(document.text for document in read_corpus(a.book).documents)
    of_book = words(book)
    known, runs = set(of_book), {tuple(of_book[i : i + COPY]) for i in range(len(of_book) - COPY + 1)}
    found = [w for text in texts for w in words(text)]
    lengths, of_sentences = [n for text in texts for n in sentence_lengths(text)], sentence_lengths(book)
    copied = [
        " ".join(w[i : i + COPY])
        for w in map(words, texts)
        for i in range(len(w) - COPY + 1)
        if tuple(w[i : i + COPY]) in runs
    ]
    mean, book_mean = sum(lengths) / len(lengths), sum(of_sentences) / len(of_sentences)
    print(f"words in the book: {sum(w in known for w in found) / len(found):.1%} of {len(found)}")
    print(f"mean sentence: {mean:.1f} words, the book's {book_mean:.1f} ({mean / book_mean - 1:+.0%})")
    print(f"copied runs of {COPY} words: {len(copied)}", *copied, sep="\n  ")


if __name__ == "__main__":
    main()
