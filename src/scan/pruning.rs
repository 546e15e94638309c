//! Which batches may hold rows that match: decided from the snapshot alone, one-sided (unsure means keep).

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion_pruning::PruningPredicateBuilder;

use super::metrics::PruningSummary;
use super::nan_safety::hide_unsafe;
use super::spatial::BatchFacts;
use crate::dataset::DatasetSnapshot;
use crate::geo::{ExtentFacts, Outcomes, SpatialConjunct, SpatialTarget};

/// The batches of a dataset that a scan reads.
#[derive(Debug)]
pub(crate) struct KeptBatches {
    /// Ascending batch indices.
    pub(crate) indices: Vec<usize>,
    pub(crate) summary: PruningSummary,
}

impl KeptBatches {
    /// The batches at `indices`, which ascend; nothing is said of why the others are not among them.
    pub(crate) fn at(indices: Vec<usize>) -> Self {
        let summary = PruningSummary { total: indices.len(), ..Default::default() };
        Self { indices, summary }
    }
}

/// Narrows the batches of one snapshot, step by step.
#[derive(Debug)]
pub(crate) struct BatchPruner<'a> {
    snapshot: &'a DatasetSnapshot,
    kept: Vec<bool>,
    summary: PruningSummary,
}

impl<'a> BatchPruner<'a> {
    pub(crate) fn new(snapshot: &'a DatasetSnapshot) -> Self {
        let total = snapshot.num_batches();
        Self { snapshot, kept: vec![true; total], summary: PruningSummary { total, ..Default::default() } }
    }

    /// Starts from the batches at `indices` alone.
    pub(crate) fn among(snapshot: &'a DatasetSnapshot, indices: &[usize]) -> Self {
        let mut kept = vec![false; snapshot.num_batches()];
        for &i in indices {
            if let Some(kept) = kept.get_mut(i) {
                *kept = true;
            }
        }
        Self { snapshot, kept, summary: PruningSummary { total: indices.len(), ..Default::default() } }
    }

    /// Drops the batches of files whose partition values make `predicate`, over partition columns only, false or
    /// NULL. Exact: the others are all rows for which it is true.
    pub(crate) fn prune_partitions(&mut self, predicate: &Arc<dyn PhysicalExpr>) -> Result<()> {
        let mut is_wanted = vec![false; self.snapshot.files().len()];
        for (batch, kept) in self.snapshot.batches().iter().zip(&self.kept) {
            is_wanted[batch.file_index] |= kept;
        }
        let matching = files_matching(self.snapshot, &is_wanted, predicate)?;
        let dropped = self.drop_where(|pruner, i| !matching[pruner.snapshot.batches()[i].file_index]);
        self.summary.by_partition += dropped;
        Ok(())
    }

    /// Drops batches that no row of can make all of `predicates` true.
    pub(crate) fn prune_predicates(&mut self, predicates: &[Arc<dyn PhysicalExpr>], is_finite: bool) {
        let keep = self.keep_by(predicates).unwrap_or_else(|error| {
            log::debug!("batches are not pruned: {error}");
            vec![true; self.kept.len()]
        });
        self.summary.by_statistics += self.drop_where(|_, i| !keep[i]);
        let conjuncts = predicates.iter().flat_map(|predicate| split_conjunction(predicate));
        let schema = self.snapshot.schema();
        let spatial: Vec<SpatialConjunct> =
            conjuncts.filter_map(|expr| SpatialConjunct::try_from_physical(expr, &schema)).collect();
        if !spatial.is_empty() {
            self.prune_extents(&spatial, is_finite);
        }
    }

    fn prune_extents(&mut self, conjuncts: &[SpatialConjunct], is_finite: bool) {
        let snapshot = self.snapshot;
        let mut targets: Vec<(&SpatialTarget, BatchFacts<'_>)> = vec![];
        for predicate in conjuncts.iter().flat_map(|conjunct| &conjunct.predicates) {
            if !targets.iter().any(|(known, _)| **known == predicate.target) {
                targets.push((&predicate.target, BatchFacts::new(snapshot, &predicate.target, is_finite)));
            }
        }
        let mut all_match = vec![false; self.kept.len()];
        let mut may_match = vec![true; self.kept.len()];
        for i in (0..self.kept.len()).filter(|&i| self.kept[i]) {
            let facts: Vec<ExtentFacts> = targets.iter().map(|(_, facts)| facts.of(i)).collect();
            let facts_of = |target: &SpatialTarget| {
                let at = targets.iter().position(|(known, _)| *known == target);
                at.map_or(ExtentFacts::UNKNOWN, |at| facts[at])
            };
            let mut outcomes = conjuncts.iter().map(|conjunct| conjunct.outcomes(facts_of));
            let outcome = outcomes.by_ref().fold(Outcomes::TRUE, Outcomes::and);
            (may_match[i], all_match[i]) = (outcome.may_match(), outcome.all_match());
        }
        self.summary.by_extent += self.drop_where(|_, i| !may_match[i]);
        let inside = (0..self.kept.len()).filter(|&i| self.kept[i] && all_match[i]).count();
        let kept = self.kept.iter().filter(|kept| **kept).count();
        (self.summary.inside, self.summary.boundary) = (inside, kept - inside);
    }

    fn keep_by(&self, predicates: &[Arc<dyn PhysicalExpr>]) -> Result<Vec<bool>> {
        let schema = self.snapshot.schema();
        let predicate = conjunction(hide_unsafe(predicates, &schema));
        let simplified = PhysicalExprSimplifier::new(&schema).simplify(predicate)?;
        let pruning = PruningPredicateBuilder::new().with_file_schema(schema).try_build(simplified)?;
        pruning.prune(&SnapshotPruningStatistics { snapshot: self.snapshot })
    }

    /// Keeps the first batches that together have `limit` rows; only right when every row of them matches.
    pub(crate) fn prune_limit(&mut self, limit: usize) {
        let mut rows: u64 = 0;
        let limit = limit as u64;
        let mut beyond = vec![false; self.kept.len()];
        for (i, batch) in self.snapshot.batches().iter().enumerate() {
            if self.kept[i] {
                beyond[i] = rows >= limit;
                rows = rows.saturating_add(batch.rows);
            }
        }
        self.summary.by_limit += self.drop_where(|_, i| beyond[i]);
    }

    fn drop_where(&mut self, is_dropped: impl Fn(&Self, usize) -> bool) -> usize {
        let dropped: Vec<usize> =
            (0..self.kept.len()).filter(|&i| self.kept[i] && is_dropped(self, i)).collect();
        for &i in &dropped {
            self.kept[i] = false;
            let batch = &self.snapshot.batches()[i];
            self.summary.rows += batch.rows;
            self.summary.bytes += batch.compressed_bytes;
        }
        dropped.len()
    }

    pub(crate) fn finish(self) -> KeptBatches {
        let indices = (0..self.kept.len()).filter(|&i| self.kept[i]).collect();
        KeptBatches { indices, summary: self.summary }
    }
}

/// For each file, whether its partition values make `predicate` true; evaluated for the wanted files alone, the others
/// may be ones that an earlier filter kept it from failing on.
fn files_matching(
    snapshot: &DatasetSnapshot,
    is_wanted: &[bool],
    predicate: &Arc<dyn PhysicalExpr>,
) -> Result<Vec<bool>> {
    let fields = snapshot.table_schema().table_partition_cols();
    let wanted: Vec<usize> = (0..is_wanted.len()).filter(|&i| is_wanted[i]).collect();
    let mut matching = vec![false; is_wanted.len()];
    if wanted.is_empty() {
        return Ok(matching);
    }
    let value = |file: &usize, i: usize| snapshot.files()[*file].partition_values[i].clone();
    let columns = (0..fields.len())
        .map(|i| ScalarValue::iter_to_array(wanted.iter().map(|file| value(file, i))))
        .collect::<Result<Vec<_>>>()?;
    let schema: SchemaRef = Arc::new(Schema::new(fields.clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(wanted.len()));
    let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let predicate = reassign_expr_columns(Arc::clone(predicate), &schema)?;
    let matched = predicate.evaluate(&values)?.into_array(wanted.len())?;
    for (file, is_match) in wanted.into_iter().zip(matched.as_boolean()) {
        matching[file] = is_match == Some(true);
    }
    Ok(matching)
}

/// Whether `predicate` reads partition columns and nothing else.
pub(crate) fn is_partition_predicate(predicate: &Arc<dyn PhysicalExpr>, snapshot: &DatasetSnapshot) -> bool {
    let partitions = snapshot.table_schema().table_partition_cols();
    let columns = collect_columns(predicate);
    !columns.is_empty() && columns.iter().all(|column| partitions.iter().any(|f| f.name() == column.name()))
}

/// The snapshot's bounds, as DataFusion's pruning asks for them.
struct SnapshotPruningStatistics<'a> {
    snapshot: &'a DatasetSnapshot,
}

impl SnapshotPruningStatistics<'_> {
    fn bounds(&self, column: &Column) -> Option<&crate::dataset::ColumnBounds> {
        let index = self.snapshot.table_schema().table_schema().index_of(&column.name).ok()?;
        self.snapshot.bounds().columns.get(index)
    }
}

impl PruningStatistics for SnapshotPruningStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::clone(&bounds.min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::clone(&bounds.max))
    }

    fn num_containers(&self) -> usize {
        self.snapshot.bounds().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::new(bounds.null_counts.clone()) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.snapshot.bounds().rows.clone()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
