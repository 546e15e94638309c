//! `_common_metadata` and `_metadata`, for PyArrow, Dask and Spark.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
};

use super::target::Target;
use super::write_options::WriteMetadataFiles;
use crate::error::OdpError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the files that `which` asks for; `footers` are those of all files of the dataset, by path below it.
///
/// # Errors
/// [`OdpError::Write`] if the store refuses. The rows are written all the same.
pub(super) async fn write_metadata_files(
    target: &Target,
    which: WriteMetadataFiles,
    footers: Vec<(String, ParquetMetaData)>,
    schema: &SchemaRef,
) -> Result<(), OdpError> {
    if which == WriteMetadataFiles::None || target.is_file {
        return Ok(());
    }
    put(target, "_common_metadata", common_metadata(schema)).await?;
    if which == WriteMetadataFiles::All && !footers.is_empty() {
        put(target, "_metadata", metadata(footers)).await?;
    }
    Ok(())
}

async fn put(target: &Target, name: &str, bytes: Result<Vec<u8>, BoxError>) -> Result<(), OdpError> {
    let path = target.path.clone().join(name);
    let failed = |source: BoxError| OdpError::Write { location: path.to_string(), source };
    let bytes = bytes.map_err(failed)?;
    target.store.put(&path, bytes.into()).await.map_err(|error| failed(error.into()))?;
    Ok(())
}

/// A file of the schema without rows.
fn common_metadata(schema: &SchemaRef) -> Result<Vec<u8>, BoxError> {
    let mut bytes = Vec::new();
    ArrowWriter::try_new(&mut bytes, SchemaRef::clone(schema), None)?.close()?;
    Ok(bytes)
}

/// All row groups, each with the path of its file; without page indexes, which lie in the files.
fn metadata(mut footers: Vec<(String, ParquetMetaData)>) -> Result<Vec<u8>, BoxError> {
    footers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bytes = b"PAR1".to_vec();
    let Some((_, first)) = footers.first() else { return Ok(bytes) };
    let rows = footers.iter().map(|(_, footer)| footer.file_metadata().num_rows()).sum();
    let about = first.file_metadata();
    let about = parquet::file::metadata::FileMetaData::new(
        about.version(),
        rows,
        about.created_by().map(String::from),
        // What is said of one file, such as its extent, is not of all.
        about
            .key_value_metadata()
            .map(|entries| entries.iter().filter(|e| e.key != "geo").cloned().collect()),
        about.schema_descr_ptr(),
        about.column_orders().cloned(),
    );
    let mut all = ParquetMetaDataBuilder::new(about);
    for (path, footer) in &footers {
        for group in footer.row_groups() {
            all = all.add_row_group(in_file(group, path)?);
        }
    }
    ParquetMetaDataWriter::new(&mut bytes, &all.build()).finish()?;
    Ok(bytes)
}

fn in_file(group: &RowGroupMetaData, path: &str) -> Result<RowGroupMetaData, BoxError> {
    let columns = group
        .columns()
        .iter()
        .map(|column| {
            let builder = ColumnChunkMetaData::into_builder(column.clone());
            Ok(builder.set_file_path(path.to_owned()).build()?)
        })
        .collect::<Result<Vec<_>, BoxError>>()?;
    Ok(group.clone().into_builder().set_column_metadata(columns).build()?)
}
