//! Pages of column chunks in memory, for decoders that read on from one row group to the next.
//!
//! What `parquet` makes for each column chunk to decompress its pages can compress, too, and costs more than the pages of
//! a small chunk. Here each thread keeps one Zstandard decompressor.

use std::cell::RefCell;
use std::io::Cursor;
use std::iter::Enumerate;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::IntoIter;

use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

use super::kept_rows::{KeptRows, Levels, PlainValues};

thread_local! {
    /// Made with the first page.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };

    /// For pages of which a part is kept.
    static WHOLE_PAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that a thread keeps for the next page, at most.
const MOST_KEPT: usize = 2 << 20;

/// Two blocks of Zstandard, and some bytes more.
const ROOM: usize = (256 << 10) + 64;

/// Some columns of row groups, none of them nested.
#[derive(Clone)]
pub(super) struct ColumnChunks {
    footer: Arc<ParquetMetaData>,
    row_groups: Arc<[usize]>,
    /// Positions among the columns of the file, ascending.
    columns: Arc<[usize]>,
    /// For each row group that of each column.
    bytes: Arc<[Bytes]>,
    /// Of all rows those that are decoded; `None`: all.
    kept: Option<KeptRows>,
}

impl ColumnChunks {
    /// Where the bytes of a row group lie in the file, in the order of `columns`.
    ///
    /// # Errors
    /// If the footer has a place outside of any file.
    pub(super) fn ranges(
        footer: &ParquetMetaData,
        row_group: usize,
        columns: &[usize],
    ) -> Result<Vec<Range<u64>>> {
        columns.iter().map(|&column| range(footer.row_group(row_group).column(column))).collect()
    }

    /// `bytes`: those of each row group and column.
    pub(super) fn new(
        footer: Arc<ParquetMetaData>,
        row_groups: Arc<[usize]>,
        columns: Arc<[usize]>,
        bytes: Vec<Bytes>,
    ) -> Self {
        Self { footer, row_groups, columns, bytes: bytes.into(), kept: None }
    }

    /// The same of the rows that are `kept`, for decoding columns that are [`PlainValues`] in all row groups.
    pub(super) fn keeping(self, kept: KeptRows) -> Self {
        Self { kept: Some(kept), ..self }
    }
}

/// Where the bytes of `column` lie in the file.
fn range(column: &ColumnChunkMetaData) -> Result<Range<u64>> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let place = u64::try_from(start).and_then(|start| Ok((start, u64::try_from(column.compressed_size())?)));
    let end = place.map(|(start, length)| Some(start..start.checked_add(length)?));
    end.ok().flatten().ok_or_else(|| ParquetError::General("a column chunk lies outside its file".to_owned()))
}

fn rows(row_group: &RowGroupMetaData) -> Result<u64> {
    Ok(u64::try_from(row_group.num_rows())?)
}

impl RowGroups for ColumnChunks {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let at = self
            .columns
            .binary_search(&column)
            .map_err(|_| ParquetError::General(format!("column {column} was not read")))?;
        let bytes: Vec<Bytes> =
            self.bytes.iter().skip(at).step_by(self.columns.len()).map(Bytes::clone).collect();
        Ok(Box::new(ChunksOfColumn {
            footer: Arc::clone(&self.footer),
            row_groups: Arc::clone(&self.row_groups),
            column,
            bytes: bytes.into_iter().enumerate(),
            kept: self.kept.clone(),
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.row_groups.iter().map(|&row_group| self.footer.row_group(row_group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.footer
    }
}

/// The pages of one column, row group by row group.
struct ChunksOfColumn {
    footer: Arc<ParquetMetaData>,
    row_groups: Arc<[usize]>,
    column: usize,
    /// For each row group that is still to come.
    bytes: Enumerate<IntoIter<Bytes>>,
    /// Of the rows of these.
    kept: Option<KeptRows>,
}

impl ChunksOfColumn {
    fn pages(&mut self, row_group: usize, bytes: Bytes) -> Result<ChunkPages> {
        let row_group = self.footer.row_group(row_group);
        let column = row_group.column(self.column);
        let values = rows(row_group)?;
        let kept = match &mut self.kept {
            None => None,
            Some(kept) => {
                let of_chunk = usize::try_from(values).ok().and_then(|rows| kept.take(rows));
                let (Some(rows), Some(plain)) = (of_chunk, PlainValues::of(column)) else {
                    return Err(ParquetError::General(
                        "rows of a column chunk cannot be left out".to_owned(),
                    ));
                };
                Some((plain, rows))
            }
        };
        ChunkPages::try_new(column, values, bytes, kept)
    }
}

impl Iterator for ChunksOfColumn {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, bytes) = self.bytes.next()?;
        let row_group = *self.row_groups.get(at)?;
        Some(self.pages(row_group, bytes).map(|pages| Box::new(pages) as _))
    }
}

impl PageIterator for ChunksOfColumn {}

/// The pages of one column chunk, as many values as the row group has rows.
struct ChunkPages {
    /// `None` after the last value: the bytes of a chunk are not held up by the decoding of its last page.
    open: Option<OpenChunk>,
    /// Values that are still to come.
    values: u64,
    /// Of these, those that are kept; `None`: all.
    kept: Option<(PlainValues, KeptRows)>,
}

struct OpenChunk {
    chunk: Arc<Chunk>,
    /// Gives pages as they are in the file, if this decompresses them.
    pages: SerializedPageReader<Chunk>,
    decompresses: bool,
}

impl ChunkPages {
    fn try_new(
        column: &ColumnChunkMetaData,
        values: u64,
        bytes: Bytes,
        kept: Option<(PlainValues, KeptRows)>,
    ) -> Result<Self> {
        let start = range(column)?.start;
        let chunk =
            Arc::new(Chunk { start, bytes, header: AtomicU64::new(start), next: AtomicU64::new(start) });
        let decompresses = matches!(column.compression(), Compression::ZSTD(_));
        let uncompressed;
        let described = match decompresses {
            false => column,
            true => {
                uncompressed = ColumnChunkMetaData::builder(column.column_descr_ptr())
                    .set_compression(Compression::UNCOMPRESSED)
                    .set_total_compressed_size(column.compressed_size())
                    .set_data_page_offset(column.data_page_offset())
                    .set_dictionary_page_offset(column.dictionary_page_offset())
                    .build()?;
                &uncompressed
            }
        };
        let pages = SerializedPageReader::new(Arc::clone(&chunk), described, usize::try_from(values)?, None)?;
        Ok(Self { open: Some(OpenChunk { chunk, pages, decompresses }), values, kept })
    }

    /// Notes that the values of `page` are no longer to come; gives what is kept of them, if not all are.
    fn count(&mut self, page: &Page) -> Result<Option<(PlainValues, KeptRows)>> {
        let rest = self.values.checked_sub(page.num_values().into());
        self.values = rest.ok_or_else(|| {
            ParquetError::General("a column chunk has more values than its row group has rows".to_owned())
        })?;
        let Some((plain, kept)) = &mut self.kept else { return Ok(None) };
        match kept.take(page.num_values() as usize) {
            Some(of_page) => Ok(Some((*plain, of_page))),
            None => Err(ParquetError::General("more values are read than are known of".to_owned())),
        }
    }
}

impl OpenChunk {
    /// `page`, which was read last, decompressed.
    fn decompressed(&self, mut page: Page) -> Result<Page> {
        if !self.decompresses {
            return Ok(page);
        }
        let (buffer, levels) = match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => (buf, 0),
            Page::DataPageV2 { is_compressed: false, .. } => return Ok(page),
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                (buf, usize::try_from(*def_levels_byte_len + *rep_levels_byte_len)?)
            }
        };
        let mut decompressed = Vec::new();
        decompress(buffer, levels, self.chunk.uncompressed_size()?, &mut decompressed)?;
        *buffer = decompressed.into();
        Ok(page)
    }

    /// Of the data page `page`, which was read last, the values that are `kept`.
    fn cut(&self, page: &Page, values: PlainValues, kept: &KeptRows) -> Result<Page> {
        let (levels, before, is_compressed) = match page {
            Page::DataPage { encoding: Encoding::PLAIN, def_level_encoding, .. }
                if !values.has_levels() || *def_level_encoding == Encoding::RLE =>
            {
                (Levels::Prefixed, 0, self.decompresses)
            }
            Page::DataPageV2 {
                encoding: Encoding::PLAIN,
                num_nulls: 0,
                def_levels_byte_len,
                rep_levels_byte_len: 0,
                is_compressed,
                ..
            } => {
                let length = usize::try_from(*def_levels_byte_len)?;
                (Levels::Of(length), length, self.decompresses && *is_compressed)
            }
            _ => return Err(ParquetError::General("a page is not encoded as its column chunk".to_owned())),
        };
        if !is_compressed {
            return values.cut(page.buffer(), levels, kept);
        }
        let size = self.chunk.uncompressed_size()?;
        let mut whole = WHOLE_PAGE.take();
        whole.clear();
        // With room behind the page for what it unpacks on the way, the decompressor copies less.
        whole
            .try_reserve_exact(size.saturating_add(ROOM))
            .map_err(|error| ParquetError::External(Box::new(error)))?;
        decompress(page.buffer(), before, size, &mut whole)?;
        let cut = values.cut(&whole, levels, kept);
        if whole.capacity() <= MOST_KEPT {
            WHOLE_PAGE.set(whole);
        }
        cut
    }
}

/// Puts `page` into `decompressed`, which is empty, with what follows its first bytes, `levels`, decompressed: `size` bytes
/// in all.
fn decompress(page: &Bytes, levels: usize, size: usize, decompressed: &mut Vec<u8>) -> Result<()> {
    let unlike = |found: usize| ParquetError::General(format!("a page has {found} bytes, expected {size}"));
    if levels > page.len() || levels > size {
        return Err(unlike(page.len()));
    }
    decompressed.try_reserve_exact(size).map_err(|error| ParquetError::External(Box::new(error)))?;
    decompressed.extend_from_slice(&page[..levels]);
    // Pages without values may have nothing compressed.
    if size > levels {
        DECOMPRESSOR.with_borrow_mut(|decompressor| -> Result<()> {
            let decompressor = match decompressor {
                Some(decompressor) => decompressor,
                None => decompressor.insert(Decompressor::new()?),
            };
            let mut rest = Cursor::new(&mut *decompressed);
            rest.set_position(levels as u64);
            decompressor.decompress_to_buffer(&page[levels..], &mut rest)?;
            Ok(())
        })?;
    }
    match decompressed.len() == size {
        true => Ok(()),
        false => Err(unlike(decompressed.len())),
    }
}

impl Iterator for ChunkPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ChunkPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        loop {
            let Some(open) = &mut self.open else { return Ok(None) };
            let Some(page) = open.pages.get_next_page()? else {
                // The decoder would go on with rows of the next row group.
                return match self.values {
                    0 => Ok(None),
                    values => Err(ParquetError::EOF(format!("a column chunk lacks {values} values"))),
                };
            };
            if !page.is_data_page() {
                return open.decompressed(page).map(Some);
            }
            let kept = self.count(&page)?;
            let Some(open) = &mut self.open else { return Ok(None) };
            let page = match kept {
                // The decoder takes two data pages without values for the end of the column chunk.
                None if page.num_values() == 0 => continue,
                None => Some(open.decompressed(page)?),
                Some((values, kept)) if kept.has_any() => Some(open.cut(&page, values, &kept)?),
                Some(_) => None,
            };
            if self.values == 0 && open.pages.peek_next_page()?.is_none() {
                self.open = None;
            }
            if page.is_some() {
                return Ok(page);
            }
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.open.as_mut().map_or(Ok(None), |open| open.pages.peek_next_page())
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.open.as_mut().map_or(Ok(true), |open| open.pages.at_record_boundary())
    }
}

/// The bytes of a column chunk.
struct Chunk {
    /// Where it lies in the file.
    start: u64,
    bytes: Bytes,
    /// Where in the file the page starts, with its header, whose data was asked for last.
    header: AtomicU64,
    /// The same for the page that follows it.
    next: AtomicU64,
}

impl Chunk {
    fn from(&self, offset: u64) -> Result<Bytes> {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        match at.filter(|&at| at <= self.bytes.len()) {
            Some(at) => Ok(self.bytes.slice(at..)),
            None => Err(ParquetError::EOF("a page lies outside its column chunk".to_owned())),
        }
    }

    /// Of the page that was read last, what its header says; the reader of pages keeps it for itself.
    fn uncompressed_size(&self) -> Result<usize> {
        uncompressed_size(&self.from(self.header.load(Ordering::Relaxed))?).ok_or_else(|| {
            ParquetError::General("a page header does not begin with the sizes of its page".to_owned())
        })
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!("a page of {length} bytes ends after its column chunk")));
        }
        self.header.store(self.next.swap(start + length as u64, Ordering::Relaxed), Ordering::Relaxed);
        Ok(bytes.slice(..length))
    }
}

/// The second field of a page header in Thrift's compact protocol. `None` if the header does not begin with the two
/// that all have, both of them integers.
fn uncompressed_size(header: &[u8]) -> Option<usize> {
    /// The field after the last one, of type i32.
    const NEXT_I32: u8 = 0x15;

    let mut bytes = header.iter().copied();
    let mut field = || -> Option<i64> {
        if bytes.next()? != NEXT_I32 {
            return None;
        }
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Zigzag: the lowest bit is the sign.
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    };
    let _page_type = field()?;
    usize::try_from(field()?).ok()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::compute::concat_batches;
    use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
    use parquet::arrow::{ArrowWriter, ProjectionMask, parquet_to_arrow_field_levels};
    use parquet::basic::{BrotliLevel, ZstdLevel};
    use parquet::column::page::{CompressedPage, PageWriter};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

    use super::*;

    /// 1000 rows in row groups of 300 and pages of 100.
    fn file(compression: Compression, version: WriterVersion, has_dictionary: bool) -> Bytes {
        let numbers = Int64Array::from_iter_values((0..1000).map(|i| i * i));
        let floats: Float64Array = (0..1000).map(|i| (i % 7 > 0).then(|| f64::from(i % 50))).collect();
        let texts: StringArray =
            (0..1000).map(|i| (i % 400 > 100).then(|| format!("text {}", i % 20))).collect();
        let rows = RecordBatch::try_from_iter([
            ("n", Arc::new(numbers) as ArrayRef),
            ("f", Arc::new(floats)),
            ("unread", Arc::new(Int64Array::from_iter_values(0..1000))),
            ("s", Arc::new(texts)),
        ])
        .unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(has_dictionary)
            .set_max_row_group_row_count(Some(300))
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(100)
            .build();
        let mut writer = ArrowWriter::try_new(vec![], rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.into_inner().unwrap().into()
    }

    const COLUMNS: [usize; 3] = [0, 1, 3];

    fn builder(file: &Bytes) -> ParquetRecordBatchReaderBuilder<Bytes> {
        ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap()
    }

    fn joined(reader: ParquetRecordBatchReader) -> Option<RecordBatch> {
        use datafusion::arrow::record_batch::RecordBatchReader;

        let schema = reader.schema();
        let rows: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>().ok()?;
        concat_batches(&schema, &rows).ok()
    }

    /// `None`: an error, or a panic.
    fn decoded(file: &Bytes, row_groups: &[usize]) -> Option<RecordBatch> {
        let decode = || {
            let builder = builder(file);
            let (footer, descriptor) = (builder.metadata(), builder.parquet_schema());
            let mask = ProjectionMask::leaves(descriptor, COLUMNS);
            let levels =
                parquet_to_arrow_field_levels(descriptor, mask, Some(builder.schema().fields())).ok()?;
            let ranges =
                row_groups.iter().map(|&group| ColumnChunks::ranges(footer, group, &COLUMNS).unwrap());
            let cut = |range: Range<u64>| {
                file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            };
            let bytes = ranges.flatten().map(cut).collect();
            let chunks = ColumnChunks::new(Arc::clone(footer), row_groups.into(), COLUMNS.into(), bytes);
            joined(ParquetRecordBatchReader::try_new_with_row_groups(&levels, &chunks, 256, None).ok()?)
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    fn expected(file: &Bytes, row_groups: &[usize]) -> Option<RecordBatch> {
        let decode = || {
            let builder = builder(file);
            let mask = ProjectionMask::leaves(builder.parquet_schema(), COLUMNS);
            let builder = builder.with_projection(mask).with_batch_size(256);
            joined(builder.with_row_groups(row_groups.to_vec()).build().ok()?)
        };
        catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
    }

    #[test]
    fn row_groups_are_read_on_as_parquet_reads_each() {
        let brotli = Compression::BROTLI(BrotliLevel::try_new(1).unwrap());
        for compression in [
            Compression::ZSTD(ZstdLevel::try_new(3).unwrap()),
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            brotli,
        ] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                for has_dictionary in [true, false] {
                    let file = file(compression, version, has_dictionary);
                    for row_groups in [&[0, 1, 2, 3][..], &[1], &[3, 0]] {
                        let found = decoded(&file, row_groups);
                        assert!(found.as_ref().is_some_and(|rows| rows.num_rows() > 99));
                        assert_eq!(found, expected(&file, row_groups), "{compression} {version:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn damaged_pages_are_an_error_or_what_parquet_reads_of_them() {
        let mut damaged = [0, 0];
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for has_dictionary in [true, false] {
                let file = file(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()), version, has_dictionary);
                let footer = Arc::clone(builder(&file).metadata());
                let columns = footer.row_groups().iter().flat_map(|group| group.columns());
                let end = columns.map(|column| range(column).unwrap().end).max().unwrap();
                for at in (4..usize::try_from(end).unwrap()).step_by(5) {
                    let mut bytes = file.to_vec();
                    bytes[at] ^= 1 << (at % 8);
                    let bytes = Bytes::from(bytes);
                    match decoded(&bytes, &[0, 1, 2, 3]) {
                        None => damaged[0] += 1,
                        found => {
                            assert_eq!(found, expected(&bytes, &[0, 1, 2, 3]), "byte {at}");
                            damaged[1] += 1;
                        }
                    }
                }
            }
        }
        assert!(damaged.iter().all(|&count| count > 100), "{damaged:?}");
    }

    #[test]
    fn data_pages_without_values_do_not_end_a_column_chunk() {
        let mut written = TrackedWrite::new(vec![]);
        let mut writer = SerializedPageWriter::new(&mut written);
        for values in [vec![1_i64, 2], vec![], vec![], vec![], vec![3], vec![]] {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let size = bytes.len();
            let page = Page::DataPage {
                buf: bytes.into(),
                num_values: u32::try_from(values.len()).unwrap(),
                encoding: Encoding::PLAIN,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            writer.write_page(CompressedPage::new(page, size)).unwrap();
        }
        drop(writer);
        let bytes = Bytes::from(written.into_inner().unwrap());
        let any = builder(&file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0, false));
        let column = ColumnChunkMetaData::builder(any.parquet_schema().column(0))
            .set_compression(Compression::UNCOMPRESSED)
            .set_total_compressed_size(i64::try_from(bytes.len()).unwrap())
            .set_data_page_offset(0)
            .build()
            .unwrap();
        let pages = ChunkPages::try_new(&column, 3, bytes.clone(), None).unwrap();
        let values: Vec<u32> = pages.map(|page| page.unwrap().num_values()).collect();
        assert_eq!(values, [2, 1]);
        let short = ChunkPages::try_new(&column, 4, bytes.clone(), None).unwrap();
        assert!(short.collect::<Result<Vec<Page>>>().is_err(), "a value is missing");
        let mut long = ChunkPages::try_new(&column, 2, bytes, None).unwrap();
        assert!(long.next().unwrap().is_ok() && long.next().unwrap().is_err(), "a value too many");
    }

    #[test]
    fn the_size_of_a_page_is_in_its_header() {
        // Type 0, 300 and 200 bytes.
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x90, 0x03]), Some(300));
        assert_eq!(uncompressed_size(&[0x15, 0x06, 0x15, 0x02]), Some(1));
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x15, 0x01]), None, "negative");
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x25, 0x02]), None, "another field");
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x15, 0xd8]), None, "cut");
        assert_eq!(
            uncompressed_size(&[0x15, 0x00, 0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            None,
            "too long"
        );
    }
}
