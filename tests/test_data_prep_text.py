"""Reading a book: encodings, control characters, Gutenberg boilerplate, and what is refused."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_books import chaptered

from data_prep import PrepError
from data_prep.read import read_corpus
from data_prep.text import MIN_WORDS, decode, normalise, strip_gutenberg, words

TEXT = "“Déjà vu,” she said — twice.\n\nA naïve café.\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8-sig"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), "utf-32"),
        (TEXT.encode("cp1252"), "cp1252"),
    ],
)
def test_encodings_give_the_same_text(data, encoding):
    assert decode(data, "book") == (TEXT, encoding)


def test_normalise_strips_controls_and_keeps_words():
    dirty = "o\xadn\u200be\r\ntwo\rthree\x0cfour\tfive\x00\x07\ufeff six\u2028seven\x7f\x9f"
    assert normalise(dirty) == "one\ntwo\nthree\nfour five six\nseven"


@given(st.text())
@settings(max_examples=200)
def test_normalise_leaves_no_control_character(text):
    once = normalise(text)
    assert normalise(once) == once
    assert not any(
        c in "\xad\u200b\u2060\ufeff" or (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in once
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \r\n\t ", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (b"text\x00\x01\x02\x03" * 500, "is binary"),
        (bytes(range(256)) * 20, "is not text"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8\x00", "is not text"),
        ("“Yes.”\n".encode() * 40 + b"\xe2\x80\n", "UTF-8 but for 1 bad places, the first in line 41"),
        (b"Too short to hold anything out.", f"at least {MIN_WORDS} are needed"),
    ],
)
def test_refusals_name_the_file_and_take_one_line(tmp_path, data, reason):
    path = tmp_path / "book.txt"
    path.write_bytes(data)
    with pytest.raises(PrepError, match=reason) as caught:
        read_corpus(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_any_bytes_decode_or_are_refused(data):
    try:
        text, _ = decode(data, "book")
    except PrepError as error:
        assert "\n" not in str(error)
    else:
        assert normalise(text).strip()


HEADER = """The Project Gutenberg eBook of The Harbour Ledger

Title: The Harbour Ledger
       or, a Lantern

Author: Nobody

*** START OF THE PROJECT GUTENBERG EBOOK THE HARBOUR LEDGER ***

Produced by some volunteers
and a machine.

"""
FOOTER = """
End of the Project Gutenberg EBook of The Harbour Ledger

*** END OF THIS PROJECT GUTENBERG EBOOK THE HARBOUR LEDGER ***

*** START: FULL LICENSE ***
You may copy it.
"""


def test_gutenberg_boilerplate_goes_and_the_book_stays():
    body = "Chapter 1\n\nIt rained on the harbour.\n"
    text, title, removed = strip_gutenberg(HEADER + body + FOOTER)
    assert text.strip() == body.strip()
    assert title == "The Harbour Ledger or, a Lantern"
    assert removed == (HEADER + body + FOOTER).count("\n") + 1 - (text.count("\n") + 1)


def test_a_book_without_markers_is_untouched():
    text = chaptered(3) + "\n\nThe end of the project, said Gutenberg.\n"
    assert strip_gutenberg(text) == (text, None, 0)


def test_words():
    assert words("Don’t stop -- it's 1900, O'Neill_s!") == ["don’t", "stop", "it's", "o'neill", "s"]
