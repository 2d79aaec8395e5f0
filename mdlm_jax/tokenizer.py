"""The book's tokenizer, as data_prep wrote it. No jax."""

from pathlib import Path

from tokenizers import Tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json at `path`; a literal "[MASK]" in a text stays text.

    Raises ValueError, one line, when the file is missing or damaged.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"cannot read the tokenizer {path}: {error}") from error
    tokenizer.encode_special_tokens = True  # the library does not save it
    return tokenizer
