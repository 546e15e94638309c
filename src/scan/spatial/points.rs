//! Points in WKB, read where they lie in the pages of a file: `parquet` makes a value of each, which takes longer than to read it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, BinaryArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Type as PhysicalType;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::columns::{FileColumns, TestColumns, leaves_under};
use crate::geo::{STORED_POINT, SpatialConjunct, SpatialTarget, stored_points};
use crate::scan::decoding::{ColumnChunks, PlainPages, PlainValues};

/// Of a point, as it is stored before it.
const LENGTH: [u8; 4] = [21, 0, 0, 0];

/// Bytes of the headers of the pages of a column chunk, mostly.
const HEADERS: i64 = 4_096;

/// The column of a file that filters are about, if they need no more of it than the coordinates of points.
#[derive(Debug)]
pub(super) struct PointColumn {
    footer: Arc<ParquetMetaData>,
    /// Its position among those of the file.
    column: usize,
    /// It turned out to have other values.
    has_others: AtomicBool,
}

impl PointColumn {
    /// `None` if `filters` need other columns, or more of it, or it is not binary.
    pub(super) fn find(
        filters: &[SpatialConjunct],
        columns: &TestColumns,
        file_columns: &FileColumns,
        file: &ArrowReaderMetadata,
    ) -> Option<Self> {
        let (path, field) = columns.only_column().filter(|_| file_columns.are_read())?;
        let is_of_column = |target: &SpatialTarget| matches!(target, SpatialTarget::Geometry { path: other } if other == path);
        let of_filter = |filter: &SpatialConjunct| {
            filter.is_of_relations()
                && filter.predicates.iter().all(|predicate| is_of_column(&predicate.target))
        };
        let ([name], true) = (path.as_ref(), filters.iter().all(of_filter)) else { return None };
        let in_file = file.schema().field_with_name(name).ok()?;
        let &[column] = leaves_under(file.parquet_schema(), path).as_slice() else { return None };
        let is_binary = |data_type: &DataType| {
            matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        };
        let is_stored_so = file.parquet_schema().column(column).physical_type() == PhysicalType::BYTE_ARRAY;
        (is_binary(field.data_type()) && is_binary(in_file.data_type()) && is_stored_so).then(|| Self {
            footer: Arc::clone(file.metadata()),
            column,
            has_others: AtomicBool::new(false),
        })
    }

    /// Whether it may have nothing but points in a row group, by its size.
    pub(super) fn may_be_points(&self, row_group: usize) -> bool {
        let row_group = self.footer.row_group(row_group);
        let column = row_group.column(self.column);
        let points = row_group.num_rows().saturating_mul(STORED_POINT as i64);
        // What says that they are not NULL takes up to a bit for each.
        let and_more = points.saturating_add(row_group.num_rows() / 8).saturating_add(HEADERS);
        layout_of(column).is_some()
            && (points..=and_more).contains(&column.uncompressed_size())
            && !self.has_others.load(Ordering::Relaxed)
    }

    /// From now on it may not.
    pub(super) fn give_up(&self) {
        self.has_others.store(true, Ordering::Relaxed);
    }

    /// Where it lies in the file.
    pub(super) fn ranges(&self, row_group: usize) -> Result<Vec<Range<u64>>> {
        ColumnChunks::ranges(&self.footer, row_group, &[self.column])
    }

    /// What a row group has, of which `bytes` are those of the column.
    pub(super) fn pages(&self, row_group: usize, bytes: Vec<Bytes>) -> Result<PointPages> {
        let (row_groups, columns) = ([row_group].into(), [self.column].into());
        let chunks = ColumnChunks::new(Arc::clone(&self.footer), row_groups, columns, bytes);
        Ok(PointPages(PlainPages::new(chunks.pages_of(self.column)?, None, true, Count::new())))
    }
}

/// How values lie in a column chunk, if each is a point behind its length.
fn layout_of(column: &ColumnChunkMetaData) -> Option<PlainValues> {
    PlainValues::of_width(column, STORED_POINT)
}

/// Gives the values of a row group.
pub(super) struct PointPages(PlainPages);

/// Values as long as points.
pub(super) enum StoredGeometries {
    /// Their coordinates.
    Points(Vec<f64>, Vec<f64>),
    /// Some are empty points, or no points.
    Others(ArrayRef),
}

impl PointPages {
    /// The next values, at most so many; `None` after the last.
    ///
    /// # Errors
    /// If one is NULL, or longer or shorter than a point.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<StoredGeometries>> {
        let Some(stored) = self.0.next(most.saturating_mul(STORED_POINT), layout_of)? else {
            return Ok(None);
        };
        let (stored, rest) = stored.as_chunks::<STORED_POINT>();
        if let Some((x, y)) = stored_points(stored).filter(|_| rest.is_empty()) {
            return Ok(Some(StoredGeometries::Points(x, y)));
        }
        let values: Option<Vec<&[u8]>> = stored.iter().map(|stored| stored.strip_prefix(&LENGTH)).collect();
        let values = values.filter(|_| rest.is_empty());
        let values =
            values.ok_or_else(|| ParquetError::General("a geometry is as long as no point".to_owned()))?;
        Ok(Some(StoredGeometries::Others(Arc::new(BinaryArray::from_iter_values(values)))))
    }
}
