"""Evidence -> Claim pairs by discourse connectives: Toulmin's grounds and claim in their simplest form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.segment import Sentence
from data_prep.text import words

MIN_CLAUSE_WORDS = 3
WEIGHTS = {1: 1.0, 2: 0.8, 3: 0.5}  # trust in a tier's precision

_SUBJECT = r"(?:I|he|she|it|we|they|you|there|nothing|nobody|no one|none|if|when|this is|that is)"
_EDGES = ' ,;:—-\n“”"‘’'
_QUOTES = re.compile(r"[“”\"‘]|’ ")
_BREAK = re.compile(r"[;:—]|--")
_DENIED = re.compile(
    r"\b(?:not|n[’']t) (?:suppose|think|imagine|believe)\b"
)  # no reason follows "not because"
# "Claim because evidence": in books "for" gives a reason when a subject follows, and "since" after a comma.
_REASON = re.compile(
    r"(?P<claim>.+?)[,;:—-]* ?\b(?P<connective>(?<!just )(?<!not )(?<!only )(?<!simply )because(?! of\b)"
    rf"|(?<=, )since(?= (?!then|that time|the (?:day|time|death)|last))|(?<=[,;] )for(?= {_SUBJECT} )"
    r"|inasmuch as|seeing that|for the reason that)\b,? (?P<evidence>.+)",
    re.DOTALL,
)
# "Because evidence, claim".
_FRONTED = re.compile(
    r"(?P<connective>Because(?! of\b)|Inasmuch as|Seeing that) (?P<evidence>[^,;]+), (?P<claim>.+)", re.DOTALL
)
# "Evidence; therefore claim".
_RESULT = re.compile(
    r"(?P<evidence>.+?)(?:[;:—] ?(?:and )?|, and )"
    r"(?P<connective>therefore|thus|hence|consequently|accordingly|as a result)\b"
    r",? (?P<claim>.+)",
    re.DOTALL,
)
_CONSEQUENCE = re.compile(
    r"[“\"‘'—-]*(?P<connective>Therefore|Thus(?=,)|Hence|Consequently|Accordingly|As a result|For this reason"
    r"|It follows"
    r"|That is why|This is why|Wherefore|And so|And therefore|So(?=,? (?:I|he|she|it|we|they|you|the)\b))\b"
)
_MARKER = re.compile(
    r"\b(must|should|ought to|cannot but|surely|certainly|clearly|evidently|undoubtedly|doubtless|no doubt"
    r"|of course|it is (?:clear|plain|certain|true)|I (?:believe|think|am sure|am certain|am convinced))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Pair:
    """Evidence and claim texts, each with the white space that leads it; ``claim_at`` and ``evidence_at``
    index the sentences they come from (equal in tier 1)."""

    evidence: str
    claim: str
    tier: int
    connective: str
    weight: float
    evidence_at: int
    claim_at: int


def within_sentence(text: str) -> tuple[str, str, str] | None:
    """(evidence, claim, connective) of a tier-1 sentence, or None.

    The clauses are slices of the sentence, at least three words each, without the connective. What lies
    beyond a semicolon, colon or dash belongs to neither.
    """
    for pattern in (_FRONTED, _REASON, _RESULT):
        if not (match := pattern.match(text)):
            continue
        first, second = sorted(("evidence", "claim"), key=match.start)
        parts = {first: _BREAK.split(match[first].strip(_EDGES))[-1]}
        parts[second] = _BREAK.split(match[second].strip(_EDGES))[0]
        evidence, claim = (parts[name].strip(_EDGES) for name in ("evidence", "claim"))
        if min(len(words(evidence)), len(words(claim))) < MIN_CLAUSE_WORDS:
            continue
        if not _DENIED.search(claim) and not _QUOTES.search(evidence + claim):  # no speech and its tag
            return evidence, claim, match["connective"].lower()
    return None


def consequence(text: str) -> str | None:
    """The connective of a sentence that opens as the consequence of the one before (tier 2), or None."""
    match = _CONSEQUENCE.match(text)
    return match["connective"].lower() if match else None


def claim_marker(text: str) -> str | None:
    """The first word that marks a sentence as a claim (tier 3), or None."""
    match = _MARKER.search(text)
    return match[1].lower() if match else None


def find_pairs(sentences: Sequence[Sentence], vectors: np.ndarray, allowed: np.ndarray) -> list[Pair]:
    """Every candidate pair among ``allowed`` sentences (bool[n]), in reading order; no claim is used twice.

    Tier 1 lies within a sentence; tiers 2 and 3 pair neighbours of one chapter. In tier 3 the weight adds
    the neighbours' cohesion (cosine of ``vectors``, float32[n, d] unit rows) to half a point for a marker.
    """
    found = []
    for i, sentence in enumerate(sentences):
        if not allowed[i]:
            continue
        if inner := within_sentence(sentence.text):
            evidence, claim, connective = inner
            leads = [sentence.lead if sentence.text.startswith(part) else " " for part in (evidence, claim)]
            found.append(Pair(leads[0] + evidence, leads[1] + claim, 1, connective, WEIGHTS[1], i, i))
            continue
        if not i or not allowed[i - 1] or sentences[i - 1].chapter != sentence.chapter:
            continue
        before = sentences[i - 1]
        evidence, claim = before.lead + before.text, sentence.lead + sentence.text
        near = sentence.paragraph - before.paragraph <= 1
        asked = before.text.rstrip("\"'”’)").endswith("?")  # a question is no evidence
        if near and not asked and (opening := consequence(sentence.text)):
            found.append(Pair(evidence, claim, 2, opening, WEIGHTS[2], i - 1, i))
        elif near:
            marker = claim_marker(sentence.text)
            cohesion = max(0.0, float(vectors[i - 1] @ vectors[i]))
            trust = min(1.0, cohesion + (0.5 if marker else 0.0)) * (0.5 if asked else 1.0)
            weight = round(WEIGHTS[3] * trust, 4)
            found.append(Pair(evidence, claim, 3, marker or "", weight, i - 1, i))
    return found
