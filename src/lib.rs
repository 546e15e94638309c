//! Large partitioned ocean datasets as DataFusion tables.
mod dataset;
mod discover;
mod error;
mod geo;
mod options;
pub use dataset::{BatchId, BatchMetadata, DatasetFile, DatasetSnapshot, RowGroup};
pub use error::OdpError;
