# Two commands on a fresh machine: `make demo` and `make test`. Nothing is assumed but Python 3.11 to 3.13 and make.

PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS = constraints/py$(shell $(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
PYTEST = $(BIN)/python -m pytest
TEST_PROCESSES ?= 2
BENCHMARKS ?= random_bits motion_testbed hash_encoding samplers sampler_costs voxels voxels_training motion faults long_runs image_fitting
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: help demo sync test test-slow test-gpu doctest static format smoke check bench notebooks docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; name one with make PYTHON=..."; exit 1; }
	@if command -v uv >/dev/null; then uv venv -q --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

$(VENV)/core.stamp: pyproject.toml $(wildcard constraints/*.txt) | $(BIN)/python
	@echo "installing hardlight into $(VENV) (about a minute)"
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python -c $(CONSTRAINTS) -e .; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e .; fi
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	@echo "installing the tools for tests and checks"
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python -c $(CONSTRAINTS) -e '.[dev,viewer,formats]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,viewer,formats]'; fi
	@touch $@

demo: $(VENV)/core.stamp  ## train one small scene with two samplers and write a report, minutes on two cores
	@$(BIN)/hardlight compare nerf --data synthetic:detail --samplers uniform,error_map --steps 600 --rays 1024 --set marching.budget=16384

sync: $(VENV)/dev.stamp  ## install everything the tests need

test: $(VENV)/dev.stamp  ## the fast tests
	$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile

test-slow: $(VENV)/dev.stamp  ## the tests marked slow
	$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile -m "slow and not gpu"

test-gpu: $(VENV)/dev.stamp  ## the tests that need an accelerator
	$(PYTEST) -m gpu

doctest: $(VENV)/dev.stamp  ## the examples in docstrings
	$(PYTEST) --doctest-modules samplers scenes nerf voxels motion training

static: $(VENV)/dev.stamp  ## format, lint, spelling, types, layers, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python docs/check.py

format: $(VENV)/dev.stamp  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

smoke: $(VENV)/dev.stamp  ## build the wheel and use it from an empty virtual environment
	$(BIN)/python tests/wheel_smoke.py --constraints $(CONSTRAINTS)

check: static test doctest smoke  ## what decides in CI

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python -c $(CONSTRAINTS) -e '.[bench,g1]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e '.[bench,g1]'; fi
	@touch $@

bench: export HARDLIGHT_RESULTS ?= runs/benchmarks
bench: $(VENV)/bench.stamp  ## measure what needs no data, for an hour, into runs/benchmarks; docs/results.md has the other commands
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

notebooks: $(VENV)/dev.stamp  ## run every notebook headless
	$(BIN)/python notebooks/run.py

$(VENV)/docs.stamp: $(VENV)/dev.stamp
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python -c $(CONSTRAINTS) -e '.[docs]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'; fi
	@touch $@

docs: $(VENV)/docs.stamp  ## check the documents' links, examples and tables, then build the site
	$(BIN)/python docs/check.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site: $(CURDIR)/site/index.html"

clean:  ## remove what the targets made
	rm -rf $(VENV) .cache build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
