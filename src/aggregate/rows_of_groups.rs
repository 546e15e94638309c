//! How many values groups have, of which it is known how many rows they have.

use std::mem::{size_of, take};

use datafusion::arrow::buffer::NullBuffer;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::group_of_row::{GroupOfRow, GroupVisitor};

/// Rows of each group that have no value; of groups that are not here, none.
#[derive(Default)]
pub(super) struct Missing(Vec<u64>);

impl Missing {
    /// Adds rows that are NULL.
    pub(super) fn note(&mut self, nulls: &NullBuffer, groups: &GroupOfRow) {
        self.0.resize(groups.len, 0);
        groups.visit(Note { missing: &mut self.0, nulls });
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

struct Note<'a> {
    missing: &'a mut [u64],
    nulls: &'a NullBuffer,
}

impl GroupVisitor for Note<'_> {
    fn visit(self, groups: impl Iterator<Item = usize>) {
        for (group, _) in groups.zip(self.nulls).filter(|(_, is_there)| !is_there) {
            self.missing[group] += 1;
        }
    }
}

pub(super) fn too_many() -> DataFusionError {
    internal_datafusion_err!("a group has more rows than were counted")
}
