//! [`SelectionBuilder`]: filter, variables and columns of a selection, before it is planned.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::{Result, plan_err};
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, SortExpr};

use super::planned_filter::PlannedFilter;
use super::provider::TableFilters;
use super::selection::{Selection, SelectionParts};
use super::selection_filter::{FilterSource, SelectionFilter, read_sql};
use crate::dataset::DatasetSnapshot;
use crate::filter::{FilterValue, FilterVariables, OdpFilter, lower_filter};
use crate::options::OdpOptions;
use crate::scan::{BatchPruner, Certainty, certainty_of};

/// Plans a [`Selection`]; see [`OdpTableProvider::select`](super::OdpTableProvider::select).
#[derive(Debug, Clone)]
#[must_use]
pub struct SelectionBuilder {
    snapshot: Arc<DatasetSnapshot>,
    orders: Vec<Vec<SortExpr>>,
    filter: SelectionFilter,
    variables: FilterVariables,
    columns: Option<Vec<String>>,
}

impl SelectionBuilder {
    pub(super) fn new(
        snapshot: Arc<DatasetSnapshot>,
        orders: Vec<Vec<SortExpr>>,
        filter: SelectionFilter,
    ) -> Self {
        Self { snapshot, orders, filter, variables: FilterVariables::default(), columns: None }
    }

    /// The value of `$name` in the filter.
    pub fn bind(mut self, name: impl Into<String>, value: impl Into<FilterValue>) -> Self {
        self.variables.set(name, value);
        self
    }

    /// The value of the next `?` in the filter.
    pub fn bind_next(mut self, value: impl Into<FilterValue>) -> Self {
        self.variables.push(value);
        self
    }

    /// The values of all variables, instead of those that were bound before.
    pub fn with_variables(mut self, variables: FilterVariables) -> Self {
        self.variables = variables;
        self
    }

    /// The columns to give, in this order; all columns of the table without this. The filter may read others.
    pub fn columns<I>(mut self, columns: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Plans the selection: checks and simplifies the filter once, and decides by metadata alone which batches may hold
    /// rows that match. Reads nothing.
    ///
    /// The selection keeps the settings that `ctx` has now, and what the filter reads of the clock. It takes the session
    /// rather than the table keeping it: a session owns its tables, and a table that owned its session back would keep
    /// both alive for ever.
    ///
    /// # Errors
    /// A planning error that names the fault: filter text that breaks the grammar, an unknown column, types that do not
    /// fit, a filter that is not boolean, aggregates, windows, subqueries, functions such as `random()`, variables
    /// without a value.
    #[expect(clippy::unused_async, reason = "leaves room for metadata that is read when it is needed")]
    pub async fn plan(self, ctx: &SessionContext) -> Result<Selection> {
        self.plan_in(ctx.state())
    }

    pub(super) fn plan_in(self, state: SessionState) -> Result<Selection> {
        let schema = self.snapshot.schema();
        if !matches!(self.filter.0, FilterSource::Odp(_)) && !self.variables.is_empty() {
            return plan_err!("variables are bound to filters in the ODP language only");
        }
        let source = self.filter.0.clone();
        let of_expr = |expr: Expr| OdpFilter {
            columns: expr.column_refs().into_iter().map(|column| column.name.clone()).collect(),
            expr,
            warnings: vec![],
        };
        let read = match &source {
            FilterSource::All => None,
            FilterSource::Odp(text) => Some(lower_filter(text, &self.variables, &schema)?),
            FilterSource::Sql(text) => Some(of_expr(read_sql(&state, text, &schema)?)),
            FilterSource::Expr(expr) => Some(of_expr(expr.as_ref().clone())),
        };
        let (filter, filter_columns, warnings) = match read {
            Some(read) => (Some(read.expr), read.columns, read.warnings),
            None => (None, BTreeSet::new(), vec![]),
        };
        let filter = match filter {
            Some(filter) => PlannedFilter::try_new(&state, &schema, filter)?,
            None => PlannedFilter::All,
        };
        let columns = self.columns.as_deref().map(|names| column_indices(&schema, names)).transpose()?;
        let kept = keep_batches(&state, &self.snapshot, &filter)?;
        let parts = SelectionParts {
            snapshot: self.snapshot,
            orders: self.orders.into(),
            source,
            variables: self.variables,
            filter,
            filter_columns,
            columns,
            kept: kept.indices.into(),
            certainty: kept.certainty,
            warnings,
        };
        Selection::try_new(parts, state)
    }
}

/// The batches that a filter keeps, and how sure it is of each.
pub(super) struct KeptByFilter {
    pub(super) indices: Vec<usize>,
    /// One for each of `indices`.
    pub(super) certainty: Vec<Certainty>,
}

/// Decides by metadata which batches may hold rows that match `filter`.
pub(super) fn keep_batches(
    session: &dyn Session,
    snapshot: &DatasetSnapshot,
    filter: &PlannedFilter,
) -> Result<KeptByFilter> {
    if *filter == PlannedFilter::Never {
        return Ok(KeptByFilter { indices: vec![], certainty: vec![] });
    }
    let filters = TableFilters::try_new(session, snapshot, &conjuncts(filter))?;
    let mut pruner = BatchPruner::new(snapshot);
    filters.prune(session, &mut pruner)?;
    let indices = pruner.finish().indices;
    let certainty = certainties(session, snapshot, &filters, &indices)?;
    Ok(KeptByFilter { indices, certainty })
}

/// How sure it is of each of the batches at `indices`, which `filters` keep.
pub(super) fn certainties(
    session: &dyn Session,
    snapshot: &DatasetSnapshot,
    filters: &TableFilters,
    indices: &[usize],
) -> Result<Vec<Certainty>> {
    let options = OdpOptions::of(session.config_options());
    match options.pruning {
        true => certainty_of(snapshot, &filters.inexact, indices, options.finite_coordinates),
        false if filters.inexact.is_empty() => Ok(vec![Certainty::All; indices.len()]),
        false => Ok(vec![Certainty::Possible; indices.len()]),
    }
}

/// The filters that must all match, as a scan gets them.
pub(super) fn conjuncts(filter: &PlannedFilter) -> Vec<Expr> {
    filter.expr().map(|expr| split_conjunction(expr).into_iter().cloned().collect()).unwrap_or_default()
}

/// The positions of the columns `names` in `schema`.
pub(super) fn column_indices(schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return plan_err!("a selection needs at least one column");
    }
    let mut indices = Vec::with_capacity(names.len());
    for name in names {
        let Ok(index) = schema.index_of(name) else {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return plan_err!("there is no column {name:?}; the columns are {}", known.join(", "));
        };
        if indices.contains(&index) {
            return plan_err!("column {name:?} is asked for twice");
        }
        indices.push(index);
    }
    Ok(indices)
}
