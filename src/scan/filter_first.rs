//! Small row groups behind a filter that keeps few rows: the columns of the filter are decoded first, of one row group after
//! the other, and others only of those with a match.
//!
//! The decoder does the same, but DataFusion's opener sets out anew for each row group, which takes as long as decoding
//! some thousand rows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};

use super::file_decoding::Wanted;
use super::filter_placement::LateFilter;
use super::run_decoder::{KnownFiles, OpenRun, RowGroupRun, RunScan};
use crate::dataset::{BatchMetadata, DatasetSnapshot};

/// Bytes of a row group, decompressed, at most; of the columns of its filter; and of all its columns for those that the scan
/// gives to be decoded as a whole where a row matches. With more, what the decoder saves may be more than setting out costs:
/// it evaluates one conjunct after the other, and skips pages.
const MOST_BYTES: u64 = 2 << 20;
const MOST_OF_FILTER: i64 = 256 << 10;
const MOST_TO_DECODE: i64 = 256 << 10;

/// One row group in so many has no match, at most, for matches to be scattered.
const MOST_WITHOUT: usize = 4;

/// Finds out which rows match.
pub(super) struct FilterFirst {
    /// Reads the columns of the filter.
    runs: Arc<RunScan>,
    /// Over these alone.
    filter: LateFilter,
}

/// What was found of some row groups.
pub(super) struct FoundFirst {
    /// The rows that match; `None`: there are none.
    pub(super) run: Option<RowGroupRun>,
    /// How many rows match, if they do in most row groups.
    pub(super) scattered: u64,
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
        let wanted =
            Wanted { projection: ProjectionExprs::new(exprs), are_kept: true, ..to_filter.wanted.clone() };
        Ok(Some(Self {
            runs: Arc::new(to_filter.reading(wanted, files)),
            filter: filter.of_columns(&columns)?,
        }))
    }

    /// Whether `batches` are small row groups, and more than one. Of batches of several row groups DataFusion's opener skips some
    /// by their bounds.
    pub(super) fn is_for(snapshot: &DatasetSnapshot, batches: Range<usize>) -> bool {
        let is_small = |batch: &BatchMetadata| {
            let of_file = &snapshot.file_of(batch).row_groups;
            let mut of_batch = of_file.iter().skip(batch.row_groups.start).take(batch.row_groups.len());
            batch.row_groups.len() == 1 && of_batch.all(|group| group.uncompressed_bytes <= MOST_BYTES)
        };
        // Several parts of a row group are but one.
        batches.len() > 1 && snapshot.batches()[batches].iter().all(|batch| batch.is_whole && is_small(batch))
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
        let Some((known, reader)) = self.runs.open(file).await? else { return Ok(None) };
        let (footer, columns) = (known.decoding.footer(), known.decoding.columns());
        let of_filter =
            |group: usize| columns.iter().map(move |&column| footer.row_group(group).column(column));
        let is_for_the_decoder = |&group: &usize| {
            of_filter(group).any(|column| column.bloom_filter_offset().is_some())
                || of_filter(group).map(|column| column.uncompressed_size()).fold(0, i64::saturating_add)
                    > MOST_OF_FILTER
        };
        if row_groups.iter().any(is_for_the_decoder) {
            return Ok(None);
        }
        let whole = RowGroupRun::whole(file.clone(), row_groups.to_vec());
        let mut rows = OpenRun::of(&self.runs, &whole, Arc::clone(&known), reader);
        let mut matches = BooleanBufferBuilder::new(0);
        while let Some(rows) = rows.next().await? {
            // Nothing else waits here where the bytes are in memory.
            tokio::task::consume_budget().await;
            let _timer = known.filter_time().timer();
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
        let run = RowGroupRun::of_matches(file, footer, of_groups.into_iter());
        let with_match = run.as_ref().map_or(0, |run| run.row_groups.len());
        known.note_filtered(matches.len(), matched, row_groups.len() - with_match);
        let are_scattered = (row_groups.len() - with_match).saturating_mul(MOST_WITHOUT) <= row_groups.len();
        let scattered = if are_scattered { matched as u64 } else { 0 };
        let is_small = |&group: &usize| footer.row_group(group).total_byte_size() <= MOST_TO_DECODE;
        let run = run.map(|run| RowGroupRun { is_small: run.row_groups.iter().all(is_small), ..run });
        Ok(Some(FoundFirst { run, scattered }))
    }
}
