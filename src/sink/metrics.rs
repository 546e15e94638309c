//! What a write did, for `EXPLAIN ANALYZE` and the shell's progress line.

use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricsSet, SpillMetrics, Time,
};

/// Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub(super) struct SinkMetrics {
    set: ExecutionPlanMetricsSet,
    pub(super) rows_written: Count,
    pub(super) bytes_written: Count,
    pub(super) row_groups_written: Count,
    pub(super) files_written: Count,
    /// Times that the disk was told to write what it had of a large file, before that was complete.
    pub(super) early_syncs: Count,
    /// The most files that were open at a time.
    pub(super) open_writers: Gauge,
    /// The most row groups that were encoded or waited for their turn at a time.
    pub(super) row_groups_in_flight: Gauge,
    pub(super) write_time: Time,
    /// Forcing to disk, verifying, publishing, recording.
    pub(super) commit_time: Time,
}

impl SinkMetrics {
    pub(super) fn new() -> Self {
        let set = ExecutionPlanMetricsSet::new();
        let builder = || MetricBuilder::new(&set);
        Self {
            rows_written: builder().global_counter("rows_written"),
            bytes_written: builder().global_counter("bytes_written"),
            row_groups_written: builder().global_counter("row_groups_written"),
            files_written: builder().global_counter("files_written"),
            early_syncs: builder().global_counter("early_syncs"),
            open_writers: builder().global_gauge("open_writers"),
            row_groups_in_flight: builder().global_gauge("row_groups_in_flight"),
            write_time: builder().subset_time("write_time", 0),
            commit_time: builder().subset_time("commit_time", 0),
            set,
        }
    }

    /// For rows that wait on disk.
    pub(super) fn spill(&self) -> SpillMetrics {
        SpillMetrics::new(&self.set, 0)
    }

    pub(super) fn all(&self) -> MetricsSet {
        self.set.clone_inner()
    }
}
