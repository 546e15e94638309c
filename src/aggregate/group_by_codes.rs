//! The first of the two steps of an aggregate by a column of text, of rows that have codes for it.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;

use super::coded_groups::CodedGroups;
use super::group_states::GroupStates;

/// What a partial [`AggregateExec`] does that groups by one column of text, of an input that has codes for that column.
///
/// The rows it gives are partial states, as those of the other: a group can come twice, where memory is short.
#[derive(Debug)]
pub(super) struct GroupByCodesExec {
    /// What this stands for.
    aggregate: AggregateExec,
    /// Of the codes.
    position: usize,
    /// That of `aggregate`, but for the type of the column that is grouped by.
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl GroupByCodesExec {
    pub(super) fn new(aggregate: AggregateExec, position: usize, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { aggregate, position, input, metrics: ExecutionPlanMetricsSet::new() }
    }

    fn table(&self, partition: usize) -> Result<CodedTable> {
        let schema = self.schema();
        let states = GroupStates::try_new(&self.aggregate)?;
        Ok(CodedTable {
            groups: CodedGroups::new(schema.field(0).data_type().clone()),
            saved: [states.uncounting(), states.sharing()],
            states,
            position: self.position,
            schema,
            dictionaries: MetricBuilder::new(&self.metrics).counter("dictionaries", partition),
            texts: MetricBuilder::new(&self.metrics).counter("texts_compared", partition),
            counts_saved: MetricBuilder::new(&self.metrics).counter("counts_saved", partition),
            values_shared: MetricBuilder::new(&self.metrics).counter("values_shared", partition),
        })
    }
}

impl DisplayAs for GroupByCodesExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> =
            self.aggregate.group_expr().expr().iter().map(|(_, name)| name.as_str()).collect();
        let aggregates: Vec<&str> = self.aggregate.aggr_expr().iter().map(|of| of.name()).collect();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(
                f,
                "GroupByCodesExec: mode=Partial, gby=[{}], aggr=[{}]",
                groups.join(", "),
                aggregates.join(", ")
            ),
            DisplayFormatType::TreeRender => {
                writeln!(f, "mode=Partial\ngroup_by={}", groups.join(", "))?;
                match aggregates.is_empty() {
                    true => Ok(()),
                    false => writeln!(f, "aggr={}", aggregates.join(", ")),
                }
            }
        }
    }
}

impl ExecutionPlan for GroupByCodesExec {
    fn name(&self) -> &'static str {
        "GroupByCodesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.aggregate.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.aggregate.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input])
                if input.output_partitioning().partition_count()
                    != self.input.output_partitioning().partition_count() =>
            {
                internal_err!("GroupByCodesExec keeps the number of its partitions")
            }
            Ok([input]) => Ok(Arc::new(Self::new(self.aggregate.clone(), self.position, input))),
            Err(children) => internal_err!("GroupByCodesExec has one child, not {}", children.len()),
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
        let consumer = MemoryConsumer::new(format!("GroupByCodesExec[{partition}]")).with_can_spill(true);
        let reading = Reading {
            table: self.table(partition)?,
            reservation: consumer.register(context.memory_pool()),
            rows_at_once: context.session_config().batch_size().max(1),
            input: self.input.execute(partition, context)?,
            is_over: false,
            output: None,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let rows = futures::stream::try_unfold(reading, |mut reading| async move {
            let next = reading.next().await?;
            Ok(next.map(|rows| (rows, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.aggregate.statistics_from_inputs(input_stats, args)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

struct CodedTable {
    groups: CodedGroups,
    states: GroupStates,
    position: usize,
    schema: SchemaRef,
    /// Counts and values that each row saves.
    saved: [usize; 2],
    dictionaries: Count,
    texts: Count,
    /// Rows that a function need not count, since it is known how many a group has.
    counts_saved: Count,
    /// Values that a function need not look at, since another does.
    values_shared: Count,
}

impl CodedTable {
    fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        let (lookups, groups) = self.groups.of_rows(rows.column(self.position))?;
        self.dictionaries.add(lookups.dictionaries);
        self.texts.add(lookups.texts);
        let [counts, values] = self.saved.map(|of_row| of_row * rows.num_rows());
        self.counts_saved.add(counts);
        self.values_shared.add(values);
        self.states.update(rows, &groups)
    }

    /// The states of all groups, which are forgotten; `None` without any.
    fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.groups.len() == 0 {
            return Ok(None);
        }
        let (texts, rows) = self.groups.take()?;
        let mut columns = vec![texts];
        columns.extend(self.states.take(&rows)?);
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    fn size(&self) -> usize {
        self.groups.size() + self.states.size()
    }
}

struct Reading {
    table: CodedTable,
    reservation: MemoryReservation,
    rows_at_once: usize,
    input: SendableRecordBatchStream,
    is_over: bool,
    /// States that are still to be given.
    output: Option<RecordBatch>,
    metrics: BaselineMetrics,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(states) = self.output.take() {
                let rows = states.num_rows().min(self.rows_at_once);
                if rows < states.num_rows() {
                    self.output = Some(states.slice(rows, states.num_rows() - rows));
                }
                return Ok(Some(states.slice(0, rows).record_output(&self.metrics)));
            }
            if self.is_over {
                self.reservation.free();
                return Ok(None);
            }
            match self.input.next().await.transpose()? {
                Some(rows) => {
                    let _timer = self.metrics.elapsed_compute().timer();
                    self.table.update(&rows)?;
                    if let Err(error) = self.reservation.try_resize(self.table.size()) {
                        // Where there is too little memory, the next step is left with a part of the states.
                        self.output = self.table.take()?;
                        self.reservation.try_resize(self.table.size()).map_err(|_| error)?;
                    }
                }
                None => {
                    let _timer = self.metrics.elapsed_compute().timer();
                    self.output = self.table.take()?;
                    self.is_over = true;
                }
            }
        }
    }
}
