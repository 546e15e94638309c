//! Whether new files can be read together with those that stay: otherwise the dataset could not be opened again.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::parquet_to_arrow_schema;

use super::Target;
use super::commit::{DataFile, FOOTER_BYTES};
use super::write::BoxError;
use crate::discover::{ListedFile, partition_values, union_by_name};
use crate::error::OdpError;

/// Compares one of the files that are `added` with `staying` ones: the partition columns with those in the paths of files
/// that no log speaks of, the other columns with those of the first and the last file.
///
/// # Errors
/// [`OdpError::SchemaMismatch`] that names both files. A staying file that cannot be read is not compared: another writer
/// may just have replaced it.
pub(super) async fn check_beside(
    target: &Target,
    staying: &[&ListedFile],
    added: &[DataFile],
    columns: &[(String, DataType)],
) -> Result<(), OdpError> {
    let (Some(added), Some(first), Some(last)) = (added.first(), staying.first(), staying.last()) else {
        return Ok(());
    };
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
    let ours = async {
        let meta = target.store.head(&added.staged.staged).await?;
        schema_of(target, &meta).await
    };
    let (ours, first_schema, last_schema) =
        futures::join!(ours, schema_of(target, &first.object_meta), schema_of(target, &last.object_meta));
    let ours = ours.map_err(|source| OdpError::Write { location: added.staged.path.clone(), source })?;
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
    let footer = reader.fetch_metadata().await?;
    let footer = footer.file_metadata();
    Ok(parquet_to_arrow_schema(footer.schema_descr(), footer.key_value_metadata())?)
}
