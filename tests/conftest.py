"""What every test shares: one CPU device, few threads, fixed example generation, and the size of a soak.

This file runs before any test module is imported, and so before jax reads its environment.
"""

import os
from pathlib import Path

from hypothesis import settings

REPO = Path(__file__).resolve().parent.parent

os.environ["JAX_PLATFORMS"] = "cpu"
# pytest-xdist already runs a worker per core: more threads than that only wait for each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(name, "1")

# A failure has to come back when the command is run again. No deadline: the first example compiles.
settings.register_profile("mdlm", derandomize=True, deadline=None, database=None)
settings.load_profile("mdlm")


def soak_count(full: int) -> int:
    """Repetitions of a soak test whose full count is `full`: all under MDLM_SOAK=1, a tenth without."""
    return max(1, round(full * float(os.environ.get("MDLM_SOAK", "0.1"))))
