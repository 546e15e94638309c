//! `odp_tickets('t', 'filter')`: a ticket for each batch that may hold rows that match.

use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::context::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::{FilterArgs, as_odp, find_table, table_name};
use crate::table::selection::Selection;

/// Bytes of tickets in a record batch, if there are more tickets than one.
const RECORD_BATCH_BYTES: usize = 1 << 20;

/// `odp_tickets('t', 'filter'[, 'variables'])`: one row per batch of table `t` that may hold rows that match.
#[derive(Debug, Default)]
pub(crate) struct TicketsFunction;

impl TableFunctionImpl for TicketsFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let Some((table, filter)) = args.exprs().split_first() else {
            return plan_err!(
                "odp_tickets takes the name of a table and a filter: odp_tickets('t', 'depth > 5')"
            );
        };
        let filter = FilterArgs::try_new("odp_tickets", filter)?;
        Ok(Arc::new(TicketsTable { table: table_name("odp_tickets", table)?, filter }))
    }
}

/// The tickets of a selection, planned when it is scanned.
#[derive(Debug)]
struct TicketsTable {
    table: TableReference,
    filter: FilterArgs,
}

#[async_trait]
impl TableProvider for TicketsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&TICKETS_SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    /// Tickets are made when the plan is executed, and only if they are asked for.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("odp_tickets runs in a session of DataFusion itself only");
        };
        let provider = find_table(state, &self.table).await?;
        let table = as_odp(&provider, &self.table)?;
        let builder = table.select(self.filter.text.as_str()).with_variables(self.filter.variables.clone());
        let selection = builder.plan_in(state.clone())?;
        let schema = match projection {
            Some(columns) => Arc::new(TICKETS_SCHEMA.project(columns)?),
            None => self.schema(),
        };
        let rows = selection.batch_count().min(limit.unwrap_or(usize::MAX));
        let tickets = Tickets { selection, schema: Arc::clone(&schema), rows };
        let plan = StreamingTableExec::try_new(
            schema,
            vec![Arc::new(tickets)],
            None,
            std::iter::empty(),
            false,
            limit,
        )?;
        Ok(Arc::new(plan))
    }
}

static TICKETS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("position", DataType::UInt64, false),
        Field::new("batch_index", DataType::UInt64, false),
        Field::new("min_rows", DataType::UInt64, false),
        Field::new("max_rows", DataType::UInt64, false),
        Field::new(TICKET, DataType::Utf8, false),
    ]))
});

const TICKET: &str = "ticket";

/// The first tickets of a selection, or some columns of them.
#[derive(Clone)]
struct Tickets {
    selection: Selection,
    schema: SchemaRef,
    rows: usize,
}

impl Debug for Tickets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl PartitionStream for Tickets {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (tickets, most) = (self.clone(), ctx.session_config().batch_size().max(1));
        let record_batches = futures::stream::unfold(Some(0), move |first| {
            let next = first.filter(|first| *first < tickets.rows).map(|first| {
                match tickets.record_batch(first, most) {
                    Ok(rows) => (first + rows.num_rows(), Ok(rows)),
                    Err(error) => (tickets.rows, Err(error)),
                }
            });
            std::future::ready(next.map(|(next, rows)| (rows, Some(next))))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), record_batches))
    }
}

impl Tickets {
    /// At most `most` rows from `first` on, which is not past the end.
    fn record_batch(&self, first: usize, most: usize) -> Result<RecordBatch> {
        let mut rows = first..self.rows.min(first.saturating_add(most));
        let mut texts: Vec<String> = Vec::new();
        if self.schema.field_with_name(TICKET).is_ok() {
            let mut bytes = 0;
            for position in rows.clone() {
                texts.push(self.selection.ticket(position)?.to_string());
                bytes += texts.last().map_or(0, String::len);
                if bytes >= RECORD_BATCH_BYTES {
                    break;
                }
            }
            rows.end = first + texts.len();
        }
        let columns =
            self.schema.fields().iter().map(|field| self.column(field.name(), rows.clone(), &texts));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?)
    }

    fn column(&self, name: &str, rows: Range<usize>, texts: &[String]) -> ArrayRef {
        let known = rows.clone().filter_map(|position| self.selection.index_and_rows(position));
        let numbers: UInt64Array = match name {
            TICKET => return Arc::new(StringArray::from_iter_values(texts)),
            "position" => rows.map(|position| Some(position as u64)).collect(),
            "batch_index" => known.map(|(index, _)| Some(index as u64)).collect(),
            "min_rows" => known.map(|(_, rows)| Some(rows.min)).collect(),
            _ => known.map(|(_, rows)| Some(rows.max)).collect(),
        };
        Arc::new(numbers)
    }
}
