//! What becomes of malformed geometries in rows, by the setting `odp.on_invalid_geometry`.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::common::Result;

use crate::geo::geometry_error::InvalidGeometryRow;
use crate::options::OnInvalidGeometry;

/// `evaluate` of arrays of the same length; where the setting says so, a row with a malformed geometry is null.
pub(crate) fn evaluate_rows(
    setting: OnInvalidGeometry,
    arrays: &[ArrayRef],
    evaluate: impl Fn(&[ArrayRef]) -> Result<BooleanArray>,
) -> Result<BooleanArray> {
    match evaluate(arrays) {
        Err(error) if setting == OnInvalidGeometry::NoMatch && InvalidGeometryRow::find(&error).is_some() => {
        }
        result => return result,
    }
    let evaluate_row = |row: usize| {
        let slices: Vec<_> = arrays.iter().map(|array| array.slice(row, 1)).collect();
        match evaluate(&slices) {
            Ok(answer) => Ok(answer.is_valid(0).then(|| answer.value(0))),
            Err(error) if InvalidGeometryRow::find(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    };
    (0..arrays.first().map_or(0, |array| array.len())).map(evaluate_row).collect()
}
