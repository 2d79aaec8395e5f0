"""What the measures of style, coherence and copying can tell.

    python benchmarks/metrics.py --data D [E ...] [--words 120 500]

D, E are prepared books (python -m data_prep). By book and length: every measure's floor (pieces of held-out
chapters) and ceiling (another book; for coherence the same sentences shuffled), median and 10-90 % range, and
the AUC of one against the other; where pieces of every second held-out chapter and the same with their words
shuffled stand, the other held-out chapters being the floor; neighbours by latent semantic analysis instead;
what held-out text shares with the training text. Nothing is drawn but shuffles, from seed 0.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation import coherence, copying, style, voice
from mdlm_jax.evaluation.placement import Measure, auc, measured
from mdlm_jax.evaluation.prose import pieces, plain, sentences, words
from mdlm_jax.tokenizer import load_tokenizer


def lsa(train: list[str], rank: int) -> Measure:
    """1 less the mean cosine of neighbours: tf-idf of blocks of three sentences, `rank` singular vectors."""
    every = [words(sentence) for text in train for sentence in sentences(text)]
    blocks = [list(itertools.chain(*every[i : i + 3])) for i in range(0, len(every), 3)]
    column = {word: i for i, word in enumerate(sorted({word for block in blocks for word in block}))}
    df = np.zeros(len(column))
    for found in every:
        df[[column[word] for word in set(found)]] += 1
    idf = np.log((1 + len(every)) / (1 + df))

    def rows(texts: list[list[str]]) -> scipy.sparse.csr_matrix:
        at = [(i, column[word]) for i, found in enumerate(texts) for word in found if word in column]
        i, j = np.array(at or [(0, 0)]).T
        counts = scipy.sparse.csr_matrix((idf[j] * bool(at), (i, j)), (len(texts), len(column)))
        norms = np.sqrt(counts.multiply(counts).sum(axis=1))
        return counts.multiply(1 / np.maximum(norms, 1e-9)).tocsr()

    vectors = scipy.sparse.linalg.svds(rows(blocks), rank, rng=0)[2].T

    def measure(text: str) -> float | None:
        found = rows([words(sentence) for sentence in sentences(text)]) @ vectors
        found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
        return 1 - float((found[1:] * found[:-1]).sum(axis=1).mean()) if len(found) > 1 else None

    return measure


def row(name: str, found: dict, *positions: float | None) -> str:
    """A line of the table: floor and ceiling with their 10-90 % range, the AUC, where samples stand."""
    cells = [
        "-" if x is None else f"{x['median']:.3g} ({x['p10']:.3g} to {x['p90']:.3g})"
        for x in (found["floor"], found["ceiling"])
    ]
    stand = ["-" if x is None else f"{x:.2f}" for x in positions]
    return f"| {' | '.join([name, *cells, format(found['auc'], '.2f'), *stand])} |"


def main() -> None:
    """Prints a table for each book and length, and three lines below it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path)
    parser.add_argument("--words", nargs="+", type=int, default=[120, 500])
    a = parser.parse_args()
    if a.data is None:
        print("nothing to measure: --data takes prepared books")
        return
    for path in a.data:
        dataset, tokenizer = open_dataset(path), load_tokenizer(path / "tokenizer.json")
        name = dataset.info["book"]["name"]
        train = style.chapter_texts(dataset, tokenizer, "train")
        held_out = style.chapter_texts(dataset, tokenizer, "validation", "test")
        texts, kept = list(train.values()), list(held_out.values())
        for length in a.words:
            begun = time.process_time()
            rng = np.random.default_rng(0)
            real = pieces(kept[::2], length, 20)
            mixed = [" ".join(rng.permutation(text.split())) for text in real]
            stand = [voice.style_figures(some, texts, kept[1::2], length=length) for some in (real, mixed)]
            whole = voice.style_figures([], texts, kept, length=length)
            head = f"{name}, {length} words; another book: {whole['other_book']}"
            print(f"\n{head}\n\n| measure | floor | ceiling | AUC | held out | words shuffled |")
            print("|---|---|---|---|---|---|")
            for measure, found in whole["measures"].items():
                print(row(measure, found, *(one["measures"][measure]["position"] for one in stand)))
            stand = [coherence.coherence_figures(some, texts, kept[1::2], length) for some in (real, mixed)]
            whole = coherence.coherence_figures(pieces(kept, length, 20), texts, kept, length)
            for measure in ("adjacent", "entities"):
                print(row(measure, whole[measure], *(one[measure]["position"] for one in stand)))
            chapters = [plain(text) for text in kept]
            groups = [chapters, [coherence.shuffled(chapters, 0)]]
            drawn = [pieces(group, length, coherence.NUMBER) for group in groups]
            told = []
            for rank in (20, 100):
                by = lsa([plain(text) for text in texts], rank)
                told.append(f"rank {rank}: AUC {auc(*(measured(by, group) for group in drawn)):.2f}")
            print(f"\nneighbours by LSA: {', '.join(told)}")
            order = {key: f"{whole[key]['own_order']['held_out']:.2f}" for key in ("adjacent", "entities")}
            print(f"share of held-out pieces that are stranger with their own sentences shuffled: {order}")
            judged = {key: one["verdict"] for key, one in whole["together"].items()}
            print(f"variety of {whole['texts_together']} held-out pieces: {judged}")
            memory = copying.memory_figures([], train, held_out)
            shares = {n: f"{one['held_out']['share']:.4f}" for n, one in memory["shares"].items()}
            longest = memory["longest"]["held_out"]
            print(f"held-out n-grams in the training text: {shares}, longest span {longest}")
            print(f"({time.process_time() - begun:.1f} CPU s)")


if __name__ == "__main__":
    main()
