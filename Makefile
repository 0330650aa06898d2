# `make demo` and `make test` need Python >= 3.11, make and a C compiler; everything else goes into .venv.

SHELL := /bin/bash
BIN := .venv/bin
TEST_ENV := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test test-all check format bench size clean

help:
	@echo "make demo      install into .venv, train a small translator, try it"
	@echo "make test      the gate: make check, then every test that is not slow"
	@echo "make test-all  the slow tests too"
	@echo "make check     format, lint, types, import rules, line budget, size, import time"
	@echo "make format    let ruff format and mend what it can, renew what docs take from the code"
	@echo "make bench     the benchmarks"
	@echo "make size      lines per package and installed size"
	@echo "make clean     remove .venv and caches"

demo: .venv/.demo
	@$(BIN)/seqlib warmup transformer_bulletin
	@$(BIN)/seqlib demo

test: check
	@$(TEST_ENV) $(BIN)/python -m pytest -m "not slow" --durations=10

test-all: check
	@$(TEST_ENV) $(BIN)/python -m pytest --durations=20

check: .venv/.dev
	$(BIN)/ruff format --check --quiet --output-format concise .
	$(BIN)/ruff check --quiet --output-format concise .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python tools/line_budget.py
	@$(BIN)/python tools/check_imports.py
	@$(BIN)/python tools/check_size.py

format: .venv/.dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	@$(BIN)/python tools/line_refs.py --fix
	@$(BIN)/python tools/api_pages.py --fix

bench: .venv/.dev
	@for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

size: .venv/.dev
	@$(BIN)/python tools/line_budget.py
	@$(BIN)/python tools/check_size.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The stamps make a second call instant; a changed pyproject.toml installs again.
.venv/.demo: pyproject.toml tools/make_venv.sh
	@tools/make_venv.sh demo

.venv/.dev: pyproject.toml tools/make_venv.sh
	@tools/make_venv.sh dev
