//! What is known of the values in each batch, column by column.
//!
//! Bounds of float columns say nothing about NaN: writers leave it out of them, DataFusion sorts it above every
//! number. They are good for pruning with care (`scan::nan_safety`) and never exact.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array, new_null_array};
use datafusion::arrow::compute::kernels::cmp::{lt, lt_eq};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion_functions_aggregate_common::min_max::{max_batch, min_batch};

use super::batch::BatchMetadata;

/// Whether values may be NaN, which lies outside of the bounds of floats.
pub(crate) fn may_hold_nan(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => may_hold_nan(value),
        other => other.is_floating() || other.is_nested(),
    }
}

/// Bounds of one column over a list of row groups or batches; every array has one element per row group or batch.
#[derive(Debug, Clone)]
pub(crate) struct ColumnBounds {
    /// No value is below it; NULL = unknown, or no value at all. Type of the table's column.
    pub(crate) min: ArrayRef,
    /// No value is above it; NULL = unknown, or no value at all.
    pub(crate) max: ArrayRef,
    /// Whether `min` is a value of the column, not only a bound; no NULLs.
    pub(crate) min_exact: BooleanArray,
    /// Whether `max` is a value of the column, not only a bound; no NULLs.
    pub(crate) max_exact: BooleanArray,
    /// NULLs in the column; NULL = unknown.
    pub(crate) null_counts: UInt64Array,
}

impl ColumnBounds {
    /// Nothing is known of `len` row groups or batches.
    pub(crate) fn unknown(data_type: &DataType, len: usize) -> Self {
        Self {
            min: new_null_array(data_type, len),
            max: new_null_array(data_type, len),
            min_exact: BooleanArray::from(vec![false; len]),
            max_exact: BooleanArray::from(vec![false; len]),
            null_counts: UInt64Array::new_null(len),
        }
    }

    /// The column is NULL in every row: it is missing in the file.
    pub(crate) fn all_null(data_type: &DataType, rows: &UInt64Array) -> Self {
        Self { null_counts: rows.clone(), ..Self::unknown(data_type, rows.len()) }
    }

    /// The column has one value in each row group or batch, NULL included: a partition column.
    pub(crate) fn constants(values: ArrayRef, rows: &UInt64Array) -> Self {
        let len = values.len();
        let nulls = (0..len).map(|i| Some(if values.is_null(i) { rows.value(i) } else { 0 }));
        Self {
            min: Arc::clone(&values),
            null_counts: nulls.collect(),
            min_exact: (0..len).map(|i| Some(values.is_valid(i))).collect(),
            max_exact: (0..len).map(|i| Some(values.is_valid(i))).collect(),
            max: values,
        }
    }

    /// Without the bounds, as of a column of this type.
    pub(crate) fn without_bounds(&self, data_type: &DataType) -> Self {
        Self { null_counts: self.null_counts.clone(), ..Self::unknown(data_type, self.min.len()) }
    }

    /// One list after the other.
    pub(crate) fn concat(parts: &[&Self]) -> Result<Self> {
        fn joined<'a>(arrays: impl Iterator<Item = &'a dyn Array>) -> Result<ArrayRef> {
            Ok(concat(&arrays.collect::<Vec<_>>())?)
        }
        Ok(Self {
            min: joined(parts.iter().map(|p| p.min.as_ref()))?,
            max: joined(parts.iter().map(|p| p.max.as_ref()))?,
            min_exact: joined(parts.iter().map(|p| &p.min_exact as &dyn Array))?.as_boolean().clone(),
            max_exact: joined(parts.iter().map(|p| &p.max_exact as &dyn Array))?.as_boolean().clone(),
            null_counts: joined(parts.iter().map(|p| &p.null_counts as &dyn Array))?
                .as_primitive::<UInt64Type>()
                .clone(),
        })
    }

    /// The bounds of the rows at `indices`, in their order.
    pub(crate) fn take(&self, indices: &UInt64Array) -> Result<Self> {
        Ok(Self {
            min: take(&self.min, indices, None)?,
            max: take(&self.max, indices, None)?,
            min_exact: take(&self.min_exact, indices, None)?.as_boolean().clone(),
            max_exact: take(&self.max_exact, indices, None)?.as_boolean().clone(),
            null_counts: take(&self.null_counts, indices, None)?.as_primitive::<UInt64Type>().clone(),
        })
    }

    pub(crate) fn slice(&self, range: &Range<usize>) -> Self {
        let len = range.len();
        Self {
            min: self.min.slice(range.start, len),
            max: self.max.slice(range.start, len),
            min_exact: self.min_exact.slice(range.start, len),
            max_exact: self.max_exact.slice(range.start, len),
            null_counts: self.null_counts.slice(range.start, len),
        }
    }

    /// The statistics of all rows together.
    fn merge(&self, rows: &UInt64Array) -> ColumnStatistics {
        let null_count = if self.null_counts.null_count() > 0 {
            Precision::Absent
        } else {
            Precision::Exact(to_usize(self.null_counts.values().iter().copied().fold(0, u64::saturating_add)))
        };
        ColumnStatistics {
            null_count,
            min_value: self.merge_bound(&self.min, &self.min_exact, rows, min_batch),
            max_value: self.merge_bound(&self.max, &self.max_exact, rows, max_batch),
            ..ColumnStatistics::new_unknown()
        }
    }

    fn merge_bound(
        &self,
        bounds: &ArrayRef,
        exact: &BooleanArray,
        rows: &UInt64Array,
        merge: impl Fn(&ArrayRef) -> Result<ScalarValue>,
    ) -> Precision<ScalarValue> {
        let mut all_exact = !may_hold_nan(bounds.data_type());
        // Almost always nothing is missing, and there may be very many.
        if bounds.null_count() > 0 || (all_exact && exact.false_count() > 0) {
            for i in 0..bounds.len() {
                let only_nulls = self.null_counts.is_valid(i) && self.null_counts.value(i) == rows.value(i);
                if bounds.is_null(i) && !only_nulls {
                    return Precision::Absent;
                }
                all_exact &= only_nulls || exact.value(i);
            }
        }
        match merge(bounds) {
            Ok(value) if !value.is_null() && all_exact => Precision::Exact(value),
            Ok(value) if !value.is_null() => Precision::Inexact(value),
            _ => Precision::Absent,
        }
    }
}

/// Row counts and bounds of a list of row groups or batches.
#[derive(Debug, Clone)]
pub(crate) struct BatchBounds {
    /// Rows of each, exact; no NULLs.
    pub(crate) rows: UInt64Array,
    /// One per column of the table, partition columns last.
    pub(crate) columns: Vec<ColumnBounds>,
}

impl BatchBounds {
    /// From the bounds of all row groups of all files to those of the batches; `first_row_group[f]` is the
    /// position of file `f`'s first row group in `self`.
    pub(crate) fn for_batches(&self, batches: &[BatchMetadata], first_row_group: &[usize]) -> Result<Self> {
        let span = |batch: &BatchMetadata| {
            let base = first_row_group[batch.file_index];
            base + batch.row_groups.start..base + batch.row_groups.end
        };
        let rows: UInt64Array = batches.iter().map(|b| Some(b.rows)).collect();
        if batches.iter().all(|b| b.is_whole && b.row_groups.len() == 1) {
            if batches.len() == self.len() {
                return Ok(self.clone());
            }
            let indices: UInt64Array = batches.iter().map(|b| Some(span(b).start as u64)).collect();
            let columns = self.columns.iter().map(|c| c.take(&indices)).collect::<Result<_>>()?;
            return Ok(Self { rows, columns });
        }
        let columns = self
            .columns
            .iter()
            .map(|column| {
                // In two steps: a list of one is large for what it holds.
                let mut parts = vec![ColumnBounds::unknown(column.min.data_type(), 0)];
                for some in batches.chunks(1024) {
                    let single = some
                        .iter()
                        .map(|batch| self.merge_row_groups(column, batch, &span(batch)))
                        .collect::<Result<Vec<_>>>()?;
                    parts.push(ColumnBounds::concat(&single.iter().collect::<Vec<_>>())?);
                }
                ColumnBounds::concat(&parts.iter().collect::<Vec<_>>())
            })
            .collect::<Result<_>>()?;
        Ok(Self { rows, columns })
    }

    /// The bounds of one batch that merges row groups, or is cut out of one.
    fn merge_row_groups(
        &self,
        column: &ColumnBounds,
        batch: &BatchMetadata,
        span: &Range<usize>,
    ) -> Result<ColumnBounds> {
        let data_type = column.min.data_type();
        let bounds = column.slice(span);
        let row_group_rows = self.rows.slice(span.start, span.len());
        let merged = bounds.merge(&row_group_rows);
        let bound = |value: &Precision<ScalarValue>| match value.get_value() {
            Some(value) => value.to_array(),
            None => Ok(new_null_array(data_type, 1)),
        };
        // Part of a row group is within the row group's bounds, and all or nothing NULL if the row group is.
        let whole_rows: u64 = row_group_rows.values().iter().sum();
        let null_count = merged.null_count.get_value().and_then(|&n| match n as u64 {
            n if batch.is_whole => Some(n),
            0 => Some(0),
            n if n == whole_rows => Some(batch.rows),
            _ => None,
        });
        // Floats are never exact to DataFusion, but their bounds may still be values.
        let exact = |flags: &BooleanArray| batch.is_whole && flags.true_count() == flags.len();
        Ok(ColumnBounds {
            min: bound(&merged.min_value)?,
            max: bound(&merged.max_value)?,
            min_exact: BooleanArray::from(vec![exact(&bounds.min_exact)]),
            max_exact: BooleanArray::from(vec![exact(&bounds.max_exact)]),
            null_counts: UInt64Array::from(vec![null_count]),
        })
    }

    /// Whether the rows of each of the row groups or batches at `indices` come before those of the next, in order of
    /// one column. `strictly`: with no value in common.
    ///
    /// Floats prove nothing: NaN is not in their bounds. Nor do columns with NULLs.
    pub(crate) fn follow(
        &self,
        column: usize,
        indices: &[usize],
        descending: bool,
        strictly: bool,
    ) -> Result<bool> {
        let Some(bounds) = self.columns.get(column) else { return Ok(false) };
        if may_hold_nan(bounds.min.data_type()) {
            return Ok(false);
        }
        let indices: UInt64Array = indices.iter().map(|&i| Some(i as u64)).collect();
        let bounds = bounds.take(&indices)?;
        let has_nulls = bounds.null_counts.iter().any(|nulls| nulls != Some(0));
        if has_nulls || bounds.min.null_count() > 0 || bounds.max.null_count() > 0 {
            return Ok(false);
        }
        let pairs = indices.len().saturating_sub(1);
        let (end, start) = match descending {
            false => (bounds.max.slice(0, pairs), bounds.min.slice(indices.len() - pairs, pairs)),
            true => (bounds.max.slice(indices.len() - pairs, pairs), bounds.min.slice(0, pairs)),
        };
        let ordered = if strictly { lt(&end, &start)? } else { lt_eq(&end, &start)? };
        Ok(ordered.true_count() == pairs)
    }

    /// The number of row groups or batches.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The statistics of the contiguous batches in `range` together.
    pub(crate) fn statistics(&self, range: &Range<usize>) -> Statistics {
        let rows = self.rows.slice(range.start, range.len());
        let columns = self.columns.iter().map(|c| c.slice(range).merge(&rows)).collect();
        statistics_of(&rows, columns)
    }

    /// The statistics of the batches at `indices` together.
    pub(crate) fn statistics_at(&self, indices: &[usize]) -> Result<Statistics> {
        let indices: UInt64Array = indices.iter().map(|&i| Some(i as u64)).collect();
        let rows = take(&self.rows, &indices, None)?.as_primitive::<UInt64Type>().clone();
        let columns =
            self.columns.iter().map(|c| Ok(c.take(&indices)?.merge(&rows))).collect::<Result<_>>()?;
        Ok(statistics_of(&rows, columns))
    }
}

fn statistics_of(rows: &UInt64Array, column_statistics: Vec<ColumnStatistics>) -> Statistics {
    Statistics {
        num_rows: Precision::Exact(to_usize(rows.values().iter().sum())),
        total_byte_size: Precision::Absent,
        column_statistics,
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int64Array};

    fn ints(min: Vec<Option<i64>>, max: Vec<Option<i64>>, nulls: Vec<Option<u64>>) -> ColumnBounds {
        let len = min.len();
        ColumnBounds {
            min: Arc::new(Int64Array::from(min)),
            max: Arc::new(Int64Array::from(max)),
            min_exact: BooleanArray::from(vec![true; len]),
            max_exact: BooleanArray::from(vec![true; len]),
            null_counts: UInt64Array::from(nulls),
        }
    }

    #[test]
    fn all_null_batches_do_not_hide_the_bounds_of_the_others() {
        let rows = UInt64Array::from(vec![5, 5]);
        let merged = ints(vec![Some(3), None], vec![Some(9), None], vec![Some(1), Some(5)]).merge(&rows);
        assert_eq!(merged.min_value, Precision::Exact(ScalarValue::Int64(Some(3))));
        assert_eq!(merged.null_count, Precision::Exact(6));
    }

    #[test]
    fn one_unknown_batch_makes_the_total_unknown() {
        let rows = UInt64Array::from(vec![5, 5]);
        let merged = ints(vec![Some(3), None], vec![Some(9), None], vec![Some(1), None]).merge(&rows);
        assert_eq!(merged.min_value, Precision::Absent);
        assert_eq!(merged.null_count, Precision::Absent);
    }

    #[test]
    fn dictionaries_of_floats_may_hold_nan_as_floats_may() -> Result<()> {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        let data_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Float64));
        let coded = datafusion::arrow::compute::cast(&floats, &data_type)?;
        let rows = UInt64Array::from(vec![5, 5]);
        for values in [floats, coded] {
            let ints = ints(vec![Some(0); 2], vec![Some(0); 2], vec![Some(0); 2]);
            let column = ColumnBounds { min: Arc::clone(&values), max: values, ..ints };
            assert!(matches!(column.merge(&rows).max_value, Precision::Inexact(_)));
            let bounds = BatchBounds { rows: rows.clone(), columns: vec![column] };
            assert!(!bounds.follow(0, &[0, 1], false, true)?);
        }
        Ok(())
    }

    #[test]
    fn float_bounds_are_never_exact() {
        let bounds = ColumnBounds {
            min: Arc::new(Float64Array::from(vec![1.0])),
            max: Arc::new(Float64Array::from(vec![1.0])),
            ..ints(vec![Some(0)], vec![Some(0)], vec![Some(0)])
        };
        let merged = bounds.merge(&UInt64Array::from(vec![5]));
        assert_eq!(merged.min_value, Precision::Inexact(ScalarValue::Float64(Some(1.0))));
    }
}
