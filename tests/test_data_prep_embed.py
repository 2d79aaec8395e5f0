"""The embedder's own tf-idf and SVD against scikit-learn's."""

import warnings

import numpy as np
from conftest import REPO

from data_prep.embed import DIMENSIONS, LsaEmbedder
from data_prep.segment import sentences
from data_prep.text import words

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside scikit-learn are not ours
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer


def _book_sentences(number: int) -> list[str]:
    paragraphs = (REPO / "data_prep/books/the_sixty_fifth_pint.txt").read_text(encoding="utf-8").split("\n\n")
    found = [p[a:b] for p in paragraphs for a, b in sentences(p)]
    return [s for s in found if len(words(s)) >= 4][:number]


def test_tf_idf_equals_scikit_learn() -> None:
    texts = _book_sentences(300)
    embedder = LsaEmbedder(texts)
    counts = embedder._counts([words(t) for t in texts])
    split = len(embedder._terms)
    ours = embedder._weigh(counts)
    for block in (slice(0, split), slice(split, None)):
        golden = TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, block].astype(np.float64))
        np.testing.assert_allclose(ours[:, block].toarray(), golden.toarray(), atol=2e-6)


def test_svd_keeps_as_much_variance_as_the_exact_one() -> None:
    """A randomised subspace is never better than the exact one, and must be nearly as good."""
    texts = _book_sentences(600)
    embedder = LsaEmbedder(texts)
    matrix = embedder._weigh(embedder._counts([words(t) for t in texts]))
    exact = TruncatedSVD(DIMENSIONS, algorithm="arpack", random_state=0).fit(matrix.astype(np.float64))
    basis = np.asarray(embedder._components, np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(DIMENSIONS), atol=1e-4)
    ours, best = np.sum((matrix @ basis) ** 2), np.sum(exact.singular_values_**2)
    assert 0.95 * best < ours <= best * (1 + 1e-6)
