//! Partition columns: `key=value` segments of files' paths, typed.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue, exec_err};
use percent_encoding::percent_decode_str;

use super::FileRange;
use super::listing::ListedFile;
use crate::error::OdpError;

/// The segment value that stands for NULL.
const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A partition column as a table declares it; the type is inferred if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredPartition {
    pub(crate) name: String,
    pub(crate) data_type: Option<DataType>,
}

/// Partition columns and each file's values.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    /// Names and types, in order of the path segments.
    pub(crate) columns: Vec<(String, DataType)>,
    /// One list per file, one value per column.
    pub(crate) values: Vec<Vec<ScalarValue>>,
}

impl Partitions {
    /// What `range` says, for each of `files` files.
    pub(crate) fn given(range: Option<&FileRange>, files: usize) -> Self {
        let given = range.map_or(&[][..], |range| &range.partitions);
        Self {
            columns: given.iter().map(|(name, value)| (name.clone(), value.data_type())).collect(),
            values: vec![given.iter().map(|(_, value)| value.clone()).collect(); files],
        }
    }
}

/// Reads the partition columns of `files`.
///
/// `declared` gives the names, and possibly types, when the user said them. Otherwise the types are those of the commit
/// log, which also has the values of its files, whatever their paths say; `logged` are its columns where no file is left.
/// Without one they are inferred: `Int64` (every value is an integer), `Date32` (every value is `YYYY-MM-DD`), else `Utf8`;
/// NULLs fit every type.
///
/// # Errors
/// [`OdpError::SchemaMismatch`] if two files have different keys, [`OdpError::InvalidData`] if a value does not
/// fit its declared type.
pub(crate) fn read_partitions(
    files: &[ListedFile],
    declared: Option<&[DeclaredPartition]>,
    logged: Option<&[(String, DataType)]>,
) -> Result<Partitions, OdpError> {
    if files.is_empty() {
        return Ok(Partitions { columns: columns_without_files(declared, logged), values: Vec::new() });
    }
    let keyed: Vec<Vec<(String, Option<String>)>> = files.iter().map(key_values).collect();
    let keys_of = |segments: &[(String, Option<String>)]| -> Vec<String> {
        segments.iter().map(|(key, _)| key.clone()).collect()
    };
    let Some(first) = keyed.first() else { return Ok(Partitions::default()) };
    let names = keys_of(first);
    for (file, segments) in files.iter().zip(&keyed) {
        let found = keys_of(segments);
        if found != names {
            return Err(OdpError::SchemaMismatch {
                first: files[0].object_meta.location.to_string(),
                second: file.object_meta.location.to_string(),
                reason: format!("partition columns {names:?} against {found:?}"),
            });
        }
    }
    let declared = match declared {
        Some(declared) if !declared.is_empty() => {
            let expected: Vec<_> = declared.iter().map(|d| d.name.clone()).collect();
            if expected != names {
                return Err(OdpError::InvalidData {
                    location: files[0].object_meta.location.to_string(),
                    source: format!("partition columns {expected:?} are declared, the path has {names:?}")
                        .into(),
                });
            }
            declared.to_vec()
        }
        _ => names.into_iter().map(|name| DeclaredPartition { name, data_type: None }).collect(),
    };
    let logged = logged_columns(files)?;
    let columns: Vec<(String, DataType)> = declared
        .into_iter()
        .enumerate()
        .map(|(i, column)| {
            let inferred = || infer_type(keyed.iter().filter_map(|segments| segments[i].1.as_deref()));
            let data_type = column.data_type.or_else(|| Some(logged.get(i)?.1.clone()));
            (column.name, data_type.unwrap_or_else(inferred))
        })
        .collect();
    let values = files
        .iter()
        .zip(&keyed)
        .map(|(file, segments)| {
            segments
                .iter()
                .zip(&columns)
                .enumerate()
                .map(|(i, ((_, value), (name, data_type)))| {
                    let of_log = file.recorded().and_then(|(columns, _)| columns.get(i));
                    let of_text = of_log.map_or(data_type, |(_, data_type)| data_type);
                    let value = parse_value(value.as_deref(), of_text, name, file)?;
                    match of_text == data_type {
                        true => Ok(value),
                        false => value.cast_to(data_type).map_err(|error| invalid(file, name, &error)),
                    }
                })
                .collect()
        })
        .collect::<Result<_, _>>()?;
    Ok(Partitions { columns, values })
}

/// The partition columns of a dataset of no files.
fn columns_without_files(
    declared: Option<&[DeclaredPartition]>,
    logged: Option<&[(String, DataType)]>,
) -> Vec<(String, DataType)> {
    match declared.filter(|declared| !declared.is_empty()) {
        Some(declared) => declared
            .iter()
            .map(|column| {
                let of_log = || Some(logged?.iter().find(|(name, _)| *name == column.name)?.1.clone());
                let data_type = column.data_type.clone().or_else(of_log);
                (column.name.clone(), data_type.unwrap_or(DataType::Utf8))
            })
            .collect(),
        None => logged.unwrap_or_default().to_vec(),
    }
}

/// The partition columns that the commit log has for all of its files.
fn logged_columns(files: &[ListedFile]) -> Result<Vec<(String, DataType)>, OdpError> {
    let mut logged = files.iter().filter_map(|file| Some((file, file.recorded()?.0)));
    let Some((first, columns)) = logged.next() else { return Ok(Vec::new()) };
    for (file, others) in logged {
        if columns != others {
            return Err(OdpError::SchemaMismatch {
                first: first.object_meta.location.to_string(),
                second: file.object_meta.location.to_string(),
                reason: format!("partition columns {columns:?} against {others:?}"),
            });
        }
    }
    Ok(columns.to_vec())
}

/// The value of each of `columns` for `file`, in their types.
///
/// # Errors
/// As [`read_partitions`].
pub(crate) fn partition_values(
    file: &ListedFile,
    columns: &[(String, DataType)],
) -> Result<Vec<ScalarValue>, OdpError> {
    let declared = columns.iter().map(|(name, data_type)| DeclaredPartition {
        name: name.clone(),
        data_type: Some(data_type.clone()),
    });
    let declared: Vec<_> = declared.collect();
    let mut read = read_partitions(std::slice::from_ref(file), Some(&declared), None)?;
    Ok(read.values.pop().unwrap_or_default())
}

/// The value of a partition column that a commit log has as `text`.
pub(crate) fn exact_value(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue, DataFusionError> {
    let Some(text) = text else { return ScalarValue::try_from(data_type) };
    let value = ScalarValue::try_from_string(text.to_owned(), data_type)?;
    match value.is_null() {
        true => exec_err!("{text:?} is not a {data_type}"),
        false => Ok(value),
    }
}

fn key_values(file: &ListedFile) -> Vec<(String, Option<String>)> {
    if let Some((columns, values)) = file.recorded() {
        return columns.iter().map(|(name, _)| name.clone()).zip(values.iter().cloned()).collect();
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    file.directories
        .iter()
        .filter_map(|segment| segment.split_once('='))
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (decode(key), (value != NULL_VALUE).then(|| decode(value))))
        .collect()
}

fn infer_type<'a>(mut values: impl Iterator<Item = &'a str> + Clone) -> DataType {
    let is_integer = |v: &str| v.parse::<i64>().is_ok() && !v.starts_with('+');
    let is_date = |v: &str| v.len() == 10 && date(v).is_some();
    if values.clone().next().is_none() {
        DataType::Utf8
    } else if values.clone().all(is_integer) {
        DataType::Int64
    } else if values.all(is_date) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

fn date(text: &str) -> Option<ScalarValue> {
    ScalarValue::try_from_string(text.to_owned(), &DataType::Date32).ok().filter(|value| !value.is_null())
}

fn parse_value(
    text: Option<&str>,
    data_type: &DataType,
    column: &str,
    file: &ListedFile,
) -> Result<ScalarValue, OdpError> {
    exact_value(text, data_type).map_err(|error| invalid(file, column, &error))
}

fn invalid(file: &ListedFile, column: &str, error: &DataFusionError) -> OdpError {
    OdpError::InvalidData {
        location: file.object_meta.location.to_string(),
        source: format!("partition column {column:?}: {}", error.strip_backtrace()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::ObjectMeta;
    use datafusion::object_store::path::Path;

    fn files(paths: &[&str]) -> Vec<ListedFile> {
        paths
            .iter()
            .map(|path| {
                let mut directories: Vec<String> = path.split('/').map(String::from).collect();
                directories.pop();
                let location = Path::from(*path);
                let object_meta = ObjectMeta {
                    location,
                    last_modified: Default::default(),
                    size: 1,
                    e_tag: None,
                    version: None,
                };
                ListedFile { object_meta, directories, logged: None }
            })
            .collect()
    }

    #[test]
    fn types_are_inferred_from_all_values() {
        let read = read_partitions(
            &files(&[
                "x/year=2020/day=2020-01-02/who=a%2Fb/f.parquet",
                "x/year=021/day=__HIVE_DEFAULT_PARTITION__/who=7/f.parquet",
            ]),
            None,
            None,
        )
        .unwrap();
        let types: Vec<_> = read.columns.iter().map(|(_, t)| t.clone()).collect();
        assert_eq!(types, [DataType::Int64, DataType::Date32, DataType::Utf8]);
        assert_eq!(read.values[0][2], ScalarValue::from("a/b"));
        assert_eq!(read.values[1][0], ScalarValue::Int64(Some(21)));
        assert_eq!(read.values[1][1], ScalarValue::Date32(None));
    }

    #[test]
    fn different_keys_name_both_files() {
        let error =
            read_partitions(&files(&["a=1/x.parquet", "b=1/y.parquet"]), None, None).unwrap_err().to_string();
        assert!(error.contains("a=1/x.parquet") && error.contains("b=1/y.parquet"), "{error}");
    }

    #[test]
    fn declared_types_must_fit() {
        let declared = [DeclaredPartition { name: "a".into(), data_type: Some(DataType::Int32) }];
        let read = read_partitions(&files(&["a=1/x.parquet"]), Some(&declared), None).unwrap();
        assert_eq!(read.values[0][0], ScalarValue::Int32(Some(1)));
        let error =
            read_partitions(&files(&["a=z/x.parquet"]), Some(&declared), None).unwrap_err().to_string();
        assert!(error.contains("a=z/x.parquet") && error.contains("\"a\""), "{error}");
    }
}
