"""From a book to a data directory: read, split, fit on the training split, choose, encode, write."""

from __future__ import annotations

import shutil
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_prep import curriculum, embed, leak, segment
from data_prep.config import PREPARATION_VERSION, SCHEMA_VERSION, SPLITS, STAGES, PrepConfig, PrepError
from data_prep.importance import TokenImportance
from data_prep.inputs import outside_inputs
from data_prep.languages import LANGUAGES, Language, find_language
from data_prep.levels import describe_levels, sentence_levels, vocabulary_levels
from data_prep.pairs import Pair, find_pairs
from data_prep.paragraphs import FOOTNOTE, HEADING, KINDS
from data_prep.pretrained import VECTORS, open_embedder
from data_prep.read import MAX_MEGABYTES, Book, Corpus, read_corpus
from data_prep.records import Encoder, pair_records, remembering, sentence_records
from data_prep.report import write_report
from data_prep.rescore import Losses, open_losses, sentence_starts
from data_prep.scores import Scores, score_sentences
from data_prep.segment import Chapter, Sentence
from data_prep.table import TABLE, write_table
from data_prep.tokenizer import SPECIALS, keep_tokenizer
from data_prep.vocabulary import fit_tokenizer, token_counts
from data_prep.writer import (
    DATASET,
    REPORT,
    TOKENIZER,
    Record,
    finished,
    ids_dtype,
    replaced_directory,
    sha256,
    write_json,
    write_shard,
)

LIBRARIES = ("array-record", "msgpack", "numpy", "scipy", "tokenizers")


def prepare(
    book: str | Path | Sequence[str | Path],
    out: Path,
    config: PrepConfig,
    progress: Callable[[str], None] = lambda line: None,
    *,
    tokenizer: Path | None = None,
    vectors: Path = VECTORS,
    accept: Callable[[dict[str, Any]], None] = lambda dataset: None,
    max_megabytes: float = MAX_MEGABYTES,
    rescore: Path | None = None,
    report: bool = False,
) -> dict[str, Any]:
    """Write the data directory ``out`` for ``book`` and return its dataset.json.

    Returns at once if ``out`` was already made from the same book and config and is intact. ``out`` appears
    complete or not at all, and the same book and config give the same bytes.

    Args:
        book: what :func:`data_prep.read.read_corpus` reads: a file or folder, ``gutenberg:84``, ``-`` for
            standard input, or several of these as one corpus.
        out: the directory to make; an older data directory there is replaced.
        config: settings.
        progress: called with one line per step.
        tokenizer: a tokenizer.json to keep instead of training one, for a model that knows it already.
        vectors: the folder where sentence vectors of bert: and st: are kept for the next preparation.
        accept: called with what will be dataset.json; if it raises, nothing is written.
        max_megabytes: a larger book is refused. It changes no byte of the result.
        report: write data_report.html too, a page for a person; it is no part of the data.
        rescore: a file of losses per sentence, as :func:`data_prep.rescore.read_losses` reads it.

    Raises:
        PrepError: the book, the settings or the place cannot be used.
    """
    out = Path(out)
    source = read_corpus(book, max_megabytes)
    embedder = open_embedder(config.embedder, vectors)
    kept = None if tokenizer is None else keep_tokenizer(tokenizer)
    identity = embedder.fingerprint if embedder else None
    losses = open_losses(rescore) if rescore else None
    inputs = outside_inputs(config) | ({"losses": losses.sha256} if losses else {})
    if dataset := finished(out, source, config, identity, tokenizer, inputs):
        accept(dataset)
        progress(f"{out} is up to date")
        if report and not (out / REPORT).exists():
            write_report(out, dataset)
        return dataset
    for line in source.report():
        progress(line)
    if (out / DATASET).exists():
        progress(f"what was prepared in {out} before will be replaced")
    with replaced_directory(out) as scratch:
        dataset = _prepare(source, scratch, config, kept, embedder, losses, progress)
        if tokenizer is not None:
            shutil.copyfile(tokenizer, scratch / TOKENIZER)
        dataset["tokenizer"] = {"file": TOKENIZER, "sha256": sha256(scratch / TOKENIZER), "kept": bool(kept)}
        dataset["inputs"] = inputs
        accept(dataset)
        write_json(scratch / DATASET, dataset)
        if report:
            write_report(scratch, dataset)
    if report:
        progress(f"{out / REPORT} shows what was made of the book")
    return dataset


def split_book(
    documents: Sequence[Book], config: PrepConfig
) -> tuple[list[Chapter], dict[str, list[int]], str]:
    """Chapters, the indices of each split's, and their kind: "chapters", or "blocks" for want of chapters.

    The chapters of all documents follow one another; none spans two.
    """
    chapters, kind = [], "chapters"
    for doc, book in enumerate(documents):
        chapters += [replace(found, doc=doc) for found in segment.chapters(book.text, book.headings)]
    if len(chapters) < segment.MIN_CHAPTERS:
        chapters, kind = segment.as_blocks(chapters), "blocks"
    sizes = [len(chapter.text.encode()) for chapter in chapters]
    return chapters, segment.hold_out(sizes, config.held_out_fraction, config.split_seed), kind


def _prepare(
    source: Corpus,
    folder: Path,
    config: PrepConfig,
    kept: Tokenizer | None,
    embedder: embed.Embedder | None,
    losses: Losses | None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    chapters, splits, kind = split_book(source.documents, config)
    docs = [chapter.doc for chapter in chapters]
    split_of_chapter = np.zeros(len(chapters), int)
    for s, split in enumerate(SPLITS):
        split_of_chapter[splits[split]] = s
    language = _language(chapters, splits["train"], config)
    sentences = segment.book_sentences(chapters, language)
    progress(f"{len(chapters)} {kind}, {len(sentences)} sentences, language {language.code}")

    paragraphs = [p.text + "\n\n" for chapter in chapters for p in chapter.paragraphs]
    places = [(c, p) for c, chapter in enumerate(chapters) for p in range(len(chapter.paragraphs))]
    chapter_of = np.array([c for c, _ in places])
    leaked = leak.leaked_paragraphs(chapters, split_of_chapter)
    train = (split_of_chapter[chapter_of] == 0) & np.array([place not in leaked for place in places], bool)
    if not train.any():
        raise PrepError(
            "all of the training text stands in held-out chapters too; give a book, not a refrain"
        )
    texts = [text for text, use in zip(paragraphs, train, strict=True) if use]
    tokenizer, vocabulary_table = fit_tokenizer(texts, config, kept)
    vocab_size = tokenizer.get_vocab_size()
    progress(f"tokenizer of {vocab_size} tokens{', kept from another run' if kept else ''}")

    encoded = remembering(tokenizer)
    ids = encoded(paragraphs)
    importance = TokenImportance(ids, chapter_of, train, vocab_size, config.importance)
    counts = token_counts([i for i, use in zip(ids, train, strict=True) if use], vocab_size)
    levels = vocabulary_levels(counts)
    starts = sentence_starts(chapters, places, sentences, ids, tokenizer)
    refinement = [
        Record(i, importance(i, c), c, p, bytes=len(text.encode()), sentences=begin)
        for i, (c, p), text, begin in zip(ids, places, paragraphs, starts, strict=True)
    ]
    refined: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for record in refinement:
        if (record.chapter, record.paragraph) not in leaked:
            refined[SPLITS[split_of_chapter[record.chapter]]].append(record)
    level = sentence_levels(encoded, levels, sentences) if config.vocabulary_level else None
    scores, vectors, scored = score_sentences(
        chapters, sentences, split_of_chapter, language, level, config, embedder, losses, leaked, progress
    )
    pairs = find_pairs(sentences, vectors, ~np.isin(scores.kind, (HEADING, FOOTNOTE)), language)
    chosen, selected = _choose(
        chapters, sentences, split_of_chapter, scores, pairs, leaked, refined, encoded, config, progress
    )
    # A foundational sentence weighs by its rank as a prototype; even the least stays worth a tenth.
    weights = np.maximum(10.0, scores.centrality).round(2) / 100
    write_table(folder / TABLE, chapters, sentences, chosen["foundational"], scores)
    records = {
        "foundational": sentence_records(encoded, importance, sentences, weights, chosen["foundational"]),
        "structural": pair_records(encoded, importance, sentences, pairs, chosen["structural"]),
        "refinement": refined,
    }
    (folder / TOKENIZER).write_bytes(tokenizer.to_str(pretty=True).encode())  # `save` raises no OSError
    dtype = ids_dtype(vocab_size)
    return {
        "schema_version": SCHEMA_VERSION,
        "preparation_version": PREPARATION_VERSION,
        "book": {
            "name": source.name,
            "sha256": source.sha256,
            "title": _title(source, chapters),
            "bytes": source.bytes,
            "documents": [
                {
                    "name": book.name,
                    "title": book.title,
                    "kind": book.kind,
                    "encoding": book.encoding,
                    "boilerplate_lines_removed": book.boilerplate_lines,
                    "bytes": book.bytes,
                    "sha256": book.sha256,
                    "chapters": [first := bisect_left(docs, doc), bisect_right(docs, doc) - first],
                }
                for doc, book in enumerate(source.documents)
            ],
        },
        "config": config.to_dict(),
        "special_ids": {name.strip("[]").lower(): i for i, name in enumerate(SPECIALS)},
        "vocab_size": vocab_size,
        "vocab_rows": -(-vocab_size // 64) * 64,
        "ids_dtype": {"<u2": "uint16", "<u4": "uint32"}[dtype],
        "stages": {
            stage: {
                split: write_shard(folder, stage, split, records[stage][split], dtype, docs)
                for split in SPLITS
            }
            for stage in STAGES
        },
        "split": {
            "seed": config.split_seed,
            "kind": kind,
            "chapters": splits,
            "titles": [chapter.title for chapter in chapters],
        },
        "versions": {
            "python": "{}.{}".format(*sys.version_info[:2]),
            **{name: version(name) for name in LIBRARIES},
        },
        "table": {"file": TABLE, "sha256": sha256(folder / TABLE)},
        "vocabulary_levels": describe_levels(levels),
        "vocabulary_table": vocabulary_table,
        "paragraphs": {kind: sum(p.kind == kind for c in chapters for p in c.paragraphs) for kind in KINDS},
        "language": {
            "code": language.code,
            "found_by": "stop words" if config.language == "auto" else "setting",
            "pairs": "connectives" if language.reasons else "cohesion only",
        },
        **scored,
        **selected,
    }


def _language(chapters: Sequence[Chapter], train: Sequence[int], config: PrepConfig) -> Language:
    """The language of the settings, else that of the training split."""
    if config.language != "auto":
        return LANGUAGES[config.language]
    return find_language(chapters[c].text for c in train)


def _title(source: Corpus, chapters: Sequence[Chapter]) -> str | None:
    """The title that the one document names, else a short first line before its first chapter."""
    if len(source.documents) > 1:
        return None
    [book] = source.documents
    first = book.text.lstrip().split("\n", 1)[0].strip()
    return book.title or (
        first if len(first) <= 80 and not first[:1].islower() and first not in chapters[0].text else None
    )


def _choose(
    chapters: Sequence[Chapter],
    sentences: Sequence[Sentence],
    split_of_chapter: np.ndarray,
    scores: Scores,
    pairs: Sequence[Pair],
    leaked: set[tuple[int, int]],
    refinement: dict[str, list[Record]],
    encoded: Encoder,
    config: PrepConfig,
    progress: Callable[[str], None],
) -> tuple[dict[str, dict[str, list[int]]], dict[str, Any]]:
    """The sentences and pairs of the early stages, by split; and the report of it for dataset.json.

    ``leaked`` are the (chapter, paragraph) of the training paragraphs that stand in held-out text too.
    """

    def tokens(stage: str, items: list[int]) -> int:
        if stage == "foundational":
            return sum(map(len, encoded([sentences[i].lead + sentences[i].text for i in items])))
        parts = [text for i in items for text in (pairs[i].evidence, pairs[i].claim)]
        return sum(map(len, encoded(parts))) + len(items)  # the separators

    held_out = leak.held_out_text(chapters, split_of_chapter)
    chosen, dropped, told = curriculum.select(
        scores,
        pairs,
        leak.leaked_examples(held_out, sentences, pairs, leaked),
        tokens,
        {split: len(records) for split, records in refinement.items()}
        | {"tokens": sum(len(record.ids) for record in refinement["train"])},
        config,
    )
    dropped["refinement"] = len(leaked)
    last = {(step["stage"], step["split"]): step for step in told["relaxations"]}
    for (stage, split), step in last.items():
        progress(f"wider thresholds for {stage} ({split}), short of {step['floor']}: {step['examples']} now")
    if not told["verdict"]["balanced"]:
        progress(f"curriculum {told['verdict']['text']}")
    if any(dropped.values()):
        progress(f"dropped, for standing in held-out chapters too: {dropped}")
    tiers = {
        split: {str(tier): sum(pairs[i].tier == tier for i in items) for tier in (1, 2, 3)}
        for split, items in chosen["structural"].items()
    }
    unit = dict(zip(("ngram", "unit"), leak.run_length(held_out), strict=True))
    return chosen, {"curriculum": told | {"pair_tiers": tiers}, "leaks": unit | {"dropped": dropped}}
