//! The predicates over whole columns: rows against one area, and rows against rows.

use datafusion::arrow::array::{BooleanArray, BooleanBuilder};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer};

use crate::error::OdpError;
use crate::geo::area::{Area, PointLocation, PointLocations, PointLocator};
use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::predicate::PredicateKind;
use crate::geo::sink::Outline;

/// `row kind area` for each row; null where the row is.
pub(crate) fn against_area(
    kind: PredicateKind,
    rows: &GeometryArray,
    area: &Area,
) -> Result<BooleanArray, OdpError> {
    let mut points = PointAnswers::new(kind, area, rows.len());
    let mut words = Vec::with_capacity(rows.len().div_ceil(CHUNK));
    if area.bounding_box().is_none() {
        let answer =
            |row: usize| rows.value(row).map_or(Ok(false), |value| relate_value(kind, value, area, row));
        let answers = (0..rows.len()).map(answer).collect::<Result<Vec<bool>, _>>()?;
        return Ok(BooleanArray::new(answers.into(), rows.nulls().cloned()));
    }
    if let GeometryArray::Points { x, y, .. } = rows {
        let (x, y) = (x.values().chunks(CHUNK), y.values().chunks(CHUNK));
        words.extend(x.zip(y).map(|(x, y)| points.answers(x, y)));
    } else {
        let mut previous = None;
        for first in (0..rows.len()).step_by(CHUNK) {
            words.push(answer_chunk(&mut points, rows, first, &mut previous)?);
        }
    }
    let answers = BooleanBuffer::new(Buffer::from_vec(words), 0, rows.len());
    Ok(BooleanArray::new(answers, rows.nulls().cloned()))
}

/// Rows that are answered together, one bit each.
const CHUNK: usize = 64;

/// What a predicate gives for points against an area.
struct PointAnswers<'a> {
    kind: PredicateKind,
    area: &'a Area,
    locator: PointLocator<'a>,
    /// All bits set where points at these locations match.
    inside: u64,
    boundary: u64,
    outside: u64,
}

impl<'a> PointAnswers<'a> {
    /// For about `count` points.
    fn new(kind: PredicateKind, area: &'a Area, count: usize) -> Self {
        let all_if = |location| if area.answer_for_point(kind, location) { u64::MAX } else { 0 };
        Self {
            kind,
            area,
            locator: area.locator(count),
            inside: all_if(PointLocation::Inside),
            boundary: all_if(PointLocation::Boundary),
            outside: all_if(PointLocation::Outside),
        }
    }

    /// The answers for up to [`CHUNK`] points; the first is the lowest bit.
    fn answers(&mut self, x: &[f64], y: &[f64]) -> u64 {
        let PointLocations { inside, boundary } = self.locator.covers_points(x, y);
        inside & self.inside | boundary & self.boundary | !(inside | boundary) & self.outside
    }
}

/// The answers for the rows from `first` on: of points together, of other geometries one by one.
fn answer_chunk<'a>(
    points: &mut PointAnswers<'_>,
    rows: &'a GeometryArray,
    first: usize,
    previous: &mut Option<(GeometryValue<'a>, bool)>,
) -> Result<u64, OdpError> {
    let count = CHUNK.min(rows.len() - first);
    let (mut x, mut y) = ([f64::NAN; CHUNK], [f64::NAN; CHUNK]);
    let (mut others, mut answers) = (0u64, 0u64);
    for place in 0..count {
        let row = first + place;
        let Some(value) = rows.value(row) else { continue };
        let outline = match value.as_plain_point() {
            Some((x, y)) => Outline::Point(x, y),
            None => match previous {
                Some((last, answer)) if last.same(&value) => {
                    others |= 1 << place;
                    answers |= u64::from(*answer) << place;
                    continue;
                }
                _ => value.outline().map_err(|error| error.in_row(row))?,
            },
        };
        match outline {
            Outline::Point(lon, lat) => (x[place], y[place]) = (lon, lat),
            // Answered as a point of NaN.
            Outline::Empty => {}
            Outline::Box(extent) => {
                let answer = relate_in_box(points.kind, value, &extent, points.area, row)?;
                others |= 1 << place;
                answers |= u64::from(answer) << place;
                *previous = Some((value, answer));
            }
        }
    }
    if others != u64::MAX {
        answers |= points.answers(&x[..count], &y[..count]) & !others;
    }
    Ok(answers)
}

/// `value kind area`.
fn relate_value(
    kind: PredicateKind,
    value: GeometryValue<'_>,
    area: &Area,
    row: usize,
) -> Result<bool, OdpError> {
    match value.outline().map_err(|error| error.in_row(row))? {
        Outline::Point(x, y) => Ok(area.relate_point(kind, x, y)),
        Outline::Empty if area.bounding_box().is_none() => Ok(kind.when_both_empty()),
        Outline::Empty => Ok(kind.when_apart()),
        Outline::Box(extent) => relate_in_box(kind, value, &extent, area, row),
    }
}

/// `value kind area` for a geometry with this box. It is built only where the box does not decide.
fn relate_in_box(
    kind: PredicateKind,
    value: GeometryValue<'_>,
    extent: &BoundingBox,
    area: &Area,
    row: usize,
) -> Result<bool, OdpError> {
    match kind.of_extent(area.relate_box(extent)) {
        Some(answer) => Ok(answer),
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
