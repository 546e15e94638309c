//! [`OdpTableProvider`]: a dataset as a DataFusion table.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Constraints, DFSchema, Result, SchemaExt, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::create_ordering;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, SortExpr, TableProviderFilterPushDown, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::current_snapshot::CurrentSnapshot;
use super::selection_builder::SelectionBuilder;
use super::selection_filter::SelectionFilter;
use super::write::{Columns, Destination, Refresh, names_a_file, plan_write, session_state};
use crate::dataset::DatasetSnapshot;
use crate::discover::{DeclaredPartition, Request, WrittenSnapshot, open_snapshot, write_snapshots};
use crate::error::OdpError;
use crate::options::{BatchUnit, OdpOptions, TableOptions};
use crate::scan::{BatchPruner, KeptBatches, ScanRequest, is_partition_predicate, plan_scan};
use crate::sink::{AfterCommit, LastWrite, WriteMode, WriteOptions};

/// A dataset of Parquet files as a table of ordered batches.
///
/// Its scan has one partition per batch, in `batch_index` order; its statistics are exact without reading data.
/// The files are those found at opening: a file that is replaced afterwards makes queries fail, never mix.
///
/// ```
/// # use datafusion::prelude::SessionContext;
/// # use datafusion_odp::OdpTableProvider;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> datafusion::error::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().to_str().unwrap_or_default();
/// let ctx = SessionContext::new();
/// datafusion_odp::register(&ctx)?;
/// # ctx.sql("SELECT * FROM generate_series(1, 1000) AS t(depth)").await?
/// #     .write_parquet(&format!("{path}/a.parquet"), Default::default(), None).await?;
/// let table = OdpTableProvider::open(&ctx, path).await?;
/// assert_eq!(table.snapshot().num_rows(), 1000);
/// ctx.register_table("obs", std::sync::Arc::new(table))?;
/// let rows = ctx.sql("SELECT count(*) FROM obs WHERE depth > 900").await?.collect().await?;
/// # assert_eq!(rows[0].column(0).as_ref(), &datafusion::arrow::array::Int64Array::from(vec![100]) as &dyn datafusion::arrow::array::Array);
/// # Ok(())
/// # }
/// ```
pub struct OdpTableProvider {
    snapshot: CurrentSnapshot,
    /// What was opened.
    request: Request,
    /// Orders that the user declared.
    declared_order: Vec<Vec<SortExpr>>,
    constraints: Constraints,
    definition: Option<String>,
}

impl Debug for OdpTableProvider {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OdpTableProvider")
            .field("location", &self.snapshot().location())
            .field("batches", &self.snapshot().num_batches())
            .finish_non_exhaustive()
    }
}

/// Opens an [`OdpTableProvider`] with options.
#[derive(Debug, Clone)]
#[must_use]
pub struct OdpTableBuilder {
    request: Request,
    declared_order: Vec<Vec<SortExpr>>,
    constraints: Constraints,
    definition: Option<String>,
}

impl OdpTableBuilder {
    /// Adds a location to read, in the same object store as the others; files of all locations are one dataset,
    /// location after location.
    pub fn with_location(mut self, location: impl Into<String>) -> Self {
        self.request.locations.push(location.into());
        self
    }

    /// How rows are cut into batches; by default one batch per row group.
    pub fn with_batch_unit(mut self, unit: BatchUnit) -> Self {
        self.request.options.batch_unit = unit;
        self
    }

    /// All table options at once, as `OPTIONS (…)` gives them.
    pub fn with_options(mut self, options: TableOptions) -> Self {
        self.request.options = options;
        self
    }

    /// Names the partition columns in the order of the path segments; without a type it is inferred. Without this,
    /// every `key=value` segment is a column.
    pub fn with_partition_columns(
        mut self,
        columns: impl IntoIterator<Item = (String, Option<DataType>)>,
    ) -> Self {
        let columns = columns.into_iter().map(|(name, data_type)| DeclaredPartition { name, data_type });
        self.request.partitions = Some(columns.collect());
        self
    }

    /// The columns of the files, instead of the union of their schemas; values are cast, missing columns are NULL.
    pub fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.request.schema = Some(schema);
        self
    }

    /// Declares that every batch is in this order. Not verified row by row: a wrong declaration gives wrong answers.
    pub fn with_order(mut self, order: Vec<SortExpr>) -> Self {
        self.declared_order.push(order);
        self
    }

    pub(crate) fn with_constraints(mut self, constraints: Constraints) -> Self {
        self.constraints = constraints;
        self
    }

    pub(crate) fn with_definition(mut self, definition: Option<String>) -> Self {
        self.definition = definition;
        self
    }

    /// Lists the files and reads their footers.
    ///
    /// # Errors
    /// [`OdpError::EmptyDataset`] if there is nothing to read, [`OdpError::Storage`] if the store fails,
    /// [`OdpError::InvalidData`] for a file that breaks its format, [`OdpError::SchemaMismatch`] for files that do
    /// not fit together.
    pub async fn open(self, ctx: &SessionContext) -> Result<OdpTableProvider, OdpError> {
        let state = ctx.state();
        self.open_in(&state).await
    }

    pub(crate) async fn open_in(self, state: &dyn Session) -> Result<OdpTableProvider, OdpError> {
        let snapshot = Arc::new(open_snapshot(state, self.request.clone()).await?);
        Ok(OdpTableProvider {
            snapshot: CurrentSnapshot::new(snapshot),
            request: self.request,
            declared_order: self.declared_order,
            constraints: self.constraints,
            definition: self.definition,
        })
    }
}

impl OdpTableProvider {
    /// Opens the dataset at a URL of a registered object store, or at a local path: a directory or one file.
    ///
    /// # Errors
    /// See [`OdpTableBuilder::open`].
    pub async fn open(ctx: &SessionContext, location: impl Into<String>) -> Result<Self, OdpError> {
        Self::builder(location).open(ctx).await
    }

    /// Starts to open the dataset at `location`.
    pub fn builder(location: impl Into<String>) -> OdpTableBuilder {
        OdpTableBuilder {
            request: Request {
                locations: vec![location.into()],
                options: TableOptions::default(),
                partitions: None,
                schema: None,
                range: None,
            },
            declared_order: Vec::new(),
            constraints: Constraints::default(),
            definition: None,
        }
    }

    /// The batches and files of the dataset, as they were when it was opened, or when rows were last inserted through
    /// this table.
    #[must_use]
    pub fn snapshot(&self) -> Arc<DatasetSnapshot> {
        self.snapshot.get()
    }

    /// Writes a snapshot file, `_odp_snapshot`, into the dataset's directory (each of them, if there are several): what
    /// the footers of all files say, as the files are now, and the extents that queries of this table have learnt.
    ///
    /// The next to open the dataset reads that one file instead of all footers. Replaces the one that is there, in one
    /// step; files that it knows already are not read again.
    ///
    /// # Errors
    /// As [`OdpTableBuilder::open`]; [`OdpError::Write`] if the store refuses, [`OdpError::Unsupported`] if the
    /// location is a single file or a pattern.
    pub async fn write_snapshot(&self, ctx: &SessionContext) -> Result<Vec<WrittenSnapshot>, OdpError> {
        write_snapshots(&ctx.state(), &self.request, &self.snapshot()).await
    }

    /// The rows of the batch at `batch_index`, all columns, in order; reads nothing else.
    ///
    /// # Errors
    /// A planning error past the last batch; the stream gives [`OdpError::Changed`] if the file is not the one
    /// that was opened.
    pub fn batch(&self, ctx: &SessionContext, batch_index: usize) -> Result<SendableRecordBatchStream> {
        let snapshot = self.snapshot();
        let batches = snapshot.num_batches();
        if batch_index >= batches {
            return plan_err!("batch {batch_index} does not exist: the dataset has {batches} batches");
        }
        let state = ctx.state();
        let kept = KeptBatches::at(vec![batch_index]);
        let request = ScanRequest { kept, projection: None, limit: None, ordering: vec![] };
        plan_scan(&state, &snapshot, request)?.execute(0, ctx.task_ctx())
    }

    /// Starts a selection: the rows that match `filter`, known as batches before any of them is read.
    ///
    /// A text is in the ODP filter language; see [`SelectionFilter`] for SQL and expressions. Nothing is checked or read
    /// until [`SelectionBuilder::plan`].
    ///
    /// ```
    /// # use datafusion::prelude::SessionContext;
    /// # use datafusion_odp::OdpTableProvider;
    /// # use futures::TryStreamExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> datafusion::error::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().to_str().unwrap_or_default();
    /// # let ctx = SessionContext::new();
    /// # datafusion_odp::register(&ctx)?;
    /// # ctx.sql(&format!("COPY (SELECT value AS depth_m, value % 7 AS station FROM generate_series(1, 1000) ORDER BY value)
    /// #     TO '{path}/a.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '100')")).await?.collect().await?;
    /// let table = OdpTableProvider::open(&ctx, path).await?;
    /// let selection = table.select("depth_m > $limit").bind("limit", 750_i64).columns(["station"]).plan(&ctx).await?;
    /// assert_eq!((selection.batch_count(), selection.total_batches()), (3, 10));
    /// let rows = selection.estimated_rows();
    /// assert_eq!((rows.min, rows.max), (200, 300));
    /// let record_batches: Vec<_> = selection.batch(0).await?.try_collect().await?;
    /// assert_eq!(record_batches.iter().map(|b| b.num_rows()).sum::<usize>(), 50);
    /// # Ok(())
    /// # }
    /// ```
    pub fn select(&self, filter: impl Into<SelectionFilter>) -> SelectionBuilder {
        let snapshot = self.snapshot();
        let orders = self.orders(&snapshot);
        SelectionBuilder::new(snapshot, orders, filter.into())
    }

    /// Starts a selection of all rows; see [`select`](Self::select).
    pub fn select_all(&self) -> SelectionBuilder {
        self.select(SelectionFilter::all())
    }

    /// What was opened.
    pub(super) fn locations(&self) -> &[String] {
        &self.request.locations
    }

    /// The orders that each batch is in: what the user declared, else what the files declare.
    fn orders(&self, snapshot: &DatasetSnapshot) -> Vec<Vec<SortExpr>> {
        match self.declared_order.is_empty() {
            false => self.declared_order.clone(),
            true => file_orders(snapshot),
        }
    }
}

/// The orders that the files declare each batch to be in.
pub(super) fn file_orders(snapshot: &DatasetSnapshot) -> Vec<Vec<SortExpr>> {
    Some(snapshot.sorting().to_vec()).into_iter().filter(|order| !order.is_empty()).collect()
}

#[async_trait]
impl TableProvider for OdpTableProvider {
    fn schema(&self) -> SchemaRef {
        self.snapshot().schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    fn statistics(&self) -> Option<datafusion::common::Statistics> {
        Some(self.snapshot().statistics().as_ref().clone())
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters_pushdown(&self.snapshot(), filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot();
        let filters = TableFilters::try_new(state, &snapshot, filters)?;
        let mut pruner = BatchPruner::new(&snapshot);
        filters.prune(state, &mut pruner)?;
        // A limit needs as many rows as there are only if each of them is in the answer.
        let limit = limit.filter(|_| filters.inexact.is_empty());
        if let Some(limit) = limit {
            pruner.prune_limit(limit);
        }
        scan_kept(state, &snapshot, &self.orders(&snapshot), pruner.finish(), projection, limit)
    }

    /// Rows are there all at once, and queries of this table that are planned afterwards see them.
    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot();
        let schema = snapshot.schema();
        schema.logically_equivalent_names_and_types(&input.schema())?;
        let mut given = self.request.options.write.iter();
        let write =
            given.try_fold(WriteOptions::default(), |write, (key, value)| write.with_option(key, value))?;
        let mode = match insert_op {
            InsertOp::Append => WriteMode::Append,
            InsertOp::Overwrite => match write.mode_or(WriteMode::Overwrite) {
                WriteMode::OverwritePartitions => WriteMode::OverwritePartitions,
                _ => WriteMode::Overwrite,
            },
            InsertOp::Replace => {
                let what = "REPLACE INTO: rows have no key".into();
                return Err(OdpError::Unsupported { what }.into());
            }
        };
        let [location] = self.request.locations.as_slice() else {
            let what = format!("INSERT INTO a table of several locations: {}", snapshot.location());
            return Err(OdpError::Unsupported { what }.into());
        };
        let url = ListingTableUrl::parse(location)?;
        if url.get_glob().is_some() || names_a_file(&url) {
            let what = format!("INSERT INTO {}: it is not a directory", snapshot.location());
            return Err(OdpError::Unsupported { what }.into());
        }
        let options = &self.request.options;
        if !options
            .file_extensions
            .iter()
            .any(|extension| ".parquet".ends_with(&extension.to_ascii_lowercase()))
        {
            let what = "INSERT INTO a table whose files do not end in .parquet (file_extension)";
            return Err(OdpError::Unsupported { what: what.into() }.into());
        }
        let columns = Columns::OfTable {
            schema: Arc::clone(&schema),
            partition_by: partition_names(&snapshot),
            file_extensions: options.file_extensions.clone(),
        };
        let refresh = Refresh {
            state: session_state(state)?.clone(),
            request: self.request.clone(),
            snapshot: Some(self.snapshot.clone()),
            writes_snapshot_file: write.writes_snapshot(),
        };
        let last_write = state.config().get_extension::<LastWrite>();
        let after: Option<Arc<dyn AfterCommit>> = Some(Arc::new(refresh));
        let destination = Destination { url, is_file: false, mode, columns, after, last_write };
        plan_write(state, input, destination, write.with_mode(mode))
    }
}

fn partition_names(snapshot: &DatasetSnapshot) -> Vec<String> {
    snapshot.table_schema().table_partition_cols().iter().map(|field| field.name().clone()).collect()
}

/// Exact for filters over partition columns alone; all others are applied again above the scan, or inside the Parquet
/// decoder.
pub(super) fn filters_pushdown(
    snapshot: &DatasetSnapshot,
    filters: &[&Expr],
) -> Vec<TableProviderFilterPushDown> {
    let partitions = snapshot.table_schema().table_partition_cols();
    let support = |filter: &&Expr| {
        let columns = filter.column_refs();
        let is_exact = !columns.is_empty()
            && columns.iter().all(|column| partitions.iter().any(|f| f.name() == column.name()))
            && is_evaluable(filter);
        match is_exact {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        }
    };
    filters.iter().map(support).collect()
}

/// The filters of a scan, as [`filters_pushdown`] tells them apart.
#[derive(Debug)]
pub(super) struct TableFilters {
    /// Decided by partition values, for each file.
    pub(super) exact: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) inexact: Vec<Arc<dyn PhysicalExpr>>,
}

impl TableFilters {
    pub(super) fn try_new(state: &dyn Session, snapshot: &DatasetSnapshot, filters: &[Expr]) -> Result<Self> {
        let df_schema = DFSchema::try_from(snapshot.schema())?;
        let (mut exact, mut inexact) = (Vec::new(), Vec::new());
        for filter in filters {
            let predicate = state.create_physical_expr(filter.clone(), &df_schema)?;
            match is_evaluable(filter) && is_partition_predicate(&predicate, snapshot) {
                true => exact.push(predicate),
                false => inexact.push(predicate),
            }
        }
        Ok(Self { exact, inexact })
    }

    /// Drops the batches that hold no row for all of the filters.
    pub(super) fn prune(&self, state: &dyn Session, pruner: &mut BatchPruner<'_>) -> Result<()> {
        for predicate in &self.exact {
            pruner.prune_partitions(predicate)?;
        }
        let options = OdpOptions::of(state.config_options());
        if options.pruning && !self.inexact.is_empty() {
            pruner.prune_predicates(&self.inexact, options.finite_coordinates);
        }
        Ok(())
    }
}

/// The scan of the batches that are kept.
pub(super) fn scan_kept(
    state: &dyn Session,
    snapshot: &Arc<DatasetSnapshot>,
    orders: &[Vec<SortExpr>],
    kept: KeptBatches,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = snapshot.schema();
    if kept.indices.is_empty() {
        let schema = match projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => schema,
        };
        return Ok(Arc::new(EmptyExec::new(schema)));
    }
    let ordering = create_ordering(&schema, orders)?;
    plan_scan(state, snapshot, ScanRequest { kept, projection, limit, ordering })
}

/// Whether the filter can be evaluated on its own: no subquery, nothing volatile.
fn is_evaluable(filter: &Expr) -> bool {
    let mut evaluable = true;
    let visited = filter.apply(|node| {
        let is_stable = match node {
            Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..) => false,
            _ => true,
        };
        evaluable &= is_stable;
        Ok(if is_stable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    visited.is_ok() && evaluable
}

#[cfg(test)]
mod tests {
    use datafusion::catalog::TableProvider;
    use datafusion::common::Result;
    use datafusion::dataframe::DataFrameWriteOptions;
    use datafusion::prelude::SessionContext;

    use crate::{BatchUnit, OdpTableProvider};

    #[tokio::test]
    async fn a_count_of_very_many_batches_merges_nothing_of_their_columns() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let location = dir.path().to_string_lossy();
        let ctx = SessionContext::new();
        let rows = ctx.sql("SELECT value AS v FROM generate_series(1, 5000)").await?;
        rows.write_parquet(&format!("{location}/a.parquet"), DataFrameWriteOptions::new(), None).await?;
        for (projection, merges) in [(vec![], false), (vec![0], true)] {
            let table = OdpTableProvider::builder(location.as_ref()).with_batch_unit(BatchUnit::Rows(1));
            let table = table.open(&ctx).await?;
            table.scan(&ctx.state(), Some(&projection), &[], None).await?;
            let snapshot = table.snapshot();
            assert_eq!(snapshot.num_batches(), 5000);
            assert_eq!(snapshot.has_merged_statistics(), merges);
        }
        Ok(())
    }
}
