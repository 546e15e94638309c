//! Writes rows as a dataset: in order, in parallel, all of them or none.

mod cluster;
mod geometry;
mod target;
mod write_mode;

pub(crate) use cluster::clustered;
pub(crate) use geometry::{GeometryEncoding, GeometryOptions, GeometrySummary, GeometryWriter};
pub(crate) use target::Target;
pub use write_mode::WriteMode;
