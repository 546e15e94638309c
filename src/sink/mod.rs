//! Writes rows as a dataset: in order, in parallel, all of them or none.
//!
//! ```text
//! the rows of a plan, in order
//!        │
//! distributor   cuts them into row groups, by partition: decides which rows go where   ──  partitioning, row_groups
//!        │
//! encoder       Parquet columns in memory, several row groups and columns at a time    ──  geometry
//!        │
//! assembler     appends row groups to files in order; files are cut and closed         ──  file_writer
//!        │
//! commit        forces to disk, verifies, publishes, makes one record
//! ```

mod assembler;
mod beside;
mod clean;
mod cluster;
mod commit;
mod commit_record;
mod data_sink;
mod dictionaries;
mod distributor;
mod durability;
mod encoder;
mod file_writer;
mod geometry;
mod metadata_files;
mod metrics;
mod parquet_options;
mod partitioning;
mod replaced;
mod report;
mod row_groups;
mod stage;
mod target;
#[cfg(test)]
mod tests;
mod write;
mod write_mode;
mod write_options;

pub(crate) use clean::clean;
pub(crate) use cluster::clustered;
pub(crate) use data_sink::{AfterCommit, OdpSink, WriteRequest};
pub(crate) use parquet_options::ParquetWriting;
pub(crate) use report::LastWrite;
pub use report::{WriteReport, WrittenColumn, WrittenFile};
pub(crate) use target::Target;
pub use write_mode::WriteMode;
pub use write_options::{WriteMetadataFiles, WriteOptions};
