# make demo: set up, run the whole graph on the embedded corpus.  make test: set up, pass the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
EXTRAS := pipelines,fineweb,training,serve,evals,assets,test

.PHONY: setup demo test lint ui bench

setup: $(VENV)/.installed

# the lock file is a list of pip constraints; pip itself is upgraded first because old ones cannot read some wheels
$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[$(EXTRAS)]'
	touch $@

demo: setup
	$(BIN)/stemma run

# whole files to two workers, in the order of tests/workers.py
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

ui: setup
	$(BIN)/stemma ui

bench: setup
	$(BIN)/python -m benchmarks.all
