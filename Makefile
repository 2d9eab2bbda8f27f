# make demo | test | check | fix | bench        ARGS=… is passed on:  make demo ARGS=--check
#
# Everything is installed into .venv, with the exact versions of constraints.txt. Running a target again is quick: the
# installation is repeated only when setup.cfg or constraints.txt changed.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt


.DEFAULT_GOAL := help
.PHONY: help demo test check lint fix fast-tests bench bench-server openapi clean

help:
	@sed -n '1,4s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	@$(BIN)/annotate demo $(ARGS)

test: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: lint fast-tests

lint: $(VENV)/.installed-for-tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fast-tests: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow" $(ARGS)

fix: $(VENV)/.installed-for-tests
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

openapi: $(VENV)/.installed
	@$(BIN)/python -m annotate_server.api.openapi

bench: $(VENV)/.installed-for-tests
	@$(BIN)/python benchmarks/sliding_window.py $(ARGS)

bench-server: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_start.py $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_prompts.py $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_prompts.py --slices 300 $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_people.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed. Name one: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing python3-venv, which Debian keeps apart from python3."; \
	    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; \
	  else \
	    echo "This Python cannot make environments. Run: sudo apt-get install python3-venv" >&2; exit 1; \
	  fi; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python setup.cfg constraints.txt pyproject.toml
	@echo "Installing into $(VENV); the first time this takes about two minutes."
	@$(INSTALL) -e '.[torch]'
	@touch $@

$(VENV)/.installed-for-tests: $(VENV)/.installed
	@command -v strace >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing strace, with which the tests look for what a power cut could lose."; \
	    apt-get update -qq && apt-get install -y -qq strace >/dev/null; \
	  else \
	    echo "The tests of crashes will be left out without strace: sudo apt-get install strace" >&2; \
	  fi; }
	@$(INSTALL) -e '.[test]'
	@touch $@
