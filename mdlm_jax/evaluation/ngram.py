"""The floor beside every figure: an interpolated Witten-Bell byte n-gram of the training split."""

import math
from collections import defaultdict
from pathlib import Path

from mdlm_jax.data import Dataset
from mdlm_jax.evaluation.style import chapter_texts
from mdlm_jax.tokenizer import load_tokenizer

Tables = list[dict[bytes, dict[int, int]]]


def witten_bell(train: bytes, order: int = 5) -> Tables:
    """Counts for contexts of 0 to order-1 bytes: tables[j][context][byte] (Witten & Bell 1991, method C)."""
    tables: Tables = []
    for j in range(order):
        table: dict[bytes, dict[int, int]] = defaultdict(dict)
        for i in range(j, len(train)):
            row = table[train[i - j : i]]
            row[train[i]] = row.get(train[i], 0) + 1
        tables.append(dict(table))
    return tables


def probability(tables: Tables, context: bytes, byte: int) -> float:
    """P(byte | context): each order mixed with the one below by its share of novel bytes; below order 1,
    1/256.
    """
    p = 1 / 256
    for j, table in enumerate(tables):
        if j > len(context):
            break
        row = table.get(context[len(context) - j :])
        if row is None:
            break
        total, types = sum(row.values()), len(row)
        p = (row.get(byte, 0) + types * p) / (total + types)
    return p


def bits_per_byte(tables: Tables, texts: list[bytes]) -> float:
    """Mean -log2 P over the bytes of `texts` (chapters; the context starts empty in each)."""
    order, bits, count = len(tables), 0.0, 0
    for text in texts:
        for i, byte in enumerate(text):
            bits -= math.log2(probability(tables, text[max(0, i - order + 1) : i], byte))
        count += len(text)
    return bits / count


def chapter_bytes(dataset: Dataset, workdir: Path, split: str) -> list[bytes]:
    """The text of each chapter of a split."""
    texts = chapter_texts(dataset, load_tokenizer(workdir / "tokenizer.json"), split)
    return [text.encode() for text in texts.values()]


def held_out_bits_per_byte(dataset: Dataset, workdir: Path) -> dict[str, float]:
    """Bits per byte of the Witten-Bell byte 5-gram of the training split, on the held-out splits."""
    tables = witten_bell(b"".join(chapter_bytes(dataset, workdir, "train")))
    splits = ("validation", "test")
    return {split: bits_per_byte(tables, chapter_bytes(dataset, workdir, split)) for split in splits}
