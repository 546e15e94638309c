//! The predicates over whole columns: rows against one area, and rows against rows.

use datafusion::arrow::array::{BooleanArray, BooleanBuilder};
use datafusion::arrow::buffer::BooleanBuffer;

use crate::error::OdpError;
use crate::geo::area::Area;
use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::predicate::PredicateKind;

/// `row kind area` for each row; null where the row is.
pub(crate) fn against_area(
    kind: PredicateKind,
    rows: &GeometryArray,
    area: &Area,
) -> Result<BooleanArray, OdpError> {
    if let GeometryArray::Points { x, y, nulls } = rows {
        let (x, y) = (x.values(), y.values());
        let mut previous: Option<(u64, u64, bool)> = None;
        let answers = BooleanBuffer::collect_bool(x.len(), |row| {
            let bits = (x[row].to_bits(), y[row].to_bits());
            match previous {
                Some((last_x, last_y, answer)) if (last_x, last_y) == bits => answer,
                _ => {
                    let answer = area.relate_point(kind, x[row], y[row]);
                    previous = Some((bits.0, bits.1, answer));
                    answer
                }
            }
        });
        return Ok(BooleanArray::new(answers, nulls.clone()));
    }
    let mut answers = BooleanBuilder::with_capacity(rows.len());
    let mut previous: Option<(GeometryValue<'_>, bool)> = None;
    for row in 0..rows.len() {
        let Some(value) = rows.value(row) else {
            answers.append_null();
            continue;
        };
        let answer = match previous {
            Some((last, answer)) if last.same(&value) => answer,
            _ => relate_value(kind, value, area, row)?,
        };
        previous = Some((value, answer));
        answers.append_value(answer);
    }
    Ok(answers.finish())
}

fn relate_value(
    kind: PredicateKind,
    value: GeometryValue<'_>,
    area: &Area,
    row: usize,
) -> Result<bool, OdpError> {
    match value.as_plain_point() {
        Some((x, y)) => Ok(area.relate_point(kind, x, y)),
        None => {
            value.parse().and_then(|geometry| area.relate(kind, &geometry)).map_err(|error| error.in_row(row))
        }
    }
}

/// `left kind right` for each row; null where either is. Prepares whichever side repeats.
pub(crate) fn pairwise(
    kind: PredicateKind,
    left: &GeometryArray,
    right: &GeometryArray,
) -> Result<BooleanArray, OdpError> {
    let mut answers = BooleanBuilder::with_capacity(left.len());
    let prepare = |value: GeometryValue<'_>, row: usize| {
        value.parse().and_then(Area::try_new).map_err(|error| error.in_row(row))
    };
    let mut prepared: Option<(bool, GeometryValue<'_>, Area)> = None;
    let mut last_left: Option<GeometryValue<'_>> = None;
    for row in 0..left.len().min(right.len()) {
        let (Some(a), Some(b)) = (left.value(row), right.value(row)) else {
            answers.append_null();
            continue;
        };
        let fits = |on_left: bool, value: &GeometryValue<'_>| value.same(if on_left { &a } else { &b });
        let area = match prepared.take() {
            Some((on_left, value, area)) if fits(on_left, &value) => (on_left, value, area),
            _ if last_left.is_some_and(|last| last.same(&a)) => (true, a, prepare(a, row)?),
            _ => (false, b, prepare(b, row)?),
        };
        let answer = if area.0 {
            relate_value(kind.flipped(), b, &area.2, row)?
        } else {
            relate_value(kind, a, &area.2, row)?
        };
        answers.append_value(answer);
        prepared = Some(area);
        last_left = Some(a);
    }
    Ok(answers.finish())
}
