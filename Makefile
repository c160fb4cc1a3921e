# The commands of the project. `make verify` only reads; `make fix` writes.
N ?= 10
# What demo-check repeats: FAULTS, or FAULT, or each fault that the script knows.
FAULTS := $(or $(FAULTS),$(FAULT))
FAULT ?= kill
ENGINE ?= redis

.DEFAULT_GOAL := help
.PHONY: help demo demo-check test lint verify fix bench

help:
	@echo "make demo [FAULT=kill]   a failover on real servers, started and cleaned up by the demo"
	@echo "                         FAULT=hang: a primary that stops answering; FAULT=switchover: none is broken"
	@echo "                         ENGINE=postgres, ENGINE=both: another engine, or one service of each"
	@echo "make demo-check [N=10] [FAULTS=\"kill kill+leader postgres:hang both:kill\"]"
	@echo "                         the demo N times for each: min, median, max; fails on a lost write or a missed bound"
	@echo "make test                installs what the tests need and runs every test"
	@echo "make lint                the read-only checks: format, clippy, documentation, dependencies"
	@echo "make verify              test and lint; changes no source file"
	@echo "make fix                 formats the source"
	@echo "make bench               failover times beside three redis-sentinels on this machine"

demo:
	@scripts/install-prerequisites demo
	cargo build --locked -p sentinel-daemon --bin sentinel
	target/debug/sentinel demo $(ENGINE) --fault $(FAULT)

demo-check:
	@scripts/install-prerequisites demo
	cargo build --locked -p sentinel-daemon --bin sentinel
	@scripts/demo-check $(N) $(FAULTS)

test:
	@scripts/install-prerequisites test
	@scripts/install-clients
	@scripts/run-tests

lint:
	@scripts/lint

verify: test
	@scripts/lint

fix:
	cargo fmt --all

# A measurement, never a timed test: the only target with a release build.
bench:
	@scripts/install-prerequisites demo
	cargo build --locked --release -p sentinel-daemon --bin sentinel
	cargo run --locked --release -p sentinel-tests --no-default-features --bin failover-bench
