//! The shortest program that opens a dataset and asks it something in SQL.
//!
//! ```sh
//! cargo run --release --example embedded_sql
//! ```
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use datafusion::assert_batches_eq;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().display();
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;

    // A small dataset: two files, eight stations along 10° E.
    for year in [2020, 2021] {
        let sql = format!(
            "COPY (SELECT 'S' || value AS station_id, 10.0 AS longitude, 50.0 + 4 * value AS latitude,
                          0.5 * value AS temperature_c
                   FROM generate_series(0, 7))
             TO '{path}/year={year}/part-0.parquet' STORED AS PARQUET"
        );
        ctx.sql(&sql).await?.collect().await?;
    }

    ctx.sql(&format!("CREATE EXTERNAL TABLE observations STORED AS ODP LOCATION '{path}/'")).await?;
    let answer = ctx
        .sql(
            "SELECT year, count(*) AS stations, avg(temperature_c) AS temperature
             FROM observations
             WHERE st_within(st_point(longitude, latitude), 'POLYGON((0 60, 20 60, 20 75, 0 75, 0 60))')
             GROUP BY year ORDER BY year",
        )
        .await?;
    answer.clone().show().await?;
    println!("stations between 60° N and 75° N");

    let expected = [
        "+------+----------+-------------+",
        "| year | stations | temperature |",
        "+------+----------+-------------+",
        "| 2020 | 4        | 2.25        |",
        "| 2021 | 4        | 2.25        |",
        "+------+----------+-------------+",
    ];
    assert_batches_eq!(expected, &answer.collect().await?);
    Ok(())
}
