//! Pages of values of a fixed width, cut down to the rows that are kept before they are decoded.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::buffer::BooleanBuffer;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

/// Of the values of a page more than one in so many are kept: they are copied in runs, and else one by one.
const DENSE: usize = 2;

/// Of the rows of row groups those that are kept.
#[derive(Debug, Clone)]
pub(super) struct KeptRows {
    kept: BooleanBuffer,
    /// Which rows these are, of all that this was made for; `None` where they are copied in runs.
    places: Option<Arc<[u32]>>,
    /// The place of the first row.
    first: usize,
}

impl KeptRows {
    pub(super) fn new(kept: BooleanBuffer) -> Self {
        let is_sparse = kept.count_set_bits() <= kept.len() / DENSE && u32::try_from(kept.len()).is_ok();
        let places = is_sparse.then(|| kept.set_indices_u32().collect());
        Self { kept, places, first: 0 }
    }

    /// Rows, those included that are not kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Rows that are kept.
    pub(super) fn count(&self) -> usize {
        self.kept.count_set_bits()
    }

    pub(super) fn has_any(&self) -> bool {
        self.kept.has_true()
    }

    /// The first `rows`, which this then has no more; `None` if it has fewer.
    pub(super) fn take(&mut self, rows: usize) -> Option<Self> {
        let rest = self.kept.len().checked_sub(rows)?;
        let taken = Self { kept: self.kept.slice(0, rows), places: self.places.clone(), first: self.first };
        self.kept = self.kept.slice(rows, rest);
        self.first += rows;
        Some(taken)
    }

    /// Appends those of `values` that are kept; there is one for each row.
    fn copy<const WIDTH: usize>(&self, values: &[u8], to: &mut Vec<u8>) {
        let Some(places) = &self.places else {
            for (start, end) in self.kept.set_slices() {
                to.extend_from_slice(&values[start * WIDTH..end * WIDTH]);
            }
            return;
        };
        let first = places.partition_point(|&place| (place as usize) < self.first);
        let end = places.partition_point(|&place| (place as usize) < self.first + self.kept.len());
        let start = to.len();
        to.resize(start + (end - first) * WIDTH, 0);
        let (copies, _) = to[start..].as_chunks_mut::<WIDTH>();
        let (values, _) = values.as_chunks::<WIDTH>();
        for (copy, &place) in copies.iter_mut().zip(&places[first..end]) {
            *copy = values[place as usize - self.first];
        }
    }
}

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
pub(super) enum Levels {
    /// Behind their length, in data pages of version 1.
    Prefixed,
    /// In as many bytes, in those of version 2.
    Of(usize),
}

impl PlainValues {
    /// `None` if a column chunk has other values, or may have NULL.
    #[expect(deprecated, reason = "old writers name the encoding of levels that are not there")]
    pub(super) fn of(column: &ColumnChunkMetaData) -> Option<Self> {
        let descriptor = column.column_descr();
        let width = match descriptor.physical_type() {
            PhysicalType::INT32 | PhysicalType::FLOAT => 4,
            PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
            _ => return None,
        };
        let has_levels = descriptor.max_def_level() == 1;
        // Levels may be encoded as the others are.
        let are_plain = column
            .encodings()
            .all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::BIT_PACKED));
        let is_flat = descriptor.max_rep_level() == 0 && descriptor.max_def_level() <= 1;
        let are_there = !has_levels
            || column.statistics().is_some_and(|statistics| statistics.null_count_opt() == Some(0));
        let is_it = is_flat && are_plain && are_there && column.dictionary_page_offset().is_none();
        is_it.then_some(Self { width, has_levels })
    }

    pub(super) fn has_levels(self) -> bool {
        self.has_levels
    }

    /// The data page that has only those of the values of another that are `kept`.
    ///
    /// # Errors
    /// If `body`, which is that of the other, has fewer values, or NULL.
    pub(super) fn cut(self, body: &[u8], levels: Levels, kept: &KeptRows) -> Result<Page> {
        let levels = self.levels(body, levels)?;
        if self.has_levels && !are_all_there(&body[levels.clone()], kept.len()) {
            return Err(invalid("has NULL, which its column chunk has not"));
        }
        let values = kept.len().checked_mul(self.width);
        let Some(values) = values.and_then(|length| body[levels.end..].get(..length)) else {
            return Err(invalid("has fewer values than it says"));
        };
        let rows = u32::try_from(kept.count())?;
        let mut buffer = Vec::with_capacity(16 + rows as usize * self.width);
        if self.has_levels {
            let levels = levels_of_present(rows);
            buffer.extend_from_slice(&u32::try_from(levels.len())?.to_le_bytes());
            buffer.extend_from_slice(&levels);
        }
        match self.width {
            4 => kept.copy::<4>(values, &mut buffer),
            _ => kept.copy::<8>(values, &mut buffer),
        }
        Ok(Page::DataPage {
            buf: Bytes::from(buffer),
            num_values: rows,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })
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
        if !is_there || of_run == 0 {
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

/// One run of `rows` levels.
fn levels_of_present(rows: u32) -> Vec<u8> {
    let mut levels = vec![];
    let mut header = u64::from(rows) << 1;
    loop {
        let [lowest, ..] = header.to_le_bytes();
        header >>= 7;
        if header == 0 {
            levels.extend([lowest, 1]);
            return levels;
        }
        levels.push(lowest | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    };
    use datafusion::arrow::compute::{concat_batches, filter_record_batch};
    use datafusion::arrow::record_batch::RecordBatchReader;
    use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
    use parquet::arrow::{ArrowWriter, ProjectionMask, parquet_to_arrow_field_levels};
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;
    use crate::scan::column_chunks::ColumnChunks;

    const ROWS: i32 = 1000;

    /// Row groups of 300 rows, pages of 100.
    fn file(compression: Compression, version: WriterVersion) -> Bytes {
        let numbers = || 0..ROWS;
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("a", Arc::new(Int64Array::from_iter_values(numbers().map(|i| i64::from(i * i)))), false),
            ("b", Arc::new(Float64Array::from_iter_values(numbers().map(|i| f64::from(i % 50)))), true),
            ("c", Arc::new(Int32Array::from_iter_values(numbers())), true),
            ("d", Arc::new(Float32Array::from_iter_values(numbers().map(|i| i as f32))), false),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(300))
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(100)
            .set_encoding(Encoding::PLAIN)
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn joined(reader: ParquetRecordBatchReader) -> Option<RecordBatch> {
        let schema = reader.schema();
        let rows: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>().ok()?;
        concat_batches(&schema, &rows).ok()
    }

    /// `None`: an error, or a panic.
    fn decoded(file: &Bytes, kept: &BooleanBuffer) -> Option<RecordBatch> {
        let decode = || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
            let footer = builder.metadata();
            let fields = builder.schema().fields();
            let levels =
                parquet_to_arrow_field_levels(builder.parquet_schema(), ProjectionMask::all(), Some(fields));
            let columns = [0, 1, 2, 3];
            let row_groups: Vec<usize> = (0..footer.num_row_groups()).collect();
            let ranges =
                row_groups.iter().map(|&group| ColumnChunks::ranges(footer, group, &columns).unwrap());
            let cut = |range: Range<u64>| {
                file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            };
            let bytes = ranges.flatten().map(cut).collect();
            let chunks = ColumnChunks::new(Arc::clone(footer), row_groups.into(), columns.into(), bytes);
            let chunks = chunks.keeping(KeptRows::new(kept.clone()));
            joined(ParquetRecordBatchReader::try_new_with_row_groups(&levels.ok()?, &chunks, 64, None).ok()?)
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    fn expected(file: &Bytes, kept: &BooleanBuffer) -> Option<RecordBatch> {
        let decode = || {
            let rows = joined(ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().ok()?)?;
            filter_record_batch(&rows, &BooleanArray::new(kept.clone(), None)).ok()
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    fn kept(keep: impl Fn(usize) -> bool) -> BooleanBuffer {
        BooleanBuffer::collect_bool(ROWS as usize, keep)
    }

    const VERSIONS: [WriterVersion; 2] = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];

    #[test]
    fn the_rows_that_are_kept_are_those_that_a_filter_leaves() {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
        for compression in [zstd, Compression::UNCOMPRESSED, Compression::SNAPPY] {
            for version in VERSIONS {
                let file = file(compression, version);
                for kept in [
                    kept(|i| i % 10 == 3),
                    kept(|i| i % 10 != 3),
                    kept(|_| true),
                    kept(|_| false),
                    kept(|i| (250..650).contains(&i) || i == 999),
                ] {
                    let found = decoded(&file, &kept).unwrap();
                    assert_eq!(found.num_rows(), kept.count_set_bits());
                    assert_eq!(Some(found), expected(&file, &kept), "{compression} {version:?}");
                }
            }
        }
    }

    #[test]
    fn damaged_pages_are_an_error_or_what_parquet_reads_of_them() {
        let mut damaged = [0, 0];
        for version in VERSIONS {
            let whole = file(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()), version);
            let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone()).unwrap();
            let footer = builder.metadata();
            let end = footer.row_groups().iter().flat_map(|group| group.columns());
            let end = end.map(|column| column.byte_range()).map(|(start, length)| start + length).max();
            let kept = kept(|i| i % 7 == 2 && i / 100 != 4);
            for at in (4..usize::try_from(end.unwrap()).unwrap()).step_by(5) {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << (at % 8);
                let bytes = Bytes::from(bytes);
                let found = decoded(&bytes, &kept);
                damaged[usize::from(found.is_some())] += 1;
                // What `parquet` does not read may be in a page that is left out.
                if let (Some(found), Some(expected)) = (found, expected(&bytes, &kept)) {
                    assert_eq!(found, expected, "byte {at}");
                }
            }
        }
        assert!(damaged.iter().all(|&count| count > 100), "{damaged:?}");
    }

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
        let found: Vec<_> = footer.row_group(0).columns().iter().map(PlainValues::of).collect();
        assert_eq!(found, [Some(PlainValues { width: 8, has_levels: true }), None, None, None]);
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
        assert!(!are_all_there(&[0x00, 1], 3), "an empty run");
        assert!(!are_all_there(&[0x80; 12], 3), "no number");
        for rows in [0, 1, 63, 64, 8192, u32::MAX] {
            assert!(are_all_there(&levels_of_present(rows), rows as usize));
        }
    }

    #[test]
    fn a_page_that_lies_is_an_error() {
        let kept = KeptRows::new(BooleanBuffer::collect_bool(2, |i| i == 1));
        let plain = PlainValues { width: 4, has_levels: true };
        let page = [2, 0, 0, 0, 4, 1, 1, 0, 0, 0, 2, 0, 0, 0];
        let cut = plain.cut(&page, Levels::Prefixed, &kept).unwrap();
        assert_eq!(cut.buffer().as_ref(), [2, 0, 0, 0, 2, 1, 2, 0, 0, 0]);
        assert_eq!(cut.num_values(), 1);
        for length in 0..page.len() {
            assert!(plain.cut(&page[..length], Levels::Prefixed, &kept).is_err(), "{length} bytes");
        }
        let mut null = page;
        null[5] = 0;
        assert!(plain.cut(&null, Levels::Prefixed, &kept).is_err());
        assert!(plain.cut(&page, Levels::Of(99), &kept).is_err());
    }
}
