//! Files that are written and not there yet.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use datafusion::physical_plan::metrics::Count;
use futures::FutureExt;
use futures::future::join;
use tokio::task::JoinError;

use super::durability::{Disk, blocking};
use super::write::Write;
use crate::error::OdpError;

/// Bytes of one part of an upload: all parts but the last are of this size. Five MiB is the least that S3 takes.
const REMOTE_PART_BYTES: usize = if cfg!(test) { 2 << 10 } else { 8 << 20 };

/// On a disk, a part is a write. Small in tests, so that their files have several.
const LOCAL_PART_BYTES: usize = if cfg!(test) { 2 << 10 } else { 1 << 20 };

/// Bytes after which a disk is told to write what it has of a file.
const WRITE_BACK_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 8 << 20 };

/// Parts of one file on their way.
const PARTS_IN_FLIGHT: usize = 2;

/// A data file that is being written.
#[derive(Debug)]
pub(crate) struct StagedFile {
    write: Arc<Write>,
    /// Where its bytes go, and where they will be seen; or why not.
    place: Result<Place, String>,
    pub(super) part_bytes: usize,
    /// For the next part.
    pub(super) buffer: VecDeque<Bytes>,
    buffered: usize,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: VecDeque<SpawnedTask<object_store::Result<()>>>,
    write_back: WriteBack,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

/// Writes the first bytes of a large file to the disk while the next ones are made.
#[derive(Debug, Default)]
struct WriteBack {
    /// Bytes since it began last.
    bytes: u64,
    task: Option<SpawnedTask<io::Result<bool>>>,
    /// Times that something was written so.
    count: Count,
    /// The first error: nobody is told of it again.
    failed: Option<io::Error>,
}

impl WriteBack {
    fn note(&mut self, bytes: usize, disk: &Arc<dyn Disk>, staged: &Path) {
        self.bytes += bytes as u64;
        if self.bytes < WRITE_BACK_BYTES {
            return;
        }
        if let Some(mut task) = self.task.take() {
            match (&mut task).now_or_never() {
                Some(written) => self.end(written),
                None => {
                    self.task = Some(task);
                    return;
                }
            }
        }
        self.bytes = 0;
        let (disk, staged) = (Arc::clone(disk), staged.clone());
        self.task = Some(SpawnedTask::spawn_blocking(move || disk.sync_unfinished(&staged)));
    }

    fn end(&mut self, written: Result<io::Result<bool>, JoinError>) {
        match written.map_err(io::Error::other).flatten() {
            Ok(is_written) => self.count.add(usize::from(is_written)),
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    /// # Errors
    /// The first.
    async fn finish(&mut self) -> io::Result<()> {
        if let Some(task) = self.task.take() {
            let written = task.join().await;
            self.end(written);
        }
        self.failed.take().map_or(Ok(()), Err)
    }
}

#[derive(Debug, Clone)]
struct Place {
    /// Below the directory of the write.
    path: String,
    /// Where the bytes go.
    staged: Path,
    /// Where they will be.
    published: Path,
}

/// A data file that is written, and not there yet.
#[derive(Debug)]
pub(crate) struct StagedInfo {
    /// Below the directory of the write.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Of all bytes.
    pub(crate) crc32: u32,
    pub(super) staged: Path,
    pub(super) published: Path,
    /// What the store still has to be told, so that the file is seen.
    pub(super) pending: Option<Pending>,
}

/// The end of an upload straight to the place where it will be seen.
#[derive(Debug)]
pub(super) enum Pending {
    Put(PutPayload),
    Complete(UnfinishedUpload),
}

/// An upload that is given up when it is dropped. In a mutex, which nobody locks, to be shared by threads.
#[derive(Debug)]
pub(super) struct UnfinishedUpload(Mutex<Option<Box<dyn MultipartUpload>>>);

impl UnfinishedUpload {
    fn take(&mut self) -> Option<Box<dyn MultipartUpload>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) async fn complete(mut self) -> object_store::Result<()> {
        let Some(mut upload) = self.take() else { return Ok(()) };
        let completed = upload.complete().await;
        if let Err(error) = completed {
            give_up(Some(upload));
            return Err(error);
        }
        Ok(())
    }
}

impl Drop for UnfinishedUpload {
    fn drop(&mut self) {
        give_up(self.take());
    }
}

/// Tells the store that no more comes: it may keep, and charge for, the parts otherwise.
fn give_up(upload: Option<Box<dyn MultipartUpload>>) {
    let (Some(mut upload), Ok(runtime)) = (upload, tokio::runtime::Handle::try_current()) else { return };
    drop(runtime.spawn(async move {
        if let Err(error) = upload.abort().await {
            log::debug!("an upload could not be given up: {error}");
        }
    }));
}

impl StagedFile {
    /// `directory` is empty or escaped segments.
    pub(super) fn new(write: Arc<Write>, directory: &str, number: u64) -> Self {
        let place = match write.place(directory, number) {
            Ok((path, staged, published)) => Ok(Place { path, staged, published }),
            Err(error) => Err(error.to_string()),
        };
        let part_bytes = if write.disk.is_some() { LOCAL_PART_BYTES } else { REMOTE_PART_BYTES };
        Self {
            write,
            place,
            part_bytes,
            buffer: VecDeque::new(),
            buffered: 0,
            upload: None,
            parts: VecDeque::new(),
            write_back: WriteBack::default(),
            bytes: 0,
            crc32: crc32fast::Hasher::new(),
        }
    }

    /// Counts into `early_syncs` how often bytes were forced to the disk before the end.
    pub(super) fn counting(mut self, early_syncs: Count) -> Self {
        self.write_back.count = early_syncs;
        self
    }

    fn place(&self) -> Result<&Place, OdpError> {
        self.place.as_ref().map_err(|reason| self.write.failed(&self.write.directory, reason.as_str()))
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.write.target.store
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`OdpError::Write`] if the store refuses these, or some before.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), OdpError> {
        let place = self.place()?.clone();
        if bytes.is_empty() {
            return Ok(());
        }
        self.crc32.update(&bytes);
        self.bytes += bytes.len() as u64;
        self.buffered += bytes.len();
        self.buffer.push_back(bytes);
        // One part stays: a small file is put whole, and the last part is not empty.
        while self.buffered > self.part_bytes {
            let part = self.next_part();
            if let Err(error) = self.send(&place, part).await {
                return Err(self.write.failed(&place.staged, error));
            }
        }
        self.keep_what_is_left();
        Ok(())
    }

    /// Copies what the last bytes leave for the next part: it is the end of a row group, and would keep all of that in
    /// memory, for each open file.
    fn keep_what_is_left(&mut self) {
        if let Some(last) = self.buffer.back_mut() {
            *last = Bytes::copy_from_slice(last);
        }
    }

    /// Bytes that wait in memory for more.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// The next `part_bytes` of the buffer, or all that is left.
    fn next_part(&mut self) -> PutPayload {
        let mut missing = self.part_bytes.min(self.buffered);
        self.buffered -= missing;
        let mut part = Vec::new();
        while missing > 0 {
            let Some(mut bytes) = self.buffer.pop_front() else { break };
            if bytes.len() > missing {
                self.buffer.push_front(bytes.split_off(missing));
            }
            missing -= bytes.len();
            part.push(bytes);
        }
        part.into_iter().collect()
    }

    async fn send(&mut self, place: &Place, part: PutPayload) -> object_store::Result<()> {
        while self.parts.len() >= PARTS_IN_FLIGHT {
            self.receive().await?;
        }
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => {
                self.write.register(&place.staged);
                self.store().put_multipart(&place.staged).await?
            }
        };
        let bytes = part.content_length();
        let sent = upload.put_part(part);
        self.upload = Some(upload);
        if let Some(disk) = &self.write.disk {
            self.write_back.note(bytes, disk, &place.staged);
        }
        self.parts.push_back(SpawnedTask::spawn(sent));
        Ok(())
    }

    /// Waits for the oldest part.
    async fn receive(&mut self) -> object_store::Result<()> {
        match self.parts.pop_front() {
            Some(part) => part.join().await.map_err(|source| object_store::Error::JoinError { source })?,
            None => Ok(()),
        }
    }

    /// Ends the file; on a local disk its bytes are then on the disk.
    ///
    /// # Errors
    /// [`OdpError::Write`] if the store refuses.
    pub(crate) async fn finish(mut self) -> Result<StagedInfo, OdpError> {
        let place = self.place()?.clone();
        let pending = self.end(&place).await.map_err(|error| self.write.failed(&place.staged, error))?;
        if let Some(disk) = self.write.disk.as_ref() {
            let staged = place.staged.clone();
            // At the same time; an error is told to one of the two.
            let synced = blocking(disk, move |disk| disk.sync_file(&staged));
            let (early, synced) = join(self.write_back.finish(), synced).await;
            early.and(synced).map_err(|error| self.write.failed(&place.staged, error))?;
        }
        let Place { path, staged, published } = place;
        let crc32 = self.crc32.clone().finalize();
        Ok(StagedInfo { path, bytes: self.bytes, crc32, staged, published, pending })
    }

    async fn end(&mut self, place: &Place) -> object_store::Result<Option<Pending>> {
        // What is put at its place directly, and not hidden there, must wait for the commit.
        let must_wait = self.write.target.is_file && self.write.disk.is_none();
        let last = self.next_part();
        if self.upload.is_none() {
            if must_wait {
                return Ok(Some(Pending::Put(last)));
            }
            self.write.register(&place.staged);
            self.store().put(&place.staged, last).await?;
            return Ok(None);
        }
        self.send(place, last).await?;
        while !self.parts.is_empty() {
            self.receive().await?;
        }
        let upload = UnfinishedUpload(Mutex::new(self.upload.take()));
        if must_wait {
            return Ok(Some(Pending::Complete(upload)));
        }
        upload.complete().await?;
        Ok(None)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        self.parts.clear();
        give_up(self.upload.take());
    }
}
