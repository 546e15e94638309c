//! Datasets for tests, written with the Parquet crate's own writer.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Public test data: `ODP_CORPORA`, or beside the project.
pub(crate) fn corpora_dir() -> PathBuf {
    match std::env::var_os("ODP_CORPORA") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"),
    }
}

/// A session with everything registered, and `settings` as `SET` would take them.
pub(crate) fn session(target_partitions: usize, settings: &[(&str, &str)]) -> Result<SessionContext> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(target_partitions));
    datafusion_odp::register(&ctx)?;
    for (key, value) in settings {
        ctx.state_ref().write().config_mut().options_mut().set(key, value)?;
    }
    Ok(ctx)
}

/// Writes `rows` to `path`, `row_group` rows a row group.
pub(crate) fn write(path: &Path, rows: &RecordBatch, row_group: usize) -> Result<()> {
    write_with(path, rows, WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build())
}

/// Writes `rows` to `path` with the given properties.
pub(crate) fn write_with(path: &Path, rows: &RecordBatch, properties: WriterProperties) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}

/// `id` ascending from `first`, `station` of 7, `depth` and `temperature` random, `time` ascending.
pub(crate) fn observations(first: i64, rows: usize, seed: u64) -> Result<RecordBatch> {
    let mut random = StdRng::seed_from_u64(seed);
    let ids: Vec<i64> = (first..).take(rows).collect();
    let stations: StringArray = ids.iter().map(|id| Some(format!("s{}", id % 7))).collect();
    let depths: Int64Array = ids.iter().map(|_| Some(random.random_range(0..200))).collect();
    let temperatures: Float64Array = ids.iter().map(|_| Some(random.random_range(-2.0..20.0))).collect();
    let times: TimestampMicrosecondArray = ids.iter().map(|id| Some(id * 60_000_000)).collect();
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("station", Arc::new(stations)),
        ("depth", Arc::new(depths)),
        ("temperature", Arc::new(temperatures)),
        ("time", Arc::new(times)),
    ])?)
}

/// `files` files of `row_groups` row groups of `rows` rows, `id` ascending through all of them.
pub(crate) fn write_observations(dir: &Path, files: usize, row_groups: usize, rows: usize) -> Result<()> {
    for file in 0..files {
        let first = i64::try_from(file * row_groups * rows)?;
        let data = observations(first, row_groups * rows, file as u64)?;
        write(&dir.join(format!("part-{file}.parquet")), &data, rows)?;
    }
    Ok(())
}

/// Rows full of what breaks pruning: NaN, infinities, both zeros, NULLs, empty and long text, constant runs.
pub(crate) fn hostile(first: i64, rows: usize, random: &mut StdRng) -> Result<RecordBatch> {
    let center: i32 = random.random_range(-50..50);
    let base = f64::from(center);
    let all_null = random.random_bool(0.15);
    let constant = random.random_bool(0.2);
    let mut floats = Vec::with_capacity(rows);
    let mut ints = Vec::with_capacity(rows);
    let mut texts = Vec::with_capacity(rows);
    let mut flags = Vec::with_capacity(rows);
    let mut zeros = Vec::with_capacity(rows);
    let (mut lons, mut lats) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for _ in 0..rows {
        let float = match random.random_range(0..40) {
            0 => Some(if random.random_bool(0.5) { f64::NAN } else { -f64::NAN }),
            1 => None,
            2 => Some(f64::INFINITY),
            3 => Some(f64::NEG_INFINITY),
            4 => Some(0.0),
            _ => Some((base + random.random_range(-5.0..5.0f64)).round()),
        };
        zeros.push([Some(-0.0), Some(0.0), Some(-1.0), Some(1.0), None][random.random_range(0..5)]);
        floats.push(if constant { Some(base.round()) } else { float });
        let int = random.random_bool(0.9).then(|| i64::from(center + random.random_range(-5..5)));
        ints.push(if all_null { None } else { int });
        texts.push(match random.random_range(0..10) {
            0 => None,
            1 => Some(String::new()),
            2 => Some("x".repeat(100)),
            _ => Some(format!(
                "{}{}",
                ["a", "b", "ø", "zz"][random.random_range(0..4)],
                random.random_range(0..20)
            )),
        });
        flags.push(random.random_bool(0.8).then(|| random.random_bool(0.5)));
        lons.push(random.random_bool(0.97).then(|| base + random.random_range(-10.0..10.0)));
        lats.push(match random.random_range(0..50) {
            0 => Some(f64::NAN),
            1 => None,
            _ => Some(random.random_range(-30.0..30.0)),
        });
    }
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values((first..).take(rows))) as ArrayRef, false),
        ("f", Arc::new(Float64Array::from(floats)), true),
        ("z", Arc::new(Float64Array::from(zeros)), true),
        ("i", Arc::new(Int64Array::from(ints)), true),
        ("s", Arc::new(StringArray::from(texts)), true),
        ("b", Arc::new(BooleanArray::from(flags)), true),
        ("lon", Arc::new(Float64Array::from(lons)), true),
        ("lat", Arc::new(Float64Array::from(lats)), true),
    ])?)
}

/// Writer settings at random: small pages, cut or missing statistics.
pub(crate) fn random_properties(random: &mut StdRng) -> WriterProperties {
    let statistics = match random.random_range(0..6) {
        0 => EnabledStatistics::None,
        1 => EnabledStatistics::Chunk,
        _ => EnabledStatistics::Page,
    };
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(random.random_range(5..60)))
        .set_data_page_row_count_limit(random.random_range(3..30))
        .set_write_batch_size(4)
        .set_statistics_enabled(statistics)
        .set_statistics_truncate_length(random.random_bool(0.5).then_some(1))
        .set_column_index_truncate_length(random.random_bool(0.5).then_some(1))
        .set_dictionary_enabled(random.random_bool(0.5))
        .set_bloom_filter_enabled(random.random_bool(0.3))
        .build()
}

/// The physical plan of a query.
pub(crate) async fn plan(ctx: &SessionContext, sql: &str) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(ctx.sql(sql).await?.create_physical_plan().await?)
}

/// A plan as EXPLAIN shows it.
pub(crate) fn shown(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

/// The sum of a metric over all operators of an executed plan.
pub(crate) fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own =
        plan.metrics().and_then(|metrics| metrics.sum_by_name(name)).map_or(0, |value| value.as_usize());
    own + plan.children().into_iter().map(|child| metric(child, name)).sum::<usize>()
}

/// Runs `sql`; gives its rows and the executed plan.
pub(crate) async fn run(
    ctx: &SessionContext,
    sql: &str,
) -> Result<(Vec<RecordBatch>, Arc<dyn ExecutionPlan>)> {
    let plan = plan(ctx, sql).await?;
    let rows = collect(Arc::clone(&plan), ctx.task_ctx()).await?;
    Ok((rows, plan))
}
