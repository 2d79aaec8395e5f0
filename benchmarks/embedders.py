"""Validity and cost of sentence embedders on a book, and how near `bert:` comes to what the processor can do.

    taskset -c 0 python benchmarks/embedders.py [--book B] [--embedders lsa bert:all-MiniLM-L6-v2]

AUC: the chance that two neighbouring sentences of the book are nearer than two random ones. CPU seconds:
the first encoding (lsa: and fitting), compilation included, and a second one. The floor is the arithmetic
of the tokens alone at the rate of a float32 product of a layer's shape, measured before and after.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from data_prep import PrepConfig, PrepError
from data_prep.bert import BATCH_TOKENS, _load_tokenizer
from data_prep.checkpoint import find_model, read_safetensors, read_settings
from data_prep.embed import LsaEmbedder, adjacent_auc, unit
from data_prep.pipeline import split_book
from data_prep.pretrained import KeptVectors, open_embedder
from data_prep.read import read_corpus
from data_prep.segment import book_sentences

ROOT = Path(__file__).resolve().parent.parent


def bert_flops(name: str, texts: list[str]) -> float:
    """Multiplications and additions of the matrix products, for the tokens that are there."""
    settings, body = read_settings(find_model(name))
    encodings = _load_tokenizer(body / "tokenizer.json", settings).encode_batch(list(dict.fromkeys(texts)))
    n = np.array([len(encoding.ids) for encoding in encodings], float)
    tensors = read_safetensors(body / "model.safetensors")
    hidden, d = next(w.shape for name, w in tensors.items() if name.endswith("0.intermediate.dense.weight"))
    return settings.layers * (n.sum() * (8 * d * d + 4 * d * hidden) + 4 * d * (n**2).sum())


def product_rate() -> float:
    """FLOP per CPU second of a float32 product of a layer's shape."""
    import jax

    a, b = np.ones((BATCH_TOKENS, 384), np.float32), np.ones((384, 1536), np.float32)
    multiply = jax.jit(lambda a, b: a @ b)
    a, b = jax.device_put((a, b))
    multiply(a, b).block_until_ready()
    start = time.process_time()
    for _ in range(100):
        multiply(a, b).block_until_ready()
    return 100 * 2 * a.shape[0] * b.size / (time.process_time() - start)


def main() -> None:
    """Encodes the book with each embedder, twice, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--book", type=Path, default=ROOT / "data_prep/books/the_sixty_fifth_pint.txt")
    parser.add_argument("--embedders", nargs="+", default=["lsa", "bert:all-MiniLM-L6-v2"])
    a = parser.parse_args()
    sentences = book_sentences(split_book(read_corpus(a.book).documents, PrepConfig())[0])
    texts, chapter = [s.text for s in sentences], np.array([s.chapter for s in sentences])
    print(f"{a.book.name}: {len(texts)} sentences, {sum(len(text.split()) for text in texts)} words\n")
    print("| embedder | AUC | first, CPU s | again, CPU s | floor, CPU s | rate, GFLOP/s |")
    print("|---|---|---|---|---|---|", flush=True)
    for spec in a.embedders:
        floor = rate = "-"
        start = time.process_time()
        try:
            embedder = open_embedder(spec) or LsaEmbedder(texts)
        except PrepError as error:
            print(f"| {spec} | {error} |")
            continue
        inner = embedder._embedder if isinstance(embedder, KeptVectors) else embedder  # nothing is kept here
        vectors = inner.encode(texts)
        seconds = [time.process_time() - start]
        before = product_rate() if spec.startswith("bert:") else 0.0
        start = time.process_time()
        inner.encode(texts)
        seconds.append(time.process_time() - start)
        if before:
            mean = (before + product_rate()) / 2
            floor, rate = f"{bert_flops(spec[5:], texts) / mean:.1f}", f"{mean / 1e9:.0f}"
        auc = adjacent_auc(unit(vectors), chapter)
        print(f"| {spec} | {auc} | {seconds[0]:.1f} | {seconds[1]:.1f} | {floor} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
