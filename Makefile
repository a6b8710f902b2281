# Needs Python 3.11 or newer and make; uses uv where it is installed.
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed
# The newest interpreter on the PATH that is new enough; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

.PHONY: help setup demo test test-fast lint format bench campaign clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## install everything into .venv (again only after a change of the requirements)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "No Python 3.11 or newer found. Install one, or run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@echo "Installing into .venv (once; takes a few minutes) ..."
	@if command -v uv >/dev/null 2>&1; then \
		{ [ -x $(BIN)/python ] || uv venv --quiet --seed --python "$(PYTHON)" .venv; } \
		&& uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		{ [ -x $(BIN)/pip ] || "$(PYTHON)" -m venv .venv; } \
		&& $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(STAMP)

demo: $(STAMP) ## a simulated content agency, learned from, in the terminal and in the Dagster UI
	@$(BIN)/feedback-pipeline demo

test: $(STAMP) ## all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: $(STAMP) ## pure code and definitions, in seconds
	@$(BIN)/python -m pytest -m 'not slow'

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## let ruff format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## the measurements quoted in the README
	@$(BIN)/python -m benchmarks.learn --million
	@$(BIN)/python -m benchmarks.bars
	@$(BIN)/python -m benchmarks.reviewers
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.patterns
	@$(BIN)/python -m benchmarks.terms
	@$(BIN)/python -m benchmarks.recommendations
	@$(BIN)/python -m benchmarks.publish
	@$(BIN)/python -m benchmarks.quality
	@$(BIN)/python -m benchmarks.forecasts
	@$(BIN)/python -m benchmarks.ticks
	@$(BIN)/python -m benchmarks.latency
	@$(BIN)/python -m benchmarks.api
	@$(BIN)/python -m benchmarks.shop_effects
	@$(BIN)/python -m benchmarks.sdk

campaign: $(STAMP) ## twenty minutes of faults against everything `up` starts, then every row is compared
	@$(BIN)/python -m reliability.campaign --minutes 20

clean: ## remove the environment and caches; .feedback/ with the data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
