//! A column of row groups whose pages have codes of a dictionary for values: they are looked up, and text is left as codes.
//!
//! `parquet` does that for any column, NULL or not, in several steps. Here nothing is NULL.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayData, ArrayRef, DictionaryArray, StringArray, UInt16Array, make_array};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::physical_plan::metrics::Count;
use parquet::basic::{ConvertedType, Encoding, Type as PhysicalType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::code_runs::CodeRuns;
use super::column_chunks::{ChunkPages, ChunksOfColumn, ColumnChunks, StoredPage};
use super::dense_levels::DenseLevels;
use super::plain_values::width;

/// Codes that are looked up at a time.
const CODES: usize = 1_024;

/// What a column of text is given as. A dictionary that has more texts than there are codes is an error.
pub(in crate::scan) fn code_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8))
}

/// Whether a column chunk has codes for all its values, none of them NULL, and they can be given as `data_type`.
pub(super) fn has_dictionary_only(column: &ColumnChunkMetaData, data_type: &DataType) -> bool {
    let stored = column.column_descr().physical_type();
    let is_given = match stored {
        PhysicalType::BYTE_ARRAY => *data_type == code_type(),
        _ => width(stored, data_type).is_some(),
    };
    is_given && are_codes(column) && DenseLevels::of(column).is_some() && DenseLevels::proven_for(column)
}

/// Whether all data pages of a column chunk hold codes.
fn are_codes(column: &ColumnChunkMetaData) -> bool {
    let all_are = |encoding| column.page_encoding_stats_mask().is_some_and(|mask| mask.is_only(encoding));
    column.dictionary_page_offset().is_some()
        && [Encoding::RLE_DICTIONARY, Encoding::PLAIN_DICTIONARY].into_iter().any(all_are)
}

/// Whether all data pages of a column chunk hold codes of what is text beyond doubt: of anything else `parquet` makes
/// dictionaries of bytes, whatever it was asked for.
pub(in crate::scan) fn are_codes_of_text(column: &ColumnChunkMetaData) -> bool {
    let is_flat = column.column_descr().max_rep_level() == 0 && column.column_descr().max_def_level() <= 1;
    column.column_type() == PhysicalType::BYTE_ARRAY
        && column.column_descr().converted_type() == ConvertedType::UTF8
        && is_flat
        && are_codes(column)
}

/// Gives the values of a column, none of them NULL.
pub(super) struct DictionaryColumn {
    data_type: DataType,
    chunks: ChunksOfColumn,
    /// The pages of the column chunk that is read.
    open: Option<OpenChunk>,
    /// The last page, decompressed.
    page: Vec<u8>,
    /// Its codes that were not given yet.
    runs: CodeRuns,
    left: usize,
    /// For those that are looked up.
    codes: Vec<u32>,
    /// Counts column chunks.
    read: Count,
}

struct OpenChunk {
    pages: ChunkPages,
    levels: DenseLevels,
    /// Its first page.
    dictionary: Option<Dictionary>,
}

enum Dictionary {
    Four(Vec<u32>),
    Eight(Vec<u64>),
    Text(ArrayRef),
}

impl DictionaryColumn {
    /// Of the column at `column` among those of the file, as `data_type`. Column chunks are counted in `read`.
    ///
    /// # Errors
    /// If the column was not read.
    pub(super) fn try_new(
        chunks: &ColumnChunks,
        column: usize,
        data_type: DataType,
        read: Count,
    ) -> Result<Self> {
        Ok(Self {
            data_type,
            chunks: chunks.pages_of(column)?,
            open: None,
            page: vec![],
            runs: CodeRuns::default(),
            left: 0,
            codes: Vec::with_capacity(CODES),
            read,
        })
    }

    /// The values of the next rows.
    ///
    /// # Errors
    /// If there are not so many, or a page is not what its column chunk says, or they are text of more than one dictionary.
    pub(super) fn next(&mut self, rows: usize) -> Result<ArrayRef> {
        let values = match self.data_type.primitive_width() {
            Some(4) => self.values(rows, Dictionary::four)?,
            Some(8) => self.values(rows, Dictionary::eight)?,
            _ => return self.coded_texts(rows),
        };
        let array = ArrayData::builder(self.data_type.clone()).len(rows).add_buffer(values);
        Ok(make_array(array.build()?))
    }

    fn values<T: ArrowNativeType>(
        &mut self,
        rows: usize,
        of: fn(&Dictionary) -> Option<&[T]>,
    ) -> Result<Buffer> {
        let mut values = Vec::with_capacity(rows);
        self.look_up(rows, |dictionary, codes| append(of(dictionary)?, codes, &mut values))?;
        Ok(values.into())
    }

    fn coded_texts(&mut self, rows: usize) -> Result<ArrayRef> {
        let mut keys: Vec<u16> = Vec::with_capacity(rows);
        self.need_more()?;
        let texts = Arc::clone(self.dictionary()?.texts().ok_or_else(|| invalid("has no text"))?);
        self.look_up(rows, |dictionary, codes| {
            dictionary.texts().filter(|others| Arc::ptr_eq(others, &texts))?;
            u16::try_from(codes.iter().copied().fold(0, u32::max)).ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            keys.extend(codes.iter().map(|&code| code as u16));
            Some(())
        })?;
        Ok(Arc::new(DictionaryArray::try_new(UInt16Array::from(keys), texts)?))
    }

    /// Gives the codes of the next rows to `what`, some at a time, and their dictionary.
    ///
    /// # Errors
    /// If `what` does not take them.
    fn look_up(
        &mut self,
        rows: usize,
        mut what: impl FnMut(&Dictionary, &[u32]) -> Option<()>,
    ) -> Result<()> {
        let mut missing = rows;
        while missing > 0 {
            self.need_more()?;
            let taken = missing.min(self.left).min(CODES);
            self.codes.clear();
            self.runs.append(&self.page, taken, &mut self.codes)?;
            what(self.dictionary()?, &self.codes).ok_or_else(|| invalid("has codes of other values"))?;
            self.left -= taken;
            missing -= taken;
        }
        Ok(())
    }

    fn dictionary(&self) -> Result<&Dictionary> {
        let dictionary = self.open.as_ref().and_then(|open| open.dictionary.as_ref());
        dictionary.ok_or_else(|| invalid("lacks a dictionary"))
    }

    /// After the last values.
    ///
    /// # Errors
    /// If there are more.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.has_more()? {
            false => Ok(()),
            true => Err(invalid("has more values than its row groups have rows")),
        }
    }

    fn need_more(&mut self) -> Result<()> {
        match self.has_more()? {
            true => Ok(()),
            false => Err(ParquetError::EOF("a column lacks values".to_owned())),
        }
    }

    /// Reads on to the next values; whether there are any.
    fn has_more(&mut self) -> Result<bool> {
        while self.left == 0 {
            let Some(open) = &mut self.open else {
                let Some((column, pages)) = self.chunks.next_chunk()? else { return Ok(false) };
                let levels = DenseLevels::of(column).ok_or_else(|| invalid("has NULL"))?;
                self.open = Some(OpenChunk { pages, levels, dictionary: None });
                self.read.add(1);
                continue;
            };
            match open.pages.next_stored()? {
                None => self.open = None,
                Some(stored) => self.open_page(&stored)?,
            }
        }
        Ok(true)
    }

    fn open_page(&mut self, stored: &StoredPage) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let start = match stored.is_compressed() {
            true => {
                let length = stored.body(&mut self.page, false)?.len();
                self.page.len() - length
            }
            false => {
                self.page.clear();
                self.page.extend_from_slice(stored.page.buffer());
                0
            }
        };
        let body = &self.page[start..];
        let is_new = open.dictionary.is_none();
        match stored.page.encoding() {
            Encoding::PLAIN | Encoding::PLAIN_DICTIONARY if !stored.page.is_data_page() && is_new => {
                let values = stored.page.num_values() as usize;
                open.dictionary = Some(Dictionary::try_new(&self.data_type, values, body)?);
            }
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if stored.page.is_data_page() => {
                let codes = start + open.levels.values_start(&stored.page, body)?;
                self.runs = CodeRuns::try_new(&self.page, codes)?;
                self.left = stored.page.num_values() as usize;
            }
            _ => return Err(invalid("has pages of another encoding than its column chunks say")),
        }
        Ok(())
    }
}

/// Appends what `codes` stand for; `None` if one stands for nothing.
fn append<T: Copy>(dictionary: &[T], codes: &[u32], values: &mut Vec<T>) -> Option<()> {
    let largest = codes.iter().copied().fold(0, u32::max) as usize;
    if largest >= dictionary.len() {
        return None;
    }
    values.extend(codes.iter().map(|&code| dictionary[code as usize]));
    Some(())
}

impl Dictionary {
    fn four(&self) -> Option<&[u32]> {
        if let Self::Four(values) = self { Some(values) } else { None }
    }

    fn eight(&self) -> Option<&[u64]> {
        if let Self::Eight(values) = self { Some(values) } else { None }
    }

    fn texts(&self) -> Option<&ArrayRef> {
        if let Self::Text(texts) = self { Some(texts) } else { None }
    }

    /// The first `values` of `page`.
    fn try_new(data_type: &DataType, values: usize, page: &[u8]) -> Result<Self> {
        let of_width = |width: usize| values.checked_mul(width).and_then(|length| page.get(..length));
        let dictionary = match data_type.primitive_width() {
            Some(4) => of_width(4).map(|bytes| {
                Self::Four(bytes.as_chunks().0.iter().map(|&value| u32::from_le_bytes(value)).collect())
            }),
            Some(8) => of_width(8).map(|bytes| {
                Self::Eight(bytes.as_chunks().0.iter().map(|&value| u64::from_le_bytes(value)).collect())
            }),
            _ if u16::try_from(values).is_err() => {
                return Err(invalid("has more texts than there are codes"));
            }
            _ => texts(values, page)?.map(Self::Text),
        };
        dictionary.ok_or_else(|| invalid("has a dictionary of fewer values than it says"))
    }
}

/// Each of `values` behind its length, in four bytes; `None` if there are fewer.
///
/// # Errors
/// If one is not UTF-8, or they are too long together.
fn texts(values: usize, page: &[u8]) -> Result<Option<ArrayRef>> {
    let (mut rest, mut bytes, mut lengths) = (page, Vec::with_capacity(page.len()), vec![]);
    for _ in 0..values {
        let Some((&length, behind)) = rest.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(length))?;
        let Some((text, behind)) = behind.split_at_checked(length) else { return Ok(None) };
        bytes.extend_from_slice(text);
        lengths.push(length);
        rest = behind;
    }
    if i32::try_from(bytes.len()).is_err() {
        return Err(invalid("has a dictionary of too much text"));
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Some(Arc::new(StringArray::try_new(offsets, bytes.into(), None)?)))
}

fn invalid(what: &str) -> ParquetError {
    ParquetError::General(format!("a column of codes {what}"))
}
