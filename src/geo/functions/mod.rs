//! The spatial SQL functions: those that make and take apart geometries, and the list of all.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryBuilder, Float64Builder, StringBuilder, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use geo::{Geometry, MultiPoint};

use crate::error::OdpError;
use crate::geo::area_cache::AreaCache;
use crate::geo::array::{GeometryArray, GeometryValue, geometry_type};
use crate::geo::geometry_error::GeometryError;
use crate::geo::predicate::PredicateKind;
use crate::geo::predicate_function::{PredicateFunction, not_a_geometry};
use crate::geo::wkb::{parse_wkb, to_wkb};
use crate::geo::wkt::{parse_wkt, to_wkt};

/// All spatial functions of the crate, to be registered with a session.
pub(crate) fn scalar_functions() -> Vec<ScalarUDF> {
    let cache = Arc::new(AreaCache::default());
    let predicates = PredicateKind::ALL
        .map(|kind| ScalarUDF::new_from_impl(PredicateFunction::new(kind, Arc::clone(&cache))));
    let others = FunctionKind::ALL.map(|kind| ScalarUDF::new_from_impl(GeometryFunction::new(kind)));
    predicates.into_iter().chain(others).collect()
}

/// What a [`GeometryFunction`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FunctionKind {
    /// `st_point(lon, lat)`: a struct of x and y; NULL if either is.
    Point,
    /// `st_geomfromtext(text)`: WKB.
    FromText,
    /// `st_geomfromwkb(binary)`: the same WKB, checked.
    FromWkb,
    /// `st_astext(geometry)`: WKT.
    AsText,
    /// `st_x(point)`: longitude; NULL for an empty geometry, an error for one that is not a point.
    X,
    /// `st_y(point)`: latitude, as `st_x`.
    Y,
}

impl FunctionKind {
    const ALL: [Self; 6] = [Self::Point, Self::FromText, Self::FromWkb, Self::AsText, Self::X, Self::Y];
}

/// A function that makes a geometry or takes one apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct GeometryFunction {
    kind: FunctionKind,
    signature: Signature,
}

impl GeometryFunction {
    fn new(kind: FunctionKind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(crate) fn kind(&self) -> FunctionKind {
        self.kind
    }

    /// The type that an argument is read as; `None` if the function does not take it.
    fn argument_type(&self, found: &DataType) -> Option<DataType> {
        match self.kind {
            FunctionKind::Point if found.is_numeric() || found.is_null() => Some(DataType::Float64),
            FunctionKind::Point => None,
            FunctionKind::FromText => geometry_type(found).filter(DataType::is_string),
            FunctionKind::FromWkb if found.is_null() => Some(DataType::Binary),
            FunctionKind::FromWkb => geometry_type(found).filter(DataType::is_binary),
            FunctionKind::AsText | FunctionKind::X | FunctionKind::Y => geometry_type(found),
        }
    }
}

impl ScalarUDFImpl for GeometryFunction {
    fn name(&self) -> &str {
        match self.kind {
            FunctionKind::Point => "st_point",
            FunctionKind::FromText => "st_geomfromtext",
            FunctionKind::FromWkb => "st_geomfromwkb",
            FunctionKind::AsText => "st_astext",
            FunctionKind::X => "st_x",
            FunctionKind::Y => "st_y",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let expected = if self.kind == FunctionKind::Point { 2 } else { 1 };
        if arg_types.len() != expected {
            return plan_err!("{} got {} arguments, expected {expected}", self.name(), arg_types.len());
        }
        let coerce = |(index, found): (usize, &DataType)| match (self.argument_type(found), self.kind) {
            (Some(wanted), _) => Ok(wanted),
            (None, FunctionKind::Point) => {
                plan_err!("st_point: argument {} is {found}, expected a number", index + 1)
            }
            (None, FunctionKind::FromText) => plan_err!("st_geomfromtext: found {found}, expected text"),
            (None, FunctionKind::FromWkb) => plan_err!("st_geomfromwkb: found {found}, expected binary"),
            (None, _) => not_a_geometry(self.name(), index + 1, found),
        };
        arg_types.iter().enumerate().map(coerce).collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            FunctionKind::Point => DataType::Struct(point_fields()),
            FunctionKind::FromText | FunctionKind::FromWkb => DataType::Binary,
            FunctionKind::AsText => DataType::Utf8,
            FunctionKind::X | FunctionKind::Y => DataType::Float64,
        })
    }

    /// Reads a constant argument, so that a malformed one is an error of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        for constant in args.scalar_arguments.iter().flatten() {
            let is_geometry = geometry_type(&constant.data_type()).as_ref() == Some(&constant.data_type());
            if self.kind != FunctionKind::Point && is_geometry {
                check_constant(constant)?;
            }
        }
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result: ArrayRef = match (self.kind, arrays.as_slice()) {
            (FunctionKind::Point, [x, y]) => Arc::new(points(x, y)?),
            (FunctionKind::FromText, [text]) => from_text(text)?,
            (FunctionKind::FromWkb, [wkb]) => from_wkb(wkb)?,
            (FunctionKind::AsText, [geometry]) => {
                as_text(&GeometryArray::try_with_field(geometry, &args.arg_fields[0])?)?
            }
            (FunctionKind::X, [geometry]) => ordinate(geometry, |x, _| x)?,
            (FunctionKind::Y, [geometry]) => ordinate(geometry, |_, y| y)?,
            (_, other) => return plan_err!("{} got {} arguments", self.name(), other.len()),
        };
        if all_constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// The fields of what `st_point` returns.
fn point_fields() -> Fields {
    Fields::from(vec![Field::new("x", DataType::Float64, true), Field::new("y", DataType::Float64, true)])
}

fn points(x: &ArrayRef, y: &ArrayRef) -> Result<StructArray> {
    let nulls = NullBuffer::union(x.nulls(), y.nulls());
    Ok(StructArray::try_new(point_fields(), vec![Arc::clone(x), Arc::clone(y)], nulls)?)
}

fn check_constant(constant: &ScalarValue) -> Result<()> {
    let array = GeometryArray::try_new(&constant.to_array()?)?;
    match array.value(0) {
        Some(GeometryValue::Wkt(text)) => parse_wkt(text).map(drop).map_err(|error| error.in_text(text))?,
        Some(GeometryValue::Wkb(bytes)) => parse_wkb(bytes).map(drop).map_err(|error| error.in_wkb(bytes))?,
        _ => {}
    }
    Ok(())
}

fn from_text(text: &ArrayRef) -> Result<ArrayRef, OdpError> {
    let rows = GeometryArray::try_new(text)?;
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

fn from_wkb(wkb: &ArrayRef) -> Result<ArrayRef> {
    let rows = GeometryArray::try_new(wkb)?;
    for row in 0..rows.len() {
        if let Some(value) = rows.value(row).filter(|value| value.as_plain_point().is_none()) {
            value.parse().map_err(|error| error.in_row(row))?;
        }
    }
    Ok(cast(wkb, &DataType::Binary)?)
}

fn as_text(rows: &GeometryArray) -> Result<ArrayRef, OdpError> {
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

fn ordinate(geometries: &ArrayRef, pick: impl Fn(f64, f64) -> f64) -> Result<ArrayRef, OdpError> {
    let rows = GeometryArray::try_new(geometries)?;
    let mut ordinates = Float64Builder::with_capacity(rows.len());
    for row in 0..rows.len() {
        let Some(value) = rows.value(row) else {
            ordinates.append_null();
            continue;
        };
        match value.as_plain_point() {
            Some((x, y)) => ordinates.append_value(pick(x, y)),
            None => match value.parse().map_err(|error| error.in_row(row))? {
                Geometry::Point(point) => ordinates.append_value(pick(point.x(), point.y())),
                Geometry::MultiPoint(MultiPoint(points)) if points.is_empty() => ordinates.append_null(),
                _ => {
                    return Err(GeometryError::new(0, "found another geometry, expected a point").in_row(row));
                }
            },
        }
    }
    Ok(Arc::new(ordinates.finish()))
}

#[cfg(test)]
mod tests;
