//! A selection's filter as the optimizer leaves it: typed, simplified, and for good.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, internal_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, LogicalTableSource};

use super::selection_filter::check_filter;

/// The name of the one table in a selection's plans.
pub(super) const TABLE: &str = "selection";

/// A filter that needs no further planning; columns are unqualified.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PlannedFilter {
    /// Every row matches.
    All,
    /// No row matches, whatever the data.
    Never,
    Where(Expr),
}

impl PlannedFilter {
    /// Plans `filter` over a table of `schema` as the session plans SQL. What depends on the time of the query has the
    /// value of now from here on.
    ///
    /// # Errors
    /// A planning error for an unknown column, types that do not fit, a filter that is not boolean, or one that is not
    /// decided by one row alone.
    pub(super) fn try_new(session: &dyn Session, schema: &SchemaRef, filter: Expr) -> Result<Self> {
        // A source that takes no filters leaves all of them to the plan, where they are found again.
        let source = Arc::new(LogicalTableSource::new(Arc::clone(schema)));
        check_filter(&filter)?;
        let plan = LogicalPlanBuilder::scan(TABLE, source, None)?.filter(filter)?.build()?;
        let optimized = session.optimize(&plan)?;
        let Some(found) = Found::in_plan(&optimized)? else { return Ok(Self::Never) };
        Ok(conjunction(found.filters).map_or(Self::All, Self::Where))
    }

    pub(super) fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Where(expr) => Some(expr),
            Self::All | Self::Never => None,
        }
    }
}

/// What an optimized plan filters by.
#[derive(Default)]
struct Found {
    filters: Vec<Expr>,
    /// Columns that the optimizer made, such as common parts of expressions.
    made: HashMap<String, Expr>,
}

impl Found {
    /// `None` if the plan gives no rows.
    fn in_plan(plan: &LogicalPlan) -> Result<Option<Self>> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let found = Self::default();
                let filters = scan.filters.iter().map(|f| found.inlined(f.clone())).collect::<Result<_>>()?;
                Ok(Some(Self { filters, ..found }))
            }
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(None),
            LogicalPlan::SubqueryAlias(alias) => Self::in_plan(&alias.input),
            LogicalPlan::Filter(filter) => {
                let Some(mut found) = Self::in_plan(&filter.input)? else { return Ok(None) };
                let predicate = found.inlined(filter.predicate.clone())?;
                found.filters.push(predicate);
                Ok(Some(found))
            }
            LogicalPlan::Projection(projection) => {
                let Some(mut found) = Self::in_plan(&projection.input)? else { return Ok(None) };
                let mut made = HashMap::new();
                for expr in &projection.expr {
                    if let Expr::Alias(alias) = expr {
                        made.insert(alias.name.clone(), found.inlined(alias.expr.as_ref().clone())?);
                    } else if let Expr::Column(column) = expr
                        && let Some(known) = found.made.get(&column.name)
                    {
                        made.insert(column.name.clone(), known.clone());
                    }
                }
                found.made = made;
                Ok(Some(found))
            }
            other => internal_err!("a filter was planned as {}", other.display()),
        }
    }

    /// `expr` over the columns of the table alone.
    fn inlined(&self, expr: Expr) -> Result<Expr> {
        expr.transform(|node| {
            Ok(match node {
                Expr::Column(column) => match self.made.get(&column.name) {
                    Some(made) => Transformed::new(made.clone(), true, TreeNodeRecursion::Jump),
                    None => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
                },
                other => Transformed::no(other),
            })
        })
        .data()
    }
}

/// `expr` with columns that name no table.
pub(super) fn unqualified(expr: Expr) -> Result<Expr> {
    Found::default().inlined(expr)
}
