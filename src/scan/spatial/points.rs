//! Points in WKB, read where they lie in the pages of a file: `parquet` makes a value of each, which takes longer than to read it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::Float64Array;
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Type as PhysicalType;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::columns::{TestColumns, leaves_under};
use crate::geo::{GeometryArray, STORED_POINT, SpatialConjunct, SpatialTarget, stored_points};
use crate::scan::column_chunks::ColumnChunks;
use crate::scan::plain_pages::PlainPages;
use crate::scan::plain_values::PlainValues;

/// A column of a file that filters need nothing but the coordinates of, if it is one of points.
#[derive(Debug)]
pub(super) struct PointColumn {
    footer: Arc<ParquetMetaData>,
    /// Its position among those of the file.
    column: usize,
}

impl PointColumn {
    /// `None` if `filters` need other columns, or more of it, or it is not binary.
    pub(super) fn find(
        filters: &[SpatialConjunct],
        columns: &TestColumns,
        file: &ArrowReaderMetadata,
    ) -> Option<Self> {
        let (path, field) = columns.only_column()?;
        let is_it = |target: &SpatialTarget| matches!(target, SpatialTarget::Geometry { path: other } if other == path);
        let of_filter = |filter: &SpatialConjunct| {
            filter.is_of_relations() && filter.predicates.iter().all(|predicate| is_it(&predicate.target))
        };
        let ([name], true) = (path.as_ref(), filters.iter().all(of_filter)) else { return None };
        let in_file = file.schema().field_with_name(name).ok()?;
        let &[column] = leaves_under(file.parquet_schema(), path).as_slice() else { return None };
        let is_binary = field.data_type().is_binary() && in_file.data_type().is_binary();
        let is_stored_so = file.parquet_schema().column(column).physical_type() == PhysicalType::BYTE_ARRAY;
        (is_binary && is_stored_so).then(|| Self { footer: Arc::clone(file.metadata()), column })
    }

    /// Whether it may have nothing but points in a row group, by its size. Not, if it may have NULL.
    pub(super) fn may_be_points(&self, row_group: usize) -> bool {
        let row_group = self.footer.row_group(row_group);
        let column = row_group.column(self.column);
        let points = row_group.num_rows().saturating_mul(STORED_POINT as i64);
        // What says that they are not NULL takes less than a byte for each.
        let and_more = points.saturating_add(row_group.num_rows()).saturating_add(HEADERS);
        of_chunk(column).is_some() && (points..=and_more).contains(&column.uncompressed_size())
    }

    /// Where it lies in the file.
    pub(super) fn ranges(&self, row_group: usize) -> Result<Vec<Range<u64>>> {
        ColumnChunks::ranges(&self.footer, row_group, &[self.column])
    }

    /// The points of a row group, of which `bytes` are those of the column.
    pub(super) fn points(&self, row_group: usize, bytes: Vec<Bytes>) -> Result<StoredPoints> {
        let (row_groups, columns) = ([row_group].into(), [self.column].into());
        let chunks = ColumnChunks::new(Arc::clone(&self.footer), row_groups, columns, bytes);
        Ok(StoredPoints(PlainPages::new(chunks.pages_of(self.column)?, None, true, Count::new())))
    }
}

/// Bytes of the headers of pages, at least.
const HEADERS: i64 = 4_096;

fn of_chunk(column: &ColumnChunkMetaData) -> Option<PlainValues> {
    PlainValues::of_width(column, STORED_POINT)
}

/// The points of a row group.
pub(super) struct StoredPoints(PlainPages);

impl StoredPoints {
    /// The next points, at most so many; `None` after the last.
    ///
    /// # Errors
    /// If a value is NULL, or no point that can be computed with.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<GeometryArray>> {
        let Some(stored) = self.0.next(most.saturating_mul(STORED_POINT), of_chunk)? else { return Ok(None) };
        let (stored, rest) = stored.as_chunks::<STORED_POINT>();
        let points = stored_points(stored).filter(|_| rest.is_empty());
        let (x, y) = points.ok_or_else(|| ParquetError::General("a geometry is not a point".to_owned()))?;
        let [x, y] = [x, y].map(|values| Float64Array::new(values.into(), None));
        Ok(Some(GeometryArray::Points { x, y, nulls: None }))
    }
}
