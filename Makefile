# `make compare`, `make test` and `make bench` set up what they need: a virtual environment, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A PyTorch that the interpreter already has is kept, so that a CPU build stays one.
SITE = $(shell $(PYTHON) -c "import importlib.util as u; print('--system-site-packages' if u.find_spec('torch') else '')")

.PHONY: compare test test-all test-files sanitize bench docs lint format clean

compare: $(READY)
	$(BIN)/rnn-parity compare

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term --cov-fail-under=95

# Every case of the widest tables, too.
test-all: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not sanitizers and not files"

# The kernels under the compiler's sanitizers, on random sizes.
sanitize: $(READY)
	$(BIN)/python -m pytest -m sanitizers tests/native

# Published files of either framework, fetched from a package index once.
test-files: $(READY)
	$(BIN)/python -m pytest -m files tests/exchange

bench: $(READY)
	$(BIN)/rnn-parity bench

# The table of docs/differences.md, from the rows in src/common/differences.py.
docs: $(READY)
	$(BIN)/python -m rnn_common.differences docs/differences.md

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A module's bytecode is written when it is first imported: all of TensorFlow's would take a minute and a half.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(SITE) $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[all]'
	$(BIN)/rnn-parity engines
	touch $(READY)

clean:
	rm -rf $(VENV) build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
