"""Linguistic importance of every token, for masking that prefers the words that matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.difficulty import percentiles


class TokenImportance:
    """Percentile (0 to 100) of each token's mean of normalised tf-idf and unigram surprisal.

    tf-idf (Sparck Jones 1972) takes a chapter's counts, ``1 + log tf``, against the number of training
    paragraphs that hold the token; surprisal is ``-log2`` of the add-one unigram probability. Each is divided
    by its largest value in the training split, so that neither rules. Chen et al. (2023) add tf-idf and
    *entropy* instead, which ranks the commonest words first on a book.

    Args:
        paragraphs: token ids of each paragraph of the book, int arrays.
        chapter_of: [n] chapter index of each paragraph.
        train: [n] bool, the paragraphs that may be fitted on.
        vocab_size: number of token ids.
    """

    def __init__(
        self, paragraphs: Sequence[np.ndarray], chapter_of: np.ndarray, train: np.ndarray, vocab_size: int
    ) -> None:
        fitted = [ids for ids, use in zip(paragraphs, train, strict=True) if use]
        counts = np.bincount(np.concatenate(fitted), minlength=vocab_size)
        spread = np.bincount(np.concatenate([np.unique(ids) for ids in fitted]), minlength=vocab_size)
        surprisal = -np.log2((counts + 1) / (counts.sum() + vocab_size))
        self._idf = np.log((1 + len(fitted)) / (1 + spread)) + 1e-9
        self._surprisal = surprisal / surprisal.max()
        self._counts = {
            int(c): np.bincount(
                np.concatenate([p for p, d in zip(paragraphs, chapter_of, strict=True) if d == c]),
                minlength=vocab_size,
            )
            for c in np.unique(chapter_of)
        }
        train_chapters = sorted({int(c) for c, use in zip(chapter_of, train, strict=True) if use})
        self._largest = max(float(self._tf_idf(c).max()) for c in train_chapters)
        values, weights = [], []
        for c in train_chapters:
            seen = np.flatnonzero(self._counts[c])
            values.append(self._raw(c)[seen])
            weights.append(self._counts[c][seen])
        self._reference = np.sort(np.repeat(np.concatenate(values), np.concatenate(weights)))
        self._table: dict[int, np.ndarray] = {}

    def _tf_idf(self, chapter: int) -> np.ndarray:
        return (1 + np.log(np.maximum(self._counts[chapter], 1))) * self._idf

    def _raw(self, chapter: int) -> np.ndarray:
        return 0.5 * (self._tf_idf(chapter) / self._largest + self._surprisal)

    def __call__(self, ids: np.ndarray, chapter: int) -> np.ndarray:
        """uint8[len(ids)] percentiles of tokens that stand in ``chapter``."""
        if chapter not in self._table:
            self._table[chapter] = percentiles(self._raw(chapter), self._reference).round().astype(np.uint8)
        return self._table[chapter][ids]
