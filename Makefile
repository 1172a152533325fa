# The commands of the project; `make help` lists them.
#   VENV=path       use or create this environment instead of .venv
#   PYTHON=python3  the interpreter that creates it
#   PIP_ARGS=...    more options for pip install, for example --no-deps to keep the torch that is there
VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
BIN = $(abspath $(VENV))/bin
STAMP = $(VENV)/.facerec-installed
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# What `make lock` pins besides the dependencies in pyproject.toml: the tools that install them, and the releases of torch
# that the tested set stays with.
TOOLS := pip uv hatchling editables setuptools
TORCH ?= torch==2.14.1 torchvision==0.29.1

.PHONY: help install demo test test-slow test-gpu test-newest test-oldest check format lint types golden reference lock clean
.DEFAULT_GOAL := help

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up the environment (the other commands do this too)

$(STAMP): pyproject.toml constraints.txt
	$(environment)
	PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	@touch $@

# Creates the environment where there is none. It gets the pip of the tested set: older ones cannot pin what builds a package.
define environment
@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "facerec needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 ..."; exit 2; }
test -x $(BIN)/python || \
	{ $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet -c constraints.txt pip; }
endef

demo: install ## train on synthetic faces and evaluate on faces that it never saw; under 10 minutes on 2 cores
	$(BIN)/facerec train experiment=demo run_dir=runs/demo/default
	$(BIN)/facerec evaluate model=runs/demo/default baselines=true

test: install ## run the tests; under 15 minutes on 2 cores
	$(PYTEST) -n auto

test-slow: install ## run the tests that take longer
	$(PYTEST) -n 1 -m slow

test-gpu: install ## run the tests that need a GPU, and those on a simulated GPU
	$(PYTEST) -rs -m "slow or not slow" tests/gpu

test-newest: VENV = .venv-newest
test-newest: ## run the tests with the newest release of every dependency, in .venv-newest
	$(call test_with,highest)

test-oldest: VENV = .venv-oldest
test-oldest: ## run the tests with the oldest allowed release of every dependency, in .venv-oldest
	$(call test_with,lowest-direct)

# uv chooses the versions: it can choose the oldest, and it does not read pip's configuration, which may set a cap.
define test_with
$(environment)
$(BIN)/python -m pip install --quiet -c constraints.txt uv
$(BIN)/uv pip install --python $(BIN)/python --upgrade --resolution $(1) -e '.[dev]'
$(PYTEST) -n auto
endef

check: lint types test ## check format, lint and types, and run the tests

format: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## check format and lint; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## check static types
	$(BIN)/mypy

golden: install ## write the golden curves again; give the reason in CHANGELOG.md
	$(BIN)/python -m tests.golden.regenerate

reference: install ## write docs/reference.md again, from the comments in configs/
	$(BIN)/python scripts/reference_page.py

lock: install ## choose a new tested set of versions (constraints.txt); test it before you commit it
	$(BIN)/python -m pip install --quiet -c constraints.txt uv
	printf '%s\n' $(TOOLS) $(TORCH) | $(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest \
		--python-version 3.11 --no-annotate --custom-compile-command 'make lock' --extra dev pyproject.toml - -o constraints.txt

clean: ## remove the environments, caches and build files; keeps runs/
	rm -rf $(VENV) .venv-newest .venv-oldest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
