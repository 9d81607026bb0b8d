# Each target works alone on a fresh machine with make, git and python3.11 or newer with venv.
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.installed
STORE := results/mlflow.db
PORT ?= 5000
BENCHMARKS := aot correlation exported jf local_attention lockstep memory_read overhead soups step training upload
OUT ?=
FILE ?= demo
PAGE := build/page

.DEFAULT_GOAL := help
.PHONY: help install sweep check format test test-all test-soak docs-check bench hooks ui install-web install-litert install-executorch demo

help:
	@echo "make install      .venv with the versions of constraints.txt; every target below does it first"
	@echo "make sweep        a whole sweep on generated clips, about a quarter of an hour on two cores"
	@echo "make ui           look at it: MLflow on http://127.0.0.1:$(PORT); PORT=N for another"
	@echo "make demo         a student in a web page on http://127.0.0.1:8000; FILE=student.safetensors or mlflow:omega for another than the one that ships"
	@echo "make install-web  what the page needs: ONNX Runtime Web, by npm"
	@echo "make install-litert      .venv-litert, whose python exports to LiteRT: 0.8 GB over .venv"
	@echo "make install-executorch  .venv-executorch, whose python exports to ExecuTorch: 0.2 GB over .venv"
	@echo "make test         ruff, mypy and the fast tests"
	@echo "make test-all     the slow tests too: Ray, kills, a browser"
	@echo "make test-soak    what test-all leaves out to end within the hour: before a release"
	@echo "make check        ruff and mypy alone"
	@echo "make format       lay the code out as make check wants it"
	@echo "make docs-check   the commands, keys, links and tables of every README"
	@echo "make bench        the speed targets, some minutes; OUT=sweeps/results keeps the figures"
	@echo "make hooks        run make check before each git commit"

install: $(DONE)

$(DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("python %d.%d: this needs 3.11 or newer; make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 2**30; sys.exit("%.1f GiB free here: the installation takes 10" % free if free < 10 else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "python has no venv: apt-get install python3-venv"; exit 1; }
	@echo "1 of 2: making .venv"
	@$(PYTHON) -m venv .venv
	@echo "2 of 2: installing into .venv; with CUDA's libraries pip downloads gigabytes (README: a CPU-only torch)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(DONE)

sweep: install
	$(BIN)/python -m orchestrator.sweep sweeps/omega.yaml

check: install
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

format: install
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

# Two processes for tests of one thread each; neighbours stay in one, which makes what they share.
test: check
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not gpu"

test-all: test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "slow and not gpu and not soak" --ignore=tests/integration
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not gpu and not soak" tests/integration

test-soak: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "soak and not gpu"

docs-check: install
	$(BIN)/python -m pytest -q tests/test_docs.py tests/config/test_reference.py

# Every benchmark runs, also after one that missed a target. The timed rounds of all took 107 s on
# 2 cores of an AMD EPYC (commit aa514c9, 2026-11-21); the rest is making what they time.
bench: install
	@missed=0; for name in $(BENCHMARKS); do \
	  $(BIN)/python -m tests.benchmarks.$$name $(if $(OUT),--out $(OUT)/benchmark-$$name.json) || missed=1; \
	done; exit $$missed

hooks:
	@hook="$$(git rev-parse --git-path hooks)/pre-commit"; \
	if [ -e "$$hook" ] && ! grep -q "make check" "$$hook"; then echo "$$hook: there is another hook; add 'make check' to it"; exit 1; fi; \
	mkdir -p "$$(dirname "$$hook")" && printf '#!/bin/sh\nexec make check\n' > "$$hook" && chmod +x "$$hook" && \
	echo "$$hook: runs make check before each commit; git commit --no-verify goes without"

ui: install
	@$(BIN)/python -m orchestrator.ui --port $(PORT) --tracking-uri "sqlite:///$(CURDIR)/$(STORE)"

install-web: install
	@$(BIN)/python -m vosmodels.export.install_web

install-litert: .venv-litert/.installed

install-executorch: .venv-executorch/.installed

# An environment over .venv, whose packages it sees; one of its own list hides that of the same name there.
# The list is whole and taken as it is: what its packages say they need contradicts constraints.txt.
.venv-%/.installed: $(DONE) constraints-%.txt
	$(BIN)/python -m venv .venv-$*
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	{ $(BIN)/python -c "$$packages"; echo "$(CURDIR)"; } > "$$(.venv-$*/bin/python -c "$$packages")/over.pth"
	.venv-$*/bin/python -m pip install --disable-pip-version-check --no-deps -r constraints-$*.txt
	@touch $@

demo: install-web
	@mkdir -p build; file="$(FILE)"; case "$$file" in mlflow:*|models:*) \
	  $(BIN)/python -m orchestrator.fetch "$$file" build/student.safetensors --overwrite && file=build/student.safetensors;; esac && \
	$(BIN)/python -m vosmodels.export --web $(PAGE) --overwrite "$$file" && \
	$(BIN)/python -m vosmodels.export.serve $(PAGE)
