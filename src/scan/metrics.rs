//! What pruning did, for EXPLAIN, and the metrics of a scan, for EXPLAIN ANALYZE.

use std::fmt::{self, Display, Formatter};

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder};

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
        }
    }
}
