//! GeoArrow's nested encodings: coordinates under one to three levels of lists.
//!
//! # Source
//! <https://geoarrow.org/format.html>: "Native encoding" and "Extension types".

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::buffer::{NullBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, plan_err};
use geo::Coord;

use crate::geo::MAX_COORDINATE;
use crate::geo::geometry_error::GeometryError;
use crate::geo::sink::{Parts, PathEnds, Sink};

/// The metadata key under which a field names its extension type.
const EXTENSION_NAME: &str = "ARROW:extension:name";

/// What the innermost and the outer lists of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NestedKind {
    Line,
    MultiPoint,
    Polygon,
    MultiLine,
    MultiPolygon,
}

/// A column of lines, polygons or multi-geometries as lists of coordinates.
#[derive(Debug)]
pub(crate) struct NestedArray {
    kind: NestedKind,
    /// Outermost first: item `i` holds items `levels[n][i]..levels[n][i + 1]` of the next level.
    levels: Arc<[Vec<usize>]>,
    /// The nulls among the items of the next level, where there are any. Rows that are null may hold some.
    inner_nulls: Arc<[Option<NullBuffer>]>,
    /// The item of the first level that is the first row.
    first: usize,
    count: usize,
    coordinates: Coordinates,
    nulls: Option<NullBuffer>,
}

/// Coordinates, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Coordinates {
    Separated {
        x: ScalarBuffer<f64>,
        y: ScalarBuffer<f64>,
    },
    /// `stride` numbers each, x and y first.
    Interleaved {
        values: ScalarBuffer<f64>,
        stride: usize,
    },
}

/// Whether values of this type are points: a struct that begins with x and y, or two to four numbers.
pub(super) fn is_point(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            let [x, y, ..] = fields.as_ref() else { return false };
            let names = (x.name().to_ascii_lowercase(), y.name().to_ascii_lowercase());
            let known = matches!(
                (names.0.as_str(), names.1.as_str()),
                ("x", "y") | ("lon", "lat") | ("lng", "lat") | ("longitude", "latitude")
            );
            known && x.data_type().is_floating() && y.data_type().is_floating()
        }
        DataType::FixedSizeList(number, 2..=4) => number.data_type().is_floating(),
        _ => false,
    }
}

/// Levels of lists over points; `None` for other types, and for more than three.
pub(crate) fn levels_over_points(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => {
            levels_over_points(item.data_type()).map(|levels| levels + 1).filter(|levels| *levels <= 3)
        }
        other => is_point(other).then_some(0),
    }
}

/// The places of xmin, ymin, xmax and ymax in a struct of bounds; `None` for other types.
pub(crate) fn box_places(data_type: &DataType) -> Option<[usize; 4]> {
    let DataType::Struct(fields) = data_type else { return None };
    let place = |wanted: &str| {
        let found = fields.iter().position(|field| field.name().eq_ignore_ascii_case(wanted))?;
        fields[found].data_type().is_floating().then_some(found)
    };
    Some([place("xmin")?, place("ymin")?, place("xmax")?, place("ymax")?])
}

impl NestedKind {
    /// From the extension name, which alone tells several points from a line. Without one, lines and polygons.
    pub(super) fn new(levels: usize, field: Option<&Field>) -> Result<Self> {
        let name = field.and_then(|field| field.metadata().get(EXTENSION_NAME)).map(String::as_str);
        Ok(match (levels, name) {
            (1, Some("geoarrow.multipoint")) => Self::MultiPoint,
            (2, Some("geoarrow.multilinestring")) => Self::MultiLine,
            (1, Some("geoarrow.linestring"))
            | (2, Some("geoarrow.polygon"))
            | (3, Some("geoarrow.multipolygon")) => Self::of_levels(levels),
            (_, Some(name)) if name.starts_with("geoarrow.") => {
                return plan_err!("column of type {name} has {levels} levels of lists over its points");
            }
            _ => Self::of_levels(levels),
        })
    }

    fn of_levels(levels: usize) -> Self {
        match levels {
            1 => Self::Line,
            2 => Self::Polygon,
            _ => Self::MultiPolygon,
        }
    }
}

impl NestedArray {
    /// Views an array of one to three levels of lists over points.
    pub(super) fn try_new(array: &ArrayRef, field: Option<&Field>) -> Result<Self> {
        let (mut levels, mut inner_nulls) = (vec![], vec![]);
        let mut items = ArrayRef::clone(array);
        loop {
            items = match items.data_type() {
                DataType::List(_) => {
                    let lists = items.as_list::<i32>();
                    levels.push(lists.offsets().iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect());
                    ArrayRef::clone(lists.values())
                }
                DataType::LargeList(_) => {
                    let lists = items.as_list::<i64>();
                    levels.push(lists.offsets().iter().map(|at| usize::try_from(*at).unwrap_or(0)).collect());
                    ArrayRef::clone(lists.values())
                }
                _ => break,
            };
            inner_nulls.push(items.nulls().cloned());
        }
        let (coordinates, nulls) = Coordinates::try_new(&items)?;
        // Of points, more are null than the array says: those without x or y.
        if let Some(of_points) = inner_nulls.last_mut() {
            *of_points = nulls;
        }
        let kind = NestedKind::new(levels.len(), field)?;
        let inner_nulls = inner_nulls.into_iter().map(|nulls| nulls.filter(|nulls| nulls.null_count() > 0));
        Ok(Self {
            kind,
            levels: levels.into(),
            inner_nulls: inner_nulls.collect(),
            first: 0,
            count: array.len(),
            coordinates,
            nulls: array.nulls().cloned(),
        })
    }

    pub(super) fn slice(&self, first: usize, count: usize) -> Self {
        Self {
            kind: self.kind,
            levels: Arc::clone(&self.levels),
            inner_nulls: Arc::clone(&self.inner_nulls),
            first: self.first + first,
            count,
            coordinates: self.coordinates.clone(),
            nulls: self.nulls.as_ref().map(|nulls| nulls.slice(first, count)),
        }
    }

    /// The same rows with other nulls.
    pub(super) fn with_nulls(&self, nulls: Option<NullBuffer>) -> Self {
        Self { nulls, ..self.slice(0, self.count) }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        self.nulls.as_ref()
    }

    /// Hands the geometry in a row to a sink.
    ///
    /// # Errors
    /// [`GeometryError`] for what the readers of WKT and WKB refuse too, and for a null inside the geometry.
    pub(super) fn read<S: Sink>(&self, row: usize, sink: &mut S) -> Result<S::Geometry, GeometryError> {
        let row = self.first + row;
        let parts = match self.kind {
            NestedKind::Line => Parts::Line(self.line(self.items(0, row)?, sink)?.0),
            NestedKind::MultiPoint => {
                let mut path = sink.path(0);
                for at in self.items(0, row)? {
                    if let Some(at) = self.coordinates.point(at)? {
                        sink.push(&mut path, at);
                    }
                }
                Parts::MultiPoint(path)
            }
            NestedKind::Polygon => {
                let polygon = self.polygon(0, row, sink)?;
                Parts::Polygon(polygon.unwrap_or_else(|| sink.polygon(None, vec![])))
            }
            NestedKind::MultiLine => {
                let mut lines = vec![];
                for line in self.items(0, row)? {
                    let (path, ends) = self.line(self.items(1, line)?, sink)?;
                    lines.extend((!ends.is_empty()).then_some(path));
                }
                Parts::MultiLine(lines)
            }
            NestedKind::MultiPolygon => {
                let mut polygons = vec![];
                for polygon in self.items(0, row)? {
                    polygons.extend(self.polygon(1, polygon, sink)?);
                }
                Parts::MultiPolygon(polygons)
            }
        };
        Ok(sink.geometry(parts))
    }

    /// Whether two rows hold the same coordinates in the same lists.
    pub(super) fn same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        if self.kind != other.kind {
            return false;
        }
        let (row, other_row) = (self.first + row, other.first + other_row);
        let (mut left, mut right) = (row..row + 1, other_row..other_row + 1);
        for (level, (ours, theirs)) in self.levels.iter().zip(other.levels.iter()).enumerate() {
            let alike = left.len() == right.len()
                && left
                    .clone()
                    .zip(right.clone())
                    .all(|(a, b)| ours[a + 1] - ours[a] == theirs[b + 1] - theirs[b]);
            if !alike {
                return false;
            }
            left = ours[left.start]..ours[left.end];
            right = theirs[right.start]..theirs[right.end];
            let has_null = |array: &Self, items: &std::ops::Range<usize>| {
                let nulls = array.inner_nulls[level].as_ref();
                nulls.is_some_and(|nulls| nulls.slice(items.start, items.len()).null_count() > 0)
            };
            // What a null stands for is not known.
            if has_null(self, &left) || has_null(other, &right) {
                return false;
            }
        }
        let bits = |at: Coord<f64>| (at.x.to_bits(), at.y.to_bits());
        left.zip(right).all(|(a, b)| bits(self.coordinates.value(a)) == bits(other.coordinates.value(b)))
    }

    /// The items of the next level in an item; an error if one is null.
    fn items(&self, level: usize, item: usize) -> Result<std::ops::Range<usize>, GeometryError> {
        let items = self.levels[level][item]..self.levels[level][item + 1];
        match &self.inner_nulls[level] {
            Some(nulls) if nulls.slice(items.start, items.len()).null_count() > 0 => {
                Err(GeometryError::new(0, "found a null inside the geometry"))
            }
            _ => Ok(items),
        }
    }

    /// A line, which may be empty.
    fn line<S: Sink>(
        &self,
        coordinates: std::ops::Range<usize>,
        sink: &mut S,
    ) -> Result<(S::Path, PathEnds), GeometryError> {
        let (path, ends) = self.path(coordinates, sink)?;
        ends.check_line(0)?;
        Ok((path, ends))
    }

    /// The polygon `item` of a level; `None` if it is empty.
    fn polygon<S: Sink>(
        &self,
        level: usize,
        item: usize,
        sink: &mut S,
    ) -> Result<Option<S::Polygon>, GeometryError> {
        let (mut shell, mut holes) = (None, vec![]);
        let rings = self.items(level, item)?;
        let first = rings.start;
        for ring in rings {
            let (path, ends) = self.path(self.items(level + 1, ring)?, sink)?;
            if ends.is_empty() {
                continue;
            }
            ends.check_ring(0)?;
            if ring == first {
                shell = Some(path);
            } else {
                holes.push(path);
            }
        }
        if shell.is_none() && !holes.is_empty() {
            return Err(GeometryError::new(0, "hole in a polygon without a shell"));
        }
        Ok(shell.map(|shell| sink.polygon(Some(shell), holes)))
    }

    fn path<S: Sink>(
        &self,
        coordinates: std::ops::Range<usize>,
        sink: &mut S,
    ) -> Result<(S::Path, PathEnds), GeometryError> {
        let mut path = sink.path(coordinates.len());
        let mut ends = PathEnds::default();
        for at in coordinates {
            let at = self.coordinates.finite(at)?;
            ends.see(at);
            sink.push(&mut path, at);
        }
        Ok((path, ends))
    }
}

impl Coordinates {
    /// Views points, and the rows that are null.
    pub(super) fn try_new(points: &ArrayRef) -> Result<(Self, Option<NullBuffer>)> {
        match points.data_type() {
            DataType::Struct(_) if is_point(points.data_type()) => {
                let points = points.as_struct();
                let x = cast(points.column(0), &DataType::Float64)?;
                let y = cast(points.column(1), &DataType::Float64)?;
                let nulls = NullBuffer::union(points.nulls(), x.nulls());
                let nulls = NullBuffer::union(nulls.as_ref(), y.nulls());
                let values = |array: &ArrayRef| array.as_primitive::<Float64Type>().values().clone();
                Ok((Self::Separated { x: values(&x), y: values(&y) }, nulls))
            }
            DataType::FixedSizeList(_, stride) if is_point(points.data_type()) => {
                let lists = points.as_fixed_size_list();
                let numbers = cast(lists.values(), &DataType::Float64)?;
                let values = numbers.as_primitive::<Float64Type>().values().clone();
                let stride = usize::try_from(*stride).unwrap_or(2);
                let known =
                    |point: usize| numbers.is_valid(point * stride) && numbers.is_valid(point * stride + 1);
                let inner = (numbers.null_count() > 0).then(|| (0..lists.len()).map(known).collect());
                let nulls = NullBuffer::union(lists.nulls(), inner.as_ref());
                Ok((Self::Interleaved { values, stride }, nulls))
            }
            other => plan_err!("found {other}, expected points of x and y"),
        }
    }

    /// All x and all y.
    pub(super) fn separated(self) -> (ScalarBuffer<f64>, ScalarBuffer<f64>) {
        match self {
            Self::Separated { x, y } => (x, y),
            Self::Interleaved { values, stride } => {
                let points = values.chunks_exact(stride);
                (points.clone().map(|at| at[0]).collect(), points.map(|at| at[1]).collect())
            }
        }
    }

    fn value(&self, index: usize) -> Coord<f64> {
        match self {
            Self::Separated { x, y } => Coord { x: x[index], y: y[index] },
            Self::Interleaved { values, stride } => {
                Coord { x: values[index * stride], y: values[index * stride + 1] }
            }
        }
    }

    fn finite(&self, index: usize) -> Result<Coord<f64>, GeometryError> {
        let at = self.value(index);
        if at.x.abs() <= MAX_COORDINATE && at.y.abs() <= MAX_COORDINATE {
            return Ok(at);
        }
        let reason = format!("found {} {}, expected finite numbers up to 1e100", at.x, at.y);
        Err(GeometryError::new(0, reason))
    }

    /// A coordinate that stands for a point; `None` for NaN, which is an empty one.
    fn point(&self, index: usize) -> Result<Option<Coord<f64>>, GeometryError> {
        let at = self.value(index);
        if at.x.is_nan() && at.y.is_nan() { Ok(None) } else { self.finite(index).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::array::{
        FixedSizeListArray, Float32Array, Float64Array, LargeListArray, ListArray, StructArray,
    };
    use datafusion::arrow::buffer::OffsetBuffer;

    use super::*;
    use crate::geo::array::{GeometryArray, GeometryValue, geometry_type};
    use crate::geo::wkt::{parse_wkt, to_wkt};

    fn interleaved(numbers: &[f64], size: i32) -> ArrayRef {
        let item = Arc::new(Field::new("xy", DataType::Float64, false));
        Arc::new(FixedSizeListArray::new(item, size, Arc::new(Float64Array::from(numbers.to_vec())), None))
    }

    fn lists(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths.to_vec()), values, None))
    }

    fn text(array: &GeometryArray, row: usize) -> String {
        array.value(row).unwrap().parse().map_or_else(|error| error.to_string(), |found| to_wkt(&found))
    }

    fn extension(name: &str) -> Field {
        let metadata = HashMap::from([(EXTENSION_NAME.to_owned(), format!("geoarrow.{name}"))]);
        Field::new("geometry", DataType::Null, true).with_metadata(metadata)
    }

    #[test]
    fn the_extension_name_tells_points_from_a_line() {
        let array = lists(interleaved(&[0., 0., 9., 1., 1., 9., 5., 5., 9.], 3), &[2, 0, 1]);
        let lines = GeometryArray::try_new(&array).unwrap();
        assert_eq!(text(&lines, 0), "LINESTRING(0 0, 1 1)");
        assert_eq!(text(&lines, 1), "LINESTRING EMPTY");
        assert!(text(&lines, 2).contains("line of one point"));
        let points = GeometryArray::try_with_field(&array, &extension("multipoint")).unwrap();
        assert_eq!(text(&points, 0), "MULTIPOINT((0 0), (1 1))");
        assert_eq!(text(&points, 2), "MULTIPOINT((5 5))");
        let error = GeometryArray::try_with_field(&array, &extension("multipolygon")).unwrap_err();
        assert!(error.to_string().contains("1 levels of lists"), "{error}");
    }

    #[test]
    fn slices_large_lists_and_empty_parts_are_read() {
        let ring = [0., 0., 4., 0., 4., 4., 0., 0.];
        let values = interleaved(&[ring, ring].concat(), 2);
        let rings = lists(values, &[4, 0, 4]);
        let item = Arc::new(Field::new("item", rings.data_type().clone(), true));
        let polygons: ArrayRef = Arc::new(LargeListArray::new(
            item,
            OffsetBuffer::from_lengths([0, 1, 1, 1]),
            rings,
            Some(vec![true, true, true, false].into()),
        ));
        assert_eq!(geometry_type(polygons.data_type()).as_ref(), Some(polygons.data_type()));
        let sliced = GeometryArray::try_new(&polygons.slice(1, 3)).unwrap();
        assert_eq!(text(&sliced, 0), "POLYGON((0 0, 4 0, 4 4, 0 0))");
        assert_eq!(text(&sliced, 1), "POLYGON EMPTY");
        assert!(sliced.value(2).is_none());
        let whole = GeometryArray::try_new(&polygons).unwrap();
        assert!(whole.value(1).unwrap().same(&sliced.value(0).unwrap()));
        assert!(!whole.value(0).unwrap().same(&sliced.value(0).unwrap()));
        assert!(geometry_type(&DataType::new_list(polygons.data_type().clone(), true)).is_some());
        let deep = DataType::new_list(DataType::new_list(polygons.data_type().clone(), true), true);
        assert_eq!(geometry_type(&deep), None);
    }

    #[test]
    fn coordinates_that_are_not_finite_and_nulls_inside_are_errors() {
        let lines = GeometryArray::try_new(&lists(interleaved(&[0., 0., f64::NAN, 1.], 2), &[2])).unwrap();
        assert!(text(&lines, 0).contains("found NaN 1"), "{}", text(&lines, 0));
        let points = GeometryArray::try_new(&interleaved(&[f64::NAN, f64::NAN, 1., 2.], 2)).unwrap();
        assert_eq!((text(&points, 0), text(&points, 1)), ("MULTIPOINT EMPTY".into(), "POINT(1 2)".into()));
        let item = Arc::new(Field::new("xy", DataType::Float64, true));
        let numbers = Arc::new(Float64Array::from(vec![Some(0.), Some(0.), None, Some(1.)]));
        let holed: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, numbers, None));
        let points = GeometryArray::try_new(&holed).unwrap();
        assert!(points.value(0).is_some() && points.value(1).is_none());
        let lines = GeometryArray::try_new(&lists(holed, &[2])).unwrap();
        assert!(text(&lines, 0).contains("null inside"), "{}", text(&lines, 0));
        assert_eq!(lines.extent(0).unwrap(), lines.value(0).unwrap().parse().map(|_| None));
    }

    #[test]
    fn a_null_inside_is_of_its_row_only() {
        let values = interleaved(&[0., 0., 1., 1., 2., 2., 3., 3.], 2);
        let size = FixedSizeListArray::new(
            Arc::new(Field::new("xy", DataType::Float64, false)),
            2,
            Arc::clone(values.as_fixed_size_list().values()),
            Some(vec![true, true, false, true].into()),
        );
        let values: ArrayRef = Arc::new(size);
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let line = |valid: [bool; 2]| -> GeometryArray {
            let offsets = OffsetBuffer::from_lengths([2, 2]);
            let nulls = Some(valid.to_vec().into());
            let array: ArrayRef =
                Arc::new(ListArray::new(Arc::clone(&item), offsets, Arc::clone(&values), nulls));
            GeometryArray::try_new(&array).unwrap()
        };
        let holed = line([true, true]);
        assert_eq!(text(&holed, 0), "LINESTRING(0 0, 1 1)");
        assert!(text(&holed, 1).contains("null inside"));
        let (bad, slice) = (holed.value(1).unwrap(), holed.slice(1, 1));
        assert!(!bad.same(&bad) && !bad.same(&slice.value(0).unwrap()));
        assert!(text(&slice, 0).contains("null inside"));
        // Nothing is known of the items of a row that is NULL.
        assert!(line([true, false]).value(1).is_none());
        // A null ring.
        let ring = interleaved(&[0., 0., 4., 0., 4., 4., 0., 0.], 2);
        let item = Arc::new(Field::new("item", ring.data_type().clone(), true));
        let rings: ArrayRef = Arc::new(ListArray::new(
            item,
            OffsetBuffer::from_lengths([4, 0, 0]),
            ring,
            Some(vec![true, false, true].into()),
        ));
        let polygons = GeometryArray::try_new(&lists(rings, &[1, 1, 1])).unwrap();
        assert_eq!(text(&polygons, 0), "POLYGON((0 0, 4 0, 4 4, 0 0))");
        assert!(text(&polygons, 1).contains("null inside"));
        assert_eq!(text(&polygons, 2), "POLYGON EMPTY");
    }

    #[test]
    fn boxes_are_polygons_and_may_cross_the_antimeridian() {
        let names = ["xmin", "ymin", "zmin", "xmax", "ymax", "zmax"];
        let bounds = [[1., 170., 3.], [2., -1., f32::NAN], [0.; 3], [5., -170., 4.], [6., 1., 5.], [0.; 3]];
        let columns = names.into_iter().zip(bounds).map(|(name, values)| {
            (
                Arc::new(Field::new(name, DataType::Float32, true)),
                Arc::new(Float32Array::from(values.to_vec())) as _,
            )
        });
        let array: ArrayRef = Arc::new(StructArray::from(columns.collect::<Vec<_>>()));
        let boxes = GeometryArray::try_new(&array).unwrap();
        assert_eq!(
            boxes.value(0).unwrap().parse().unwrap(),
            geo::Geometry::Polygon(geo::Rect::new((1., 2.), (5., 6.)).to_polygon())
        );
        assert_eq!(
            boxes.extent(1).unwrap().unwrap().map(|found| (found.xmin, found.xmax)),
            Some((170., 190.))
        );
        assert_eq!(boxes.extent(2).unwrap().unwrap(), None);
        assert!(GeometryValue::Box([0., 2., 1., 1.]).parse().unwrap_err().reason.contains("ordered"));
        assert_eq!(parse_wkt(&text(&boxes, 0)).unwrap(), boxes.value(0).unwrap().parse().unwrap());
    }
}
