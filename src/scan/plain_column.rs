//! A column of row groups whose values lie in their pages as they are in memory: they are copied into record batches.
//!
//! `parquet` fills the memory of a record batch with zeros before it copies values there, and notes of each that it is not NULL.

use datafusion::arrow::array::{ArrayData, ArrayRef, make_array};
use datafusion::arrow::buffer::MutableBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::metrics::Count;
use parquet::errors::{ParquetError, Result};

use super::column_chunks::ColumnChunks;
use super::kept_rows::KeptRows;
use super::plain_pages::PlainPages;
use super::plain_values::PlainValues;

/// Copies the values of a column, none of them NULL.
pub(super) struct PlainColumn {
    data_type: DataType,
    pages: PlainPages,
}

impl PlainColumn {
    /// Of the column at `column` among those of the file, as `data_type`, the rows that are `kept`; all without. `has_room`: it is
    /// one of few that are read at a time. Column chunks are counted in `copied`.
    ///
    /// # Errors
    /// If the column was not read.
    pub(super) fn try_new(
        chunks: &ColumnChunks,
        column: usize,
        data_type: DataType,
        kept: Option<KeptRows>,
        has_room: bool,
        copied: Count,
    ) -> Result<Self> {
        let pages = PlainPages::new(chunks.pages_of(column)?, kept, has_room, copied);
        Ok(Self { data_type, pages })
    }

    /// The values of the next rows.
    ///
    /// # Errors
    /// If there are not so many, or a page is not what its column chunk says.
    pub(super) fn next(&mut self, rows: usize) -> Result<ArrayRef> {
        let width = self.data_type.primitive_width().unwrap_or(0);
        let too_many = || ParquetError::General("a column of plain values has too many of them".to_owned());
        let length = rows.checked_mul(width).ok_or_else(too_many)?;
        let mut values = MutableBuffer::with_capacity(length);
        while values.len() < length {
            let next =
                self.pages.next(length - values.len(), |column| PlainValues::of(column, &self.data_type))?;
            values.extend_from_slice(
                next.ok_or_else(|| ParquetError::EOF("a column lacks values".to_owned()))?,
            );
        }
        let array = ArrayData::builder(self.data_type.clone()).len(rows).add_buffer(values.into());
        Ok(make_array(array.build()?))
    }

    /// After the last values.
    ///
    /// # Errors
    /// If there are more.
    pub(super) fn end(&mut self) -> Result<()> {
        self.pages.end(|column| PlainValues::of(column, &self.data_type))
    }
}
