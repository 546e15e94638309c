//! Names, types and constants of the functions that make geometries and take them apart.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::geo::array::{GeometryArray, GeometryValue, geometry_type};
use crate::geo::crs::with_crs_of;
use crate::geo::functions::{accessors, constructors};
use crate::geo::made_geometry::made_geometry;
use crate::geo::predicate_function::not_a_geometry;
use crate::options::OdpOptions;

/// What a [`GeometryFunction`] does. NULL gives NULL; so does a malformed geometry in a row, if the setting
/// `odp.on_invalid_geometry` says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FunctionKind {
    /// `st_point(lon, lat)`: a struct of x and y.
    Point,
    /// `st_makeenvelope(xmin, ymin, xmax, ymax)`: WKB of a polygon; of a line or a point if it has no extent.
    MakeEnvelope,
    /// `st_geomfromtext(text)`: WKB.
    FromText,
    /// `st_geomfromwkb(binary)`: the same WKB, checked.
    FromWkb,
    /// `st_astext(geometry)`: WKT.
    AsText,
    /// `st_asbinary(geometry)`: ISO WKB, little-endian.
    AsBinary,
    /// `st_x(point)`: longitude; NULL for an empty geometry, an error for one that is not a point.
    X,
    /// `st_y(point)`: latitude, as `st_x`.
    Y,
    /// `st_xmin(geometry)`: least longitude as written; NULL for an empty geometry. The next three are alike.
    XMin,
    /// `st_ymin(geometry)`: least latitude.
    YMin,
    /// `st_xmax(geometry)`: greatest longitude.
    XMax,
    /// `st_ymax(geometry)`: greatest latitude.
    YMax,
    /// `st_isempty(geometry)`.
    IsEmpty,
    /// `st_geometrytype(geometry)`: text such as `ST_Point`.
    GeometryType,
    /// `st_envelope(geometry)`: WKB of its box, as `st_makeenvelope`; an empty geometry stays what it is.
    Envelope,
    /// `st_centroid(geometry)`: a struct of x and y; NULL for an empty geometry.
    Centroid,
}

impl FunctionKind {
    pub(crate) const ALL: [Self; 16] = [
        Self::Point,
        Self::MakeEnvelope,
        Self::FromText,
        Self::FromWkb,
        Self::AsText,
        Self::AsBinary,
        Self::X,
        Self::Y,
        Self::XMin,
        Self::YMin,
        Self::XMax,
        Self::YMax,
        Self::IsEmpty,
        Self::GeometryType,
        Self::Envelope,
        Self::Centroid,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Point => "st_point",
            Self::MakeEnvelope => "st_makeenvelope",
            Self::FromText => "st_geomfromtext",
            Self::FromWkb => "st_geomfromwkb",
            Self::AsText => "st_astext",
            Self::AsBinary => "st_asbinary",
            Self::X => "st_x",
            Self::Y => "st_y",
            Self::XMin => "st_xmin",
            Self::YMin => "st_ymin",
            Self::XMax => "st_xmax",
            Self::YMax => "st_ymax",
            Self::IsEmpty => "st_isempty",
            Self::GeometryType => "st_geometrytype",
            Self::Envelope => "st_envelope",
            Self::Centroid => "st_centroid",
        }
    }

    fn return_type(self) -> DataType {
        match self {
            Self::Point | Self::Centroid => DataType::Struct(constructors::point_fields()),
            Self::MakeEnvelope | Self::FromText | Self::FromWkb | Self::AsBinary | Self::Envelope => {
                DataType::Binary
            }
            Self::AsText | Self::GeometryType => DataType::Utf8,
            Self::X | Self::Y | Self::XMin | Self::YMin | Self::XMax | Self::YMax => DataType::Float64,
            Self::IsEmpty => DataType::Boolean,
        }
    }

    /// The GeoArrow extension type that fits what it makes; `None` if that is no geometry.
    fn extension(self) -> Option<&'static str> {
        match self {
            Self::Point | Self::Centroid => Some("geoarrow.point"),
            Self::MakeEnvelope | Self::FromText | Self::FromWkb | Self::AsBinary | Self::Envelope => {
                Some("geoarrow.wkb")
            }
            _ => None,
        }
    }

    /// How many numbers it takes; `None` if it takes one geometry.
    fn numbers(self) -> Option<usize> {
        match self {
            Self::Point => Some(2),
            Self::MakeEnvelope => Some(4),
            _ => None,
        }
    }
}

/// A function that makes a geometry or takes one apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct GeometryFunction {
    kind: FunctionKind,
    signature: Signature,
}

impl GeometryFunction {
    pub(super) fn new(kind: FunctionKind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(crate) fn kind(&self) -> FunctionKind {
        self.kind
    }

    /// The type that argument `index` is read as.
    fn coerce(&self, index: usize, found: &DataType) -> Result<DataType> {
        let name = self.kind.name();
        match self.kind {
            _ if self.kind.numbers().is_some() => number_type(name, index, found),
            FunctionKind::FromText => match geometry_type(found).filter(DataType::is_string) {
                Some(wanted) => Ok(wanted),
                None => plan_err!("{name}: found {found}, expected text"),
            },
            FunctionKind::FromWkb if found.is_null() => Ok(DataType::Binary),
            FunctionKind::FromWkb => match geometry_type(found).filter(DataType::is_binary) {
                Some(wanted) => Ok(wanted),
                None => plan_err!("{name}: found {found}, expected binary"),
            },
            _ => match geometry_type(found) {
                Some(wanted) => Ok(wanted),
                None => not_a_geometry(name, index + 1, found),
            },
        }
    }
}

/// The type that a number is read as.
pub(super) fn number_type(function: &str, index: usize, found: &DataType) -> Result<DataType> {
    if found.is_numeric() || found.is_null() {
        return Ok(DataType::Float64);
    }
    plan_err!("{function}: argument {} is {found}, expected a number", index + 1)
}

impl ScalarUDFImpl for GeometryFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let expected = self.kind.numbers().unwrap_or(1);
        if arg_types.len() != expected {
            return plan_err!("{} got {} arguments, expected {expected}", self.name(), arg_types.len());
        }
        arg_types.iter().enumerate().map(|(index, found)| self.coerce(index, found)).collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.kind.return_type())
    }

    /// Reads constant arguments, so that malformed ones are an error of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if self.kind == FunctionKind::MakeEnvelope {
            constructors::check_envelope(args.scalar_arguments)?;
        }
        for constant in args.scalar_arguments.iter().flatten() {
            let is_geometry = geometry_type(&constant.data_type()).as_ref() == Some(&constant.data_type());
            if self.kind.numbers().is_none() && is_geometry {
                check_constant(constant)?;
            }
        }
        let field = Field::new(self.name(), self.kind.return_type(), true);
        let field = match (self.kind, args.arg_fields) {
            (FunctionKind::FromWkb, [wkb]) => with_crs_of(field, wkb),
            _ => field,
        };
        Ok(Arc::new(match (self.kind.extension(), args.arg_fields) {
            (Some(extension), [source]) => made_geometry(field, extension, Some(source)),
            (Some(extension), _) => made_geometry(field, extension, None),
            (None, _) => field,
        }))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let setting = OdpOptions::of(&args.config_options).on_invalid_geometry;
        let all_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let geometries = || GeometryArray::try_with_field(&arrays[0], &args.arg_fields[0]);
        let result: ArrayRef = match (self.kind, arrays.as_slice()) {
            (FunctionKind::Point, [x, y]) => constructors::points(x, y)?,
            (FunctionKind::MakeEnvelope, [xmin, ymin, xmax, ymax]) => {
                constructors::envelopes([xmin, ymin, xmax, ymax])?
            }
            (FunctionKind::FromText, [_]) => accessors::as_binary(&geometries()?, setting)?,
            (FunctionKind::FromWkb, [wkb]) => accessors::checked_wkb(&geometries()?, wkb, setting)?,
            (FunctionKind::AsText, [_]) => accessors::as_text(&geometries()?, setting)?,
            (FunctionKind::AsBinary, [_]) => accessors::as_binary(&geometries()?, setting)?,
            (FunctionKind::X, [_]) => accessors::ordinate(&geometries()?, setting, |x, _| x)?,
            (FunctionKind::Y, [_]) => accessors::ordinate(&geometries()?, setting, |_, y| y)?,
            (FunctionKind::XMin, [_]) => accessors::bound(&geometries()?, setting, |bounds| bounds.xmin)?,
            (FunctionKind::YMin, [_]) => accessors::bound(&geometries()?, setting, |bounds| bounds.ymin)?,
            (FunctionKind::XMax, [_]) => accessors::bound(&geometries()?, setting, |bounds| bounds.xmax)?,
            (FunctionKind::YMax, [_]) => accessors::bound(&geometries()?, setting, |bounds| bounds.ymax)?,
            (FunctionKind::IsEmpty, [_]) => accessors::is_empty(&geometries()?, setting)?,
            (FunctionKind::GeometryType, [_]) => accessors::type_name(&geometries()?, setting)?,
            (FunctionKind::Envelope, [_]) => accessors::envelope(&geometries()?, setting)?,
            (FunctionKind::Centroid, [_]) => accessors::centroid(&geometries()?, setting)?,
            (_, other) => return plan_err!("{} got {} arguments", self.name(), other.len()),
        };
        if all_constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Reads text and binary, without building the geometry: that is done anew for every step of planning.
fn check_constant(constant: &ScalarValue) -> Result<()> {
    let Some(Some(value)) = GeometryValue::of_scalar(constant) else { return Ok(()) };
    match (value.outline(), value) {
        (Err(error), GeometryValue::Wkt(text)) => Err(error.in_text(text).into()),
        (Err(error), GeometryValue::Wkb(bytes)) => Err(error.in_wkb(bytes).into()),
        _ => Ok(()),
    }
}
