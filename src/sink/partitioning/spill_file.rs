//! Record batches in temporary files of DataFusion's disk manager.

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::ipc::CompressionType;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::common::config::SpillCompression;
use datafusion::common::{DataFusionError, Result, resources_datafusion_err};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::{SpillFile, SpillWriter, TaskContext};

/// A file is closed at this size, and another begun: space on the disk is given back by file.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Where record batches are in a temporary file; it lives as long as one of these.
#[derive(Clone)]
pub(super) struct SpilledRows {
    file: Arc<OpenFile>,
    offset: u64,
    bytes: usize,
}

impl SpilledRows {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A temporary file, open for reading.
struct OpenFile {
    reader: File,
    /// Deletes the file when it is dropped.
    _file: Arc<dyn SpillFile>,
}

/// Writes temporary files, one after the other.
pub(super) struct SpillFiles {
    /// As in messages.
    consumer: String,
    disk_manager: Arc<DiskManager>,
    options: IpcWriteOptions,
    /// The schema of the rows.
    schema: SchemaRef,
    /// The same without metadata, which can be longer than the rows.
    bare_schema: SchemaRef,
    current: Option<CurrentFile>,
    written_bytes: usize,
}

struct CurrentFile {
    file: Arc<OpenFile>,
    writer: Box<dyn SpillWriter>,
    bytes: u64,
}

impl SpillFiles {
    /// Compresses with LZ4, or with Zstandard if the session spills so.
    pub(super) fn try_new(consumer: &str, schema: &SchemaRef, context: &Arc<TaskContext>) -> Result<Self> {
        let compression = match context.session_config().spill_compression() {
            SpillCompression::Zstd => CompressionType::ZSTD,
            SpillCompression::Lz4Frame | SpillCompression::Uncompressed => CompressionType::LZ4_FRAME,
        };
        let bare = |field: &Arc<Field>| Field::clone(field).with_metadata(Default::default());
        Ok(Self {
            consumer: consumer.to_owned(),
            disk_manager: Arc::clone(&context.runtime_env().disk_manager),
            options: IpcWriteOptions::default().try_with_compression(Some(compression))?,
            schema: Arc::clone(schema),
            bare_schema: Arc::new(Schema::new(schema.fields().iter().map(bare).collect::<Vec<_>>())),
            current: None,
            written_bytes: 0,
        })
    }

    /// Bytes written so far.
    pub(super) fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// Writes `batches`, to be read together.
    ///
    /// # Errors
    /// `ResourcesExhausted` if there are no temporary files, or no space for them.
    pub(super) fn write(&mut self, batches: &[RecordBatch]) -> Result<SpilledRows> {
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &self.bare_schema, self.options.clone())?;
        for batch in batches {
            let columns = batch.columns().to_vec();
            writer.write(&RecordBatch::try_new(Arc::clone(&self.bare_schema), columns)?)?;
        }
        let encoded = writer.into_inner()?;
        // A file that a write failed in is not appended to.
        let mut current = match self.current.take() {
            Some(current) if current.bytes < MAX_FILE_BYTES => current,
            full => {
                if let Some(mut full) = full {
                    full.writer.finish()?;
                }
                self.create()?
            }
        };
        current.writer.write_all(&encoded).map_err(|error| self.write_error(error))?;
        let offset = current.bytes;
        current.bytes += encoded.len() as u64;
        let spilled = SpilledRows { file: Arc::clone(&current.file), offset, bytes: encoded.len() };
        self.current = Some(current);
        self.written_bytes += encoded.len();
        Ok(spilled)
    }

    fn create(&self) -> Result<CurrentFile> {
        let file = self.disk_manager.create_tmp_file(&self.consumer)?;
        let Some(path) = file.path() else {
            return Err(resources_datafusion_err!(
                "{} cannot spill: temporary files are not on a local disk",
                self.consumer
            ));
        };
        let reader = File::open(path).map_err(|error| self.write_error(error))?;
        let writer = file.open_writer()?;
        Ok(CurrentFile { file: Arc::new(OpenFile { reader, _file: file }), writer, bytes: 0 })
    }

    fn write_error(&self, error: std::io::Error) -> DataFusionError {
        match error.kind() {
            // The disk manager's own limit is of no special kind.
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::Other => {
                resources_datafusion_err!("{} cannot spill: {error}", self.consumer)
            }
            _ => DataFusionError::IoError(error).context(format!("{} cannot spill", self.consumer)),
        }
    }

    /// The record batches of one [`write`](Self::write).
    pub(super) fn read(&self, spilled: &SpilledRows) -> Result<Vec<RecordBatch>> {
        let mut reader = &spilled.file.reader;
        let mut encoded = vec![0; spilled.bytes];
        reader.seek(SeekFrom::Start(spilled.offset))?;
        reader.read_exact(&mut encoded)?;
        StreamReader::try_new(Cursor::new(encoded), None)?
            .map(|batch| Ok(RecordBatch::try_new(Arc::clone(&self.schema), batch?.columns().to_vec())?))
            .collect()
    }
}
