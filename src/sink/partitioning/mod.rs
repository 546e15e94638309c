//! Rows by partition: the directory of each, the split of record batches, and rows that wait for their file.

mod gather;
mod partition_path;
mod partitioner;
mod pending;
mod spill_file;

pub(crate) use partitioner::Partitioner;
pub(crate) use pending::PendingRows;
