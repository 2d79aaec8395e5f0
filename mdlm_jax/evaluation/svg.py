"""What charts are made of: axes, ticks, numbers in words, marks, and the drawing around them, as SVG. No jax.

Words take the colour of the page (currentColor), the rest custom properties with fall-backs that are legible
on white and on black: --chart-0 to --chart-4 (series; Okabe and Ito 2008, darkened where white asks for it),
--chart-grid; --chart-ground is what strong words stand on, so that no line crosses them. A file of its own
follows the light or dark scheme. Drawings are 360 units wide, so that words keep 11.3 pixels on a screen of
360. Series differ in dashes and marks too. The same input gives the same bytes. Numbers that are not finite
are refused (ValueError), as are those up to 0 on a log axis.
"""

import hashlib
import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, RIGHT, LINE = 360, 14, 17  # the last: height of a line of words
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
    sign, value = "−" * (value < 0), abs(value)
    if value and not 1e-3 <= value < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
        return sign + (power if mantissa == "1" else f"{mantissa}×{power}")
    return sign + f"{float(f'{value:.{digits}g}'):,.{digits + 3}f}".rstrip("0").rstrip(".")


def labels(values: Sequence[float]) -> list[str]:
    """With as many digits as tell the values apart."""
    tried = [[told(v, digits) for v in values] for digits in (4, 8, 15)]
    return next((found for found in tried if len(set(found)) == len(values)), tried[-1])


def escaped(words: str) -> str:
    """Text as content of XML, without what does not print."""
    return html.escape(_UNSHOWN.sub("\ufffd", words))


def num(value: float) -> str:
    """A coordinate: at most two decimals, never "-0"."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def wide(words: str) -> float:
    """About the width of words, in units; rather too much."""
    return 8.0 * len(words)


def inside(middle: float, label: str) -> float:
    """Where a label's middle must be so that none of it leaves the drawing."""
    return min(max(middle, wide(label) / 2), WIDTH - wide(label) / 2)


def apart(left: float, a: str, right: float, b: str) -> tuple[float, float]:
    """The middles of labels a and b, moved no more than they must to stand clear and inside the drawing."""
    need = (wide(a) + wide(b)) / 2 + 12
    spare = max(0.0, need - (right - left)) / 2
    right = inside(max(right + spare, inside(left - spare, a) + need), b)
    return min(inside(left - spare, a), right - need), right


class Scale:
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


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "soft") -> str:
    """Words whose start, middle or end (`anchor`) stands at (x, y); `kind`: soft, strong or neither."""
    return f'<text x="{num(x)}" y="{num(y)}" text-anchor="{anchor}" class="{kind}">{escaped(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A line of `kind`: grid, axis, level, ring, or a series' (s0 stroke, s0 bar)."""
    return f'<path d="M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}" class="{kind}"/>'


def mark(kind: int, x: float, y: float, about: str = "", size: float = 4) -> str:
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
        "svg.chart .soft{opacity:.8}svg.chart .strong{font-weight:600;paint-order:stroke;"
        "stroke:var(--chart-ground);stroke-width:5px;stroke-linejoin:round}"
        ".chart path,.chart rect{fill:none}"
        ".chart .grid{stroke:var(--chart-grid,currentColor);stroke-opacity:.16}"
        ".chart .axis{stroke:currentColor;stroke-opacity:.6}"
        ".chart .level{stroke:currentColor;stroke-opacity:.75;stroke-dasharray:4 4}"
        ".chart .fill{fill:var(--c)}.chart .stroke,.chart .bar{stroke:var(--c);stroke-width:2}"
        ".chart .band{fill:var(--c);fill-opacity:.18}.chart .ring{stroke:currentColor;stroke-width:2}"
        f".chart .bar{{stroke-width:1.3}}{series}"
        f"svg.chart:root{{--chart-ground:{ground};background:{ground};color:{ink}}}"
        "@media(prefers-color-scheme:dark){svg.chart:root{"
        f"--chart-ground:{dark_ground};background:{dark_ground};color:{dark_ink}}}}}"
    )
    frame = f"-8 -6 {WIDTH + 16} {num(height + 12)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{frame}" class="chart" '
        f'role="img" aria-labelledby="{name} {name}-about"><title id="{name}">{escaped(title)}</title>'
        f'<desc id="{name}-about">{escaped(about)}</desc><style>{style}</style>{"".join(body)}</svg>\n'
    )


def key(names: Sequence[tuple[str, str]], top: float) -> tuple[list[str], float]:
    """(sign, name) pairs in as many lines as they take from `top`, and where they end; a sign is 30 wide."""
    parts, x, y = [], 0.0, top
    for sign, name in names:
        if x and x + 36 + wide(name) > WIDTH - RIGHT:
            x, y = 0.0, y + LINE + 3
        parts.append(f'<g transform="translate({num(x)} {num(y)})">{sign}{text(36, 12, name, kind="")}</g>')
        x += 36 + wide(name) + 18
    return parts, y + LINE + 8
