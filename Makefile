# The commands of the project; `make help` lists them.
#   VENV=path       use or create this environment instead of .venv
#   PYTHON=python3  the interpreter that creates it
#   PIP_ARGS=...    more options for pip install, for example --no-deps to keep the torch that is there
VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.facerec-installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help install demo test test-slow check format lint types golden clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up the environment (the other commands do it by themselves)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "facerec needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -e '.[dev]'
	@touch $@

demo: install ## train on synthetic faces and evaluate on faces never seen; under 10 minutes on 2 cores
	$(BIN)/facerec train experiment=demo run_dir=runs/demo/default
	$(BIN)/facerec evaluate model=runs/demo/default baselines=true

test: install ## the tests, under 15 minutes on 2 cores
	$(PYTEST) -n auto

test-slow: install ## the tests that take longer
	$(PYTEST) -n 1 -m slow

check: lint types test ## format, lint, types and tests

format: install ## bring the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## format and lint, nothing is changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## static types
	$(BIN)/mypy

golden: install ## pin the golden curves anew; say why in CHANGELOG.md
	$(BIN)/python -m tests.golden.regenerate

clean: ## remove the environment, caches and build files; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
