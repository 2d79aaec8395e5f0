"""The first screen of the report: figures that differ look different, and thresholds are in words."""

from mdlm_jax.evaluation import findings, page
from mdlm_jax.evaluation.html_parts import WANTED, WORDS, checklist


def test_figures_that_differ_look_different():
    told = page.in_words({"choices": {"model": 4.27, "ngram_5": 4.31, "twin": None}})
    assert ">4.27<" in told and ">4.31<" in told
    told = page.in_words({"choices": {"model": 4.21, "ngram_5": 4.39, "twin": 3.0}})
    assert ">4.2<" in told and ">4.4<" in told and ">3.0<" in told
    same = page.in_words({"choices": {"model": 4.25, "ngram_5": 4.25, "twin": None}})
    assert same.count(">4.2<") == 2


def test_thresholds_are_in_words(found):
    one = {"name": "precise", "passed": True, "text": "known", "value": 0.0025, "limit": 0.005}
    told = checklist([one])
    assert "0.25\u00a0%" in told and "0.50\u00a0%</data> wanted" in told and "threshold" not in told
    made = {x["name"] for x in found["checks"] if x["value"] is not None}
    assert made <= set(WANTED) and len(made) >= 3


def test_only_a_capital_letter_is_dropped(found):
    samples = found["evaluation"]["samples"]
    for text, dropped in (
        ("The sea", True),
        ("Éva", True),
        ("and then", False),
        ("“No", False),
        ("7", False),
    ):
        samples["texts"] = [f"{text} {'went on ' * 12}"]
        assert ('class="initial"' in page.headline(found)) == dropped, text
    samples["texts"] = [f"Chapter 15\n\nThe sea {'went on ' * 12}"]  # nor that of a heading
    assert 'class="initial"' not in page.headline(found)


def test_a_device_is_named_once(found):
    found["run"]["environment"] = found["evaluation"]["environment"] | {"devices": ["cpu cpu", "gpu H200"]}
    told = page.again(found)
    assert "; cpu, gpu H200" in told and "cpu cpu" not in told


def test_the_built_in_novel_has_its_title():
    assert findings._title("the_sixty_fifth_pint.txt") == "The Sixty-Fifth Pint"
    assert findings._title("my_book.txt") == "My book"
    assert findings._title("alice.txt") == "Alice"  # somebody's own, not what is here of hers


def test_every_word_of_the_glossary_is_linked(found):
    """From its first use."""
    figure = found["report"]["test"] | {"checkpoint": "x/1", "weights": "ema", "split": "test"}
    figure["interval_95"] = {"bits_per_byte": [1.0, 2.0]}
    found["evaluation"]["likelihood"] = {"simple_models": {}, "figures": [figure]}
    made = page.html(found, {"learning": "<svg></svg>"})
    for i, name in enumerate(WORDS):
        assert f'id="word-{i}"' in made and f'href="#word-{i}"' in made, name
