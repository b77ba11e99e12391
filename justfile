# Short names for plain cargo commands; `just --list` shows them.

# Run every recipe's example and compare its output
run:
    cargo cookbook run --all

# All tests
test:
    cargo test

# Rewrite the recordings of the examples
record *names:
    cargo cookbook record {{names}}

# Format everything
fmt:
    cargo fmt --all

# Lints, as CI runs them
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation, in the browser
doc:
    cargo doc --workspace --no-deps
    cargo doc -p cookbook --no-deps --open

# Every benchmark
bench:
    cargo bench --workspace

# Licences, advisories, duplicates (needs cargo-deny)
deny:
    cargo deny check
