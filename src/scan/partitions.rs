//! How the kept batches of a scan lie in its partitions.

use std::ops::Range;
use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;

use super::source::BatchRun;
use crate::dataset::DatasetSnapshot;

/// With more batches than this, neighbours share a partition from the start: each partition costs some kilobytes of
/// statistics and a task, in every query.
const MOST_SINGLE: usize = 4096;

/// Partitions of a scan of more batches than [`MOST_SINGLE`], at least.
const MERGED: usize = 64;

/// Rows of a partition, on average and at least, where partitions are read one after the other: some record batches.
const SHORT_RUN: u64 = 64 << 10;

/// Such partitions, at most.
const MOST_SHORT_RUNS: usize = 1024;

/// Files of a scan that statistics are attached to, at most; without them TopK opens files in order of their paths, not
/// the most promising first.
const MOST_DESCRIBED: usize = 4096;

/// How many partitions a scan of so many batches has from the start; `None`: one for each.
pub(super) fn merged_at_once(batches: usize, partition_limit: Option<usize>) -> Option<usize> {
    let limit = partition_limit?.max(MERGED);
    (batches > MOST_SINGLE && batches > limit).then_some(limit)
}

/// One group per batch, in order. Of very many batches fewer groups, if batches may be merged to `partition_limit`; then with
/// statistics of columns only if the scan reads any: they are most of what planning takes.
pub(super) fn planned_groups(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    partition_limit: Option<usize>,
    reads_columns: bool,
) -> Vec<FileGroup> {
    let is_many = kept.len() > MOST_SINGLE;
    if let Some(limit) = merged_at_once(kept.len(), partition_limit) {
        if reads_columns {
            return merged_groups(snapshot, kept, limit, limit, Shares::Equal);
        }
        let counted = |group: Range<usize>| {
            let statistics = snapshot.statistics_of_rows(&kept[group.clone()]);
            FileGroup::new(files(snapshot, &kept[group], false)).with_statistics(Arc::new(statistics))
        };
        return cut(snapshot, kept, limit, limit, Shares::Equal).into_iter().map(counted).collect();
    }
    let group = |&i: &usize| {
        let file = snapshot.partitioned_file(i..i + 1, !is_many).with_extension(BatchRun(i..i + 1));
        match is_many {
            true => FileGroup::new(vec![file]),
            false => FileGroup::new(vec![file]).with_statistics(snapshot.range_statistics(i..i + 1)),
        }
    };
    kept.iter().map(group).collect()
}

/// The kept batches in groups of at least [`SHORT_RUN`] rows on average, if these are more than `groups`; `None` too, if `groups` are
/// not the kept batches in their order.
pub(super) fn short_runs(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    groups: &[FileGroup],
) -> Option<Vec<FileGroup>> {
    let rows = kept.iter().map(|&i| snapshot.batches()[i].rows).fold(0, u64::saturating_add);
    let most = usize::try_from(rows / SHORT_RUN).unwrap_or(usize::MAX).min(MOST_SHORT_RUNS).min(kept.len());
    let may_be_cut = most > groups.len() && reads_all(groups, kept);
    may_be_cut.then(|| merged_groups(snapshot, kept, most, most, Shares::Equal))
}

/// Whether `groups` are the kept batches in their order.
pub(super) fn reads_all(groups: &[FileGroup], kept: &[usize]) -> bool {
    let runs =
        groups.iter().flat_map(FileGroup::iter).map(|file| Some(file.extension::<BatchRun>()?.0.clone()));
    let runs = runs.collect::<Option<Vec<_>>>();
    runs.is_some_and(|runs| runs.into_iter().flatten().eq(kept.iter().copied()))
}

/// One group for each of `runs`, which are ranges of positions in `kept`.
pub(super) fn groups_of(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    runs: Vec<Range<usize>>,
) -> Vec<FileGroup> {
    let is_described = kept.len() <= MOST_DESCRIBED;
    runs.into_iter().map(|run| file_group(snapshot, &kept[run], is_described)).collect()
}

/// How many of the rows each group gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shares {
    Equal,
    /// The first 1.75 times an equal share, the last a quarter of it. If not all are open at a time, they are begun in their
    /// order as others end: the last ones are then short, and processors end at about the same time.
    Tapered,
}

impl Shares {
    /// Of `groups`, which are not none, the first `closed`: their part of all rows, as a fraction.
    fn of_first(self, closed: usize, groups: usize) -> (u128, u128) {
        let (closed, groups) = (closed as u128, groups as u128);
        match self {
            Self::Tapered if groups > 1 => {
                let last = groups - 1;
                (closed * (7 * last - 3 * closed.saturating_sub(1)), 4 * last * groups)
            }
            _ => (closed, groups),
        }
    }
}

/// The kept batches in at most `limit` groups of contiguous runs, that have these shares of the rows, about; fewer, but at least
/// `least`, to keep the batches of a row group together.
pub(super) fn merged_groups(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    limit: usize,
    least: usize,
    shares: Shares,
) -> Vec<FileGroup> {
    let runs = runs_by_file(snapshot, kept);
    let is_described = runs.len() <= MOST_DESCRIBED;
    cut(snapshot, kept, limit, least, shares)
        .into_iter()
        .map(|group| file_group(snapshot, &kept[group], is_described))
        .collect()
}

/// The positions in `kept` cut into at most `limit` ranges. These do not end within a row group if there are as many row groups;
/// or, where ranges would be short, at least `least`: each reads pages, and opens a decoder.
fn cut(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    limit: usize,
    least: usize,
    shares: Shares,
) -> Vec<Range<usize>> {
    if !snapshot.cuts_row_groups()
        && let (Some(&first), Some(&last)) = (kept.first(), kept.last())
        && last - first + 1 == kept.len()
    {
        let rows_until = |end: usize| u128::from(snapshot.rows_of_range(first..first + end));
        return cut_by_sums(kept.len(), rows_until, limit, shares);
    }
    let rows: Vec<u64> = kept.iter().map(|&i| snapshot.batches()[i].rows).collect();
    let starts: Vec<usize> = (0..kept.len()).filter(|&at| !is_within(snapshot, kept, at)).collect();
    let all: u64 = rows.iter().copied().fold(0, u64::saturating_add);
    let are_short = all / (limit.max(1) as u64) < SHORT_RUN;
    let few = if are_short { least.min(limit) } else { limit };
    if starts.len() == kept.len() || starts.len() < few {
        return cut_by_rows(&rows, limit, shares);
    }
    let end = |unit: usize| starts.get(unit + 1).copied().unwrap_or(kept.len());
    let of_unit = |unit: usize| rows[starts[unit]..end(unit)].iter().copied().fold(0, u64::saturating_add);
    let of_units: Vec<u64> = (0..starts.len()).map(of_unit).collect();
    let groups = cut_by_rows(&of_units, limit, shares).into_iter();
    groups.map(|units| starts[units.start]..end(units.end - 1)).collect()
}

/// Whether the batch at a position in `kept` continues a row group that the one before it begins.
fn is_within(snapshot: &DatasetSnapshot, kept: &[usize], at: usize) -> bool {
    let batch = kept[at];
    at > 0 && kept[at - 1] + 1 == batch && snapshot.batches()[batch].skipped_rows > 0
}

fn cut_by_rows(all: &[u64], limit: usize, shares: Shares) -> Vec<Range<usize>> {
    let mut until = Vec::with_capacity(all.len() + 1);
    until.push(0_u128);
    for (at, &rows) in all.iter().enumerate() {
        until.push(until[at] + u128::from(rows));
    }
    cut_by_sums(all.len(), |end| until[end], limit, shares)
}

/// `count` batches in at most `limit` groups, by how many rows those before an end have.
fn cut_by_sums(
    count: usize,
    rows_until: impl Fn(usize) -> u128,
    limit: usize,
    shares: Shares,
) -> Vec<Range<usize>> {
    let limit = limit.max(1);
    let total = rows_until(count);
    let mut groups = Vec::with_capacity(limit);
    let mut start = 0;
    while start < count {
        let others = limit - groups.len() - 1;
        let end = if others == 0 {
            count
        } else {
            // The rows of the first groups, at least.
            let (part, of) = shares.of_first(groups.len() + 1, limit);
            let rows = total.saturating_mul(part).div_ceil(of);
            let full = first_end(start + 1..count, |end| rows_until(end) >= rows);
            // Each batch left is a group of its own, if there are enough.
            full.min(count.saturating_sub(others).max(start + 1))
        };
        groups.push(start..end);
        start = end;
    }
    groups
}

/// The first of `ends` that `is_full` holds for, and for all after it; what follows them if it holds for none.
fn first_end(ends: Range<usize>, is_full: impl Fn(usize) -> bool) -> usize {
    let Range { mut start, mut end } = ends;
    while start < end {
        let middle = start + (end - start) / 2;
        if is_full(middle) { end = middle } else { start = middle + 1 }
    }
    start
}

/// `batches` as runs of neighbours in one file.
fn runs_by_file(snapshot: &DatasetSnapshot, batches: &[usize]) -> Vec<Range<usize>> {
    let file = |batch: usize| snapshot.batches()[batch].file_index;
    let continues = |a: &usize, b: &usize| *b == a + 1 && file(*a) == file(*b);
    batches.chunk_by(continues).filter_map(|run| Some(*run.first()?..run.last()? + 1)).collect()
}

fn files(snapshot: &DatasetSnapshot, batches: &[usize], is_described: bool) -> Vec<PartitionedFile> {
    let file = |run: Range<usize>| {
        snapshot.partitioned_file(run.clone(), is_described).with_extension(BatchRun(run))
    };
    runs_by_file(snapshot, batches).into_iter().map(file).collect()
}

/// One group that reads `batches`, adjacent ones of a file through one reader.
fn file_group(snapshot: &DatasetSnapshot, batches: &[usize], is_described: bool) -> FileGroup {
    let files = files(snapshot, batches, is_described);
    let is_contiguous = batches.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let statistics = match (batches.first(), batches.last()) {
        (Some(&first), Some(&last)) if is_contiguous => Some(snapshot.range_statistics(first..last + 1)),
        _ => snapshot.statistics_at(batches).ok().map(Arc::new),
    };
    match statistics {
        Some(statistics) => FileGroup::new(files).with_statistics(statistics),
        None => FileGroup::new(files),
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn lengths(rows: &[u64], limit: usize, shares: Shares) -> Vec<usize> {
        let groups = cut_by_rows(rows, limit, shares);
        assert!(groups.iter().cloned().flatten().eq(0..rows.len()), "each batch once, in order: {groups:?}");
        assert!(groups.len() <= limit);
        groups.into_iter().map(|group| group.len()).collect()
    }

    /// By a look at each batch, one after the other.
    fn cut_one_by_one(all: &[u64], limit: usize, shares: Shares) -> Vec<usize> {
        let total: u128 = all.iter().map(|&rows| u128::from(rows)).sum();
        let (mut groups, mut length, mut before) = (vec![], 0, 0);
        for (at, &rows) in all.iter().enumerate() {
            before += u128::from(rows);
            length += 1;
            let (part, of) = shares.of_first(groups.len() + 1, limit);
            let is_full = before >= total.saturating_mul(part).div_ceil(of);
            let others = limit - groups.len() - 1;
            if others > 0 && (is_full || all.len() - (at + 1) <= others) || at + 1 == all.len() {
                groups.push(length);
                length = 0;
            }
        }
        groups
    }

    #[test]
    fn groups_end_where_they_have_their_rows() {
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..2_000 {
            let most = [2, 50, 1_000_000][random.random_range(0..3)];
            let all: Vec<u64> =
                (0..random.random_range(0..60)).map(|_| random.random_range(0..most)).collect();
            let limit = random.random_range(1..20);
            for shares in [Shares::Equal, Shares::Tapered] {
                assert_eq!(
                    lengths(&all, limit, shares),
                    cut_one_by_one(&all, limit, shares),
                    "{all:?} {limit}"
                );
            }
        }
    }

    #[test]
    fn groups_have_their_share_of_the_rows() {
        use Shares::{Equal, Tapered};
        let alike = [100; 100];
        assert_eq!(lengths(&alike, 8, Equal), [13, 12, 13, 12, 13, 12, 13, 12]);
        assert_eq!(lengths(&alike, 8, Tapered), [22, 20, 16, 14, 11, 9, 5, 3]);
        assert_eq!(lengths(&alike, 1, Tapered), [100]);
        assert_eq!(lengths(&alike, 2, Tapered), [88, 12]);
        assert_eq!(lengths(&alike[..10], 8, Tapered), [3, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(lengths(&[1, 1, 1, 1000], 3, Equal), [2, 1, 1]);
        assert_eq!(lengths(&[1, 1, 1000, 1, 1], 3, Equal), [3, 1, 1]);
        assert_eq!(lengths(&[0, 0, 0], 2, Tapered), [1, 2]);
        assert_eq!(lengths(&[], 8, Tapered), [0; 0]);
        assert_eq!(lengths(&[u64::MAX; 9], 3, Tapered), [6, 2, 1]);
    }
}
