"""The blind test: what is asked, that nothing but the writing tells the two apart, and what is kept."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO, built_in_chapters, indivisible, soak_count
from pseudo_terminal import STYLE, Session

from mdlm_jax.data import open_dataset, read_records
from mdlm_jax.evaluation import blind, readers
from mdlm_jax.evaluation.passages import Passages, PassagesError, cut, matched, normal, words_of
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.ui import quiz

WORDS = 12
OPTIONS = ("--pairs", "6", "--words", str(WORDS))


def command(workdir, *options) -> list[str]:
    given = map(str, (workdir, *OPTIONS, *options))
    return [sys.executable, "-m", "mdlm_jax.evaluation.blind", "--workdir", *given]


@pytest.fixture(scope="module")
def made_run(smoke_run, child_env, tmp_path_factory):
    """A copy of the run with its shards, and its test, made without an answer."""
    workdir = tmp_path_factory.mktemp("blind") / "run"
    shutil.copytree(smoke_run, workdir, ignore=shutil.ignore_patterns("events*", "lock"))
    (workdir / "samples").mkdir(exist_ok=True)
    done = subprocess.run(command(workdir), cwd=REPO, env=child_env, capture_output=True, text=True, input="")
    assert done.returncode == 0, done.stderr
    assert "0 of 6 answered and kept; the same command goes on" in done.stdout
    assert "\x1b" not in done.stdout and done.stdout.count("Which one is the book?") == 1
    return workdir


@pytest.fixture
def run(made_run, tmp_path):
    """The same with nothing answered."""
    return shutil.copytree(made_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "data"))


def invoke(monkeypatch, capsys, workdir, *options) -> tuple[int, str, str]:
    """Exit code and streams of the command, in this process."""
    monkeypatch.setattr(sys, "argv", command(workdir, *options)[2:])
    code = blind.main()
    return code, *capsys.readouterr()


def only_test(workdir) -> dict:
    [test] = readers.tests(workdir)
    return test


# What is asked.


def test_pairs_are_of_the_book_and_of_the_run(made_run):
    test = only_test(made_run)
    dataset, tokenizer = open_dataset(made_run / "data"), load_tokenizer(made_run / "tokenizer.json")
    spans = set()
    for pair in test["pairs"]:
        assert [len(words_of(pair[who])) for who in ("book", "run")] == [WORDS, WORDS]
        assert pair["book"] == normal(pair["book"]) and pair["run"] == normal(pair["run"])
        assert "[MASK]" not in pair["run"] and "\ufffd" not in pair["run"]
        spans |= {(pair["chapter"], pair["word"] + i) for i in range(WORDS)}
    assert len(spans) == 6 * WORDS  # none comes twice
    chapters = {}
    for split in ("validation", "test"):
        for record in read_records(dataset, "refinement", split):
            text = tokenizer.decode(record.ids.tolist())
            chapters[record.chapter] = chapters.get(record.chapter, "") + text
    for pair in test["pairs"]:  # each stands in its held-out chapter, where it says
        there = words_of(normal(chapters[pair["chapter"]]))
        assert "".join(there[pair["word"] :][:WORDS]).rstrip() == pair["book"]
    assert len({pair["seed"] for pair in test["pairs"]}) == 6 and test["model_hash"]


@indivisible
@pytest.mark.soak
def test_texts_can_be_written_again(made_run, child_env, tmp_path):
    """By the command that writes, from the seed and the length in the record."""
    pair = only_test(made_run)["pairs"][0]
    again = shutil.copytree(made_run, tmp_path / "run", ignore=shutil.ignore_patterns("data"))
    told = ["--seed", str(pair["seed"]), "--length", str(pair["length"])]
    sample = [sys.executable, "-m", "mdlm_jax.sample", "--workdir", str(again), *told]
    done = subprocess.run(sample, cwd=REPO, env=child_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pair["run"] in normal(done.stdout.partition("---\n")[2])


def book_of(chapters: int) -> Passages:
    """Chapters of the built-in book, as one stretch each."""
    found = Passages([], [])
    for number, part in enumerate(re.split(r"(?m)^Chapter \d+$", built_in_chapters(chapters))[1:]):
        pieces = words_of(normal(part))
        found.pieces.extend([*pieces, ""])
        found.places.extend((number, i) for i in range(len(pieces) + 1))
    return found


WRITERS = {
    "the same law": lambda pieces: pieces,
    "lower case, no quotes": lambda pieces: [p.replace('"', "").lower() for p in pieces],
    "longer words": lambda pieces: [f"un{p}" if i % 8 == 0 else p for i, p in enumerate(pieces)],
}


def features(text: str) -> list[float]:
    return [len(text), text[0].isupper(), text[-1].isalpha(), text.count('"'), text[0] == '"']


@pytest.mark.parametrize("writer", WRITERS)
def test_form_alone_tells_nothing(writer):
    """Over many tests: who looks only at length, first or last character or quotes is right half the time."""
    book, other = book_of(2), book_of(4).pieces[len(book_of(2).pieces) :]
    higher = np.zeros((0, 5))
    for seed in range(soak_count(300)):
        generator = np.random.default_rng(seed)
        pieces = WRITERS[writer]([piece for piece in other if piece.endswith((" ", "\n"))])
        starts = generator.integers(0, len(pieces) - 20, 10)
        texts = ["".join(pieces[s : s + 20]).strip() for s in starts]
        found = matched(book, texts, 20, generator)
        rows = [
            np.sign(np.subtract(features(f["book"]), features(t))) for f, t in zip(found, texts, strict=True)
        ]
        higher = np.concatenate([higher, rows])
    assert (np.abs(higher.mean(axis=0)) < 0.12 + 2 / np.sqrt(len(higher))).all(), higher.mean(axis=0)


def test_passages_never_overlap_however_full_the_book_is():
    pieces = [f"w{i} " for i in range(35)]
    book = Passages([*pieces, "", *pieces, ""], [(c, i) for c in (3, 4) for i in range(36)])
    for seed in range(20):
        texts = ["some words of it"] * 16
        found = matched(book, texts, 4, np.random.default_rng(seed))
        places = {(f["chapter"], f["word"] + i) for f in found for i in range(4)}
        assert len(places) == 64 and max(word for _, word in places) < 35
    with pytest.raises(PassagesError, match="room for 16 passages of 4 words, not 17"):
        matched(book, [*texts, texts[0]], 4, np.random.default_rng(0))


def test_a_copy_of_the_book_is_the_runs_and_never_beside_itself():
    book = book_of(1)
    copy = "".join(book.pieces[50:62]).rstrip()
    found = [matched(book, [copy], 12, np.random.default_rng(seed))[0] for seed in range(20)]
    assert copy not in [one["book"] for one in found]


def test_the_book_stands_left_and_right_alike():
    """Over seeds, at every place in the order, and whatever stood there before."""
    text = [{"run": "x y z", "seed": i} for i in range(16)]
    sides = []
    for seed in range(200):
        pairs = blind.in_pairs(text, [{"book": "a b c"}] * 16, np.random.default_rng(seed))
        sides.append([pair["answer"] for pair in pairs])
    left = np.array(sides) == 1
    assert abs(left.mean() - 0.5) < 0.04 and np.abs(left.mean(axis=0) - 0.5).max() < 0.15
    assert abs((left[:, 1:] == left[:, :-1]).mean() - 0.5) < 0.04


def test_typography_is_the_same_for_both():
    told = "“Oh!” she said…\n  ‘It’s -- _so_ late.’\n\n\n\nHe\x1b[31m left\ufffd...\r\n"
    assert normal(told) == "\"Oh!\" she said…\n 'It's—so late.'\n\nHe[31m left…".replace("\n ", " ")
    assert "".join(words_of(normal(told))) == normal(told)
    text, generator = "It was the first day of all days that", np.random.default_rng(0)
    found = {cut(text, 3, 2, generator) for _ in range(50)}
    assert found == {"the first day", "first day of", "day of all", "of all days"}
    assert cut(text, 3, 6, generator) is None and cut("我是一只猫我是", 3, 1, generator) in (
        "是一只",
        "一只猫",
        "只猫我",
    )


# The terminal.


def test_answers_in_a_terminal(run, child_env):
    """Keys, nothing said until the end, a quit and the same command again, and what fooled the reader."""
    test = only_test(run)
    right = [pair["answer"] for pair in test["pairs"]]
    keys = [str(right[0]), "s", str(3 - right[2])]
    with Session(command(run), 100, 40, **child_env) as reader:
        for i, key in enumerate([*keys, "q"]):
            reader.until(f"Which one is the book?  {i + 1} of 6")
            reader.until("q quit")
            reader.type("x" + key)
        assert reader.end() == 0
    shown = STYLE.sub("", reader.shown)
    assert "2 of 6 answered and kept, 1 skipped;" in shown and "%" not in shown
    assert not re.search("right|wrong", shown.replace("".join(p["run"] for p in test["pairs"]), ""))
    kept = readers.answers(run)
    assert [(a["pair"], a["choice"], a["right"]) for a in kept] == [
        (0, right[0], True), (1, 0, None), (2, 3 - right[2], False)
    ]  # fmt: skip
    with Session(command(run, "--tell"), 60, 40, **child_env) as reader:
        for i in (1, 3, 4, 5):
            reader.until(f"{i + 1} of 6")
            reader.until("q quit")
            reader.type(str(right[i]))
            reader.until("right")
        assert reader.end() == 0
    told = " ".join(STYLE.sub("", reader.shown).split())
    assert "You found the book in 5 of 6 pairs: 83 % (95 % interval 36 to 100 %; chance is 50 %)." in told
    assert f"{run} --draw brings it into the report" in told
    fooled = told.partition("taken for the book:")[2]
    assert " ".join(test["pairs"][2]["run"].split()) in fooled and test["pairs"][2]["book"] not in fooled


def test_the_end_speaks_to_the_reader_or_of_another(made_run, tmp_path, monkeypatch, capsys):
    """And says how the answers come into the report."""
    run = shutil.copytree(made_run, tmp_path / "a run", ignore=shutil.ignore_patterns("checkpoints", "data"))
    test = only_test(run)
    right = [{"pair": i, "choice": p["answer"], "seconds": 1, "when": "2026-01-02"}
             for i, p in enumerate(test["pairs"][:4])]  # fmt: skip
    for who, told in (("Ann", "Ann found the book in 4 of 4"), ("", "The reader found the book in 4 of 4")):
        (tmp_path / "a.json").write_text(json.dumps({"test": test["id"], "who": who, "answers": right}))
        code, out, _ = invoke(monkeypatch, capsys, run, "--add", tmp_path / "a.json")
        assert code == 0 and told in out and "You" not in out and "same command" not in out
        assert "Skipped: 2." in out and f"mdlm_jax.evaluate --workdir '{run}' --draw brings it" in out
    found = dict(enumerate(readers.answered(run, test, "Ann").values()))
    told = blind.outcome(test, found)
    assert "You found" in told and "Skipped: 2, which the same command asks again." in told


def test_an_interrupt_loses_nothing(run, child_env):
    with Session(command(run, "--name", "Zoë"), 100, 40, **child_env) as reader:
        reader.until("q quit")
        reader.type("1")
        reader.until("2 of 6")
        reader.until("q quit")
        assert reader.end(signal.SIGINT) == 130
    assert [(a["who"], a["pair"]) for a in readers.answers(run)] == [("Zoë", 0)]
    assert "the same command goes on" in reader.shown


def test_panels_never_take_a_text_for_markup():
    hostile = "[bold]x[/x] \x1b[31m [link=http://a.b]"
    console = quiz.Console(width=100, force_terminal=True, color_system=None)
    for width, beside in ((100, True), (60, False)):
        with console.capture() as held:
            console.print(quiz.panels(hostile, "two", width), width=width)
        shown = held.get()
        assert "[bold]x[/x] [31m [link=http://a.b]" in shown.replace("\n", "") and "\x1b[31m" not in shown
        assert any("two" in line and "bold" in line for line in shown.split("\n")) == beside


def test_without_a_terminal_lines_answer(run, child_env):
    done = subprocess.run(
        command(run),
        cwd=REPO,
        env=child_env,
        capture_output=True,
        text=True,
        input="1\nhm\n2\n\n1\n1\n1\n1\n",
    )
    assert done.returncode == 0, done.stderr
    assert "You found the book in" in done.stdout and len(readers.answers(run)) == 6
    assert "loading" not in done.stderr  # the test is made, so nothing is slow


# Saved texts.


def test_saved_texts_without_a_prompt(made_run, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(made_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "human"))
    base = {"ending": "", "checkpoint": "c", "model_hash": "h", "sampler": "s"}
    for i in range(8):
        text = " ".join(f"w{i}x{j}" for j in range(14 + 10 * i))
        told = base | {"text": text, "seed": i, "prompt": "It was" * (i == 7)}
        (run / "samples" / f"{i}.json").write_text(json.dumps(told))
    (run / "samples" / "8.json").write_text(json.dumps(base | {"text": 3, "prompt": ""}))
    (run / "samples" / "9.json").write_text("{")
    code, out, _ = invoke(monkeypatch, capsys, run, "--samples", "--page", tmp_path / "x.html")
    assert code == 0 and "x.html holds the test" in out
    pairs = only_test(run)["pairs"]
    assert {pair["sample"] for pair in pairs} <= {f"{i}.json" for i in range(7)}
    assert len({pair["sample"] for pair in pairs}) == 6
    assert (
        invoke(monkeypatch, capsys, run, "--samples", "--page", tmp_path / "x.html")[0] == 0
    )  # its own page
    (tmp_path / "diary.html").write_text("my diary")
    code, _, err = invoke(monkeypatch, capsys, run, "--samples", "--page", tmp_path / "diary.html")
    assert code == 2 and "holds something else" in err
    assert (tmp_path / "diary.html").read_text() == "my diary"
    code, _, err = invoke(monkeypatch, capsys, run, "--samples", "--pairs", "8")
    assert code == 2 and "samples has 7 texts of 12 words and no prompt, not 8" in err
    assert os.listdir(run / "human") == [f"{only_test(run)['id']}.json"]
