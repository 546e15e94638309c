//! Row groups, decoded to record batches: plain values are copied, codes looked up in their dictionaries, and `parquet` decodes the
//! other columns.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatchReader;
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::column_chunks::ColumnChunks;
use super::dictionary_column::{DictionaryColumn, has_dictionary_only};
use super::kept_rows::KeptRows;
use super::plain_column::{PlainColumn, PlainCounts, PlainOptions};
use super::plain_values::PlainValues;

/// Columns that are copied, at most, for the room that each of them has to be worth it.
const MOST_WITH_ROOM: usize = 16;

/// How each of some columns of a file is decoded.
pub(in crate::scan) struct ColumnDecoders {
    footer: Arc<ParquetMetaData>,
    /// All columns of the file.
    found: SchemaRef,
    /// Positions of those that are decoded among the leaves of the file, ascending.
    columns: Arc<[usize]>,
    /// Of these.
    schema: SchemaRef,
    /// Of these in the first row group, as in most others if not all.
    in_first: Vec<Layout>,
    /// Of those of other layouts; `None` without any.
    others: Option<FieldLevels>,
    /// Values may stay in their pages.
    in_place: bool,
    counts: ColumnCounts,
}

/// What is counted.
#[derive(Debug, Clone)]
pub(in crate::scan) struct ColumnCounts {
    pub(in crate::scan) plain: PlainCounts,
    /// Column chunks whose codes are looked up in their dictionaries, or given.
    pub(in crate::scan) dictionary: Count,
}

/// How the values of a column lie in some row groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Plain,
    Dictionary,
    Other,
}

impl Layout {
    /// Of a column in all of `row_groups`, decoded to `data_type`.
    fn of(footer: &ParquetMetaData, column: usize, data_type: &DataType, row_groups: &[usize]) -> Self {
        let is_in_all = |is_so: fn(&ColumnChunkMetaData, &DataType) -> bool| {
            row_groups.iter().all(|&group| is_so(footer.row_group(group).column(column), data_type))
        };
        if is_in_all(|column, data_type| PlainValues::of(column, data_type).is_some()) {
            Self::Plain
        } else if is_in_all(has_dictionary_only) {
            Self::Dictionary
        } else {
            Self::Other
        }
    }
}

impl ColumnDecoders {
    /// `columns` are positions among the leaves of the file, none of them inside others, and `schema` is theirs. `in_place`: values
    /// may stay in their pages, for those who are done with a record batch before they ask for the next.
    ///
    /// # Errors
    /// If they have no place in Arrow.
    pub(in crate::scan) fn try_new(
        footer: &Arc<ParquetMetaData>,
        found: SchemaRef,
        columns: Arc<[usize]>,
        schema: SchemaRef,
        in_place: bool,
        counts: ColumnCounts,
    ) -> Result<Self> {
        let first: &[usize] = if footer.row_groups().is_empty() { &[] } else { &[0] };
        let in_first = layouts(footer, &columns, &schema, first);
        let others = levels_of_others(footer, &found, &columns, &in_first)?;
        Ok(Self { footer: Arc::clone(footer), found, columns, schema, in_first, others, in_place, counts })
    }

    /// What the columns are decoded to, in the order of the file.
    pub(in crate::scan) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether all columns are copied in all of `row_groups`.
    pub(in crate::scan) fn are_plain(&self, row_groups: &[usize]) -> bool {
        self.layouts(row_groups).iter().all(|layout| *layout == Layout::Plain)
    }

    fn layouts(&self, row_groups: &[usize]) -> Vec<Layout> {
        layouts(&self.footer, &self.columns, &self.schema, row_groups)
    }

    /// Decodes `chunks`, which have the columns, to so many rows at once.
    ///
    /// # Errors
    /// If they cannot be decoded, or not to the types that were planned.
    pub(in crate::scan) fn decode(
        &self,
        chunks: &ColumnChunks,
        rows_at_once: usize,
    ) -> Result<RowGroupDecoder> {
        let layouts = self.layouts(chunks.indices());
        let of_these;
        let levels = match layouts == self.in_first {
            true => self.others.as_ref(),
            false => {
                of_these = levels_of_others(&self.footer, &self.found, &self.columns, &layouts)?;
                of_these.as_ref()
            }
        };
        let others = levels.map(|levels| {
            ParquetRecordBatchReader::try_new_with_row_groups(levels, chunks, rows_at_once, None)
        });
        let others = others.transpose()?;

        let decoded = others.as_ref().map(ParquetRecordBatchReader::schema);
        let types = decoded.iter().flat_map(|schema| schema.fields()).map(|field| field.data_type());
        let fields = self.schema.fields().iter().zip(&layouts);
        let expected = fields.filter(|(_, layout)| **layout == Layout::Other);
        if !types.eq(expected.map(|(field, _)| field.data_type())) {
            return internal_err!("columns are decoded to other types than planned");
        }
        let columns = self.column_decoders(chunks, &layouts, None)?;
        let (schema, rows) = (Arc::clone(&self.schema), chunks.num_rows());
        Ok(RowGroupDecoder { schema, columns, others, rows, rows_at_once })
    }

    /// The same of the rows that are `kept`, of columns that [`Self::are_plain`].
    ///
    /// # Errors
    /// If one is not.
    pub(in crate::scan) fn decode_kept(
        &self,
        chunks: &ColumnChunks,
        kept: &KeptRows,
        rows_at_once: usize,
    ) -> Result<RowGroupDecoder> {
        if !self.are_plain(chunks.indices()) {
            return internal_err!("rows of a column cannot be left out");
        }
        let layouts = vec![Layout::Plain; self.columns.len()];
        let columns = self.column_decoders(chunks, &layouts, Some(kept))?;
        let schema = Arc::clone(&self.schema);
        Ok(RowGroupDecoder { schema, columns, others: None, rows: kept.count(), rows_at_once })
    }

    fn column_decoders(
        &self,
        chunks: &ColumnChunks,
        layouts: &[Layout],
        kept: Option<&KeptRows>,
    ) -> Result<Vec<ColumnDecoder>> {
        let plain = layouts.iter().filter(|layout| **layout == Layout::Plain).count();
        let options = PlainOptions { has_room: plain <= MOST_WITH_ROOM, in_place: self.in_place };
        let of_column = |((&column, field), layout): ((&usize, &Arc<Field>), &Layout)| {
            let data_type = field.data_type().clone();
            Ok(match layout {
                Layout::Plain => {
                    let (kept, counts) = (kept.cloned(), &self.counts.plain);
                    let plain = PlainColumn::try_new(chunks, column, data_type, kept, options, counts)?;
                    ColumnDecoder::Plain(plain)
                }
                Layout::Dictionary => {
                    let count = self.counts.dictionary.clone();
                    ColumnDecoder::Dictionary(DictionaryColumn::try_new(chunks, column, data_type, count)?)
                }
                Layout::Other => ColumnDecoder::Other,
            })
        };
        self.columns.iter().zip(self.schema.fields()).zip(layouts).map(of_column).collect()
    }
}

/// Of the `columns` of a file, which `schema` describes, in `row_groups`.
fn layouts(
    footer: &ParquetMetaData,
    columns: &[usize],
    schema: &Schema,
    row_groups: &[usize],
) -> Vec<Layout> {
    let columns = columns.iter().zip(schema.fields());
    columns.map(|(&column, field)| Layout::of(footer, column, field.data_type(), row_groups)).collect()
}

/// Of those of `columns` that have another layout; `None` without any. `found`: all columns of the file.
fn levels_of_others(
    footer: &ParquetMetaData,
    found: &Schema,
    columns: &[usize],
    layouts: &[Layout],
) -> Result<Option<FieldLevels>> {
    let others = columns.iter().zip(layouts).filter(|(_, layout)| **layout == Layout::Other);
    let others: Vec<usize> = others.map(|(&column, _)| column).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let descriptor = footer.file_metadata().schema_descr();
    let mask = ProjectionMask::leaves(descriptor, others);
    Ok(Some(parquet_to_arrow_field_levels(descriptor, mask, Some(found.fields()))?))
}

/// Decodes some row groups, one after the other.
pub(in crate::scan) struct RowGroupDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnDecoder>,
    others: Option<ParquetRecordBatchReader>,
    /// That are still to come.
    rows: usize,
    rows_at_once: usize,
}

enum ColumnDecoder {
    Plain(PlainColumn),
    Dictionary(DictionaryColumn),
    /// By `parquet`.
    Other,
}

impl ColumnDecoder {
    fn end(&mut self) -> Result<()> {
        match self {
            Self::Plain(column) => column.end()?,
            Self::Dictionary(column) => column.end()?,
            Self::Other => {}
        }
        Ok(())
    }
}

impl RowGroupDecoder {
    /// `None` at the end.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let others = self.others.as_mut().and_then(Iterator::next).transpose()?;
        if self.columns.iter().all(|column| matches!(column, ColumnDecoder::Other)) {
            return Ok(others);
        }
        let rows = self.rows.min(self.rows_at_once);
        let of_others = others.as_ref().map_or(0, RecordBatch::num_rows);
        if self.others.is_some() && of_others != rows {
            return internal_err!("{of_others} rows are decoded, expected {rows}");
        }
        if rows == 0 {
            self.columns.iter_mut().try_for_each(ColumnDecoder::end)?;
            return Ok(None);
        }
        let mut others = others.iter().flat_map(RecordBatch::columns);
        let next = |column: &mut ColumnDecoder| -> Result<Option<ArrayRef>> {
            Ok(match column {
                ColumnDecoder::Plain(column) => Some(column.next(rows)?),
                ColumnDecoder::Dictionary(column) => Some(column.next(rows)?),
                ColumnDecoder::Other => others.next().cloned(),
            })
        };
        let Some(columns) = self.columns.iter_mut().map(next).collect::<Result<Option<Vec<_>>>>()? else {
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
    use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::file::metadata::ParquetMetaDataBuilder;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;
    use crate::scan::decoding::dictionary_column::code_type;

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

    /// The same of columns with dictionaries: of 20 kinds of values each, of one, and text.
    fn coded_file(compression: Compression, version: WriterVersion) -> Bytes {
        let numbers = || 0..ROWS;
        let columns: [(&str, ArrayRef, bool); 5] = [
            ("a", Arc::new(Int64Array::from_iter_values(numbers().map(|i| i64::from(i % 20) << 40))), false),
            ("b", Arc::new(Float64Array::from_iter_values(numbers().map(|i| f64::from(i / 9 % 20)))), true),
            ("c", Arc::new(Int32Array::from_iter_values(numbers().map(|i| i * 7 % 19))), true),
            ("d", Arc::new(Float32Array::from_iter_values(numbers().map(|_| 1.5))), false),
            (
                "t",
                Arc::new(StringArray::from_iter_values(numbers().map(|i| "é".repeat(i as usize % 20)))),
                true,
            ),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_max_row_group_row_count(Some(300))
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(100)
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn counts() -> ColumnCounts {
        let plain = PlainCounts { chunks: Count::new(), in_place: Count::new() };
        ColumnCounts { plain, dictionary: Count::new() }
    }

    fn joined(schema: &SchemaRef, rows: &[RecordBatch]) -> Option<RecordBatch> {
        concat_batches(schema, rows).ok()
    }

    /// How many column chunks are copied, and the rows; all without `kept`, as record batches of 64 rows. `None`: an error, or a
    /// panic.
    fn decoded(file: &Bytes, kept: Option<&BooleanBuffer>) -> Option<(usize, RecordBatch)> {
        let [copied, in_place] = [false, true].map(|in_place| decoded_so(file, kept, in_place));
        assert_eq!(copied.as_ref().map(|(_, rows)| rows), in_place.as_ref().map(|(_, rows)| rows));
        if let Some((counts, _)) = &copied {
            assert_eq!(counts.plain.in_place.value(), 0);
        }
        in_place.map(|(counts, rows)| (counts.plain.chunks.value(), rows))
    }

    fn decoded_so(
        file: &Bytes,
        kept: Option<&BooleanBuffer>,
        in_place: bool,
    ) -> Option<(ColumnCounts, RecordBatch)> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let row_groups: Vec<usize> = (0..builder.metadata().num_row_groups()).collect();
        let decode = || decoded_as(builder.schema(), file, &row_groups, kept, in_place);
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    /// As columns of `schema`. `None`: an error.
    fn decoded_as(
        schema: &SchemaRef,
        file: &Bytes,
        row_groups: &[usize],
        kept: Option<&BooleanBuffer>,
        in_place: bool,
    ) -> Option<(ColumnCounts, RecordBatch)> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let footer = builder.metadata();
        let columns: Arc<[usize]> = (0..schema.fields().len()).collect();
        let ranges = row_groups.iter().map(|&group| ColumnChunks::ranges(footer, group, &columns).unwrap());
        let cut = |range: Range<u64>| {
            file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
        };
        let bytes = ranges.flatten().map(cut).collect();
        let chunks = ColumnChunks::new(Arc::clone(footer), row_groups.into(), Arc::clone(&columns), bytes);
        let (found, given) = (Arc::clone(schema), Arc::clone(schema));
        let counts = counts();
        let decoders =
            ColumnDecoders::try_new(footer, found, columns, given, in_place, counts.clone()).ok()?;
        let decoder = match kept {
            None => decoders.decode(&chunks, 64),
            Some(kept) => decoders.decode_kept(&chunks, &KeptRows::new(kept.clone()), 64),
        };
        let rows = decoder.ok()?.collect::<Result<Vec<_>>>().ok()?;
        if let Some((last, others)) = rows.split_last() {
            assert!(others.iter().all(|rows| rows.num_rows() == 64) && (1..=64).contains(&last.num_rows()));
        }
        Some((counts, joined(schema, &rows)?))
    }

    fn expected(file: &Bytes, kept: Option<&BooleanBuffer>) -> Option<RecordBatch> {
        let decode = || {
            // What `parquet` makes of damaged values depends on how many it reads at a time.
            let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
            let reader = builder.with_batch_size(64).build().ok()?;
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
    fn codes_are_looked_up_in_their_dictionaries() {
        for compression in compressions() {
            for version in VERSIONS {
                let file = coded_file(compression, version);
                let (counts, found) = decoded_so(&file, None, false).unwrap();
                assert_eq!(Some(found), expected(&file, None), "{compression} {version:?}");
                assert_eq!(counts.dictionary.value(), 16, "of four columns");
                assert_eq!(counts.plain.chunks.value(), 0);
            }
        }
    }

    /// The rows of a row group of [`coded_file`], its text decoded as codes, and how many column chunks were looked up. `None`: an
    /// error.
    fn decoded_codes(file: &Bytes, row_groups: &[usize]) -> Option<(usize, RecordBatch)> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let mut fields: Vec<Arc<Field>> = builder.schema().fields().iter().cloned().collect();
        fields[4] = Arc::new(Field::new("t", code_type(), true));
        let with_codes = Arc::new(Schema::new(fields));
        let (counts, found) = decoded_as(&with_codes, file, row_groups, None, true)?;
        let mut columns = found.columns().to_vec();
        columns[4] = cast(&columns[4], &DataType::Utf8).unwrap();
        let rows = RecordBatch::try_new(Arc::clone(builder.schema()), columns).unwrap();
        Some((counts.dictionary.value(), rows))
    }

    #[test]
    fn text_is_given_as_codes_where_it_is_asked_for() {
        let file = coded_file(Compression::ZSTD(ZstdLevel::try_new(3).unwrap()), WriterVersion::PARQUET_2_0);
        let all = expected(&file, None).unwrap();
        for row_group in 0..4 {
            let (looked_up, found) = decoded_codes(&file, &[row_group]).unwrap();
            assert_eq!(looked_up, 5);
            assert_eq!(found, all.slice(300 * row_group, found.num_rows()), "row group {row_group}");
        }
        // Each row group has a dictionary of its own.
        assert_eq!(decoded_codes(&file, &[0, 1]), None);
    }

    #[test]
    fn damaged_codes_are_an_error_or_what_parquet_reads_of_them() {
        let mut damaged = [0, 0];
        for version in VERSIONS {
            let whole = coded_file(Compression::UNCOMPRESSED, version);
            let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone()).unwrap();
            let columns = builder.metadata().row_group(1).columns().iter().map(|column| column.byte_range());
            let start = columns.clone().map(|(start, _)| start).min().unwrap();
            let end = columns.map(|(start, length)| start + length).max().unwrap();
            for at in usize::try_from(start).unwrap()..usize::try_from(end).unwrap() {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << (at % 8);
                let bytes = Bytes::from(bytes);
                // Not caught: `parquet` may panic, and this may not.
                let found = decoded_codes(&bytes, &[1]);
                damaged[usize::from(found.is_some())] += 1;
                let Some((_, found)) = found else { continue };
                let expected = expected(&bytes, None).map(|rows| rows.slice(300, 300));
                assert_eq!(Some(found), expected, "byte {at}");
            }
        }
        assert!(damaged.iter().all(|&count| count > 100), "{damaged:?}");
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
                ColumnDecoders::try_new(&footer, Arc::clone(schema), columns, only, true, counts()).unwrap();
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
        assert_eq!(decoded(&file, None), Some((2, rows.clone())));
        // All but the two record batches that end in another page than they begin: pages have 20,480 rows, or the rest of a row group.
        let (counts, found) = decoded_so(&file, None, true).unwrap();
        assert_eq!(found, rows);
        assert_eq!(counts.plain.in_place.value(), 100_000 - 2 * 64);
    }

    #[test]
    fn damaged_pages_are_an_error_or_what_parquet_reads_of_them() {
        let some = kept(|i| i % 7 == 2 && i / 100 != 4);
        let zstd = || Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
        for (others, kept) in [(false, Some(&some)), (false, None), (true, None)] {
            let mut damaged = [0, 0];
            for version in VERSIONS {
                let whole = file(zstd(), version, others);
                let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone()).unwrap();
                let footer = builder.metadata();
                let end = footer.row_groups().iter().flat_map(|group| group.columns());
                let end = end.map(|column| column.byte_range()).map(|(start, length)| start + length).max();
                for at in (4..usize::try_from(end.unwrap()).unwrap()).step_by(7) {
                    let mut bytes = whole.to_vec();
                    bytes[at] ^= 1 << (at % 8);
                    let bytes = Bytes::from(bytes);
                    let found = decoded_so(&bytes, kept, at % 2 == 0).map(|(_, rows)| rows);
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
