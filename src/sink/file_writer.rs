//! One Parquet file that is being written: row groups are appended in order, bytes leave as they come.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::writer::SerializedFileWriter;

use super::commit::DataFile;
use super::encoder::{EncodedRowGroup, Encoder};
use super::geometry::GeometrySummary;
use super::stage::StagedFile;

/// Key of the GeoParquet entry in a footer.
const GEO_KEY: &str = "geo";

pub(super) struct FileWriter {
    encoder: Arc<Encoder>,
    parquet: SerializedFileWriter<Vec<u8>>,
    staged: StagedFile,
    geometry: Option<GeometrySummary>,
    rows: u64,
    row_groups: usize,
    bytes: u64,
    /// Of bytes that wait in memory for more.
    memory: MemoryReservation,
}

/// A file that is complete, and not visible yet.
pub(super) struct FinishedFile {
    pub(super) data: DataFile,
    pub(super) footer: ParquetMetaData,
}

impl FileWriter {
    pub(super) fn try_new(
        encoder: Arc<Encoder>,
        staged: StagedFile,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let parquet = encoder.new_file()?;
        Ok(Self { encoder, parquet, staged, geometry: None, rows: 0, row_groups: 0, bytes: 0, memory })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// So far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) async fn append(&mut self, group: EncodedRowGroup) -> Result<()> {
        // All at once: growing would copy what is there, several times.
        self.parquet.inner_mut().reserve(usize::try_from(group.bytes()).unwrap_or(0));
        let mut writer = self.parquet.next_row_group()?;
        for column in group.columns {
            column.append_to_row_group(&mut writer)?;
        }
        writer.close()?;
        match (&mut self.geometry, group.geometry) {
            (Some(all), Some(summary)) => all.merge(&summary),
            (none, summary) => *none = summary,
        }
        self.rows += group.rows as u64;
        self.row_groups += 1;
        self.parquet.flush()?;
        let bytes = Bytes::from(std::mem::take(self.parquet.inner_mut()));
        self.bytes += bytes.len() as u64;
        self.staged.write(bytes).await?;
        // They are there whether or not the pool has room; what it lacks, rows that wait give back.
        self.memory.resize(self.staged.buffered());
        Ok(())
    }

    /// Writes the footer; `partition` are the exact texts of the file's partition values.
    pub(super) async fn finish(mut self, partition: Vec<Option<String>>) -> Result<FinishedFile> {
        if let (Some(geometry), Some(summary)) = (self.encoder.geometry(), &self.geometry) {
            let entry = KeyValue::new(GEO_KEY.to_owned(), geometry.metadata(summary));
            self.parquet.append_key_value_metadata(entry);
        }
        let footer = self.parquet.finish()?;
        self.parquet.flush()?;
        let bytes = Bytes::from(std::mem::take(self.parquet.inner_mut()));
        self.staged.write(bytes).await?;
        let staged = self.staged.finish().await?;
        let written = footer.file_metadata().num_rows();
        if u64::try_from(written).ok() != Some(self.rows) {
            return Err(exec_datafusion_err!("a file of {} rows says that it has {written}", self.rows));
        }
        let data = DataFile { staged, rows: self.rows, row_groups: self.row_groups, partition };
        Ok(FinishedFile { data, footer })
    }
}
