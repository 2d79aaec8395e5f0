"""Train on a book: prepare it if needed, then run every stage of the config.

python launch.py --config configs/three_stage.py:tiny --book my_book.txt --workdir runs/mine
"""

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parent
CONFIG = config_flags.DEFINE_config_file("config", None, "plan of the run, file.py or file.py:preset")
BOOK = flags.DEFINE_string("book", None, "text file to train on (default: the built-in book)")
WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run; the same command resumes it")
DATA = flags.DEFINE_string("data", None, "directory of prepared shards (default: <workdir>/data)")


def built_in_book() -> Path:
    """The book that ships with data_prep."""
    import data_prep

    return sorted((Path(data_prep.__file__).parent / "books").glob("*.txt"))[0]


def run(book: Path | None, workdir: Path, data: Path) -> None:
    """Flags to calls, nothing more."""
    import data_prep
    from mdlm_jax.configuration import resolve

    config = resolve(CONFIG.value)  # before anything is written
    prepare_config = data_prep.PrepConfig(
        vocab_size=config.data.vocab_size,
        min_frequency=config.data.min_frequency,
        split_seed=config.data.split_seed,
        embedder=config.data.embedder,
    )
    data_prep.prepare(book or built_in_book(), data, prepare_config)

    from mdlm_jax.data import open_dataset
    from mdlm_jax.run_directory import cache_compilations
    from mdlm_jax.train import train_and_evaluate

    cache_compilations(ROOT / ".jax_cache")
    report = train_and_evaluate(config, open_dataset(data), workdir)
    for split in ("validation", "test"):
        result = report[split]["ema"]
        kind = (
            "exactly"
            if result["kind"] == "exact"
            else f"at most (bound, +- {result['bits_per_byte_se']:.3f})"
        )
        print(
            f"{split}: {result['bits_per_byte']:.3f} bits per byte {kind}; "
            f"byte 5-gram {report['ngram_5_bits_per_byte'][split]:.3f}; "
            f"perplexity per token {result['token_perplexity']:.1f}, per word {result['word_perplexity']:.0f}"
        )
    print(f"The run is in {workdir}; its figures are in {workdir / 'report' / 'report.json'}.")
    print(f"Let it write: python -m mdlm_jax.sample --workdir {workdir}")


def fields(kind: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """(flag, meaning) of every field of a configuration dataclass."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = f"{prefix}.{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, name)
        elif typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            yield from fields(typing.get_args(hint)[0], f"{name}[0]")
        elif "doc" in field.metadata:
            yield name, field.metadata["doc"]


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parsing, but a mistake is one line and exit code 2, and --help lists every field and exits 0."""
    if {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(argv[1:]):
        from mdlm_jax.configuration import Config

        ours = [
            (f"--{holder.name}", flags.FLAGS[holder.name].help) for holder in (CONFIG, BOOK, WORKDIR, DATA)
        ]
        print(__doc__)
        print("\n".join(f"{name:38}  {meaning}" for name, meaning in [*ours, *fields(Config, "--config")]))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        getattr(CONFIG.value, "items", None)  # a file that cannot be read is reported here, not before
        return rest
    except (flags.Error, OSError) as error:
        # The lines before the last are a traceback, or the places looked at.
        fail(str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: "))
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        inner = error.args[0]  # ml_collections wraps a KeyError, whose text would be escaped twice
        text = " ".join(str(inner.args[0] if isinstance(inner, Exception) else inner).splitlines())
        fail(f"the config has no field {text}" if text.startswith("'") else f"unusable --config: {text}")


def main(argv: list[str]) -> None:
    """Runs, and turns every error a person can mend into one line and exit code 2."""
    logging.set_verbosity(logging.WARNING)  # orbax logs a page for every save
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; options start with --")
    if CONFIG.value is None or WORKDIR.value is None:
        fail("--config and --workdir are needed: --config configs/three_stage.py:tiny --workdir runs/first")
    workdir = Path(WORKDIR.value)
    try:
        run(Path(BOOK.value) if BOOK.value else None, workdir, Path(DATA.value or workdir / "data"))
    except KeyboardInterrupt:
        print("interrupted; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        code = getattr(error, "code", 2 if isinstance(error, (ValueError, OSError)) else None)
        if type(error).__name__ == "Diverged":
            code = 3
        if code is None:
            raise
        if code in (2, 3):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(code)


def fail(message: str) -> typing.NoReturn:
    """One line, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
