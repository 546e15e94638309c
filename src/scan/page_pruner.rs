//! Pages that filters exclude, as DataFusion finds them: their rows need no other test.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{
    PagePruningAccessPlanFilter, ParquetAccessPlan, RowGroupAccess,
};
use datafusion::physical_expr::PhysicalExpr;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};

use super::row_intervals::{Action, Interval, PlannedGroup};

/// Filters as one file can prune pages by them.
pub(super) struct PagePruner {
    pages: PagePruningAccessPlanFilter,
    file_schema: SchemaRef,
    metrics: ParquetFileMetrics,
}

impl PagePruner {
    /// `None` if no page can be excluded. `predicate` is over the schema of the file that its reader gives; what it excludes is
    /// counted in `metrics`.
    pub(super) fn try_new(
        predicate: &Arc<dyn PhysicalExpr>,
        metadata: &ArrowReaderMetadata,
        metrics: ParquetFileMetrics,
    ) -> Option<Self> {
        metadata.metadata().column_index()?;
        let file_schema = Arc::clone(metadata.schema());
        let pages = PagePruningAccessPlanFilter::new(predicate, Arc::clone(&file_schema));
        (pages.filter_number() > 0).then_some(Self { pages, file_schema, metrics })
    }

    /// Skips the rows of `groups` in pages that the filters exclude.
    pub(super) fn restrict(&self, metadata: &ArrowReaderMetadata, groups: &mut [PlannedGroup]) {
        let footer = metadata.metadata();
        let mut access = ParquetAccessPlan::new_none(footer.num_row_groups());
        groups.iter().for_each(|group| access.scan(group.index));
        let access = self.pages.prune_plan_with_page_index(
            access,
            &self.file_schema,
            metadata.parquet_schema(),
            footer,
            &self.metrics,
        );
        for group in groups {
            let kept = match access.inner().get(group.index) {
                None | Some(RowGroupAccess::Scan) => continue,
                Some(RowGroupAccess::Skip) => vec![],
                Some(RowGroupAccess::Selection(selection)) => selected(selection),
            };
            group.intervals = without_rows(std::mem::take(&mut group.intervals), &kept);
        }
    }
}

/// The rows that `selection` selects, in order.
fn selected(selection: &RowSelection) -> Vec<Range<u64>> {
    let mut next = 0;
    let runs = selection.iter().map(|selector| {
        let rows = next..next + selector.row_count as u64;
        next = rows.end;
        (selector.skip, rows)
    });
    runs.filter(|(is_skipped, _)| !is_skipped).map(|(_, rows)| rows).collect()
}

/// The intervals, cut where `kept` begins and ends; rows outside it are skipped. `kept` is in order.
fn without_rows(intervals: Vec<Interval>, kept: &[Range<u64>]) -> Vec<Interval> {
    let mut cut = vec![];
    // Those that end before an interval are behind all that follow.
    let mut kept = kept;
    for interval in intervals {
        if interval.action == Action::Skip {
            cut.push(interval);
            continue;
        }
        let mut next = interval.rows.start;
        let mut push = |rows: Range<u64>, action: Action| {
            if rows.start < rows.end {
                // Part of a page teaches nothing of the page.
                let teaches = interval.teaches && rows == interval.rows;
                cut.push(Interval { rows, action, teaches });
            }
        };
        kept = &kept[kept.partition_point(|part| part.end <= interval.rows.start)..];
        for part in kept.iter().take_while(|part| part.start < interval.rows.end) {
            let part = part.start.max(next)..part.end.min(interval.rows.end);
            if part.start < part.end {
                push(next..part.start, Action::Skip);
                next = part.end;
                push(part, interval.action);
            }
        }
        push(next..interval.rows.end, Action::Skip);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_excluded_pages_are_skipped() {
        let interval = |rows, action| Interval { rows, action, teaches: true };
        let intervals = vec![
            interval(0..10, Action::Skip),
            interval(10..20, Action::Keep),
            interval(20..40, Action::Test),
            interval(40..50, Action::Confirm),
        ];
        let shown = |kept: &[Range<u64>]| -> Vec<(Range<u64>, Action, bool)> {
            let cut = without_rows(intervals.clone(), kept);
            cut.into_iter().map(|i| (i.rows, i.action, i.teaches)).collect()
        };
        assert_eq!(
            shown(&[5..15, 25..30, 35..45]),
            [
                (0..10, Action::Skip, true),
                (10..15, Action::Keep, false),
                (15..20, Action::Skip, false),
                (20..25, Action::Skip, false),
                (25..30, Action::Test, false),
                (30..35, Action::Skip, false),
                (35..40, Action::Test, false),
                (40..45, Action::Confirm, false),
                (45..50, Action::Skip, false),
            ]
        );
        assert!(shown(&[]).iter().all(|(_, action, _)| *action == Action::Skip));
        let all =
            vec![(10..20, Action::Keep, true), (20..40, Action::Test, true), (40..50, Action::Confirm, true)];
        let whole = 0..50;
        assert_eq!(shown(std::slice::from_ref(&whole))[1..], all);
    }
}
