//! Writes rows as a dataset: in order, in parallel, all of them or none.

mod clean;
mod commit;
mod durability;
mod stage;
mod target;
#[cfg(test)]
mod tests;
mod write;
mod write_mode;

pub(crate) use clean::{Cleaned, Leftover, clean};
pub(crate) use commit::{Begun, Commit, DataFile, Transaction};
pub(crate) use stage::{StagedFile, StagedInfo};
pub(crate) use target::Target;
pub use write_mode::WriteMode;
