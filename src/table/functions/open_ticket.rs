//! `odp_ticket('odp1.…')`: the rows of one ticket.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::context::SessionContext;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::table::BatchTicket;

/// `odp_ticket('odp1.…')`: the rows of the batch that the ticket names, with its columns, in the order of the file.
///
/// The ticket alone is enough: no table needs to be registered.
#[derive(Debug, Default)]
pub(crate) struct OpenTicketFunction;

impl TableFunctionImpl for OpenTicketFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let text = match args.exprs() {
            [Expr::Literal(value, _)] => value.try_as_str().flatten(),
            _ => None,
        };
        let Some(text) = text else {
            return plan_err!("odp_ticket takes a ticket as text: odp_ticket('odp1.…')");
        };
        let ticket: BatchTicket = text.parse()?;
        Ok(Arc::new(TicketTable { schema: ticket.schema()?, ticket }))
    }
}

/// The rows of a ticket; its file is opened when it is scanned.
#[derive(Debug)]
struct TicketTable {
    ticket: BatchTicket,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for TicketTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return internal_err!("odp_ticket needs a SessionState");
        };
        let selection = self.ticket.open_selection(&SessionContext::new_with_state(state.clone())).await?;
        let mut rows = selection.to_dataframe()?;
        if let Some(projection) = projection {
            let columns = projection.iter().map(|&i| Expr::Column(rows.schema().columns()[i].clone()));
            let columns: Vec<Expr> = columns.collect();
            rows = rows.select(columns)?;
        }
        // The query that this is part of is optimized as a whole. Rules for whole plans have no business inside it.
        let (state, plan) = rows.into_parts();
        let state =
            SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(vec![]).build();
        state.create_physical_plan(&plan).await
    }
}
