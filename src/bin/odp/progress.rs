//! What the shell adds at the root of a plan: a progress line on the terminal, and rows printed as they come.

use std::fmt::{self, Formatter};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions, displayable,
};
use futures::{StreamExt, stream};

/// Queries that end sooner show no progress.
const FIRST_DRAW: Duration = Duration::from_secs(1);
/// Between two drawings.
const REDRAW: Duration = Duration::from_millis(250);
/// To the start of the line, and clear it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// What is wanted of the statement that runs.
#[derive(Debug)]
pub(crate) struct Watch {
    /// stderr is a terminal, and the user did not ask for quiet.
    can_draw: bool,
    stdout_is_terminal: bool,
    can_stream: AtomicBool,
    /// The statement's plan is shown instead of run: add nothing to it.
    is_explained: AtomicBool,
    /// The statement is a query: it is run and printed by the shell alone.
    is_query: AtomicBool,
}

impl Watch {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            can_draw: !quiet && io::stderr().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            can_stream: AtomicBool::new(false),
            is_explained: AtomicBool::new(false),
            is_query: AtomicBool::new(false),
        }
    }

    /// Rows may be printed before all are known.
    pub(crate) fn stream(&self, can_stream: bool) {
        self.can_stream.store(can_stream, Ordering::Relaxed);
    }

    /// Takes note of the statement that runs next.
    pub(crate) fn expect(&self, plan: &LogicalPlan) {
        let is_explained = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        let is_query = !matches!(
            plan,
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
        );
        self.is_explained.store(is_explained, Ordering::Relaxed);
        self.is_query.store(is_query, Ordering::Relaxed);
    }
}

/// Puts a [`RootExec`] on top of a plan where one is wanted; must run last.
#[derive(Debug)]
pub(crate) struct RootRule {
    watch: Arc<Watch>,
}

impl RootRule {
    pub(crate) fn new(watch: Arc<Watch>) -> Self {
        Self { watch }
    }
}

impl PhysicalOptimizerRule for RootRule {
    fn name(&self) -> &'static str {
        "odp_shell_root"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let watch = &self.watch;
        if watch.is_explained.load(Ordering::Relaxed) || plan.boundedness().is_unbounded() {
            return Ok(plan);
        }
        let streams = watch.can_stream.load(Ordering::Relaxed) && watch.is_query.load(Ordering::Relaxed);
        // Rows that pass over the terminal show how far the query is, and would mix with the line.
        let draws = watch.can_draw && !(streams && watch.stdout_is_terminal);
        Ok(match streams || draws {
            true => Arc::new(RootExec::new(plan, streams, draws)),
            false => plan,
        })
    }
}

/// Passes rows on; while they come it draws progress, and it takes empty batches away.
#[derive(Debug)]
struct RootExec {
    input: Arc<dyn ExecutionPlan>,
    streams: bool,
    draws: bool,
    /// Of the partitions that run.
    line: Mutex<Weak<Line>>,
    properties: Arc<PlanProperties>,
}

impl RootExec {
    fn new(input: Arc<dyn ExecutionPlan>, streams: bool, draws: bool) -> Self {
        let mut properties = Arc::clone(input.properties());
        if streams {
            // `datafusion_cli` prints the rows of a plan without end as they come, and keeps those of any other
            // until all are known, in memory. Nobody else sees this property: the plan is complete.
            let endless = Boundedness::Unbounded { requires_infinite_memory: false };
            properties = Arc::new(
                PlanProperties::clone(&properties)
                    .with_boundedness(endless)
                    .with_emission_type(EmissionType::Incremental),
            );
        }
        Self { input, streams, draws, line: Mutex::default(), properties }
    }

    /// The line of this run of the plan, one for all its partitions.
    fn line(&self) -> Arc<Line> {
        let mut shared = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let line = Arc::new(Line::start(Arc::clone(&self.input)));
            *shared = Arc::downgrade(&line);
            line
        })
    }
}

impl DisplayAs for RootExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, "RootExec"),
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for RootExec {
    fn name(&self) -> &'static str {
        "RootExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
            Ok([input]) => Ok(Arc::new(Self::new(input, self.streams, self.draws))),
            Err(children) => internal_err!("RootExec has one child, not {}", children.len()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let line = self.draws.then(|| self.line());
        let input = self.input.execute(partition, context)?;
        let rows = stream::unfold(Some((input, line)), async |running| {
            let (mut input, line) = running?;
            loop {
                match input.next().await {
                    // The printer of rows would take an empty first batch for a result without rows.
                    Some(Ok(record_batch)) if record_batch.num_rows() == 0 => {}
                    Some(Ok(record_batch)) => return Some((Ok(record_batch), Some((input, line)))),
                    // Drops the line, so that it is erased before the error or the result is printed.
                    Some(Err(error)) => return Some((Err(error), None)),
                    None => return None,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), rows)))
    }
}

/// A line on stderr that is redrawn until it is dropped, and erased then.
#[derive(Debug)]
struct Line(Arc<SharedLine>);

#[derive(Debug)]
struct SharedLine {
    state: Mutex<LineState>,
    over: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    Hidden,
    Shown,
    Over,
}

impl Line {
    fn start(plan: Arc<dyn ExecutionPlan>) -> Self {
        let shared = Arc::new(SharedLine { state: Mutex::new(LineState::Hidden), over: Condvar::new() });
        let line = Self(Arc::clone(&shared));
        // A thread, for a task would wait until the query leaves a worker to it. Without one there is no progress.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(move || shared.redraw(&plan));
        line
    }
}

impl SharedLine {
    /// Draws now and then, until the line is over.
    fn redraw(&self, plan: &Arc<dyn ExecutionPlan>) {
        let start = Instant::now();
        let mut leaves = None;
        let sink = find_sink(plan);
        let mut pause = FIRST_DRAW;
        let mut state = self.lock();
        loop {
            let wait = self.over.wait_timeout_while(state, pause, |state| *state != LineState::Over);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if *state == LineState::Over {
                return;
            }
            let leaves = leaves.get_or_insert_with(|| Leaf::all_of(plan));
            let text = describe(leaves, sink.as_deref().map(written), start.elapsed());
            *state = LineState::Shown;
            write_to_terminal(&format!("{CLEAR_LINE}{text}"));
            pause = REDRAW;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if *state == LineState::Shown {
            write_to_terminal(CLEAR_LINE);
        }
        *state = LineState::Over;
        self.0.over.notify_all();
    }
}

/// Progress is never worth an error.
fn write_to_terminal(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A source of rows in a plan.
struct Leaf {
    plan: Arc<dyn ExecutionPlan>,
    /// What it reads, if it reads a dataset of this crate.
    scan: Option<Scan>,
}

/// What an ODP leaf is to read.
struct Scan {
    batches: usize,
    /// Rows of each batch run, by partition, in the order of reading.
    run_rows: Vec<Vec<usize>>,
}

impl Leaf {
    fn all_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Self> {
        match plan.children().as_slice() {
            [] => vec![Self { plan: Arc::clone(plan), scan: Scan::of(plan.as_ref()) }],
            children => children.iter().flat_map(|child| Self::all_of(child)).collect(),
        }
    }
}

impl Scan {
    fn of(leaf: &dyn ExecutionPlan) -> Option<Self> {
        let config = leaf.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
        if config.file_source.file_type() != "odp" {
            return None;
        }
        // EXPLAIN says `batches=3 of 40`: the batches that pruning kept.
        let text = displayable(leaf).one_line().to_string();
        let batches = text.split_once(", batches=")?.1.split(' ').next()?.parse().ok()?;
        let rows = |group: &FileGroup| {
            let rows_of = |run: &PartitionedFile| {
                run.statistics.as_ref().and_then(|s| s.num_rows.get_value().copied()).unwrap_or(0)
            };
            group.iter().map(rows_of).collect()
        };
        Some(Self { batches, run_rows: config.file_groups.iter().map(rows).collect() })
    }

    /// Batches read so far. A finished run counts with all its rows, the run that is read with the rows it gave
    /// so far; the share of all rows is shown as batches. So a filter makes progress coarser, not wrong.
    fn batches_done(&self, partitions: &[PartitionProgress]) -> usize {
        let total: usize = self.run_rows.iter().flatten().sum();
        let done = |(runs, progress): (&Vec<usize>, &PartitionProgress)| {
            let finished: usize = runs.iter().take(progress.runs_done).sum();
            finished.max(progress.rows.min(runs.iter().sum()))
        };
        let done: usize = self.run_rows.iter().zip(partitions).map(done).sum();
        match total {
            0 => 0,
            total => usize::try_from(self.batches as u128 * done as u128 / total as u128).unwrap_or(0),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct PartitionProgress {
    runs_done: usize,
    rows: usize,
}

/// What `leaf`'s metrics say of each of its partitions.
fn partition_progress(leaf: &dyn ExecutionPlan) -> Vec<PartitionProgress> {
    let mut partitions =
        vec![PartitionProgress::default(); leaf.output_partitioning().partition_count().max(1)];
    let metrics = leaf.metrics().unwrap_or_default();
    for metric in metrics.iter() {
        let Some(progress) = partitions.get_mut(metric.partition().unwrap_or(0)) else { continue };
        match metric.value() {
            MetricValue::OutputRows(count) => progress.rows += count.value(),
            MetricValue::Count { name, count } if name == "files_processed" => {
                progress.runs_done += count.value();
            }
            _ => {}
        }
    }
    partitions
}

/// Where the rows of a plan are written, if they are.
fn find_sink(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    match plan.is::<DataSinkExec>() {
        true => Some(Arc::clone(plan)),
        false => plan.children().into_iter().find_map(find_sink),
    }
}

/// Rows and files that a sink has written so far.
fn written(sink: &dyn ExecutionPlan) -> (usize, usize) {
    let metrics = sink.metrics().unwrap_or_default();
    let count = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize());
    (count("rows_written"), count("files_written"))
}

/// `12 of 40 batches, 3400000 rows, 3000000 rows and 2 files written, 5.2 s`: the first rows are those that leave the
/// sources.
fn describe(leaves: &[Leaf], written: Option<(usize, usize)>, elapsed: Duration) -> String {
    let (mut done, mut total, mut rows) = (0, 0, 0);
    for leaf in leaves {
        let partitions = partition_progress(leaf.plan.as_ref());
        rows += partitions.iter().map(|partition| partition.rows).sum::<usize>();
        if let Some(scan) = &leaf.scan {
            done += scan.batches_done(&partitions);
            total += scan.batches;
        }
    }
    let batches = if total > 0 { format!("{done} of {total} batches, ") } else { String::new() };
    let written = match written {
        Some((rows, files)) => format!("{rows} rows and {files} files written, "),
        None => String::new(),
    };
    format!("{batches}{rows} rows, {written}{:.1} s", elapsed.as_secs_f64())
}
