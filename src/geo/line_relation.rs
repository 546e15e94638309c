//! Predicates between lines that share stretches, exactly: no node is computed, so none is rounded.

use geo::{Coord, Geometry, Orientation};

use crate::geo::area::Area;
use crate::geo::chain::{box_of, orientation};
use crate::geo::predicate::PredicateKind;

/// `left kind right` for two geometries of lines, both as written; `None` where shared stretches do not decide.
///
/// A line holds another just if every edge of the other is covered by edges on the same straight line; then
/// their interiors meet too, since boundaries of lines are single points.
pub(crate) fn relate_lines(kind: PredicateKind, left: &Area, right: &Area) -> Option<bool> {
    if !(is_line(left) && is_line(right)) {
        return None;
    }
    match kind {
        PredicateKind::Within | PredicateKind::CoveredBy => Some(covers(right, left)),
        PredicateKind::Contains | PredicateKind::Covers => Some(covers(left, right)),
        PredicateKind::Equals => Some(covers(left, right) && covers(right, left)),
        PredicateKind::Overlaps => {
            Some(share_stretch(left, right) && !covers(left, right) && !covers(right, left))
        }
        PredicateKind::Touches | PredicateKind::Crosses if share_stretch(left, right) => Some(false),
        PredicateKind::Touches | PredicateKind::Crosses => None,
        PredicateKind::Intersects | PredicateKind::Disjoint => None,
    }
}

/// Whether the geometry is lines only, and has a length.
fn is_line(area: &Area) -> bool {
    let only_lines =
        matches!(area.geometry(), Geometry::Line(_) | Geometry::LineString(_) | Geometry::MultiLineString(_));
    only_lines && area.bounding_box().is_some_and(|bounds| area.any_edge(&bounds, |start, end| start != end))
}

/// Whether no point of `part` lies outside `whole`.
fn covers(whole: &Area, part: &Area) -> bool {
    let Some(bounds) = part.bounding_box() else { return false };
    !part.any_edge(&bounds, |start, end| !is_covered(whole, start, end))
}

/// Whether the two have an edge in common, or a part of one.
fn share_stretch(left: &Area, right: &Area) -> bool {
    let Some(bounds) = left.bounding_box() else { return false };
    left.any_edge(&bounds, |start, end| {
        stretches(right, start, end).into_iter().any(|(from, to)| key(from) < key(to))
    })
}

fn is_covered(whole: &Area, start: Coord<f64>, end: Coord<f64>) -> bool {
    let (from, to) = in_order(start, end);
    let mut stretches = stretches(whole, start, end);
    stretches
        .sort_by(|left, right| key(left.0).partial_cmp(&key(right.0)).unwrap_or(std::cmp::Ordering::Equal));
    let mut stretches = stretches.into_iter();
    let Some((first, mut reached)) = stretches.next() else { return false };
    if key(first) > key(from) {
        return false;
    }
    for (next, until) in stretches {
        if key(next) > key(reached) {
            break;
        }
        if key(until) > key(reached) {
            reached = until;
        }
    }
    key(reached) >= key(to)
}

/// What edges of `whole` have in common with the edge, of those on the same straight line, each in order.
fn stretches(whole: &Area, start: Coord<f64>, end: Coord<f64>) -> Vec<(Coord<f64>, Coord<f64>)> {
    let (from, to) = in_order(start, end);
    let mut found = vec![];
    let Some(bounds) = box_of(&[start, end]) else { return found };
    whole.any_edge(&bounds, |a, b| {
        // An edge without length lies on every line through it, so both are asked of both.
        let collinear = |c, d, at| orientation(c, d, at) == Orientation::Collinear;
        if collinear(start, end, a)
            && collinear(start, end, b)
            && collinear(a, b, start)
            && collinear(a, b, end)
        {
            let (low, high) = in_order(a, b);
            let low = if key(low) < key(from) { from } else { low };
            let high = if key(high) > key(to) { to } else { high };
            if key(low) <= key(high) {
                found.push((low, high));
            }
        }
        false
    });
    found
}

/// Points of one straight line are in order by x, then y.
fn key(at: Coord<f64>) -> (f64, f64) {
    (at.x, at.y)
}

fn in_order(start: Coord<f64>, end: Coord<f64>) -> (Coord<f64>, Coord<f64>) {
    if key(start) <= key(end) { (start, end) } else { (end, start) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::wkt::parse_wkt;

    fn relate(kind: PredicateKind, left: &str, right: &str) -> Option<bool> {
        let area = |text| Area::try_new(parse_wkt(text).unwrap()).unwrap();
        relate_lines(kind, &area(left), &area(right))
    }

    #[test]
    fn a_line_that_crosses_itself_contains_its_parts() {
        let crossing = "LINESTRING(1 0,0 2,0 0,2 2)";
        assert_eq!(relate(PredicateKind::Contains, crossing, "LINESTRING(0 0,2 2)"), Some(true));
        assert_eq!(relate(PredicateKind::Within, "LINESTRING(0.5 0.5,1 1)", crossing), Some(true));
        assert_eq!(relate(PredicateKind::Covers, crossing, "LINESTRING(0 0,3 3)"), Some(false));
    }

    #[test]
    fn pieces_cover_a_line_unless_there_is_a_gap() {
        let whole = "LINESTRING(0 0,9 3)";
        let pieces = "MULTILINESTRING((9 3,3 1),(4.5 1.5,0 0),(0 0,0 1))";
        assert_eq!(relate(PredicateKind::Covers, pieces, whole), Some(true));
        assert_eq!(relate(PredicateKind::Equals, pieces, whole), Some(false));
        assert_eq!(relate(PredicateKind::Equals, "MULTILINESTRING((9 3,3 1),(3 1,0 0))", whole), Some(true));
        assert_eq!(relate(PredicateKind::Covers, "MULTILINESTRING((9 3,6 2),(3 1,0 0))", whole), Some(false));
        assert_eq!(relate(PredicateKind::Overlaps, "LINESTRING(3 1,12 4)", whole), Some(true));
        assert_eq!(relate(PredicateKind::Overlaps, "LINESTRING(3 1,6 2)", whole), Some(false));
        assert_eq!(relate(PredicateKind::Crosses, "LINESTRING(3 1,12 4)", whole), Some(false));
    }

    #[test]
    fn other_geometries_and_single_points_in_common_are_left_to_others() {
        assert_eq!(relate(PredicateKind::Crosses, "LINESTRING(0 0,2 2)", "LINESTRING(0 2,2 0)"), None);
        assert_eq!(
            relate(PredicateKind::Overlaps, "LINESTRING(0 0,2 2)", "LINESTRING(0 2,2 0)"),
            Some(false)
        );
        assert_eq!(relate(PredicateKind::Within, "LINESTRING(1 1,1 1)", "LINESTRING(0 0,2 2)"), None);
        assert_eq!(relate(PredicateKind::Within, "LINESTRING(0 0,1 1)", "POLYGON((0 0,2 0,2 2,0 0))"), None);
    }
}
