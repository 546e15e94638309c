//! Row groups behind a filter that keeps rows all over them: the columns of the filter are decoded first, and of columns
//! whose values lie in their pages as they are, only the rows that match.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
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

/// Two ways to decode the columns of one file.
pub(super) struct LateColumns {
    /// Those of the filter, and those of which all rows are decoded.
    early: FileDecoding,
    late: FileDecoding,
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
        let (Some(early_decoding), Some(late_decoding)) = (of(&early)?, of(&late)?) else { return Ok(None) };
        let place = |at: usize| match late.binary_search(&at) {
            Ok(at) => Place::Late(at),
            Err(before) => Place::Early(at - before),
        };
        let given: Vec<usize> = (0..filter.given()).collect();
        Ok(Some(Self {
            filter: filter.of_columns(&early)?,
            early: early_decoding,
            late: late_decoding,
            places: given.iter().map(|&at| place(at)).collect(),
            schema: Arc::new(decoding.schema().project(&given)?),
        }))
    }

    fn is_for(&self, row_groups: &[usize]) -> bool {
        let footer = self.late.footer();
        row_groups.iter().all(|&group| self.late.columns().iter().all(|&c| is_plain(footer, group, c)))
    }

    /// Evaluates the filter.
    fn start(&self, chunks: &ColumnChunks, rows_at_once: usize, found: &mut Decoded) -> Result<Matching> {
        let mut matches = BooleanBufferBuilder::new(0);
        let mut early = BatchCoalescer::new(Arc::clone(self.early.schema()), rows_at_once);
        for rows in self.early.decode(chunks)? {
            let rows = self.early.project(&rows?)?;
            let of_rows = self.filter.matches(&rows)?;
            let of_rows = of_rows.unwrap_or_else(|| BooleanArray::from(vec![true; rows.num_rows()]));
            found.batches += 1;
            found.empty += u64::from(!of_rows.has_true());
            matches.append_buffer(of_rows.values());
            early.push_batch_with_filter(rows, &of_rows)?;
        }
        early.finish_buffered_batch()?;
        let matches = matches.finish();
        let late = match matches.has_true() {
            true => Some(self.late.decode(&chunks.keeping(matches))?),
            false => None,
        };
        Ok(Matching { early, late })
    }

    fn join(&self, early: &RecordBatch, late: &RecordBatch) -> Result<RecordBatch> {
        let rows = early.num_rows();
        if late.num_rows() != rows {
            return internal_err!("{} rows of late columns are decoded, expected {rows}", late.num_rows());
        }
        let columns = self.places.iter().map(|&place| match place {
            Place::Early(at) => Arc::clone(early.column(at)),
            Place::Late(at) => Arc::clone(late.column(at)),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?)
    }
}

fn is_plain(footer: &ParquetMetaData, row_group: usize, column: usize) -> bool {
    PlainValues::of(footer.row_group(row_group).column(column)).is_some()
}

/// Row groups of which it is known which rows match.
struct Matching {
    early: BatchCoalescer,
    /// `None`: no row matches.
    late: Option<ParquetRecordBatchReader>,
}

impl Matching {
    fn next(&mut self, columns: &LateColumns) -> Result<Option<RecordBatch>> {
        let late = self.late.as_mut().and_then(Iterator::next).transpose()?;
        match (self.early.next_completed_batch(), late) {
            (Some(early), Some(late)) => columns.join(&early, &columns.late.project(&late)?).map(Some),
            (None, None) => Ok(None),
            _ => internal_err!("columns of the same rows have more or fewer than others"),
        }
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
                    let (row_groups, ranges) = next_row_groups(&file.decoding, &mut self.ahead)?;
                    if row_groups.is_empty() {
                        return Ok(None);
                    }
                    let bytes = self.reader.read_together(&ranges).await?;
                    let (count, is_late) = (row_groups.len(), columns.is_for(&row_groups));
                    let chunks = file.decoding.chunks(row_groups, bytes);
                    self.current = match is_late {
                        true => {
                            self.scan.metrics.late.add(count);
                            Current::Late(columns.start(&chunks, self.scan.wanted.batch_size, found)?)
                        }
                        false => Current::Whole(file.decoding.decode(&chunks)?),
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
}
