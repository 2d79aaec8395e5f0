"""Small books for the tests of data_prep: generated, so that a test knows every word in them."""

import html
import io
import random
import zipfile

_NOUNS = "harbour lantern mill orchard bridge kettle ferry garden ledger window barrel chapel"
_ADJECTIVES = "cold bright narrow quiet heavy broken yellow patient crooked empty"
_VERBS = "crossed watched mended carried followed painted counted opened guarded sold"
NOUNS, ADJECTIVES, VERBS = (words.split() for words in (_NOUNS, _ADJECTIVES, _VERBS))
PEOPLE = ["Anna", "Bertram", "Clara", "Dunstan", "Edith", "Falk"]


def sentence(rng: random.Random) -> str:
    """One sentence of four to twenty words; some give reasons, some carry marks of a claim."""
    noun, other = rng.sample(NOUNS, 2)
    person = rng.choice(PEOPLE)
    plain = f"{person} {rng.choice(VERBS)} the {rng.choice(ADJECTIVES)} {noun}"
    return rng.choice(
        [
            f"{plain}.",
            f"{plain} before the {other} was {rng.choice(ADJECTIVES)} again.",
            f"{plain}, because the {other} was {rng.choice(ADJECTIVES)} that day.",
            f"Therefore {plain}, and nobody {rng.choice(VERBS)} the {other}.",
            f"“{plain},” said {rng.choice(PEOPLE)}, “and the {other} must be {rng.choice(ADJECTIVES)}.”",
            f"{plain}; the {other}, which {rng.choice(PEOPLE)} {rng.choice(VERBS)}, was {noun} enough.",
        ]
    )


def paragraphs(count: int, seed: int = 0, length: int = 4) -> list[str]:
    """``count`` paragraphs of ``length`` sentences each."""
    rng = random.Random(seed)
    return [" ".join(sentence(rng) for _ in range(length)) for _ in range(count)]


def chaptered(chapters: int = 16, per_chapter: int = 10, seed: int = 0) -> str:
    """A book of numbered chapters with a title page and a table of contents before them."""
    made = paragraphs(chapters * per_chapter, seed)
    head = ["The Harbour Ledger", "CONTENTS", *(f"Chapter {n + 1}" for n in range(chapters))]
    body = []
    for n in range(chapters):
        body += [f"Chapter {n + 1}", *made[n * per_chapter : (n + 1) * per_chapter]]
    return "\n\n".join(head + body) + "\n"


def as_html(text: str, head: str = "<title>The Harbour Ledger</title>", headings: str = "Chapter ") -> str:
    """The book as a web page: paragraphs that begin with ``headings`` as h2, lines parted by <br/>."""
    body = []
    for paragraph in text.strip().split("\n\n"):
        tag = "h2" if paragraph.startswith(headings) else "p"
        lines = "<br/>\n".join(html.escape(line) for line in paragraph.split("\n"))
        body.append(f"<{tag}>{lines}</{tag}>")
    return f"<!DOCTYPE html>\n<html><head>{head}</head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"


CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">
<rootfiles><rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""


def zipped(entries: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file of these entries."""
    with zipfile.ZipFile(made := io.BytesIO(), "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return made.getvalue()


def epub_entries(text: str, pages: int = 4, headings: str = "Chapter ") -> dict[str, str | bytes]:
    """The entries of an EPUB of the book, its page files named against their order."""
    parts = text.strip().split("\n\n")
    size = -(-len(parts) // pages)
    made: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    kind = 'media-type="application/xhtml+xml"'
    items = [f'<item id="nav" href="nav.xhtml" properties="nav" {kind}/>']
    spine = ['<itemref idref="nav"/>']
    for n in range(pages):
        name = f"page {pages - n}.xhtml"
        page = "\n\n".join(parts[n * size : (n + 1) * size])
        made[f"OPS/text/{name}"] = as_html(page, headings=headings)
        items.append(f'<item id="p{n}" href="text/{name.replace(" ", "%20")}" {kind}/>')
        spine.append(f'<itemref idref="p{n}"/>')
    made["OPS/nav.xhtml"] = as_html("Contents of the book that nobody reads")
    made["OPS/book.opf"] = (
        '<?xml version="1.0"?><package><metadata><dc:title id="t">Harbour &amp; Ledger</dc:title></metadata>'
        f"<manifest>{''.join(items)}</manifest><spine>{''.join(spine)}</spine></package>"
    )
    return made
