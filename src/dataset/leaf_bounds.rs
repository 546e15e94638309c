//! Bounds of numbers inside structs, such as `interpreted.decimalLongitude`: [`super::ColumnBounds`] has those of
//! whole columns.

use std::ops::Range;

use super::batch::BatchMetadata;

/// Bounds of one number inside a struct over a list of row groups or batches; every list has one element for each.
///
/// All of its rows NULL: no bounds, and as many NULLs as rows. NaN in the data is in no bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LeafBounds {
    /// No value is below it; NaN = unknown, or no value at all.
    pub(crate) min: Vec<f64>,
    /// No value is above it; NaN = unknown, or no value at all.
    pub(crate) max: Vec<f64>,
    /// Rows in which it is NULL, or a struct around it is; `None` = unknown.
    pub(crate) null_counts: Vec<Option<u64>>,
}

impl LeafBounds {
    /// Adds a row group or batch; bounds only where both are known.
    pub(crate) fn push(&mut self, bounds: Option<(f64, f64)>, null_count: Option<u64>) {
        let (min, max) = bounds.unwrap_or((f64::NAN, f64::NAN));
        self.min.push(min);
        self.max.push(max);
        self.null_counts.push(null_count);
    }

    /// One list after the other.
    pub(crate) fn concat<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.min.extend_from_slice(&part.min);
            all.max.extend_from_slice(&part.max);
            all.null_counts.extend_from_slice(&part.null_counts);
        }
        all
    }

    /// The bounds at `indices`, in their order.
    pub(crate) fn take(&self, indices: impl Iterator<Item = usize>) -> Self {
        let mut taken = Self::default();
        for i in indices {
            taken.min.push(self.min[i]);
            taken.max.push(self.max[i]);
            taken.null_counts.push(self.null_counts[i]);
        }
        taken
    }

    pub(crate) fn slice(&self, range: &Range<usize>) -> Self {
        Self {
            min: self.min[range.clone()].to_vec(),
            max: self.max[range.clone()].to_vec(),
            null_counts: self.null_counts[range.clone()].to_vec(),
        }
    }

    /// From the bounds of all row groups of all files, of `rows` rows each, to those of the batches;
    /// `first_row_group[f]` is the position of file `f`'s first row group in `self`.
    pub(crate) fn for_batches(
        &self,
        rows: &[u64],
        batches: &[BatchMetadata],
        first_row_group: &[usize],
    ) -> Self {
        let mut merged = Self::default();
        for batch in batches {
            let base = first_row_group[batch.file_index];
            let span = base + batch.row_groups.start..base + batch.row_groups.end;
            let whole_rows: u64 = rows[span.clone()].iter().sum();
            let nulls =
                self.null_counts[span.clone()].iter().try_fold(0u64, |sum, nulls| sum.checked_add((*nulls)?));
            // Part of a row group is within the row group's bounds, and all or nothing NULL if the row group is.
            let null_count = nulls.and_then(|n| match n {
                n if batch.is_whole => Some(n),
                0 => Some(0),
                n if n == whole_rows => Some(batch.rows),
                _ => None,
            });
            merged.push(self.merge(rows, span), null_count);
        }
        merged
    }

    /// The bounds of all values in the row groups of `span`; `None` if one of them is unknown.
    fn merge(&self, rows: &[u64], span: Range<usize>) -> Option<(f64, f64)> {
        let mut merged: Option<(f64, f64)> = None;
        for i in span.filter(|&i| self.null_counts[i] != Some(rows[i])) {
            let (min, max) = (self.min[i], self.max[i]);
            if min.is_nan() || max.is_nan() {
                return None;
            }
            merged = Some(merged.map_or((min, max), |(low, high)| (min.min(low), max.max(high))));
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(row_groups: Range<usize>, rows: u64, is_whole: bool) -> BatchMetadata {
        BatchMetadata {
            batch_index: 0,
            file_index: 1,
            first_row: 0,
            rows,
            row_groups,
            compressed_bytes: 0,
            uncompressed_bytes: 0,
            skipped_rows: 0,
            is_whole,
        }
    }

    #[test]
    fn batches_merge_and_cut_row_groups() {
        // The first row group is of another file; the last has a value of which nothing is known.
        let mut leaf = LeafBounds::default();
        leaf.push(Some((-100.0, 100.0)), Some(0));
        leaf.push(Some((1.0, 2.0)), Some(1));
        leaf.push(None, Some(10));
        leaf.push(Some((-3.0, 0.0)), Some(0));
        leaf.push(None, Some(9));
        let rows = [10, 10, 10, 10, 10];
        let batches = [
            batch(0..3, 30, true),
            batch(0..1, 5, false),
            batch(1..2, 5, false),
            batch(2..3, 5, false),
            batch(2..4, 20, true),
        ];
        let merged = leaf.for_batches(&rows, &batches, &[0, 1]);
        let pairs: Vec<_> = merged.min.iter().zip(&merged.max).map(|(a, b)| (*a, *b)).collect();
        assert_eq!(pairs[0], (-3.0, 2.0));
        assert_eq!(pairs[1], (1.0, 2.0));
        assert!(pairs[2].0.is_nan() && pairs[2].1.is_nan(), "all NULL");
        assert_eq!(pairs[3], (-3.0, 0.0));
        assert!(pairs[4].0.is_nan() && pairs[4].1.is_nan(), "unknown");
        assert_eq!(merged.null_counts, [Some(11), None, Some(5), Some(0), Some(9)]);
    }
}
