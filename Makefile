# The verbs of this project. Each does all its set-up: a virtual environment in .venv, everything in it.
# Needs Python >= 3.11, make and a C++20 compiler.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# The torch pair that tests and the demo run with. Where pip's own torch is the wrong one for you, say which
# index to take it from, e.g. make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torchvision comes without its dependencies: it must not replace the torch that was just chosen.
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
TORCH_INDEX ?=
INDEX = $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

SOURCES = CMakeLists.txt pyproject.toml $(wildcard csrc/* csrc/gpu/* kernels/*/* clipscan/*.py clipscan/*/* clipscan/*/*/*.py clipscan/*/*/*/*.py clipscan/report/page/*.* clipscan/report/page/js/*)

.PHONY: demo test lint bench clean

demo: $(VENV)/.installed
	$(BIN)/clipscan demo --out demo

test: $(VENV)/.installed
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/pip install --quiet '.[dev,bench]'
	$(BIN)/python bench/knn.py
	$(BIN)/python bench/score.py

clean:
	rm -rf $(VENV) demo build

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "clipscan needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(INDEX) $(TORCH)
	$(BIN)/pip install --quiet --no-deps $(INDEX) $(TORCHVISION)
	touch $@

$(VENV)/.installed: $(VENV)/.torch $(SOURCES)
	$(BIN)/pip install --quiet '.[dev]'
	touch $@
