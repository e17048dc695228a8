# Every target sets up what it needs by itself (scripts/setup-env); Python 3.11 or newer and make are enough to start.
# All paths are relative, so that a checkout under a path with a space works.

PYTHON_BIN := .venv/bin/python

# A worker a core and two more, or a worker a core, each with files as a whole (tests/conftest.py).
PARALLEL := -n auto --dist loadgroup --no-loadscope-reorder
A_WORKER_A_CORE := -n logical --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
# One environment for all targets: two set-ups at once (make -j) would write into each other's.
.NOTPARALLEL:
.PHONY: help demo real test test-slow test-engines test-formats quick fuzz soak lint ruff bench docs lock audit sbom clean env env-real env-dev \
  env-engines env-formats env-docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: env ## compare six samplers on mini-code: a leaderboard and a page in runs/demo
	@.venv/bin/spa-bench demo

real: env-real ## base, single and SPA on HumanEval with a real model (smollm2): half an hour on two cores, in runs/real
	@.venv/bin/spa-bench real

# The tests reach no network: a model or data set that is not here is a failure, not a download.
test: export HF_HUB_OFFLINE = 1
test: export TOKENIZERS_PARALLELISM = false
test: lint ## lint, types and tests; stops at the first step that fails
	@echo '== pytest'
	@$(PYTHON_BIN) -m pytest $(PARALLEL)

test-slow: export HF_HUB_OFFLINE = 1
test-slow: export TOKENIZERS_PARALLELISM = false
test-slow: env-dev ## the tests that `make test` leaves out for their time: half an hour
	@echo '== pytest -m slow'
	@$(PYTHON_BIN) -m pytest $(PARALLEL) -m slow

quick: export HF_HUB_OFFLINE = 1
quick: export TOKENIZERS_PARALLELISM = false
quick: ruff ## lint, types and the tests that start no process and load no model (tests/quick.txt): under a minute
	@echo '== mypy, and pytest beside it'
	@$(PYTHON_BIN) -m mypy & types=$$!; \
	  $(PYTHON_BIN) -m pytest $(A_WORKER_A_CORE) @tests/quick.txt; tests=$$?; \
	  wait $$types && exit $$tests

fuzz: env-dev ## files and command lines with anything in them, for MINUTES=60: no traceback, no hang, no stray write
	@scripts/fuzz

soak: env-dev ## runs, kills, resumes, grading and viewing for MINUTES=60: memory, files and processes stay flat
	@PYTHONPATH=tests HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(PYTHON_BIN) tests/soak.py

# vLLM runs in an environment of its own; SPA_BENCH_VLLM_PYTHON names the interpreter of one that is there already.
test-engines: export HF_HUB_OFFLINE = 1
test-engines: export TOKENIZERS_PARALLELISM = false
test-engines: export SPA_BENCH_VLLM_PYTHON := $(or $(SPA_BENCH_VLLM_PYTHON),$(CURDIR)/.venv-engines/bin/python)
test-engines: env-dev env-engines ## the tests against real engines (vLLM on a CPU): ten minutes, docs/how-to/engines.md
	@echo '== pytest -m engines'
	@$(PYTHON_BIN) -m pytest -m engines tests/engines

# every-eval-ever and inspect-ai pin other versions than ours; SPA_BENCH_FORMATS_PYTHON names an interpreter that has them.
test-formats: export SPA_BENCH_FORMATS_PYTHON := $(or $(SPA_BENCH_FORMATS_PYTHON),$(CURDIR)/.venv-formats/bin/python)
test-formats: env-dev env-formats ## exports read by the tools that they are for: a minute, docs/how-to/export.md
	@echo '== pytest tests/formats'
	@$(PYTHON_BIN) -m pytest tests/formats

lint: ruff ## ruff check, ruff format --check and mypy
	@echo '== mypy'
	@$(PYTHON_BIN) -m mypy

ruff: env-dev
	@echo '== ruff check'
	@$(PYTHON_BIN) -m ruff check
	@echo '== ruff format --check'
	@$(PYTHON_BIN) -m ruff format --check

bench: env-dev ## run each script in benchmarks/ in turn
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(PYTHON_BIN) "$$script"; done

docs: export PYTHONPATH = harness
docs: env-docs ## the documentation's site, in site/index.html; it needs no network to read
	@.venv-docs/bin/python scripts/docs/npm.py
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --quiet
	@.venv-docs/bin/python scripts/docs/links.py site
	@echo 'site/index.html'

lock: ## write requirements.lock: constraints.txt with the hashes of its files
	@scripts/trust lock

audit: ## known vulnerabilities of what constraints.txt names (asks PyPI)
	@scripts/trust audit

sbom: env ## write sbom.json: a software bill of materials (CycloneDX) of .venv
	@scripts/trust sbom

clean: ## remove caches and build output (keeps .venv and runs)
	@rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . \( -name .venv -o -name .git -o -name runs \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

env:
	@scripts/setup-env base

env-real:
	@scripts/setup-env real

env-dev:
	@scripts/setup-env dev

env-docs:
	@scripts/setup-env docs

env-engines:
	@SPA_BENCH_VLLM_PYTHON="$(filter-out $(CURDIR)/.venv-engines/bin/python,$(SPA_BENCH_VLLM_PYTHON))" scripts/setup-env engines

env-formats:
	@SPA_BENCH_FORMATS_PYTHON="$(filter-out $(CURDIR)/.venv-formats/bin/python,$(SPA_BENCH_FORMATS_PYTHON))" scripts/setup-env formats
