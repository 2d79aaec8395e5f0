"""Train on a book: prepare it if needed, then run every stage of the config.

python launch.py --config configs/three_stage.py:tiny --book my_book.txt --workdir runs/mine
"""

import sys
from pathlib import Path

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
        kind = "exactly" if result["kind"] == "exact" else f"at most (bound, +- {result['bits_per_byte_se']:.3f})"
        print(
            f"{split}: {result['bits_per_byte']:.3f} bits per byte {kind}; "
            f"byte 5-gram {report['ngram_5_bits_per_byte'][split]:.3f}; "
            f"perplexity per token {result['token_perplexity']:.1f}, per word {result['word_perplexity']:.0f}"
        )
    print(f"The run is in {workdir}; its figures are in {workdir / 'report' / 'report.json'}.")
    print(f"Let it write: python -m mdlm_jax.sample --workdir {workdir}")


def main(argv: list[str]) -> None:
    """Runs, and turns every error a person can mend into one line and exit code 2."""
    logging.set_verbosity(logging.WARNING)  # orbax logs a page for every save
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; options start with --")
    if CONFIG.value is None or WORKDIR.value is None:
        fail("--config and --workdir are needed, e.g. --config configs/three_stage.py:tiny --workdir runs/first")
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


def fail(message: str) -> None:
    """One line, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main)
