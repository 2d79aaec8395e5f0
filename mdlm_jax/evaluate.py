"""python -m mdlm_jax.evaluate --workdir R [--preset fast|default|comprehensive|memory_efficient]

What a finished run is worth on chapters it never saw, beside simpler models; into R/report/evaluation.json.
"""

import sys

from mdlm_jax.ui import cli

if __name__ == "__main__":  # before imports that take their time
    cli.huge_pages()

from mdlm_jax.evaluation.measure import main

if __name__ == "__main__":
    sys.exit(main())
