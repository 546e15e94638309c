//! What is read off geometries: text, WKB, coordinates, bounds, types and centroids.
//!
//! A malformed geometry in a row is what the setting `odp.on_invalid_geometry` says: an error, or NULL. One that is well
//! formed but not what the function takes, as a line is for `st_x`, is an error in any case.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Float64Array, StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use geo::{Centroid, Geometry, MultiPoint};

use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::functions::constructors::{box_geometry, point_fields};
use crate::geo::geometry_error::GeometryError;
use crate::geo::sink::Outline;
use crate::geo::wkb::to_wkb;
use crate::geo::wkt::to_wkt;
use crate::options::OnInvalidGeometry;

/// `read` of each row's geometry, in turn; none where the row is null or malformed, or `read` gives none.
pub(super) fn each_row<'a, T>(
    rows: &'a GeometryArray,
    setting: OnInvalidGeometry,
    read: impl Fn(GeometryValue<'_>) -> Result<Option<T>, GeometryError> + 'a,
) -> impl Iterator<Item = Result<Option<T>>> + 'a {
    (0..rows.len()).map(move |row| {
        let Some(value) = rows.value(row) else { return Ok(None) };
        match read(value) {
            Err(_) if setting == OnInvalidGeometry::NoMatch && value.outline().is_err() => Ok(None),
            Err(error) => Err(error.in_row(row).into()),
            Ok(found) => Ok(found),
        }
    })
}

pub(super) fn as_binary(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
    let mut wkb = BinaryBuilder::with_capacity(rows.len(), 21 * rows.len());
    for bytes in each_row(rows, setting, |value| to_wkb(&value.parse()?).map(Some)) {
        wkb.append_option(bytes?);
    }
    Ok(Arc::new(wkb.finish()))
}

pub(super) fn as_text(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
    let mut text = StringBuilder::with_capacity(rows.len(), 32 * rows.len());
    for written in each_row(rows, setting, |value| Ok(Some(to_wkt(&value.parse()?)))) {
        text.append_option(written?);
    }
    Ok(Arc::new(text.finish()))
}

/// Checks WKB: an error, or null, where it is malformed.
pub(super) fn checked_wkb(
    rows: &GeometryArray,
    wkb: &ArrayRef,
    setting: OnInvalidGeometry,
) -> Result<ArrayRef> {
    let check = |value: GeometryValue<'_>| value.outline().map(|_| Some(()));
    let known = each_row(rows, setting, check).map(|found| found.map(|found| found.is_none()));
    let malformed = known.collect::<Result<Vec<bool>>>()?;
    Ok(nullif(&cast(wkb, &DataType::Binary)?, &BooleanArray::from(malformed))?)
}

pub(super) fn ordinate(
    rows: &GeometryArray,
    setting: OnInvalidGeometry,
    pick: impl Fn(f64, f64) -> f64,
) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| match value.as_plain_point() {
        Some((x, y)) => Ok(Some(pick(x, y))),
        None => match value.parse()? {
            Geometry::Point(point) => Ok(Some(pick(point.x(), point.y()))),
            Geometry::MultiPoint(MultiPoint(points)) if points.is_empty() => Ok(None),
            _ => Err(GeometryError::new(0, "found another geometry, expected a point")),
        },
    };
    Ok(Arc::new(each_row(rows, setting, read).collect::<Result<Float64Array>>()?))
}

pub(super) fn bound(
    rows: &GeometryArray,
    setting: OnInvalidGeometry,
    pick: impl Fn(&BoundingBox) -> f64,
) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| Ok(bounds_of(&value)?.as_ref().map(&pick));
    Ok(Arc::new(each_row(rows, setting, read).collect::<Result<Float64Array>>()?))
}

pub(super) fn is_empty(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| Ok(Some(bounds_of(&value)?.is_none()));
    Ok(Arc::new(each_row(rows, setting, read).collect::<Result<BooleanArray>>()?))
}

pub(super) fn type_name(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
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
    Ok(Arc::new(each_row(rows, setting, read).collect::<Result<StringArray>>()?))
}

pub(super) fn envelope(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| {
        let geometry = match bounds_of(&value)? {
            Some(bounds) => box_geometry(&bounds),
            None => value.parse()?,
        };
        to_wkb(&geometry).map(Some)
    };
    let mut wkb = BinaryBuilder::with_capacity(rows.len(), 93 * rows.len());
    for bytes in each_row(rows, setting, read) {
        wkb.append_option(bytes?);
    }
    Ok(Arc::new(wkb.finish()))
}

pub(super) fn centroid(rows: &GeometryArray, setting: OnInvalidGeometry) -> Result<ArrayRef> {
    let read = |value: GeometryValue<'_>| {
        let Some(centroid) = value.parse()?.centroid() else { return Ok(None) };
        if centroid.x().is_finite() && centroid.y().is_finite() {
            return Ok(Some((centroid.x(), centroid.y())));
        }
        Err(GeometryError::new(0, "coordinates too large for a centroid"))
    };
    let centroids = each_row(rows, setting, read).collect::<Result<Vec<_>>>()?;
    let nulls: NullBuffer = centroids.iter().map(Option::is_some).collect();
    let x: Float64Array = centroids.iter().map(|at| at.map(|(x, _)| x)).collect();
    let y: Float64Array = centroids.iter().map(|at| at.map(|(_, y)| y)).collect();
    let points = StructArray::try_new(point_fields(), vec![Arc::new(x), Arc::new(y)], Some(nulls))?;
    Ok(Arc::new(points))
}

/// `None` for an empty geometry.
fn bounds_of(value: &GeometryValue<'_>) -> Result<Option<BoundingBox>, GeometryError> {
    value.outline().map(Outline::bounding_box)
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
        GeometryValue::Wkb(_) | GeometryValue::Nested(..) | GeometryValue::Box(_) => false,
    }
}
