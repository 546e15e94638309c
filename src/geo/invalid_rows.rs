//! What becomes of malformed geometries in rows, by the setting `odp.on_invalid_geometry`.

use datafusion::arrow::array::{BooleanArray, BooleanBuilder};
use datafusion::common::Result;

use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::geometry_error::InvalidGeometryRow;
use crate::options::OnInvalidGeometry;

/// `evaluate` of arrays of the same length; where the setting says so, a row with a malformed geometry is null.
///
/// `evaluate` gets the number of the first row that it is given. Rows are evaluated again only in a batch with a
/// malformed one, and then a few times at most, however many are malformed.
pub(crate) fn evaluate_rows(
    setting: OnInvalidGeometry,
    geometries: &[GeometryArray],
    evaluate: impl Fn(&[GeometryArray], usize) -> Result<BooleanArray>,
) -> Result<BooleanArray> {
    match evaluate(geometries, 0) {
        Err(error) if setting == OnInvalidGeometry::NoMatch && InvalidGeometryRow::find(&error).is_some() => {
        }
        result => return result,
    }
    let geometries = geometries.iter().map(hide_malformed).collect::<Result<Vec<_>>>()?;
    let count = geometries.iter().map(GeometryArray::len).min().unwrap_or(0);
    let mut answers = BooleanBuilder::with_capacity(count);
    // What is left can be read but perhaps not computed with: up to the row that the error names, then behind it.
    let (mut first, mut end) = (0, count);
    while first < count {
        let slices: Vec<_> = geometries.iter().map(|rows| rows.slice(first, end - first)).collect();
        match evaluate(&slices, first) {
            Ok(known) => {
                answers.append_array(&known);
                if end < count {
                    answers.append_null();
                }
                (first, end) = (end + 1, count);
            }
            Err(error) => match InvalidGeometryRow::find(&error) {
                Some(bad) if bad.row < end - first => end = first + bad.row,
                _ => return Err(error),
            },
        }
    }
    Ok(answers.finish())
}

/// The rows, those null that cannot be read.
fn hide_malformed(rows: &GeometryArray) -> Result<GeometryArray> {
    let mut previous: Option<(GeometryValue<'_>, bool)> = None;
    let is_malformed = |row: usize| {
        let Some(value) = rows.value(row) else { return false };
        if value.as_plain_point().is_some() {
            return false;
        }
        let is_malformed = match &previous {
            Some((last, answer)) if last.same(&value) => *answer,
            _ => value.outline().is_err(),
        };
        previous = Some((value, is_malformed));
        is_malformed
    };
    let malformed: Vec<bool> = (0..rows.len()).map(is_malformed).collect();
    rows.without(&BooleanArray::from(malformed))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use datafusion::arrow::array::{Array, ArrayRef, StringArray};
    use datafusion::common::exec_err;

    use super::*;
    use crate::geo::geometry_error::GeometryError;

    /// Fails at points with x = 9 too, and says true of all others.
    fn evaluate(rows: &GeometryArray) -> Result<BooleanArray> {
        let answer = |row: usize| {
            let Some(value) = rows.value(row) else { return Ok(None) };
            let outline = value.outline().map_err(|error| error.in_row(row))?;
            match outline.bounding_box() {
                Some(bounds) if bounds.xmin == 9.0 => Err(GeometryError::new(0, "nine").in_row(row).into()),
                _ => Ok(Some(true)),
            }
        };
        (0..rows.len()).map(answer).collect()
    }

    fn texts(of_row: impl Fn(usize) -> Option<&'static str>, count: usize) -> [GeometryArray; 1] {
        let array: ArrayRef = Arc::new((0..count).map(of_row).collect::<StringArray>());
        [GeometryArray::try_new(&array).unwrap()]
    }

    #[test]
    fn malformed_rows_are_null_and_others_are_evaluated_few_times() {
        let of_row = |row: usize| match row % 5 {
            _ if row % 500 == 7 => Some("POINT(9 1)"),
            0 => None,
            1 | 2 => Some("POINT(1"),
            _ => Some("POINT(1 2)"),
        };
        for count in [1, 2, 7, 8, 9, 2_000] {
            let rows = texts(of_row, count);
            let evaluated = Cell::new(0);
            let answers = evaluate_rows(OnInvalidGeometry::NoMatch, &rows, |rows, _| {
                evaluated.set(evaluated.get() + rows[0].len());
                evaluate(&rows[0])
            })
            .unwrap();
            assert_eq!(answers.len(), count);
            for row in 0..count {
                assert_eq!(answers.is_valid(row), of_row(row) == Some("POINT(1 2)"), "{row}");
            }
            assert!(evaluated.get() <= 7 * count, "{} of {count}", evaluated.get());
            let error = evaluate_rows(OnInvalidGeometry::Error, &rows, |rows, _| evaluate(&rows[0]));
            assert_eq!(error.is_err(), count > 1);
        }
    }

    #[test]
    fn other_errors_stay() {
        let rows = texts(|row| Some(if row == 3 { "POINT(1" } else { "POINT(1 2)" }), 6);
        let error = evaluate_rows(OnInvalidGeometry::NoMatch, &rows, |rows, first| {
            let known = evaluate(&rows[0])?;
            if known.null_count() > 0 { exec_err!("row {}", first + 5) } else { Ok(known) }
        });
        assert!(error.unwrap_err().to_string().contains("row 5"));
    }
}
