//! What a local disk needs that an object store has no word for: forcing to the disk, locks, directories.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::object_store::path::Path;

/// A lock; it ends when this is dropped, or with the process.
pub(super) type Held = Box<dyn Any + Send + Sync>;

/// A local disk below an object store. Paths are those of the store. All calls block.
pub(super) trait Disk: Debug + Send + Sync {
    /// Forces a file to the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Forces what there is of a file to the disk while its upload goes on, for less to do at its end; false if it cannot
    /// be found. An error fails the file: the system tells it once, and not again when all is forced.
    fn sync_unfinished(&self, path: &Path) -> io::Result<bool>;

    /// Forces the names in a directory to the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    fn is_directory(&self, path: &Path) -> bool;

    /// Makes the file, and directories above it, and locks it; `None` if somebody else holds it.
    fn hold(&self, path: &Path) -> io::Result<Option<Held>>;

    /// Locks a file that is there; `None` if somebody else holds it.
    fn take(&self, path: &Path) -> io::Result<Option<Held>>;

    /// Sizes of the files directly in a directory, by name: those too that a store does not list.
    fn files(&self, directory: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Names of the directories directly in a directory.
    fn directories(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Removes a file of a directory by its name, which a store may not know as one.
    fn remove_file(&self, directory: &Path, name: &str) -> io::Result<()>;

    /// Removes a directory with all that is in it.
    fn remove_tree(&self, directory: &Path) -> io::Result<()>;

    /// Removes a directory if it is empty.
    fn remove_empty(&self, directory: &Path) -> io::Result<()>;
}

/// Runs `call` where it may block.
pub(super) async fn blocking<T, F>(disk: &Arc<dyn Disk>, call: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
{
    let disk = Arc::clone(disk);
    SpawnedTask::spawn_blocking(move || call(disk.as_ref())).join().await.map_err(io::Error::other)?
}

/// The disk of this machine.
#[derive(Debug)]
pub(super) struct LocalDisk {
    /// The folder that is the store's root.
    root: PathBuf,
}

impl LocalDisk {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }

    fn lock(file: File) -> io::Result<Option<Held>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn names(
        &self,
        directory: &Path,
        is_wanted: fn(&fs::Metadata) -> bool,
    ) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.path(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let Some(name) = entry.file_name().to_str().filter(|_| is_wanted(&metadata)) {
                names.push((name.to_owned(), metadata.len()));
            }
        }
        names.sort();
        Ok(names)
    }
}

impl Disk for LocalDisk {
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // For writing: Windows forces no other.
        OpenOptions::new().read(true).write(cfg!(windows)).open(self.path(path))?.sync_all()
    }

    fn sync_unfinished(&self, path: &Path) -> io::Result<bool> {
        // Where `LocalFileSystem` puts the parts of the first upload to a path. An open file cannot be renamed on Windows.
        let mut parts = self.path(path).into_os_string();
        parts.push("#1");
        if cfg!(not(unix)) {
            return Ok(false);
        }
        let Ok(parts) = File::open(parts) else { return Ok(false) };
        parts.sync_data().map(|()| true)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if cfg!(windows) {
            // A directory cannot be opened there, and its journal keeps names in order.
            return Ok(());
        }
        File::open(self.path(path))?.sync_all()
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.path(path).is_dir()
    }

    fn hold(&self, path: &Path) -> io::Result<Option<Held>> {
        let path = self.path(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let held = Self::lock(file)?;
        // Whoever cleans may have been between, and removed it.
        Ok(held.filter(|_| path.exists()))
    }

    fn take(&self, path: &Path) -> io::Result<Option<Held>> {
        Self::lock(OpenOptions::new().read(true).write(true).open(self.path(path))?)
    }

    fn files(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.names(directory, fs::Metadata::is_file)
    }

    fn directories(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.names(directory, fs::Metadata::is_dir)?;
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }

    fn remove_file(&self, directory: &Path, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(directory).join(name))
    }

    fn remove_tree(&self, directory: &Path) -> io::Result<()> {
        match fs::remove_dir_all(self.path(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn remove_empty(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir(self.path(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::local::LocalFileSystem;

    #[tokio::test]
    async fn an_unfinished_upload_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let disk = LocalDisk::new(dir.path().to_owned());
        let path = Path::from("d/.staged");
        assert!(!disk.sync_unfinished(&path).unwrap());
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("bytes".into()).await.unwrap();
        assert_eq!(disk.sync_unfinished(&path).unwrap(), cfg!(unix));
        upload.complete().await.unwrap();
        assert!(!disk.sync_unfinished(&path).unwrap());
        assert_eq!(store.head(&path).await.unwrap().size, 5);
    }
}
