"""Small books for the tests of data_prep: generated, so that a test knows every word in them."""

import random

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
