//! Geometries for tests, in every encoding, and random ones.

use std::f64::consts::TAU;

use geo::{Coord, LineString, MultiPolygon, Polygon, Validation};
use rand::Rng;
use rand::rngs::StdRng;

/// The predicates of two geometries; the last takes a distance, too.
pub(crate) const PREDICATES: [&str; 11] = [
    "st_within",
    "st_contains",
    "st_covers",
    "st_coveredby",
    "st_intersects",
    "st_disjoint",
    "st_equals",
    "st_touches",
    "st_crosses",
    "st_overlaps",
    "st_dwithin",
];

pub(crate) type Position = [f64; 2];

/// A geometry as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// `None`: empty.
    Point(Option<Position>),
    Line(Vec<Position>),
    Polygon(Vec<Vec<Position>>),
    MultiPoint(Vec<Position>),
    MultiLine(Vec<Vec<Position>>),
    MultiPolygon(Vec<Vec<Vec<Position>>>),
    Collection(Vec<Self>),
}

/// How WKB is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wkb {
    Little,
    Big,
    /// PostGIS' extended WKB, with a coordinate system.
    Extended,
}

fn joined<T>(parts: &[T], text: impl Fn(&T) -> String) -> String {
    let parts: Vec<_> = parts.iter().map(text).collect();
    parts.join(", ")
}

fn path(positions: &[Position]) -> String {
    format!("({})", joined(positions, |[x, y]| format!("{x} {y}")))
}

fn paths(paths_of: &[Vec<Position>]) -> String {
    format!("({})", joined(paths_of, |line| path(line)))
}

impl Shape {
    /// A ring round a box.
    pub(crate) fn ring([west, south]: Position, [east, north]: Position) -> Vec<Position> {
        vec![[west, south], [east, south], [east, north], [west, north], [west, south]]
    }

    pub(crate) fn rectangle(low: Position, high: Position) -> Self {
        Self::Polygon(vec![Self::ring(low, high)])
    }

    fn is_empty_list(&self) -> bool {
        match self {
            Self::Point(at) => at.is_none_or(|[x, y]| !(x.is_finite() && y.is_finite())),
            Self::Line(list) | Self::MultiPoint(list) => list.is_empty(),
            Self::Polygon(list) | Self::MultiLine(list) => list.is_empty(),
            Self::MultiPolygon(list) => list.is_empty(),
            Self::Collection(list) => list.is_empty(),
        }
    }

    /// As WKT; a point that is not finite is empty there.
    pub(crate) fn wkt(&self) -> String {
        let name = match self {
            Self::Point(_) => "POINT",
            Self::Line(_) => "LINESTRING",
            Self::Polygon(_) => "POLYGON",
            Self::MultiPoint(_) => "MULTIPOINT",
            Self::MultiLine(_) => "MULTILINESTRING",
            Self::MultiPolygon(_) => "MULTIPOLYGON",
            Self::Collection(_) => "GEOMETRYCOLLECTION",
        };
        if self.is_empty_list() {
            return format!("{name} EMPTY");
        }
        let body = match self {
            Self::Point(at) => path(&at.iter().copied().collect::<Vec<_>>()),
            Self::Line(list) | Self::MultiPoint(list) => path(list),
            Self::Polygon(list) | Self::MultiLine(list) => paths(list),
            Self::MultiPolygon(list) => format!("({})", joined(list, |rings| paths(rings))),
            Self::Collection(list) => format!("({})", joined(list, Self::wkt)),
        };
        format!("{name}{body}")
    }

    pub(crate) fn wkb(&self, form: Wkb) -> Vec<u8> {
        let mut bytes = vec![];
        self.write_wkb(form, true, &mut bytes);
        bytes
    }

    fn write_wkb(&self, form: Wkb, is_outermost: bool, out: &mut Vec<u8>) {
        let is_big = matches!(form, Wkb::Big);
        let number = |n: u32, out: &mut Vec<u8>| match is_big {
            true => out.extend(n.to_be_bytes()),
            false => out.extend(n.to_le_bytes()),
        };
        let count = |n: usize, out: &mut Vec<u8>| number(u32::try_from(n).unwrap_or(u32::MAX), out);
        let position = |at: &Position, out: &mut Vec<u8>| match is_big {
            true => at.iter().for_each(|value| out.extend(value.to_be_bytes())),
            false => at.iter().for_each(|value| out.extend(value.to_le_bytes())),
        };
        let positions = |list: &[Position], out: &mut Vec<u8>| {
            count(list.len(), out);
            list.iter().for_each(|at| position(at, out));
        };
        let code = match self {
            Self::Point(_) => 1,
            Self::Line(_) => 2,
            Self::Polygon(_) => 3,
            Self::MultiPoint(_) => 4,
            Self::MultiLine(_) => 5,
            Self::MultiPolygon(_) => 6,
            Self::Collection(_) => 7,
        };
        out.push(if is_big { 0 } else { 1 });
        if matches!(form, Wkb::Extended) && is_outermost {
            number(code | 0x2000_0000, out);
            number(4326, out);
        } else {
            number(code, out);
        }
        match self {
            Self::Point(at) => position(&at.unwrap_or([f64::NAN; 2]), out),
            Self::Line(list) => positions(list, out),
            Self::Polygon(rings) => {
                count(rings.len(), out);
                rings.iter().for_each(|ring| positions(ring, out));
            }
            parts => {
                let parts = parts.parts();
                count(parts.len(), out);
                parts.iter().for_each(|part| part.write_wkb(form, false, out));
            }
        }
    }

    /// The members of a multi-geometry or collection.
    fn parts(&self) -> Vec<Self> {
        match self {
            Self::MultiPoint(list) => list.iter().map(|at| Self::Point(Some(*at))).collect(),
            Self::MultiLine(list) => list.iter().map(|line| Self::Line(line.clone())).collect(),
            Self::MultiPolygon(list) => list.iter().map(|rings| Self::Polygon(rings.clone())).collect(),
            Self::Collection(list) => list.clone(),
            single => vec![single.clone()],
        }
    }

    /// The same with other positions.
    pub(crate) fn map(&self, to: &dyn Fn(Position) -> Position) -> Self {
        let line = |list: &Vec<Position>| list.iter().map(|at| to(*at)).collect::<Vec<_>>();
        let lines = |list: &Vec<Vec<Position>>| list.iter().map(line).collect::<Vec<_>>();
        match self {
            Self::Point(at) => Self::Point(at.map(to)),
            Self::Line(list) => Self::Line(line(list)),
            Self::MultiPoint(list) => Self::MultiPoint(line(list)),
            Self::Polygon(list) => Self::Polygon(lines(list)),
            Self::MultiLine(list) => Self::MultiLine(lines(list)),
            Self::MultiPolygon(list) => Self::MultiPolygon(list.iter().map(lines).collect()),
            Self::Collection(list) => Self::Collection(list.iter().map(|part| part.map(to)).collect()),
        }
    }

    pub(crate) fn positions(&self) -> Vec<Position> {
        match self {
            Self::Point(at) => at.iter().filter(|[x, y]| x.is_finite() && y.is_finite()).copied().collect(),
            Self::Line(list) | Self::MultiPoint(list) => list.clone(),
            Self::Polygon(list) | Self::MultiLine(list) => list.concat(),
            Self::MultiPolygon(list) => list.concat().concat(),
            Self::Collection(list) => list.iter().flat_map(Self::positions).collect(),
        }
    }

    /// West, south, east, north; `None` if it is empty.
    pub(crate) fn bounds(&self) -> Option<[f64; 4]> {
        let positions = self.positions();
        let first = positions.first()?;
        let all = positions.iter().fold([first[0], first[1], first[0], first[1]], |b, [x, y]| {
            [b[0].min(*x), b[1].min(*y), b[2].max(*x), b[3].max(*y)]
        });
        Some(all)
    }

    /// Whether no edge is so long that a constant area takes it the short way round.
    pub(crate) fn is_as_written(&self) -> bool {
        match self {
            Self::Point(_) | Self::MultiPoint(_) => true,
            Self::Line(line) => line.windows(2).all(|edge| (edge[0][0] - edge[1][0]).abs() <= 180.0),
            Self::Polygon(lines) | Self::MultiLine(lines) => {
                lines.iter().all(|line| Self::Line(line.clone()).is_as_written())
            }
            parts => parts.parts().iter().all(Self::is_as_written),
        }
    }

    /// Polygons, if that is what it is.
    pub(crate) fn polygons(&self) -> Option<MultiPolygon<f64>> {
        let ring = |ring: &Vec<Position>| {
            LineString::new(ring.iter().map(|[x, y]| Coord { x: *x, y: *y }).collect::<Vec<_>>())
        };
        let polygon = |rings: &Vec<Vec<Position>>| {
            let (shell, holes) = rings.split_first()?;
            Some(Polygon::new(ring(shell), holes.iter().map(ring).collect()))
        };
        match self {
            Self::Polygon(rings) => Some(MultiPolygon::new(vec![polygon(rings)?])),
            Self::MultiPolygon(list) => {
                Some(MultiPolygon::new(list.iter().map(polygon).collect::<Option<_>>()?))
            }
            _ => None,
        }
    }
}

/// To halves: so that positions of different shapes meet exactly.
pub(crate) fn on_lattice(value: f64) -> f64 {
    (value * 2.0).round() / 2.0
}

/// A valid polygon round `center` with a star's outline.
pub(crate) fn star(random: &mut StdRng, center: Position, size: f64) -> Shape {
    let corners = random.random_range(5..12);
    let is_rough = random.random_bool(0.5);
    let mut ring: Vec<Position> = (0..corners)
        .map(|corner| {
            let angle = TAU * f64::from(corner) / f64::from(corners);
            let reach = size * random.random_range(0.2..1.0);
            let at = [center[0] + reach * angle.cos(), center[1] + reach * angle.sin()];
            if is_rough { at } else { at.map(on_lattice) }
        })
        .collect();
    ring.push(ring[0]);
    let shape = Shape::Polygon(vec![ring]);
    match shape.polygons().is_some_and(|polygons| polygons.is_valid()) {
        true => shape,
        false => Shape::rectangle(center.map(|c| c - size), center.map(|c| c + size)),
    }
}

/// A small geometry of any type, valid, at `at`.
pub(crate) fn any_shape(random: &mut StdRng, at: Position) -> Shape {
    let size = [0.5, 1.0, 5.0, 20.0][random.random_range(0..4)];
    let [x, y] = at;
    let near = |random: &mut StdRng| {
        let away = [1, 2, 3][random.random_range(0..3)];
        [x + size * f64::from(away), y + size * f64::from(random.random_range(-2..3))]
    };
    match random.random_range(0..16) {
        0..4 => Shape::Point(Some(at)),
        4 => Shape::Line(vec![at, near(random)]),
        5 => Shape::Line(vec![at, at, near(random), [x + 4.0 * size, y + size]]),
        6 => Shape::rectangle(at, [x + size, y + size]),
        7 => Shape::Polygon(vec![vec![at, at, [x + size, y], [x, y + size], at]]),
        8 => Shape::Polygon(vec![
            Shape::ring(at, [x + size, y + size]),
            Shape::ring([x + size * 0.25, y + size * 0.25], [x + size * 0.75, y + size * 0.75]),
        ]),
        9 => star(random, at, size),
        10 => Shape::MultiPoint(vec![at, near(random), at]),
        11 => Shape::MultiLine(vec![vec![at, near(random)], vec![[x - size, y], [x - size, y - size]]]),
        12 => Shape::MultiPolygon(vec![
            vec![Shape::ring(at, [x + size, y + size])],
            vec![Shape::ring([x + 2.0 * size, y], [x + 3.0 * size, y + size])],
        ]),
        13 => Shape::Collection(vec![
            Shape::Point(Some(near(random))),
            Shape::Point(None),
            Shape::Collection(vec![Shape::rectangle(at, [x + size, y + size])]),
        ]),
        14 => [
            Shape::Point(None),
            Shape::Line(vec![]),
            Shape::Polygon(vec![]),
            Shape::MultiPoint(vec![]),
            Shape::MultiLine(vec![]),
            Shape::MultiPolygon(vec![]),
            Shape::Collection(vec![]),
            Shape::Collection(vec![Shape::Point(None), Shape::Polygon(vec![])]),
        ][random.random_range(0..8)]
        .clone(),
        _ => Shape::Collection(vec![Shape::Point(Some(at)), Shape::Line(vec![at, near(random)])]),
    }
}

/// An area to ask about, often with corners and edges on one of `positions`; longitudes run over `span`.
pub(crate) fn any_area(random: &mut StdRng, positions: &[Position], span: (f64, f64)) -> Shape {
    let anchor = |random: &mut StdRng| match positions.is_empty() || random.random_bool(0.4) {
        true => {
            [on_lattice(random.random_range(span.0..span.1)), on_lattice(random.random_range(-90.0..90.0))]
        }
        false => positions[random.random_range(0..positions.len())],
    };
    let at = anchor(random);
    let size = [0.5, 2.0, 10.0, 10.0, 40.0, 150.0][random.random_range(0..6)];
    let [x, y] = at;
    match random.random_range(0..22) {
        0..3 => Shape::rectangle(at, [x + size, y + size]),
        3 => {
            let other = anchor(random);
            let (low, high) = ([x.min(other[0]), y.min(other[1])], [x.max(other[0]), y.max(other[1])]);
            match low[0] < high[0] && low[1] < high[1] {
                true => Shape::rectangle(low, high),
                false => Shape::Point(Some(at)),
            }
        }
        4..6 => Shape::Polygon(vec![vec![at, [x + size, y], [x + size / 4.0, y + size], at]]),
        6..9 => star(random, at, size),
        9..11 => Shape::Polygon(vec![
            Shape::ring([x - size, y - size], [x + size, y + size]),
            Shape::ring([x - size / 2.0, y - size / 2.0], [x, y + size / 2.0]),
        ]),
        11..13 => Shape::MultiPolygon(vec![
            vec![Shape::ring(at, [x + size, y + size])],
            vec![Shape::ring([x - size, y - size], at)],
        ]),
        13 => Shape::Line(vec![at, anchor(random), [x + size, y - size]]),
        14 => Shape::Point(Some(at)),
        15 => Shape::MultiPoint(vec![at, anchor(random)]),
        16 => [Shape::Point(None), Shape::Polygon(vec![]), Shape::Collection(vec![])]
            [random.random_range(0..3)]
        .clone(),
        17 => Shape::rectangle([170.0, y - size], [190.0, y + size]),
        // The short way round, past 180.
        18 => Shape::Polygon(vec![vec![
            [170.0, y - size],
            [-170.0, y - size],
            [-170.0, y],
            [-165.0, y + size],
            [170.0, y + size],
            [170.0, y - size],
        ]]),
        19 => Shape::rectangle([x - 1e-9, y - 1e-9], [x + 1e-9, y + 1e-9]),
        20 => [
            Shape::rectangle([-180.0, -90.0], [180.0, 90.0]),
            Shape::rectangle([0.0, -90.0], [360.0, 90.0]),
            Shape::rectangle([-1e6, -1e6], [1e6, 1e6]),
        ][random.random_range(0..3)]
        .clone(),
        _ => Shape::Collection(vec![
            Shape::rectangle(at, [x + size, y + size]),
            Shape::Point(Some([x - size, y])),
        ]),
    }
}
