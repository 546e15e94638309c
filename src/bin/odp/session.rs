//! The session that statements run in: limits, catalogs, functions, and a way to see its plans.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::config::{ConfigNonZeroUsize, ConfigOptions};
use datafusion::dataframe::DataFrame;
use datafusion::execution::TaskContext;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{ExplainFormat, LogicalPlan};
use datafusion::object_store::ObjectStore;
use datafusion::prelude::SessionConfig;
use datafusion_cli::catalog::DynamicObjectStoreCatalog;
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::functions::{
    ListFilesCacheFunc, MetadataCacheFunc, ParquetMetadataFunc, StatisticsCacheFunc,
};
use datafusion_cli::object_storage::StdinCarriesCommands;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreRegistry;
use datafusion_cli::pool_type::PoolType;
use datafusion_cli::print_format::PrintFormat;
use datafusion_cli::print_options::PrintOptions;
use datafusion_odp::OdpOptions;
use url::Url;

use crate::args::{Meaning, MemoryLimit};
use crate::progress::{RootRule, Watch};
use crate::table_options::OdpNamespace;

/// A session whose plans are watched at the root.
pub(crate) struct Shell {
    ctx: SessionContext,
    watch: Arc<Watch>,
}

/// Opens the session that `meaning` asks for, and says how its results are printed.
///
/// # Errors
/// A setting from the environment is invalid, or a limit cannot be set up.
pub(crate) async fn open(meaning: &Meaning) -> Result<(Shell, PrintOptions)> {
    let registry = InstrumentedObjectStoreRegistry::new().with_profile_mode(meaning.profiling);
    let registry = Arc::new(registry);
    let runtime = runtime(meaning, Arc::clone(&registry))?;
    let ctx = SessionContext::new_with_config_rt(config(meaning)?, runtime).enable_url_table();
    ctx.refresh_catalogs().await?;
    let catalogs = Arc::clone(ctx.state_ref().read().catalog_list());
    ctx.register_catalog_list(Arc::new(DynamicObjectStoreCatalog::new(catalogs, ctx.state_weak_ref())));
    register_functions(&ctx);
    ctx.register_table_options_extension(OdpNamespace);
    datafusion_odp::register(&ctx)?;

    let watch = Arc::new(Watch::new(meaning.quiet));
    let state = ctx.state();
    let watched = SessionStateBuilder::new_from_existing(state)
        .with_physical_optimizer_rule(Arc::new(RootRule::new(Arc::clone(&watch))))
        .build();
    *ctx.state_ref().write() = watched;

    let print_options = PrintOptions {
        format: meaning.format,
        quiet: meaning.quiet,
        maxrows: meaning.maxrows,
        color: meaning.color,
        instrumented_registry: registry,
    };
    Ok((Shell { ctx, watch }, print_options))
}

/// Settings: DataFusion's defaults, then the environment, then the command line.
fn config(meaning: &Meaning) -> Result<SessionConfig> {
    let mut options = ConfigOptions::from_env()?;
    if let Some(batch_size) = meaning.batch_size {
        options.execution.batch_size = ConfigNonZeroUsize::try_new(batch_size.get())?;
    }
    if let Some(threads) = meaning.threads {
        options.execution.target_partitions = threads.get();
    }
    if std::env::var_os("DATAFUSION_EXPLAIN_FORMAT").is_none() {
        options.explain.format = ExplainFormat::Tree;
    }
    if std::env::var_os("DATAFUSION_FORMAT_NULL").is_none() {
        options.format.null = "NULL".to_owned();
    }
    let mut odp = OdpOptions::default();
    odp.source_order = meaning.source_order;
    options.extensions.insert(odp);
    let config = SessionConfig::from(options).with_information_schema(true);
    Ok(match meaning.stdin_is_taken {
        true => config.with_extension(Arc::new(StdinCarriesCommands)),
        false => config,
    })
}

/// Footers and page indexes that are held in memory, at most, where nobody bounds it. Those of a file of 10,000 row groups take
/// more than DataFusion's 50 MB, and were read again for each run of batches: a filter took 3.3 s instead of 0.4.
const FOOTER_BYTES: usize = 256 << 20;

fn runtime(meaning: &Meaning, registry: Arc<InstrumentedObjectStoreRegistry>) -> Result<Arc<RuntimeEnv>> {
    let mut builder = RuntimeEnvBuilder::new().with_object_store_registry(registry);
    builder = match &meaning.memory {
        Some(limit) => builder.with_memory_pool(memory_pool(limit)),
        None => builder.with_metadata_cache_limit(FOOTER_BYTES),
    };
    if let Some(bytes) = meaning.disk_limit_bytes {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::OsTmpDirectory)
            .with_max_temp_directory_size(bytes);
        builder = builder.with_disk_manager_builder(disk);
    }
    builder.build_arc()
}

fn memory_pool(limit: &MemoryLimit) -> Arc<dyn MemoryPool> {
    match (&limit.pool, limit.top_consumers) {
        (PoolType::Fair, None) => Arc::new(FairSpillPool::new(limit.bytes)),
        (PoolType::Fair, Some(top)) => {
            Arc::new(TrackConsumersPool::new(FairSpillPool::new(limit.bytes), top))
        }
        (PoolType::Greedy, None) => Arc::new(GreedyMemoryPool::new(limit.bytes)),
        (PoolType::Greedy, Some(top)) => {
            Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(limit.bytes), top))
        }
    }
}

/// The table functions of `datafusion-cli`.
fn register_functions(ctx: &SessionContext) {
    let caches = || Arc::clone(&ctx.runtime_env().cache_manager);
    ctx.register_udtf("parquet_metadata", Arc::new(ParquetMetadataFunc {}));
    ctx.register_udtf("metadata_cache", Arc::new(MetadataCacheFunc::new(caches())));
    ctx.register_udtf("statistics_cache", Arc::new(StatisticsCacheFunc::new(caches())));
    ctx.register_udtf("list_files_cache", Arc::new(ListFilesCacheFunc::new(caches())));
}

impl Shell {
    /// Announces statements whose results are printed in `format`: rows of formats that can go on without end
    /// are printed as they come, those of others once all are known.
    pub(crate) fn stream_results_as(&self, format: PrintFormat) {
        self.watch.stream(matches!(format, PrintFormat::Csv | PrintFormat::Tsv | PrintFormat::NdJson));
    }

    /// Announces statements whose results are printed in a format that may change: once all rows are known.
    pub(crate) fn collect_results(&self) {
        self.watch.stream(false);
    }
}

#[async_trait]
impl CliSessionContext for Shell {
    fn task_ctx(&self) -> Arc<TaskContext> {
        self.ctx.task_ctx()
    }

    fn session_state(&self) -> SessionState {
        self.ctx.state()
    }

    fn register_object_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.ctx.register_object_store(url, store)
    }

    fn register_table_options_extension_from_scheme(&self, scheme: &str) {
        self.ctx.register_table_options_extension_from_scheme(scheme);
    }

    async fn execute_logical_plan(&self, plan: LogicalPlan) -> Result<DataFrame> {
        self.watch.expect(&plan);
        self.ctx.execute_logical_plan(plan).await
    }
}
