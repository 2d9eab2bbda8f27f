# make demo | viewer | wheel | test | test-viewer | test-slicer | test-peer | test-gpu | screenshots | check | fix | bench | bench-gpu   ARGS=… is passed on:  make demo ARGS=--check
#
# Everything is installed into .venv, with the exact versions of constraints.txt. Running a target again is quick: the
# installation is repeated only when setup.cfg or constraints.txt changed.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PLUGIN := viewer_plugin/ohif
SLICER := .venv-slicer
PEER := .venv-monailabel
DRAWING := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 fonts-dejavu-core
WITH_SLICER := PYTHONPATH=tests/slicer QT_QPA_PLATFORM=offscreen OMP_NUM_THREADS=1 $(SLICER)/bin/python
WITH_PEER := PYTHONPATH=tests/peer:tests PEER_ENVIRONMENTS=$(PEER) OMP_NUM_THREADS=2
WITH_NODE := PATH="$(abspath $(BIN)):$$PATH"
NPM_CI := $(WITH_NODE) npm ci --prefix $(PLUGIN) --ignore-scripts --no-audit --no-fund --loglevel=error
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

STOP_ORTHANC := ; { systemctl disable --now orthanc || service orthanc stop; } >/dev/null 2>&1 || true

# Install Debian's packages where a command says that they are missing: command, packages, what they are, what is left out without them, what follows.
define debian
$(1) >/dev/null || { \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "Installing $(2), $(3)."; \
    apt-get update -qq && apt-get install -y -qq $(2) >/dev/null$(5); \
  else \
    echo "$(4) will be left out without $(2): sudo apt-get install $(2)" >&2; \
  fi; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo viewer wheel test test-viewer test-gpu bench-gpu screenshots test-plugin check lint fix fast-tests bench bench-server bench-viewer openapi clean test-slicer slicer-screenshot bench-slicer bench-monailabel test-peer test-nninteractive

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
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not viewer and not gpu" $(ARGS)

test-viewer: $(VENV)/.installed-for-tests $(VENV)/.chromium viewer $(PLUGIN)/node_modules/.for-tests
	@shots="$${VIEWER_SCREENSHOTS:-$$(mktemp -d)}"; status=0; \
	  VIEWER_SCREENSHOTS="$$shots" CI=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/viewer $(ARGS) || status=$$?; \
	  echo "What the browser showed: $$shots"; exit $$status

screenshots: $(VENV)/.installed-for-tests $(VENV)/.chromium viewer $(PLUGIN)/node_modules/.for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python tests/viewer/screenshots.py docs/pictures

test-gpu: $(VENV)/.installed-for-tests
	@$(BIN)/python -m pytest tests/gpu -m gpu $(ARGS)

check: lint fast-tests test-plugin

# Slicer's core wants packages of its own (1 GB): an environment beside that of the server.
test-slicer: $(VENV)/.installed-for-tests
	@if $(MAKE) --silent --no-print-directory $(SLICER)/.installed; then \
	  $(WITH_SLICER) -m pytest -q --confcutdir=tests/slicer -p slicer_fixtures -o python_files='slicer_*.py' tests/slicer $(ARGS); \
	elif [ -n "$$CI" ]; then exit 1; \
	else echo "The tests of the extension for 3D Slicer are left out: Slicer's core could not be installed." >&2; fi

# MONAI Label wants older packages than the server (2.3 GB): an environment as `annotate models env` makes it.
test-peer: $(VENV)/.installed-for-tests $(BIN)/node
	@if $(MAKE) --silent --no-print-directory $(PEER)/.installed; then \
	  $(WITH_PEER) $(BIN)/python -m pytest -q -p peer_fixtures -o python_files='peer_*.py' tests/peer --ignore=tests/peer/peer_nninteractive.py $(ARGS); \
	elif [ -n "$$CI" ]; then exit 1; \
	else echo "The tests against MONAI Label are left out: it could not be installed." >&2; fi

# nnInteractive itself, in an environment of its own (1.9 GB); not part of what decides whether a change lands.
test-nninteractive: $(VENV)/.installed-for-tests
	@ANNOTATE_ENVIRONMENTS=$(PEER) ANNOTATE_WORKSPACE=$(PEER)/workspace $(BIN)/annotate models env nninteractive
	@$(WITH_PEER) $(BIN)/python -m pytest -q -p peer_fixtures -o python_files='peer_*.py' tests/peer/peer_nninteractive.py $(ARGS)

slicer-screenshot: $(VENV)/.installed $(SLICER)/.installed
	@$(WITH_SLICER) tests/slicer/screenshot.py

bench-monailabel: $(VENV)/.installed-for-tests
	@$(MAKE) --silent --no-print-directory $(PEER)/.installed || true
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/monailabel_side_by_side.py --peer $(PEER)/monailabel $(ARGS)

bench-slicer: $(VENV)/.installed $(SLICER)/.installed
	@$(WITH_SLICER) benchmarks/slicer_window.py $(ARGS)

test-plugin: $(BIN)/node $(PLUGIN)/node_modules/.for-tests
	@$(WITH_NODE) npm run --prefix $(PLUGIN) --silent types >/dev/null
	@$(WITH_NODE) npm run --prefix $(PLUGIN) --silent test

lint: $(VENV)/.installed-for-tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fast-tests: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow and not viewer and not gpu" $(ARGS)

fix: $(VENV)/.installed-for-tests
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

openapi: $(VENV)/.installed
	@$(BIN)/python -m annotate_server.api.openapi

bench: $(VENV)/.installed-for-tests
	@$(BIN)/python benchmarks/sliding_window.py $(ARGS)

bench-viewer: $(VENV)/.installed-for-tests $(VENV)/.chromium viewer $(PLUGIN)/node_modules/.for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/viewer.py $(ARGS)

bench-gpu: $(VENV)/.installed-for-tests
	@$(BIN)/python benchmarks/training.py $(ARGS)
	@$(BIN)/python benchmarks/accept_to_promoted.py $(ARGS)

bench-server: $(VENV)/.installed-for-tests
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_start.py $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_prompts.py $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_prompts.py --slices 300 $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/server_people.py $(ARGS)

clean:
	rm -rf $(VENV) $(SLICER) $(PEER) $(PLUGIN)/node_modules $(PLUGIN)/.stock annotate_server/viewer_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

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
	@$(call debian,command -v strace,strace,with which the tests look for what a power cut could lose,The tests of crashes)
	@$(call debian,command -v dciodvfy,dicom3tools,whose dciodvfy judges the DICOM that the tests write,One check of DICOM SEG)
	@$(call debian,test -x /usr/sbin/Orthanc -a -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so,$\
	  orthanc orthanc-dicomweb,the DICOM archive that the tests annotate,The tests of an archive,$(STOP_ORTHANC))
	@$(INSTALL) -e '.[test]'
	@touch $@

$(SLICER)/.installed: setup.cfg constraints.txt | $(BIN)/python
	@echo "Installing 3D Slicer's core into $(SLICER); the first time this takes about a minute."
	@PATH="$$PATH:/sbin"; ldconfig -p | grep -q libEGL.so.1 && ldconfig -p | grep -q libxkbcommon.so.0 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing the libraries that Qt and VTK draw with."; \
	    apt-get update -qq && apt-get install -y -qq $(DRAWING) >/dev/null; \
	  else \
	    echo "Qt and VTK need libraries to draw with: sudo apt-get install $(DRAWING)" >&2; exit 1; \
	  fi; }
	@$(BIN)/python -m venv $(SLICER)
	@$(SLICER)/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt \
	  slicer-core PySide6-Essentials numpy pytest
	@touch $@

$(PEER)/.installed: tests/peer/constraints.txt annotate_server/backends/environments/recipes.py | $(VENV)/.installed
	@echo "Installing MONAI Label into $(PEER); the first time this takes about two minutes."
	@PIP_CONSTRAINT="$(abspath tests/peer/constraints.txt)" ANNOTATE_ENVIRONMENTS=$(PEER) ANNOTATE_WORKSPACE=$(PEER)/workspace \
	  $(BIN)/annotate models env monailabel
	@touch $@

$(VENV)/.chromium: $(VENV)/.installed
	@$(call debian,command -v chromium,chromium,in which the tests try the viewer,The tests in a browser)
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
