# `make` lists the targets.  Everything runs in .venv, which `make setup` keeps up to date.

.DEFAULT_GOAL := help
.NOTPARALLEL: # pytest's summary is to be the last thing on the screen
SHELL := bash
BIN := .venv/bin
PYTEST_ARGS ?=
ROUNDS ?= 100
SECONDS ?= 600
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

.PHONY: help setup setup-run check lint format test torture fuzz demo bench lock clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## Debian packages and .venv; fast when nothing changed
	@tools/setup.sh

setup-run: # enough to run Vitrine, without what only the tests need
	@tools/setup.sh build runtime

check: lint test ## what CI runs

lint: setup ## ruff, mypy --strict, import-linter, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	shellcheck tools/*.sh .ci/run

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup ## pytest; pick with PYTEST_ARGS="-m 'not slow' tests/unit"
	$(BIN)/python -m pytest $(PYTEST_ARGS)

torture: setup ## break it for hours; ROUNDS=100 times what CI does, SEED=N repeats
	@seed=$(SEED); echo "SEED=$$seed ROUNDS=$(ROUNDS)"; \
	VITRINE_SEED=$$seed VITRINE_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/crash tests/fuzz \
	  --hypothesis-seed=$$seed -o faulthandler_timeout=0 $(PYTEST_ARGS)

fuzz: setup ## every decoder under libFuzzer, SECONDS=600 each; pick with TARGETS="dicom cuts"
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

demo: setup-run ## see it work: back up, unlock, browse, lock
	$(BIN)/vitrine demo

bench: setup ## measure, beside restic and borg
	$(BIN)/python -m benchmarks

lock: ## newest dependencies that pyproject.toml allows, into requirements*.lock
	tools/lock.sh

clean: ## remove what make made
	rm -rf .venv build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
