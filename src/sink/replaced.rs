//! What a write replaces, and whether another writer got in its way.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;

use super::WriteMode;
use super::commit::DataFile;
use super::write::BoxError;
use crate::dataset::partition_value_from_text;
use crate::discover::commit_log::{LiveFile, LogState, PartitionColumns, Record, below};
use crate::discover::{ListedFile, partition_values};
use crate::error::OdpError;

/// What a commit replaces.
#[derive(Debug)]
pub(super) enum Replaced {
    Nothing,
    /// All that is there.
    All,
    Partitions(ReplacedPartitions),
}

/// The values of partition columns that get rows.
#[derive(Debug)]
pub(super) struct ReplacedPartitions {
    columns: PartitionColumns,
    values: HashSet<Vec<ScalarValue>>,
}

impl Replaced {
    pub(super) fn by(
        mode: WriteMode,
        files: &[DataFile],
        columns: &PartitionColumns,
    ) -> Result<Self, OdpError> {
        if let Some(file) = files.iter().find(|file| file.partition.len() != columns.len()) {
            return Err(OdpError::InvalidData {
                location: file.staged.path.clone(),
                source: "it has not one value for each partition column".into(),
            });
        }
        Ok(match mode {
            WriteMode::Append | WriteMode::ErrorIfExists | WriteMode::Ignore => Self::Nothing,
            WriteMode::Overwrite => Self::All,
            // Without partition columns all rows are of one partition.
            WriteMode::OverwritePartitions if columns.is_empty() && files.is_empty() => Self::Nothing,
            WriteMode::OverwritePartitions if columns.is_empty() => Self::All,
            WriteMode::OverwritePartitions => {
                let values = files.iter().map(|file| {
                    exact_values(&file.partition, columns).map_err(|source| OdpError::InvalidData {
                        location: file.staged.path.clone(),
                        source,
                    })
                });
                let values = values.collect::<Result<_, _>>()?;
                Self::Partitions(ReplacedPartitions { columns: Arc::clone(columns), values })
            }
        })
    }
}

impl ReplacedPartitions {
    pub(super) fn has(&self, file: &ListedFile) -> Result<bool, OdpError> {
        Ok(self.values.contains(&partition_values(file, &self.columns)?))
    }

    /// Whether `record`, which follows `state`, adds to these partitions, or removes from them.
    pub(super) fn are_touched(&self, record: &Record, state: &LogState) -> Result<bool, OdpError> {
        for added in &record.added {
            let live = LiveFile { added: added.clone(), columns: Arc::clone(&record.columns) };
            if self.has(&file_at(&added.path, Some(live)))? {
                return Ok(true);
            }
        }
        for removed in &record.removed {
            if self.has(&file_at(&removed.path, state.live.get(&removed.path).cloned()))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn exact_values(
    texts: &[Option<String>],
    columns: &[(String, DataType)],
) -> Result<Vec<ScalarValue>, BoxError> {
    let values = texts.iter().zip(columns);
    Ok(values
        .map(|(text, (_, data_type))| partition_value_from_text(text.as_deref(), data_type))
        .collect::<Result<_, _>>()?)
}

/// A file as a listing has it, for its partition values.
fn file_at(path: &str, logged: Option<LiveFile>) -> ListedFile {
    let mut directories: Vec<String> = path.split('/').map(String::from).collect();
    directories.pop();
    let object_meta = ObjectMeta {
        location: below(&Path::default(), path),
        last_modified: Default::default(),
        size: 0,
        e_tag: None,
        version: None,
    };
    ListedFile { object_meta, directories, logged: logged.map(Arc::new) }
}
