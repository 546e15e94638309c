//! Distances between geometries and areas, in degrees on the plane.
//!
//! Computed in `f64`, so that a distance that is a limit in decimal may fall on either side of it. Longitudes are
//! taken as the predicates take them: data at `x` is also at `x + 360` and `x - 360`, if `x` is an angle.

use geo::{Coord, Geometry, MapCoords};

use crate::geo::area::{ANGLES, Area, BoxRelation, TURNS};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::geometry_error::GeometryError;
use crate::geo::is_usable;
use crate::geo::predicate::PredicateKind;

/// What rounding may add to a distance, relative to the numbers it is computed from.
const ROUNDING: f64 = 1e-12;

impl Area {
    /// Whether `other` has a point at most `distance` degrees from the area; `false` if either is empty.
    ///
    /// # Errors
    /// As [`Area::relate`].
    pub(crate) fn is_within_distance(
        &self,
        other: &Geometry<f64>,
        distance: f64,
    ) -> Result<bool, GeometryError> {
        if let Geometry::Point(point) = other {
            return Ok(self.is_point_within_distance(point.x(), point.y(), distance));
        }
        if self.relate(PredicateKind::Intersects, other)? {
            return Ok(true);
        }
        let other_area = Self::try_new(other.clone())?;
        let (Some(bounds), Some(extent)) = (self.bounding_box(), other_area.bounding_box()) else {
            return Ok(false);
        };
        let is_angle = ANGLES.0 <= extent.xmin && extent.xmax <= ANGLES.1;
        for turn in TURNS {
            if (turn != 0.0 && !is_angle) || !grown(&extent.shifted(turn), distance).intersects(&bounds) {
                continue;
            }
            let turned;
            let other_area = if turn == 0.0 {
                &other_area
            } else {
                turned = Self::try_new(other.map_coords(|at| Coord { x: at.x + turn, y: at.y }))?;
                &turned
            };
            let is_near = other_area.any_edge(&grown(&bounds, distance), |start, end| {
                self.any_edge(&grown(&box_of_edge(start, end), distance), |a, b| {
                    edge_distance((a, b), (start, end)) <= distance
                })
            });
            if is_near {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// [`Self::is_within_distance`] for a point; one that is not finite is empty.
    pub(crate) fn is_point_within_distance(&self, x: f64, y: f64, distance: f64) -> bool {
        let Some(bounds) = self.bounding_box() else { return false };
        if !(is_usable(x) && is_usable(y)) {
            return false;
        }
        let is_near = |turn: f64| {
            let at = Coord { x: x + turn, y };
            let target = grown(&BoundingBox::of_point(at.x, at.y), distance);
            target.intersects(&bounds)
                && self.any_edge(&target, |a, b| point_distance(at, (a, b)) <= distance)
        };
        let may_turn = (ANGLES.0..=ANGLES.1).contains(&x);
        self.relate_point(PredicateKind::Intersects, x, y)
            || TURNS.into_iter().any(|turn| (turn == 0.0 || may_turn) && is_near(turn))
    }

    /// What is known of the distance of all points of `extent`. `Inside`: all are at most `distance` away;
    /// `Outside`: none is. Conservative.
    pub(crate) fn relate_box_at_distance(&self, extent: &BoundingBox, distance: f64) -> BoxRelation {
        let BoundingBox { xmin, ymin, xmax, ymax } = *extent;
        let is_box = BoundingBox::from_bounds(xmin, ymin, xmax, ymax).is_some();
        if !is_box || distance.is_nan() || distance < 0.0 {
            return BoxRelation::Boundary;
        }
        let Some(bounds) = self.bounding_box() else { return BoxRelation::Outside };
        let size =
            [xmin, ymin, xmax, ymax, bounds.xmin, bounds.ymin, bounds.xmax, bounds.ymax, 360.0, distance]
                .into_iter()
                .fold(0.0, |largest: f64, number| largest.max(number.abs()));
        let margin = size * ROUNDING;
        // All points of a box lie within half its diagonal of its centre.
        let reach = (xmax / 2.0 - xmin / 2.0).hypot(ymax / 2.0 - ymin / 2.0) + margin;
        let (x, y) = (xmin / 2.0 + xmax / 2.0, ymin / 2.0 + ymax / 2.0);
        let written_alike = (ANGLES.0 <= xmin && xmax <= ANGLES.1) || !(xmax >= ANGLES.0 && xmin <= ANGLES.1);
        if distance >= reach && written_alike && self.is_point_within_distance(x, y, distance - reach) {
            return BoxRelation::Inside;
        }
        match self.relate_box(extent) {
            BoxRelation::Outside => {}
            relation => return relation,
        }
        let is_near = |turn: f64| {
            let (xmin, xmax) =
                if turn == 0.0 { (xmin, xmax) } else { (xmin.max(ANGLES.0), xmax.min(ANGLES.1)) };
            if xmin > xmax {
                return false;
            }
            let target = BoundingBox { xmin, xmax, ymin, ymax }.shifted(turn);
            self.any_edge(&grown(&target, distance + margin), |a, b| {
                box_distance(&box_of_edge(a, b), &target) <= distance + margin
            })
        };
        if TURNS.into_iter().any(is_near) { BoxRelation::Boundary } else { BoxRelation::Outside }
    }
}

/// Whether two points are at most `distance` degrees apart; one that is not finite is empty, and near nothing.
pub(crate) fn are_points_within_distance(from: (f64, f64), to: (f64, f64), distance: f64) -> bool {
    if ![from.0, from.1, to.0, to.1].into_iter().all(is_usable) {
        return false;
    }
    let may_turn = (ANGLES.0..=ANGLES.1).contains(&from.0);
    let is_near = |turn: f64| (from.0 + turn - to.0).hypot(from.1 - to.1) <= distance;
    TURNS.into_iter().any(|turn| (turn == 0.0 || may_turn) && is_near(turn))
}

/// The box, larger by `distance` on all sides.
fn grown(bounds: &BoundingBox, distance: f64) -> BoundingBox {
    BoundingBox {
        xmin: (bounds.xmin - distance).next_down(),
        ymin: (bounds.ymin - distance).next_down(),
        xmax: (bounds.xmax + distance).next_up(),
        ymax: (bounds.ymax + distance).next_up(),
    }
}

fn box_of_edge(start: Coord<f64>, end: Coord<f64>) -> BoundingBox {
    BoundingBox::of_point(start.x, start.y).union(&BoundingBox::of_point(end.x, end.y))
}

/// The distance between two boxes; 0 where they meet.
fn box_distance(left: &BoundingBox, right: &BoundingBox) -> f64 {
    let x = (left.xmin - right.xmax).max(right.xmin - left.xmax).max(0.0);
    let y = (left.ymin - right.ymax).max(right.ymin - left.ymax).max(0.0);
    x.hypot(y)
}

/// The distance between two edges that do not cross.
fn edge_distance(left: (Coord<f64>, Coord<f64>), right: (Coord<f64>, Coord<f64>)) -> f64 {
    point_distance(left.0, right)
        .min(point_distance(left.1, right))
        .min(point_distance(right.0, left))
        .min(point_distance(right.1, left))
}

fn point_distance(at: Coord<f64>, (start, end): (Coord<f64>, Coord<f64>)) -> f64 {
    let (along, to_point) = (end - start, at - start);
    let length = along.x.hypot(along.y);
    // In units of the edge, so that no square overflows or vanishes.
    let unit = Coord { x: along.x / length, y: along.y / length };
    let place = to_point.x * unit.x + to_point.y * unit.y;
    if length == 0.0 || place <= 0.0 {
        return to_point.x.hypot(to_point.y);
    }
    if place >= length {
        return (at.x - end.x).hypot(at.y - end.y);
    }
    (to_point.x * unit.y - to_point.y * unit.x).abs()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::geo::wkt::parse_wkt;

    fn area(text: &str) -> Area {
        Area::try_new(parse_wkt(text).unwrap()).unwrap()
    }

    #[test]
    fn distances_are_to_the_nearest_point() {
        let square = area("POLYGON((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4))");
        for (text, distance) in [
            ("POINT(1 1)", 0.0),
            ("POINT(5 5)", 1.0),
            ("POINT(13 14)", 5.0),
            ("POINT(-2 3)", 2.0),
            ("LINESTRING(12 -50,12 50)", 2.0),
            ("LINESTRING(13 14,20 20)", 5.0),
            ("LINESTRING(4.5 5,5.5 5)", 0.5),
            ("MULTIPOINT(100 1,5 5)", 1.0),
            ("POLYGON((-5 -5,15 -5,15 15,-5 15,-5 -5),(-3 -3,13 -3,13 13,-3 13,-3 -3))", 3.0),
            ("POLYGON((-5 -5,15 -5,15 15,-5 15,-5 -5))", 0.0),
            // The other way round the world.
            ("POINT(355 5)", 5.0),
            ("LINESTRING(355 5,352 5)", 5.0),
        ] {
            let geometry = parse_wkt(text).unwrap();
            assert_eq!(square.is_within_distance(&geometry, distance), Ok(true), "{text}");
            if distance > 0.0 {
                assert_eq!(square.is_within_distance(&geometry, distance.next_down()), Ok(false), "{text}");
                let (holder, part) = (Area::try_new(geometry).unwrap(), square.geometry());
                assert_eq!(holder.is_within_distance(part, distance), Ok(true), "{text}");
            }
        }
    }

    #[test]
    fn empty_geometries_are_near_nothing() {
        let (square, empty) = (area("POLYGON((0 0,10 0,10 10,0 0))"), area("POLYGON EMPTY"));
        assert_eq!(square.is_within_distance(empty.geometry(), f64::INFINITY), Ok(false));
        assert_eq!(empty.is_within_distance(square.geometry(), f64::INFINITY), Ok(false));
        assert!(!empty.is_point_within_distance(0.0, 0.0, 1.0));
        assert!(square.is_point_within_distance(1e99, 0.0, f64::INFINITY));
        for bad in [f64::NAN, f64::INFINITY, 1e308] {
            assert!(!square.is_point_within_distance(bad, 0.0, f64::INFINITY));
        }
    }

    #[test]
    fn points_are_as_far_apart_as_areas_that_are_points() {
        let mut random = StdRng::seed_from_u64(29);
        for _ in 0..2_000 {
            let longitudes = [-180.0, -179.0, 0.0, 1.0, 180.0, 181.0, 359.0, 360.0, 361.0, -190.0];
            let mut draw = || (longitudes[random.random_range(0..10)], f64::from(random.random_range(-1..2)));
            let (from, to) = (draw(), draw());
            let area = area(&format!("POINT({} {})", to.0, to.1));
            for distance in [0.0, 1.0, 1.5, 2.0] {
                assert_eq!(
                    are_points_within_distance(from, to, distance),
                    area.is_point_within_distance(from.0, from.1, distance),
                    "{from:?} {to:?} {distance}"
                );
            }
        }
    }

    #[test]
    fn large_and_small_numbers_neither_overflow_nor_vanish() {
        let edge = |x: f64, y: f64| (Coord { x: 0.0, y: 0.0 }, Coord { x, y });
        assert_eq!(point_distance(Coord { x: 0.0, y: 1e100 }, edge(1e100, 0.0)), 1e100);
        assert_eq!(point_distance(Coord { x: 1e-300, y: 1e-300 }, edge(1e-300, 0.0)), 1e-300);
        assert_eq!(point_distance(Coord { x: 5e-324, y: 0.0 }, edge(0.0, 0.0)), 5e-324);
    }

    #[test]
    fn relations_of_boxes_are_never_wrong() {
        let mut random = StdRng::seed_from_u64(23);
        let areas = [
            area("POLYGON((160 -9,195 -4,172 9,160 -9))"),
            area("LINESTRING(-3 0,4 8,9 -2)"),
            area("POINT(179 1)"),
        ];
        let mut seen = [0; 3];
        for draw in 0..1_500 {
            let area = &areas[draw % areas.len()];
            let distance = [0.0, 0.5, 3.0, 40.0][random.random_range(0..4)];
            let centre = [[-178.0, 355.0, 176.0], [2.0, 361.0, -5.0]][draw % 2][random.random_range(0..3)];
            let (x, y) = (centre + random.random_range(-9.0..9.0), random.random_range(-12.0..12.0));
            let size = random.random_range(0.0..4.0);
            let extent = BoundingBox { xmin: x, ymin: y, xmax: x + size, ymax: y + size };
            let relation = area.relate_box_at_distance(&extent, distance);
            seen[relation as usize] += 1;
            for _ in 0..20 {
                let at =
                    (x + random.random_range(0.0..=1.0) * size, y + random.random_range(0.0..=1.0) * size);
                let is_near = area.is_point_within_distance(at.0, at.1, distance);
                match relation {
                    BoxRelation::Inside => assert!(is_near, "{extent:?} {distance} {at:?}"),
                    BoxRelation::Outside => assert!(!is_near, "{extent:?} {distance} {at:?}"),
                    BoxRelation::Boundary => {}
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}
