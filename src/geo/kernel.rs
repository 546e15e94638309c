//! The predicates over whole columns: rows against one area, and rows against rows.

use datafusion::arrow::array::{BooleanArray, BooleanBuilder};
use datafusion::arrow::buffer::BooleanBuffer;

use crate::error::OdpError;
use crate::geo::area::{Area, BoxRelation};
use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::predicate::PredicateKind;
use crate::geo::sink::Outline;

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

/// `value kind area`. The geometry is built only where its box does not decide.
fn relate_value(
    kind: PredicateKind,
    value: GeometryValue<'_>,
    area: &Area,
    row: usize,
) -> Result<bool, OdpError> {
    let answer = value.outline().and_then(|outline| match outline {
        Outline::Point(x, y) => Ok(area.relate_point(kind, x, y)),
        Outline::Empty => Ok(kind.when_apart()),
        Outline::Box(extent) => match decided_by_box(kind, area.relate_box(&extent)) {
            Some(answer) => Ok(answer),
            None => value.parse().and_then(|geometry| area.relate(kind, &geometry)),
        },
    });
    answer.map_err(|error| error.in_row(row))
}

/// The answer for a geometry that is not empty, where its box already gives it.
fn decided_by_box(kind: PredicateKind, relation: BoxRelation) -> Option<bool> {
    let by_points =
        matches!(kind, PredicateKind::Within | PredicateKind::CoveredBy | PredicateKind::Intersects);
    let by_absence =
        matches!(kind, PredicateKind::Contains | PredicateKind::Covers | PredicateKind::Disjoint);
    match relation {
        // No point in common.
        BoxRelation::Outside if by_points || by_absence => Some(kind.when_apart()),
        // In the interior, so the area's boundary lies outside the geometry.
        BoxRelation::Inside if by_points => Some(true),
        BoxRelation::Inside if by_absence => Some(false),
        _ => None,
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
