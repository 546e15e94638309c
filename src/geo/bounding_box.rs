//! An axis-parallel box in degrees.

/// The extent of data, or of an area as written: a closed box in degrees, longitude first.
///
/// A box made from data is finite, with `xmin <= xmax` and `ymin <= ymax`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BoundingBox {
    /// Least longitude.
    pub(crate) xmin: f64,
    /// Least latitude.
    pub(crate) ymin: f64,
    /// Greatest longitude.
    pub(crate) xmax: f64,
    /// Greatest latitude.
    pub(crate) ymax: f64,
}

impl BoundingBox {
    /// A box from its bounds, or `None` if one is not finite or a lower bound exceeds its upper bound.
    pub(crate) fn from_bounds(xmin: f64, ymin: f64, xmax: f64, ymax: f64) -> Option<Self> {
        let finite = [xmin, ymin, xmax, ymax].iter().all(|bound| bound.is_finite());
        (finite && xmin <= xmax && ymin <= ymax).then_some(Self { xmin, ymin, xmax, ymax })
    }

    /// The box of a single point.
    pub(crate) fn of_point(x: f64, y: f64) -> Self {
        Self { xmin: x, ymin: y, xmax: x, ymax: y }
    }

    /// Whether the point is in the closed box; `false` for NaN.
    pub(crate) fn contains(&self, x: f64, y: f64) -> bool {
        self.xmin <= x && x <= self.xmax && self.ymin <= y && y <= self.ymax
    }

    /// Whether the two closed boxes share a point.
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.xmin <= other.xmax
            && other.xmin <= self.xmax
            && self.ymin <= other.ymax
            && other.ymin <= self.ymax
    }

    /// Whether the other box lies in this closed box.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.contains(other.xmin, other.ymin) && self.contains(other.xmax, other.ymax)
    }

    /// The smallest box that holds both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self {
            xmin: self.xmin.min(other.xmin),
            ymin: self.ymin.min(other.ymin),
            xmax: self.xmax.max(other.xmax),
            ymax: self.ymax.max(other.ymax),
        }
    }

    /// The box moved east by `degrees`.
    pub(crate) fn shifted(&self, degrees: f64) -> Self {
        Self { xmin: self.xmin + degrees, xmax: self.xmax + degrees, ..*self }
    }

    /// Whether the box is one point.
    pub(crate) fn is_point(&self) -> bool {
        self.xmin == self.xmax && self.ymin == self.ymax
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_must_be_finite_and_ordered() {
        assert!(BoundingBox::from_bounds(0.0, 0.0, 1.0, 1.0).is_some());
        assert!(BoundingBox::from_bounds(2.0, 0.0, 1.0, 1.0).is_none());
        assert!(BoundingBox::from_bounds(f64::NAN, 0.0, 1.0, 1.0).is_none());
        assert!(BoundingBox::from_bounds(0.0, 0.0, f64::INFINITY, 1.0).is_none());
    }

    #[test]
    fn boxes_are_closed() {
        let left = BoundingBox { xmin: 0.0, ymin: 0.0, xmax: 1.0, ymax: 1.0 };
        let right = left.shifted(1.0);
        assert!(left.intersects(&right));
        assert!(!left.intersects(&left.shifted(1.5)));
        assert!(left.contains(1.0, 0.0));
        assert!(!left.contains(f64::NAN, 0.0));
        assert_eq!(left.union(&right), BoundingBox { xmax: 2.0, ..left });
    }
}
