//! From locations to a [`DatasetSnapshot`]: lists files, learns what their footers say, cuts batches.

mod assemble;
mod bounds;
pub(crate) mod commit_log;
mod facts;
mod footer;
mod footers;
mod geometry;
mod hive;
mod known_files;
mod leaves;
mod listing;
mod natural_order;
mod parquet_metadata;
mod schema;
mod snapshot_file;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::{self, ObjectStore};

use assemble::Assembly;
use facts::FileFacts;
pub(crate) use footer::{cached_footer, fetch_footer, fetch_footer_by};
use footers::{Int96Setting, Runs, read_footers};
pub(crate) use geometry::{BoundingLeaves, NullEdge, bounding_leaves};
pub(crate) use hive::{DeclaredPartition, partition_values};
use known_files::KnownFiles;
pub(crate) use leaves::keeps_bounds;
use listing::Location;
pub(crate) use listing::without_credentials;
pub(crate) use listing::{Directory, ListedFile, Listing};
pub(crate) use schema::union_by_name;
use snapshot_file::SnapshotFile;

use crate::dataset::DatasetSnapshot;
use crate::error::OdpError;
use crate::options::{MetadataFiles, TableOptions};

/// How often a dataset is listed again if commits replaced files between its listing and the reading of footers.
const MAX_OPENINGS: u32 = 20;

/// What to open, and how.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// URLs or paths, all in one object store.
    pub(crate) locations: Vec<String>,
    pub(crate) options: TableOptions,
    /// Partition columns that the user named.
    pub(crate) partitions: Option<Vec<DeclaredPartition>>,
    /// Columns that the user declared, without partition columns.
    pub(crate) schema: Option<SchemaRef>,
    /// The location is one file, and this is all that is wanted of it.
    pub(crate) range: Option<FileRange>,
}

/// Some rows of a file, and the values of its partition columns, as another snapshot had them.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) partitions: Vec<(String, ScalarValue)>,
}

/// Where a dataset lies.
struct Place {
    locations: Vec<Location>,
    object_store_url: ObjectStoreUrl,
    store: Arc<dyn ObjectStore>,
}

impl Place {
    fn find(state: &dyn Session, request: &Request) -> Result<Self, OdpError> {
        let locations =
            request.locations.iter().map(|l| Location::parse(l)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = locations.first() else {
            return Err(OdpError::EmptyDataset {
                location: "(none)".into(),
                reason: "no location is given".into(),
            });
        };
        let object_store_url = first.object_store_url();
        if let Some(other) = locations.iter().find(|l| l.object_store_url() != object_store_url) {
            let what =
                format!("one dataset in two object stores ({} and {})", first.display(), other.display());
            return Err(OdpError::Unsupported { what });
        }
        let store = state.runtime_env().object_store(&object_store_url).map_err(|_| OdpError::Storage {
            location: first.display(),
            // DataFusion's own message repeats the URL as written, credentials included.
            source: "no object store is registered for this URL".into(),
        })?;
        Ok(Self { locations, object_store_url, store })
    }

    fn display(&self) -> String {
        self.locations.iter().map(Location::display).collect::<Vec<_>>().join(", ")
    }
}

/// Opens a dataset: lists it, learns what all footers say, merges schemas, cuts batches.
///
/// Footers are read concurrently, but those that a snapshot file in the dataset speaks of, or a `_metadata` file.
///
/// # Errors
/// See [`OdpError`]: nothing to read, storage failures, files that break their format or do not fit together.
pub(crate) async fn open_snapshot(
    state: &dyn Session,
    request: Request,
) -> Result<DatasetSnapshot, OdpError> {
    let place = Place::find(state, &request)?;
    for attempt in 0..MAX_OPENINGS {
        match place.open(state, &request).await {
            // A commit replaced files after they were listed: what it left is another, whole state.
            Err((error, true)) if is_not_found(&error) => {
                log::debug!("opening {} again: {error}", place.display());
            }
            other => return other.map_err(|(error, _)| error),
        }
        tokio::time::sleep(Duration::from_millis(1 << attempt.min(7))).await;
    }
    place.open(state, &request).await.map_err(|(error, _)| error)
}

impl Place {
    /// With an error: whether a commit log may be the cause.
    async fn open(
        &self,
        state: &dyn Session,
        request: &Request,
    ) -> Result<DatasetSnapshot, (OdpError, bool)> {
        let mut has_log = false;
        let opened = self.open_once(state, request, &mut has_log).await;
        opened.map_err(|error| (error, has_log))
    }

    async fn open_once(
        &self,
        state: &dyn Session,
        request: &Request,
        has_log: &mut bool,
    ) -> Result<DatasetSnapshot, OdpError> {
        // A file that lies in two of the locations is read once.
        let mut seen = HashSet::new();
        let (mut listed, mut facts, mut snapshot_files) = (Vec::new(), Vec::new(), Vec::new());
        let mut logged_columns = None;
        let extensions = &request.options.file_extensions;
        for location in &self.locations {
            let is_declared = request.schema.is_some();
            let mut listing = location.list_files(self.store.as_ref(), extensions, is_declared).await?;
            *has_log |= listing.log.is_some();
            listing.files.retain(|file| seen.insert(file.object_meta.location.clone()));
            let metadata_files = request.options.metadata_files;
            let (known, snapshot_file) = known_files(state, self, location, &listing, metadata_files).await;
            facts.extend(all_facts(state, &self.store, known, &listing.files).await?);
            if let Some(common) = listing.common_metadata.filter(|_| metadata_files != MetadataFiles::None) {
                // The columns of a dataset without files.
                let footer = read_footers(state, &self.store, vec![common]).await?;
                facts.extend(footer.iter().map(|facts| facts.slice(&(0..0))));
            }
            listed.extend(listing.files);
            snapshot_files.push(snapshot_file);
            logged_columns = logged_columns.or(listing.log.and_then(|log| log.columns));
        }
        let partitions = match request.options.hive_partitions || request.partitions.is_some() {
            true => hive::read_partitions(&listed, request.partitions.as_deref(), logged_columns.as_deref())?,
            false => hive::Partitions::given(request.range.as_ref(), listed.len()),
        };
        let snapshot = Assembly {
            location: self.display(),
            object_store_url: self.object_store_url.clone(),
            listed,
            facts,
            partitions,
            declared: request.schema.clone(),
            unit: request.options.batch_unit,
            range: request.range.clone(),
        }
        .snapshot(&state.config_options().execution.parquet)?;
        snapshot_files.iter().for_each(|file| file.teach(&snapshot));
        Ok(snapshot)
    }
}

/// Whether an object that was there when it was listed is there no more.
fn is_not_found(error: &OdpError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The files of a location that need not be read: the snapshot file speaks of them, or the `_metadata` file.
async fn known_files(
    state: &dyn Session,
    place: &Place,
    location: &Location,
    listing: &Listing,
    metadata_files: MetadataFiles,
) -> (KnownFiles, SnapshotFile) {
    let store = place.store.as_ref();
    let Ok(directory) = location.directory() else { return Default::default() };
    let mut snapshot_file = SnapshotFile::default();
    if let Some(found) = listing.snapshot.as_ref().filter(|_| metadata_files != MetadataFiles::None) {
        snapshot_file = SnapshotFile::read(store, found, directory, &int96_text(state)).await;
    }
    let mut known = std::mem::take(&mut snapshot_file.known);
    if let Some(found) = listing.metadata.as_ref().filter(|_| metadata_files == MetadataFiles::All) {
        let int96 = Int96Setting::of(&state.config_options().execution.parquet);
        known = known.or(parquet_metadata::read(store, found, directory, &listing.files, int96).await);
    }
    (known, snapshot_file)
}

/// The facts of all `files`, in any order; reads the footers of those that are not known.
async fn all_facts(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    known: KnownFiles,
    files: &[ListedFile],
) -> Result<Vec<FileFacts>, OdpError> {
    let (known, unknown) = known.take(files);
    let unknown = unknown.into_iter().map(|file| file.object_meta.clone()).collect();
    let read = read_footers(state, store, unknown).await?;
    let mut runs = Runs::default();
    known.into_iter().chain(read).try_for_each(|facts| runs.push(facts))?;
    runs.finish()
}

/// A snapshot file that was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WrittenSnapshot {
    /// Its path in the object store.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files of the dataset that it speaks of.
    pub files: usize,
    /// Their row groups.
    pub row_groups: usize,
    /// Their rows.
    pub rows: u64,
}

/// Writes a snapshot file into each location of a dataset, of the files as they are now, with what `learnt_by` learnt.
///
/// # Errors
/// As [`open_snapshot`]; [`OdpError::Write`] if the store refuses, [`OdpError::Unsupported`] for a location that is not
/// a directory.
pub(crate) async fn write_snapshots(
    state: &dyn Session,
    request: &Request,
    learnt_by: &DatasetSnapshot,
) -> Result<Vec<WrittenSnapshot>, OdpError> {
    let place = Place::find(state, request)?;
    let is_trusted = request.options.metadata_files != MetadataFiles::None;
    let mut written = Vec::with_capacity(place.locations.len());
    for location in &place.locations {
        let directory = location.directory()?;
        let store = place.store.as_ref();
        let listing = location.list_files(store, &request.options.file_extensions, false).await?;
        if listing.files.iter().any(|file| file.object_meta.location == *directory) {
            let what =
                format!("a snapshot file for {}, which is a file and no directory", location.display());
            return Err(OdpError::Unsupported { what });
        }
        let mut snapshot_file = SnapshotFile::default();
        if let Some(found) = listing.snapshot.as_ref().filter(|_| is_trusted) {
            snapshot_file = SnapshotFile::read(store, found, directory, &int96_text(state)).await;
            // What others have learnt stays.
            snapshot_file.teach(learnt_by);
        }
        let facts = all_facts(state, &place.store, snapshot_file.known, &listing.files).await?;
        let files = listing.files.len();
        let groups = || facts.iter().flat_map(|facts| &facts.row_groups);
        let (row_groups, rows) = (groups().count(), groups().map(|group| group.rows).sum());
        let (path, bytes) = snapshot_file::write(store, directory, &listing.files, facts, learnt_by).await?;
        written.push(WrittenSnapshot { path: path.to_string(), bytes, files, row_groups, rows });
    }
    Ok(written)
}

/// How the session reads INT96, as facts name it.
fn int96_text(state: &dyn Session) -> String {
    let setting = Int96Setting::of(&state.config_options().execution.parquet);
    Int96Setting::text(setting.as_ref()).to_owned()
}
