//! Geometry values in Arrow arrays: WKB, WKT, structs of x and y, and the other encodings of GeoArrow.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Float64Array, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use geo::{Coord, Geometry, MultiPoint, Point, Rect};

use crate::geo::bounding_box::BoundingBox;
use crate::geo::geoarrow::{Coordinates, NestedArray, box_places, is_point, levels_over_points};
use crate::geo::geometry_error::GeometryError;
use crate::geo::is_usable;
use crate::geo::sink::{Build, Measure, Outline};
use crate::geo::wkb::{parse_wkb, wkb_outline, wkb_point};
use crate::geo::wkt::{parse_wkt, wkt_outline};

/// A column of geometries, one per row.
#[derive(Debug)]
pub(crate) enum GeometryArray {
    /// Points as two arrays; null where either coordinate or the struct is null.
    Points {
        x: Float64Array,
        y: Float64Array,
        nulls: Option<NullBuffer>,
    },
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    /// GeoArrow lines, polygons and multi-geometries.
    Nested(NestedArray),
    /// GeoArrow boxes: xmin, ymin, xmax, ymax. One with `xmin > xmax` crosses the antimeridian.
    Boxes {
        bounds: [Float64Array; 4],
        nulls: Option<NullBuffer>,
    },
}

/// One geometry as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GeometryValue<'a> {
    /// A point; one with a coordinate that is not finite, or beyond 1e100, is empty.
    Point(f64, f64),
    Wkb(&'a [u8]),
    Wkt(&'a str),
    /// A row of a GeoArrow column.
    Nested(&'a NestedArray, usize),
    /// xmin, ymin, xmax, ymax; empty if one is NaN.
    Box([f64; 4]),
}

/// The type that a geometry of type `data_type` is read as; `None` if it cannot hold a geometry.
pub(crate) fn geometry_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Some(data_type.clone()),
        DataType::FixedSizeBinary(_) => Some(DataType::Binary),
        DataType::Null => Some(DataType::Utf8),
        DataType::Dictionary(_, value) => geometry_type(value),
        DataType::Struct(_) if box_places(data_type).is_some() => Some(data_type.clone()),
        _ if levels_over_points(data_type).is_some() => Some(data_type.clone()),
        _ => None,
    }
}

impl GeometryArray {
    /// Views an array of a type that [`geometry_type`] returns. Lists of points are taken for lines or polygons.
    pub(crate) fn try_new(array: &ArrayRef) -> Result<Self> {
        Self::view(array, None)
    }

    /// [`Self::try_new`], where the field may name a GeoArrow extension type: only that tells several points from a
    /// line, and several lines from a polygon.
    pub(crate) fn try_with_field(array: &ArrayRef, field: &Field) -> Result<Self> {
        Self::view(array, Some(field))
    }

    fn view(array: &ArrayRef, field: Option<&Field>) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            DataType::Utf8 => Self::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string().clone()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view().clone()),
            found if is_point(found) => {
                let (coordinates, nulls) = Coordinates::try_new(array)?;
                let (x, y) = coordinates.separated();
                Self::Points { x: Float64Array::new(x, None), y: Float64Array::new(y, None), nulls }
            }
            found if levels_over_points(found).is_some() => Self::Nested(NestedArray::try_new(array, field)?),
            other => match box_places(other) {
                Some(places) => Self::boxes(array.as_struct(), places)?,
                None => {
                    return plan_err!("found {other}, expected a geometry: WKT text, WKB binary or st_point");
                }
            },
        })
    }

    /// Points at these longitudes and latitudes, as many of one as of the other.
    pub(crate) fn from_points(x: Vec<f64>, y: Vec<f64>) -> Self {
        Self::Points { x: x.into(), y: y.into(), nulls: None }
    }

    fn boxes(array: &StructArray, places: [usize; 4]) -> Result<Self> {
        let column = |place: usize| cast(array.column(place), &DataType::Float64);
        let [xmin, ymin, xmax, ymax] = places;
        let columns = [column(xmin)?, column(ymin)?, column(xmax)?, column(ymax)?];
        let nulls = columns
            .iter()
            .fold(array.nulls().cloned(), |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
        let bounds = columns.map(|column| column.as_primitive::<Float64Type>().clone());
        Ok(Self::Boxes { bounds, nulls })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nested(array) => array.len(),
            Self::Boxes { bounds: [xmin, ..], .. } => xmin.len(),
            Self::Points { x, .. } => x.len(),
            Self::Binary(array) => array.len(),
            Self::LargeBinary(array) => array.len(),
            Self::BinaryView(array) => array.len(),
            Self::Utf8(array) => array.len(),
            Self::LargeUtf8(array) => array.len(),
            Self::Utf8View(array) => array.len(),
        }
    }

    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Points { nulls, .. } | Self::Boxes { nulls, .. } => nulls.as_ref(),
            Self::Nested(array) => array.nulls(),
            Self::Binary(array) => array.nulls(),
            Self::LargeBinary(array) => array.nulls(),
            Self::BinaryView(array) => array.nulls(),
            Self::Utf8(array) => array.nulls(),
            Self::LargeUtf8(array) => array.nulls(),
            Self::Utf8View(array) => array.nulls(),
        }
    }

    /// Reads the coordinates of the rows from `first` on, as many as there is room for, if all of them are points in
    /// WKB without Z, M or SRID; `false` otherwise, and if one is null.
    pub(crate) fn read_plain_points(&self, first: usize, x: &mut [f64], y: &mut [f64]) -> bool {
        fn read<'a>(values: impl Iterator<Item = &'a [u8]>, x: &mut [f64], y: &mut [f64]) -> bool {
            for ((value, x), y) in values.zip(x).zip(y) {
                let Some(point) = wkb_point(value) else { return false };
                (*x, *y) = point;
            }
            true
        }
        let rows = first..first + x.len();
        if self.nulls().is_some_and(|nulls| nulls.slice(first, x.len()).null_count() > 0) {
            return false;
        }
        match self {
            Self::Binary(array) => read(rows.map(|row| array.value(row)), x, y),
            Self::LargeBinary(array) => read(rows.map(|row| array.value(row)), x, y),
            Self::BinaryView(array) => read(rows.map(|row| array.value(row)), x, y),
            _ => false,
        }
    }

    /// The geometry in a row; `None` for null.
    pub(crate) fn value(&self, row: usize) -> Option<GeometryValue<'_>> {
        if self.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(match self {
            Self::Points { x, y, .. } => GeometryValue::Point(x.value(row), y.value(row)),
            Self::Binary(array) => GeometryValue::Wkb(array.value(row)),
            Self::LargeBinary(array) => GeometryValue::Wkb(array.value(row)),
            Self::BinaryView(array) => GeometryValue::Wkb(array.value(row)),
            Self::Utf8(array) => GeometryValue::Wkt(array.value(row)),
            Self::LargeUtf8(array) => GeometryValue::Wkt(array.value(row)),
            Self::Utf8View(array) => GeometryValue::Wkt(array.value(row)),
            Self::Nested(array) => GeometryValue::Nested(array, row),
            Self::Boxes { bounds, .. } => GeometryValue::Box(bounds.each_ref().map(|bound| bound.value(row))),
        })
    }

    /// The rows from `first` on, without a copy.
    pub(crate) fn slice(&self, first: usize, count: usize) -> Self {
        let part = |nulls: &Option<NullBuffer>| nulls.as_ref().map(|nulls| nulls.slice(first, count));
        match self {
            Self::Points { x, y, nulls } => {
                Self::Points { x: x.slice(first, count), y: y.slice(first, count), nulls: part(nulls) }
            }
            Self::Binary(array) => Self::Binary(array.slice(first, count)),
            Self::LargeBinary(array) => Self::LargeBinary(array.slice(first, count)),
            Self::BinaryView(array) => Self::BinaryView(array.slice(first, count)),
            Self::Utf8(array) => Self::Utf8(array.slice(first, count)),
            Self::LargeUtf8(array) => Self::LargeUtf8(array.slice(first, count)),
            Self::Utf8View(array) => Self::Utf8View(array.slice(first, count)),
            Self::Nested(array) => Self::Nested(array.slice(first, count)),
            Self::Boxes { bounds, nulls } => {
                let bounds = bounds.each_ref().map(|bound| bound.slice(first, count));
                Self::Boxes { bounds, nulls: part(nulls) }
            }
        }
    }

    /// These rows, null where `hidden` is true.
    pub(crate) fn without(&self, hidden: &BooleanArray) -> Result<Self> {
        let shown = || NullBuffer::union(self.nulls(), Some(&NullBuffer::new(!hidden.values())));
        Ok(match self {
            Self::Points { x, y, .. } => Self::Points { x: x.clone(), y: y.clone(), nulls: shown() },
            Self::Binary(array) => Self::Binary(nullif(array, hidden)?.as_binary().clone()),
            Self::LargeBinary(array) => Self::LargeBinary(nullif(array, hidden)?.as_binary().clone()),
            Self::BinaryView(array) => Self::BinaryView(nullif(array, hidden)?.as_binary_view().clone()),
            Self::Utf8(array) => Self::Utf8(nullif(array, hidden)?.as_string().clone()),
            Self::LargeUtf8(array) => Self::LargeUtf8(nullif(array, hidden)?.as_string().clone()),
            Self::Utf8View(array) => Self::Utf8View(nullif(array, hidden)?.as_string_view().clone()),
            Self::Nested(array) => Self::Nested(array.with_nulls(shown())),
            Self::Boxes { bounds, .. } => Self::Boxes { bounds: bounds.clone(), nulls: shown() },
        })
    }

    /// The rows from `first` on that hold the same value, or are null, as that row does.
    pub(crate) fn run_length(&self, first: usize) -> usize {
        let value = self.value(first);
        let is_same = |row: &usize| match (&value, self.value(*row)) {
            (Some(value), Some(other)) => value.same(&other),
            (None, None) => true,
            _ => false,
        };
        1 + (first + 1..self.len()).take_while(is_same).count()
    }

    /// The box of the geometry in a row, without building it and without allocation: `None` for null,
    /// `Some(Ok(None))` for an empty geometry.
    ///
    /// # Errors
    /// What [`GeometryValue::parse`] gives for the row.
    pub(crate) fn extent(&self, row: usize) -> Option<Result<Option<BoundingBox>, GeometryError>> {
        self.value(row).map(|value| value.outline().map(Outline::bounding_box))
    }
}

impl<'a> GeometryValue<'a> {
    /// The geometry of a constant of text or binary, without a copy: `Some(None)` for NULL. `None` for other types,
    /// which [`GeometryArray`] reads.
    pub(crate) fn of_scalar(constant: &'a ScalarValue) -> Option<Option<Self>> {
        match constant {
            ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
                Some(text.as_deref().map(Self::Wkt))
            }
            ScalarValue::Binary(bytes) | ScalarValue::LargeBinary(bytes) | ScalarValue::BinaryView(bytes) => {
                Some(bytes.as_deref().map(Self::Wkb))
            }
            _ => None,
        }
    }

    /// Reads the geometry.
    ///
    /// # Errors
    /// [`GeometryError`] for malformed WKT or WKB.
    pub(crate) fn parse(&self) -> Result<Geometry<f64>, GeometryError> {
        match self {
            Self::Point(x, y) if is_usable(*x) && is_usable(*y) => Ok(Geometry::Point(Point::new(*x, *y))),
            Self::Point(..) => Ok(Geometry::MultiPoint(MultiPoint::new(vec![]))),
            Self::Wkb(bytes) => parse_wkb(bytes),
            Self::Wkt(text) => parse_wkt(text),
            Self::Nested(array, row) => array.read(*row, &mut Build),
            Self::Box(bounds) => Ok(match bounds_of(*bounds)? {
                None => Geometry::MultiPoint(MultiPoint::new(vec![])),
                Some(bounds) => {
                    let corner = |x, y| Coord { x, y };
                    let (low, high) = (corner(bounds.xmin, bounds.ymin), corner(bounds.xmax, bounds.ymax));
                    Geometry::Polygon(Rect::new(low, high).to_polygon())
                }
            }),
        }
    }

    /// What [`Self::parse`] would read, without building it and without allocation.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn outline(&self) -> Result<Outline, GeometryError> {
        match self {
            Self::Point(x, y) if is_usable(*x) && is_usable(*y) => Ok(Outline::Point(*x, *y)),
            Self::Point(..) => Ok(Outline::Empty),
            Self::Wkb(bytes) => wkb_outline(bytes),
            Self::Wkt(text) => wkt_outline(text),
            Self::Nested(array, row) => {
                let mut measure = Measure::new();
                array.read(*row, &mut measure)?;
                Ok(measure.finish())
            }
            Self::Box(bounds) => Ok(bounds_of(*bounds)?.map_or(Outline::Empty, Outline::Box)),
        }
    }

    /// The coordinates where they can be had without reading a geometry.
    pub(crate) fn as_plain_point(&self) -> Option<(f64, f64)> {
        match self {
            Self::Point(x, y) => Some((*x, *y)),
            Self::Wkb(bytes) => wkb_point(bytes),
            Self::Wkt(_) | Self::Nested(..) | Self::Box(_) => None,
        }
    }

    /// Whether both are stored alike, bit for bit.
    pub(crate) fn same(&self, other: &GeometryValue<'_>) -> bool {
        match (self, other) {
            (Self::Point(x, y), GeometryValue::Point(other_x, other_y)) => {
                x.to_bits() == other_x.to_bits() && y.to_bits() == other_y.to_bits()
            }
            // Repeated values of a view array are stored once.
            (Self::Wkb(bytes), GeometryValue::Wkb(other)) => std::ptr::eq(*bytes, *other) || bytes == other,
            (Self::Wkt(text), GeometryValue::Wkt(other)) => std::ptr::eq(*text, *other) || text == other,
            (Self::Nested(array, row), GeometryValue::Nested(other, other_row)) => {
                array.same(*row, other, *other_row)
            }
            (Self::Box(bounds), GeometryValue::Box(other)) => {
                bounds.map(f64::to_bits) == other.map(f64::to_bits)
            }
            _ => false,
        }
    }
}

/// A GeoArrow box, whose east may lie beyond 180; `None` for one with NaN, which is empty.
fn bounds_of([xmin, ymin, xmax, ymax]: [f64; 4]) -> Result<Option<BoundingBox>, GeometryError> {
    if [xmin, ymin, xmax, ymax].iter().any(|bound| bound.is_nan()) {
        return Ok(None);
    }
    let east = if xmin > xmax { xmax + 360.0 } else { xmax };
    let usable = [xmin, ymin, east, ymax].iter().all(|bound| is_usable(*bound));
    match BoundingBox::from_bounds(xmin, ymin, east, ymax).filter(|_| usable) {
        Some(bounds) => Ok(Some(bounds)),
        None => {
            let reason =
                format!("found the box {xmin} {ymin} {xmax} {ymax}, expected finite and ordered bounds");
            Err(GeometryError::new(0, reason))
        }
    }
}
