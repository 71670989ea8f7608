# skytally: `make help` lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
GZ1 := ../shared/data/gz1
OUT := out

.DEFAULT_GOAL := help
.PHONY: help run test lint check audit-validation audit-scale bench realism trainings chaos gpu-check bundle docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "skytally needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# What a CPU needs: no torch.
$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[cpu,train,lsdb,dev,docs]'
	@touch $@

run: $(VENV)/.run  ## Install, then simulate, annotate and audit two skies (5 minutes)
	$(BIN)/skytally demo --to $(OUT)/demo

test: $(VENV)/.dev  ## Install, then run all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## What CI runs: format, lint, types, import contracts, all tests

bench: $(VENV)/.dev  ## Measure every speed to be reached, against its bound or a baseline (1 h)
	$(BIN)/python -m benchmarks.bench

realism: $(VENV)/.dev  ## Compare simulated galaxies with real ones: pages, distances, networks
	$(BIN)/python -m benchmarks.realism --to $(OUT)/realism

audit-validation: $(VENV)/.dev  ## Measure the audit's false alarms, power and causes (15 minutes)
	$(BIN)/python -m benchmarks.audit_validation --to $(OUT)/audit-validation

audit-scale: $(VENV)/.dev  ## Audit 10^6, 10^7 and 10^8 rows: time and memory (15 minutes, 7 GB)
	$(BIN)/python -m benchmarks.audit_scale --to $(OUT)/audit-scale

trainings: $(VENV)/.dev  ## Train what docs/results/training.md speaks of (hours; goes on)
	$(BIN)/python -m benchmarks.trainings --to $(OUT)/trainings

gpu-check: $(VENV)/bin/python  ## On a machine with a card and its ONNX Runtime: compare with the CPU
	$(BIN)/python -m benchmarks.gpu_check

chaos: $(VENV)/.dev  ## Kill 200 runs at seeded moments and resume each (40 minutes)
	PYTHONPATH=.:tests $(BIN)/python -m chaos.many --runs 200

bundle: $(VENV)/.dev  ## Train and export the bundle that ships, from ../shared/data/gz1
	rm -rf $(OUT)/bundle && mkdir -p $(OUT)/bundle
	$(BIN)/skytally ingest $(GZ1)/objects.csv --images $(GZ1)/images --id objid \
	  --classes 'spiral=spiral_clockwise|spiral_anticlockwise|edge_on,elliptical=elliptical' \
	  --class-column gz1_class --to $(OUT)/bundle/gz1.zarr
	$(BIN)/skytally train $(OUT)/bundle/gz1.zarr --settings export/shipped/gz1-equivariant.toml \
	  --to $(OUT)/bundle/gz1-equivariant.run
	$(BIN)/skytally export $(OUT)/bundle/gz1-equivariant.run \
	  --to export/shipped/gz1-equivariant.bundle --replace
	cd $(OUT)/bundle/gz1-equivariant.run && cp settings.json data.json result.json weights.safetensors \
	  $(CURDIR)/export/shipped/gz1-equivariant.run

docs: $(VENV)/.dev  ## Build the reference from the docstrings
	$(BIN)/pdoc --docformat numpy --output-directory $(OUT)/docs \
	  skytally catalogs training export engine experiments
	@echo "$(OUT)/docs/index.html"

clean:  ## Remove what was built, but not .venv
	rm -rf $(OUT) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find catalogs training export engine experiments tests benchmarks -name __pycache__ -exec rm -rf {} +
