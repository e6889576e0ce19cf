# Every target works in a fresh clone: it makes .venv itself.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# ANTs and torch: passive waiting keeps parallel jobs from stealing each other's cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test test-all published lint clean

install: $(STAMP)

# uv installs in a fraction of pip's time; where it cannot reach the index that pip is set up for, pip does it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv==0.13.8"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev,reference,published]" \
	  || { echo "uv could not install; trying pip"; \
	       $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,reference,published]"; }
	touch $@

demo: install
	$(BIN)/neuroaug demo build/demo

# Two workers of one thread each: most tests are too small to share among threads.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

test-all: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --timeout=3600 -m "slow or reference or not slow"

# The papers' tables on public images, all or TABLES="geo tpami-2"; hours, goes on where it stopped. Fashion-MNIST needs
# Debian's package dataset-fashion-mnist.
published: install
	$(BIN)/python -m neuroaug.published run $(TABLES) --cores 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build
