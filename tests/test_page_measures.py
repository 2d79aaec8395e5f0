"""What the page says of texts, copies and readers: the words fit the figures."""

import itertools

from mdlm_jax.evaluation import page_measures, readers


def test_readers_of_the_same_pairs_are_not_independent(found, tmp_path):
    """Each test by itself, with what its interval says and why it is too narrow."""
    pairs = [{"book": f"b{i}", "run": f"r{i}", "answer": 1} for i in range(20)]
    for seed, who in ((0, ("Ann", "Ben")), (1, ("Ann",))):
        asked = {"seed": seed, "pairs": 20, "words": 5, "from": "held_out", "texts": "samples"}
        test = readers.save_test(tmp_path, {"asked": asked, "checkpoint": None, "pairs": pairs})
        for name in who:
            for pair in range(20):
                readers.answer(tmp_path, test, name, pair, 1 if seed == 0 else 1 + pair % 2, 1.0)
    human = readers.human_figures(tmp_path)
    assert human["shared"] and human["all"]["answers"] == 60
    one, two = sorted(human["tests"], key=lambda test: -test["readers"])
    assert (one["readers"], one["answers"], one["right"], one["shared"]) == (2, 40, 40, True)
    assert (two["readers"], two["answers"], two["right"], two["shared"]) == (1, 20, 10, False)
    assert (two["low"], two["high"]) == readers.interval(10, 20)
    found["evaluation"]["human"] = human
    page = page_measures.human(found)
    assert page.count(readers.SHARED) == 1 and one["meaning"] in page and two["meaning"] in page
    assert page.index(one["meaning"] + "</bdi> " + readers.SHARED)
    assert "too narrow" in page_measures.human_in_words(human)
    assert "too narrow" not in page_measures.human_in_words(human | {"shared": False})
    older = {"id": two["id"], "from": "held_out", "checkpoint": None}
    found["evaluation"]["human"] = human | {"tests": [older]}
    assert readers.SHARED in page_measures.human(found)


def test_coherence_and_variety_without_style(found):
    """Each has its figures and which way is worse; nothing of another book is said."""
    whole = page_measures.style(found, {})
    for name in page_measures.TOGETHER.values():
        assert name in whole
    assert "stranger with its own sentences shuffled" in whole and "said again at once" in whole
    del found["evaluation"]["style"]
    alone = page_measures.style(found, {"coherence": "<svg></svg>"})
    assert "taken together" in alone and "said again at once" in alone and "<svg>" in alone
    assert "On the way from" not in alone and "strangeness of neighbouring" in alone
    rows = page_measures.variety(found["evaluation"]["coherence"])[1].split("<tr>")
    for name, worse in (("self-BLEU", "higher"), ("different words", "lower")):
        [row] = [row for row in rows if name in row]
        assert f"<td>{worse}</td>" in row
    del found["evaluation"]["coherence"]
    assert page_measures.style(found, {}) == ""


def test_names_of_divisions_are_text(found):
    """Of a chapter without a title."""
    run = found["run"] | {"titles": [], "divisions": "<b>chapters"}
    span = found["evaluation"]["memory"]["passages"][0]
    assert page_measures.place(run, span).startswith("&lt;b&gt;chapter ")


def test_no_span_is_said_where_there_is_none(found):
    """Not where a chart could not be drawn for another reason."""
    assert "No span of eight" not in page_measures.memory(found, {})
    found["evaluation"]["memory"] |= {"map": [0.0, None], "passages": []}
    told = page_measures.memory(found, {})
    assert "No span of eight" in told and "temperature 1 from left to right" in told


def test_near_and_far_are_said_as_they_are(found):
    style = found["evaluation"]["style"]
    at = [{"overall": x, "overall_interval": [x - 0.1, x + 0.1]} for x in (-0.5, 0.5, 1.5)]
    told = [page_measures.style_in_words(style | one) for one in at]
    assert "the book’s own" in told[0].partition(": ")[2] and "another book" in told[2].partition(": ")[2]
    assert "another" not in told[0].partition(": ")[2] and "book’s own" not in told[2].partition(": ")[2]
    assert len({x.partition(": ")[2] for x in told}) == 3


def test_links_never_overlap(found):
    """Copies may; a link within a link would be none."""
    passages = found["evaluation"]["memory"]["passages"]
    first = passages[0]
    inside = first | {"start": first["start"] + 2, "words": first["words"] - 2}
    beside = first | {"start": 0, "words": 1}
    found["evaluation"]["memory"]["passages"] = [first, inside, beside]
    made = page_measures.links(found)[first["sample"]]
    spans = sorted((a, b) for a, b, _ in made)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
    assert {target for *_, target in made} == {"place-0", "place-2"}
