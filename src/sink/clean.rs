//! Leftovers of writers that died, and replaced files that were kept: found and removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectMeta, ObjectStoreExt};
use futures::StreamExt;

use super::Target;
use super::commit::disk_of;
use super::durability::{Disk, Held, blocking};
use super::write::{CONCURRENT_REQUESTS, LOCK_NAME};
use crate::discover::commit_log::{Log, LogState, below, record_path, stage_directory, write_id_of};
use crate::discover::{Directory, Listing};
use crate::error::OdpError;

/// A file that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Below the directory.
    pub(crate) path: String,
    pub(crate) reason: Leftover,
    pub(crate) bytes: u64,
}

/// Why a file is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Leftover {
    /// A writer that is gone was about to write it.
    Staged,
    /// A writer that is gone never committed it.
    Uncommitted,
    /// A commit replaced it.
    Replaced,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Staged => "staged",
            Self::Uncommitted => "uncommitted",
            Self::Replaced => "replaced",
        })
    }
}

/// Removes what no reader and no living writer needs; with `dry_run` only says what that is.
///
/// That is: stages and uncommitted files of writers that are gone, and files that commits older than `older_than` replaced.
/// On a local disk a writer is gone when its lock is free. Elsewhere it is taken to be gone when nothing of its write is
/// younger than `older_than`: a time in which a living writer surely writes something. Foreign files stay, but those that
/// a commit replaced and that are still the same.
///
/// # Errors
/// As listing; [`OdpError::Write`] if the store does not remove a file.
pub(crate) async fn clean(
    target: Target,
    older_than: Duration,
    dry_run: bool,
) -> Result<Vec<Cleaned>, OdpError> {
    let disk = disk_of(&target);
    clean_on(target, disk, older_than, dry_run).await
}

pub(super) async fn clean_on(
    target: Target,
    disk: Option<Arc<dyn Disk>>,
    older_than: Duration,
    dry_run: bool,
) -> Result<Vec<Cleaned>, OdpError> {
    let cleaning = Cleaning { target: &target, disk, older_than, dry_run };
    match target.is_file {
        true => cleaning.beside_file().await,
        false => cleaning.directory().await,
    }
}

struct Cleaning<'a> {
    target: &'a Target,
    disk: Option<Arc<dyn Disk>>,
    older_than: Duration,
    dry_run: bool,
}

/// Writers that are gone; on a disk with their locks, so that nobody takes their place.
type Gone = HashMap<String, Option<Held>>;

impl Cleaning<'_> {
    fn failed(&self, path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OdpError {
        let path = path.prefix_match(&self.target.path).map_or_else(
            || path.to_string(),
            |rest| rest.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
        );
        let location = format!("{}/{path}", self.target.display.trim_end_matches('/'));
        OdpError::Write { location, source: source.into() }
    }

    fn is_old(&self, meta: &ObjectMeta) -> bool {
        let age = meta_age(meta);
        age >= self.older_than
    }

    async fn list(&self) -> Result<Listing, OdpError> {
        // Whatever the names of a table's files: ours are known by theirs.
        let extensions = [".parquet".to_owned()];
        let directory =
            Directory::new(&self.target.path, &extensions, &self.target.display, self.disk.is_some());
        directory.list(self.target.store.as_ref()).await
    }

    async fn directory(&self) -> Result<Vec<Cleaned>, OdpError> {
        let gone = self.gone(&self.list().await?).await?;
        // What they committed before they were gone is in the log by now.
        let listing = self.list().await?;
        let mut leftovers = Vec::new();
        if let Some(state) = &listing.log {
            let replaced_at = self.replaced().await?;
            for meta in &listing.hidden {
                leftovers.extend(self.hidden_file(meta, state, &replaced_at, &gone));
            }
        }
        let mut cleaned = self.remove(leftovers).await?;
        cleaned.extend(self.stages(&listing, &gone).await?);
        drop(gone);
        cleaned.sort_by(|a, b| (a.reason, &a.path).cmp(&(b.reason, &b.path)));
        Ok(cleaned)
    }

    /// What to do with a file that no reader sees.
    fn hidden_file(
        &self,
        meta: &ObjectMeta,
        state: &LogState,
        replaced: &HashMap<String, Replacement>,
        gone: &Gone,
    ) -> Option<(Path, Cleaned)> {
        let path = relative(&meta.location, &self.target.path)?;
        if state.live.contains_key(&path) {
            return None;
        }
        let reason = match (replaced.get(&path), write_id_of(meta.location.filename()?)) {
            // The same file as then, and not another that has its name by now.
            (Some(was), id) if was.is_old && was.bytes == meta.size => {
                let is_same = id.is_some() || was.e_tag.is_none() || was.e_tag == meta.e_tag;
                is_same.then_some(Leftover::Replaced)?
            }
            (None, Some(id)) if gone.contains_key(id) => Leftover::Uncommitted,
            _ => return None,
        };
        Some((meta.location.clone(), Cleaned { path, reason, bytes: meta.size }))
    }

    /// All files that commits have replaced.
    async fn replaced(&self) -> Result<HashMap<String, Replacement>, OdpError> {
        let log = Log { store: self.target.store.as_ref(), directory: &self.target.path };
        let listing = log.list().await.map_err(|error| self.failed(&self.target.path, error))?;
        let Some(last) = listing.last() else { return Ok(HashMap::new()) };
        let Some(records) = log.records(0..=last, &listing).await? else {
            return Err(self.failed(&self.target.path, "its log changes while it is read; try again"));
        };
        let mut replaced = HashMap::new();
        for record in records {
            if record.removed.is_empty() {
                continue;
            }
            let path = record_path(&self.target.path, record.version);
            let meta = self.target.store.head(&path).await.map_err(|error| self.failed(&path, error))?;
            let is_old = self.is_old(&meta);
            for file in record.removed {
                let replacement = Replacement { is_old, bytes: file.bytes, e_tag: file.e_tag };
                replaced.insert(file.path, replacement);
            }
        }
        Ok(replaced)
    }

    /// The writers that left something, and are gone.
    async fn gone(&self, listing: &Listing) -> Result<Gone, OdpError> {
        let mut traces: BTreeMap<String, Vec<&ObjectMeta>> = BTreeMap::new();
        let stage = stage_directory(&self.target.path);
        for meta in &listing.staged {
            let id = meta.location.prefix_match(&stage).and_then(|mut rest| rest.next());
            if let Some(id) = id {
                traces.entry(id.as_ref().to_owned()).or_default().push(meta);
            }
        }
        for meta in &listing.hidden {
            if let Some(id) = meta.location.filename().and_then(write_id_of) {
                traces.entry(id.to_owned()).or_default().push(meta);
            }
        }
        let Some(disk) = &self.disk else {
            let are_old = |found: &Vec<&ObjectMeta>| found.iter().all(|meta| self.is_old(meta));
            let gone = traces.into_iter().filter(|(_, found)| are_old(found));
            return Ok(gone.map(|(id, _)| (id, None)).collect());
        };
        let mut ids: BTreeSet<String> = traces.into_keys().collect();
        let directory = stage.clone();
        let staged = blocking(disk, move |disk| disk.directories(&directory)).await;
        let staged: BTreeSet<String> =
            staged.map_err(|error| self.failed(&stage, error))?.into_iter().collect();
        ids.extend(staged.iter().cloned());
        let mut gone = Gone::new();
        for id in ids {
            let lock = stage.clone().join(id.as_str()).join(LOCK_NAME);
            let path = lock.clone();
            match blocking(disk, move |disk| disk.take(&path)).await {
                Ok(Some(held)) => drop(gone.insert(id, Some(held))),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !staged.contains(&id) => {
                    drop(gone.insert(id, None));
                }
                // Its writer is gone, or about to make the lock: whoever makes it first has the name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let path = lock.clone();
                    match blocking(disk, move |disk| disk.hold(&path)).await {
                        Ok(Some(held)) => drop(gone.insert(id, Some(held))),
                        Ok(None) => {}
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(self.failed(&lock, error)),
                    }
                }
                Err(error) => return Err(self.failed(&lock, error)),
            }
        }
        Ok(gone)
    }

    /// Removes the stages of writers that are gone.
    async fn stages(&self, listing: &Listing, gone: &Gone) -> Result<Vec<Cleaned>, OdpError> {
        let stage = stage_directory(&self.target.path);
        let Some(disk) = &self.disk else {
            let found = listing.staged.iter().filter(|meta| {
                let id = meta.location.prefix_match(&stage).and_then(|mut rest| rest.next());
                id.is_some_and(|id| gone.contains_key(id.as_ref()))
            });
            let leftovers = found.filter_map(|meta| {
                let path = relative(&meta.location, &self.target.path)?;
                Some((meta.location.clone(), Cleaned { path, reason: Leftover::Staged, bytes: meta.size }))
            });
            return self.remove(leftovers.collect()).await;
        };
        let ids: Vec<String> = gone.keys().cloned().collect();
        let (dry_run, root) = (self.dry_run, self.target.path.clone());
        let directory = stage.clone();
        let removed = blocking(disk, move |disk| {
            let mut cleaned = Vec::new();
            for id in ids {
                let own = directory.clone().join(id.as_str());
                if !disk.is_directory(&own) {
                    continue;
                }
                for (name, bytes) in disk.files(&own)? {
                    let path = relative(&own, &root).unwrap_or_default();
                    cleaned.push(Cleaned { path: format!("{path}/{name}"), reason: Leftover::Staged, bytes });
                }
                if !dry_run {
                    disk.remove_tree(&own)?;
                }
            }
            Ok(cleaned)
        });
        removed.await.map_err(|error| self.failed(&stage, error))
    }

    async fn remove(&self, leftovers: Vec<(Path, Cleaned)>) -> Result<Vec<Cleaned>, OdpError> {
        let mut cleaned = Vec::with_capacity(leftovers.len());
        let removals: Vec<_> = leftovers
            .into_iter()
            .map(|(path, cleaned)| async move {
                if self.dry_run {
                    return Ok(cleaned);
                }
                match self.target.store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(cleaned),
                    Err(error) => Err(self.failed(&path, error)),
                }
            })
            .collect();
        let mut removals = futures::stream::iter(removals).buffer_unordered(CONCURRENT_REQUESTS);
        while let Some(removed) = removals.next().await {
            cleaned.push(removed?);
        }
        Ok(cleaned)
    }

    /// What writers of a single file have left beside it.
    async fn beside_file(&self) -> Result<Vec<Cleaned>, OdpError> {
        let Some(disk) = &self.disk else { return Ok(Vec::new()) };
        let directory = self.target.path.parent().unwrap_or_default();
        let prefix = format!(".{}.", self.target.path.filename().unwrap_or_default());
        let (dry_run, parent) = (self.dry_run, directory.clone());
        let removed = blocking(disk, move |disk| {
            let names = disk.files(&parent)?;
            let is_id = |text: &str| text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mut locks = HashMap::new();
            let mut cleaned = Vec::new();
            for (name, bytes) in names {
                let Some((id, _)) = name.strip_prefix(&prefix).and_then(|rest| rest.split_once('.')) else {
                    continue;
                };
                if !is_id(id) {
                    continue;
                }
                let lock = below(&parent, &format!("{prefix}{id}.{LOCK_NAME}"));
                if !locks.contains_key(id) {
                    let held = match disk.take(&lock) {
                        Ok(held) => held.map(Some),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
                        Err(error) => return Err(error),
                    };
                    locks.insert(id.to_owned(), held);
                }
                if locks.get(id).is_some_and(Option::is_some) {
                    if !dry_run {
                        disk.remove_file(&parent, &name)?;
                    }
                    cleaned.push(Cleaned { path: name, reason: Leftover::Staged, bytes });
                }
            }
            Ok(cleaned)
        });
        removed.await.map_err(|error| self.failed(&directory, error))
    }
}

/// A file that a commit replaced.
#[derive(Debug)]
struct Replacement {
    /// Readers of the state before have had their time.
    is_old: bool,
    bytes: u64,
    e_tag: Option<String>,
}

fn meta_age(meta: &ObjectMeta) -> Duration {
    // A time to come is no age.
    std::time::SystemTime::now().duration_since(meta.last_modified.into()).unwrap_or_default()
}

fn relative(location: &Path, directory: &Path) -> Option<String> {
    let segments: Vec<_> = location.prefix_match(directory)?.map(|part| part.as_ref().to_owned()).collect();
    Some(segments.join("/"))
}
