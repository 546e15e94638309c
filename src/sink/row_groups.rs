//! Cuts rows into row groups of a fixed number of rows, whatever record batches they come in.

use datafusion::arrow::array::RecordBatch;

use crate::row_bytes::record_batch_bytes;

/// The rows of one file, or of several after each other, in order.
#[derive(Debug)]
pub(super) struct RowGroupCutter {
    rows: usize,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
}

impl RowGroupCutter {
    /// Of groups of `rows` rows, more than none.
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, pending: Vec::new(), pending_rows: 0 }
    }

    /// The groups that are full with `batch`, in order.
    pub(super) fn push(&mut self, mut batch: RecordBatch) -> Vec<Vec<RecordBatch>> {
        let mut full = Vec::new();
        while self.pending_rows + batch.num_rows() >= self.rows {
            let missing = self.rows - self.pending_rows;
            self.pending.push(batch.slice(0, missing));
            batch = batch.slice(missing, batch.num_rows() - missing);
            self.pending_rows = 0;
            full.push(std::mem::take(&mut self.pending));
        }
        if batch.num_rows() > 0 {
            self.pending_rows += batch.num_rows();
            self.pending.push(batch);
        }
        full
    }

    /// Bytes of the rows that are not a group yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(record_batch_bytes).sum()
    }

    /// What is left, if anything.
    pub(super) fn finish(self) -> Option<Vec<RecordBatch>> {
        (!self.pending.is_empty()).then_some(self.pending)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int32Array};

    use super::*;

    #[test]
    fn groups_have_the_same_rows_however_they_come() {
        for sizes in [vec![10], vec![3, 0, 7], vec![1; 10], vec![4, 4, 2]] {
            let mut cutter = RowGroupCutter::new(4);
            let (mut next, mut groups) = (0, Vec::new());
            for size in sizes {
                let values: ArrayRef = Arc::new(Int32Array::from_iter_values(next..next + size));
                next += size;
                groups.extend(cutter.push(RecordBatch::try_from_iter([("n", values)]).unwrap()));
            }
            groups.extend(cutter.finish());
            let rows: Vec<Vec<i32>> = groups
                .iter()
                .map(|group| {
                    let column =
                        |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<Int32Array>().cloned();
                    group.iter().filter_map(column).flat_map(|column| column.values().to_vec()).collect()
                })
                .collect();
            assert_eq!(rows, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        }
    }
}
