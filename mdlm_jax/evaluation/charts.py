"""Charts as SVG: lines, bars, a value between a floor and a ceiling, values along a book. No jax.

All return the whole drawing, for a page or as a file; `title` and `about` are what a screen reader says.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mdlm_jax.evaluation.svg import (
    LINE,
    RIGHT,
    WIDTH,
    Axis,
    Scale,
    apart,
    escaped,
    inside,
    key,
    labels,
    line,
    mark,
    num,
    svg,
    text,
    told,
    wide,
)


@dataclass(frozen=True)
class Series:
    """Values of one kind: `points` (x, y), and for each if at all the half length of an error bar, or the
    (low, high) of a band. `joined` by a line in their order, `marked` by a shape each.
    """

    name: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()
    band: Sequence[tuple[float, float]] = ()
    joined: bool = True
    marked: bool = True
    look: int = -1  # colour, dash and mark, 0 to 4; -1: by its place among the series


@dataclass(frozen=True)
class Interval:
    """A value between a range that is a floor for it and one that is a ceiling, in a unit of its own."""

    name: str
    value: float
    floor: tuple[float, float]
    ceiling: tuple[float, float]


def _drawn(s: Series, i: int, across: Scale, up: Scale) -> list[str]:
    """Band, error bars, line and marks of a series in look `i`."""
    parts = []
    places = [(across(a), up(b)) for a, b in s.points]
    if s.band:
        edge = [(px, up(b[1])) for (px, _), b in zip(places, s.band, strict=True)]
        edge += [(px, up(b[0])) for (px, _), b in zip(places, s.band, strict=True)][::-1]
        joined = "L".join(f"{num(px)} {num(py)}" for px, py in edge)
        parts.append(f'<path d="M{joined}z" class="s{i} band"/>')
    for (px, _), (_, b), e in zip(places, s.points, s.errors or [0.0] * len(places), strict=True):
        if e:
            parts.append(line(px, up(b - e), px, up(b + e), f"s{i} bar"))
            parts += [line(px - 3, up(v), px + 3, up(v), f"s{i} bar") for v in (b - e, b + e)]
    if s.joined and places:
        joined = "L".join(f"{num(px)} {num(py)}" for px, py in places)
        parts.append(f'<path d="M{joined}" class="s{i} stroke"/>')
    if s.marked:
        named = [f"{s.name}: {told(a)}, {told(b)}" for a, b in s.points]
        parts += [mark(i, *place, name) for place, name in zip(places, named, strict=True)]
    return parts


def _free(
    boxes: Sequence[tuple[float, float, float, float]],
    taken: Sequence[tuple[float, float, float, float]],
    lines: Sequence[tuple[float, float, float, float]] = (),
) -> tuple[float, float, float, float]:
    """Of boxes (left, top, right, bottom) the first that covers the fewest of `lines`, then of `taken`."""

    def covered(
        box: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]
    ) -> int:
        return sum(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in others)

    return min(boxes, key=lambda box: (covered(box, lines), covered(box, taken)))


def lines(
    title: str,
    about: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    levels: Sequence[tuple[float, str]] = (),
    uprights: Sequence[tuple[float, str]] = (),
    point: tuple[float, float, str] | None = None,
) -> str:
    """A chart of lines and points.

    `levels` are horizontal lines (y, label), `uprights` vertical ones (x, label), `point` (x, y, label) is
    ringed. Raises ValueError for what cannot be drawn: no point at all, or numbers that an axis refuses.
    """
    looks = [(s, (i if s.look < 0 else s.look) % 5) for i, s in enumerate(series)]
    if not any(s.points for s in series):
        raise ValueError(f"{title}: a chart needs a point")
    ys = [v for s in series for _, v in s.points] + [v for v, _ in levels]
    for s in series:
        for name in ("errors", "band"):
            if len(getattr(s, name)) not in (0, len(s.points)):
                raise ValueError(f"{s.name}: {len(s.points)} points, {len(getattr(s, name))} {name}")
        ys += [p[1] + sign * e for p, e in zip(s.points, s.errors, strict=False) for sign in (-1, 1)]
        ys += [v for pair in s.band for v in pair]
    xs = [v for s in series for v, _ in s.points] + [v for v, _ in uprights]
    if point:
        xs, ys = [*xs, point[0]], [*ys, point[1]]
    signs = [
        (
            (line(2, 8, 28, 8, f"s{i} stroke") if s.joined else "") + (mark(i, 15, 8) if s.marked else ""),
            s.name,
        )
        for s, i in looks
    ]
    parts, top = key(signs, 4)
    parts.append(text(0, top + 11, y.label))
    top, floor, height = top + LINE + 6, top + 250, top + 292
    up = Scale(y, ys, floor, top)
    marks = list(zip(values := up.ticks(6), labels(values), strict=True))
    left = 10 + max((wide(label) for _, label in marks), default=0)
    across = Scale(x, xs, left, WIDTH - RIGHT)
    for v, label in marks:
        parts += [line(left, up(v), WIDTH - RIGHT, up(v), "grid"), text(left - 7, up(v) + 4, label, "end")]
    parts.append(line(left, floor, WIDTH - RIGHT, floor, "axis"))
    for v, label in zip(values := across.ticks(5), labels(values), strict=True):
        parts.append(line(across(v), floor, across(v), floor + 4, "axis"))
        parts.append(text(inside(across(v), label), floor + 18, label, "middle"))
    parts.append(text((left + WIDTH - RIGHT) / 2, height - 6, x.label, "middle"))
    taken = [(across(a) - 5, up(b) - 5, across(a) + 5, up(b) + 5) for s in series for a, b in s.points]
    for s in (s for s in series if s.joined):  # and nine places along every line
        for (a, b), (c, d) in itertools.pairwise((across(a), up(b)) for a, b in s.points):
            along = [(a + (c - a) * k / 10, b + (d - b) * k / 10) for k in range(1, 10)]
            taken += [(px - 2, py - 2, px + 2, py + 2) for px, py in along]
    taken += [(left, up(v) - 1, WIDTH - RIGHT, up(v) + 1) for v, _ in levels]
    dashed = [(across(v) - 1, top, across(v) + 1, floor) for v, _ in uprights]
    for s, i in looks:
        parts += _drawn(s, i, across, up)
    named = []  # and the boxes that each may take, the best first
    for v, label in levels:
        parts.append(line(left, up(v), WIDTH - RIGHT, up(v), "level"))
        ends, rows = (left + 4, WIDTH - RIGHT - wide(label)), (up(v) - LINE, up(v) + 3)
        named.append((label, [(a, b) for b in rows for a in ends]))
    for v, label in uprights:
        parts.append(line(across(v), top, across(v), floor, "level"))
        sides = (across(v) + 5, across(v) - 5 - wide(label))
        heights = (top, floor - LINE - 2, *range(int(top), int(floor) - LINE, LINE))
        named.append((label, [(a, b) for b in heights for a in sides]))
    if point:
        at = across(point[0]), up(point[1])
        parts.append(f'<circle cx="{num(at[0])}" cy="{num(at[1])}" r="8" fill="none" class="ring"/>')
        sides = (at[0] + 11, at[0] - 11 - wide(point[2]))
        named.append(
            (point[2], [(a, b) for b in (at[1] - 24, at[1] + 10, at[1] - 44, at[1] + 30) for a in sides])
        )
    for label, corners in named:
        corners = [
            (max(0.0, min(a, WIDTH - wide(label))), max(top, min(b, floor - LINE))) for a, b in corners
        ]
        box = _free([(a, b, a + wide(label), b + LINE - 3) for a, b in corners], taken, dashed)
        taken.append(box)
        parts.append(text(box[0], box[3] - 3, label, kind="strong"))
    return svg(title, about, parts, height)


def bars(
    title: str,
    about: str,
    axis: Axis,
    values: Sequence[tuple[str, float]],
    spans: Sequence[tuple[float, float] | None] = (),
) -> str:
    """A horizontal bar from 0 for each (name, value), and its interval (low, high) if any."""
    if not values or axis.log or len(spans) not in (0, len(values)):
        raise ValueError(f"{title}: bars need values, as many intervals or none, and no log axis")
    spans = spans or [None] * len(values)
    ends = [end for (_, v), span in zip(values, spans, strict=True) for end in (v, *(span or ()))]
    across = Scale(axis, [0.0, *ends], 4, WIDTH - RIGHT - 56, free=0.0)
    parts, row = [text(0, 12, axis.label)], 2 * LINE + 8
    for i, ((name, value), span) in enumerate(zip(values, spans, strict=True)):
        y, left = 22 + i * row, min(across(0), across(value))
        parts.append(text(across(0) + 4, y + 12, name, kind=""))
        box = f'y="{y + 18}" width="{num(abs(across(value) - across(0)))}" height="14" class="s0 fill"'
        about_it = f"<title>{escaped(f'{name}: {told(value)}')}</title>"
        parts.append(f'<rect x="{num(left)}" {box}>{about_it}</rect>')
        if span:
            parts.append(line(across(span[0]), y + 25, across(span[1]), y + 25, "ring"))
        parts.append(
            text(max(across(v) for v in (0, value, *(span or ()))) + 6, y + 29, told(value), kind="strong")
        )
    parts.append(line(across(0), 22, across(0), 22 + len(values) * row, "axis"))
    return svg(title, about, parts, 30 + len(values) * row)


def intervals(title: str, about: str, names: tuple[str, str, str], rows: Sequence[Interval]) -> str:
    """Each value (a diamond) between the range of its floor (filled) and of its ceiling (outlined).

    `names` say in the key what value, floor and ceiling are. Every row has a linear scale of its own.
    """
    if not rows:
        raise ValueError(f"{title}: a chart needs a row")
    boxes = [
        f'<rect x="2" y="2" width="26" height="12" class="{kind}"/>' for kind in ("s2 fill", "s1 stroke")
    ]
    parts, top = key(list(zip([mark(3, 15, 8, size=6), *boxes], names, strict=True)), 4)
    for i, row in enumerate(rows):
        y = top + i * 62
        across = Scale(Axis(row.name), [row.value, *row.floor, *row.ceiling], 4, WIDTH - RIGHT)
        parts += [text(4, y + 12, row.name, kind=""), line(4, y + 28, WIDTH - RIGHT, y + 28, "axis")]
        parts.append(text(WIDTH - RIGHT, y + 12, told(row.value), "end", "strong"))
        ranges = ((row.floor, "s2 fill", names[1]), (row.ceiling, "s1 stroke", names[2]))
        ends = sorted(((across(a) + across(b)) / 2, f"{told(a)} – {told(b)}") for (a, b), *_ in ranges)
        for x, (_, label) in zip(apart(*ends[0], *ends[1]), ends, strict=True):
            parts.append(text(x, y + 50, label, "middle"))
        for (low, high), kind, name in ranges:
            if low > high:
                raise ValueError(f"{row.name}: a range from {low:g} to {high:g}")
            left, size = across(low), max(2.0, across(high) - across(low))
            about_it = f"<title>{escaped(f'{name}: {told(low)} to {told(high)}')}</title>"
            box = f'y="{num(y + 21)}" width="{num(size)}" height="14" class="{kind}"'
            parts.append(f'<rect x="{num(left)}" {box}>{about_it}</rect>')
        parts.append(mark(3, across(row.value), y + 28, f"{names[0]}: {told(row.value)}", size=6))
    return svg(title, about, parts, top + len(rows) * 62)


def strip(
    title: str, about: str, axis: Axis, values: Sequence[float], places: Sequence[tuple[float, str]] = ()
) -> str:
    """Values >= 0 along a book from left to right: the more, the higher and the darker.

    `places` (share of the book from 0 to 1, label) are named below where there is room; the axis is linear.
    """
    if not values or min(values) < 0 or any(not 0 <= share <= 1 for share, _ in places):
        raise ValueError(f"{title}: a strip needs values of 0 or more, and places from 0 to 1")
    up = Scale(Axis(axis.label), [0.0, *values, 1e-12], 96, 26, free=0.0)
    size = (WIDTH - RIGHT) / len(values)
    parts = [text(0, 12, f"{axis.label}, at most {told(max(values))}")]
    for i, value in enumerate(values):
        if value:
            tall = 96 - up(value)
            box = f'width="{num(max(0.5, size))}" height="{num(tall)}" fill-opacity="{0.3 + tall / 100:.2f}"'
            about_it = f"<title>{escaped(f'{i / len(values):.0%} of the book: {told(value)}')}</title>"
            place = f'x="{num(i * size)}" y="{num(up(value))}"'
            parts.append(f'<rect {place} {box} class="s0 fill">{about_it}</rect>')
    parts.append(line(0, 96, WIDTH - RIGHT, 96, "axis"))
    end = 0.0
    for share, label in sorted(places):
        at = share * (WIDTH - RIGHT)
        parts.append(line(at, 96, at, 101, "axis"))
        if at >= end and at + wide(label) <= WIDTH:
            parts.append(text(at, 115, label))
            end = at + wide(label) + 8
    return svg(title, about, parts, 122)
