# `make demo` and `make test` need nothing but make and a Python with venv.

PYTHON ?= python3
SEEDS  ?= 20000
SECONDS ?= 60
TASKS  ?= 0
EVENTS ?= 200
CHAOS  ?= 120
SEED   ?= 1
# Two more than there are cores, since most tests wait for something.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(5, (os.cpu_count() or 1) + 2))')

BIN   := .venv/bin
TYPED := dingo_zmq $(wildcard examples tools tests/typing_api.py)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1
# The tests start a thousand processes: none of them need compile what another has.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help demo test lint fmt types sim mutants storm bench chaos-net fuzz check clean

help:
	@echo 'demo    two nodes and a caller on this machine, with real files'
	@echo 'test    the whole test suite'
	@echo 'check   lint, types and test'
	@echo 'lint    ruff, nothing changed      fmt    ruff, repairs what it can'
	@echo 'types   mypy                       sim    the simulated world, SEEDS=$(SEEDS)'
	@echo 'storm   real processes that are killed, stopped and cut off, SECONDS=$(SECONDS) TASKS=$(TASKS)'
	@echo 'mutants planted faults, and the first seed that finds each'
	@echo 'bench   the table of speeds        clean  remove what was made here'
	@echo 'fuzz    all that reads what others wrote, with atheris, SECONDS=$(SECONDS) for each'
	@echo 'chaos-net  a network with faults drawn by lot, CHAOS=$(CHAOS) s, and its recovery, EVENTS=$(EVENTS); as root'

demo: .venv/test
	@$(BIN)/python examples/demo.py

test: .venv/test
	@$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: .venv/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

fmt: .venv/dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: .venv/dev
	@$(BIN)/mypy $(TYPED)

sim: .venv/test
	@SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/sim -o timeout=0 -o faulthandler_timeout=0

storm: .venv/test
	@$(BIN)/python tools/storm.py --seconds $(SECONDS) --tasks $(TASKS) --fatal 4000 --faults kill,stop,caller,proxy

mutants: .venv/test
	@$(BIN)/python tools/mutants.py

bench: .venv/dev
	@$(BIN)/python tools/bench.py

chaos-net: .venv/test
	@CI=true CHAOS=$(CHAOS) SEED=$(SEED) $(BIN)/python -m pytest -q -rP --show-capture=stdout tests/net/test_bad_lines.py -k by_lot \
	    -o faulthandler_timeout=0
	@$(BIN)/python tools/cuts.py --events $(EVENTS) --seed $(SEED)

fuzz: .venv/fuzz
	@$(BIN)/python tools/fuzz.py --seconds $(SECONDS)

check: lint types test

clean:
	rm -rf .venv build dist .fuzz .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find dingo_zmq examples tests tools -name __pycache__ -type d -exec rm -rf {} +

# The stamp .venv/X says that the extra X of this pyproject.toml is installed.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'dingo-zmq needs Python 3.11 or newer: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'This Python cannot make virtual environments: apt install python3-venv' >&2; exit 1; }
	@echo 'making .venv, once'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/test: .venv/made
.venv/dev: .venv/test
.venv/test .venv/dev: .venv/%: pyproject.toml
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
.venv/fuzz: .venv/test pyproject.toml
	@$(BIN)/python -m pip install --quiet --only-binary atheris --editable '.[fuzz]' || { \
	    echo 'make fuzz needs atheris, which has wheels for Linux on x86-64 and a few Pythons alone, and none for' \
	        "$$($(BIN)/python -VV | head -n 1) on $$(uname -sm)" >&2; exit 1; }
	@touch $@
