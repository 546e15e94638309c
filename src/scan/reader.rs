//! Reads the bytes of one file version, and of no other.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, GetOptions, GetRange, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt,
    coalesce_ranges,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use tokio::sync::Mutex as AsyncMutex;

use super::local_file::{LocalFile, OpenFiles, ReadError, ReadSpeed};
use super::metrics::ScanMetrics;
use super::round_trips::{ColumnTrips, RowGroupRequests};
use super::source::BatchRun;
use super::step_back::step_back;
use crate::dataset::{DatasetSnapshot, is_same_version};
use crate::discover::{cached_footer, fetch_footer, fetch_footer_by};
use crate::error::OdpError;

/// Batches of fewer bytes are small: a request for some of their columns costs more than all their bytes.
const SMALL: u64 = 64 << 10;

/// Bytes of a run of small batches that are read at a time.
pub(super) const AHEAD: u64 = 1 << 20;

/// Fewer bytes between two ranges are read along with them, as long as that is at most so many at a time.
const GAP: u64 = 4 << 10;
const MOST_TOGETHER: u64 = 256 << 10;

/// Makes readers that fail when their file is no longer the version that was planned.
#[derive(Clone)]
pub(crate) struct PinnedReaderFactory {
    store: Arc<dyn ObjectStore>,
    cache: Arc<FileMetadataCache>,
    /// Files lie in this machine's file system.
    is_local: bool,
    /// Footers come with their page index, whatever the reader asks for.
    page_index: PageIndexPolicy,
    /// What was planned: it may come from elsewhere than the files' footers.
    snapshot: Arc<DatasetSnapshot>,
    /// One reader of a file's footer at a time: the others find it in the cache.
    footers: Arc<Mutex<HashMap<Path, Arc<AsyncMutex<()>>>>>,
    /// Bytes of small batches that were read ahead.
    bytes_ahead: Count,
    speed: Arc<ReadSpeed>,
    open_files: Arc<OpenFiles>,
    files_opened: Count,
    /// Reads of local files where they were asked for.
    reads_at_once: Count,
    /// What one row group takes of several requests; `None` where that makes no difference.
    trips: Option<ColumnTrips>,
}

impl PinnedReaderFactory {
    /// Of the files of `snapshot`.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        cache: Arc<FileMetadataCache>,
        is_local: bool,
        snapshot: Arc<DatasetSnapshot>,
    ) -> Self {
        let page_index = PageIndexPolicy::Skip;
        let (footers, bytes_ahead, speed, open_files, files_opened, reads_at_once) = Default::default();
        Self {
            store,
            cache,
            is_local,
            page_index,
            snapshot,
            footers,
            bytes_ahead,
            speed,
            open_files,
            files_opened,
            reads_at_once,
            trips: None,
        }
    }

    /// Whether files lie in this machine's file system.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The footer of a file of the snapshot, if it need not be read.
    pub(super) fn known_footer(&self, file: &ObjectMeta) -> Option<Arc<ParquetMetaData>> {
        cached_footer(file, self.cache.as_ref(), PageIndexPolicy::Skip)
    }

    /// Readers that give page indexes along with footers: checked, and read once for all partitions. Left to itself
    /// DataFusion's opener reads a file's whole page index again for each partition.
    pub(crate) fn with_page_index(self) -> Self {
        Self { page_index: PageIndexPolicy::Optional, ..self }
    }

    /// Readers that give no page indexes if they are not asked for them.
    pub(super) fn without_page_index(self) -> Self {
        Self { page_index: PageIndexPolicy::Skip, ..self }
    }

    /// Readers that count what they read ahead, what was read where it was asked for, and the files they open.
    pub(super) fn counting(self, metrics: &ScanMetrics) -> Self {
        Self {
            bytes_ahead: metrics.bytes_ahead.clone(),
            reads_at_once: metrics.reads_at_once.clone(),
            files_opened: metrics.local_files_opened.clone(),
            ..self
        }
    }

    /// Readers that save requests, if each of them takes its time.
    pub(super) fn saving(self, trips: ColumnTrips) -> Self {
        Self { trips: (!self.is_local).then_some(trips), ..self }
    }

    /// A reader of one file, that counts into `metrics`.
    pub(super) fn reader(&self, file: &PartitionedFile, metrics: ParquetFileMetrics) -> PinnedReader {
        PinnedReader {
            metrics,
            file: PinnedFile {
                store: Arc::clone(&self.store),
                object_meta: file.object_meta.clone(),
                is_local: self.is_local,
                open: Opened::NotYet,
                speed: Arc::clone(&self.speed),
                open_files: Arc::clone(&self.open_files),
                files_opened: self.files_opened.clone(),
                reads_at_once: self.reads_at_once.clone(),
            },
            cache: Arc::clone(&self.cache),
            page_index: self.page_index,
            planned: file.extension::<BatchRun>().map(|run| (Arc::clone(&self.snapshot), run.0.start)),
            small_until: end_of_small_run(file, &self.snapshot),
            ahead: None,
            last_start: 0,
            bytes_ahead: self.bytes_ahead.clone(),
            trips: self.trips.clone(),
            requests: None,
            footer_lock: self.footer_lock(&file.object_meta.location),
        }
    }

    fn footer_lock(&self, path: &Path) -> Arc<AsyncMutex<()>> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(footers.entry(path.clone()).or_default())
    }
}

impl Debug for PinnedReaderFactory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedReaderFactory").field("is_local", &self.is_local).finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for PinnedReaderFactory {
    fn create_reader(
        &self,
        partition_index: usize,
        partitioned_file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::common::Result<Box<dyn AsyncFileReader + Send>> {
        let location = partitioned_file.object_meta.location.as_ref();
        let metrics = ParquetFileMetrics::new(partition_index, location, metrics);
        Ok(Box::new(self.reader(&partitioned_file, metrics)))
    }
}

/// Where the run of batches that `file` stands for ends; `None` unless they are several row groups, and small.
fn end_of_small_run(file: &PartitionedFile, snapshot: &DatasetSnapshot) -> Option<u64> {
    let batches = snapshot.batches().get(file.extension::<BatchRun>()?.0.clone())?;
    if batches.iter().any(|batch| !batch.is_whole) {
        return None;
    }
    let batches = u64::try_from(batches.len()).ok()?;
    let range = file.range.as_ref()?;
    let (start, end) = (u64::try_from(range.start).ok()?, u64::try_from(range.end).ok()?);
    (batches > 1 && end.saturating_sub(start) <= SMALL.saturating_mul(batches)).then_some(end)
}

pub(super) struct PinnedReader {
    file: PinnedFile,
    cache: Arc<FileMetadataCache>,
    page_index: PageIndexPolicy,
    /// A batch of the file, in its snapshot.
    planned: Option<(Arc<DatasetSnapshot>, usize)>,
    /// Where the batches that are to be read end in the file, if they are small.
    small_until: Option<u64>,
    /// What was read of small batches at a time, from its first byte in the file on.
    ahead: Option<(u64, Bytes)>,
    /// Where the last read began: row groups may be read from the last to the first.
    last_start: u64,
    bytes_ahead: Count,
    trips: Option<ColumnTrips>,
    /// Known with the first read.
    requests: Option<RowGroupRequests>,
    footer_lock: Arc<AsyncMutex<()>>,
    metrics: ParquetFileMetrics,
}

impl AsyncFileReader for PinnedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        let ranges = self.get_byte_ranges(vec![range]);
        async move {
            ranges.await?.pop().ok_or_else(|| ParquetError::General("no bytes for a byte range".into()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        self.note_scanned(&ranges);
        async move { self.read(&ranges).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let asked = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::column_index_policy);
        let page_index = if asked == PageIndexPolicy::Skip { self.page_index } else { asked };
        let is_shared = self.footer_lock.try_lock().is_err()
            || cached_footer(&self.file.object_meta, self.cache.as_ref(), page_index).is_none();
        async move {
            let first = self.footer_lock.lock().await;
            let footer = self.file.footer(&self.cache, page_index).await;
            drop(first);
            if is_shared {
                // Whoever waits for it was just woken, and must not wait until this one has decoded a batch, too.
                step_back().await;
            }
            footer
                .and_then(|footer| self.check_row_groups(&footer).map(|()| footer))
                .map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }
}

impl PinnedReader {
    /// The bytes of `ranges`, which are all that is wanted of several row groups.
    pub(super) async fn read_together(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.note_scanned(ranges);
        let (together, places) = together(ranges);
        let read = self.file.read(&together).await.map_err(|e| ParquetError::External(Box::new(e)))?;
        let of_place = |place: usize| Some((read.get(place)?, together.get(place)?.start));
        let cut = ranges.iter().zip(places).map(|(range, place)| {
            let (bytes, start) = of_place(place)?;
            cut(bytes, start, range)
        });
        let cut: Option<Vec<Bytes>> = cut.collect();
        cut.ok_or_else(|| ParquetError::General("fewer bytes were read than asked for".to_owned()))
    }

    async fn read(&mut self, ranges: &[Range<u64>]) -> std::result::Result<Vec<Bytes>, OdpError> {
        if let Some(read) = self.cut_from_ahead(ranges) {
            return Ok(read);
        }
        // Not every reader is asked for the footer.
        if let Some(trips) = self.trips.take()
            && let Some(footer) =
                cached_footer(&self.file.object_meta, self.cache.as_ref(), PageIndexPolicy::Skip)
        {
            self.requests = Some(RowGroupRequests::new(trips, &footer));
        }
        if let Some(requests) = &mut self.requests {
            if let Some(all) = requests.instead_of(ranges) {
                let read = self.file.read(&all).await?;
                requests.hold(&all, read);
                if let Some(read) = requests.held(ranges, true) {
                    return Ok(read);
                }
            } else if let Some(read) = requests.held(ranges, false) {
                return Ok(read);
            }
        }
        if let Some(ahead) = self.worth_reading_ahead(ranges) {
            // Whatever is wrong with more bytes than were asked for must not show.
            if let Ok([bytes]) = self.file.read(std::slice::from_ref(&ahead)).await.as_deref() {
                self.bytes_ahead.add(bytes.len());
                self.ahead = Some((ahead.start, bytes.clone()));
                if let Some(read) = self.cut_from_ahead(ranges) {
                    return Ok(read);
                }
            }
        }
        self.file.read(ranges).await
    }

    fn note_scanned(&self, ranges: &[Range<u64>]) {
        let total: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.metrics.bytes_scanned.add(usize::try_from(total).unwrap_or(usize::MAX));
    }

    fn cut_from_ahead(&self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let (start, bytes) = self.ahead.as_ref()?;
        ranges.iter().map(|range| cut(bytes, *start, range)).collect()
    }

    /// What to read in the place of `ranges`, if they lie in a small batch that others follow.
    fn worth_reading_ahead(&mut self, ranges: &[Range<u64>]) -> Option<Range<u64>> {
        let start = ranges.iter().map(|range| range.start).min()?;
        let end = ranges.iter().map(|range| range.end).max()?;
        let ahead = self.small_until?.min(start.saturating_add(AHEAD));
        let last_start = std::mem::replace(&mut self.last_start, start);
        (last_start <= start && start < end && end < ahead).then_some(start..ahead)
    }

    /// Whether the file has the row groups that were planned. It is the planned version; but what is known of it may
    /// come from a file beside it that is wrong.
    fn check_row_groups(&self, footer: &Arc<ParquetMetaData>) -> std::result::Result<(), OdpError> {
        let Some((snapshot, batch)) = &self.planned else { return Ok(()) };
        let Some(batch) = snapshot.batches().get(*batch) else { return Ok(()) };
        match snapshot.has_row_groups_of(batch.file_index, footer) {
            true => Ok(()),
            false => Err(OdpError::InvalidData {
                location: self.file.object_meta.location.to_string(),
                source:
                    "its row groups are not those that the snapshot or _metadata file of the dataset says: \
                         write that file anew, or set the table's option metadata_files to none"
                        .into(),
            }),
        }
    }
}

/// Of `bytes`, which begin at `start` in the file, those of `range`; `None` if it is not among them.
fn cut(bytes: &Bytes, start: u64, range: &Range<u64>) -> Option<Bytes> {
    let at = |offset: u64| usize::try_from(offset.checked_sub(start)?).ok();
    let within = at(range.start)?..at(range.end)?;
    (within.start <= within.end && within.end <= bytes.len()).then(|| bytes.slice(within))
}

/// What to read for `ranges`, and for each of them the place among it that holds it.
fn together(ranges: &[Range<u64>]) -> (Vec<Range<u64>>, Vec<usize>) {
    let mut together: Vec<Range<u64>> = vec![];
    let mut places = Vec::with_capacity(ranges.len());
    for range in ranges {
        match together.last_mut() {
            Some(last)
                if range.start >= last.end
                    && range.start - last.end <= GAP
                    && range.end.saturating_sub(last.start) <= MOST_TOGETHER =>
            {
                last.end = range.end.max(last.end);
            }
            _ => together.push(range.clone()),
        }
        places.push(together.len() - 1);
    }
    (together, places)
}

#[derive(Debug)]
enum Opened {
    NotYet,
    /// Its bytes are asked of the store each time.
    Never,
    File(LocalFile),
}

struct PinnedFile {
    store: Arc<dyn ObjectStore>,
    object_meta: ObjectMeta,
    is_local: bool,
    /// Local files stay open after the first read, where the store gives them.
    open: Opened,
    speed: Arc<ReadSpeed>,
    open_files: Arc<OpenFiles>,
    files_opened: Count,
    reads_at_once: Count,
}

impl PinnedFile {
    async fn footer(
        &self,
        cache: &Arc<FileMetadataCache>,
        page_index: PageIndexPolicy,
    ) -> std::result::Result<Arc<ParquetMetaData>, OdpError> {
        let planned = &self.object_meta;
        if let Some(footer) = cached_footer(planned, cache.as_ref(), page_index) {
            return Ok(footer);
        }
        if !self.is_local {
            return fetch_footer_by(self, planned, cache, page_index).await;
        }
        let read = fetch_footer(&*self.store, planned, cache, page_index).await;
        // Whether it was read from the planned version shows after.
        let now = self.store.head(&planned.location).await.map_err(|error| self.failed(error))?;
        if let Err(changed) = self.check(&now) {
            cache.remove(&planned.location);
            return Err(changed);
        }
        read
    }

    async fn read(&mut self, ranges: &[Range<u64>]) -> std::result::Result<Vec<Bytes>, OdpError> {
        if self.is_local {
            if matches!(self.open, Opened::NotYet) {
                self.open = self.open().await?.map_or(Opened::Never, Opened::File);
            }
            let Opened::File(file) = &mut self.open else { return self.read_local(ranges).await };
            let location = || self.object_meta.location.to_string();
            return match file.read(ranges, &self.speed).await {
                Ok((read, is_at_once)) => {
                    self.reads_at_once.add(usize::from(is_at_once));
                    Ok(read)
                }
                Err(ReadError::Changed) => Err(OdpError::Changed { path: location() }),
                Err(ReadError::Io(error)) => {
                    Err(OdpError::Storage { location: location(), source: Box::new(error) })
                }
            };
        }
        coalesce_ranges(ranges, |range| self.read_pinned(range), OBJECT_STORE_COALESCE_DEFAULT).await
    }

    /// `None` if the store has no file for it.
    async fn open(&self) -> std::result::Result<Option<LocalFile>, OdpError> {
        // `ThrottledStore` panics where a file is to be given.
        if cfg!(not(unix)) || self.store.to_string().contains("ThrottledStore") {
            return Ok(None);
        }
        let path = &self.object_meta.location;
        if let Some(shared) = self.open_files.get(path) {
            return Ok(Some(shared));
        }
        let found = self.store.get(path).await.map_err(|error| self.failed(error))?;
        self.check(&found.meta)?;
        let file = LocalFile::of(found);
        self.files_opened.add(usize::from(file.is_some()));
        Ok(file.map(|file| self.open_files.share(path, file)))
    }

    async fn read_local(&self, ranges: &[Range<u64>]) -> std::result::Result<Vec<Bytes>, OdpError> {
        let path = &self.object_meta.location;
        // One open file serves all ranges; whether it was the right one shows after.
        let read = self.store.get_ranges(path, ranges).await;
        let now = self.store.head(path).await.map_err(|error| self.failed(error))?;
        self.check(&now)?;
        read.map_err(|error| self.failed(error))
    }

    async fn read_pinned(&self, range: Range<u64>) -> std::result::Result<Bytes, OdpError> {
        let planned = &self.object_meta;
        // A weak tag never matches; it is compared below.
        let if_match = planned.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        let if_unmodified_since = if_match.is_none().then_some(planned.last_modified);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match,
            if_unmodified_since,
            ..GetOptions::default()
        };
        let found =
            self.store.get_opts(&planned.location, options).await.map_err(|error| self.failed(error))?;
        self.check(&found.meta)?;
        found.bytes().await.map_err(|error| self.failed(error))
    }

    fn check(&self, now: &ObjectMeta) -> std::result::Result<(), OdpError> {
        let planned = &self.object_meta;
        match is_same_version(planned, now) {
            true => Ok(()),
            false => Err(OdpError::Changed { path: planned.location.to_string() }),
        }
    }

    fn failed(&self, error: object_store::Error) -> OdpError {
        let path = self.object_meta.location.to_string();
        match error {
            // Gone is changed, too.
            object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
                OdpError::Changed { path }
            }
            error => OdpError::Storage { location: path, source: Box::new(error) },
        }
    }
}

/// The planned version, or an error.
impl MetadataFetch for &PinnedFile {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.read_pinned(range).map_err(|error| ParquetError::External(Box::new(error))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::memory::InMemory;

    /// A reader of 4,000,000 bytes, of which a run of small batches ends at `small_until`.
    async fn reader(small_until: Option<u64>) -> (PinnedReader, Vec<u8>) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("data.parquet");
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let object_meta = store.head(&path).await.unwrap();
        let metrics = ParquetFileMetrics::new(0, "data.parquet", &ExecutionPlanMetricsSet::new());
        let runtime = datafusion::execution::runtime_env::RuntimeEnv::default();
        let reader = PinnedReader {
            file: PinnedFile {
                store,
                object_meta,
                is_local: false,
                open: Opened::NotYet,
                speed: Arc::default(),
                open_files: Arc::default(),
                files_opened: Count::new(),
                reads_at_once: Count::new(),
            },
            cache: runtime.cache_manager.get_file_metadata_cache(),
            page_index: PageIndexPolicy::Skip,
            planned: None,
            small_until,
            ahead: None,
            last_start: 0,
            bytes_ahead: Count::new(),
            trips: None,
            requests: None,
            footer_lock: Arc::default(),
            metrics,
        };
        (reader, bytes)
    }

    #[tokio::test]
    async fn small_batches_that_follow_each_other_are_read_at_once() {
        let (mut reader, bytes) = reader(Some(500_000)).await;
        let mut requests = vec![];
        for row_group in 0..12_u64 {
            let start = 1_000 + 40_000 * row_group;
            let ranges = vec![start..start + 3_000, start + 20_000..start + 28_000];
            let read = reader.get_byte_ranges(ranges.clone()).await.unwrap();
            for (range, read) in ranges.iter().zip(read) {
                let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
                assert_eq!(read, bytes[from..to]);
            }
            let (start, ahead) = reader.ahead.as_ref().unwrap();
            requests.push((*start, ahead.len()));
        }
        requests.dedup();
        assert_eq!(requests, [(1_000, 499_000)], "one request, that ends where the run does");
    }

    #[tokio::test]
    async fn what_lies_near_each_other_is_read_together() {
        let (mut reader, bytes) = reader(None).await;
        let ranges = [
            10..3_000,
            4_000..9_000,
            9_000..9_000,
            20_000..30_000,
            25_000..26_000,
            5..8,
            100_000..200_000,
            200_000..300_000,
            300_000..400_000,
        ];
        let read = reader.read_together(&ranges).await.unwrap();
        for (range, read) in ranges.iter().zip(read) {
            let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            assert_eq!(read, bytes[from..to]);
        }
        let expected = [10..9_000, 20_000..30_000, 25_000..26_000, 5..8, 100_000..300_000, 300_000..400_000];
        assert_eq!(together(&ranges), (expected.to_vec(), vec![0, 0, 0, 1, 2, 3, 4, 4, 5]));
        assert_eq!(reader.metrics.bytes_scanned.value(), 2_990 + 5_000 + 10_000 + 1_000 + 3 + 300_000);
    }

    #[tokio::test]
    async fn large_batches_and_the_last_of_a_run_are_read_as_asked() {
        for (small_until, from) in [(None, 0), (Some(500_000), 490_000), (Some(500_000), 500_000)] {
            let (mut reader, bytes) = reader(small_until).await;
            let read = reader.get_bytes(from..from + 10_000).await.unwrap();
            let at = usize::try_from(from).unwrap();
            assert_eq!(read, bytes[at..at + 10_000]);
            assert!(reader.ahead.is_none() && reader.bytes_ahead.value() == 0);
        }
    }

    #[tokio::test]
    async fn a_run_that_is_said_to_end_beyond_the_file_is_read_as_asked() {
        let (mut reader, bytes) = reader(Some(u64::MAX)).await;
        let read = reader.get_bytes(3_990_000..3_990_010).await.unwrap();
        assert_eq!(read, bytes[3_990_000..3_990_010]);
    }
}
