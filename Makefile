# Each target works alone on a fresh machine with make, git and python3.11 or newer with venv.
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.installed
STORE := results/mlflow.db
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help install sweep check test test-all ui

help:
	@echo "make sweep     a whole sweep on generated clips, about ten minutes on two cores"
	@echo "make ui        look at it: MLflow on http://127.0.0.1:$(PORT)"
	@echo "make test      ruff, mypy and the fast tests; make test-all adds the slow ones"

install: $(DONE)

$(DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("python %d.%d: this needs 3.11 or newer; make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 2**30; sys.exit("%.1f GiB free here: the installation takes 10" % free if free < 10 else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "python has no venv: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(DONE)

sweep: install
	$(BIN)/python -m orchestrator.sweep sweeps/omega.yaml

check: install
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

test: check
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

test-all: check
	$(BIN)/python -m pytest -q -m "not gpu"

ui: install
	@test -e $(STORE) || { echo "$(STORE): no store here yet; run: make sweep"; exit 1; }
	$(BIN)/python -m mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri "sqlite:///$(CURDIR)/$(STORE)"
