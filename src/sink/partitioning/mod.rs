//! Rows by partition: the directory of each, the split of record batches, and rows that wait for their file.

mod partition_path;
mod partitioner;

pub(crate) use partitioner::{ArrangedRows, Partitioner};
