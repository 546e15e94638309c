//! What the readers of geometries make of what they read: the geometry itself, or only its outline.

use geo::{
    Coord, Geometry, GeometryCollection, LineString, MultiLineString, MultiPoint, MultiPolygon, Point,
    Polygon,
};

use crate::geo::bounding_box::BoundingBox;
use crate::geo::geometry_error::GeometryError;

/// Receives the parts of a geometry, inner ones first. The readers check; a sink only keeps.
pub(super) trait Sink {
    /// The coordinates of a line, of a ring, or of several points.
    type Path;
    /// A polygon, which may be empty.
    type Polygon;
    /// A geometry, which may be empty.
    type Geometry;

    /// A path that is going to hold about `count` coordinates.
    fn path(&mut self, count: usize) -> Self::Path;

    /// Appends a coordinate.
    fn push(&mut self, path: &mut Self::Path, at: Coord<f64>);

    /// A polygon; without a shell it has no holes either.
    fn polygon(&mut self, shell: Option<Self::Path>, holes: Vec<Self::Path>) -> Self::Polygon;

    /// A whole geometry.
    fn geometry(&mut self, parts: Parts<Self>) -> Self::Geometry;

    /// Whether a geometry has no coordinates. A sink that keeps no parts may say no.
    fn is_empty(geometry: &Self::Geometry) -> bool;
}

/// The parts of one geometry. Of multi-geometries and collections none is empty.
pub(super) enum Parts<S: Sink + ?Sized> {
    /// `None` for an empty point.
    Point(Option<Coord<f64>>),
    Line(S::Path),
    Polygon(S::Polygon),
    MultiPoint(S::Path),
    MultiLine(Vec<S::Path>),
    MultiPolygon(Vec<S::Polygon>),
    Collection(Vec<S::Geometry>),
}

/// Makes geometries. An empty point becomes a multipoint without points.
pub(super) struct Build;

impl Sink for Build {
    type Path = Vec<Coord<f64>>;
    type Polygon = Polygon<f64>;
    type Geometry = Geometry<f64>;

    fn path(&mut self, count: usize) -> Self::Path {
        Vec::with_capacity(count)
    }

    fn push(&mut self, path: &mut Self::Path, at: Coord<f64>) {
        path.push(at);
    }

    fn polygon(&mut self, shell: Option<Self::Path>, holes: Vec<Self::Path>) -> Self::Polygon {
        let holes = holes.into_iter().map(LineString::new).collect();
        Polygon::new(LineString::new(shell.unwrap_or_default()), holes)
    }

    fn geometry(&mut self, parts: Parts<Self>) -> Self::Geometry {
        match parts {
            Parts::Point(Some(at)) => Geometry::Point(Point(at)),
            Parts::Point(None) => Geometry::MultiPoint(MultiPoint::new(vec![])),
            Parts::Line(path) => Geometry::LineString(LineString::new(path)),
            Parts::Polygon(polygon) => Geometry::Polygon(polygon),
            Parts::MultiPoint(path) => {
                Geometry::MultiPoint(MultiPoint::new(path.into_iter().map(Point).collect()))
            }
            Parts::MultiLine(paths) => Geometry::MultiLineString(MultiLineString::new(
                paths.into_iter().map(LineString::new).collect(),
            )),
            Parts::MultiPolygon(polygons) => Geometry::MultiPolygon(MultiPolygon::new(polygons)),
            Parts::Collection(geometries) => Geometry::GeometryCollection(GeometryCollection(geometries)),
        }
    }

    fn is_empty(geometry: &Self::Geometry) -> bool {
        match geometry {
            Geometry::LineString(line) => line.0.is_empty(),
            Geometry::Polygon(polygon) => polygon.exterior().0.is_empty(),
            Geometry::MultiPoint(points) => points.0.is_empty(),
            Geometry::MultiLineString(lines) => lines.0.is_empty(),
            Geometry::MultiPolygon(polygons) => polygons.0.is_empty(),
            Geometry::GeometryCollection(parts) => parts.0.is_empty(),
            _ => false,
        }
    }
}

/// Keeps only the box of all coordinates; allocates nothing.
pub(super) struct Measure {
    bounds: BoundingBox,
    is_point: bool,
}

/// What is known of a geometry that was read but not built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outline {
    /// It has no coordinates.
    Empty,
    /// It is this point.
    Point(f64, f64),
    /// It is no point, and this is the box of its coordinates.
    Box(BoundingBox),
}

impl Measure {
    pub(super) fn new() -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { bounds: BoundingBox { xmin: least, ymin: least, xmax: most, ymax: most }, is_point: false }
    }

    pub(super) fn finish(self) -> Outline {
        match (self.is_point, self.bounds) {
            (true, BoundingBox { xmin, ymin, .. }) => Outline::Point(xmin, ymin),
            (false, bounds) if bounds.xmin <= bounds.xmax => Outline::Box(bounds),
            (false, _) => Outline::Empty,
        }
    }

    fn hold(&mut self, at: Coord<f64>) {
        let bounds = &mut self.bounds;
        bounds.xmin = bounds.xmin.min(at.x);
        bounds.ymin = bounds.ymin.min(at.y);
        bounds.xmax = bounds.xmax.max(at.x);
        bounds.ymax = bounds.ymax.max(at.y);
    }
}

impl Outline {
    /// The box; `None` for an empty geometry.
    pub(crate) fn bounding_box(self) -> Option<BoundingBox> {
        match self {
            Self::Empty => None,
            Self::Point(x, y) => Some(BoundingBox::of_point(x, y)),
            Self::Box(bounds) => Some(bounds),
        }
    }
}

impl Sink for Measure {
    type Path = ();
    type Polygon = ();
    type Geometry = ();

    fn path(&mut self, _count: usize) {}

    fn push(&mut self, _path: &mut (), at: Coord<f64>) {
        self.hold(at);
    }

    fn polygon(&mut self, _shell: Option<()>, _holes: Vec<()>) {}

    fn geometry(&mut self, parts: Parts<Self>) {
        // The outermost geometry comes last.
        self.is_point = false;
        if let Parts::Point(Some(at)) = parts {
            self.hold(at);
            self.is_point = true;
        }
    }

    fn is_empty((): &()) -> bool {
        false
    }
}

/// What has to be remembered of a path to check it.
#[derive(Default)]
pub(super) struct PathEnds {
    count: usize,
    first: Coord<f64>,
    last: Coord<f64>,
}

impl PathEnds {
    /// Takes the next coordinate.
    pub(super) fn see(&mut self, at: Coord<f64>) {
        if self.count == 0 {
            self.first = at;
        }
        self.count += 1;
        self.last = at;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Checks a line that starts at `start`: empty, or at least two points.
    pub(super) fn check_line(&self, start: usize) -> Result<(), GeometryError> {
        if self.count == 1 {
            return Err(GeometryError::new(start, "line of one point, expected at least 2"));
        }
        Ok(())
    }

    /// Checks that a ring that starts at `start` is closed and long enough.
    pub(super) fn check_ring(&self, start: usize) -> Result<(), GeometryError> {
        if self.count < 4 {
            let reason = format!("ring of {} points, expected at least 4", self.count);
            return Err(GeometryError::new(start, reason));
        }
        if self.first != self.last {
            let reason = "ring that is not closed, expected its last point to be its first";
            return Err(GeometryError::new(start, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use geo::CoordsIter;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::geo::wkb::{parse_wkb, to_wkb, wkb_outline};
    use crate::geo::wkt::{parse_wkt, wkt_outline};

    const TEXTS: [&str; 14] = [
        "POINT(1 2)",
        "SRID=4326;POINT ZM(-1.5 2.25 3 4)",
        "POINT EMPTY",
        "LINESTRING(0 0,1 1e2,-3 4)",
        "POLYGON((0 0,4 0,4 4,0 0),(1 0.5,2 0.5,2 1,1 0.5))",
        "POLYGON(EMPTY, EMPTY)",
        "MULTIPOINT(1 2,(3 4),EMPTY)",
        "MULTIPOINT(1 2)",
        "MULTILINESTRING((0 0,1 1),EMPTY,(5 5,6 6))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),EMPTY,((5 5,6 5,6 6,5 5)))",
        "GEOMETRYCOLLECTION(POINT(7 8))",
        "GEOMETRYCOLLECTION(LINESTRING(0 0,1 1),GEOMETRYCOLLECTION EMPTY,POINT Z(7 8 9))",
        "GEOMETRYCOLLECTION(POINT EMPTY,POLYGON EMPTY)",
        "LINESTRING(3 4,3 4)",
    ];

    /// The outline of a geometry that was built.
    fn expected(geometry: &Geometry<f64>) -> Outline {
        let boxes = geometry.coords_iter().map(|at| BoundingBox::of_point(at.x, at.y));
        match (geometry, boxes.reduce(|left, right| left.union(&right))) {
            (Geometry::Point(point), _) => Outline::Point(point.x(), point.y()),
            (_, Some(bounds)) => Outline::Box(bounds),
            (_, None) => Outline::Empty,
        }
    }

    #[test]
    fn outlines_are_those_of_what_is_built() {
        for text in TEXTS {
            let geometry = parse_wkt(text).unwrap();
            assert_eq!(wkt_outline(text).unwrap(), expected(&geometry), "{text}");
            assert_eq!(wkb_outline(&to_wkb(&geometry).unwrap()).unwrap(), expected(&geometry), "{text}");
        }
    }

    #[test]
    fn damaged_input_has_an_outline_just_if_it_can_be_built_and_the_same_error() {
        let mut random = StdRng::seed_from_u64(29);
        let (mut good, mut bad) = (0, 0);
        for round in 0..300 {
            for text in TEXTS {
                let mut wkb = to_wkb(&parse_wkt(text).unwrap()).unwrap();
                let at = random.random_range(0..wkb.len());
                wkb[at] = [0, 1, 2, 3, 7, 0x7f, 0xff, random.random()][round % 8];
                assert_eq!(parse_wkb(&wkb).map(|found| expected(&found)), wkb_outline(&wkb), "{wkb:?}");
                let mut wkt = text.as_bytes().to_vec();
                let at = random.random_range(0..wkt.len());
                wkt[at] = b"0123456789.,() -eZMEx\x00"[random.random_range(0..22)];
                let wkt = String::from_utf8(wkt).unwrap();
                let built = parse_wkt(&wkt).map(|found| expected(&found));
                *(if built.is_ok() { &mut good } else { &mut bad }) += 1;
                assert_eq!(built, wkt_outline(&wkt), "{wkt}");
            }
        }
        assert!(good > 300 && bad > 300, "{good} {bad}");
    }
}
