"""EPUB: the documents of a book in reading order."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from data_prep.archive import Archive
from data_prep.config import PrepError
from data_prep.markup import Plain, attributes, declared_encoding, entities, html_to_plain, tags
from data_prep.text import decode

CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html", "")


def epub_to_plain(archive: Archive, name: str) -> tuple[Plain, str]:
    """Text, title and headings of the spine, without tables of contents, and the encodings of its pages.

    Raises:
        PrepError: damaged, or protected against copying.
    """
    opf = next((path for path in _values(archive, CONTAINER, name, "rootfile", "full-path")), None)
    if opf is None:
        raise PrepError(f"{name} is damaged: {CONTAINER} names no package; fetch or make it again")
    title, pages = _spine(archive, opf, name)
    if "META-INF/encryption.xml" in archive.names:
        locked = {
            unquote(uri)
            for uri in _values(archive, "META-INF/encryption.xml", name, "cipherreference", "uri")
        }
        if locked & set(pages):
            raise PrepError(f"{name} is protected against copying (DRM); give a copy that is not")
    parts: list[Plain] = []
    encodings: dict[str, None] = {}
    for page in pages:
        if page not in archive.names:
            raise PrepError(f"{name} is damaged: its page {page} is missing; fetch or make it again")
        data = archive.read(page)
        if data.strip():
            text, encoding = decode(data, f"{name}: {page}", declared_encoding(data))
            parts.append(html_to_plain(text))
            encodings[encoding] = None
    text = "\n\n".join(part.text for part in parts if part.text)
    return Plain(text, title, frozenset().union(*(part.headings for part in parts))), " ".join(encodings)


def _source(archive: Archive, entry: str, name: str) -> str:
    if entry not in archive.names:
        raise PrepError(f"{name} is damaged: {entry} is missing; fetch or make it again")
    return decode(archive.read(entry), f"{name}: {entry}")[0]


def _values(archive: Archive, entry: str, name: str, tag: str, attribute: str) -> list[str]:
    found = [
        attributes(inside).get(attribute)
        for _, at, inside in tags(_source(archive, entry, name))
        if at == tag
    ]
    return [value for value in found if value]


def _spine(archive: Archive, opf: str, name: str) -> tuple[str | None, list[str]]:
    """The title, and the entries of the spine that are text to be read in order."""
    title: str | None = None
    items: dict[str, dict[str, str]] = {}
    order: dict[str, None] = {}  # a page that is named again is the same page
    contents = set()
    for data, tag, inside in tags(_source(archive, opf, name)):
        if tag == "/title" and title is None:
            title = " ".join(entities(data).split()) or None
        elif tag == "item":
            found = attributes(inside)
            items[found.get("id", "")] = found
        elif tag == "itemref" and (found := attributes(inside)).get("linear") != "no":
            order[found.get("idref", "")] = None
        elif tag == "reference" and (found := attributes(inside)).get("type") == "toc":
            contents.add(found.get("href", "").partition("#")[0])
    pages = []
    for idref in order:
        if idref not in items:
            raise PrepError(f"{name} is damaged: its spine names no item {idref!r}; fetch or make it again")
        item = items[idref]
        href = item.get("href", "").partition("#")[0]
        is_contents = "nav" in item.get("properties", "").split() or href in contents
        if item.get("media-type", "") in _PAGES and not is_contents:
            pages.append(posixpath.normpath(posixpath.join(posixpath.dirname(opf), unquote(href))))
    if not pages:
        raise PrepError(f"{name} is damaged: its spine is empty; fetch or make it again")
    return title, list(dict.fromkeys(pages))
