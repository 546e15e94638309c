//! A run of batches behind a filter, read some batches at a time: filtered inside the decoder or after it.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_plan::metrics::Count;
use datafusion_datasource::morsel::Morselizer;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::by_pages::{PageScan, PagedFile};
use super::filter_first::{FilterFirst, FoundFirst};
use super::filter_placement::{Decoded, FilterPlacement, LateFilter};
use super::late_columns::LateRun;
use super::morsels::{Rows, read_on};
use super::run_decoder::{RowGroupRun, RunScan};
use super::source::BatchRun;
use crate::dataset::DatasetSnapshot;

/// Rows between two decisions, at first; twice as many each time, since the Parquet source is opened for each.
const FIRST_ROWS: u64 = 64 << 10;
const MOST_ROWS: u64 = 4 << 20;

/// Rows of a row group that are decided about at a time though it is cut into batches, at most.
const MOST_IN_ONE: u64 = 256 << 10;

/// Both ways to read a partition of a scan.
pub(super) struct PlacedScan {
    pub(super) placement: Arc<FilterPlacement>,
    pub(super) snapshot: Arc<DatasetSnapshot>,
    /// Decodes all rows, with the columns of the filter.
    pub(super) unfiltered: Arc<dyn Morselizer>,
    pub(super) filter: Arc<LateFilter>,
    /// Reads whole batches of it without `unfiltered`.
    pub(super) runs: Option<Arc<RunScan>>,
    /// Finds out which rows of small row groups match.
    pub(super) first: Option<FilterFirst>,
    pub(super) without_filter: Option<WithoutFilter>,
    pub(super) metrics: PlacementMetrics,
}

/// What reads rows that the filter need not be evaluated for.
#[derive(Clone)]
pub(super) struct WithoutFilter {
    /// The batches of which all rows match, by bounds; ascending. None where they cannot prove a filter of this kind.
    pub(super) proven: Arc<[usize]>,
    /// Finds the rows of others that match, where pages do as a whole.
    pub(super) pages: Option<Arc<PageScan>>,
    /// Reads the columns of the scan.
    pub(super) runs: Option<Arc<RunScan>>,
    /// Does the same in all cases.
    pub(super) unfiltered: Arc<dyn Morselizer>,
    pub(super) batch_size: usize,
}

impl WithoutFilter {
    /// # Errors
    /// What opening gives; it is that of the decoder, which reads the same pages.
    async fn read(&self, run: RowGroupRun) -> Result<Rows> {
        let streams = match &self.runs {
            Some(runs) if run.is_worth_decoding(self.batch_size) => {
                VecDeque::from([Arc::clone(runs).read(run, Arc::clone(&self.unfiltered))])
            }
            _ => read_on(self.unfiltered.as_ref(), run.file).await?,
        };
        Ok(Rows::of(streams))
    }
}

/// What filters after decoding did.
#[derive(Debug, Clone)]
pub(super) struct PlacementMetrics {
    /// Row groups that the filter was not evaluated for, since bounds prove that all their rows match.
    pub(super) proven: Count,
    /// Batches filtered after decoding.
    pub(super) batches: Count,
    /// Their rows.
    pub(super) rows: Count,
    /// Times that this failed, and the decoder filtered the rows instead.
    pub(super) retries: Count,
}

impl Debug for PlacedScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacedScan").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// The rows of `batches`, all of `file`, that match; `inside` filters them in the decoder.
///
/// An error after decoding says nothing: the decoder might not have read that page, nor evaluated that row. It reads
/// the batches again, and its error counts.
pub(super) fn open_placed(
    scan: Arc<PlacedScan>,
    inside: Arc<dyn Morselizer>,
    file: PartitionedFile,
    batches: Range<usize>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let run = Run {
        scan,
        inside,
        file,
        ahead: batches.clone(),
        batches,
        rows: FIRST_ROWS,
        current: None,
        paged: None,
    };
    futures::stream::try_unfold(run, |mut run| async move {
        let next = Box::pin(run.next()).await?;
        Ok(next.map(|rows| (rows, run)))
    })
    .boxed()
}

struct Run {
    scan: Arc<PlacedScan>,
    inside: Arc<dyn Morselizer>,
    file: PartitionedFile,
    batches: Range<usize>,
    /// Batches that are not open yet.
    ahead: Range<usize>,
    /// To decide about next.
    rows: u64,
    current: Option<Part>,
    /// The pages of the file, once they are known.
    paged: Option<Arc<PagedFile>>,
}

/// Some batches of a run, being read.
struct Part {
    batches: Range<usize>,
    rows: PartRows,
    /// Rows given on, those included that were given on before the decoder began again.
    matched: u64,
}

/// The rows of a part, and what filters them.
enum PartRows {
    /// The decoder.
    Inside(Rows),
    /// With what was found of the rows so far.
    After(Rows, Decoded),
    /// The same, of which some columns are decoded once it is known which rows match.
    Late(Box<LateRun>, Decoded),
    /// Nothing: bounds prove that all match, or which of them do was found out before. That says nothing of other batches.
    Unfiltered(Rows),
}

impl PartRows {
    /// Rows that match; `None` at the end. An error is that of the decoder.
    async fn next(&mut self, filter: &LateFilter) -> Result<Result<Option<RecordBatch>, Failed>> {
        match self {
            Self::Inside(rows) | Self::Unfiltered(rows) => rows.next().await.map(Ok),
            Self::After(rows, found) => Ok(next_decoded(rows, found, filter).await),
            Self::Late(run, found) => {
                let next = AssertUnwindSafe(run.next(found)).catch_unwind().await;
                Ok(next.map_err(|_| Failed).and_then(|next| next.map_err(|_| Failed)))
            }
        }
    }
}

impl Run {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(part) = &mut self.current else {
                let Some(batches) = self.take_next() else { return Ok(None) };
                self.current = Some(self.open(batches).await?);
                continue;
            };
            let next = match part.rows.next(&self.scan.filter).await? {
                Ok(next) => next,
                Err(Failed) => {
                    self.scan.metrics.retries.add(1);
                    self.scan.placement.note_failed();
                    let (batches, matched) = (part.batches.clone(), part.matched);
                    let rows = Rows::after(matched, self.open_inside(batches.clone()).await?);
                    self.current = Some(Part { batches, rows: PartRows::Inside(rows), matched });
                    continue;
                }
            };
            part.matched += next.as_ref().map_or(0, |rows| rows.num_rows() as u64);
            match next {
                Some(rows) => return Ok(Some(rows)),
                None => self.close(),
            }
        }
    }

    fn rows_of(&self, batches: &Range<usize>) -> u64 {
        self.scan.snapshot.batches()[batches.clone()].iter().map(|batch| batch.rows).sum()
    }

    /// The next batches, at least one, that have as many rows as are to be decided about and do not end within a row group, if it
    /// is not large and goes on in this run; or all that follow of which all rows match.
    fn take_next(&mut self) -> Option<Range<usize>> {
        if self.ahead.is_empty() {
            return None;
        }
        let start = self.ahead.start;
        let is_proven = self.is_proven(start);
        let mut rows = 0;
        let snapshot = Arc::clone(&self.scan.snapshot);
        let is_within = |batch: usize| {
            let batch = &snapshot.batches()[batch];
            let group = snapshot.file_of(batch).row_groups.get(batch.row_groups.start);
            batch.skipped_rows > 0 && group.is_some_and(|group| group.rows <= MOST_IN_ONE)
        };
        while !self.ahead.is_empty()
            && (is_proven || rows < self.rows || is_within(self.ahead.start))
            && self.is_proven(self.ahead.start) == is_proven
        {
            rows += self.rows_of(&(self.ahead.start..self.ahead.start + 1));
            self.ahead.start += 1;
        }
        if !is_proven {
            self.rows = (2 * self.rows).min(MOST_ROWS);
        }
        Some(start..self.ahead.start)
    }

    fn is_proven(&self, batch: usize) -> bool {
        let known = self.scan.without_filter.as_ref();
        known.is_some_and(|known| known.proven.binary_search(&batch).is_ok())
    }

    fn part_of_file(&self, batches: Range<usize>) -> PartitionedFile {
        if batches == self.batches {
            return self.file.clone();
        }
        self.scan.snapshot.partitioned_file(batches.clone(), false).with_extension(BatchRun(batches))
    }

    async fn find_by_pages(
        &mut self,
        pages: &PageScan,
        batches: &Range<usize>,
        row_groups: &[usize],
    ) -> Option<Option<RowGroupRun>> {
        let snapshot = &self.scan.snapshot;
        let of_file = snapshot.file_of(&snapshot.batches()[batches.start]).row_groups.len();
        let file = self.part_of_file(batches.clone());
        pages.find(&file, of_file, row_groups, &mut self.paged).await
    }

    /// The row groups of `batches`, if they are these as a whole.
    fn whole_row_groups(&self, batches: &Range<usize>) -> Option<Vec<usize>> {
        self.scan.snapshot.whole_row_groups_with_rows(batches.clone())
    }

    async fn open_inside(
        &mut self,
        batches: Range<usize>,
    ) -> Result<VecDeque<BoxStream<'static, Result<RecordBatch>>>> {
        read_on(self.inside.as_ref(), self.part_of_file(batches)).await
    }

    async fn open(&mut self, batches: Range<usize>) -> Result<Part> {
        let scan = Arc::clone(&self.scan);
        if self.is_proven(batches.start)
            && let Some(without_filter) = &scan.without_filter
            && let Some(row_groups) = self.whole_row_groups(&batches)
        {
            scan.metrics.proven.add(row_groups.len());
            let file = self.part_of_file(batches.clone());
            let rows = without_filter.read(RowGroupRun::whole(file, row_groups)).await?;
            return Ok(Part { batches, rows: PartRows::Unfiltered(rows), matched: 0 });
        }
        if let Some(without_filter) = &scan.without_filter
            && let Some(pages) = &without_filter.pages
            && let Some(row_groups) = self.whole_row_groups(&batches)
            && let Some(run) = self.find_by_pages(pages, &batches, &row_groups).await
        {
            let rows = match run {
                Some(run) => without_filter.read(run).await?,
                None => Rows::of(VecDeque::new()),
            };
            return Ok(Part { batches, rows: PartRows::Unfiltered(rows), matched: 0 });
        }
        if let Some(part) = self.open_first(&batches).await? {
            return Ok(part);
        }
        if scan.placement.is_after() {
            let opened = AssertUnwindSafe(self.open_after(&batches)).catch_unwind().await;
            if let Ok(Ok(rows)) = opened {
                scan.metrics.batches.add(batches.len());
                scan.metrics.rows.add(usize::try_from(self.rows_of(&batches)).unwrap_or(usize::MAX));
                return Ok(Part { batches, rows, matched: 0 });
            }
            scan.metrics.retries.add(1);
            scan.placement.note_failed();
        }
        let rows = PartRows::Inside(Rows::of(self.open_inside(batches.clone()).await?));
        Ok(Part { batches, rows, matched: 0 })
    }

    /// `None`: `batches` are no small row groups, or the filter is evaluated after decoding.
    async fn open_first(&mut self, batches: &Range<usize>) -> Result<Option<Part>> {
        let scan = Arc::clone(&self.scan);
        let (Some(first), Some(without_filter)) = (&scan.first, &scan.without_filter) else {
            return Ok(None);
        };
        if scan.placement.is_after() || scan.placement.has_failed() {
            return Ok(None);
        }
        let Some(row_groups) = self.whole_row_groups(batches) else { return Ok(None) };
        if !FilterFirst::is_for(&scan.snapshot, batches.clone()) {
            return Ok(None);
        }
        let file = self.part_of_file(batches.clone());
        let found = AssertUnwindSafe(first.find(&file, &row_groups)).catch_unwind().await;
        let FoundFirst { run, scattered } = match found {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(_)) | Err(_) => {
                scan.metrics.retries.add(1);
                scan.placement.note_failed();
                return Ok(None);
            }
        };
        scan.placement.note_inside(self.rows_of(batches), scattered);
        let rows = match run {
            Some(run) => without_filter.read(run).await?,
            None => Rows::of(VecDeque::new()),
        };
        Ok(Some(Part { batches: batches.clone(), rows: PartRows::Unfiltered(rows), matched: 0 }))
    }

    async fn open_after(&mut self, batches: &Range<usize>) -> Result<PartRows> {
        let file = self.part_of_file(batches.clone());
        if let Some(runs) = &self.scan.runs
            && let Some(row_groups) = self.whole_row_groups(batches)
            && let Some(run) = LateRun::open(runs, &self.scan.filter, &file, row_groups).await?
        {
            return Ok(PartRows::Late(Box::new(run), Decoded::default()));
        }
        let streams = read_on(self.scan.unfiltered.as_ref(), file).await?;
        Ok(PartRows::After(Rows::of(streams), Decoded::default()))
    }

    /// Learns from the part that ends.
    fn close(&mut self) {
        let Some(part) = self.current.take() else { return };
        match part.rows {
            PartRows::Inside(_) => {
                self.scan.placement.note_inside(self.rows_of(&part.batches), part.matched);
            }
            PartRows::After(_, found) | PartRows::Late(_, found) => self.scan.placement.note_after(found),
            PartRows::Unfiltered(_) => {}
        }
    }
}

/// Rows that `filter` leaves of what is decoded; `None` at the end. An error, or a panic, is [`Failed`].
async fn next_decoded(
    rows: &mut Rows,
    found: &mut Decoded,
    filter: &LateFilter,
) -> Result<Option<RecordBatch>, Failed> {
    loop {
        let decoded = AssertUnwindSafe(rows.next()).catch_unwind().await;
        let Some(decoded) = decoded.map_err(|_| Failed)?.map_err(|_| Failed)? else { return Ok(None) };
        let rows = filter.apply(&decoded).map_err(|_| Failed)?;
        found.note(&rows);
        if rows.num_rows() > 0 {
            return Ok(Some(rows));
        }
    }
}

/// Reading on after decoding failed.
struct Failed;
