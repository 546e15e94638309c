//! Makes commit records: each once, by one writer, on the disk before it counts.

use std::time::Duration;

use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::durability::blocking;
use super::write::{BoxError, Write};
use crate::discover::commit_log::{
    CHECKPOINT_INTERVAL, LogState, Record, checkpoint_path, log_directory, record_path,
};
use crate::error::OdpError;

/// How often a record is tried whose fate an error left open.
const RECORD_ATTEMPTS: u32 = 4;

/// Milliseconds before the second attempt; four times as many before the next. Tests do not wait.
const RECORD_PAUSE: u64 = if cfg!(test) { 0 } else { 20 };

/// How the creation of a record ended.
#[derive(Debug)]
pub(super) enum Recorded {
    /// It is there, and on the disk.
    Durable,
    /// It is there; the disk failed to confirm it.
    Unconfirmed(OdpError),
    /// Another writer has this number.
    Taken,
}

/// Why there is no record.
#[derive(Debug)]
pub(super) enum RecordError {
    /// There is none.
    Absent(OdpError),
    /// There may be one.
    Unknown(OdpError),
}

/// Makes the record, if there is none of its number; an error says whether there is one.
pub(super) async fn record_durably(write: &Write, record: &Record) -> Result<Recorded, RecordError> {
    let path = record_path(&write.directory, record.version);
    let bytes = record.encode().map_err(|error| RecordError::Absent(write.failed(&path, error)))?;
    let payload = PutPayload::from(bytes);
    for attempt in 1.. {
        let error = match create_record(write, &path, payload.clone()).await {
            Ok(()) => return Ok(confirm(write, record).await),
            Err(error) => error,
        };
        let is_taken = matches!(
            error,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
        );
        let is_last = attempt >= RECORD_ATTEMPTS || is_refusal(&error);
        // Whatever it says, the record may be there, by this attempt or the one before.
        match write.log().record(record.version).await {
            Ok(Some(found)) if found.write_id == record.write_id => return Ok(confirm(write, record).await),
            Ok(Some(_)) => return Ok(Recorded::Taken),
            Ok(None) if is_last && (write.disk.is_some() || is_refusal(&error)) => {
                return Err(RecordError::Absent(write.failed(&path, error)));
            }
            // A damaged record is there, and not ours.
            Err(error @ (OdpError::InvalidData { .. } | OdpError::Unsupported { .. })) if is_taken => {
                return Err(RecordError::Absent(error));
            }
            Ok(None) | Err(_) if is_last => {
                let reason = format!(
                    "it is not known whether the rows are there; look before you write again: {error}"
                );
                return Err(RecordError::Unknown(write.failed(&path, reason)));
            }
            Ok(None) | Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(RECORD_PAUSE << (2 * (attempt - 1).min(6)))).await;
    }
    Ok(Recorded::Taken)
}

/// Whether the store says that nothing was done.
fn is_refusal(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. }
            | object_store::Error::InvalidPath { .. }
    )
}

async fn create_record(write: &Write, path: &Path, payload: PutPayload) -> object_store::Result<()> {
    let store = write.target.store.as_ref();
    let Some(disk) = write.disk.as_ref() else { return put_new(store, path, payload).await };
    let staged = write.stage().join("record");
    store.put(&staged, payload).await?;
    let synced = staged.clone();
    blocking(disk, move |disk| disk.sync_file(&synced))
        .await
        .map_err(|error| object_store::Error::Generic { store: "disk", source: error.into() })?;
    // A second name for the same bytes: it is there whole, or not at all.
    store.copy_if_not_exists(&staged, path).await
}

/// Forces the name of a record to the disk.
async fn confirm(write: &Write, record: &Record) -> Recorded {
    let log = log_directory(&write.directory);
    let mut directories = vec![log.clone()];
    if record.version == 0 {
        directories.extend(log.parent());
        directories.extend(write.made_directories());
    }
    match sync_directories(write, directories).await {
        Ok(()) => Recorded::Durable,
        Err(error) => Recorded::Unconfirmed(unconfirmed(write, error)),
    }
}

/// Puts an object that is not there yet.
pub(super) async fn put_new(
    store: &dyn ObjectStore,
    path: &Path,
    payload: PutPayload,
) -> object_store::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(path, payload.clone(), options).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            log::warn!(
                "the object store of {path} cannot create an object only if it is not there: if two writers commit at the \
                 same moment, the rows of one may be lost"
            );
            match store.head(path).await {
                Ok(_) => {
                    let path = path.to_string();
                    Err(object_store::Error::AlreadyExists { path, source: "it is there".into() })
                }
                Err(object_store::Error::NotFound { .. }) => store.put(path, payload).await.map(drop),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Writes the state, so that the next reader need not read all records; as far as it can.
pub(super) async fn checkpoint(write: &Write, state: &LogState) {
    let store = write.target.store.as_ref();
    let path = checkpoint_path(&write.directory, state.version);
    let written = async {
        let payload = PutPayload::from(state.encode()?);
        let Some(disk) = write.disk.as_ref() else {
            store.put(&path, payload).await?;
            return Ok::<_, BoxError>(());
        };
        let staged = write.stage().join("checkpoint");
        store.put(&staged, payload).await?;
        let synced = staged.clone();
        blocking(disk, move |disk| disk.sync_file(&synced)).await?;
        store.rename(&staged, &path).await?;
        Ok(())
    };
    if let Err(error) = written.await {
        log::warn!("checkpoint {path} was not written: {error}");
        return;
    }
    // The one before stays, for those who have just seen it.
    if let Some(old) = state.version.checked_sub(2 * CHECKPOINT_INTERVAL).filter(|old| *old > 0) {
        let _ = store.delete(&checkpoint_path(&write.directory, old)).await;
    }
}

pub(super) fn unconfirmed(write: &Write, error: impl Into<BoxError>) -> OdpError {
    let error = error.into();
    let reason = format!("the rows are there, but the disk did not confirm that they last: {error}");
    write.failed(&write.target.path, reason)
}

pub(super) async fn sync_directories(write: &Write, directories: Vec<Path>) -> std::io::Result<()> {
    let Some(disk) = write.disk.as_ref() else { return Ok(()) };
    blocking(disk, move |disk| directories.iter().try_for_each(|directory| disk.sync_directory(directory)))
        .await
}
