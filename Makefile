# `make` lists the commands. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.PHONY: help run predict test lint figures same jupyter clean
PYTHON ?= python3
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# what a user wrote, letter by letter: a $ or a ~ in it is neither make's nor the shell's
export NOTEBOOKS_ := $(value NOTEBOOKS)
export SET_ := $(value SET)
export FILES_ := $(value FILES)
export TO_ := $(value TO)
export BASE_ := $(value BASE)
export ACCEPT_ := $(value ACCEPT)
SUPPORTED := import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
  f"TensorFlow needs Python 3.11, 3.12 or 3.13, and this is {v[0]}.{v[1]}: name one, as in make run PYTHON=python3.12")

help:
	@echo "make run                       run notebooks 01 to 05 on the X-rays in chest_xray/ or CHEST_XRAY_DIR;"
	@echo "                               without any, on a sample of them (about 6 minutes)"
	@echo "make run DOWNLOAD=1            fetch the X-rays from Kaggle first (1.2 GB, no account needed)"
	@echo "make run NOTEBOOKS=\"04 05\"     only these; NOTEBOOKS=all: all of them, with the appendix"
	@echo "make run SET=\"SEEDS=1\"         with other parameters, in .cache/set/; results/ stays as it is"
	@echo "make predict FILES=folder      answers for your own films (JPEG, PNG, DICOM), or \"cannot tell\" and why"
	@echo "make test                      unit tests, and all notebooks on drawn films"
	@echo "make lint                      check style and layout"
	@echo "make figures                   write the figures of results/ into README, docs/ and the model card"
	@echo "make same BASE=commit          are all numbers as they were with the code of that commit?"
	@echo "make jupyter                   open the notebooks in JupyterLab"
	@echo "make clean                     delete .venv and .cache; X-rays and results stay"

.venv/installed: requirements.txt
	@$(PYTHON) -c '$(SUPPORTED)'
	@echo "Installing into .venv (about 2 GB; a minute or more, once) ..."
	@$(PYTHON) -m venv .venv || { echo "Python could not make .venv: install its venv module (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@$(PY) -m pip install -qq --no-compile --no-user -r requirements.txt
	@touch $@

run: .venv/installed
	@PYTHONPATH=notebooks exec $(PY) tools/run.py --notebooks "$$NOTEBOOKS_" --set "$$SET_" $(if $(DOWNLOAD),--download)

predict: .venv/installed
	@test -n "$$FILES_" || { echo "Name a film or a folder of films: make predict FILES=folder"; exit 1; }
	@cd notebooks && exec ../$(PY) -m cxr.predict "$$FILES_" $(if $(TO),--to "$$TO_") $(if $(ANYWAY),--anyway)

test: .venv/installed
	@exec env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 $(PY) -m pytest $(ARGS)

lint: .venv/installed
	@$(PY) -m ruff check .
	@exec $(PY) -m ruff format --check .

figures: .venv/installed
	@PYTHONPATH=notebooks exec $(PY) tools/report.py

same: .venv/installed
	@test -n "$$BASE_" || { echo "Name the commit to compare with: make same BASE=HEAD~1"; exit 1; }
	@PYTHONPATH=notebooks exec $(PY) tools/same.py --base "$$BASE_" --notebooks "$$NOTEBOOKS_" --accept "$$ACCEPT_" $(if $(STAMP),--stamp)

jupyter: .venv/installed
	@cd notebooks && exec ../$(PY) -m jupyter lab 01_download.ipynb

clean:
	rm -rf .venv .cache
