//! Values of a fixed width that lie in their pages as they are.

use std::ops::Range;

use datafusion::arrow::datatypes::DataType;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

/// How the values of a column lie in its pages, all of them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlainValues {
    /// In bytes.
    width: usize,
    /// Definition levels come before them, none of which says NULL.
    has_levels: bool,
}

/// Where the definition levels lie in a page.
#[derive(Debug, Clone, Copy)]
enum Levels {
    /// Behind their length, in data pages of version 1.
    Prefixed,
    /// In as many bytes, in those of version 2.
    Of(usize),
}

impl PlainValues {
    /// `None` if a column chunk has other values than those of `data_type`, in their pages as in memory, or may have NULL.
    pub(super) fn of(column: &ColumnChunkMetaData, data_type: &DataType) -> Option<Self> {
        let width = width(column.column_descr().physical_type(), data_type)?;
        let are_there = column.column_descr().max_def_level() == 0 || null_count(column) == Some(0);
        if are_there { Self::of_width(column, width) } else { None }
    }

    /// The same of values of which the caller knows that they take so many bytes each. Without statistics there may be NULL: pages
    /// tell.
    #[expect(deprecated, reason = "old writers name the encoding of levels that are not there")]
    pub(super) fn of_width(column: &ColumnChunkMetaData, width: usize) -> Option<Self> {
        let descriptor = column.column_descr();
        let has_levels = descriptor.max_def_level() == 1;
        // Levels may be encoded as the others are.
        let are_plain = column
            .encodings()
            .all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::BIT_PACKED));
        let is_flat = descriptor.max_rep_level() == 0 && descriptor.max_def_level() <= 1;
        let has_null = has_levels && null_count(column).is_some_and(|count| count > 0);
        let is_it = is_flat && are_plain && !has_null && column.dictionary_page_offset().is_none();
        is_it.then_some(Self { width, has_levels })
    }

    /// Bytes of a value.
    pub(super) fn width(self) -> usize {
        self.width
    }

    /// Where the values lie in `body`, which is that of the data page `page`, decompressed.
    ///
    /// # Errors
    /// If it has fewer values, others, or NULL.
    pub(super) fn of_page(self, page: &Page, body: &[u8]) -> Result<Range<usize>> {
        let levels = match page {
            Page::DataPage { encoding: Encoding::PLAIN, def_level_encoding, .. }
                if !self.has_levels || *def_level_encoding == Encoding::RLE =>
            {
                Levels::Prefixed
            }
            Page::DataPageV2 {
                encoding: Encoding::PLAIN,
                num_nulls: 0,
                def_levels_byte_len,
                rep_levels_byte_len: 0,
                ..
            } => Levels::Of(usize::try_from(*def_levels_byte_len)?),
            _ => return Err(invalid("is not encoded as its column chunk")),
        };
        self.values(body, levels, page.num_values() as usize)
    }

    fn values(self, body: &[u8], levels: Levels, rows: usize) -> Result<Range<usize>> {
        let levels = self.levels(body, levels)?;
        if self.has_levels && !are_all_there(&body[levels.clone()], rows) {
            return Err(invalid("has NULL, which its column chunk has not"));
        }
        let end = rows.checked_mul(self.width).and_then(|length| levels.end.checked_add(length));
        match end.filter(|&end| end <= body.len()) {
            Some(end) => Ok(levels.end..end),
            None => Err(invalid("has fewer values than it says")),
        }
    }

    /// Where in `body` the levels lie; behind them are the values.
    fn levels(self, body: &[u8], levels: Levels) -> Result<Range<usize>> {
        let range = match levels {
            Levels::Of(length) => Some(0..length),
            Levels::Prefixed if !self.has_levels => Some(0..0),
            Levels::Prefixed => body
                .first_chunk()
                .and_then(|&length| usize::try_from(u32::from_le_bytes(length)).ok())
                .and_then(|length| Some(4..length.checked_add(4)?)),
        };
        range.filter(|range| range.end <= body.len()).ok_or_else(|| invalid("ends within its levels"))
    }
}

fn null_count(column: &ColumnChunkMetaData) -> Option<u64> {
    column.statistics()?.null_count_opt()
}

/// Bytes of a value of `data_type`, if it is in memory what it is in a page.
fn width(stored: PhysicalType, data_type: &DataType) -> Option<usize> {
    match (stored, data_type) {
        (
            PhysicalType::INT32,
            DataType::Int32 | DataType::UInt32 | DataType::Date32 | DataType::Time32(_),
        )
        | (PhysicalType::FLOAT, DataType::Float32) => Some(4),
        (
            PhysicalType::INT64,
            DataType::Int64
            | DataType::UInt64
            | DataType::Timestamp(..)
            | DataType::Time64(_)
            | DataType::Duration(_),
        )
        | (PhysicalType::DOUBLE, DataType::Float64) => Some(8),
        _ => None,
    }
}

fn invalid(what: &str) -> ParquetError {
    ParquetError::General(format!("a page {what}"))
}

/// Whether `levels`, of one bit each in runs and groups of eight, say of `rows` values that all are there.
fn are_all_there(mut levels: &[u8], rows: usize) -> bool {
    let mut known = 0_usize;
    while known < rows {
        let Some((header, rest)) = varint(levels) else { return false };
        let length = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        let (bytes, values) = match header & 1 {
            0 => (1, length),
            _ => (length, length.saturating_mul(8)),
        };
        let Some((run, rest)) = rest.split_at_checked(bytes) else { return false };
        let of_run = values.min(rows - known);
        let is_there = match header & 1 {
            0 => run == [1],
            // What follows the last value in its byte says nothing.
            _ => (0..of_run).step_by(8).zip(run).all(|(at, &byte)| {
                let bits = of_run - at;
                byte.trailing_ones() as usize >= bits.min(8)
            }),
        };
        if !is_there && of_run > 0 {
            return false;
        }
        known += of_run;
        levels = rest;
    }
    true
}

/// An unsigned number, seven bits to a byte, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::TimeUnit;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn other_columns_are_not_plain_values() {
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("plain", Arc::new(Int64Array::from_iter_values(0..10)), true),
            ("null", Arc::new(Int64Array::from_iter((0..10).map(|i| (i > 0).then_some(i)))), true),
            ("flag", Arc::new(BooleanArray::from(vec![true; 10])), false),
            ("dictionary", Arc::new(Int64Array::from(vec![7; 10])), false),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_column_dictionary_enabled("dictionary".into(), true)
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        let footer = writer.close().unwrap();
        let row_group = footer.row_group(0);
        let of = |column: &ColumnChunkMetaData| PlainValues::of(column, &DataType::Int64);
        let found: Vec<_> = row_group.columns().iter().map(of).collect();
        let plain = Some(PlainValues { width: 8, has_levels: true });
        assert_eq!(found, [plain, None, None, None]);
        let as_type = |data_type: DataType| PlainValues::of(row_group.column(0), &data_type);
        assert_eq!(as_type(DataType::Timestamp(TimeUnit::Second, None)), plain);
        let others = [DataType::Int32, DataType::Float64, DataType::Date64, DataType::Decimal128(9, 2)];
        assert_eq!(others.map(as_type), [None; 4]);
    }

    #[test]
    fn levels_say_whether_all_values_are_there() {
        // A run of 300; one of 8 and a group of 8, of which five bits count.
        assert!(are_all_there(&[0xd8, 0x04, 1], 300));
        assert!(are_all_there(&[0x10, 1, 0x03, 0b0001_1111], 13));
        assert!(are_all_there(&[], 0));
        assert!(!are_all_there(&[0xd8, 0x04, 1], 301), "one is missing");
        assert!(!are_all_there(&[0xd8, 0x04, 0], 300), "NULL");
        assert!(!are_all_there(&[0x03, 0b0001_0111], 5), "NULL");
        assert!(!are_all_there(&[0x05, 0xff], 16), "a byte is missing");
        assert!(are_all_there(&[0x00, 0, 0x01, 0x06, 1], 3), "empty runs, and one of three");
        assert!(!are_all_there(&[0x00, 1], 3), "an empty run");
        assert!(!are_all_there(&[0x80; 12], 3), "no number");
    }

    #[test]
    fn a_page_that_lies_is_an_error() {
        let plain = PlainValues { width: 4, has_levels: true };
        let page = [2, 0, 0, 0, 4, 1, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(plain.values(&page, Levels::Prefixed, 2).unwrap(), 6..14);
        for length in 0..page.len() {
            assert!(plain.values(&page[..length], Levels::Prefixed, 2).is_err(), "{length} bytes");
        }
        let mut null = page;
        null[5] = 0;
        assert!(plain.values(&null, Levels::Prefixed, 2).is_err());
        assert!(plain.values(&page, Levels::Of(99), 2).is_err());
        assert!(plain.values(&page, Levels::Of(0), usize::MAX).is_err());
    }
}
