//! How many values groups have, of which it is known how many rows they have.

use std::mem::{size_of, take};

use datafusion::arrow::buffer::NullBuffer;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

/// Rows of each group that have no value; of groups that are not here, none.
#[derive(Default)]
pub(super) struct Missing(Vec<u64>);

impl Missing {
    /// Adds rows that are NULL, each of one of `len` groups.
    pub(super) fn note(&mut self, nulls: &NullBuffer, groups: &[usize], len: usize) {
        self.0.resize(len, 0);
        for (&group, _) in groups.iter().zip(nulls).filter(|(_, is_there)| !is_there) {
            self.0[group] += 1;
        }
    }

    /// How many of `rows` have a value, of each group; forgets it.
    ///
    /// # Errors
    /// If more were missing.
    pub(super) fn take(&mut self, rows: &[u64]) -> Result<Vec<u64>> {
        let missing = take(&mut self.0).into_iter().chain(std::iter::repeat(0));
        let counts = rows.iter().zip(missing).map(|(rows, missing)| rows.checked_sub(missing));
        counts.map(|count| count.ok_or_else(too_many)).collect()
    }

    pub(super) fn size(&self) -> usize {
        size_of::<u64>() * self.0.capacity()
    }
}

pub(super) fn too_many() -> DataFusionError {
    internal_datafusion_err!("a group has more rows than were counted")
}
