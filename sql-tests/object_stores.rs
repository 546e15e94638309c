//! Object stores for tests.

use std::fmt::{self, Debug, Display, Formatter};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

/// Passes all requests on, and remembers them as `get data/a.parquet`, `head …`, `list …`, `put …`.
pub(crate) struct RecordingStore {
    inner: Arc<dyn ObjectStore>,
    requests: Mutex<Vec<String>>,
}

impl RecordingStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, requests: Mutex::default() }
    }

    /// The requests since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, what: &str, path: &str) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what} {path}"));
    }
}

impl Debug for RecordingStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingStore({})", self.inner)
    }
}

impl Display for RecordingStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for RecordingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.record("put", location.as_ref());
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.record("put", location.as_ref());
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.record(if options.head { "head" } else { "get" }, location.as_ref());
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.record("get", location.as_ref());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.record("list", prefix.map_or("", |prefix| prefix.as_ref()));
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.record("list", prefix.map_or("", |prefix| prefix.as_ref()));
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Keeps objects in memory, without ETags and all of one time: what remains to tell versions apart is their size.
#[derive(Debug)]
pub(crate) struct UntaggedStore {
    objects: InMemory,
    time: DateTime<Utc>,
}

impl Display for UntaggedStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("UntaggedStore")
    }
}

impl UntaggedStore {
    pub(crate) fn new(time: impl Into<DateTime<Utc>>) -> Self {
        Self { objects: InMemory::new(), time: time.into() }
    }

    fn untag(&self, meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { last_modified: self.time, e_tag: None, ..meta }
    }
}

#[async_trait]
impl ObjectStore for UntaggedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let options = GetOptions { if_match: None, if_unmodified_since: None, ..options };
        let found = self.objects.get_opts(location, options).await?;
        Ok(GetResult { meta: self.untag(found.meta.clone()), ..found })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let time = self.time;
        let untag = move |meta: ObjectMeta| ObjectMeta { last_modified: time, e_tag: None, ..meta };
        self.objects.list(prefix).map_ok(untag).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Counts all operations, and fails one of them: before it has an effect, or after, as when the answer is lost.
#[derive(Debug, Default)]
pub(crate) struct FailingStore {
    inner: Arc<InMemory>,
    operations: Arc<AtomicU64>,
    /// Number of the operation, and whether it has its effect; 0 = none.
    fails: Arc<Mutex<(u64, bool)>>,
}

impl Display for FailingStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("FailingStore")
    }
}

impl FailingStore {
    pub(crate) fn new(inner: Arc<InMemory>) -> Self {
        Self { inner, ..Self::default() }
    }

    /// Begins to count anew, and fails the operation of this number, from 1.
    pub(crate) fn fail(&self, number: u64, has_effect: bool) {
        *self.fails.lock().unwrap_or_else(PoisonError::into_inner) = (number, has_effect);
        self.operations.store(0, Ordering::SeqCst);
    }

    /// Operations since [`fail`](Self::fail).
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    async fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let (fails, has_effect) = *self.fails.lock().unwrap_or_else(PoisonError::into_inner);
        match number == fails {
            false => call.await,
            true => {
                if has_effect {
                    call.await?;
                }
                Err(object_store::Error::Generic { store: "FailingStore", source: "a fault".into() })
            }
        }
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.run(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (operations, fails) = (Arc::clone(&self.operations), Arc::clone(&self.fails));
        let store = Self { inner: Arc::clone(&self.inner), operations, fails };
        let delete = move |location: Result<Path>| {
            let store = Self {
                inner: Arc::clone(&store.inner),
                operations: Arc::clone(&store.operations),
                fails: Arc::clone(&store.fails),
            };
            async move {
                let location = location?;
                store.run(store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        match number == self.fails.lock().unwrap_or_else(PoisonError::into_inner).0 {
            false => listed,
            true => {
                let fault = object_store::Error::Generic { store: "FailingStore", source: "a fault".into() };
                listed.take(1).chain(futures::stream::iter([Err(fault)])).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(self.inner.copy_opts(from, to, options)).await
    }
}
