//! `odp_select('t', 'filter')`: the rows of a table that match a filter in the ODP language.

use std::sync::Arc;

use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use futures::FutureExt;

use super::{FilterArgs, as_odp, find_table, table_name};
use crate::table::selection_filter::check_filter;

/// `odp_select('t', 'filter'[, 'variables'])`: all columns of the rows of table `t` that match.
///
/// It is a view: what stands around it in a query reaches the scan as if it was written on the table.
#[derive(Debug, Default)]
pub(crate) struct SelectFunction;

impl TableFunctionImpl for SelectFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let Some((table, filter)) = args.exprs().split_first() else {
            return plan_err!(
                "odp_select takes the name of a table and a filter: odp_select('t', 'depth > 5')"
            );
        };
        let (table, filter) = (table_name("odp_select", table)?, FilterArgs::try_new("odp_select", filter)?);
        // The columns are asked for here and now, and a catalog may answer later.
        let Some(provider) = find_table(args.session(), &table).now_or_never() else {
            return plan_err!(
                "table {table} does not exist, or its catalog has to look it up, and odp_select needs it at once: \
                 open it with CREATE EXTERNAL TABLE, or register it with the session"
            );
        };
        let provider = provider?;
        let expr = filter.lower(&as_odp(&provider, &table)?.snapshot())?;
        check_filter(&expr)?;
        let plan =
            LogicalPlanBuilder::scan(table, provider_as_source(provider), None)?.filter(expr)?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}
