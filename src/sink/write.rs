//! One write under way: its name, where its files go, and how all of it is undone.

use std::fmt::{self, Debug, Formatter};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectStoreExt};
use futures::StreamExt;

use super::Target;
use super::durability::{Disk, Held, blocking};
use crate::discover::commit_log::{
    Log, below, data_file_name, hidden_directory, log_directory, record_path, stage_directory,
};
use crate::error::OdpError;

/// Requests that a commit makes at a time.
pub(super) const CONCURRENT_REQUESTS: usize = 8;

/// The file in a write's stage that its writer holds locked.
pub(super) const LOCK_NAME: &str = "lock";

/// The object in a write's stage, where there are no locks.
pub(super) const MARKER_NAME: &str = "writer";

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A write under way.
pub(super) struct Write {
    pub(super) target: Target,
    /// The dataset's directory, or the one of the file.
    pub(super) directory: Path,
    /// The local disk that the target is on.
    pub(super) disk: Option<Arc<dyn Disk>>,
    pub(super) id: String,
    /// The commit that the write is based on.
    pub(super) base_version: AtomicU64,
    /// It made record 0, which adds nothing.
    pub(super) has_begun: AtomicBool,
    /// What was written belongs to a commit, or may: nothing of it is removed.
    pub(super) is_settled: AtomicBool,
    /// The nearest directory that was there before, if the write had to make any.
    made_below: Option<Path>,
    /// What may lie where a store lists it.
    objects: Mutex<Vec<Path>>,
    /// Numbers staged files.
    next_staged: AtomicU64,
    held: Mutex<Option<Held>>,
}

impl Debug for Write {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("target", &self.target).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A name that no other write has: hashes under keys that the operating system draws.
fn new_write_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hash = RandomState::new().hash_one((std::process::id(), now));
    format!("{hash:016x}")
}

/// The time now, for people.
pub(super) fn utc_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    chrono::DateTime::from_timestamp(seconds, now.subsec_nanos())
        .map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        .unwrap_or_default()
}

impl Write {
    /// Takes a name, and shows that a writer lives. On a disk this makes the directory.
    ///
    /// # Errors
    /// [`OdpError::Write`] where nothing can be written.
    pub(super) async fn begin(target: Target, disk: Option<Arc<dyn Disk>>) -> Result<Self, OdpError> {
        const ATTEMPTS: usize = 5;
        let directory = match target.is_file {
            true => target.path.parent().unwrap_or_default(),
            false => target.path.clone(),
        };
        let mut write = Self {
            made_below: disk.as_ref().and_then(|disk| made_below(disk.as_ref(), &directory)),
            target,
            directory,
            disk,
            id: new_write_id(),
            base_version: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            objects: Mutex::default(),
            next_staged: AtomicU64::new(0),
            held: Mutex::default(),
        };
        for attempt in 1.. {
            let path = write.lock_path();
            let held = match write.disk.as_ref() {
                None if write.target.is_file => break,
                None => {
                    let mark = utc_now().into_bytes();
                    let put = write.target.store.put(&write.marker(), mark.into()).await;
                    put.map_err(|error| write.failed(&write.directory, error))?;
                    break;
                }
                Some(disk) => blocking(disk, move |disk| disk.hold(&path)).await,
            };
            match held {
                Ok(Some(held)) => {
                    write.held = Mutex::new(Some(held));
                    break;
                }
                // Somebody who cleans was in between.
                Ok(None) if attempt < ATTEMPTS => write.id = new_write_id(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                    write.id = new_write_id();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
                Ok(None) => {
                    return Err(write.failed(&write.directory, "its lock is taken away again and again"));
                }
                Err(error) => {
                    write.undo_directories();
                    return Err(write.failed(&write.directory, error));
                }
            }
        }
        Ok(write)
    }

    pub(super) fn failed(&self, path: &Path, source: impl Into<BoxError>) -> OdpError {
        let below = path
            .prefix_match(&self.target.path)
            .map(|rest| rest.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
        let display = self.target.display.trim_end_matches('/');
        let location = match below {
            Some(rest) if rest.is_empty() => self.target.display.clone(),
            Some(rest) => format!("{display}/{rest}"),
            None => format!("{display} ({path})"),
        };
        OdpError::Write { location, source: source.into() }
    }

    pub(super) fn log(&self) -> Log<'_> {
        Log { store: self.target.store.as_ref(), directory: &self.directory }
    }

    pub(super) fn base_version(&self) -> u64 {
        self.base_version.load(Ordering::Relaxed)
    }

    /// The directory of unpublished files.
    pub(super) fn stage(&self) -> Path {
        stage_directory(&self.directory).join(self.id.as_str())
    }

    /// How names of unpublished files beside a single file begin.
    fn sibling_prefix(&self) -> String {
        format!(".{}.{}.", self.target.path.filename().unwrap_or_default(), self.id)
    }

    fn lock_path(&self) -> Path {
        match self.target.is_file {
            true => below(&self.directory, &format!("{}{LOCK_NAME}", self.sibling_prefix())),
            false => self.stage().join(LOCK_NAME),
        }
    }

    fn marker(&self) -> Path {
        self.stage().join(MARKER_NAME)
    }

    /// The path of a data file below the directory, where its bytes go now, and where they will be.
    pub(super) fn place(&self, directory: &str, number: u64) -> Result<(String, Path, Path), BoxError> {
        if self.target.is_file {
            let name = self.target.path.filename().unwrap_or_default().to_owned();
            let published = self.target.path.clone();
            let staged = match self.disk.is_some() {
                true => below(&self.directory, &format!("{}staged", self.sibling_prefix())),
                false => published.clone(),
            };
            return Ok((name, staged, published));
        }
        let name = data_file_name(self.base_version().saturating_add(1), &self.id, number);
        let path = match directory {
            "" => name,
            directory => format!("{directory}/{name}"),
        };
        if Path::parse(&path)?.as_ref() != path {
            return Err(format!("{path:?} is not a path below the dataset").into());
        }
        let published = below(&self.directory, &path);
        let staged = match self.disk.is_some() {
            true => {
                let staged = self.next_staged.fetch_add(1, Ordering::Relaxed);
                self.stage().join(format!("{staged:06}.data"))
            }
            false => published.clone(),
        };
        Ok((path, staged, published))
    }

    /// Remembers an object that must go if the write fails.
    pub(super) fn register(&self, path: &Path) {
        // The stage on a disk goes as a whole.
        let is_staged = self.disk.is_some() && path.prefix_matches(&stage_directory(&self.directory));
        if !is_staged && !self.target.is_file {
            self.objects.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        }
    }

    fn take_objects(&self) -> Vec<Path> {
        std::mem::take(&mut *self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Directories that were not there before, and the one above them; the lowest first.
    pub(super) fn made_directories(&self) -> Vec<Path> {
        let Some(made_below) = &self.made_below else { return vec![self.directory.clone()] };
        let mut directories = Vec::new();
        let mut next = Some(self.directory.clone());
        while let Some(directory) = next {
            next = directory.parent().filter(|_| directory != *made_below);
            directories.push(directory);
        }
        directories
    }

    /// Removes what is staged; the writer then lives no more.
    pub(super) async fn end(&self) {
        match self.disk.as_ref() {
            Some(disk) => {
                let (stage, parent) = (self.stage(), self.directory.clone());
                let prefix = self.target.is_file.then(|| self.sibling_prefix());
                let removed = blocking(disk, move |disk| match prefix {
                    Some(prefix) => remove_siblings(disk, &parent, &prefix),
                    None => disk.remove_tree(&stage),
                });
                if let Err(error) = removed.await {
                    log::warn!("{} is left behind: {error}", self.stage());
                }
            }
            None if self.target.is_file => {}
            None => {
                if let Err(error) = self.target.store.delete(&self.marker()).await {
                    log::warn!("{} is left behind: {error}", self.marker());
                }
            }
        }
        self.release();
    }

    fn release(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Removes all that the write made, as far as it can.
    pub(super) async fn abort(self: &Arc<Self>) {
        if self.is_settled.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.disk.as_ref() {
            Some(disk) => {
                let write = Arc::clone(self);
                let undone = blocking(disk, move |_| {
                    write.undo();
                    Ok(())
                });
                if let Err(error) = undone.await {
                    log::warn!("a failed write to {} is left behind: {error}", self.target.display);
                }
            }
            None => self.abort_in_store().await,
        }
    }

    async fn abort_in_store(&self) {
        let store = &self.target.store;
        let objects = self.take_objects();
        // One that is on its way may come into being after it was deleted; without a log it would be seen.
        let may_come = !objects.is_empty();
        let deletions: Vec<_> = objects
            .into_iter()
            .map(|path| async move {
                match store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => true,
                    Err(error) => {
                        log::warn!("{path} of a failed write is left behind: {error}");
                        false
                    }
                }
            })
            .collect();
        let mut deletions = futures::stream::iter(deletions).buffer_unordered(CONCURRENT_REQUESTS);
        let mut is_clean = true;
        while let Some(is_deleted) = deletions.next().await {
            is_clean &= is_deleted;
        }
        if self.target.is_file {
            return;
        }
        self.end().await;
        // Without a log, files of ours that are left would be seen.
        if !is_clean || may_come || !self.has_begun.load(Ordering::Acquire) {
            return;
        }
        let is_alone = match self.log().list().await {
            Ok(log) => log.last() == Some(0),
            Err(_) => false,
        };
        // A writer that has begun since relies on the log.
        let mut others = store.list(Some(&stage_directory(&self.directory)));
        if is_alone && others.next().await.is_none() {
            let path = record_path(&self.directory, 0);
            if let Err(error) = store.delete(&path).await {
                log::debug!("{path} stays: {error}");
            }
        }
    }

    /// [`abort`](Self::abort) on a disk, at once; for a drop, too.
    pub(super) fn undo(&self) {
        let Some(disk) = self.disk.as_deref() else { return };
        let warn =
            |what: &Path, error: io::Error| log::warn!("{what} of a failed write is left behind: {error}");
        let objects = self.take_objects();
        for path in &objects {
            let (Some(parent), Some(name)) = (path.parent(), path.filename()) else { continue };
            match disk.remove_file(&parent, name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => warn(path, error),
                _ => {}
            }
        }
        let removed = match self.target.is_file {
            true => remove_siblings(disk, &self.directory, &self.sibling_prefix()),
            false => disk.remove_tree(&self.stage()),
        };
        if let Err(error) = removed {
            warn(&self.stage(), error);
        }
        // Once files were published the log stays: their removal may not have reached the disk, and without a log they
        // would be seen.
        if self.has_begun.load(Ordering::Acquire) && objects.is_empty() {
            let log = log_directory(&self.directory);
            let is_alone = matches!(disk.files(&log).as_deref(), Ok([_]))
                && disk.directories(&stage_directory(&self.directory)).is_ok_and(|others| others.is_empty());
            if is_alone && let Some(name) = record_path(&self.directory, 0).filename() {
                // Another writer may have done it.
                let _ = disk.remove_file(&log, name);
            }
        }
        self.undo_directories();
        self.release();
    }

    /// Removes directories that the write made, if nothing is in them.
    fn undo_directories(&self) {
        let Some(disk) = self.disk.as_deref() else { return };
        if !self.target.is_file {
            let hidden = [log_directory(&self.directory), stage_directory(&self.directory)];
            for directory in hidden.into_iter().chain([hidden_directory(&self.directory)]) {
                let _ = disk.remove_empty(&directory);
            }
        }
        if self.made_below.is_some() {
            let mut made = self.made_directories();
            made.pop();
            for directory in made {
                let _ = disk.remove_empty(&directory);
            }
        }
    }
}

/// The nearest directory above `directory` that is there; `None` if `directory` is.
fn made_below(disk: &dyn Disk, directory: &Path) -> Option<Path> {
    if disk.is_directory(directory) {
        return None;
    }
    let mut next = directory.parent();
    while let Some(parent) = next {
        if disk.is_directory(&parent) {
            return Some(parent);
        }
        next = parent.parent();
    }
    Some(Path::default())
}

/// Removes the unpublished files beside a single file.
fn remove_siblings(disk: &dyn Disk, directory: &Path, prefix: &str) -> io::Result<()> {
    for (name, _) in disk.files(directory)? {
        if name.starts_with(prefix) {
            disk.remove_file(directory, &name)?;
        }
    }
    Ok(())
}
