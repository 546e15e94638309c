//! What is known of one batch of a selection before any of its rows is read.

use std::fmt::{self, Display, Formatter};

use datafusion::common::ScalarValue;

use crate::dataset::BatchId;
use crate::scan::Certainty;

/// A batch that may hold rows of a selection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SelectedBatch {
    /// Position in the selection, dense from 0.
    pub position: usize,
    /// Position in the dataset.
    pub batch_index: usize,
    /// File version and row range.
    pub identity: BatchId,
    /// How many of the batch's rows match.
    pub rows: RowBounds,
    /// Compressed bytes of the batch in its file, all columns; of part of a row group its share by rows. Of whole row
    /// groups no more is read; pages at the ends of a part are read whole, so it may be more there. Sizes of single
    /// columns are not kept.
    pub compressed_bytes: u64,
    /// No time in the batch is before the first or after the second: bounds of all its rows, of the column whose
    /// metadata says `class` = `time`, or that is called `time`, `timestamp`, `eventDate` or the like, or that is the
    /// only one with date and time. `None` where that is not known.
    pub time_range: Option<(ScalarValue, ScalarValue)>,
    /// Where all geometries of the batch lie: `xmin`, `ymin`, `xmax`, `ymax` in degrees. `None` where that is not known.
    pub extent: Option<[f64; 4]>,
    /// Why the batch is in the selection.
    pub reason: KeptReason,
}

/// How many rows there are: never less than `min`, never more than `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RowBounds {
    /// There are at least as many.
    pub min: u64,
    /// There are at most as many.
    pub max: u64,
}

impl RowBounds {
    pub(super) fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    /// Whether both bounds are the same.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.min == self.max
    }

    /// A number between the bounds, for plans and progress: their middle.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        self.min + self.max.saturating_sub(self.min) / 2
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }
}

impl Display for RowBounds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.is_exact() {
            true => write!(f, "{}", self.min),
            false => write!(f, "{} to {}", self.min, self.max),
        }
    }
}

/// Why a batch is in a selection. Shown as text in `odp_batches`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeptReason {
    /// `all rows match`: there is no filter, or partition values and the bounds of columns prove it for every row.
    AllRowsMatch,
    /// `inside`: the batch lies inside the area as a whole; every row matches.
    Inside,
    /// `boundary`: the batch lies partly inside the area; the rest of the filter leaves it open at most as far.
    Boundary,
    /// `may match`: the bounds of the columns do not exclude it.
    MayMatch,
    /// `unknown statistics`: of a column or geometry that the filter reads, no bounds are known.
    UnknownStatistics,
}

impl KeptReason {
    pub(super) fn of(certainty: Certainty) -> Self {
        match certainty {
            Certainty::All => Self::AllRowsMatch,
            Certainty::Inside => Self::Inside,
            Certainty::Boundary => Self::Boundary,
            Certainty::Possible => Self::MayMatch,
            Certainty::Unknown => Self::UnknownStatistics,
        }
    }
}

impl Display for KeptReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllRowsMatch => "all rows match",
            Self::Inside => "inside",
            Self::Boundary => "boundary",
            Self::MayMatch => "may match",
            Self::UnknownStatistics => "unknown statistics",
        })
    }
}

pub(super) fn row_bounds(certainty: Certainty, rows: u64) -> RowBounds {
    RowBounds::new(if certainty.all_match() { rows } else { 0 }, rows)
}
