//! What makes geometries from numbers.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use geo::{Coord, Geometry, LineString, Point, Polygon};

use crate::geo::MAX_COORDINATE;
use crate::geo::bounding_box::BoundingBox;
use crate::geo::geometry_error::GeometryError;
use crate::geo::wkb::to_wkb;

/// The fields of what `st_point` returns.
pub(super) fn point_fields() -> Fields {
    Fields::from(vec![Field::new("x", DataType::Float64, true), Field::new("y", DataType::Float64, true)])
}

pub(super) fn points(x: &ArrayRef, y: &ArrayRef) -> Result<ArrayRef> {
    let nulls = NullBuffer::union(x.nulls(), y.nulls());
    Ok(Arc::new(StructArray::try_new(point_fields(), vec![Arc::clone(x), Arc::clone(y)], nulls)?))
}

/// WKB of one box per row; see [`envelope_bounds`].
pub(super) fn envelopes(bounds: [&ArrayRef; 4]) -> Result<ArrayRef> {
    let bounds = bounds.map(|array| array.as_primitive::<Float64Type>());
    let rows = bounds[0].len();
    let mut wkb = BinaryBuilder::with_capacity(rows, 93 * rows);
    for row in 0..rows {
        if bounds.iter().any(|array| array.is_null(row)) {
            wkb.append_null();
            continue;
        }
        let bytes = envelope_bounds(bounds.map(|array| array.value(row)))
            .and_then(|bounds| to_wkb(&box_geometry(&bounds)))
            .map_err(|error| error.in_row(row))?;
        wkb.append_value(bytes);
    }
    Ok(Arc::new(wkb.finish()))
}

/// Checks the arguments of `st_makeenvelope` where all are constants.
pub(super) fn check_envelope(arguments: &[Option<&ScalarValue>]) -> Result<()> {
    let number =
        |argument: &Option<&ScalarValue>| match argument.map(|value| value.cast_to(&DataType::Float64)) {
            Some(Ok(ScalarValue::Float64(number))) => number,
            _ => None,
        };
    let numbers: Option<Vec<_>> = arguments.iter().map(number).collect();
    let Some(Ok(bounds)) = numbers.map(<[f64; 4]>::try_from) else { return Ok(()) };
    match envelope_bounds(bounds) {
        Ok(_) => Ok(()),
        Err(error) => plan_err!("st_makeenvelope: {}", error.reason),
    }
}

/// The box of `xmin, ymin, xmax, ymax`. Longitudes of -180..180 in falling order go across the antimeridian.
fn envelope_bounds([xmin, ymin, xmax, ymax]: [f64; 4]) -> Result<BoundingBox, GeometryError> {
    let is_usable = |bound: f64| bound.abs() <= MAX_COORDINATE;
    let fault = |reason: String| Err(GeometryError::new(0, reason));
    if ![xmin, ymin, xmax, ymax].into_iter().all(is_usable) {
        return fault(format!("found {xmin}, {ymin}, {xmax}, {ymax}, expected finite numbers up to 1e100"));
    }
    if ymin > ymax {
        return fault(format!("ymin is {ymin}, expected at most ymax, which is {ymax}"));
    }
    if xmin <= xmax {
        return Ok(BoundingBox { xmin, ymin, xmax, ymax });
    }
    if xmin <= 180.0 && xmax >= -180.0 {
        return Ok(BoundingBox { xmin, ymin, xmax: xmax + 360.0, ymax });
    }
    fault(format!(
        "xmin is {xmin}, expected at most xmax, which is {xmax}, or both from -180 to 180 across the antimeridian"
    ))
}

/// The box as a polygon; as a line or a point where it has no extent on an axis.
pub(super) fn box_geometry(bounds: &BoundingBox) -> Geometry<f64> {
    let BoundingBox { xmin, ymin, xmax, ymax } = *bounds;
    let at = |x: f64, y: f64| Coord { x, y };
    if bounds.is_point() {
        return Geometry::Point(Point(at(xmin, ymin)));
    }
    if xmin == xmax || ymin == ymax {
        return Geometry::LineString(LineString::new(vec![at(xmin, ymin), at(xmax, ymax)]));
    }
    let ring = vec![at(xmin, ymin), at(xmin, ymax), at(xmax, ymax), at(xmax, ymin), at(xmin, ymin)];
    Geometry::Polygon(Polygon::new(LineString::new(ring), vec![]))
}
