# `make demo` and `make test` work from a clean clone: each sets up $(VENV) first, and re-uses it while it is up to date.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3
MODELS := packages/anamorph-models
NAPARI := packages/napari-anamorph
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# One process per core, a file of tests at a time; kernels run on one thread in each.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: help demo test lint kernels coverage docs napari package hooks lock release-tools niivue names changes clean
help:
	@echo "make demo      register two synthetic abdomens and write the result and its report to demo-out/"
	@echo "make test      formatting, types and tests (ALL=1: also those that take more than 20 s each)"
	@echo "make lint      formatting and types only"
	@echo "make kernels   build the kernels into src, to use this folder without installing it (PYTHON=another interpreter)"
	@echo "make coverage  all tests, and the share of lines that they run (TESTS=tests/geometry/test_grid.py: some tests)"
	@echo "make docs      build the documentation site into site/ (VERSION=0.2.0: as a version of its own into the branch gh-pages)"
	@echo "make napari    test the plugin for napari in a viewer, in an environment of its own (needs a display or xvfb-run)"
	@echo "make package   build wheels and sdists into dist/, install each in a fresh environment, try it and list what it brings (SBOM)"
	@echo "make hooks     check every commit before it is made"
	@echo "make lock      write requirements.lock for the ranges of pyproject.toml (UPGRADE=1: the newest versions)"
	@echo "make niivue    fetch the viewer of the reports from npm, its version and check sum as the Makefile says"
	@echo "make names     write the public names and options of a release, which the next must keep"
	@echo "make changes   show what has changed since the last version (VERSION=0.2.0: write it into CHANGELOG.md)"
	@echo "make clean     remove the virtual environment and everything built"
	@echo "With LOCKED=1 packages are checked by the hashes of requirements.lock."

demo: $(VENV)/.installed
	$(BIN)/anamorph demo -o demo-out --overwrite

test: lint
	$(PYTEST) $(if $(ALL),,-m "not slow")

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# Builds the compiled kernels into the source tree, for a checkout that is used from where it lies (PYTHONPATH=src).
PYTHON ?= $(BIN)/python
kernels:
	cmake -S . -B build/kernels -DPython_EXECUTABLE=$$($(PYTHON) -c 'import sys; print(sys.executable)') \
	  -DANAMORPH_FOLDER=$(CURDIR)/src/anamorph
	cmake --build build/kernels --target install --parallel $$($(PYTHON) -c 'import os; print(os.cpu_count() or 1)')

coverage: $(VENV)/.installed-dev
	$(PYTEST) --cov --cov-report= $(TESTS)
	$(BIN)/python -m coverage html --quiet
	$(BIN)/python -m coverage report --skip-covered --sort=miss
	@echo "coverage in per cent: $$($(BIN)/python -m coverage report --format=total)"

# With a version: into the branch gh-pages, beside the versions that are there; nothing is pushed.
docs: $(VENV)/.installed-docs
	$(if $(VERSION),$(BIN)/mike deploy --update-aliases $(VERSION) latest && $(BIN)/mike set-default latest,\
	  $(BIN)/python -m mkdocs build --strict)

# napari brings a Qt and much else, so it is kept apart from what everything else is tested with.
napari: $(VENV)-napari/.installed
	$(if $(DISPLAY),,xvfb-run --auto-servernum) $(VENV)-napari/bin/python -m pytest $(NAPARI)

$(VENV)-napari/.installed: $(VENV)/.installed pyproject.toml $(NAPARI)/pyproject.toml
	$(BIN)/python -m venv $(VENV)-napari
	$(VENV)-napari/bin/python -m pip install --quiet --disable-pip-version-check -e . -e "$(NAPARI)[test]"
	@touch $@

package: $(VENV)/.installed-dev
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/python -m build --outdir dist $(MODELS)
	$(BIN)/python -m build --outdir dist $(NAPARI)
	for file in dist/anamorph-*; do \
	  $(BIN)/python -m venv --clear build/fresh && build/fresh/bin/python -m pip install --quiet $$file && \
	  build/fresh/bin/anamorph --version && build/fresh/bin/anamorph methods > build/methods.txt && \
	  build/fresh/bin/anamorph demo -o build/demo --overwrite || exit 1; \
	done
	for file in dist/anamorph_models-*; do \
	  build/fresh/bin/python -m pip install --quiet --force-reinstall $$file && \
	  build/fresh/bin/anamorph models check symmetric-hippocampus || exit 1; \
	done
	$(BIN)/python -m venv --clear build/tools
	build/tools/bin/python -m pip install --quiet --require-hashes -r packaging/release-tools.lock
	build/tools/bin/twine check --strict dist/*.whl dist/*.tar.gz
	build/tools/bin/python packaging/sbom.py build/fresh --output dist/anamorph.cdx.json

hooks: $(VENV)/.installed-dev
	$(BIN)/python -m pre_commit install

# For every system and version of Python at once; versions that still fit are kept.
lock: $(VENV)/.installed-dev
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra dev --extra browser $(if $(UPGRADE),--upgrade) --output-file requirements.lock pyproject.toml

release-tools: $(VENV)/.installed-dev
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate $(if $(UPGRADE),--upgrade) --output-file packaging/release-tools.lock packaging/release-tools.in

# Which version the reports carry, and what npm says of its archive (npm view @niivue/niivue@VERSION dist.integrity). After an
# upgrade: the licences in niivue-licences.txt, the version in the test of the viewer, and tests/report.
NIIVUE := 0.69.0
NIIVUE_SHA512 := YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA==
niivue:
	mkdir -p build/niivue && cd build/niivue && npm pack --silent @niivue/niivue@$(NIIVUE)
	openssl dgst -sha512 -binary build/niivue/niivue-niivue-$(NIIVUE).tgz | base64 -w0 | grep -qxF '$(NIIVUE_SHA512)'
	tar -xOzf build/niivue/niivue-niivue-$(NIIVUE).tgz package/dist/niivue.umd.js | gzip -9 -n > src/anamorph/report/viewer/niivue.js.gz

# At a release: what the next one must keep, see docs/reference/deprecation.md.
names: $(VENV)/.installed
	$(BIN)/python packaging/public_names.py

changes: $(VENV)/.installed-dev
	$(BIN)/python -m towncrier build $(if $(VERSION),--version $(VERSION),--draft --version next)

clean:
	rm -rf $(VENV) $(VENV)-napari site demo-out build dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/anamorph/_kernels*

# requirements.lock is the one list of versions. Its hashes are checked on request: pip then wants one for everything, and the small
# build of PyTorch for processors alone is another file than the one that the lock file names.
define install
$(if $(LOCKED),$(PIP) --require-hashes -r requirements.lock && $(PIP) --no-deps -e . -e $(MODELS),\
  grep '^[a-z0-9]' requirements.lock | tr -d '\\' > $(VENV)/versions.txt && $(PIP) -c $(VENV)/versions.txt -e ".[$(1)]" -e $(MODELS))
endef

# A name on the PATH may be too old, or a wrapper that does not run: each candidate is tried.
$(VENV)/.installed: pyproject.toml $(MODELS)/pyproject.toml requirements.lock CMakeLists.txt $(wildcard src/kernels/*)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      echo "$$python -m venv $(VENV)"; exec $$python -m venv --clear $(VENV); \
	    fi; \
	  done; \
	  echo "error: none of $(PYTHONS) is Python 3.11 or newer with the venv module; install Python 3.11+ (on Debian and Ubuntu also python3-venv)" >&2; \
	  exit 1; }
	$(call install,test)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(call install,docs)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call install,dev)
	@touch $@
