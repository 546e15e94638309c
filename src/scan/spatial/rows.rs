//! The exact test: reads the filters' columns of the rows that need it, and learns where those rows lie.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::and_kleene;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::metrics::Count;
use futures::TryStreamExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::AsyncFileReader;

use super::columns::{FileColumns, TestColumns};
use super::points::{PointColumn, StoredGeometries};
use crate::dataset::{Chunk, LearntExtents};
use crate::geo::{
    BoundingBox, Extent, ExtentFacts, GeometryArray, InvalidGeometryRow, SpatialConjunct, SpatialTarget,
    is_usable,
};
use crate::scan::row_intervals::{Action, Interval, PlannedGroup, rows_to_read, to_usize};

/// What the exact test needs to know of a file.
pub(super) struct RowTest<'a> {
    pub(super) metadata: &'a ArrowReaderMetadata,
    pub(super) file_columns: &'a FileColumns,
    pub(super) columns: &'a TestColumns,
    /// Targets to learn of.
    pub(super) targets: Vec<&'a SpatialTarget>,
    pub(super) conjuncts: &'a [SpatialConjunct],
    /// The only column, if coordinates are enough to decide.
    pub(super) points: Option<&'a PointColumn>,
    /// Rows of which the coordinates were read from pages.
    pub(super) points_read: Count,
    pub(super) learnt: &'a LearntExtents,
    pub(super) file_index: usize,
    pub(super) batch_size: usize,
}

/// An error of a filter in a row of a file.
#[derive(Debug)]
pub(super) struct RowError {
    pub(super) error: DataFusionError,
    /// The malformed geometry's row in the record batch, if that is what failed.
    pub(super) row: Option<usize>,
    /// The rows of the file in the record batch, as runs: row group, and rows of it.
    pub(super) rows: Vec<(usize, Range<u64>)>,
}

impl RowError {
    fn unlocated(error: DataFusionError) -> Self {
        Self { error, row: None, rows: vec![] }
    }
}

impl RowTest<'_> {
    /// The rows of each group that match, one bit a row, by what `open` reads.
    ///
    /// # Errors
    /// What reading gives, and what a filter gives in a row.
    pub(super) async fn matches<R: AsyncFileReader + Unpin + Send + 'static>(
        &self,
        open: impl Fn() -> R,
        groups: &[PlannedGroup],
    ) -> Result<Vec<BooleanBuffer>, RowError> {
        let read: Vec<&PlannedGroup> = groups.iter().filter(|group| group.rows_to_read() > 0).collect();
        let total: u64 = read.iter().map(|group| group.rows_to_read()).sum();
        let mut tested = BooleanBufferBuilder::new(to_usize(total));
        for groups in read.chunk_by(|a, b| self.may_be_points(a) == self.may_be_points(b)) {
            let of_points = match self.points {
                Some(column) if groups.iter().all(|group| self.may_be_points(group)) => {
                    self.test_points(open(), column, groups).await?
                }
                _ => None,
            };
            tested.append_buffer(&match of_points {
                Some(tested) => tested,
                None => self.test(open(), groups).await?,
            });
        }
        let (tested, mut at) = (tested.finish(), 0);
        Ok(groups.iter().map(|group| group.matches(&tested, &mut at)).collect())
    }

    /// Whether all of `group` is to be read, and may be points.
    fn may_be_points(&self, group: &PlannedGroup) -> bool {
        group.rows_to_read() == group.rows
            && self.points.is_some_and(|column| column.may_be_points(group.index))
    }

    /// The rows to read of `groups` that match, by `parquet`'s record batches of the filters' columns.
    async fn test<R: AsyncFileReader + Unpin + Send + 'static>(
        &self,
        reader: R,
        groups: &[&PlannedGroup],
    ) -> Result<BooleanBuffer, RowError> {
        let mut testing = Testing::new(self, groups);
        let mut stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone())
            .with_row_groups(groups.iter().map(|group| group.index).collect())
            .with_row_selection(rows_to_read(groups))
            .with_projection(self.file_columns.mask.clone())
            .with_batch_size(self.batch_size)
            .build()
            .map_err(|error| RowError::unlocated(error.into()))?;
        while let Some(batch) = stream.try_next().await.map_err(|error| RowError::unlocated(error.into()))? {
            // Nothing else waits here where the bytes are in memory.
            tokio::task::consume_budget().await;
            let batch = self.file_columns.read(&batch).map_err(RowError::unlocated)?;
            self.test_batch(&mut testing, &batch)?;
        }
        Ok(testing.finish())
    }

    /// The same by what lies in the pages of `column`, of whole row groups. `None` if it has values that are as long as no point, or
    /// something is wrong with a page: that is left to [`Self::test`].
    async fn test_points<R: AsyncFileReader>(
        &self,
        mut reader: R,
        column: &PointColumn,
        groups: &[&PlannedGroup],
    ) -> Result<Option<BooleanBuffer>, RowError> {
        let mut testing = Testing::new(self, groups);
        let mut points_read = 0;
        for group in groups {
            let Ok(ranges) = column.ranges(group.index) else { return Ok(None) };
            let bytes = reader.get_byte_ranges(ranges).await;
            let bytes = bytes.map_err(|error| RowError::unlocated(error.into()))?;
            let Ok(mut pages) = column.pages(group.index, bytes) else { return Ok(None) };
            loop {
                tokio::task::consume_budget().await;
                match pages.next(self.batch_size) {
                    Ok(None) => break,
                    Ok(Some(StoredGeometries::Points(x, y))) => {
                        let points = GeometryArray::from_points(x, y);
                        points_read += points.len();
                        let facts = |_: &SpatialTarget, rows| facts_of_geometries(&points, rows);
                        testing.test(points.len(), facts, |_| {
                            self.matching_points(&points).map_err(RowError::unlocated)
                        })?;
                    }
                    Ok(Some(StoredGeometries::Others(values))) => {
                        let batch = self.file_columns.of_values(&values).map_err(RowError::unlocated)?;
                        // Of several errors the other finds its own first.
                        if self.test_batch(&mut testing, &batch).is_err() {
                            return Ok(None);
                        }
                    }
                    Err(_) => {
                        column.give_up();
                        return Ok(None);
                    }
                }
            }
        }
        self.points_read.add(points_read);
        Ok(Some(testing.finish()))
    }

    /// Tests the next rows, of which `batch` has the columns.
    fn test_batch(&self, testing: &mut Testing<'_>, batch: &RecordBatch) -> Result<(), RowError> {
        let facts = |target: &SpatialTarget, rows| facts_of_rows(target, self.columns, batch, rows);
        testing.test(batch.num_rows(), facts, |runs| {
            self.evaluate(batch).map_err(|error| RowError {
                row: self.malformed_row(batch, &error),
                error,
                rows: runs.iter().map(Run::place).collect(),
            })
        })
    }

    fn matching_points(&self, points: &GeometryArray) -> Result<BooleanBuffer> {
        let all = BooleanBuffer::new_set(points.len());
        self.conjuncts.iter().try_fold(all, |all, conjunct| Ok(&all & &conjunct.matching_points(points)?))
    }

    /// The row of the geometry that `error` is about. What the error itself says may count the rows that another part
    /// of the filter left.
    fn malformed_row(&self, batch: &RecordBatch, error: &DataFusionError) -> Option<usize> {
        let found = InvalidGeometryRow::find(error)?;
        let is_it = |array: &GeometryArray, row: usize| matches!(array.extent(row), Some(Err(error)) if error == found.source);
        let of_target = |target: &&SpatialTarget| {
            let SpatialTarget::Geometry { path } = target else { return None };
            let array = self.columns.geometries(batch, self.columns.index_of(path)?).ok()?;
            (0..batch.num_rows()).find(|row| is_it(&array, *row))
        };
        self.targets.iter().find_map(of_target).or(Some(found.row))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanBuffer> {
        let mut all: Option<BooleanArray> = None;
        for filter in &self.columns.filters {
            let answers = filter.evaluate(batch)?.into_array(batch.num_rows())?;
            let answers = answers.as_boolean();
            all = Some(match all {
                None => answers.clone(),
                Some(all) => and_kleene(&all, answers)?,
            });
        }
        Ok(match all {
            None => BooleanBuffer::new_set(batch.num_rows()),
            Some(all) => match all.nulls() {
                Some(nulls) => all.values() & nulls.inner(),
                None => all.values().clone(),
            },
        })
    }
}

/// Tests the rows to read of row groups, in order, and learns of them.
struct Testing<'a> {
    test: &'a RowTest<'a>,
    cursor: Cursor<'a>,
    learning: Vec<Learning<'a>>,
    /// Of the rows so far, those that match.
    tested: BooleanBufferBuilder,
}

impl<'a> Testing<'a> {
    fn new(test: &'a RowTest<'a>, groups: &[&'a PlannedGroup]) -> Self {
        let total: u64 = groups.iter().map(|group| group.rows_to_read()).sum();
        let learning = test.targets.iter().map(|target| Learning { target, chunks: vec![] });
        Self {
            test,
            cursor: Cursor::new(groups),
            learning: learning.collect(),
            tested: BooleanBufferBuilder::new(to_usize(total)),
        }
    }

    /// Tests the next rows by `matching`, if `facts` of the rows in a range do not tell.
    ///
    /// # Errors
    /// What `matching` gives.
    fn test(
        &mut self,
        rows: usize,
        facts: impl Fn(&SpatialTarget, Range<usize>) -> ExtentFacts,
        matching: impl FnOnce(&[Run<'a>]) -> Result<BooleanBuffer, RowError>,
    ) -> Result<(), RowError> {
        let runs = self.cursor.take(rows);
        let mut all_confirmed = runs.iter().all(|run| run.interval.action == Action::Confirm);
        for run in runs.iter().filter(|run| run.interval.teaches) {
            for learning in &mut self.learning {
                let facts = facts(learning.target, run.batch_rows.clone());
                all_confirmed &= !facts.may_be_null && !facts.may_be_empty && !facts.may_be_malformed;
                learning.add(run, facts);
            }
        }
        match all_confirmed {
            true => self.tested.append_n(rows, true),
            false => self.tested.append_buffer(&matching(&runs)?),
        }
        Ok(())
    }

    fn finish(mut self) -> BooleanBuffer {
        for learning in self.learning {
            learning.record(self.test.learnt, self.test.file_index);
        }
        self.tested.finish()
    }
}

/// A run of rows of a record batch: where they are in it and in the file.
struct Run<'a> {
    batch_rows: Range<usize>,
    group: usize,
    /// The interval that they belong to, as a whole.
    interval: &'a Interval,
    first_row: u64,
}

impl Run<'_> {
    fn place(&self) -> (usize, Range<u64>) {
        (self.group, self.first_row..self.first_row + self.batch_rows.len() as u64)
    }
}

/// Walks over the rows to read of row groups in the order in which they are read.
struct Cursor<'a> {
    intervals: Vec<(usize, &'a Interval)>,
    interval: usize,
    /// Rows taken from the interval.
    taken: u64,
}

impl<'a> Cursor<'a> {
    fn new(groups: &[&'a PlannedGroup]) -> Self {
        let read = |group: &&'a PlannedGroup| {
            let index = group.index;
            let read = group.intervals.iter().filter(|i| i.is_read());
            read.map(move |interval| (index, interval)).collect::<Vec<_>>()
        };
        Self { intervals: groups.iter().flat_map(read).collect(), interval: 0, taken: 0 }
    }

    fn take(&mut self, rows: usize) -> Vec<Run<'a>> {
        let mut runs = vec![];
        let mut start = 0;
        while start < rows && self.interval < self.intervals.len() {
            let (group, interval) = self.intervals[self.interval];
            let first_row = interval.rows.start + self.taken;
            let left = interval.rows.end - first_row;
            let count = to_usize(left).min(rows - start);
            runs.push(Run { batch_rows: start..start + count, group, interval, first_row });
            start += count;
            self.taken += count as u64;
            if count as u64 == left {
                self.interval += 1;
                self.taken = 0;
            }
        }
        runs
    }
}

/// What is learnt of one target while rows are tested.
struct Learning<'a> {
    target: &'a SpatialTarget,
    /// Row group and interval, in order, the last one perhaps unfinished.
    chunks: Vec<(usize, Chunk)>,
}

impl Learning<'_> {
    fn add(&mut self, run: &Run<'_>, facts: ExtentFacts) {
        let rows = &run.interval.rows;
        match self.chunks.last_mut() {
            Some((group, chunk)) if *group == run.group && chunk.rows == *rows => {
                chunk.facts = chunk.facts.union(facts);
            }
            _ => self.chunks.push((run.group, Chunk { rows: rows.clone(), facts })),
        }
    }

    fn record(self, learnt: &LearntExtents, file_index: usize) {
        for of_group in self.chunks.chunk_by(|(a, _), (b, _)| a == b) {
            let known = of_group.iter().filter(|(_, chunk)| chunk.facts.extent != Extent::Unknown);
            let chunks = known.map(|(_, chunk)| chunk.clone()).collect();
            learnt.record(self.target, (file_index, of_group[0].0), chunks);
        }
    }
}

fn facts_of_rows(
    target: &SpatialTarget,
    columns: &TestColumns,
    batch: &RecordBatch,
    rows: Range<usize>,
) -> ExtentFacts {
    let column = |path| columns.index_of(path).map(|index| batch.column(index));
    match target {
        SpatialTarget::Point { lon, lat } => match (column(lon), column(lat)) {
            (Some(x), Some(y)) => facts_of_points(x, y, rows),
            _ => ExtentFacts::UNKNOWN,
        },
        SpatialTarget::Geometry { path } => {
            match columns.index_of(path).map(|index| columns.geometries(batch, index)) {
                Some(Ok(array)) => facts_of_geometries(&array, rows),
                _ => ExtentFacts::UNKNOWN,
            }
        }
    }
}

fn facts_of_points(x: &Arc<dyn Array>, y: &Arc<dyn Array>, rows: Range<usize>) -> ExtentFacts {
    let numbers = |array: &Arc<dyn Array>| {
        let array = array.slice(rows.start, rows.len());
        let nulls = array.null_count();
        let array = datafusion::arrow::compute::cast(&array, &DataType::Float64).ok()?;
        // A NULL made by the cast is not one of the column.
        (array.null_count() == nulls).then(|| array.as_primitive::<Float64Type>().clone())
    };
    let (Some(x), Some(y)) = (numbers(x), numbers(y)) else { return ExtentFacts::UNKNOWN };
    let may_be_null = x.null_count() + y.null_count() > 0;
    let mut facts = ExtentFacts { may_be_null, ..ExtentFacts::NO_ROWS };
    let bounds = if may_be_null {
        let pairs = x.iter().zip(y.iter()).filter_map(|(x, y)| Some((x?, y?)));
        point_bounds(pairs)
    } else {
        point_bounds(x.values().iter().copied().zip(y.values().iter().copied()))
    };
    facts.may_be_empty = bounds.1;
    if let Some(bounds) = bounds.0 {
        facts.add(Some(bounds));
    }
    facts
}

/// The box of the points that can be computed with, and whether there are others, which are empty.
fn point_bounds(points: impl Iterator<Item = (f64, f64)>) -> (Option<BoundingBox>, bool) {
    let (mut west, mut south) = (f64::INFINITY, f64::INFINITY);
    let (mut east, mut north) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let mut all_usable = true;
    for (x, y) in points {
        let is_point = is_usable(x) & is_usable(y);
        all_usable &= is_point;
        if is_point {
            west = west.min(x);
            east = east.max(x);
            south = south.min(y);
            north = north.max(y);
        }
    }
    (BoundingBox::from_bounds(west, south, east, north), !all_usable)
}

fn facts_of_geometries(array: &GeometryArray, rows: Range<usize>) -> ExtentFacts {
    let of_points = match array {
        GeometryArray::Points { x, y, nulls: None } => {
            let points = x.values()[rows.clone()].iter().zip(&y.values()[rows.clone()]);
            Some(point_bounds(points.map(|(x, y)| (*x, *y))))
        }
        _ => {
            let (mut x, mut y) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
            let are_points = array.read_plain_points(rows.start, &mut x, &mut y);
            are_points.then(|| point_bounds(x.into_iter().zip(y)))
        }
    };
    if let Some((bounds, may_be_empty)) = of_points {
        let mut facts = ExtentFacts { may_be_empty, ..ExtentFacts::NO_ROWS };
        if bounds.is_some() {
            facts.add(bounds);
        }
        return facts;
    }
    let mut facts = ExtentFacts::NO_ROWS;
    for row in rows {
        match array.extent(row) {
            None => facts.may_be_null = true,
            Some(Ok(bounds)) => facts.add(bounds),
            // A malformed geometry is an error, or no match: whoever reads it decides.
            Some(Err(_)) => return ExtentFacts::UNKNOWN,
        }
    }
    facts
}
