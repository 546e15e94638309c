//! Concatenates partitions in their order, reading a few ahead.

use std::collections::VecDeque;
use std::fmt::{self, Formatter};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EvaluationType, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::coop::unconstrained;

use super::step_back::step_back;

/// Record batches that a partition may be ahead of the reader: about the rows of a batch, so that the next batches are
/// decoded while the rows of the first are passed on.
const MOST_AHEAD: usize = 16;

/// Their bytes, at most, if they are more than one: of all partitions together, unless they are many, and of one.
const MOST_BYTES_OF_ALL: usize = 64 << 20;
const MOST_BYTES: usize = 16 << 20;
const LEAST_BYTES: usize = 4 << 20;

/// What bytes are counted in.
const UNIT: usize = 1 << 10;

/// One output partition: the rows of partition 0, then of partition 1, and so on.
///
/// Up to `window` partitions run at a time. Some more are complete, and wait for their turn: while the first one takes long,
/// processors are not idle. With a `fetch`, it starts with one partition, and doubles with each that did not give enough
/// rows.
#[derive(Debug, Clone)]
pub(crate) struct OrderedConcatExec {
    input: Arc<dyn ExecutionPlan>,
    window: usize,
    fetch: Option<usize>,
    /// Partitions follow each other in the input's order, which the output then has.
    is_sorted: bool,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl OrderedConcatExec {
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        window: usize,
        fetch: Option<usize>,
        is_sorted: bool,
    ) -> Self {
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.clear_per_partition_constants();
        if !is_sorted {
            equivalences.clear_orderings();
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_evaluation_type(EvaluationType::Eager)
        .with_scheduling_type(SchedulingType::Cooperative);
        let window = window.max(1);
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, window, fetch, is_sorted, metrics, properties: Arc::new(properties) }
    }
}

impl DisplayAs for OrderedConcatExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let partitions = self.input.output_partitioning().partition_count();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "OrderedConcatExec: partitions={partitions}, window={}", self.window)?;
                self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
            }
            DisplayFormatType::TreeRender => writeln!(f, "partitions={partitions}"),
        }
    }
}

impl ExecutionPlan for OrderedConcatExec {
    fn name(&self) -> &'static str {
        "OrderedConcatExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.is_sorted]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, self.window, self.fetch, self.is_sorted))),
            Err(children) => internal_err!("OrderedConcatExec has one child, not {}", children.len()),
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
        if partition != 0 {
            return internal_err!("OrderedConcatExec has one partition, not {partition}");
        }
        let most = if self.fetch.is_some() { self.window } else { most_begun(self.window) };
        Ok(Box::pin(OrderedConcatStream {
            schema: self.schema(),
            partitions: self.input.output_partitioning().partition_count(),
            input: Arc::clone(&self.input),
            context,
            begun: VecDeque::new(),
            started: 0,
            window: if self.fetch.is_some() { 1 } else { most },
            max_window: most,
            turns: Arc::new(Semaphore::new(self.window.min(Semaphore::MAX_PERMITS))),
            remaining: self.fetch,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match input_stats.first() {
            Some(statistics) => Ok(Arc::new(statistics.as_ref().clone().with_fetch(self.fetch, 0, 1)?)),
            None => internal_err!("OrderedConcatExec has one child"),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self::new(Arc::clone(&self.input), self.window, limit, self.is_sorted)))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        match self.fetch {
            Some(_) => CardinalityEffect::LowerEqual,
            None => CardinalityEffect::Equal,
        }
    }
}

struct OrderedConcatStream {
    schema: SchemaRef,
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partitions: usize,
    /// The partitions that run, or are complete, the one being read first.
    begun: VecDeque<Begun>,
    started: usize,
    /// How many of them there may be.
    window: usize,
    max_window: usize,
    /// To run.
    turns: Arc<Semaphore>,
    remaining: Option<usize>,
    metrics: BaselineMetrics,
}

/// With those that wait: as many as run, as far as the bytes of all allow.
fn most_begun(window: usize) -> usize {
    window.saturating_mul(2).min(MOST_BYTES_OF_ALL / LEAST_BYTES).max(window)
}

/// A partition that runs, or is complete.
struct Begun {
    rows: SendableRecordBatchStream,
    room: Arc<Room>,
}

/// What a partition may be ahead of the reader by, in [`UNIT`]s.
struct Room {
    units: usize,
    free: Semaphore,
}

impl Room {
    /// For one of `window` partitions.
    fn new(window: usize) -> Self {
        let units = (MOST_BYTES_OF_ALL / window.max(1)).clamp(LEAST_BYTES, MOST_BYTES) / UNIT;
        Self { units, free: Semaphore::new(units) }
    }

    /// What `batch` takes: all, if it is larger.
    fn of(&self, batch: &RecordBatch) -> usize {
        get_record_batch_memory_size(batch).div_ceil(UNIT).min(self.units)
    }

    /// Waits until there is room for `batch`.
    async fn take(&self, batch: &RecordBatch) {
        let units = u32::try_from(self.of(batch)).unwrap_or(u32::MAX);
        // Never closed.
        if let Ok(permit) = self.free.acquire_many(units).await {
            permit.forget();
        }
    }

    /// The reader has `batch`.
    fn give_back(&self, batch: &RecordBatch) {
        self.free.add_permits(self.of(batch));
    }
}

impl OrderedConcatStream {
    fn start_partitions(&mut self) {
        while self.begun.len() < self.window && self.started < self.partitions {
            let mut runner = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), MOST_AHEAD);
            let rows = runner.tx();
            let room = Arc::new(Room::new(self.max_window));
            let taken = Arc::clone(&room);
            let (input, context, partition) =
                (Arc::clone(&self.input), Arc::clone(&self.context), self.started);
            // Asked for here, in the order of the partitions: the first of them always has its turn.
            let mut turn = Box::pin(unconstrained(Arc::clone(&self.turns).acquire_owned()));
            let is_first = (&mut turn).now_or_never();
            runner.spawn(async move {
                // Never closed.
                let _turn = match is_first {
                    Some(turn) => turn,
                    None => {
                        let turn = turn.await;
                        step_back().await;
                        turn
                    }
                };
                let mut stream = input.execute(partition, context)?;
                while let Some(item) = stream.next().await {
                    if let Ok(batch) = &item {
                        taken.take(batch).await;
                    }
                    // The reader has gone: it has all the rows it wants.
                    if rows.send(item).await.is_err() {
                        break;
                    }
                }
                Ok(())
            });
            self.begun.push_back(Begun { rows: runner.build(), room });
            self.started += 1;
        }
    }

    /// The rows still wanted of `batch`.
    fn take_wanted(&mut self, batch: RecordBatch) -> RecordBatch {
        let Some(remaining) = &mut self.remaining else { return batch };
        let wanted = batch.num_rows().min(*remaining);
        *remaining -= wanted;
        if *remaining == 0 {
            self.stop();
        }
        if wanted == batch.num_rows() { batch } else { batch.slice(0, wanted) }
    }

    fn stop(&mut self) {
        self.begun.clear();
        self.started = self.partitions;
    }
}

impl Stream for OrderedConcatStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.remaining == Some(0) {
            self.stop();
        }
        loop {
            self.start_partitions();
            let Some(current) = self.begun.front_mut() else {
                self.metrics.done();
                return Poll::Ready(None);
            };
            match ready!(current.rows.poll_next_unpin(cx)) {
                Some(Ok(batch)) => {
                    current.room.give_back(&batch);
                    let batch = self.take_wanted(batch).record_output(&self.metrics);
                    return Poll::Ready(Some(Ok(batch)));
                }
                Some(Err(error)) => {
                    self.stop();
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.begun.pop_front();
                    self.window = self.window.saturating_mul(2).min(self.max_window);
                }
            }
        }
    }
}

impl RecordBatchStream for OrderedConcatStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use datafusion::arrow::array::{AsArray, UInt8Array};
    use datafusion::arrow::datatypes::UInt8Type;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use futures::{TryStreamExt, stream};

    use super::*;

    /// What the partitions of a test know of each other.
    #[derive(Debug, Default)]
    struct Seen {
        running: AtomicUsize,
        most_running: AtomicUsize,
        complete: AtomicUsize,
    }

    /// Partition `number`, of record batches of `bytes` bytes.
    #[derive(Debug)]
    struct Part {
        number: u8,
        bytes: Vec<usize>,
        /// Others that are to be complete before it gives its rows.
        awaits: usize,
        seen: Arc<Seen>,
    }

    impl PartitionStream for Part {
        fn schema(&self) -> &SchemaRef {
            static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| batch(0).schema());
            &SCHEMA
        }

        fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
            let (number, awaits, seen) = (self.number, self.awaits, Arc::clone(&self.seen));
            let is_running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_running.fetch_max(is_running, Ordering::SeqCst);
            let rows = stream::iter(self.bytes.clone()).then(move |bytes| {
                let seen = Arc::clone(&seen);
                async move {
                    while seen.complete.load(Ordering::SeqCst) < awaits {
                        tokio::task::yield_now().await;
                    }
                    let numbers = UInt8Array::from(vec![number; bytes]);
                    Ok(RecordBatch::try_from_iter([("v", Arc::new(numbers) as _)])?)
                }
            });
            let seen = Arc::clone(&self.seen);
            let end = stream::poll_fn(move |_| {
                seen.running.fetch_sub(1, Ordering::SeqCst);
                seen.complete.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(None)
            });
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), rows.chain(end)))
        }
    }

    /// The partitions that rows came from, and the most that ran at a time, with a window of 4. The first one gives its rows
    /// when so many others are complete.
    async fn read(partitions: u8, bytes: Vec<usize>, first_awaits: usize) -> (Vec<u8>, usize) {
        let seen = Arc::<Seen>::default();
        let part = |number: u8| {
            let awaits = if number == 0 { first_awaits } else { 0 };
            let (bytes, seen) = (bytes.clone(), Arc::clone(&seen));
            Arc::new(Part { number, bytes, awaits, seen }) as Arc<dyn PartitionStream>
        };
        let parts: Vec<_> = (0..partitions).map(part).collect();
        let schema = Arc::clone(parts[0].schema());
        let input = StreamingTableExec::try_new(schema, parts, None, [], false, None).unwrap();
        let concat = OrderedConcatExec::new(Arc::new(input), 4, None, false);
        let rows = concat.execute(0, Arc::default()).unwrap();
        let read = tokio::time::timeout(Duration::from_secs(60), rows.try_collect::<Vec<_>>()).await;
        let first = |rows: &RecordBatch| rows.column(0).as_primitive::<UInt8Type>().value(0);
        let mut order: Vec<u8> =
            read.expect("it does not wait for ever").unwrap().iter().map(first).collect();
        order.dedup();
        (order, seen.most_running.load(Ordering::SeqCst))
    }

    #[test]
    fn some_partitions_wait_as_far_as_memory_allows() {
        let begun = [1, 4, 8, 9, 16, 128, usize::MAX].map(most_begun);
        assert_eq!(begun, [2, 8, 16, 16, 16, 128, usize::MAX]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn any_window_is_possible() {
        let parts = vec![Arc::new(Part { number: 0, bytes: vec![10], awaits: 0, seen: Arc::default() }) as _];
        let input = StreamingTableExec::try_new(batch(0).schema(), parts, None, [], false, None).unwrap();
        for fetch in [None, Some(5)] {
            let concat = OrderedConcatExec::new(Arc::new(input.clone()), usize::MAX, fetch, false);
            let rows = concat.execute(0, Arc::default()).unwrap().try_collect::<Vec<_>>().await.unwrap();
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), fetch.unwrap_or(10));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_the_first_partition_takes_long_the_next_go_on() {
        let (order, most_running) = read(20, vec![10, 10], 7).await;
        assert_eq!(order, (0..20).collect::<Vec<u8>>());
        assert!(most_running <= 4, "{most_running}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn partitions_that_have_no_room_do_not_keep_the_first_from_running() {
        let (order, most_running) = read(24, vec![6 << 20, 6 << 20, 6 << 20], 0).await;
        assert_eq!(order, (0..24).collect::<Vec<u8>>());
        assert!(most_running <= 4, "{most_running}");
    }

    fn batch(bytes: usize) -> RecordBatch {
        RecordBatch::try_from_iter([("v", Arc::new(UInt8Array::from(vec![0; bytes])) as _)]).unwrap()
    }

    #[tokio::test]
    async fn room_is_for_one_batch_of_any_size_and_for_several_small_ones() {
        let room = Room::new(4);
        let has_room = async |batch: &RecordBatch| {
            tokio::time::timeout(Duration::from_millis(1), room.take(batch)).await.is_ok()
        };
        let (large, small) = (batch(20 << 20), batch(6 << 20));
        assert!(has_room(&large).await && !has_room(&small).await);
        room.give_back(&large);
        assert!(has_room(&small).await && has_room(&small).await && !has_room(&small).await);
        room.give_back(&small);
        assert!(has_room(&small).await);
        assert_eq!(Room::new(1).units * UNIT, 16 << 20);
        assert_eq!(Room::new(1_000).units * UNIT, 4 << 20);
    }
}
