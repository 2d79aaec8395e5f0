"""Charts: well-formed, inside their frame, legible, and nothing that a chart should not be drawn from."""

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_jax.evaluation import charts, svg
from mdlm_jax.evaluation.charts import Interval, Series, bars, intervals, lines, strip
from mdlm_jax.evaluation.svg import Axis, Scale, labels, ticks, told

PLAIN = Axis("bits per byte")
LOG = Axis("training FLOPs", log=True)
NASTY = "<b>&\"'\x00\x1b[31m\ud800 ]]>"
values = st.floats(-1e9, 1e9).map(lambda v: round(v, 6))
positive = st.floats(1e-6, 1e24)


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.encode("utf-8"))


def tagged(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if e.tag.rpartition("}")[2] == name]


def words(root: ElementTree.Element) -> list[str]:
    return [e.text for e in tagged(root, "text")]


def inside_the_frame(drawing: str) -> ElementTree.Element:
    """Every coordinate of a chart but those of its key, which is moved as a whole."""
    root = parsed(drawing)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    right, bottom = left + width, top + height
    moved = {e for g in tagged(root, "g") for e in g.iter()}
    for e in set(root.iter()) - moved:
        points = [tuple(map(float, p)) for p in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", e.get("d", ""))]
        x, y = (float(e.get(a, e.get(f"c{a}", 0))) for a in "xy")
        points += [(x, y), (x + float(e.get("width", 0)), y + float(e.get("height", 0)))]
        assert all(left <= a <= right and top <= b <= bottom for a, b in points), e.attrib
        if e in tagged(root, "text"):
            start = x - {"start": 0, "middle": 0.5, "end": 1}[e.get("text-anchor")] * svg.wide(e.text)
            assert start >= left and start + svg.wide(e.text) <= right, e.text
    return root


@settings(max_examples=40)
@given(
    points=st.lists(st.tuples(positive, values), min_size=1, max_size=8),
    error=st.floats(0, 1e6),
    level=values,
    upright=positive,
)
def test_everything_is_inside_the_frame_whatever_the_range(points, error, level, upright):
    one = Series("one", points, errors=[error] * len(points))
    two = Series("two", points, band=[(v - error, v + error) for _, v in points], marked=False)
    drawing = lines(
        "t", "about", LOG, PLAIN, [one, two], [(level, "five")], [(upright, "C")], (*points[0], "here")
    )
    root = inside_the_frame(drawing)
    assert {"five", "C", "here", "one", "two"} <= set(words(root))
    titles = [e.find("{*}title") for e in tagged(root, "path")]
    assert len([t for t in titles if t is not None]) == len(points)
    assert drawing == lines(
        "t", "about", LOG, PLAIN, [one, two], [(level, "five")], [(upright, "C")], (*points[0], "here")
    )


def test_a_value_stands_where_it_should():
    scale = Scale(Axis("x", log=True), [1.0, 1e4], 0, 100, free=0.0)
    assert [round(scale(10.0**k), 6) for k in range(5)] == [0, 25, 50, 75, 100]
    root = parsed(lines("t", "a", PLAIN, PLAIN, [Series("s", [(0, 0), (1, 3), (2, 1)])]))
    path = next(
        e for e in tagged(root, "path") if e.get("class") == "s0 stroke" and e.get("d").count("L") == 2
    )
    places = [tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))]
    assert places[0][0] < places[1][0] < places[2][0] and places[1][1] < places[2][1] < places[0][1]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.02)
    assert (places[0][1] - places[2][1]) * 3 == pytest.approx(places[0][1] - places[1][1], abs=0.1)


@given(low=values, share=st.floats(1e-4, 1e4))
def test_ticks_are_round_evenly_laid_out_and_in_the_range(low, share):
    size = share * max(abs(low), 1e-3)
    found = ticks(low, low + size)
    assert 1 <= len(found) <= 6 and all(low <= v <= low + size for v in found)
    steps = {round((b - a) / size, 5) for a, b in itertools.pairwise(found)}
    assert len(steps) <= 1 and len(set(labels(found))) == len(found)
    if len(found) > 1:
        assert f"{found[1] - found[0]:.3e}"[:5] in ("1.000", "2.000", "5.000")


@given(low=st.floats(1e-30, 1e30), decades=st.floats(0.02, 60))
def test_ticks_of_a_log_axis(low, decades):
    high = low * 10**decades
    found = ticks(low, high, log=True)
    assert 1 <= len(found) <= 6 and all(low <= v <= high for v in found) and found == sorted(set(found))
    if decades >= 1:
        assert len(found) >= 2 and {f"{v:.9e}"[0] for v in found} <= set("125")
        assert all(re.fullmatch(r"[125]\.0*e.*", f"{v:.9e}") for v in found)
    if decades >= 8:
        ratios = {round(math.log10(b / a)) for a, b in itertools.pairwise(found)}
        assert len(ratios) == 1


def test_numbers_in_words():
    assert [told(v) for v in (0, 1500, 0.25, -0.02, 1e13, 2.5e13, 1e-5)] == [
        "0", "1,500", "0.25", "−0.02", "10¹³", "2.5×10¹³", "10⁻⁵",
    ]  # fmt: skip
    assert told(-1e13) == "−10¹³"
    assert svg.num(-0.001) == "0" and svg.num(1.239) == "1.24"


def draw_lines(v: float, n: str = "n") -> str:
    series = [Series(n, [(v, v)], errors=[v])]
    return lines(n, n, Axis(n), Axis(n), series, [(v, n)], [(v, n)], (v, v, n))


def draw_bars(v: float, n: str = "n") -> str:
    return bars(n, n, Axis(n), [(n, v), ("b", -1.0)], [(v, v + 1), None])


def draw_intervals(v: float, n: str = "n") -> str:
    rows = [Interval(n, v, (0, 1), (2, 3)), Interval("b", 1.0, (v, v), (1, 1))]
    return intervals(n, n, (n, n, n), rows)


def draw_strip(v: float, n: str = "n") -> str:
    return strip(n, n, Axis(n), [v, 0.0, 1.0], [(0.5, n)])


DRAWN = {"lines": draw_lines, "bars": draw_bars, "intervals": draw_intervals, "strip": draw_strip}


@pytest.mark.parametrize("kind", DRAWN)
def test_every_kind_is_accessible_escaped_and_framed(kind):
    root = inside_the_frame(DRAWN[kind](2.5, "n"))
    assert root.attrib["role"] == "img"
    ids = {e.attrib["id"]: e.text for e in root.iter() if "id" in e.attrib}
    assert [ids[name] for name in root.attrib["aria-labelledby"].split()] == ["n", "n"]
    drawing = DRAWN[kind](2.5, NASTY)
    told_again = set(filter(None, (e.text for e in parsed(drawing).iter())))
    assert "<b>&\"'\ufffd\ufffd[31m\ufffd ]]>" in told_again
    assert (
        "<b>" not in drawing
        and "\x1b" not in drawing
        and "http" not in drawing.replace("http://www.w3.org/", "")
    )


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(kind, bad):
    with pytest.raises(ValueError, match=r"finite numbers only|0 or more"):
        DRAWN[kind](bad)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_log_axis_refuses_what_has_no_logarithm(bad):
    told_once = f"training FLOPs: a log axis takes numbers above 0 only, not {bad:g}"
    for given_to in ({"series": [Series("s", [(bad, 1.0)])]}, {"uprights": [(bad, "C")]}):
        with pytest.raises(ValueError, match=f"^{re.escape(told_once)}$"):
            lines("t", "a", LOG, PLAIN, **{"series": [Series("s", [(1.0, 1.0)])], **given_to})


def test_what_does_not_fit_together_is_refused():
    for wrong in (
        lambda: lines("t", "a", PLAIN, PLAIN, [Series("s", [])]),
        lambda: lines("t", "a", PLAIN, PLAIN, [Series("s", [(1, 1)], errors=[1, 2])]),
        lambda: bars("t", "a", PLAIN, []),
        lambda: bars("t", "a", PLAIN, [("a", 1.0)], [(1.0, 2.0), None]),
        lambda: intervals("t", "a", ("v", "f", "c"), []),
        lambda: intervals("t", "a", ("v", "f", "c"), [Interval("n", 1, (2, 1), (3, 4))]),
        lambda: strip("t", "a", PLAIN, []),
        lambda: strip("t", "a", PLAIN, [-1.0]),
        lambda: strip("t", "a", PLAIN, [1.0], [(1.5, "beyond")]),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_bars_and_intervals_and_strips_are_as_long_as_their_values():
    def boxes(drawing: str, kind: str) -> list[float]:
        return [float(e.get("width")) for e in tagged(parsed(drawing), "rect") if kind in e.get("class")]

    one, two, three = boxes(bars("t", "a", PLAIN, [("a", 1.0), ("b", 2.0), ("c", -1.0)]), "s0")
    assert two == pytest.approx(2 * one, abs=0.02) and three == pytest.approx(one, abs=0.02)
    rows = [Interval("n", 3.0, (1.0, 2.0), (4.0, 6.0))]
    [_, floor], [_, ceiling] = (boxes(intervals("t", "a", ("v", "f", "c"), rows), s) for s in ("s2", "s1"))
    assert ceiling == pytest.approx(2 * floor, abs=0.02)
    found = tagged(parsed(strip("t", "a", PLAIN, [0.0, 1.0, 4.0])), "rect")
    low, high = (float(e.get("height")) for e in found)
    assert high == pytest.approx(4 * low, abs=0.02) and found[0].get("fill-opacity") < found[1].get(
        "fill-opacity"
    )


def test_the_interval_of_a_bar_is_drawn_where_it_is():
    """Lopsided as it may be: from its low end to its high end, in the unit of the bars."""
    root = parsed(bars("t", "a", PLAIN, [("a", 1.0), ("b", 4.0)], [(0.5, 3.0), None]))
    [ring] = [e.get("d") for e in tagged(root, "path") if e.get("class") == "ring"]
    low, high = (float(x) for x in re.findall(r"[ML]([\d.]+) ", ring))
    unit = float(tagged(root, "rect")[0].get("width"))
    zero = float(tagged(root, "rect")[0].get("x"))
    assert (low - zero, high - zero) == (
        pytest.approx(0.5 * unit, abs=0.02),
        pytest.approx(3 * unit, abs=0.05),
    )


def test_names_below_a_strip_stand_clear_of_one_another():
    places = [(0.1, "the first chapter"), (0.15, "the second"), (0.9, "x")]
    assert {"the first chapter", "x"} == set(words(parsed(strip("t", "a", PLAIN, [1.0], places)))[1:])


def test_a_name_stands_clear_of_a_level_where_there_is_room():
    """And rather on a line of points than on a dashed one."""
    point, level, dashed = (0, 0, 10, 10), (0, 4, 10, 6), (20, 0, 22, 10)
    assert charts._free([(0, 0, 9, 9), (30, 0, 39, 9)], [point, level]) == (30, 0, 39, 9)
    assert charts._free([(15, 0, 24, 9), (0, 0, 9, 9)], [point, level], [dashed]) == (0, 0, 9, 9)
    curve = [Series("s", [(0, 0), (10, 10)])]
    made = parsed(lines("t", "a", PLAIN, PLAIN, curve, [(2.0, "five"), (2.3, "six")]))
    at = {e.text: float(e.get("y")) for e in tagged(made, "text") if e.get("class") == "strong"}
    levels = [
        float(e.get("d").split()[1].split("L")[0]) for e in tagged(made, "path") if e.get("class") == "level"
    ]
    assert len(levels) == 2
    for y in at.values():
        assert not any(y + 3 - (svg.LINE - 3) < v < y + 3 for v in levels)


def test_a_series_keeps_the_look_it_is_given():
    made = lines("t", "a", PLAIN, PLAIN, [Series("s", [(0, 1), (1, 2)], look=4), Series("r", [(0, 2)])])
    root = parsed(made)
    titles = {
        e.find("{*}title").text: e.get("class")
        for e in tagged(root, "path")
        if e.find("{*}title") is not None
    }
    assert titles["s: 0, 1"] == "s4 stroke" and titles["r: 0, 2"] == "s1 fill"


def test_an_error_bar_is_as_long_on_either_side():
    root = parsed(lines("t", "a", PLAIN, PLAIN, [Series("s", [(1, 5), (2, 7)], errors=[1.0, 0.0])]))
    bars_drawn = [e.get("d") for e in tagged(root, "path") if e.get("class") == "s0 bar"]
    whole, *ends = [tuple(map(float, re.findall(r"[ML][\d.]+ ([\d.]+)", d))) for d in bars_drawn]
    assert sorted(y for y, _ in ends) == sorted(whole) and all(a == b for a, b in ends)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3, unique=True))
def test_no_dashed_line_runs_through_a_name_that_has_room(shares):
    """A name may stand on either side of its line, at any height."""
    names = ["structural", "refinement", "x"][: len(shares)]
    curve = [(i / 10, 9 - i) for i in range(11)]
    root = parsed(
        lines("t", "a", PLAIN, PLAIN, [Series("s", curve)], uprights=list(zip(shares, names, strict=True)))
    )
    at = [float(e.get("d")[1:].split()[0]) for e in tagged(root, "path") if e.get("class") == "level"]
    places = {e.text: float(e.get("x")) for e in tagged(root, "text") if e.get("class") == "strong"}
    for x, name in zip(at, names, strict=True):
        width = svg.wide(name)
        room = [(a, a + width) for a in (x + 5, x - 5 - width) if 0 <= a <= svg.WIDTH - width]
        if any(not any(a - 1 < v < b + 1 for v in at) for a, b in room):
            a = places[name]
            assert not any(a + 0.01 < v < a + width - 0.01 for v in at), (name, a, at)


def test_series_can_be_told_apart_without_colour_and_in_light_and_dark():
    root = parsed(lines("t", "a", PLAIN, PLAIN, [Series(f"s{i}", [(0, i), (1, i)]) for i in range(5)]))
    marks = {
        re.sub(r"M[\d. ]+", "", e.get("d")) for e in tagged(root, "path") if e.find("{*}title") is not None
    }
    assert len(marks) == 5
    style = tagged(root, "style")[0].text
    assert len(set(re.findall(r"stroke-dasharray:([\d ]+|none)", style))) >= 5
    assert "prefers-color-scheme:dark" in style and "currentColor" in style

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground, ink in svg.GROUNDS.values():
        for colour, least in [(ink, 7), *((c, 3) for c in svg.COLOURS)]:  # WCAG 2.2: text (AAA), graphics
            light, dark = sorted((luminance(ground), luminance(colour)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (ground, colour)


@given(*[st.floats(0, svg.WIDTH)] * 2, *[st.integers(1, 20)] * 2)
def test_labels_side_by_side_stand_clear(left, right, few, many):
    left, right = sorted((left, right))
    a, b = svg.apart(left, "x" * few, right, "x" * many)
    half_a, half_b = svg.wide("x" * few) / 2, svg.wide("x" * many) / 2
    assert half_a <= a + 1e-9 and a + half_a < b - half_b and b + half_b <= svg.WIDTH + 1e-9
    free = left >= half_a and right <= svg.WIDTH - half_b
    if free and right - left >= half_a + half_b + 12:
        assert (a, b) == (left, right)
