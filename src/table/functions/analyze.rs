//! `odp_analyze('t')`: learns what no footer tells, and writes the dataset's snapshot file.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, TableReference, internal_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;

use super::{as_odp, find_table, table_name};
use crate::options::{OdpOptions, OnInvalidGeometry};
use crate::table::OdpTableProvider;

/// `odp_analyze('t' [, 'column', …])`: one row per snapshot file that was written.
///
/// Before it writes, it reads the geometry columns of which no footer tells the extents, WKB and WKT without boxes; the
/// columns named, too, which nothing else says are geometries.
#[derive(Debug, Default)]
pub(crate) struct AnalyzeFunction;

impl TableFunctionImpl for AnalyzeFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let usage = "odp_analyze takes the name of a table, and maybe names of geometry columns, as text: \
                     odp_analyze('t', 'footprint')";
        let Some((table, columns)) = args.exprs().split_first() else { return plan_err!("{usage}") };
        let name = |arg: &Expr| match arg {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
            _ => None,
        };
        let table = table_name("odp_analyze", table)?;
        match columns.iter().map(name).collect() {
            Some(columns) => Ok(Arc::new(AnalyzeTable { table, columns })),
            None => plan_err!("{usage}"),
        }
    }
}

struct AnalyzeTable {
    table: TableReference,
    columns: Vec<String>,
}

impl Debug for AnalyzeTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyzeTable").field("table", &self.table).finish_non_exhaustive()
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let number = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("snapshot_file", DataType::Utf8, false),
        number("bytes"),
        number("files"),
        number("row_groups"),
        number("rows"),
        Field::new("learnt_columns", DataType::Utf8, true),
    ]))
});

#[async_trait]
impl TableProvider for AnalyzeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// Nothing happens before the plan is executed: `EXPLAIN` writes no file.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(session) = state.as_any().downcast_ref::<SessionState>() else {
            return internal_err!("odp_analyze needs a SessionState");
        };
        let provider = find_table(state, &self.table).await?;
        as_odp(&provider, &self.table)?;
        for column in &self.columns {
            if provider.schema().field_with_name(column).is_err() {
                return plan_err!("table {} has no column {column:?}", self.table);
            }
        }
        let (table, columns) = (self.table.clone(), self.columns.clone());
        let analysis = Analysis { session: session.clone(), table, provider, columns };
        let plan = StreamingTableExec::try_new(
            self.schema(),
            vec![Arc::new(analysis)],
            projection,
            std::iter::empty(),
            false,
            None,
        )?;
        Ok(Arc::new(plan))
    }
}

/// One run of `odp_analyze`.
#[derive(Clone)]
struct Analysis {
    session: SessionState,
    table: TableReference,
    provider: Arc<dyn TableProvider>,
    /// Columns to learn besides those that are known to hold geometries.
    columns: Vec<String>,
}

impl Debug for Analysis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analysis").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl PartitionStream for Analysis {
    fn schema(&self) -> &SchemaRef {
        &SCHEMA
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let analysis = self.clone();
        let rows = futures::stream::once(async move { analysis.run().await });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&SCHEMA), rows))
    }
}

impl Analysis {
    async fn run(&self) -> Result<RecordBatch> {
        let table = as_odp(&self.provider, &self.table)?;
        let learnt = self.learn(table).await?;
        let ctx = SessionContext::new_with_state(self.session.clone());
        let written = table.write_snapshot(&ctx).await?;
        let count = |n: usize| n as u64;
        let numbers = |values: Vec<u64>| Arc::new(UInt64Array::from(values));
        let learnt = (!learnt.is_empty()).then(|| learnt.join(", "));
        Ok(RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(written.iter().map(|file| Some(file.path.as_str())).collect::<StringArray>()),
                numbers(written.iter().map(|file| file.bytes).collect()),
                numbers(written.iter().map(|file| count(file.files)).collect()),
                numbers(written.iter().map(|file| count(file.row_groups)).collect()),
                numbers(written.iter().map(|file| file.rows).collect()),
                Arc::new(written.iter().map(|_| learnt.as_deref()).collect::<StringArray>()),
            ],
        )?)
    }

    /// Reads the geometry columns whose extents are not known; gives their names.
    async fn learn(&self, table: &OdpTableProvider) -> Result<Vec<String>> {
        let snapshot = table.snapshot();
        let unknown = snapshot.geometry_columns().iter().filter(|column| {
            column.is_declared
                && column.extents.iter().any(Option::is_none)
                && !self.columns.contains(&column.name)
        });
        let mut names: Vec<String> = unknown.map(|column| column.name.clone()).collect();
        names.extend(self.columns.iter().cloned());
        if names.is_empty() {
            return Ok(names);
        }
        let mut state = self.session.clone();
        let mut options = OdpOptions::of(state.config_options());
        // A malformed row is remembered as such; the error is for those who ask for it.
        options.on_invalid_geometry = OnInvalidGeometry::NoMatch;
        options.pruning = true;
        options.pushdown_filters = true;
        state.config_mut().options_mut().extensions.insert(options);
        let ctx = SessionContext::new_with_state(state);
        let mut learnt = Vec::new();
        for name in names {
            match self.read(&ctx, &name).await {
                Ok(()) => learnt.push(name),
                Err(error) if self.columns.contains(&name) => return Err(error),
                // Curved edges, say. The snapshot file is good without.
                Err(error) => log::warn!("the extents of column {name:?} are not learnt: {error}"),
            }
        }
        Ok(learnt)
    }

    /// Asks where the geometries of a column lie, and so learns it.
    async fn read(&self, ctx: &SessionContext, column: &str) -> Result<()> {
        let nowhere = lit(ScalarValue::from("POINT (-179.987654321 -89.987654321)"));
        let test = ctx.udf("st_intersects")?.call(vec![Expr::Column(Column::from_name(column)), nowhere]);
        ctx.read_table(Arc::clone(&self.provider))?.filter(test)?.count().await?;
        Ok(())
    }
}
