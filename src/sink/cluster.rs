//! Rows in the order of an expression, those of the same value in the order in which they came.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatchOptions, UInt64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
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
pub(crate) fn clustered(
    input: Arc<dyn ExecutionPlan>,
    expr: Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let kept = input.schema();
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
