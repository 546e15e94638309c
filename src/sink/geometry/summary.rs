//! What rows say for the metadata of the file that they are in.

use crate::geo::{BoundingBox, GeometryTypes, RowBoxes};

/// What rows say of their geometries. That of no rows is the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GeometrySummary {
    /// One per geometry column; none before there are rows.
    columns: Vec<ColumnSummary>,
}

/// What rows say of one geometry column.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ColumnSummary {
    /// The box of all coordinates.
    pub(super) bounds: Option<BoundingBox>,
    pub(super) types: GeometryTypes,
    /// A geometry could not be read: it may be anything, anywhere.
    pub(super) has_malformed: bool,
    /// The covering column does not hold the geometry's box in every row.
    pub(super) covering_lies: bool,
}

impl GeometrySummary {
    pub(super) fn new(columns: Vec<ColumnSummary>) -> Self {
        Self { columns }
    }

    /// Takes in what other rows of the same file say.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.columns.len() < other.columns.len() {
            self.columns.resize(other.columns.len(), ColumnSummary::default());
        }
        self.columns.iter_mut().zip(&other.columns).for_each(|(column, other)| column.merge(other));
    }

    pub(super) fn column(&self, index: usize) -> ColumnSummary {
        self.columns.get(index).copied().unwrap_or_default()
    }
}

impl ColumnSummary {
    pub(super) fn of(boxes: &RowBoxes) -> Self {
        Self {
            bounds: boxes.bounds,
            types: boxes.types,
            has_malformed: boxes.fault.is_some(),
            covering_lies: false,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.bounds = match (self.bounds, other.bounds) {
            (Some(bounds), Some(other)) => Some(bounds.union(&other)),
            (bounds, other) => bounds.or(other),
        };
        self.types = self.types.union(other.types);
        self.has_malformed |= other.has_malformed;
        self.covering_lies |= other.covering_lies;
    }
}
