//! The group of each row of a record batch, by the code that stands for its text.

use std::cell::OnceCell;

/// Groups of rows, as positions among all groups.
pub(super) struct GroupOfRow<'a> {
    of_rows: OfRows<'a>,
    /// How many groups there are.
    pub(super) len: usize,
}

enum OfRows<'a> {
    /// Each row has one of the `keys`, and each key one of the `groups`.
    Coded {
        keys: &'a [u16],
        groups: &'a [usize],
        /// Made for those who cannot do without.
        list: OnceCell<Vec<usize>>,
    },
    Listed(Vec<usize>),
}

impl<'a> GroupOfRow<'a> {
    /// Of `keys`, all of which are positions in `groups`, which are of `len` groups.
    pub(super) fn coded(keys: &'a [u16], groups: &'a [usize], len: usize) -> Self {
        Self { of_rows: OfRows::Coded { keys, groups, list: OnceCell::new() }, len }
    }

    /// Those of `list`, one for each row.
    pub(super) fn listed(list: Vec<usize>, len: usize) -> Self {
        Self { of_rows: OfRows::Listed(list), len }
    }

    /// One for each row.
    pub(super) fn list(&self) -> &[usize] {
        match &self.of_rows {
            OfRows::Coded { keys, groups, list } => list.get_or_init(|| of_keys(keys, groups).collect()),
            OfRows::Listed(list) => list,
        }
    }

    /// Shows them to `visitor`, without making a list.
    pub(super) fn visit(&self, visitor: impl GroupVisitor) {
        match &self.of_rows {
            OfRows::Coded { keys, groups, .. } => visitor.visit(of_keys(keys, groups)),
            OfRows::Listed(list) => visitor.visit(list.iter().copied()),
        }
    }
}

fn of_keys(keys: &[u16], groups: &[usize]) -> impl Iterator<Item = usize> {
    keys.iter().map(|&key| groups[usize::from(key)])
}

/// Looks at the group of one row after the other.
pub(super) trait GroupVisitor {
    fn visit(self, groups: impl Iterator<Item = usize>);
}
