# The README's commands. `make setup` is all that the others need, and they call it themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := submodules/diff-gaussian-rasterization
NATIVE_SOURCES := $(shell find $(NATIVE) -type f -not -path '*/build/*' -not -path '*/__pycache__/*')
CPP_SOURCES := $(filter %.h %.cpp %.cu,$(NATIVE_SOURCES) $(wildcard tests/cuda/shim/*))

FOLDERS := arguments datasets gaussian_renderer localization mapping scene tracking utils visualization

.PHONY: help setup demo test test-cuda lint format bench accuracy clean

help:
	@echo "make setup     create $(VENV) and install everything into it"
	@echo "make demo      build a textured room, map it, localize in it, write a report (under 6 minutes, 2 cores)"
	@echo "make test      lint, run every test, and fail where a kernel has become 25 % slower"
	@echo "make test-cuda the CUDA kernels: run on the CPU, compiled for every GPU from sm_75 to sm_120 (needs nvcc)"
	@echo "make lint      ruff, mypy, clang-format"
	@echo "make format    let ruff and clang-format rewrite the sources"
	@echo "make bench     rasterizer timings as ratios to this machine's matrix rate"
	@echo "make accuracy  the README's table, beside the sparse baseline (needs the data sets)"

setup: $(VENV)/.native $(VENV)/.package

$(VENV)/.python: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/.native: $(VENV)/.python $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps ./$(NATIVE)
	touch $@

# Editable: `import gsplatloc` in the environment is this checkout.
$(VENV)/.package: $(VENV)/.python pyproject.toml setup.py
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The folders of the package under one roof, for mypy, which does not run gsplatloc/__init__.py.
build/typed: setup.py
	mkdir -p $@/gsplatloc
	cd $@/gsplatloc && ln -sfn $(addprefix ../../../,$(FOLDERS) gsplatloc/__init__.py gsplatloc/api.py gsplatloc/cli) .
	touch $@

demo: setup
	$(BIN)/python -m benchmarks.demo

test: setup lint
	$(BIN)/python -m pytest
	$(BIN)/python -m benchmarks.suite --quick

test-cuda: setup
	GSPLAT_ALL_ARCHITECTURES=1 $(BIN)/python -m pytest tests/cuda

lint: setup build/typed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml
	$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP_SOURCES)

bench: setup
	$(BIN)/python -m benchmarks.raster

accuracy: setup
	$(BIN)/python -m benchmarks.accuracy

clean:
	rm -rf $(VENV) build dist output .pytest_cache .ruff_cache .mypy_cache
