"""Passages and excerpts: what of a window is scored, and where in the book a copied span stands."""

import dataclasses
import re

import numpy as np
import pytest
from report_runs import chapters, texts

from mdlm_jax.data import open_dataset
from mdlm_jax.evaluation import text_sections
from mdlm_jax.evaluation.copying import memory_figures
from mdlm_jax.evaluation.page_measures import style
from mdlm_jax.evaluation.subject import PRESETS, Subject, find
from mdlm_jax.evaluation.text_sections import (
    EXCERPT,
    NoSamples,
    book_texts,
    coherent_lines,
    excerpts,
    measurable,
    passages,
    samples_of,
    style_lines,
)
from mdlm_jax.evaluation.voice import style_figures
from mdlm_jax.ui.progress import PlanProgress


def test_the_second_half_of_full_windows():
    scored = np.zeros((7, 9), bool)
    scored[:, 1:] = True
    scored[3, 5:] = False  # the end of a chapter
    windows = {"tokens": np.arange(63).reshape(7, 9), "scored": scored}
    chosen, tokens = passages(windows, 3)
    assert tokens == 4 and chosen["scored"].tolist() == [[False] * 5 + [True] * 4] * 3
    assert chosen["tokens"][:, 0].tolist() == [0, 18, 54] and windows["scored"].sum() == 52
    assert len(passages(windows, 100)[0]["tokens"]) == 6


def test_a_split_without_text_has_no_passages():
    empty = {"tokens": np.zeros((0, 9), int), "scored": np.zeros((0, 9), bool)}
    with pytest.raises(ValueError, match="no text"):
        passages(empty, 3)


def test_short_texts_are_left_out_and_counted():
    every = chapters()
    samples = [*texts(), "", "too short", "?"]
    assert (
        measurable({"samples": {"texts": samples}}) == samples_of({"samples": {"texts": samples}}) == samples
    )
    found = style_figures(samples, [every[0], every[1]], [every[2]])
    bare = style_figures(texts(), [every[0], every[1]], [every[2]])
    assert found["left_out"] == 3 and {**found, "left_out": 0} == bare
    told = "6 of 9 texts were measured; 3 were too short"
    assert told in style_lines(found)[0] and told in coherent_lines(found | {"adjacent": {"verdict": ""}})[0]
    page = style({"evaluation": {"style": found}, "run": {"language": "en"}}, {})
    assert told in re.sub("<.*?>", "", page)


@pytest.fixture
def run(smoke_run) -> Subject:
    return find(smoke_run, open_dataset(smoke_run / "data"), ("test",), 0, PRESETS["default"])


def test_training_and_held_out_chapters_are_those_of_the_split(run):
    split = run.dataset.info["split"]["chapters"]
    train, held_out = book_texts(run)
    assert sorted(train) == sorted(split["train"])
    assert sorted(held_out) == sorted(split["validation"] + split["test"]) and split["test"]


def test_style_is_measured_in_the_language_of_the_book(run):
    made = {"samples": {"texts": texts()}}
    for code, english in (("en", True), ("de", False)):
        info = run.dataset.info | {"language": {"code": code}}
        other = dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, info=info))
        found = text_sections.style(other, PRESETS["default"], PlanProgress(0.0), made)
        assert ("function_words" in found["measures"]) == english
        assert (found["other_book"] is not None) == english


def test_too_few_long_texts_are_no_section():
    for some, said in (
        ([], "no samples"),
        (["", "one two"] * 4, "0 of 8 texts"),
        (texts()[:4], "4 of 4 texts"),
    ):
        with pytest.raises(NoSamples, match=said):
            measurable({"samples": {"texts": some}})


def test_an_excerpt_stands_right_behind_letters_that_grow_when_folded():
    """Where "ß" becomes two letters the place in the folded text is not the place in the text."""
    span = {
        "words": 9,
        "chapter": 0,
        "paragraph": 0,
        "text": "Here stands what was copied from the book then",
    }
    [found] = excerpts({"texts": [{"spans": [span]}]}, {0: "ß" * 400 + " " + span["text"]})
    assert span["text"] in found["excerpt"]


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
