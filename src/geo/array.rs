//! Geometry values in Arrow arrays: WKB, WKT, and structs of x and y.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, Float64Array, LargeBinaryArray, LargeStringArray,
    StringArray, StringViewArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, plan_err};
use geo::{Geometry, MultiPoint, Point};

use crate::geo::bounding_box::BoundingBox;
use crate::geo::MAX_COORDINATE;
use crate::geo::geometry_error::GeometryError;
use crate::geo::sink::Outline;
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
}

/// One geometry as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GeometryValue<'a> {
    /// A point; one with a coordinate that is not finite, or beyond 1e100, is empty.
    Point(f64, f64),
    Wkb(&'a [u8]),
    Wkt(&'a str),
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
        DataType::Struct(fields) => {
            let [x, y, ..] = fields.as_ref() else { return None };
            let floats = x.data_type().is_floating() && y.data_type().is_floating();
            let names = (x.name().to_ascii_lowercase(), y.name().to_ascii_lowercase());
            let known = matches!(
                (names.0.as_str(), names.1.as_str()),
                ("x", "y") | ("lon", "lat") | ("lng", "lat") | ("longitude", "latitude")
            );
            (floats && known).then(|| data_type.clone())
        }
        _ => None,
    }
}

impl GeometryArray {
    /// Views an array of a type that [`geometry_type`] returns.
    pub(crate) fn try_new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            DataType::Utf8 => Self::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string().clone()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view().clone()),
            DataType::Struct(_) if geometry_type(array.data_type()).is_some() => {
                let points = array.as_struct();
                let x = cast(points.column(0), &DataType::Float64)?;
                let y = cast(points.column(1), &DataType::Float64)?;
                let nulls = NullBuffer::union(points.nulls(), x.nulls());
                let nulls = NullBuffer::union(nulls.as_ref(), y.nulls());
                let (x, y) = (x.as_primitive::<Float64Type>(), y.as_primitive::<Float64Type>());
                Self::Points { x: x.clone(), y: y.clone(), nulls }
            }
            other => {
                return plan_err!("found {other}, expected a geometry: WKT text, WKB binary or st_point");
            }
        })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
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
            Self::Points { nulls, .. } => nulls.as_ref(),
            Self::Binary(array) => array.nulls(),
            Self::LargeBinary(array) => array.nulls(),
            Self::BinaryView(array) => array.nulls(),
            Self::Utf8(array) => array.nulls(),
            Self::LargeUtf8(array) => array.nulls(),
            Self::Utf8View(array) => array.nulls(),
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
        })
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

impl GeometryValue<'_> {
    /// Reads the geometry.
    ///
    /// # Errors
    /// [`GeometryError`] for malformed WKT or WKB.
    pub(crate) fn parse(&self) -> Result<Geometry<f64>, GeometryError> {
        match self {
            Self::Point(x, y) if x.abs() <= MAX_COORDINATE && y.abs() <= MAX_COORDINATE => {
                Ok(Geometry::Point(Point::new(*x, *y)))
            }
            Self::Point(..) => Ok(Geometry::MultiPoint(MultiPoint::new(vec![]))),
            Self::Wkb(bytes) => parse_wkb(bytes),
            Self::Wkt(text) => parse_wkt(text),
        }
    }

    /// What [`Self::parse`] would read, without building it and without allocation.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn outline(&self) -> Result<Outline, GeometryError> {
        match self {
            Self::Point(x, y) if x.is_finite() && y.is_finite() => Ok(Outline::Point(*x, *y)),
            Self::Point(..) => Ok(Outline::Empty),
            Self::Wkb(bytes) => wkb_outline(bytes),
            Self::Wkt(text) => wkt_outline(text),
        }
    }

    /// The coordinates where they can be had without reading a geometry.
    pub(crate) fn as_plain_point(&self) -> Option<(f64, f64)> {
        match self {
            Self::Point(x, y) => Some((*x, *y)),
            Self::Wkb(bytes) => wkb_point(bytes),
            Self::Wkt(_) => None,
        }
    }

    /// Whether both are stored alike, bit for bit.
    pub(crate) fn same(&self, other: &GeometryValue<'_>) -> bool {
        match (self, other) {
            (Self::Point(x, y), GeometryValue::Point(other_x, other_y)) => {
                x.to_bits() == other_x.to_bits() && y.to_bits() == other_y.to_bits()
            }
            (Self::Wkb(bytes), GeometryValue::Wkb(other)) => bytes == other,
            (Self::Wkt(text), GeometryValue::Wkt(other)) => text == other,
            _ => false,
        }
    }
}
