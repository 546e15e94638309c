//! A column of row groups whose values lie in their pages as they are in memory: they are copied into record batches, or stay in the
//! pages.
//!
//! `parquet` fills the memory of a record batch with zeros before it copies values there, and notes of each that it is not NULL.

use datafusion::arrow::array::{ArrayData, ArrayRef, make_array};
use datafusion::arrow::buffer::{Buffer, MutableBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::metrics::Count;
use parquet::errors::{ParquetError, Result};

use super::column_chunks::ColumnChunks;
use super::kept_rows::KeptRows;
use super::plain_pages::PlainPages;
use super::plain_values::PlainValues;

/// What is counted.
#[derive(Debug, Clone)]
pub(in crate::scan) struct PlainCounts {
    /// Column chunks of which values are copied, or not even that.
    pub(in crate::scan) chunks: Count,
    /// Values that stay in their pages.
    pub(in crate::scan) in_place: Count,
}

/// How a column is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainOptions {
    /// It is one of few that are read at a time.
    pub(super) has_room: bool,
    /// Values may stay in their pages. Whoever keeps some of them then keeps whole pages, and counts their memory for each record batch.
    pub(super) in_place: bool,
}

/// Gives the values of a column, none of them NULL.
pub(super) struct PlainColumn {
    data_type: DataType,
    pages: PlainPages,
    in_place: Option<Count>,
}

impl PlainColumn {
    /// Of the column at `column` among those of the file, as `data_type`, the rows that are `kept`; all without.
    ///
    /// # Errors
    /// If the column was not read.
    pub(super) fn try_new(
        chunks: &ColumnChunks,
        column: usize,
        data_type: DataType,
        kept: Option<KeptRows>,
        options: PlainOptions,
        counts: &PlainCounts,
    ) -> Result<Self> {
        let pages = PlainPages::new(chunks.pages_of(column)?, kept, options.has_room, counts.chunks.clone());
        let in_place = options.in_place.then(|| counts.in_place.clone());
        Ok(Self { data_type, pages, in_place })
    }

    /// The values of the next rows.
    ///
    /// # Errors
    /// If there are not so many, or a page is not what its column chunk says.
    pub(super) fn next(&mut self, rows: usize) -> Result<ArrayRef> {
        let width = self.data_type.primitive_width().unwrap_or(0);
        let too_many = || ParquetError::General("a column of plain values has too many of them".to_owned());
        let length = rows.checked_mul(width).ok_or_else(too_many)?;
        let values = match self.in_place(length, width)? {
            Some(values) => values,
            None => self.copied(length)?,
        };
        let array = ArrayData::builder(self.data_type.clone()).len(rows).add_buffer(values);
        Ok(make_array(array.build()?))
    }

    fn in_place(&mut self, length: usize, width: usize) -> Result<Option<Buffer>> {
        let Some(count) = &self.in_place else { return Ok(None) };
        let of_chunk = |column: &_| PlainValues::of(column, &self.data_type);
        let values = self.pages.next_in_place(length, width, of_chunk)?;
        count.add(values.as_ref().map_or(0, |values| values.len() / width.max(1)));
        Ok(values)
    }

    fn copied(&mut self, length: usize) -> Result<Buffer> {
        let mut values = MutableBuffer::with_capacity(length);
        while values.len() < length {
            let next =
                self.pages.next(length - values.len(), |column| PlainValues::of(column, &self.data_type))?;
            values.extend_from_slice(
                next.ok_or_else(|| ParquetError::EOF("a column lacks values".to_owned()))?,
            );
        }
        Ok(values.into())
    }

    /// After the last values.
    ///
    /// # Errors
    /// If there are more.
    pub(super) fn end(&mut self) -> Result<()> {
        self.pages.end(|column| PlainValues::of(column, &self.data_type))
    }
}
