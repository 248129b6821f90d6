# `make demo` and `make test` work from a clean clone: each sets up $(VENV) first, and re-uses it while it is up to date.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHONS := python3.13 python3.12 python3.11 python3

.PHONY: help demo test lint docs clean
help:
	@echo "make demo   register two synthetic abdomens and write the result and its report to demo-out/"
	@echo "make test   formatting, types and all tests"
	@echo "make lint   formatting and types only"
	@echo "make docs   build the documentation site into site/"
	@echo "make clean  remove the virtual environment and everything built"

demo: $(VENV)/.installed
	$(BIN)/anamorph demo -o demo-out --overwrite

# One process per core, a file of tests at a time; kernels run on one thread in each.
test: lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) site demo-out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on the PATH may be too old, or a wrapper that does not run: each candidate is tried.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      echo "$$python -m venv $(VENV)"; exec $$python -m venv --clear $(VENV); \
	    fi; \
	  done; \
	  echo "error: none of $(PYTHONS) is Python 3.11 or newer with the venv module; install Python 3.11+ (on Debian and Ubuntu also python3-venv)" >&2; \
	  exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@
