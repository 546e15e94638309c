//! Aggregates in one step, where batches of different partitions have no group in common.
//!
//! Otherwise each partition makes states of its groups, which are then brought together by a hash of the group: with about
//! as many groups as rows, most of the work.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, InputOrderMode, ReplaceChildrenOptions,
};

use crate::options::OdpOptions;
use crate::scan::with_keys_apart;

/// Rows of a partition, on average and at least: the groups of so many stay near the processor.
const LEAST_ROWS: u64 = 128 << 10;

/// Partitions, at most; and where they are sorted, and the sorted ones merged.
const MOST: usize = 64;
const MOST_MERGED: usize = 8;

/// The rule; runs when nothing else asks for how rows are partitioned any more.
#[derive(Debug)]
pub(crate) struct GroupsApartRule;

impl PhysicalOptimizerRule for GroupsApartRule {
    fn name(&self) -> &'static str {
        "odp_groups_apart"
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
        match options.groups_apart && options.pruning {
            true => Ok(apart(&plan, Some(MOST))?.unwrap_or(plan)),
            false => Ok(plan),
        }
    }
}

/// `plan` with aggregates in one step; `None` if nothing changes. `most`: the partitions that it may have; `None` if whoever
/// reads it counts on those that it has.
fn apart(plan: &Arc<dyn ExecutionPlan>, most: Option<usize>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(most) = most
        && let Some(in_one_step) = in_one_step(plan, most)?
    {
        return Ok(Some(in_one_step));
    }
    let reads_all =
        plan.is::<CoalescePartitionsExec>() || plan.is::<RepartitionExec>() || plan.is::<AnalyzeExec>();
    let of_children = if reads_all {
        Some(MOST)
    } else if plan.is::<SortPreservingMergeExec>() {
        Some(MOST_MERGED)
    } else if passes_on(plan) {
        most
    } else {
        None
    };
    let children = plan.children();
    let changed = children.iter().map(|child| apart(child, of_children)).collect::<Result<Vec<_>>>()?;
    if changed.iter().all(Option::is_none) {
        return Ok(None);
    }
    let pairs = changed.into_iter().zip(children);
    let children = pairs.map(|(changed, child)| changed.unwrap_or_else(|| Arc::clone(child))).collect();
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(children, options).map(Some)
}

/// Whether `plan` does with each partition what it does with any other.
fn passes_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_first_step =
        plan.downcast_ref::<AggregateExec>().is_some_and(|of| *of.mode() == AggregateMode::Partial);
    is_first_step
        || plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<LocalLimitExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(SortExec::preserve_partitioning)
}

/// `plan`, the second step of an aggregate over a scan of batches, as the only one; `None` if it is another plan, or bounds do
/// not keep its groups apart.
fn in_one_step(plan: &Arc<dyn ExecutionPlan>, most: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some((last, first)) = two_steps(plan) else { return Ok(None) };
    let keys: Vec<Arc<dyn PhysicalExpr>> = first.group_expr().input_exprs();
    let processors = last.input().properties().output_partitioning().partition_count();
    // Several for each processor, so that they end together.
    let least = processors.saturating_mul(4).min(most).max(processors);
    let most =
        |rows: u64| usize::try_from(rows / LEAST_ROWS).unwrap_or(usize::MAX).clamp(least, most.max(least));
    let Some(scan) = with_keys_apart(first.input(), &keys, processors, most)? else { return Ok(None) };
    let only = AggregateExec::try_new(
        AggregateMode::SinglePartitioned,
        Arc::new(first.group_expr().clone()),
        first.aggr_expr().to_vec(),
        first.filter_expr().to_vec(),
        scan,
        first.input_schema(),
    )?;
    Ok((only.schema() == last.schema()).then(|| Arc::new(only) as _))
}

/// The second step of an aggregate by each group once, and the first, with nothing but a hash between them.
fn two_steps(plan: &Arc<dyn ExecutionPlan>) -> Option<(&AggregateExec, &AggregateExec)> {
    let last = plan.downcast_ref::<AggregateExec>()?;
    let hash = last.input().downcast_ref::<RepartitionExec>()?;
    let first = hash.input().downcast_ref::<AggregateExec>()?;
    let is_it = *last.mode() == AggregateMode::FinalPartitioned
        && matches!(hash.partitioning(), Partitioning::Hash(..))
        && *first.mode() == AggregateMode::Partial
        && *first.input_order_mode() == InputOrderMode::Linear
        && first.group_expr().is_single()
        && [last, first]
            .into_iter()
            .all(|of| of.limit_options().is_none() && of.dynamic_expressions_produced().is_empty());
    is_it.then_some((last, first))
}
