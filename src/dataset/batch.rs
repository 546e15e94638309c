//! Batches: ordered, non-overlapping row ranges of a dataset's files.

use std::ops::Range;

use datafusion::object_store::ObjectMeta;

use super::file::{DatasetFile, RowGroup};
use crate::options::BatchUnit;

/// What is known of one batch before any of its data is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchMetadata {
    /// Position in the dataset's logical order, dense from 0.
    pub batch_index: usize,
    /// Position of the batch's file in [`DatasetSnapshot::files`](super::DatasetSnapshot::files).
    pub file_index: usize,
    /// Number of the batch's first row in its file, from 0.
    pub first_row: u64,
    /// Rows in the batch, exact.
    pub rows: u64,
    /// The row groups of the file that hold the batch's rows.
    pub row_groups: Range<usize>,
    /// Bytes in the file; for part of a row group, its share by rows.
    pub compressed_bytes: u64,
    /// Bytes after decompression, still encoded; for part of a row group, its share by rows.
    pub uncompressed_bytes: u64,
    /// Rows of the first row group that precede the batch; above 0 only in a cut row group.
    pub(crate) skipped_rows: u64,
    /// Whether the batch is all rows of its row groups.
    pub(crate) is_whole: bool,
}

/// Names one batch for good: the same rows, or the knowledge that they changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchId {
    /// The file's version.
    pub object_meta: ObjectMeta,
    /// Number of the batch's first row in the file, from 0.
    pub first_row: u64,
    /// Rows in the batch.
    pub rows: u64,
}

/// Cuts `files` into batches, in order of the files and of their rows. Batches without rows do not exist.
pub(crate) fn cut_into_batches(files: &[DatasetFile], unit: BatchUnit) -> Vec<BatchMetadata> {
    let mut batches = Vec::new();
    for (file_index, file) in files.iter().enumerate() {
        let mut cutter = Cutter { file_index, row_groups: &file.row_groups, batches: &mut batches };
        match unit {
            BatchUnit::RowGroup => (0..file.row_groups.len()).for_each(|i| cutter.push_whole(i..i + 1)),
            BatchUnit::File => cutter.push_whole(0..file.row_groups.len()),
            BatchUnit::Rows(target) => cutter.push_by_rows(target),
        }
    }
    batches
}

/// The one batch of `rows` rows from `first_row` on; `None` if it is neither whole row groups nor part of one. Row groups
/// without rows at its ends are not part of it.
pub(crate) fn cut_range(file: &DatasetFile, first_row: u64, rows: u64) -> Option<BatchMetadata> {
    let end = first_row.checked_add(rows).filter(|&end| end > first_row)?;
    let overlaps = |group: &RowGroup| group.first_row < end && group.first_row + group.rows > first_row;
    let first = file.row_groups.iter().position(overlaps)?;
    let last = file.row_groups.iter().rposition(overlaps)?;
    let mut batches = Vec::with_capacity(1);
    let mut cutter = Cutter { file_index: 0, row_groups: &file.row_groups, batches: &mut batches };
    cutter.push_whole(first..last + 1);
    let mut batch = batches.pop()?;
    if (batch.first_row, batch.rows) != (first_row, rows) {
        let within = first == last && first_row >= batch.first_row && end <= batch.first_row + batch.rows;
        if !within {
            return None;
        }
        batch.compressed_bytes = share(batch.compressed_bytes, rows, batch.rows);
        batch.uncompressed_bytes = share(batch.uncompressed_bytes, rows, batch.rows);
        batch.skipped_rows = first_row - batch.first_row;
        (batch.first_row, batch.rows, batch.is_whole) = (first_row, rows, false);
    }
    Some(batch)
}

struct Cutter<'a> {
    file_index: usize,
    row_groups: &'a [RowGroup],
    batches: &'a mut Vec<BatchMetadata>,
}

impl Cutter<'_> {
    fn push_by_rows(&mut self, target: u64) {
        let mut start = 0;
        while start < self.row_groups.len() {
            let mut rows = self.row_groups[start].rows;
            if rows > target {
                self.push_cut(start, target);
                start += 1;
                continue;
            }
            let mut end = start + 1;
            while end < self.row_groups.len() && rows.saturating_add(self.row_groups[end].rows) <= target {
                rows += self.row_groups[end].rows;
                end += 1;
            }
            self.push_whole(start..end);
            start = end;
        }
    }

    /// One batch of all rows of `range`.
    fn push_whole(&mut self, range: Range<usize>) {
        let groups = &self.row_groups[range.clone()];
        let rows = groups.iter().map(|g| g.rows).sum();
        if rows == 0 {
            return;
        }
        self.batches.push(BatchMetadata {
            batch_index: self.batches.len(),
            file_index: self.file_index,
            first_row: groups.first().map_or(0, |g| g.first_row),
            rows,
            row_groups: range,
            compressed_bytes: groups.iter().map(|g| g.compressed_bytes).fold(0, u64::saturating_add),
            uncompressed_bytes: groups.iter().map(|g| g.uncompressed_bytes).fold(0, u64::saturating_add),
            skipped_rows: 0,
            is_whole: true,
        });
    }

    /// Several batches of at most `target` rows out of row group `index`.
    fn push_cut(&mut self, index: usize, target: u64) {
        let group = self.row_groups[index];
        let mut skipped = 0;
        while skipped < group.rows {
            let rows = target.min(group.rows - skipped);
            self.batches.push(BatchMetadata {
                batch_index: self.batches.len(),
                file_index: self.file_index,
                first_row: group.first_row + skipped,
                rows,
                row_groups: index..index + 1,
                compressed_bytes: share(group.compressed_bytes, rows, group.rows),
                uncompressed_bytes: share(group.uncompressed_bytes, rows, group.rows),
                skipped_rows: skipped,
                is_whole: false,
            });
            skipped += rows;
        }
    }
}

/// `bytes * part / whole`, without overflow.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::path::Path;

    fn file(rows: &[u64]) -> DatasetFile {
        let mut first_row = 0;
        let row_groups = rows
            .iter()
            .map(|&rows| {
                let group = RowGroup {
                    first_row,
                    rows,
                    offset: first_row * 10 + 4,
                    compressed_bytes: rows * 10,
                    uncompressed_bytes: rows * 20,
                };
                first_row += rows;
                group
            })
            .collect();
        let object_meta = ObjectMeta {
            location: Path::from("a.parquet"),
            last_modified: Default::default(),
            size: 1,
            e_tag: None,
            version: None,
        };
        DatasetFile::new(object_meta, vec![], row_groups)
    }

    fn cut(files: &[&[u64]], unit: BatchUnit) -> Vec<(usize, u64, u64)> {
        let files: Vec<_> = files.iter().map(|rows| file(rows)).collect();
        let batches = cut_into_batches(&files, unit);
        for (i, batch) in batches.iter().enumerate() {
            assert_eq!(batch.batch_index, i);
            assert!(batch.rows > 0);
        }
        let total: u64 = batches.iter().map(|b| b.rows).sum();
        assert_eq!(total, files.iter().map(DatasetFile::num_rows).sum::<u64>());
        batches.iter().map(|b| (b.file_index, b.first_row, b.rows)).collect()
    }

    #[test]
    fn row_groups_and_files_become_batches_and_empty_ones_do_not() {
        let files: [&[u64]; 3] = [&[5, 0, 7], &[], &[3]];
        assert_eq!(cut(&files, BatchUnit::RowGroup), [(0, 0, 5), (0, 5, 7), (2, 0, 3)]);
        assert_eq!(cut(&files, BatchUnit::File), [(0, 0, 12), (2, 0, 3)]);
    }

    #[test]
    fn batch_rows_merges_small_and_cuts_large_row_groups() {
        let files: [&[u64]; 2] = [&[4, 4, 4, 25], &[10, 1]];
        assert_eq!(
            cut(&files, BatchUnit::Rows(10)),
            [(0, 0, 8), (0, 8, 4), (0, 12, 10), (0, 22, 10), (0, 32, 5), (1, 0, 10), (1, 10, 1)]
        );
        assert_eq!(cut(&files, BatchUnit::Rows(1)).len(), 48);
    }

    #[test]
    fn a_batch_of_any_unit_is_cut_again_by_its_rows() {
        let with_empty_ends: [&[u64]; 4] = [&[4, 0], &[0, 4], &[0, 4, 0, 25, 0], &[0, 0, 2, 2, 0, 0]];
        for rows in with_empty_ends.into_iter().chain([&[4, 0, 4, 25, 3][..]]) {
            let file = file(rows);
            for unit in [BatchUnit::RowGroup, BatchUnit::File, BatchUnit::Rows(8), BatchUnit::Rows(3)] {
                for batch in cut_into_batches(std::slice::from_ref(&file), unit) {
                    let again = cut_range(&file, batch.first_row, batch.rows).unwrap();
                    let (found, wanted) = (again.row_groups.clone(), batch.row_groups.clone());
                    let outside = || (wanted.start..found.start).chain(found.end..wanted.end);
                    assert!(found.start >= wanted.start && found.end <= wanted.end, "{unit:?}");
                    assert!(outside().all(|group| rows[group] == 0), "{unit:?}");
                    let (batch_index, row_groups) = (batch.batch_index, batch.row_groups.clone());
                    assert_eq!(BatchMetadata { batch_index, row_groups, ..again }, batch, "{unit:?}");
                }
            }
        }
        let file = file(&[4, 0, 4, 25, 3]);
        assert_eq!(cut_range(&file, 2, 4), None, "parts of two row groups");
        assert_eq!(cut_range(&file, 30, 9), None, "past the end");
        assert_eq!(cut_range(&file, 0, 0), None);
        assert_eq!(cut_range(&file, u64::MAX, 2), None);
    }
}
