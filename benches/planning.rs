//! How long does planning take on a table of 1,000 batches, against DataFusion's own listing table?
//!
//! Data: 10 files of 100 row groups with 10 rows each, written to a temporary directory. Both tables are opened
//! once, before anything is measured; footers are in the session's cache. Measured is the way from SQL text to the
//! physical plan; nothing is executed.
//!
//! ```sh
//! cargo bench --features cli --bench planning
//! ```

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use datafusion_odp::OdpTableProvider;
use tokio::runtime::Runtime;

const FILES: i64 = 10;
const ROW_GROUPS: i64 = 100;
const ROWS: i64 = 10;

const QUERIES: [(&str, &str); 3] = [
    ("count", "SELECT count(*) FROM {table}"),
    ("filter", "SELECT count(*) FROM {table} WHERE id >= 9000 AND depth_m < 50"),
    ("group_by", "SELECT station, avg(depth_m) FROM {table} GROUP BY station"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    write_files(dir.path())?;
    let path = dir.path().to_string_lossy();

    let runtime = Runtime::new()?;
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    runtime.block_on(async {
        let odp = OdpTableProvider::open(&ctx, path.as_ref()).await?;
        if odp.snapshot().num_batches() != 1000 {
            return Err("the table does not have 1,000 batches".into());
        }
        ctx.register_table("odp", Arc::new(odp))?;
        ctx.register_parquet("listing", path.as_ref(), ParquetReadOptions::default()).await?;
        Ok::<_, Box<dyn Error>>(())
    })?;

    let mut criterion = Criterion::default().configure_from_args();
    for (name, sql) in QUERIES {
        let mut group = criterion.benchmark_group(format!("planning/{name}"));
        for table in ["odp", "listing"] {
            let sql = sql.replace("{table}", table);
            // Fails here, with its message, rather than while it is measured.
            runtime.block_on(plan(&ctx, &sql))?;
            group.bench_function(BenchmarkId::from_parameter(table), |bencher| {
                bencher.to_async(&runtime).iter(|| plan(&ctx, &sql));
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

async fn plan(ctx: &SessionContext, sql: &str) -> datafusion::error::Result<usize> {
    let plan = ctx.sql(sql).await?.create_physical_plan().await?;
    Ok(plan.children().len())
}

fn write_files(dir: &Path) -> Result<(), Box<dyn Error>> {
    for file in 0..FILES {
        let first = file * ROW_GROUPS * ROWS;
        let ids: Vec<i64> = (first..first + ROW_GROUPS * ROWS).collect();
        let stations: StringArray = ids.iter().map(|id| Some(format!("S{}", id % 50))).collect();
        let depths: Float64Array =
            ids.iter().map(|id| Some(f64::from(u8::try_from(id % 200).unwrap_or(0)))).collect();
        let record_batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids)) as _),
            ("station", Arc::new(stations) as _),
            ("depth_m", Arc::new(depths) as _),
        ])?;
        let rows = usize::try_from(ROWS)?;
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build();
        let out = File::create(dir.join(format!("part-{file}.parquet")))?;
        let mut writer = ArrowWriter::try_new(out, record_batch.schema(), Some(properties))?;
        writer.write(&record_batch)?;
        writer.close()?;
    }
    Ok(())
}
