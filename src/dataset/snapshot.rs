//! The batches of a dataset at one moment; immutable.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::parquet::RowGroupAccess;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::SortExpr;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;

use super::batch::{BatchId, BatchMetadata};
use super::batch_sums::BatchSums;
use super::file::DatasetFile;
use super::geometry_column::GeometryColumn;
use super::leaf_bounds::LeafBounds;
use super::learnt::LearntExtents;
use super::statistics::BatchBounds;

/// Statistics of batches and runs of them that are kept; some kilobytes each. The partitions of several queries fit.
const KEPT_RANGES: usize = 8192;

/// Row groups that are compared again rather than remembered to be the same.
const FEW_ROW_GROUPS: usize = 64;

/// The batches of a dataset at one moment, in logical order, with exact statistics.
///
/// Files come in natural order of their paths (digits compare as numbers), rows in file order. Nothing in it
/// changes: a file that is replaced later makes reads of its batches fail, not differ.
#[derive(Debug)]
pub struct DatasetSnapshot {
    parts: SnapshotParts,
    /// Statistics of contiguous batches, by first and last + 1; computed once, but for what would be too many.
    ranges: Mutex<HashMap<(usize, usize), Arc<Statistics>>>,
    total: OnceLock<Arc<Statistics>>,
    sums: OnceLock<BatchSums>,
    learnt: LearntExtents,
    /// The last footer of each file of many row groups that was compared with what is known of the file.
    compared: Mutex<HashMap<usize, Weak<ParquetMetaData>>>,
}

/// What discovery finds.
#[derive(Debug)]
pub(crate) struct SnapshotParts {
    pub(crate) object_store_url: ObjectStoreUrl,
    /// For messages and metadata: where the dataset lies, without credentials.
    pub(crate) location: String,
    pub(crate) schema: TableSchema,
    pub(crate) files: Vec<DatasetFile>,
    pub(crate) batches: Vec<BatchMetadata>,
    pub(crate) bounds: BatchBounds,
    pub(crate) geometry_columns: Vec<GeometryColumn>,
    /// Numbers inside structs, by the names that lead to them.
    pub(crate) leaf_bounds: HashMap<Vec<String>, LeafBounds>,
    /// The order of rows within each batch, if all files declare the same one.
    pub(crate) sorting: Vec<SortExpr>,
}

impl DatasetSnapshot {
    pub(crate) fn new(parts: SnapshotParts) -> Self {
        Self {
            parts,
            ranges: Mutex::default(),
            total: OnceLock::new(),
            sums: OnceLock::new(),
            learnt: LearntExtents::default(),
            compared: Mutex::default(),
        }
    }

    /// The table's schema: the files' columns, then the partition columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.parts.schema.table_schema())
    }

    pub(crate) fn table_schema(&self) -> &TableSchema {
        &self.parts.schema
    }

    /// The dataset's location, without credentials.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.parts.location
    }

    pub(crate) fn object_store_url(&self) -> &ObjectStoreUrl {
        &self.parts.object_store_url
    }

    /// The files, in natural order of their paths; files without rows included.
    #[must_use]
    pub fn files(&self) -> &[DatasetFile] {
        &self.parts.files
    }

    /// The batches; the position of each is its `batch_index`.
    #[must_use]
    pub fn batches(&self) -> &[BatchMetadata] {
        &self.parts.batches
    }

    /// The number of batches.
    #[must_use]
    pub fn num_batches(&self) -> usize {
        self.parts.batches.len()
    }

    /// Rows in all batches.
    #[must_use]
    pub fn num_rows(&self) -> u64 {
        self.parts.batches.iter().map(|batch| batch.rows).sum()
    }

    /// The file that holds `batch`.
    #[must_use]
    pub fn file_of(&self, batch: &BatchMetadata) -> &DatasetFile {
        &self.parts.files[batch.file_index]
    }

    /// The lasting name of the batch at `batch_index`; `None` past the end.
    #[must_use]
    pub fn batch_id(&self, batch_index: usize) -> Option<BatchId> {
        let batch = self.parts.batches.get(batch_index)?;
        let object_meta = self.file_of(batch).object_meta.clone();
        Some(BatchId { object_meta, first_row: batch.first_row, rows: batch.rows })
    }

    pub(crate) fn bounds(&self) -> &BatchBounds {
        &self.parts.bounds
    }

    pub(crate) fn geometry_columns(&self) -> &[GeometryColumn] {
        &self.parts.geometry_columns
    }

    /// Extents that scans have learnt.
    pub(crate) fn learnt(&self) -> &LearntExtents {
        &self.learnt
    }

    /// The bounds, one per batch, of a number inside structs, by the names that lead to it; not of whole columns.
    pub(crate) fn leaf_bounds(&self, path: &[String]) -> Option<&LeafBounds> {
        self.parts.leaf_bounds.get(path)
    }

    pub(crate) fn sorting(&self) -> &[SortExpr] {
        &self.parts.sorting
    }

    /// The statistics of the whole table: row count exact, the rest exact, inexact (floats, cut text) or absent.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        let total = self.total.get_or_init(|| Arc::new(self.merged_statistics(&(0..self.num_batches()))));
        Arc::clone(total)
    }

    /// The statistics of the contiguous batches in `range` together; an empty range for one past the end.
    pub(crate) fn range_statistics(&self, range: Range<usize>) -> Arc<Statistics> {
        let key = (range.start, range.end);
        if let Some(known) = self.ranges.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let merged = Arc::new(self.merged_statistics(&range));
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if ranges.len() >= KEPT_RANGES {
            ranges.clear();
        }
        ranges.insert(key, Arc::clone(&merged));
        merged
    }

    /// The statistics of the batches at ascending `indices` together.
    pub(crate) fn statistics_at(&self, indices: &[usize]) -> Result<Statistics> {
        let (_, bytes) = self.sums().of(indices);
        Ok(with_bytes(self.parts.bounds.statistics_at(indices)?, bytes))
    }

    /// The same of batches at ascending `indices`, without those of columns.
    pub(crate) fn statistics_of_rows(&self, indices: &[usize]) -> Statistics {
        let (rows, bytes) = self.sums().of(indices);
        let unknown = Statistics::new_unknown(self.parts.schema.table_schema());
        let rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
        with_bytes(unknown.with_num_rows(rows), bytes)
    }

    /// Rows of the contiguous batches in `range`.
    pub(crate) fn rows_of_range(&self, range: Range<usize>) -> u64 {
        self.sums().of_range(&range).0
    }

    /// Whether batches end within row groups.
    pub(crate) fn cuts_row_groups(&self) -> bool {
        self.sums().cut_row_groups()
    }

    fn sums(&self) -> &BatchSums {
        self.sums.get_or_init(|| BatchSums::new(&self.parts.batches))
    }

    /// Whether statistics of several batches together have been computed.
    #[cfg(test)]
    pub(crate) fn has_merged_statistics(&self) -> bool {
        self.total.get().is_some() || !self.ranges.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn merged_statistics(&self, range: &Range<usize>) -> Statistics {
        let (_, bytes) = self.sums().of_range(range);
        with_bytes(self.parts.bounds.statistics(range), bytes)
    }

    /// Whether `footer`, of the file at `file_index`, has the row groups that are known of it, which may come from elsewhere. Readers
    /// ask for each part of a query: a footer of many row groups is compared once.
    pub(crate) fn has_row_groups_of(&self, file_index: usize, footer: &Arc<ParquetMetaData>) -> bool {
        let Some(file) = self.parts.files.get(file_index) else { return false };
        let compared = || self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        // What is weakly held has the place of no other footer.
        let is_it = |known: &Weak<ParquetMetaData>| known.as_ptr() == Arc::as_ptr(footer);
        let is_many = footer.num_row_groups() > FEW_ROW_GROUPS;
        if is_many && compared().get(&file_index).is_some_and(is_it) {
            return true;
        }
        let found = footer.row_groups().iter();
        let is_same = file.row_groups.len() == footer.num_row_groups()
            && file.row_groups.iter().zip(found).all(|(known, found)| known.is_of_footer(found));
        if is_many && is_same {
            compared().insert(file_index, Arc::downgrade(footer));
        }
        is_same
    }

    /// The row groups that the contiguous batches in `range` read, all of one file, if they are all of their rows.
    pub(crate) fn whole_row_groups(&self, range: Range<usize>) -> Option<Range<usize>> {
        let batches = self.parts.batches.get(range)?;
        let (first, last) = batches.first().zip(batches.last())?;
        let row_groups = first.row_groups.start..last.row_groups.end;
        let last_group = self.file_of(last).row_groups.get(row_groups.end.checked_sub(1)?)?;
        let begins = first.skipped_rows == 0;
        let ends = last.is_whole || last.skipped_rows + last.rows == last_group.rows;
        (begins && ends && first.file_index == last.file_index).then_some(row_groups)
    }

    /// The same, but for those without rows.
    pub(crate) fn whole_row_groups_with_rows(&self, range: Range<usize>) -> Option<Vec<usize>> {
        let row_groups = self.whole_row_groups(range.clone())?;
        let file = self.file_of(self.parts.batches.get(range.start)?);
        Some(row_groups.filter(|&group| file.row_groups[group].rows > 0).collect())
    }

    /// What DataFusion's scan opens to read the contiguous batches in `range`, all of one file. `is_described`: with
    /// their statistics.
    pub(crate) fn partitioned_file(&self, range: Range<usize>, is_described: bool) -> PartitionedFile {
        let first = &self.parts.batches[range.start];
        let file = self.file_of(first);
        let mut opened = PartitionedFile::new_from_meta(file.object_meta.clone());
        opened.partition_values.clone_from(&file.partition_values);
        // Not `with_statistics`: that takes partition values for not null.
        opened.statistics = is_described.then(|| self.range_statistics(range.clone()));
        let span = &self.parts.batches[range.clone()];
        if let Some(row_groups) = self.whole_row_groups(range) {
            // A row group belongs to the range that holds the offset of its first page.
            let start = file.row_groups[row_groups.start].offset;
            let end = file.row_groups.get(row_groups.end).map_or(file.object_meta.size, |g| g.offset);
            if let (Ok(start), Ok(end)) = (i64::try_from(start), i64::try_from(end))
                && file.has_ordered_offsets
            {
                return opened.with_range(start, end);
            }
        }
        opened.with_extension(access_plan(file, span))
    }
}

/// What Parquet calls uncompressed is still encoded: an estimate of the Arrow size.
fn with_bytes(statistics: Statistics, bytes: u64) -> Statistics {
    statistics.with_total_byte_size(Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// The row groups that contiguous batches of `file` read, in order, each with the rows they read of it.
pub(crate) fn row_spans(file: &DatasetFile, batches: &[BatchMetadata]) -> BTreeMap<usize, Range<u64>> {
    let mut spans: BTreeMap<usize, Range<u64>> = BTreeMap::new();
    for batch in batches {
        for index in batch.row_groups.clone() {
            let end =
                if batch.is_whole { file.row_groups[index].rows } else { batch.skipped_rows + batch.rows };
            let span = spans.entry(index).or_insert(batch.skipped_rows..end);
            *span = span.start.min(batch.skipped_rows)..span.end.max(end);
        }
    }
    spans
}

/// Exactly the rows of `batches`, which are contiguous batches of `file`.
fn access_plan(file: &DatasetFile, batches: &[BatchMetadata]) -> ParquetAccessPlan {
    let mut access = vec![RowGroupAccess::Skip; file.row_groups.len()];
    for (index, Range { start, end }) in row_spans(file, batches) {
        let rows = file.row_groups[index].rows;
        access[index] = if (start, end) == (0, rows) {
            RowGroupAccess::Scan
        } else {
            let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            RowGroupAccess::Selection(RowSelection::from(vec![
                RowSelector::skip(count(start)),
                RowSelector::select(count(end - start)),
                RowSelector::skip(count(rows - end)),
            ]))
        };
    }
    ParquetAccessPlan::new(access)
}
