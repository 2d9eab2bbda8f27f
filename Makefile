# make demo | viewer | wheel | test | test-viewer | check | fix | bench        ARGS=… is passed on:  make demo ARGS=--check
#
# Everything is installed into .venv, with the exact versions of constraints.txt. Running a target again is quick: the
# installation is repeated only when setup.cfg or constraints.txt changed.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PLUGIN := viewer_plugin/ohif
WITH_NODE := PATH="$(abspath $(BIN)):$$PATH"
NPM_CI := $(WITH_NODE) npm ci --prefix $(PLUGIN) --ignore-scripts --no-audit --no-fund --loglevel=error
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt


.DEFAULT_GOAL := help
.PHONY: help demo viewer wheel test test-viewer test-plugin check lint fix fast-tests bench bench-server openapi clean

help:
	@sed -n '1,4s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	@$(MAKE) --no-print-directory viewer || echo "The viewer could not be built; the demonstration goes on without it." >&2
	@$(BIN)/annotate demo $(ARGS)

viewer: $(BIN)/node $(PLUGIN)/node_modules/.for-viewer
	@$(WITH_NODE) node $(PLUGIN)/steps/viewer.mjs

wheel: viewer
	@$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .
	@ls -1 dist/*.whl

test: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not viewer" $(ARGS)

test-viewer: $(VENV)/.installed-for-tests $(VENV)/.chromium viewer $(PLUGIN)/node_modules/.for-tests
	@CI=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/viewer $(ARGS)

check: lint fast-tests test-plugin

test-plugin: $(BIN)/node $(PLUGIN)/node_modules/.for-tests
	@$(WITH_NODE) npm run --prefix $(PLUGIN) --silent types >/dev/null
	@$(WITH_NODE) npm run --prefix $(PLUGIN) --silent test

lint: $(VENV)/.installed-for-tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fast-tests: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow and not viewer" $(ARGS)

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
	rm -rf $(VENV) $(PLUGIN)/node_modules $(PLUGIN)/.stock annotate_server/viewer_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

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

$(VENV)/.chromium: $(VENV)/.installed
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium, in which the tests try the viewer."; \
	    apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "The tests in a browser will be left out without chromium: sudo apt-get install chromium" >&2; \
	  fi; }
	@touch $@

$(BIN)/node: $(VENV)/.installed
	@$(INSTALL) -e '.[torch,viewer]'
	@touch $@

$(PLUGIN)/node_modules/.for-viewer: $(PLUGIN)/package-lock.json | $(BIN)/node
	@if test -e $(PLUGIN)/node_modules/.for-tests; then $(NPM_CI) && touch $(PLUGIN)/node_modules/.for-tests; \
	  else $(NPM_CI) --omit=dev; fi
	@touch $@

$(PLUGIN)/node_modules/.for-tests: $(PLUGIN)/package-lock.json | $(BIN)/node
	@$(NPM_CI)
	@touch $@ $(PLUGIN)/node_modules/.for-viewer
