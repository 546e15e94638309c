//! All files of a write become visible in one step, or none.
//!
//! On a local disk files are written below `_odp/stage/`, forced to the disk, renamed into place (where nobody sees them:
//! the log does not name them yet), and their directories forced to the disk. In object stores they are put into place at
//! once. Then one commit record is made, which must not exist before: it is the step. Whoever comes second reads what the
//! first one did, and commits after it, or gives up with [`OdpError::Conflict`]. Only then are replaced files removed.
//!
//! A single file has no log: its bytes are complete before they take its name.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::datatypes::DataType;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectStore, ObjectStoreExt};
use futures::{StreamExt, TryStreamExt};
use parquet::file::metadata::ParquetMetaData;

use super::beside::check_beside;
use super::commit_record::{
    RecordError, Recorded, checkpoint, put_new, record_durably, sync_directories, unconfirmed,
};
use super::durability::{Disk, LocalDisk};
use super::replaced::Replaced;
use super::stage::{Pending, StagedFile, StagedInfo};
use super::write::{BoxError, CONCURRENT_REQUESTS, Write, utc_now};
use super::{Target, WriteMode};
use crate::discover::commit_log::{
    AddedFile, CHECKPOINT_INTERVAL, LogState, PartitionColumns, Record, RemovedFile, below, is_ours,
    record_path,
};
use crate::discover::{Directory, ListedFile, Listing};
use crate::error::OdpError;

/// Bytes at the end of a file that are read at first to verify it.
pub(super) const FOOTER_BYTES: usize = 32 << 10;

/// Commits by others that one write gives way to.
const MAX_ROUNDS: usize = 1000;

/// Whether there is something to write.
#[derive(Debug)]
pub(crate) enum Begun {
    Write(Transaction),
    /// There are rows, and the mode is to leave it at that.
    Nothing,
}

/// A write that has begun. Dropped, it is undone as far as possible.
#[derive(Debug)]
pub(crate) struct Transaction {
    write: Arc<Write>,
    mode: WriteMode,
    /// The files that are visible, and the state of the log.
    base: Base,
    keep_replaced: bool,
    /// The rows have the columns of a table that is open on the dataset.
    are_of_table: bool,
}

/// What a write is based on.
#[derive(Debug, Default)]
struct Base {
    files: Vec<ListedFile>,
    state: LogState,
}

/// A data file to commit.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) staged: StagedInfo,
    pub(crate) rows: u64,
    pub(crate) row_groups: usize,
    /// The exact text of the value of each partition column; `None` is NULL.
    pub(crate) partition: Vec<Option<String>>,
}

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The number of the commit; `None` for a single file.
    pub(crate) version: Option<u64>,
    /// Paths below the directory, in the order in which they were given; none if the mode is to ignore, and another writer
    /// was first.
    pub(crate) files: Vec<String>,
    /// Paths below the directory of what was replaced.
    pub(crate) removed: Vec<String>,
}

impl Transaction {
    /// Checks whether and where to write, before there is a row to write.
    ///
    /// # Errors
    /// [`OdpError::Exists`] if something is in the way, [`OdpError::Write`] if nothing can be written there, and what
    /// listing gives.
    pub(crate) async fn begin(
        target: Target,
        mode: WriteMode,
        file_extensions: &[String],
    ) -> Result<Begun, OdpError> {
        let disk = disk_of(&target);
        Self::begin_on(target, disk, mode, file_extensions).await
    }

    pub(super) async fn begin_on(
        target: Target,
        disk: Option<Arc<dyn Disk>>,
        mode: WriteMode,
        file_extensions: &[String],
    ) -> Result<Begun, OdpError> {
        if target.is_file {
            return Self::begin_file(target, disk, mode).await;
        }
        let failed = |error: object_store::Error| OdpError::Write {
            location: target.display.clone(),
            source: error.into(),
        };
        if !target.path.is_root() && disk.is_some() {
            match target.store.head(&target.path).await {
                Ok(_) => return Err(exists(&target, "it is a file, and not a directory")),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // Nothing is made where nothing is to be written.
        if matches!(mode, WriteMode::ErrorIfExists | WriteMode::Ignore)
            && let Some(refused) =
                refused(&target, mode, &list(&target, file_extensions, disk.is_some()).await?)
        {
            return refused;
        }
        let write = Arc::new(Write::begin(target, disk).await?);
        let begun = Self::begin_in(&write, mode, file_extensions).await;
        match begun {
            Ok(Ok(base)) => {
                Ok(Begun::Write(Self { write, mode, base, keep_replaced: false, are_of_table: false }))
            }
            Ok(Err(refused)) => {
                write.abort().await;
                refused
            }
            Err(error) => {
                write.abort().await;
                Err(error)
            }
        }
    }

    /// The state that the write is based on; makes record 0 where there is no log.
    async fn begin_in(
        write: &Arc<Write>,
        mode: WriteMode,
        file_extensions: &[String],
    ) -> Result<Result<Base, Result<Begun, OdpError>>, OdpError> {
        for _ in 0..MAX_ROUNDS {
            let listing = list(&write.target, file_extensions, write.disk.is_some()).await?;
            if let Some(refused) = refused(&write.target, mode, &listing) {
                return Ok(Err(refused));
            }
            if let Some(state) = listing.log {
                write.base_version.store(state.version, Ordering::Relaxed);
                return Ok(Ok(Base { files: listing.files, state }));
            }
            let mut adopted = ours(&listing);
            if !adopted.is_empty() {
                // A writer may just have given up, and with it the log: its files are then gone, too.
                let again = list(&write.target, file_extensions, write.disk.is_some()).await?;
                if again.log.is_some() {
                    continue;
                }
                let there = ours(&again);
                adopted.retain(|file| there.contains(file));
            }
            let record =
                Record { write_id: write.id.clone(), time: utc_now(), added: adopted, ..Record::default() };
            match record_durably(write, &record).await {
                Ok(Recorded::Durable) => {
                    write.has_begun.store(record.added.is_empty(), Ordering::Release);
                    let mut state = LogState::default();
                    state.apply(record).map_err(|error| write.failed(&write.directory, error))?;
                    return Ok(Ok(Base { files: listing.files, state }));
                }
                Ok(Recorded::Taken) => {}
                Ok(Recorded::Unconfirmed(error)) => {
                    write.has_begun.store(record.added.is_empty(), Ordering::Release);
                    return Err(error);
                }
                Err(RecordError::Absent(error) | RecordError::Unknown(error)) => return Err(error),
            }
        }
        Err(write.failed(&write.directory, "the beginning of its log changes again and again"))
    }

    async fn begin_file(
        target: Target,
        disk: Option<Arc<dyn Disk>>,
        mode: WriteMode,
    ) -> Result<Begun, OdpError> {
        if target.path.is_root() || disk.as_ref().is_some_and(|disk| disk.is_directory(&target.path)) {
            return Err(exists(&target, "it is a directory, and not a file"));
        }
        let found = match target.store.head(&target.path).await {
            Ok(_) => true,
            Err(object_store::Error::NotFound { .. }) => false,
            Err(error) => {
                return Err(OdpError::Write { location: target.display.clone(), source: error.into() });
            }
        };
        match mode {
            WriteMode::Ignore if found => return Ok(Begun::Nothing),
            WriteMode::ErrorIfExists if found => return Err(there_is(&target)),
            WriteMode::Append if found => {
                return Err(exists(
                    &target,
                    "rows cannot be added to a single file; overwrite it, or write to a directory",
                ));
            }
            _ => {}
        }
        let write = Arc::new(Write::begin(target, disk).await?);
        Ok(Begun::Write(Self {
            write,
            mode,
            base: Base::default(),
            keep_replaced: false,
            are_of_table: false,
        }))
    }

    /// Replaced files stay until they are cleaned, for readers that opened the dataset before.
    pub(crate) fn with_keep_replaced(mut self, keep_replaced: bool) -> Self {
        self.keep_replaced = keep_replaced;
        self
    }

    /// Rows have the columns of a table that is open on the dataset, and can be read by it: they are not compared.
    pub(crate) fn with_rows_of_table(mut self, are_of_table: bool) -> Self {
        self.are_of_table = are_of_table;
        self
    }

    /// A new data file, which nobody sees yet. `directory` is empty, or escaped segments such as `year=2020/month=1`.
    /// `number` orders the files of the write. A single file has neither.
    pub(crate) fn create_file(&self, directory: &str, number: u64) -> StagedFile {
        StagedFile::new(Arc::clone(&self.write), directory, number)
    }

    /// The process is killed: nothing is undone, and the lock is free.
    #[cfg(test)]
    pub(super) fn die(self) {
        self.write.is_settled.store(true, Ordering::Release);
    }

    /// Undoes the write.
    pub(crate) async fn abort(self) {
        self.write.abort().await;
    }

    /// Verifies the files, makes all of them visible in one step, and removes what they replace.
    ///
    /// Goes on to its end if its caller does not wait for it.
    /// # Errors
    /// [`OdpError::Conflict`] if another write was first, and both cannot hold; [`OdpError::Write`], [`OdpError::InvalidData`]
    /// if a file is not what was written, [`OdpError::SchemaMismatch`] for other columns than those of files that
    /// stay. Nothing was written then, unless the error says that this is not known.
    pub(crate) async fn commit(
        self,
        files: Vec<DataFile>,
        partition_columns: Vec<(String, DataType)>,
    ) -> Result<Commit, OdpError> {
        let display = self.write.target.display.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "half a commit helps nobody: it goes on without the query"
        )]
        let task = tokio::task::spawn(self.commit_or_abort(files, partition_columns.into()));
        task.await.map_err(|error| OdpError::Write { location: display, source: error.into() })?
    }

    async fn commit_or_abort(
        self,
        files: Vec<DataFile>,
        columns: PartitionColumns,
    ) -> Result<Commit, OdpError> {
        let result = match self.write.target.is_file {
            true => self.commit_file(files).await,
            false => self.commit_files(files, &columns).await,
        };
        // Nothing, if it was committed.
        self.write.abort().await;
        result
    }

    async fn commit_files(
        &self,
        files: Vec<DataFile>,
        columns: &PartitionColumns,
    ) -> Result<Commit, OdpError> {
        let write = &self.write;
        let replaced = Replaced::by(self.mode, &files, columns)?;
        let removed = self.removed(&replaced)?;
        let added: Vec<AddedFile> = files.iter().map(DataFile::added).collect();
        if added.is_empty() && removed.is_empty() {
            return Ok(Commit { version: Some(self.base.state.version), files: vec![], removed: vec![] });
        }
        let footer = verify(write.target.store.as_ref(), &files).await?;
        if let (Some(added), Some(footer), false) = (files.first(), footer, self.are_of_table) {
            let gone: HashSet<&str> = removed.iter().map(|file| file.path.as_str()).collect();
            let stays = |file: &&ListedFile| !gone.contains(file.relative_path().as_str());
            let staying: Vec<&ListedFile> = self.base.files.iter().filter(stays).collect();
            check_beside(&write.target, &staying, (added, &footer), columns).await?;
        }
        self.ensure_begun().await?;
        publish(write, &files).await?;
        let mut record = Record {
            version: 0,
            write_id: write.id.clone(),
            operation: self.mode.to_string(),
            time: utc_now(),
            columns: Arc::clone(columns),
            added,
            removed,
        };
        let mut state = self.base.state.clone();
        let mut unconfirmed = None;
        for round in 0.. {
            check_columns(&write.target, &state, &record)?;
            record.version = state.version.saturating_add(1);
            // From here on it may be there.
            write.is_settled.store(true, Ordering::Release);
            match record_durably(write, &record).await {
                Ok(Recorded::Durable) => break,
                Ok(Recorded::Unconfirmed(error)) => {
                    unconfirmed = Some(error);
                    break;
                }
                Ok(Recorded::Taken) => write.is_settled.store(false, Ordering::Release),
                Err(RecordError::Absent(error)) => {
                    write.is_settled.store(false, Ordering::Release);
                    return Err(error);
                }
                Err(RecordError::Unknown(error)) => return Err(error),
            }
            if round == MAX_ROUNDS {
                return Err(conflict(&write.target, "other writers were first, again and again"));
            }
            if !self.give_way(&mut state, &replaced).await? {
                return Ok(Commit { version: Some(state.version), files: vec![], removed: vec![] });
            }
        }
        let commit = Commit {
            version: Some(record.version),
            files: record.added.iter().map(|file| file.path.clone()).collect(),
            removed: record.removed.iter().map(|file| file.path.clone()).collect(),
        };
        if let Some(error) = unconfirmed {
            write.end().await;
            return Err(error);
        }
        if !self.keep_replaced {
            remove(write, &commit.removed).await;
        }
        if record.version.is_multiple_of(CHECKPOINT_INTERVAL) && state.apply(record).is_ok() {
            checkpoint(write, &state).await;
        }
        write.end().await;
        Ok(commit)
    }

    /// Makes record 0 again if a writer that gave up has taken it along: without a log, published files would be seen.
    async fn ensure_begun(&self) -> Result<(), OdpError> {
        let write = &self.write;
        if self.base.state.version > 0 || !self.base.state.live.is_empty() {
            return Ok(());
        }
        let path = record_path(&write.directory, 0);
        match write.target.store.head(&path).await {
            Ok(_) => return Ok(()),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(write.failed(&path, error)),
        }
        let record = Record { write_id: write.id.clone(), time: utc_now(), ..Record::default() };
        match record_durably(write, &record).await {
            Ok(Recorded::Durable | Recorded::Taken) => Ok(()),
            Ok(Recorded::Unconfirmed(error)) => Err(error),
            Err(RecordError::Absent(error) | RecordError::Unknown(error)) => Err(error),
        }
    }

    /// The files that the commit replaces.
    fn removed(&self, replaced: &Replaced) -> Result<Vec<RemovedFile>, OdpError> {
        let mut removed = Vec::new();
        for file in &self.base.files {
            let is_replaced = match replaced {
                Replaced::Nothing => false,
                Replaced::All => true,
                Replaced::Partitions(partitions) => partitions.has(file)?,
            };
            if is_replaced {
                let meta = &file.object_meta;
                removed.push(RemovedFile {
                    path: file.relative_path(),
                    bytes: meta.size,
                    e_tag: meta.e_tag.clone(),
                });
            }
        }
        Ok(removed)
    }

    /// Reads what other writers have committed after `state`. Whether the write still has something to do.
    async fn give_way(&self, state: &mut LogState, replaced: &Replaced) -> Result<bool, OdpError> {
        let write = &self.write;
        while let Some(record) = write.log().record(state.version.saturating_add(1)).await? {
            let is_first = record.added.is_empty();
            match (self.mode, replaced) {
                (WriteMode::Ignore, _) if !is_first => return Ok(false),
                (WriteMode::ErrorIfExists, _) if !is_first => return Err(there_is(&write.target)),
                (_, Replaced::All) if record.is_change() => {
                    return Err(conflict(&write.target, &describe(&record)));
                }
                (_, Replaced::Partitions(partitions)) if partitions.are_touched(&record, state)? => {
                    return Err(conflict(
                        &write.target,
                        &format!("{}, in the same partitions", describe(&record)),
                    ));
                }
                _ => {}
            }
            let path = record_path(&write.directory, record.version);
            state
                .apply(record)
                .map_err(|source| OdpError::InvalidData { location: path.to_string(), source })?;
        }
        Ok(true)
    }

    async fn commit_file(&self, mut files: Vec<DataFile>) -> Result<Commit, OdpError> {
        let write = &self.write;
        let Some(mut file) = files.pop() else {
            return Ok(Commit { version: None, files: vec![], removed: vec![] });
        };
        if !files.is_empty() {
            let what = format!("{} files where one is wanted", files.len() + 1);
            return Err(write.failed(&write.target.path, what));
        }
        let is_new = !matches!(self.mode, WriteMode::Overwrite | WriteMode::OverwritePartitions);
        let published = file.staged.published.clone();
        let placed = match (file.staged.pending.take(), write.disk.as_ref()) {
            (Some(pending), _) => put_in_place(write, pending, &published, is_new).await,
            (None, _) => {
                verify(write.target.store.as_ref(), std::slice::from_ref(&file)).await?;
                move_into_place(write.target.store.as_ref(), &file.staged.staged, &published, is_new).await
            }
        };
        match placed {
            Ok(()) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                return match self.mode {
                    WriteMode::Ignore => Ok(Commit { version: None, files: vec![], removed: vec![] }),
                    _ => Err(there_is(&write.target)),
                };
            }
            Err(error) => return Err(write.failed(&published, error)),
        }
        write.is_settled.store(true, Ordering::Release);
        let synced = sync_directories(write, write.made_directories()).await;
        write.end().await;
        synced.map_err(|error| unconfirmed(write, error))?;
        Ok(Commit { version: None, files: vec![file.staged.path], removed: vec![] })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.write.is_settled.load(Ordering::Acquire) {
            return;
        }
        if self.write.disk.is_some() {
            self.write.is_settled.store(true, Ordering::Release);
            self.write.undo();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let write = Arc::clone(&self.write);
            drop(runtime.spawn(async move { write.abort().await }));
        }
    }
}

impl DataFile {
    fn added(&self) -> AddedFile {
        AddedFile {
            path: self.staged.path.clone(),
            bytes: self.staged.bytes,
            rows: Some(self.rows),
            row_groups: Some(self.row_groups as u64),
            crc32: Some(self.staged.crc32),
            partition: Some(self.partition.clone()),
        }
    }
}

/// The disk that forces what is written to `target`, and knows who lives.
pub(super) fn disk_of(target: &Target) -> Option<Arc<dyn Disk>> {
    let root = target.local_root.clone()?;
    Some(Arc::new(LocalDisk::new(root)))
}

async fn list(target: &Target, file_extensions: &[String], is_local: bool) -> Result<Listing, OdpError> {
    let directory = Directory::new(&target.path, file_extensions, &target.display, is_local);
    directory.list(target.store.as_ref()).await
}

/// What the mode makes of rows that are there, if not a write.
fn refused(target: &Target, mode: WriteMode, listing: &Listing) -> Option<Result<Begun, OdpError>> {
    if listing.files.is_empty() {
        return None;
    }
    match mode {
        WriteMode::Ignore => Some(Ok(Begun::Nothing)),
        WriteMode::ErrorIfExists => Some(Err(there_is(target))),
        _ => None,
    }
}

/// Files that were written by us, and have lost their log.
fn ours(listing: &Listing) -> Vec<AddedFile> {
    let ours = listing.files.iter().filter(|file| is_ours(&file.relative_path()));
    let adopted = ours.map(|file| AddedFile {
        path: file.relative_path(),
        bytes: file.object_meta.size,
        rows: None,
        row_groups: None,
        crc32: None,
        partition: None,
    });
    adopted.collect()
}

fn exists(target: &Target, reason: &str) -> OdpError {
    OdpError::Exists { location: target.display.clone(), reason: reason.into() }
}

fn there_is(target: &Target) -> OdpError {
    exists(target, "there is something already; choose another mode, such as append or overwrite")
}

fn conflict(target: &Target, reason: &str) -> OdpError {
    OdpError::Conflict { location: target.display.clone(), reason: reason.into() }
}

fn describe(record: &Record) -> String {
    let (added, removed) = (record.added.len(), record.removed.len());
    format!("commit {} ({}) added {added} files and removed {removed}", record.version, record.operation)
}

/// Files of other partition columns cannot stay beside what `record` adds.
fn check_columns(target: &Target, state: &LogState, record: &Record) -> Result<(), OdpError> {
    let Some(added) = record.added.first() else { return Ok(()) };
    let removed: HashSet<&str> = record.removed.iter().map(|file| file.path.as_str()).collect();
    let other = state.live.iter().find(|(path, file)| {
        file.added.partition.is_some() && file.columns != record.columns && !removed.contains(path.as_str())
    });
    match other {
        Some((path, file)) => Err(OdpError::SchemaMismatch {
            first: format!("{}/{path}", target.display.trim_end_matches('/')),
            second: added.path.clone(),
            reason: format!("partition columns {:?} against {:?}", file.columns, record.columns),
        }),
        None => Ok(()),
    }
}

/// Reads the footer of each file again: it must have the size, rows and row groups that were written. Gives one of them.
async fn verify(
    store: &dyn ObjectStore,
    files: &[DataFile],
) -> Result<Option<Arc<ParquetMetaData>>, OdpError> {
    let verified = files.iter().map(async |file| verify_file(store, file).await);
    let verified: Vec<_> = verified.collect();
    let verified = futures::stream::iter(verified).buffer_unordered(CONCURRENT_REQUESTS);
    verified.try_fold(None, async |_, footer| Ok(Some(footer))).await
}

async fn verify_file(store: &dyn ObjectStore, file: &DataFile) -> Result<Arc<ParquetMetaData>, OdpError> {
    let location = || file.staged.path.clone();
    let invalid = |source: BoxError| OdpError::InvalidData { location: location(), source };
    let meta = store
        .head(&file.staged.staged)
        .await
        .map_err(|error| OdpError::Write { location: location(), source: error.into() })?;
    if meta.size != file.staged.bytes {
        return Err(invalid(
            format!("{} bytes were written, {} are there", file.staged.bytes, meta.size).into(),
        ));
    }
    let reader = DFParquetMetadata::new(store, &meta).with_metadata_size_hint(Some(FOOTER_BYTES));
    let footer = reader.fetch_metadata().await.map_err(|error| invalid(error.into()))?;
    let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
    let found = (rows, footer.num_row_groups());
    if found != (file.rows, file.row_groups) {
        let wanted = (file.rows, file.row_groups);
        return Err(invalid(format!("rows and row groups are {found:?}, {wanted:?} were written").into()));
    }
    Ok(footer)
}

/// Moves files on a disk to where they will be seen, and forces their names to the disk.
async fn publish(write: &Write, files: &[DataFile]) -> Result<(), OdpError> {
    if write.disk.is_none() {
        return Ok(());
    }
    let store = &write.target.store;
    let moves = files.iter().map(async |file| {
        let StagedInfo { staged, published, .. } = &file.staged;
        write.register(published);
        store.rename(staged, published).await.map_err(|error| write.failed(published, error))
    });
    let moves: Vec<_> = moves.collect();
    let moved: Result<(), _> =
        futures::stream::iter(moves).buffer_unordered(CONCURRENT_REQUESTS).try_collect().await;
    moved?;
    // Each directory, and those above it, which may be new.
    let mut directories = BTreeSet::new();
    for file in files {
        let mut next = file.staged.published.parent();
        while let Some(directory) = next.filter(|directory| *directory != write.directory) {
            next = directory.parent();
            if !directories.insert(directory) {
                break;
            }
        }
    }
    let directories = directories.into_iter().rev().chain([write.directory.clone()]).collect();
    sync_directories(write, directories).await.map_err(|error| write.failed(&write.directory, error))
}

/// Ends an upload to the place where it is seen.
async fn put_in_place(
    write: &Write,
    pending: Pending,
    path: &Path,
    is_new: bool,
) -> object_store::Result<()> {
    let store = write.target.store.as_ref();
    match pending {
        Pending::Put(payload) if is_new => put_new(store, path, payload).await,
        Pending::Put(payload) => store.put(path, payload).await.map(drop),
        Pending::Complete(upload) => {
            if is_new {
                // There is no condition on the end of an upload in parts.
                match store.head(path).await {
                    Ok(_) => {
                        let path = path.to_string();
                        return Err(object_store::Error::AlreadyExists {
                            path,
                            source: "it is there".into(),
                        });
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
                log::debug!("{path} is not protected from another writer that creates it at this moment");
            }
            upload.complete().await
        }
    }
}

/// Gives a file on a disk its name.
async fn move_into_place(
    store: &dyn ObjectStore,
    staged: &Path,
    path: &Path,
    is_new: bool,
) -> object_store::Result<()> {
    let before = store.head(staged).await?;
    let moved = match is_new {
        true => store.copy_if_not_exists(staged, path).await,
        false => store.rename(staged, path).await,
    };
    let Err(error) = moved else { return Ok(()) };
    // It may have been done all the same: then the file is the same one.
    match store.head(path).await {
        Ok(after) if after.e_tag.is_some() && after.e_tag == before.e_tag => Ok(()),
        _ => Err(error),
    }
}

/// Removes replaced files, as far as it can.
async fn remove(write: &Write, paths: &[String]) {
    let store = &write.target.store;
    futures::stream::iter(paths)
        .for_each_concurrent(CONCURRENT_REQUESTS, async |path| {
            match store.delete(&below(&write.directory, path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => log::warn!("{path} was replaced, and is left behind: {error}"),
            }
        })
        .await;
}
