//! The spatial predicates and what each means for a point or a geometry against an area.

use crate::geo::area::PointLocation;

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
}

impl PredicateKind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Within, Self::Contains, Self::Intersects, Self::Covers, Self::CoveredBy, Self::Disjoint];

    /// The SQL function's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Within => "st_within",
            Self::Contains => "st_contains",
            Self::Intersects => "st_intersects",
            Self::Covers => "st_covers",
            Self::CoveredBy => "st_coveredby",
            Self::Disjoint => "st_disjoint",
        }
    }

    /// The same predicate with its arguments exchanged.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Within => Self::Contains,
            Self::Contains => Self::Within,
            Self::Covers => Self::CoveredBy,
            Self::CoveredBy => Self::Covers,
            Self::Intersects | Self::Disjoint => self,
        }
    }

    /// Whether the left geometry has to hold the right one.
    pub(crate) fn left_holds_right(self) -> bool {
        matches!(self, Self::Contains | Self::Covers)
    }

    /// The answer for geometries that share no point, or where one is empty.
    pub(crate) fn when_apart(self) -> bool {
        self == Self::Disjoint
    }

    /// The answer for a point at `location` of an area that is not itself a single point.
    pub(crate) fn of_point(self, location: PointLocation) -> bool {
        match self {
            Self::Within => location == PointLocation::Inside,
            Self::Intersects | Self::CoveredBy => location != PointLocation::Outside,
            Self::Disjoint => location == PointLocation::Outside,
            Self::Contains | Self::Covers => false,
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
        }
    }
}
