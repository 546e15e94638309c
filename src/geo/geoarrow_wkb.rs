//! GeoArrow's other encodings as ISO WKB, with Z and M.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, plan_err};

use crate::geo::geoarrow::{NestedKind, is_point, levels_over_points};
use crate::geo::geometry_error::GeometryError;

const POINT: u32 = 1;
const LINE: u32 = 2;
const POLYGON: u32 = 3;
const MULTI_POINT: u32 = 4;
const MULTI_LINE: u32 = 5;
const MULTI_POLYGON: u32 = 6;

/// Bytes of a point of two numbers.
const POINT_BYTES: usize = 21;

/// Points as WKB; NULL where a coordinate is NULL, or is NaN or infinite.
pub(crate) fn points_to_wkb(x: &Float64Array, y: &Float64Array) -> Result<BinaryArray> {
    let is_known = |row: usize| x.value(row).is_finite() && y.value(row).is_finite();
    let mut nulls = NullBuffer::union(x.nulls(), y.nulls());
    if !(0..x.len()).all(is_known) {
        let finite: NullBuffer = (0..x.len()).map(is_known).collect();
        nulls = NullBuffer::union(nulls.as_ref(), Some(&finite));
    }
    let ordinates = Ordinates { values: vec![x.values().clone(), y.values().clone()], nulls: None, code: 0 };
    ordinates.points(nulls)
}

/// Points, lines, polygons and multi-geometries of GeoArrow as WKB; `field` has the extension type. NULL stays NULL,
/// and a coordinate that is not finite stays what it is.
///
/// # Errors
/// A plan error for other types; [`OdpError::InvalidData`](crate::error::OdpError::InvalidData) for a null inside a
/// geometry, and for more than 2 GiB.
pub(crate) fn to_wkb_array(array: &ArrayRef, field: &Field) -> Result<BinaryArray> {
    let Some(levels) = levels_over_points(array.data_type()) else {
        return plan_err!("found {}, expected a GeoArrow geometry", array.data_type());
    };
    if levels == 0 {
        let ordinates = Ordinates::try_new(array)?;
        let nulls = ordinates.nulls.clone();
        return ordinates.points(nulls);
    }
    let (mut offsets, mut nulls) = (vec![], vec![]);
    let mut items = ArrayRef::clone(array);
    loop {
        items = match items.data_type() {
            DataType::List(_) => {
                let lists = items.as_list::<i32>();
                offsets.push(lists.offsets().iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect());
                ArrayRef::clone(lists.values())
            }
            DataType::LargeList(_) => {
                let lists = items.as_list::<i64>();
                offsets.push(lists.offsets().iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect());
                ArrayRef::clone(lists.values())
            }
            _ => break,
        };
        nulls.push(items.nulls().filter(|nulls| nulls.null_count() > 0).cloned());
    }
    let ordinates = Ordinates::try_new(&items)?;
    if let Some(of_points) = nulls.last_mut() {
        *of_points = ordinates.nulls.clone();
    }
    let kind = NestedKind::new(levels, Some(field))?;
    Nested { kind, offsets, nulls, ordinates }.rows(array.nulls())
}

/// Numbers of coordinates: x, y, then z and m as far as there are.
struct Ordinates {
    values: Vec<ScalarBuffer<f64>>,
    nulls: Option<NullBuffer>,
    /// What Z and M add to a type number.
    code: u32,
}

impl Ordinates {
    fn try_new(points: &ArrayRef) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        let mut columns: Vec<Float64Array> = Vec::new();
        let number = |array: &ArrayRef| -> Result<Float64Array> {
            Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        match points.data_type() {
            DataType::Struct(fields) if is_point(points.data_type()) => {
                let [x, y, others @ ..] = points.as_struct().columns() else {
                    return plan_err!("found {}, expected points of x and y", points.data_type());
                };
                columns.extend([number(x)?, number(y)?]);
                for (field, array) in fields.iter().skip(2).zip(others) {
                    let name = field.name().to_ascii_lowercase();
                    if matches!(name.as_str(), "z" | "m") && array.data_type().is_floating() {
                        names.push(name);
                        columns.push(number(array)?);
                    }
                }
            }
            DataType::FixedSizeList(item, stride) if is_point(points.data_type()) => {
                let numbers = number(points.as_fixed_size_list().values())?;
                let stride = usize::try_from(*stride).unwrap_or(2);
                let column = |first: usize| -> Float64Array {
                    (first..numbers.len())
                        .step_by(stride)
                        .map(|at| numbers.is_valid(at).then(|| numbers.value(at)))
                        .collect()
                };
                columns.extend((0..stride).map(column));
                let spelled = match stride {
                    2 => "",
                    3 if item.name().eq_ignore_ascii_case("xym") => "m",
                    3 => "z",
                    _ => "zm",
                };
                names.extend(spelled.chars().map(String::from));
            }
            other => return plan_err!("found {other}, expected points of x and y"),
        }
        // WKB has Z before M.
        if names.first().is_some_and(|name| name == "m") && names.len() > 1 {
            columns.swap(2, 3);
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let code = u32::from(has("z")) * 1000 + u32::from(has("m")) * 2000;
        let of_all = |nulls: Option<NullBuffer>, column: &Float64Array| {
            NullBuffer::union(nulls.as_ref(), column.nulls())
        };
        // Without a Z there is no third number, but the point is there.
        let nulls = columns.iter().take(2).fold(points.nulls().cloned(), of_all);
        let filled = |column: &Float64Array| match column.null_count() {
            0 => column.values().clone(),
            _ => column.iter().map(|number| number.unwrap_or(f64::NAN)).collect(),
        };
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        Ok(Self { values: columns.iter().map(filled).collect(), nulls, code })
    }

    fn count(&self) -> usize {
        self.values.first().map_or(0, |x| x.len())
    }

    /// One point per coordinate.
    fn points(&self, nulls: Option<NullBuffer>) -> Result<BinaryArray> {
        let mut rows = Rows::new(self.count(), POINT_BYTES + 8 * (self.values.len() - 2));
        for row in 0..self.count() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                rows.header(POINT + self.code);
                self.write(&mut rows.bytes, row);
            }
            rows.end(row)?;
        }
        rows.finish(nulls)
    }

    fn write(&self, bytes: &mut Vec<u8>, at: usize) {
        for ordinate in &self.values {
            bytes.extend(ordinate[at].to_le_bytes());
        }
    }
}

/// The bytes of all rows.
struct Rows {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

impl Rows {
    fn new(count: usize, bytes_per_row: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        Self { bytes: Vec::with_capacity(count * bytes_per_row), offsets }
    }

    fn header(&mut self, code: u32) {
        self.bytes.push(1);
        self.bytes.extend(code.to_le_bytes());
    }

    fn count(&mut self, count: usize) -> Result<(), GeometryError> {
        let count = u32::try_from(count)
            .map_err(|_| GeometryError::new(0, format!("{count} items, WKB allows up to 4294967295")))?;
        self.bytes.extend(count.to_le_bytes());
        Ok(())
    }

    fn end(&mut self, row: usize) -> Result<()> {
        let Ok(end) = i32::try_from(self.bytes.len()) else {
            let reason = "more than 2 GiB of WKB up to this row of one record batch";
            return Err(GeometryError::new(0, reason).in_row(row).into());
        };
        self.offsets.push(end);
        Ok(())
    }

    fn finish(self, nulls: Option<NullBuffer>) -> Result<BinaryArray> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(BinaryArray::try_new(offsets, self.bytes.into(), nulls)?)
    }
}

/// Lists of coordinates.
struct Nested {
    kind: NestedKind,
    /// Outermost first: item `i` holds items `offsets[n][i]..offsets[n][i + 1]` of the next level.
    offsets: Vec<Vec<usize>>,
    /// Those among the items of the next level, where there are any.
    nulls: Vec<Option<NullBuffer>>,
    ordinates: Ordinates,
}

impl Nested {
    fn rows(&self, nulls: Option<&NullBuffer>) -> Result<BinaryArray> {
        let count = self.offsets[0].len() - 1;
        let mut rows = Rows::new(count, 2 * POINT_BYTES);
        for row in 0..count {
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                self.geometry(&mut rows, row).map_err(|error| error.in_row(row))?;
            }
            rows.end(row)?;
        }
        rows.finish(nulls.cloned())
    }

    fn geometry(&self, rows: &mut Rows, row: usize) -> Result<(), GeometryError> {
        let code = self.ordinates.code;
        let items = self.items(0, row)?;
        match self.kind {
            NestedKind::Line => self.line(rows, items),
            NestedKind::Polygon => self.polygon(rows, items, 1),
            NestedKind::MultiPoint => {
                rows.header(MULTI_POINT + code);
                rows.count(items.len())?;
                for at in items {
                    rows.header(POINT + code);
                    self.ordinates.write(&mut rows.bytes, at);
                }
                Ok(())
            }
            NestedKind::MultiLine => {
                rows.header(MULTI_LINE + code);
                rows.count(items.len())?;
                items.into_iter().try_for_each(|line| self.line(rows, self.items(1, line)?))
            }
            NestedKind::MultiPolygon => {
                rows.header(MULTI_POLYGON + code);
                rows.count(items.len())?;
                items.into_iter().try_for_each(|polygon| self.polygon(rows, self.items(1, polygon)?, 2))
            }
        }
    }

    fn line(&self, rows: &mut Rows, coordinates: Range<usize>) -> Result<(), GeometryError> {
        rows.header(LINE + self.ordinates.code);
        self.path(rows, coordinates)
    }

    /// `rings` are items of level `level`.
    fn polygon(&self, rows: &mut Rows, rings: Range<usize>, level: usize) -> Result<(), GeometryError> {
        rows.header(POLYGON + self.ordinates.code);
        rows.count(rings.len())?;
        rings.into_iter().try_for_each(|ring| self.path(rows, self.items(level, ring)?))
    }

    fn path(&self, rows: &mut Rows, coordinates: Range<usize>) -> Result<(), GeometryError> {
        rows.count(coordinates.len())?;
        coordinates.into_iter().for_each(|at| self.ordinates.write(&mut rows.bytes, at));
        Ok(())
    }

    /// The items of the next level in an item; an error if one is null.
    fn items(&self, level: usize, item: usize) -> Result<Range<usize>, GeometryError> {
        let items = self.offsets[level][item]..self.offsets[level][item + 1];
        match &self.nulls[level] {
            Some(nulls) if nulls.slice(items.start, items.len()).null_count() > 0 => {
                Err(GeometryError::new(0, "found a null inside the geometry"))
            }
            _ => Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use datafusion::arrow::array::{FixedSizeListArray, LargeListArray, ListArray, StructArray};

    use super::*;
    use crate::geo::array::GeometryArray;
    use crate::geo::wkb::parse_wkb;
    use crate::geo::wkt::to_wkt;

    fn extension(name: &str) -> Field {
        let metadata = HashMap::from([("ARROW:extension:name".to_owned(), format!("geoarrow.{name}"))]);
        Field::new("geometry", DataType::Null, true).with_metadata(metadata)
    }

    fn interleaved(numbers: &[f64], size: i32, name: &str) -> ArrayRef {
        let item = Arc::new(Field::new(name, DataType::Float64, false));
        Arc::new(FixedSizeListArray::new(item, size, Arc::new(Float64Array::from(numbers.to_vec())), None))
    }

    fn lists(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths.to_vec()), values, None))
    }

    #[test]
    fn what_is_written_reads_as_the_lists_do() {
        let ring = [0., 0., 4., 0., 4., 4., 0., 0.];
        let coordinates = interleaved(&[ring, ring].concat(), 2, "xy");
        let rings = lists(Arc::clone(&coordinates), &[4, 0, 4]);
        let polygons = lists(Arc::clone(&rings), &[1, 2]);
        let item = Arc::new(Field::new("item", polygons.data_type().clone(), true));
        let of_polygons: ArrayRef = Arc::new(LargeListArray::new(
            item,
            OffsetBuffer::from_lengths([1, 0, 1]),
            Arc::clone(&polygons),
            None,
        ));
        for (name, array) in [
            ("point", Arc::clone(&coordinates)),
            ("linestring", Arc::clone(&rings)),
            ("multipoint", rings),
            ("multilinestring", Arc::clone(&polygons)),
            ("polygon", polygons.slice(0, 1)),
            ("multipolygon", of_polygons),
        ] {
            let field = extension(name);
            for array in [ArrayRef::clone(&array), array.slice(array.len() - 1, 1)] {
                let read = GeometryArray::try_with_field(&array, &field).unwrap();
                let wkb = to_wkb_array(&array, &field).unwrap();
                assert_eq!(wkb.len(), array.len());
                for row in 0..array.len() {
                    let (expected, found) = (read.value(row).unwrap().parse(), parse_wkb(wkb.value(row)));
                    assert_eq!(found.is_ok(), expected.is_ok(), "{name} {row}");
                    if let (Ok(found), Ok(expected)) = (found, expected) {
                        assert_eq!(to_wkt(&found), to_wkt(&expected), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn heights_and_measures_are_written_in_the_order_of_wkb() {
        let numbers = |code: u32, values: &[f64]| {
            let mut bytes = vec![1];
            bytes.extend(code.to_le_bytes());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            bytes
        };
        let field = extension("point");
        for (size, name, code) in [(3, "xyz", 1001), (3, "xym", 2001), (4, "xyzm", 3001)] {
            let values: Vec<f64> = (0..size).map(f64::from).collect();
            let wkb = to_wkb_array(&interleaved(&values, size, name), &field).unwrap();
            assert_eq!(wkb.value(0), numbers(code, &values), "{name}");
        }
        let columns = ["x", "y", "m", "z"].into_iter().zip([1.0, 2.0, 4.0, 3.0]).map(|(name, value)| {
            let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(value), None]));
            (Arc::new(Field::new(name, DataType::Float64, true)), array)
        });
        let points: ArrayRef = Arc::new(StructArray::from(columns.collect::<Vec<_>>()));
        let wkb = to_wkb_array(&points, &field).unwrap();
        assert_eq!(wkb.value(0), numbers(3001, &[1.0, 2.0, 3.0, 4.0]));
        assert!(wkb.is_null(1));
    }

    #[test]
    fn a_null_inside_is_an_error_and_numbers_that_are_not_finite_are_kept() {
        let values = interleaved(&[0., 0., f64::NAN, 1.], 2, "xy");
        let wkb = to_wkb_array(&lists(Arc::clone(&values), &[2]), &extension("linestring")).unwrap();
        assert!(parse_wkb(wkb.value(0)).is_err());
        let holed: ArrayRef = Arc::new(FixedSizeListArray::new(
            Arc::new(Field::new("xy", DataType::Float64, false)),
            2,
            Arc::clone(values.as_fixed_size_list().values()),
            Some(vec![true, false].into()),
        ));
        assert!(to_wkb_array(&holed, &extension("point")).unwrap().is_null(1));
        let error = to_wkb_array(&lists(holed, &[1, 1]), &extension("multipoint")).unwrap_err();
        assert!(error.to_string().contains("row 1"), "{error}");
    }

    #[test]
    fn points_of_numbers_are_null_where_there_is_no_place() {
        let x = Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(4.0)]);
        let y = Float64Array::from(vec![Some(2.0), Some(1.0), Some(1.0), Some(f64::INFINITY)]);
        let wkb = points_to_wkb(&x, &y).unwrap();
        assert_eq!([0, 1, 2, 3].map(|row| wkb.is_valid(row)), [true, false, false, false]);
        assert_eq!(to_wkt(&parse_wkb(wkb.value(0)).unwrap()), "POINT(1 2)");
    }
}
