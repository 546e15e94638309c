//! `odp_tickets('t', 'filter')`: a ticket for each batch that may hold rows that match.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::{FilterArgs, as_odp, find_table, table_name};
use crate::table::selection::Selection;

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

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("odp_tickets runs in a session of DataFusion itself only");
        };
        let provider = find_table(state, &self.table).await?;
        let table = as_odp(&provider, &self.table)?;
        let builder = table.select(self.filter.text.as_str()).with_variables(self.filter.variables.clone());
        let rows = tickets(&builder.plan_in(state.clone())?)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

static TICKETS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("position", DataType::UInt64, false),
        Field::new("batch_index", DataType::UInt64, false),
        Field::new("min_rows", DataType::UInt64, false),
        Field::new("max_rows", DataType::UInt64, false),
        Field::new("ticket", DataType::Utf8, false),
    ]))
});

fn tickets(selection: &Selection) -> Result<RecordBatch> {
    let tickets = selection.tickets()?;
    let numbers = |numbers: Vec<u64>| -> ArrayRef { Arc::new(UInt64Array::from(numbers)) };
    let columns = vec![
        numbers(tickets.iter().map(|ticket| ticket.position() as u64).collect()),
        numbers(tickets.iter().map(|ticket| ticket.batch_index() as u64).collect()),
        numbers(tickets.iter().map(|ticket| ticket.rows().min).collect()),
        numbers(tickets.iter().map(|ticket| ticket.rows().max).collect()),
        Arc::new(tickets.iter().map(|ticket| Some(ticket.to_string())).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&TICKETS_SCHEMA), columns)?)
}
