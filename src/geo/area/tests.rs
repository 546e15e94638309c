//! Areas against `geo`, against samples, and at the antimeridian.

use geo::{LineString, MultiPolygon, Point, Polygon};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::geo::wkt::parse_wkt;

fn area(text: &str) -> Area {
    Area::try_new(parse_wkt(text).unwrap()).unwrap()
}

/// A star-shaped ring of `n` points around a centre: valid whatever the radii. Coordinates lie on a grid of
/// sixteenths where `exact`, so that points can be placed on edges exactly.
fn star(
    random: &mut StdRng,
    centre: (f64, f64),
    radius: (f64, f64),
    n: usize,
    exact: bool,
) -> LineString<f64> {
    let mut points: Vec<_> = (0..n)
        .map(|i| {
            let angle = std::f64::consts::TAU * i as f64 / n as f64;
            let r = random.random_range(radius.0..radius.1);
            let round = |v: f64| if exact { (v * 16.0).round() / 16.0 } else { v };
            Coord { x: round(centre.0 + r * angle.cos()), y: round(centre.1 + r * angle.sin()) }
        })
        .collect();
    points.push(points[0]);
    LineString::new(points)
}

fn star_with_hole(random: &mut StdRng, centre: (f64, f64), n: usize, exact: bool) -> Polygon<f64> {
    let shell = star(random, centre, (5.0, 10.0), n, exact);
    let holes = vec![star(random, centre, (1.0, 4.0), n, exact)];
    Polygon::new(shell, holes)
}

fn expected(geometry: &Geometry<f64>, x: f64, y: f64) -> PointLocation {
    let matrix = Geometry::Point(Point::new(x, y)).relate(geometry);
    match (matrix.is_within(), matrix.is_intersects()) {
        (true, _) => PointLocation::Inside,
        (false, true) => PointLocation::Boundary,
        (false, false) => PointLocation::Outside,
    }
}

#[test]
fn points_agree_with_geo_on_random_polygons_with_holes() {
    let mut random = StdRng::seed_from_u64(7);
    for case in 0..40 {
        let n = 5 + case * 3;
        let mut polygons = vec![star_with_hole(&mut random, (0.0, 0.0), n, true)];
        if case % 2 == 1 {
            polygons.push(star_with_hole(&mut random, (25.0, 3.0), n, true));
        }
        let vertices: Vec<_> =
            polygons.iter().flat_map(|p| p.exterior().0.iter().chain(&p.interiors()[0].0)).copied().collect();
        let geometry = Geometry::MultiPolygon(MultiPolygon::new(polygons));
        let area = Area::try_new(geometry.clone()).unwrap();
        for vertex in &vertices {
            assert_eq!(area.covers_point(vertex.x, vertex.y), PointLocation::Boundary, "vertex {vertex:?}");
        }
        for edge in
            vertices.windows(2).filter(|edge| edge[0].x.hypot(edge[0].y) < 11.0 && edge[1].x < 11.0).take(n)
        {
            let (x, y) = ((edge[0].x + edge[1].x) / 2.0, (edge[0].y + edge[1].y) / 2.0);
            assert_eq!(area.covers_point(x, y), PointLocation::Boundary, "middle of {edge:?}");
        }
        for _ in 0..60 {
            // On a grid, so that points level with vertices are common.
            let x = f64::from(random.random_range(-48..140)) / 4.0;
            let y = f64::from(random.random_range(-48..56)) / 4.0;
            assert_eq!(area.covers_point(x, y), expected(&geometry, x, y), "case {case}: {x} {y}");
        }
    }
}

#[test]
fn points_of_parts_that_touch_or_overlap_are_in_the_union() {
    let overlapping = area("MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0)),((2 2,6 2,6 6,2 6,2 2)))");
    assert_eq!(overlapping.covers_point(3.0, 3.0), PointLocation::Inside);
    assert_eq!(overlapping.covers_point(3.0, 2.0), PointLocation::Inside);
    assert_eq!(overlapping.covers_point(6.0, 6.0), PointLocation::Boundary);
    let touching = area("MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0)),((4 4,6 4,6 6,4 6,4 4)))");
    assert_eq!(touching.covers_point(4.0, 4.0), PointLocation::Boundary);
    assert_eq!(touching.covers_point(5.0, 5.0), PointLocation::Inside);
    assert_eq!(touching.covers_point(5.0, 3.0), PointLocation::Outside);
}

#[test]
fn points_of_lines_and_collections_are_located() {
    let line = area("LINESTRING(0 0,4 4,8 0)");
    assert_eq!(line.covers_point(2.0, 2.0), PointLocation::Inside);
    assert_eq!(line.covers_point(0.0, 0.0), PointLocation::Boundary);
    assert_eq!(line.covers_point(2.0, 2.1), PointLocation::Outside);
    let mixed = area("GEOMETRYCOLLECTION(POLYGON((0 0,4 0,4 4,0 4,0 0)),POINT(9 9))");
    assert_eq!(mixed.covers_point(2.0, 2.0), PointLocation::Inside);
    assert_eq!(mixed.covers_point(9.0, 9.0), PointLocation::Inside);
    assert_eq!(mixed.covers_point(0.0, 2.0), PointLocation::Boundary);
    assert_eq!(mixed.covers_point(9.0, 8.0), PointLocation::Outside);
}

#[test]
fn empty_areas_and_points_that_are_not_finite_match_nothing() {
    let empty = area("POLYGON EMPTY");
    assert_eq!(empty.bounding_box(), None);
    assert_eq!(empty.covers_point(0.0, 0.0), PointLocation::Outside);
    assert_eq!(empty.relate_box(&BoundingBox::of_point(0.0, 0.0)), BoxRelation::Outside);
    let square = area("POLYGON((-5 -5,5 -5,5 5,-5 5,-5 -5))");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308] {
        assert_eq!(square.covers_point(bad, 0.0), PointLocation::Outside);
        assert_eq!(square.covers_point(0.0, bad), PointLocation::Outside);
    }
    assert_eq!(square.covers_point(-0.0, -0.0), PointLocation::Inside);
    assert!(Area::try_new(Geometry::Point(Point::new(f64::NAN, 0.0))).is_err());
    assert!(Area::try_new(Geometry::Point(Point::new(1e308, 0.0))).is_err());
    assert!(
        square
            .relate(
                PredicateKind::Intersects,
                &Geometry::LineString(vec![(0.0, 0.0), (f64::NAN, 1.0)].into())
            )
            .is_err()
    );
}

#[test]
fn box_relations_are_never_wrong() {
    let mut random = StdRng::seed_from_u64(11);
    let mut seen = [0; 3];
    for case in 0..30 {
        let geometry = Geometry::Polygon(star_with_hole(&mut random, (170.0, 0.0), 6 + case, false));
        let area = Area::try_new(geometry).unwrap();
        for _ in 0..200 {
            let turn = [0.0, 0.0, -360.0][random.random_range(0..3)];
            let (x, y) = (random.random_range(158.0..182.0) + turn, random.random_range(-12.0..12.0));
            let size = random.random_range(0.0..3.0);
            let target = BoundingBox { xmin: x, ymin: y, xmax: x + size, ymax: y + size };
            let relation = area.relate_box(&target);
            seen[relation as usize] += 1;
            for _ in 0..20 {
                let px = target.xmin + random.random_range(0.0..=1.0) * size;
                let py = target.ymin + random.random_range(0.0..=1.0) * size;
                let location = area.covers_point(px, py);
                match relation {
                    BoxRelation::Inside => assert_eq!(location, PointLocation::Inside),
                    BoxRelation::Outside => assert_eq!(location, PointLocation::Outside),
                    BoxRelation::Boundary => {}
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn box_inside_outside_and_touching_are_told_apart() {
    let square = area("POLYGON((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4))");
    let relate = |xmin, ymin, xmax, ymax| square.relate_box(&BoundingBox { xmin, ymin, xmax, ymax });
    assert_eq!(relate(1.0, 1.0, 3.0, 9.0), BoxRelation::Inside);
    assert_eq!(relate(0.0, 1.0, 3.0, 9.0), BoxRelation::Boundary);
    assert_eq!(relate(4.5, 4.5, 5.5, 5.5), BoxRelation::Outside);
    assert_eq!(relate(3.0, 3.0, 7.0, 7.0), BoxRelation::Boundary);
    assert_eq!(relate(-5.0, -5.0, 15.0, 15.0), BoxRelation::Boundary);
    assert_eq!(relate(10.0, 10.0, 15.0, 15.0), BoxRelation::Boundary);
    assert_eq!(relate(11.0, 0.0, 15.0, 15.0), BoxRelation::Outside);
    assert_eq!(relate(f64::NAN, 0.0, 15.0, 15.0), BoxRelation::Boundary);
    assert_eq!(relate(20.0, 0.0, 15.0, 15.0), BoxRelation::Boundary);
    let line = area("LINESTRING(0 0,10 10)");
    assert_eq!(
        line.relate_box(&BoundingBox { xmin: 6.0, ymin: 1.0, xmax: 9.0, ymax: 5.0 }),
        BoxRelation::Outside
    );
    assert_eq!(
        line.relate_box(&BoundingBox { xmin: 6.0, ymin: 1.0, xmax: 9.0, ymax: 6.0 }),
        BoxRelation::Boundary
    );
}

#[test]
fn area_across_the_antimeridian_matches_both_ways_to_write_longitude() {
    let across = area("POLYGON((170 -5,190 -5,190 5,170 5,170 -5))");
    for x in [175.0, 180.0, 185.0, -175.0, -180.0] {
        assert_eq!(across.covers_point(x, 0.0), PointLocation::Inside, "{x}");
    }
    for x in [165.0, 195.0, -165.0, 0.0, 535.0] {
        assert_eq!(across.covers_point(x, 0.0), PointLocation::Outside, "{x}");
    }
    assert_eq!(across.covers_point(-170.0, 0.0), PointLocation::Boundary);
    let west = BoundingBox { xmin: -179.0, ymin: -1.0, xmax: -172.0, ymax: 1.0 };
    assert_eq!(across.relate_box(&west), BoxRelation::Inside);
    assert_eq!(across.relate_box(&BoundingBox { xmax: -160.0, ..west }), BoxRelation::Boundary);
    assert_eq!(across.relate_box(&BoundingBox { xmin: -169.0, xmax: -160.0, ..west }), BoxRelation::Outside);
    assert_eq!(across.relate_box(&BoundingBox { xmin: -180.0, xmax: 180.0, ..west }), BoxRelation::Boundary);
    let track = parse_wkt("LINESTRING(-179 0,-172 1)").unwrap();
    assert!(across.relate(PredicateKind::Within, &track).unwrap());
    let greenwich = area("POLYGON((-10 -5,10 -5,10 5,-10 5,-10 -5))");
    assert_eq!(greenwich.covers_point(355.0, 0.0), PointLocation::Inside);
}

#[test]
fn geometries_agree_with_geo_for_every_predicate() {
    let mut random = StdRng::seed_from_u64(5);
    for case in 0..150 {
        let centre = (random.random_range(-15.0..15.0), random.random_range(-15.0..15.0));
        let left = Geometry::Polygon(star_with_hole(&mut random, (0.0, 0.0), 5 + case % 20, false));
        let scale = [0.05, 0.3, 1.0, 3.0][case % 4];
        let ring = star(&mut random, centre, (5.0 * scale, 9.0 * scale), 7, false);
        let right = match case % 3 {
            0 => Geometry::Polygon(Polygon::new(ring, vec![])),
            1 => Geometry::LineString(ring),
            _ => Geometry::MultiPoint(ring.0.into_iter().map(Point).collect::<Vec<_>>().into()),
        };
        for (area, other) in [(&left, &right), (&right, &left)] {
            let prepared = Area::try_new(area.clone()).unwrap();
            let matrix = other.relate(area);
            for kind in PredicateKind::ALL {
                assert_eq!(
                    prepared.relate(kind, other).unwrap(),
                    kind.of_matrix(&matrix),
                    "case {case} {kind:?}"
                );
            }
        }
    }
}

#[test]
fn geometry_predicates_tell_holes_and_equal_geometries() {
    let text = "POLYGON((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4))";
    let ring = area(text);
    let check = |kind: PredicateKind, other: &str| ring.relate(kind, &parse_wkt(other).unwrap()).unwrap();
    for kind in
        [PredicateKind::Within, PredicateKind::Contains, PredicateKind::Covers, PredicateKind::CoveredBy]
    {
        assert!(check(kind, text), "{kind:?}");
    }
    let around_hole = "POLYGON((3 3,7 3,7 7,3 7,3 3))";
    assert!(!check(PredicateKind::Within, around_hole));
    assert!(check(PredicateKind::Intersects, around_hole));
    let in_hole = "POLYGON((4.5 4.5,5 4.5,5 5,4.5 4.5))";
    assert!(check(PredicateKind::Disjoint, in_hole));
    assert!(check(PredicateKind::Contains, "POLYGON((-1 -1,11 -1,11 11,-1 11,-1 -1))"));
    assert!(!check(PredicateKind::Intersects, "POLYGON EMPTY"));
    assert!(check(PredicateKind::Disjoint, "POINT EMPTY"));
    assert!(area("POINT(1 2)").relate_point(PredicateKind::Contains, 1.0, 2.0));
    assert!(!area("POINT(1 2)").relate_point(PredicateKind::Contains, 1.0, 2.5));
    assert!(!ring.relate_point(PredicateKind::Contains, 1.0, 2.0));
}

#[test]
fn invalid_polygons_answer_without_panic() {
    let bow_tie = area("POLYGON((0 0,4 4,4 0,0 4,0 0))");
    assert_eq!(bow_tie.covers_point(1.0, 2.0), PointLocation::Inside);
    assert_eq!(bow_tie.covers_point(2.0, 3.0), PointLocation::Outside);
    for text in [
        "POLYGON((0 0,4 4,4 0,0 4,0 0))",
        "POLYGON((0 0,0 0,0 0,0 0))",
        "POLYGON((0 0,4 0,0 0,0 0))",
        "POLYGON((0 0,4 0,4 4,0 4,0 0),(0 0,4 0,4 4,0 4,0 0))",
        "LINESTRING(1 1,1 1)",
        "MULTIPOLYGON(((0 0,4 0,4 4,0 0)),((0 0,4 0,4 4,0 0)))",
    ] {
        for kind in PredicateKind::ALL {
            let _ = bow_tie.relate(kind, &parse_wkt(text).unwrap());
            let _ = area(text).relate_point(kind, 0.0, 0.0);
        }
    }
}

#[test]
fn many_vertices_parts_and_holes_are_prepared() {
    let mut random = StdRng::seed_from_u64(1);
    let polygon = Polygon::new(star(&mut random, (0.0, 0.0), (50.0, 80.0), 200_000, false), vec![]);
    let big = Area::try_new(Geometry::Polygon(polygon)).unwrap();
    let holes = (0..20_000)
        .map(|i| {
            let (x, y) = (f64::from(i % 200) - 100.0, f64::from(i / 200) - 50.0);
            star(&mut random, (x, y), (0.1, 0.4), 5, false)
        })
        .collect();
    let shell = LineString::from(vec![
        (-110.0, -60.0),
        (110.0, -60.0),
        (110.0, 60.0),
        (-110.0, 60.0),
        (-110.0, -60.0),
    ]);
    let holed = Area::try_new(Geometry::Polygon(Polygon::new(shell, holes))).unwrap();
    assert_eq!(holed.covers_point(3.0, 4.0), PointLocation::Outside);
    assert_eq!(holed.covers_point(3.5, 4.5), PointLocation::Inside);
    let start = std::time::Instant::now();
    let mut inside = 0;
    for _ in 0..20_000 {
        let (x, y) = (random.random_range(-80.0..80.0), random.random_range(-80.0..80.0));
        inside += usize::from(big.covers_point(x, y) == PointLocation::Inside);
        inside += usize::from(holed.covers_point(x, y) == PointLocation::Inside);
    }
    assert!(inside > 10_000);
    println!("40000 points: {:?}", start.elapsed());
}

/// Where a locator finds a single point.
fn located(locator: &mut PointLocator<'_>, x: f64, y: f64) -> PointLocation {
    match locator.covers_points(&[x], &[y]) {
        PointLocations { inside: 1, boundary: 0 } => PointLocation::Inside,
        PointLocations { inside: 0, boundary: 1 } => PointLocation::Boundary,
        found => {
            assert_eq!(found, PointLocations::default());
            PointLocation::Outside
        }
    }
}

/// Asks the rasters and the tree about the same points: random ones, vertices, points on edges, and points level with
/// vertices.
fn raster_agrees_with_tree(geometry: &Geometry<f64>, random: &mut StdRng) -> [usize; 3] {
    let area = Area::try_new(geometry.clone()).unwrap();
    let bounds = area.bounding_box().unwrap();
    let coarse = Area::try_new(geometry.clone()).unwrap();
    let mut locators = [coarse.locator(MIN_POINTS_FOR_FINE_INDEX - 1), area.locator(usize::MAX)];
    assert!(locators.iter().all(|locator| locator.index.is_some()));
    let has_fine = |area: &Area| area.fine_index.get().is_some_and(Option::is_some);
    assert_eq!((has_fine(&coarse), has_fine(&area)), (false, area.vertices <= 4096));
    let vertices: Vec<_> = geo::CoordsIter::coords_iter(geometry).collect();
    let (mut seen, mut asked) = ([0; 3], vec![]);
    for round in 0..1_000 {
        let (from, to) = {
            let at = random.random_range(0..vertices.len());
            (vertices[at], vertices[(at + 1) % vertices.len()])
        };
        let (width, height) = (bounds.xmax - bounds.xmin, bounds.ymax - bounds.ymin);
        let share = [0.0, 0.25, 0.5, 1.0, random.random_range(0.0..1.0)][round % 5];
        let any = Coord {
            x: bounds.xmin + width * random.random_range(-0.05..1.05),
            y: bounds.ymin + height * random.random_range(-0.05..1.05),
        };
        let on = Coord { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
        let at = match round % 7 {
            0 | 1 => any,
            2 => from,
            3 => on,
            4 => Coord { x: on.x.next_up(), y: on.y },
            5 => Coord { x: any.x, y: from.y },
            _ => Coord { x: from.x, y: any.y },
        };
        let expected = area.covers_point(at.x, at.y);
        seen[expected as usize] += 1;
        for locator in &mut locators {
            assert_eq!(located(locator, at.x, at.y), expected, "{at:?}");
        }
        asked.push((at, expected));
    }
    // Turned, too, where that is the same place.
    for (chunk, turn) in asked.chunks(64).zip([0.0, 0.0, 0.0, -360.0].into_iter().cycle()) {
        let turned =
            |&(at, expected): &(Coord<f64>, PointLocation)| match area.covers_point(at.x + turn, at.y) {
                found if turn != 0.0 => (at.x + turn, at.y, found),
                _ => (at.x, at.y, expected),
            };
        let points: Vec<_> = chunk.iter().map(turned).collect();
        let (x, y): (Vec<_>, Vec<_>) = points.iter().map(|(x, y, _)| (*x, *y)).unzip();
        let mut expected = PointLocations::default();
        for (row, (.., location)) in points.iter().enumerate() {
            expected.inside |= u64::from(*location == PointLocation::Inside) << row;
            expected.boundary |= u64::from(*location == PointLocation::Boundary) << row;
        }
        for locator in &mut locators {
            assert_eq!(locator.covers_points(&x, &y), expected);
        }
    }
    seen
}

#[test]
fn raster_and_tree_locate_alike() {
    let mut random = StdRng::seed_from_u64(23);
    let mut seen = [0; 3];
    for case in 0..40 {
        let exact = case % 2 == 0;
        let n = [5, 12, 40, 150, 600][case % 5];
        let mut polygons = vec![star_with_hole(&mut random, (0.0, 0.0), n, exact)];
        if case % 3 != 0 {
            polygons.push(star_with_hole(&mut random, ([25.0, 8.0][case % 2], 3.0), n, exact));
            // An island in a lake.
            polygons.push(Polygon::new(star(&mut random, (0.0, 0.0), (0.2, 0.9), 9, exact), vec![]));
        }
        let geometry = Geometry::MultiPolygon(MultiPolygon::new(polygons));
        let found = raster_agrees_with_tree(&geometry, &mut random);
        seen = [0, 1, 2].map(|location| seen[location] + found[location]);
    }
    assert!(seen.iter().all(|count| *count > 4_000), "{seen:?}");
}

#[test]
fn raster_and_tree_locate_alike_in_odd_areas() {
    let mut random = StdRng::seed_from_u64(31);
    for text in [
        "POLYGON((0 0,10 0,10 10,0 10,0 0))",
        "POLYGON((0 0,4 4,4 0,0 4,0 0))",
        "POLYGON((0 0,4 4,0 4,4 0,4 8,0 0),(1 1,6 1,6 6,1 6,1 1))",
        "POLYGON((0 0,4 0,4 4,0 4,0 0),(10 10,14 10,14 14,10 14,10 10))",
        "POLYGON((0 0,4 0,4 4,0 4,0 0),(0 0,4 0,4 4,0 4,0 0))",
        "POLYGON((0 0,4 0,0 0,0 0))",
        "POLYGON((0 0,0 4,0 2,0 0))",
        "MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0)),((2 2,6 2,6 6,2 6,2 2)),((3 0,5 0,5 9,3 9,3 0)))",
        "MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0)),((4 4,6 4,6 6,4 6,4 4)),((4 0,8 0,8 4,4 4,4 0)))",
        "MULTIPOINT(0 0,1 5,7 3)",
        "POINT(5 5)",
        "LINESTRING(0 0,4 4,8 0,8 0)",
        "GEOMETRYCOLLECTION(POLYGON((0 0,4 0,4 4,0 4,0 0)),LINESTRING(2 2,9 9),POINT(9 1))",
        "POLYGON((1000000000000000 0,1000000000000001 0,1000000000000001 1,1000000000000000 0))",
        "POLYGON((0 0,1e-300 0,1e-300 1e-300,0 0))",
        "POLYGON((-1e100 -1e100,1e100 -1e100,1e100 1e100,-1e100 -1e100))",
        "POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))",
        "POLYGON((170 -5,190 -5,190 5,170 5,170 -5))",
        "POLYGON((0 0,1000 0.0001,1000 0.0002,0 0.0001,0 0))",
    ] {
        let geometry = parse_wkt(text).unwrap();
        let area = Area::try_new(geometry.clone()).unwrap();
        if area.locator(usize::MAX).index.is_some() {
            raster_agrees_with_tree(&geometry, &mut random);
        } else {
            assert!(text.contains("1000000000000000") || text.contains("1e-300"), "{text}");
        }
        let mut locator = area.locator(usize::MAX);
        for x in [f64::NAN, f64::INFINITY, -1e308, 0.0, -0.0, 355.0, -175.0, 185.0, -180.0, 180.0, 360.0] {
            for y in [f64::NAN, f64::NEG_INFINITY, 0.0, 1.0, 90.0] {
                assert_eq!(located(&mut locator, x, y), area.covers_point(x, y), "{text} {x} {y}");
            }
        }
    }
}
