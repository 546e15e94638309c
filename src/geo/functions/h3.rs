//! The H3 grid: `h3_cell(lat, lon, resolution)` and `h3_boundary(cell)`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use geo::{Coord, Geometry, LineString, Polygon};
use h3o::{CellIndex, LatLng, Resolution};

use crate::error::OdpError;
use crate::geo::functions::geometry_function::number_type;
use crate::geo::wkt::to_wkt;

/// What an [`H3Function`] does. NULL gives NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum H3Kind {
    /// `h3_cell(lat, lon, resolution)`: the 15 hex digits of the cell, in lower case.
    Cell,
    /// `h3_boundary(cell)`: WKT of a polygon in degrees. Longitudes of a cell across the antimeridian go on beyond
    /// 180; a cell around a pole is the whole strip between its edge and the pole.
    Boundary,
}

impl H3Kind {
    pub(super) const ALL: [Self; 2] = [Self::Cell, Self::Boundary];
}

/// A function over cells of the H3 grid.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct H3Function {
    kind: H3Kind,
    signature: Signature,
}

impl H3Function {
    pub(super) fn new(kind: H3Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for H3Function {
    fn name(&self) -> &str {
        match self.kind {
            H3Kind::Cell => "h3_cell",
            H3Kind::Boundary => "h3_boundary",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, arg_types) {
            (H3Kind::Cell, [lat, lon, resolution]) => {
                if !(resolution.is_integer() || resolution.is_null()) {
                    return plan_err!(
                        "h3_cell: argument 3 is {resolution}, expected a resolution from 0 to 15"
                    );
                }
                let (lat, lon) = (number_type("h3_cell", 0, lat)?, number_type("h3_cell", 1, lon)?);
                Ok(vec![lat, lon, DataType::Int64])
            }
            (H3Kind::Cell, other) => {
                plan_err!(
                    "h3_cell got {} arguments, expected latitude, longitude and resolution",
                    other.len()
                )
            }
            (H3Kind::Boundary, [cell]) if is_text(cell) => Ok(vec![DataType::Utf8]),
            (H3Kind::Boundary, [other]) => {
                plan_err!("h3_boundary: found {other}, expected the text of a cell")
            }
            (H3Kind::Boundary, other) => plan_err!("h3_boundary got {} arguments, expected 1", other.len()),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result: StringArray = match (self.kind, arrays.as_slice()) {
            (H3Kind::Cell, [lat, lon, resolution]) => cells(lat, lon, resolution)?,
            (H3Kind::Boundary, [cell]) => {
                let cells = cast(cell, &DataType::Utf8)?;
                let boundary = |(row, cell): (usize, Option<&str>)| {
                    cell.map(|cell| boundary(cell).map_err(|reason| in_row("h3_boundary", row, reason)))
                        .transpose()
                };
                cells.as_string::<i32>().iter().enumerate().map(boundary).collect::<Result<_>>()?
            }
            (_, other) => return plan_err!("{} got {} arguments", self.name(), other.len()),
        };
        if all_constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => other.is_string() || other.is_null(),
    }
}

fn in_row(function: &str, row: usize, reason: String) -> datafusion::common::DataFusionError {
    let location = format!("{function} in row {row} of the record batch");
    OdpError::InvalidData { location, source: reason.into() }.into()
}

fn cells(lat: &ArrayRef, lon: &ArrayRef, resolution: &ArrayRef) -> Result<StringArray> {
    let (lat, lon) = (lat.as_primitive::<Float64Type>(), lon.as_primitive::<Float64Type>());
    let resolutions = resolution.as_primitive::<Int64Type>();
    let cell_of_row = |row: usize| {
        if lat.is_null(row) || lon.is_null(row) || resolutions.is_null(row) {
            return Ok(None);
        }
        let cell = cell(lat.value(row), lon.value(row), resolutions.value(row));
        cell.map(Some).map_err(|reason| in_row("h3_cell", row, reason))
    };
    (0..lat.len()).map(cell_of_row).collect()
}

fn cell(lat: f64, lon: f64, resolution: i64) -> Result<String, String> {
    let level = u8::try_from(resolution).ok().and_then(|level| Resolution::try_from(level).ok());
    let level = level.ok_or_else(|| format!("resolution {resolution}, expected 0 to 15"))?;
    if !(-90.0..=90.0).contains(&lat) {
        return Err(format!("latitude {lat}, expected -90 to 90"));
    }
    if !(-360.0..=360.0).contains(&lon) {
        return Err(format!("longitude {lon}, expected -360 to 360"));
    }
    let at = LatLng::new(lat, lon).map_err(|error| error.to_string())?;
    Ok(format!("{:015x}", u64::from(at.to_cell(level))))
}

fn boundary(cell: &str) -> Result<String, String> {
    let is_hex = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_hexdigit());
    let cell = is_hex.then(|| cell.parse::<CellIndex>().ok()).flatten().ok_or_else(|| {
        let found: String = cell.chars().take(20).collect();
        format!("found {found:?}, expected an H3 cell of 15 hex digits")
    })?;
    let mut ring: Vec<Coord<f64>> = vec![];
    for corner in cell.boundary().iter() {
        // The nearest way to write the longitude after the corner before it.
        let x = match ring.last() {
            Some(last) => corner.lng() - 360.0 * ((corner.lng() - last.x) / 360.0).round(),
            None => corner.lng(),
        };
        ring.push(Coord { x, y: corner.lat() });
    }
    let (Some(first), Some(last)) = (ring.first().copied(), ring.last().copied()) else {
        return Err("a cell without corners".to_owned());
    };
    let turns = ((last.x - first.x) / 360.0).round();
    if turns != 0.0 {
        // Around a pole: once round the world, and back along the pole.
        let (end, pole) = (first.x + 360.0 * turns, 90f64.copysign(first.y));
        ring.extend([Coord { x: end, y: first.y }, Coord { x: end, y: pole }, Coord { x: first.x, y: pole }]);
    }
    ring.push(first);
    if ring.iter().any(|at| at.x < -180.0) {
        ring.iter_mut().for_each(|at| at.x += 360.0);
    }
    Ok(to_wkt(&Geometry::Polygon(Polygon::new(LineString::new(ring), vec![]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::area::{Area, PointLocation};
    use crate::geo::wkt::parse_wkt;

    #[test]
    fn cells_are_those_of_the_reference_library() {
        // From the documentation of H3: https://h3geo.org/docs/api/indexing
        assert_eq!(
            cell(37.775_938_728_915_946, -122.417_954_180_378_64, 9),
            Ok("8928308280fffff".to_owned())
        );
        assert_eq!(cell(0.0, 0.0, 0), Ok("8075fffffffffff".to_owned()));
        assert_eq!(cell(10.0, 190.0, 5), cell(10.0, -170.0, 5));
    }

    #[test]
    fn values_out_of_range_are_errors() {
        for (lat, lon, resolution) in [
            (0.0, 0.0, 16),
            (0.0, 0.0, -1),
            (90.1, 0.0, 1),
            (f64::NAN, 0.0, 1),
            (0.0, f64::NAN, 1),
            (0.0, f64::INFINITY, 1),
        ] {
            assert!(cell(lat, lon, resolution).unwrap_err().contains("expected"), "{lat} {lon} {resolution}");
        }
        for text in ["", "x", "8928308280ffffg", "+8928308280fffff", "0", "ffffffffffffffff", "é"] {
            assert!(boundary(text).unwrap_err().contains("15 hex digits"), "{text}");
        }
    }

    #[test]
    fn a_point_lies_in_the_boundary_of_its_cell() {
        for (lat, lon) in [
            (51.5, -0.1),
            (12.0, 179.99),
            (-12.0, -179.99),
            (89.9, 45.0),
            (-89.9, -100.0),
            (90.0, 0.0),
            (65.0, 200.0),
            (0.0, 0.0),
        ] {
            for resolution in [0, 1, 3, 5, 7] {
                let cell = cell(lat, lon, resolution).unwrap();
                let text = boundary(&cell).unwrap();
                let area = Area::try_new(parse_wkt(&text).unwrap()).unwrap();
                // Edges are great circles in H3, and straight in degrees here.
                if resolution > 2 || lat.abs() < 60.0 {
                    assert_ne!(
                        area.covers_point(lon, lat),
                        PointLocation::Outside,
                        "{lat} {lon}: {cell} {text}"
                    );
                }
                let bounds = area.bounding_box().unwrap();
                assert!(bounds.xmin >= -180.0 && bounds.xmax - bounds.xmin < 360.001, "{text}");
            }
        }
    }
}
