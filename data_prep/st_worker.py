"""The child process of the ``st:`` embedder, the only place where torch is imported.

``python st_worker.py MODEL < sentences.json > vectors.npy``: run as a file, so that an interpreter of another
environment needs sentence-transformers and nothing of ours.
"""

import io
import json
import os
import sys
from collections.abc import Sequence

import numpy as np

MISSING = 3  # exit status where sentence-transformers cannot be imported


def main(argv: Sequence[str]) -> int:
    """Writes float32[n, d] as .npy to stdout; exit status 0, or MISSING with the reason on stderr."""
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)  # what libraries print must not get into the array
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            print(error, file=sys.stderr)
            return MISSING
        texts = json.load(sys.stdin.buffer)
        vectors = SentenceTransformer(argv[0]).encode(texts, show_progress_bar=False)
        buffer = io.BytesIO()  # numpy cannot write to a pipe
        np.save(buffer, np.asarray(vectors, np.float32), allow_pickle=False)
        stdout.write(buffer.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
