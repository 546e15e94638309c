//! One version of one Parquet file, and where its row groups lie.

use datafusion::common::ScalarValue;
use datafusion::object_store::ObjectMeta;
use parquet::file::metadata::RowGroupMetaData;

/// A Parquet file of a dataset, as it was when the dataset was opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetFile {
    /// Path, size in bytes, modification time and, where the store has one, ETag: the file's version.
    pub object_meta: ObjectMeta,
    /// One value per partition column, in the table's order; a typed NULL for `__HIVE_DEFAULT_PARTITION__`.
    pub partition_values: Vec<ScalarValue>,
    /// The file's row groups in file order; those without rows included.
    pub row_groups: Vec<RowGroup>,
    /// The offsets of the row groups ascend, so that byte ranges can name row groups.
    pub(crate) has_ordered_offsets: bool,
}

/// Where one row group lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowGroup {
    /// Number of the row group's first row in the file, from 0.
    pub first_row: u64,
    /// Rows in the row group.
    pub rows: u64,
    /// Byte offset of the row group's first page.
    pub offset: u64,
    /// Size in the file, in bytes.
    pub compressed_bytes: u64,
    /// Size after decompression, in bytes, still encoded.
    pub uncompressed_bytes: u64,
}

impl RowGroup {
    /// What a footer says of a row group that begins with row `first_row` of its file.
    pub(crate) fn of_footer(group: &RowGroupMetaData, first_row: u64) -> Self {
        let positive = |n: i64| u64::try_from(n).unwrap_or(0);
        // What DataFusion's byte ranges are compared with: the offset of the first column's first page.
        let offset = group
            .columns()
            .first()
            .map_or(0, |column| column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()));
        Self {
            first_row,
            rows: positive(group.num_rows()),
            offset: positive(offset),
            compressed_bytes: positive(group.compressed_size()),
            uncompressed_bytes: positive(group.total_byte_size()),
        }
    }

    /// Whether this is what a footer says of `group`.
    pub(crate) fn is_of_footer(&self, group: &RowGroupMetaData) -> bool {
        *self == Self::of_footer(group, self.first_row)
    }
}

/// Whether two descriptions of one path are of one version: same size, and same ETag, or time where one has no ETag.
pub(crate) fn is_same_version(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let is_same = match (&one.e_tag, &other.e_tag) {
        (Some(one), Some(other)) => one == other,
        _ => one.last_modified == other.last_modified,
    };
    is_same && one.size == other.size
}

impl DatasetFile {
    pub(crate) fn new(
        object_meta: ObjectMeta,
        partition_values: Vec<ScalarValue>,
        row_groups: Vec<RowGroup>,
    ) -> Self {
        let has_ordered_offsets = row_groups.windows(2).all(|pair| pair[0].offset < pair[1].offset);
        Self { object_meta, partition_values, row_groups, has_ordered_offsets }
    }

    /// Rows in the file.
    #[must_use]
    pub fn num_rows(&self) -> u64 {
        self.row_groups.iter().map(|row_group| row_group.rows).sum()
    }

    /// The file's path in its object store.
    #[must_use]
    pub fn path(&self) -> &str {
        self.object_meta.location.as_ref()
    }
}
