# Lists the recipes.
default:
    @just --list

# Format, lints with and without features, documentation.
check:
    cargo fmt --check
    cargo clippy --locked --lib -- -D warnings
    cargo clippy --locked --features cli --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

# All tests: units, SQL, Rust, the shell, documentation.
test *ARGS:
    cargo test --locked --features cli {{ARGS}}

# The SQL tests whose name contains NAME.
slt NAME:
    cargo test --locked --features cli --test slt -- {{NAME}}

# Writes the answers of the SQL tests anew; read the diff before you commit it.
slt-complete *ARGS:
    cargo test --locked --features cli --test slt -- --complete {{ARGS}}

# Every example, on small data.
examples:
    dir=$(mktemp -d) && cargo run --locked --features cli --example regional_aggregates -- --data "$dir/data" --rows 20000 && rm -r "$dir"
    cargo run --locked --features cli --example embedded_sql
    cargo run --locked --features cli --example batch_metadata
    cargo run --locked --features cli --example lazy_batches
    cargo run --locked --features cli --example partitioned_export

# The benchmark NAME: see benches/README.md.
bench NAME="planning":
    cargo bench --locked --features cli --bench {{NAME}}

# One minute of the fuzz target TARGET: filter_parse, filter_print_parse or filter_bind.
fuzz TARGET *ARGS:
    cargo +nightly fuzz run {{TARGET}} -- -dict=fuzz/filter.dict -max_total_time=60 {{ARGS}}

# Licences, sources, versions and advisories of dependencies.
deps:
    cargo deny --locked check

# The documentation, private items included.
doc:
    cargo doc --locked --no-deps --lib --document-private-items

# Everything that CI runs.
ci:
    .ci/run
