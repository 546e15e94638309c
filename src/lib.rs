//! Large partitioned ocean datasets as DataFusion tables.
mod dataset;
mod discover;
mod error;
mod geo;
mod options;
mod register;
mod scan;
mod table;

pub use dataset::{BatchId, BatchMetadata, DatasetFile, DatasetSnapshot, RowGroup};
pub use error::OdpError;
pub use options::{BatchUnit, OdpOptions, TableOptions};
pub use register::register;
pub use table::{OdpTableBuilder, OdpTableProvider};
