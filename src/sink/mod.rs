//! Writes rows as a dataset: in order, in parallel, all of them or none.

mod partitioning;
mod target;
mod write_mode;

pub(crate) use target::Target;
pub use write_mode::WriteMode;
