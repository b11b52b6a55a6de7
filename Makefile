# Needs only Python 3.11+ and make. Everything else goes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
# A file's tests in one process, one process for each core; each takes up to 1 GB.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
FOLDER ?=
DATA ?= data
QUICK ?=
SECONDS ?= 120
FUZZ ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all fuzz site reproduce lint format clean

help:  ## what this Makefile does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

demo: $(VENV)/demo.stamp  ## find real images and draw what was found (FOLDER=~/Pictures for your own)
	$(BIN)/lookalike demo $(if $(FOLDER),--folder "$(FOLDER)")

test: $(VENV)/dev.stamp lint  ## lint, types and the fast tests, in a few minutes
	$(PYTEST) -q -m "not slow"

test-all: $(VENV)/dev.stamp lint  ## the slow tests as well: kills, servers, Ray, the browser, training
	$(PYTEST)

fuzz: $(VENV)/dev.stamp  ## damage galleries and images at random (SECONDS=120, FUZZ="--seed 5 --case 7")
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) $(FUZZ)

site: $(VENV)/dev.stamp  ## the documents and the Python reference as a site, in build/site
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site

reproduce: $(VENV)/dev.stamp  ## the paper's tables and figures (DATA=DIR, see docs/datasets.md; QUICK=1 for a look)
	$(BIN)/python -m reproduction run --data "$(DATA)" $(if $(QUICK),--quick)

lint: $(VENV)/dev.stamp  ## ruff, mypy and the word list
	$(BIN)/python scripts/words.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and every cache
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
