"""Passages and excerpts: what of a window is scored, and where in the book a copied span stands."""

import numpy as np
from report_runs import chapters, texts

from mdlm_jax.evaluation.copying import memory_figures
from mdlm_jax.evaluation.text_sections import EXCERPT, excerpts, passages


def test_the_second_half_of_full_windows():
    scored = np.zeros((7, 9), bool)
    scored[:, 1:] = True
    scored[3, 5:] = False  # the end of a chapter
    windows = {"tokens": np.arange(63).reshape(7, 9), "scored": scored}
    chosen, tokens = passages(windows, 3)
    assert tokens == 4 and chosen["scored"].tolist() == [[False] * 5 + [True] * 4] * 3
    assert chosen["tokens"][:, 0].tolist() == [0, 18, 54] and windows["scored"].sum() == 52
    assert len(passages(windows, 100)[0]["tokens"]) == 6


def test_an_excerpt_holds_what_was_copied():
    every = chapters()
    memory = memory_figures(texts(), {0: every[0], 1: every[1]}, {2: every[2]})
    found = excerpts(memory, every)
    assert found[0]["sample"] == 0 and found[0]["shown"]["text"] == 1 and found[0]["chapter"] == 0
    assert [x["words"] for x in found] == sorted((x["words"] for x in found), reverse=True)
    for one in found:
        first = " ".join(one["text"].split()[:5])
        assert first.casefold() in one["excerpt"].casefold() and len(one["excerpt"]) <= EXCERPT + 4
        paragraphs = every[one["chapter"]].split("\n\n")
        assert first in " ".join(paragraphs[one["paragraph"]].split())
        assert one["shown"]["paragraph"] == one["paragraph"] + 1
