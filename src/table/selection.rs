//! [`Selection`]: the batches that may hold rows of a filter, and the ways to read them.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use datafusion::prelude::DataFrame;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};

use super::planned_filter::{PlannedFilter, TABLE};
use super::selected_batch::{KeptReason, RowBounds, SelectedBatch, row_bounds};
use super::selected_table::SelectedTable;
use super::selection_builder::conjuncts;
use super::selection_filter::FilterSource;
use super::ticket::TicketSelection;
use super::time_column::time_column;
use super::write::write_rows;
use crate::dataset::{BatchId, DatasetSnapshot, batch_extents};
use crate::filter::FilterVariables;
use crate::geo::BoundingBox;
use crate::options::OdpOptions;
use crate::scan::{Certainty, OrderedConcatExec};
use crate::sink::{WriteOptions, WriteReport};

/// The rows of a dataset that match a filter, as batches.
///
/// How many batches there are, and what is known of each, comes from metadata: nothing is read until a stream is polled.
/// Batches are independent: any of them can be read on its own, in any order, several at a time, or in another process
/// (see [`ticket`](Self::ticket)). All of them together hold each matching row once.
///
/// Made by [`OdpTableProvider::select`](super::OdpTableProvider::select). Cheap to clone. Settings and the clock are
/// those of planning.
#[derive(Clone)]
pub struct Selection {
    inner: Arc<Inner>,
}

/// What planning found.
pub(super) struct SelectionParts {
    pub(super) snapshot: Arc<DatasetSnapshot>,
    pub(super) orders: Arc<[Vec<SortExpr>]>,
    /// The filter as the user wrote it.
    pub(super) source: FilterSource,
    pub(super) variables: FilterVariables,
    pub(super) filter: PlannedFilter,
    /// Columns that the filter names, those that it turned out not to need included.
    pub(super) filter_columns: BTreeSet<String>,
    /// Positions in the table's schema; `None` = all.
    pub(super) columns: Option<Vec<usize>>,
    /// Ascending batch indices.
    pub(super) kept: Arc<[usize]>,
    /// One for each of `kept`.
    pub(super) certainty: Vec<Certainty>,
    pub(super) warnings: Vec<String>,
}

struct Inner {
    parts: SelectionParts,
    /// As the user has it.
    state: SessionState,
    /// Where a plan keeps one output partition for each run of batches, in order.
    ordered_state: SessionState,
    task: Arc<TaskContext>,
    /// The filters that the batches were kept by.
    decided: Arc<[Expr]>,
    /// Scan, filter and columns, optimized; only the batches of the scan change.
    template: LogicalPlan,
    schema: SchemaRef,
    time_column: Option<usize>,
    extents: OnceLock<Vec<Option<BoundingBox>>>,
    tickets: OnceLock<Arc<TicketSelection>>,
}

impl Debug for Selection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selection")
            .field("location", &self.snapshot().location())
            .field("batches", &self.batch_count())
            .field("total_batches", &self.total_batches())
            .finish_non_exhaustive()
    }
}

/// One batch of a selection, opened.
#[non_exhaustive]
pub struct BatchStream {
    /// Which batch it is, and what was known of it.
    pub batch: SelectedBatch,
    /// Batches in the selection.
    pub total: usize,
    /// The batch's rows that match, the selected columns, in file order.
    pub stream: SendableRecordBatchStream,
}

impl Debug for BatchStream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchStream")
            .field("batch", &self.batch)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Selection {
    pub(super) fn try_new(parts: SelectionParts, state: SessionState) -> Result<Self> {
        let mut ordered_state = state.clone();
        let options = ordered_state.config_mut().options_mut();
        // Rows stay in the partition, and so in the order, that they are read in.
        options.optimizer.enable_round_robin_repartition = false;
        // Their types are those of the table, which `schema` tells.
        options.optimizer.expand_views_at_output = false;
        if let Some(odp) = options.extensions.get_mut::<OdpOptions>() {
            odp.source_order = false;
        }
        let decided: Arc<[Expr]> = conjuncts(&parts.filter).into();
        let scan = SelectedTable {
            snapshot: Arc::clone(&parts.snapshot),
            orders: Arc::clone(&parts.orders),
            kept: Arc::clone(&parts.kept),
            decided: Some(Arc::clone(&decided)),
        };
        let template = ordered_state.optimize(&logical_plan(
            Arc::new(scan),
            &parts.filter,
            parts.columns.as_deref(),
        )?)?;
        let table = parts.snapshot.schema();
        let schema = match &parts.columns {
            Some(columns) => Arc::new(table.project(columns)?),
            None => Arc::clone(&table),
        };
        let inner = Inner {
            task: ordered_state.task_ctx(),
            time_column: time_column(table.fields()),
            parts,
            state,
            ordered_state,
            decided,
            template,
            schema,
            extents: OnceLock::new(),
            tickets: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(super) fn parts(&self) -> &SelectionParts {
        &self.inner.parts
    }

    pub(super) fn state(&self) -> &SessionState {
        &self.inner.state
    }

    /// What its tickets have in common, once it is known.
    pub(super) fn ticket_cell(&self) -> &OnceLock<Arc<TicketSelection>> {
        &self.inner.tickets
    }

    /// Position in the dataset and rows of the batch at `position`.
    pub(super) fn index_and_rows(&self, position: usize) -> Option<(usize, RowBounds)> {
        let parts = &self.inner.parts;
        let (&index, &certainty) = (parts.kept.get(position)?, parts.certainty.get(position)?);
        Some((index, row_bounds(certainty, parts.snapshot.batches()[index].rows)))
    }

    /// The dataset, as it was when the table was opened.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<DatasetSnapshot> {
        &self.inner.parts.snapshot
    }

    /// Batches that may hold rows that match. Every row that matches is in one of them.
    #[must_use]
    pub fn batch_count(&self) -> usize {
        self.inner.parts.kept.len()
    }

    /// Batches of the dataset.
    #[must_use]
    pub fn total_batches(&self) -> usize {
        self.snapshot().num_batches()
    }

    /// What is known of each batch of the selection, in order.
    pub fn batches(&self) -> impl ExactSizeIterator<Item = SelectedBatch> + DoubleEndedIterator + '_ {
        (0..self.batch_count()).map(|position| self.describe(position))
    }

    /// What is known of the batch at `position` in the selection; `None` past the end.
    #[must_use]
    pub fn selected_batch(&self, position: usize) -> Option<SelectedBatch> {
        (position < self.batch_count()).then(|| self.describe(position))
    }

    /// How many rows match, from metadata: bounds that always hold, and an estimate between them.
    #[must_use]
    pub fn estimated_rows(&self) -> RowBounds {
        let parts = &self.inner.parts;
        let bounds = parts
            .kept
            .iter()
            .zip(&parts.certainty)
            .map(|(&index, &certainty)| row_bounds(certainty, parts.snapshot.batches()[index].rows));
        bounds.fold(RowBounds::default(), RowBounds::plus)
    }

    /// The selected columns, in the order that was asked for.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.inner.schema)
    }

    /// What the filter's language warns of: such as `and` and `or` without parentheses, and how they were read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.parts.warnings
    }

    /// The rows that match in the batch at `position` of the selection, in file order; opens no other batch.
    ///
    /// Pages that cannot match are skipped and the filter is applied to each row, as in a query.
    ///
    /// # Errors
    /// A planning error past the last batch. The stream gives [`OdpError::Changed`](crate::OdpError::Changed) if the
    /// file is not the one that the table was opened with.
    pub async fn batch(&self, position: usize) -> Result<SendableRecordBatchStream> {
        let count = self.batch_count();
        let Some(&index) = self.inner.parts.kept.get(position) else {
            return plan_err!("batch {position} does not exist: the selection has {count} batches");
        };
        let plan = self.physical_plan(Arc::from([index])).await?;
        execute_stream(in_order(plan, &self.inner.ordered_state), Arc::clone(&self.inner.task))
    }

    /// All batches, opened one after the other as the stream is polled, each with what is known of it.
    #[must_use]
    pub fn stream_batches(&self) -> BoxStream<'static, Result<BatchStream>> {
        let selection = self.clone();
        let total = self.batch_count();
        stream::iter(0..total)
            .then(move |position| {
                let selection = selection.clone();
                async move {
                    let stream = selection.batch(position).await?;
                    Ok(BatchStream { batch: selection.describe(position), total, stream })
                }
            })
            .boxed()
    }

    /// All rows that match, in batch order; the next batches are read ahead.
    ///
    /// # Errors
    /// If the plan cannot be made; the stream ends with an error if a batch cannot be read.
    pub async fn execute(&self) -> Result<SendableRecordBatchStream> {
        let plan = self.physical_plan(Arc::clone(&self.inner.parts.kept)).await?;
        execute_stream(in_order(plan, &self.inner.ordered_state), Arc::clone(&self.inner.task))
    }

    /// All rows that match, in the order in which they are ready: no batch waits for one before it.
    ///
    /// # Errors
    /// See [`execute`](Self::execute).
    pub async fn execute_unordered(&self) -> Result<SendableRecordBatchStream> {
        let plan = self.physical_plan(Arc::clone(&self.inner.parts.kept)).await?;
        execute_stream(plan, Arc::clone(&self.inner.task))
    }

    /// Writes the rows that match, in batch order, to the directory or file at `location`; see
    /// [`WriteOdp`](super::WriteOdp).
    ///
    /// # Errors
    /// See [`WriteOdp::write_odp`](super::WriteOdp::write_odp).
    pub async fn write(&self, location: &str, options: WriteOptions) -> Result<WriteReport> {
        let plan = self.physical_plan(Arc::clone(&self.inner.parts.kept)).await?;
        let rows = in_order(plan, &self.inner.ordered_state);
        write_rows(&self.inner.ordered_state, rows, location, options, Arc::clone(&self.inner.task)).await
    }

    /// The selection as a DataFrame, for more SQL: filters, columns and limits on it reach the scan.
    ///
    /// # Errors
    /// If the plan cannot be made.
    pub fn to_dataframe(&self) -> Result<DataFrame> {
        let parts = &self.inner.parts;
        let scan = SelectedTable {
            snapshot: Arc::clone(&parts.snapshot),
            orders: Arc::clone(&parts.orders),
            kept: Arc::clone(&parts.kept),
            decided: None,
        };
        let plan = logical_plan(Arc::new(scan), &parts.filter, parts.columns.as_deref())?;
        Ok(DataFrame::new(self.inner.state.clone(), plan))
    }

    /// The plan of some of the selection's batches.
    async fn physical_plan(&self, kept: Arc<[usize]>) -> Result<Arc<dyn ExecutionPlan>> {
        let parts = &self.inner.parts;
        let scan = SelectedTable {
            snapshot: Arc::clone(&parts.snapshot),
            orders: Arc::clone(&parts.orders),
            kept,
            decided: Some(Arc::clone(&self.inner.decided)),
        };
        let source = provider_as_source(Arc::new(scan));
        let plan = self.inner.template.clone().transform_up(|node| {
            Ok(match node {
                LogicalPlan::TableScan(mut scan) => {
                    scan.source = Arc::clone(&source);
                    Transformed::yes(LogicalPlan::TableScan(scan))
                }
                other => Transformed::no(other),
            })
        });
        let state = &self.inner.ordered_state;
        state.query_planner().create_physical_plan(&plan.data()?, state).await
    }

    /// `position` is one of the selection's.
    fn describe(&self, position: usize) -> SelectedBatch {
        let Inner { parts, time_column, extents: known, .. } = self.inner.as_ref();
        let snapshot = &parts.snapshot;
        let (batch_index, certainty) = (parts.kept[position], parts.certainty[position]);
        let batch = &snapshot.batches()[batch_index];
        let identity = BatchId {
            object_meta: snapshot.file_of(batch).object_meta.clone(),
            first_row: batch.first_row,
            rows: batch.rows,
        };
        let extent = known.get_or_init(|| batch_extents(snapshot)).get(batch_index).copied().flatten();
        SelectedBatch {
            position,
            batch_index,
            identity,
            rows: row_bounds(certainty, batch.rows),
            compressed_bytes: batch.compressed_bytes,
            time_range: time_column.and_then(|column| time_range(snapshot, column, batch_index)),
            extent: extent.map(|e| [e.xmin + 0.0, e.ymin + 0.0, e.xmax + 0.0, e.ymax + 0.0]),
            reason: KeptReason::of(certainty),
        }
    }
}

/// All partitions of `plan`, one after the other.
fn in_order(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Arc<dyn ExecutionPlan> {
    if plan.output_partitioning().partition_count() <= 1 {
        return plan;
    }
    let window = OdpOptions::of(state.config_options()).open_batch_limit(state.config().target_partitions());
    Arc::new(OrderedConcatExec::new(plan, window, None, false))
}

fn logical_plan(
    table: Arc<dyn TableProvider>,
    filter: &PlannedFilter,
    columns: Option<&[usize]>,
) -> Result<LogicalPlan> {
    let schema = table.schema();
    let mut plan = LogicalPlanBuilder::scan(TABLE, provider_as_source(table), None)?;
    match filter {
        PlannedFilter::All => {}
        PlannedFilter::Never => plan = plan.filter(datafusion::prelude::lit(false))?,
        PlannedFilter::Where(expr) => plan = plan.filter(expr.clone())?,
    }
    if let Some(columns) = columns {
        let named = |&i: &usize| Expr::Column(Column::new(Some(TABLE), schema.field(i).name()));
        plan = plan.project(columns.iter().map(named).collect::<Vec<_>>())?;
    }
    plan.build()
}

fn time_range(snapshot: &DatasetSnapshot, column: usize, batch: usize) -> Option<(ScalarValue, ScalarValue)> {
    let bounds = snapshot.bounds().columns.get(column)?;
    let bound = |array| ScalarValue::try_from_array(array, batch).ok().filter(|value| !value.is_null());
    Some((bound(&bounds.min)?, bound(&bounds.max)?))
}
