//! Row groups behind a filter that keeps rows all over them: the columns of the filter are decoded first, and of columns
//! whose values lie in their pages as they are, only the rows that match.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::ProjectionExprs;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::file::metadata::ParquetMetaData;

use super::column_chunks::ColumnChunks;
use super::file_decoding::{FileDecoding, Wanted};
use super::filter_placement::{Decoded, LateFilter};
use super::kept_rows::PlainValues;
use super::reader::PinnedReader;
use super::run_decoder::{KnownFile, RunScan, next_row_groups};

/// Of a row group with more rows, those that match might take too much memory, all of them together.
const MOST_ROWS: i64 = 1 << 20;

/// Two ways to decode the columns of one file.
pub(super) struct LateColumns {
    /// Those of the filter, and those of which all rows are decoded.
    early: FileDecoding,
    /// One column each.
    late: Vec<FileDecoding>,
    /// For `early`.
    filter: LateFilter,
    /// Where each column of the scan is.
    places: Vec<Place>,
    /// Of the scan.
    schema: SchemaRef,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Early(usize),
    Late(usize),
}

impl LateColumns {
    /// By what `row_group` shows of the columns. `None` if none can wait for the filter.
    fn try_new(
        wanted: &Wanted,
        filter: &LateFilter,
        decoding: &FileDecoding,
        row_group: usize,
        file: &PartitionedFile,
    ) -> Result<Option<Self>> {
        let footer = decoding.footer();
        let needed = filter.columns();
        let can_wait = |at: usize, columns: &[usize]| match columns {
            [column] => at < filter.given() && !needed.contains(&at) && is_plain(footer, row_group, *column),
            _ => false,
        };
        let columns = decoding.columns_of().iter().enumerate();
        let (late, early): (Vec<usize>, Vec<usize>) =
            columns.map(|(at, _)| at).partition(|&at| can_wait(at, &decoding.columns_of()[at]));
        let of = |columns: &[usize]| {
            let exprs = wanted.projection.iter().enumerate();
            let chosen = exprs.filter(|(at, _)| columns.contains(at)).map(|(_, expr)| expr.clone());
            let projection = ProjectionExprs::new(chosen);
            let wanted = Wanted { projection, ..wanted.clone() };
            FileDecoding::try_new(&wanted, Arc::clone(footer), file)
        };
        if late.is_empty() {
            return Ok(None);
        }
        let Some(early_decoding) = of(&early)? else { return Ok(None) };
        let of_late: Option<Vec<FileDecoding>> =
            late.iter().map(|&at| of(&[at]).transpose()).collect::<Option<Result<_>>>().transpose()?;
        let Some(of_late) = of_late else { return Ok(None) };
        let place = |at: usize| match late.binary_search(&at) {
            Ok(at) => Place::Late(at),
            Err(before) => Place::Early(at - before),
        };
        let given: Vec<usize> = (0..filter.given()).collect();
        Ok(Some(Self {
            filter: filter.of_columns(&early)?,
            early: early_decoding,
            late: of_late,
            places: given.iter().map(|&at| place(at)).collect(),
            schema: Arc::new(decoding.schema().project(&given)?),
        }))
    }

    fn is_for(&self, row_groups: &[usize]) -> bool {
        let footer = self.early.footer();
        let mut columns = self.late.iter().flat_map(|late| late.columns().iter());
        columns.all(|&column| row_groups.iter().all(|&group| is_plain(footer, group, column)))
    }

    /// Which rows match, and the early columns of those, as they are put together to record batches.
    fn evaluate(
        &self,
        chunks: &ColumnChunks,
        rows_at_once: usize,
        found: &mut Decoded,
    ) -> Result<(BooleanBuffer, BatchCoalescer)> {
        let mut matches = BooleanBufferBuilder::new(0);
        let mut early = BatchCoalescer::new(Arc::clone(self.early.schema()), rows_at_once);
        for rows in self.early.decode(chunks, rows_at_once)? {
            let rows = self.early.project(&rows?)?;
            let of_rows = self.filter.matches(&rows)?;
            let of_rows = of_rows.unwrap_or_else(|| BooleanArray::from(vec![true; rows.num_rows()]));
            found.batches += 1;
            found.empty += u64::from(!of_rows.has_true());
            matches.append_buffer(of_rows.values());
            early.push_batch_with_filter(rows, &of_rows)?;
        }
        early.finish_buffered_batch()?;
        Ok((matches.finish(), early))
    }
}

/// The rows of the only column of `decoding` that are `kept`.
fn kept_values(decoding: &FileDecoding, chunks: ColumnChunks, kept: &BooleanBuffer) -> Result<ArrayRef> {
    let rows = kept.count_set_bits();
    let mut decoder = decoding.decode(&chunks.keeping(kept.clone()), rows)?;
    match (decoder.next().transpose()?, decoder.next()) {
        (Some(values), None) if values.num_rows() == rows => {
            Ok(Arc::clone(decoding.project(&values)?.column(0)))
        }
        _ => internal_err!("a late column has more or fewer than {rows} rows"),
    }
}

fn is_plain(footer: &ParquetMetaData, row_group: usize, column: usize) -> bool {
    PlainValues::of(footer.row_group(row_group).column(column)).is_some()
}

/// Rows that match.
struct Matching {
    early: BatchCoalescer,
    /// Of all these rows.
    late: Vec<ArrayRef>,
    /// Rows given.
    given: usize,
}

impl Matching {
    fn next(&mut self, columns: &LateColumns) -> Result<Option<RecordBatch>> {
        let Some(early) = self.early.next_completed_batch() else { return Ok(None) };
        let (start, rows) = (self.given, early.num_rows());
        self.given += rows;
        let column = |&place: &Place| match place {
            Place::Early(at) => Arc::clone(early.column(at)),
            Place::Late(at) => self.late[at].slice(start, rows),
        };
        let found = columns.places.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&columns.schema), found, &options)?))
    }
}

/// A run of row groups, being read.
pub(super) struct LateRun {
    scan: Arc<RunScan>,
    filter: Arc<LateFilter>,
    file: Arc<KnownFile>,
    reader: PinnedReader,
    /// Row groups that are not read yet.
    ahead: VecDeque<usize>,
    current: Current,
}

enum Current {
    Nothing,
    Late(Matching),
    /// All columns are decoded before the filter: they are not [`PlainValues`] here.
    Whole(ParquetRecordBatchReader),
}

impl LateRun {
    /// Of `row_groups` of `file` the rows that match `filter`. `None` if no column can wait for it.
    pub(super) async fn open(
        scan: &Arc<RunScan>,
        filter: &Arc<LateFilter>,
        file: &PartitionedFile,
        row_groups: Vec<usize>,
    ) -> Result<Option<Self>> {
        let Some(&first) = row_groups.first() else { return Ok(None) };
        let Some((known, reader)) = scan.open(file).await? else { return Ok(None) };
        let footer = known.decoding.footer();
        if row_groups.iter().any(|&group| footer.row_group(group).num_rows() > MOST_ROWS) {
            return Ok(None);
        }
        let late = match known.late.get() {
            Some(late) => late,
            None => {
                let late = LateColumns::try_new(&scan.wanted, filter, &known.decoding, first, file)?;
                known.late.get_or_init(|| late)
            }
        };
        if late.is_none() {
            return Ok(None);
        }
        scan.note_read(&known, row_groups.len());
        Ok(Some(Self {
            scan: Arc::clone(scan),
            filter: Arc::clone(filter),
            file: known,
            reader,
            ahead: row_groups.into(),
            current: Current::Nothing,
        }))
    }

    /// The next rows that match, more than none; `None` at the end.
    pub(super) async fn next(&mut self, found: &mut Decoded) -> Result<Option<RecordBatch>> {
        let file = Arc::clone(&self.file);
        let Some(Some(columns)) = file.late.get() else { return internal_err!("no column is late") };
        loop {
            match &mut self.current {
                Current::Nothing => {
                    let (row_groups, _) = next_row_groups(&file.decoding, &mut self.ahead)?;
                    if row_groups.is_empty() {
                        return Ok(None);
                    }
                    self.current = match columns.is_for(&row_groups) {
                        true => {
                            Current::Late(self.matching(&file.decoding, columns, &row_groups, found).await?)
                        }
                        false => {
                            let chunks = self.read(&file.decoding, &row_groups).await?;
                            Current::Whole(file.decoding.decode(&chunks, self.scan.wanted.batch_size)?)
                        }
                    };
                }
                Current::Late(matching) => match matching.next(columns)? {
                    Some(rows) => return Ok(Some(rows)),
                    None => self.current = Current::Nothing,
                },
                Current::Whole(decoder) => match decoder.next().transpose()? {
                    Some(rows) => {
                        let rows = self.filter.apply(&file.decoding.project(&rows)?)?;
                        found.note(&rows);
                        if rows.num_rows() > 0 {
                            return Ok(Some(rows));
                        }
                    }
                    None => self.current = Current::Nothing,
                },
            }
        }
    }

    /// The rows of `row_groups` that match. One large row group is read column by column, each while the last one's memory is
    /// still in the processor's cache; small ones all at once.
    async fn matching(
        &mut self,
        decoding: &FileDecoding,
        columns: &LateColumns,
        row_groups: &[usize],
        found: &mut Decoded,
    ) -> Result<Matching> {
        self.scan.metrics.late.add(row_groups.len());
        let all = match row_groups {
            [_] => None,
            _ => Some(self.read(decoding, row_groups).await?),
        };
        let (matches, early) = {
            let read = match &all {
                Some(all) => all.clone(),
                None => self.read(&columns.early, row_groups).await?,
            };
            columns.evaluate(&read, self.scan.wanted.batch_size, found)?
        };
        let mut late = Vec::with_capacity(columns.late.len());
        for column in columns.late.iter().filter(|_| matches.has_true()) {
            let read = match &all {
                Some(all) => all.clone(),
                None => self.read(column, row_groups).await?,
            };
            late.push(kept_values(column, read, &matches)?);
        }
        Ok(Matching { early, late, given: 0 })
    }

    /// The columns of `decoding`.
    async fn read(&mut self, decoding: &FileDecoding, row_groups: &[usize]) -> Result<ColumnChunks> {
        let mut ranges = vec![];
        for &row_group in row_groups {
            ranges.extend(ColumnChunks::ranges(decoding.footer(), row_group, decoding.columns())?);
        }
        let bytes = self.reader.read_together(&ranges).await?;
        Ok(decoding.chunks(row_groups.to_vec(), bytes))
    }
}
