//! The bytes of a snapshot file: a header and sections, under one checksum.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `ODPSNAP1` |
//! | 4 | CRC-32 of all that follows, little-endian |
//! | 8 | length of the header, little-endian |
//! | … | the header, JSON; it names sections by offset and length |
//! | … | the sections, each an Arrow IPC stream of at most one record batch, compressed with Zstandard |

use std::cell::Cell;
use std::io::Read;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::root_as_message;
use datafusion::arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};

use super::BoxError;

const MAGIC: &[u8; 8] = b"ODPSNAP1";

/// Bytes before the header.
const PREFIX: usize = 20;

const COMPRESSION_LEVEL: i32 = 3;

/// All sections together are at most so many times as large as the file, and [`MIN_LIMIT`].
const MAX_RATIO: u64 = 200;
const MIN_LIMIT: u64 = 256 << 20;

/// Collects sections.
#[derive(Debug, Default)]
pub(super) struct SectionWriter {
    sections: Vec<u8>,
}

impl SectionWriter {
    /// Adds a record batch; gives its name for the header.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<Value, BoxError> {
        self.write(&batch.schema(), Some(batch))
    }

    /// Adds a schema; gives its name for the header.
    pub(super) fn push_schema(&mut self, schema: &Schema) -> Result<Value, BoxError> {
        self.write(schema, None)
    }

    fn write(&mut self, schema: &Schema, batch: Option<&RecordBatch>) -> Result<Value, BoxError> {
        let mut section = Vec::new();
        let mut writer = StreamWriter::try_new(&mut section, schema)?;
        if let Some(batch) = batch {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        let start = self.sections.len();
        zstd::stream::copy_encode(section.as_slice(), &mut self.sections, COMPRESSION_LEVEL)?;
        Ok(json!([start, self.sections.len() - start]))
    }

    /// The whole file.
    pub(super) fn finish(self, header: &Value) -> Result<Vec<u8>, BoxError> {
        let header = serde_json::to_vec(header)?;
        let mut file = Vec::with_capacity(PREFIX + header.len() + self.sections.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&(header.len() as u64).to_le_bytes());
        file.extend_from_slice(&header);
        file.extend_from_slice(&self.sections);
        let checksum = crc32fast::hash(&file[MAGIC.len() + 4..]);
        file[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&checksum.to_le_bytes());
        Ok(file)
    }
}

/// The sections of a file whose checksum is right.
#[derive(Debug)]
pub(super) struct SectionReader {
    sections: Bytes,
    /// Bytes that may still be unpacked; a section that is read twice counts twice.
    budget: Cell<u64>,
}

impl SectionReader {
    /// Checks a file; gives its header, too.
    pub(super) fn open(file: &Bytes) -> Result<(Value, Self), BoxError> {
        let Some((prefix, rest)) = file.split_at_checked(PREFIX) else {
            return Err(format!("{} bytes are too few", file.len()).into());
        };
        if prefix[..7] != MAGIC[..7] {
            return Err("it does not begin with ODPSNAP".into());
        }
        if prefix[7] != MAGIC[7] {
            return Err("it is of another version of the format".into());
        }
        let checksum = u32::from_le_bytes(prefix[8..12].try_into()?);
        if crc32fast::hash(&file[12..]) != checksum {
            return Err("its checksum is wrong".into());
        }
        let length = usize::try_from(u64::from_le_bytes(prefix[12..20].try_into()?))?;
        let Some((header, sections)) = rest.split_at_checked(length) else {
            return Err("its header is longer than the file".into());
        };
        let budget = (file.len() as u64).saturating_mul(MAX_RATIO).saturating_add(MIN_LIMIT);
        let sections = Self { sections: file.slice_ref(sections), budget: Cell::new(budget) };
        Ok((serde_json::from_slice(header)?, sections))
    }

    /// The schema, and the record batches, that the header calls `name`.
    ///
    /// Decoded from memory: a decoder that reads believes the lengths in a stream, and asks for that much memory.
    fn decode(&self, name: &Value) -> Result<(SchemaRef, Vec<RecordBatch>), BoxError> {
        let bound = |i: usize| -> Result<usize, BoxError> {
            Ok(usize::try_from(name[i].as_u64().ok_or("a section without bounds")?)?)
        };
        let (start, length) = (bound(0)?, bound(1)?);
        let end = start.checked_add(length).filter(|end| *end <= self.sections.len());
        let compressed = &self.sections[start..end.ok_or("a section outside the file")?];
        let budget = self.budget.get();
        let mut section = Vec::new();
        zstd::stream::read::Decoder::new(compressed)?.take(budget + 1).read_to_end(&mut section)?;
        let left = budget.checked_sub(section.len() as u64).ok_or("it is far larger than it can be")?;
        self.budget.set(left);
        refuse_compressed_buffers(&section)?;
        let mut buffer = Buffer::from_vec(section);
        let mut decoder = StreamDecoder::new();
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            batches.extend(decoder.decode(&mut buffer)?);
        }
        decoder.finish()?;
        let schema = decoder.schema().ok_or("a section without a schema")?;
        Ok((schema, batches))
    }

    /// The record batch that the header calls `name`.
    pub(super) fn read(&self, name: &Value) -> Result<RecordBatch, BoxError> {
        let (_, batches) = self.decode(name)?;
        Ok(batches.into_iter().next().ok_or("a section without rows")?)
    }

    /// The schema that the header calls `name`.
    pub(super) fn read_schema(&self, name: &Value) -> Result<SchemaRef, BoxError> {
        Ok(self.decode(name)?.0)
    }
}

/// The sections as a whole are compressed. A record batch with compressed buffers in it is none of ours, and its
/// decoder believes the lengths that these name.
fn refuse_compressed_buffers(mut stream: &[u8]) -> Result<(), BoxError> {
    const CONTINUATION: [u8; 4] = [0xff; 4];
    while let Some((prefix, rest)) = stream.split_at_checked(8) {
        if prefix[..4] != CONTINUATION {
            return Err("a message does not begin as one".into());
        }
        let length = usize::try_from(i32::from_le_bytes(prefix[4..].try_into()?))?;
        if length == 0 {
            break;
        }
        let (message, rest) = rest.split_at_checked(length).ok_or("a message is cut off")?;
        let message = root_as_message(message).map_err(|error| error.to_string())?;
        let of_dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let mut batches = message.header_as_record_batch().into_iter().chain(of_dictionary);
        if batches.any(|batch| batch.compression().is_some()) {
            return Err("a record batch has compressed buffers".into());
        }
        let body = usize::try_from(message.bodyLength())?;
        stream = rest.get(body..).ok_or("the body of a message is cut off")?;
    }
    Ok(())
}
