//! The spatial predicates and what each means for a point, a box or a geometry against an area.

use crate::geo::area::{BoxRelation, PointLocation};

/// A predicate between two geometries, named as in OGC Simple Features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PredicateKind {
    /// The left lies in the right, and their interiors meet.
    Within,
    /// The right lies in the left, and their interiors meet.
    Contains,
    /// They share a point.
    Intersects,
    /// No point of the right lies outside the left.
    Covers,
    /// No point of the left lies outside the right.
    CoveredBy,
    /// They share no point.
    Disjoint,
    /// They are the same set of points; two empty geometries are.
    Equals,
    /// They share a point, but their interiors do not.
    Touches,
    /// Their interiors meet in a set of less dimension than the larger one, and neither holds the other.
    Crosses,
    /// Their interiors meet in a set of their common dimension, and neither holds the other.
    Overlaps,
}

impl PredicateKind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Within,
        Self::Contains,
        Self::Intersects,
        Self::Covers,
        Self::CoveredBy,
        Self::Disjoint,
        Self::Equals,
        Self::Touches,
        Self::Crosses,
        Self::Overlaps,
    ];

    /// The SQL function's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Within => "st_within",
            Self::Contains => "st_contains",
            Self::Intersects => "st_intersects",
            Self::Covers => "st_covers",
            Self::CoveredBy => "st_coveredby",
            Self::Disjoint => "st_disjoint",
            Self::Equals => "st_equals",
            Self::Touches => "st_touches",
            Self::Crosses => "st_crosses",
            Self::Overlaps => "st_overlaps",
        }
    }

    /// The same predicate with its arguments exchanged.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Within => Self::Contains,
            Self::Contains => Self::Within,
            Self::Covers => Self::CoveredBy,
            Self::CoveredBy => Self::Covers,
            Self::Intersects
            | Self::Disjoint
            | Self::Equals
            | Self::Touches
            | Self::Crosses
            | Self::Overlaps => self,
        }
    }

    /// Whether the left geometry has to hold the right one.
    pub(crate) fn left_holds_right(self) -> bool {
        matches!(self, Self::Contains | Self::Covers | Self::Equals)
    }

    /// The answer for geometries that share no point, or where one is empty and the other is not.
    pub(crate) fn when_apart(self) -> bool {
        self == Self::Disjoint
    }

    /// The answer for two empty geometries.
    pub(crate) fn when_both_empty(self) -> bool {
        matches!(self, Self::Disjoint | Self::Equals)
    }

    /// The answer for a point at `location` of an area that is not itself a single point.
    pub(crate) fn of_point(self, location: PointLocation) -> bool {
        match self {
            Self::Within => location == PointLocation::Inside,
            Self::Intersects | Self::CoveredBy => location != PointLocation::Outside,
            Self::Disjoint => location == PointLocation::Outside,
            Self::Touches => location == PointLocation::Boundary,
            Self::Contains | Self::Covers | Self::Equals | Self::Crosses | Self::Overlaps => false,
        }
    }

    /// The answer for every geometry on the left that lies in an extent, with the area on the right; `None` where
    /// they may differ.
    ///
    /// Not for NULL, nor for empty geometries, which lie in every extent: their answers are NULL,
    /// [`Self::when_apart`] and [`Self::when_both_empty`].
    pub(crate) fn of_extent(self, relation: BoxRelation) -> Option<bool> {
        match relation {
            BoxRelation::Boundary => None,
            BoxRelation::Outside => Some(self.when_apart()),
            // What lies in the interior of an area is smaller than it, and meets its boundary nowhere.
            BoxRelation::Inside => Some(matches!(self, Self::Within | Self::CoveredBy | Self::Intersects)),
        }
    }

    /// What rules this predicate out at another way to write the longitudes, when it does not itself hold there.
    ///
    /// A geometry may meet an area in several ways of writing its longitudes, of which one has its boundary only.
    pub(crate) fn ruled_out_by(self) -> Option<Self> {
        match self {
            Self::Touches => Some(Self::Intersects),
            Self::Crosses | Self::Overlaps => Some(Self::CoveredBy),
            _ => None,
        }
    }

    /// The answer in a DE-9IM matrix of left against right.
    pub(crate) fn of_matrix(self, matrix: &geo::relate::IntersectionMatrix) -> bool {
        match self {
            Self::Within => matrix.is_within(),
            Self::Contains => matrix.is_contains(),
            Self::Intersects => matrix.is_intersects(),
            Self::Covers => matrix.is_covers(),
            Self::CoveredBy => matrix.is_coveredby(),
            Self::Disjoint => matrix.is_disjoint(),
            Self::Equals => matrix.is_equal_topo(),
            Self::Touches => matrix.is_touches(),
            Self::Crosses => matrix.is_crosses(),
            Self::Overlaps => matrix.is_overlaps(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::area::Area;
    use crate::geo::bounding_box::BoundingBox;
    use crate::geo::wkt::parse_wkt;

    #[test]
    fn answers_of_an_extent_hold_for_geometries_in_it() {
        let area = |text| Area::try_new(parse_wkt(text).unwrap()).unwrap();
        let boxed = |extent: &BoundingBox, text: &str| {
            let mut wkt = text.to_owned();
            for (name, value) in
                [("X", extent.xmin), ("Y", extent.ymin), ("U", extent.xmax), ("V", extent.ymax)]
            {
                wkt = wkt.replace(name, &value.to_string());
            }
            parse_wkt(&wkt.to_ascii_uppercase()).unwrap()
        };
        let mut decided = 0;
        for area in [
            area("POLYGON((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4))"),
            // Meets the extents below in two ways: at a full turn from each other.
            area("POLYGON((-5 0,357 0,357 10,-5 10,-5 0))"),
            area("LINESTRING(0 0,10 10)"),
            area("MULTIPOINT(1 1,2 2)"),
            area("POLYGON EMPTY"),
        ] {
            for (xmin, ymin) in [(1.0, 1.0), (4.5, 4.5), (-5.0, 1.0), (20.0, 20.0), (-3.0, 1.0), (356.5, 2.0)]
            {
                let extent = BoundingBox { xmin, ymin, xmax: xmin + 1.0, ymax: ymin + 1.0 };
                for text in
                    ["point(X Y)", "linestring(X Y,U V)", "polygon((X Y,U Y,U V,X Y))", "multipoint(X Y,U V)"]
                {
                    let geometry = boxed(&extent, text);
                    for kind in PredicateKind::ALL {
                        if let Some(expected) = kind.of_extent(area.relate_box(&extent)) {
                            decided += 1;
                            assert_eq!(
                                area.relate(kind, &geometry),
                                Ok(expected),
                                "{kind:?} {geometry:?} {area:?}"
                            );
                        }
                    }
                }
            }
        }
        assert!(decided > 500, "{decided}");
    }
}
