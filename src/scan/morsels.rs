//! DataFusion's morsels of a batch run, held behind the gate, with panics of the decoder turned into errors.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_plan::metrics::Count;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use parquet::errors::ParquetError;

use super::admission::{Gate, Permit};
use super::coalesce::coalesced;
use super::placed_run::{PlacedScan, open_placed};
use super::source::BatchRun;
use super::spatial::{SpatialScan, open_spatial};
use crate::error::OdpError;

/// Opens batch runs one after the other, each once the gate admits it.
pub(crate) struct GatedMorselizer {
    inner: Arc<dyn Morselizer>,
    filtered: Option<FilteredScan>,
    /// Rows that filters leave are joined to record batches of so many.
    rows_at_once: usize,
    gate: Arc<Gate>,
    /// The ranks of the partition's runs at the gate, in their order; 0 where there is none.
    ranks: Arc<[usize]>,
    planned: AtomicUsize,
    batches_opened: Count,
}

impl GatedMorselizer {
    pub(crate) fn new(
        inner: Arc<dyn Morselizer>,
        filtered: Option<FilteredScan>,
        rows_at_once: usize,
        gate: Arc<Gate>,
        ranks: Arc<[usize]>,
        batches_opened: Count,
    ) -> Self {
        Self { inner, filtered, rows_at_once, gate, ranks, planned: AtomicUsize::new(0), batches_opened }
    }
}

impl Debug for GatedMorselizer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedMorselizer").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Morselizer for GatedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        // Partitions never take each other's runs, so the n-th call is for the n-th run.
        let nth = self.planned.fetch_add(1, Ordering::Relaxed);
        let rank = self.ranks.get(nth).copied().unwrap_or(0);
        Ok(Box::new(WaitingPlanner {
            inner: Arc::clone(&self.inner),
            filtered: self.filtered.clone(),
            rows_at_once: self.rows_at_once,
            gate: Arc::clone(&self.gate),
            batches_opened: self.batches_opened.clone(),
            rank,
            file,
        }))
    }
}

/// Waits at the gate, then plans the file.
#[derive(Debug)]
struct WaitingPlanner {
    inner: Arc<dyn Morselizer>,
    filtered: Option<FilteredScan>,
    rows_at_once: usize,
    gate: Arc<Gate>,
    batches_opened: Count,
    rank: usize,
    file: PartitionedFile,
}

impl MorselPlanner for WaitingPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, filtered, rows_at_once, gate, batches_opened, rank, file } = *self;
        Ok(Some(MorselPlan::new().with_pending_planner(async move {
            let permit = gate.acquire(rank).await;
            let run = file.extension::<BatchRun>().map(|run| run.0.clone());
            batches_opened.add(run.as_ref().map_or(1, Range::len));
            let held = Held::new(&file, permit);
            if let Some(scan) = filtered {
                let Some(batches) = run else {
                    // Nobody else evaluates the filter.
                    return internal_err!(
                        "{} is scanned without the batches that it is made of",
                        file.path()
                    );
                };
                return Ok(held.planner(Box::new(FilteredRun { scan, inner, file, batches, rows_at_once })));
            }
            let planner = held.guard(|| inner.plan_file(file))?;
            Ok(held.planner(planner))
        })))
    }
}

/// Filters that are not left to the decoder alone.
#[derive(Debug, Clone)]
pub(super) enum FilteredScan {
    /// Some are spatial.
    Spatial(Arc<SpatialScan>),
    /// They may be evaluated after decoding.
    Placed(Arc<PlacedScan>),
}

/// A run of batches behind such filters, as one morsel.
#[derive(Debug)]
struct FilteredRun {
    scan: FilteredScan,
    inner: Arc<dyn Morselizer>,
    file: PartitionedFile,
    batches: Range<usize>,
    rows_at_once: usize,
}

impl MorselPlanner for FilteredRun {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_morsels(vec![self])))
    }
}

impl Morsel for FilteredRun {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { scan, inner, file, batches, rows_at_once } = *self;
        let rows = match scan {
            FilteredScan::Spatial(scan) => open_spatial(scan, inner, file, batches),
            FilteredScan::Placed(scan) => open_placed(scan, inner, file, batches),
        };
        coalesced(rows, rows_at_once)
    }
}

/// Streams of the rows of `file`, in order.
pub(super) async fn read_on(
    morselizer: &dyn Morselizer,
    file: PartitionedFile,
) -> Result<VecDeque<BoxStream<'static, Result<RecordBatch>>>> {
    let mut planners: Vec<Box<dyn MorselPlanner>> = vec![morselizer.plan_file(file)?];
    let mut streams = VecDeque::new();
    while let Some(planner) = planners.pop() {
        let Some(mut plan) = planner.plan()? else { continue };
        streams.extend(plan.take_morsels().into_iter().map(|morsel| morsel.into_stream()));
        planners.extend(plan.take_ready_planners().into_iter().rev());
        if let Some(pending) = plan.take_pending_planner() {
            planners.push(pending.into_future().await?);
        }
    }
    Ok(streams)
}

/// The rows of some streams, one after the other.
pub(super) struct Rows {
    streams: VecDeque<BoxStream<'static, Result<RecordBatch>>>,
    /// Rows that are still to be left out.
    skip: u64,
}

impl Rows {
    pub(super) fn of(streams: VecDeque<BoxStream<'static, Result<RecordBatch>>>) -> Self {
        Self::after(0, streams)
    }

    /// Without the first `skip` rows.
    pub(super) fn after(skip: u64, streams: VecDeque<BoxStream<'static, Result<RecordBatch>>>) -> Self {
        Self { streams, skip }
    }

    /// `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(stream) = self.streams.front_mut() {
            let Some(rows) = stream.try_next().await? else {
                self.streams.pop_front();
                continue;
            };
            let count = rows.num_rows();
            let skipped = usize::try_from(self.skip).map_or(count, |skip| skip.min(count));
            self.skip -= skipped as u64;
            match skipped {
                0 => return Ok(Some(rows)),
                _ if skipped < count => return Ok(Some(rows.slice(skipped, count - skipped))),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What everything of one open run shares: its permit, and its name for errors.
#[derive(Debug, Clone)]
struct Held(Arc<HeldRun>);

#[derive(Debug)]
struct HeldRun {
    permit: Permit,
    path: String,
}

impl Held {
    fn new(file: &PartitionedFile, permit: Permit) -> Self {
        Self(Arc::new(HeldRun { permit, path: file.path().to_string() }))
    }

    fn planner(&self, inner: Box<dyn MorselPlanner>) -> Box<dyn MorselPlanner> {
        Box::new(HeldPlanner { inner, held: self.clone() })
    }

    /// `error` with the file it came from, where it does not say so.
    fn locate(&self, error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::ParquetError(error) => match *error {
                ParquetError::External(source) => match source.downcast::<OdpError>() {
                    Ok(known) => (*known).into(),
                    Err(source) => self.invalid(source),
                },
                error => self.invalid(Box::new(error)),
            },
            // The decoder's errors, and those of filters inside it.
            DataFusionError::ArrowError(error, backtrace) => match *error {
                ArrowError::ExternalError(source) => match source.downcast::<OdpError>() {
                    Ok(known) => (*known).into(),
                    Err(source) => self.invalid(source),
                },
                error @ ArrowError::ParquetError(_) => self.invalid(Box::new(error)),
                error => DataFusionError::ArrowError(Box::new(error), backtrace).context(self.0.path.clone()),
            },
            error => error,
        }
    }

    fn invalid(&self, source: Box<dyn Error + Send + Sync>) -> DataFusionError {
        OdpError::InvalidData { location: self.0.path.clone(), source }.into()
    }

    /// Runs `decode`; a panic in it is an error that names the file.
    fn guard<T>(&self, decode: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(self.invalid(format!("the Parquet decoder panicked: {message}").into()))
        })
    }
}

#[derive(Debug)]
struct HeldPlanner {
    inner: Box<dyn MorselPlanner>,
    held: Held,
}

impl MorselPlanner for HeldPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, held } = *self;
        let planned = held.guard(|| inner.plan()).map_err(|error| held.locate(error));
        let Some(mut plan) = planned? else { return Ok(None) };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| Box::new(HeldMorsel { inner, held: held.clone() }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|planner| held.planner(planner));
        let mut wrapped = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        if let Some(pending) = plan.take_pending_planner() {
            wrapped.set_pending_planner(async move {
                let planner = AssertUnwindSafe(pending.into_future()).catch_unwind().await;
                let planner = match planner {
                    Ok(planner) => planner.map_err(|error| held.locate(error))?,
                    Err(panic) => held.guard(|| std::panic::resume_unwind(panic))?,
                };
                Ok(held.planner(planner))
            });
        }
        Ok(Some(wrapped))
    }
}

#[derive(Debug)]
struct HeldMorsel {
    inner: Box<dyn Morsel>,
    held: Held,
}

impl Morsel for HeldMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, held } = *self;
        match held.guard(|| Ok(inner.into_stream())) {
            Ok(inner) => HeldStream { inner: Some(inner), held }.boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }
}

/// Holds the permit until the rows are read, or the reader goes away.
struct HeldStream {
    /// `None` after an error.
    inner: Option<BoxStream<'static, Result<RecordBatch>>>,
    held: Held,
}

impl Stream for HeldStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { inner, held } = &mut *self;
        let Some(stream) = inner else { return Poll::Ready(None) };
        held.0.permit.note_asked();
        let polled = match held.guard(|| Ok(stream.poll_next_unpin(cx))) {
            Ok(polled) => polled.map(|item| item.map(|rows| rows.map_err(|error| held.locate(error)))),
            Err(error) => Poll::Ready(Some(Err(error))),
        };
        if polled.is_ready() {
            held.0.permit.note_produced();
        }
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            *inner = None;
        }
        polled
    }
}
