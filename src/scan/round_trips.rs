//! Requests to an object store for one row group: the columns of a filter first, then the others, one waiting for the
//! other. Where the second request mostly follows, the first one asks for all.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::physical_plan::metrics::Count;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

/// Bytes of a row group that are worth a request too many, at most.
const MOST_BYTES: u64 = 8 << 20;

/// Row groups after which older ones count half.
const REMEMBERED: u32 = 16;

/// How often one request for a row group was not enough; shared by the partitions of a scan.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    row_groups: u32,
    followed: u32,
}

impl RoundTrips {
    fn note_row_group(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.row_groups >= REMEMBERED {
            seen.row_groups /= 2;
            seen.followed /= 2;
        }
        seen.row_groups += 1;
    }

    fn note_followed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).followed += 1;
    }

    /// Whether a second request is likely.
    fn are_likely(&self) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        2 * seen.followed > seen.row_groups
    }
}

/// The columns that a scan reads of its files, and what is known of the requests for them.
#[derive(Debug, Clone)]
pub(super) struct ColumnTrips {
    pub(super) trips: Arc<RoundTrips>,
    /// Names of the top level.
    pub(super) columns: Arc<BTreeSet<String>>,
    /// Requests that were answered by an earlier one.
    pub(super) saved: Count,
}

/// The requests of one reader.
#[derive(Debug)]
pub(super) struct RowGroupRequests {
    scan: ColumnTrips,
    row_groups: Vec<RowGroupBytes>,
    /// That of the last request.
    current: Option<usize>,
    has_followed: bool,
    /// Columns of it that are read already, each from its first byte in the file on.
    held: Vec<(u64, Bytes)>,
}

#[derive(Debug)]
struct RowGroupBytes {
    span: Range<u64>,
    /// The columns that the scan reads.
    wanted: Vec<Range<u64>>,
}

impl RowGroupRequests {
    pub(super) fn new(scan: ColumnTrips, footer: &ParquetMetaData) -> Self {
        let of_row_group = |row_group: &RowGroupMetaData| {
            let range = |column: &ColumnChunkMetaData| {
                let (start, len) = column.byte_range();
                start..start.saturating_add(len)
            };
            let all = row_group.columns().iter().map(range);
            let is_wanted = |column: &&ColumnChunkMetaData| {
                column.column_path().parts().first().is_some_and(|name| scan.columns.contains(name))
            };
            RowGroupBytes {
                span: all.clone().map(|range| range.start).min().unwrap_or(0)
                    ..all.map(|range| range.end).max().unwrap_or(0),
                wanted: row_group.columns().iter().filter(is_wanted).map(range).collect(),
            }
        };
        let row_groups = footer.row_groups().iter().map(of_row_group).collect();
        Self { scan, row_groups, current: None, has_followed: false, held: vec![] }
    }

    /// What to read in the place of `ranges`, which are asked for: more, if that saves a request.
    pub(super) fn instead_of(&mut self, ranges: &[Range<u64>]) -> Option<Vec<Range<u64>>> {
        let start = ranges.first()?.start;
        let row_group = self.row_groups.iter().position(|row_group| row_group.span.contains(&start))?;
        if self.current == Some(row_group) {
            if !self.has_followed {
                self.has_followed = true;
                self.scan.trips.note_followed();
            }
            return None;
        }
        let is_likely = self.scan.trips.are_likely();
        self.scan.trips.note_row_group();
        self.current = Some(row_group);
        self.has_followed = false;
        self.held.clear();
        let wanted = &self.row_groups[row_group].wanted;
        let bytes: u64 = wanted.iter().map(|range| range.end - range.start).sum();
        // Single pages are asked for where the others are excluded: then it would not be known which of the other columns.
        let are_whole = ranges.iter().all(|range| wanted.contains(range));
        (is_likely && bytes <= MOST_BYTES && are_whole && wanted.len() > ranges.len()).then(|| wanted.clone())
    }

    /// Keeps what was read of `ranges` for later.
    pub(super) fn hold(&mut self, ranges: &[Range<u64>], read: Vec<Bytes>) {
        self.held = ranges.iter().map(|range| range.start).zip(read).collect();
    }

    /// `ranges` of what is kept; `is_asked_first`: they are why it was read.
    pub(super) fn held(&self, ranges: &[Range<u64>], is_asked_first: bool) -> Option<Vec<Bytes>> {
        let cut = |range: &Range<u64>| {
            self.held.iter().find_map(|(start, bytes)| {
                let at = |offset: u64| usize::try_from(offset.checked_sub(*start)?).ok();
                let within = at(range.start)?..at(range.end)?;
                (within.start <= within.end && within.end <= bytes.len()).then(|| bytes.slice(within))
            })
        };
        let cut: Option<Vec<Bytes>> = ranges.iter().map(cut).collect();
        if cut.is_some() && !is_asked_first {
            self.scan.saved.add(1);
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two columns of a filter at 0 and 100 of each row group of 1,000 bytes, and the others at 200 and 900.
    fn requests(trips: &Arc<RoundTrips>) -> RowGroupRequests {
        let row_groups = (0..100)
            .map(|i| {
                let at = |start: u64, len: u64| 1_000 * i + start..1_000 * i + start + len;
                let wanted = vec![at(0, 100), at(100, 100), at(200, 100), at(900, 100)];
                RowGroupBytes { span: at(0, 1_000), wanted }
            })
            .collect();
        let scan = ColumnTrips { trips: Arc::clone(trips), columns: Arc::default(), saved: Count::new() };
        RowGroupRequests { scan, row_groups, current: None, has_followed: false, held: vec![] }
    }

    fn one(range: Range<u64>) -> [Range<u64>; 1] {
        std::array::from_fn(|_| range.clone())
    }

    fn first(row_group: u64) -> [Range<u64>; 1] {
        one(1_000 * row_group..1_000 * row_group + 100)
    }

    #[test]
    fn all_columns_come_at_once_while_the_others_are_mostly_asked_for() {
        let trips = Arc::default();
        let mut reader = requests(&trips);
        assert_eq!(reader.instead_of(&first(0)), None, "nothing is known yet");
        assert_eq!(reader.instead_of(&[200..300, 900..1_000]), None);
        let all = reader.instead_of(&first(1)).unwrap();
        assert_eq!(all, [1_000..1_100, 1_100..1_200, 1_200..1_300, 1_900..2_000]);
        reader.hold(&all, (0..4).map(|i| Bytes::from(vec![i; 100])).collect());
        assert_eq!(reader.held(&first(1), true).unwrap(), [vec![0; 100]]);
        assert_eq!(reader.instead_of(&[1_210..1_220, 1_900..2_000]), None);
        assert_eq!(reader.held(&[1_210..1_220, 1_900..2_000], false).unwrap(), [vec![2; 10], vec![3; 100]]);
        assert_eq!(reader.held(&one(1_190..1_210), false), None, "not across two columns");
        assert_eq!(reader.scan.saved.value(), 1);
        // Single pages are asked for as they are, and so are bytes beyond the row groups.
        assert_eq!(reader.instead_of(&one(2_010..2_020)), None);
        assert_eq!(reader.held(&one(1_210..1_220), false), None, "another row group's are gone");
        assert_eq!(reader.instead_of(&one(1_000_000..1_000_010)), None);

        // Row groups without a match end that, for the readers of other partitions too.
        let mut other = requests(&trips);
        let asked = (10..40).map(|row_group| other.instead_of(&first(row_group)).is_some());
        let asked: Vec<bool> = asked.collect();
        assert!(asked[0] && asked[4..].iter().all(|is_asked| !is_asked), "{asked:?}");
    }

    #[test]
    fn large_row_groups_are_read_column_by_column() {
        let trips = Arc::default();
        let mut reader = requests(&trips);
        for row_group in &mut reader.row_groups {
            row_group.wanted.push(row_group.span.end..row_group.span.end + MOST_BYTES);
        }
        for row_group in 0..10 {
            assert_eq!(reader.instead_of(&first(row_group)), None);
            assert_eq!(reader.instead_of(&one(1_000 * row_group + 200..1_000 * row_group + 300)), None);
        }
        assert!(trips.are_likely());
    }
}
