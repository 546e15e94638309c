//! What users hold: the table provider, its factory for SQL, its table functions.

mod analyze;
mod factory;
mod functions;
mod provider;

pub(crate) use analyze::AnalyzeFunction;
pub(crate) use factory::OdpTableFactory;
pub(crate) use functions::{BatchesFunction, FilesFunction};
pub use provider::{OdpTableBuilder, OdpTableProvider};
