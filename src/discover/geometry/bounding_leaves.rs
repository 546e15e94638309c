//! The columns of numbers beside, or inside, a geometry column that tell page by page where its geometries lie.

use parquet::file::metadata::ParquetMetaData;

use super::extents::{CoordinateLeaves, CoveringLeaves, SquareLeaves};
use super::geo_metadata;
use crate::discover::leaves::FileLeaves;

/// Leaf columns that bound the geometry in each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoundingLeaves {
    /// Leaves of the western, southern, eastern and northern edges.
    pub(crate) edges: [usize; 4],
    /// How far geometries reach beyond these edges.
    pub(crate) margin: Option<usize>,
    /// What a NULL in an edge says.
    pub(crate) null: NullEdge,
    /// A western edge may lie east of its eastern one: the box then crosses the antimeridian.
    pub(crate) may_wrap: bool,
}

/// What a NULL in a bounding leaf says of the geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NullEdge {
    /// It is NULL: the leaf is part of it.
    NullGeometry,
    /// Nothing: the geometry may have no box.
    NoBox,
    /// Nothing: there are several values in a row, or none.
    InList,
}

/// The bounding leaves of column `name`; `None` if there are none. `path` is for warnings.
pub(crate) fn bounding_leaves(footer: &ParquetMetaData, name: &str, path: &str) -> Option<BoundingLeaves> {
    let leaves = FileLeaves::new(footer);
    let geo = geo_metadata::read(footer, path);
    let covering = geo
        .iter()
        .find(|column| column.name == name)
        .and_then(|column| CoveringLeaves::find(&leaves, column, path))
        .map(|covering| BoundingLeaves {
            edges: covering.edges,
            margin: None,
            null: NullEdge::NoBox,
            may_wrap: !covering.is_unwrapped,
        });
    let coordinates = || {
        let CoordinateLeaves { x, y } = CoordinateLeaves::find(&leaves, name)?;
        let is_single = leaves.is_single(x) && leaves.is_single(y);
        let null = if is_single { NullEdge::NullGeometry } else { NullEdge::InList };
        Some(BoundingLeaves { edges: [x, y, x, y], margin: None, null, may_wrap: false })
    };
    let squares = || {
        let SquareLeaves { x, y, q } = SquareLeaves::find(&leaves, name)?;
        let edges = [x, y, x, y];
        Some(BoundingLeaves { edges, margin: Some(q), null: NullEdge::NoBox, may_wrap: false })
    };
    covering.or_else(coordinates).or_else(squares)
}
