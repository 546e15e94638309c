//! Datasets as plain data: files, batches and their statistics. No I/O here.

mod batch;
mod batch_sums;
mod coordinates;
mod file;
mod geometry_column;
mod leaf_bounds;
mod learnt;
mod partition_text;
mod snapshot;
mod statistics;

pub use batch::{BatchId, BatchMetadata};
pub(crate) use batch::{cut_into_batches, cut_range};
pub(crate) use coordinates::batch_extents;
pub(crate) use file::is_same_version;
pub use file::{DatasetFile, RowGroup};
pub(crate) use geometry_column::{FileGeometry, GeometryColumn, GeometryDescription};
pub(crate) use leaf_bounds::LeafBounds;
pub(crate) use learnt::{Chunk, LearntExtents, RowGroupId};
pub(crate) use partition_text::{
    NULL_SEGMENT, is_partition_type, parse_partition_segment, partition_value_from_text, partition_value_text,
};
pub use snapshot::DatasetSnapshot;
pub(crate) use snapshot::{SnapshotParts, row_spans};
pub(crate) use statistics::{BatchBounds, ColumnBounds, may_hold_nan};
