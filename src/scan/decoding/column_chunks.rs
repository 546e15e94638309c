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
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

thread_local! {
    /// Made with the first page.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Two blocks of Zstandard, and some bytes more.
const ROOM: usize = (256 << 10) + 64;
/// Bytes of a page, at least: for fewer the decompressor has room of its own.
const LEAST_WITH_ROOM: usize = 64 << 10;

/// Of the widest values that lie in pages as in memory.
const ALIGNMENT: usize = 8;

/// Some columns of row groups, none of them nested.
#[derive(Clone)]
pub(in crate::scan) struct ColumnChunks {
    footer: Arc<ParquetMetaData>,
    row_groups: Arc<[usize]>,
    /// Positions among the columns of the file, ascending.
    columns: Arc<[usize]>,
    /// For each row group that of each column.
    bytes: Arc<[Bytes]>,
}

impl ColumnChunks {
    /// Where the bytes of a row group lie in the file, in the order of `columns`.
    ///
    /// # Errors
    /// If the footer has a place outside of any file.
    pub(in crate::scan) fn ranges(
        footer: &ParquetMetaData,
        row_group: usize,
        columns: &[usize],
    ) -> Result<Vec<Range<u64>>> {
        columns.iter().map(|&column| range(footer.row_group(row_group).column(column))).collect()
    }

    /// `bytes`: those of each row group and column.
    pub(in crate::scan) fn new(
        footer: Arc<ParquetMetaData>,
        row_groups: Arc<[usize]>,
        columns: Arc<[usize]>,
        bytes: Vec<Bytes>,
    ) -> Self {
        Self { footer, row_groups, columns, bytes: bytes.into() }
    }

    /// Positions of the row groups in the file.
    pub(in crate::scan) fn indices(&self) -> &[usize] {
        &self.row_groups
    }

    /// The pages of the column at `column` among those of the file, row group by row group.
    ///
    /// # Errors
    /// If it was not read.
    pub(in crate::scan) fn pages_of(&self, column: usize) -> Result<ChunksOfColumn> {
        let at = self
            .columns
            .binary_search(&column)
            .map_err(|_| ParquetError::General(format!("column {column} was not read")))?;
        let bytes: Vec<Bytes> =
            self.bytes.iter().skip(at).step_by(self.columns.len()).map(Bytes::clone).collect();
        Ok(ChunksOfColumn {
            footer: Arc::clone(&self.footer),
            row_groups: Arc::clone(&self.row_groups),
            column,
            bytes: bytes.into_iter().enumerate(),
        })
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
        Ok(Box::new(self.pages_of(column)?))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.row_groups.iter().map(|&row_group| self.footer.row_group(row_group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.footer
    }
}

/// The pages of one column, row group by row group.
pub(in crate::scan) struct ChunksOfColumn {
    footer: Arc<ParquetMetaData>,
    row_groups: Arc<[usize]>,
    column: usize,
    /// For each row group that is still to come.
    bytes: Enumerate<IntoIter<Bytes>>,
}

impl ChunksOfColumn {
    /// The next column chunk, and its pages; `None` after the last one.
    ///
    /// # Errors
    /// If the chunk lies outside of any file.
    pub(in crate::scan) fn next_chunk(&mut self) -> Result<Option<(&ColumnChunkMetaData, ChunkPages)>> {
        let Some((at, bytes)) = self.bytes.next() else { return Ok(None) };
        let Some(&row_group) = self.row_groups.get(at) else { return Ok(None) };
        let row_group = self.footer.row_group(row_group);
        let column = row_group.column(self.column);
        Ok(Some((column, ChunkPages::try_new(column, rows(row_group)?, bytes)?)))
    }

    pub(in crate::scan) fn is_over(&self) -> bool {
        self.bytes.len() == 0
    }
}

impl Iterator for ChunksOfColumn {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_chunk().transpose()?;
        Some(next.map(|(_, pages)| Box::new(pages) as _))
    }
}

impl PageIterator for ChunksOfColumn {}

/// The pages of one column chunk, as many values as the row group has rows.
pub(in crate::scan) struct ChunkPages {
    /// `None` after the last value: the bytes of a chunk are not held up by the decoding of its last page.
    open: Option<OpenChunk>,
    /// Values that are still to come.
    values: u64,
}

struct OpenChunk {
    chunk: Arc<Chunk>,
    /// Gives pages as they are in the file, if this decompresses them.
    pages: SerializedPageReader<Chunk>,
    decompresses: bool,
}

/// A page as it is in the file, but for compressions other than Zstandard.
pub(in crate::scan) struct StoredPage {
    pub(in crate::scan) page: Page,
    /// Of what is compressed, and the size of the page without.
    compressed: Option<Compressed>,
}

#[derive(Clone, Copy)]
struct Compressed {
    /// Bytes before it that are not compressed.
    levels: usize,
    size: usize,
}

impl ChunkPages {
    fn try_new(column: &ColumnChunkMetaData, values: u64, bytes: Bytes) -> Result<Self> {
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
        Ok(Self { open: Some(OpenChunk { chunk, pages, decompresses }), values })
    }

    /// The next page, but for data pages without values; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read, or if the chunk has fewer values than its row group has rows, or more.
    pub(in crate::scan) fn next_stored(&mut self) -> Result<Option<StoredPage>> {
        loop {
            let Some(open) = &mut self.open else { return Ok(None) };
            let Some(page) = open.pages.get_next_page()? else {
                // The decoder would go on with rows of the next row group.
                return match self.values {
                    0 => Ok(None),
                    values => Err(ParquetError::EOF(format!("a column chunk lacks {values} values"))),
                };
            };
            let stored = open.stored(page)?;
            if !stored.page.is_data_page() {
                return Ok(Some(stored));
            }
            // The decoder takes two data pages without values for the end of the column chunk.
            if stored.page.num_values() == 0 {
                continue;
            }
            let rest = self.values.checked_sub(stored.page.num_values().into());
            self.values = rest.ok_or_else(|| {
                ParquetError::General("a column chunk has more values than its row group has rows".to_owned())
            })?;
            if self.values == 0 && open.pages.peek_next_page()?.is_none() {
                self.open = None;
            }
            return Ok(Some(stored));
        }
    }
}

impl OpenChunk {
    /// `page`, which was read last.
    fn stored(&self, page: Page) -> Result<StoredPage> {
        let levels = match &page {
            _ if !self.decompresses => None,
            Page::DataPage { .. } | Page::DictionaryPage { .. } => Some(0),
            Page::DataPageV2 { is_compressed: false, .. } => None,
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                Some(usize::try_from(*def_levels_byte_len + *rep_levels_byte_len)?)
            }
        };
        let compressed = match levels {
            Some(levels) => Some(Compressed { levels, size: self.chunk.uncompressed_size()? }),
            None => None,
        };
        Ok(StoredPage { page, compressed })
    }
}

impl StoredPage {
    fn decompressed(self) -> Result<Page> {
        let mut page = self.page;
        if let Some(compressed) = self.compressed
            && let Page::DataPage { buf, .. }
            | Page::DataPageV2 { buf, .. }
            | Page::DictionaryPage { buf, .. } = &mut page
        {
            let mut decompressed = Vec::new();
            decompress(buf, compressed, 0, 0, &mut decompressed)?;
            *buf = decompressed.into();
        }
        Ok(page)
    }

    /// Whether [`Self::body`] is not the page as it is.
    pub(in crate::scan) fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// The page without its header, decompressed, if it is compressed, in place of what `buffer` has, at its end. With room behind a
    /// page for what it unpacks on the way, the decompressor copies less. What is behind levels of a known length is aligned to
    /// [`ALIGNMENT`].
    ///
    /// # Errors
    /// If it cannot be decompressed.
    pub(in crate::scan) fn body<'a>(&'a self, buffer: &'a mut Vec<u8>, with_room: bool) -> Result<&'a [u8]> {
        let Some(compressed) = self.compressed else { return Ok(self.page.buffer()) };
        let room = if with_room && compressed.size >= LEAST_WITH_ROOM { ROOM } else { 0 };
        let padding = compressed.levels.next_multiple_of(ALIGNMENT) - compressed.levels;
        decompress(self.page.buffer(), compressed, padding, room, buffer)?;
        Ok(&buffer[padding..])
    }
}

/// Puts `page` in place of what `decompressed` has, with `padding` before it, and room for so many bytes behind it.
fn decompress(
    page: &Bytes,
    compressed: Compressed,
    padding: usize,
    room: usize,
    decompressed: &mut Vec<u8>,
) -> Result<()> {
    let Compressed { levels, size } = compressed;
    let unlike = |found: usize| ParquetError::General(format!("a page has {found} bytes, expected {size}"));
    if levels > page.len() || levels > size {
        return Err(unlike(page.len()));
    }
    decompressed.clear();
    let wanted = size.saturating_add(padding).saturating_add(room);
    decompressed.try_reserve_exact(wanted).map_err(|error| ParquetError::External(Box::new(error)))?;
    decompressed.resize(padding, 0);
    decompressed.extend_from_slice(&page[..levels]);
    // Pages without values may have nothing compressed.
    if size > levels {
        DECOMPRESSOR.with_borrow_mut(|decompressor| -> Result<()> {
            let decompressor = match decompressor {
                Some(decompressor) => decompressor,
                None => decompressor.insert(Decompressor::new()?),
            };
            let mut rest = Cursor::new(&mut *decompressed);
            rest.set_position((padding + levels) as u64);
            decompressor.decompress_to_buffer(&page[levels..], &mut rest)?;
            Ok(())
        })?;
    }
    match decompressed.len() == padding + size {
        true => Ok(()),
        false => Err(unlike(decompressed.len() - padding)),
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
        self.next_stored()?.map(StoredPage::decompressed).transpose()
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
    use parquet::basic::{BrotliLevel, Encoding, ZstdLevel};
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
        let pages = ChunkPages::try_new(&column, 3, bytes.clone()).unwrap();
        let values: Vec<u32> = pages.map(|page| page.unwrap().num_values()).collect();
        assert_eq!(values, [2, 1]);
        let short = ChunkPages::try_new(&column, 4, bytes.clone()).unwrap();
        assert!(short.collect::<Result<Vec<Page>>>().is_err(), "a value is missing");
        let mut long = ChunkPages::try_new(&column, 2, bytes).unwrap();
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
