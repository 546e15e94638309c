//! Row groups of which pages match a filter as a whole, by their bounds: only the rows of other pages are tested, and of the
//! filter's columns only those are read.
//!
//! The decoder skips pages by the same bounds, but evaluates the filter for all rows of the others.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Debug, Formatter};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::path::Path;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use futures::{FutureExt, TryStreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::PageIndexPolicy;

use super::file_decoding::{coerced, with_partition_values};
use super::filter_placement::without_nulls;
use super::page_bounds::RunsOfPages;
use super::page_pruner::PagePruner;
use super::proof::all_match;
use super::reader::PinnedReaderFactory;
use super::row_intervals::{Action, Interval, PlannedGroup, rows_to_read, to_usize};
use super::run_decoder::RowGroupRun;

/// Rows of pages that match as a whole, at least, for a file to be opened twice; and one in so many of all rows.
const LEAST_KEPT: u64 = 32 << 10;
const LEAST_SHARE: u64 = 4;

/// Rows that are tested before the first is given on, at most.
const MOST_TESTED: u64 = 4 << 20;

/// Column chunks of a file, at most: the cache of footers may have no room for the page index of more, which would be read anew.
pub(super) const MOST_CHUNKS: usize = 20_000;

/// Times in a row that this came to nothing, after which nobody looks any more.
const MOST_IN_VAIN: usize = 16;

/// What knowing pages did.
#[derive(Debug, Clone)]
pub(super) struct PageMetrics {
    /// Rows that a filter was not evaluated for, since the bounds of their pages prove that they match.
    pub(super) kept: Count,
    /// Times that this failed, and the decoder filtered the rows instead.
    pub(super) retries: Count,
}

/// Reads row groups so, for all partitions of a scan.
pub(super) struct PageScan {
    /// The whole filter, over the schema of the table.
    pub(super) predicate: Arc<dyn PhysicalExpr>,
    pub(super) table: TableSchema,
    pub(super) adapter: Arc<dyn PhysicalExprAdapterFactory>,
    /// Readers that come with page indexes.
    pub(super) readers: PinnedReaderFactory,
    pub(super) batch_size: usize,
    pub(super) execution_metrics: ExecutionPlanMetricsSet,
    pub(super) metrics: PageMetrics,
    pub(super) found: Found,
}

/// What was found of files so far.
#[derive(Default)]
pub(super) struct Found {
    files: Mutex<HashMap<Path, FoundFile>>,
    in_vain: AtomicUsize,
}

#[derive(Clone)]
enum FoundFile {
    /// Known as long as one of its runs is open: page indexes take memory.
    Open(Weak<PagedFile>),
    /// The page index tells nothing of the filter, or reading by it failed.
    Unpaged,
}

/// A filter as one file has its columns.
pub(super) struct PagedFile {
    metadata: ArrowReaderMetadata,
    metrics: ParquetFileMetrics,
    pruner: Option<PagePruner>,
    /// Over the schema of the file.
    predicate: Arc<dyn PhysicalExpr>,
    /// The columns of the filter, by their positions in that schema.
    columns: Vec<usize>,
    mask: ProjectionMask,
    /// Over what is read of these columns.
    test: Arc<dyn PhysicalExpr>,
}

impl Debug for PageScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageScan").field("predicate", &self.predicate).finish_non_exhaustive()
    }
}

impl PageScan {
    /// The rows of `row_groups` of `file` that match; no run: there are none. `None` if the bounds of pages tell too little, or
    /// cannot be read: what is wrong is left for the decoder to say. `of_file`: its row groups. `paged`: the file, once it is found.
    pub(super) async fn find(
        &self,
        file: &PartitionedFile,
        of_file: usize,
        row_groups: &[usize],
        paged: &mut Option<Arc<PagedFile>>,
    ) -> Option<Option<RowGroupRun>> {
        let chunks = of_file.saturating_mul(self.table.file_schema().fields().len());
        if chunks > MOST_CHUNKS
            || self.found.in_vain.load(Ordering::Relaxed) >= MOST_IN_VAIN
            || self.found.is_unpaged(file)
        {
            return None;
        }
        let run = match AssertUnwindSafe(self.run(file, row_groups, paged)).catch_unwind().await {
            Ok(Ok(run)) => run,
            Ok(Err(_)) | Err(_) => {
                self.metrics.retries.add(1);
                self.found.lock().insert(file.object_meta.location.clone(), FoundFile::Unpaged);
                None
            }
        };
        match run {
            Some(_) => self.found.in_vain.store(0, Ordering::Relaxed),
            None => _ = self.found.in_vain.fetch_add(1, Ordering::Relaxed),
        }
        run
    }

    async fn run(
        &self,
        file: &PartitionedFile,
        row_groups: &[usize],
        paged: &mut Option<Arc<PagedFile>>,
    ) -> Result<Option<Option<RowGroupRun>>> {
        let known = match paged.take() {
            Some(known) => Some(known),
            None => self.file(file).await?,
        };
        let Some(known) = known else { return Ok(None) };
        let known = paged.insert(known);
        let groups = row_groups.iter().map(|&group| known.plan(group));
        let Some(mut groups) = groups.collect::<Result<Option<Vec<PlannedGroup>>>>()? else {
            return Ok(None);
        };
        let sum = |of: fn(&PlannedGroup) -> u64| groups.iter().map(of).sum::<u64>();
        let (rows, kept) = (sum(|group| group.rows), sum(PlannedGroup::rows_kept));
        if kept < LEAST_KEPT.max(rows / LEAST_SHARE) || rows - kept > MOST_TESTED {
            return Ok(None);
        }
        if let Some(pruner) = &known.pruner {
            let _timer = known.metrics.page_index_eval_time.timer();
            pruner.restrict(&known.metadata, &mut groups);
        }
        let tested = self.test(known, file, &groups).await?;
        let mut at = 0;
        let matches = groups.iter().map(|group| (group.index, group.matches(&tested, &mut at)));
        let run = RowGroupRun::of_matches(file, known.metadata.metadata(), matches);
        self.metrics.kept.add(to_usize(kept));
        Ok(Some(run))
    }

    async fn file(&self, file: &PartitionedFile) -> Result<Option<Arc<PagedFile>>> {
        let location = &file.object_meta.location;
        let known = self.found.lock().get(location).cloned();
        if let Some(FoundFile::Open(known)) = known
            && let Some(known) = known.upgrade()
        {
            return Ok(Some(known));
        }
        let found = PagedFile::find(self, file).await?.map(Arc::new);
        let entry = found.as_ref().map_or(FoundFile::Unpaged, |found| FoundFile::Open(Arc::downgrade(found)));
        self.found.lock().insert(location.clone(), entry);
        Ok(found)
    }

    /// Whether the rows of `groups` that are to be read match, one bit a row.
    async fn test(
        &self,
        known: &PagedFile,
        file: &PartitionedFile,
        groups: &[PlannedGroup],
    ) -> Result<BooleanBuffer> {
        let read: Vec<&PlannedGroup> = groups.iter().filter(|group| group.rows_to_read() > 0).collect();
        let rows = read.iter().map(|group| group.rows_to_read()).sum();
        let mut matches = BooleanBufferBuilder::new(to_usize(rows));
        if rows == 0 {
            return Ok(matches.finish());
        }
        let reader = self.readers.reader(file, known.metrics.clone());
        let mut stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, known.metadata.clone())
            .with_row_groups(read.iter().map(|group| group.index).collect())
            .with_row_selection(rows_to_read(&read))
            .with_projection(known.mask.clone())
            .with_batch_size(self.batch_size)
            .build()?;
        let time = known.metrics.row_pushdown_eval_time.clone();
        while let Some(rows) = stream.try_next().await? {
            // Nothing else waits here where the bytes are in memory.
            tokio::task::consume_budget().await;
            let _timer = time.timer();
            let of_rows = known.test.evaluate(&rows)?.into_array(rows.num_rows())?;
            matches.append_buffer(without_nulls(&of_rows)?.values());
        }
        let matches = matches.finish();
        let matched = matches.count_set_bits();
        known.metrics.pushdown_rows_matched.add(matched);
        known.metrics.pushdown_rows_pruned.add(matches.len() - matched);
        Ok(matches)
    }
}

impl Found {
    fn lock(&self) -> MutexGuard<'_, HashMap<Path, FoundFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unpaged(&self, file: &PartitionedFile) -> bool {
        matches!(self.lock().get(&file.object_meta.location), Some(FoundFile::Unpaged))
    }
}

impl PagedFile {
    async fn find(scan: &PageScan, file: &PartitionedFile) -> Result<Option<Self>> {
        let metrics = ParquetFileMetrics::new(0, file.object_meta.location.as_ref(), &scan.execution_metrics);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = scan.readers.reader(file, metrics.clone()).get_metadata(Some(&options)).await?;
        if footer.column_index().is_none() {
            return Ok(None);
        }
        let metadata = coerced(scan.table.file_schema(), footer, options)?;
        let schema = Arc::clone(metadata.schema());
        let predicate = with_partition_values(&scan.predicate, &scan.table, &file.partition_values)?;
        let adapter = scan.adapter.create(Arc::clone(scan.table.file_schema()), Arc::clone(&schema))?;
        let predicate = PhysicalExprSimplifier::new(&schema).simplify(adapter.rewrite(predicate)?)?;
        let columns: BTreeSet<usize> =
            collect_columns(&predicate).iter().map(|column| column.index()).collect();
        let columns: Vec<usize> = columns.into_iter().collect();
        // Whether the filter is of a kind that can be proven does not depend on the row group.
        let runs = match metadata.metadata().num_row_groups() {
            0 => None,
            _ => RunsOfPages::try_new(&metadata, 0, &columns)?,
        };
        let Some(runs) = runs.filter(|_| !columns.is_empty()) else { return Ok(None) };
        if all_match(&runs, &predicate)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            pruner: PagePruner::try_new(&predicate, &metadata, metrics.clone()),
            mask: ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied()),
            test: reassign_expr_columns(Arc::clone(&predicate), &schema.project(&columns)?)?,
            metadata,
            metrics,
            predicate,
            columns,
        }))
    }

    /// The runs of rows of a row group that match as a whole, and those that are to be tested. `None` if its pages are not known.
    fn plan(&self, group: usize) -> Result<Option<PlannedGroup>> {
        let Some(runs) = RunsOfPages::try_new(&self.metadata, group, &self.columns)? else { return Ok(None) };
        let Some(all_match) = all_match(&runs, &self.predicate)? else { return Ok(None) };
        let action = |match_: bool| if match_ { Action::Keep } else { Action::Test };
        let intervals = runs.runs.iter().zip(all_match.values()).map(|(rows, match_)| Interval {
            rows: rows.clone(),
            action: action(match_),
            teaches: false,
        });
        let rows = runs.runs.last().map_or(0, |last| last.end);
        Ok(Some(PlannedGroup { index: group, rows, intervals: intervals.collect() }))
    }
}
