"""HTML and Markdown to plain paragraphs. Linear in the length of the source, whatever it holds.

The tags are found here and not by html.parser, which takes quadratic time on unclosed comments and tags in
the versions of Python in use, and whose reading of broken pages differs between them: the same page has to
give the same bytes everywhere. Entities beyond those of HTML are never expanded.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.text import normalise


@dataclass(frozen=True)
class Plain:
    """Paragraphs between blank lines, the title the source names, and its headings, each on one line."""

    text: str
    title: str | None = None
    headings: frozenset[str] = frozenset()


# --- HTML ------------------------------------------------------------------------------------------------

_OPEN = re.compile(r"<(?:!--|!\[|[!?/]?[a-zA-Z])")
_NAME = re.compile(r"</?([^\s/>]*)")
_TO_END = re.compile(r"""[^"'>]*+(?:"[^"]*+"[^"'>]*+|'[^']*+'[^"'>]*+)*+>""")
_ATTRIBUTE = re.compile(r"""(?<![^\s"'/])([^\s=/>"']++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""")
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7}(?![0-9])|#[xX][0-9a-fA-F]{1,6}(?![0-9a-fA-F])|[a-zA-Z][a-zA-Z0-9]{1,30});?"
)
_SPACE = re.compile(r"[ \t\r\n\f]+")

_CHARSET = re.compile(rb"""(?:charset|encoding)[ ]*=[ ]*["']?[ ]*([\w-]{1,40})""", re.IGNORECASE)
# Only these: some of Python's own codecs take quadratic time. Latin-1 means cp1252 on the web.
_CHARSETS = re.compile(r"windows-125\d|iso-8859-(?:[2-9]|1[013456])|koi8-[ru]|big5|shift_jis|euc-(?:jp|kr)")

_RAW = {"script", "style", "title", "textarea"}  # hold no tags
_RAW_END = {name: re.compile(rf"</(?:[\w.-]+:)?{name}", re.IGNORECASE) for name in _RAW}
_LEFT_OUT = {"nav", "svg", "template", "object", "iframe", "select", "button"}
# Left out where they are page numbers, marks of notes or glosses; any block ends them, closed or not.
_INLINE_ASIDES = {"span", "a", "sup", "p"}
_ASIDE = re.compile(r"pagenum|pageno\b|noteref", re.IGNORECASE)
_GLOSSES = {"rt", "rp"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_DIVISIONS = (
    "p div li ul ol dl dt dd blockquote pre table caption tr section article header footer aside main figure "
    "figcaption hr head body html center address fieldset form"
)
_BLOCKS = {*_HEADINGS, *_DIVISIONS.split()}


def tags(source: str) -> Iterator[tuple[str, str, str]]:
    """(text before it, tag, attributes) of every tag, then (text left, "", ""); declarations left out.

    A tag is its name in lower case without namespace, with "/" before it if it closes.
    """
    at = begin = 0
    comments = quotes = subsets = True  # whether one that opens here can be closed at all
    unclosed: set[str] = set()
    while match := _OPEN.search(source, at):
        at = match.start()
        if source.startswith("<!--", at):
            end = source.find("-->", at + 2) + 3 if comments else 2
            if comments := end > 2:
                yield source[begin:at], "", ""
                at = begin = end
            else:
                at += 4
            continue
        closed = _TO_END.match(source, at) if quotes else None
        quotes = quotes and closed is not None
        end = closed.end() if closed else source.find(">", at) + 1
        if not end:
            break
        named = _NAME.match(source, at)
        assert named  # _OPEN has seen a name
        name = named[1].rpartition(":")[2].lower()
        closing = "/" if source[at + 1] == "/" else ""
        if name == "!doctype" and subsets and "[" in source[at:end]:
            subset = source.find("]>", at) + 2
            subsets = subset > 1
            end = max(end, subset)
        if source[at + 1] in "!?":
            yield source[begin:at], "", ""
        else:
            yield source[begin:at], closing + name, source[named.end() : end - 1]
        at = begin = end
        if name in _RAW and not closing and source[end - 2] != "/" and name not in unclosed:
            if last := _RAW_END[name].search(source, at):
                at = last.start()
            else:
                unclosed.add(name)
    yield source[begin:], "", ""


def declared_encoding(data: bytes) -> str:
    """The single-byte or East Asian encoding that a page says it is in, cp1252 if it names none of those."""
    match = _CHARSET.search(data[:2048])
    name = match[1].decode("ascii").lower() if match else ""
    if name.startswith("gb"):
        return "gb18030"  # which holds the others
    return codecs.lookup(name).name if _CHARSETS.fullmatch(name) else "cp1252"


def attributes(text: str) -> dict[str, str]:
    """Names in lower case without namespace, values decoded."""
    found = {}
    for match in _ATTRIBUTE.finditer(text):
        found[match[1].rpartition(":")[2].lower()] = entities(match[2] or match[3] or match[4] or "")
    return found


def entities(text: str) -> str:
    """The text with HTML's own character references decoded."""
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def html_to_plain(source: str) -> Plain:
    """The paragraphs, line breaks and headings of a page; scripts, navigation and page numbers left out."""
    title: str | None = None
    paragraphs: list[str] = []
    headings: set[str] = set()
    pieces: list[str] = []
    heading, pre = False, 0
    skipped, depth = "", 0  # the element that is being left out, and how often it is open

    def finish() -> None:
        if not pieces:
            return
        lines = [" ".join(line.split()) for line in "".join(pieces).split("\n")]
        pieces.clear()
        if text := "\n".join(lines).strip("\n"):
            paragraphs.append(text)
            if heading:
                headings.add(" ".join(text.split()))

    for data, name, inside in tags(normalise(source)):
        if "&" in data:
            data = normalise(entities(data))
        if data and not skipped:
            pieces.append(data if pre else _SPACE.sub(" ", data))
        elif data and skipped == "title" and title is None:
            title = " ".join(data.split()) or None
        closing, bare = name.startswith("/"), name.removeprefix("/")
        empty = inside.endswith("/")  # XHTML's <script/>
        if skipped in _RAW or (skipped not in _LEFT_OUT and bare in _BLOCKS):
            skipped = ""
        elif bare == skipped and not empty:
            depth += -1 if closing else 1
            skipped = skipped if depth else ""
        if skipped:
            continue
        if bare == "br":
            pieces.append("\n")
        elif bare in ("td", "th"):
            pieces.append(" ")
        elif bare in _BLOCKS:
            finish()
            heading = bare in _HEADINGS and not closing and not empty
            if bare == "pre" and not empty:
                pre = max(0, pre - 1) if closing else pre + 1
        aside = bare in _GLOSSES or (bare in _INLINE_ASIDES and _ASIDE.search(inside))
        if not closing and not empty and (aside or bare in _RAW or bare in _LEFT_OUT):
            skipped, depth = bare, 1
    finish()
    return Plain("\n\n".join(paragraphs), title, frozenset(headings))


# --- Markdown --------------------------------------------------------------------------------------------

_FRONT = re.compile(r"---\n(?=\w[\w -]*:)(.*?)\n(?:---|\.\.\.)\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"(?m)^title:[ ]*([\"']?)(.+)\1[ ]*$")
_ATX = re.compile(r" {0,3}#{1,6}[ ]+(.*)$")
_RULE = re.compile(r" {0,3}(?:(?:\*[ ]*){3,}|(?:-[ ]*){3,}|(?:_[ ]*){3,})$")
_MARK = re.compile(r"[-=#*_>`~\[\]\\<&+!]|^ *\d")  # without any of these, a line is plain
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_QUOTE = re.compile(r"(?: {0,3}>[ ]?)+")
_BULLET = re.compile(r" {0,8}[-*+][ ]+(?=\S)")
_NUMBERED = re.compile(r" {0,8}\d{1,3}[.)][ ]+(?=\S)")
_NOTE = re.compile(r"\[\^([^\]\s]+)\]:[ ]*")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:[ ]*\S+(?:[ ]+[\"'(].*)?$")
_TARGET = r"(?:\((?:[^()]++|\([^()]*+\))*+\)|\[[^\[\]]*\])"
_INLINE = [
    (re.compile(rf"!\[[^\[\]]*\]{_TARGET}"), ""),  # an image
    (re.compile(r"\[\^[^\[\]\s]+\]"), ""),  # the mark of a note
    (re.compile(rf"\[([^\[\]]*)\]{_TARGET}"), r"\1"),  # a link
    (re.compile(r"(?<!\\)(?:\*{1,3}|~~)(?=\S)|(?<=\S)(?<!\\)(?:\*{1,3}|~~)"), ""),
    (re.compile(r"(?<![\w\\])_{1,3}(?=\S)|(?<=\S)(?<!\\)_{1,3}(?!\w)|`+"), ""),
    (re.compile(r"<br[ ]*/?>", re.IGNORECASE), "\n"),
    (re.compile(r"\\([!-/:-@\[-`{-~])|\\$"), r"\1"),
]


def _inline(line: str) -> str:
    for pattern, by in _INLINE:
        line = pattern.sub(by, line)
    return entities(line)


def markdown_to_plain(source: str) -> Plain:
    """Markdown without its marks; headings, list items and notes as paragraphs of their own."""
    text, title, headings = normalise(source), None, set()
    if front := _FRONT.match(text):
        found = _FRONT_TITLE.search(front[1])
        text, title = text[front.end() :], found[2].strip() if found else None
    made: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if not _MARK.search(line):
            made.append(line)
            continue
        if _FENCE.match(line):
            fenced = not fenced
            made.append("")
            continue
        if fenced:
            made.append(line)
            continue
        if quote := _QUOTE.match(line):
            line = line[quote.end() :]
        if made and made[-1] and (set(line.strip()) in ({"="}, {"-"})) and not (len(made) > 1 and made[-2]):
            headings.add(" ".join(made[-1].split()))
            made.append("")
        elif atx := _ATX.match(line):
            words = atx[1].rstrip()
            bare = words.rstrip("#")
            made += ["", _inline(bare if bare.endswith(" ") or not bare else words).strip(), ""]
            headings.add(" ".join(made[-2].split()))
        elif _RULE.match(line):
            made += ["", "* * *", ""]
        elif note := _NOTE.match(line):
            made += ["", f"[{note[1]}] {_inline(line[note.end() :])}"]
        elif not _DEFINITION.match(line):
            if bullet := _BULLET.match(line) or _NUMBERED.match(line):
                made.append("")
                line = line[bullet.end() :] if bullet.re is _BULLET else line
            made.append(_inline(line))
    headings.discard("")
    return Plain("\n".join(made), title, frozenset(headings))
