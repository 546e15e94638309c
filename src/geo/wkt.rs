//! WKT (well-known text): a reader that is safe on hostile input, and a writer.

use std::fmt::Write as _;

use geo::{Coord, Geometry, LineString, Polygon};

use crate::geo::decimal::{parse_decimal, parse_plain};
use crate::geo::geometry_error::GeometryError;
use crate::geo::sink::{Build, Measure, Outline, Parts, PathEnds, Sink};
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
    read(text, &mut Build)
}

/// What [`parse_wkt`] would read, without building it and without allocation.
///
/// # Errors
/// As [`parse_wkt`].
pub(crate) fn wkt_outline(text: &str) -> Result<Outline, GeometryError> {
    let mut measure = Measure::new();
    read(text, &mut measure)?;
    Ok(measure.finish())
}

fn read<S: Sink>(text: &str, sink: &mut S) -> Result<S::Geometry, GeometryError> {
    let mut reader = Reader { text, at: 0, sink };
    reader.skip_srid()?;
    let geometry = reader.geometry(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.expected("the end of the geometry"));
    }
    Ok(geometry)
}

struct Reader<'a, S> {
    text: &'a str,
    at: usize,
    sink: &'a mut S,
}

/// Ordinates per coordinate: known from a tag, or from the first coordinate.
#[derive(Clone, Copy)]
struct Dimensions(Option<usize>);

/// The types of geometry, in the order of their names in [`TYPES`].
#[derive(Clone, Copy)]
enum Type {
    Point,
    Line,
    Polygon,
    MultiPoint,
    MultiLine,
    MultiPolygon,
    Collection,
}

const TYPES: [(&str, Type); 7] = [
    ("POINT", Type::Point),
    ("LINESTRING", Type::Line),
    ("POLYGON", Type::Polygon),
    ("MULTIPOINT", Type::MultiPoint),
    ("MULTILINESTRING", Type::MultiLine),
    ("MULTIPOLYGON", Type::MultiPolygon),
    ("GEOMETRYCOLLECTION", Type::Collection),
];

impl<'a, S: Sink> Reader<'a, S> {
    fn geometry(&mut self, depth: usize) -> Result<S::Geometry, GeometryError> {
        self.skip_space();
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a geometry type"));
        }
        let found = split_tag(word);
        // A tag that is not one is found to be wrong after the type.
        let ordinates = match found {
            Some((_, Some(ordinates))) => Some(ordinates),
            _ => self.tag(),
        };
        let Some((kind, _)) = found else {
            self.at = start;
            return Err(self.expected(
                "POINT, LINESTRING, POLYGON, MULTIPOINT, MULTILINESTRING, MULTIPOLYGON or GEOMETRYCOLLECTION",
            ));
        };
        let mut dimensions = Dimensions(ordinates);
        let empty = self.empty();
        let parts = match kind {
            Type::Point if empty => Parts::Point(None),
            Type::Point => Parts::Point(Some(self.parenthesised_point(&mut dimensions)?)),
            Type::Line if empty => Parts::Line(self.sink.path(0)),
            Type::Line => Parts::Line(self.line(&mut dimensions)?),
            Type::Polygon if empty => Parts::Polygon(self.sink.polygon(None, vec![])),
            Type::Polygon => Parts::Polygon(match self.polygon(&mut dimensions)? {
                Some(polygon) => polygon,
                None => self.sink.polygon(None, vec![]),
            }),
            Type::MultiPoint => {
                let mut path = self.sink.path(0);
                self.parts(empty, |reader| {
                    if let Some(at) = reader.multi_point_member(&mut dimensions)? {
                        reader.sink.push(&mut path, at);
                    }
                    Ok(None::<()>)
                })?;
                Parts::MultiPoint(path)
            }
            Type::MultiLine => Parts::MultiLine(
                self.parts(empty, |reader| reader.unless_empty(|reader| reader.line(&mut dimensions)))?,
            ),
            Type::MultiPolygon => Parts::MultiPolygon(self.parts(empty, |reader| {
                Ok(reader.unless_empty(|reader| reader.polygon(&mut dimensions))?.flatten())
            })?),
            Type::Collection if depth >= MAX_DEPTH => {
                return Err(GeometryError::new(start, format!("more than {MAX_DEPTH} nested collections")));
            }
            Type::Collection => Parts::Collection(self.parts(empty, |reader| {
                Ok(Some(reader.geometry(depth + 1)?).filter(|part| !S::is_empty(part)))
            })?),
        };
        Ok(self.sink.geometry(parts))
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
    ) -> Result<Option<Coord<f64>>, GeometryError> {
        if self.empty() {
            return Ok(None);
        }
        if self.peek() == Some(b'(') {
            return self.parenthesised_point(dimensions).map(Some);
        }
        self.coordinate(dimensions).map(Some)
    }

    fn parenthesised_point(&mut self, dimensions: &mut Dimensions) -> Result<Coord<f64>, GeometryError> {
        self.token(b'(', "'(' or EMPTY")?;
        let at = self.coordinate(dimensions)?;
        self.token(b')', "')'")?;
        Ok(at)
    }

    fn line(&mut self, dimensions: &mut Dimensions) -> Result<S::Path, GeometryError> {
        let (start, path, ends) = self.coordinates(dimensions)?;
        ends.check_line(start)?;
        Ok(path)
    }

    /// `None` if the shell is empty.
    fn polygon(&mut self, dimensions: &mut Dimensions) -> Result<Option<S::Polygon>, GeometryError> {
        self.skip_space();
        let start = self.at;
        let mut shell_is_empty = false;
        let mut shell = None;
        let holes = self.parts(false, |reader| {
            let is_shell = shell.is_none() && !shell_is_empty;
            match reader.unless_empty(|reader| reader.ring(dimensions))? {
                Some(ring) if is_shell => shell = Some(ring),
                ring => {
                    shell_is_empty |= is_shell;
                    return Ok(ring);
                }
            }
            Ok(None)
        })?;
        if shell_is_empty && !holes.is_empty() {
            return Err(GeometryError::new(start, "hole in a polygon without a shell"));
        }
        Ok(shell.map(|shell| self.sink.polygon(Some(shell), holes)))
    }

    fn ring(&mut self, dimensions: &mut Dimensions) -> Result<S::Path, GeometryError> {
        let (start, path, ends) = self.coordinates(dimensions)?;
        ends.check_ring(start)?;
        Ok(path)
    }

    fn coordinates(
        &mut self,
        dimensions: &mut Dimensions,
    ) -> Result<(usize, S::Path, PathEnds), GeometryError> {
        self.skip_space();
        let start = self.at;
        let mut path = self.sink.path(0);
        let mut ends = PathEnds::default();
        self.parts(false, |reader| {
            let at = reader.coordinate(dimensions)?;
            ends.see(at);
            reader.sink.push(&mut path, at);
            Ok(None::<()>)
        })?;
        Ok((start, path, ends))
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

    #[inline]
    fn number(&mut self) -> Result<f64, GeometryError> {
        self.skip_space();
        if let Some((value, length)) = parse_plain(&self.text.as_bytes()[self.at..])
            && self.text.as_bytes().get(self.at + length).is_none_or(|byte| ends_number(*byte))
        {
            self.at += length;
            return Ok(value);
        }
        self.any_number()
    }

    #[inline(never)]
    fn any_number(&mut self) -> Result<f64, GeometryError> {
        let (value, length) = parse_decimal(&self.text.as_bytes()[self.at..]);
        let ends = self.text.as_bytes().get(self.at + length).is_none_or(|byte| ends_number(*byte));
        match value {
            Some(value) if ends && value.abs() <= MAX_COORDINATE => {
                self.at += length;
                Ok(value)
            }
            Some(_) if ends => Err(self.expected("a finite number up to 1e100")),
            _ => Err(self.expected("a number")),
        }
    }

    /// The Z, M or ZM that may stand apart from the type.
    fn tag(&mut self) -> Option<usize> {
        self.skip_space();
        let start = self.at;
        let ordinates = match self.word().as_bytes() {
            [b'Z' | b'z' | b'M' | b'm'] => Some(3),
            [b'Z' | b'z', b'M' | b'm'] => Some(4),
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
    fn word(&mut self) -> &'a str {
        let text = self.text;
        let length =
            text.as_bytes()[self.at..].iter().take(32).take_while(|b| b.is_ascii_alphabetic()).count();
        let word = &text[self.at..self.at + length];
        self.at += length;
        word
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a str {
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

/// Whether a number may end before this byte.
fn ends_number(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b'(' | b')')
}

/// `POINTZM` as a point of 4 ordinates; `None` if it is no type. Letters may be of either case.
fn split_tag(word: &str) -> Option<(Type, Option<usize>)> {
    let (name, kind) = TYPES
        .iter()
        .rev()
        .find(|(name, _)| word.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
    match word.as_bytes()[name.len()..] {
        [] => Some((*kind, None)),
        [b'Z' | b'z' | b'M' | b'm'] => Some((*kind, Some(3))),
        [b'Z' | b'z', b'M' | b'm'] => Some((*kind, Some(4))),
        _ => None,
    }
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
