"""python -m mdlm_jax.runs list [--dir runs] | show RUN | compare RUN RUN ... | remove RUN ... [--yes]

What launch.py has trained; without jax. A run in training is never removed, nor are files that no run writes.
"""

import sys

from mdlm_jax.evaluation.summary import main

if __name__ == "__main__":
    sys.exit(main())
