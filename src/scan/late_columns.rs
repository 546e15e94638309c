//! Row groups behind a filter that keeps rows all over them: the columns of the filter are decoded first, and of columns
//! whose values lie in their pages as they are, only the rows that match.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use datafusion::arrow::array::{Array, ArrayRef, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};

use super::coded_columns::{as_text, coded};
use super::decoding::{ColumnChunks, KeptRows, PlainValues, RowGroupDecoder};
use super::file_decoding::{FileDecoding, Wanted};
use super::filter_placement::{Decoded, LateFilter};
use super::reader::PinnedReader;
use super::run_decoder::{KnownFile, RunScan, next_row_groups};
use crate::row_bytes::record_batch_bytes;

/// Bytes of rows that match, in the columns that are decoded early or in the others, before any is given on: with more, all
/// columns are decoded together, and given on one record batch after the other.
const MOST_BYTES: usize = 32 << 20;

/// Two ways to decode the columns of one file.
pub(super) struct LateColumns {
    /// Those of the filter, and those of which all rows are decoded: text as codes, where it has some.
    early: FileDecoding,
    /// Of these, with text.
    early_schema: SchemaRef,
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
        let is_plain = |column: usize| {
            let at = decoding.columns().binary_search(&column).ok();
            let field = at.and_then(|at| decoding.decoders().schema().fields().get(at));
            let chunk = footer.row_group(row_group).column(column);
            field.is_some_and(|field| PlainValues::of(chunk, field.data_type()).is_some())
        };
        let can_wait = |at: usize, columns: &[usize]| match columns {
            [column] => at < filter.given() && !needed.contains(&at) && is_plain(*column),
            _ => false,
        };
        let columns = decoding.columns_of().iter().enumerate();
        let (late, early): (Vec<usize>, Vec<usize>) =
            columns.map(|(at, _)| at).partition(|&at| can_wait(at, &decoding.columns_of()[at]));
        let exprs: Vec<&ProjectionExpr> = wanted.projection.iter().collect();
        let of_exprs = |projection: Vec<ProjectionExpr>| {
            let projection = ProjectionExprs::new(projection);
            let wanted = Wanted { projection, are_kept: true, ..wanted.clone() };
            FileDecoding::try_new(&wanted, Arc::clone(footer), file)
        };
        let of = |columns: &[usize]| of_exprs(columns.iter().map(|&column| exprs[column].clone()).collect());
        if late.is_empty() {
            return Ok(None);
        }
        let with_codes = |&at: &usize| match decoding.columns_of()[at].as_slice() {
            [column] if at < filter.given() && !needed.contains(&at) => {
                coded(exprs[at], wanted.table.table_schema(), footer, *column)
            }
            _ => None,
        };
        let codes: Vec<Option<ProjectionExpr>> = early.iter().map(with_codes).collect();
        let wanted_codes = codes.iter().flatten().count();
        let early_exprs =
            early.iter().zip(codes).map(|(&at, coded)| coded.unwrap_or_else(|| exprs[at].clone()));
        let early_decoding = match of_exprs(early_exprs.collect())? {
            Some(decoding) if decoding.coded() == wanted_codes => Some(decoding),
            _ => of(&early)?,
        };
        let Some(early_decoding) = early_decoding else { return Ok(None) };
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
            early_schema: Arc::new(decoding.schema().project(&early)?),
            late: of_late,
            places: given.iter().map(|&at| place(at)).collect(),
            schema: Arc::new(decoding.schema().project(&given)?),
        }))
    }

    fn is_for(&self, row_groups: &[usize]) -> bool {
        self.late.iter().all(|late| late.decoders().are_plain(row_groups))
    }

    /// Which rows match, and the early columns of those; `None` if they take too much memory.
    fn evaluate(
        &self,
        chunks: &ColumnChunks,
        rows_at_once: usize,
        found: &mut Decoded,
    ) -> Result<Option<(KeptRows, BatchCoalescer)>> {
        let mut matches = BooleanBufferBuilder::new(0);
        let mut early = BatchCoalescer::new(Arc::clone(&self.early_schema), rows_at_once);
        let (mut of_chunks, mut bytes) = (*found, 0);
        for rows in self.early.decoders().decode(chunks, rows_at_once)? {
            let mut rows = self.early.project(&rows?)?;
            match self.filter.matches(&rows)? {
                Some(of_rows) => {
                    matches.append_buffer(of_rows.values());
                    // Text is copied out of its pages below, if little of it is left: not where the coalescer filters.
                    rows = filter_record_batch(&rows, &of_rows)?;
                }
                None => matches.append_n(rows.num_rows(), true),
            }
            if self.early.coded() > 0 {
                rows = as_text(&rows, &self.early_schema)?;
            }
            of_chunks.note(&rows);
            bytes += record_batch_bytes(&rows);
            if bytes > MOST_BYTES {
                return Ok(None);
            }
            early.push_batch(rows)?;
        }
        early.finish_buffered_batch()?;
        let matches = KeptRows::new(matches.finish());
        if matches.count().saturating_mul(8 * self.late.len()) > MOST_BYTES {
            return Ok(None);
        }
        *found = of_chunks;
        Ok(Some((matches, early)))
    }
}

/// The rows of the only column of `decoding` that are `kept`, cut as the early columns are.
fn kept_values(
    decoding: &FileDecoding,
    chunks: &ColumnChunks,
    kept: &KeptRows,
    rows_at_once: usize,
) -> Result<IntoIter<ArrayRef>> {
    let decoder = decoding.decoders().decode_kept(chunks, kept, rows_at_once)?;
    let values = decoder.map(|values| Ok(Arc::clone(decoding.project(&values?)?.column(0))));
    Ok(values.collect::<Result<Vec<_>>>()?.into_iter())
}

/// Rows that match.
struct Matching {
    early: BatchCoalescer,
    /// Of each column the values of the next record batches.
    late: Vec<IntoIter<ArrayRef>>,
}

impl Matching {
    fn next(&mut self, columns: &LateColumns) -> Result<Option<RecordBatch>> {
        let early = self.early.next_completed_batch();
        let late: Vec<ArrayRef> = self.late.iter_mut().filter_map(Iterator::next).collect();
        let rows = early.as_ref().map_or(0, RecordBatch::num_rows);
        let expected = if early.is_some() { self.late.len() } else { 0 };
        if late.len() != expected || late.iter().any(|values| values.len() != rows) {
            return internal_err!("late columns have more or fewer rows than match");
        }
        let Some(early) = early else { return Ok(None) };
        let column = |&place: &Place| match place {
            Place::Early(at) => Arc::clone(early.column(at)),
            Place::Late(at) => Arc::clone(&late[at]),
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
    /// All columns are decoded before the filter: some are not [`PlainValues`] here, or too much matches.
    Whole(RowGroupDecoder),
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
                    let (row_groups, _) =
                        next_row_groups(&file.decoding, &mut self.ahead, columns.early.coded() > 0)?;
                    if row_groups.is_empty() {
                        return Ok(None);
                    }
                    let matching = match columns.is_for(&row_groups) {
                        true => self.matching(&file.decoding, columns, &row_groups, found).await?,
                        false => None,
                    };
                    self.current = match matching {
                        Some(matching) => Current::Late(matching),
                        None => {
                            let chunks = self.read(&file.decoding, &row_groups).await?;
                            Current::Whole(
                                file.decoding.decoders().decode(&chunks, self.scan.wanted.batch_size)?,
                            )
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

    /// The rows of `row_groups` that match, if they take little memory. One large row group is read column by column, each
    /// while the last one's memory is still in the processor's cache; small ones all at once.
    async fn matching(
        &mut self,
        decoding: &FileDecoding,
        columns: &LateColumns,
        row_groups: &[usize],
        found: &mut Decoded,
    ) -> Result<Option<Matching>> {
        let rows_at_once = self.scan.wanted.batch_size;
        let all = match row_groups {
            [_] => None,
            _ => Some(self.read(decoding, row_groups).await?),
        };
        let evaluated = {
            let read = match &all {
                Some(all) => all.clone(),
                None => self.read(&columns.early, row_groups).await?,
            };
            columns.evaluate(&read, rows_at_once, found)?
        };
        let Some((matches, early)) = evaluated else { return Ok(None) };
        self.scan.metrics.late.add(row_groups.len());
        if columns.early.coded() > 0 {
            self.scan.metrics.coded.add(row_groups.len());
        }
        let mut late = Vec::with_capacity(columns.late.len());
        for column in &columns.late {
            if !matches.has_any() {
                break;
            }
            let read = match &all {
                Some(all) => all.clone(),
                None => self.read(column, row_groups).await?,
            };
            late.push(kept_values(column, &read, &matches, rows_at_once)?);
        }
        Ok(Some(Matching { early, late }))
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
