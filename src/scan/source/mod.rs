//! The file source of a scan: DataFusion's Parquet source, with batches for partitions.

mod opening;

use std::collections::HashSet;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, not_impl_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::ObjectStore;
use datafusion::physical_expr::expressions::DynamicFilterTracking;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr, conjunction,
    conjunction_opt, split_conjunction,
};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::Morselizer;

use self::opening::{DEFAULT_BATCH_SIZE, RankedGate};
use super::certainty::proven_batches;
use super::filter_placement::after_decoding;
use super::metrics::PruningSummary;
use super::nan_safety::hide_unsafe;
use super::partitions::{Shares, merged_groups, short_runs};
use super::plan::batches_follow;
use super::reader::PinnedReaderFactory;
use super::spatial::TestColumns;
use crate::dataset::DatasetSnapshot;
use crate::geo::SpatialConjunct;

/// Reads kept batches of a snapshot through DataFusion's Parquet source.
///
/// What it adds: partitions are runs of contiguous batches that siblings never take from each other, a gate bounds
/// how many are open, spatial filters prune by their box, and no float bound prunes NaN away.
#[derive(Clone)]
pub(crate) struct OdpSource {
    inner: Arc<dyn FileSource>,
    scan: Arc<ScanShape>,
    spatial: SpatialFilters,
    /// The reader takes row groups in the order that a sort wants, not in that of the files.
    is_sorted: bool,
    batch_size: Option<usize>,
    /// Whoever reads rows may keep them while it reads others.
    are_rows_kept: bool,
    /// Made by the first partition that opens; new with each change of the plan.
    gate: Arc<OnceLock<RankedGate>>,
}

/// What stays the same however the optimizer rewrites the scan.
#[derive(Debug)]
pub(crate) struct ScanShape {
    /// Reads all columns.
    pub(crate) unprojected: ParquetSource,
    pub(crate) snapshot: Arc<DatasetSnapshot>,
    /// Ascending batch indices.
    pub(crate) kept: Vec<usize>,
    /// The partitions of the scan as planned: one for each batch, if those are not very many.
    pub(crate) partitions: usize,
    pub(crate) summary: PruningSummary,
    pub(crate) readers: PinnedReaderFactory,
    /// Merge to this many partitions; `None` = never.
    pub(crate) partition_limit: Option<usize>,
    /// Nobody has set how many partitions there are to be.
    pub(crate) has_default_partitions: bool,
    pub(crate) open_batch_limit: usize,
    /// The same, where the rows are written.
    pub(crate) open_for_sink: usize,
    /// Filters may be evaluated inside the decoder.
    pub(crate) pushdown_filters: bool,
    /// Bounds and extents exclude rows.
    pub(crate) pruning: bool,
    /// Coordinates hold no NaN, and geometries are neither empty nor malformed.
    pub(crate) finite_coordinates: bool,
}

impl ScanShape {
    /// Partitions to run at a time where rows leave in order, or are `written` so.
    pub(super) fn window(&self, written: bool) -> usize {
        if written { self.open_for_sink } else { self.open_batch_limit }
    }
}

/// The batches that a [`PartitionedFile`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRun(pub(crate) Range<usize>);

/// Filters with spatial predicates, in front of the inner source.
#[derive(Debug, Clone, Default)]
struct SpatialFilters {
    conjuncts: Vec<SpatialConjunct>,
    /// To evaluate them for every row; `None`: they only prune, and are evaluated elsewhere.
    columns: Option<Arc<TestColumns>>,
}

impl SpatialFilters {
    /// The filters that nobody else evaluates.
    fn tested(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.conjuncts.iter().filter(|_| self.columns.is_some()).map(|conjunct| &conjunct.expr)
    }
}

impl OdpSource {
    pub(crate) fn new(inner: Arc<dyn FileSource>, scan: ScanShape) -> Self {
        let spatial = SpatialFilters::default();
        Self {
            inner,
            scan: Arc::new(scan),
            spatial,
            is_sorted: false,
            batch_size: None,
            are_rows_kept: true,
            gate: Arc::default(),
        }
    }

    pub(crate) fn scan(&self) -> &ScanShape {
        &self.scan
    }

    /// This source over one that reads in the order of a sort.
    fn sorted(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, is_sorted: true, gate: Arc::default(), ..self.clone() })
    }

    /// This source for one who is done with a record batch before asking for the next.
    pub(super) fn without_kept_rows(&self) -> Arc<dyn FileSource> {
        Arc::new(Self { are_rows_kept: false, gate: Arc::default(), ..self.clone() })
    }

    /// This source over a rewritten inner one.
    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, gate: Arc::default(), ..self.clone() })
    }

    /// Evaluating a filter inside the decoder saves decoding other columns for rows that do not match; where the
    /// scan gives no other columns it only costs. The filter then prunes, and a FilterExec above evaluates it.
    fn with_row_filter_where_it_pays(&self, filters: &[Arc<dyn PhysicalExpr>]) -> Arc<dyn FileSource> {
        let Some(parquet) = self.inner.downcast_ref::<ParquetSource>() else {
            return Arc::clone(&self.inner);
        };
        let pushed = parquet.filter();
        let filtered: HashSet<usize> =
            filters.iter().chain(&pushed).flat_map(collect_columns).map(|c| c.index()).collect();
        let file_columns = self.inner.table_schema().file_schema().fields().len();
        let saves_columns = self.inner.projection().is_none_or(|projection| {
            let given = projection.iter().flat_map(|given| collect_columns(&given.expr));
            given.map(|column| column.index()).any(|i| i < file_columns && !filtered.contains(&i))
        });
        // Once the decoder evaluates a filter, nobody else does: it stays so.
        let was_on = parquet.table_parquet_options().global.pushdown_filters;
        match self.scan.pushdown_filters && saves_columns && !was_on {
            true => Arc::new(parquet.clone().with_pushdown_filters(true)),
            false => Arc::clone(&self.inner),
        }
    }

    /// This source without the filter that it prunes by, but does not evaluate: it will evaluate those that it is given. `None` if
    /// there is no such filter, or it grows while the query runs.
    pub(super) fn to_evaluate_filters(&self) -> Result<Option<Self>> {
        let parquet = self.inner.downcast_ref::<ParquetSource>();
        let only_prunes = |parquet: &&ParquetSource| {
            let is_fixed = |filter| !DynamicFilterTracking::classify(&filter).contains_dynamic_filter();
            !parquet.table_parquet_options().global.pushdown_filters && parquet.filter().is_some_and(is_fixed)
        };
        if parquet.filter(only_prunes).is_none()
            || !self.scan.pushdown_filters
            || self.is_sorted
            || !self.spatial.conjuncts.is_empty()
        {
            return Ok(None);
        }
        let evaluates = self.scan.unprojected.clone().with_pushdown_filters(true);
        let inner = match self.inner.projection() {
            Some(projection) => evaluates.try_pushdown_projection(projection)?,
            None => Some(Arc::new(evaluates) as _),
        };
        Ok(inner.map(|inner| Self { inner, gate: Arc::default(), ..self.clone() }))
    }

    /// The whole batches of which all rows match the filter, by bounds, ascending; `None` without a filter, or if it is of no kind
    /// that bounds can prove.
    ///
    /// # Errors
    /// If bounds do not fit the snapshot's schema.
    fn proven(&self) -> Result<Option<Arc<[usize]>>> {
        let ScanShape { snapshot, kept, .. } = self.scan.as_ref();
        let Some(filter) = self.inner.filter().filter(|_| self.scan.pruning) else { return Ok(None) };
        let Some(proven) = proven_batches(snapshot, &filter, kept)? else { return Ok(None) };
        let proven = kept.iter().enumerate().filter(|&(at, _)| proven.value(at)).map(|(_, &batch)| batch);
        Ok(Some(proven.filter(|&batch| snapshot.batches()[batch].is_whole).collect()))
    }

    /// Whether half of the rows, or more, match the filter by the bounds of their batches, and it need not be evaluated for them.
    ///
    /// # Errors
    /// If bounds do not fit the snapshot's schema.
    pub(super) fn is_mostly_proven(&self) -> Result<bool> {
        let ScanShape { snapshot, kept, unprojected, .. } = self.scan.as_ref();
        let Some(source) = self.inner.downcast_ref::<ParquetSource>() else { return Ok(false) };
        let Some(proven) = self.proven()? else { return Ok(false) };
        if after_decoding(source, unprojected, DEFAULT_BATCH_SIZE)?.is_none() {
            return Ok(false);
        }
        let rows = |batches: &[usize]| {
            batches.iter().map(|&batch| snapshot.batches()[batch].rows).fold(0, u64::saturating_add)
        };
        Ok(!proven.is_empty() && rows(&proven).saturating_mul(2) >= rows(kept))
    }

    /// Whether rows leave as they are in their batches, whole row groups of local files.
    pub(super) fn reads_whole_batches(&self) -> bool {
        self.filter().is_none()
            && self.spatial.conjuncts.is_empty()
            && !self.is_sorted
            && self.scan.readers.is_local()
            && self.table_schema().virtual_columns().is_empty()
            && self.scan.kept.iter().all(|&batch| self.scan.snapshot.batches()[batch].is_whole)
    }

    /// Whether the batches may be put into other partitions.
    pub(super) fn may_regroup(&self) -> bool {
        !self.is_sorted && self.scan.pruning && self.scan.partition_limit.is_some()
    }

    /// `groups`, which are those of this scan, as more and shorter runs of batches; `None` if there are none, or rows
    /// are not to leave in the order of batches.
    pub(super) fn short_runs(&self, groups: &[FileGroup]) -> Option<Vec<FileGroup>> {
        if self.is_sorted || !self.scan.has_default_partitions {
            return None;
        }
        short_runs(&self.scan.snapshot, &self.scan.kept, groups)
    }
}

/// `source` with the filters that grow while the query runs (TopK, hash joins) before all others: they soon let few
/// rows through, and the columns of later filters are decoded for those rows only.
fn dynamic_filters_first(source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
    let Some(parquet) = source.downcast_ref::<ParquetSource>() else { return source };
    let Some(predicate) = parquet.filter() else { return source };
    let is_dynamic = |conjunct: &&Arc<dyn PhysicalExpr>| {
        DynamicFilterTracking::classify(conjunct).contains_dynamic_filter()
    };
    let (dynamic, fixed): (Vec<_>, Vec<_>) = split_conjunction(&predicate).into_iter().partition(is_dynamic);
    if dynamic.is_empty() {
        return source;
    }
    let reordered = conjunction(dynamic.into_iter().chain(fixed).cloned());
    Arc::new(parquet.with_predicate(reordered))
}

impl Debug for OdpSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OdpSource").field("summary", &self.scan.summary).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl FileSource for OdpSource {
    fn create_file_opener(
        &self,
        _object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        not_impl_err!("ODP batches are read through create_morselizer")
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        self.open_partition(&object_store, base_config, partition)
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        // Called when a partition opens: the gate stays.
        let inner = self.inner.with_batch_size(batch_size);
        Arc::new(Self { inner, batch_size: Some(batch_size), ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        let all = self.inner.filter().into_iter().chain(self.spatial.tested().cloned());
        conjunction_opt(all)
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        "odp"
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, ", {}, open_batch_limit={}", self.scan.summary, self.scan.open_batch_limit)?;
                let tested: Vec<String> = self.spatial.tested().map(ToString::to_string).collect();
                if !tested.is_empty() {
                    write!(f, ", area_filter={}", tested.join(" AND "))?;
                }
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "{}", self.scan.summary)?;
            }
        }
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        true
    }

    /// Merges contiguous batches down to the partition limit, in order, and freezes the result: the declared
    /// output partitioning keeps siblings from taking each other's files.
    fn repartitioned(
        &self,
        _target_partitions: usize,
        _repartition_file_min_size: usize,
        _output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        let kept = &self.scan.kept;
        let mut is_mergeable = config.file_groups.len() == self.scan.partitions;
        // An order holds within each batch; within a run of them only if they are proven to follow each other.
        for order in &config.output_ordering {
            is_mergeable = is_mergeable && batches_follow(&self.scan.snapshot, kept, order)?;
        }
        let groups: Vec<FileGroup> = match self.scan.partition_limit {
            Some(limit) if kept.len() > limit && is_mergeable => {
                // Where all are open at a time, they end together if they are alike.
                let shares = match self.scan.has_default_partitions && limit > self.scan.open_batch_limit {
                    true => Shares::Tapered,
                    false => Shares::Equal,
                };
                // Twice as many are open as there are processors.
                let least = self.scan.open_batch_limit.div_ceil(2);
                merged_groups(&self.scan.snapshot, kept, limit, least, shares)
            }
            _ => config.file_groups.clone(),
        };
        // Not a clone of the whole: that would copy every group only to drop it.
        let partitions = groups.len();
        let merged =
            FileScanConfigBuilder::new(config.object_store_url.clone(), Arc::clone(&config.file_source))
                .with_file_groups(groups)
                .with_constraints(config.constraints.clone())
                .with_limit(config.limit)
                .with_preserve_order(config.preserve_order)
                .with_output_ordering(config.output_ordering.clone())
                .with_file_compression_type(config.file_compression_type)
                .with_batch_size(config.batch_size)
                .with_expr_adapter(config.expr_adapter_factory.clone())
                .with_statistics(config.statistics())
                .with_output_partitioning(Some(Partitioning::UnknownPartitioning(partitions)))
                .build();
        Ok(Some(merged))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let schema = self.table_schema().table_schema();
        let mut spatial = self.spatial.clone();
        let mut pushed = Vec::with_capacity(filters.len());
        let mut others = vec![];
        for filter in filters {
            let conjunct = SpatialConjunct::try_from_physical(&filter, schema);
            if let Some(conjunct) = conjunct.filter(|_| self.scan.pruning || self.scan.pushdown_filters) {
                spatial.conjuncts.push(conjunct);
                if self.scan.pushdown_filters {
                    pushed.push(Some(PushedDown::Yes));
                    continue;
                }
            }
            pushed.push(None);
            others.push(filter);
        }
        let takes_more = spatial.conjuncts.len() > self.spatial.conjuncts.len();
        if takes_more && self.scan.pushdown_filters {
            spatial.columns = Some(Arc::new(TestColumns::try_new(&spatial.conjuncts, schema)?));
        }
        // What is safe to prune by depends on all conjuncts together, those pushed earlier included. Each filter
        // stays one expression: the reader's answer is then one per filter.
        let lengths: Vec<usize> = others.iter().map(|filter| split_conjunction(filter).len()).collect();
        let earlier: Vec<_> = self.inner.filter().into_iter().collect();
        let earlier_len = earlier.iter().map(|e| split_conjunction(e).len()).sum();
        let all: Vec<_> = earlier.into_iter().chain(others.iter().cloned()).collect();
        let mut safe = hide_unsafe(&all, schema).into_iter().skip(earlier_len);
        let rewritten: Vec<_> = lengths
            .into_iter()
            .map(|length| conjunction(safe.by_ref().take(length).collect::<Vec<_>>()))
            .collect();
        let inner = match rewritten.is_empty() {
            true => FilterPushdownPropagation::with_parent_pushdown_result(vec![])
                .with_updated_node(Arc::clone(&self.inner)),
            false => self.with_row_filter_where_it_pays(&others).try_pushdown_filters(rewritten, config)?,
        };
        let mut of_others = inner.filters.into_iter();
        let filters = pushed
            .into_iter()
            .map(|known| known.or_else(|| of_others.next()).unwrap_or(PushedDown::No))
            .collect();
        let source = inner.updated_node.map(dynamic_filters_first);
        let updated_node = match (source, takes_more) {
            (None, false) => None,
            (source, _) => {
                let inner = source.unwrap_or_else(|| Arc::clone(&self.inner));
                Some(Arc::new(Self { inner, spatial, gate: Arc::default(), ..self.clone() }) as _)
            }
        };
        Ok(FilterPushdownPropagation { filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.inner.try_pushdown_sort(order, eq_properties)? {
            SortOrderPushdownResult::Exact { inner } => {
                SortOrderPushdownResult::Exact { inner: self.sorted(inner) }
            }
            SortOrderPushdownResult::Inexact { inner } => {
                SortOrderPushdownResult::Inexact { inner: self.sorted(inner) }
            }
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn try_reverse_output(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        self.try_pushdown_sort(order, eq_properties)
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.around(inner)))
    }

    #[expect(deprecated, reason = "every method of the trait is passed on")]
    fn with_schema_adapter_factory(
        &self,
        factory: Arc<dyn datafusion::datasource::schema_adapter::SchemaAdapterFactory>,
    ) -> Result<Arc<dyn FileSource>> {
        Ok(self.around(self.inner.with_schema_adapter_factory(factory)?))
    }

    #[expect(deprecated, reason = "every method of the trait is passed on")]
    fn schema_adapter_factory(
        &self,
    ) -> Option<Arc<dyn datafusion::datasource::schema_adapter::SchemaAdapterFactory>> {
        self.inner.schema_adapter_factory()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut visited = self.inner.apply_expressions(f)?;
        for expr in self.spatial.tested() {
            if visited == TreeNodeRecursion::Stop {
                break;
            }
            visited = f(expr)?;
        }
        Ok(visited)
    }
}
