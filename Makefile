# `make demo` on a fresh Debian machine with Rust shows the product; `make test` proves it. What is missing is installed and named.

export MUSTER_SHARED_DATA ?= $(abspath ../shared/data)

.PHONY: bench demo fmt fuzz lint packages packages-build run test

demo: packages-build
	cargo run --release -- demo

run: packages-build
	cargo run --release -- serve --init

packages-build:
	scripts/packages build

packages:
	scripts/packages build test

fmt:
	cargo fmt

lint:
	scripts/components
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
	scripts/deny

test: packages lint
	scripts/pkilint
	scripts/graph-clients
	scripts/scim-clients
	scripts/schemathesis
	cargo test

bench:
	cargo bench

fuzz:
	scripts/fuzz
