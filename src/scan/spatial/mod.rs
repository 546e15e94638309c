//! Spatial filters in a scan: each row range is outside, inside or at the boundary of what a filter asks.
//!
//! ```text
//!  batches      extents in the snapshot                      planning: batches outside are not read
//!  row groups   footer, page index, learnt extents           opening: row ranges outside are not read,
//!  pages        of the columns that bound a geometry         those inside need no test
//!  rows         exact test of what is left, on the geometry  reading: only rows that match are read
//!               columns alone; teaches extents               of the other columns
//! ```
//!
//! One-sided: what is not known is tested.

mod batch_facts;
mod columns;
mod file_extents;
mod intervals;
mod points;
mod rows;
mod stream;

pub(super) use batch_facts::BatchFacts;
pub(super) use columns::TestColumns;
pub(super) use stream::{SpatialScan, open_spatial};
