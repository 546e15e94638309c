//! From rows and a destination to a plan that writes them.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::SessionState;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::partition_columns::with_partition_columns;
use super::refresh::Refresh;
use crate::error::OdpError;
use crate::options::TableOptions;
use crate::scan::with_batches_apart;
use crate::sink::{
    AfterCommit, LastWrite, OdpSink, ParquetWriting, Target, WriteMetadataFiles, WriteMode, WriteOptions,
    WriteRequest, clustered,
};

/// Which columns files get.
#[derive(Debug)]
pub(in crate::table) enum Columns {
    /// Those of the rows; partition columns are named by the statement, and by its options.
    Free { partition_by: Vec<String> },
    /// Those of a table.
    OfTable { schema: SchemaRef, partition_by: Vec<String>, file_extensions: Vec<String> },
}

/// Where rows go, and what is done then.
#[derive(Debug)]
pub(in crate::table) struct Destination {
    pub(in crate::table) url: ListingTableUrl,
    pub(in crate::table) is_file: bool,
    pub(in crate::table) mode: WriteMode,
    pub(in crate::table) columns: Columns,
    pub(in crate::table) after: Option<Arc<dyn AfterCommit>>,
    pub(in crate::table) last_write: Option<Arc<LastWrite>>,
}

/// The session with everything that plans of writes need.
pub(in crate::table) fn session_state(session: &dyn Session) -> Result<&SessionState> {
    match session.as_any().downcast_ref::<SessionState>() {
        Some(state) => Ok(state),
        None => internal_err!("writing needs a SessionState"),
    }
}

/// A plan that writes the rows of `input`.
///
/// # Errors
/// For options and columns that do not fit. Nothing is looked at or made before the plan is executed.
pub(in crate::table) fn plan_write(
    session: &dyn Session,
    input: Arc<dyn ExecutionPlan>,
    destination: Destination,
    options: WriteOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let state = session_state(session)?;
    let parquet = ParquetWriting::try_new(session, &options)?;
    let input = with_batches_apart(input)?;
    let Destination { url, is_file, mode, columns, after, last_write } = destination;
    let target = Target::find(session.runtime_env(), &url, is_file)?;
    let after = match (after, options.writes_snapshot() && !is_file) {
        (None, true) => Some(Arc::new(Refresh::of_location(state, &url)) as Arc<dyn AfterCommit>),
        (after, _) => after,
    };
    let (mut partition_by, file_extensions, table_schema) = match columns {
        Columns::Free { partition_by } => (partition_by, TableOptions::default().file_extensions, None),
        Columns::OfTable { schema, partition_by, file_extensions } => {
            (partition_by, file_extensions, Some(schema))
        }
    };
    let (mut input, more) = with_partition_columns(state, input, options.partition_by())?;
    partition_by.extend(more);
    let mut order = None;
    if let Some(text) = options.cluster_by() {
        let schema = DFSchema::try_from(input.schema())?;
        let expr = session.create_physical_expr(state.create_logical_expr(text, &schema)?, &schema)?;
        input = clustered(input, expr)?;
    } else if is_sorted_by_query(&input) {
        order = input.output_ordering().cloned();
    }
    let by_column = |sort: &datafusion::physical_expr::PhysicalSortExpr| {
        let column = sort.expr.downcast_ref::<Column>()?;
        Some((column.name().to_owned(), sort.options))
    };
    let sorted_by: Vec<(String, SortOptions)> = order
        .iter()
        .flatten()
        .map_while(by_column)
        .filter(|(name, _)| !partition_by.contains(name))
        .collect();
    let mode = options.mode_or(mode);
    if options.metadata_files() == WriteMetadataFiles::All
        && matches!(mode, WriteMode::Append | WriteMode::OverwritePartitions)
    {
        return Err(OdpError::InvalidOption {
            key: "metadata_files".into(),
            value: "all".into(),
            expected: format!("none or common with mode {mode}: _metadata speaks of the whole dataset"),
        }
        .into());
    }
    let request = WriteRequest {
        target,
        mode,
        options,
        parquet,
        partition_by,
        file_extensions,
        has_fixed_columns: table_schema.is_some(),
        sorted_by,
        after,
        last_write,
    };
    // What a table says of its columns, such as that one holds geometries, may not have come along with the rows.
    let schema = table_schema.unwrap_or_else(|| nullable(&input.schema()));
    let sink = OdpSink::new(schema, request);
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order.map(LexRequirement::from))))
}

/// Columns that happen to have no NULL in this query may get some later.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Fields =
        schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Whether the query says in which order its rows come. An order that files declare is not it: their rows stay in the
/// order of the batches.
fn is_sorted_by_query(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<SortExec>() || plan.is::<SortPreservingMergeExec>() {
        return true;
    }
    let passes_on = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<CooperativeExec>();
    match plan.children().as_slice() {
        [child] if passes_on => is_sorted_by_query(child),
        _ => false,
    }
}
