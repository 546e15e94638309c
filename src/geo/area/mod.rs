//! A constant geometry, prepared once and asked about many points, boxes and geometries.
//!
//! **Longitude.** Edges are straight in degrees. Longitudes from -180 to 360 in data are angles: data at `x` matches an
//! area if `x`, `x + 360` or `x - 360` does. So `170 → 190` matches data at -175, and `-10 → 10` matches data at 355.
//! Other longitudes match as written.
//!
//! A *constant* area may cross the antimeridian: `170 → -170` is read as `170 → 190`, by the rule in [`antimeridian`].
//! The geometries of rows are what their coordinates say; there `170 → -170` goes the long way, past 0.

pub(crate) mod antimeridian;
mod point_index;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use geo::{Coord, CoordinatePosition, Geometry, MapCoords, Relate, coordinate_position::CoordPos};

use crate::geo::area::point_index::{PointIndex, rows_of};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::box_tree::BoxTree;
use crate::geo::chain::{Chain, ChainRole};
use crate::geo::geometry_error::GeometryError;
use crate::geo::is_usable;
use crate::geo::line_relation::relate_lines;
use crate::geo::predicate::PredicateKind;

/// Longitudes that are angles: both usual ranges, -180..180 and 0..360.
pub(crate) const ANGLES: (f64, f64) = (-180.0, 360.0);
/// Added to a longitude to find the same meridian.
pub(crate) const TURNS: [f64; 3] = [0.0, 360.0, -360.0];
/// Added on both sides of shifted longitude bounds, because `x + 360` rounds.
const SHIFT_TOLERANCE: f64 = 1e-9;

/// Points that are asked about before a raster is made of a small area.
const MIN_POINTS_FOR_INDEX: usize = 512;
/// Points that are asked about before a finer one is made, if there is one: some for each of its cells.
const MIN_POINTS_FOR_FINE_INDEX: usize = 1 << 19;
/// Vertices that a raster is made of in the time in which the tree locates a point.
const VERTICES_PER_POINT: usize = 8;

/// Where a point lies in an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointLocation {
    /// In its interior.
    Inside,
    /// On its boundary.
    Boundary,
    /// Neither.
    Outside,
}

/// What is known of the points of a box against an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoxRelation {
    /// None of them is in the area or on its boundary.
    Outside,
    /// All of them are in the area's interior.
    Inside,
    /// Neither is known.
    Boundary,
}

/// A constant geometry with an index of its edges; cheap to share by `Arc`.
///
/// Polygons are the points inside their shell and outside their holes by even-odd parity; a multipolygon is
/// the union of its parts. A point where several parts meet is on the boundary.
#[derive(Debug)]
pub(crate) struct Area {
    geometry: Geometry<f64>,
    chains: Vec<Chain>,
    tree: BoxTree,
    bounding_box: Option<BoundingBox>,
    vertices: usize,
    /// Full turns, and longitudes that may match by each; exact or too wide.
    turns: Vec<(f64, f64, f64)>,
    /// Points that were asked about so far.
    asked: AtomicUsize,
    /// Made when enough points were asked about to pay for it.
    index: OnceLock<Option<PointIndex>>,
    /// Made when so many were that a finer one pays, too.
    fine_index: OnceLock<Option<PointIndex>>,
}

impl Area {
    /// Prepares a geometry in O(vertices).
    ///
    /// # Errors
    /// [`GeometryError`] if a coordinate is not finite or too large to compute with.
    pub(crate) fn try_new(geometry: Geometry<f64>) -> Result<Self, GeometryError> {
        if !geo::CoordsIter::coords_iter(&geometry).all(|at| is_usable(at.x) && is_usable(at.y)) {
            return Err(GeometryError::new(0, "coordinate that is not finite or beyond 1e100"));
        }
        let mut builder = ChainBuilder::default();
        builder.add(&geometry);
        let chains = builder.chains;
        let tree = BoxTree::new(chains.iter().map(Chain::bounding_box).collect());
        let bounding_box = tree.bounding_box();
        let vertices = chains.iter().map(|chain| chain.points().len()).sum();
        let turns = bounding_box.map_or_else(Vec::new, turns_into);
        let (asked, index, fine_index) = (AtomicUsize::new(0), OnceLock::new(), OnceLock::new());
        Ok(Self { geometry, chains, tree, bounding_box, vertices, turns, asked, index, fine_index })
    }

    /// The box of the geometry as written; `None` if it is empty, then nothing matches. Not a bound on the
    /// longitudes that match.
    pub(crate) fn bounding_box(&self) -> Option<BoundingBox> {
        self.bounding_box
    }

    /// Where the point lies, whichever way its longitude is written. NaN and infinity are outside.
    pub(crate) fn covers_point(&self, x: f64, y: f64) -> PointLocation {
        self.covers_point_by(x, y, |at| self.locate(at))
    }

    /// Prepares for `count` more points. The first points of an area go through its tree; many make it worth a
    /// raster.
    pub(crate) fn locator(&self, count: usize) -> PointLocator<'_> {
        let asked = self.asked.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        let pays = asked >= MIN_POINTS_FOR_INDEX.max(self.vertices / VERTICES_PER_POINT);
        let mut index = if pays { self.index.get_or_init(|| PointIndex::new(self)).as_ref() } else { None };
        if asked >= MIN_POINTS_FOR_FINE_INDEX {
            index = self.fine_index.get_or_init(|| PointIndex::fine(self)).as_ref().or(index);
        }
        PointLocator { area: self, index, last: None }
    }

    #[inline]
    fn covers_point_by(
        &self,
        x: f64,
        y: f64,
        mut locate: impl FnMut(Coord<f64>) -> PointLocation,
    ) -> PointLocation {
        let Some(bounds) = &self.bounding_box else { return PointLocation::Outside };
        let mut best = PointLocation::Outside;
        if bounds.contains(x, y) {
            best = locate(Coord { x, y });
        }
        for (turn, low, high) in &self.turns {
            let at = Coord { x: x + turn, y };
            if *low <= x && x <= *high && best != PointLocation::Inside && bounds.contains(at.x, y) {
                match locate(at) {
                    PointLocation::Outside => {}
                    found => best = found,
                }
            }
        }
        best
    }

    /// What is known of all points of `extent`, by [`Self::covers_point`]'s rule. Conservative.
    pub(crate) fn relate_box(&self, extent: &BoundingBox) -> BoxRelation {
        if BoundingBox::from_bounds(extent.xmin, extent.ymin, extent.xmax, extent.ymax).is_none() {
            return BoxRelation::Boundary;
        }
        let mut all_outside = true;
        for turn in TURNS {
            let (xmin, xmax) = if turn == 0.0 {
                (extent.xmin, extent.xmax)
            } else {
                (extent.xmin.max(ANGLES.0), extent.xmax.min(ANGLES.1))
            };
            if xmin > xmax {
                continue;
            }
            let whole = xmin == extent.xmin && xmax == extent.xmax;
            match self.relate_box_as_written(&BoundingBox { xmin, xmax, ..*extent }.shifted(turn)) {
                BoxRelation::Inside if whole => return BoxRelation::Inside,
                BoxRelation::Outside => {}
                _ => all_outside = false,
            }
        }
        if all_outside { BoxRelation::Outside } else { BoxRelation::Boundary }
    }

    /// Whether `kind` holds for `other` on the left and this area on the right.
    ///
    /// Empty geometries share no point with anything, and equal each other. Exact, except that self-intersecting polygons get the
    /// answer of `geo` where their edges touch those of the area.
    ///
    /// # Errors
    /// [`GeometryError`] for coordinates that cannot be computed with, or a geometry so invalid that `geo`
    /// gives up on it.
    pub(crate) fn relate(&self, kind: PredicateKind, other: &Geometry<f64>) -> Result<bool, GeometryError> {
        if let Geometry::Point(point) = other {
            return Ok(self.relate_point(kind, point.x(), point.y()));
        }
        let other_area = Self::try_new(other.clone())?;
        let (Some(bounds), Some(extent)) = (self.bounding_box, other_area.bounding_box) else {
            let both_empty = self.bounding_box.is_none() && other_area.bounding_box.is_none();
            return Ok(if both_empty { kind.when_both_empty() } else { kind.when_apart() });
        };
        let is_angle = ANGLES.0 <= extent.xmin && extent.xmax <= ANGLES.1;
        let may_meet = |turn: f64| (turn == 0.0 || is_angle) && extent.shifted(turn).intersects(&bounds);
        let ruled_out_by = match TURNS.iter().filter(|turn| may_meet(**turn)).count() {
            0 | 1 => None,
            _ => kind.ruled_out_by(),
        };
        let mut holds = kind.when_apart();
        for turn in TURNS.into_iter().filter(|turn| may_meet(*turn)) {
            let turned_area;
            let other_area = if turn == 0.0 {
                &other_area
            } else {
                turned_area = Self::try_new(other.map_coords(|at| Coord { x: at.x + turn, y: at.y }))?;
                &turned_area
            };
            match (self.relate_as_written(kind, other_area)?, ruled_out_by) {
                (false, Some(rule)) if self.relate_as_written(rule, other_area)? => return Ok(false),
                (answer, Some(_)) => holds |= answer,
                (answer, None) if answer != kind.when_apart() => return Ok(answer),
                (_, None) => {}
            }
        }
        Ok(holds)
    }

    /// [`Self::relate`] for a point, without allocation. A point with NaN, infinity, or a coordinate too large to
    /// compute with is an empty geometry.
    pub(crate) fn relate_point(&self, kind: PredicateKind, x: f64, y: f64) -> bool {
        if self.bounding_box.is_none() && !(is_usable(x) && is_usable(y)) {
            return kind.when_both_empty();
        }
        self.answer_for_point(kind, self.covers_point(x, y))
    }

    /// [`Self::relate_point`] for a point that lies at `location`; not for an empty point against an empty area.
    pub(crate) fn answer_for_point(&self, kind: PredicateKind, location: PointLocation) -> bool {
        if kind.left_holds_right() {
            // A point holds only itself.
            let is_point = self.bounding_box.is_some_and(|bounds| bounds.is_point());
            return is_point && location != PointLocation::Outside;
        }
        kind.of_point(location)
    }

    /// Where a finite point lies, its longitude taken as written.
    fn locate(&self, at: Coord<f64>) -> PointLocation {
        self.locate_where(at, None)
    }

    /// [`Self::locate`], if the point lay at `given.1` of the chain with number `given.0`.
    fn locate_where(&self, at: Coord<f64>, given: Option<(usize, PointLocation)>) -> PointLocation {
        let mut search = PolygonSearch::default();
        let mut on_line = false;
        self.tree.walk(|bounds, items, is_item| {
            let is_given = given.is_some_and(|(chain, _)| items.contains(&chain));
            if search.inside || !(is_given || bounds.contains(at.x, at.y)) {
                return false;
            }
            if is_item {
                let chain = &self.chains[items.start];
                let locate = || match given {
                    Some((_, location)) if is_given => location,
                    _ => chain.locate_in_ring(at),
                };
                match chain.role {
                    ChainRole::Shell(polygon) => search.shell(polygon, locate()),
                    ChainRole::Hole(polygon) => search.hole(polygon, locate),
                    ChainRole::Line => on_line |= chain.touches_box(&BoundingBox::of_point(at.x, at.y)),
                }
            }
            true
        });
        let location = search.finish();
        if !on_line || location == PointLocation::Inside {
            return location;
        }
        match self.geometry.coordinate_position(&at) {
            CoordPos::Inside => PointLocation::Inside,
            // A touched line is never outside, whatever rounding in `geo` says.
            CoordPos::OnBoundary | CoordPos::Outside => PointLocation::Boundary,
        }
    }

    fn relate_box_as_written(&self, target: &BoundingBox) -> BoxRelation {
        let Some(bounds) = self.bounding_box.filter(|bounds| bounds.intersects(target)) else {
            return BoxRelation::Outside;
        };
        if let (Some(Some(index)), true) = (self.index.get(), bounds.holds(target))
            && let Some(relation) = index.relate_box(target)
        {
            return relation;
        }
        if self.tree.any(target, |items| self.chains[items.start].touches_box(target)) {
            return BoxRelation::Boundary;
        }
        // No edge meets the box, so all its points lie alike.
        match self.locate(Coord { x: target.xmin, y: target.ymin }) {
            PointLocation::Inside => BoxRelation::Inside,
            PointLocation::Outside => BoxRelation::Outside,
            PointLocation::Boundary => BoxRelation::Boundary,
        }
    }

    /// `other kind self`, both as written.
    fn relate_as_written(&self, kind: PredicateKind, other: &Self) -> Result<bool, GeometryError> {
        let touch = self.touches(other);
        match kind {
            PredicateKind::Intersects | PredicateKind::Disjoint if touch => return Ok(!kind.when_apart()),
            _ if touch => {
                return match relate_lines(kind, other, self) {
                    Some(answer) => Ok(answer),
                    None => self.relate_by_matrix(kind, other),
                };
            }
            _ => {}
        }
        // No edges touch, so each component lies wholly inside or outside the other geometry.
        let inside = |holder: &Self, part: &Chain| holder.locate(part.first()) == PointLocation::Inside;
        let other_in_self = other.chains.iter().filter(|chain| inside(self, chain)).count();
        let self_in_other = self.chains.iter().filter(|chain| inside(other, chain)).count();
        match kind {
            PredicateKind::Intersects | PredicateKind::Disjoint => {
                let apart = other_in_self == 0 && self_in_other == 0;
                Ok(apart == kind.when_apart())
            }
            PredicateKind::Within | PredicateKind::CoveredBy => match self_in_other {
                _ if other_in_self < other.chains.len() => Ok(false),
                0 => Ok(true),
                _ => self.relate_by_matrix(kind, other),
            },
            PredicateKind::Contains | PredicateKind::Covers => match other_in_self {
                _ if self_in_other < self.chains.len() => Ok(false),
                0 => Ok(true),
                _ => self.relate_by_matrix(kind, other),
            },
            // Without an edge that touches they share no boundary, and what they share is interior to both.
            PredicateKind::Equals | PredicateKind::Touches => Ok(false),
            PredicateKind::Crosses | PredicateKind::Overlaps if other_in_self == 0 && self_in_other == 0 => {
                Ok(false)
            }
            PredicateKind::Crosses | PredicateKind::Overlaps => self.relate_by_matrix(kind, other),
        }
    }

    /// The geometry as written.
    pub(crate) fn geometry(&self) -> &Geometry<f64> {
        &self.geometry
    }

    /// Whether `test` holds for an edge, of those near `target` at least. A point is an edge without length.
    pub(crate) fn any_edge(
        &self,
        target: &BoundingBox,
        mut test: impl FnMut(Coord<f64>, Coord<f64>) -> bool,
    ) -> bool {
        self.tree.any(target, |items| self.chains[items.start].any_edge(target, &mut test))
    }

    /// Whether an edge of one shares a point with an edge of the other.
    fn touches(&self, other: &Self) -> bool {
        other.chains.iter().any(|theirs| {
            let target = theirs.bounding_box();
            self.tree.any(&target, |items| self.chains[items.start].touches(theirs))
        })
    }

    /// `other kind self` by `geo`'s DE-9IM matrix.
    fn relate_by_matrix(&self, kind: PredicateKind, other: &Self) -> Result<bool, GeometryError> {
        // `geo` asserts validity here and there; an invalid geometry in data must not take the process down.
        catch_unwind(AssertUnwindSafe(|| kind.of_matrix(&other.geometry.relate(&self.geometry))))
            .map_err(|_| GeometryError::new(0, "invalid geometry that cannot be related to another"))
    }
}

/// Locates points of a column. Equal neighbours are searched for once.
#[derive(Debug)]
pub(crate) struct PointLocator<'a> {
    area: &'a Area,
    index: Option<&'a PointIndex>,
    last: Option<(Coord<f64>, PointLocation)>,
}

/// Where up to 64 points lie: the first in the lowest bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PointLocations {
    /// In the interior.
    pub(crate) inside: u64,
    /// On the boundary.
    pub(crate) boundary: u64,
}

impl PointLocator<'_> {
    /// [`Area::covers_point`] for up to 64 points.
    pub(crate) fn covers_points(&mut self, x: &[f64], y: &[f64]) -> PointLocations {
        let mut found = PointLocations::default();
        let Some(bounds) = self.area.bounding_box else { return found };
        let (x, y) = (&x[..x.len().min(64)], &y[..y.len().min(64)]);
        let near = bits(x, y, |x, y| bounds.contains(x, y));
        self.locate(x, y, 0.0, near, &mut found);
        for (turn, low, high) in &self.area.turns {
            let near = bits(x, y, |x, y| *low <= x && x <= *high && bounds.contains(x + turn, y));
            self.locate(x, y, *turn, near & !found.inside, &mut found);
        }
        found
    }

    /// Locates the points that `wanted` names, turned by `turn`.
    #[inline]
    fn locate(&mut self, x: &[f64], y: &[f64], turn: f64, wanted: u64, found: &mut PointLocations) {
        let mut left = wanted;
        if let Some(index) = self.index {
            let located;
            (located, left) = index.locate(&self.area.chains, (x, y), turn, wanted);
            found.add(located);
        }
        for row in rows_of(left) {
            let bit = 1 << row;
            found.add(match self.search(Coord { x: x[row] + turn, y: y[row] }) {
                PointLocation::Inside => PointLocations { inside: bit, boundary: 0 },
                PointLocation::Boundary => PointLocations { inside: 0, boundary: bit },
                PointLocation::Outside => PointLocations::default(),
            });
        }
    }

    /// Where a point lies, by the area's tree.
    #[inline]
    fn search(&mut self, at: Coord<f64>) -> PointLocation {
        match self.last {
            Some((same, location)) if same == at => location,
            _ => self.last.insert((at, self.area.locate(at))).1,
        }
    }
}

impl PointLocations {
    /// Adds what else is known of the same points. Turned otherwise, one may lie inside that was on the boundary.
    fn add(&mut self, other: Self) {
        self.inside |= other.inside;
        self.boundary = (self.boundary | other.boundary) & !self.inside;
    }
}

/// The rows for which `test` holds, as bits: without a branch, so that the compiler may take several at a time.
#[inline]
fn bits(x: &[f64], y: &[f64], test: impl Fn(f64, f64) -> bool) -> u64 {
    let rows = x.iter().zip(y).enumerate();
    rows.fold(0, |bits, (row, (x, y))| bits | u64::from(test(*x, *y)) << row)
}

/// Full turns by which data can match an area with these bounds: `x` matches if `x + turn` is in the area. With each
/// the least and the greatest `x`.
fn turns_into(bounds: BoundingBox) -> Vec<(f64, f64, f64)> {
    let range = |turn: &f64| {
        let low = (bounds.xmin - turn - SHIFT_TOLERANCE).max(ANGLES.0);
        let high = (bounds.xmax - turn + SHIFT_TOLERANCE).min(ANGLES.1);
        (low <= high).then_some((*turn, low, high))
    };
    TURNS[1..].iter().filter_map(range).collect()
}

/// Collects where a point lies while the rings of polygons go by in order, each shell before its holes.
#[derive(Default)]
struct PolygonSearch {
    current: Option<(usize, PointLocation)>,
    inside: bool,
    boundary: bool,
}

impl PolygonSearch {
    fn shell(&mut self, polygon: usize, location: PointLocation) {
        self.settle();
        self.current = Some((polygon, location));
    }

    fn hole(&mut self, polygon: usize, locate: impl FnOnce() -> PointLocation) {
        let Some((current, location)) = self.current.as_mut() else { return };
        if *current != polygon || *location != PointLocation::Inside {
            return;
        }
        *location = match locate() {
            PointLocation::Inside => PointLocation::Outside,
            PointLocation::Boundary => PointLocation::Boundary,
            PointLocation::Outside => PointLocation::Inside,
        };
    }

    fn settle(&mut self) {
        match self.current.take() {
            Some((_, PointLocation::Inside)) => self.inside = true,
            Some((_, PointLocation::Boundary)) => self.boundary = true,
            Some((_, PointLocation::Outside)) | None => {}
        }
    }

    fn finish(mut self) -> PointLocation {
        self.settle();
        match (self.inside, self.boundary) {
            (true, _) => PointLocation::Inside,
            (false, true) => PointLocation::Boundary,
            (false, false) => PointLocation::Outside,
        }
    }
}

/// Takes a geometry apart into chains of edges.
#[derive(Default)]
struct ChainBuilder {
    chains: Vec<Chain>,
    polygons: usize,
}

impl ChainBuilder {
    fn add(&mut self, geometry: &Geometry<f64>) {
        match geometry {
            Geometry::Point(point) => self.line(vec![point.0]),
            Geometry::Line(line) => self.line(vec![line.start, line.end]),
            Geometry::LineString(line) => self.line(line.0.clone()),
            Geometry::Polygon(polygon) => self.polygon(polygon),
            Geometry::MultiPoint(points) => points.iter().for_each(|point| self.line(vec![point.0])),
            Geometry::MultiLineString(lines) => lines.iter().for_each(|line| self.line(line.0.clone())),
            Geometry::MultiPolygon(polygons) => polygons.iter().for_each(|polygon| self.polygon(polygon)),
            Geometry::GeometryCollection(parts) => parts.iter().for_each(|part| self.add(part)),
            Geometry::Rect(rect) => self.polygon(&rect.to_polygon()),
            Geometry::Triangle(triangle) => self.polygon(&triangle.to_polygon()),
        }
    }

    fn line(&mut self, points: Vec<Coord<f64>>) {
        self.chains.extend(Chain::new(ChainRole::Line, points));
    }

    fn polygon(&mut self, polygon: &geo::Polygon<f64>) {
        let number = self.polygons;
        let Some(shell) = Chain::new(ChainRole::Shell(number), polygon.exterior().0.clone()) else { return };
        let extent = shell.bounding_box();
        self.chains.push(shell);
        self.polygons += 1;
        let role = ChainRole::Hole(number);
        let mut holes: Vec<_> =
            polygon.interiors().iter().filter_map(|ring| Chain::new(role, ring.0.clone())).collect();
        // Neighbours go together, so that few boxes of the tree hold any one point.
        holes.sort_by_cached_key(|hole| morton(&extent, &hole.bounding_box()));
        self.chains.append(&mut holes);
    }
}

/// The place of a box along a Z-order curve through `extent`.
fn morton(extent: &BoundingBox, target: &BoundingBox) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=65535")]
    let cell =
        |value: f64, low: f64, high: f64| ((value - low) / (high - low) * 65535.0).clamp(0.0, 65535.0) as u32;
    let x = cell(target.xmin / 2.0 + target.xmax / 2.0, extent.xmin, extent.xmax);
    let y = cell(target.ymin / 2.0 + target.ymax / 2.0, extent.ymin, extent.ymax);
    (0..16).fold(0, |code, bit| code | (x >> bit & 1) << (2 * bit) | (y >> bit & 1) << (2 * bit + 1))
}

#[cfg(test)]
mod tests;
