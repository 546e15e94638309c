//! Constant areas that cross the antimeridian and are written with longitudes from -180 to 180.
//!
//! An edge longer than 180 degrees is taken the short way round: `170 → -170` is read as `170 → 190`. A ring is read so
//! only if it then closes: one that winds round a pole stays as written, and so does a box, with two longitudes in all,
//! whose first long edge runs east as written (`-170 → 170`) or spans the globe (`-180`, `180`): that is the wide box.
//! Latitudes are plain numbers.

use geo::{Coord, Geometry, LineString, MapCoords, Polygon};

use crate::geo::bounding_box::BoundingBox;
use crate::geo::chain::box_of;

/// The geometry with its crossing parts unwrapped, east of 180. Parts near them, and holes, are moved along by a full
/// turn. Geometries with other longitudes stay as they are.
pub(crate) fn unwrap_crossings(geometry: Geometry<f64>) -> Geometry<f64> {
    let in_range = |at: Coord<f64>| (-180.0..=180.0).contains(&at.x);
    let long_edge = |line: &LineString<f64>| line.0.windows(2).any(|edge| is_long(edge[0], edge[1]));
    if !lines_of(&geometry).any(long_edge) || !geo::CoordsIter::coords_iter(&geometry).all(in_range) {
        return geometry;
    }
    let mut target = None;
    let unwrapped = map_parts(geometry, &mut |part| {
        let (part, crosses) = unwrap_part(part);
        if crosses && target.is_none() {
            target = extent(&part);
        }
        part
    });
    match target {
        Some(target) => map_parts(unwrapped, &mut |part| near(part, &target)),
        None => unwrapped,
    }
}

/// Lines and rings.
fn lines_of(geometry: &Geometry<f64>) -> Box<dyn Iterator<Item = &LineString<f64>> + '_> {
    match geometry {
        Geometry::LineString(line) => Box::new(std::iter::once(line)),
        Geometry::MultiLineString(lines) => Box::new(lines.iter()),
        Geometry::Polygon(polygon) => Box::new(rings_of(polygon)),
        Geometry::MultiPolygon(polygons) => Box::new(polygons.iter().flat_map(rings_of)),
        Geometry::GeometryCollection(parts) => Box::new(parts.iter().flat_map(lines_of)),
        _ => Box::new(std::iter::empty()),
    }
}

fn rings_of(polygon: &Polygon<f64>) -> impl Iterator<Item = &LineString<f64>> {
    std::iter::once(polygon.exterior()).chain(polygon.interiors())
}

fn is_long(start: Coord<f64>, end: Coord<f64>) -> bool {
    (end.x - start.x).abs() > 180.0
}

/// Replaces each single polygon, line and point of a geometry.
fn map_parts(
    geometry: Geometry<f64>,
    change: &mut dyn FnMut(Geometry<f64>) -> Geometry<f64>,
) -> Geometry<f64> {
    match geometry {
        Geometry::MultiPolygon(mut polygons) => {
            for polygon in &mut polygons.0 {
                if let Geometry::Polygon(changed) = change(Geometry::Polygon(polygon.clone())) {
                    *polygon = changed;
                }
            }
            Geometry::MultiPolygon(polygons)
        }
        Geometry::MultiLineString(mut lines) => {
            for line in &mut lines.0 {
                if let Geometry::LineString(changed) = change(Geometry::LineString(line.clone())) {
                    *line = changed;
                }
            }
            Geometry::MultiLineString(lines)
        }
        Geometry::MultiPoint(mut points) => {
            for point in &mut points.0 {
                if let Geometry::Point(changed) = change(Geometry::Point(*point)) {
                    *point = changed;
                }
            }
            Geometry::MultiPoint(points)
        }
        Geometry::GeometryCollection(mut parts) => {
            for part in &mut parts.0 {
                *part = map_parts(part.clone(), change);
            }
            Geometry::GeometryCollection(parts)
        }
        single => change(single),
    }
}

/// A single part the short way round, and whether it crosses.
fn unwrap_part(part: Geometry<f64>) -> (Geometry<f64>, bool) {
    match part {
        Geometry::LineString(line) => match unwrap_path(&line) {
            Some((unwrapped, _)) => (Geometry::LineString(unwrapped), true),
            None => (Geometry::LineString(line), false),
        },
        Geometry::Polygon(polygon) => {
            let shell = unwrap_ring(polygon.exterior());
            let crosses = shell.is_some();
            let shell = shell.unwrap_or_else(|| polygon.exterior().clone());
            let holes = polygon.interiors().iter();
            let holes = holes.flat_map(|hole| {
                let unwrapped = unwrap_ring(hole);
                let is_as_written = !crosses && unwrapped.is_none();
                let hole = unwrapped.unwrap_or_else(|| hole.clone());
                if is_as_written { vec![hole] } else { place_hole(&hole, &shell) }
            });
            let holes = holes.collect();
            (Geometry::Polygon(Polygon::new(shell, holes)), crosses)
        }
        other => (other, false),
    }
}

/// A ring the short way round; `None` if it stays as written.
fn unwrap_ring(ring: &LineString<f64>) -> Option<LineString<f64>> {
    let (unwrapped, turns) = unwrap_path(ring)?;
    (turns == 0.0 && !is_wide_box(ring)).then_some(unwrapped)
}

/// A path whose edges are all taken the short way, moved so that it does not reach west of -180, and the full turns that
/// it ends away from where it is written to end. `None` without a long edge.
fn unwrap_path(path: &LineString<f64>) -> Option<(LineString<f64>, f64)> {
    let mut turns = 0.0;
    let mut previous = *path.0.first()?;
    let mut unwrapped = Vec::with_capacity(path.0.len());
    let mut crosses = false;
    for at in &path.0 {
        if is_long(previous, *at) {
            crosses = true;
            turns += if at.x > previous.x { -1.0 } else { 1.0 };
        }
        unwrapped.push(Coord { x: at.x + turns * 360.0, y: at.y });
        previous = *at;
    }
    let mut least = unwrapped.iter().map(|at| at.x).fold(f64::INFINITY, f64::min);
    while least < -180.0 {
        unwrapped.iter_mut().for_each(|at| at.x += 360.0);
        least += 360.0;
    }
    crosses.then_some((LineString::new(unwrapped), turns))
}

/// Whether a ring has two longitudes in all, and its first long edge runs east or round the globe.
fn is_wide_box(ring: &LineString<f64>) -> bool {
    let Some(edge) = ring.0.windows(2).find(|edge| is_long(edge[0], edge[1])) else { return false };
    let (from, to) = (edge[0].x, edge[1].x);
    let is_box = ring.0.iter().all(|at| at.x == from || at.x == to);
    is_box && (from < to || from - to == 360.0)
}

/// The hole moved into its shell by a full turn; at both places if it lies across an end of it.
fn place_hole(hole: &LineString<f64>, shell: &LineString<f64>) -> Vec<LineString<f64>> {
    let (Some(bounds), Some(target)) = (box_of(&hole.0), box_of(&shell.0)) else { return vec![hole.clone()] };
    let turned = |turn: f64| hole.map_coords(|at| Coord { x: at.x + turn, y: at.y });
    let turns = [0.0, 360.0, -360.0];
    if let Some(turn) = turns.into_iter().find(|turn| target.holds(&bounds.shifted(*turn))) {
        return vec![turned(turn)];
    }
    let overlapping = turns.into_iter().filter(|turn| target.intersects(&bounds.shifted(*turn)));
    overlapping.map(turned).collect()
}

/// The part, moved east by a full turn if that brings it nearer to `target`.
fn near(part: Geometry<f64>, target: &BoundingBox) -> Geometry<f64> {
    let Some(bounds) = extent(&part) else { return part };
    let away = |bounds: &BoundingBox| (bounds.xmin + bounds.xmax - target.xmin - target.xmax).abs();
    if away(&bounds.shifted(360.0)) < away(&bounds) {
        return part.map_coords(|at| Coord { x: at.x + 360.0, y: at.y });
    }
    part
}

fn extent(part: &Geometry<f64>) -> Option<BoundingBox> {
    let mut boxes = geo::CoordsIter::coords_iter(part).map(|at| BoundingBox::of_point(at.x, at.y));
    let first = boxes.next()?;
    Some(boxes.fold(first, |bounds, at| bounds.union(&at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::area::{Area, PointLocation};
    use crate::geo::wkt::{parse_wkt, to_wkt};

    fn unwrapped(text: &str) -> String {
        to_wkt(&unwrap_crossings(parse_wkt(text).unwrap()))
    }

    #[test]
    fn crossing_parts_are_unwrapped_to_the_east() {
        for (written, read) in [
            ("POLYGON((170 0,-170 0,-170 5,170 5,170 0))", "POLYGON((170 0,190 0,190 5,170 5,170 0))"),
            (
                "POLYGON((-170 0,-170 5,170 5,175 2,170 0,-170 0))",
                "POLYGON((190 0,190 5,170 5,175 2,170 0,190 0))",
            ),
            ("LINESTRING(170 0,-170 1,-160 2,175 3)", "LINESTRING(170 0,190 1,200 2,175 3)"),
            ("LINESTRING(-170 0,170 1)", "LINESTRING(190 0,170 1)"),
            // Holes and neighbours come along.
            (
                "POLYGON((160 -9,-160 -9,-160 9,160 9,160 -9),(-170 0,-165 0,-165 5,-170 0),(170 0,175 0,175 5,170 0))",
                "POLYGON((160 -9,200 -9,200 9,160 9,160 -9),(190 0,195 0,195 5,190 0),(170 0,175 0,175 5,170 0))",
            ),
            (
                "MULTIPOLYGON(((170 0,-170 0,-170 5,170 0)),((-160 0,-150 0,-150 5,-160 0)),((20 0,30 0,30 5,20 0)))",
                "MULTIPOLYGON(((170 0,190 0,190 5,170 0)),((200 0,210 0,210 5,200 0)),((20 0,30 0,30 5,20 0)))",
            ),
            (
                "GEOMETRYCOLLECTION(LINESTRING(179 0,-179 0),POINT(-178 1))",
                "GEOMETRYCOLLECTION(LINESTRING(179 0,181 0),POINT(182 1))",
            ),
        ] {
            assert_eq!(unwrapped(written), to_wkt(&parse_wkt(read).unwrap()), "{written}");
        }
    }

    #[test]
    fn wide_boxes_poles_and_other_longitudes_stay_as_written() {
        for text in [
            "POLYGON((-170 0,170 0,170 5,-170 5,-170 0))",
            "POLYGON((-170 5,-170 0,170 0,170 5,-170 5))",
            "POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))",
            "POLYGON((180 -90,-180 -90,-180 90,180 90,180 -90))",
            // Round the south pole.
            "POLYGON((-180 -90,180 -90,180 -70,60 -65,-60 -65,-180 -70,-180 -90))",
            "POLYGON((0 -70,120 -70,-120 -70,0 -70))",
            "POLYGON((170 0,190 0,190 5,170 5,170 0))",
            "POLYGON((10 0,350 0,350 5,10 5,10 0))",
            "LINESTRING(-90 0,90 0)",
            "MULTIPOINT(179 0,-179 0)",
        ] {
            assert_eq!(unwrapped(text), to_wkt(&parse_wkt(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_crossing_hole_in_a_wide_box_is_cut_from_both_ends() {
        let text = "POLYGON((-180 -80,180 -80,180 80,-180 80,-180 -80),(170 0,-170 0,-170 5,170 5,170 0))";
        let area = Area::try_new(unwrap_crossings(parse_wkt(text).unwrap())).unwrap();
        for (x, expected) in [
            (175.0, PointLocation::Outside),
            (-175.0, PointLocation::Outside),
            (0.0, PointLocation::Inside),
            (165.0, PointLocation::Inside),
        ] {
            assert_eq!(area.covers_point(x, 2.0), expected, "{x}");
        }
    }
}
