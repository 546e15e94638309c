//! `_metadata` as PyArrow, Dask and Spark write it: the footers of all files of a directory in one, each row group with
//! the path of its file.
//!
//! It says nothing of versions, and is read only for who asks for it. It is believed of a file that was last written
//! before it, which is a guess: a copy gives files other times. When a file is read, its own footer is compared with what
//! was planned; what is answered without reading it is not. One with GeoParquet metadata is not used: its boxes are of
//! one file.

use std::collections::{BTreeMap, HashMap};

use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::file::metadata::{
    FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader,
    RowGroupMetaData,
};

use super::facts::FileFacts;
use super::footer::without_distrusted_statistics;
use super::footers::{Int96Setting, Runs, facts_of};
use super::known_files::KnownFiles;
use super::listing::ListedFile;
use crate::error::OdpError;
use datafusion::common::runtime::SpawnedTask;

/// A larger file is not read: decoded it takes several times as much memory.
const MAX_BYTES: u64 = 1 << 30;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The files of `listed`, which lie below `directory`, that the `_metadata` at `object_meta` speaks of. One that cannot
/// be read speaks of none, and a warning says so.
pub(super) async fn read(
    store: &dyn ObjectStore,
    object_meta: &ObjectMeta,
    directory: &Path,
    listed: &[ListedFile],
    int96: Option<Int96Setting>,
) -> KnownFiles {
    match try_read(store, object_meta, directory.clone(), listed, int96).await {
        Ok(known) => known,
        Err(error) => {
            log::warn!("{} is ignored, footers are read instead: {error}", object_meta.location);
            KnownFiles::default()
        }
    }
}

async fn try_read(
    store: &dyn ObjectStore,
    object_meta: &ObjectMeta,
    directory: Path,
    listed: &[ListedFile],
    int96: Option<Int96Setting>,
) -> Result<KnownFiles, BoxError> {
    // What was written in the same moment may have been written after.
    let older: HashMap<Path, ObjectMeta> = listed
        .iter()
        .filter(|file| file.object_meta.last_modified < object_meta.last_modified)
        .map(|file| (file.object_meta.location.clone(), file.object_meta.clone()))
        .collect();
    if older.is_empty() {
        return Ok(KnownFiles::default());
    }
    if object_meta.size > MAX_BYTES {
        return Err(format!("it has {} bytes", object_meta.size).into());
    }
    let bytes = store.get(&object_meta.location).await?.bytes().await?;
    // Decoded in a task of its own: a panic of the decoder stays in it.
    let decoded = SpawnedTask::spawn_blocking(move || -> Result<KnownFiles, BoxError> {
        let footers = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .parse_and_finish(&bytes)?;
        let facts = split(footers, &directory, &older, int96.as_ref())?;
        Ok(KnownFiles::new(facts))
    });
    decoded.join().await?
}

/// The facts of each file in `older` that `footers` names; that it names all row groups of it is believed.
fn split(
    footers: ParquetMetaData,
    directory: &Path,
    older: &HashMap<Path, ObjectMeta>,
    int96: Option<&Int96Setting>,
) -> Result<Vec<FileFacts>, BoxError> {
    let about = footers.file_metadata().clone();
    if about.key_value_metadata().is_some_and(|entries| entries.iter().any(|entry| entry.key == "geo")) {
        return Err("it has GeoParquet metadata, whose boxes are of single files".into());
    }
    let mut by_file: BTreeMap<String, Vec<RowGroupMetaData>> = BTreeMap::new();
    for group in footers.into_builder().take_row_groups() {
        let path = group.columns().first().and_then(|column| column.file_path().map(str::to_owned));
        by_file.entry(path.ok_or("a row group does not name its file")?).or_default().push(group);
    }
    let mut runs = Runs::default();
    for (path, groups) in by_file {
        let Ok(path) = Path::parse(&path) else { continue };
        let path: Path = directory.parts().chain(path.parts()).collect();
        let Some(object_meta) = older.get(&path) else { continue };
        runs.push(facts(&about, groups, object_meta, int96)?)?;
    }
    Ok(runs.finish()?)
}

fn facts(
    about: &FileMetaData,
    groups: Vec<RowGroupMetaData>,
    object_meta: &ObjectMeta,
    int96: Option<&Int96Setting>,
) -> Result<FileFacts, OdpError> {
    let rows = groups.iter().map(RowGroupMetaData::num_rows).fold(0i64, i64::saturating_add);
    let about = FileMetaData::new(
        about.version(),
        rows,
        about.created_by().map(str::to_owned),
        about.key_value_metadata().cloned(),
        about.schema_descr_ptr(),
        about.column_orders().cloned(),
    );
    let footer = std::sync::Arc::new(ParquetMetaDataBuilder::new(about).set_row_groups(groups).build());
    let clean = without_distrusted_statistics(&footer, object_meta.size).map_err(|error| {
        OdpError::InvalidData { location: object_meta.location.to_string(), source: Box::new(error) }
    })?;
    facts_of(object_meta.clone(), clean.as_ref().unwrap_or(&footer), int96.cloned())
}
