//! Columns that hold geometries, and what files say about them.

use std::sync::Arc;

use crate::geo::BoundingBox;

/// A geometry column of the table, with the extent of each batch.
#[derive(Debug, Clone)]
pub(crate) struct GeometryColumn {
    /// Name of the table's column.
    pub(crate) name: String,
    /// One per batch, in order; `None` = may be anywhere.
    pub(crate) extents: Vec<Option<BoundingBox>>,
    /// A file says that it is one; else it only looks like one: a struct of x and y.
    pub(crate) is_declared: bool,
    /// What each file says of it, in order of the files; `None` where the column is missing or only looks like one.
    pub(crate) files: Vec<Option<FileGeometry>>,
}

/// What one file says of a geometry column.
#[derive(Debug, Clone)]
pub(crate) struct FileGeometry {
    /// Files of one dataset mostly say the same: shared.
    pub(crate) description: Arc<GeometryDescription>,
    /// Where all of the column's geometries lie, if the file says so.
    pub(crate) extent: Option<BoundingBox>,
}

/// How geometries are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GeometryDescription {
    /// As in GeoParquet: `WKB`, `point`, …; `WKT` for text.
    pub(crate) encoding: Option<String>,
    /// Name of the coordinate reference system, such as `EPSG:3857`; `None` = not known.
    pub(crate) crs: Option<String>,
    /// How edges run: `planar`, `spherical`, or a method on the ellipsoid; `None` = not known.
    pub(crate) edges: Option<String>,
    /// Types that occur, as in GeoParquet; empty = not known.
    pub(crate) geometry_types: Vec<String>,
}
