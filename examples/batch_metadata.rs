//! Batches of a dataset: how many there are, what is known of each before it is read, and reading just one.
//!
//! ```sh
//! cargo run --release --example batch_metadata
//! ```
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_odp::{BatchUnit, OdpTableProvider};
use futures::TryStreamExt;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().display().to_string();
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;

    // Two files with 2,500 rows each, in row groups of 1,000 rows: names in natural order, part-2 before part-10.
    for (name, first) in [("part-2", 0), ("part-10", 2500)] {
        let last = first + 2499;
        let sql = format!(
            "COPY (SELECT value AS cast_number FROM generate_series({first}, {last}) ORDER BY value)
             TO '{path}/{name}.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '1000')"
        );
        ctx.sql(&sql).await?.collect().await?;
    }

    // Opening reads the footers; everything below up to `batch` reads nothing more.
    let table = OdpTableProvider::open(&ctx, path.as_str()).await?;
    let snapshot = table.snapshot();
    println!("{} rows in {} batches", snapshot.num_rows(), snapshot.num_batches());
    for batch in snapshot.batches() {
        let file = snapshot.file_of(batch);
        println!(
            "batch {}: {} rows from row {} of {}, {} bytes",
            batch.batch_index,
            batch.rows,
            batch.first_row,
            file.object_meta.location.filename().unwrap_or_default(),
            batch.compressed_bytes,
        );
    }

    // One batch by its index: a stream of record batches.
    let record_batches: Vec<_> = table.batch(&ctx, 4)?.try_collect().await?;
    let numbers: Vec<i64> = record_batches
        .iter()
        .flat_map(|record_batch| record_batch.column(0).as_primitive::<Int64Type>().values().iter().copied())
        .collect();
    println!("batch 4 holds {} to {}", numbers[0], numbers[numbers.len() - 1]);

    // The same files in batches of another size.
    let small = OdpTableProvider::builder(path).with_batch_unit(BatchUnit::Rows(500)).open(&ctx).await?;

    assert_eq!(snapshot.num_batches(), 6);
    assert_eq!(numbers, (3500..4500).collect::<Vec<i64>>());
    assert_eq!(small.snapshot().num_batches(), 10);
    Ok(())
}
