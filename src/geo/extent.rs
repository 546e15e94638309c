//! What is known of the geometries of some rows before they are read, and what a predicate can then give.

use std::ops::{BitOr, BitOrAssign, Not};

use crate::geo::bounding_box::BoundingBox;

/// Where the geometries of some rows lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Extent {
    /// Anywhere.
    Unknown,
    /// No row has a geometry with a point.
    Nowhere,
    /// All points of all geometries lie in the box.
    Within(BoundingBox),
}

/// What is known of the geometries of some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ExtentFacts {
    /// Where they lie.
    pub(crate) extent: Extent,
    /// A row may be NULL.
    pub(crate) may_be_null: bool,
    /// A row may hold an empty geometry; so is a point with NaN or infinity.
    pub(crate) may_be_empty: bool,
    /// A row may hold a malformed geometry: an error, or NULL to a predicate.
    pub(crate) may_be_malformed: bool,
}

impl ExtentFacts {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self =
        Self { extent: Extent::Unknown, may_be_null: true, may_be_empty: true, may_be_malformed: true };
    /// There are no rows.
    pub(crate) const NO_ROWS: Self =
        Self { extent: Extent::Nowhere, may_be_null: false, may_be_empty: false, may_be_malformed: false };
    /// Every row is NULL.
    pub(crate) const ALL_NULL: Self = Self { may_be_null: true, ..Self::NO_ROWS };

    /// What is known of both sets of rows together.
    pub(crate) fn union(self, other: Self) -> Self {
        let extent = match (self.extent, other.extent) {
            (Extent::Within(a), Extent::Within(b)) => Extent::Within(a.union(&b)),
            (Extent::Nowhere, known) | (known, Extent::Nowhere) => known,
            _ => Extent::Unknown,
        };
        Self {
            extent,
            may_be_null: self.may_be_null || other.may_be_null,
            may_be_empty: self.may_be_empty || other.may_be_empty,
            may_be_malformed: self.may_be_malformed || other.may_be_malformed,
        }
    }

    /// Takes in a geometry with this box; `None` for an empty one.
    pub(crate) fn add(&mut self, bounds: Option<BoundingBox>) {
        match bounds {
            None => self.may_be_empty = true,
            Some(bounds) => {
                self.extent = match self.extent {
                    Extent::Within(known) => Extent::Within(known.union(&bounds)),
                    Extent::Nowhere => Extent::Within(bounds),
                    Extent::Unknown => Extent::Unknown,
                };
            }
        }
    }
}

/// The values that a predicate may have in some rows: a set of TRUE, FALSE and NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcomes(u8);

impl Outcomes {
    pub(crate) const TRUE: Self = Self(1);
    pub(crate) const FALSE: Self = Self(2);
    pub(crate) const NULL: Self = Self(4);
    /// For no rows at all.
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ANY: Self = Self(7);

    /// The set of one truth value.
    pub(crate) fn only(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a row may make the predicate true.
    pub(crate) fn may_match(self) -> bool {
        self.has(Self::TRUE)
    }

    /// Whether every row makes the predicate true.
    pub(crate) fn all_match(self) -> bool {
        !self.has(Self::FALSE) && !self.has(Self::NULL)
    }

    /// Of `self AND other`, by SQL's three-valued logic.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::NONE || other == Self::NONE {
            return Self::NONE;
        }
        let mut both = Self::NONE;
        if self.has(Self::FALSE) || other.has(Self::FALSE) {
            both |= Self::FALSE;
        }
        if self.has(Self::TRUE) && other.has(Self::TRUE) {
            both |= Self::TRUE;
        }
        let not_false = Self::TRUE | Self::NULL;
        if (self.has(Self::NULL) && other.has(not_false)) || (other.has(Self::NULL) && self.has(not_false)) {
            both |= Self::NULL;
        }
        both
    }

    /// Of `self OR other`, by SQL's three-valued logic.
    pub(crate) fn or(self, other: Self) -> Self {
        !(!self).and(!other)
    }
}

impl BitOr for Outcomes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Outcomes {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl Not for Outcomes {
    type Output = Self;

    fn not(self) -> Self {
        let mut negated = Self(self.0 & Self::NULL.0);
        if self.has(Self::TRUE) {
            negated |= Self::FALSE;
        }
        if self.has(Self::FALSE) {
            negated |= Self::TRUE;
        }
        negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [Option<bool>; 3] = [Some(true), Some(false), None];

    fn set(bits: u8) -> impl Iterator<Item = Option<bool>> {
        VALUES.into_iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, value)| value)
    }

    fn of(value: Option<bool>) -> Outcomes {
        value.map_or(Outcomes::NULL, Outcomes::only)
    }

    fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
        match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    #[test]
    fn logic_over_sets_is_the_logic_of_their_members() {
        for left in 0..8 {
            let negated = set(left).fold(Outcomes::NONE, |all, a| all | of(a.map(|a| !a)));
            assert_eq!(!Outcomes(left), negated);
            for right in 0..8 {
                let pairs = || set(left).flat_map(|a| set(right).map(move |b| (a, b)));
                let both = pairs().fold(Outcomes::NONE, |all, (a, b)| all | of(and(a, b)));
                assert_eq!(Outcomes(left).and(Outcomes(right)), both, "{left} and {right}");
                let either = |a: Option<bool>, b: Option<bool>| {
                    and(a.map(|a| !a), b.map(|b| !b)).map(|neither| !neither)
                };
                let any = pairs().fold(Outcomes::NONE, |all, (a, b)| all | of(either(a, b)));
                assert_eq!(Outcomes(left).or(Outcomes(right)), any, "{left} or {right}");
            }
        }
    }

    #[test]
    fn facts_of_all_rows_hold_those_of_each_part() {
        let west = BoundingBox { xmin: 0.0, ymin: 0.0, xmax: 1.0, ymax: 1.0 };
        let mut facts = ExtentFacts::NO_ROWS;
        facts.add(Some(west));
        facts.add(Some(west.shifted(5.0)));
        assert_eq!(facts.extent, Extent::Within(BoundingBox { xmax: 6.0, ..west }));
        assert!(!facts.may_be_empty);
        facts.add(None);
        assert!(facts.may_be_empty);
        assert_eq!(facts.union(ExtentFacts::ALL_NULL).extent, facts.extent);
        assert!(facts.union(ExtentFacts::ALL_NULL).may_be_null);
        assert_eq!(facts.union(ExtentFacts::UNKNOWN), ExtentFacts::UNKNOWN);
    }
}
