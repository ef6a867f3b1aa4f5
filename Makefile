.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-lowest lint docs bench bench-report clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
METHOD ?= lab_rbf
# One pytest worker per core and one thread per worker: with more threads than cores, some tests
# are a hundred times slower.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }  # leave no incomplete environment

# One stamp file per set of extras: they are installed again when the project file changes.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-plot  ## every method on real data: a table and plots, in five minutes
	$(BIN)/python docs/examples/quickstart.py

test: lint  ## linting, the quick tests and the doctests
	$(PYTEST) -m 'not slow'

test-all: lint  ## the slow tests too
	$(PYTEST)

test-lowest:  ## the common tests with the lowest release of scikit-learn, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	grep -v '^scikit-learn==' constraints.txt | cat - constraints-lowest.txt > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet -c .venv-lowest/constraints.txt --editable '.[test]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto tests/test_common.py tests/test_import.py

lint: $(VENV)/.installed-test  ## formatting, code rules, spelling, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the documentation, into docs/_build/html
	rm -rf docs/generated  # pages of removed names would raise warnings
	$(BIN)/python -m sphinx -W --keep-going -j auto -b html docs docs/_build/html

bench: $(VENV)/.installed-bench  ## one benchmark, for example: make bench METHOD=lab_rbf
	$(BIN)/python -m benchmarks $(METHOD) $(ARGS)

bench-report: $(VENV)/.installed-bench  ## every benchmark in quick mode, into docs/benchmarks.md
	$(BIN)/python -m benchmarks._page

clean:  ## remove what was built, except the environment
	rm -rf docs/_build docs/generated docs/auto_examples build dist *.egg-info
