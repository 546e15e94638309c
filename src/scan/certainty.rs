//! How sure it is, before a batch is read, that its rows match a filter.

use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, UInt64Array};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};

use super::proof::{Containers, all_match};
use super::spatial::BatchFacts;
use crate::dataset::{ColumnBounds, DatasetSnapshot};
use crate::geo::{Extent, ExtentFacts, SpatialConjunct, SpatialTarget};

/// What metadata says of the rows of a batch that was not skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// Every row matches, by partition values or the bounds of columns.
    All,
    /// Every row matches, and it takes the extent of the geometries to know.
    Inside,
    /// The batch lies at the edge of an area.
    Boundary,
    /// Bounds leave it open.
    Possible,
    /// Nothing is known of a column that the filter reads.
    Unknown,
}

/// The certainty of each of the batches at `indices`, which were not skipped. `predicates` are all filters that are not
/// decided by partition values; `is_finite`: coordinates hold no NaN, and geometries are neither empty nor malformed.
///
/// One-sided: `All` and `Inside` are proven.
///
/// # Errors
/// If bounds do not fit the snapshot's schema.
pub(crate) fn certainty_of(
    snapshot: &DatasetSnapshot,
    predicates: &[Arc<dyn PhysicalExpr>],
    indices: &[usize],
    is_finite: bool,
) -> Result<Vec<Certainty>> {
    let schema = snapshot.schema();
    let mut certainty = vec![Certainty::All; indices.len()];
    let bounds = KeptBounds::new(snapshot, indices);
    for predicate in predicates.iter().flat_map(|predicate| split_conjunction(predicate)) {
        if let Some(conjunct) = SpatialConjunct::try_from_physical(predicate, &schema) {
            let facts: Vec<(&SpatialTarget, BatchFacts<'_>)> = conjunct
                .predicates
                .iter()
                .map(|predicate| (&predicate.target, BatchFacts::new(snapshot, &predicate.target, is_finite)))
                .collect();
            for (&i, certainty) in indices.iter().zip(&mut certainty) {
                *certainty = certainty.and(spatial(&conjunct, &facts, i));
            }
            continue;
        }
        let proven = all_match(&bounds, predicate)?;
        let known = bounds.known(predicate);
        for (i, certainty) in certainty.iter_mut().enumerate() {
            let of_predicate = match proven.as_ref().is_some_and(|proven| proven.value(i)) {
                true => Certainty::All,
                false if known.value(i) => Certainty::Possible,
                false => Certainty::Unknown,
            };
            *certainty = certainty.and(of_predicate);
        }
    }
    Ok(certainty)
}

/// Of each of the batches at `indices` whether all rows match `predicate`, by the bounds of columns; `None` if it is of no kind
/// that can be proven.
///
/// # Errors
/// If bounds do not fit the snapshot's schema.
pub(super) fn proven_batches(
    snapshot: &DatasetSnapshot,
    predicate: &Arc<dyn PhysicalExpr>,
    indices: &[usize],
) -> Result<Option<BooleanArray>> {
    all_match(&KeptBounds::new(snapshot, indices), predicate)
}

impl Certainty {
    pub(crate) fn all_match(self) -> bool {
        matches!(self, Self::All | Self::Inside)
    }

    /// Of two filters that both must match: what leaves more open.
    fn and(self, other: Self) -> Self {
        let rank = |certainty| match certainty {
            Self::All => 0,
            Self::Inside => 1,
            Self::Boundary => 2,
            Self::Possible => 3,
            Self::Unknown => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

fn spatial(
    conjunct: &SpatialConjunct,
    facts: &[(&SpatialTarget, BatchFacts<'_>)],
    batch: usize,
) -> Certainty {
    let known: Vec<(&SpatialTarget, ExtentFacts)> =
        facts.iter().map(|(target, facts)| (*target, facts.of(batch))).collect();
    let outcomes = conjunct.outcomes(|target| {
        known.iter().find(|(known, _)| *known == target).map_or(ExtentFacts::UNKNOWN, |(_, facts)| *facts)
    });
    match outcomes.all_match() {
        true => Certainty::Inside,
        false if known.iter().any(|(_, facts)| matches!(facts.extent, Extent::Unknown)) => Certainty::Unknown,
        false => Certainty::Boundary,
    }
}

/// The bounds of some batches of a snapshot.
struct KeptBounds<'a> {
    snapshot: &'a DatasetSnapshot,
    indices: UInt64Array,
}

impl<'a> KeptBounds<'a> {
    fn new(snapshot: &'a DatasetSnapshot, indices: &[usize]) -> Self {
        Self { snapshot, indices: indices.iter().map(|&i| Some(i as u64)).collect() }
    }

    /// For each batch whether bounds or a count of NULLs are known of every column that `predicate` reads.
    fn known(&self, predicate: &Arc<dyn PhysicalExpr>) -> BooleanArray {
        let columns: Vec<ColumnBounds> = collect_columns(predicate)
            .iter()
            .filter_map(|column| self.column(column).ok().flatten())
            .collect();
        (0..self.indices.len())
            .map(|i| {
                let is_known = |bounds: &ColumnBounds| {
                    (bounds.min.is_valid(i) && bounds.max.is_valid(i))
                        || (bounds.null_counts.is_valid(i) && bounds.null_counts.value(i) > 0)
                };
                Some(columns.iter().all(is_known))
            })
            .collect()
    }
}

impl Containers for KeptBounds<'_> {
    fn rows(&self) -> Vec<Option<u64>> {
        let batches = self.snapshot.batches();
        let rows = |&i: &u64| batches.get(usize::try_from(i).ok()?).map(|batch| batch.rows);
        self.indices.values().iter().map(rows).collect()
    }

    fn column(&self, column: &Column) -> Result<Option<ColumnBounds>> {
        match self.snapshot.bounds().columns.get(column.index()) {
            Some(bounds) => Ok(Some(bounds.take(&self.indices)?)),
            None => Ok(None),
        }
    }

    /// NULLs are not counted where a value may not fit the type of the table.
    fn is_readable(&self, column: &Column) -> bool {
        self.column(column).ok().flatten().is_some_and(|bounds| bounds.null_counts.null_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_more_open_wins() {
        use Certainty::*;
        assert_eq!(All.and(Inside), Inside);
        assert_eq!(Inside.and(Possible), Possible);
        assert_eq!(Unknown.and(Boundary), Unknown);
        assert!(All.and(Inside).all_match() && !Boundary.all_match());
    }
}
