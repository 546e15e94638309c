//! The predicates over whole columns: rows against one area, and rows against rows.

use datafusion::arrow::array::{BooleanArray, BooleanBufferBuilder};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

use crate::error::OdpError;
use crate::geo::area::{Area, PointLocation, PointLocations, PointLocator};
use crate::geo::area_cache::AreaCache;
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
    against_area_from(kind, rows, area, 0)
}

/// [`against_area`] for rows that begin at row `start` of their record batch, which errors name.
fn against_area_from(
    kind: PredicateKind,
    rows: &GeometryArray,
    area: &Area,
    start: usize,
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
            words.push(answer_chunk(&mut points, rows, first, start, &mut previous)?);
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
    start: usize,
    previous: &mut Option<(GeometryValue<'a>, bool)>,
) -> Result<u64, OdpError> {
    let count = CHUNK.min(rows.len() - first);
    let (mut x, mut y) = ([f64::NAN; CHUNK], [f64::NAN; CHUNK]);
    if rows.read_plain_points(first, &mut x[..count], &mut y[..count]) {
        return Ok(points.answers(&x[..count], &y[..count]));
    }
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
                _ => value.outline().map_err(|error| error.in_row(start + row))?,
            },
        };
        match outline {
            Outline::Point(lon, lat) => (x[place], y[place]) = (lon, lat),
            // Answered as a point of NaN.
            Outline::Empty => {}
            Outline::Box(extent) => {
                let answer = relate_in_box(points.kind, value, &extent, points.area, start + row)?;
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

/// `left kind right` for each row; null where either is.
///
/// Where one side repeats, as in a join of few areas with many points, it is prepared once, and kept in `cache` for
/// the next record batch.
pub(crate) fn pairwise(
    kind: PredicateKind,
    left: &GeometryArray,
    right: &GeometryArray,
    cache: &AreaCache,
) -> Result<BooleanArray, OdpError> {
    let count = left.len().min(right.len());
    let mut answers = BooleanBufferBuilder::new(count);
    let mut first = 0;
    while first < count {
        let (on_left, on_right) = (left.run_length(first), right.run_length(first));
        let on_side = on_left.max(on_right).min(count - first);
        if left.value(first).is_none() && on_left >= on_right
            || right.value(first).is_none() && on_right >= on_left
        {
            answers.append_n(on_side, false);
        } else if on_side >= MIN_RUN {
            let (kind, repeated, rows) =
                if on_right >= on_left { (kind, right, left) } else { (kind.flipped(), left, right) };
            let run = against_repeated(kind, &rows.slice(first, on_side), repeated, first, cache)?;
            answers.append_buffer(run.values());
        } else {
            answers.append(relate_pair(kind, left, right, first)?);
            first += 1;
            continue;
        }
        first += on_side;
    }
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    Ok(BooleanArray::new(answers.finish(), nulls))
}

/// Rows with one value that are worth keeping its area.
const MIN_RUN: usize = 8;

/// `row kind area` for rows that begin at `first` of the record batch, where the area is the value there of `areas`.
fn against_repeated(
    kind: PredicateKind,
    rows: &GeometryArray,
    areas: &GeometryArray,
    first: usize,
    cache: &AreaCache,
) -> Result<BooleanArray, OdpError> {
    let Some(value) = areas.value(first) else { return Ok(BooleanArray::new_null(rows.len())) };
    let area = cache.area_of_rows(value).map_err(|error| error.in_row(first))?;
    against_area_from(kind, rows, &area, first)
}

/// `left kind right` in one row; `false` where either is null. Neither side is prepared if their boxes lie apart.
fn relate_pair(
    kind: PredicateKind,
    left: &GeometryArray,
    right: &GeometryArray,
    row: usize,
) -> Result<bool, OdpError> {
    let (Some(a), Some(b)) = (left.value(row), right.value(row)) else { return Ok(false) };
    let outline = |value: GeometryValue<'_>| value.outline().map_err(|error| error.in_row(row));
    let (box_a, box_b) = match (outline(a)?.bounding_box(), outline(b)?.bounding_box()) {
        (Some(box_a), Some(box_b)) => (box_a, box_b),
        (None, None) => return Ok(kind.when_both_empty()),
        _ => return Ok(kind.when_apart()),
    };
    // As `Area::relate` turns the left.
    let apart = [0.0, 360.0, -360.0].iter().all(|turn| !box_a.shifted(*turn).intersects(&box_b));
    if apart {
        return Ok(kind.when_apart());
    }
    let area = b.parse().and_then(Area::try_new).map_err(|error| error.in_row(row))?;
    relate_value(kind, a, &area, row)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, StringArray, StringViewArray};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::geo::area::antimeridian::unwrap_crossings;
    use crate::geo::wkb::to_wkb;
    use crate::geo::wkt::parse_wkt;

    fn texts(texts: &[Option<&str>]) -> GeometryArray {
        GeometryArray::try_new(&(Arc::new(StringArray::from(texts.to_vec())) as ArrayRef)).unwrap()
    }

    fn points(random: &mut StdRng, count: usize, low: f64, high: f64) -> Vec<(f64, f64)> {
        let edges = [low, high, 180.0, -180.0, 0.0];
        let lon = |random: &mut StdRng| match random.random_range(0..4) {
            0 => edges[random.random_range(0..5)],
            _ => random.random_range(low..high),
        };
        (0..count).map(|_| (lon(random), f64::from(random.random_range(-9..9)))).collect()
    }

    fn wkt_of(points: &[(f64, f64)]) -> GeometryArray {
        let rows = points.iter().map(|(x, y)| format!("POINT({x} {y})"));
        GeometryArray::try_new(&(Arc::new(StringViewArray::from_iter_values(rows)) as ArrayRef)).unwrap()
    }

    #[test]
    fn areas_written_in_several_ways_match_the_same_data_however_that_is_written() {
        let mut random = StdRng::seed_from_u64(37);
        let written = [
            "POLYGON((170 -5,190 -5,190 5,180 6,170 5,170 -5))",
            "POLYGON((170 -5,-170 -5,-170 5,180 6,170 5,170 -5))",
            "POLYGON((-170 5,-180 6,170 5,170 -5,-170 -5,-170 5))",
            "POLYGON((-190 -5,-170 -5,-170 5,-180 6,-190 5,-190 -5))",
        ];
        let areas = written.map(|text| Area::try_new(unwrap_crossings(parse_wkt(text).unwrap())).unwrap());
        let west: Vec<_> = points(&mut random, 2_000, -180.0, 180.0);
        // The same places in 0..360.
        let east: Vec<_> = west.iter().map(|(x, y)| (if *x < 0.0 { x + 360.0 } else { *x }, *y)).collect();
        for kind in PredicateKind::ALL {
            let expected = against_area(kind, &wkt_of(&west), &areas[0]).unwrap();
            let matches = expected.true_count();
            let never =
                kind.left_holds_right() || matches!(kind, PredicateKind::Crosses | PredicateKind::Overlaps);
            assert_eq!(matches > 50, !never, "{kind:?}");
            for area in &areas {
                assert_eq!(against_area(kind, &wkt_of(&west), area).unwrap(), expected, "{kind:?}");
                assert_eq!(against_area(kind, &wkt_of(&east), area).unwrap(), expected, "{kind:?}");
            }
        }
    }

    #[test]
    fn every_form_of_point_gives_the_answers_of_single_points() {
        let mut random = StdRng::seed_from_u64(43);
        let text = "POLYGON((0 -8,20 -8,20 8,0 8,0 -8),(5 -3,9 -3,9 3,5 3,5 -3))";
        let area = Area::try_new(parse_wkt(text).unwrap()).unwrap();
        let points = points(&mut random, 3_000, -5.0, 25.0);
        let wkb = points.iter().map(|(x, y)| to_wkb(&geo::Geometry::Point(geo::Point::new(*x, *y))).unwrap());
        let wkb =
            GeometryArray::try_new(&(Arc::new(BinaryArray::from_iter_values(wkb)) as ArrayRef)).unwrap();
        for kind in PredicateKind::ALL {
            for rows in [&wkb, &wkt_of(&points)] {
                let answers = against_area(kind, rows, &area).unwrap();
                for (row, (x, y)) in points.iter().enumerate() {
                    assert_eq!(answers.value(row), area.relate_point(kind, *x, *y), "{kind:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn boxes_decide_as_whole_geometries_do() {
        let mut random = StdRng::seed_from_u64(47);
        let text = "POLYGON((0 0,20 0,20 20,0 20,0 0),(8 8,12 8,12 12,8 12,8 8))";
        let area = Area::try_new(parse_wkt(text).unwrap()).unwrap();
        let rows: Vec<_> = (0..600)
            .map(|row| {
                let [x, y] = [0; 2].map(|_| f64::from(random.random_range(-2..22)));
                let size = f64::from(random.random_range(1..6));
                let turn = [0.0, 0.0, -360.0, 360.0][row % 4];
                let (x, end) = (x + turn, x + size + turn);
                match row % 3 {
                    0 => format!("LINESTRING({x} {y},{end} {})", y + size),
                    1 => format!("POLYGON(({x} {y},{end} {y},{end} {},{x} {y}))", y + size),
                    _ => format!("MULTIPOINT({x} {y},{end} {y})"),
                }
            })
            .collect();
        let array = texts(&rows.iter().map(|row| Some(row.as_str())).collect::<Vec<_>>());
        for kind in PredicateKind::ALL {
            let answers = against_area(kind, &array, &area).unwrap();
            for (row, text) in rows.iter().enumerate() {
                let expected = area.relate(kind, &parse_wkt(text).unwrap()).unwrap();
                assert_eq!(answers.value(row), expected, "{kind:?} {text}");
            }
        }
    }

    #[test]
    fn pairs_give_the_same_answers_in_runs_and_one_by_one() {
        let mut random = StdRng::seed_from_u64(53);
        let areas = [
            Some("POLYGON((0 0,10 0,10 10,0 10,0 0))"),
            Some("LINESTRING(0 0,9 9)"),
            None,
            Some("POLYGON((170 0,-170 0,-170 10,170 10,170 0))"),
            Some("POINT(3 3)"),
            Some("POLYGON EMPTY"),
        ];
        let others = [
            Some("POINT(3 3)"),
            Some("POINT(175 5)"),
            Some("LINESTRING(1 1,4 2)"),
            None,
            Some("POINT(50 50)"),
        ];
        for longest in [1, 3, 20, 200] {
            let (mut left, mut right) = (vec![], vec![]);
            while right.len() < 600 {
                let area = areas[random.random_range(0..areas.len())];
                for _ in 0..random.random_range(1..=longest) {
                    right.push(area);
                    left.push(others[random.random_range(0..others.len())]);
                }
            }
            let cache = AreaCache::default();
            for kind in PredicateKind::ALL {
                let answers = pairwise(kind, &texts(&left), &texts(&right), &cache).unwrap();
                let flipped = pairwise(kind.flipped(), &texts(&right), &texts(&left), &cache).unwrap();
                assert_eq!(answers, flipped, "{kind:?}");
                for (row, (a, b)) in left.iter().zip(&right).enumerate() {
                    let expected = a.zip(*b).map(|(a, b)| {
                        let area = Area::try_new(parse_wkt(b).unwrap()).unwrap();
                        area.relate(kind, &parse_wkt(a).unwrap()).unwrap()
                    });
                    let found = answers.is_valid(row).then(|| answers.value(row));
                    assert_eq!(found, expected, "{kind:?} {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn errors_name_the_row() {
        let bad = [vec![Some("POINT(1 1)"); 20], vec![Some("POINT(1 x)")]].concat();
        let area = vec![Some("POLYGON((0 0,10 0,10 10,0 10,0 0))"); 21];
        let cache = AreaCache::default();
        for (left, right) in [(&bad, &area), (&area, &bad)] {
            let error = pairwise(PredicateKind::Within, &texts(left), &texts(right), &cache).unwrap_err();
            assert!(error.to_string().contains("row 20"), "{error}");
        }
    }
}
