//! What a write wrote.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use super::write_mode::WriteMode;

/// What a write wrote: one entry per file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WriteReport {
    /// Where, without credentials.
    pub location: String,
    /// What was made of rows that were there already.
    pub mode: WriteMode,
    /// Number of the commit in the dataset's log; `None` for a single file, or if nothing was written.
    pub version: Option<u64>,
    /// In order of their paths.
    pub files: Vec<WrittenFile>,
    /// Paths below the location of the files that were replaced.
    pub removed: Vec<String>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WrittenFile {
    /// Below the location; the file's name where the location is a file.
    pub path: String,
    /// Rows in the file.
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Row groups in the file: its batches, when it is read.
    pub row_groups: usize,
    /// Names and values of the partition columns; `None` = NULL.
    pub partition: Vec<(String, Option<String>)>,
    /// Of each column that is stored as one leaf, in order.
    pub columns: Vec<WrittenColumn>,
}

/// Statistics of a column in a file that was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WrittenColumn {
    /// The column's name.
    pub name: String,
    /// NULLs in the file; `None` = not known.
    pub null_count: Option<u64>,
    /// A lower bound of the values; NULL = not known. Texts may be cut short; NaN is left out.
    pub min: ScalarValue,
    /// An upper bound of the values; NULL = not known. Texts may be cut short; NaN is left out.
    pub max: ScalarValue,
}

impl WriteReport {
    /// Rows in all files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The statistics in `footer`, of the columns that have a leaf of their own.
pub(super) fn column_statistics(footer: &ParquetMetaData, schema: &SchemaRef) -> Vec<WrittenColumn> {
    let leaves = footer.file_metadata().schema_descr();
    let of = |name: &str, data_type: &DataType| -> Option<WrittenColumn> {
        if data_type.is_nested() {
            return None;
        }
        let converter = StatisticsConverter::try_new(name, schema, leaves).ok()?;
        let groups = footer.row_groups();
        let unknown = || ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Null);
        // One group without a bound leaves the file without.
        let bound = |bounds: parquet::errors::Result<ArrayRef>,
                     pick: fn(&ArrayRef) -> Option<ScalarValue>| {
            let bounds = bounds.ok().filter(|bounds| bounds.null_count() == 0 && !bounds.is_empty());
            bounds.and_then(|bounds| pick(&bounds)).unwrap_or_else(unknown)
        };
        let nulls = converter.row_group_null_counts(groups).ok();
        let nulls = nulls.filter(|counts| counts.iter().all(|count| count.is_some()));
        Some(WrittenColumn {
            name: name.to_owned(),
            null_count: nulls.map(|counts| counts.iter().flatten().sum()),
            min: bound(converter.row_group_mins(groups), least),
            max: bound(converter.row_group_maxes(groups), greatest),
        })
    };
    schema.fields().iter().filter_map(|field| of(field.name(), field.data_type())).collect()
}

fn least(bounds: &ArrayRef) -> Option<ScalarValue> {
    extreme(bounds, std::cmp::Ordering::Less)
}

fn greatest(bounds: &ArrayRef) -> Option<ScalarValue> {
    extreme(bounds, std::cmp::Ordering::Greater)
}

fn extreme(bounds: &ArrayRef, wanted: std::cmp::Ordering) -> Option<ScalarValue> {
    let mut best: Option<ScalarValue> = None;
    for i in 0..bounds.len() {
        let value = ScalarValue::try_from_array(bounds, i).ok()?;
        best = match best {
            Some(best) if value.partial_cmp(&best)? != wanted => Some(best),
            _ => Some(value),
        };
    }
    best
}

/// The last write of a session.
#[derive(Debug, Default)]
pub(crate) struct LastWrite {
    report: Mutex<Option<Arc<WriteReport>>>,
}

impl LastWrite {
    pub(crate) fn get(&self) -> Option<Arc<WriteReport>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, report: Arc<WriteReport>) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}
