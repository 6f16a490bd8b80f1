# Every target sets itself up in .venv first; nothing is written outside this directory.
#
#   make PYTHON=python3.13 demo      another Python
#   make test TEST_ARGS='-k pool'    arguments for the program behind a target: DEMO_ARGS, TEST_ARGS, FUZZ_ARGS ...
#   make build HEADRACE_DEBUG=1      a debug build (see setup.py)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install

# pip's cache would be the one thing left behind outside the clone.
PIP_CACHE_DIR ?= $(CURDIR)/$(VENV)/pip-cache
export PIP_CACHE_DIR

MODE := $(if $(HEADRACE_ASAN),asan,$(if $(HEADRACE_DEBUG),debug,release))
BUILT := build/built-$(MODE)
SOURCES := $(shell find src \( -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.c' \) -print)

# What pip is to install for each kind of work: the extras of headrace, and those of the storefront.
HEADRACE_demo :=
HEADRACE_test := [test]
HEADRACE_coverage := [coverage,test]
HEADRACE_check := [dev]
HEADRACE_bench := [bench]
HEADRACE_docs := [docs]
HEADRACE_dist := [dist]
STOREFRONT_demo := [embedded,serve]
STOREFRONT_test := [test]
STOREFRONT_coverage := [test]
STOREFRONT_check := [test]
STOREFRONT_bench := [embedded,files,serve]
STOREFRONT_docs := [embedded]

# What some tests need and not every machine can have: gssapi is compiled, against Kerberos' headers; test-tls is a wheel
# that there is not for all. Tests that miss one are skipped.
OPTIONAL_test := $(if $(shell command -v krb5-config),gssapi) test-tls
OPTIONAL_coverage := $(OPTIONAL_test)

# A worker on each processor; what is left of the longest part is shared out again. A worker that dies is replaced: its
# test has failed, and the others run. TEST_ARGS='-n 0' runs everything in one process.
PARALLEL := -n auto --dist worksteal --max-worker-restart 4

CHECKS := check-format check-lint check-language check-types check-windows check-pyright check-imports check-layers check-stubs \
	check-errors check-functions check-connecting check-types-docs check-arrow-docs
TYPED := src/headrace storefront/src/storefront tools bench conftest.py $(wildcard tests/*.py) tests/fuzz tests/peers tests/soak \
	tests/typing

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test cluster-tests sqlalchemy-tests check coverage fuzz soak asan bench docs dist build format clean distclean $(CHECKS)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/ready-demo $(BUILT) ## Build headrace and run the storefront on a PostgreSQL of its own
	@TMPDIR=$(CURDIR)/build $(BIN)/storefront demo --ephemeral $(DEMO_ARGS)

test: $(VENV)/ready-test $(BUILT) ## Run all tests, on every PostgreSQL found
	@$(BIN)/python -m pytest $(PARALLEL) $(TEST_ARGS)

cluster-tests: $(VENV)/ready-test $(BUILT) ## Test failovers by pg_auto_failover and by Patroni (some five minutes)
	@$(BIN)/python -m pytest -n 0 -s tests/cluster/automatic_failover.py $(CLUSTER_ARGS)

check: $(VENV)/ready-check $(BUILT) ## Check format, lint, language, types, layers, stubs and generated code
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

sqlalchemy-tests: $(VENV)/ready-test $(BUILT) ## Test the dialect with the oldest SQLAlchemy that it works with
	@version=$$($(BIN)/python -c 'import headrace.sqlalchemy as s; print(*s.OLDEST, sep=".")') && \
	$(INSTALL) --no-deps --upgrade --target build/sqlalchemy "sqlalchemy==$$version" && \
	PYTHONPATH=$(CURDIR)/build/sqlalchemy $(BIN)/python -m pytest $(PARALLEL) tests/sqlalchemy $(SQLALCHEMY_ARGS)

coverage: $(VENV)/ready-coverage ## Measure line coverage of Python and Cython, in build/coverage (some 20 minutes)
	@$(BIN)/python tools/measure_coverage.py $(COVERAGE_ARGS)

fuzz: $(VENV)/ready-test $(BUILT) ## Read random bytes, as many as you like: FUZZ_ARGS='--inputs 10000000 --workers 2'
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

soak: $(VENV)/ready-test $(BUILT) ## Everything at once while everything goes wrong: SOAK_ARGS='--seconds 600 --pg 15'
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

asan: $(VENV)/ready-test ## Build under AddressSanitizer and UBSan, in build/asan, and run the tests that need no server, and Arrow's
	@$(BIN)/python tools/sanitize.py $(ASAN_ARGS)

bench: $(VENV)/ready-bench $(BUILT) ## Measure headrace against other drivers; results in bench/results
	@$(BIN)/python -m bench $(BENCH_ARGS)
	@$(BIN)/python -m bench.latency $(LATENCY_ARGS)
	@$(BIN)/python -m bench.kills $(KILLS_ARGS)

docs: $(VENV)/ready-docs ## Build the documentation into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/docs
	@echo "documentation: build/docs/index.html"

dist: $(VENV)/ready-dist ## Build sdist and wheel into dist/, and test the wheel without a compiler (some ten minutes)
	@$(BIN)/python tools/build_dist.py $(DIST_ARGS)

build: $(BUILT) ## Compile the extension modules in place

format: $(VENV)/ready-check ## Format the code, and mend what the linter can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

clean: ## Remove everything that was built, but for .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src storefront tests bench tools -name __pycache__ -prune -exec rm -rf {} +
	find src -name '*.so' -delete

distclean: clean ## Remove .venv as well
	rm -rf $(VENV) src/*.egg-info storefront/src/*.egg-info

check-format:
	@$(BIN)/ruff format --check --quiet || { echo "not formatted: run make format" >&2; exit 1; }

check-lint:
	@$(BIN)/ruff check --quiet

check-types:
	@$(BIN)/mypy --strict $(TYPED)

# The sources as Windows has them. Its cache is its own, or each run would undo the other's.
check-windows:
	@$(BIN)/mypy --strict --platform win32 --cache-dir .mypy_cache/win32 src/headrace

# The wrapper would look for a newer version in the network.
check-pyright:
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

check-imports:
	@$(BIN)/lint-imports --no-logo

check-layers:
	@$(BIN)/python tools/check_layers.py

check-language:
	@$(BIN)/python tools/check_language.py

check-stubs:
	@$(BIN)/python tools/check_stubs.py

check-errors:
	@$(BIN)/python tools/generate_errors.py --check

check-functions:
	@$(BIN)/python tools/generate_functions.py --check

check-connecting:
	@$(BIN)/python tools/generate_connecting_docs.py --check

check-types-docs:
	@$(BIN)/python tools/generate_types_docs.py --check

check-arrow-docs:
	@$(BIN)/python tools/generate_arrow_docs.py --check

$(VENV)/created:
	@$(PYTHON) tools/preflight.py
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $$($(BIN)/python tools/build_requires.py)
	@touch $@

# One stamp for each kind of work. The extension modules are compiled before pip looks at them, where their progress is
# seen; pip then finds them built (see setup.py).
$(VENV)/ready-%: pyproject.toml storefront/pyproject.toml $(VENV)/created | $(BUILT)
	@echo "installing what \`make $*\` needs"
	@$(INSTALL) --no-build-isolation --editable '.$(HEADRACE_$*)' --editable 'storefront$(STOREFRONT_$*)'
	@for extra in $(OPTIONAL_$*); do \
		$(INSTALL) "headrace[$$extra]" 2>build/optional.log || echo "not to be had here: headrace[$$extra] (build/optional.log)"; \
	done
	@touch $@

$(BUILT): setup.py $(SOURCES) | $(VENV)/created
	@mkdir -p build
	@HEADRACE_PROGRESS_FD=3 $(BIN)/python setup.py --quiet build_ext --inplace 3>&1 >build/compile.log 2>&1 || { cat build/compile.log >&2; exit 1; }
	@rm -f build/built-*
	@touch $@
