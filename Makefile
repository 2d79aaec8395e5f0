# `make` lists the targets. Everything is written inside the checkout (pip and uv keep their usual caches).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# huge_pages() of mdlm_jax/ui/cli.py, for the tests too
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help install demo test soak lint types bench lock clean

help:
	@echo 'make install create $(VENV), nothing else (every target does it when needed)'
	@echo 'make demo    train the tiny model on the built-in book, then sample from it (runs/demo)'
	@echo 'make test    the tests, under five minutes on two cores'
	@echo 'make soak    the long tests at their full counts (CI runs a tenth)'
	@echo 'make lint    ruff: rules and formatting'
	@echo 'make types   mypy'
	@echo 'make bench   what the scripts of benchmarks/ measure, and how they are called'
	@echo 'make lock    write locks/ again (needs uv; ARGS=--upgrade for newer versions)'
	@echo 'make clean   remove caches and build products; runs/, data/ and $(VENV) stay'
	@echo
	@echo 'The first target that needs it creates $(VENV) with $(PYTHON) (3.11 or newer):'
	@echo 'PYTHON=python3.12 and VENV=.venv312 choose others.'

$(STAMP): .ci/venv pyproject.toml $(wildcard locks/*.txt)
	PYTHON='$(PYTHON)' .ci/venv '$(VENV)'

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python launch.py --config configs/three_stage.py:tiny --workdir runs/demo
	$(BIN)/python -m mdlm_jax.sample --workdir runs/demo --num_samples 2
	@echo 'commands that begin with python need: source $(VENV)/bin/activate'

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 tests -m 'not soak'

soak: $(STAMP)
	MDLM_SOAK=1 $(BIN)/python -m pytest -n 2 tests -m soak

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	@set -e; for script in $(wildcard benchmarks/*.py); do \
	  $(BIN)/python -c "import ast; print('$$script:', ast.get_docstring(ast.parse(open('$$script').read())), '\n')"; done

# One universal lock per Python version: the two sets of jax and flax that work are disjoint.
# Without ARGS, versions already locked are kept.
lock:
	for minor in 11 12; do \
	  uv pip compile pyproject.toml --extra dev --universal --python-version 3.$$minor \
	    --no-emit-index-url --no-header --quiet $(ARGS) -o locks/py3$$minor.txt || exit 1; \
	done

clean:
	rm -rf build dist *.egg-info .cache .hypothesis .jax_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +
