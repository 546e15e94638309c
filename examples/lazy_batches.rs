//! Many processes share the work of one selection: it is planned once, each batch becomes a ticket, workers open
//! tickets and send partial aggregates back.
//!
//! The program starts its workers itself: copies of it, that read tickets from standard input and answer each with a
//! line of JSON. A queue, Dask or Ray would carry the same texts.
//!
//! ```sh
//! cargo run --release --example lazy_batches
//! ```
#![expect(clippy::print_stdout, reason = "a program for the terminal, and workers that answer on it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::prelude::{SessionContext, col};
use datafusion_odp::{BatchTicket, OdpTableProvider};
use serde_json::{Value, json};

const WORKERS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => work().await,
        _ => plan().await,
    }
}

/// Count and sum of the temperature, by station.
type Totals = BTreeMap<String, (i64, f64)>;

async fn plan() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().display().to_string();
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    write_observations(&ctx, &path).await?;

    // Planned once, from metadata: how many batches, how many rows, at what cost.
    let table = OdpTableProvider::open(&ctx, path).await?;
    let selection = table
        .select("depth_m > $depth and geometry within $area")
        .bind("depth", 100_i64)
        .bind("area", "POLYGON((-2 50, 9 50, 9 62, -2 62, -2 50))")
        .columns(["station", "temperature_c"])
        .plan(&ctx)
        .await?;
    let bytes: u64 = selection.batches().map(|batch| batch.compressed_bytes).sum();
    println!(
        "{} of {} batches, {} rows, at most {bytes} bytes to read",
        selection.batch_count(),
        selection.total_batches(),
        selection.estimated_rows(),
    );
    let tickets: Vec<String> = selection.tickets()?.iter().map(ToString::to_string).collect();
    println!("the first ticket has {} characters: {:.40}…", tickets[0].len(), tickets[0]);

    // Each worker gets every third ticket; they run at the same time.
    let (send, answers) = std::sync::mpsc::channel();
    let mut workers = Vec::with_capacity(WORKERS);
    for worker in 0..WORKERS {
        let mut worker = start_worker(tickets.iter().skip(worker).step_by(WORKERS))?;
        let output = worker.stdout.take().ok_or_else(|| exec_datafusion_err!("the worker has no output"))?;
        let send = send.clone();
        std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|answer| send.send(answer)));
        workers.push(worker);
    }
    drop(send);
    let (mut totals, mut done) = (Totals::new(), 0);
    for answer in answers {
        let answer: Value = serde_json::from_str(&answer?).map_err(|e| exec_datafusion_err!("{e}"))?;
        add(&mut totals, &answer)?;
        done += 1;
        println!("{done} of {}: batch {} by process {}", tickets.len(), answer["batch"], answer["process"]);
    }
    for worker in &mut workers {
        let status = worker.wait()?;
        assert!(status.success(), "a worker ended with {status}");
    }

    // The same by one query.
    ctx.register_table("observations", Arc::new(table))?;
    let rows = ctx
        .sql(
            "SELECT station, count(temperature_c), sum(temperature_c)
             FROM odp_select('observations', 'depth_m > 100 and geometry within ''POLYGON((-2 50, 9 50, 9 62, -2 62, -2 50))''')
             GROUP BY station ORDER BY station",
        )
        .await?
        .collect()
        .await?;
    let expected = totals_of(&rows)?;
    for (station, (count, sum)) in &totals {
        println!("{station}: {count} observations, mean {:.3} °C", sum / *count as f64);
    }
    assert_eq!(done, selection.batch_count());
    assert!(done > WORKERS && done < selection.total_batches());
    assert_eq!(totals.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (station, (count, sum)) in &totals {
        let (expected_count, expected_sum) = expected[station];
        assert_eq!(*count, expected_count, "{station}");
        assert!(
            (sum - expected_sum).abs() < 1e-6 * expected_sum.abs().max(1.0),
            "{station}: {sum}, {expected_sum}"
        );
    }
    Ok(())
}

/// Four files of 5,000 rows, in row groups of 500, from the south to the north.
async fn write_observations(ctx: &SessionContext, path: &str) -> Result<()> {
    for file in 0..4 {
        let (first, last) = (file * 5000, file * 5000 + 4999);
        let sql = format!(
            "COPY (SELECT 's' || (value % 5) AS station, value % 400 AS depth_m, 4.0 + (value * 37 % 1000) / 100.0 AS temperature_c,
                          named_struct('x', value % 24 - 8.0, 'y', 40.0 + value / 800.0) AS geometry
                   FROM generate_series({first}, {last}) ORDER BY value)
             TO '{path}/part-{file}.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '500')"
        );
        ctx.sql(&sql).await?.collect().await?;
    }
    Ok(())
}

fn start_worker<'a>(tickets: impl Iterator<Item = &'a String>) -> Result<Child> {
    let mut worker = Command::new(std::env::current_exe()?)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = worker.stdin.take() {
        for ticket in tickets {
            writeln!(stdin, "{ticket}")?;
        }
    }
    Ok(worker)
}

/// Answers each ticket of standard input with a partial aggregate.
async fn work() -> Result<()> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    for line in std::io::stdin().lines() {
        let ticket: BatchTicket = line?.parse()?;
        // One batch of one file, and nothing else is read. A file that changed meanwhile would be an error here.
        let batch = ticket.open_selection(&ctx).await?.to_dataframe()?;
        let temperature = || col("temperature_c");
        let rows = batch
            .aggregate(vec![col("station")], vec![count(temperature()), sum(temperature())])?
            .collect()
            .await?;
        let stations = totals_of(&rows)?;
        let process = std::process::id();
        println!("{}", json!({ "batch": ticket.batch_index(), "process": process, "stations": stations }));
    }
    Ok(())
}

/// Rows of station, count and sum.
fn totals_of(rows: &[RecordBatch]) -> Result<Totals> {
    let mut totals = Totals::new();
    for rows in rows {
        let stations = cast(rows.column(0), &DataType::Utf8)?;
        let (counts, sums) =
            (rows.column(1).as_primitive::<Int64Type>(), rows.column(2).as_primitive::<Float64Type>());
        for (i, station) in stations.as_string::<i32>().iter().enumerate() {
            totals.insert(station.unwrap_or_default().to_owned(), (counts.value(i), sums.value(i)));
        }
    }
    Ok(totals)
}

fn add(totals: &mut Totals, answer: &Value) -> Result<()> {
    let unexpected = || exec_datafusion_err!("not an answer of a worker: {answer}");
    for (station, partial) in answer["stations"].as_object().ok_or_else(unexpected)? {
        let (count, sum) = partial[0].as_i64().zip(partial[1].as_f64()).ok_or_else(unexpected)?;
        let total = totals.entry(station.clone()).or_default();
        *total = (total.0 + count, total.1 + sum);
    }
    Ok(())
}
