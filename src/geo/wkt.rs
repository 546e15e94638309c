//! WKT (well-known text): a reader that is safe on hostile input, and a writer.

use std::fmt::Write as _;

use geo::{
    Coord, Geometry, GeometryCollection, LineString, MultiLineString, MultiPoint, MultiPolygon, Point,
    Polygon,
};

use crate::geo::geometry_error::GeometryError;
use crate::geo::{MAX_COORDINATE, MAX_DEPTH};

/// Reads one geometry: ISO or PostGIS style WKT, in any letter case, with an optional `SRID=n;` before it.
///
/// Z and M are read and dropped. `POINT EMPTY` becomes a multipoint without points; empty parts of collections
/// are dropped. Rings must be closed and have at least four points. Takes time linear in the text.
///
/// # Errors
/// [`GeometryError`] with the byte of the fault, what was found and what was expected.
/// # Source
/// OGC 06-103r4, section 7 (<https://www.ogc.org/standard/sfa/>).
pub(crate) fn parse_wkt(text: &str) -> Result<Geometry<f64>, GeometryError> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_srid()?;
    let geometry = reader.geometry(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.expected("the end of the geometry"));
    }
    Ok(geometry)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Ordinates per coordinate: known from a tag, or from the first coordinate.
#[derive(Clone, Copy)]
struct Dimensions(Option<usize>);

impl Reader<'_> {
    fn geometry(&mut self, depth: usize) -> Result<Geometry<f64>, GeometryError> {
        self.skip_space();
        let start = self.at;
        let word = self.word().to_ascii_uppercase();
        let (name, tag) = split_tag(&word);
        let ordinates = match (tag, name.is_empty()) {
            (_, true) => return Err(self.expected("a geometry type")),
            (Some(ordinates), _) => Some(ordinates),
            (None, _) => self.tag(),
        };
        let mut dimensions = Dimensions(ordinates);
        let empty = self.empty();
        Ok(match name {
            "POINT" if empty => Geometry::MultiPoint(MultiPoint::new(vec![])),
            "POINT" => Geometry::Point(self.parenthesised_point(&mut dimensions)?),
            "LINESTRING" if empty => Geometry::LineString(LineString::new(vec![])),
            "LINESTRING" => Geometry::LineString(self.line(&mut dimensions)?),
            "POLYGON" if empty => Geometry::Polygon(Polygon::new(LineString::new(vec![]), vec![])),
            "POLYGON" => match self.polygon(&mut dimensions)? {
                Some(polygon) => Geometry::Polygon(polygon),
                None => Geometry::Polygon(Polygon::new(LineString::new(vec![]), vec![])),
            },
            "MULTIPOINT" => Geometry::MultiPoint(MultiPoint::new(
                self.parts(empty, |reader| reader.multi_point_member(&mut dimensions))?,
            )),
            "MULTILINESTRING" => Geometry::MultiLineString(MultiLineString::new(
                self.parts(empty, |reader| reader.unless_empty(|reader| reader.line(&mut dimensions)))?,
            )),
            "MULTIPOLYGON" => Geometry::MultiPolygon(MultiPolygon::new(self.parts(empty, |reader| {
                Ok(reader.unless_empty(|reader| reader.polygon(&mut dimensions))?.flatten())
            })?)),
            "GEOMETRYCOLLECTION" if depth >= MAX_DEPTH => {
                return Err(GeometryError::new(start, format!("more than {MAX_DEPTH} nested collections")));
            }
            "GEOMETRYCOLLECTION" => Geometry::GeometryCollection(GeometryCollection(
                self.parts(empty, |reader| reader.geometry(depth + 1).map(not_empty))?,
            )),
            _ => {
                self.at = start;
                return Err(self.expected(
                    "POINT, LINESTRING, POLYGON, MULTIPOINT, MULTILINESTRING, MULTIPOLYGON or GEOMETRYCOLLECTION",
                ));
            }
        })
    }

    fn skip_srid(&mut self) -> Result<(), GeometryError> {
        self.skip_space();
        if !self.rest().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("SRID=")) {
            return Ok(());
        }
        self.at += 5;
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(self.expected("an SRID number"));
        }
        self.at += digits;
        self.token(b';', "';' after the SRID")
    }

    /// `( part, part, … )`, without the parts that are empty.
    fn parts<T>(
        &mut self,
        empty: bool,
        mut part: impl FnMut(&mut Self) -> Result<Option<T>, GeometryError>,
    ) -> Result<Vec<T>, GeometryError> {
        let mut parts = vec![];
        if empty {
            return Ok(parts);
        }
        self.token(b'(', "'(' or EMPTY")?;
        loop {
            parts.extend(part(self)?);
            if !self.comma_or_close()? {
                return Ok(parts);
            }
        }
    }

    fn unless_empty<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, GeometryError>,
    ) -> Result<Option<T>, GeometryError> {
        if self.empty() { Ok(None) } else { read(self).map(Some) }
    }

    fn multi_point_member(
        &mut self,
        dimensions: &mut Dimensions,
    ) -> Result<Option<Point<f64>>, GeometryError> {
        if self.empty() {
            return Ok(None);
        }
        if self.peek() == Some(b'(') {
            return self.parenthesised_point(dimensions).map(Some);
        }
        self.coordinate(dimensions).map(|at| Some(Point(at)))
    }

    fn parenthesised_point(&mut self, dimensions: &mut Dimensions) -> Result<Point<f64>, GeometryError> {
        self.token(b'(', "'(' or EMPTY")?;
        let at = self.coordinate(dimensions)?;
        self.token(b')', "')'")?;
        Ok(Point(at))
    }

    fn line(&mut self, dimensions: &mut Dimensions) -> Result<LineString<f64>, GeometryError> {
        let (start, points) = self.coordinates(dimensions)?;
        if points.len() < 2 {
            return Err(GeometryError::new(start, "line of one point, expected at least 2"));
        }
        Ok(LineString::new(points))
    }

    /// `None` if the shell is empty.
    fn polygon(&mut self, dimensions: &mut Dimensions) -> Result<Option<Polygon<f64>>, GeometryError> {
        self.skip_space();
        let start = self.at;
        let mut shell_is_empty = false;
        let mut first = true;
        let mut rings = self
            .parts(false, |reader| {
                let ring = reader.unless_empty(|reader| reader.ring(dimensions))?;
                shell_is_empty |= first && ring.is_none();
                first = false;
                Ok(ring)
            })?
            .into_iter();
        if shell_is_empty {
            return match rings.next() {
                Some(_) => Err(GeometryError::new(start, "hole in a polygon without a shell")),
                None => Ok(None),
            };
        }
        Ok(rings.next().map(|shell| Polygon::new(shell, rings.collect())))
    }

    fn ring(&mut self, dimensions: &mut Dimensions) -> Result<LineString<f64>, GeometryError> {
        let (start, points) = self.coordinates(dimensions)?;
        check_ring(start, &points)?;
        Ok(LineString::new(points))
    }

    fn coordinates(
        &mut self,
        dimensions: &mut Dimensions,
    ) -> Result<(usize, Vec<Coord<f64>>), GeometryError> {
        self.skip_space();
        let start = self.at;
        let points = self.parts(false, |reader| reader.coordinate(dimensions).map(Some))?;
        Ok((start, points))
    }

    fn coordinate(&mut self, dimensions: &mut Dimensions) -> Result<Coord<f64>, GeometryError> {
        let (x, y) = (self.number()?, self.number()?);
        let mut count = 2;
        while count < dimensions.0.unwrap_or(4) {
            let more = self.peek().is_some_and(|byte| !matches!(byte, b',' | b')'));
            if dimensions.0.is_none() && !more {
                break;
            }
            self.number()?;
            count += 1;
        }
        dimensions.0 = Some(count);
        Ok(Coord { x, y })
    }

    fn number(&mut self) -> Result<f64, GeometryError> {
        self.skip_space();
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
            .count();
        let next = rest.as_bytes().get(length);
        let ends = next.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b'(' | b')'));
        match rest[..length].parse::<f64>() {
            Ok(value) if ends && value.abs() <= MAX_COORDINATE => {
                self.at += length;
                Ok(value)
            }
            Ok(_) if ends => Err(self.expected("a finite number up to 1e100")),
            _ => Err(self.expected("a number")),
        }
    }

    /// The Z, M or ZM that may stand apart from the type.
    fn tag(&mut self) -> Option<usize> {
        self.skip_space();
        let start = self.at;
        let ordinates = match self.word().to_ascii_uppercase().as_str() {
            "Z" | "M" => Some(3),
            "ZM" => Some(4),
            _ => None,
        };
        if ordinates.is_none() {
            self.at = start;
        }
        ordinates
    }

    /// Takes the word EMPTY if it comes next.
    fn empty(&mut self) -> bool {
        self.skip_space();
        let start = self.at;
        let found = self.word().eq_ignore_ascii_case("EMPTY");
        if !found {
            self.at = start;
        }
        found
    }

    fn comma_or_close(&mut self) -> Result<bool, GeometryError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => self.token(b')', "',' or ')'").map(|()| false),
        }
    }

    fn token(&mut self, token: u8, expected: &str) -> Result<(), GeometryError> {
        if self.peek() != Some(token) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// A run of letters, at most as long as matters.
    fn word(&mut self) -> &str {
        let text = self.text;
        let length = text[self.at..].bytes().take(32).take_while(u8::is_ascii_alphabetic).count();
        let word = &text[self.at..self.at + length];
        self.at += length;
        word
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.rest().bytes().next()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().bytes().take_while(u8::is_ascii_whitespace).count();
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> GeometryError {
        let is_end = |byte: char| byte.is_ascii_whitespace() || matches!(byte, ',' | '(' | ')');
        let rest = self.rest();
        let found = match rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some(first) if is_end(first) => format!("{:?}", first.to_string()),
            Some(_) => {
                let token: String = rest.chars().take(20).take_while(|byte| !is_end(*byte)).collect();
                format!("{token:?}")
            }
        };
        GeometryError::new(self.at, format!("found {found}, expected {what}"))
    }
}

/// `POINTZM` as `POINT` and 4 ordinates.
fn split_tag(word: &str) -> (&str, Option<usize>) {
    const TYPES: [&str; 7] = [
        "POINT",
        "LINESTRING",
        "POLYGON",
        "MULTIPOINT",
        "MULTILINESTRING",
        "MULTIPOLYGON",
        "GEOMETRYCOLLECTION",
    ];
    for (suffix, ordinates) in [("ZM", 4), ("Z", 3), ("M", 3)] {
        if let Some(name) = word.strip_suffix(suffix).filter(|name| TYPES.contains(name)) {
            return (name, Some(ordinates));
        }
    }
    (word, None)
}

/// Checks that a ring which starts at byte `start` is closed and long enough.
pub(super) fn check_ring(start: usize, points: &[Coord<f64>]) -> Result<(), GeometryError> {
    if points.len() < 4 {
        return Err(GeometryError::new(
            start,
            format!("ring of {} points, expected at least 4", points.len()),
        ));
    }
    if points.first() != points.last() {
        return Err(GeometryError::new(
            start,
            "ring that is not closed, expected its last point to be its first",
        ));
    }
    Ok(())
}

/// The geometry, unless it has no coordinates.
pub(super) fn not_empty(geometry: Geometry<f64>) -> Option<Geometry<f64>> {
    let empty = match &geometry {
        Geometry::LineString(line) => line.0.is_empty(),
        Geometry::Polygon(polygon) => polygon.exterior().0.is_empty(),
        Geometry::MultiPoint(points) => points.0.is_empty(),
        Geometry::MultiLineString(lines) => lines.0.is_empty(),
        Geometry::MultiPolygon(polygons) => polygons.0.is_empty(),
        Geometry::GeometryCollection(parts) => parts.0.is_empty(),
        _ => false,
    };
    (!empty).then_some(geometry)
}

/// Writes a geometry so that reading it again gives the same numbers.
pub(crate) fn to_wkt(geometry: &Geometry<f64>) -> String {
    let mut text = String::new();
    write_geometry(&mut text, geometry);
    text
}

fn write_geometry(text: &mut String, geometry: &Geometry<f64>) {
    match geometry {
        Geometry::Point(point) => write_list(text, "POINT", &[point.0], write_coordinate),
        Geometry::Line(line) => write_list(text, "LINESTRING", &[line.start, line.end], write_coordinate),
        Geometry::LineString(line) => write_list(text, "LINESTRING", &line.0, write_coordinate),
        Geometry::Polygon(polygon) => write_list(text, "POLYGON", &rings(polygon), write_ring),
        Geometry::MultiPoint(points) => write_list(text, "MULTIPOINT", &points.0, |text, point| {
            write_list(text, "", &[point.0], write_coordinate);
        }),
        Geometry::MultiLineString(lines) => write_list(text, "MULTILINESTRING", &lines.0, |text, line| {
            write_list(text, "", &line.0, write_coordinate);
        }),
        Geometry::MultiPolygon(polygons) => write_list(text, "MULTIPOLYGON", &polygons.0, |text, polygon| {
            write_list(text, "", &rings(polygon), write_ring);
        }),
        Geometry::GeometryCollection(parts) => {
            write_list(text, "GEOMETRYCOLLECTION", &parts.0, write_geometry);
        }
        Geometry::Rect(rect) => write_list(text, "POLYGON", &rings(&rect.to_polygon()), write_ring),
        Geometry::Triangle(triangle) => {
            write_list(text, "POLYGON", &rings(&triangle.to_polygon()), write_ring)
        }
    }
}

fn write_list<T>(text: &mut String, name: &str, items: &[T], mut write_item: impl FnMut(&mut String, &T)) {
    text.push_str(name);
    if items.is_empty() {
        text.push_str(if name.is_empty() { "EMPTY" } else { " EMPTY" });
        return;
    }
    for (index, item) in items.iter().enumerate() {
        text.push_str(if index == 0 { "(" } else { ", " });
        write_item(text, item);
    }
    text.push(')');
}

fn write_coordinate(text: &mut String, at: &Coord<f64>) {
    // Writing to a `String` cannot fail.
    let _ = write!(text, "{} {}", at.x, at.y);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "called through a slice of references")]
fn write_ring(text: &mut String, ring: &&LineString<f64>) {
    write_list(text, "", &ring.0, write_coordinate);
}

/// The shell and the holes; nothing if the polygon is empty.
pub(super) fn rings(polygon: &Polygon<f64>) -> Vec<&LineString<f64>> {
    if polygon.exterior().0.is_empty() {
        return vec![];
    }
    std::iter::once(polygon.exterior()).chain(polygon.interiors()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_text_reads_and_writes() {
        let cases = [
            ("POINT(1 2)", "POINT(1 2)"),
            (" point ( -1.5e1  +2. ) ", "POINT(-15 2)"),
            ("POINT Z (1 2 3)", "POINT(1 2)"),
            ("PointZM(1 2 3 4)", "POINT(1 2)"),
            ("POINT M(1 2 3)", "POINT(1 2)"),
            ("POINT(1 2 3 4)", "POINT(1 2)"),
            ("SRID=4326;POINT(1 2)", "POINT(1 2)"),
            ("POINT EMPTY", "MULTIPOINT EMPTY"),
            ("LINESTRING(0 0,1 1)", "LINESTRING(0 0, 1 1)"),
            ("LINESTRING ZM EMPTY", "LINESTRING EMPTY"),
            ("POLYGON EMPTY", "POLYGON EMPTY"),
            (
                "POLYGON((0 0,4 0,4 4,0 0),(1 0.5,2 0.5,2 1,1 0.5))",
                "POLYGON((0 0, 4 0, 4 4, 0 0), (1 0.5, 2 0.5, 2 1, 1 0.5))",
            ),
            ("MULTIPOINT(1 2,(3 4),EMPTY)", "MULTIPOINT((1 2), (3 4))"),
            ("MULTILINESTRING((0 0,1 1),EMPTY)", "MULTILINESTRING((0 0, 1 1))"),
            ("MULTIPOLYGON(((0 0,1 0,1 1,0 0)),EMPTY)", "MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)))"),
            (
                "GEOMETRYCOLLECTION(POINT Z(1 2 3),GEOMETRYCOLLECTION EMPTY,LINESTRING(0 0,1 1))",
                "GEOMETRYCOLLECTION(POINT(1 2), LINESTRING(0 0, 1 1))",
            ),
        ];
        for (text, written) in cases {
            let geometry = parse_wkt(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(to_wkt(&geometry), written);
            assert_eq!(parse_wkt(written).unwrap(), geometry);
        }
    }

    #[test]
    fn rejected_text_tells_position_and_expectation() {
        let cases = [
            ("", 0, "the end of the text"),
            ("POINT", 5, "'(' or EMPTY"),
            ("POINT(1)", 7, "a number"),
            ("POINT(1 2", 9, "')'"),
            ("POINT(1 2)garbage", 10, "the end of the geometry"),
            ("POINT(1 2)\0", 10, "the end of the geometry"),
            ("POINT(1,2)", 7, "a number"),
            ("POINT(nan 2)", 6, "a number"),
            ("POINT(inf 2)", 6, "a number"),
            ("POINT(1e400 2)", 6, "finite"),
            ("POINT(1 -1e101)", 8, "finite"),
            ("POINT(1\u{a0}2)", 6, "a number"),
            ("POINT(1 2 3 4 5)", 14, "')'"),
            ("POINT Z(1 2)", 11, "a number"),
            ("CIRCLE(1 2)", 0, "POINT, LINESTRING"),
            ("LINESTRING(1 2)", 10, "at least 2"),
            ("LINESTRING(1 2,1 2 3)", 19, "',' or ')'"),
            ("POLYGON((0 0,1 0,1 1,0 1))", 8, "not closed"),
            ("POLYGON((0 0,1 0,0 0))", 8, "at least 4"),
            ("POLYGON(EMPTY,(0 0,1 0,1 1,0 0))", 7, "without a shell"),
            ("SRID=;POINT(1 2)", 5, "SRID"),
            ("POINT(1 2))", 10, "the end of the geometry"),
            ("POINT(1 2é)", 8, "a number"),
        ];
        for (text, offset, reason) in cases {
            let error = parse_wkt(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_on_a_small_stack() {
        let run = || {
            let bomb = "GEOMETRYCOLLECTION(".repeat(100_000);
            assert!(parse_wkt(&bomb).unwrap_err().reason.contains("nested"));
            let nested = |depth: usize| {
                format!("{}POINT(1 2){}", "GEOMETRYCOLLECTION(".repeat(depth), ")".repeat(depth))
            };
            assert!(parse_wkt(&nested(MAX_DEPTH)).is_ok());
            assert!(parse_wkt(&nested(MAX_DEPTH + 1)).is_err());
            assert!(parse_wkt(&"POLYGON((".repeat(100_000)).is_err());
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn every_prefix_is_an_error_or_a_geometry() {
        let text =
            "GEOMETRYCOLLECTION(MULTIPOLYGON ZM(((0 0 1 1,1 0 1 1,1 1 1 1,0 0 1 1))),MULTIPOINT(1 2,EMPTY))";
        for end in 0..text.len() {
            assert!(parse_wkt(&text[..end]).is_err());
        }
        assert!(parse_wkt(text).is_ok());
    }
}
