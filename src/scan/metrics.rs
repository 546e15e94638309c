//! What pruning did, for EXPLAIN, and the metrics of a scan, for EXPLAIN ANALYZE.

use std::fmt::{self, Display, Formatter};

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};

use super::by_pages::PageMetrics;
use super::decoding::{ColumnCounts, PlainCounts};
use super::placed_run::PlacementMetrics;
use super::row_intervals::{Action, Interval};
use super::run_decoder::RunMetrics;

/// Batches skipped at planning, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PruningSummary {
    /// Batches of the dataset.
    pub(crate) total: usize,
    /// Batches of files whose partition values exclude the filter.
    pub(crate) by_partition: usize,
    /// Batches whose column bounds exclude the filter.
    pub(crate) by_statistics: usize,
    /// Batches whose geometries lie outside the area.
    pub(crate) by_extent: usize,
    /// Batches that the limit does not reach.
    pub(crate) by_limit: usize,
    /// Of the others, where there is a spatial filter: batches of which every row matches it.
    pub(crate) inside: usize,
    /// Those of which some rows may match it.
    pub(crate) boundary: usize,
    /// Rows in the skipped batches.
    pub(crate) rows: u64,
    /// Bytes in the files of the skipped batches, all columns.
    pub(crate) bytes: u64,
}

impl PruningSummary {
    pub(crate) fn skipped(&self) -> usize {
        self.by_partition + self.by_statistics + self.by_extent + self.by_limit
    }
}

impl Display for PruningSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "batches={} of {}", self.total - self.skipped(), self.total)?;
        let reasons = [
            ("partition", self.by_partition),
            ("statistics", self.by_statistics),
            ("extent", self.by_extent),
            ("limit", self.by_limit),
        ];
        let shown: Vec<String> =
            reasons.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}: {n}")).collect();
        if !shown.is_empty() {
            write!(f, ", skipped={{{}}}", shown.join(", "))?;
        }
        if self.inside + self.boundary > 0 {
            write!(f, ", area={{inside: {}, boundary: {}}}", self.inside, self.boundary)?;
        }
        Ok(())
    }
}

/// Counters of one scan, besides those of DataFusion's Parquet reader.
#[derive(Debug, Clone)]
pub(crate) struct ScanMetrics {
    /// Batches opened.
    pub(crate) batches_opened: Count,
    /// The most batch runs open at one time.
    pub(crate) peak_open: Gauge,
    /// Times the gate raised its limit because no holder moved.
    pub(crate) gate_lends: Count,
    /// Bytes of runs of small batches that were read ahead, asked for or not.
    pub(crate) bytes_ahead: Count,
    /// Reads of local files without another thread, because the one before was fast.
    pub(super) reads_at_once: Count,
    /// Local files opened; partitions that read one at the same time share it.
    pub(super) local_files_opened: Count,
    /// Requests for columns that an earlier request had brought along.
    pub(super) requests_saved: Count,
    pub(super) placement: PlacementMetrics,
    pub(super) runs: RunMetrics,
    pub(super) pages: PageMetrics,
}

impl ScanMetrics {
    /// Registers the counters, and what pruning saved.
    pub(crate) fn register(metrics: &ExecutionPlanMetricsSet, pruning: &PruningSummary) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).global_counter(name);
        let saved = [
            ("batches_pruned_partition", pruning.by_partition),
            ("batches_pruned_statistics", pruning.by_statistics),
            ("batches_pruned_extent", pruning.by_extent),
            ("batches_pruned_limit", pruning.by_limit),
            ("batches_inside_area", pruning.inside),
            ("batches_at_boundary", pruning.boundary),
            ("rows_pruned_planning", usize::try_from(pruning.rows).unwrap_or(usize::MAX)),
            ("bytes_pruned_planning", usize::try_from(pruning.bytes).unwrap_or(usize::MAX)),
        ];
        for (name, n) in saved {
            counter(name).add(n);
        }
        Self {
            batches_opened: counter("batches_opened"),
            peak_open: MetricBuilder::new(metrics).global_gauge("peak_open_batches"),
            gate_lends: counter("gate_lends"),
            bytes_ahead: counter("bytes_read_ahead"),
            reads_at_once: counter("reads_at_once"),
            local_files_opened: counter("local_files_opened"),
            requests_saved: counter("requests_saved"),
            placement: PlacementMetrics {
                proven: counter("row_groups_matched_by_bounds"),
                batches: counter("batches_filtered_decoded"),
                rows: counter("rows_filtered_decoded"),
                retries: counter("filter_retries"),
            },
            runs: RunMetrics {
                row_groups: counter("row_groups_read_in_runs"),
                late: counter("row_groups_decoded_late"),
                coded: counter("row_groups_given_as_codes"),
                by_column: counter("row_groups_decoded_by_column"),
                first: counter("row_groups_filtered_first"),
                columns: ColumnCounts {
                    plain: PlainCounts {
                        chunks: counter("column_chunks_copied"),
                        in_place: counter("values_in_place"),
                    },
                    dictionary: counter("column_chunks_of_codes"),
                },
                retries: counter("run_retries"),
            },
            pages: PageMetrics {
                kept: counter("rows_matched_by_page_bounds"),
                retries: counter("page_bounds_retries"),
            },
        }
    }
}

/// Counters of the spatial filters of a scan.
#[derive(Debug, Clone)]
pub(crate) struct SpatialMetrics {
    /// Row groups of which no row was read.
    pub(crate) row_groups_outside: Count,
    /// Row groups of which every row matched without a test.
    pub(crate) row_groups_inside: Count,
    /// Row groups with rows that were tested.
    pub(crate) row_groups_boundary: Count,
    /// Runs of rows within row groups at the boundary, mostly a page each, that were skipped.
    pub(crate) pages_outside: Count,
    /// Such runs that matched without a test.
    pub(crate) pages_inside: Count,
    /// Such runs that were only looked through for NaN, NULL and empty geometries.
    pub(crate) pages_confirmed: Count,
    /// Such runs that were tested.
    pub(crate) pages_boundary: Count,
    /// Rows tested, each on its own.
    pub(crate) rows_tested: Count,
    /// Rows that were tested or looked through of which the coordinates were read from pages.
    pub(crate) points_read: Count,
    /// Rows that the filters let through.
    pub(crate) rows_matched: Count,
    /// Time for deciding, reading of the geometry columns included.
    pub(crate) time: Time,
}

impl SpatialMetrics {
    pub(crate) fn register(metrics: &ExecutionPlanMetricsSet) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).global_counter(name);
        Self {
            row_groups_outside: counter("area_row_groups_outside"),
            row_groups_inside: counter("area_row_groups_inside"),
            row_groups_boundary: counter("area_row_groups_boundary"),
            pages_outside: counter("area_pages_outside"),
            pages_inside: counter("area_pages_inside"),
            pages_confirmed: counter("area_pages_confirmed"),
            pages_boundary: counter("area_pages_boundary"),
            rows_tested: counter("area_rows_tested"),
            points_read: counter("area_points_read"),
            rows_matched: counter("area_rows_matched"),
            time: MetricBuilder::new(metrics).subset_time("area_time", 0),
        }
    }

    /// Counts what was decided about a row group.
    pub(super) fn note(&self, intervals: &[Interval]) {
        let by_action = |action| intervals.iter().filter(move |interval| interval.action == action);
        if let [whole] = intervals {
            match whole.action {
                Action::Skip => self.row_groups_outside.add(1),
                Action::Keep => self.row_groups_inside.add(1),
                Action::Confirm | Action::Test => self.row_groups_boundary.add(1),
            }
        } else {
            self.row_groups_boundary.add(1);
            self.pages_outside.add(by_action(Action::Skip).count());
            self.pages_inside.add(by_action(Action::Keep).count());
            self.pages_confirmed.add(by_action(Action::Confirm).count());
            self.pages_boundary.add(by_action(Action::Test).count());
        }
        let tested: u64 = by_action(Action::Test).map(Interval::len).sum();
        self.rows_tested.add(usize::try_from(tested).unwrap_or(usize::MAX));
    }
}
