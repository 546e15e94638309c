//! A ring, a line or a point as a run of edges under a tree of boxes.

use geo::{Coord, Kernel, Orientation};

use crate::geo::area::PointLocation;
use crate::geo::bounding_box::BoundingBox;
use crate::geo::box_tree::BoxTree;

/// Edges under one lowest box.
const EDGES_PER_ITEM: usize = 8;

/// What a chain of edges is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainRole {
    /// The outer ring of the polygon with this number.
    Shell(usize),
    /// A hole of the polygon with this number.
    Hole(usize),
    /// A line, or a point as an edge without length.
    Line,
}

/// Consecutive edges: edge `i` runs from `points[i]` to `points[i + 1]`.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) role: ChainRole,
    /// At least two.
    points: Vec<Coord<f64>>,
    tree: BoxTree,
}

impl Chain {
    /// `None` if there are no points. A ring must be closed.
    pub(crate) fn new(role: ChainRole, mut points: Vec<Coord<f64>>) -> Option<Self> {
        let first = *points.first()?;
        if points.len() == 1 {
            points.push(first);
        }
        let boxes = (0..points.len() - 1)
            .step_by(EDGES_PER_ITEM)
            .filter_map(|start| box_of(&points[start..(start + EDGES_PER_ITEM + 1).min(points.len())]))
            .collect();
        Some(Self { role, tree: BoxTree::new(boxes), points })
    }

    pub(crate) fn bounding_box(&self) -> BoundingBox {
        let first = self.first();
        self.tree.bounding_box().unwrap_or(BoundingBox::of_point(first.x, first.y))
    }

    pub(crate) fn first(&self) -> Coord<f64> {
        self.points[0]
    }

    /// Its points, at least two; edge `i` runs from point `i` to the next.
    pub(crate) fn points(&self) -> &[Coord<f64>] {
        &self.points
    }

    /// Whether a ray from a point to the east crosses an odd number of these edges; `None` if one holds the point.
    /// Exact.
    #[inline]
    pub(crate) fn odd_crossings(&self, edges: std::ops::Range<usize>, at: Coord<f64>) -> Option<bool> {
        let mut odd = false;
        let mut start = edges.start;
        while start < edges.end {
            let item = start / EDGES_PER_ITEM;
            let end = ((item + 1) * EDGES_PER_ITEM).min(edges.end);
            let bounds = self.tree.item(item);
            if at.y < bounds.ymin || at.y > bounds.ymax || at.x > bounds.xmax {
                // None of them.
            } else if at.x < bounds.xmin {
                odd ^= (self.points[start].y > at.y) != (self.points[end].y > at.y);
            } else {
                odd ^= odd_crossings(&self.points[start..=end], at)?;
            }
            start = end;
        }
        Some(odd)
    }

    /// Where the point lies in the region inside a ring, by the parity of crossings to its right. Exact.
    ///
    /// A run of edges wholly to the right crosses the ray an odd number of times just if its ends lie on
    /// different sides of it, so only boxes that hold the point are opened.
    pub(crate) fn locate_in_ring(&self, at: Coord<f64>) -> PointLocation {
        let (mut odd, mut on_edge) = (false, false);
        self.tree.walk(|bounds, items, is_item| {
            if on_edge || at.y < bounds.ymin || at.y > bounds.ymax || at.x > bounds.xmax {
                return false;
            }
            let edges = self.edges_of(&items);
            if at.x < bounds.xmin {
                odd ^= (self.points[edges.start].y > at.y) != (self.points[edges.end].y > at.y);
                return false;
            }
            if is_item {
                for edge in self.points[edges.start..=edges.end].windows(2) {
                    match crossing(edge[0], edge[1], at) {
                        Crossing::Right => odd = !odd,
                        Crossing::None => {}
                        Crossing::On => on_edge = true,
                    }
                }
            }
            true
        });
        match (on_edge, odd) {
            (true, _) => PointLocation::Boundary,
            (false, true) => PointLocation::Inside,
            (false, false) => PointLocation::Outside,
        }
    }

    /// Whether an edge shares a point with the closed box. Exact.
    pub(crate) fn touches_box(&self, target: &BoundingBox) -> bool {
        self.any_edge(target, |start, end| edge_touches_box(start, end, target))
    }

    /// Whether an edge shares a point with an edge of `other`. Exact.
    pub(crate) fn touches(&self, other: &Self) -> bool {
        let bounds = self.bounding_box();
        other.any_edge(&bounds, |start, end| {
            box_of(&[start, end])
                .is_some_and(|edge| self.any_edge(&edge, |a, b| segments_touch(a, b, start, end)))
        })
    }

    /// Whether `test` holds for an edge under a box that meets `target`.
    pub(crate) fn any_edge(
        &self,
        target: &BoundingBox,
        mut test: impl FnMut(Coord<f64>, Coord<f64>) -> bool,
    ) -> bool {
        self.tree.any(target, |items| {
            let edges = self.edges_of(&items);
            self.points[edges.start..=edges.end].windows(2).any(|edge| test(edge[0], edge[1]))
        })
    }

    /// The edges under tree items.
    fn edges_of(&self, items: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        items.start * EDGES_PER_ITEM..(items.end * EDGES_PER_ITEM).min(self.points.len() - 1)
    }
}

/// [`Chain::odd_crossings`] of at most [`EDGES_PER_ITEM`] edges. Only those near the point are tested one by one.
#[inline]
fn odd_crossings(points: &[Coord<f64>], at: Coord<f64>) -> Option<bool> {
    let (mut odd, mut near) = (false, 0u32);
    // Without a branch: which edges cross, and which lie near, follows no pattern.
    for (edge, ends) in points.windows(2).enumerate() {
        let (start, end) = (ends[0], ends[1]);
        let right = (start.x > at.x) & (end.x > at.x);
        let outside = ((start.x < at.x) & (end.x < at.x))
            | ((start.y < at.y) & (end.y < at.y))
            | ((start.y > at.y) & (end.y > at.y));
        odd ^= right & ((start.y > at.y) != (end.y > at.y));
        near |= u32::from(!right & !outside) << edge;
    }
    while near != 0 {
        let edge = near.trailing_zeros() as usize;
        near &= near - 1;
        match crossing(points[edge], points[edge + 1], at) {
            Crossing::Right => odd = !odd,
            Crossing::None => {}
            Crossing::On => return None,
        }
    }
    Some(odd)
}

/// How an edge meets the ray from a point to the east; an edge owns its lower end but not its upper one.
enum Crossing {
    None,
    Right,
    On,
}

#[inline]
fn crossing(start: Coord<f64>, end: Coord<f64>, at: Coord<f64>) -> Crossing {
    let outside = (start.x < at.x && end.x < at.x)
        || (start.y < at.y && end.y < at.y)
        || (start.y > at.y && end.y > at.y);
    if outside {
        return Crossing::None;
    }
    let crosses = (start.y > at.y) != (end.y > at.y);
    if start.x > at.x && end.x > at.x {
        return if crosses { Crossing::Right } else { Crossing::None };
    }
    match orientation(start, end, at) {
        // The point is in the box of the edge, or level with one of its ends.
        Orientation::Collinear if box_holds(start, end, at) => Crossing::On,
        Orientation::Collinear => Crossing::None,
        side if crosses => {
            let left = if end.y > start.y { Orientation::CounterClockwise } else { Orientation::Clockwise };
            if side == left { Crossing::Right } else { Crossing::None }
        }
        _ => Crossing::None,
    }
}

fn box_holds(start: Coord<f64>, end: Coord<f64>, at: Coord<f64>) -> bool {
    box_of(&[start, end]).is_some_and(|bounds| bounds.contains(at.x, at.y))
}

fn edge_touches_box(start: Coord<f64>, end: Coord<f64>, target: &BoundingBox) -> bool {
    if !box_of(&[start, end]).is_some_and(|bounds| bounds.intersects(target)) {
        return false;
    }
    if target.contains(start.x, start.y) || target.contains(end.x, end.y) {
        return true;
    }
    let corners = [
        (target.xmin, target.ymin),
        (target.xmax, target.ymin),
        (target.xmax, target.ymax),
        (target.xmin, target.ymax),
    ];
    let sides = corners.map(|(x, y)| orientation(start, end, Coord { x, y }));
    // Boxes overlap on both axes, so only the edge's own normal can still separate them.
    sides.iter().any(|side| *side != sides[0] || *side == Orientation::Collinear)
}

fn segments_touch(a: Coord<f64>, b: Coord<f64>, c: Coord<f64>, d: Coord<f64>) -> bool {
    let boxes_meet = match (box_of(&[a, b]), box_of(&[c, d])) {
        (Some(left), Some(right)) => left.intersects(&right),
        _ => false,
    };
    if !boxes_meet {
        return false;
    }
    let (c_side, d_side) = (orientation(a, b, c), orientation(a, b, d));
    let (a_side, b_side) = (orientation(c, d, a), orientation(c, d, b));
    let apart = |left: Orientation, right: Orientation| left == right && left != Orientation::Collinear;
    // Collinear segments touch just if their boxes do.
    !apart(c_side, d_side) && !apart(a_side, b_side)
}

/// The side of the line from `start` to `end` on which `at` lies, exact for all finite input in range.
pub(crate) fn orientation(start: Coord<f64>, end: Coord<f64>, at: Coord<f64>) -> Orientation {
    geo::kernels::RobustKernel::orient2d(start, end, at)
}

/// The box of coordinates; `None` without any.
pub(crate) fn box_of(points: &[Coord<f64>]) -> Option<BoundingBox> {
    let first = points.first()?;
    Some(points.iter().fold(BoundingBox::of_point(first.x, first.y), |bounds, point| BoundingBox {
        xmin: bounds.xmin.min(point.x),
        ymin: bounds.ymin.min(point.y),
        xmax: bounds.xmax.max(point.x),
        ymax: bounds.ymax.max(point.y),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, y: f64) -> Coord<f64> {
        Coord { x, y }
    }

    #[test]
    fn segments_touch_at_ends_crossings_and_overlaps_only() {
        let touch = |a: [f64; 4], b: [f64; 4]| {
            segments_touch(at(a[0], a[1]), at(a[2], a[3]), at(b[0], b[1]), at(b[2], b[3]))
        };
        assert!(touch([0., 0., 2., 2.], [0., 2., 2., 0.]));
        assert!(touch([0., 0., 2., 2.], [2., 2., 3., 0.]));
        assert!(touch([0., 0., 2., 0.], [1., 0., 3., 0.]));
        assert!(!touch([0., 0., 1., 0.], [2., 0., 3., 0.]));
        assert!(!touch([0., 0., 3., 3.], [1., 0., 3., 2.]));
        assert!(touch([1., 1., 1., 1.], [0., 0., 2., 2.]));
        assert!(!touch([1., 1.5, 1., 1.5], [0., 0., 2., 2.]));
    }

    #[test]
    fn edges_touch_boxes_exactly() {
        let unit = BoundingBox { xmin: 0., ymin: 0., xmax: 1., ymax: 1. };
        assert!(edge_touches_box(at(-1., 0.5), at(2., 0.5), &unit));
        assert!(!edge_touches_box(at(-1., 1.), at(1., 3.), &unit));
        assert!(edge_touches_box(at(-1., 0.), at(1., 2.), &unit));
        assert!(!edge_touches_box(at(-1., 0.1), at(1., 2.1), &unit));
    }
}
