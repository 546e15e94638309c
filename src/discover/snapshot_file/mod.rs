//! The snapshot file of a dataset: what all its footers say, and what scans have learnt, in one object, so that opening
//! costs a listing and one read. The format is in [`container`].
//!
//! It lies in the dataset's directory under the name [`SNAPSHOT_NAME`], which listings skip. Each entry is about one
//! file version, and is good for that version alone: a file with another size, ETag or time is read again, whatever
//! the snapshot says of it. A snapshot file is a cache; to delete it loses nothing.

mod container;
mod decode;
mod encode;

use std::collections::HashMap;

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::facts::FileFacts;
use super::known_files::KnownFiles;
use super::listing::ListedFile;
use crate::dataset::{Chunk, DatasetSnapshot, is_same_version};
use crate::error::OdpError;
use crate::geo::{FieldPath, SpatialTarget};

/// Name of the snapshot file in the dataset's directory.
pub(crate) const SNAPSHOT_NAME: &str = "_odp_snapshot";

/// A larger file is not read; one of 10^7 row groups is smaller.
const MAX_BYTES: u64 = 4 << 30;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A file by its position in the snapshot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileRef(usize);

/// Extents that scans have learnt of one target.
#[derive(Debug, Clone)]
struct LearntTarget {
    target: SpatialTarget,
    /// The types of the columns it was read from, by name: as another type they may hold other geometries.
    types: HashMap<String, String>,
    /// File, row group of the file, and what was learnt of it.
    chunks: Vec<(FileRef, usize, Chunk)>,
}

/// What a snapshot file knows that is still so.
#[derive(Debug, Default)]
pub(super) struct SnapshotFile {
    pub(super) known: KnownFiles,
    learnt: Vec<LearntTarget>,
    /// The version of each file that learnt extents name.
    versions: Vec<ObjectMeta>,
}

impl SnapshotFile {
    /// Reads the snapshot file at `object_meta`, which lies in `directory`. One that cannot be read, or is damaged, is
    /// none at all, and a warning says so.
    pub(super) async fn read(
        store: &dyn ObjectStore,
        object_meta: &ObjectMeta,
        directory: &Path,
        int96: &str,
    ) -> Self {
        let path = &object_meta.location;
        if object_meta.size > MAX_BYTES {
            log::warn!("snapshot file {path} is ignored: it has {} bytes", object_meta.size);
            return Self::default();
        }
        match Self::try_read(store, path, directory.clone(), int96.to_owned()).await {
            Ok(file) => file,
            Err(error) => {
                log::warn!("snapshot file {path} is ignored, footers are read instead: {error}");
                Self::default()
            }
        }
    }

    async fn try_read(
        store: &dyn ObjectStore,
        path: &Path,
        directory: Path,
        int96: String,
    ) -> Result<Self, BoxError> {
        let bytes = store.get(path).await?.bytes().await?;
        // Off the threads that serve I/O; and a panic stays in the task.
        let decoded = SpawnedTask::spawn_blocking(move || Self::decode(&bytes, &directory, &int96));
        decoded.join().await?
    }

    fn decode(bytes: &Bytes, directory: &Path, int96: &str) -> Result<Self, BoxError> {
        let mut decoded = decode::decode(bytes)?;
        for facts in &mut decoded.runs {
            for file in &mut facts.files {
                let meta = &mut file.object_meta;
                meta.location = directory.parts().chain(meta.location.parts()).collect();
            }
        }
        let files = decoded.runs.iter().flat_map(|facts| &facts.files);
        let versions = match decoded.learnt.is_empty() {
            true => Vec::new(),
            false => files.map(|file| file.object_meta.clone()).collect(),
        };
        let runs =
            decoded.runs.into_iter().filter(|run| run.int96.as_deref().is_none_or(|known| known == int96));
        Ok(Self { known: KnownFiles::new(runs.collect()), learnt: decoded.learnt, versions })
    }

    /// Tells `snapshot` what was learnt of files that are still the same.
    pub(super) fn teach(&self, snapshot: &DatasetSnapshot) {
        if self.learnt.is_empty() {
            return;
        }
        let files = snapshot.files().iter().enumerate();
        let by_path: HashMap<&Path, usize> = files.map(|(i, file)| (&file.object_meta.location, i)).collect();
        let current: Vec<Option<usize>> = self
            .versions
            .iter()
            .map(|version| {
                let at = *by_path.get(&version.location)?;
                is_same_version(version, &snapshot.files()[at].object_meta).then_some(at)
            })
            .collect();
        for learnt in &self.learnt {
            if types_of(&learnt.target, snapshot) != Some(learnt.types.clone()) {
                continue;
            }
            // Chunks of a row group stand together.
            for chunks in learnt.chunks.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                let Some((FileRef(file), group, _)) = chunks.first() else { continue };
                let Some(file) = current.get(*file).copied().flatten() else { continue };
                let Some(rows) = snapshot.files()[file].row_groups.get(*group).map(|group| group.rows) else {
                    continue;
                };
                let chunks: Vec<Chunk> = chunks.iter().map(|(_, _, chunk)| chunk.clone()).collect();
                let is_in_order = chunks.iter().all(|c| c.rows.start < c.rows.end && c.rows.end <= rows)
                    && chunks.windows(2).all(|pair| pair[0].rows.end <= pair[1].rows.start);
                if is_in_order {
                    snapshot.learnt().record(&learnt.target, (file, *group), chunks);
                }
            }
        }
    }
}

/// The types of the columns that `target` is read from, by name; `None` if the table lacks one.
fn types_of(target: &SpatialTarget, snapshot: &DatasetSnapshot) -> Option<HashMap<String, String>> {
    let schema = snapshot.schema();
    let of = |path: &FieldPath| {
        let field = schema.field_with_name(path.first()?).ok()?;
        Some((field.name().clone(), field.data_type().to_string()))
    };
    match target {
        SpatialTarget::Point { lon, lat } => Some([of(lon)?, of(lat)?].into()),
        SpatialTarget::Geometry { path } => Some([of(path)?].into()),
    }
}

/// What was learnt of `files`, which are those of `snapshot` in any order, and maybe others.
fn learnt_of(snapshot: &DatasetSnapshot, files: &[&ObjectMeta]) -> Vec<LearntTarget> {
    let by_path: HashMap<&Path, usize> =
        files.iter().enumerate().map(|(i, meta)| (&meta.location, i)).collect();
    let position = |file: usize| {
        let known = &snapshot.files().get(file)?.object_meta;
        let at = *by_path.get(&known.location)?;
        is_same_version(known, files[at]).then_some(FileRef(at))
    };
    let mut learnt = Vec::new();
    for (target, groups) in snapshot.learnt().all() {
        let Some(types) = types_of(&target, snapshot) else { continue };
        let mut chunks = Vec::new();
        for ((file, group), known) in groups {
            if let Some(file) = position(file) {
                chunks.extend(known.iter().map(|chunk| (file, group, chunk.clone())));
            }
        }
        if !chunks.is_empty() {
            learnt.push(LearntTarget { target, types, chunks });
        }
    }
    learnt
}

/// Writes the snapshot file of `directory`: of `runs`, which are the facts of the files `listed` there, with what
/// `learnt_by` has learnt. Replaces the one that is there, in one step. Gives its path and size in bytes.
///
/// # Errors
/// [`OdpError::Write`] if the store refuses.
pub(super) async fn write(
    store: &dyn ObjectStore,
    directory: &Path,
    listed: &[ListedFile],
    runs: Vec<FileFacts>,
    learnt_by: &DatasetSnapshot,
) -> Result<(Path, u64), OdpError> {
    let path = directory.clone().join(SNAPSHOT_NAME);
    let failed = |source: BoxError| OdpError::Write { location: path.to_string(), source };
    let by_path: HashMap<&Path, String> =
        listed.iter().map(|file| (&file.object_meta.location, file.relative_path())).collect();
    let versions = || runs.iter().flat_map(|run| &run.files).map(|file| &file.object_meta);
    let paths: Vec<String> =
        versions().map(|version| by_path.get(&version.location).cloned().unwrap_or_default()).collect();
    let learnt = learnt_of(learnt_by, &versions().collect::<Vec<_>>());
    let encode = SpawnedTask::spawn_blocking(move || encode::encode(&runs, &paths, &learnt));
    let file = encode.join().await.map_err(|error| failed(error.into()))?.map_err(failed)?;
    let size = file.len() as u64;
    store.put(&path, file.into()).await.map_err(|error| failed(error.into()))?;
    Ok((path, size))
}
