# Everything that is built, tried and checked here goes through this file; CI runs its targets (.ci/run).
#
#   PG=NN         the PostgreSQL major version to build for and test with (default 15)
#   PG_CONFIG=…   pg_config of that server, where it is not Debian's
#   KEEP=1        with `make demo`: leave the clusters up to look at

PG ?= 15
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config
# For the scripts, and for the test harness, which starts its clusters with this server.
export PG PG_CONFIG
# Tells pgrx which server to build for, so that nobody has to run `cargo pgrx init`.
export PGRX_PG_CONFIG_PATH := $(PG_CONFIG)
# RUSTFLAGS replace the linker flags by which cargo-pgrx keeps the SQL metadata in the library.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS

FEATURES := --no-default-features --features "pg$(PG)"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# apt-get and cargo take locks, and each cargo uses all cores as it is.
.NOTPARALLEL:
.PHONY: help setup setup-install setup-test setup-lint install test demo bench lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo "PG=NN chooses the PostgreSQL version (now $(PG))."

setup: setup-test ## install what building and testing need and this machine lacks

setup-install setup-test setup-lint: setup-%:
	@scripts/setup.sh "$*"

install: setup-install ## build the extension and install it into the server
	@scripts/install.sh

test: setup-test install ## run the unit tests, and the integration tests on throw-away clusters
	@echo "==> unit tests of the extension"
	$(UNIT_TESTS)
	@echo "==> integration tests: publishers and subscribers of PostgreSQL $(PG) in temporary directories"
	cargo test --package replwarden-tests --tests

demo: setup-test install ## tell the story on a throw-away publisher and subscriber (KEEP=1 leaves them up)
	@echo "==> demo on PostgreSQL $(PG)"
	cargo run --release --package replwarden-tests --bin demo -- $(if $(filter-out 0,$(KEEP)),--keep)

bench: setup-test install ## measure what a rule costs, how fast a backfill is, how fast status and checks answer, what the watch costs
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

# The extension crate's unit tests: the one place that says how they are built and linked.
UNIT_TESTS = cargo test --package replwarden --lib $(FEATURES)
