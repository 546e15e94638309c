//! Places [`OrderedConcatExec`]: instead of a merge of partitions that follow each other, and where rows leave a
//! plan that says nothing of their order.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, Partitioning};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

use super::ordered_concat::OrderedConcatExec;
use super::source::OdpSource;
use crate::dataset::may_hold_nan;
use crate::options::OdpOptions;

/// Partitions of a source of another kind that are read ahead.
const OTHER_WINDOW: usize = 16;

/// The rule; runs last. Only chains of filters and projections over one scan of batches are changed: above a
/// join, reading partitions one after the other could wait for ever.
#[derive(Debug)]
pub(crate) struct OrderedConcatRule;

impl PhysicalOptimizerRule for OrderedConcatRule {
    fn name(&self) -> &'static str {
        "odp_ordered_concat"
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
        let plan = plan.transform_up(without_stealing)?.data;
        let written = writes(&plan);
        let plan = match options.ordered_concat {
            true => plan.transform_up(|plan| replace_merge(plan, written))?.data,
            false => plan,
        };
        // What is written keeps its order in any case.
        match options.source_order || written {
            true => Ok(in_source_order(&plan, false)?.unwrap_or(plan)),
            false => Ok(plan),
        }
    }
}

fn writes(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<DataSinkExec>() || plan.children().into_iter().any(writes)
}

/// A scan that the optimizer did not regroup keeps each partition's batches to itself: a limit may have told it that
/// order does not matter, and siblings would then take each other's.
fn without_stealing(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    match as_scan(&plan) {
        Some(_) => frozen(plan),
        None => Ok(Transformed::no(plan)),
    }
}

/// A scan of files whose partitions take none of each other's.
fn frozen(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let files = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|leaf| leaf.data_source().downcast_ref::<FileScanConfig>());
    match files {
        Some(config) if config.output_partitioning.is_none() => {
            let mut frozen = config.clone();
            frozen.output_partitioning = Some(Partitioning::UnknownPartitioning(config.file_groups.len()));
            Ok(Transformed::yes(DataSourceExec::from_data_source(frozen)))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

/// A merge whose partitions are proven to follow each other becomes a concatenation.
fn replace_merge(plan: Arc<dyn ExecutionPlan>, written: bool) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() else {
        return Ok(Transformed::no(plan));
    };
    match scan_of(merge.input()) {
        Some(scan) if partitions_follow(merge.input(), merge.expr())? => {
            let window = scan.scan().window(written);
            let short = Arc::clone(merge.input()).transform_up(in_short_runs)?.data;
            let input = match partitions_follow(&short, merge.expr())? {
                true => short,
                false => Arc::clone(merge.input()),
            };
            Ok(Transformed::yes(Arc::new(OrderedConcatExec::new(input, window, merge.fetch(), true))))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

/// `plan` with its rows in the order of the source, if it only passes on the rows of one scan of batches; where they are
/// `written`, of one source of any kind.
fn in_source_order(plan: &Arc<dyn ExecutionPlan>, written: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return concatenated(coalesce.input(), coalesce.fetch(), written);
    }
    if window_of(plan, written).is_some() {
        return concatenated(plan, None, written);
    }
    let written = written || plan.is::<DataSinkExec>();
    // Nobody asked for the order that the files of each batch declare: the batches stay in theirs.
    if let Some(sink) = plan.downcast_ref::<DataSinkExec>().filter(|sink| sink.sort_order().is_none())
        && let Some(merge) = sink.input().downcast_ref::<SortPreservingMergeExec>()
        && scan_of(merge.input()).is_some()
        && let Some(child) = concatenated(merge.input(), merge.fetch(), true)?
    {
        return Ok(Some(with_child(plan, child)?));
    }
    let passes_on = plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<AnalyzeExec>()
        || plan.is::<DataSinkExec>()
        || numbers_rows(plan);
    match plan.children().as_slice() {
        [child] if passes_on => {
            let Some(child) = in_source_order(child, written)? else { return Ok(None) };
            Ok(Some(with_child(plan, child)?))
        }
        _ => Ok(None),
    }
}

/// Whether `plan` numbers the rows in the order in which they come, or sorts by such numbers: rows of a sink that are
/// brought into another order.
fn numbers_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let numbers = |plan: &Arc<dyn ExecutionPlan>| plan.name() == "ClusterKeyExec";
    numbers(plan) || (plan.is::<SortExec>() && plan.children().into_iter().any(numbers))
}

fn concatenated(
    input: &Arc<dyn ExecutionPlan>,
    fetch: Option<usize>,
    written: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(window) = window_of(input, written) else { return Ok(None) };
    let input = without_round_robin(input)?;
    let input = match written {
        // Files of other tables, too, stay with their partitions.
        true => input.transform_up(frozen)?.data,
        false => input.transform_up(in_short_runs)?.data,
    };
    if input.output_partitioning().partition_count() == 1 && fetch.is_none() {
        return Ok(Some(input));
    }
    Ok(Some(Arc::new(OrderedConcatExec::new(input, window, fetch, false))))
}

/// A scan whose partitions are runs of batches that are no longer than they must be: while one of them is passed on in
/// order, the next ones are decoded only as far as may wait in memory.
fn in_short_runs(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let leaf = plan.downcast_ref::<DataSourceExec>();
    let config = leaf.and_then(|leaf| leaf.data_source().downcast_ref::<FileScanConfig>());
    let (Some(config), Some(scan)) = (config, as_scan(&plan)) else { return Ok(Transformed::no(plan)) };
    match scan.short_runs(&config.file_groups) {
        Some(groups) => {
            let mut apart = config.clone();
            apart.output_partitioning = Some(Partitioning::UnknownPartitioning(groups.len()));
            apart.file_groups = groups;
            Ok(Transformed::yes(DataSourceExec::from_data_source(apart)))
        }
        None => Ok(Transformed::no(plan)),
    }
}

/// `plan`, whose rows are written, with an output partition for each batch that it reads: several are then decoded at a
/// time while their rows are passed on in order. DataFusion merges them into a few runs otherwise, of which the first must
/// be read to its end before the second is of use.
pub(crate) fn with_batches_apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match leaf_of(&plan).and_then(as_scan) {
        Some(_) => Ok(plan.transform_up(without_stealing)?.data),
        None => Ok(plan),
    }
}

/// How many partitions of `plan` to read ahead, if its rows are those of one scan of batches, or, where they are
/// `written`, of one source of any kind that comes to an end.
fn window_of(plan: &Arc<dyn ExecutionPlan>, written: bool) -> Option<usize> {
    let leaf = leaf_of(plan)?;
    match as_scan(leaf) {
        Some(scan) => Some(scan.scan().window(written)),
        None if written && !leaf.boundedness().is_unbounded() => {
            Some(leaf.output_partitioning().partition_count().min(OTHER_WINDOW))
        }
        None => None,
    }
}

/// The scan of batches at the end of a chain of operators that keep each partition's rows in order.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&OdpSource> {
    as_scan(leaf_of(plan)?)
}

fn as_scan(leaf: &Arc<dyn ExecutionPlan>) -> Option<&OdpSource> {
    let leaf = leaf.downcast_ref::<DataSourceExec>()?;
    leaf.downcast_to_file_source::<OdpSource>().map(|(_, source)| source)
}

/// The source at the end of a chain of operators that keep each partition's rows in order.
fn leaf_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let keeps_order = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<LocalLimitExec>()
        || is_round_robin(plan);
    match plan.children().as_slice() {
        [] => Some(plan),
        [child] if keeps_order => leaf_of(child),
        _ => None,
    }
}

pub(super) fn is_round_robin(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<RepartitionExec>()
        .is_some_and(|repartition| matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_)))
}

/// The chain without operators that deal rows out in turn.
fn without_round_robin(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match plan.children().as_slice() {
        [child] => {
            let cleaned = without_round_robin(child)?;
            if is_round_robin(plan) {
                return Ok(cleaned);
            }
            if Arc::ptr_eq(&cleaned, child) { Ok(Arc::clone(plan)) } else { with_child(plan, cleaned) }
        }
        _ => Ok(Arc::clone(plan)),
    }
}

fn with_child(
    plan: &Arc<dyn ExecutionPlan>,
    child: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(vec![child], options)
}

/// Whether each partition's rows come before the next one's in `order`, by the bounds of its first column.
///
/// Floats prove nothing: NaN is not in their bounds. Nor do columns with NULLs.
fn partitions_follow(plan: &Arc<dyn ExecutionPlan>, order: &LexOrdering) -> Result<bool> {
    let first = order.first();
    let Some(column) = first.expr.downcast_ref::<Column>() else { return Ok(false) };
    let Some((leaf, index)) = column_of_scan(plan, column.index()) else { return Ok(false) };
    if may_hold_nan(leaf.schema().field(index).data_type()) {
        return Ok(false);
    }
    let context = StatisticsContext::new();
    let mut last = None;
    for partition in 0..leaf.output_partitioning().partition_count() {
        let args = StatisticsArgs::new().with_partition(Some(partition));
        let statistics = context.compute(leaf.as_ref(), &args)?;
        let Some(column) = statistics.column_statistics.get(index) else { return Ok(false) };
        let (Some(min), Some(max)) = (column.min_value.get_value(), column.max_value.get_value()) else {
            return Ok(false);
        };
        if column.null_count != Precision::Exact(0) || min.is_null() || max.is_null() {
            return Ok(false);
        }
        let (start, end) = if first.options.descending { (max, min) } else { (min, max) };
        if let Some(last) = &last {
            use std::cmp::Ordering::{Equal, Greater, Less};
            let is_after = match start.partial_cmp(last) {
                // A tie leaves the order of the rows to the other columns, which are not looked at.
                Some(Equal) => order.len() == 1,
                Some(Greater) => !first.options.descending,
                Some(Less) => first.options.descending,
                None => false,
            };
            if !is_after {
                return Ok(false);
            }
        }
        last = Some(end.clone());
    }
    Ok(true)
}

/// The scan below `plan`, and which of its columns is column `index` of `plan`.
fn column_of_scan(plan: &Arc<dyn ExecutionPlan>, index: usize) -> Option<(&Arc<dyn ExecutionPlan>, usize)> {
    if plan.is::<DataSourceExec>() {
        return Some((plan, index));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = projection.expr().get(index)?.expr.downcast_ref::<Column>()?;
        return column_of_scan(projection.input(), column.index());
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let index = match filter.projection().as_ref() {
            Some(kept) => *kept.get(index)?,
            None => index,
        };
        return column_of_scan(filter.input(), index);
    }
    match plan.children().as_slice() {
        [child] if plan.is::<CooperativeExec>() || plan.is::<LocalLimitExec>() => {
            column_of_scan(child, index)
        }
        _ => None,
    }
}
