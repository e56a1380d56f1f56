# Sync-R1: `make demo` and `make test` set everything up by themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
# One thread per test process is faster than processes that fight over the cores. Three on two cores, because tests of
# signals and servers wait much of their time.
JOBS ?= 3
# What to install PyTorch from is your choice: pip's own configuration, or TORCH="torch==2.13.0 --index-url <the index for your device>".
TORCH ?= torch==2.13.0
# make speed: runs per comparison, and minutes after which a comparison ends with those it has.
RUNS ?= 5
MINUTES ?= 90
# make study STUDY=background: runs at a time, one core each.
STUDY_JOBS ?= 2
# make example-pictures: the trained run that the examples use, and its concept.
RUN ?= runs/demo
CONCEPT ?= bo
EXAMPLES := $(filter-out examples/shared.py examples/custom_reward.py,$(wildcard examples/*.py))
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check
STAMP := $(VENV)/.stamp-setup
LOG := $(VENV)/setup.log

.PHONY: help setup demo test e2e study applications example-pictures speed lint format clean

help:  ## Show this help
	@echo "Sync-R1: one model that understands and draws your things"; echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv and install the package with its development tools

$(STAMP): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo "$(PYTHON) is no Python 3.10 or newer, which is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch and the package into $(VENV), about 2 to 10 minutes; the log is $(LOG)"
	@{ $(PIP) $(TORCH) -c constraints.txt && $(PIP) -c constraints.txt -e ".[dev,e2e]"; } >$(LOG) 2>&1 \
		|| { tail -n 20 $(LOG); echo "Installing failed; the whole log is $(LOG). Run make setup again to go on."; exit 1; }
	@touch $@

demo: $(STAMP)  ## Train on the embedded world, without GPU or download; writes runs/demo/report.html
	$(VENV)/bin/sync-r1 demo

test: $(STAMP)  ## Run all tests but the long ones in a browser
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) -m "not browser"

e2e: $(STAMP)  ## Test the studio in a real browser (Chromium), some minutes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests/e2e

study: $(STAMP)  ## Test every claim, going on from the cells in docs/; STUDY=quick: 20 minutes anew; STUDY=background: niced
ifeq ($(STUDY),background)
	@mkdir -p runs/study
	nohup nice -n 19 $(VENV)/bin/sync-r1 study --jobs $(STUDY_JOBS) >>runs/study/log.txt 2>&1 & echo "process $$!, log runs/study/log.txt; the same command goes on after a stop"
else
	$(VENV)/bin/sync-r1 study $(if $(filter quick,$(STUDY)),--quick)
endif

applications: $(STAMP)  ## Test every claim of the applications, some hours; writes docs/applications.json and its table
	$(VENV)/bin/python benchmarks/applications.py

example-pictures: $(STAMP)  ## Make the pictures in docs/examples again, with the model of make demo (RUN=…, CONCEPT=…)
	rm -rf runs/examples
	for path in $(EXAMPLES); do \
		OMP_NUM_THREADS=1 $(VENV)/bin/python $$path --run $(RUN) --concept $(CONCEPT) --out runs/examples || exit 1; \
	done
	mkdir -p docs/examples && cp runs/examples/*.png docs/examples/

speed: $(STAMP)  ## Time ours against plain code, some hours; writes benchmarks/results.json and docs/speed.md
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/speed.py --models tiny --runs $(RUNS)
	$(VENV)/bin/python benchmarks/speed.py --models middle --plain-rows 2 --runs $(RUNS) --minutes $(MINUTES) --page docs/speed.md

lint: $(STAMP)  ## Check style (ruff) and types (mypy)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)  ## Apply ruff's fixes and formatting
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## Remove build products and caches; keeps .venv and runs/
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find sync_r1 tests -name __pycache__ -type d -prune -exec rm -rf {} +
