//! How rows are written: every option, its unit and its default.

use std::collections::{BTreeMap, HashMap};

use super::geometry::{GeometryEncoding, GeometryOptions};
use super::write_mode::WriteMode;
use crate::error::OdpError;

/// Rows of a row group, unless an option says how many, are as many as take this many bytes in memory …
const BATCH_BYTES: usize = 32 << 20;
/// … but not fewer than this, unless they take more bytes than this,
const MAX_BATCH_BYTES: usize = 512 << 20;
const MIN_BATCH_ROWS: usize = 100_000;
/// nor more.
const MAX_BATCH_ROWS: usize = 1_000_000;
const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_OPEN_WRITERS: usize = 64;
/// Rows of partitions that do not fill a row group yet, in memory.
const BUFFER_BYTES: usize = 256 << 20;

/// Files that gather what the footers of a dataset say, written beside the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum WriteMetadataFiles {
    /// None.
    #[default]
    None,
    /// `_common_metadata`: the schema, for PyArrow, Dask and Spark.
    Common,
    /// `_common_metadata`, and `_metadata` with all footers. Only where the write makes the whole dataset.
    All,
}

/// How [`DataFrame`](datafusion::prelude::DataFrame)s and selections are written.
///
/// The defaults write zstd-compressed Parquet with statistics and page index, in row groups (which are batches when they
/// are read) of 100,000 to 1,000,000 rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteOptions {
    mode: Option<WriteMode>,
    partition_by: Vec<String>,
    batch_rows: Option<usize>,
    batch_bytes: Option<usize>,
    max_file_rows: Option<u64>,
    max_file_bytes: Option<u64>,
    max_open_writers: Option<usize>,
    buffer_bytes: Option<usize>,
    geometry: GeometryOptions,
    cluster_by: Option<String>,
    keep_replaced: bool,
    snapshot: bool,
    metadata_files: WriteMetadataFiles,
    /// Of Parquet, as DataFusion names them.
    parquet: BTreeMap<String, String>,
}

/// Options of DataFusion's Parquet format that are about reading.
const OF_READING: [&str; 18] = [
    "enable_page_index",
    "pruning",
    "skip_metadata",
    "metadata_size_hint",
    "pushdown_filters",
    "reorder_filters",
    "force_filter_selections",
    "schema_force_view_types",
    "binary_as_string",
    "coerce_int96",
    "coerce_int96_tz",
    "bloom_filter_on_read",
    "max_predicate_cache_size",
    "max_in_list_size",
    // Of DataFusion's own sink.
    "allow_single_file_parallelism",
    "maximum_parallel_row_group_writers",
    "maximum_buffered_record_batches_per_stream",
    "single_file_output",
];

const EXPECTED: &str = "one of mode, partition_by, batch_rows, batch_bytes, max_file_rows, max_file_bytes, max_open_writers, buffer_bytes, covering, geometry, point, cluster_by, keep_replaced, snapshot, metadata_files, or an option of DataFusion's Parquet writer such as compression";

impl WriteOptions {
    /// What to make of rows that are there already. By default a directory must be empty, a file is replaced, and
    /// `INSERT INTO` appends.
    #[must_use]
    pub fn with_mode(mut self, mode: WriteMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Hive directories by these columns, or expressions such as `year(time)`, in this order.
    #[must_use]
    pub fn with_partition_by(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Any option by its name in SQL, those of DataFusion's Parquet writer included.
    ///
    /// # Errors
    /// [`OdpError::InvalidOption`] for a value out of range, or an option that is about reading.
    pub fn with_option(mut self, key: &str, value: impl Into<String>) -> Result<Self, OdpError> {
        self.set(key, &value.into())?;
        Ok(self)
    }

    /// Reads the `OPTIONS` of a `COPY`.
    ///
    /// # Errors
    /// [`OdpError::InvalidOption`] for a value out of range. Unknown options are found when the write is planned.
    pub fn try_from_map(map: &HashMap<String, String>) -> Result<Self, OdpError> {
        let mut options = Self::default();
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort();
        for (key, value) in entries {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OdpError> {
        let bare = key.strip_prefix("format.").or_else(|| key.strip_prefix("odp.")).unwrap_or(key);
        let invalid = |expected: &str| OdpError::InvalidOption {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        let count = |expected: &str| match value.parse::<u64>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(invalid(expected)),
        };
        let size = |expected: &str| count(expected).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let flag = || match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid("true or false")),
        };
        match bare.to_ascii_lowercase().as_str() {
            "mode" => {
                let named = |_| invalid(WriteMode::EXPECTED);
                self.mode = Some(value.parse().map_err(named)?);
            }
            "partition_by" => self.partition_by = split_list(value),
            "batch_rows" => self.batch_rows = Some(size("a number of rows above 0")?),
            "batch_bytes" => self.batch_bytes = Some(size("a number of bytes above 0")?),
            "max_file_rows" => self.max_file_rows = Some(count("a number of rows above 0")?),
            "max_file_bytes" => self.max_file_bytes = Some(count("a number of bytes above 0")?),
            "max_open_writers" => self.max_open_writers = Some(size("a number of writers above 0")?),
            "buffer_bytes" => self.buffer_bytes = Some(size("a number of bytes above 0")?),
            "covering" => self.geometry.covering = flag()?,
            "geometry" => {
                self.geometry.encoding = match value.to_ascii_lowercase().as_str() {
                    "wkb" => GeometryEncoding::Wkb,
                    "parquet" => GeometryEncoding::Parquet,
                    _ => return Err(invalid("wkb or parquet")),
                }
            }
            "point" => match split_list(value).as_slice() {
                [lon, lat] => self.geometry.point_from = Some((lon.clone(), lat.clone())),
                _ => return Err(invalid("two columns: 'longitude, latitude'")),
            },
            "cluster_by" if !value.trim().is_empty() => self.cluster_by = Some(value.to_owned()),
            "cluster_by" => return Err(invalid("an expression such as hilbert(longitude, latitude)")),
            "keep_replaced" => self.keep_replaced = flag()?,
            "snapshot" => self.snapshot = flag()?,
            "metadata_files" => {
                self.metadata_files = match value.to_ascii_lowercase().as_str() {
                    "none" => WriteMetadataFiles::None,
                    "common" => WriteMetadataFiles::Common,
                    "all" => WriteMetadataFiles::All,
                    _ => return Err(invalid("none, common or all")),
                }
            }
            // Read by DataFusion.
            "keep_partition_by_columns" | "execution.keep_partition_by_columns" => {
                flag()?;
            }
            reading if OF_READING.contains(&reading) => {
                return Err(invalid("an option of writing: this one has no meaning here"));
            }
            encryption if encryption.contains("crypto") || encryption.contains("encryption") => {
                return Err(invalid("no encryption: it is not supported"));
            }
            _ => {
                self.parquet.insert(bare.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// The mode, or `default`.
    pub(crate) fn mode_or(&self, default: WriteMode) -> WriteMode {
        self.mode.unwrap_or(default)
    }

    pub(crate) fn partition_by(&self) -> &[String] {
        &self.partition_by
    }

    /// `may_add_columns`: covering columns may be added to what is written.
    pub(super) fn geometry(&self, may_add_columns: bool) -> GeometryOptions {
        GeometryOptions { may_add_columns, ..self.geometry.clone() }
    }

    pub(crate) fn cluster_by(&self) -> Option<&str> {
        self.cluster_by.as_deref()
    }

    pub(crate) fn keeps_replaced(&self) -> bool {
        self.keep_replaced
    }

    pub(crate) fn writes_snapshot(&self) -> bool {
        self.snapshot
    }

    pub(crate) fn metadata_files(&self) -> WriteMetadataFiles {
        self.metadata_files
    }

    /// Options of the Parquet writer, and what is expected of one that it does not know.
    pub(crate) fn parquet(&self) -> (&BTreeMap<String, String>, &'static str) {
        (&self.parquet, EXPECTED)
    }

    pub(super) fn max_file_rows(&self) -> u64 {
        self.max_file_rows.unwrap_or(u64::MAX)
    }

    pub(super) fn max_file_bytes(&self) -> u64 {
        self.max_file_bytes.unwrap_or(MAX_FILE_BYTES)
    }

    pub(super) fn max_open_writers(&self) -> usize {
        self.max_open_writers.unwrap_or(MAX_OPEN_WRITERS)
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes.unwrap_or(BUFFER_BYTES)
    }

    /// Rows of a row group, if rows take `row_bytes` each. `parquet_rows` and `parquet_bytes` are what Parquet's own
    /// options say.
    pub(super) fn batch_rows(
        &self,
        row_bytes: usize,
        parquet_rows: Option<usize>,
        parquet_bytes: Option<usize>,
    ) -> usize {
        let by_bytes = |bytes: usize| bytes / row_bytes.max(1);
        let rows = match (self.batch_rows.or(parquet_rows), self.batch_bytes.or(parquet_bytes)) {
            (Some(rows), None) => rows,
            (Some(rows), Some(bytes)) => rows.min(by_bytes(bytes)),
            (None, Some(bytes)) => by_bytes(bytes).min(MAX_BATCH_ROWS),
            (None, None) => {
                let rows = by_bytes(BATCH_BYTES).clamp(MIN_BATCH_ROWS, MAX_BATCH_ROWS);
                rows.min(by_bytes(MAX_BATCH_BYTES))
            }
        };
        rows.min(usize::try_from(self.max_file_rows()).unwrap_or(usize::MAX)).max(1)
    }
}

/// The parts of a list between commas outside parentheses and quotes.
fn split_list(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quote) = (Vec::new(), String::new(), 0_usize, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_outside_parentheses_and_quotes() {
        assert_eq!(split_list("year(t), f(a, b) , \"x,y\","), ["year(t)", "f(a, b)", "\"x,y\""]);
        assert!(split_list(" ").is_empty());
    }

    #[test]
    fn rows_of_a_row_group_follow_from_their_size() {
        let options = WriteOptions::default();
        assert_eq!(options.batch_rows(1, None, None), MAX_BATCH_ROWS);
        assert_eq!(options.batch_rows(100, None, None), BATCH_BYTES / 100);
        assert_eq!(options.batch_rows(1 << 10, None, None), MIN_BATCH_ROWS);
        assert_eq!(options.batch_rows(1 << 20, None, None), 512);
        assert_eq!(options.batch_rows(100, Some(7), None), 7);
        assert_eq!(options.batch_rows(100, Some(7), Some(300)), 3);
        let options = options.with_option("max_file_rows", "5").unwrap();
        assert_eq!(options.batch_rows(1, None, None), 5);
    }

    #[test]
    fn options_out_of_range_and_of_reading_are_refused_by_name() {
        for (key, value, expected) in [
            ("format.batch_rows", "0", "above 0"),
            ("format.mode", "replace", "error_if_exists"),
            ("format.pushdown_filters", "true", "no meaning"),
            ("format.crypto.file_encryption.encrypt_footer", "true", "not supported"),
            ("format.point", "longitude", "two columns"),
        ] {
            let error = WriteOptions::default().with_option(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(expected), "{error}");
        }
    }
}
