//! A disk in memory that forgets, when power is lost, what was not forced to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result, UploadPart,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use crate::sink::durability::{Disk, Held};

/// What is lost with the power.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss {
    /// All that was not forced.
    Everything,
    /// The bytes of files that were not forced; names last.
    Bytes,
    /// Any of it, by a seed.
    Some(u64),
}

#[derive(Debug, Clone, Copy)]
enum NameChange {
    Set(usize),
    Remove,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes of each file, and whether they were forced.
    files: Vec<(Bytes, bool)>,
    names: BTreeMap<String, usize>,
    lasting: BTreeMap<String, usize>,
    directories: BTreeSet<String>,
    lasting_directories: BTreeSet<String>,
    /// Changes of names that were not forced, in order.
    changes: Vec<(String, NameChange)>,
    /// Directories that were made and whose names were not forced.
    made: Vec<String>,
    locks: BTreeSet<String>,
    operations: u64,
    /// The operation at which power is lost.
    power_until: Option<u64>,
}

/// The disk; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelDisk(Arc<Mutex<State>>);

impl Display for ModelDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a model of a disk")
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default()
}

impl State {
    fn work(&mut self) -> io::Result<()> {
        if self.power_until.is_some_and(|end| self.operations >= end) {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        Ok(())
    }

    fn make_directories(&mut self, path: &str) {
        if !path.is_empty() && self.directories.insert(path.to_owned()) {
            self.made.push(path.to_owned());
            self.make_directories(&parent(path));
        }
    }

    fn create(&mut self, path: &str, bytes: Bytes) {
        self.files.push((bytes, false));
        self.set(path, self.files.len() - 1);
    }

    fn set(&mut self, path: &str, file: usize) {
        self.make_directories(&parent(path));
        self.names.insert(path.to_owned(), file);
        self.changes.push((path.to_owned(), NameChange::Set(file)));
    }

    fn remove(&mut self, path: &str) -> bool {
        self.changes.push((path.to_owned(), NameChange::Remove));
        self.names.remove(path).is_some()
    }

    fn last(&mut self, path: &str, change: NameChange) {
        match change {
            NameChange::Set(file) => drop(self.lasting.insert(path.to_owned(), file)),
            NameChange::Remove => drop(self.lasting.remove(path)),
        }
    }
}

impl ModelDisk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self) -> Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.state();
        state.work().map_err(|error| Error::Generic { store: "model", source: error.into() })?;
        Ok(state)
    }

    /// Operations until now.
    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Power is lost after `operations` more of them.
    pub(super) fn lose_power_after(&self, operations: u64) {
        let mut state = self.state();
        state.power_until = Some(state.operations + operations);
    }

    /// All that is there lasts.
    pub(super) fn force_everything(&self) {
        let mut state = self.state();
        state.files.iter_mut().for_each(|file| file.1 = true);
        (state.lasting, state.lasting_directories) = (state.names.clone(), state.directories.clone());
        (state.changes, state.made) = (vec![], vec![]);
    }

    /// The disk when power is back.
    pub(super) fn after(&self, loss: Loss) -> Self {
        let state = self.state();
        let mut next = State {
            files: state.files.clone(),
            lasting: state.lasting.clone(),
            lasting_directories: state.lasting_directories.clone(),
            ..State::default()
        };
        let mut seed = match loss {
            Loss::Some(seed) => seed | 1,
            _ => 1,
        };
        let mut is_lost = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            match loss {
                Loss::Everything => true,
                Loss::Bytes => false,
                Loss::Some(_) => seed % 2 == 0,
            }
        };
        for directory in &state.made {
            if !is_lost() {
                next.lasting_directories.insert(directory.clone());
            }
        }
        for (path, change) in &state.changes {
            if !is_lost() {
                next.last(path, *change);
            }
        }
        for (bytes, is_forced) in &mut next.files {
            if !*is_forced && (matches!(loss, Loss::Bytes) || is_lost()) {
                bytes.truncate(bytes.len() / 2);
            }
            *is_forced = true;
        }
        let directories = next.lasting_directories.clone();
        let is_reached = |path: &str| {
            let mut path = parent(path);
            while !path.is_empty() {
                if !directories.contains(&path) {
                    return false;
                }
                path = parent(&path);
            }
            true
        };
        next.lasting.retain(|path, _| is_reached(path));
        next.lasting_directories.retain(|path| is_reached(path));
        next.names = next.lasting.clone();
        next.directories = next.lasting_directories.clone();
        Self(Arc::new(Mutex::new(next)))
    }
}

struct Lock {
    disk: ModelDisk,
    path: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Disk for ModelDisk {
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let file = *state.names.get(path.as_ref()).ok_or(io::ErrorKind::NotFound)?;
        state.files[file].1 = true;
        Ok(())
    }

    fn sync_unfinished(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let directory = path.as_ref();
        if !directory.is_empty() && !state.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (path, change) in std::mem::take(&mut state.changes) {
            match parent(&path) == directory {
                true => state.last(&path, change),
                false => state.changes.push((path, change)),
            }
        }
        for made in std::mem::take(&mut state.made) {
            match parent(&made) == directory {
                true => drop(state.lasting_directories.insert(made)),
                false => state.made.push(made),
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_root() || self.state().directories.contains(path.as_ref())
    }

    fn hold(&self, path: &Path) -> io::Result<Option<Held>> {
        let mut state = self.state();
        state.work()?;
        state.create(path.as_ref(), Bytes::new());
        state.locks.insert(path.to_string());
        Ok(Some(Box::new(Lock { disk: self.clone(), path: path.to_string() })))
    }

    fn take(&self, path: &Path) -> io::Result<Option<Held>> {
        let mut state = self.state();
        state.work()?;
        if !state.names.contains_key(path.as_ref()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_free = state.locks.insert(path.to_string());
        Ok(is_free.then(|| Box::new(Lock { disk: self.clone(), path: path.to_string() }) as Held))
    }

    fn files(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        let here = state.names.iter().filter(|(path, _)| parent(path) == directory.as_ref());
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(here.map(|(path, file)| (name(path), state.files[*file].0.len() as u64)).collect())
    }

    fn directories(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.directories.iter().filter(|path| parent(path) == directory.as_ref());
        Ok(here.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect())
    }

    fn remove_file(&self, directory: &Path, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let path = if directory.is_root() { name.to_owned() } else { format!("{directory}/{name}") };
        state.remove(&path).then_some(()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove_tree(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let below = format!("{directory}/");
        let paths: Vec<_> = state.names.keys().filter(|path| path.starts_with(&below)).cloned().collect();
        for path in &paths {
            state.remove(path);
        }
        state.directories.retain(|path| path != directory.as_ref() && !path.starts_with(&below));
        Ok(())
    }

    fn remove_empty(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::DirectoryNotEmpty.into())
    }
}

fn not_found(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "not there".into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "there".into() }
}

fn put_result() -> PutResult {
    PutResult { e_tag: None, version: None }
}

#[async_trait]
impl ObjectStore for ModelDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mut state = self.work()?;
        if matches!(opts.mode, PutMode::Create) && state.names.contains_key(location.as_ref()) {
            return Err(exists(location));
        }
        state.create(location.as_ref(), payload.into());
        Ok(put_result())
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.work()?.create(&format!("{location}#1"), Bytes::new());
        Ok(Box::new(Upload { disk: self.clone(), path: location.clone(), parts: vec![] }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let bytes = {
            let state = self.work()?;
            let file = *state.names.get(location.as_ref()).ok_or_else(|| not_found(location))?;
            state.files[file].0.clone()
        };
        let memory = InMemory::new();
        memory.put(location, bytes.into()).await?;
        memory.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let disk = self.clone();
        let delete = move |location: Result<Path>| {
            let location = location?;
            let is_there = disk.work()?.remove(location.as_ref());
            if is_there { Ok(location) } else { Err(not_found(&location)) }
        };
        locations.map(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = match self.work() {
            Ok(state) => state,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let prefix = prefix.cloned().unwrap_or_default();
        let listed: Vec<_> = state
            .names
            .iter()
            .filter(|(path, _)| !path.contains('#'))
            .map(|(path, file)| (Path::parse(path).unwrap(), *file))
            .filter(|(path, _)| path.prefix_matches(&prefix))
            .map(|(location, file)| {
                let size = state.files[file].0.len() as u64;
                Ok(ObjectMeta {
                    location,
                    last_modified: Default::default(),
                    size,
                    e_tag: None,
                    version: None,
                })
            })
            .collect();
        futures::stream::iter(listed).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented { operation: "list".into(), implementer: "model".into() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mut state = self.work()?;
        let file = *state.names.get(from.as_ref()).ok_or_else(|| not_found(from))?;
        if matches!(options.mode, CopyMode::Create) && state.names.contains_key(to.as_ref()) {
            return Err(exists(to));
        }
        state.set(to.as_ref(), file);
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let mut state = self.work()?;
        let file = *state.names.get(from.as_ref()).ok_or_else(|| not_found(from))?;
        if matches!(options.target_mode, RenameTargetMode::Create) && state.names.contains_key(to.as_ref()) {
            return Err(exists(to));
        }
        state.set(to.as_ref(), file);
        state.remove(from.as_ref());
        Ok(())
    }
}

#[derive(Debug)]
struct Upload {
    disk: ModelDisk,
    path: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let worked = self.disk.work().map(drop);
        self.parts.push(data.into());
        async { worked }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut state = self.disk.work()?;
        state.create(self.path.as_ref(), self.parts.concat().into());
        state.remove(&format!("{}#1", self.path));
        Ok(put_result())
    }

    async fn abort(&mut self) -> Result<()> {
        self.disk.work()?.remove(&format!("{}#1", self.path));
        Ok(())
    }
}
