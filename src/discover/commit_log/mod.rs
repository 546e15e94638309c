//! The commit log of a dataset: which files of it are there, and which are not yet, or no more.
//!
//! | below the dataset's directory | holds |
//! |---|---|
//! | `_odp/log/<version>.json` | one commit: files it added and removed ([`record`]); made once, never changed |
//! | `_odp/log/<version>.checkpoint` | the state after that commit, so that not all records need be read |
//! | `_odp/stage/<write id>/` | what a writer has not published yet |
//! | `…/part-<version>-<write id>-<number>.parquet` | a data file, there as soon as a record adds it |
//!
//! Versions have 20 digits. Record 0 begins the log: it adds the files of this pattern that were there without a log, or
//! nothing, and may then be missing. A dataset without a log is all the files in its directory.

mod record;
mod state;

use bytes::Bytes;
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectMeta, ObjectStore, ObjectStoreExt};
use futures::{StreamExt, TryStreamExt};

pub(crate) use record::{AddedFile, PartitionColumns, Record, RemovedFile};
pub(crate) use state::{LiveFile, LogState, is_ours};

use crate::error::OdpError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The hidden directory with all that a dataset's writers need.
const ODP: &str = "_odp";
const LOG: &str = "log";
const STAGE: &str = "stage";

/// Every so many commits a checkpoint is written.
pub(crate) const CHECKPOINT_INTERVAL: u64 = 32;

/// A larger record or checkpoint is not read; one of 10^6 files is smaller.
const MAX_BYTES: u64 = 1 << 30;

/// Records that are read at a time.
const CONCURRENT_READS: usize = 16;

/// The directory of the records.
pub(crate) fn log_directory(directory: &Path) -> Path {
    directory.clone().join(ODP).join(LOG)
}

/// The directory of unpublished files; each write has one in it.
pub(crate) fn stage_directory(directory: &Path) -> Path {
    directory.clone().join(ODP).join(STAGE)
}

/// The hidden directory of the log and the stages.
pub(crate) fn hidden_directory(directory: &Path) -> Path {
    directory.clone().join(ODP)
}

/// The file of a path in the log.
pub(crate) fn below(directory: &Path, path: &str) -> Path {
    // What a log holds can be parsed.
    let relative = Path::parse(path).unwrap_or_else(|_| Path::from(path));
    directory.parts().chain(relative.parts()).collect()
}

pub(crate) fn record_path(directory: &Path, version: u64) -> Path {
    log_directory(directory).join(format!("{version:020}.json"))
}

pub(crate) fn checkpoint_path(directory: &Path, version: u64) -> Path {
    log_directory(directory).join(format!("{version:020}.checkpoint"))
}

/// The name of a data file: in natural order of the commits, then of the numbers.
pub(crate) fn data_file_name(version: u64, write_id: &str, number: u64) -> String {
    format!("part-{version:020}-{write_id}-{number:06}.parquet")
}

/// The write id in the name of a data file of ours; `None` for a foreign file.
pub(crate) fn write_id_of(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix("part-")?.strip_suffix(".parquet")?.split('-');
    let (version, write_id, number) = (parts.next()?, parts.next()?, parts.next()?);
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = parts.next().is_none()
        && version.len() == 20
        && are_digits(version)
        && write_id.len() >= 16
        && write_id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && number.len() >= 6
        && are_digits(number);
    is_ours.then_some(write_id)
}

/// What a file in the log's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Record(u64),
    Checkpoint(u64),
}

impl Entry {
    fn of(name: &str) -> Option<Self> {
        let (digits, extension) = name.split_once('.')?;
        let version = digits.parse().ok().filter(|_| digits.len() == 20)?;
        match extension {
            "json" => Some(Self::Record(version)),
            "checkpoint" => Some(Self::Checkpoint(version)),
            _ => None,
        }
    }
}

/// What a listing shows of a log.
#[derive(Debug, Default, Clone)]
pub(crate) struct LogListing {
    /// In order.
    records: Vec<u64>,
    /// In order, with their sizes.
    checkpoints: Vec<u64>,
}

impl LogListing {
    /// Picks the log of `directory` out of what lies below it.
    pub(crate) fn of<'a>(directory: &Path, found: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        let log = log_directory(directory);
        let mut listing = Self::default();
        for meta in found {
            let Some(mut rest) = meta.location.prefix_match(&log) else { continue };
            let (Some(name), None) = (rest.next(), rest.next()) else { continue };
            match Entry::of(name.as_ref()) {
                Some(Entry::Record(version)) => listing.records.push(version),
                Some(Entry::Checkpoint(version)) => listing.checkpoints.push(version),
                None => {}
            }
        }
        listing.records.sort_unstable();
        listing.checkpoints.sort_unstable();
        listing
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.checkpoints.is_empty()
    }

    /// The newest version.
    pub(crate) fn last(&self) -> Option<u64> {
        self.records.last().max(self.checkpoints.last()).copied()
    }
}

/// The log of a directory in a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log<'a> {
    pub(crate) store: &'a dyn ObjectStore,
    pub(crate) directory: &'a Path,
}

impl Log<'_> {
    /// What is in the log's directory now.
    pub(crate) async fn list(&self) -> object_store::Result<LogListing> {
        let found: Vec<ObjectMeta> =
            self.store.list(Some(&log_directory(self.directory))).try_collect().await?;
        Ok(LogListing::of(self.directory, &found))
    }

    /// The newest state that `listing` shows; `None` if something is not there any more, or not yet: list again.
    ///
    /// # Errors
    /// [`OdpError::Storage`], and [`OdpError::InvalidData`] for what is damaged, [`OdpError::Unsupported`] for what a later
    /// version of this crate wrote.
    pub(crate) async fn state(&self, listing: &LogListing) -> Result<Option<LogState>, OdpError> {
        let mut checkpoint = None;
        for &version in listing.checkpoints.iter().rev() {
            let path = checkpoint_path(self.directory, version);
            match self.read(&path).await {
                Ok(Some(bytes)) => match LogState::decode(&bytes) {
                    Ok(state) if state.version == version => {
                        checkpoint = Some(state);
                        break;
                    }
                    Ok(_) => log::warn!("checkpoint {path} is ignored: it is of another version"),
                    Err(error) => log::warn!("checkpoint {path} is ignored, older records are read: {error}"),
                },
                // Replaced by a later one.
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        self.replay(checkpoint.unwrap_or_default(), listing).await
    }

    /// `state` and the records after it that `listing` shows; `None` as in [`state`](Self::state).
    pub(crate) async fn replay(
        &self,
        mut state: LogState,
        listing: &LogListing,
    ) -> Result<Option<LogState>, OdpError> {
        let Some(last) = listing.last() else { return Ok(Some(state)) };
        let Some(records) = self.records(state.next_version()..=last, listing).await? else {
            return Ok(None);
        };
        for record in records {
            let path = record_path(self.directory, record.version);
            state
                .apply(record)
                .map_err(|source| OdpError::InvalidData { location: path.to_string(), source })?;
        }
        Ok(Some(state))
    }

    /// The records of all `versions`; `None` as in [`state`](Self::state).
    pub(crate) async fn records(
        &self,
        versions: std::ops::RangeInclusive<u64>,
        listing: &LogListing,
    ) -> Result<Option<Vec<Record>>, OdpError> {
        if versions.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (first, last) = (*versions.start(), *versions.end());
        let listed = listing.records.iter().filter(|version| versions.contains(version)).count() as u64;
        // A listing that was overtaken lacks a few; a name that nobody's commits lead to is not followed.
        if last - first > listed.saturating_add(4096) {
            return Err(OdpError::InvalidData {
                location: record_path(self.directory, last).to_string(),
                source: format!("of the commits {first} to {last} only {listed} are there").into(),
            });
        }
        let reads = versions.map(async |version| match self.record(version).await {
            // It adds nothing, or it is never removed.
            Ok(None) if version == 0 => Ok(Some(Record::default())),
            other => other,
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        let mut records = Vec::new();
        while let Some(record) = reads.next().await {
            match record? {
                Some(record) => records.push(record),
                None => return Ok(None),
            }
        }
        Ok(Some(records))
    }

    /// One record; `None` if there is none of this version.
    pub(crate) async fn record(&self, version: u64) -> Result<Option<Record>, OdpError> {
        let path = record_path(self.directory, version);
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        let record = Record::decode(&bytes).map_err(|error| error.at(&path))?;
        if record.version != version {
            return Err(OdpError::InvalidData {
                location: path.to_string(),
                source: format!("it is the record of commit {}", record.version).into(),
            });
        }
        Ok(Some(record))
    }

    async fn read(&self, path: &Path) -> Result<Option<Bytes>, OdpError> {
        let failed = |source: BoxError| OdpError::Storage { location: path.to_string(), source };
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        if found.meta.size > MAX_BYTES {
            return Err(OdpError::InvalidData {
                location: path.to_string(),
                source: format!("it has {} bytes", found.meta.size).into(),
            });
        }
        match found.bytes().await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_files_tell_the_write() {
        let name = data_file_name(7, "0123456789abcdef", 1_234_567);
        assert_eq!(name, "part-00000000000000000007-0123456789abcdef-1234567.parquet");
        assert_eq!(write_id_of(&name), Some("0123456789abcdef"));
        for foreign in ["part-0.parquet", "part-00000000000000000007-0123456789abcdef-1.parquet", "a.parquet"]
        {
            assert_eq!(write_id_of(foreign), None);
        }
    }

    #[test]
    fn files_of_one_write_are_in_the_order_of_their_numbers() {
        for write_id in ["0000000000000000", "1e10000000000001", "ffffffff00000000"] {
            let mut names: Vec<String> =
                [10, 2, 999_999, 1_000_000, 0].map(|n| data_file_name(3, write_id, n)).to_vec();
            names.push(data_file_name(2, "ffffffffffffffff", 5));
            names.push(data_file_name(10, "0000000000000000", 0));
            names.sort_by(|a, b| crate::discover::natural_order::compare(a, b));
            let expected = [
                data_file_name(2, "ffffffffffffffff", 5),
                data_file_name(3, write_id, 0),
                data_file_name(3, write_id, 2),
                data_file_name(3, write_id, 10),
                data_file_name(3, write_id, 999_999),
                data_file_name(3, write_id, 1_000_000),
                data_file_name(10, "0000000000000000", 0),
            ];
            assert_eq!(names, expected);
        }
    }
}
