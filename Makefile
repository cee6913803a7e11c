# make run      builds Millstream, starts it with a demo on 127.0.0.1:4566, data under ./data
# make test     every test, closing with a count
# make bench    Nexmark, in events per second and per CPU-second; single operators; latency of writes and reads; growing data
# make crash    a thousand kills of the server, each followed by a check of every number
# make fuzz     every fuzz target for a minute; needs cargo-fuzz and a nightly toolchain
# make check    what must hold before a change lands

.PHONY: run test bench crash fuzz check cargo

run: cargo
	@.ci/packages build demo
	cargo build --release
	@docs/demo.sh "$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/millstream"

test: cargo
	@.ci/packages build test
	@.ci/test

bench: cargo
	@.ci/packages build bench
	cargo bench

crash: cargo
	@.ci/packages build
	CRASH_RUNS=1000 cargo test --test exact crashes -- --nocapture

# What is found of new inputs stays below fuzz/target; of what fails, below fuzz/artifacts.
fuzz: cargo
	@.ci/packages build
	cd fuzz && for target in sql wire json codec records; do \
	  mkdir -p target/corpus/$$target && cargo +nightly fuzz run --fuzz-dir . --dev --sanitizer none $$target \
	    target/corpus/$$target corpus/$$target -- -max_total_time=60 || exit 1; \
	done

check: cargo
	@.ci/run

cargo:
	@command -v cargo > /dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
	@! grep -qs '^flags' /proc/cpuinfo || grep -qw avx2 /proc/cpuinfo || [ -n "$${RUSTFLAGS+set}" ] || { \
	  echo "This processor has no AVX2, which .cargo/config.toml builds for: set RUSTFLAGS to nothing (RUSTFLAGS= make)" >&2; exit 1; }
