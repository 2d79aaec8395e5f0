"""Train on a book: prepare it if needed, then run every stage of the config.

python launch.py --config configs/three_stage.py:tiny --book my_book.txt --workdir runs/mine
"""

import hashlib
import sys
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parent
PREPARED = ("vocab_size", "min_frequency", "split_seed", "embedder")  # what config.data sets of a preparation
CONFIG = config_flags.DEFINE_config_file("config", None, "plan of the run, file.py or file.py:preset")
BOOK = flags.DEFINE_string("book", None, "text file to train on (default: the built-in book)")
WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run; the same command resumes it")
DATA = flags.DEFINE_string("data", None, "directory of prepared shards (default: <workdir>/data)")


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, and the exit code."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def help_text() -> str:
    """Every flag and every field of the config with its type and meaning."""
    from mdlm_jax.configuration import describe_fields

    lines = [__doc__ or "", "Flags:"]
    lines += [f"  --{flag.name}: {flags.FLAGS[flag.name].help}" for flag in (CONFIG, BOOK, WORKDIR, DATA)]
    lines += ["", "Fields of the config, each overridable (defaults are the config file's):"]
    return "\n".join(lines + [f"  --config.{line}" for line in describe_fields()])


def parse(argv: list[str]) -> list[str]:
    """absl's flags; whatever is wrong with them, or with the config file, is one line and exit code 2."""
    if {"--help", "-h", "-help", "--helpfull"} & set(argv):
        print(help_text())
        sys.exit(0)
    try:
        return flags.FLAGS(argv)
    except Exception as error:  # a config file is a program: it can raise anything
        told = error
        while isinstance(told.args[0] if told.args else None, Exception):
            told = told.args[0]  # an error in an error
        text = str(told.args[0]) if isinstance(told, LookupError | AttributeError) else str(told)
        if "Traceback" in text:  # of a config file: its last line says it
            text = text.strip().splitlines()[-1]
        fail(f"--config: no such field: {text}" if isinstance(told, LookupError | AttributeError) else text)


def check_prepared(data: Path, config: Any, book: Path | None) -> None:
    """Refuses a prepared directory whose book, settings or shards are not those asked for (DataError)."""
    from mdlm_jax.data import DataError, open_dataset

    dataset = open_dataset(data)
    made = dataset.info["config"]
    wrong = [f"data.{f}: {made[f]} -> {v}" for f in PREPARED if (v := getattr(config.data, f)) != made[f]]
    if book and hashlib.sha256(book.read_bytes()).hexdigest() != dataset.info["book"]["sha256"]:
        wrong.append(f"it holds {dataset.info['book']['name']}")
    if wrong:
        raise DataError(f"{data} was prepared otherwise ({'; '.join(wrong)}); use another --data")
    dataset.verify()


def run(book: Path | None, workdir: Path, data: Path) -> None:
    """Flags to calls, nothing more."""
    import data_prep
    from mdlm_jax.configuration import resolve

    config = resolve(CONFIG.value)  # before anything is written, or slow to import
    book = book or min((Path(data_prep.__file__).parent / "books").glob("*.txt"))
    if workdir.is_dir() and book.is_file():  # `prepare` says what is wrong with others
        from mdlm_jax.run_directory import check_unchanged

        given = hashlib.sha256(book.read_bytes()).hexdigest() if BOOK.value or not DATA.value else None
        check_unchanged(workdir, config, given)
    d = config.data
    if DATA.value and (data / "dataset.json").exists():  # somebody prepared it: it is used, never replaced
        check_prepared(data, config, book if BOOK.value else None)
    else:
        wanted = {f: getattr(d, f) for f in PREPARED}
        data_prep.prepare(book, data, data_prep.PrepConfig(**wanted))

    from mdlm_jax.data import open_dataset
    from mdlm_jax.run_directory import cache_compilations
    from mdlm_jax.train import train_and_evaluate

    cache_compilations(ROOT / ".jax_cache")
    report = train_and_evaluate(config, open_dataset(data), workdir)
    for split in ("validation", "test"):
        result = report[split]
        kind = "exactly" if result["kind"] == "exact" else f"at most (+- {result['bits_per_byte_se']:.3f})"
        print(
            f"{split}: {result['bits_per_byte']:.3f} bits per byte {kind}; "
            f"byte 5-gram {report['ngram_5_bits_per_byte'][split]:.3f}; "
            f"perplexity per token {result['token_perplexity']:.1f}, per word {result['word_perplexity']:.0f}"
        )
    print(f"The run is in {workdir}, its figures in {workdir / 'report' / 'report.json'}.")
    if not config.model.causal:
        print(f"Let it write: python -m mdlm_jax.sample --workdir {workdir}")


def main(argv: list[str]) -> None:
    """Runs, and turns every error a person can mend into one line and an exit code."""
    logging.set_verbosity(logging.WARNING)  # orbax logs a page for every save
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; options start with --")
    if CONFIG.value is None or WORKDIR.value is None:
        fail("--config and --workdir are needed: --config configs/three_stage.py:tiny --workdir runs/first")
    workdir = Path(WORKDIR.value)
    from mdlm_jax.configuration import UserError

    try:
        run(Path(BOOK.value) if BOOK.value else None, workdir, Path(DATA.value or workdir / "data"))
    except KeyboardInterrupt:
        print("interrupted; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        if error.code in (130, 75):  # stopped as asked
            print(error, file=sys.stderr)
            sys.exit(error.code)
        fail(str(error), error.code)
    except OSError as error:
        fail(str(error))
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail("out of device memory: lower --config.micro_batch, in a new --workdir")
    except ValueError as error:
        if type(error).__name__ != "PrepError":  # data_prep shares no code with mdlm_jax
            raise
        fail(str(error))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
