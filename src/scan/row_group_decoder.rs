//! Row groups, decoded to record batches: plain values are copied, and `parquet` decodes the other columns.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatchReader;
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::ParquetMetaData;

use super::column_chunks::ColumnChunks;
use super::kept_rows::KeptRows;
use super::plain_column::PlainColumn;
use super::plain_values::PlainValues;

/// Columns that are copied, at most, for the room that each of them has to be worth it.
const MOST_WITH_ROOM: usize = 16;

/// How each of some columns of a file is decoded.
pub(super) struct ColumnDecoders {
    footer: Arc<ParquetMetaData>,
    /// All columns of the file.
    found: SchemaRef,
    /// Positions of those that are decoded among the leaves of the file, ascending.
    columns: Arc<[usize]>,
    /// Of these.
    schema: SchemaRef,
    /// Which are copied in the first row group, as in most others if not all.
    in_first: Vec<bool>,
    /// Of the others; `None` without others.
    others: Option<FieldLevels>,
    /// Column chunks that are copied.
    copied: Count,
}

impl ColumnDecoders {
    /// `columns` are positions among the leaves of the file, none of them inside others, and `schema` is theirs.
    ///
    /// # Errors
    /// If they have no place in Arrow.
    pub(super) fn try_new(
        footer: &Arc<ParquetMetaData>,
        found: SchemaRef,
        columns: Arc<[usize]>,
        schema: SchemaRef,
        copied: Count,
    ) -> Result<Self> {
        let first: &[usize] = if footer.row_groups().is_empty() { &[] } else { &[0] };
        let in_first = are_plain(footer, &columns, &schema, first);
        let others = levels_of_others(footer, &found, &columns, &in_first)?;
        Ok(Self { footer: Arc::clone(footer), found, columns, schema, in_first, others, copied })
    }

    /// What the columns are decoded to, in the order of the file.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether all columns are copied in all of `row_groups`.
    pub(super) fn are_plain(&self, row_groups: &[usize]) -> bool {
        are_plain(&self.footer, &self.columns, &self.schema, row_groups).into_iter().all(|is_plain| is_plain)
    }

    /// Decodes `chunks`, which have the columns, to so many rows at once.
    ///
    /// # Errors
    /// If they cannot be decoded, or not to the types that were planned.
    pub(super) fn decode(&self, chunks: &ColumnChunks, rows_at_once: usize) -> Result<RowGroupDecoder> {
        let is_plain = are_plain(&self.footer, &self.columns, &self.schema, chunks.indices());
        let of_these;
        let levels = match is_plain == self.in_first {
            true => self.others.as_ref(),
            false => {
                of_these = levels_of_others(&self.footer, &self.found, &self.columns, &is_plain)?;
                of_these.as_ref()
            }
        };
        let others = levels.map(|levels| {
            ParquetRecordBatchReader::try_new_with_row_groups(levels, chunks, rows_at_once, None)
        });
        let others = others.transpose()?;

        let decoded = others.as_ref().map(ParquetRecordBatchReader::schema);
        let types = decoded.iter().flat_map(|schema| schema.fields()).map(|field| field.data_type());
        let expected = self.schema.fields().iter().zip(&is_plain).filter(|(_, is_plain)| !**is_plain);
        if !types.eq(expected.map(|(field, _)| field.data_type())) {
            return internal_err!("columns are decoded to other types than planned");
        }
        let plain = self.plain_columns(chunks, &is_plain, None)?;
        let (schema, rows) = (Arc::clone(&self.schema), chunks.num_rows());
        Ok(RowGroupDecoder { schema, is_plain, plain, others, rows, rows_at_once })
    }

    /// The same of the rows that are `kept`, of columns that [`Self::are_plain`].
    ///
    /// # Errors
    /// If one is not.
    pub(super) fn decode_kept(
        &self,
        chunks: &ColumnChunks,
        kept: &KeptRows,
        rows_at_once: usize,
    ) -> Result<RowGroupDecoder> {
        if !self.are_plain(chunks.indices()) {
            return internal_err!("rows of a column cannot be left out");
        }
        let is_plain = vec![true; self.columns.len()];
        let plain = self.plain_columns(chunks, &is_plain, Some(kept))?;
        let schema = Arc::clone(&self.schema);
        Ok(RowGroupDecoder { schema, is_plain, plain, others: None, rows: kept.count(), rows_at_once })
    }

    fn plain_columns(
        &self,
        chunks: &ColumnChunks,
        is_plain: &[bool],
        kept: Option<&KeptRows>,
    ) -> Result<Vec<PlainColumn>> {
        let columns = self.columns.iter().zip(self.schema.fields()).zip(is_plain);
        let has_room = is_plain.iter().filter(|is_plain| **is_plain).count() <= MOST_WITH_ROOM;
        let plain = columns.filter(|(_, is_plain)| **is_plain).map(|((&column, field), _)| {
            let (data_type, copied) = (field.data_type().clone(), self.copied.clone());
            Ok(PlainColumn::try_new(chunks, column, data_type, kept.cloned(), has_room, copied)?)
        });
        plain.collect()
    }
}

/// Which of the `columns` of a file, which `schema` describes, are plain values in all of `row_groups`.
fn are_plain(
    footer: &ParquetMetaData,
    columns: &[usize],
    schema: &Schema,
    row_groups: &[usize],
) -> Vec<bool> {
    let is_plain = |(&column, field): (&usize, &Arc<Field>)| {
        let of_group = |&group: &usize| {
            PlainValues::of(footer.row_group(group).column(column), field.data_type()).is_some()
        };
        row_groups.iter().all(of_group)
    };
    columns.iter().zip(schema.fields()).map(is_plain).collect()
}

/// Of those of `columns` that are not plain; `None` without any. `found`: all columns of the file.
fn levels_of_others(
    footer: &ParquetMetaData,
    found: &Schema,
    columns: &[usize],
    is_plain: &[bool],
) -> Result<Option<FieldLevels>> {
    let others = columns.iter().zip(is_plain).filter(|(_, is_plain)| !**is_plain).map(|(&column, _)| column);
    let others: Vec<usize> = others.collect();
    if others.is_empty() {
        return Ok(None);
    }
    let descriptor = footer.file_metadata().schema_descr();
    let mask = ProjectionMask::leaves(descriptor, others);
    Ok(Some(parquet_to_arrow_field_levels(descriptor, mask, Some(found.fields()))?))
}

/// Decodes some row groups, one after the other.
pub(super) struct RowGroupDecoder {
    schema: SchemaRef,
    /// Which columns are in `plain`.
    is_plain: Vec<bool>,
    plain: Vec<PlainColumn>,
    others: Option<ParquetRecordBatchReader>,
    /// That are still to come.
    rows: usize,
    rows_at_once: usize,
}

impl RowGroupDecoder {
    /// `None` at the end.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let others = self.others.as_mut().and_then(Iterator::next).transpose()?;
        if self.plain.is_empty() {
            return Ok(others);
        }
        let rows = self.rows.min(self.rows_at_once);
        let of_others = others.as_ref().map_or(0, RecordBatch::num_rows);
        if self.others.is_some() && of_others != rows {
            return internal_err!("{of_others} rows are decoded, expected {rows}");
        }
        if rows == 0 {
            self.plain.iter_mut().try_for_each(PlainColumn::end)?;
            return Ok(None);
        }
        let mut others = others.iter().flat_map(RecordBatch::columns);
        let mut plain = self.plain.iter_mut();
        let column = |is_plain: &bool| -> Result<Option<ArrayRef>> {
            match is_plain {
                true => Ok(plain.next().map(|column| column.next(rows)).transpose()?),
                false => Ok(others.next().cloned()),
            }
        };
        let Some(columns) = self.is_plain.iter().map(column).collect::<Result<Option<Vec<_>>>>()? else {
            return internal_err!("a column is not decoded");
        };
        self.rows -= rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }
}

impl Iterator for RowGroupDecoder {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use bytes::Bytes;
    use datafusion::arrow::array::{
        BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };
    use datafusion::arrow::buffer::BooleanBuffer;
    use datafusion::arrow::compute::{concat_batches, filter_record_batch};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::file::metadata::ParquetMetaDataBuilder;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    const ROWS: i32 = 1000;

    const VERSIONS: [WriterVersion; 2] = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];

    /// Row groups of 300 rows, pages of 100. Plain values, and with `others` a text and numbers with NULL between them.
    fn file(compression: Compression, version: WriterVersion, others: bool) -> Bytes {
        let numbers = || 0..ROWS;
        let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("a", Arc::new(Int64Array::from_iter_values(numbers().map(|i| i64::from(i * i)))), false),
            ("b", Arc::new(Float64Array::from_iter_values(numbers().map(|i| f64::from(i % 50)))), true),
            ("c", Arc::new(Int32Array::from_iter_values(numbers())), true),
            ("d", Arc::new(Float32Array::from_iter_values(numbers().map(|i| i as f32))), false),
        ];
        if others {
            let text = numbers().map(|i| format!("text {}", i % 7));
            columns.insert(0, ("t", Arc::new(StringArray::from_iter_values(text)), true));
            let null = numbers().map(|i| (i % 3 > 0).then_some(i64::from(i)));
            columns.insert(3, ("n", Arc::new(Int64Array::from_iter(null)), true));
            let time = numbers().map(|i| i64::from(i) << 30);
            let time = TimestampMicrosecondArray::from_iter_values(time).with_timezone("UTC");
            columns.push(("z", Arc::new(time), true));
        }
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(false)
            .set_column_dictionary_enabled("t".into(), true)
            .set_max_row_group_row_count(Some(300))
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(100)
            .set_encoding(Encoding::PLAIN)
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn joined(schema: &SchemaRef, rows: &[RecordBatch]) -> Option<RecordBatch> {
        concat_batches(schema, rows).ok()
    }

    /// How many column chunks are copied, and the rows; all without `kept`, as record batches of 64 rows. `None`: an error, or a
    /// panic.
    fn decoded(file: &Bytes, kept: Option<&BooleanBuffer>) -> Option<(usize, RecordBatch)> {
        let decode = || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
            let (footer, schema) = (builder.metadata(), builder.schema());
            let columns: Arc<[usize]> = (0..schema.fields().len()).collect();
            let row_groups: Vec<usize> = (0..footer.num_row_groups()).collect();
            let ranges =
                row_groups.iter().map(|&group| ColumnChunks::ranges(footer, group, &columns).unwrap());
            let cut = |range: Range<u64>| {
                file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            };
            let bytes = ranges.flatten().map(cut).collect();
            let chunks =
                ColumnChunks::new(Arc::clone(footer), row_groups.into(), Arc::clone(&columns), bytes);
            let (found, given) = (Arc::clone(schema), Arc::clone(schema));
            let copied = Count::new();
            let decoders = ColumnDecoders::try_new(footer, found, columns, given, copied.clone()).ok()?;
            let decoder = match kept {
                None => decoders.decode(&chunks, 64),
                Some(kept) => decoders.decode_kept(&chunks, &KeptRows::new(kept.clone()), 64),
            };
            let rows = decoder.ok()?.collect::<Result<Vec<_>>>().ok()?;
            if let Some((last, others)) = rows.split_last() {
                assert!(
                    others.iter().all(|rows| rows.num_rows() == 64) && (1..=64).contains(&last.num_rows())
                );
            }
            Some((copied.value(), joined(schema, &rows)?))
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    fn expected(file: &Bytes, kept: Option<&BooleanBuffer>) -> Option<RecordBatch> {
        let decode = || {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().ok()?;
            let schema = reader.schema();
            let rows: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>().ok()?;
            let rows = joined(&schema, &rows)?;
            match kept {
                None => Some(rows),
                Some(kept) => filter_record_batch(&rows, &BooleanArray::new(kept.clone(), None)).ok(),
            }
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    fn kept(keep: impl Fn(usize) -> bool) -> BooleanBuffer {
        BooleanBuffer::collect_bool(ROWS as usize, keep)
    }

    fn compressions() -> [Compression; 3] {
        [Compression::ZSTD(ZstdLevel::try_new(3).unwrap()), Compression::UNCOMPRESSED, Compression::SNAPPY]
    }

    #[test]
    fn plain_values_are_copied_beside_what_parquet_decodes() {
        for compression in compressions() {
            for version in VERSIONS {
                for (others, copies) in [(false, 16), (true, 20)] {
                    let file = file(compression, version, others);
                    let (copied, found) = decoded(&file, None).unwrap();
                    assert_eq!(Some(found), expected(&file, None), "{compression} {version:?}");
                    assert_eq!(copied, copies);
                }
            }
        }
    }

    #[test]
    fn the_rows_that_are_kept_are_those_that_a_filter_leaves() {
        for compression in compressions() {
            for version in VERSIONS {
                let file = file(compression, version, false);
                for kept in [
                    kept(|i| i % 10 == 3),
                    kept(|i| i % 10 != 3),
                    kept(|_| true),
                    kept(|i| (250..650).contains(&i) || i == 999),
                ] {
                    let (copied, found) = decoded(&file, Some(&kept)).unwrap();
                    assert_eq!(found.num_rows(), kept.count_set_bits());
                    assert_eq!(Some(found), expected(&file, Some(&kept)), "{compression} {version:?}");
                    assert_eq!(copied, 16);
                }
                assert!(decoded(&file, Some(&kept(|_| false))).is_some_and(|(_, rows)| rows.num_rows() == 0));
            }
        }
        let file = file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0, true);
        assert_eq!(decoded(&file, Some(&kept(|_| true))), None, "a text has no rows to leave out");
    }

    #[test]
    fn more_values_than_rows_are_an_error() {
        let file = file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0, false);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let (footer, schema) = (builder.metadata(), builder.schema());
        for (rows, is_right) in [(300, true), (200, false), (250, false)] {
            let group = footer.row_group(0).clone().into_builder().set_num_rows(rows).build().unwrap();
            let footer = ParquetMetaDataBuilder::new(footer.file_metadata().clone()).add_row_group(group);
            let (footer, columns) = (Arc::new(footer.build()), Arc::<[usize]>::from([1]));
            let ranges = ColumnChunks::ranges(&footer, 0, &columns).unwrap();
            let range = usize::try_from(ranges[0].start).unwrap()..usize::try_from(ranges[0].end).unwrap();
            let bytes = vec![file.slice(range)];
            let chunks = ColumnChunks::new(Arc::clone(&footer), [0].into(), Arc::clone(&columns), bytes);
            let only = Arc::new(schema.project(&[1]).unwrap());
            let decoders =
                ColumnDecoders::try_new(&footer, Arc::clone(schema), columns, only, Count::new()).unwrap();
            let found = decoders.decode(&chunks, 64).unwrap().collect::<Result<Vec<_>>>();
            assert_eq!(found.is_ok(), is_right, "{rows} rows");
        }
    }

    #[test]
    fn a_large_page_is_copied_record_batch_by_record_batch() {
        let values: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..100_000).map(|i| f64::from(i).sin())));
        let rows = RecordBatch::try_from_iter([("v", values)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(70_000))
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        let file = Bytes::from(writer.into_inner().unwrap());
        assert_eq!(decoded(&file, None), Some((2, rows)));
    }

    #[test]
    fn damaged_pages_are_an_error_or_what_parquet_reads_of_them() {
        let some = kept(|i| i % 7 == 2 && i / 100 != 4);
        for (others, kept) in [(false, Some(&some)), (false, None), (true, None)] {
            let mut damaged = [0, 0];
            for version in VERSIONS {
                let whole = file(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()), version, others);
                let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone()).unwrap();
                let footer = builder.metadata();
                let end = footer.row_groups().iter().flat_map(|group| group.columns());
                let end = end.map(|column| column.byte_range()).map(|(start, length)| start + length).max();
                for at in (4..usize::try_from(end.unwrap()).unwrap()).step_by(5) {
                    let mut bytes = whole.to_vec();
                    bytes[at] ^= 1 << (at % 8);
                    let bytes = Bytes::from(bytes);
                    let found = decoded(&bytes, kept).map(|(_, rows)| rows);
                    damaged[usize::from(found.is_some())] += 1;
                    let Some(found) = found else { continue };
                    match expected(&bytes, kept) {
                        Some(expected) => assert_eq!(found, expected, "byte {at}"),
                        // It may be in a page that is left out.
                        None => assert!(kept.is_some(), "byte {at}"),
                    }
                }
            }
            assert!(damaged.iter().all(|&count| count > 100), "{damaged:?}");
        }
    }
}
