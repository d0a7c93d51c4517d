# Everything a developer types. Nothing here needs root; `make setup` works from nothing.

PYTHON ?= python3
SOAK   ?= 10
SHORT  := not soak and not containers
PAIRS  := -n 2 --dist worksteal
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  := .peers
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq

# Byte code is kept whatever the shell says: without it every start of a program compiles the library again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup peers run test containers soak bench lint format clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  (PYTHON=python3.12 picks another interpreter, ARGS='-k name' goes to pytest or to the benchmarks)"

setup: $(VENV)/.installed  ## create .venv from requirements.lock; free when nothing changed
	@:

peers: $(PEERS)/.installed  ## install what tests compare us with into .peers; where it cannot be had, they say so
	@:

run: setup  ## boot an embedded system, take the tour, shut down
	@$(BIN)/exo tour

test: setup peers  ## run the test suite
ifeq ($(strip $(ARGS)),)
	@echo "test: two at a time"; $(BIN)/pytest $(PAIRS) -m "(beside or not system) and $(SHORT)"; two=$$?; \
	    echo "test: one at a time"; $(BIN)/pytest -m "system and not beside and $(SHORT)" && exit $$two
else
	@$(BIN)/pytest $(ARGS)
endif

containers: setup  ## build the images and test the system as containers, where an engine runs
	@tools/containers.sh $(ARGS)

soak: setup  ## run the long campaigns: make soak SOAK=minutes
	@$(BIN)/pytest -m "soak and not containers" --soak=$(SOAK) --timeout=0 -o faulthandler_timeout=0 $(ARGS)

bench: setup  ## run the benchmarks, each beside its outside reference
	@$(BIN)/exo bench $(ARGS)

lint: setup  ## check style, format and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: setup  ## format the code, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

clean:  ## remove everything make made, .venv too
	@rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The libraries follow the lock; a half-made environment has no stamp and is made again from the start.
$(VENV)/.locked: requirements.lock
	@command -v $(PYTHON) >/dev/null || \
	    { echo "make: no $(PYTHON): install Python 3.11 or newer (Debian: apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "make: needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	           "name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "make: $(PYTHON) has no venv module: install it (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "setup: installing the locked libraries into $(VENV), once"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes --requirement requirements.lock
	@touch $@

# The package follows pyproject.toml. It is a plain path on sys.path ("compat"): setuptools' default, an import
# hook, would cost every interpreter 9 ms at start-up.
$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

# Peers are for other Pythons and machines than ours, too: what is not there for this one is left out.
$(PEERS)/.installed: tests/peers/requirements.lock tests/peers/sources.lock $(VENV)/.installed
	@echo "peers: installing what tests compare us with into $(PEERS), once"
	@$(BIN)/python -m venv --clear $(PEERS)
	@set -- --no-deps --require-hashes; install="$(PEERS)/bin/python -m pip --disable-pip-version-check -qq install"; \
	    $$install "$$@" --only-binary=:all: --requirement tests/peers/requirements.lock && \
	    { $$install "$$@" --no-build-isolation --requirement tests/peers/sources.lock || \
	    echo "peers: SimSo is left out here: tests that need it are skipped"; } && touch $@ || { echo "peers: left out here: tests that need them are skipped"; rm -rf $(PEERS); }
