//! One commit: JSON, `{"format":1,"crc32":"<8 hex digits>","body":…}`, where the checksum is of the body's bytes.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use serde_json::{Map, Value, json};

use super::BoxError;
use crate::error::OdpError;

/// The version of the format of records and checkpoints.
const FORMAT: u64 = 1;

/// Names and types of partition columns.
pub(crate) type PartitionColumns = Arc<[(String, DataType)]>;

/// A commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) version: u64,
    /// Who made it.
    pub(crate) write_id: String,
    /// `begin`, or the mode of the write.
    pub(crate) operation: String,
    /// UTC, for people; nothing is decided by it.
    pub(crate) time: String,
    /// The partition columns of what it added.
    pub(crate) columns: PartitionColumns,
    pub(crate) added: Vec<AddedFile>,
    pub(crate) removed: Vec<RemovedFile>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: 0,
            write_id: String::new(),
            operation: "begin".into(),
            time: String::new(),
            columns: [].into(),
            added: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// A file that a commit adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedFile {
    /// Below the dataset's directory.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) rows: Option<u64>,
    pub(crate) row_groups: Option<u64>,
    /// Of the whole file.
    pub(crate) crc32: Option<u32>,
    /// The value of each partition column as exact text; `None`: the path says them.
    pub(crate) partition: Option<Vec<Option<String>>>,
}

/// A file that a commit removes, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemovedFile {
    /// Below the dataset's directory.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Its ETag, where its store has them.
    pub(crate) e_tag: Option<String>,
}

impl RemovedFile {
    /// Whether `meta` is the file that was removed, and not another that has its name since.
    pub(crate) fn is(&self, meta: &ObjectMeta) -> bool {
        let is_other = matches!((&self.e_tag, &meta.e_tag), (Some(was), Some(is)) if was != is);
        self.bytes == meta.size && !is_other
    }
}

/// Why a record or checkpoint cannot be read.
#[derive(Debug)]
pub(crate) enum DecodeError {
    Damaged(BoxError),
    /// The version of its format.
    Format(u64),
}

impl DecodeError {
    pub(super) fn at(self, path: &Path) -> OdpError {
        match self {
            Self::Damaged(source) => OdpError::InvalidData { location: path.to_string(), source },
            Self::Format(format) => OdpError::Unsupported {
                what: format!(
                    "format {format} of the commit log, in {path}: this version of the crate reads {FORMAT}"
                ),
            },
        }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(error) => error.fmt(f),
            Self::Format(format) => write!(f, "it is of format {format}"),
        }
    }
}

impl<E: Into<BoxError>> From<E> for DecodeError {
    fn from(error: E) -> Self {
        Self::Damaged(error.into())
    }
}

/// `body` with its checksum.
pub(super) fn seal(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{{\"format\":{FORMAT},\"crc32\":\"{checksum:08x}\",\"body\":{body}}}\n").into_bytes()
}

/// What [`seal`] sealed.
pub(super) fn open(bytes: &[u8]) -> Result<Value, DecodeError> {
    let text = std::str::from_utf8(bytes)?;
    let rest = text.strip_prefix("{\"format\":").ok_or("it does not begin as a record")?;
    let (format, rest) = rest.split_once(',').ok_or("it is cut off")?;
    let format: u64 = format.parse()?;
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let rest = rest.strip_prefix("\"crc32\":\"").ok_or("it has no checksum")?;
    let (checksum, rest) = rest.split_once("\",\"body\":").ok_or("it is cut off")?;
    let body = rest.trim_end().strip_suffix('}').ok_or("it is cut off")?;
    if u32::from_str_radix(checksum, 16)? != crc32fast::hash(body.as_bytes()) {
        return Err("its checksum is wrong".into());
    }
    Ok(serde_json::from_str(body)?)
}

impl Record {
    /// # Errors
    /// If a type cannot be written as text.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, BoxError> {
        Ok(seal(&json!({
            "version": self.version,
            "write_id": self.write_id,
            "operation": self.operation,
            "time": self.time,
            "partition_columns": columns_to_json(&self.columns)?,
            "added": self.added.iter().map(AddedFile::to_json).collect::<Vec<_>>(),
            "removed": self.removed.iter().map(RemovedFile::to_json).collect::<Vec<_>>(),
        })))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = open(bytes)?;
        let columns = columns_of(&body["partition_columns"])?;
        let added = list(&body["added"])?
            .iter()
            .map(|file| AddedFile::of(file, columns.len()))
            .collect::<Result<_, _>>()?;
        let removed = list(&body["removed"])?.iter().map(RemovedFile::of).collect::<Result<_, _>>()?;
        Ok(Self {
            version: body["version"].as_u64().ok_or("it has no version")?,
            write_id: text(&body["write_id"])?,
            operation: text(&body["operation"])?,
            time: text(&body["time"])?,
            columns,
            added,
            removed,
        })
    }

    /// Whether it changes what is there.
    pub(crate) fn is_change(&self) -> bool {
        !self.added.is_empty() || !self.removed.is_empty()
    }
}

impl AddedFile {
    pub(super) fn to_json(&self) -> Value {
        let crc32 = self.crc32.map(|crc32| format!("{crc32:08x}"));
        let mut file = Map::new();
        file.insert("path".into(), json!(self.path));
        file.insert("bytes".into(), json!(self.bytes));
        let optional = [
            ("rows", self.rows.map(Value::from)),
            ("row_groups", self.row_groups.map(Value::from)),
            ("crc32", crc32.map(Value::from)),
            ("partition", self.partition.as_ref().map(|values| json!(values))),
        ];
        file.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(file)
    }

    pub(super) fn of(file: &Value, columns: usize) -> Result<Self, BoxError> {
        let optional = |key: &str| match &file[key] {
            Value::Null => Ok(None),
            value => Ok::<_, BoxError>(Some(value.as_u64().ok_or_else(|| format!("{key} is no number"))?)),
        };
        let crc32 = match &file["crc32"] {
            Value::Null => None,
            value => Some(u32::from_str_radix(value.as_str().ok_or("a checksum is no text")?, 16)?),
        };
        let partition = match &file["partition"] {
            Value::Null => None,
            values => {
                let values = list(values)?.iter().map(|value| match value {
                    Value::Null => Ok(None),
                    value => text(value).map(Some),
                });
                let values = values.collect::<Result<Vec<_>, _>>()?;
                if values.len() != columns {
                    return Err("a file has not one value for each partition column".into());
                }
                Some(values)
            }
        };
        Ok(Self {
            path: path_of(file)?,
            bytes: file["bytes"].as_u64().ok_or("a file has no size")?,
            rows: optional("rows")?,
            row_groups: optional("row_groups")?,
            crc32,
            partition,
        })
    }
}

impl RemovedFile {
    pub(super) fn to_json(&self) -> Value {
        match &self.e_tag {
            Some(e_tag) => json!({ "path": self.path, "bytes": self.bytes, "e_tag": e_tag }),
            None => json!({ "path": self.path, "bytes": self.bytes }),
        }
    }

    pub(super) fn of(file: &Value) -> Result<Self, BoxError> {
        let bytes = file["bytes"].as_u64().ok_or("a file has no size")?;
        Ok(Self { path: path_of(file)?, bytes, e_tag: file["e_tag"].as_str().map(String::from) })
    }
}

/// The path of a file; one that would leave the dataset is refused.
fn path_of(file: &Value) -> Result<String, BoxError> {
    let path = text(&file["path"])?;
    match Path::parse(&path) {
        Ok(parsed) if !parsed.is_root() && parsed.as_ref() == path => Ok(path),
        _ => Err(format!("{path:?} is not a path below the dataset").into()),
    }
}

pub(super) fn columns_to_json(columns: &[(String, DataType)]) -> Result<Value, BoxError> {
    let columns = columns.iter().map(|(name, data_type)| {
        let text = data_type.to_string();
        match text.parse::<DataType>() {
            Ok(parsed) if parsed == *data_type => Ok(json!({ "name": name, "type": text })),
            _ => Err(BoxError::from(format!(
                "partition column {name:?} has the type {data_type}, which has no text"
            ))),
        }
    });
    Ok(Value::Array(columns.collect::<Result<_, _>>()?))
}

pub(super) fn columns_of(columns: &Value) -> Result<PartitionColumns, BoxError> {
    let columns = list(columns)?.iter().map(|column| {
        let data_type: DataType = text(&column["type"])?.parse()?;
        Ok((text(&column["name"])?, data_type))
    });
    columns.collect::<Result<Vec<_>, BoxError>>().map(Into::into)
}

pub(super) fn list(value: &Value) -> Result<&[Value], BoxError> {
    Ok(value.as_array().ok_or("a list is missing")?)
}

fn text(value: &Value) -> Result<String, BoxError> {
    Ok(value.as_str().ok_or("a text is missing")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::TimeUnit;

    fn record() -> Record {
        Record {
            version: 3,
            write_id: "0123456789abcdef".into(),
            operation: "append".into(),
            time: "2026-01-01T00:00:00Z".into(),
            columns: [
                ("year".to_owned(), DataType::Int32),
                ("at".to_owned(), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
            ]
            .into(),
            added: vec![AddedFile {
                path: "year=1/at=%2F/part-0.parquet".into(),
                bytes: 1,
                rows: Some(2),
                row_groups: Some(1),
                crc32: Some(u32::MAX),
                partition: Some(vec![Some("1".into()), None]),
            }],
            removed: vec![RemovedFile { path: "a.parquet".into(), bytes: 4, e_tag: Some("x".into()) }],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let bytes = record().encode().unwrap();
        assert_eq!(Record::decode(&bytes).unwrap(), record());
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(parsed["body"]["version"], 3);
    }

    #[test]
    fn damage_anywhere_is_an_error() {
        let bytes = record().encode().unwrap();
        for at in 0..bytes.len() - 1 {
            assert!(Record::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Record::decode(&flipped).is_err(), "flipped at {at}");
        }
        let later = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        let error = Record::decode(later.as_bytes()).unwrap_err().at(&Path::from("x")).to_string();
        assert!(error.contains("format 2"), "{error}");
    }

    #[test]
    fn paths_do_not_leave_the_dataset() {
        for path in ["", "/a", "../a", "a/../b", "a//b", "a/", "."] {
            let mut record = record();
            record.added[0].path = path.into();
            assert!(Record::decode(&record.encode().unwrap()).is_err(), "{path}");
        }
    }
}
