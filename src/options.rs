//! Every setting: what it is called, what it means, its unit and its default.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::common::{DataFusionError, config_field, extensions_options};

use crate::error::OdpError;

extensions_options! {
    /// Session settings, `SET odp.<name> = <value>`.
    ///
    /// Where a setting is unset (NULL) the crate chooses.
    pub struct OdpOptions {
        /// Output partitions of a SQL scan; contiguous batches are merged above it. 0 = one per batch, always.
        /// Unset: the larger of 8 and twice `datafusion.execution.target_partitions`.
        pub max_partitions: Option<usize>, default = None

        /// Batches that one scan holds open at a time. Unset: twice `datafusion.execution.target_partitions`.
        pub max_open_batches: Option<usize>, default = None

        /// Queries without ORDER BY give rows in the order of the source, where that costs no sort.
        pub source_order: bool, default = true

        /// Concatenate partitions that statistics prove to be in order, instead of merging them.
        pub ordered_concat: bool, default = true

        /// Skip batches whose statistics exclude the filter.
        pub pruning: bool, default = true

        /// Evaluate filters while Parquet is decoded, so that other columns are read for matching rows only.
        pub pushdown_filters: bool, default = true

        /// Aggregate each partition on its own where bounds prove that partitions have no group in common.
        pub groups_apart: bool, default = true

        /// Group by the codes of dictionaries where text has them, instead of by the text of each row.
        pub group_by_codes: bool, default = true

        /// Coordinates of the datasets hold no NaN, and geometries are neither empty nor malformed: then a batch or
        /// page that lies inside an area is known to match whole. Unset, that is known of rows that were read once.
        pub finite_coordinates: bool, default = false

        /// Take edges along great circles (Parquet GEOGRAPHY, GeoParquet `edges: spherical`) for straight ones in
        /// degrees; spatial predicates over such columns are errors otherwise.
        pub planar_geography: bool, default = false

        /// What a predicate makes of a malformed geometry in a row: `error`, or `no_match`: NULL, so that neither
        /// the predicate nor its negation selects the row.
        pub on_invalid_geometry: OnInvalidGeometry, default = OnInvalidGeometry::Error
    }
}

impl ConfigExtension for OdpOptions {
    const PREFIX: &'static str = "odp";
}

impl OdpOptions {
    /// The session's settings; the defaults if the extension is not registered.
    pub(crate) fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Output partitions to merge down to; `None` = keep one per batch. `at_once`: runs of batches that are worth
    /// reading at the same time.
    pub(crate) fn partition_limit(&self, at_once: usize) -> Option<usize> {
        match self.max_partitions {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => Some(at_once.max(8)),
        }
    }

    /// Runs of batches to hold open at a time, at least one.
    pub(crate) fn open_batch_limit(&self, at_once: usize) -> usize {
        self.max_open_batches.unwrap_or(at_once).max(1)
    }
}

/// What a spatial predicate makes of a malformed geometry in a row. In a constant it is an error in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnInvalidGeometry {
    /// The query fails, with an error that names the row.
    #[default]
    Error,
    /// The predicate is NULL for the row: neither it nor its negation selects it.
    NoMatch,
}

impl fmt::Display for OnInvalidGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::NoMatch => "no_match",
        })
    }
}

impl FromStr for OnInvalidGeometry {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self, DataFusionError> {
        match text.to_ascii_lowercase().as_str() {
            "error" => Ok(Self::Error),
            "no_match" => Ok(Self::NoMatch),
            _ => Err(OdpError::InvalidOption {
                key: "odp.on_invalid_geometry".into(),
                value: text.into(),
                expected: "error or no_match".into(),
            }
            .into()),
        }
    }
}

config_field!(OnInvalidGeometry, value => value.parse()?);

/// How rows are cut into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BatchUnit {
    /// One batch per Parquet row group.
    #[default]
    RowGroup,
    /// One batch per file.
    File,
    /// Batches of this many rows: small neighbouring row groups of a file are merged while they fit, larger
    /// row groups are cut. No batch spans two files.
    Rows(u64),
}

/// Which files that gather footers are read, instead of the footers that they speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MetadataFiles {
    /// None: every footer is read.
    None,
    /// The snapshot file of the dataset, `_odp_snapshot`. Each of its entries names the version of its file.
    #[default]
    Snapshot,
    /// `_metadata`, too, as PyArrow, Dask and Spark write it. It names no versions: it is believed of files that are older
    /// than it. One that was not written anew after its files, and got a later time than they by a copy, gives wrong
    /// answers.
    All,
}

/// Options of one table, from `OPTIONS (…)` or the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// How rows are cut into batches; `batch_rows` and `batch`.
    pub batch_unit: BatchUnit,
    /// Names of files to read in a directory end in one of these, in any case; `file_extension`.
    pub file_extensions: Vec<String>,
    /// Read `key=value` path segments as columns, even when none are declared; `hive_partitions`.
    pub hive_partitions: bool,
    /// What to read instead of the footers that it speaks of; `metadata_files`.
    pub metadata_files: MetadataFiles,
    /// How `INSERT INTO` writes: options of writing by name; `write.…`. Checked when rows are inserted.
    pub write: BTreeMap<String, String>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            batch_unit: BatchUnit::default(),
            file_extensions: [".parquet", ".parq", ".pq", ".geoparquet"].map(String::from).to_vec(),
            hive_partitions: true,
            metadata_files: MetadataFiles::default(),
            write: BTreeMap::new(),
        }
    }
}

const TABLE_OPTIONS: &str = "one of batch_rows, batch, file_extension, hive_partitions, metadata_files, or write.… for how rows are inserted";

impl TableOptions {
    /// Reads the `OPTIONS` of a `CREATE EXTERNAL TABLE`.
    ///
    /// # Errors
    /// [`OdpError::InvalidOption`] for an unknown key or a value out of range, naming the valid ones.
    pub fn try_from_map(map: &HashMap<String, String>) -> Result<Self, OdpError> {
        let mut options = Self::default();
        let mut keys: Vec<_> = map.keys().collect();
        keys.sort();
        let (mut rows, mut unit) = (None, None);
        for key in keys {
            let value = map[key].as_str();
            let invalid = |expected: &str| OdpError::InvalidOption {
                key: key.clone(),
                value: value.to_owned(),
                expected: expected.to_owned(),
            };
            // DataFusion puts options without a dot under `format.`.
            let bare = key.strip_prefix("format.").or_else(|| key.strip_prefix("odp.")).unwrap_or(key);
            match bare.to_ascii_lowercase().as_str() {
                "batch_rows" => match value.parse::<u64>() {
                    Ok(n) if n > 0 => rows = Some(n),
                    _ => return Err(invalid("a number of rows above 0")),
                },
                "batch" => match value.to_ascii_lowercase().as_str() {
                    "row_group" => unit = Some(BatchUnit::RowGroup),
                    "file" => unit = Some(BatchUnit::File),
                    _ => return Err(invalid("row_group or file")),
                },
                "file_extension" if !value.is_empty() => {
                    options.file_extensions = vec![value.to_owned()];
                }
                "file_extension" => return Err(invalid("the end of a file name, such as .parquet")),
                "hive_partitions" => match value.to_ascii_lowercase().as_str() {
                    "true" => options.hive_partitions = true,
                    "false" => options.hive_partitions = false,
                    _ => return Err(invalid("true or false")),
                },
                "metadata_files" => match value.to_ascii_lowercase().as_str() {
                    "none" => options.metadata_files = MetadataFiles::None,
                    "snapshot" => options.metadata_files = MetadataFiles::Snapshot,
                    "all" => options.metadata_files = MetadataFiles::All,
                    _ => return Err(invalid("none, snapshot or all")),
                },
                _ => match bare.strip_prefix("write.") {
                    Some(name) => {
                        options.write.insert(name.to_owned(), value.to_owned());
                    }
                    None => return Err(invalid(TABLE_OPTIONS)),
                },
            }
        }
        options.batch_unit = match (rows, unit) {
            (Some(n), None) => BatchUnit::Rows(n),
            (None, unit) => unit.unwrap_or_default(),
            (Some(n), Some(_)) => {
                return Err(OdpError::InvalidOption {
                    key: "batch_rows".into(),
                    value: n.to_string(),
                    expected: "either batch_rows or batch, not both".into(),
                });
            }
        };
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<TableOptions, OdpError> {
        TableOptions::try_from_map(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn options_are_read_with_and_without_the_format_prefix() {
        assert_eq!(read(&[("format.batch_rows", "10")]).unwrap().batch_unit, BatchUnit::Rows(10));
        assert_eq!(read(&[("batch", "FILE")]).unwrap().batch_unit, BatchUnit::File);
        assert_eq!(read(&[]).unwrap(), TableOptions::default());
    }

    #[test]
    fn unknown_and_bad_options_name_the_valid_ones() {
        for (pairs, expected) in [
            (&[("format.bach_rows", "1")][..], "one of batch_rows"),
            (&[("batch_rows", "0")], "above 0"),
            (&[("batch", "page")], "row_group or file"),
            (&[("batch", "file"), ("batch_rows", "5")], "not both"),
        ] {
            let message = read(pairs).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn automatic_limits_follow_what_is_worth_reading_at_once() {
        let options = OdpOptions::default();
        assert_eq!(options.partition_limit(4), Some(8));
        assert_eq!(options.partition_limit(32), Some(32));
        assert_eq!(options.open_batch_limit(4), 4);
        let given = OdpOptions { max_partitions: Some(3), max_open_batches: Some(0), ..options.clone() };
        assert_eq!((given.partition_limit(4), given.open_batch_limit(4)), (Some(3), 1));
        assert_eq!(OdpOptions { max_partitions: Some(0), ..options }.partition_limit(4), None);
    }
}
