# make setup | train | test | soak | bench | report | records | format | clean
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test lint soak bench report records format clean
setup: .venv/done

.venv/done: pyproject.toml requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, not " + sys.version.split()[0] + ": make setup PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test]'
	@touch $@

# RECIPE=celu trains another rung; ARGS='--epochs 2' passes anything on to `cifar-fast train`.
RECIPE ?= final
train: setup
	@mkdir -p out
	$(BIN)/cifar-fast train $(RECIPE) --plot out/$(RECIPE).png --json out/$(RECIPE).json $(ARGS)

test: setup lint
	$(BIN)/pytest -rs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: setup  # what is too slow for `make test`
	$(BIN)/pytest -rs -s -m soak

bench: setup
	@mkdir -p out
	$(BIN)/cifar-fast bench --json out/bench.json

report: setup  # book/report.md, from the recorded runs
	$(BIN)/cifar-fast report --target 0.85 --out book/report.md

records: setup  # are the recorded runs fit to be shared?
	$(BIN)/cifar-fast check book/results/*.jsonl

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
