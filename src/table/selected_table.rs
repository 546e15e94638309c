//! Some batches of a dataset as a table.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, SortExpr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::planned_filter::unqualified;
use super::provider::{TableFilters, filters_pushdown, scan_kept};
use crate::dataset::DatasetSnapshot;
use crate::scan::{BatchPruner, KeptBatches};

/// The batches of a selection as a table of all their rows and columns.
pub(super) struct SelectedTable {
    pub(super) snapshot: Arc<DatasetSnapshot>,
    pub(super) orders: Arc<[Vec<SortExpr>]>,
    /// Ascending batch indices.
    pub(super) kept: Arc<[usize]>,
    /// What the batches were kept by, if every scan has these filters and no others: none of them excludes a batch.
    pub(super) decided: Option<Arc<[Expr]>>,
}

impl Debug for SelectedTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectedTable").field("batches", &self.kept.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SelectedTable {
    fn schema(&self) -> SchemaRef {
        self.snapshot.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let mut support = filters_pushdown(&self.snapshot, filters);
        if let Some(decided) = &self.decided {
            // Nobody looks at an exact filter again: it must be one of those that the batches were kept by.
            for (filter, support) in filters.iter().zip(&mut support) {
                if !decided.contains(&unqualified((*filter).clone())?) {
                    *support = TableProviderFilterPushDown::Inexact;
                }
            }
        }
        Ok(support)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.decided.is_some() {
            let limit = limit.filter(|_| filters.is_empty());
            let kept = KeptBatches::at(self.kept.to_vec());
            return scan_kept(state, &self.snapshot, &self.orders, kept, projection, limit);
        }
        let filters = TableFilters::try_new(state, &self.snapshot, filters)?;
        let mut pruner = BatchPruner::among(&self.snapshot, &self.kept);
        filters.prune(state, &mut pruner)?;
        let limit = limit.filter(|_| filters.inexact.is_empty());
        if let Some(limit) = limit {
            pruner.prune_limit(limit);
        }
        scan_kept(state, &self.snapshot, &self.orders, pruner.finish(), projection, limit)
    }
}
