//! Rows and bytes of batches, added up: those of many next to each other are known without a look at each.

use std::ops::Range;

use super::batch::BatchMetadata;

/// Rows and bytes of the batches of a dataset.
#[derive(Debug)]
pub(super) struct BatchSums {
    /// Rows and uncompressed bytes of the batches before each, and of all. Rows do not overflow: that is an error of opening.
    before: Vec<(u64, u64)>,
    cut_row_groups: bool,
}

impl BatchSums {
    pub(super) fn new(batches: &[BatchMetadata]) -> Self {
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        let mut before = Vec::with_capacity(batches.len() + 1);
        before.push((rows, bytes));
        for batch in batches {
            rows = rows.saturating_add(batch.rows);
            bytes = bytes.saturating_add(batch.uncompressed_bytes);
            before.push((rows, bytes));
        }
        Self { before, cut_row_groups: batches.iter().any(|batch| batch.skipped_rows > 0) }
    }

    /// Whether batches end within row groups.
    pub(super) fn cut_row_groups(&self) -> bool {
        self.cut_row_groups
    }

    /// Rows and bytes of the batches in `range`.
    pub(super) fn of_range(&self, range: &Range<usize>) -> (u64, u64) {
        let ((rows_before, bytes_before), (rows, bytes)) = (self.before[range.start], self.before[range.end]);
        (rows - rows_before, bytes - bytes_before)
    }

    /// The same of those at ascending `indices`.
    pub(super) fn of(&self, indices: &[usize]) -> (u64, u64) {
        let runs = indices.chunk_by(|a, b| *b == a + 1);
        let ranges = runs.filter_map(|run| Some(*run.first()?..run.last()? + 1));
        ranges
            .map(|range| self.of_range(&range))
            .fold((0, 0), |all, of_range| (all.0 + of_range.0, all.1.saturating_add(of_range.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: u64, uncompressed_bytes: u64, skipped_rows: u64) -> BatchMetadata {
        BatchMetadata {
            batch_index: 0,
            file_index: 0,
            first_row: 0,
            rows,
            row_groups: 0..1,
            compressed_bytes: 1,
            uncompressed_bytes,
            skipped_rows,
            is_whole: true,
        }
    }

    #[test]
    fn sums_are_those_of_the_batches() {
        let batches: Vec<_> = (0..50).map(|i| batch(i * i % 7 + 1, i * 1_000, 0)).collect();
        let sums = BatchSums::new(&batches);
        let expected = |indices: &[usize]| {
            let each = || indices.iter().map(|&i| &batches[i]);
            (each().map(|batch| batch.rows).sum(), each().map(|batch| batch.uncompressed_bytes).sum())
        };
        let some = |keep: &dyn Fn(usize) -> bool| (0..50).filter(|&i| keep(i)).collect::<Vec<_>>();
        for indices in
            [some(&|_| true), some(&|_| false), some(&|i| i % 3 > 0), some(&|i| i > 48), some(&|i| i % 2 > 0)]
        {
            assert_eq!(sums.of(&indices), expected(&indices), "{indices:?}");
        }
        assert_eq!(sums.of_range(&(7..11)), expected(&[7, 8, 9, 10]));
        assert_eq!(sums.of_range(&(50..50)), (0, 0));
    }

    #[test]
    fn bytes_beyond_all_numbers_are_not_added_up() {
        let sums = BatchSums::new(&[batch(1, u64::MAX, 0), batch(2, u64::MAX, 0), batch(3, 5, 0)]);
        assert_eq!(sums.of(&[0, 2]), (4, u64::MAX));
        assert_eq!(sums.of_range(&(0..3)), (6, u64::MAX));
    }

    #[test]
    fn batches_that_begin_within_a_row_group_cut_it() {
        assert!(!BatchSums::new(&[batch(1, 1, 0), batch(1, 1, 0)]).cut_row_groups());
        assert!(BatchSums::new(&[batch(1, 1, 0), batch(1, 1, 1)]).cut_row_groups());
    }
}
