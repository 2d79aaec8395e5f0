"""What the live page makes of tokens: text and nothing else, whatever a book or a reader brings."""

import gzip
import random
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO, soak_count
from page_visit import plain, write

from mdlm_jax.frames import printable
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.ui.protocol import LONGEST
from mdlm_jax.ui.replay import spelled

pytest_plugins = ["page_browser"]

PAGE = REPO / "mdlm_jax" / "ui" / "page"
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # what the page leaves out beyond `printable`

HOSTILE = [
    "<script>window.harm = 1</script>",
    "</textarea></script><script>window.harm = 1</script>",
    "<img src=x onerror=window.harm=1>",
    "<svg/onload=window.harm=1>",
    "<style>*{display:none}</style><base href=//x><meta http-equiv=refresh content=0>",
    "javascript:window.harm=1 &lt;b&gt; &amp; &#x3c;script&#x3e;",
    "${window.harm=1} {{constructor.constructor('window.harm=1')()}} `${window.harm=1}`",
    '"; window.harm = 1; // \\" onmouseover="window.harm=1',
    "before \u202e reversed \u2066 isolated \u202d after",
    "nul\x00 bell\x07 esc\x1b[31m\x1b]0;harm\x07 del\x7f c1\x9b31m \r\n end",
    "\u2028 line \u2029 paragraph \ufeff mark \u200b zero \u00ad soft",
    "😀 👩‍👩‍👧‍👦 🇪🇺 👍🏽 é e\u0301 ﷽ 𝔘𝔫𝔦",
    "Z" + "\u0300\u0489" * 40,
    "x" * 300,
    "שלום עולם مرحبا بالعالم",
    "日本語 中文 한국어 ไทย",
    "[MASK] [SEP] [EOS] [PAD] \U000e0041\U000e0042",
    "\U0010ffff \ufffd \ufffe \x85 \x0b\x0c",
    "%s %n %x ../../etc/passwd ' OR 1=1 --",
    "\t\ttabs\n\n\n\nbreaks   spaces   ",
]


def clean(text: str) -> str:
    """What the page may show of a text."""
    return TURNS.sub("", printable(text))


def test_hostile_prompts_are_text(visit):
    page = visit()
    for text in ("\n".join(HOSTILE[i : i + 5]) for i in range(0, len(HOSTILE), 5)):
        asked = text.replace("[MASK]", "")  # a prompt's gap must have a length
        page.evaluate("text => { document.getElementById('prompt').value = text; }", asked)
        sent = page.input_value("#prompt")  # a text area makes line breaks of some controls
        write(page, None, 1)
        page.click("#first")
        assert plain(page).replace(" ", "").startswith(clean(sent).replace(" ", "")), text
        shown = "".join(page.locator("#text [data-state=given]").all_text_contents())
        assert re.sub(r"[\s␣¶]", "", shown) == re.sub(r"\s", "", clean(sent)), text
    assert page.evaluate("window.harm") is None
    assert page.locator("#text :not(span, i), #texts :not(ul, li, button, bdi, span)").count() == 0


BULK = """async ([pieces, documents, mask]) => {
  const { Decoder } = await import("/static/decode.js");
  const { History } = await import("/static/history.js");
  const { Paper } = await import("/static/paper.js");
  const decoder = new Decoder(pieces);
  return documents.map(tokens => {
    const root = document.body.appendChild(document.createElement("div"));
    const given = tokens.map(token => +(token !== mask));
    const history = new History({ trajectory: 1, tokens, given, pinned: [] }, mask);
    new Paper(root).open(history, decoder);
    const odd = root.querySelectorAll("*:not(span, i)").length;
    const shown = root.textContent;
    root.remove();
    return [decoder.text(history.tokens, history.masked), shown, odd];
  });
}"""


def decoded(pieces: list[str], tokens: list[int | None]) -> str:
    """The text of a document, a dot for each None."""
    spelling, runs = spelled(pieces), [b""]
    for token in tokens:
        if token is None:
            runs.append(b"")
        else:
            runs[-1] += spelling[token]
    return "·".join(run.decode("utf-8", "replace") for run in runs)


def told(page: Any, run: Path, documents: list[list[int | None]]) -> list[str]:
    """The text of documents as the page decodes them (None is masked), which must be what it draws, and be
    no more than text.
    """
    tokenizer = load_tokenizer(run / "tokenizer.json")
    pieces = [str(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]
    mask = len(pieces)  # one that no text has
    filled = [[mask if token is None else token for token in tokens] for tokens in documents]
    found = page.evaluate(BULK, [pieces, filled, mask])
    assert page.evaluate("window.harm") is None
    for text, shown, odd in found:
        assert odd == 0
        assert re.sub(r"[\s␣¶]", "", shown) == re.sub(r"[\s·␣¶]", "", text)
    for tokens, (text, _, _) in zip(documents, found, strict=True):
        assert text == clean(decoded(pieces, tokens))
    return [text for text, _, _ in found]


def test_any_tokens_are_decoded_as_python_does(visit, smoke_run):
    """Bytes that are no whole characters among them, and masks anywhere."""
    chance = random.Random(0)
    size = load_tokenizer(smoke_run / "tokenizer.json").get_vocab_size()
    ids = [*range(size), *[None] * (size // 8)]
    assert any(
        "\ufffd" in text for text in told(visit(), smoke_run, [chance.choices(ids, k=40) for _ in range(60)])
    )


def test_a_text_may_be_as_long_as_any(visit, smoke_run):
    """More tokens than a call takes arguments."""
    [text] = told(visit(), smoke_run, [LONGEST * [5]])
    assert len(text) >= LONGEST


@pytest.mark.soak
def test_many_hostile_texts_are_text(visit, smoke_run):
    chance = random.Random(1)
    tokenizer = load_tokenizer(smoke_run / "tokenizer.json")
    page = visit()
    for _ in range(soak_count(20)):
        texts = []
        for _ in range(100):
            text = "".join(chance.choices(HOSTILE, k=2))
            cut = sorted(chance.choices(range(len(text)), k=2))
            texts.append(
                text[: cut[0]] + chr(chance.choice((*range(160), *range(0x2000, 0x2070)))) + text[cut[1] :]
            )
        documents = [tokenizer.encode(text).ids for text in texts]
        assert told(page, smoke_run, documents) == [clean(text) for text in texts]


SEEKS = """async ([begun, deltas, steps, snapshot]) => {
  const { History } = await import("/static/history.js");
  const history = new History(begun, 0);
  history.append(0, deltas.slice(0, 5));
  if (snapshot) history.snapshot(snapshot); // it fell far behind
  history.append(snapshot?.at ?? 3, deltas.slice(snapshot?.at ?? 3)); // as after a lost connection
  return steps.map(step => {
    const before = [...history.tokens];
    const changed = history.seek(step);
    const others = before.every((token, i) => token === history.tokens[i] || changed.has(i));
    return [[...history.tokens], [...history.masked], [...history.when], others];
  });
}"""


def test_a_history_goes_to_any_step(visit):
    """Against a plain replay from the start: places are written, masked again, and written again."""
    chance = random.Random(2)
    size, head = 12, 30
    tokens = [0] * size
    begun = {"trajectory": 1, "tokens": tokens, "given": tokens, "pinned": []}
    deltas, states = [], [(tokens, [1] * size, tokens)]
    for k in range(1, head + 1):
        at = chance.sample(range(size), chance.randint(0, 3))
        new = [chance.choice((0, chance.randint(1, 9))) for _ in at]
        now = [dict(enumerate(values)) for values in states[-1]]
        for place, token in zip(at, new, strict=True):
            for values, value in zip(now, (token, int(not token), k), strict=True):
                values[place] = value
        states.append(tuple(list(values.values()) for values in now))
        written = [[[token, 0.5]] for token in new if token]
        sure = [0.5 if token else 0 for token in new]
        masked = [int(not token) for token in new]
        deltas.append(
            {"step": k, "at": at, "tokens": new, "masked": masked, "confidence": sure, "top_k": written}
        )
    steps = [*chance.choices(range(head + 1), k=60), -1, head + 9]
    page, middle = visit(), 20
    names = dict(zip(("tokens", "masked", "when"), states[middle], strict=True))
    sure = [0.5 * (not masked) for masked in names["masked"]]
    for first, snapshot in ((0, None), (middle, names | {"at": middle, "confidence": sure})):
        found = page.evaluate(SEEKS, [begun, deltas, steps, snapshot])
        for step, (*state, others) in zip(steps, found, strict=True):
            assert tuple(state) == states[min(max(step, first), head)] and others


def test_the_page_is_small_and_has_nothing_inline():
    files = sorted(PAGE.iterdir())
    assert {path.suffix for path in files} == {".html", ".css", ".js", ".svg"}
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= 60 * 1024
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]* src=)|<style", html)
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), (
            path.name
        )
        addresses = re.findall(r"https?://[^\s\"']+", text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name
