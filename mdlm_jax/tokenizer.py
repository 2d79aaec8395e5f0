"""The book's tokenizer, as data_prep wrote it. No jax."""

from pathlib import Path

from tokenizers import Tokenizer

from mdlm_jax.ui.values import UserError


class TokenizerError(UserError):
    """A tokenizer.json that is missing or damaged; one line."""


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json at `path`; a literal "[MASK]" in a text stays text. Raises TokenizerError."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise TokenizerError(f"cannot read the tokenizer {path}: {error}") from error
    tokenizer.encode_special_tokens = True  # the library does not save it
    return tokenizer
