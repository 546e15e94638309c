//! Of the rows of row groups those that a filter keeps.

use std::sync::Arc;

use datafusion::arrow::buffer::BooleanBuffer;

/// Of the values of a page more than one in so many are kept: they are copied in runs, and else one by one.
const DENSE: usize = 2;

/// Of the rows of row groups those that are kept.
#[derive(Debug, Clone)]
pub(in crate::scan) struct KeptRows {
    kept: BooleanBuffer,
    /// Which rows these are, of all that this was made for; `None` where they are copied in runs.
    places: Option<Arc<[u32]>>,
    /// The place of the first row.
    first: usize,
}

impl KeptRows {
    pub(in crate::scan) fn new(kept: BooleanBuffer) -> Self {
        let is_sparse = kept.count_set_bits() <= kept.len() / DENSE && u32::try_from(kept.len()).is_ok();
        let places = is_sparse.then(|| kept.set_indices_u32().collect());
        Self { kept, places, first: 0 }
    }

    /// Rows that are kept.
    pub(in crate::scan) fn count(&self) -> usize {
        self.kept.count_set_bits()
    }

    pub(in crate::scan) fn has_any(&self) -> bool {
        self.kept.has_true()
    }

    /// The first `rows`, which this then has no more; `None` if it has fewer.
    pub(in crate::scan) fn take(&mut self, rows: usize) -> Option<Self> {
        let rest = self.kept.len().checked_sub(rows)?;
        let taken = Self { kept: self.kept.slice(0, rows), places: self.places.clone(), first: self.first };
        self.kept = self.kept.slice(rows, rest);
        self.first += rows;
        Some(taken)
    }

    /// Appends those of `values` that are kept; there is one of `WIDTH` bytes for each row.
    pub(in crate::scan) fn copy<const WIDTH: usize>(&self, values: &[u8], to: &mut Vec<u8>) {
        let Some(places) = &self.places else {
            for (start, end) in self.kept.set_slices() {
                to.extend_from_slice(&values[start * WIDTH..end * WIDTH]);
            }
            return;
        };
        let first = places.partition_point(|&place| (place as usize) < self.first);
        let end = places.partition_point(|&place| (place as usize) < self.first + self.kept.len());
        let start = to.len();
        to.resize(start + (end - first) * WIDTH, 0);
        let (copies, _) = to[start..].as_chunks_mut::<WIDTH>();
        let (values, _) = values.as_chunks::<WIDTH>();
        for (copy, &place) in copies.iter_mut().zip(&places[first..end]) {
            *copy = values[place as usize - self.first];
        }
    }
}
