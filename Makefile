# Everything is set up in .venv by the first target that needs it; only Python 3.11-3.13, git and make are assumed.
SHELL := /bin/bash -o pipefail
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
UV := $(BIN)/uv
# Bytecode is compiled here once: importing torch and transformers from source takes 20 s each time.
INSTALL := $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
# Data is optional: without it the tests that need it skip and say so.
export OREO_DATA ?= $(wildcard $(abspath ../shared/data))
ifeq ($(OREO_DATA),)
unexport OREO_DATA
endif

.PHONY: demo test check lint format metrics lock docs findings clean

demo: .venv/runtime.done  ## train and compare all algorithms on the embedded task
	$(BIN)/oreo run hydra.run.dir=outputs/demo

test: .venv/dev.done  ## the suite, the smoke run, and the wheel in an empty environment
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not gpu and not network"

check: lint test

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

metrics: .venv/runtime.done  ## docs/metrics.md, from oreo_algos/training/glossary.py
	$(BIN)/oreo metrics --markdown > docs/metrics.md

.venv/bootstrap.done: requirements/bootstrap.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11, 3.12 or 3.13 is needed, and none was found; say make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/runtime.done: requirements/runtime.txt pyproject.toml .venv/bootstrap.done
	$(INSTALL) --require-hashes -r $<
	$(INSTALL) --no-deps -e .
	@touch $@

# Parts of the extras `alfworld` and `reasoning-gym` are compiled; where that fails the rest of the suite still runs.
.venv/dev.done: requirements/dev.txt requirements/alfworld.txt requirements/reasoning-gym.txt .venv/runtime.done
	$(INSTALL) --require-hashes -r $<
	$(INSTALL) --require-hashes -r requirements/alfworld.txt \
	  || echo "the extra [alfworld] needs gcc, g++, make and cmake to build; the tests that use it will skip"
	$(INSTALL) --require-hashes -r requirements/reasoning-gym.txt \
	  || echo "the extra [reasoning-gym] needs gcc to build; the tests that use it will skip"
	@touch $@

lock: .venv/bootstrap.done  ## exact versions with hashes, from pyproject.toml
	./requirements/lock.sh $(UV)

.venv/docs.done: requirements/docs.txt .venv/runtime.done
	$(INSTALL) --require-hashes -r $<
	@touch $@

docs: .venv/docs.done  ## pages from the docstrings, then the site, in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

findings:  ## surprises of other libraries, shown again without our code; downloads some GB, not part of check
	@code=0; for script in findings/*.sh; do name=$$(basename $$script .sh); \
	  if output=$$(bash $$script 2>&1); then echo "$$name: ok"; \
	  else echo "$$output"; echo "$$name: changed"; code=1; fi; done; exit $$code

clean:
	rm -rf .venv build dist outputs multirun site
