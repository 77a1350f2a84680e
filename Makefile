# make setup | train | test | lint | soak | bench | book | pages | notebooks | links | address | records | format | clean
PYTHON ?= python3
BIN := .venv/bin

ifneq ($(wildcard $(CIFAR_FAST_DATA)),) # a notebook runs in its own folder
override CIFAR_FAST_DATA := $(abspath $(wildcard $(CIFAR_FAST_DATA)))
export CIFAR_FAST_DATA
endif

.PHONY: setup train test lint soak bench book pages notebooks links address records format clean
setup: .venv/done

.venv/done: pyproject.toml requirements.txt constraints.txt  # with PYTHON=…, anew: venv would keep another's
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, not " + sys.version.split()[0] + ": make setup PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(if $(filter command,$(origin PYTHON)),--clear) .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test]'
	@touch $@

# RECIPE=celu trains another rung; ARGS='--epochs 2' passes anything on to `cifar-fast train`.
RECIPE ?= final
train: setup
	@mkdir -p out
	$(BIN)/cifar-fast train $(RECIPE) --plot out/$(RECIPE).png --json out/$(RECIPE).json $(ARGS)

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs -n 2 --dist loadfile --durations 10  # two files at a time
	printf '%s\n' notebooks/*.ipynb | CIFAR_FAST_DATA="$${CIFAR_FAST_DATA:-synthetic}" CIFAR_FAST_SCALE=smoke OMP_NUM_THREADS=1 \
	  xargs -P 2 -n 1 $(BIN)/pytest -q -p no:cacheprovider --nbval-lax --nbval-cell-timeout 300  # two at a time

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: setup  # what is too slow for `make test`
	$(BIN)/pytest -rs -s -m soak

bench: setup
	@mkdir -p out
	$(BIN)/cifar-fast bench --json out/bench.json

book: setup pages
	$(BIN)/jupyter-book build . --all -W --keep-going -q
	@echo "open _build/html/index.html"

pages: setup  # those that are made from the recorded runs and the notebooks
	$(BIN)/python book/pages.py

notebooks: setup  # run them all and store what comes out, on the images that CIFAR_FAST_DATA names
	$(BIN)/python book/execute.py notebooks/*.ipynb
	$(BIN)/python book/pages.py

links: setup pages  # do the links that leave the site lead somewhere? Needs the network
	$(BIN)/jupyter-book build . --all --builder linkcheck --path-output out/links -q

address:  # make address URL=https://github.com/NAME/REPOSITORY
	$(PYTHON) book/address.py $(URL)

records: setup  # are the recorded runs fit to be shared?
	$(BIN)/cifar-fast check book/results/*.jsonl

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv _build out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
