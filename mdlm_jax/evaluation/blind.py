"""python -m mdlm_jax.evaluation.blind: which one is the book? A passage of it beside one the run wrote.

In the terminal, or as a page for others (--page) whose answers are taken in by --add; --results has what all
readers found. A test is made once, by its seed, and kept in the run's human/; the same command goes on.
"""

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_jax.evaluation import readers
from mdlm_jax.evaluation.readers import SKIPPED, HumanError
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.ui import cli, quiz
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.request import Request
from mdlm_jax.ui.values import holds_else, write_text

Values = dict[str, Any]

MOST = 200  # pairs
WORDS = (5, 400)
TRIES = 4  # lengths, each twice the last, until a text has words enough


def parser() -> cli.Parser:
    """The command line."""
    p = cli.Parser(
        prog="python -m mdlm_jax.evaluation.blind",
        description="A blind test: which of two passages is the book, and which one did the run write?",
        formatter_class=cli.Defaults,
    )
    p.add_argument("--workdir", required=True, type=Path, help="the run")
    p.add_argument("--pairs", type=int, default=20, help=f"1 to {MOST}")
    p.add_argument("--words", type=int, default=40, help="of each passage")
    p.add_argument("--from", dest="source", choices=("held_out", "train"), default="held_out",
                   help="chapters that the book's passages are taken from")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="another seed, another test")
    p.add_argument("--samples", action="store_true", help="texts in the run's samples/, written without a "
                   "prompt, instead of new ones")  # fmt: skip
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="averaged or last weights")
    p.add_argument("--data", type=Path, help="the run's shards, where they are not in <workdir>/data")
    p.add_argument("--name", help="of the reader, in the record")
    p.add_argument("--tell", action="store_true", help="say after each pair whether it was right")
    instead = p.add_mutually_exclusive_group()
    instead.add_argument(
        "--page", type=Path, metavar="FILE.html", help="write the test as a page, for others"
    )
    instead.add_argument("--add", type=Path, metavar="FILE.json", help="take in what the page has saved")
    instead.add_argument("--results", action="store_true", help="what all readers found")
    return p


def saved_texts(workdir: Path, words: int, generator: np.random.Generator) -> list[Values]:
    """The texts in samples/ that were written without a prompt and have words enough, each once."""
    from mdlm_jax.evaluation.passages import cut

    found: dict[str, Values] = {}
    for path in sorted((workdir / "samples").glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            prompted = told["prompt"] or told["ending"]
            whole = "" if prompted else told["text"]
            text = cut(whole, words, words, generator) or cut(whole, words, 1, generator)
            origin = {n: told[n] for n in ("seed", "checkpoint", "model_hash", "sampler")}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # no text of the run
        if text is not None:
            found.setdefault(whole, {"run": text, "sample": path.name} | origin)
    return list(found.values())


def written(
    run: Any, number: int, words: int, per_word: float, generator: np.random.Generator
) -> list[Values]:
    """`number` passages of `words` words that the run writes now, by its own settings. Raises HumanError.

    `python -m mdlm_jax.sample` writes the whole text anew by the seed and the length that are kept.
    """
    from mdlm_jax.evaluation.candidates import LONGEST, generate
    from mdlm_jax.evaluation.passages import cut
    from mdlm_jax.generation import finish

    made: list[Values] = []
    shortest, progress = int((2 * words + 1) * per_word * 1.25) + 8, PlanProgress(number)
    lengths = [min(shortest * 2**i, LONGEST) for i in range(TRIES)]
    try:
        for seed in generator.choice(2**31, number, replace=False).tolist():
            for length in lengths:
                told = finish(generate(run, Request(length=length, seed=seed), run.config.sampling))
                if (text := cut(told["text"], words, words, generator)) is not None:
                    break
            else:
                raise HumanError(
                    f"the run writes too few words: not {2 * words + 1} in {length} tokens; train it on"
                )
            made.append({"run": text, "seed": seed, "length": length})
            progress.update(len(made), f"{len(made)} of {number} texts")
    finally:
        progress.stop()
    return made


def in_pairs(texts: list[Values], found: list[Values], generator: np.random.Generator) -> list[Values]:
    """What was written beside what was found; "answer": which of the two is the book, by a fair coin each."""
    coins = generator.integers(1, 3, len(texts)).tolist()
    return [text | old | {"answer": side} for text, old, side in zip(texts, found, coins, strict=True)]


def make_test(workdir: Path, data: Path, asked: Values) -> Values:
    """Makes the test that is asked for and keeps it; `asked`: "seed", "pairs", "words", "from", and "texts",
    which weights are to write them ("ema" or "params"), or "samples" for those that are saved.

    Raises HumanError, PassagesError, RunError, CheckpointError or DataError.
    """
    number: int = asked["pairs"]
    words: int = asked["words"]
    if not (workdir / "report" / "report.json").exists():
        print(f"{workdir} is not finished: what it has learned so far writes", file=sys.stderr)
    print(f"loading {workdir} ...", file=sys.stderr, flush=True)
    from mdlm_jax.evaluation.losses import dataset_of
    from mdlm_jax.evaluation.passages import check_room, matched, passages
    from mdlm_jax.run_directory import cache_compilations, load
    from mdlm_jax.tokenizer import load_tokenizer

    dataset, generator = dataset_of(workdir, data), np.random.default_rng(asked["seed"])
    book, per_word = passages(dataset, load_tokenizer(workdir / "tokenizer.json"), asked["from"])
    check_room(book, number, words)
    made: Values = {"checkpoint": None, "model_hash": None, "sampling": None}  # samples say so themselves
    if asked["texts"] == "samples":
        texts = saved_texts(workdir, words, generator)
        if len(texts) < number:
            told = (
                f"{workdir / 'samples'} has {len(texts)} texts of {words} words and no prompt, not {number}"
            )
            raise HumanError(f"{told}; take fewer --pairs, or leave out --samples")
        texts = [texts[i] for i in generator.permutation(len(texts))[:number]]
    else:
        cache_compilations(Path(__file__).resolve().parents[2] / ".jax_cache")
        run = load(workdir, asked["texts"])
        made = {"checkpoint": run.checkpoint, "model_hash": run.model_hash}
        made["sampling"] = dataclasses.asdict(run.config.sampling)
        print("writing (the first text takes a moment: it compiles) ...", file=sys.stderr, flush=True)
        texts = written(run, number, words, per_word, generator)
    found = matched(book, [text["run"] for text in texts], words, generator)
    pairs = in_pairs(texts, found, generator)
    about = {name: dataset.info["book"][name] for name in ("name", "sha256")}
    return readers.save_test(workdir, {"asked": asked, "book": about, "pairs": pairs} | made)


def sides(pair: Values) -> tuple[str, str]:
    """The two texts of a pair in the order in which they are shown."""
    return (pair["book"], pair["run"]) if pair["answer"] == 1 else (pair["run"], pair["book"])


def page_data(test: Values, tell: bool) -> Values:
    """What the page holds: texts, keys of the right answers, and what each number of right ones means."""
    total, salt = len(test["pairs"]), test["id"]
    sentences: dict[str, int] = {}
    outcomes = []
    for n in range(total + 1):
        rows = []
        for right in range(n + 1):
            low, high = readers.interval(right, n)
            told = sentences.setdefault(readers.meaning(right, n), len(sentences))
            rows.append([round(100 * low), round(100 * high), told])
        outcomes.append(rows)
    pairs = [
        {"texts": [quiz.shown(text) for text in sides(pair)], "key": readers.key(salt, i, pair["answer"])}
        for i, pair in enumerate(test["pairs"])
    ]
    data = {"test": test["id"], "salt": salt, "tell": tell, "pairs": pairs}
    return data | {"outcomes": outcomes, "sentences": list(sentences)}


def outcome(test: Values, found: dict[int, Values], who: str | None = None) -> str:
    """The end of a test: the score, its interval, what it means, and what fooled the reader.

    The reader is spoken to ("You"), or spoken of as `who`, "" for one without a name.
    """
    counted = [a for a in found.values() if a["choice"] != SKIPPED]
    right, n = sum(a["right"] for a in counted), len(counted)
    name = "You" if who is None else who or "The reader"
    if not n:
        return f"{name} answered no pair."
    lines = [f"{name} found the book in {right} of {n} pairs: {readers.percent(right, n)}."]
    lines += [readers.meaning(right, n, name)]
    skipped = len(test["pairs"]) - n
    again = ", which the same command asks again" if who is None else ""
    lines += [f"Skipped: {skipped}{again}."] * (skipped > 0)
    fooled = [sides(test["pairs"][a["pair"]])[a["choice"] - 1] for a in counted if not a["right"]]
    lines += ["", "Written by the run, taken for the book:"] * bool(fooled)
    return "\n\n".join(["\n".join(lines), *map(quiz.shown, fooled)])


def into_report(workdir: Path) -> str:
    """How answers come into the report."""
    draw = shlex.join(["python", "-m", "mdlm_jax.evaluate", "--workdir", str(workdir), "--draw"])
    return f"{draw} brings it into the report"


def take(workdir: Path, test: Values, who: str, tell: bool) -> None:
    """Asks on the terminal what this reader has not answered yet, and prints the end when all is asked."""
    found = readers.answered(workdir, test, who)
    left = [i for i in range(len(test["pairs"])) if not found.get(i, {}).get("choice")]
    questions = ((i, *sides(test["pairs"][i])) for i in left)

    def answer(pair: int, choice: int, seconds: float) -> bool | None:
        return readers.answer(workdir, test, who, pair, choice, seconds)

    finished = quiz.ask(questions, len(test["pairs"]), answer, tell)
    found = readers.answered(workdir, test, who)
    if finished:
        print(outcome(test, found))
        print(f"\n{into_report(workdir)}")
    else:
        done = sum(a["choice"] != SKIPPED for a in found.values())
        told = f", {len(found) - done} skipped" if len(found) > done else ""
        print(f"{done} of {len(test['pairs'])} answered and kept{told}; the same command goes on")


def check(a: Any) -> None:
    """Refuses what can be seen to be wrong without a run. Raises HumanError or UsageError."""
    ranges = {"pairs": (1, MOST), "words": WORDS, "seed": (0, 2**32 - 1)}
    for name, (least, most) in ranges.items():
        if not least <= getattr(a, name) <= most:
            raise HumanError(f"--{name} must be from {least} to {most}, not {getattr(a, name)}")
    if a.name is not None:
        readers.check_name(a.name)
    if a.page and (a.page.is_dir() or not a.page.absolute().parent.is_dir()):
        raise HumanError(f"--page: {a.page} cannot be written; name a file in a directory that exists")
    if a.page and holds_else(a.page, quiz.SIGN):
        raise HumanError(f"--page: {a.page.absolute()} holds something else; name another file")
    if a.page and a.page.suffix.lower() not in (".html", ".htm"):
        raise HumanError(f"--page: {a.page} is no name of a page; name a file that ends in .html")
    if not (a.workdir / "config.json").exists():
        raise HumanError(no_run(a.workdir))


def run_command() -> None:
    """Makes the test where it is not made yet, and asks, writes or counts. Raises UserErrors, a line each."""
    a = parser().parse_args()
    check(a)
    if a.results:
        print(readers.results(a.workdir))
        return
    if a.add:
        test, who = readers.add(a.workdir, a.add, a.name)
        print(outcome(test, readers.answered(a.workdir, test, who), who))
        print(f"\n{into_report(a.workdir)}")
        return
    asked = {"seed": a.seed, "pairs": a.pairs, "words": a.words, "from": a.source}
    asked["texts"] = "samples" if a.samples else a.weights
    same = [test for test in readers.tests(a.workdir) if test["asked"] == asked]
    test = same[0] if same else make_test(a.workdir, a.data or a.workdir / "data", asked)
    if a.page:
        write_text(a.page, quiz.page(page_data(test, a.tell)))
        print(f"{a.page} holds the test: open it in a browser, or send it to a reader")
    else:
        take(a.workdir, test, a.name or "", a.tell)


def main() -> int:
    """The exit code: 0, 2 after one line about what is wrong, 130 when interrupted."""
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    return cli.run(run_command, "what was answered is kept, and the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
