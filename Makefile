# `make` lists the commands. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.PHONY: help setup run trials predict ablation benchmark test colab lint jupyter render figures stale restamp badges clean
PYTHON ?= python3
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:
	@echo "make run                       run notebooks 01 to 05 on the X-rays in chest_xray/ or CHEST_XRAY_DIR;"
	@echo "                               without any, on a drawn practice set (about 4 minutes)"
	@echo "make run DOWNLOAD=1            fetch the X-rays from Kaggle first (1.2 GB, no account needed)"
	@echo "make run NOTEBOOKS=\"04 05\"     only these: train and evaluate"
	@echo "make run NOTEBOOKS=all         all of them: explain, transfer, subtypes, your own films, another hospital"
	@echo "make predict FILES=folder      answers for your own pictures (JPEG, PNG, DICOM), or \"cannot tell\" and why:"
	@echo "                               predictions.csv, .json, .html; again: new and changed files; ANYWAY=1: refused ones, too, marked"
	@echo "make run SET=\"SEEDS=1\"         a trial with other parameters, in .cache/trials; results/ stays as it is"
	@echo "make run TRIAL=name            a trial of changed code, with or without SET"
	@echo "make trials                    what the trials reached on validation, as a table; benchmarks/trials.csv keeps it"
	@echo "make ablation                  train every row of 04_ablation.csv (about 30 minutes on two cores)"
	@echo "make benchmark                 how fast: decoding, input, training, against the usual ways"
	@echo "make test                      unit tests, and all notebooks on tiny data"
	@echo "make colab                     all of them on stand-ins for Colab and Kaggle (as root on Linux; an hour)"
	@echo "make jupyter                   open the notebooks in JupyterLab"
	@echo "make lint                      check style and layout, and the types of modules"
	@echo "make render                    run all of them, then write their figures into README and docs/: before a commit"
	@echo "make figures                   write the figures of results/ into README, docs/ and benchmarks/"
	@echo "make stale                     which results come from older code, and what changed"
	@echo "make restamp                   after a rewrite: are all numbers still the same?"
	@echo "make badges REPO=owner/name    point the Colab links at your copy on GitHub"
	@echo "make clean                     delete .venv and .cache, with its trials; X-rays and results stay"

setup: .venv/installed
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python {sys.version.split()[0]} is too old: install Python 3.11 or newer, or name one: make run PYTHON=python3.12")'
	@echo "Installing into .venv (about 2 GB; a minute or more, once) ..."
	@$(PYTHON) -m venv .venv || { echo "Python could not make .venv: install its venv module (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@$(PY) -m pip install -qq --no-compile -r requirements.txt
	@touch $@

run: setup
	@PYTHONPATH=notebooks exec $(PY) tools/run.py --notebooks "$(NOTEBOOKS)" --set "$(SET)" $(if $(DOWNLOAD),--download)

trials: setup
	@cd notebooks && exec ../$(PY) -m cxr.project.trials

predict: setup
	@test -n "$(FILES)" || { echo "Name a picture or a folder of pictures: make predict FILES=folder"; exit 1; }
	@place=$$(realpath "$(FILES)") && to=$$PWD/predictions.csv && cd notebooks && exec ../$(PY) -m cxr.predict "$$place" --to "$$to" $(if $(ANYWAY),--anyway)

ablation:
	@$(MAKE) run NOTEBOOKS=04 SET="ABLATION_SEEDS=3" TRIAL= INTO_RESULTS=1

benchmark: setup
	@exec $(PY) benchmarks/speed.py $(if $(FILES),--files "$(FILES)")

test: setup
	@exec $(PY) -m pytest $(ARGS)

colab: setup
	@exec $(PY) tests/colab_stand_in/simulate.py $(SCENARIOS)

jupyter: setup
	@cd notebooks && exec ../$(PY) -m jupyter lab 01_download.ipynb

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@exec $(PY) -m mypy

render:
	@$(MAKE) run NOTEBOOKS="$(or $(NOTEBOOKS),all)" SET= TRIAL=
	@$(MAKE) figures

figures: setup
	@PYTHONPATH=notebooks exec $(PY) tools/report.py

stale: setup
	@cd notebooks && exec ../$(PY) -m cxr.fingerprint

restamp: setup
	@cd notebooks && exec ../$(PY) -m cxr.project.restamp --accept "$(ACCEPT)" --since "$(SINCE)"

badges:
	@cd notebooks && exec $(PYTHON) -m cxr.project.badges "$(REPO)"

clean:
	rm -rf .venv .cache
