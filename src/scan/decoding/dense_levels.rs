//! Columns none of whose values is NULL: where the values of a page begin, behind the levels that say so.

use std::ops::Range;

use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::code_runs::varint;

/// The definition levels of a column that is in no list and in no struct, all of whose values are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DenseLevels {
    /// It cannot have NULL: there are none.
    Absent,
    /// Before the values of each page.
    Stored,
}

/// Where they lie in a page.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Behind their length, in data pages of version 1.
    Prefixed,
    /// In as many bytes, in those of version 2.
    Of(usize),
}

impl DenseLevels {
    /// `None` if a column chunk has others, as far as is known of it: without statistics there may be NULL, and pages tell.
    pub(super) fn of(column: &ColumnChunkMetaData) -> Option<Self> {
        let descriptor = column.column_descr();
        let has_null = null_count(column).is_some_and(|count| count > 0);
        match (descriptor.max_rep_level(), descriptor.max_def_level()) {
            (0, 0) => Some(Self::Absent),
            (0, 1) if !has_null => Some(Self::Stored),
            _ => None,
        }
    }

    /// Whether it is known that a column chunk has no NULL.
    pub(super) fn proven_for(column: &ColumnChunkMetaData) -> bool {
        column.column_descr().max_def_level() == 0 || null_count(column) == Some(0)
    }

    /// Where the values begin in `body`, which is that of the data page `page`, decompressed.
    ///
    /// # Errors
    /// If it has other levels.
    pub(super) fn values_start(self, page: &Page, body: &[u8]) -> Result<usize> {
        let place = match page {
            Page::DataPage { .. } if self == Self::Absent => return Ok(0),
            Page::DataPage { def_level_encoding: Encoding::RLE, .. } => Place::Prefixed,
            Page::DataPageV2 { num_nulls: 0, def_levels_byte_len, rep_levels_byte_len: 0, .. } => {
                Place::Of(usize::try_from(*def_levels_byte_len)?)
            }
            _ => return Err(invalid("is not encoded as its column chunk")),
        };
        let levels = place.range(body).filter(|range| range.end <= body.len());
        let levels = levels.ok_or_else(|| invalid("ends within its levels"))?;
        if self == Self::Stored && !are_all_there(&body[levels.clone()], page.num_values() as usize) {
            return Err(invalid("has NULL, which its column chunk has not"));
        }
        Ok(levels.end)
    }
}

impl Place {
    fn range(self, body: &[u8]) -> Option<Range<usize>> {
        match self {
            Self::Of(length) => Some(0..length),
            Self::Prefixed => {
                let length = usize::try_from(u32::from_le_bytes(*body.first_chunk()?)).ok()?;
                Some(4..length.checked_add(4)?)
            }
        }
    }
}

fn null_count(column: &ColumnChunkMetaData) -> Option<u64> {
    column.statistics()?.null_count_opt()
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of version 1.
    pub(in crate::scan) fn data_page(body: &[u8], encoding: Encoding, num_values: u32) -> Page {
        Page::DataPage {
            buf: body.to_vec().into(),
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn data_page_v2(body: &[u8], num_values: u32, num_nulls: u32, levels: u32) -> Page {
        Page::DataPageV2 {
            buf: body.to_vec().into(),
            num_values,
            encoding: Encoding::PLAIN,
            num_nulls,
            num_rows: num_values,
            def_levels_byte_len: levels,
            rep_levels_byte_len: 0,
            is_compressed: false,
            statistics: None,
        }
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
    fn values_begin_behind_levels() {
        // A length, a run of two, and a value.
        let body = [2, 0, 0, 0, 4, 1, 7];
        let page = data_page(&body, Encoding::PLAIN, 2);
        assert_eq!(DenseLevels::Stored.values_start(&page, &body).unwrap(), 6);
        assert_eq!(DenseLevels::Absent.values_start(&page, &body).unwrap(), 0);
        for length in 0..6 {
            assert!(DenseLevels::Stored.values_start(&page, &body[..length]).is_err(), "{length} bytes");
        }
        let null = [2, 0, 0, 0, 4, 0, 7];
        assert!(DenseLevels::Stored.values_start(&page, &null).is_err());
        let body = [4, 1, 7];
        let start = |nulls, levels| {
            let page = data_page_v2(&body, 2, nulls, levels);
            DenseLevels::Stored.values_start(&page, &body).ok()
        };
        assert_eq!([start(0, 2), start(1, 2), start(0, 1), start(0, 9)], [Some(2), None, None, None]);
        let page = data_page_v2(&body, 2, 0, 0);
        assert_eq!(DenseLevels::Absent.values_start(&page, &body).unwrap(), 0);
        let dictionary = Page::DictionaryPage {
            buf: body.to_vec().into(),
            num_values: 2,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        assert!(DenseLevels::Absent.values_start(&dictionary, &body).is_err());
    }
}
