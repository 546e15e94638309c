//! What is there after a number of commits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::record::{self, AddedFile, DecodeError, PartitionColumns, Record, RemovedFile};
use super::{BoxError, write_id_of};

/// A file that is there.
#[derive(Debug, Clone)]
pub(crate) struct LiveFile {
    pub(crate) added: AddedFile,
    pub(crate) columns: PartitionColumns,
}

/// What is there after the commit `version`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogState {
    pub(crate) version: u64,
    /// Whether record 0 was applied, or stepped over.
    has_begun: bool,
    /// By path.
    pub(crate) live: BTreeMap<String, LiveFile>,
    /// Foreign files that were removed, by path: some may still be there.
    pub(crate) removed: HashMap<String, RemovedFile>,
    /// The partition columns of the last commit that added something.
    pub(crate) columns: Option<PartitionColumns>,
}

impl LogState {
    /// The version of the record to apply next.
    pub(super) fn next_version(&self) -> u64 {
        if self.has_begun { self.version.saturating_add(1) } else { 0 }
    }

    /// # Errors
    /// If `record` does not follow.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), BoxError> {
        if record.version != self.next_version() {
            return Err(format!("commit {} after commit {}", record.version, self.version).into());
        }
        for file in record.removed {
            let was_live = self.live.remove(&file.path).is_some();
            if !was_live && !is_ours(&file.path) {
                self.removed.insert(file.path.clone(), file);
            }
        }
        if !record.added.is_empty() {
            self.columns = Some(Arc::clone(&record.columns));
        }
        for added in record.added {
            let path = added.path.clone();
            let file = LiveFile { added, columns: Arc::clone(&record.columns) };
            if self.live.insert(path.clone(), file).is_some() {
                return Err(format!("{path} is added twice").into());
            }
        }
        self.version = record.version;
        self.has_begun = true;
        Ok(())
    }

    /// As a checkpoint.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, BoxError> {
        let mut columns: Vec<&PartitionColumns> = Vec::new();
        let mut files = Vec::with_capacity(self.live.len());
        for file in self.live.values() {
            let at = match columns.iter().rposition(|known| **known == file.columns) {
                Some(at) => at,
                None => {
                    columns.push(&file.columns);
                    columns.len() - 1
                }
            };
            let mut json = file.added.to_json();
            json["columns"] = at.into();
            files.push(json);
        }
        let columns =
            columns.into_iter().map(|c| record::columns_to_json(c)).collect::<Result<Vec<_>, _>>()?;
        let last = self.columns.as_ref().map(|columns| record::columns_to_json(columns)).transpose()?;
        let mut removed: Vec<_> = self.removed.values().collect();
        removed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(record::seal(&json!({
            "version": self.version,
            "columns": columns,
            "last_columns": last,
            "files": files,
            "removed": removed.into_iter().map(RemovedFile::to_json).collect::<Vec<_>>(),
        })))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = record::open(bytes)?;
        let columns: Vec<PartitionColumns> =
            record::list(&body["columns"])?.iter().map(record::columns_of).collect::<Result<_, _>>()?;
        let mut live = BTreeMap::new();
        for file in record::list(&body["files"])? {
            let at = file["columns"].as_u64().and_then(|at| usize::try_from(at).ok());
            let columns = at.and_then(|at| columns.get(at)).ok_or("partition columns are missing")?;
            let added = AddedFile::of(file, columns.len())?;
            live.insert(added.path.clone(), LiveFile { added, columns: Arc::clone(columns) });
        }
        let removed = record::list(&body["removed"])?.iter().map(|file| {
            let removed = RemovedFile::of(file)?;
            Ok((removed.path.clone(), removed))
        });
        let last_columns = match &body["last_columns"] {
            Value::Null => None,
            columns => Some(record::columns_of(columns)?),
        };
        Ok(Self {
            version: body["version"].as_u64().ok_or("it has no version")?,
            has_begun: true,
            live,
            removed: removed.collect::<Result<_, BoxError>>()?,
            columns: last_columns,
        })
    }
}

/// Whether a file of this path is named as our data files are.
pub(crate) fn is_ours(path: &str) -> bool {
    write_id_of(path.rsplit('/').next().unwrap_or_default()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let mut state = LogState::default();
        state.apply(Record::default()).unwrap();
        let added = |path: &str| AddedFile {
            path: path.into(),
            bytes: 5,
            rows: Some(1),
            row_groups: Some(1),
            crc32: Some(1),
            partition: Some(vec![]),
        };
        let foreign = RemovedFile { path: "b.parquet".into(), bytes: 7, e_tag: None };
        let record =
            Record { version: 1, added: vec![added("x")], removed: vec![foreign], ..Record::default() };
        state.apply(record).unwrap();
        let back = LogState::decode(&state.encode().unwrap()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{state:?}"));
        let gap = Record { version: 3, ..Record::default() };
        assert!(state.clone().apply(gap).is_err());
        let twice = Record { version: 2, added: vec![added("x")], ..Record::default() };
        assert!(state.apply(twice).is_err());
    }
}
