//! Exports the rows of a region, in order, to directories by year and month; reads them back and compares.
//!
//! ```sh
//! cargo run --example partitioned_export
//! ```

use std::error::Error;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use datafusion_odp::{OdpTableProvider, SelectionFilter, WriteOptions};

/// The Skagerrak, roughly.
const REGION: &str = "POLYGON((7 57, 11 57, 11 59, 7 59, 7 57))";
const ROWS: u32 = 50_000;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it found")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let dir = tempfile::tempdir()?;
    let (source, export) = (
        dir.path().join("observations").display().to_string(),
        dir.path().join("export").display().to_string(),
    );

    // A year and a half of observations, one every quarter of an hour, in the order of time.
    let make = format!(
        "COPY (SELECT value AS id,
                      to_timestamp_micros(1577836800000000 + value * 900000000) AS time,
                      5 + 8 * (value % 97) / 97.0 AS longitude,
                      56 + 4 * (value % 89) / 89.0 AS latitude,
                      8 + (value % 1000) / 100.0 AS temperature_c
               FROM generate_series(1, {ROWS}) ORDER BY value)
         TO '{source}/' STORED AS ODP OPTIONS ('batch_rows' '5000')"
    );
    ctx.sql(&make).await?.collect().await?;

    // The selection is planned from metadata, then written in the order of its batches.
    let table = OdpTableProvider::open(&ctx, &source).await?;
    let within = format!("st_within(st_point(longitude, latitude), '{REGION}')");
    let filter = SelectionFilter::sql(within.clone());
    let selection = table.select(filter).plan(&ctx).await?;
    println!("{} of {} batches may lie in the region", selection.batch_count(), selection.total_batches());
    let options = WriteOptions::default()
        .with_partition_by(["year(time)", "month(time)"])
        .with_option("batch_rows", "1000")?
        .with_option("compression", "zstd(3)")?;
    let report = selection.write(&export, options).await?;
    println!("{} rows, {} bytes in {} files, such as", report.rows(), report.bytes(), report.files.len());
    for file in report.files.iter().take(3) {
        println!("  {}: {} rows", file.path, file.rows);
    }

    // What was written is what was selected: each row once, in each directory in the order of time.
    ctx.register_table("observations", std::sync::Arc::new(table))?;
    ctx.register_table("export", std::sync::Arc::new(OdpTableProvider::open(&ctx, &export).await?))?;
    let summary = "count(*), sum(id), sum(temperature_c)";
    let expected =
        ctx.sql(&format!("SELECT {summary} FROM observations WHERE {within}")).await?.collect().await?;
    let found = ctx.sql(&format!("SELECT {summary} FROM export")).await?.collect().await?;
    let numbers = |rows: &[RecordBatch]| {
        let row = &rows[0];
        let count = row.column(0).as_primitive::<Int64Type>().value(0);
        let ids = row.column(1).as_primitive::<Int64Type>().value(0);
        (count, ids, row.column(2).as_primitive::<Float64Type>().value(0))
    };
    let (expected, found) = (numbers(&expected), numbers(&found));
    assert_eq!((expected.0, expected.1), (found.0, found.1));
    assert!((expected.2 - found.2).abs() < 1e-6 * expected.2.abs());
    assert_eq!(i64::try_from(report.rows())?, found.0);
    let misplaced = "SELECT count(*) FROM export
                     WHERE year <> date_part('year', time) OR month <> date_part('month', time)";
    let misplaced = ctx.sql(misplaced).await?.collect().await?;
    assert_eq!(misplaced[0].column(0).as_primitive::<Int64Type>().value(0), 0);
    let rows = ctx.sql("SELECT time FROM export").await?.collect().await?;
    let times: Vec<i64> = rows
        .iter()
        .flat_map(|batch| {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            times.values().to_vec()
        })
        .collect();
    assert!(times.is_sorted(), "directories are read in the order of their numbers");
    println!("checked: {} rows in {} directories, in order", found.0, report.files.len());
    Ok(())
}
