# Two commands do everything: `make run` and `make test`. Each installs what is missing and says so.

SHELL := /bin/sh
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)
# The tests make network namespaces and loop devices, so their programs run as root; cargo itself does not.
RUNNER := $(if $(ROOT),--config 'target."cfg(all())".runner = "$(ROOT)"',)
RUN_DIR := target/run

.PHONY: help run build test check demo bench deny setup setup-test setup-bench clean

help:
	@echo 'make run     install what is missing, build, start one node on this host (data in $(RUN_DIR))'
	@echo 'make test    install what is missing, build, run all the tests (namespaces, real packets, kubectl)'
	@echo 'make demo    two hosts in network namespaces: what gets through before and after a policy'
	@echo 'make bench   compare with etcd and nft in the same run (release build, some minutes)'
	@echo 'make check   formatting, clippy and documentation, warnings denied'
	@echo 'make deny    licences, duplicates and bans (needs cargo-deny)'

run: setup
	cargo build --release
	@mkdir -p $(RUN_DIR)
	@sh tests/run $(RUN_DIR) target/release/appliance $(ROOT)

build: setup
	cargo build --workspace

# All targets at once, so that the features the tests ask for do not build the dependencies a second time.
test: setup-test
	cargo build --workspace --all-targets
	cargo test --workspace --no-fail-fast $(RUNNER)

demo: setup-test
	cargo build --release -p appliance -p appliance-tests
	$(ROOT) target/release/demo

bench: setup-bench
	cargo build --release --workspace --examples --bins
	$(ROOT) target/release/bench
	$(ROOT) target/release/bench_cluster

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

deny:
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is not here: cargo install cargo-deny'; exit 1; }
	cargo deny check

setup:
	@tests/setup run

setup-test:
	@tests/setup test

setup-bench:
	@tests/setup bench

clean:
	cargo clean
