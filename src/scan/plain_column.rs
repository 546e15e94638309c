//! A column of row groups whose values lie in their pages as they are in memory: they are copied into record batches, and of rows
//! that a filter decided about only those that it keeps.
//!
//! `parquet` fills the memory of a record batch with zeros before it copies values there, and notes of each that it is not NULL.

use std::cell::RefCell;
use std::ops::Range;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::{ArrayData, ArrayRef, make_array};
use datafusion::arrow::buffer::MutableBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::metrics::Count;
use parquet::errors::{ParquetError, Result};

use super::column_chunks::{ChunkPages, ChunksOfColumn, ColumnChunks, StoredPage};
use super::kept_rows::KeptRows;
use super::plain_values::PlainValues;

/// Bytes that a thread keeps for the next page, at most.
const MOST_KEPT: usize = 2 << 20;

thread_local! {
    /// For pages of which a part is kept.
    static WHOLE_PAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Copies the values of a column, none of them NULL.
pub(super) struct PlainColumn {
    data_type: DataType,
    chunks: ChunksOfColumn,
    /// The pages of the column chunk that is read, and how its values lie there.
    open: Option<(ChunkPages, PlainValues)>,
    /// Of the rows of pages to come; `None`: all.
    kept: Option<KeptRows>,
    left: Left,
    /// What pages are decompressed to, one after the other.
    buffer: Vec<u8>,
    /// The buffer may be larger than a page.
    has_room: bool,
    /// Column chunks that are copied.
    copied: Count,
}

/// The values of the last page that were not given yet.
enum Left {
    /// As they are in the file.
    Stored(Bytes),
    /// Where they are in the buffer.
    Buffered(Range<usize>),
}

impl PlainColumn {
    /// Of the column at `column` among those of the file, as `data_type`, the rows that are `kept`; all without. `has_room`: it is
    /// one of few that are read at a time.
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
        let chunks = chunks.pages_of(column)?;
        let left = Left::Buffered(0..0);
        Ok(Self { data_type, chunks, open: None, kept, left, buffer: vec![], has_room, copied })
    }

    /// The values of the next rows.
    ///
    /// # Errors
    /// If there are not so many, or a page is not what its column chunk says.
    pub(super) fn next(&mut self, rows: usize) -> Result<ArrayRef> {
        let width = self.data_type.primitive_width().unwrap_or(0);
        let length = rows.checked_mul(width).ok_or_else(|| invalid("has too many values"))?;
        let mut values = MutableBuffer::with_capacity(length);
        while values.len() < length {
            let left = match &self.left {
                Left::Stored(bytes) => bytes.as_ref(),
                Left::Buffered(range) => &self.buffer[range.clone()],
            };
            let next = left.len().min(length - values.len());
            values.extend_from_slice(&left[..next]);
            match &mut self.left {
                Left::Stored(bytes) => bytes.advance(next),
                Left::Buffered(range) => range.start += next,
            }
            if values.len() < length {
                self.read_page()?;
            }
        }
        let array = ArrayData::builder(self.data_type.clone()).len(rows).add_buffer(values.into());
        Ok(make_array(array.build()?))
    }

    /// After the last values.
    ///
    /// # Errors
    /// If there are more.
    pub(super) fn end(&mut self) -> Result<()> {
        // Pages without a row that is kept may follow; all rows are counted as they are taken.
        if self.kept.is_some() {
            return Ok(());
        }
        loop {
            let is_empty = match &self.left {
                Left::Stored(bytes) => bytes.is_empty(),
                Left::Buffered(range) => range.is_empty(),
            };
            if !is_empty {
                return Err(invalid("has more values than its row groups have rows"));
            }
            if self.open.is_none() && self.chunks.is_over() {
                return Ok(());
            }
            self.read_page()?;
        }
    }

    /// Puts the values of the next page in `left`, those that are kept.
    fn read_page(&mut self) -> Result<()> {
        let Some((pages, plain)) = &mut self.open else {
            let Some((column, pages)) = self.chunks.next_chunk()? else {
                return Err(ParquetError::EOF("a column lacks values".to_owned()));
            };
            let plain = PlainValues::of(column, &self.data_type).ok_or_else(|| invalid("is encoded"))?;
            self.open = Some((pages, plain));
            self.copied.add(1);
            return Ok(());
        };
        let (plain, Some(stored)) = (*plain, pages.next_stored()?) else {
            self.open = None;
            return Ok(());
        };
        if !stored.page.is_data_page() {
            return Err(invalid("has a dictionary"));
        }
        match &mut self.kept {
            None => self.read_all(&stored, plain),
            Some(kept) => {
                let of_page = kept.take(stored.page.num_values() as usize);
                let of_page = of_page.ok_or_else(|| invalid("has more values than are known of"))?;
                self.read_kept(&stored, plain, &of_page)
            }
        }
    }

    fn read_all(&mut self, stored: &StoredPage, plain: PlainValues) -> Result<()> {
        self.left = match stored.is_compressed() {
            false => {
                let body = stored.page.buffer();
                Left::Stored(body.slice(plain.of_page(&stored.page, body)?))
            }
            true => {
                let body = stored.body(&mut self.buffer, self.has_room)?;
                Left::Buffered(plain.of_page(&stored.page, body)?)
            }
        };
        Ok(())
    }

    fn read_kept(&mut self, stored: &StoredPage, plain: PlainValues, kept: &KeptRows) -> Result<()> {
        self.buffer.clear();
        if kept.has_any() {
            let mut whole = WHOLE_PAGE.take();
            let body = stored.body(&mut whole, true)?;
            let values = &body[plain.of_page(&stored.page, body)?];
            match plain.width() {
                4 => kept.copy::<4>(values, &mut self.buffer),
                _ => kept.copy::<8>(values, &mut self.buffer),
            }
            if whole.capacity() <= MOST_KEPT {
                WHOLE_PAGE.set(whole);
            }
        }
        self.left = Left::Buffered(0..self.buffer.len());
        Ok(())
    }
}

fn invalid(what: &str) -> ParquetError {
    ParquetError::General(format!("a column of plain values {what}"))
}
