//! `odp_clean('t')`: removes what writers that are gone have left.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::{as_odp, find_table, table_name};
use crate::sink::{Target, clean};
use crate::table::write::names_a_file;

/// Whatever a writer does, in this time it writes something.
const DEFAULT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// `odp_clean('t' [, 'older than' [, dry_run]])`: removes staged and uncommitted files of writers that are gone, and
/// replaced files that were kept; one row per file.
#[derive(Debug, Default)]
pub(crate) struct CleanFunction;

impl TableFunctionImpl for CleanFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let usage = "odp_clean takes the name of a table, and may take an age and whether to remove nothing: odp_clean('t', '1 day', true)";
        let (table, others) = match args.exprs() {
            [table, others @ ..] if others.len() <= 2 => (table, others),
            _ => return plan_err!("{usage}"),
        };
        let older_than = match others.first() {
            None => DEFAULT_AGE,
            Some(Expr::Literal(value, _)) => match age(value) {
                Some(age) => age,
                None => {
                    return plan_err!(
                        "odp_clean takes an age such as '10 minutes' or '0 seconds', not {value}"
                    );
                }
            },
            Some(other) => return plan_err!("odp_clean takes an age as constant text, not {other}"),
        };
        let dry_run = match others.get(1) {
            None => false,
            Some(Expr::Literal(ScalarValue::Boolean(Some(dry_run)), _)) => *dry_run,
            Some(_) => return plan_err!("{usage}"),
        };
        Ok(Arc::new(CleanTable { table: table_name("odp_clean", table)?, older_than, dry_run }))
    }
}

/// A span of time that does not depend on the calendar.
fn age(value: &ScalarValue) -> Option<Duration> {
    let interval = match value.try_as_str() {
        Some(text) => {
            let interval = DataType::Interval(IntervalUnit::MonthDayNano);
            ScalarValue::try_from_string(text?.to_owned(), &interval).ok()?
        }
        None => value.clone(),
    };
    match interval {
        ScalarValue::IntervalMonthDayNano(Some(span)) if span.months == 0 => {
            let days = Duration::from_secs(24 * 60 * 60).checked_mul(u32::try_from(span.days).ok()?)?;
            days.checked_add(Duration::from_nanos(u64::try_from(span.nanoseconds).ok()?))
        }
        _ => None,
    }
}

#[derive(Debug)]
struct CleanTable {
    table: TableReference,
    older_than: Duration,
    dry_run: bool,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("location", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("bytes", DataType::UInt64, false),
    ]))
});

#[async_trait]
impl TableProvider for CleanTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// Nothing happens before the plan is executed: `EXPLAIN` removes no file.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let provider = find_table(state, &self.table).await?;
        let targets = as_odp(&provider, &self.table)?
            .locations()
            .iter()
            .map(|location| {
                let url = ListingTableUrl::parse(location)?;
                if url.get_glob().is_some() {
                    return plan_err!("odp_clean does not clean a pattern: {}", self.table);
                }
                Ok(Target::find(state.runtime_env(), &url, names_a_file(&url))?)
            })
            .collect::<Result<Vec<_>>>()?;
        let cleaning = Cleaning { targets, older_than: self.older_than, dry_run: self.dry_run };
        let plan = StreamingTableExec::try_new(
            self.schema(),
            vec![Arc::new(cleaning)],
            projection,
            std::iter::empty(),
            false,
            None,
        )?;
        Ok(Arc::new(plan))
    }
}

/// One run of `odp_clean`.
#[derive(Clone)]
struct Cleaning {
    targets: Vec<Target>,
    older_than: Duration,
    dry_run: bool,
}

impl Debug for Cleaning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleaning").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl PartitionStream for Cleaning {
    fn schema(&self) -> &SchemaRef {
        &SCHEMA
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let cleaning = self.clone();
        let rows = futures::stream::once(async move { cleaning.run().await });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&SCHEMA), rows))
    }
}

impl Cleaning {
    async fn run(self) -> Result<RecordBatch> {
        let mut removed = Vec::new();
        for target in self.targets {
            let location = target.display.clone();
            let cleaned = clean(target, self.older_than, self.dry_run).await?;
            removed.extend(cleaned.into_iter().map(|file| (location.clone(), file)));
        }
        Ok(RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(removed.iter().map(|(location, _)| Some(location)).collect::<StringArray>()),
                Arc::new(removed.iter().map(|(_, file)| Some(&file.path)).collect::<StringArray>()),
                Arc::new(
                    removed.iter().map(|(_, file)| Some(file.reason.to_string())).collect::<StringArray>(),
                ),
                Arc::new(UInt64Array::from_iter_values(removed.iter().map(|(_, file)| file.bytes))),
            ],
        )?)
    }
}
