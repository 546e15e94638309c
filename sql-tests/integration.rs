//! Rust tests that use only the public API, in one binary: linking DataFusion costs more than the tests.

mod cli;
mod equivalence;
#[expect(clippy::unwrap_used, clippy::panic, reason = "shared with the crate's own tests")]
mod filter_cases;
mod fixtures;
mod geometry_metadata;
mod group_by_codes;
mod groups_apart;
mod interop;
mod language_equivalence;
mod layering;
mod object_stores;
mod page_bounds;
mod plain_values;
mod planner;
mod pruning_layouts;
mod scan;
mod selection;
mod shapes;
mod sink;
mod sink_faults;
mod small_row_groups;
mod snapshot_file;
mod spatial_equivalence;
mod spatial_functions;
mod spatial_metamorphic;
mod spatial_points;
mod spatial_traps;
mod spatial_work;
mod tickets;
