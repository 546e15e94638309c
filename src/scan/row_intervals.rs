//! Row groups cut into runs of rows: those to skip, those to keep without a test, and those to test.

use std::ops::Range;

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

/// What to do with a run of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// No row matches.
    Skip,
    /// Every row matches.
    Keep,
    /// Every row matches that is neither NULL nor empty.
    Confirm,
    /// Some may match.
    Test,
}

/// A run of rows of a row group, counted from its first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) rows: Range<u64>,
    pub(super) action: Action,
    /// Reading it tells what is not known yet.
    pub(super) teaches: bool,
}

impl Interval {
    /// Whether the filters' columns are read for it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.action, Action::Confirm | Action::Test)
    }

    pub(super) fn len(&self) -> u64 {
        self.rows.end - self.rows.start
    }
}

/// A row group and what to do with its rows.
#[derive(Debug)]
pub(super) struct PlannedGroup {
    pub(super) index: usize,
    pub(super) rows: u64,
    /// In order; rows outside them are skipped.
    pub(super) intervals: Vec<Interval>,
}

impl PlannedGroup {
    pub(super) fn rows_to_read(&self) -> u64 {
        self.intervals.iter().filter(|i| i.is_read()).map(Interval::len).sum()
    }

    /// Rows that match without a test.
    pub(super) fn rows_kept(&self) -> u64 {
        self.intervals.iter().filter(|i| i.action == Action::Keep).map(Interval::len).sum()
    }

    /// The rows that match, one bit for each row of the group; takes those of tested rows from `tested`.
    pub(super) fn matches(&self, tested: &BooleanBuffer, at: &mut usize) -> BooleanBuffer {
        let mut bits = BooleanBufferBuilder::new(to_usize(self.rows));
        let mut next = 0;
        for interval in &self.intervals {
            bits.append_n(to_usize(interval.rows.start - next), false);
            let rows = to_usize(interval.len());
            match interval.action {
                Action::Skip => bits.append_n(rows, false),
                Action::Keep => bits.append_n(rows, true),
                Action::Confirm | Action::Test => {
                    bits.append_buffer(&tested.slice(*at, rows));
                    *at += rows;
                }
            }
            next = interval.rows.end;
        }
        bits.append_n(to_usize(self.rows - next), false);
        bits.finish()
    }

    /// The rows that are not skipped, one bit a row.
    pub(super) fn kept(&self) -> BooleanBuffer {
        let intervals = self.intervals.iter().map(|interval| Interval {
            rows: interval.rows.clone(),
            action: if interval.action == Action::Skip { Action::Skip } else { Action::Keep },
            teaches: false,
        });
        let kept = Self { index: self.index, rows: self.rows, intervals: intervals.collect() };
        kept.matches(&BooleanBuffer::new_unset(0), &mut 0)
    }
}

/// The rows of `groups` that are to be read, one group after the other.
pub(super) fn rows_to_read(groups: &[&PlannedGroup]) -> RowSelection {
    let mut selectors = vec![];
    for group in groups {
        let mut next = 0;
        for interval in group.intervals.iter().filter(|i| i.is_read()) {
            selectors.push(RowSelector::skip(to_usize(interval.rows.start - next)));
            selectors.push(RowSelector::select(to_usize(interval.len())));
            next = interval.rows.end;
        }
        selectors.push(RowSelector::skip(to_usize(group.rows - next)));
    }
    RowSelection::from(selectors)
}

pub(super) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
