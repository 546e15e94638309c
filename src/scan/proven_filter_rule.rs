//! Filters that bounds prove for most rows of a scan which gives no other columns: evaluated by the scan, for the other rows.
//!
//! Before, a filter is taken by a scan where that saves decoding other columns. This comes after it, so that a filter that grows
//! while the query runs, of a least or greatest value, is known: it is better served by rows as they come.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::PushedDown;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

use super::ordered_concat_rule::is_round_robin;
use super::source::OdpSource;
use crate::options::OdpOptions;

/// The rule.
#[derive(Debug)]
pub(crate) struct ProvenFilterRule;

impl PhysicalOptimizerRule for ProvenFilterRule {
    fn name(&self) -> &'static str {
        "odp_proven_filter"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = OdpOptions::of(config);
        if !options.pruning || !options.pushdown_filters {
            return Ok(plan);
        }
        let in_scan = |plan: Arc<dyn ExecutionPlan>| match plan.downcast_ref::<FilterExec>() {
            Some(filter) => Ok(match evaluated_by_scan(filter, config)? {
                Some(scan) => Transformed::yes(scan),
                None => Transformed::no(plan),
            }),
            None => Ok(Transformed::no(plan)),
        };
        Ok(plan.transform_up(in_scan)?.data)
    }
}

/// The scan below `filter` with it, and with its projection; `None` if it is no scan of batches, or too little is proven.
fn evaluated_by_scan(filter: &FilterExec, config: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = filter.input();
    let exchange = input.downcast_ref::<RepartitionExec>().filter(|_| is_round_robin(input));
    let scan = exchange.map_or(input, RepartitionExec::input).downcast_ref::<DataSourceExec>();
    let Some((scan, source)) = scan.and_then(DataSourceExec::downcast_to_file_source::<OdpSource>) else {
        return Ok(None);
    };
    if filter.fetch().is_some() || scan.limit.is_some() {
        return Ok(None);
    }
    let pruned_by = conjuncts(source);
    let Some(source) = source.to_evaluate_filters()? else { return Ok(None) };
    let mut scan = scan.clone();
    scan.file_source = Arc::new(source);
    let pushed = scan.try_pushdown_filters(vec![Arc::clone(filter.predicate())], config)?;
    let are_taken = pushed.filters.iter().all(|pushed| matches!(pushed, PushedDown::Yes));
    let Some(scan) = pushed.updated_node.filter(|_| are_taken) else { return Ok(None) };
    let source =
        scan.downcast_ref::<FileScanConfig>().and_then(|scan| scan.file_source().downcast_ref::<OdpSource>());
    match source {
        // Not without a filter from elsewhere, which goes on pruning.
        Some(source) if conjuncts(source) >= pruned_by && source.is_mostly_proven()? => {}
        _ => return Ok(None),
    }
    let mut plan: Arc<dyn ExecutionPlan> = Arc::new(DataSourceExec::new(scan));
    if let Some(projection) = filter.projection() {
        let given = ProjectionExprs::from_indices(projection, plan.schema().as_ref());
        let projection = ProjectionExec::try_new(given.iter().cloned(), Arc::clone(&plan))?;
        plan = match plan.try_swapping_with_projection(&projection)? {
            Some(projected) => projected,
            None => Arc::new(projection),
        };
    }
    if exchange.is_some() {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        plan = Arc::clone(input).replace_children(vec![plan], options)?;
    }
    Ok(is_known_as_well(filter, &plan)?.then_some(plan))
}

fn conjuncts(source: &OdpSource) -> usize {
    source.filter().map_or(0, |filter| split_conjunction(&filter).len())
}

/// Whether all that is known of the order of rows behind `filter` is known of those of `plan`, too: operators above may count
/// on it.
fn is_known_as_well(filter: &FilterExec, plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let (before, now) = (filter.properties().equivalence_properties(), plan.equivalence_properties());
    for order in before.oeq_class().iter() {
        if !now.ordering_satisfy(order.iter().cloned())? {
            return Ok(false);
        }
    }
    let constants = before.constants();
    Ok(constants.iter().all(|constant| now.is_expr_constant(&constant.expr).is_some()))
}
