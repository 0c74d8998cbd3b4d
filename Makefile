# `make` alone lists what there is. Needs Python 3.11 with venv and pip; everything else is fetched.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo accuracy generators chaos hosts weights services images lock audit licences lint test clean
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HALF := $(VENV)/.half-installed
LOG := $(VENV)/install.log
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' infra/cpu.in)
TOOLS := .tools

# pip, with its chatter in a log: on a terminal the package it is at, on failure its reason in one line.
define pip
$(BIN)/python -m pip --disable-pip-version-check --no-input install --progress-bar off $(1) 2>&1 | tee $(LOG) \
	| { if [ -t 2 ]; then awk '/^ *(Collecting|Downloading|Processing|Installing)/ { printf "\r\033[K      %.60s", $$0 > "/dev/stderr" } \
	END { printf "\r\033[K" > "/dev/stderr" }'; else cat > /dev/null; fi; } \
	|| { echo "the environment could not be installed: $$(grep -m1 '^ERROR' $(LOG) || tail -n 1 $(LOG)) (all of it: $(LOG))" >&2; exit 1; }
endef

# A check that speaks only when it fails.
define check
echo "check: $(1)"; said=$$($(BIN)/$(1) 2>&1) || { echo "$$said"; exit 1; }
endef

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

venv: $(STAMP)  ## the environment in .venv (8 GB; instant when nothing has changed)
	@:

$(STAMP): infra/cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null \
		|| { echo "Python 3.11 is needed and $(PYTHON) is not it: install python3.11, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ -e $(HALF) ]; then echo "environment: the last installation was cut off; starting again"; rm -rf $(VENV); fi
	@echo "environment 1/4: $(VENV) for $$($(PYTHON) --version)"
	@mkdir -p $(VENV) && touch $(HALF)
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV) > $(LOG) 2>&1 \
		|| { echo "no environment could be made: $$(grep -m1 . $(LOG)) (on Debian: apt install python3.11-venv)" >&2; exit 1; }
	@echo "environment 2/4: $(TORCH) (the largest package)"
	@$(call pip,$(TORCH))
	@echo "environment 3/4: $$(grep -c == infra/cpu.lock) pinned packages"
	@$(call pip,--no-deps --require-hashes -r infra/cpu.lock)
	@echo "environment 4/4: votequeue"
	@$(call pip,--no-deps --no-build-isolation -e .)
	@rm -f $(HALF) && touch $@

# Only from the command line: many environments have variables of these names, such as gettext's.
ifeq ($(origin LANGUAGE),command line)
LANGUAGE_OPTION := --language "$(LANGUAGE)"
endif
ifeq ($(origin MODEL),command line)
MODEL_SETTING := VOTEQUEUE_MODEL="$(MODEL)"
endif

demo: venv  ## real questions through broker, vLLM and scorer, start to end (at most 20 minutes; LANGUAGE=en)
	@exec $(BIN)/python -m infra.demo $(LANGUAGE_OPTION)

accuracy: venv  ## what scorers are worth, on puzzles or on DATA=labelled.jsonl, with MODEL=name (the default: within an hour on two cores)
	@exec env DATA="$(DATA)" $(MODEL_SETTING) $(BIN)/python -m infra.accuracy

generators: venv  ## questions through real OpenAI-compatible servers: vLLM's and llama.cpp's (10 to 20 minutes)
	@exec $(BIN)/python -m infra.generators

chaos: venv  ## workers killed, servers restarted, the ledger away, engines killed: what is lost is counted (25 minutes)
	@$(BIN)/python -m tests.chaos && exec $(BIN)/python -m tests.chaos.engine

hosts: venv  ## five hosts in network namespaces, cut off, impaired, with wrong clocks: what is lost is counted (5 minutes)
	@exec $(BIN)/python -m tests.hosts

weights: venv  ## the generator's weights, in the user's cache folder
	@exec $(BIN)/votequeue weights

# The programs that tests start, and Debian's packages of them; without one, its tests are skipped.
PROGRAMS := /usr/lib/postgresql/*/bin/postgres:postgresql /usr/bin/chromium:chromium /usr/bin/prometheus:prometheus \
	/sbin/ip:iproute2 /usr/bin/faketime:faketime /usr/bin/redis-server:redis-server

services:
	@missing=; for each in $(PROGRAMS); do compgen -G "$${each%:*}" > /dev/null || missing+=" $${each##*:}"; done; \
	[ -n "$$missing" ] || exit 0; \
	without="without$$missing, their tests are skipped (with CI=true they fail)"; \
	as=; [ "$$(id -u)" = 0 ] || { as="sudo -n"; $$as true 2> /dev/null; } || { echo "services: $$without: apt install$$missing"; exit 0; }; \
	command -v apt-get > /dev/null || { echo "services: $$without"; exit 0; }; \
	echo "services: installing$$missing, for the tests"; \
	said=$$($$as apt-get update -q 2>&1 && $$as env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get install -qy --no-install-recommends $$missing 2>&1) \
		|| echo "services: $$without; apt-get says: $$(grep -m1 '^E:' <<< "$$said")"

images: venv  ## what the Dockerfiles do, without Docker: the wheel, each extra alone, questions answered (up to an hour)
	@exec $(BIN)/python -m tests.images

# The tools for releases, in an environment of their own.
$(TOOLS): Makefile
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q pip==26.3 uv==0.13.9 pip-audit==2.10.1 && touch $(TOOLS)

# The images' versions are those that are tested here. torch's registry build wants another triton than its CPU build.
LOCK := env UV_SYSTEM_CERTS=1 $(TOOLS)/bin/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command "make lock"
LINUX := --python-platform x86_64-unknown-linux-gnu
SERVICES := --extra local --extra report --extra collect --extra reason --extra ui --extra programs --extra infer-remote
# What builds votequeue itself in an image.
BUILD := <(sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml)

lock: $(TOOLS)  ## the locks with the hashes of all files, from infra/cpu.in and pyproject.toml
	$(LOCK) --universal --python-version 3.11 --no-deps infra/cpu.in -o infra/cpu.lock
	@grep -v '^triton' infra/cpu.in > $(TOOLS)/constraints.in
	$(LOCK) --python-version 3.11 $(LINUX) -c $(TOOLS)/constraints.in $(SERVICES) pyproject.toml $(BUILD) -o infra/services.lock
	$(LOCK) --python-version 3.11 $(LINUX) -c $(TOOLS)/constraints.in $(SERVICES) --extra translate pyproject.toml $(BUILD) -o infra/translate.lock
	$(LOCK) --python-version 3.12 $(LINUX) --extra infer --extra train --extra programs pyproject.toml $(BUILD) -o infra/gpu.lock

audit: $(TOOLS)  ## known vulnerabilities of the pinned versions, if the database answers
	@failed=0; for lock in infra/*.lock; do \
		said=$$($(TOOLS)/bin/pip-audit --progress-spinner off --no-deps --disable-pip -r $$lock 2>&1); code=$$?; \
		unknown=$$(grep -c 'could not be audited' <<< "$$said"); known=$$(($$(grep -c == $$lock) - unknown)); \
		if [ $$code = 0 ]; then said="nothing found in $$known packages; $$unknown are unknown to the registry"; \
		elif ! grep -q '^Found ' <<< "$$said" && grep -qE 'ConnectionError|ServiceError|Max retries' <<< "$$said"; then \
			said="skipped: the registry does not answer"; \
		else failed=1; fi; \
		echo "audit: $$lock: $$said"; done; exit $$failed

licences: venv $(TOOLS)  ## docs/licences.md: the licence of each locked package
	@exec $(BIN)/python -m tests.licences $(TOOLS)/bin/pip

lint: venv  ## ruff, mypy, import-linter
	@$(call check,ruff check)
	@$(call check,ruff format --check)
	@$(call check,mypy)
	@$(call check,lint-imports)

test: venv services weights lint  ## all checks and all tests; fetches what they need
	@exec $(BIN)/python -m pytest -n logical --maxprocesses 4 --no-loadscope-reorder --durations 30

clean:  ## remove the environment and the tools' caches (var/ and the weights stay)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find shared workers producers infra tests -name __pycache__ -prune -exec rm -rf {} +
