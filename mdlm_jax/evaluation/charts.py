"""Charts as SVG, drawn by hand: for a page that is light or dark, and as files of their own. No jax.

Words take the colour of the page (currentColor), the rest custom properties with fall-backs that are legible
on white and on black: --chart-0 to --chart-4 (series; Okabe and Ito 2008, darkened where white asks for it),
--chart-grid. A file of its own follows the system's light or dark scheme. Charts are 420 units wide, so that
words keep 11 pixels on a screen of 360. Series differ in dashes and marks too. The same input gives the same
bytes. Numbers that are not finite are refused (ValueError), as are those below or at 0 on a log axis.
"""

import hashlib
import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, RIGHT, LINE = 420, 14, 17  # the last: height of a line of words
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0588f", "#a07800")
DASHES = ("none", "7 4", "2 3", "9 3 2 3", "12 4")
GROUNDS = {"light": ("#ffffff", "#23211d"), "dark": ("#16171a", "#ebe7de")}  # of a file of its own: words too
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Axis:
    """What is measured, and how it is laid out."""

    label: str
    log: bool = False


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


@dataclass(frozen=True)
class Interval:
    """A value between a range that is a floor for it and one that is a ceiling, in a unit of its own."""

    name: str
    value: float
    floor: tuple[float, float]
    ceiling: tuple[float, float]


def ticks(low: float, high: float, log: bool = False, most: int = 6) -> list[float]:
    """At most `most` round values from low to high: 1, 2 or 5 times a power of ten, evenly laid out.

    On a log axis powers of ten, one in two (three, ...) where there are many, with 5 times and 2 times them
    where there are few; like a linear one where even these are fewer than two.
    """
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for mantissas in ((1, 2, 5), (1, 5), (1,)):
            found = [v for k in powers for m in mantissas if low <= (v := float(f"{m}e{k}")) <= high]
            if 2 <= len(found) <= most:
                return found
        if len(found) > most:
            return found[-len(found) % -(-len(found) // most) :: -(-len(found) // most)]
    if high <= low:
        return [low]
    power = math.floor(math.log10((high - low) / most))
    for size in (float(f"{m}e{power + k}") for k in (0, 1, 2) for m in (1, 2, 5)):
        steps = range(math.ceil(low / size), math.floor(high / size) + 1)
        if len(steps) <= most:
            found = [float(f"{i * size:.15g}") for i in steps]
            return [v for v in found if low <= v <= high]
    raise AssertionError("a step of a hundred times the range holds one tick at most")


def told(value: float, digits: int = 4) -> str:
    """A number for an axis or a label: 1,500 or 0.25 or 2×10¹³."""
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
        return power if mantissa == "1" else f"{mantissa}×{power}".replace("-", "−")
    plain = f"{float(f'{value:.{digits}g}'):,.{digits + 3}f}"
    return plain.rstrip("0").rstrip(".").replace("-", "−")


def _labels(values: Sequence[float]) -> list[str]:
    """With as many digits as tell the values apart."""
    tried = [[told(v, digits) for v in values] for digits in (4, 8, 15)]
    return next((found for found in tried if len(set(found)) == len(values)), tried[-1])


def escaped(text: str) -> str:
    """Text as content of XML, without what does not print."""
    return html.escape(_UNSHOWN.sub("\ufffd", text))


def num(value: float) -> str:
    """A coordinate: at most two decimals, never "-0"."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def wide(text: str) -> float:
    """About the width of words, in units; rather too much."""
    return 7.0 * len(text)


def _inside(middle: float, label: str) -> float:
    """Where a label's middle must be so that none of it leaves the drawing."""
    return min(max(middle, wide(label) / 2), WIDTH - wide(label) / 2)


class _Scale:
    """Values of an axis to places from `start` to `end`; a share of the range is left free at both ends."""

    def __init__(self, axis: Axis, values: Iterable[float], start: float, end: float, free: float = 0.04):
        self.axis, self.start, self.end = axis, start, end
        values = list(values)
        for value in values:
            if not math.isfinite(value):
                raise ValueError(f"{axis.label}: a chart takes finite numbers only, not {value}")
            if axis.log and value <= 0:
                raise ValueError(f"{axis.label}: a log axis takes numbers above 0 only, not {value:g}")
        found = [self._placed(v) for v in values]
        low, high = min(found), max(found)
        least = 0.05 if axis.log else 0.02 * abs(low) or 1.0  # of a range whose values are all alike
        edge = free * (high - low) if high - low > 1e-9 * max(abs(low), abs(high)) else least
        self.low, self.high = low - edge, high + edge
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"{axis.label}: the range of the numbers is too large")

    def _placed(self, value: float) -> float:
        return math.log10(value) if self.axis.log else value

    def __call__(self, value: float) -> float:
        share = (self._placed(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        edges = self.low, self.high
        if self.axis.log:
            edges = 10 ** max(self.low, -300.0), 10 ** min(self.high, 300.0)
        return ticks(*edges, log=self.axis.log, most=most)


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "soft") -> str:
    return f'<text x="{num(x)}" y="{num(y)}" text-anchor="{anchor}" class="{kind}">{escaped(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path d="M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}" class="{kind}"/>'


def _mark(kind: int, x: float, y: float, about: str = "", size: float = 4) -> str:
    """A disc, square, triangle, diamond or cross at (x, y), with words that show when it is pointed at."""
    s = size
    shape = {
        0: f"M{num(x - s)} {num(y)}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",
        1: f"M{num(x - s)} {num(y - s)}h{2 * s}v{2 * s}h{-2 * s}z",
        2: f"M{num(x)} {num(y - s)}l{s} {2 * s}h{-2 * s}z",
        3: f"M{num(x)} {num(y - 1.3 * s)}l{s} {num(1.3 * s)}l{-s} {num(1.3 * s)}l{-s} {num(-1.3 * s)}z",
        4: f"M{num(x - s)} {num(y - s)}l{2 * s} {2 * s}m0 {-2 * s}l{-2 * s} {2 * s}",
    }[kind % 5]
    title = f"<title>{escaped(about)}</title>" if about else ""
    return f'<path d="{shape}" class="s{kind % 5} {"stroke" if kind % 5 == 4 else "fill"}">{title}</path>'


def svg(title: str, about: str, body: Iterable[str], height: float) -> str:
    """The drawing, named by `title` and described by `about`; its style touches nothing else on a page."""
    name = "chart-" + hashlib.sha256(f"{title}\0{about}".encode("utf-8", "replace")).hexdigest()[:8]
    series = "".join(
        f".chart .s{i}{{--c:var(--chart-{i},{colour})}}.chart .stroke.s{i}{{stroke-dasharray:{dash}}}"
        for i, (colour, dash) in enumerate(zip(COLOURS, DASHES, strict=True))
    )
    (ground, ink), (dark_ground, dark_ink) = GROUNDS.values()
    style = (
        "svg.chart text{fill:currentColor;font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
        "svg.chart .soft{opacity:.8}svg.chart .strong{font-weight:600}"
        ".chart path,.chart rect{fill:none}"
        ".chart .grid{stroke:var(--chart-grid,currentColor);stroke-opacity:.16}"
        ".chart .axis{stroke:currentColor;stroke-opacity:.6}"
        ".chart .level{stroke:currentColor;stroke-opacity:.75;stroke-dasharray:4 4}"
        ".chart .fill{fill:var(--c)}.chart .stroke,.chart .bar{stroke:var(--c);stroke-width:2}"
        ".chart .band{fill:var(--c);fill-opacity:.18}.chart .ring{stroke:currentColor;stroke-width:2}"
        f".chart .bar{{stroke-width:1.3}}{series}"
        f"svg.chart:root{{background:{ground};color:{ink}}}"
        f"@media(prefers-color-scheme:dark){{svg.chart:root{{background:{dark_ground};color:{dark_ink}}}}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {num(height)}" '
        f'role="img" aria-labelledby="{name} {name}-about"><title id="{name}">{escaped(title)}</title>'
        f'<desc id="{name}-about">{escaped(about)}</desc><style>{style}</style>{"".join(body)}</svg>\n'
    )


def _key(names: Sequence[tuple[str, str]], top: float) -> tuple[list[str], float]:
    """(sign, name) pairs in as many lines as they take from `top`, and where they end; a sign is 30 wide."""
    parts, x, y = [], 0.0, top
    for sign, name in names:
        if x and x + 36 + wide(name) > WIDTH - RIGHT:
            x, y = 0.0, y + LINE + 3
        parts.append(f'<g transform="translate({num(x)} {num(y)})">{sign}{_text(36, 12, name, kind="")}</g>')
        x += 36 + wide(name) + 18
    return parts, y + LINE + 8


def _free(
    boxes: Sequence[tuple[float, float, float, float]], taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """Of boxes (left, top, right, bottom) the first that covers the fewest of `taken`."""

    def covered(box: tuple[float, float, float, float]) -> int:
        return sum(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)

    return min(boxes, key=covered)


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
            (_line(2, 8, 28, 8, f"s{i % 5} stroke") if s.joined else "")
            + (_mark(i, 15, 8) if s.marked else ""),
            s.name,
        )
        for i, s in enumerate(series)
    ]
    parts, top = _key(signs, 4)
    parts.append(_text(0, top + 11, y.label))
    top, floor, height = top + LINE + 6, top + 250, top + 292
    up = _Scale(y, ys, floor, top)
    marks = list(zip(values := up.ticks(6), _labels(values), strict=True))
    left = 10 + max((wide(label) for _, label in marks), default=0)
    across = _Scale(x, xs, left, WIDTH - RIGHT)
    for v, label in marks:
        parts += [_line(left, up(v), WIDTH - RIGHT, up(v), "grid"), _text(left - 7, up(v) + 4, label, "end")]
    parts.append(_line(left, floor, WIDTH - RIGHT, floor, "axis"))
    for v, label in zip(values := across.ticks(5), _labels(values), strict=True):
        parts.append(_line(across(v), floor, across(v), floor + 4, "axis"))
        parts.append(_text(_inside(across(v), label), floor + 18, label, "middle"))
    parts.append(_text((left + WIDTH - RIGHT) / 2, height - 6, x.label, "middle"))
    taken = [(across(a) - 5, up(b) - 5, across(a) + 5, up(b) + 5) for s in series for a, b in s.points]
    taken += [(left, up(v) - 1, WIDTH - RIGHT, up(v) + 1) for v, _ in levels]
    taken += [(across(v) - 1, top, across(v) + 1, floor) for v, _ in uprights]
    for i, s in enumerate(series):
        places = [(across(a), up(b)) for a, b in s.points]
        if s.band:
            edge = [(px, up(b[1])) for (px, _), b in zip(places, s.band, strict=True)]
            edge += [(px, up(b[0])) for (px, _), b in zip(places, s.band, strict=True)][::-1]
            joined = "L".join(f"{num(px)} {num(py)}" for px, py in edge)
            parts.append(f'<path d="M{joined}z" class="s{i % 5} band"/>')
        for (px, _), (_, b), e in zip(places, s.points, s.errors or [0.0] * len(places), strict=True):
            if e:
                parts.append(_line(px, up(b - e), px, up(b + e), f"s{i % 5} bar"))
                parts += [_line(px - 3, up(v), px + 3, up(v), f"s{i % 5} bar") for v in (b - e, b + e)]
        if s.joined and places:
            joined = "L".join(f"{num(px)} {num(py)}" for px, py in places)
            parts.append(f'<path d="M{joined}" class="s{i % 5} stroke"/>')
        if s.marked:
            named = [f"{s.name}: {told(a)}, {told(b)}" for a, b in s.points]
            parts += [_mark(i, *place, name) for place, name in zip(places, named, strict=True)]
    labels = []  # and the boxes that each may take, the best first
    for v, label in levels:
        parts.append(_line(left, up(v), WIDTH - RIGHT, up(v), "level"))
        ends, rows = (left + 4, WIDTH - RIGHT - wide(label)), (up(v) - LINE, up(v) + 3)
        labels.append((label, [(a, b) for b in rows for a in ends]))
    for v, label in uprights:
        parts.append(_line(across(v), top, across(v), floor, "level"))
        sides = (across(v) + 5, across(v) - 5 - wide(label))
        labels.append((label, [(a, b) for b in (top, floor - LINE - 2) for a in sides]))
    if point:
        at = across(point[0]), up(point[1])
        parts.append(f'<circle cx="{num(at[0])}" cy="{num(at[1])}" r="8" fill="none" class="ring"/>')
        sides = (at[0] + 11, at[0] - 11 - wide(point[2]))
        labels.append((point[2], [(a, b) for b in (at[1] - 24, at[1] + 10) for a in sides]))
    for label, corners in labels:
        corners = [
            (max(0.0, min(a, WIDTH - wide(label))), max(top, min(b, floor - LINE))) for a, b in corners
        ]
        box = _free([(a, b, a + wide(label), b + LINE - 3) for a, b in corners], taken)
        taken.append(box)
        parts.append(_text(box[0], box[3] - 3, label, kind="strong"))
    return svg(title, about, parts, height)


def bars(
    title: str, about: str, axis: Axis, values: Sequence[tuple[str, float]], errors: Sequence[float] = ()
) -> str:
    """A horizontal bar from 0 for each (name, value), and the half length of its error bar if any."""
    if not values or axis.log or len(errors) not in (0, len(values)):
        raise ValueError(f"{title}: bars need values, as many errors or none, and no log axis")
    halves = errors or [0.0] * len(values)
    ends = [v + sign * e for (_, v), e in zip(values, halves, strict=True) for sign in (-1, 1)]
    across = _Scale(axis, [0.0, *ends], 4, WIDTH - RIGHT - 56, free=0.0)
    parts, row = [_text(0, 12, axis.label)], 2 * LINE + 8
    for i, ((name, value), e) in enumerate(zip(values, halves, strict=True)):
        y, left = 22 + i * row, min(across(0), across(value))
        parts.append(_text(4, y + 12, name, kind=""))
        box = f'y="{y + 18}" width="{num(abs(across(value) - across(0)))}" height="14" class="s0 fill"'
        about_it = f"<title>{escaped(f'{name}: {told(value)}')}</title>"
        parts.append(f'<rect x="{num(left)}" {box}>{about_it}</rect>')
        if e:
            parts.append(_line(across(value - e), y + 25, across(value + e), y + 25, "ring"))
        parts.append(_text(max(across(0), across(value + e)) + 6, y + 29, told(value), kind="strong"))
    parts.append(_line(across(0), 22, across(0), 22 + len(values) * row, "axis"))
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
    parts, top = _key(list(zip([_mark(3, 15, 8, size=6), *boxes], names, strict=True)), 4)
    for i, row in enumerate(rows):
        y = top + i * 62
        across = _Scale(Axis(row.name), [row.value, *row.floor, *row.ceiling], 4, WIDTH - RIGHT)
        parts += [_text(4, y + 12, row.name, kind=""), _line(4, y + 28, WIDTH - RIGHT, y + 28, "axis")]
        parts.append(_text(WIDTH - RIGHT, y + 12, told(row.value), "end", "strong"))
        ranges = ((row.floor, "s2 fill", names[1]), (row.ceiling, "s1 stroke", names[2]))
        for (low, high), kind, name in ranges:
            if low > high:
                raise ValueError(f"{row.name}: a range from {low:g} to {high:g}")
            left, size = across(low), max(2.0, across(high) - across(low))
            about_it = f"<title>{escaped(f'{name}: {told(low)} to {told(high)}')}</title>"
            box = f'y="{num(y + 21)}" width="{num(size)}" height="14" class="{kind}"'
            parts.append(f'<rect x="{num(left)}" {box}>{about_it}</rect>')
            label = f"{told(low)} – {told(high)}"
            parts.append(_text(_inside(left + size / 2, label), y + 50, label, "middle"))
        parts.append(_mark(3, across(row.value), y + 28, f"{names[0]}: {told(row.value)}", size=6))
    return svg(title, about, parts, top + len(rows) * 62)


def strip(
    title: str, about: str, axis: Axis, values: Sequence[float], places: Sequence[tuple[float, str]] = ()
) -> str:
    """Values >= 0 along a book from left to right: the more, the higher and the darker.

    `places` (share of the book from 0 to 1, label) are named below where there is room; the axis is linear.
    """
    if not values or min(values) < 0 or any(not 0 <= share <= 1 for share, _ in places):
        raise ValueError(f"{title}: a strip needs values of 0 or more, and places from 0 to 1")
    up = _Scale(Axis(axis.label), [0.0, *values, 1e-12], 96, 26, free=0.0)
    size = (WIDTH - RIGHT) / len(values)
    parts = [_text(0, 12, f"{axis.label}, at most {told(max(values))}")]
    for i, value in enumerate(values):
        if value:
            tall = 96 - up(value)
            box = f'width="{num(max(0.5, size))}" height="{num(tall)}" fill-opacity="{0.3 + tall / 100:.2f}"'
            about_it = f"<title>{escaped(f'{i / len(values):.0%} of the book: {told(value)}')}</title>"
            place = f'x="{num(i * size)}" y="{num(up(value))}"'
            parts.append(f'<rect {place} {box} class="s0 fill">{about_it}</rect>')
    parts.append(_line(0, 96, WIDTH - RIGHT, 96, "axis"))
    end = 0.0
    for share, label in sorted(places):
        at = share * (WIDTH - RIGHT)
        parts.append(_line(at, 96, at, 101, "axis"))
        if at >= end and at + wide(label) <= WIDTH:
            parts.append(_text(at, 115, label))
            end = at + wide(label) + 8
    return svg(title, about, parts, 122)
