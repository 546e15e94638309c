//! Writes rows as a dataset: in order, in parallel, all of them or none.

mod partitioning;
mod row_bytes;
mod target;
mod write_mode;

pub(crate) use partitioning::{ArrangedRows, Partitioner, PendingRows};
pub(crate) use row_bytes::record_batch_bytes;
pub(crate) use target::Target;
pub use write_mode::WriteMode;
