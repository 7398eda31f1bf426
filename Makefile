# make run    set up on the first call, then open the app      (args="run --headless" passes other words)
# make test   lint, types and every test                       make test-fast: without the slow ones
# make redteam  every cheat and every honest oddity against the scorer and the sandbox (about half an hour on two idle cores)
# make demo   record again the session that `replay demo` plays (about ten minutes)
# make bench  the measurements of docs/benchmarks.md (args=NAME: one)  make clean: caches and every .venv; never sessions/
.PHONY: help run test test-fast redteam demo lint bench clean setup setup-dev
.DEFAULT_GOAL := help
args ?=
# Two workers for two cores would leave them idle while tests wait; a file stays with one worker, the slowest come first.
PARALLEL = -n 4 --dist loadfile --no-loadscope-reorder

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup:
	@sh .ci/setup nanotrain

setup-dev:
	@sh .ci/setup nanotrain,dev

run: export AUTORESEARCH_MADE_FROM := $(value PWD)
run: setup
	@.venv/bin/autoresearch-tui $(args)

lint: setup-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: lint
	.venv/bin/pytest $(PARALLEL) -m "not redteam"

test-fast: setup-dev
	.venv/bin/pytest $(PARALLEL)

redteam: setup-dev
	.venv/bin/pytest -n 2 -m "redteam or not redteam" tests/redteam/test_sandbox_escapes.py
	.venv/bin/python -m tests.redteam --write $(args)

demo: setup-dev
	.venv/bin/python -m benchmarks.record_demo $(args)

bench: setup-dev
	.venv/bin/python -m benchmarks $(or $(args),all)

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './sessions/*' -prune -exec rm -rf {} +
