//! Whether new files can be read together with those that stay: otherwise the dataset could not be opened again.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::object_store::ObjectMeta;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::Target;
use super::commit::{DataFile, FOOTER_BYTES};
use super::write::BoxError;
use crate::discover::{ListedFile, partition_values, union_by_name};
use crate::error::OdpError;

/// Compares a file that is `added`, of which the footer is given, with `staying` ones: the partition columns with those in the paths of files
/// that no log speaks of, the other columns with those of the first and the last file.
///
/// # Errors
/// [`OdpError::SchemaMismatch`] that names both files. A staying file that cannot be read is not compared: another writer
/// may just have replaced it.
pub(super) async fn check_beside(
    target: &Target,
    staying: &[&ListedFile],
    (added, footer): (&DataFile, &ParquetMetaData),
    columns: &[(String, DataType)],
) -> Result<(), OdpError> {
    let (Some(first), Some(last)) = (staying.first(), staying.last()) else { return Ok(()) };
    for file in staying.iter().filter(|file| file.recorded().is_none()) {
        let mismatch = |reason| OdpError::SchemaMismatch {
            first: file.object_meta.location.to_string(),
            second: added.staged.published.to_string(),
            reason,
        };
        let values = partition_values(file, columns).map_err(|error| match error {
            OdpError::InvalidData { source, .. } => mismatch(source.to_string()),
            other => other,
        })?;
        if values.len() != columns.len() {
            return Err(mismatch("partition columns are in the path of the first only".to_owned()));
        }
    }
    let ours = arrow_schema(footer).map_err(|error| OdpError::InvalidData {
        location: added.staged.path.clone(),
        source: error.into(),
    })?;
    let (first_schema, last_schema) =
        futures::join!(schema_of(target, &first.object_meta), schema_of(target, &last.object_meta));
    for (file, schema) in [(first, first_schema), (last, last_schema)] {
        let Ok(schema) = schema else { continue };
        let both = [(file.object_meta.location.as_ref(), &schema), (added.staged.published.as_ref(), &ours)];
        union_by_name(both.into_iter())?;
    }
    Ok(())
}

async fn schema_of(target: &Target, file: &ObjectMeta) -> Result<Schema, BoxError> {
    let reader =
        DFParquetMetadata::new(target.store.as_ref(), file).with_metadata_size_hint(Some(FOOTER_BYTES));
    Ok(arrow_schema(&*reader.fetch_metadata().await?)?)
}

fn arrow_schema(footer: &ParquetMetaData) -> Result<Schema, ParquetError> {
    let footer = footer.file_metadata();
    parquet_to_arrow_schema(footer.schema_descr(), footer.key_value_metadata())
}
