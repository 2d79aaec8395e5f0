"""The floor beside every figure: an interpolated Witten-Bell n-gram over bytes, fitted on the training split."""

import math
from collections import defaultdict


def witten_bell(train: bytes, order: int = 5) -> "list[dict[bytes, dict[int, int]]]":
    """Counts for contexts of 0 to order-1 bytes: tables[j][context][byte] (Witten & Bell 1991, method C)."""
    tables: list[dict[bytes, dict[int, int]]] = []
    for j in range(order):
        table: dict[bytes, dict[int, int]] = defaultdict(dict)
        for i in range(j, len(train)):
            row = table[train[i - j : i]]
            row[train[i]] = row.get(train[i], 0) + 1
        tables.append(dict(table))
    return tables


def probability(tables: "list[dict[bytes, dict[int, int]]]", context: bytes, byte: int) -> float:
    """P(byte | context): each order mixed with the one below by its share of novel bytes; below order 1, 1/256."""
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


def bits_per_byte(tables: "list[dict[bytes, dict[int, int]]]", texts: list[bytes]) -> float:
    """Mean -log2 P over the bytes of `texts` (chapters; the context starts empty in each)."""
    order, bits, count = len(tables), 0.0, 0
    for text in texts:
        for i, byte in enumerate(text):
            bits -= math.log2(probability(tables, text[max(0, i - order + 1) : i], byte))
        count += len(text)
    return bits / count
