//! Places [`GroupByCodesExec`], where a scan can give codes for the text that rows are grouped by.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, aggregate_expressions};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

use super::group_by_codes::GroupByCodesExec;
use crate::options::OdpOptions;
use crate::scan::with_codes;

/// The rule; runs after those that move projections.
#[derive(Debug)]
pub(crate) struct GroupByCodesRule;

impl PhysicalOptimizerRule for GroupByCodesRule {
    fn name(&self) -> &'static str {
        "odp_group_by_codes"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match OdpOptions::of(config).group_by_codes {
            true => Ok(plan.transform_up(by_codes)?.data),
            false => Ok(plan),
        }
    }
}

fn by_codes(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(plan)) };
    let Some(position) = text_position(aggregate)? else { return Ok(Transformed::no(plan)) };
    match with_codes(aggregate.input(), position, may_keep_rows(aggregate))? {
        Some(input) if differ_in_type_alone(&aggregate.input().schema(), &input.schema(), position) => {
            let replaced = GroupByCodesExec::new(aggregate.clone(), position, input);
            Ok(Transformed::yes(Arc::new(replaced)))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

/// Where the only column is that the first step of an aggregate groups by; `None` if it is another step, or does more than
/// group rows by one column in whatever order they come, or needs the column for something else.
fn text_position(aggregate: &AggregateExec) -> Result<Option<usize>> {
    let groups = aggregate.group_expr();
    let is_simple = *aggregate.mode() == AggregateMode::Partial
        && *aggregate.input_order_mode() == InputOrderMode::Linear
        && aggregate.limit_options().is_none()
        && aggregate.dynamic_expressions_produced().is_empty()
        && groups.is_single()
        && aggregate.aggr_expr().iter().all(|of| of.groups_accumulator_supported());
    let [(group, _)] = groups.expr() else { return Ok(None) };
    let Some(column) = group.downcast_ref::<Column>().filter(|_| is_simple) else { return Ok(None) };
    let arguments = aggregate_expressions(aggregate.aggr_expr(), aggregate.mode(), 1)?;
    let needs = |expr: &Arc<dyn PhysicalExpr>| {
        collect_columns(expr).iter().any(|needed| needed.index() == column.index())
    };
    let filters = aggregate.filter_expr().iter().flatten();
    let is_needed = arguments.iter().flatten().chain(filters).any(needs);
    Ok((!is_needed).then_some(column.index()))
}

/// Whether a function may keep arrays that it is given, as `array_agg` does.
fn may_keep_rows(aggregate: &AggregateExec) -> bool {
    let copying = [avg_udaf(), count_udaf(), max_udaf(), min_udaf(), sum_udaf()];
    let copies = |function: &AggregateFunctionExpr| {
        !function.is_distinct() && copying.iter().any(|known| **known == *function.fun())
    };
    !aggregate.aggr_expr().iter().all(|function| copies(function))
}

/// Whether the second is the first, but for the type of the column at `position`.
fn differ_in_type_alone(first: &Schema, second: &Schema, position: usize) -> bool {
    let is_same = |(at, (first, second)): (usize, (&Arc<_>, &Arc<_>))| at == position || first == second;
    first.fields().len() == second.fields().len()
        && first.fields().iter().zip(second.fields()).enumerate().all(is_same)
}
