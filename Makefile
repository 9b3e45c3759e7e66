# Stead: `make` lists what there is.

.DEFAULT_GOAL := help
.PHONY: help run test stores bench soak fuzz

# Tools of the system that tests use lie there, and not everybody looks there.
export PATH := $(PATH):/usr/sbin:/sbin

# Cases for each property test under `make fuzz`.
CASES ?= 20000

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, and run the guestbook under a node in ./run (PORT=3000, LISTEN=127.0.0.1:8080)
	@PORT='$(PORT)' LISTEN='$(LISTEN)' NODE_HOME='$(NODE_HOME)' scripts/run

test: ## everything that must be green: format, lints, all tests
	@scripts/need cc:build-essential curl:curl sqlite3:sqlite3 python3:python3 perl:perl-base systemd-notify:systemd \
	  script:bsdutils sudo:sudo unshare:util-linux setfacl:acl chattr:e2fsprogs ip:iproute2 sysctl:procps openssl:openssl
	@scripts/stores
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
	@scripts/claims
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features base/sim --locked -- -D warnings
	cargo test --workspace --features base/sim --locked
	@echo "make test: all green"

stores: ## the tests on S3 servers of every kind; the second one takes minutes to build
	@scripts/need cc:build-essential sqlite3:sqlite3 openssl:openssl
	@scripts/stores all
	STEAD_TEST_SERVERS=all cargo test -p store --features base/sim --locked --test s3
	STEAD_TEST_SERVERS=all cargo test -p stead --features base/sim --locked --test node stores::

bench: ## the figures, with Stead against without, in one run
	@scripts/need cc:build-essential
	cargo bench -p stead --bench bench -- $(ARGS)

soak: ## load, restores, kill -9, unruly apps and failing stores for as long as ARGS say
	@scripts/need cc:build-essential sqlite3:sqlite3 python3:python3 sudo:sudo
	@scripts/stores
	cargo bench -p stead --bench soak -- $(ARGS)

fuzz: ## the property tests with many cases (CASES=20000)
	@scripts/need cc:build-essential
	PROPTEST_CASES=$(CASES) cargo test --release -p base -p ltx -p database -p node --features base/sim --lib
