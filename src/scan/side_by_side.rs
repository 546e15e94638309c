//! Columns of a row group, each decoded on its own: where a scan has few row groups, other processors would be idle.

use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use parquet::file::metadata::RowGroupMetaData;

use super::file_decoding::{FileDecoding, Wanted};

/// Bytes of a row group, when it is decoded, before any row is given on.
const MOST_DECODED: i64 = 32 << 20;

/// Bytes of its columns, not compressed but still encoded, that take longer than handing them to others.
const LEAST_ENCODED: i64 = 256 << 10;

/// Parts, at most: each takes the time to read the schema of the file.
const MOST_PARTS: usize = 16;

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
        let read = columns_of.iter().filter(|columns| !columns.is_empty()).count();
        if read < 2 || uses != decoding.columns().len() {
            return Ok(None);
        }
        // Columns in turn; constants come with the first part.
        let mut given = vec![vec![]; read.min(MOST_PARTS)];
        let mut next = 0;
        for (at, columns) in columns_of.iter().enumerate() {
            if columns.is_empty() {
                given[0].push(at);
            } else {
                given[next % MOST_PARTS].push(at);
                next += 1;
            }
        }
        let exprs: Vec<&ProjectionExpr> = wanted.projection.iter().collect();
        let mut parts = Vec::with_capacity(given.len());
        let mut places = vec![(0, 0); columns_of.len()];
        for (part, given) in given.into_iter().enumerate() {
            for (column, &at) in given.iter().enumerate() {
                places[at] = (part, column);
            }
            let projection = ProjectionExprs::new(given.iter().map(|&at| exprs[at].clone()));
            let wanted = Wanted { projection, are_kept: true, ..wanted.clone() };
            let Some(of_part) = FileDecoding::try_new(&wanted, Arc::clone(decoding.footer()), file)? else {
                return Ok(None);
            };
            let position = |column| decoding.columns().binary_search(column).ok();
            let Some(columns) = of_part.columns().iter().map(position).collect() else { return Ok(None) };
            parts.push(Part { decoding: Arc::new(of_part), columns });
        }
        Ok(Some(Self { parts, places, schema: Arc::clone(decoding.schema()) }))
    }

    /// The rows of a row group, of which `bytes` has the columns of the whole, as record batches of `rows_at_once`.
    ///
    /// # Errors
    /// If a column cannot be decoded.
    pub(super) async fn decode(
        &self,
        row_group: usize,
        bytes: &[Bytes],
        rows_at_once: usize,
    ) -> Result<IntoIter<RecordBatch>> {
        let tasks = self.parts.iter().map(|part| {
            let bytes: Vec<Bytes> = part.columns.iter().filter_map(|&at| bytes.get(at).cloned()).collect();
            let decoding = Arc::clone(&part.decoding);
            SpawnedTask::spawn(async move {
                let rows =
                    decoding.decoders().decode(&decoding.chunks(vec![row_group], bytes), rows_at_once)?;
                rows.map(|rows| decoding.project(&rows?)).collect::<Result<Vec<RecordBatch>>>()
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut parts = Vec::with_capacity(tasks.len());
        for task in tasks {
            parts.push(task.join_unwind().await.map_err(|e| DataFusionError::External(Box::new(e)))??);
        }
        let batches = parts.first().map_or(0, Vec::len);
        if parts.iter().any(|part| part.len() != batches) {
            return internal_err!("columns have different numbers of rows");
        }
        let joined = (0..batches).map(|at| self.joined(&parts, at)).collect::<Result<Vec<_>>>()?;
        Ok(joined.into_iter())
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

/// Whether it is worth it: the `columns` of a row group, which are decoded to `schema`, are more than few bytes, and take little
/// memory when they all are.
pub(super) fn is_worth_it(row_group: &RowGroupMetaData, columns: &[usize], schema: &Schema) -> bool {
    let encoded = columns.iter().map(|&column| row_group.column(column).uncompressed_size());
    let decoded = columns.iter().zip(schema.fields()).map(|(&column, field)| {
        let (column, data_type) = (row_group.column(column), field.data_type());
        match data_type.primitive_width() {
            Some(width) => row_group.num_rows().saturating_mul(i64::try_from(width).unwrap_or(i64::MAX)),
            // Views, and the texts behind them; those of a dictionary are there once.
            None if matches!(data_type, DataType::Utf8View | DataType::BinaryView) => {
                row_group.num_rows().saturating_mul(16).saturating_add(column.uncompressed_size())
            }
            None if *data_type == DataType::Boolean => row_group.num_rows(),
            // Of other texts those of a dictionary are there again and again.
            None if column.dictionary_page_offset().is_none() => {
                row_group.num_rows().saturating_mul(8).saturating_add(column.uncompressed_size())
            }
            None => i64::MAX,
        }
    });
    encoded.fold(0, i64::saturating_add) >= LEAST_ENCODED
        && (0..=MOST_DECODED).contains(&decoded.fold(0, i64::saturating_add))
}
