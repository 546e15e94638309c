//! Values of a fixed width that lie in their pages as they are.

use std::ops::Range;

use datafusion::arrow::datatypes::DataType;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::dense_levels::DenseLevels;

/// How the values of a column lie in its pages, all of them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scan) struct PlainValues {
    /// In bytes.
    width: usize,
    levels: DenseLevels,
}

impl PlainValues {
    /// `None` if a column chunk has other values than those of `data_type`, in their pages as in memory, or may have NULL.
    pub(in crate::scan) fn of(column: &ColumnChunkMetaData, data_type: &DataType) -> Option<Self> {
        let width = width(column.column_descr().physical_type(), data_type)?;
        if DenseLevels::proven_for(column) { Self::of_width(column, width) } else { None }
    }

    /// The same of values of which the caller knows that they take so many bytes each. Without statistics there may be NULL: pages
    /// tell.
    #[expect(deprecated, reason = "old writers name the encoding of levels that are not there")]
    pub(in crate::scan) fn of_width(column: &ColumnChunkMetaData, width: usize) -> Option<Self> {
        // Levels may be encoded as the others are.
        let are_plain = column
            .encodings()
            .all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::BIT_PACKED));
        let is_it = are_plain && column.dictionary_page_offset().is_none();
        DenseLevels::of(column).filter(|_| is_it).map(|levels| Self { width, levels })
    }

    /// Bytes of a value.
    pub(in crate::scan) fn width(self) -> usize {
        self.width
    }

    /// Where the values lie in `body`, which is that of the data page `page`, decompressed.
    ///
    /// # Errors
    /// If it has fewer values, others, or NULL.
    pub(in crate::scan) fn of_page(self, page: &Page, body: &[u8]) -> Result<Range<usize>> {
        if page.encoding() != Encoding::PLAIN {
            return Err(ParquetError::General("a page is not encoded as its column chunk".to_owned()));
        }
        let start = self.levels.values_start(page, body)?;
        let end =
            (page.num_values() as usize).checked_mul(self.width).and_then(|length| start.checked_add(length));
        match end.filter(|&end| end <= body.len()) {
            Some(end) => Ok(start..end),
            None => Err(ParquetError::EOF("a page has fewer values than it says".to_owned())),
        }
    }
}

/// Bytes of a value of `data_type`, if it is in memory what it is in a page.
pub(super) fn width(stored: PhysicalType, data_type: &DataType) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::TimeUnit;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::scan::decoding::dense_levels::tests::data_page;

    #[test]
    fn a_page_that_lies_is_an_error() {
        let of_page = |body: &[u8], encoding, num_values| {
            let plain = PlainValues { width: 4, levels: DenseLevels::Stored };
            plain.of_page(&data_page(body, encoding, num_values), body)
        };
        let page = [2, 0, 0, 0, 4, 1, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(of_page(&page, Encoding::PLAIN, 2).unwrap(), 6..14);
        for length in 0..page.len() {
            assert!(of_page(&page[..length], Encoding::PLAIN, 2).is_err(), "{length} bytes");
        }
        assert!(of_page(&page, Encoding::RLE_DICTIONARY, 2).is_err());
        assert!(of_page(&page, Encoding::PLAIN, 3).is_err());
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
        let row_group = footer.row_group(0);
        let of = |column: &ColumnChunkMetaData| PlainValues::of(column, &DataType::Int64);
        let found: Vec<_> = row_group.columns().iter().map(of).collect();
        let plain = found[0];
        assert!(plain.is_some_and(|plain| plain.width() == 8));
        assert_eq!(found[1..], [None; 3]);
        let as_type = |data_type: DataType| PlainValues::of(row_group.column(0), &data_type);
        assert_eq!(as_type(DataType::Timestamp(TimeUnit::Second, None)), plain);
        let others = [DataType::Int32, DataType::Float64, DataType::Date64, DataType::Decimal128(9, 2)];
        assert_eq!(others.map(as_type), [None; 4]);
    }
}
