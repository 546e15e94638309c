//! What the page index of a file tells of runs of rows.

use std::ops::Range;

use datafusion::arrow::array::{Array, BooleanArray, UInt64Array};
use datafusion::arrow::compute::kernels::cmp::gt;
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;

use super::proof::Containers;
use crate::dataset::ColumnBounds;

/// Where the pages of a column start, in rows of the row group; empty without an offset index.
pub(super) fn page_starts(footer: &ParquetMetaData, group: usize, leaf: usize) -> Vec<u64> {
    let offsets = footer.offset_index().and_then(|index| index.get(group)?.get(leaf));
    let pages = offsets.map_or(&[][..], |offsets| offsets.page_locations());
    pages.iter().filter_map(|page| u64::try_from(page.first_row_index).ok()).collect()
}

/// Whether pages that start so hold `rows` rows from the first on, each page its own.
pub(super) fn cover(starts: &[u64], rows: u64) -> bool {
    starts.first() == Some(&0) && starts.is_sorted() && starts.last().is_some_and(|last| *last <= rows)
}

/// The runs of rows of a row group in which no page of some columns begins or ends, with the bounds of these columns.
#[derive(Debug)]
pub(super) struct RunsOfPages {
    /// In order, from the first row to the last.
    pub(super) runs: Vec<Range<u64>>,
    /// By their positions in the schema of the file.
    columns: Vec<(usize, ColumnBounds)>,
}

impl RunsOfPages {
    /// `columns`: positions in the schema of `metadata`. `None` if the page index does not tell of one of them.
    ///
    /// # Errors
    /// If the page index does not fit the columns.
    pub(super) fn try_new(
        metadata: &ArrowReaderMetadata,
        group: usize,
        columns: &[usize],
    ) -> Result<Option<Self>> {
        let footer = metadata.metadata();
        let Ok(rows) = u64::try_from(footer.row_group(group).num_rows()) else { return Ok(None) };
        let mut of_pages = Vec::with_capacity(columns.len());
        let mut cuts: Vec<u64> = vec![rows];
        for &column in columns {
            let Some((starts, bounds)) = page_bounds(metadata, group, column)? else { return Ok(None) };
            if !cover(&starts, rows) {
                return Ok(None);
            }
            cuts.extend(&starts);
            of_pages.push((column, starts, bounds));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let runs: Vec<Range<u64>> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let columns = of_pages.into_iter().map(|(column, starts, bounds)| {
            let page = |run: &Range<u64>| starts.partition_point(|start| *start <= run.start) as u64 - 1;
            let pages: UInt64Array = runs.iter().map(|run| Some(page(run))).collect();
            Ok((column, bounds.take(&pages)?))
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Some(Self { runs, columns }))
    }
}

impl Containers for RunsOfPages {
    fn rows(&self) -> Vec<Option<u64>> {
        // What NULLs are counted in are pages, which may have more rows than the run.
        vec![None; self.runs.len()]
    }

    fn column(&self, column: &Column) -> Result<Option<ColumnBounds>> {
        let known = self.columns.iter().find(|(position, _)| *position == column.index());
        Ok(known.map(|(_, bounds)| bounds.clone()))
    }

    /// The column is that of the file; what the table makes of it is another expression.
    fn is_readable(&self, _column: &Column) -> bool {
        true
    }
}

/// The first row and the bounds of each page of a column that is not nested; `None` if the page index does not tell.
fn page_bounds(
    metadata: &ArrowReaderMetadata,
    group: usize,
    column: usize,
) -> Result<Option<(Vec<u64>, ColumnBounds)>> {
    let footer = metadata.metadata();
    let (Some(index), Some(offsets)) = (footer.column_index(), footer.offset_index()) else {
        return Ok(None);
    };
    let schema: &Schema = metadata.schema();
    let Some(field) = schema.fields().get(column).filter(|field| !field.data_type().is_nested()) else {
        return Ok(None);
    };
    let converter = StatisticsConverter::try_new(field.name(), schema, metadata.parquet_schema())?;
    // What INT96 means is the session's to say.
    let is_known = |&leaf: &usize| metadata.parquet_schema().column(leaf).physical_type() != Type::INT96;
    let Some(leaf) = converter.parquet_column_index().filter(is_known) else { return Ok(None) };
    let is_there = |columns: Option<usize>| columns.is_some_and(|columns| leaf < columns);
    if !is_there(index.get(group).map(Vec::len)) || !is_there(offsets.get(group).map(Vec::len)) {
        return Ok(None);
    }
    let starts = page_starts(footer, group, leaf);
    let pages = offsets[group][leaf].page_locations().len();
    let counted = index[group][leaf].null_counts().is_none_or(|counts| counts.len() == pages);
    if starts.len() != pages || !counted {
        return Ok(None);
    }
    let null_counts = match field.is_nullable() {
        false => UInt64Array::from(vec![0; pages]),
        true => converter.data_page_null_counts(index, offsets, [&group])?,
    };
    let min = converter.data_page_mins(index, offsets, [&group])?;
    let max = converter.data_page_maxes(index, offsets, [&group])?;
    if min.len() != pages || max.len() != pages || null_counts.len() != pages {
        return Ok(None);
    }
    // Bounds of nothing are a lie.
    let is_lie = gt(&min, &max)?;
    let bounds = ColumnBounds {
        min: nullif(&min, &is_lie)?,
        max: nullif(&max, &is_lie)?,
        min_exact: BooleanArray::from(vec![false; pages]),
        max_exact: BooleanArray::from(vec![false; pages]),
        null_counts,
    };
    Ok(Some((starts, bounds)))
}
