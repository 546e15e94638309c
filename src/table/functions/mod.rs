//! Table functions over a dataset's metadata, and over the rows that a filter selects.
//!
//! `odp_batches('t')` and `odp_files('t')`; with a filter in the ODP language `odp_batches('t', 'filter', 'variables')`,
//! `odp_select` and `odp_tickets`; `odp_ticket`, which opens one; `odp_analyze`, which writes the snapshot file.

mod analyze;
mod batches;
mod clean;
mod files;
mod open_ticket;
mod select;
mod tickets;
mod write_report;

use std::sync::Arc;

use datafusion::arrow::array::{StringBuilder, StructBuilder};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, TableReference, plan_datafusion_err, plan_err};
use datafusion::logical_expr::Expr;

use super::planned_filter::PlannedFilter;
use super::provider::OdpTableProvider;
use crate::dataset::DatasetSnapshot;
use crate::filter::{FilterVariables, lower_filter};

pub(crate) use analyze::AnalyzeFunction;
pub(crate) use batches::BatchesFunction;
pub(crate) use clean::CleanFunction;
pub(crate) use files::FilesFunction;
pub(crate) use open_ticket::OpenTicketFunction;
pub(crate) use select::SelectFunction;
pub(crate) use tickets::TicketsFunction;
pub(crate) use write_report::WriteReportFunction;

/// The name of the table that a function is called with.
fn table_name(function: &str, arg: &Expr) -> Result<TableReference> {
    match arg {
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(Some(name)) => Ok(TableReference::parse_str(name)),
            _ => plan_err!("{function} takes the name of a table as text, not {value}"),
        },
        // Names in a statement have their case already.
        Expr::Column(Column { relation, name, .. }) => match relation {
            None => Ok(TableReference::bare(name.as_str())),
            Some(TableReference::Bare { table }) => {
                Ok(TableReference::partial(table.as_ref(), name.as_str()))
            }
            Some(TableReference::Partial { schema, table }) => {
                Ok(TableReference::full(schema.as_ref(), table.as_ref(), name.as_str()))
            }
            Some(TableReference::Full { .. }) => plan_err!("{function} takes the name of a table, not {arg}"),
        },
        other => plan_err!("{function} takes the name of a table as text, not {other}"),
    }
}

/// A filter in the ODP language, with the values of its variables.
#[derive(Debug, Clone)]
struct FilterArgs {
    text: String,
    variables: FilterVariables,
}

impl FilterArgs {
    /// From the arguments after the name of the table: a text, and variables as JSON, an object or an array.
    fn try_new(function: &str, args: &[Expr]) -> Result<Self> {
        let text = |arg: &Expr, what: &str| match arg {
            Expr::Literal(value, _) => match value.try_as_str() {
                Some(Some(text)) => Ok(text.to_owned()),
                _ => plan_err!("{function} takes {what} as text, not {value}"),
            },
            other => plan_err!("{function} takes {what} as constant text, not {other}"),
        };
        match args {
            [filter] => Ok(Self { text: text(filter, "a filter")?, variables: FilterVariables::default() }),
            [filter, variables] => Ok(Self {
                text: text(filter, "a filter")?,
                variables: FilterVariables::from_json(&text(variables, "variables")?)?,
            }),
            _ => plan_err!(
                "{function} takes a table, a filter and its variables: {function}('t', 'depth > $d', '{{\"d\": 5}}')"
            ),
        }
    }

    /// The filter as an expression over the table's columns.
    fn lower(&self, snapshot: &DatasetSnapshot) -> Result<Expr> {
        Ok(lower_filter(&self.text, &self.variables, &snapshot.schema())?.expr)
    }

    fn plan(&self, session: &dyn Session, snapshot: &DatasetSnapshot) -> Result<PlannedFilter> {
        PlannedFilter::try_new(session, &snapshot.schema(), self.lower(snapshot)?)
    }
}

async fn find_table(session: &dyn Session, table: &TableReference) -> Result<Arc<dyn TableProvider>> {
    let defaults = &session.config_options().catalog;
    let name = table.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
    let schema =
        session.catalog_list().catalog(&name.catalog).and_then(|catalog| catalog.schema(&name.schema));
    let found = match schema {
        Some(schema) => schema.table(&name.table).await?,
        None => None,
    };
    found.ok_or_else(|| plan_datafusion_err!("table {table} does not exist"))
}

fn as_odp<'a>(provider: &'a Arc<dyn TableProvider>, table: &TableReference) -> Result<&'a OdpTableProvider> {
    match provider.downcast_ref::<OdpTableProvider>() {
        Some(table) => Ok(table),
        None => plan_err!("table {table} is not stored as ODP"),
    }
}

/// `year=2020, month=NULL`; `None` without partition columns.
fn partition_text(snapshot: &DatasetSnapshot, values: &[ScalarValue]) -> Option<String> {
    let fields = snapshot.table_schema().table_partition_cols();
    let parts: Vec<String> =
        fields.iter().zip(values).map(|(field, value)| format!("{}={value}", field.name())).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn append_text(row: &mut StructBuilder, field: usize, text: Option<String>) {
    if let Some(builder) = row.field_builder::<StringBuilder>(field) {
        builder.append_option(text);
    }
}
