//! From kept batches to the leaf of a physical plan.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::config::{ParquetOptions, TableParquetOptions};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, Partitioning};
use datafusion::physical_plan::ExecutionPlan;

use super::partitions::{merged_at_once, planned_groups};
use super::pruning::KeptBatches;
use super::reader::PinnedReaderFactory;
use super::source::{OdpSource, ScanShape};
use crate::dataset::DatasetSnapshot;
use crate::options::OdpOptions;

/// What a scan is to give.
#[derive(Debug)]
pub(crate) struct ScanRequest<'a> {
    pub(crate) kept: KeptBatches,
    pub(crate) projection: Option<&'a Vec<usize>>,
    /// The most rows of each partition.
    pub(crate) limit: Option<usize>,
    /// Orders that every batch is in.
    pub(crate) ordering: Vec<LexOrdering>,
}

/// A scan with one partition per kept batch, in `batch_index` order; of very many batches with fewer, each a run of
/// them.
pub(crate) fn plan_scan(
    state: &dyn Session,
    snapshot: &Arc<DatasetSnapshot>,
    request: ScanRequest<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let KeptBatches { indices, summary } = request.kept;
    let options = OdpOptions::of(state.config_options());
    let target_partitions = state.config().target_partitions();
    // Of columns that nobody reads nobody asks, and to merge what is known of them is most of a count.
    let reads_columns = request.projection.is_none_or(|columns| !columns.is_empty());
    let statistics = match indices.len() == snapshot.num_batches() {
        _ if !reads_columns => Arc::new(snapshot.statistics_of_rows(&indices)),
        true => snapshot.statistics(),
        false => Arc::new(snapshot.statistics_at(&indices)?),
    };
    let at_once = runs_at_once(snapshot, &indices, target_partitions);
    let partition_limit = options.partition_limit(at_once);
    let ordering = provable_orders(snapshot, &indices, request.ordering, partition_limit)?;
    let groups = planned_groups(snapshot, &indices, partition_limit, reads_columns);
    let partitions = groups.len();
    let readers = readers(state, snapshot)?;
    let unprojected = parquet_source(state, snapshot, &options, readers.clone());
    let source = OdpSource::new(
        Arc::new(unprojected.clone()),
        ScanShape {
            unprojected,
            snapshot: Arc::clone(snapshot),
            kept: indices,
            partitions,
            summary,
            readers,
            partition_limit,
            has_default_partitions: options.max_partitions.is_none(),
            open_batch_limit: options.open_batch_limit(at_once),
            open_for_sink: options.open_batch_limit(runs_for_sink(snapshot, at_once)),
            pushdown_filters: options.pushdown_filters || parquet_config(state).pushdown_filters,
            pruning: options.pruning,
            finite_coordinates: options.finite_coordinates,
        },
    );
    let config: FileScanConfig =
        FileScanConfigBuilder::new(snapshot.object_store_url().clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics.as_ref().clone())
            .with_projection_indices(request.projection.cloned())?
            .with_limit(request.limit)
            .with_output_ordering(ordering)
            // Keeps partition i to batch i even before the optimizer has seen the plan.
            .with_preserve_order(true)
            // Declared, it would stay so: DataFusion could not ask for fewer partitions.
            .with_output_partitioning(
                partition_limit.is_none().then_some(Partitioning::UnknownPartitioning(partitions)),
            )
            .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// Bytes of batches that are worth having under way from an object store: a tenth of a second of 600 MB/s.
const BYTES_UNDER_WAY: u64 = 64 << 20;

/// Runs of batches that are worth reading at the same time: twice the partitions of the session, and up to four times
/// as many again where each request waits for an object store.
fn runs_at_once(snapshot: &DatasetSnapshot, kept: &[usize], target_partitions: usize) -> usize {
    let least = 2 * target_partitions;
    if is_local(snapshot) || kept.is_empty() {
        return least;
    }
    let bytes: u64 = kept.iter().map(|&i| snapshot.batches()[i].compressed_bytes).sum();
    let batches = BYTES_UNDER_WAY.saturating_mul(kept.len() as u64) / bytes.max(1);
    usize::try_from(batches).unwrap_or(usize::MAX).clamp(least, 4 * least)
}

/// As many of these as are worth having open where rows are written: while local files are read, processors encode. Twice
/// as many took 7 to 29 MB more on two processors, and no less time, whether or not the files were in the page cache.
fn runs_for_sink(snapshot: &DatasetSnapshot, at_once: usize) -> usize {
    if is_local(snapshot) { at_once / 2 } else { at_once }
}

fn is_local(snapshot: &DatasetSnapshot) -> bool {
    snapshot.object_store_url().as_str().starts_with("file:")
}

fn readers(state: &dyn Session, snapshot: &Arc<DatasetSnapshot>) -> Result<PinnedReaderFactory> {
    let runtime = state.runtime_env();
    let url = snapshot.object_store_url();
    let cache = runtime.cache_manager.get_file_metadata_cache();
    Ok(PinnedReaderFactory::new(runtime.object_store(url)?, cache, is_local(snapshot), Arc::clone(snapshot)))
}

fn parquet_source(
    state: &dyn Session,
    snapshot: &DatasetSnapshot,
    options: &OdpOptions,
    readers: PinnedReaderFactory,
) -> ParquetSource {
    let mut parquet = TableParquetOptions { global: parquet_config(state).clone(), ..Default::default() };
    parquet.global.pruning &= options.pruning;
    parquet.global.enable_page_index &= options.pruning;
    parquet.global.bloom_filter_on_read &= options.pruning;
    // Decided for each filter when it is pushed down.
    parquet.global.pushdown_filters = false;
    ParquetSource::new(snapshot.table_schema().clone())
        .with_table_parquet_options(parquet)
        .with_parquet_file_reader_factory(Arc::new(readers))
}

fn parquet_config(state: &dyn Session) -> &ParquetOptions {
    &state.config_options().execution.parquet
}

/// The orders that survive the merging of batches into partitions.
///
/// Each batch is in order; a run of batches is, if each is proven to come before the next. Where that is not proven,
/// batches stay apart (see [`OdpSource`]) and a merge orders them; with more than a few partitions to merge, the
/// order is given up instead.
fn provable_orders(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    orders: Vec<LexOrdering>,
    partition_limit: Option<usize>,
) -> Result<Vec<LexOrdering>> {
    let may_merge = merged_at_once(kept.len(), partition_limit).is_some()
        || partition_limit.is_some_and(|limit| kept.len() > limit.saturating_mul(MERGED_PER_PARTITION));
    if !may_merge {
        return Ok(orders);
    }
    let mut proven = Vec::with_capacity(orders.len());
    for order in orders {
        if batches_follow(snapshot, kept, &order)? {
            proven.push(order);
        }
    }
    Ok(proven)
}

/// Partitions that are merged by their order rather than sorted, for each that the session asks for.
const MERGED_PER_PARTITION: usize = 4;

/// Whether each of the batches at `kept` comes before the next in `order`.
pub(crate) fn batches_follow(
    snapshot: &DatasetSnapshot,
    kept: &[usize],
    order: &LexOrdering,
) -> Result<bool> {
    let first = order.first();
    match first.expr.downcast_ref::<Column>() {
        // A tie leaves the order of the rows to the other columns, which are not looked at.
        Some(column) => {
            snapshot.bounds().follow(column.index(), kept, first.options.descending, order.len() > 1)
        }
        None => Ok(false),
    }
}
