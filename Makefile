# `make repro` and `make test` do everything on a fresh machine that has Python 3.11, make and the package registry.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# DVC's stages call `python`: the one of the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro pages compare efficiency ablations tune tuned sensitivity test lint format lab ui mlflow setup lock screenshots clean
.DEFAULT_GOAL := help

help:
	@echo "make repro   run the pipeline: every table and figure (15 to 30 minutes the first time, on 2 cores)"
	@echo "make pages   the executed notebooks as HTML, with a page to open first"
	@echo "make test    run the tests"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make ui      compare the runs in the MLflow UI"
	@echo "make lint    format, lint and types"
	@echo "make compare run every model on one data set, by default your copy of the H&M data (see README.md)"
	@echo "make efficiency tell what each model of one data set cost on this machine: seconds, memory, parameters"
	@echo "make ablations run the token models with one part changed at a time, on one data set"
	@echo "make tune    tune every model on the validation split of one data set; make tuned writes the best into params/"
	@echo "make sensitivity vary the settings of MoToRec one at a time and draw what validation says, on one data set"
	@echo "make mlflow  tell MLflow about runs whose files it has not seen"

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install Python 3.11, or say make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (a few minutes, once)"
	@# torch first: the others ask for a range of it, and the newest is gigabytes larger.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Runs of models take one thread each and go JOBS at a time; the results do not depend on it.
JOBS ?= 2
repro: setup
	@$(BIN)/python -m motorec.pipeline --jobs $(JOBS)

pages: setup
	@$(BIN)/python -m motorec.pipeline --jobs $(JOBS) pages index
	@echo "To open in a browser: $(CURDIR)/data/pages/index.html"

# Every model with several seeds on one data set; the same command continues what was stopped.
DATASET ?= hm
compare: setup
	@$(BIN)/python -m motorec.pipeline --profile compare --dataset $(DATASET) --jobs $(JOBS) --keep-going track report readable pages
	@$(BIN)/python -m motorec.reporting.efficiency $(DATASET) --profile compare
	@$(BIN)/dvc repro --quiet --single-item summary index

# What each model costs, from the runs of one data set (garments unless you say another) on this machine, in
# results/efficiency/. No stage, since times are never the same twice.
efficiency: setup
	@$(BIN)/python -m motorec.reporting.efficiency $(DATASET)

# Both token models with one part changed at a time: profile params/profiles/ablations.yaml; what is done is kept.
# ABLATIONS="motorec motorec-no-ara" for some of them.
ABLATIONS ?=
ablations: setup
	@$(BIN)/python -m motorec.pipeline --profile ablations --dataset $(DATASET) tokenize
	@$(BIN)/python -m motorec.ablations $(DATASET) $(ABLATIONS) --jobs $(JOBS)
	@$(BIN)/python -m motorec.tracking replay $(DATASET)

# The same number of trials for every model of params/tune.yaml, JOBS models at a time; MODELS="bpr vbpr" for some of them.
MODELS ?=
tune: setup
	@$(BIN)/python -m motorec.tuning $(DATASET) $(MODELS) --jobs $(JOBS)

tuned: setup
	@$(BIN)/python -m motorec.tuning $(DATASET) $(MODELS) --apply

# One setting at a time, on garments unless you say another, JOBS side by side; PARAMETERS="gamma K" for some of those in
# params/sensitivity.yaml.
PARAMETERS ?=
efficiency sensitivity: DATASET := $(if $(filter environment,$(origin DATASET)),$(DATASET),garments)
sensitivity: setup
	@$(BIN)/python -m motorec.sensitivity $(DATASET) $(PARAMETERS) --jobs $(JOBS)

test: setup
	$(BIN)/python -m pytest -m "not slow"
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lab: setup
	$(BIN)/jupyter lab --notebook-dir=notebooks

ui: setup
	$(BIN)/python -m motorec.tracking ui

mlflow: setup
	$(BIN)/python -m motorec.tracking

screenshots: setup
	$(BIN)/python docs/screenshot_mlflow.py

# Pin anew what pyproject.toml asks for.
lock: setup
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --no-emit-index-url --no-emit-find-links --allow-unsafe \
		--output-file requirements.lock pyproject.toml
	@# A local build's label (+cpu) is one machine's; the version is for all.
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
