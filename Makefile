# make quickstart   a model on real news in a few minutes, from nothing but Python 3.11 and PyPI
# make test         the tests
# make bench        training and prediction against the usual tools, side by side: an hour on two cores, wants AG News
# make fuzz         100,000 damaged files over all readers: minutes on one core
# make campaign     what takes too long for the tests: ten minutes of threads beside each other; optimum, transformers.js
# make lint         ruff and mypy

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test bench fuzz campaign lint clean

quickstart: .venv/quickstart
	$(BIN)/submillion quickstart

test: .venv/test
	$(BIN)/python -m ruff check src tests benchmarks
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

bench: .venv/bench
	$(BIN)/python -m benchmarks

fuzz: .venv/test
	$(BIN)/python -m tests.campaign.fuzz --inputs 100000

# The last two want environments of their own, which the tests name, with the commands that make them.
campaign: .venv/test
	SUBMILLION_CAMPAIGN_SECONDS=600 $(BIN)/python -m pytest tests/campaign -rs
	SUBMILLION_CAMPAIGN=1 $(BIN)/python -m pytest tests/interop/test_onnx.py tests/interop/test_onnx_folder.py

lint: .venv/test
	$(BIN)/python -m ruff check src tests benchmarks
	$(BIN)/python -m ruff format --check src tests benchmarks
	$(BIN)/python -m mypy

# A stamp a set of extras: made again when what it installs has changed.
.venv/quickstart: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[quickstart]'
	touch $@

.venv/test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[quickstart,test,onnx,tensorboard]'
	touch $@

.venv/bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[quickstart,test,onnx,tensorboard,bench]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv best_model assets predictions.csv
