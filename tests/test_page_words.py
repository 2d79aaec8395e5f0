"""What the page says of the figures of a run: words, columns and captions fit them."""

import re

import pytest

from mdlm_jax.evaluation import drawings, page, page_measures
from mdlm_jax.evaluation.checks import checks
from mdlm_jax.evaluation.html_parts import checklist, quoted

VERDICT = {"kind": "bound", "bits_per_byte": 2.0, "interval": [1.98, 2.02], "standard_error": 0.01}


def plain(made: str) -> str:
    """Without tags."""
    return re.sub("<.*?>", "", made)


def rows(made: str) -> dict[str, list[str]]:
    """The cells of all tables by the heading of their row."""
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', made)
    return {plain(name): [plain(x) for x in re.findall("<td>(.*?)</td>", cells)] for name, cells in found}


def test_fewer_bits_are_better_than_more(found):
    assert "25.0\u00a0%</data> fewer bits than x" in page.compared(0.25, "x")
    assert (
        "50.0\u00a0%</data> more bits than x" in page.compared(-0.5, "x") and page.compared(None, "x") == ""
    )
    found["verdict"] |= {"best_simple": "bz2", "better_than_simple": 0.25, "better_than_twin": -0.5}
    told = plain(page.headline(found))
    assert (
        "25.0\u00a0% fewer bits than bzip2, the best of the simple models; 50.0\u00a0% more bits than its"
        in told
    )


def test_a_bound_is_at_most(found):
    assert "at most; lower is better" in plain(page.headline(found)) and "is a bound" in page.likelihood(
        found, {}
    )
    found["verdict"] |= {"kind": "exact"}
    found["run"]["causal"] = True
    assert "at most" not in page.headline(found) and "is a bound" not in page.likelihood(found, {})


def test_a_threshold_shows_what_it_compares():
    """The upper end of the interval: a figure below the limit is no warning by itself."""
    made = {x["name"]: x for x in checks(VERDICT | {"ngram_5": 2.01, "twin": 2.01}, [], {})}
    for name in ("beats_ngram", "beats_twin"):
        assert made[name]["value"] == 2.02 and not made[name]["passed"]
        assert "not clearly better than" in made[name]["text"]
        assert "(up to 2.02; below 2.01 wanted)" in plain(checklist([made[name]]))
        assert 'class="warn"' in checklist([made[name]])
        assert 'class="pass"' in checklist([made[name] | {"passed": True}])


def test_a_state_is_text_and_no_figures_are_said(found):
    found["run"]["state"], found["verdict"] = "<b>odd", {}
    assert "its training is &lt;b&gt;odd" in page.headline(found)


def test_a_long_text_is_cut_at_a_word(found):
    found["evaluation"]["samples"]["texts"] = ["words " * 200]
    told = plain(page.headline(found))
    assert "words …" in told and len(told.partition("unedited:")[2].partition("…")[0]) <= page.SHOWN


def test_a_transition_is_a_line_with_what_it_came_to(found):
    head = {"stage": 1, "total_step": 8}
    found["curves"]["transitions"] = [
        head | {"bits_per_byte_before": 2.5, "bits_per_byte_after": 3.5},
        head | {"bits_per_byte_before": 2.5, "bits_per_byte_after": 3.5, "bits_per_byte_settled": 1.5},
    ]
    made = page.learned(found, {})
    assert made.count('<th scope="row">') == 1 and [*rows(made).values()] == [["2.500", "3.500", "1.500"]]


def test_what_each_twin_cost_is_its_own(found):
    found["report"] |= {"training_tokens": 700, "training_flops": 3e9}
    found["run"]["parameters"] = 55
    made = page.twin(found)
    assert rows(made)["tokens trained on"] == ["700", "1,000"] and rows(made)["weights"] == ["55", "1,234"]
    assert "same network" not in made  # nothing holds its size against this model's


def test_the_law_is_told_of_masked_diffusion_and_as_what_it_is(found):
    assert "2025" in (made := page.spent(found, {})) and "extrapolation" in made
    found["cost"]["critical"] |= {"ratio": 0.000123, "extrapolated": False}
    made = page.spent(found, {"cost": "<svg></svg>"})
    assert "1.2 × 10<sup>-4</sup>" in made and "extrapolation" not in made and "upright line" in made
    assert "critical compute" in drawings.cost(found)
    found["run"]["causal"] = True
    made = page.spent(found, {"cost": "<svg></svg>"})
    assert (
        "2025" not in made and "upright line" not in made and "critical compute" not in drawings.cost(found)
    )


def test_error_bars_are_said_to_be_what_they_are(found):
    for error in (0.01, 0.0):
        for point in found["curves"]["held_out"]:
            point["bits_per_byte_se"] = error
        for made in (page.spent(found, {"cost": "<svg></svg>"}), drawings.cost(found)):
            assert ("one standard error" in made) == (error > 0)


def test_programs_that_pack_files_are_told_of_where_they_were_asked(found):
    assert "bzip" not in page.likelihood(found, {"comparison": "<svg></svg>"})
    found["verdict"]["bz2"] = 2.5
    assert "bzip" in page.likelihood(found, {"comparison": "<svg></svg>"})


def test_several_books_are_not_one(found):
    told = plain(page.html(found, {}))
    assert "from one book" in told and "on this book alone" in told
    found["run"]["books"] = 12
    told = plain(page.html(found, {}))
    assert "from 12 books" in told and "on these books alone" in told and "one book" not in told


def test_what_is_absent_is_said_with_its_reason(found):
    found["absent"] = {"twin": "no <twin>"}
    assert "twin: no &lt;twin&gt;" in plain(page.again(found))


def test_readers_alone_are_no_evaluation(found):
    """They may have answered before any; the page says how to measure the rest."""
    found["evaluation"] = {"human": found["evaluation"]["human"]}
    made = page.html(found, {})
    assert "measures the rest" in made and "mdlm_jax.evaluate" not in page.again(found)
    assert "Can readers tell?" in made


def test_a_language_that_is_not_known_is_none():
    assert 'lang="&quot;&gt;x"' in quoted("y", '">x')
    assert (
        'lang=""' in quoted("x", "other")
        and 'lang=""' in quoted("x", None)
        and 'lang="fr"' in quoted("x", "fr")
    )


def test_links_stand_where_their_words_do():
    made = quoted("a<b>c</b> d", "en", [(9, 11, "two"), (1, 4, "one")])
    assert made.index('#one"><mark>&lt;b&gt;</mark>') < made.index('#two"><mark> d</mark>')
    assert plain(made) == "a&lt;b&gt;c&lt;/b&gt; d"


@pytest.mark.parametrize(
    ("interval", "said"),
    [([0.0, 0.4], "the book’s own"), ([0.6, 2.0], "another book"), ([-0.2, 1.5], "not for certain")],
)
def test_between_is_only_said_where_it_is_certain(found, interval, said):
    style = found["evaluation"]["style"] | {"overall": 0.5, "overall_interval": interval, "beyond": []}
    assert said in page_measures.style_in_words(style).rpartition(": ")[2]


def test_columns_of_what_texts_say_are_not_swapped(found):
    own = found["evaluation"]["coherence"]
    own["adjacent"]["own_order"] = {"samples": 0.25, "held_out": 0.75}
    spans = {name: {"p10": x, "median": x, "p90": x} for name, x in (("samples", 1.0), ("book", 2.0))}
    own["within"]["repeated_4"] |= spans
    measure = found["evaluation"]["style"]["measures"]["delta"]
    measure |= {"floor": spans["samples"], "ceiling": spans["book"], "pieces": [0, 5, 5]}
    made = rows(page_measures.style(found, {}))
    assert made["strangeness of neighbouring sentences"][:2] == ["25\u00a0%", "75\u00a0%"]
    assert made["share of runs of four words that stood in it before"][:2] == ["1 to 1", "2 to 2"]
    assert made["frequent words and marks (Burrows&#x27; Delta)"][2:4] == ["1 to 1", "2 to 2"]
    assert made["frequent words and marks (Burrows&#x27; Delta)"][6] == "–"  # no text, no share


def test_copies_of_samples_stand_before_those_of_unseen_pages(found):
    memory = found["evaluation"]["memory"]
    memory["longest"] = {"samples": 31, "held_out": 7}
    for name, share in (("samples", 0.5), ("held_out", 0.25)):
        memory["shares"]["8"][name]["share"] = share
    found["verdict"]["answers"] = {"training": 40.0, "held_out": 5e11}
    made = page_measures.memory(found, {})
    assert "word for word: 31 words (unseen chapters: 7)" in plain(made)
    assert rows(made)["eight words"][:2] == ["50.00\u00a0%", "25.00\u00a0%"]
    assert "within 40 answers, half of those it never saw within 5.0 × 1011." in plain(made)


def test_a_linked_span_is_the_whole_span(found):
    memory, texts = found["evaluation"]["memory"], found["evaluation"]["samples"]["texts"]
    span = memory["passages"][0]
    start, stop, _ = page_measures.links(found)[span["sample"]][0]
    assert texts[span["sample"]][start:stop] == span["text"]


def test_a_chapter_without_a_title_is_numbered(found):
    span = found["evaluation"]["memory"]["passages"][0] | {"chapter": 0}
    span["shown"] |= {"chapter": 1}
    run = found["run"] | {"titles": [], "divisions": "blocks"}
    assert plain(page_measures.place(run, span)).startswith("block 1, paragraph")
