//! What is read off geometries: text, WKB, coordinates, bounds, types and centroids.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Float64Array, StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::common::Result;
use geo::{Centroid, CoordsIter, Geometry, MultiPoint};

use crate::error::OdpError;
use crate::geo::MAX_COORDINATE;
use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::functions::constructors::{box_geometry, point_fields};
use crate::geo::geometry_error::GeometryError;
use crate::geo::wkb::to_wkb;
use crate::geo::wkt::to_wkt;

/// `read` of each row's geometry; null where the row is, or `read` gives none.
fn each_row<T>(
    geometries: &ArrayRef,
    read: impl Fn(GeometryValue<'_>) -> Result<Option<T>, GeometryError>,
) -> Result<Vec<Option<T>>> {
    let rows = GeometryArray::try_new(geometries)?;
    let read_row = |row: usize| match rows.value(row) {
        None => Ok(None),
        Some(value) => read(value).map_err(|error| OdpError::from(error.in_row(row)).into()),
    };
    (0..rows.len()).map(read_row).collect()
}

pub(super) fn as_binary(geometries: &ArrayRef) -> Result<ArrayRef> {
    let rows = GeometryArray::try_new(geometries)?;
    let mut wkb = BinaryBuilder::with_capacity(rows.len(), 21 * rows.len());
    for row in 0..rows.len() {
        match rows.value(row) {
            None => wkb.append_null(),
            Some(value) => {
                let bytes = value.parse().and_then(|geometry| to_wkb(&geometry));
                wkb.append_value(bytes.map_err(|error| error.in_row(row))?);
            }
        }
    }
    Ok(Arc::new(wkb.finish()))
}

pub(super) fn as_text(geometries: &ArrayRef) -> Result<ArrayRef> {
    let rows = GeometryArray::try_new(geometries)?;
    let mut text = StringBuilder::with_capacity(rows.len(), 32 * rows.len());
    for row in 0..rows.len() {
        match rows.value(row) {
            None => text.append_null(),
            Some(value) => {
                text.append_value(to_wkt(&value.parse().map_err(|error| error.in_row(row))?));
            }
        }
    }
    Ok(Arc::new(text.finish()))
}

pub(super) fn ordinate(geometries: &ArrayRef, pick: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| match value.as_plain_point() {
        Some((x, y)) => Ok(Some(pick(x, y))),
        None => match value.parse()? {
            Geometry::Point(point) => Ok(Some(pick(point.x(), point.y()))),
            Geometry::MultiPoint(MultiPoint(points)) if points.is_empty() => Ok(None),
            _ => Err(GeometryError::new(0, "found another geometry, expected a point")),
        },
    };
    Ok(Arc::new(Float64Array::from(each_row(geometries, read)?)))
}

pub(super) fn bound(geometries: &ArrayRef, pick: impl Fn(&BoundingBox) -> f64) -> Result<ArrayRef> {
    let bounds = each_row(geometries, |value| bounds_of(&value))?;
    Ok(Arc::new(bounds.iter().map(|bounds| bounds.as_ref().map(&pick)).collect::<Float64Array>()))
}

pub(super) fn is_empty(geometries: &ArrayRef) -> Result<ArrayRef> {
    let answers = each_row(geometries, |value| Ok(Some(bounds_of(&value)?.is_none())))?;
    Ok(Arc::new(BooleanArray::from(answers)))
}

pub(super) fn type_name(geometries: &ArrayRef) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| {
        let geometry = value.parse()?;
        Ok(Some(match geometry {
            _ if is_point(&value) => "ST_Point",
            Geometry::Point(_) => "ST_Point",
            Geometry::Line(_) | Geometry::LineString(_) => "ST_LineString",
            Geometry::Polygon(_) | Geometry::Rect(_) | Geometry::Triangle(_) => "ST_Polygon",
            Geometry::MultiPoint(_) => "ST_MultiPoint",
            Geometry::MultiLineString(_) => "ST_MultiLineString",
            Geometry::MultiPolygon(_) => "ST_MultiPolygon",
            Geometry::GeometryCollection(_) => "ST_GeometryCollection",
        }))
    };
    Ok(Arc::new(StringArray::from(each_row(geometries, read)?)))
}

pub(super) fn envelope(geometries: &ArrayRef) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| {
        let geometry = match bounds_of(&value)? {
            Some(bounds) => box_geometry(&bounds),
            None => value.parse()?,
        };
        to_wkb(&geometry).map(Some)
    };
    let wkb = each_row(geometries, read)?;
    let mut builder = BinaryBuilder::with_capacity(wkb.len(), 93 * wkb.len());
    wkb.iter().for_each(|bytes| builder.append_option(bytes.as_deref()));
    Ok(Arc::new(builder.finish()))
}

pub(super) fn centroid(geometries: &ArrayRef) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| {
        let Some(centroid) = value.parse()?.centroid() else { return Ok(None) };
        if centroid.x().is_finite() && centroid.y().is_finite() {
            return Ok(Some((centroid.x(), centroid.y())));
        }
        Err(GeometryError::new(0, "coordinates too large for a centroid"))
    };
    let centroids = each_row(geometries, read)?;
    let nulls: NullBuffer = centroids.iter().map(Option::is_some).collect();
    let x: Float64Array = centroids.iter().map(|at| at.map(|(x, _)| x)).collect();
    let y: Float64Array = centroids.iter().map(|at| at.map(|(_, y)| y)).collect();
    let points = StructArray::try_new(point_fields(), vec![Arc::new(x), Arc::new(y)], Some(nulls))?;
    Ok(Arc::new(points))
}

/// `None` for an empty geometry.
fn bounds_of(value: &GeometryValue<'_>) -> Result<Option<BoundingBox>, GeometryError> {
    let of_point = |x: f64, y: f64| {
        let is_usable = x.abs() <= MAX_COORDINATE && y.abs() <= MAX_COORDINATE;
        is_usable.then(|| BoundingBox::of_point(x, y))
    };
    if let Some((x, y)) = value.as_plain_point() {
        return Ok(of_point(x, y));
    }
    let geometry = value.parse()?;
    let points = geometry.coords_iter().map(|at| BoundingBox::of_point(at.x, at.y));
    Ok(points.reduce(|left, right| left.union(&right)))
}

/// Whether a geometry that is well formed was written as a point; an empty one is read as a multipoint.
fn is_point(value: &GeometryValue<'_>) -> bool {
    match value {
        GeometryValue::Point(..) => true,
        GeometryValue::Wkt(text) => {
            let text = text.split_once(';').map_or(*text, |(_, text)| text).trim_start();
            text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("POINT"))
        }
        // Byte order and type, of which all that says more than the type is above its low two decimal digits.
        GeometryValue::Wkb([order, a, b, c, d, ..]) => {
            let code = match order {
                0 => u32::from_be_bytes([*a, *b, *c, *d]),
                _ => u32::from_le_bytes([*a, *b, *c, *d]),
            };
            (code & 0x0fff_ffff) % 1000 == 1
        }
        GeometryValue::Wkb(_) => false,
    }
}
