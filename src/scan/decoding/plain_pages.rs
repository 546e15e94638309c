//! The values of a column as they lie in the pages of row groups, one page after the other; of rows that a filter decided about only
//! those that it keeps.

use std::cell::RefCell;
use std::mem::take;
use std::ops::Range;

use bytes::Bytes;
use datafusion::arrow::buffer::Buffer;
use datafusion::physical_plan::metrics::Count;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::column_chunks::{ChunkPages, ChunksOfColumn, StoredPage};
use super::kept_rows::KeptRows;
use super::plain_values::PlainValues;

/// Bytes that a thread keeps for the next page, at most.
const MOST_KEPT: usize = 2 << 20;

thread_local! {
    /// For pages of which a part is kept.
    static WHOLE_PAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives the values of a column, none of them NULL.
pub(in crate::scan) struct PlainPages {
    chunks: ChunksOfColumn,
    /// The pages of the column chunk that is read, and how its values lie there.
    open: Option<(ChunkPages, PlainValues)>,
    /// Of the rows of pages to come; `None`: all.
    kept: Option<KeptRows>,
    left: Left,
    /// What was given last, if it is in the file as it is.
    given: Bytes,
    /// What pages are decompressed to, one after the other; another one while parts of it are in use.
    buffer: Buffer,
    /// The buffer may be larger than a page.
    has_room: bool,
    /// Counts column chunks.
    read: Count,
}

/// The values of the last page that were not given yet.
enum Left {
    /// As they are in the file.
    Stored(Bytes),
    /// Where they are in the buffer.
    Buffered(Range<usize>),
}

impl Left {
    fn len(&self) -> usize {
        match self {
            Self::Stored(bytes) => bytes.len(),
            Self::Buffered(range) => range.len(),
        }
    }
}

impl PlainPages {
    /// Of the rows that are `kept`; of all without. `has_room`: the column is one of few that are read at a time.
    pub(in crate::scan) fn new(
        chunks: ChunksOfColumn,
        kept: Option<KeptRows>,
        has_room: bool,
        read: Count,
    ) -> Self {
        let (left, given) = (Left::Buffered(0..0), Bytes::new());
        Self { chunks, open: None, kept, left, given, buffer: Buffer::default(), has_room, read }
    }

    /// Values that follow, of at least one byte and at most so many, of column chunks where they lie as `of_chunk` says. `None` after
    /// the last.
    ///
    /// # Errors
    /// If a page is not what its column chunk says.
    pub(in crate::scan) fn next(
        &mut self,
        most: usize,
        of_chunk: impl Fn(&ColumnChunkMetaData) -> Option<PlainValues>,
    ) -> Result<Option<&[u8]>> {
        if !self.has_more(of_chunk)? {
            return Ok(None);
        }
        let taken = self.left.len().min(most);
        Ok(Some(match &mut self.left {
            Left::Stored(bytes) => {
                self.given = bytes.split_to(taken);
                &self.given
            }
            Left::Buffered(range) => {
                range.start += taken;
                &self.buffer[range.start - taken..range.start]
            }
        }))
    }

    /// The values that follow, of so many bytes, where they were decompressed to. `None` if they do not lie there together, aligned to
    /// their width, or hold up much memory.
    ///
    /// # Errors
    /// If a page is not what its column chunk says.
    pub(in crate::scan) fn next_in_place(
        &mut self,
        length: usize,
        width: usize,
        of_chunk: impl Fn(&ColumnChunkMetaData) -> Option<PlainValues>,
    ) -> Result<Option<Buffer>> {
        if !self.has_more(of_chunk)? || self.buffer.capacity() > MOST_KEPT {
            return Ok(None);
        }
        let Left::Buffered(range) = &mut self.left else { return Ok(None) };
        if range.len() < length {
            return Ok(None);
        }
        let values = self.buffer.slice_with_length(range.start, length);
        if values.as_ptr().align_offset(width) != 0 {
            return Ok(None);
        }
        range.start += length;
        Ok(Some(values))
    }

    /// Reads on to the next values; whether there are any.
    fn has_more(&mut self, of_chunk: impl Fn(&ColumnChunkMetaData) -> Option<PlainValues>) -> Result<bool> {
        while self.left.len() == 0 {
            if self.open.is_none() && self.chunks.is_over() {
                return Ok(false);
            }
            self.read_page(&of_chunk)?;
        }
        Ok(true)
    }

    /// After the last values.
    ///
    /// # Errors
    /// If there are more.
    pub(in crate::scan) fn end(
        &mut self,
        of_chunk: impl Fn(&ColumnChunkMetaData) -> Option<PlainValues>,
    ) -> Result<()> {
        // Pages without a row that is kept may follow; all rows are counted as they are taken.
        if self.kept.is_some() {
            return Ok(());
        }
        match self.next(1, of_chunk)? {
            None => Ok(()),
            Some(_) => Err(invalid("has more values than its row groups have rows")),
        }
    }

    /// Puts the values of the next page in `left`, those that are kept; or opens the next column chunk.
    fn read_page(&mut self, of_chunk: impl Fn(&ColumnChunkMetaData) -> Option<PlainValues>) -> Result<()> {
        let Some((pages, plain)) = &mut self.open else {
            let Some((column, pages)) = self.chunks.next_chunk()? else { return Ok(()) };
            let plain = of_chunk(column).ok_or_else(|| invalid("is encoded"))?;
            self.open = Some((pages, plain));
            self.read.add(1);
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
                let mut buffer = self.emptied_buffer();
                let body = stored.body(&mut buffer, self.has_room)?;
                let (values, length) = (plain.of_page(&stored.page, body)?, body.len());
                let start = buffer.len() - length;
                self.buffer = buffer.into();
                Left::Buffered(start + values.start..start + values.end)
            }
        };
        Ok(())
    }

    fn read_kept(&mut self, stored: &StoredPage, plain: PlainValues, kept: &KeptRows) -> Result<()> {
        let mut buffer = self.emptied_buffer();
        if kept.has_any() {
            let mut whole = WHOLE_PAGE.take();
            let body = stored.body(&mut whole, true)?;
            let values = &body[plain.of_page(&stored.page, body)?];
            match plain.width() {
                4 => kept.copy::<4>(values, &mut buffer),
                8 => kept.copy::<8>(values, &mut buffer),
                _ => return Err(invalid("is of a width of which all rows are read")),
            }
            if whole.capacity() <= MOST_KEPT {
                WHOLE_PAGE.set(whole);
            }
        }
        self.left = Left::Buffered(0..buffer.len());
        self.buffer = buffer.into();
        Ok(())
    }

    /// For a page: that of the last one, if nobody uses it.
    fn emptied_buffer(&mut self) -> Vec<u8> {
        let mut buffer: Vec<u8> = take(&mut self.buffer).into_vec().unwrap_or_default();
        buffer.clear();
        buffer
    }
}

fn invalid(what: &str) -> ParquetError {
    ParquetError::General(format!("a column of plain values {what}"))
}
