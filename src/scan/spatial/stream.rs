//! A run of batches read through spatial filters: a few row groups at a time are tested, then the rows that match
//! are read by the Parquet source.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapterFactory, PhysicalExprAdapterFactory};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use datafusion_datasource::morsel::Morselizer;
use datafusion_pruning::FilePruner;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::PageIndexPolicy;

use super::batch_facts::BatchFacts;
use super::columns::{FileColumns, TestColumns, leaves_under};
use super::file_extents::FileExtents;
use super::intervals::{FileTarget, IntervalPlanner};
use super::points::PointColumn;
use super::rows::{RowError, RowTest};
use crate::dataset::{DatasetSnapshot, row_spans};
use crate::error::OdpError;
use crate::geo::{ExtentFacts, InvalidGeometryRow, SpatialConjunct, SpatialTarget};
use crate::scan::file_decoding::{coerced, with_partition_values};
use crate::scan::metrics::SpatialMetrics;
use crate::scan::morsels::read_on;
use crate::scan::page_pruner::PagePruner;
use crate::scan::reader::PinnedReaderFactory;
use crate::scan::row_intervals::{Interval, PlannedGroup};
use crate::scan::run_decoder::{RowGroupRun, RunScan};

/// Rows that are tested before the first of them is read on: what a LIMIT may test in vain, and the price of opening
/// the Parquet source again.
const ROWS_AHEAD: u64 = 128 << 10;

/// Spatial filters of a scan, shared by its partitions.
pub(crate) struct SpatialScan {
    pub(crate) conjuncts: Arc<[SpatialConjunct]>,
    /// `None`: rows are not tested here, but by whoever put the filter there.
    pub(crate) columns: Option<Arc<TestColumns>>,
    pub(crate) snapshot: Arc<DatasetSnapshot>,
    /// The filters beside: rows that they exclude need no test.
    pub(crate) others: Option<Arc<dyn PhysicalExpr>>,
    /// Readers that come with page indexes.
    pub(crate) readers: PinnedReaderFactory,
    /// To read the rows that match, where the Parquet source has nothing to filter.
    pub(crate) runs: Option<Arc<RunScan>>,
    pub(crate) metrics: SpatialMetrics,
    pub(crate) execution_metrics: ExecutionPlanMetricsSet,
    pub(crate) partition: usize,
    pub(crate) batch_size: usize,
    /// Coordinates hold no NaN, and geometries are neither empty nor malformed.
    pub(crate) is_finite: bool,
    /// Rows are skipped and kept by extents.
    pub(crate) prunes: bool,
}

impl Debug for SpatialScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpatialScan").field("conjuncts", &self.conjuncts).finish_non_exhaustive()
    }
}

/// The rows of `batches` of one file that the filters let through, as `inner` reads them.
pub(crate) fn open_spatial(
    scan: Arc<SpatialScan>,
    inner: Arc<dyn Morselizer>,
    file: PartitionedFile,
    batches: Range<usize>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let opened = async move { Run::open(scan, inner, file, batches).await };
    let stream = |run: Option<Run>| match run {
        Some(run) => run.into_stream(),
        None => futures::stream::empty().boxed(),
    };
    futures::stream::once(Box::pin(opened)).map_ok(stream).try_flatten().boxed()
}

/// An open run.
struct Run {
    scan: Arc<SpatialScan>,
    inner: Arc<dyn Morselizer>,
    file: PartitionedFile,
    batches: Range<usize>,
    metadata: ArrowReaderMetadata,
    columns: Option<FileColumns>,
    /// The only column of the filters, if coordinates are enough to decide.
    points: Option<PointColumn>,
    targets: Vec<FileTarget>,
    others: Option<PagePruner>,
    /// Whether the other filters, some of which grow while the query runs, exclude the whole run.
    pruner: Option<FilePruner>,
    file_metrics: ParquetFileMetrics,
    /// Row groups that are not decided yet.
    ahead: VecDeque<(usize, Range<u64>)>,
    /// Rows that are being read.
    reading: VecDeque<BoxStream<'static, Result<RecordBatch>>>,
}

impl Run {
    async fn open(
        scan: Arc<SpatialScan>,
        inner: Arc<dyn Morselizer>,
        file: PartitionedFile,
        batches: Range<usize>,
    ) -> Result<Option<Self>> {
        let snapshot = Arc::clone(&scan.snapshot);
        let table = snapshot.table_schema();
        let others = match scan.others.as_ref().filter(|_| scan.prunes) {
            None => None,
            Some(others) => Some(with_partition_values(others, table, &file.partition_values)?),
        };
        let mut pruner = others.as_ref().and_then(|others| {
            FilePruner::try_new(Arc::clone(others), table.file_schema(), &file, Count::new())
        });
        if let Some(pruner) = &mut pruner
            && pruner.should_prune()?
        {
            return Ok(None);
        }
        let file_metrics = ParquetFileMetrics::new(
            scan.partition,
            file.object_meta.location.as_ref(),
            &scan.execution_metrics,
        );
        let mut reader = scan.readers.reader(&file, file_metrics.clone());
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = reader.get_metadata(Some(&options)).await?;
        let metadata = coerced(table.file_schema(), footer, options)?;
        let columns = match &scan.columns {
            None => None,
            Some(columns) => Some(columns.in_file(
                metadata.parquet_schema(),
                metadata.schema(),
                scan.snapshot.table_schema(),
                &file.partition_values,
            )?),
        };
        let points = match (&scan.columns, &columns) {
            (Some(columns), Some(in_file)) => PointColumn::find(&scan.conjuncts, columns, in_file, &metadata),
            _ => None,
        };
        let metas = &scan.snapshot.batches()[batches.clone()];
        let ahead = match metas.first() {
            Some(first) => row_spans(scan.snapshot.file_of(first), metas).into_iter().collect(),
            None => VecDeque::new(),
        };
        let targets = file_targets(&scan, &metadata, &file, batches.clone());
        let others = match &others {
            None => None,
            Some(others) => {
                let adapter = DefaultPhysicalExprAdapterFactory
                    .create(Arc::clone(table.file_schema()), Arc::clone(metadata.schema()))?;
                // Apart from those of the scan: the Parquet source counts the same pages again.
                let apart = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
                PagePruner::try_new(&adapter.rewrite(Arc::clone(others))?, &metadata, apart)
            }
        };
        let reading = VecDeque::new();
        Ok(Some(Self {
            scan,
            inner,
            file,
            batches,
            metadata,
            columns,
            points,
            targets,
            others,
            pruner,
            file_metrics,
            ahead,
            reading,
        }))
    }

    fn into_stream(self) -> BoxStream<'static, Result<RecordBatch>> {
        futures::stream::try_unfold(self, |mut run| async move {
            let next = Box::pin(run.next()).await?;
            Ok(next.map(|batch| (batch, run)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(stream) = self.reading.front_mut() {
                match stream.try_next().await? {
                    Some(batch) => return Ok(Some(batch)),
                    None => self.reading.pop_front(),
                };
            } else if self.ahead.is_empty() {
                return Ok(None);
            } else if let Some(pruner) = &mut self.pruner
                && pruner.should_prune()?
            {
                self.ahead.clear();
            } else if let Some(run) = self.decide().await? {
                self.reading = match &self.scan.runs {
                    Some(runs) if run.is_worth_decoding(self.scan.batch_size) => {
                        VecDeque::from([Arc::clone(runs).read(run, Arc::clone(&self.inner))])
                    }
                    _ => read_on(self.inner.as_ref(), run.file).await?,
                };
            }
        }
    }

    /// Decides about the next row groups; what to read of them, if anything.
    async fn decide(&mut self) -> Result<Option<RowGroupRun>> {
        let scan = Arc::clone(&self.scan);
        let time = scan.metrics.time.timer();
        let groups = self.plan_next();
        let matches = match (&self.scan.columns, &self.columns) {
            (Some(columns), Some(file_columns)) => {
                let test = RowTest {
                    metadata: &self.metadata,
                    file_columns,
                    columns,
                    targets: self.targets.iter().map(|target| &target.target).collect(),
                    conjuncts: &self.scan.conjuncts,
                    points: self.points.as_ref(),
                    points_read: self.scan.metrics.points_read.clone(),
                    learnt: self.scan.snapshot.learnt(),
                    file_index: self.file_index(),
                    batch_size: self.scan.batch_size,
                };
                let open = || self.scan.readers.reader(&self.file, self.file_metrics.clone());
                test.matches(open, &groups).await.map_err(|error| self.located(error))?
            }
            _ => groups.iter().map(PlannedGroup::kept).collect(),
        };
        drop(time);
        let found = groups.iter().map(|group| group.index).zip(matches);
        let found = found.inspect(|(_, bits)| self.scan.metrics.rows_matched.add(bits.count_set_bits()));
        Ok(RowGroupRun::of_matches(&self.file, self.metadata.metadata(), found))
    }

    /// The next row groups with what to do with their rows: as many as have enough rows to test.
    fn plan_next(&mut self) -> Vec<PlannedGroup> {
        let snapshot = Arc::clone(&self.scan.snapshot);
        let footer = Arc::clone(self.metadata.metadata());
        let planner = IntervalPlanner {
            conjuncts: &self.scan.conjuncts,
            targets: &self.targets,
            footer: &footer,
            learnt: snapshot.learnt(),
            file_index: self.file_index(),
            is_finite: self.scan.is_finite,
            prunes: self.scan.prunes,
        };
        let mut groups = vec![];
        let mut to_test = 0;
        let mut decided = 0;
        for (index, span) in &self.ahead {
            let rows = u64::try_from(footer.row_group(*index).num_rows()).unwrap_or(0);
            let mut group = PlannedGroup { index: *index, rows, intervals: planner.plan(*index, span) };
            if let Some(others) = &self.others
                && group.intervals.iter().any(Interval::is_read)
            {
                others.restrict(&self.metadata, std::slice::from_mut(&mut group));
            }
            let tests = group.rows_to_read();
            if to_test > 0 && to_test + tests > ROWS_AHEAD {
                break;
            }
            to_test += tests;
            self.scan.metrics.note(&group.intervals);
            groups.push(group);
            decided += 1;
        }
        self.ahead.drain(..decided);
        groups
    }

    fn file_index(&self) -> usize {
        self.scan.snapshot.batches().get(self.batches.start).map_or(0, |batch| batch.file_index)
    }

    /// The error with the file, batch and row that it comes from.
    fn located(&self, failed: RowError) -> DataFusionError {
        let RowError { error, row, rows } = failed;
        let (Some(row), Some(invalid)) = (row, InvalidGeometryRow::find(&error)) else { return error };
        let mut before = 0;
        let place = rows.iter().find_map(|(group, run)| {
            let at = (row as u64).checked_sub(before)? + run.start;
            before += run.end - run.start;
            (at < run.end).then_some((*group, at))
        });
        let Some((group, row)) = place else { return error };
        let file = self.scan.snapshot.file_of(&self.scan.snapshot.batches()[self.batches.start]);
        let row = file.row_groups[group].first_row + row;
        let batches = &self.scan.snapshot.batches()[self.batches.clone()];
        let batch = batches.iter().find(|b| b.first_row <= row && row < b.first_row + b.rows);
        let batch = batch.map_or(self.batches.start, |batch| batch.batch_index);
        let location = format!("{}, batch {batch}, row {row} of the file", file.path());
        OdpError::InvalidData { location, source: Box::new(invalid.source.clone()) }.into()
    }
}

/// The different targets of the filters, as the file has them.
fn file_targets(
    scan: &SpatialScan,
    metadata: &ArrowReaderMetadata,
    file: &PartitionedFile,
    batches: Range<usize>,
) -> Vec<FileTarget> {
    let mut targets: Vec<FileTarget> = vec![];
    for predicate in scan.conjuncts.iter().flat_map(|conjunct| &conjunct.predicates) {
        let target = &predicate.target;
        if targets.iter().any(|known| known.target == *target) {
            continue;
        }
        let mut found = FileTarget {
            target: target.clone(),
            extents: None,
            own_leaves: vec![],
            declared: BTreeMap::new(),
        };
        if scan.prunes {
            let schemas: (&Schema, &Schema) = (metadata.schema(), scan.snapshot.table_schema().file_schema());
            found.extents = FileExtents::find(metadata.metadata(), schemas, target, file.path().as_ref());
        }
        if let SpatialTarget::Geometry { path } = target {
            found.own_leaves = leaves_under(metadata.parquet_schema(), path);
            let facts = BatchFacts::new(&scan.snapshot, target, scan.is_finite);
            for index in batches.clone() {
                for group in scan.snapshot.batches()[index].row_groups.clone() {
                    let known = found.declared.entry(group).or_insert(ExtentFacts::NO_ROWS);
                    *known = known.union(facts.of(index));
                }
            }
        }
        targets.push(found);
    }
    targets
}
