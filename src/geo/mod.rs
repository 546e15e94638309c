//! Geometry: readers for WKT and WKB, constant areas prepared once, SQL functions, and what the scan prunes by.

mod area;
mod area_cache;
mod area_test;
mod array;
mod bounding_box;
mod box_tree;
mod chain;
#[cfg(test)]
mod corpora;
mod crossing_constants;
pub(crate) mod crs;
mod decimal;
mod distance;
mod extent;
mod functions;
mod geoarrow;
mod geoarrow_wkb;
mod geometry_error;
mod geometry_types;
mod hilbert;
mod invalid_rows;
mod join_rule;
mod kernel;
mod line_relation;
pub(crate) mod made_geometry;
mod predicate;
mod predicate_function;
mod row_boxes;
mod sink;
mod spatial_filter;
mod wkb;
mod wkt;

pub(crate) use area_test::prepare_constants;
pub(crate) use array::GeometryArray;
pub(crate) use array::geometry_type;
pub(crate) use bounding_box::BoundingBox;
pub(crate) use extent::{Extent, ExtentFacts, Outcomes};
pub(crate) use functions::scalar_functions;
pub(crate) use geoarrow::{box_places, levels_over_points};
pub(crate) use geoarrow_wkb::{points_to_wkb, to_wkb_array};
pub(crate) use geometry_error::InvalidGeometryRow;
pub(crate) use geometry_types::GeometryTypes;
pub(crate) use join_rule::SpatialJoinRule;
pub(crate) use row_boxes::RowBoxes;
pub(crate) use spatial_filter::{FieldPath, SpatialConjunct, SpatialTarget, field_path};
pub(crate) use wkb::{STORED_POINT, stored_points};

/// Nested collections deeper than this are refused, so that hostile input cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Coordinates beyond this are refused: products of differences must stay finite in `geo`.
const MAX_COORDINATE: f64 = 1e100;

/// Whether a coordinate can be computed with: it is finite and in range. A point with one that cannot is empty.
pub(crate) fn is_usable(coordinate: f64) -> bool {
    coordinate.abs() <= MAX_COORDINATE
}
