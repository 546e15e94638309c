//! Columns of a row group, each decoded on its own: where a scan has few row groups, other processors would be idle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::ProjectionExprs;
use parquet::file::metadata::RowGroupMetaData;

use super::file_decoding::{FileDecoding, Wanted};
use super::filter_placement::LateFilter;

/// Bytes of the columns of a row group, not compressed but still encoded, that are decoded before any row is given on.
const MOST_BYTES: i64 = 16 << 20;

/// Those of one column that are one page or two, as most writers cut them, if there is no index that tells.
const FEW_PAGES: i64 = 5 << 18;

/// Bytes of an index of one page or two; the place of a page takes seven or more.
const SHORT_INDEX: i32 = 24;

/// The columns of one file in parts, which have no column of the file in common.
pub(super) struct SideBySide {
    parts: Vec<Part>,
    /// Where each column of the scan is: the part, and the column in it.
    places: Vec<(usize, usize)>,
    /// Of the scan.
    schema: SchemaRef,
}

struct Part {
    decoding: Arc<FileDecoding>,
    /// Positions of its columns among those of the whole.
    columns: Vec<usize>,
}

impl SideBySide {
    /// `None` if there is but one column to be decoded, or several are made of the same.
    ///
    /// # Errors
    /// If the file does not fit the table.
    pub(super) fn try_new(
        wanted: &Wanted,
        decoding: &FileDecoding,
        file: &PartitionedFile,
    ) -> Result<Option<Self>> {
        let columns_of = decoding.columns_of();
        let uses: usize = columns_of.iter().map(Vec::len).sum();
        if decoding.columns().len() < 2 || uses != decoding.columns().len() {
            return Ok(None);
        }
        // Constants come with the first.
        let (read, constant): (Vec<usize>, Vec<usize>) =
            (0..columns_of.len()).partition(|&at| !columns_of[at].is_empty());
        let mut parts = Vec::with_capacity(read.len());
        let mut places = vec![(0, 0); columns_of.len()];
        for (part, at) in read.into_iter().enumerate() {
            let mut given = vec![at];
            if part == 0 {
                given.extend(&constant);
            }
            for (column, &at) in given.iter().enumerate() {
                places[at] = (part, column);
            }
            let exprs = given.iter().filter_map(|&at| wanted.projection.iter().nth(at).cloned());
            let wanted = Wanted { projection: ProjectionExprs::new(exprs), ..wanted.clone() };
            let Some(of_part) = FileDecoding::try_new(&wanted, Arc::clone(decoding.footer()), file)? else {
                return Ok(None);
            };
            let position = |column| decoding.columns().binary_search(column).ok();
            let Some(columns) = of_part.columns().iter().map(position).collect() else { return Ok(None) };
            parts.push(Part { decoding: Arc::new(of_part), columns });
        }
        Ok(Some(Self { parts, places, schema: Arc::clone(decoding.schema()) }))
    }

    /// The rows of a row group, of which `bytes` has the columns of the whole, as record batches of `rows_at_once`; of them
    /// those that match `filter`, if there is one. Others are left unfinished where no row matches.
    ///
    /// # Errors
    /// If a column cannot be decoded, or what the filter gives.
    pub(super) async fn decode(
        &self,
        row_group: usize,
        bytes: &[Bytes],
        rows_at_once: usize,
        filter: Option<&LateFilter>,
    ) -> Result<IntoIter<RecordBatch>> {
        let needed = filter.map(LateFilter::columns).unwrap_or_default();
        let needed_parts: BTreeSet<usize> = needed.iter().map(|&at| self.places[at].0).collect();
        let decoding = |part: &Part| {
            let bytes: Vec<Bytes> = part.columns.iter().filter_map(|&at| bytes.get(at).cloned()).collect();
            let decoding = Arc::clone(&part.decoding);
            move || -> Result<Vec<RecordBatch>> {
                let rows = decoding.decode(&decoding.chunks(vec![row_group], bytes), rows_at_once)?;
                rows.map(|rows| decoding.project(&rows?)).collect()
            }
        };
        let others = self.parts.iter().enumerate().filter(|(at, _)| !needed_parts.contains(at));
        let tasks = others.map(|(at, part)| {
            let decode = decoding(part);
            (at, SpawnedTask::spawn(async move { decode() }))
        });
        let tasks: Vec<_> = tasks.collect();

        let mut parts = vec![vec![]; self.parts.len()];
        for &part in &needed_parts {
            parts[part] = decoding(&self.parts[part])()?;
        }
        let matches = match filter {
            Some(filter) => self.matches(filter, &needed, &parts)?,
            None => None,
        };
        if matches.as_ref().is_some_and(|matches| !matches.iter().any(BooleanArray::has_true)) {
            return Ok(vec![].into_iter());
        }
        for (part, task) in tasks {
            parts[part] = task.join_unwind().await.map_err(|e| DataFusionError::External(Box::new(e)))??;
        }
        let batches = parts.first().map_or(0, Vec::len);
        if parts.iter().any(|part| part.len() != batches) {
            return internal_err!("columns have different numbers of rows");
        }
        let mut rows = Vec::with_capacity(batches);
        for at in 0..batches {
            let joined = self.joined(&parts, at)?;
            rows.push(match (filter, matches.as_ref().and_then(|matches| matches.get(at))) {
                (Some(filter), Some(matches)) => filter.given_of(&joined, Some(matches))?,
                (Some(filter), None) => filter.apply(&joined)?,
                (None, _) => joined,
            });
        }
        Ok(rows.into_iter())
    }

    /// Of each record batch the rows that match; `None` if the filter is not made of columns, or says that all do.
    fn matches(
        &self,
        filter: &LateFilter,
        needed: &BTreeSet<usize>,
        parts: &[Vec<RecordBatch>],
    ) -> Result<Option<Vec<BooleanArray>>> {
        let Some(&first) = needed.first() else { return Ok(None) };
        let needed: Vec<usize> = needed.iter().copied().collect();
        let filter = filter.of_columns(&needed)?;
        let schema = Arc::new(self.schema.project(&needed)?);
        let of_batch = |at: usize| -> Result<Option<BooleanArray>> {
            let column = |&column: &usize| {
                let (part, column) = self.places[column];
                parts[part].get(at).map(|rows| Arc::clone(rows.column(column)))
            };
            let Some(columns) = needed.iter().map(column).collect() else {
                return internal_err!("a column has fewer rows than others");
            };
            filter.matches(&RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        let batches = parts[self.places[first].0].len();
        let matches = (0..batches).map(of_batch).collect::<Result<Vec<_>>>()?;
        Ok(matches.into_iter().collect())
    }

    fn joined(&self, parts: &[Vec<RecordBatch>], at: usize) -> Result<RecordBatch> {
        let column = |&(part, column): &(usize, usize)| -> Option<ArrayRef> {
            Some(Arc::clone(parts.get(part)?.get(at)?.columns().get(column)?))
        };
        let Some(columns) = self.places.iter().map(column).collect() else {
            return internal_err!("a column has fewer rows than others");
        };
        let rows = parts.first().and_then(|part| part.get(at)).map(RecordBatch::num_rows);
        let options = RecordBatchOptions::new().with_row_count(rows);
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// Whether the `columns` of a row group take little memory.
pub(super) fn are_small(row_group: &RowGroupMetaData, columns: &[usize]) -> bool {
    let bytes = columns.iter().map(|&column| row_group.column(column).uncompressed_size());
    (0..=MOST_BYTES).contains(&bytes.fold(0, i64::saturating_add))
}

/// Whether each of the `columns` of a row group has so few pages that next to none can be left out.
pub(super) fn have_few_pages(row_group: &RowGroupMetaData, columns: &[usize]) -> bool {
    columns.iter().all(|&column| {
        let column = row_group.column(column);
        let has_short_index = column.offset_index_length().is_none_or(|length| length <= SHORT_INDEX);
        has_short_index && (0..=FEW_PAGES).contains(&column.uncompressed_size())
    })
}
