//! An open file of this machine. What is read as fast as memory is, most of it from the system's page cache, is read where
//! it is asked for: handing that to another thread and back costs more than the reading.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::object_store::path::Path;
use datafusion::object_store::{GetResult, GetResultPayload, ObjectMeta};

use super::step_back::step_back;

/// The most bytes that are read where they are asked for: a few milliseconds of copying.
const MOST_AT_ONCE: u64 = 16 << 20;

/// A read is slow if it takes longer than this and a nanosecond for each byte.
const LATENCY: Duration = Duration::from_micros(200);

/// How long a task may read and decode before other tasks come in between.
const PAUSE_AFTER: Duration = Duration::from_millis(20);

/// Whether the last read of a scan was fast. If it was, the next one holds up its thread, however long it takes.
#[derive(Debug, Default)]
pub(super) struct ReadSpeed(AtomicBool);

impl ReadSpeed {
    fn note(&self, bytes: u64, elapsed: Duration) {
        self.0.store(elapsed < LATENCY + Duration::from_nanos(bytes), Ordering::Relaxed);
    }

    fn is_fast(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What shows that a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    len: u64,
    modified: SystemTime,
}

impl Written {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { len: metadata.len(), modified: metadata.modified()? })
    }
}

/// One version of a file, open: replacing the file does not change it, writing to it shows.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    written: Written,
}

/// The files that a scan has open: its partitions share them, since opening one takes another thread.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<HashMap<Path, Weak<OpenFile>>>);

impl OpenFiles {
    /// The file at `path`, if some partition has opened it and not closed it yet.
    pub(super) fn get(&self, path: &Path) -> Option<LocalFile> {
        self.lock().get(path).and_then(Weak::upgrade).map(LocalFile::new)
    }

    /// `file`, or the same one that another partition has opened meanwhile; shared for as long as somebody has it open.
    pub(super) fn share(&self, path: &Path, file: LocalFile) -> LocalFile {
        let mut files = self.lock();
        if let Some(other) = files.get(path).and_then(Weak::upgrade) {
            return LocalFile::new(other);
        }
        files.insert(path.clone(), Arc::downgrade(&file.open));
        file
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Path, Weak<OpenFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file, for one partition.
#[derive(Debug)]
pub(super) struct LocalFile {
    open: Arc<OpenFile>,
    /// When other tasks came in between last.
    paused: Instant,
}

/// Why bytes could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The file was written to since it was opened.
    Changed,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl LocalFile {
    fn new(open: Arc<OpenFile>) -> Self {
        Self { open, paused: Instant::now() }
    }

    /// `None` if the store has no file to give, or what it said of the file is not true of it any more.
    pub(super) fn of(found: GetResult) -> Option<Self> {
        let GetResult { payload: GetResultPayload::File(file, _), meta, .. } = found else { return None };
        let written = Written::of(&file).ok()?;
        is_of(&written, &meta).then(|| Self::new(Arc::new(OpenFile { file, written })))
    }

    /// The bytes of `ranges`, and whether they were read without another thread.
    pub(super) async fn read(
        &mut self,
        ranges: &[Range<u64>],
        speed: &Arc<ReadSpeed>,
    ) -> Result<(Vec<Bytes>, bool), ReadError> {
        let bytes: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        let is_at_once = speed.is_fast() && bytes <= MOST_AT_ONCE;
        if is_at_once || tokio::runtime::Handle::try_current().is_err() {
            let read = read_timed(&self.open, ranges, bytes, speed)?;
            // Nothing else makes a task pause that finds no rows; but each pause wakes other threads.
            if self.paused.elapsed() > PAUSE_AFTER {
                step_back().await;
                self.paused = Instant::now();
            }
            return Ok((read, true));
        }
        let (open, speed, ranges) = (Arc::clone(&self.open), Arc::clone(speed), ranges.to_vec());
        let read = SpawnedTask::spawn_blocking(move || read_timed(&open, &ranges, bytes, &speed)).join();
        Ok((read.await.map_err(io::Error::other)??, false))
    }
}

/// Same precision: both come from the file system.
fn is_of(written: &Written, meta: &ObjectMeta) -> bool {
    written.len == meta.size && chrono::DateTime::<chrono::Utc>::from(written.modified) == meta.last_modified
}

fn read_timed(
    OpenFile { file, written }: &OpenFile,
    ranges: &[Range<u64>],
    bytes: u64,
    speed: &ReadSpeed,
) -> Result<Vec<Bytes>, ReadError> {
    let begun = Instant::now();
    let read = ranges.iter().map(|range| read_range(file, range)).collect::<io::Result<Vec<Bytes>>>();
    // A file that was cut short is changed rather than too short.
    if Written::of(file)? != *written {
        return Err(ReadError::Changed);
    }
    speed.note(bytes, begun.elapsed());
    Ok(read?)
}

#[cfg(unix)]
fn read_range(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let wanted = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut read = vec![];
    read.try_reserve_exact(wanted)?;
    // More room than was asked for is possible.
    while read.len() < wanted {
        let at = range.start + read.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut read), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    read.truncate(wanted);
    Ok(read.into())
}

#[cfg(not(unix))]
fn read_range(_: &File, _: &Range<u64>) -> io::Result<Bytes> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::local::LocalFileSystem;
    use datafusion::object_store::memory::InMemory;
    use futures::FutureExt;

    fn bytes() -> Vec<u8> {
        (0..200_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    async fn open(dir: &std::path::Path) -> (LocalFile, std::path::PathBuf) {
        let path = dir.join("data");
        std::fs::write(&path, bytes()).unwrap();
        let store = LocalFileSystem::new();
        let found = store.get(&Path::from_absolute_path(&path).unwrap()).await.unwrap();
        (LocalFile::of(found).unwrap(), path)
    }

    async fn one(
        file: &mut LocalFile,
        range: Range<u64>,
        speed: &Arc<ReadSpeed>,
    ) -> Result<(Vec<Bytes>, bool), ReadError> {
        file.read(std::slice::from_ref(&range), speed).await
    }

    #[tokio::test]
    async fn what_was_read_fast_is_read_at_once_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(dir.path()).await;
        let speed = Arc::new(ReadSpeed::default());
        let ranges = [100..100_100, 0..0, 199_999..200_000];
        for is_fast in [false, true] {
            speed.0.store(is_fast, Ordering::Relaxed);
            let (read, is_at_once) = file.read(&ranges, &speed).await.unwrap();
            assert_eq!(is_at_once, is_fast);
            assert_eq!(read[0], bytes()[100..100_100]);
            assert!(read[1].is_empty());
            assert_eq!(read[2], bytes()[199_999..]);
        }
        speed.note(1_000_000, Duration::from_micros(900));
        assert!(speed.is_fast());
        speed.note(1_000, Duration::from_millis(2));
        assert!(!speed.is_fast(), "it was slow");
    }

    #[tokio::test]
    async fn much_is_read_on_another_thread() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(dir.path()).await;
        let speed = Arc::new(ReadSpeed::default());
        speed.0.store(true, Ordering::Relaxed);
        let ranges = vec![0..200_000; 100];
        let (read, is_at_once) = file.read(&ranges, &speed).await.unwrap();
        assert!(!is_at_once && read.len() == 100 && read.iter().all(|read| *read == bytes()));
    }

    #[tokio::test]
    async fn other_tasks_come_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(dir.path()).await;
        let speed = Arc::new(ReadSpeed::default());
        speed.0.store(true, Ordering::Relaxed);
        file.paused -= 2 * PAUSE_AFTER;
        let mut waits = Box::pin(one(&mut file, 0..10, &speed));
        assert!((&mut waits).now_or_never().is_none());
        assert!(waits.await.unwrap().1);
    }

    #[tokio::test]
    async fn writing_to_it_shows_and_replacing_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, path) = open(dir.path()).await;
        let speed = Arc::new(ReadSpeed::default());
        std::fs::write(dir.path().join("other"), vec![0; 10]).unwrap();
        std::fs::rename(dir.path().join("other"), &path).unwrap();
        let (read, _) = one(&mut file, 0..10, &speed).await.unwrap();
        assert_eq!(read[0], bytes()[..10]);
        let beyond = one(&mut file, 199_000..200_001, &speed).await.unwrap_err();
        assert!(matches!(beyond, ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));

        let (mut file, path) = open(dir.path()).await;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50_000).unwrap();
        for is_fast in [false, true] {
            speed.0.store(is_fast, Ordering::Relaxed);
            assert!(matches!(one(&mut file, 0..10, &speed).await, Err(ReadError::Changed)));
            assert!(matches!(one(&mut file, 60_000..60_010, &speed).await, Err(ReadError::Changed)));
        }
    }

    #[tokio::test]
    async fn a_file_is_shared_while_somebody_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, path) = open(dir.path()).await;
        let (files, at) = (OpenFiles::default(), Path::from_absolute_path(&path).unwrap());
        assert!(files.get(&at).is_none());
        file = files.share(&at, file);
        let mut shared = files.share(&at, open(dir.path()).await.0);
        assert!(Arc::ptr_eq(&file.open, &shared.open) && files.get(&at).is_some());
        assert!(files.get(&Path::from("other")).is_none());
        let speed = Arc::new(ReadSpeed::default());
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50_000).unwrap();
        for file in [&mut file, &mut shared] {
            assert!(matches!(one(file, 0..10, &speed).await, Err(ReadError::Changed)));
        }
        drop(file);
        assert!(files.get(&at).is_some());
        drop(shared);
        assert!(files.get(&at).is_none());
    }

    #[tokio::test]
    async fn a_store_without_files_gives_none() {
        let store = InMemory::new();
        store.put(&Path::from("data"), bytes().into()).await.unwrap();
        assert!(LocalFile::of(store.get(&Path::from("data")).await.unwrap()).is_none());
    }
}
