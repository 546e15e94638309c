//! Joins of a table with a few constant areas: the table is filtered by the areas first.
//!
//! `JOIN (VALUES ('a', 'POLYGON(…)'), …) AS r(name, area) ON st_within(t.geometry, r.area)` gives only rows of `t` that
//! lie in one of the areas. Said as a filter on `t`, its scan skips by it what lies outside; the join compares the rest.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::utils::{disjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

use crate::geo::crossing_constants::stays;
use crate::geo::functions::WithinDistanceFunction;
use crate::geo::predicate_function::PredicateFunction;
use crate::options::OdpOptions;

/// Rows of `VALUES` at most: each becomes a term of the filter.
const MAX_AREAS: usize = 64;

/// Adds the filter that a spatial join with constant areas implies.
#[derive(Debug)]
pub(crate) struct SpatialJoinRule;

impl AnalyzerRule for SpatialJoinRule {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        if !OdpOptions::of(config).pruning {
            return Ok(plan);
        }
        let rewritten = plan.transform_down_with_subqueries(|plan| {
            let filtered = match &plan {
                LogicalPlan::Join(join) => match &join.filter {
                    Some(filter) => filter_inputs(join, filter)?,
                    None => None,
                },
                LogicalPlan::Filter(Filter { predicate, input, .. }) => match input.as_ref() {
                    // `FROM t, (VALUES …) AS r WHERE …`
                    LogicalPlan::Join(join) => match filter_inputs(join, predicate)? {
                        Some(join) => Some(plan.with_new_exprs(vec![predicate.clone()], vec![join])?),
                        None => None,
                    },
                    _ => None,
                },
                _ => None,
            };
            Ok(filtered.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "spatial_join_areas"
    }
}

/// `join` with the filters that `condition` implies on its inputs; `None` if there are none.
fn filter_inputs(join: &Join, condition: &Expr) -> Result<Option<LogicalPlan>> {
    if join.join_type != JoinType::Inner {
        return Ok(None);
    }
    let (left, right) = (&join.left, &join.right);
    let (mut of_left, mut of_right) = (vec![], vec![]);
    for conjunct in split_conjunction(condition).into_iter().filter(|conjunct| is_spatial(conjunct)) {
        of_left.extend(implied_filter(conjunct, left, right)?);
        of_right.extend(implied_filter(conjunct, right, left)?);
    }
    if of_left.is_empty() && of_right.is_empty() {
        return Ok(None);
    }
    let filtered = |input: &Arc<LogicalPlan>, filters: Vec<Expr>| -> Result<LogicalPlan> {
        let builder = LogicalPlanBuilder::new_from_arc(Arc::clone(input));
        filters.into_iter().try_fold(builder, LogicalPlanBuilder::filter)?.build()
    };
    let inputs = vec![filtered(left, of_left)?, filtered(right, of_right)?];
    let plan = LogicalPlan::Join(join.clone());
    let exprs = plan.expressions();
    Ok(Some(plan.with_new_exprs(exprs, inputs)?))
}

fn is_spatial(expr: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    call.func.inner().is::<PredicateFunction>() || call.func.inner().is::<WithinDistanceFunction>()
}

/// What `conjunct` says of the rows of `table` alone: it holds for one of the rows of `areas`, which are constants.
fn implied_filter(conjunct: &Expr, table: &LogicalPlan, areas: &LogicalPlan) -> Result<Option<Expr>> {
    let columns = conjunct.column_refs();
    let (of_areas, of_table): (Vec<&Column>, Vec<&Column>) =
        columns.into_iter().partition(|column| areas.schema().has_column(column));
    if of_areas.is_empty() || of_table.is_empty() || !of_table.iter().all(|c| table.schema().has_column(c)) {
        return Ok(None);
    }
    let mut constants: Vec<(&Column, Vec<ScalarValue>)> = vec![];
    for column in of_areas {
        let values = areas.schema().index_of_column(column).ok().and_then(|index| values_of(areas, index));
        match values {
            // The filter's literals are unwrapped across the antimeridian, columns of a join are not.
            Some(values) if values.len() <= MAX_AREAS && values.iter().all(stays) => {
                constants.push((column, values));
            }
            _ => return Ok(None),
        }
    }
    let rows = constants.iter().map(|(_, values)| values.len()).min().unwrap_or(0);
    let term = |row: usize| -> Result<Expr> {
        let replaced = conjunct.clone().transform(|expr| {
            let constant = match &expr {
                Expr::Column(column) => constants.iter().find(|(known, _)| *known == column),
                _ => None,
            };
            Ok(match constant {
                Some((_, values)) => Transformed::yes(Expr::Literal(values[row].clone(), None)),
                None => Transformed::no(expr),
            })
        })?;
        Ok(replaced.data)
    };
    Ok(disjunction((0..rows).map(term).collect::<Result<Vec<_>>>()?))
}

/// The constants in column `index` of a plan that is `VALUES`, under names.
fn values_of(plan: &LogicalPlan, index: usize) -> Option<Vec<ScalarValue>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => values_of(&alias.input, index),
        LogicalPlan::Projection(projection) => match unaliased(projection.expr.get(index)?) {
            Expr::Column(column) => {
                values_of(&projection.input, projection.input.schema().index_of_column(column).ok()?)
            }
            _ => None,
        },
        LogicalPlan::Values(values) => {
            values.values.iter().map(|row| constant(unaliased(row.get(index)?))).collect()
        }
        _ => None,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}
