//! WKB (well-known binary): a reader that is safe on hostile input, and a writer.

use geo::{Coord, Geometry, Polygon};

use crate::geo::geometry_error::GeometryError;
use crate::geo::sink::{Build, Measure, Outline, Parts, PathEnds, Sink};
use crate::geo::wkt::rings;
use crate::geo::{MAX_COORDINATE, MAX_DEPTH};

const POINT: u32 = 1;
const LINE: u32 = 2;
const POLYGON: u32 = 3;
const MULTI_POINT: u32 = 4;
const MULTI_LINE: u32 = 5;
const MULTI_POLYGON: u32 = 6;
const COLLECTION: u32 = 7;

/// EWKB flags in the type.
const EWKB_Z: u32 = 0x8000_0000;
const EWKB_M: u32 = 0x4000_0000;
const EWKB_SRID: u32 = 0x2000_0000;

/// Byte order, type and a count: the least that a part of a collection takes.
const LEAST_PART: usize = 9;

/// Reads one geometry: ISO WKB or EWKB, each part in its own byte order.
///
/// Z, M and the SRID are dropped. A point of NaN is empty, and becomes a multipoint without points; empty parts
/// of collections are dropped. Rings must be closed and have at least four points. Allocates no more than a
/// small multiple of the input.
///
/// # Errors
/// [`GeometryError`] with the byte of the fault, what was found and what was expected.
/// # Source
/// OGC 06-103r4, section 8 (<https://www.ogc.org/standard/sfa/>).
pub(crate) fn parse_wkb(bytes: &[u8]) -> Result<Geometry<f64>, GeometryError> {
    read(bytes, &mut Build)
}

/// What [`parse_wkb`] would read, without building it and without allocation.
///
/// # Errors
/// As [`parse_wkb`].
pub(crate) fn wkb_outline(bytes: &[u8]) -> Result<Outline, GeometryError> {
    if let Some((x, y)) = wkb_point(bytes) {
        return Ok(Outline::Point(x, y));
    }
    let mut measure = Measure::new();
    read(bytes, &mut measure)?;
    Ok(measure.finish())
}

fn read<S: Sink>(bytes: &[u8], sink: &mut S) -> Result<S::Geometry, GeometryError> {
    let mut reader = Reader { bytes, at: 0, sink };
    let geometry = reader.geometry(0)?;
    match bytes.len() - reader.at {
        0 => Ok(geometry),
        rest => Err(GeometryError::new(reader.at, format!("{rest} bytes after the end of the geometry"))),
    }
}

/// The coordinates of a point without Z, M or SRID, where they are finite and in range; `None` sends the caller
/// to [`parse_wkb`].
pub(crate) fn wkb_point(bytes: &[u8]) -> Option<(f64, f64)> {
    let bytes: &[u8; 21] = bytes.try_into().ok()?;
    let [order, t0, t1, t2, t3, ordinates @ ..] = bytes;
    let (x, y) = ordinates.split_at(8);
    let (x, y): ([u8; 8], [u8; 8]) = (x.try_into().ok()?, y.try_into().ok()?);
    let (x, y) = match (order, [*t0, *t1, *t2, *t3]) {
        (1, [1, 0, 0, 0]) => (f64::from_le_bytes(x), f64::from_le_bytes(y)),
        (0, [0, 0, 0, 1]) => (f64::from_be_bytes(x), f64::from_be_bytes(y)),
        _ => return None,
    };
    (x.abs() <= MAX_COORDINATE && y.abs() <= MAX_COORDINATE).then_some((x, y))
}

/// Bytes of a point without Z, M or SRID behind its length, as Parquet stores binary.
pub(crate) const STORED_POINT: usize = 25;

/// The coordinates of `stored` points; `None` if one of them is none, or not what [`wkb_point`] reads.
pub(crate) fn stored_points(stored: &[[u8; STORED_POINT]]) -> Option<(Vec<f64>, Vec<f64>)> {
    const LITTLE_ENDIAN: [u8; 9] = [21, 0, 0, 0, 1, 1, 0, 0, 0];

    let (mut x, mut y) = (vec![0.0; stored.len()], vec![0.0; stored.len()]);
    // Without a branch, since all are alike in most files.
    let mut are_plain = true;
    for ((point, x), y) in stored.iter().zip(&mut x).zip(&mut y) {
        let ordinate = |at: usize| f64::from_le_bytes(std::array::from_fn(|byte| point[at + byte]));
        (*x, *y) = (ordinate(9), ordinate(17));
        are_plain &= point.first_chunk() == Some(&LITTLE_ENDIAN);
        are_plain &= (x.abs() <= MAX_COORDINATE) & (y.abs() <= MAX_COORDINATE);
    }
    if are_plain {
        return Some((x, y));
    }
    let point = |stored: &[u8; STORED_POINT]| match stored {
        [21, 0, 0, 0, point @ ..] => wkb_point(point),
        _ => None,
    };
    let points: Option<Vec<(f64, f64)>> = stored.iter().map(point).collect();
    Some(points?.into_iter().unzip())
}

/// The type number (1 to 7) of a geometry, and whether it has Z and M, from its first bytes.
pub(crate) fn wkb_type(bytes: &[u8]) -> Option<(u32, bool, bool)> {
    let [order, code @ ..] = bytes.first_chunk::<5>()?;
    split_code(if *order == 0 { u32::from_be_bytes(*code) } else { u32::from_le_bytes(*code) })
}

/// The type number in a type code of ISO WKB or EWKB, and whether it says that there are Z and M.
fn split_code(code: u32) -> Option<(u32, bool, bool)> {
    let iso = code & !(EWKB_Z | EWKB_M | EWKB_SRID);
    let (iso_z, iso_m) = match iso / 1000 {
        0 => (false, false),
        1 => (true, false),
        2 => (false, true),
        3 => (true, true),
        _ => return None,
    };
    Some((iso % 1000, iso_z || code & EWKB_Z != 0, iso_m || code & EWKB_M != 0))
}

struct Reader<'a, S> {
    bytes: &'a [u8],
    at: usize,
    sink: &'a mut S,
}

/// How the numbers of one part are stored.
#[derive(Clone, Copy)]
struct Layout {
    little_endian: bool,
    ordinates: usize,
}

impl<S: Sink> Reader<'_, S> {
    fn geometry(&mut self, depth: usize) -> Result<S::Geometry, GeometryError> {
        let start = self.at;
        let (kind, layout) = self.header()?;
        let parts = match kind {
            POINT => Parts::Point(self.coordinate(layout, true)?),
            LINE => Parts::Line(self.line(start, layout)?.0),
            POLYGON => Parts::Polygon(self.polygon(layout)?.0),
            MULTI_POINT => {
                let mut path = self.sink.path(0);
                self.parts(layout, POINT, |reader, _, layout| {
                    if let Some(at) = reader.coordinate(layout, true)? {
                        reader.sink.push(&mut path, at);
                    }
                    Ok(None::<()>)
                })?;
                Parts::MultiPoint(path)
            }
            MULTI_LINE => Parts::MultiLine(self.parts(layout, LINE, |reader, start, layout| {
                let (line, ends) = reader.line(start, layout)?;
                Ok((!ends.is_empty()).then_some(line))
            })?),
            MULTI_POLYGON => Parts::MultiPolygon(self.parts(layout, POLYGON, |reader, _, layout| {
                let (polygon, is_empty) = reader.polygon(layout)?;
                Ok((!is_empty).then_some(polygon))
            })?),
            COLLECTION if depth >= MAX_DEPTH => {
                return Err(GeometryError::new(start, format!("more than {MAX_DEPTH} nested collections")));
            }
            COLLECTION => {
                let count = self.count(layout, LEAST_PART)?;
                let mut parts = vec![];
                for _ in 0..count {
                    parts.extend(Some(self.geometry(depth + 1)?).filter(|part| !S::is_empty(part)));
                }
                Parts::Collection(parts)
            }
            other => {
                let reason = format!("geometry type {other}, expected 1 (point) to 7 (collection)");
                return Err(GeometryError::new(start, reason));
            }
        };
        Ok(self.sink.geometry(parts))
    }

    fn header(&mut self) -> Result<(u32, Layout), GeometryError> {
        let start = self.at;
        let [order] = self.take::<1>()?;
        if order > 1 {
            return Err(GeometryError::new(start, format!("byte order {order}, expected 0 or 1")));
        }
        let little_endian = order == 1;
        let code = self.u32(little_endian)?;
        if code & EWKB_SRID != 0 {
            self.u32(little_endian)?;
        }
        let Some((kind, has_z, has_m)) = split_code(code) else {
            let iso = code & !(EWKB_Z | EWKB_M | EWKB_SRID);
            return Err(GeometryError::new(start, format!("geometry type {iso}, expected at most 3007")));
        };
        let ordinates = 2 + usize::from(has_z) + usize::from(has_m);
        Ok((kind, Layout { little_endian, ordinates }))
    }

    /// The parts of a multi-geometry that `part` keeps, each of type `kind`. It gets where a part starts.
    fn parts<T>(
        &mut self,
        layout: Layout,
        kind: u32,
        mut part: impl FnMut(&mut Self, usize, Layout) -> Result<Option<T>, GeometryError>,
    ) -> Result<Vec<T>, GeometryError> {
        let count = self.count(layout, LEAST_PART)?;
        let mut parts = vec![];
        for _ in 0..count {
            let start = self.at;
            let (found, layout) = self.header()?;
            if found != kind {
                let reason = format!("part of type {found}, expected type {kind}");
                return Err(GeometryError::new(start, reason));
            }
            parts.extend(part(self, start, layout)?);
        }
        Ok(parts)
    }

    /// A line whose header starts at `start`; it may be empty.
    fn line(&mut self, start: usize, layout: Layout) -> Result<(S::Path, PathEnds), GeometryError> {
        let (path, ends) = self.coordinates(layout)?;
        ends.check_line(start)?;
        Ok((path, ends))
    }

    /// A polygon, and whether it is empty.
    fn polygon(&mut self, layout: Layout) -> Result<(S::Polygon, bool), GeometryError> {
        let start = self.at;
        let count = self.count(layout, 4)?;
        let mut shell = None;
        let mut holes = vec![];
        for index in 0..count {
            let ring_start = self.at;
            let (path, ends) = self.coordinates(layout)?;
            if ends.is_empty() {
                continue;
            }
            ends.check_ring(ring_start)?;
            if index == 0 {
                shell = Some(path);
            } else {
                holes.push(path);
            }
        }
        let is_empty = shell.is_none();
        if is_empty && !holes.is_empty() {
            return Err(GeometryError::new(start, "hole in a polygon without a shell"));
        }
        Ok((self.sink.polygon(shell, holes), is_empty))
    }

    fn coordinates(&mut self, layout: Layout) -> Result<(S::Path, PathEnds), GeometryError> {
        let count = self.count(layout, 8 * layout.ordinates)?;
        let mut path = self.sink.path(count);
        let mut ends = PathEnds::default();
        for _ in 0..count {
            // Told from errors here, because a result with an error in it is passed through memory.
            let at = match self.plain_coordinate(layout) {
                Some(at) => at,
                None => match self.coordinate(layout, false)? {
                    Some(at) => at,
                    None => continue,
                },
            };
            ends.see(at);
            self.sink.push(&mut path, at);
        }
        Ok((path, ends))
    }

    /// The next coordinate where it is complete and in range.
    #[inline]
    fn plain_coordinate(&mut self, layout: Layout) -> Option<Coord<f64>> {
        let size = 8 * layout.ordinates;
        let ordinates = self.bytes.get(self.at..self.at + size)?.first_chunk::<16>()?;
        let (x, y) = ordinates.split_at(8);
        let (x, y): ([u8; 8], [u8; 8]) = (x.try_into().ok()?, y.try_into().ok()?);
        let (x, y) = if layout.little_endian {
            (f64::from_le_bytes(x), f64::from_le_bytes(y))
        } else {
            (f64::from_be_bytes(x), f64::from_be_bytes(y))
        };
        if !(x.abs() <= MAX_COORDINATE && y.abs() <= MAX_COORDINATE) {
            return None;
        }
        self.at += size;
        Some(Coord { x, y })
    }

    /// `None` for NaN where `may_be_empty`.
    fn coordinate(
        &mut self,
        layout: Layout,
        may_be_empty: bool,
    ) -> Result<Option<Coord<f64>>, GeometryError> {
        let start = self.at;
        let (x, y) = (self.f64(layout)?, self.f64(layout)?);
        for _ in 2..layout.ordinates {
            self.f64(layout)?;
        }
        if may_be_empty && x.is_nan() && y.is_nan() {
            return Ok(None);
        }
        if x.abs() <= MAX_COORDINATE && y.abs() <= MAX_COORDINATE {
            return Ok(Some(Coord { x, y }));
        }
        Err(GeometryError::new(start, format!("found {x} {y}, expected finite numbers up to 1e100")))
    }

    /// A count of items of at least `item_size` bytes each.
    fn count(&mut self, layout: Layout, item_size: usize) -> Result<usize, GeometryError> {
        let start = self.at;
        let count = self.u32(layout.little_endian)?;
        let rest = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= rest / item_size => Ok(count),
            _ => Err(GeometryError::new(start, format!("count {count}, but only {rest} bytes follow"))),
        }
    }

    fn u32(&mut self, little_endian: bool) -> Result<u32, GeometryError> {
        let bytes = self.take::<4>()?;
        Ok(if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn f64(&mut self, layout: Layout) -> Result<f64, GeometryError> {
        let bytes = self.take::<8>()?;
        Ok(if layout.little_endian { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GeometryError> {
        let Some(bytes) = self.bytes[self.at..].first_chunk::<N>() else {
            let reason = format!("found the end of the bytes, expected {N} more");
            return Err(GeometryError::new(self.at, reason));
        };
        self.at += N;
        Ok(*bytes)
    }
}

/// Writes a geometry as ISO WKB, little-endian.
///
/// # Errors
/// [`GeometryError`] if a part has more than 2^32 - 1 items.
pub(crate) fn to_wkb(geometry: &Geometry<f64>) -> Result<Vec<u8>, GeometryError> {
    let mut bytes = vec![];
    write_geometry(&mut bytes, geometry)?;
    Ok(bytes)
}

/// Appends a point as ISO WKB, little-endian.
pub(crate) fn write_point(bytes: &mut Vec<u8>, at: Coord<f64>) {
    write_header(bytes, POINT);
    write_coordinate(bytes, at);
}

fn write_geometry(bytes: &mut Vec<u8>, geometry: &Geometry<f64>) -> Result<(), GeometryError> {
    match geometry {
        Geometry::Point(point) => write_point(bytes, point.0),
        Geometry::Line(line) => write_line(bytes, &[line.start, line.end])?,
        Geometry::LineString(line) => write_line(bytes, &line.0)?,
        Geometry::Polygon(polygon) => write_polygon(bytes, polygon)?,
        Geometry::Rect(rect) => write_polygon(bytes, &rect.to_polygon())?,
        Geometry::Triangle(triangle) => write_polygon(bytes, &triangle.to_polygon())?,
        Geometry::MultiPoint(points) => {
            write_start(bytes, MULTI_POINT, points.0.len())?;
            points.iter().for_each(|point| write_point(bytes, point.0));
        }
        Geometry::MultiLineString(lines) => {
            write_start(bytes, MULTI_LINE, lines.0.len())?;
            lines.iter().try_for_each(|line| write_line(bytes, &line.0))?;
        }
        Geometry::MultiPolygon(polygons) => {
            write_start(bytes, MULTI_POLYGON, polygons.0.len())?;
            polygons.iter().try_for_each(|polygon| write_polygon(bytes, polygon))?;
        }
        Geometry::GeometryCollection(parts) => {
            write_start(bytes, COLLECTION, parts.0.len())?;
            parts.iter().try_for_each(|part| write_geometry(bytes, part))?;
        }
    }
    Ok(())
}

fn write_polygon(bytes: &mut Vec<u8>, polygon: &Polygon<f64>) -> Result<(), GeometryError> {
    let rings = rings(polygon);
    write_start(bytes, POLYGON, rings.len())?;
    for ring in rings {
        write_count(bytes, ring.0.len())?;
        ring.coords().for_each(|at| write_coordinate(bytes, *at));
    }
    Ok(())
}

fn write_line(bytes: &mut Vec<u8>, points: &[Coord<f64>]) -> Result<(), GeometryError> {
    write_start(bytes, LINE, points.len())?;
    points.iter().for_each(|at| write_coordinate(bytes, *at));
    Ok(())
}

fn write_start(bytes: &mut Vec<u8>, kind: u32, count: usize) -> Result<(), GeometryError> {
    write_header(bytes, kind);
    write_count(bytes, count)
}

fn write_header(bytes: &mut Vec<u8>, kind: u32) {
    bytes.push(1);
    bytes.extend(kind.to_le_bytes());
}

fn write_count(bytes: &mut Vec<u8>, count: usize) -> Result<(), GeometryError> {
    let count = u32::try_from(count).map_err(|_| {
        GeometryError::new(bytes.len(), format!("{count} items, WKB allows up to 4294967295"))
    })?;
    bytes.extend(count.to_le_bytes());
    Ok(())
}

fn write_coordinate(bytes: &mut Vec<u8>, at: Coord<f64>) {
    bytes.extend(at.x.to_le_bytes());
    bytes.extend(at.y.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::wkt::parse_wkt;

    const TEXTS: [&str; 12] = [
        "POINT(1 2)",
        "POINT EMPTY",
        "LINESTRING(0 0,1 1)",
        "LINESTRING EMPTY",
        "POLYGON((0 0,4 0,4 4,0 0),(1 0.5,2 0.5,2 1,1 0.5))",
        "POLYGON EMPTY",
        "MULTIPOINT(1 2,3 4)",
        "MULTILINESTRING((0 0,1 1),(2 2,3 3,4 4))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))",
        "GEOMETRYCOLLECTION(POINT(1 2),GEOMETRYCOLLECTION(LINESTRING(0 0,1 1)))",
        "GEOMETRYCOLLECTION EMPTY",
        "POINT(-0 1e-300)",
    ];

    fn point(order: u8, code: u32, ordinates: &[f64]) -> Vec<u8> {
        let mut bytes = vec![order];
        let big = order == 0;
        bytes.extend(if big { code.to_be_bytes() } else { code.to_le_bytes() });
        if code & EWKB_SRID != 0 {
            bytes.extend(4326u32.to_le_bytes());
        }
        for value in ordinates {
            bytes.extend(if big { value.to_be_bytes() } else { value.to_le_bytes() });
        }
        bytes
    }

    #[test]
    fn written_geometries_read_back_and_no_prefix_does() {
        for text in TEXTS {
            let geometry = parse_wkt(text).unwrap();
            let bytes = to_wkb(&geometry).unwrap();
            assert_eq!(parse_wkb(&bytes).unwrap(), geometry, "{text}");
            for end in 0..bytes.len() {
                assert!(parse_wkb(&bytes[..end]).is_err(), "{text} cut at {end}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(parse_wkb(&longer).unwrap_err().reason.contains("after the end"));
        }
    }

    #[test]
    fn stored_points_are_what_is_read_of_each() {
        let stored = |values: &[(u8, u32, [f64; 2])]| -> Vec<[u8; STORED_POINT]> {
            let point = |(order, code, ordinates): &(u8, u32, [f64; 2])| {
                let bytes = [vec![21, 0, 0, 0], point(*order, *code, ordinates)].concat();
                bytes.try_into().unwrap()
            };
            values.iter().map(point).collect()
        };
        let read = |values: &[(u8, u32, [f64; 2])]| stored_points(&stored(values));
        let (little, big) = ((1, POINT, [1.0, -2.0]), (0, POINT, [3.0, 4.5]));
        assert_eq!(read(&[]), Some((vec![], vec![])));
        assert_eq!(read(&[little, little]), Some((vec![1.0, 1.0], vec![-2.0, -2.0])));
        assert_eq!(read(&[little, big]), Some((vec![1.0, 3.0], vec![-2.0, 4.5])));
        for other in [(1, LINE, [0.0; 2]), (2, POINT, [0.0; 2]), (1, 1001, [0.0; 2])] {
            assert_eq!(read(&[little, other]), None, "{other:?}");
        }
        for ordinate in [f64::NAN, f64::INFINITY, -1e101] {
            assert_eq!(read(&[little, (1, POINT, [ordinate, 0.0])]), None);
            assert_eq!(read(&[(0, POINT, [0.0, ordinate])]), None);
        }
        let mut longer = stored(&[little, little]);
        longer[1][0] = 22;
        assert_eq!(stored_points(&longer), None);
    }

    #[test]
    fn points_of_every_layout_are_read() {
        let expected = Geometry::Point(geo::Point::new(1.0, 2.0));
        for (order, code, ordinates) in [
            (1, 1, &[1.0, 2.0][..]),
            (0, 1, &[1.0, 2.0]),
            (1, 1001, &[1.0, 2.0, f64::NAN]),
            (0, 2001, &[1.0, 2.0, 3.0]),
            (1, 3001, &[1.0, 2.0, 3.0, 4.0]),
            (1, 1 | EWKB_Z, &[1.0, 2.0, 3.0]),
            (1, 1 | EWKB_Z | EWKB_M | EWKB_SRID, &[1.0, 2.0, 3.0, 4.0]),
        ] {
            let bytes = point(order, code, ordinates);
            assert_eq!(parse_wkb(&bytes).unwrap(), expected);
            let plain = code == 1;
            assert_eq!(wkb_point(&bytes), plain.then_some((1.0, 2.0)));
        }
    }

    #[test]
    fn nan_is_an_empty_point_and_otherwise_an_error() {
        let nan = f64::NAN;
        assert_eq!(
            parse_wkb(&point(1, 1, &[nan, nan])).unwrap(),
            Geometry::MultiPoint(geo::MultiPoint::new(vec![]))
        );
        assert_eq!(wkb_point(&point(1, 1, &[nan, nan])), None);
        for bad in [[nan, 1.0], [1.0, f64::INFINITY], [1e101, 0.0]] {
            assert!(parse_wkb(&point(1, 1, &bad)).unwrap_err().reason.contains("finite"));
            assert_eq!(wkb_point(&point(1, 1, &bad)), None);
        }
        let mut line = to_wkb(&parse_wkt("LINESTRING(0 0,1 1)").unwrap()).unwrap();
        line[9..17].copy_from_slice(&nan.to_le_bytes());
        line[17..25].copy_from_slice(&nan.to_le_bytes());
        assert_eq!(parse_wkb(&line).unwrap_err().offset, 9);
    }

    #[test]
    fn parts_may_have_their_own_byte_order_but_not_another_type() {
        let mut bytes = vec![1, 4, 0, 0, 0, 2, 0, 0, 0];
        bytes.extend(point(0, 1, &[1.0, 2.0]));
        bytes.extend(point(1, 1, &[3.0, 4.0]));
        assert_eq!(parse_wkb(&bytes).unwrap(), parse_wkt("MULTIPOINT(1 2,3 4)").unwrap());
        let mut bytes = vec![1, 4, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend(to_wkb(&parse_wkt("LINESTRING(0 0,1 1)").unwrap()).unwrap());
        assert!(parse_wkb(&bytes).unwrap_err().reason.contains("part of type 2"));
    }

    #[test]
    fn bombs_are_errors_on_a_small_stack() {
        let run = || {
            for kind in LINE..=COLLECTION {
                for dimension in 0..4 {
                    let mut bytes = vec![1];
                    bytes.extend((kind + dimension * 1000).to_le_bytes());
                    bytes.extend(u32::MAX.to_le_bytes());
                    bytes.extend([0; 16]);
                    let error = parse_wkb(&bytes).unwrap_err();
                    assert!(error.reason.contains("count 4294967295"), "{error}");
                }
            }
            let nested = [1, 7, 0, 0, 0, 1, 0, 0, 0].repeat(1_000_000);
            assert!(parse_wkb(&nested).unwrap_err().reason.contains("nested"));
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn unknown_types_and_byte_orders_are_errors() {
        assert!(parse_wkb(&point(2, 1, &[1.0, 2.0])).unwrap_err().reason.contains("byte order 2"));
        assert!(parse_wkb(&point(1, 8, &[1.0, 2.0])).unwrap_err().reason.contains("geometry type 8"));
        assert!(parse_wkb(&point(1, 4001, &[1.0, 2.0])).unwrap_err().reason.contains("4001"));
        assert!(parse_wkb(&[]).is_err());
    }
}
