# make demo    installs into .venv and runs everything end to end
# make test    installs what it needs and runs all tests that need no root
# make check   lint, format, types, floors
# make chaos   kills a run a hundred times and more, and looks at what is left of it; up to an hour
# make test-system   tests that need root (small file systems, a real SLURM and Chromium, installed by apt-get)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Sends signals to its own process, which a worker would take for its end.
SIGNALS := tests/unit/launch/test_processes.py

.PHONY: demo test test-system chaos check install clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt launch/preflight.py
	@command -v $(PYTHON) >/dev/null || { echo "tarmac needs Python >= 3.11; $(PYTHON) was not found, name another:" \
	  "make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) launch/preflight.py
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet torch numpy
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/fp8 torchao
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m launch.demo

# Unit tests start no ranks and share nothing: two processes, one thread each, whole files so that fixtures are made once.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit --ignore=$(SIGNALS) --numprocesses=2 --dist=loadfile
	$(BIN)/python -m pytest $(SIGNALS) tests/distributed tests/faults tests/integration

test-system: $(INSTALLED)
	$(BIN)/python -m pytest tests/system

chaos: $(INSTALLED)
	$(BIN)/python -m tests.faults.chaos

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info
