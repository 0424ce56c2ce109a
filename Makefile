# Everything that is built, tried and checked here goes through this file; CI runs its targets (.ci/run).
#
#   PG=NN         the PostgreSQL major version to build for and test with (default 15)
#   PG_CONFIG=…   pg_config of that server, where it is not Debian's
#   KEEP=1        with `make demo`: leave the clusters up to look at
#   PUBLISHER=NN  with `make versions`: the PostgreSQL version to replicate from (default 12)
#
# Where neither this machine nor its apt has that version, "test", "demo" and "bench" run in a small Debian that has it
# (scripts/root.sh).

PG ?= 15
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config
# Where such Debians are kept, and a publisher that none has any more.
REPLWARDEN_CACHE ?= $(if $(filter 0,$(shell id -u)),/var/cache,$(or $(XDG_CACHE_HOME),$(HOME)/.cache))/replwarden
# For the scripts, and for the test harness, which starts its clusters with this server.
export PG PG_CONFIG REPLWARDEN_CACHE PUBLISHER
ifeq ($(shell uname -m),x86_64)
export PUBLISHER_BIN ?= $(REPLWARDEN_CACHE)/postgresql-12/bin
endif
# Tells pgrx which server to build for, so that nobody has to run `cargo pgrx init`.
export PGRX_PG_CONFIG_PATH := $(PG_CONFIG)
# Tests wait for servers much of their time.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' "$$(nproc)")
# RUSTFLAGS replace the linker flags by which cargo-pgrx keeps the SQL metadata in the library.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS

FEATURES := --no-default-features --features "pg$(PG)"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# apt-get and cargo take locks, and each cargo uses all cores as it is.
.NOTPARALLEL:
.PHONY: help setup setup-install setup-test setup-lint install test integration versions matrix demo bench lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "PG=NN chooses the PostgreSQL version (now $(PG))."

setup: ## install what building and testing need and this machine lacks
	@$(WHERE_IT_IS) setup-test

setup-install setup-test setup-lint: setup-%:
	@scripts/setup.sh "$*"

install: setup-install ## build the extension and install it into the server
	@scripts/install.sh

test: ## run the unit tests, and the integration tests on throw-away clusters
	@$(WHERE_IT_IS) unit-here integration-here

integration: ## run the integration tests only
	@$(WHERE_IT_IS) integration-here

versions: ## run the tests with a publisher of another version, PUBLISHER=NN
	@$(WHERE_IT_IS) versions-here

matrix: ## run the tests on 15, 17 and 18, and those with a publisher of another version
	@scripts/matrix.sh

demo: ## tell the story on a throw-away publisher and subscriber (KEEP=1 leaves them up)
	@$(WHERE_IT_IS) demo-here

bench: ## measure what a rule costs, how fast a backfill is, how fast status and checks answer, what the watch costs
	@$(WHERE_IT_IS) bench-here

unit-here: setup-test
	@echo "==> unit tests of the extension"
	$(UNIT_TESTS)

integration-here: setup-test install
	@echo "==> integration tests: publishers and subscribers of PostgreSQL $(PG) in temporary directories"
	cargo test --package replwarden-tests --tests

versions-here: setup-test install
	@echo "==> integration tests with a publisher of PostgreSQL $(or $(PUBLISHER),12) and a subscriber of PostgreSQL $(PG)"
	cargo test --package replwarden-tests --test integration -- versions::

demo-here: setup-test install
	@echo "==> demo on PostgreSQL $(PG)"
	cargo run --release --package replwarden-tests --bin demo -- $(if $(filter-out 0,$(KEEP)),--keep)

bench-here: setup-test install
	@echo "==> benchmarks on PostgreSQL $(PG)"
	cargo run --release --package replwarden-tests --bin bench

lint: setup-lint ## check formatting, clippy, the shell scripts and the length of source files
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	shellcheck scripts/*.sh .ci/run
	@find . -name target -prune -o -type f \( -name '*.rs' -o -name '*.sql' -o -name '*.sh' \) -exec wc -l {} \; \
	  | awk '$$1 > 500 { print $$2 ": " $$1 " lines; past 500 a file has two subjects"; long = 1 } END { exit long }'

clean: ## remove what was built here (what was installed into the server stays)
	cargo clean

# Runs targets where there is a PostgreSQL of that version.
WHERE_IT_IS = scripts/root.sh $(MAKE) --no-print-directory

# The extension crate's unit tests: the one place that says how they are built and linked.
UNIT_TESTS = cargo test --package replwarden --lib $(FEATURES)
