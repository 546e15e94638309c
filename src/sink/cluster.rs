//! Rows in the order of an expression, those of the same value in the order in which they came.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatchOptions, UInt64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

/// The columns that are added, behind those of the input.
const KEY: &str = "__odp_cluster_key";
const ROW: &str = "__odp_cluster_row";

/// `input` as one output partition, in the order of `expr`; NULL comes last, and rows of the same value stay in the
/// order in which they came. Memory is bounded: DataFusion's sort spills.
///
/// The plan is one to be optimized.
pub(crate) fn clustered(
    input: Arc<dyn ExecutionPlan>,
    expr: Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let kept = input.schema();
    // An ORDER BY of the query would be optimized away below a sort.
    let input = OutputRequirements::new_add_mode().optimize(input, &ConfigOptions::default())?;
    let keyed: Arc<dyn ExecutionPlan> = Arc::new(ClusterKeyExec::try_new(input, expr)?);
    let by = |name: &str, index: usize| {
        let options = SortOptions { descending: false, nulls_first: false };
        PhysicalSortExpr::new(Arc::new(Column::new(name, index)), options)
    };
    let (key, row) = (kept.fields().len(), kept.fields().len() + 1);
    let Some(order) = LexOrdering::new([by(KEY, key), by(ROW, row)]) else {
        return internal_err!("an order of two columns is one");
    };
    let sorted: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order, keyed));
    let columns = kept.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        (column, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), sorted)?))
}

/// Adds two columns to the rows of one partition: the value of an expression, and the number of the row.
#[derive(Debug, Clone)]
pub(crate) struct ClusterKeyExec {
    input: Arc<dyn ExecutionPlan>,
    expr: Arc<dyn PhysicalExpr>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl ClusterKeyExec {
    fn try_new(input: Arc<dyn ExecutionPlan>, expr: Arc<dyn PhysicalExpr>) -> Result<Self> {
        let rows = input.schema();
        let key = Field::new(KEY, expr.data_type(&rows)?, true);
        let mut fields: Vec<FieldRef> = rows.fields().to_vec();
        fields.extend([key, Field::new(ROW, DataType::UInt64, false)].map(Arc::new));
        let schema = Arc::new(Schema::new_with_metadata(fields, rows.metadata().clone()));
        // Columns of the input keep their places, and with them its orders hold.
        let mut equivalences = EquivalenceProperties::new(schema);
        equivalences.add_orderings(input.equivalence_properties().oeq_class().iter().cloned());
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self { input, expr, metrics: ExecutionPlanMetricsSet::new(), properties: Arc::new(properties) })
    }
}

impl DisplayAs for ClusterKeyExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ClusterKeyExec: by={}", self.expr)
            }
            DisplayFormatType::TreeRender => writeln!(f, "by={}", self.expr),
        }
    }
}

impl ExecutionPlan for ClusterKeyExec {
    fn name(&self) -> &'static str {
        "ClusterKeyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    /// Of the input's order depend the numbers of the rows.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.expr)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::try_new(input, Arc::clone(&self.expr))?)),
            Err(children) => internal_err!("ClusterKeyExec has one child, not {}", children.len()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.input.output_partitioning().partition_count();
        if partition != 0 || partitions != 1 {
            return internal_err!(
                "ClusterKeyExec has one partition, not partition {partition} of {partitions}"
            );
        }
        let (schema, expr) = (self.schema(), Arc::clone(&self.expr));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let mut first = 0;
        let with_key = move |rows: Result<RecordBatch>| {
            let timer = metrics.elapsed_compute().timer();
            let rows = rows?;
            let keyed = with_key(&rows, &schema, &expr, first)?;
            first += rows.num_rows() as u64;
            timer.done();
            Ok(keyed.record_output(&metrics))
        };
        let rows = self.input.execute(0, context)?.map(with_key);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

fn with_key(
    rows: &RecordBatch,
    schema: &SchemaRef,
    expr: &Arc<dyn PhysicalExpr>,
    first: u64,
) -> Result<RecordBatch> {
    let key = expr.evaluate(rows)?.into_array(rows.num_rows())?;
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..first + rows.num_rows() as u64));
    let columns = rows.columns().iter().cloned().chain([key, numbers]).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Float64Array, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::datasource::MemTable;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::physical_planner::DefaultPhysicalPlanner;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Partitions of rows with few values of `key`, some NULL, numbered by `id` from the first to the last.
    fn table(partitions: i64, rows: i64) -> (MemTable, Vec<(Option<i64>, i64)>) {
        let mut random = StdRng::seed_from_u64(5);
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Float64, true),
            Field::new("id", DataType::Int64, false),
        ]));
        let (mut all, mut data) = (Vec::new(), Vec::new());
        for partition in 0..partitions {
            let rows: Vec<(Option<i64>, i64)> = (partition * rows..(partition + 1) * rows)
                .map(|id| (Some(random.random_range(0..9)).filter(|key| *key < 8), id))
                .collect();
            let batches = rows.chunks(1000).map(|rows| {
                let keys = Float64Array::from_iter(rows.iter().map(|(key, _)| key.map(|key| key as f64)));
                let ids = Int64Array::from_iter_values(rows.iter().map(|(_, id)| *id));
                RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys), Arc::new(ids)]).unwrap()
            });
            data.push(batches.collect());
            all.extend(rows);
        }
        // NULL comes last; the sort is stable.
        all.sort_by_key(|(key, _)| (key.is_none(), *key));
        (MemTable::try_new(schema, data).unwrap(), all)
    }

    fn context(memory: usize, partitions: usize) -> SessionContext {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory, 1.0).build_arc().unwrap();
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_sort_spill_reservation_bytes(1 << 18);
        SessionContext::new_with_config_rt(config, runtime)
    }

    /// The ids in the order of `key`, and the plan.
    async fn ids(
        ctx: &SessionContext,
        input: Arc<dyn ExecutionPlan>,
    ) -> (Vec<i64>, Arc<dyn ExecutionPlan>, String) {
        let key = col("key", &input.schema()).unwrap();
        let kept = input.schema();
        let plan = clustered(input, key).unwrap();
        let state = ctx.state();
        let plan = DefaultPhysicalPlanner::default().optimize_physical_plan(plan, &state, |_, _| {}).unwrap();
        assert_eq!(plan.schema(), kept);
        assert_eq!(plan.output_partitioning().partition_count(), 1);
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        let rows = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
        let ids = rows.iter().flat_map(|rows| rows.column(1).as_primitive::<Int64Type>().values().to_vec());
        (ids.collect(), plan, shown)
    }

    async fn scan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
        ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    #[tokio::test]
    async fn rows_of_one_value_keep_their_order_with_and_without_spilling() {
        for (memory, spills) in [(1 << 30, false), (3 << 20, true)] {
            let ctx = context(memory, 1);
            let (table, expected) = table(1, 200_000);
            ctx.register_table("t", Arc::new(table)).unwrap();
            let (found, plan, shown) = ids(&ctx, scan(&ctx, "SELECT * FROM t").await).await;
            assert!(found == expected.iter().map(|(_, id)| *id).collect::<Vec<_>>(), "{shown}");
            let sort = plan.children()[0].metrics().unwrap();
            assert_eq!(sort.spill_count().unwrap_or(0) > 0, spills, "{shown}");
        }
    }

    #[tokio::test]
    async fn several_partitions_are_made_one_below_the_numbers() {
        let ctx = context(1 << 30, 4);
        let (table, mut expected) = table(3, 2_000);
        ctx.register_table("t", Arc::new(table)).unwrap();
        let (mut found, _, shown) = ids(&ctx, scan(&ctx, "SELECT * FROM t WHERE id >= 0").await).await;
        let lines: Vec<_> = shown.lines().map(|line| line.trim().split(':').next().unwrap()).collect();
        assert_eq!(
            lines[..4],
            ["ProjectionExec", "SortExec", "ClusterKeyExec", "CoalescePartitionsExec"],
            "{shown}"
        );
        found.sort_unstable();
        expected.sort_unstable_by_key(|(_, id)| *id);
        assert!(found == expected.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_order_of_the_query_is_the_order_of_ties() {
        let ctx = context(1 << 30, 4);
        let (table, mut expected) = table(3, 2_000);
        ctx.register_table("t", Arc::new(table)).unwrap();
        expected.sort_by_key(|(key, id)| (key.is_none(), *key, -id));
        let expected: Vec<_> = expected.iter().map(|(_, id)| *id).collect();
        let (found, _, shown) = ids(&ctx, scan(&ctx, "SELECT * FROM t ORDER BY id DESC").await).await;
        assert!(found == expected, "{shown}");
        // As the planner has it before any optimization.
        let input = scan(&ctx, "SELECT * FROM t").await;
        let by = PhysicalSortExpr::new(
            col("id", &input.schema()).unwrap(),
            SortOptions { descending: true, nulls_first: true },
        );
        let input = Arc::new(SortExec::new(LexOrdering::new([by]).unwrap(), input));
        let (found, _, shown) = ids(&ctx, input).await;
        assert!(found == expected, "{shown}");
    }
}
