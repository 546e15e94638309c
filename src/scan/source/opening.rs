//! How the partitions of a scan are opened: by DataFusion's Parquet source, by decoders of this crate, or by both.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use datafusion::common::Result;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::object_store::ObjectStore;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::DefaultPhysicalExprAdapterFactory;
use datafusion_datasource::morsel::Morselizer;

use super::{OdpSource, SpatialFilters};
use crate::scan::admission::Gate;
use crate::scan::by_pages::{Found, MOST_CHUNKS, PageScan};
use crate::scan::file_decoding::Wanted;
use crate::scan::filter_first::FilterFirst;
use crate::scan::filter_placement::{FilterPlacement, after_decoding};
use crate::scan::metrics::{ScanMetrics, SpatialMetrics};
use crate::scan::morsels::{FilteredScan, GatedMorselizer};
use crate::scan::placed_run::{PlacedScan, WithoutFilter};
use crate::scan::reader::PinnedReaderFactory;
use crate::scan::round_trips::{ColumnTrips, RoundTrips};
use crate::scan::run_decoder::{KnownFiles, Purpose, RunMorselizer, RunScan};
use crate::scan::spatial::SpatialScan;

/// Rows of a record batch where nobody asks for a number.
pub(super) const DEFAULT_BATCH_SIZE: usize = 8192;

/// Batches that run at a time, at most, for their columns to be decoded apart.
const MOST_AT_A_TIME: usize = 64;

/// Bytes of a row group on average, decompressed, of which pages are not worth to be known.
const FEW_BYTES: u64 = 256 << 10;

/// What the partitions of a scan share.
pub(super) struct RankedGate {
    gate: Arc<Gate>,
    /// For each partition the ranks of its runs, in their order; empty = first come, first served.
    ranks: Vec<Arc<[usize]>>,
    metrics: ScanMetrics,
    spatial: SpatialMetrics,
    placement: Arc<FilterPlacement>,
    trips: Arc<RoundTrips>,
    /// With the columns of the scan, with those of its filter too, and with those alone.
    files: Arc<KnownFiles>,
    files_to_filter: Arc<KnownFiles>,
    files_to_filter_first: Arc<KnownFiles>,
    without_filter: OnceLock<Option<WithoutFilter>>,
    /// Whether there is a filter that looks at pages.
    knows_pages: bool,
}

impl OdpSource {
    /// What reads the runs of a partition.
    ///
    /// # Errors
    /// If filters do not fit the table.
    pub(super) fn open_partition(
        &self,
        object_store: &Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let ranked = self.ranked_gate(base_config);
        // Keeping the order keeps the reader from giving a limit the rows of "fully matched" row groups, which it
        // finds by bounds that say nothing of NaN. Without the file groups, of which it reads none here: each of
        // many partitions would copy those of all.
        let open = |source: Arc<dyn FileSource>| {
            let config =
                FileScanConfigBuilder::new(base_config.object_store_url.clone(), Arc::clone(&source))
                    .with_limit(base_config.limit)
                    .with_preserve_order(true)
                    .with_expr_adapter(base_config.expr_adapter_factory.clone())
                    .build();
            source.create_morselizer(Arc::clone(object_store), &config, partition)
        };
        let mut readers = self.readers(ranked).counting(&ranked.metrics);
        if let Some(columns) = self.columns_in_turn() {
            let (trips, saved) = (Arc::clone(&ranked.trips), ranked.metrics.requests_saved.clone());
            readers = readers.saving(ColumnTrips { trips, columns: Arc::new(columns), saved });
        }
        let run_scan = |source: &dyn FileSource, purpose| {
            self.run_scan(source, readers.clone(), purpose, base_config, partition)
        };
        let is_filtered = self.inner.filter().is_some();
        let unfiltered = match is_filtered {
            true => None,
            false => run_scan(self.inner.as_ref(), Purpose::Unfiltered),
        };
        let spatial = self.spatial_scan(readers.clone(), &ranked.spatial, unfiltered.clone(), partition);
        let filtered = match spatial {
            Some(spatial) => Some(FilteredScan::Spatial(spatial)),
            // The decoder counts rows to a limit after its own filter alone.
            None if base_config.limit.is_some() || !is_filtered => None,
            None => {
                let unfiltered = run_scan(self.inner.as_ref(), Purpose::Unfiltered);
                let to_filter = |source: &dyn FileSource| run_scan(source, Purpose::ToFilter);
                let placed =
                    self.placed_scan(readers.clone(), ranked, unfiltered, base_config, open, to_filter)?;
                placed.map(FilteredScan::Placed)
            }
        };
        let mut inner = Arc::from(open(self.with_readers(readers, ranked))?);
        if filtered.is_none() {
            inner = RunMorselizer::over(unfiltered, inner);
        }
        let ranks = ranked.ranks.get(partition).cloned().unwrap_or_default();
        let (gate, opened) = (Arc::clone(&ranked.gate), ranked.metrics.batches_opened.clone());
        let batch_size = self.batch_size.unwrap_or(DEFAULT_BATCH_SIZE);
        let rows_at_once = base_config.limit.map_or(batch_size, |limit| limit.min(batch_size));
        Ok(Box::new(GatedMorselizer::new(inner, filtered, rows_at_once, gate, ranks, opened)))
    }

    /// The readers to open; with page indexes if there is a filter to prune pages by.
    fn readers(&self, ranked: &RankedGate) -> PinnedReaderFactory {
        let readers = self.scan.readers.clone();
        if ranked.knows_pages { readers.with_page_index() } else { readers }
    }

    /// Whether there is a filter to prune pages by. Pages of very many small row groups take longer to be known than they save.
    fn knows_pages(&self) -> bool {
        let Some(parquet) = self.inner.downcast_ref::<ParquetSource>() else { return false };
        let is_spatial = !self.spatial.conjuncts.is_empty();
        let is_filtered = is_spatial || parquet.filter().is_some();
        if !is_filtered || !parquet.table_parquet_options().global.enable_page_index {
            return false;
        }
        if is_spatial {
            return true;
        }
        let snapshot = &self.scan.snapshot;
        let mut batches = self.scan.kept.iter().map(|&batch| &snapshot.batches()[batch]).peekable();
        let (mut row_groups, mut are_small) = (0_usize, true);
        while let Some(batch) = batches.next() {
            if batches.peek().is_none_or(|next| next.file_index != batch.file_index) {
                let of_file = &snapshot.file_of(batch).row_groups;
                row_groups += of_file.len();
                let bytes = of_file.iter().map(|group| group.uncompressed_bytes).fold(0, u64::saturating_add);
                are_small = are_small && bytes <= FEW_BYTES.saturating_mul(of_file.len() as u64);
            }
        }
        let columns = self.inner.table_schema().file_schema().fields().len();
        let are_many = row_groups.saturating_mul(columns) > MOST_CHUNKS;
        !(are_many && are_small)
    }

    /// The columns that the decoder asks for, where it asks for those of a filter first.
    fn columns_in_turn(&self) -> Option<BTreeSet<String>> {
        let source = self.inner.downcast_ref::<ParquetSource>()?;
        let filter = source.filter().filter(|_| source.table_parquet_options().global.pushdown_filters)?;
        let given = source.projection()?.iter().flat_map(|given| collect_columns(&given.expr));
        Some(given.chain(collect_columns(&filter)).map(|column| column.name().to_owned()).collect())
    }

    /// The Parquet source to open.
    fn with_readers(&self, readers: PinnedReaderFactory, ranked: &RankedGate) -> Arc<dyn FileSource> {
        match self.inner.downcast_ref::<ParquetSource>() {
            Some(parquet) => Arc::new(reading_with(readers, parquet, ranked)),
            None => Arc::clone(&self.inner),
        }
    }

    /// The spatial filters of one partition; `None` without any.
    fn spatial_scan(
        &self,
        readers: PinnedReaderFactory,
        metrics: &SpatialMetrics,
        runs: Option<Arc<RunScan>>,
        partition: usize,
    ) -> Option<Arc<SpatialScan>> {
        let SpatialFilters { conjuncts, columns } = &self.spatial;
        if conjuncts.is_empty() {
            return None;
        }
        Some(Arc::new(SpatialScan {
            conjuncts: conjuncts.as_slice().into(),
            columns: columns.clone(),
            snapshot: Arc::clone(&self.scan.snapshot),
            others: self.inner.filter(),
            readers,
            runs,
            metrics: metrics.clone(),
            execution_metrics: self.inner.metrics().clone(),
            partition,
            batch_size: self.batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
            is_finite: self.scan.finite_coordinates,
            prunes: self.scan.pruning,
        }))
    }

    /// The other way to read a partition behind a filter; `None` if the decoder evaluates it in any case.
    fn placed_scan(
        &self,
        readers: PinnedReaderFactory,
        ranked: &RankedGate,
        runs: Option<Arc<RunScan>>,
        config: &FileScanConfig,
        open: impl Fn(Arc<dyn FileSource>) -> Result<Box<dyn Morselizer>>,
        to_filter: impl FnOnce(&dyn FileSource) -> Option<Arc<RunScan>>,
    ) -> Result<Option<Arc<PlacedScan>>> {
        let Some(source) = self.inner.downcast_ref::<ParquetSource>().filter(|_| !self.is_sorted) else {
            return Ok(None);
        };
        let unprojected = reading_with(readers.clone(), &self.scan.unprojected, ranked);
        let batch_size = self.batch_size.unwrap_or(DEFAULT_BATCH_SIZE);
        let Some((decoded, filter)) = after_decoding(source, &unprojected, batch_size)? else {
            return Ok(None);
        };
        let without_filter = match ranked.without_filter.get() {
            Some(known) => known.clone(),
            None => {
                let found = self.without_filter(source, &unprojected, readers, (ranked, config), &open)?;
                ranked.without_filter.get_or_init(|| found).clone()
            }
        };
        let to_filter = to_filter(decoded.as_ref());
        let first = match &to_filter {
            Some(runs) => FilterFirst::try_new(&filter, runs, Arc::clone(&ranked.files_to_filter_first))?,
            None => None,
        };
        Ok(Some(Arc::new(PlacedScan {
            placement: Arc::clone(&ranked.placement),
            snapshot: Arc::clone(&self.scan.snapshot),
            unfiltered: RunMorselizer::over(to_filter.clone(), Arc::from(open(decoded)?)),
            filter: Arc::new(filter),
            runs: to_filter,
            first,
            without_filter: without_filter.map(|without_filter| WithoutFilter { runs, ..without_filter }),
            metrics: ranked.metrics.placement.clone(),
        })))
    }

    /// What all partitions read rows with that the filter need not be evaluated for.
    fn without_filter(
        &self,
        source: &ParquetSource,
        unprojected: &ParquetSource,
        readers: PinnedReaderFactory,
        (ranked, config): (&RankedGate, &FileScanConfig),
        open: impl FnOnce(Arc<dyn FileSource>) -> Result<Box<dyn Morselizer>>,
    ) -> Result<Option<WithoutFilter>> {
        let (Some(predicate), Some(given)) = (source.filter(), source.projection()) else { return Ok(None) };
        let proven = self.proven()?;
        let batch_size = self.batch_size.unwrap_or(DEFAULT_BATCH_SIZE);
        let given = unprojected.with_batch_size(batch_size).try_pushdown_projection(given)?;
        let Some(given) = given else { return Ok(None) };
        // Where each read takes its time there would be more of them.
        let looks_at_pages = proven.is_some() && readers.is_local() && ranked.knows_pages;
        let adapter = config.expr_adapter_factory.clone();
        let pages = looks_at_pages.then(|| {
            Arc::new(PageScan {
                predicate,
                table: source.table_schema().clone(),
                adapter: adapter.unwrap_or_else(|| Arc::new(DefaultPhysicalExprAdapterFactory)),
                readers,
                batch_size,
                execution_metrics: self.inner.metrics().clone(),
                metrics: ranked.metrics.pages.clone(),
                found: Found::default(),
            })
        });
        let unfiltered = Arc::from(open(given)?);
        let proven = proven.unwrap_or_default();
        Ok(Some(WithoutFilter { proven, pages, runs: None, unfiltered, batch_size }))
    }

    /// What reads whole row groups of `source`, which filters no rows, without DataFusion's opener; `None` if it has more to
    /// do than to decode them.
    fn run_scan(
        &self,
        source: &dyn FileSource,
        readers: PinnedReaderFactory,
        purpose: Purpose,
        config: &FileScanConfig,
        partition: usize,
    ) -> Option<Arc<RunScan>> {
        // A limit is known to the decoder, which then decodes no more.
        if !readers.is_local()
            || self.is_sorted
            || config.limit.is_some()
            || !source.table_schema().virtual_columns().is_empty()
        {
            return None;
        }
        let ranked = self.ranked_gate(config);
        let adapter = config.expr_adapter_factory.clone();
        Some(Arc::new(RunScan {
            wanted: Wanted {
                table: source.table_schema().clone(),
                projection: source.projection()?.clone(),
                adapter: adapter.unwrap_or_else(|| Arc::new(DefaultPhysicalExprAdapterFactory)),
                batch_size: self.batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
                counts: ranked.metrics.runs.columns.clone(),
                are_kept: self.are_rows_kept,
            },
            snapshot: Arc::clone(&self.scan.snapshot),
            readers: readers.without_page_index(),
            files: match purpose {
                Purpose::ToFilter => Arc::clone(&ranked.files_to_filter),
                Purpose::Unfiltered => Arc::clone(&ranked.files),
            },
            purpose,
            has_few_batches: (2..=MOST_AT_A_TIME).contains(&self.scan.open_for_sink)
                && self.scan.kept.len() <= self.scan.open_for_sink,
            partition,
            execution_metrics: self.inner.metrics().clone(),
            metrics: ranked.metrics.runs.clone(),
        }))
    }

    fn ranked_gate(&self, config: &FileScanConfig) -> &RankedGate {
        self.gate.get_or_init(|| {
            let metrics = ScanMetrics::register(self.inner.metrics(), &self.scan.summary);
            let limit = self.scan.open_batch_limit;
            let (gate, ranks) = match self.ranks(&config.file_groups) {
                Some(ranks) => (Gate::best_first(limit, config.file_groups.len(), metrics.clone()), ranks),
                None => (Gate::new(limit, metrics.clone()), Vec::new()),
            };
            let spatial = SpatialMetrics::register(self.inner.metrics());
            RankedGate {
                gate: Arc::new(gate),
                ranks,
                metrics,
                spatial,
                placement: Arc::default(),
                trips: Arc::default(),
                files: Arc::default(),
                files_to_filter: Arc::default(),
                files_to_filter_first: Arc::default(),
                without_filter: OnceLock::new(),
                knows_pages: self.knows_pages(),
            }
        })
    }

    /// For each group the ranks of its files in the order that the Parquet source wants to open all of them; `None` if
    /// that is the order they are in.
    fn ranks(&self, groups: &[FileGroup]) -> Option<Vec<Arc<[usize]>>> {
        struct Position(usize);
        let files = groups.iter().flat_map(FileGroup::iter).cloned().enumerate();
        let files: Vec<_> = files.map(|(at, file)| file.with_extension(Position(at))).collect();
        let wanted = self.inner.reorder_files(files);
        let mut ranks = vec![0; wanted.len()];
        for (rank, file) in wanted.iter().enumerate() {
            *ranks.get_mut(file.extension::<Position>()?.0)? = rank;
        }
        if ranks.is_sorted() {
            return None;
        }
        let mut ranks = ranks.into_iter();
        Some(groups.iter().map(|group| ranks.by_ref().take(group.len()).collect()).collect())
    }
}

fn reading_with(readers: PinnedReaderFactory, source: &ParquetSource, ranked: &RankedGate) -> ParquetSource {
    source
        .clone()
        .with_parquet_file_reader_factory(Arc::new(readers))
        .with_enable_page_index(ranked.knows_pages)
}
