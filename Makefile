# Every target works in a fresh clone: it makes .venv itself.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# ANTs and torch: passive waiting keeps parallel jobs from stealing each other's cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test test-all lint clean

install: $(STAMP)

# uv installs in a fraction of pip's time; where it cannot reach the index that pip is set up for, pip does it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv==0.13.8"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev,reference]" \
	  || { echo "uv could not install; trying pip"; \
	       $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,reference]"; }
	touch $@

demo: install
	$(BIN)/neuroaug demo build/demo

test: install
	$(BIN)/python -m pytest

test-all: install
	$(BIN)/python -m pytest -m "slow or reference or not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build
