//! Reads batches: which ones, through what plan, how many at a time, in what order.

mod admission;
mod certainty;
mod coalesce;
mod coded_columns;
mod column_chunks;
mod file_decoding;
mod filter_placement;
mod kept_rows;
mod keys_apart;
mod late_columns;
mod local_file;
mod metrics;
mod morsels;
mod nan_safety;
mod ordered_concat;
mod ordered_concat_rule;
mod partitions;
mod placed_run;
mod plan;
mod pruning;
mod reader;
mod round_trips;
mod run_decoder;
mod side_by_side;
mod source;
mod spatial;
mod step_back;

pub(crate) use certainty::{Certainty, certainty_of};
pub(crate) use coded_columns::with_codes;
pub(crate) use keys_apart::with_keys_apart;
pub(crate) use ordered_concat::OrderedConcatExec;
pub(crate) use ordered_concat_rule::{OrderedConcatRule, with_batches_apart};
pub(crate) use plan::{ScanRequest, plan_scan};
pub(crate) use pruning::{BatchPruner, KeptBatches, is_partition_predicate};
