//! Columns that hold geometries, and what files say about where those lie.

use crate::geo::BoundingBox;

/// A geometry column of the table, with the extent of each batch.
#[derive(Debug, Clone)]
pub(crate) struct GeometryColumn {
    /// Name of the table's column.
    pub(crate) name: String,
    /// One per batch, in order; `None` = may be anywhere.
    pub(crate) extents: Vec<Option<BoundingBox>>,
}

/// A GeoParquet covering: the leaf columns that hold each geometry's box, as paths of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covering {
    /// The geometry column.
    pub(crate) column: String,
    /// Leaf of the western edges.
    pub(crate) xmin: Vec<String>,
    /// Leaf of the southern edges.
    pub(crate) ymin: Vec<String>,
    /// Leaf of the eastern edges.
    pub(crate) xmax: Vec<String>,
    /// Leaf of the northern edges.
    pub(crate) ymax: Vec<String>,
    /// The file says that no geometry crosses the antimeridian: its own box has `xmin <= xmax`.
    pub(crate) is_unwrapped: bool,
}
