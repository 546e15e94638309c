//! Row groups without a filter in the decoder: read on from one to the next, with the same decoders.
//!
//! DataFusion's opener sets out anew for each run of batches, and `parquet` for each row group in it: that takes as long as
//! decoding some thousand rows. Whatever is out of the ordinary here, from nested columns to damaged pages, is left to them.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::vec::IntoIter;

use bytes::Bytes;

use datafusion::arrow::array::{BooleanArray, BooleanBufferBuilder};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::object_store::path::Path;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Time};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::ParquetMetaData;

use super::decoding::{ColumnChunks, ColumnCounts, RowGroupDecoder};
use super::file_decoding::{FileDecoding, Wanted};
use super::filter_placement::is_scattered;
use super::late_columns::LateColumns;
use super::morsels::{Rows, read_on};
use super::reader::{AHEAD, PinnedReader, PinnedReaderFactory};
use super::side_by_side::{SideBySide, is_worth_it};
use super::source::BatchRun;
use crate::dataset::DatasetSnapshot;

/// Files that are known at a time, but for those that are being read.
const MOST_FILES: usize = 256;

/// What reading row groups so did.
#[derive(Debug, Clone)]
pub(super) struct RunMetrics {
    /// Row groups read so.
    pub(super) row_groups: Count,
    /// Of these, those of which the filter's columns were decoded first, and of others only the rows that match.
    pub(super) late: Count,
    /// Of these, those that text was given of as the codes in their pages.
    pub(super) coded: Count,
    /// Of these, those whose columns were decoded on their own.
    pub(super) by_column: Count,
    /// Small row groups of which the filter's columns were decoded so, to find out which rows match.
    pub(super) first: Count,
    pub(super) columns: ColumnCounts,
    /// Runs of them that were left to DataFusion's opener after all.
    pub(super) retries: Count,
}

/// The files of a scan, as its partitions have found them; `None`: left to DataFusion.
#[derive(Default)]
pub(super) struct KnownFiles(Mutex<HashMap<Path, Option<Arc<KnownFile>>>>);

pub(super) struct KnownFile {
    pub(super) decoding: FileDecoding,
    metrics: ParquetFileMetrics,
    /// What a filter after decoding makes of it; `None`: it needs all columns.
    pub(super) late: OnceLock<Option<LateColumns>>,
    /// Its columns, each on its own; `None`: they are decoded together.
    by_column: OnceLock<Option<SideBySide>>,
}

impl KnownFile {
    /// Counts rows that a filter was evaluated for, and row groups that are not read any further.
    pub(super) fn note_filtered(&self, rows: usize, matched: usize, row_groups: usize) {
        self.metrics.pushdown_rows_matched.add(matched);
        self.metrics.pushdown_rows_pruned.add(rows - matched);
        self.metrics.row_groups_pruned_statistics.add_matched(row_groups);
        self.metrics.row_groups_pruned_bloom_filter.add_matched(row_groups);
    }

    pub(super) fn filter_time(&self) -> &Time {
        &self.metrics.row_pushdown_eval_time
    }
}

/// What the rows of runs are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// There is no filter, or it was decided before which rows match.
    Unfiltered,
    /// To be filtered. What a run is left to may skip rows that do not match, so that it cannot go on where this gave up:
    /// after the first rows an error is one, and whoever filters reads the rows again.
    ToFilter,
}

/// What the partitions of a scan read runs with.
pub(super) struct RunScan {
    pub(super) wanted: Wanted,
    pub(super) snapshot: Arc<DatasetSnapshot>,
    pub(super) readers: PinnedReaderFactory,
    pub(super) files: Arc<KnownFiles>,
    pub(super) purpose: Purpose,
    /// There are no more batches to read than run at a time, and more than one does.
    pub(super) has_few_batches: bool,
    pub(super) partition: usize,
    pub(super) execution_metrics: ExecutionPlanMetricsSet,
    pub(super) metrics: RunMetrics,
}

/// Whole row groups of a file.
pub(super) struct RowGroupRun {
    /// What `inner` opens to give the same rows.
    pub(super) file: PartitionedFile,
    pub(super) row_groups: Vec<usize>,
    /// Of their rows, in order, those to give; `None`: all.
    pub(super) matches: Option<BooleanBuffer>,
    /// They are decoded in less time than DataFusion's opener takes to set out for them.
    pub(super) is_small: bool,
}

impl RowGroupRun {
    /// All rows of `row_groups`.
    pub(super) fn whole(file: PartitionedFile, row_groups: Vec<usize>) -> Self {
        Self { file, row_groups, matches: None, is_small: false }
    }

    /// The rows of `file` that `matches` says of row groups, in order, one bit a row. `None` if there are none.
    pub(super) fn of_matches(
        file: &PartitionedFile,
        footer: &ParquetMetaData,
        matches: impl Iterator<Item = (usize, BooleanBuffer)>,
    ) -> Option<Self> {
        let mut access = vec![RowGroupAccess::Skip; footer.num_row_groups()];
        let mut row_groups = vec![];
        let mut all_matches = BooleanBufferBuilder::new(0);
        let mut is_all = true;
        for (index, bits) in matches {
            let count = bits.count_set_bits();
            if count == 0 {
                continue;
            }
            row_groups.push(index);
            all_matches.append_buffer(&bits);
            is_all &= count == bits.len();
            access[index] = match count == bits.len() {
                true => RowGroupAccess::Scan,
                false => RowGroupAccess::Selection(RowSelection::from_boolean_buffer(bits)),
            };
        }
        if row_groups.is_empty() {
            return None;
        }
        let mut file = file.clone().with_extension(ParquetAccessPlan::new(access));
        file.range = None;
        let matches = (!is_all).then(|| all_matches.finish());
        Some(Self { file, row_groups, matches, is_small: false })
    }

    /// Whether decoding all rows is less work than picking out those that match.
    pub(super) fn is_worth_decoding(&self, batch_size: usize) -> bool {
        self.is_small || self.matches.as_ref().is_none_or(|matches| is_scattered(matches, batch_size))
    }
}

impl RunScan {
    /// The rows of `run`, in order, which are those that `inner` gives.
    pub(super) fn read(
        self: Arc<Self>,
        run: RowGroupRun,
        inner: Arc<dyn Morselizer>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let reading = Reading { scan: self, run, inner, state: State::Closed, given: 0 };
        futures::stream::try_unfold(reading, |mut reading| async move {
            let next = Box::pin(reading.next()).await?;
            Ok(next.map(|rows| (rows, reading)))
        })
        .boxed()
    }

    /// What reads `wanted` of the same batches, to be filtered.
    pub(super) fn reading(&self, wanted: Wanted, files: Arc<KnownFiles>) -> Self {
        Self {
            wanted,
            snapshot: Arc::clone(&self.snapshot),
            readers: self.readers.clone(),
            files,
            purpose: Purpose::ToFilter,
            has_few_batches: false,
            partition: self.partition,
            execution_metrics: self.execution_metrics.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// `None` if `file` is left to DataFusion.
    pub(super) async fn open(
        &self,
        file: &PartitionedFile,
    ) -> Result<Option<(Arc<KnownFile>, PinnedReader)>> {
        let location = &file.object_meta.location;
        let known = self.files.lock().get(location).cloned();
        match known {
            Some(None) => Ok(None),
            Some(Some(known)) => {
                let reader = self.readers.reader(file, known.metrics.clone());
                Ok(Some((known, reader)))
            }
            None => {
                let metrics =
                    ParquetFileMetrics::new(self.partition, location.as_ref(), &self.execution_metrics);
                let mut reader = self.readers.reader(file, metrics.clone());
                let footer = reader.get_metadata(None).await?;
                let decoding = FileDecoding::try_new(&self.wanted, footer, file)?;
                let known = decoding.map(|decoding| {
                    Arc::new(KnownFile {
                        decoding,
                        metrics,
                        late: OnceLock::new(),
                        by_column: OnceLock::new(),
                    })
                });
                self.files.keep(location, known.clone());
                Ok(known.map(|known| (known, reader)))
            }
        }
    }

    /// The rows of a row group of `known`, of which `bytes` has the columns, each decoded on its own. `None` if that is not worth
    /// it.
    async fn by_column(
        &self,
        known: &KnownFile,
        file: &PartitionedFile,
        row_groups: &[usize],
        bytes: &[Bytes],
    ) -> Result<Option<IntoIter<RecordBatch>>> {
        let decoding = &known.decoding;
        let &[row_group] = row_groups else { return Ok(None) };
        if !self.has_few_batches
            || !is_worth_it(
                decoding.footer().row_group(row_group),
                decoding.columns(),
                decoding.decoders().schema(),
            )
        {
            return Ok(None);
        }
        let side_by_side = match known.by_column.get() {
            Some(known) => known,
            None => {
                let found = SideBySide::try_new(&self.wanted, decoding, file)?;
                known.by_column.get_or_init(|| found)
            }
        };
        let Some(side_by_side) = side_by_side else { return Ok(None) };
        let rows = side_by_side.decode(row_group, bytes, self.wanted.batch_size).await?;
        self.metrics.by_column.add(1);
        Ok(Some(rows))
    }

    /// Counts row groups of `file` that are read.
    pub(super) fn note_read(&self, file: &KnownFile, row_groups: usize) {
        file.metrics.files_ranges_pruned_statistics.add_matched(1);
        file.metrics.row_groups_pruned_statistics.add_matched(row_groups);
        file.metrics.row_groups_pruned_bloom_filter.add_matched(row_groups);
        self.metrics.row_groups.add(row_groups);
        if file.decoding.coded() > 0 {
            self.metrics.coded.add(row_groups);
        }
    }
}

/// Reads runs of whole batches itself, and others through `inner`.
pub(super) struct RunMorselizer {
    scan: Arc<RunScan>,
    inner: Arc<dyn Morselizer>,
}

impl RunMorselizer {
    /// `inner`, or what reads whole batches without it.
    pub(super) fn over(scan: Option<Arc<RunScan>>, inner: Arc<dyn Morselizer>) -> Arc<dyn Morselizer> {
        match scan {
            Some(scan) => Arc::new(Self { scan, inner }),
            None => inner,
        }
    }
}

impl Debug for RunMorselizer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunMorselizer").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Morselizer for RunMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let batches = file.extension::<BatchRun>().map(|run| run.0.clone());
        let whole = batches.and_then(|batches| self.scan.snapshot.whole_row_groups_with_rows(batches));
        let Some(row_groups) = whole else {
            return self.inner.plan_file(file);
        };
        let run = RowGroupRun::whole(file, row_groups);
        Ok(Box::new(WholeBatches { scan: Arc::clone(&self.scan), inner: Arc::clone(&self.inner), run }))
    }
}

/// A run of whole batches, as one morsel.
struct WholeBatches {
    scan: Arc<RunScan>,
    inner: Arc<dyn Morselizer>,
    run: RowGroupRun,
}

impl Debug for WholeBatches {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeBatches").field("row_groups", &self.run.row_groups).finish_non_exhaustive()
    }
}

impl MorselPlanner for WholeBatches {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_morsels(vec![self])))
    }
}

impl Morsel for WholeBatches {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { scan, inner, run } = *self;
        scan.read(run, inner)
    }
}

struct Reading {
    scan: Arc<RunScan>,
    run: RowGroupRun,
    inner: Arc<dyn Morselizer>,
    state: State,
    /// Rows given on.
    given: u64,
}

enum State {
    Closed,
    Open(Box<OpenRun>),
    /// What `inner` gives after the rows that were given on before.
    Left(Rows),
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match &mut self.state {
                State::Closed => {
                    let opened = AssertUnwindSafe(OpenRun::open(&self.scan, &self.run)).catch_unwind().await;
                    self.state = match opened {
                        Ok(Ok(Some(run))) => State::Open(Box::new(run)),
                        Ok(Ok(None)) => self.leave().await?,
                        Ok(Err(_)) | Err(_) => self.give_up().await?,
                    };
                }
                // An error here says nothing: it must be the one that DataFusion gives, if it does.
                State::Open(run) => match AssertUnwindSafe(run.next()).catch_unwind().await {
                    Ok(Ok(rows)) => {
                        self.given += rows.as_ref().map_or(0, |rows| rows.num_rows() as u64);
                        return Ok(rows);
                    }
                    Ok(Err(error)) if self.is_past_leaving() => return Err(error),
                    Err(panic) if self.is_past_leaving() => resume_unwind(panic),
                    Ok(Err(_)) | Err(_) => self.state = self.give_up().await?,
                },
                State::Left(rows) => return rows.next().await,
            }
        }
    }

    fn is_past_leaving(&self) -> bool {
        self.scan.purpose == Purpose::ToFilter && self.given > 0
    }

    /// The other runs of the file are left, too: what is wrong with one may be so with all.
    async fn give_up(&mut self) -> Result<State> {
        self.scan.metrics.retries.add(1);
        self.scan.files.lock().insert(self.run.file.object_meta.location.clone(), None);
        self.leave().await
    }

    async fn leave(&mut self) -> Result<State> {
        let streams = read_on(self.inner.as_ref(), self.run.file.clone()).await?;
        Ok(State::Left(Rows::after(self.given, streams)))
    }
}

/// A run of row groups, being read.
pub(super) struct OpenRun {
    scan: Arc<RunScan>,
    described: PartitionedFile,
    file: Arc<KnownFile>,
    reader: PinnedReader,
    /// Row groups that are not read yet.
    ahead: VecDeque<usize>,
    decoder: Option<RowGroupDecoder>,
    /// Or what its columns were decoded to.
    decoded: IntoIter<RecordBatch>,
    /// Of the rows that are not given yet, those to give.
    matches: Option<BooleanBuffer>,
}

impl OpenRun {
    /// `None` if the run is left to DataFusion.
    async fn open(scan: &Arc<RunScan>, run: &RowGroupRun) -> Result<Option<Self>> {
        let Some((file, reader)) = scan.open(&run.file).await? else { return Ok(None) };
        scan.note_read(&file, run.row_groups.len());
        Ok(Some(Self::of(scan, run, file, reader)))
    }

    /// The same of a `file` that is open.
    pub(super) fn of(
        scan: &Arc<RunScan>,
        run: &RowGroupRun,
        file: Arc<KnownFile>,
        reader: PinnedReader,
    ) -> Self {
        let (ahead, matches) = (run.row_groups.iter().copied().collect(), run.matches.clone());
        let (scan, described, decoded) = (Arc::clone(scan), run.file.clone(), vec![].into_iter());
        Self { scan, described, file, reader, ahead, decoder: None, decoded, matches }
    }

    /// The next rows, more than none; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(rows) = self.decoded.next() {
                return Ok(Some(rows));
            }
            if let Some(decoder) = &mut self.decoder {
                match decoder.next().transpose()? {
                    None => self.decoder = None,
                    Some(rows) => {
                        let rows = matching(rows, &mut self.matches)?;
                        if rows.num_rows() > 0 {
                            return self.file.decoding.project(&rows).map(Some);
                        }
                    }
                }
                continue;
            }
            let decoding = &self.file.decoding;
            let (row_groups, ranges) = next_row_groups(decoding, &mut self.ahead, decoding.coded() > 0)?;
            if row_groups.is_empty() {
                return match self.matches.as_ref().map_or(0, BooleanBuffer::len) {
                    0 => Ok(None),
                    rows => internal_err!("{rows} rows are missing"),
                };
            }
            let bytes = self.reader.read_together(&ranges).await?;
            // Of rows that do not match nothing is computed.
            if self.matches.is_none()
                && let Some(rows) =
                    self.scan.by_column(&self.file, &self.described, &row_groups, &bytes).await?
            {
                self.decoded = rows;
                continue;
            }
            let chunks = decoding.chunks(row_groups, bytes);
            self.decoder = Some(decoding.decoders().decode(&chunks, self.scan.wanted.batch_size)?);
        }
    }
}

/// Of `rows` those that `matches` says first, which it then says no more.
fn matching(rows: RecordBatch, matches: &mut Option<BooleanBuffer>) -> Result<RecordBatch> {
    let Some(known) = matches else { return Ok(rows) };
    let Some(rest) = known.len().checked_sub(rows.num_rows()) else {
        return internal_err!("{} rows are decoded, expected {}", rows.num_rows(), known.len());
    };
    let of_rows = BooleanArray::new(known.slice(0, rows.num_rows()), None);
    *known = known.slice(rows.num_rows(), rest);
    Ok(filter_record_batch(&rows, &of_rows)?)
}

/// Takes row groups from `ahead`, as many as lie within what the reader reads at a time of small batches, but at least one
/// if there is one, and no more if `one_at_a_time`; and where their columns lie.
pub(super) fn next_row_groups(
    decoding: &FileDecoding,
    ahead: &mut VecDeque<usize>,
    one_at_a_time: bool,
) -> Result<(Vec<usize>, Vec<Range<u64>>)> {
    let mut taken: Vec<usize> = vec![];
    let mut ranges: Vec<Range<u64>> = vec![];
    // From the first byte of all to the last of those taken.
    let mut span: Option<Range<u64>> = None;
    while let Some(&row_group) = ahead.front() {
        let next = ColumnChunks::ranges(decoding.footer(), row_group, decoding.columns())?;
        let start = next.iter().map(|range| range.start).min().unwrap_or(0);
        let end = next.iter().map(|range| range.end).max().unwrap_or(0);
        match &mut span {
            Some(span) if start < span.end || end.saturating_sub(span.start) > AHEAD => break,
            Some(span) => span.end = end,
            None => span = Some(start..end),
        }
        taken.push(row_group);
        ranges.extend(next);
        ahead.pop_front();
        if one_at_a_time {
            break;
        }
    }
    Ok((taken, ranges))
}

impl KnownFiles {
    /// Keeps `known`, and forgets those that nobody reads, if there are many: their footers take memory.
    fn keep(&self, location: &Path, known: Option<Arc<KnownFile>>) {
        let mut files = self.lock();
        if files.len() >= MOST_FILES {
            files.retain(|_, known| known.as_ref().is_some_and(|known| Arc::strong_count(known) > 1));
        }
        files.insert(location.clone(), known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Path, Option<Arc<KnownFile>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
