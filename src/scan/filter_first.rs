//! Small row groups behind a filter that keeps few rows: the columns of the filter are decoded first, of one row group after
//! the other, and others only of those with a match.
//!
//! The decoder does the same, but DataFusion's opener sets out anew for each row group, which takes as long as decoding
//! some thousand rows.

use std::sync::Arc;

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use parquet::file::metadata::ParquetMetaData;

use super::file_decoding::Wanted;
use super::filter_placement::LateFilter;
use super::run_decoder::{KnownFiles, OpenRun, RowGroupRun, RunScan};

/// Values of the filter's columns in a row group, at most: of more, what the decoder saves by evaluating one conjunct after
/// the other, and by skipping pages, may be more than setting out costs.
const MOST_VALUES: u64 = 16 << 10;

/// Finds out which rows match.
pub(super) struct FilterFirst {
    /// Reads the columns of the filter.
    runs: Arc<RunScan>,
    /// Over these alone.
    filter: LateFilter,
    columns: u64,
}

/// What was found of some row groups.
pub(super) struct FoundFirst {
    /// The rows that match; `None`: there are none.
    pub(super) run: Option<RowGroupRun>,
    pub(super) matched: u64,
}

impl FilterFirst {
    /// `filter` is for what `to_filter` reads; `files` are those of all partitions of the scan. `None` if it needs no column.
    ///
    /// # Errors
    /// If the filter needs a column that is not read.
    pub(super) fn try_new(
        filter: &LateFilter,
        to_filter: &RunScan,
        files: Arc<KnownFiles>,
    ) -> Result<Option<Self>> {
        let columns: Vec<usize> = filter.columns().into_iter().collect();
        if columns.is_empty() {
            return Ok(None);
        }
        let exprs: Vec<&ProjectionExpr> = to_filter.wanted.projection.iter().collect();
        let exprs: Option<Vec<ProjectionExpr>> =
            columns.iter().map(|&at| exprs.get(at).map(|&expr| expr.clone())).collect();
        let Some(exprs) = exprs else {
            return internal_err!("a filter needs a column that is not read");
        };
        let wanted = Wanted { projection: ProjectionExprs::new(exprs), ..to_filter.wanted.clone() };
        Ok(Some(Self {
            runs: Arc::new(to_filter.reading(wanted, files)),
            filter: filter.of_columns(&columns)?,
            columns: columns.len() as u64,
        }))
    }

    /// Whether so many row groups, which have `rows` together, are small, and more than one.
    pub(super) fn is_for(&self, row_groups: usize, rows: u64) -> bool {
        row_groups > 1 && rows.saturating_mul(self.columns) <= MOST_VALUES.saturating_mul(row_groups as u64)
    }

    /// The rows of `row_groups` of `file` that match. `None` if that is left to the decoder: its columns are out of the
    /// ordinary, or have Bloom filters.
    ///
    /// # Errors
    /// If a row cannot be read, or the filter fails for it: the decoder might do neither.
    pub(super) async fn find(
        &self,
        file: &PartitionedFile,
        row_groups: &[usize],
    ) -> Result<Option<FoundFirst>> {
        let run = RowGroupRun { file: file.clone(), row_groups: row_groups.to_vec(), matches: None };
        let Some(mut rows) = OpenRun::open(&self.runs, &run).await? else { return Ok(None) };
        let decoding = &Arc::clone(rows.file()).decoding;
        let footer = decoding.footer();
        if decoding.columns().iter().any(|&column| has_bloom_filter(footer, row_groups, column)) {
            return Ok(None);
        }
        let mut matches = BooleanBufferBuilder::new(0);
        while let Some(rows) = rows.next().await? {
            // Nothing else waits here where the bytes are in memory.
            tokio::task::consume_budget().await;
            match self.filter.matches(&rows)? {
                Some(of_rows) => matches.append_buffer(of_rows.values()),
                None => matches.append_n(rows.num_rows(), true),
            }
        }
        let matches = matches.finish();
        let mut at = 0;
        let mut of_groups = Vec::with_capacity(row_groups.len());
        for &index in row_groups {
            let length = usize::try_from(footer.row_group(index).num_rows()).unwrap_or(usize::MAX);
            if length > matches.len() - at {
                return internal_err!("row groups have fewer rows than their footer says");
            }
            of_groups.push((index, matches.slice(at, length)));
            at += length;
        }
        if at < matches.len() {
            return internal_err!("row groups have more rows than their footer says");
        }
        self.runs.metrics.first.add(row_groups.len());
        let matched = matches.count_set_bits();
        rows.file().note_filtered(matches.len(), matched);
        let run = RowGroupRun::of_matches(file, footer, of_groups.into_iter());
        Ok(Some(FoundFirst { run, matched: matched as u64 }))
    }
}

fn has_bloom_filter(footer: &ParquetMetaData, row_groups: &[usize], column: usize) -> bool {
    row_groups.iter().any(|&group| footer.row_group(group).column(column).bloom_filter_offset().is_some())
}
