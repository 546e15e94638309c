//! `hilbert(longitude, latitude)` and `hilbert(geometry)`: places in an order that keeps neighbours together.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::geo::array::{GeometryArray, geometry_type};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::functions::accessors::each_row;
use crate::geo::functions::geometry_function::number_type;
use crate::geo::hilbert::position_of_degrees;
use crate::geo::predicate_function::not_a_geometry;
use crate::options::OdpOptions;

const NAME: &str = "hilbert";

/// The position on a Hilbert curve over longitudes of -180 to 360 and latitudes of -90 to 90; of a geometry, that of
/// the centre of its box. NULL for NULL, for NaN and for an empty geometry.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HilbertFunction {
    signature: Signature,
}

impl HilbertFunction {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HilbertFunction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [longitude, latitude] => {
                Ok(vec![number_type(NAME, 0, longitude)?, number_type(NAME, 1, latitude)?])
            }
            [geometry] => match geometry_type(geometry) {
                Some(wanted) => Ok(vec![wanted]),
                None => not_a_geometry(NAME, 1, geometry),
            },
            other => plan_err!(
                "{NAME} got {} arguments, expected longitude and latitude, or a geometry",
                other.len()
            ),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let positions = match arrays.as_slice() {
            [longitude, latitude] => of_numbers(longitude, latitude),
            [geometries] => {
                let rows = GeometryArray::try_with_field(geometries, &args.arg_fields[0])?;
                let setting = OdpOptions::of(&args.config_options).on_invalid_geometry;
                each_row(&rows, setting, |value| Ok(value.outline()?.bounding_box().and_then(|b| of_box(&b))))
                    .collect::<Result<UInt64Array>>()?
            }
            other => return plan_err!("{NAME} got {} arguments", other.len()),
        };
        if all_constant && positions.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&positions, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(positions)))
    }
}

fn of_numbers(longitude: &ArrayRef, latitude: &ArrayRef) -> UInt64Array {
    let (longitude, latitude) =
        (longitude.as_primitive::<Float64Type>(), latitude.as_primitive::<Float64Type>());
    let place = |(x, y): (Option<f64>, Option<f64>)| position_of_degrees(x?, y?);
    longitude.iter().zip(latitude).map(place).collect()
}

fn of_box(bounds: &BoundingBox) -> Option<u64> {
    // Halves, because a sum may be infinite.
    position_of_degrees(bounds.xmin / 2.0 + bounds.xmax / 2.0, bounds.ymin / 2.0 + bounds.ymax / 2.0)
}
