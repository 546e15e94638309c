//! A store and a disk whose operations are counted, and fail when they are told to.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::Place;
use crate::sink::durability::{Disk, Held, LocalDisk};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is done.
    Before,
    /// It is done, and nobody learns of it.
    After,
    NotFound,
    Permission,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Before, Self::After, Self::NotFound, Self::Permission];

    fn error(self) -> Error {
        let (path, source) = ("x".to_owned(), "made up".into());
        match self {
            Self::Before | Self::After => Error::Generic { store: "test", source },
            Self::NotFound => Error::NotFound { path, source },
            Self::Permission => Error::PermissionDenied { path, source },
        }
    }
}

/// Counts operations, and says which fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    count: AtomicU64,
    /// The first that fails.
    first: AtomicU64,
    /// One past the last that fails.
    end: AtomicU64,
    kind: AtomicU64,
    /// What the next listing shows, instead of what is there.
    stale: Mutex<Option<Vec<ObjectMeta>>>,
}

impl Faults {
    /// From now, operation `at` (the first is 0) fails, and those after it if `persists`.
    pub(super) fn set(&self, at: u64, kind: Fault, persists: bool) {
        self.count.store(0, Ordering::SeqCst);
        self.first.store(at, Ordering::SeqCst);
        self.end.store(if persists { u64::MAX } else { at + 1 }, Ordering::SeqCst);
        self.kind.store(kind as u64, Ordering::SeqCst);
    }

    /// The next listing shows `found`, as one that began long ago.
    pub(super) fn list_next(&self, found: Vec<ObjectMeta>) {
        *self.stale.lock().unwrap() = Some(found);
    }

    /// No more faults; gives the operations since.
    pub(super) fn stop(&self) -> u64 {
        self.end.store(0, Ordering::SeqCst);
        self.count.load(Ordering::SeqCst)
    }

    pub(super) fn next(&self) -> Option<Fault> {
        let at = self.count.fetch_add(1, Ordering::SeqCst);
        let is_fault = at >= self.first.load(Ordering::SeqCst) && at < self.end.load(Ordering::SeqCst);
        let kind = self.kind.load(Ordering::SeqCst);
        Fault::ALL.into_iter().find(|fault| is_fault && *fault as u64 == kind)
    }
}

async fn run<T>(fault: Option<Fault>, call: impl Future<Output = Result<T>>) -> Result<T> {
    match fault {
        None => {
            // Others come between.
            tokio::task::yield_now().await;
            call.await
        }
        Some(fault) => {
            if fault == Fault::After {
                let _ = call.await;
            }
            Err(fault.error())
        }
    }
}

#[derive(Debug)]
pub(super) struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

impl Display for FaultStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "faults in {}", self.inner)
    }
}

/// In memory.
pub(super) fn in_memory() -> (Place, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    let store = FaultStore { inner: Arc::new(InMemory::new()), faults: Arc::clone(&faults) };
    (Place { store: Arc::new(store), disk: None }, faults)
}

/// On the disk, which is not really forced, for speed.
pub(super) fn on_disk(root: &std::path::Path) -> (Place, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    let inner = Arc::new(LocalFileSystem::new_with_prefix(root).unwrap());
    let store = FaultStore { inner, faults: Arc::clone(&faults) };
    let disk = FaultDisk { inner: LocalDisk::new(root.to_owned()), faults: Arc::clone(&faults) };
    (Place { store: Arc::new(store), disk: Some(Arc::new(disk)) }, faults)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        run(self.faults.next(), self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = run(self.faults.next(), self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultUpload { inner: upload, faults: Arc::clone(&self.faults) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        run(self.faults.next(), self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        run(self.faults.next(), self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        let delete = move |location: Result<Path>| {
            let (inner, faults) = (Arc::clone(&inner), Arc::clone(&faults));
            async move {
                let one = futures::stream::once(async move { location }).boxed();
                let deleted = async { inner.delete_stream(one).try_collect::<Vec<_>>().await };
                let deleted = run(faults.next(), deleted).await?;
                deleted.into_iter().next().ok_or_else(|| Fault::Before.error())
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(found) = self.faults.stale.lock().unwrap().take() {
            return futures::stream::iter(found.into_iter().map(Ok)).boxed();
        }
        match self.faults.next() {
            Some(fault) => futures::stream::once(async move { Err(fault.error()) }).boxed(),
            None => self.inner.list(prefix),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        run(self.faults.next(), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        run(self.faults.next(), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        run(self.faults.next(), self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let fault = self.faults.next();
        run(fault, part).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        run(self.faults.next(), self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        run(self.faults.next(), self.inner.abort()).await
    }
}

/// The local disk; forcing may fail, and does nothing.
#[derive(Debug)]
struct FaultDisk {
    inner: LocalDisk,
    faults: Arc<Faults>,
}

impl FaultDisk {
    fn check(&self) -> io::Result<()> {
        match self.faults.next() {
            None | Some(Fault::After) => Ok(()),
            Some(Fault::Before) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::NotFound) => Err(io::Error::other("I/O error")),
            Some(Fault::Permission) => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl Disk for FaultDisk {
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.inner.files(&path.parent().unwrap_or_default()).map(drop)
    }

    fn sync_unfinished(&self, _: &Path) -> io::Result<bool> {
        self.check().map(|()| true)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.check()
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.inner.is_directory(path)
    }

    fn hold(&self, path: &Path) -> io::Result<Option<Held>> {
        self.check()?;
        self.inner.hold(path)
    }

    fn take(&self, path: &Path) -> io::Result<Option<Held>> {
        self.inner.take(path)
    }

    fn files(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.inner.files(directory)
    }

    fn directories(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.directories(directory)
    }

    fn remove_file(&self, directory: &Path, name: &str) -> io::Result<()> {
        self.check()?;
        self.inner.remove_file(directory, name)
    }

    fn remove_tree(&self, directory: &Path) -> io::Result<()> {
        self.check()?;
        self.inner.remove_tree(directory)
    }

    fn remove_empty(&self, directory: &Path) -> io::Result<()> {
        self.inner.remove_empty(directory)
    }
}
