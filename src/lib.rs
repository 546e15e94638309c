//! Large partitioned ocean datasets as DataFusion tables.
pub mod error;
pub use error::OdpError;
