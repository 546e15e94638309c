//! How does the cost of a query grow with the work: with rows, batches, partitions, vertices of an area, rows that a
//! filter keeps?
//!
//! Data: observations of one minute each, with random coordinates and values, in 10 files of 10 row groups each (other
//! numbers where the batches are counted), made in a temporary directory: 1,000,000 and 10,000,000 rows, and 2,000,000 in
//! 10 to 10,000 batches. Each time is the median of three runs after one that is not counted; partitions are
//! DataFusion's default, the cores, but where they are counted. The slope is the exponent between a line and the one above
//! it: 1 is twice the time for twice the work.
//!
//! - rows: `stations` (means by station), `years` (counts by year), `filter` (a tenth of the rows, scattered, is averaged),
//!   `area` (rows within a coast of 1,000 vertices);
//! - batches, of the same rows: `open` in a new session, `first` the first count of all rows there and `count` the next ones,
//!   `filter` that keeps a hundredth of the rows, next to each other, `scattered` that keeps a hundredth all over, and `stations`;
//! - partitions: `stations`, and `copy`: a tenth of the rows, scattered, to one file, in order;
//! - vertices: rows within a coast; `first` with the coast as text that was not seen before, one run, `again` when it was;
//! - kept rows: all columns of the rows that a scattered filter keeps, with `odp.pushdown_filters` and without.
//!
//! ```sh
//! cargo bench --features cli --bench scaling               # some minutes
//! cargo bench --features cli --bench scaling -- 100000000  # rows to 100,000,000, too: 5 GB of disk
//! cargo bench --features cli --bench scaling -- --test     # a thousandth of the rows
//! ```
//!
//! Result (2026-11-29, 2 virtual cores): the tables are in the README beside this. Over linear grows one thing, an area of more
//! than 100,000 vertices as text: 42 ms with 100,000, 1.5 s with 1,000,000, most of it for parsing and copying a statement of
//! 40 MB while it is planned. In 10,000 batches of 200 rows `count` and `filter` take 1.2 to 1.7 times as long as in 100, `stations`
//! three to four times, `scattered` three times: each page has a header, and most a Huffman table. The first count takes twice as long as
//! in 100, 0.6 ms longer.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::error::Error;
use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_odp::OdpTableProvider;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const RUNS: usize = 3;
const OPENINGS: usize = 15;
const FILES: usize = 10;
const BATCHES: usize = 100;

/// Values of the column `draw` are the even numbers below.
const DRAWS: usize = 2_000_000;

const STATIONS: &str = "SELECT station_id, avg(temperature_c), min(temperature_c), max(temperature_c), \
                        avg(depth_m), count(depth_m) FROM obs GROUP BY station_id ORDER BY station_id";
const COUNT: &str = "SELECT count(*) FROM obs";
const YEARS: &str = "SELECT date_part('year', \"timestamp\") AS y, count(*) FROM obs GROUP BY y ORDER BY y";

/// Where the data is, and how much of it.
struct Bench {
    directory: PathBuf,
    /// By how much all numbers of rows are divided.
    divisor: usize,
    most_rows: usize,
}

impl Bench {
    /// The directory with so many rows in so many batches, made when it is first asked for.
    async fn dataset(&self, rows: usize, batches: usize) -> Result<PathBuf> {
        let directory = self.directory.join(format!("{rows}-{batches}"));
        if !directory.exists() {
            make(&directory, rows, batches).await?;
        }
        Ok(directory)
    }

    fn rows(&self, rows: usize) -> usize {
        rows / self.divisor
    }

    /// The rows of the other questions.
    fn medium(&self) -> usize {
        self.rows(2_000_000)
    }

    fn large(&self) -> usize {
        self.rows(10_000_000)
    }
}

async fn make(directory: &Path, rows: usize, batches: usize) -> Result<()> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let copy = format!(
        "COPY (SELECT arrow_cast(1577836800000000 + i * 60000000, 'Timestamp(Microsecond, None)') AS \"timestamp\",
                'STATION-' || lpad(CAST(i % 50 AS VARCHAR), 3, '0') AS station_id,
                180 * random() - 90 AS latitude, 360 * random() - 180 AS longitude,
                8 + 12 * (random() + random() - 1) AS temperature_c, 34 + random() AS salinity_psu,
                CAST(5 * (1 + i * 7 % 40) AS BIGINT) AS depth_m, 6 + 2 * random() AS dissolved_oxygen,
                2 * CAST(floor({} * random()) AS BIGINT) AS draw
           FROM generate_series(1, {rows}) AS s(i))
         TO '{}/' STORED AS ODP OPTIONS ('format.compression' 'zstd(3)', 'batch_rows' '{}', 'max_file_rows' '{}')",
        DRAWS / 2,
        directory.display(),
        (rows / batches).max(1),
        rows / FILES.min(batches),
    );
    ctx.sql(&copy).await?.collect().await?;
    Ok(())
}

/// A session with the dataset as table `obs`.
async fn session(directory: &Path, partitions: Option<usize>) -> Result<SessionContext> {
    let config = match partitions {
        Some(partitions) => SessionConfig::new().with_target_partitions(partitions),
        None => SessionConfig::new(),
    };
    let ctx = SessionContext::new_with_config(config);
    datafusion_odp::register(&ctx)?;
    let table = OdpTableProvider::open(&ctx, format!("{}/", directory.display())).await?;
    ctx.register_table("obs", Arc::new(table))?;
    Ok(ctx)
}

/// Runs `sql` to its end, and gives the number of its rows.
async fn run(ctx: &SessionContext, sql: &str) -> Result<usize> {
    let mut stream = ctx.sql(sql).await?.execute_stream().await?;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn timed(ctx: &SessionContext, sql: &str) -> Result<Duration> {
    run(ctx, sql).await?;
    let mut times = vec![];
    for _ in 0..RUNS {
        let start = Instant::now();
        run(ctx, sql).await?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

/// A Markdown table of times, a line for each amount of work, with the slope between neighbours.
struct Table {
    columns: usize,
    above: Option<(f64, Vec<Duration>)>,
}

impl Table {
    fn new(title: &str, work: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n");
        let head: String = columns.iter().map(|column| format!(" {column} ms | slope |")).collect();
        println!("| {work} |{head}");
        println!("|--:|{}", "--:|--:|".repeat(columns.len()));
        Self { columns: columns.len(), above: None }
    }

    fn line(&mut self, work: f64, times: Vec<Duration>) {
        let mut line = format!("| {work} |");
        for column in 0..self.columns {
            let time = times[column];
            let slope = self.above.as_ref().filter(|(above, _)| *above > 0.0).map(|(above, before)| {
                (time.as_secs_f64() / before[column].as_secs_f64()).ln() / (work / above).ln()
            });
            let slope = slope.map(|slope| format!("{slope:.2}")).unwrap_or_default();
            line += &format!(" {:.1} | {slope} |", time.as_secs_f64() * 1e3);
        }
        println!("{line}");
        self.above = Some((work, times));
    }
}

fn within(coast: &str) -> String {
    format!("SELECT count(*) FROM obs WHERE st_within(st_point(longitude, latitude), '{coast}')")
}

async fn rows(bench: &Bench) -> Result<()> {
    let area = within(&coast(1_000)?);
    let filter = format!("SELECT avg(temperature_c), count(*) FROM obs WHERE draw < {}", DRAWS / 10);
    let queries = [STATIONS, YEARS, &filter, &area];
    let mut table = Table::new("Rows", "rows", &["stations", "years", "filter", "area"]);
    for rows in [1_000_000, 10_000_000, 100_000_000].into_iter().filter(|rows| *rows <= bench.most_rows) {
        let rows = bench.rows(rows);
        let ctx = session(&bench.dataset(rows, BATCHES).await?, None).await?;
        let mut times = vec![];
        for query in queries {
            times.push(timed(&ctx, query).await?);
        }
        table.line(rows as f64, times);
    }
    Ok(())
}

async fn batches(bench: &Bench) -> Result<()> {
    let rows = bench.medium();
    let (first, last) = (rows / 2, rows / 2 + rows / 100);
    let filter = format!(
        "SELECT avg(temperature_c), count(*) FROM obs \
         WHERE \"timestamp\" >= arrow_cast({}, 'Timestamp(Microsecond, None)') \
         AND \"timestamp\" < arrow_cast({}, 'Timestamp(Microsecond, None)')",
        1_577_836_800_000_000 + first * 60_000_000,
        1_577_836_800_000_000 + last * 60_000_000,
    );
    let title = format!("Batches of the same {rows} rows");
    let scattered = format!("SELECT avg(temperature_c), count(*) FROM obs WHERE draw < {}", DRAWS / 100);
    let columns = ["open", "first", "count", "filter", "scattered", "stations"];
    let mut table = Table::new(&title, "batches", &columns);
    for batches in [10, 100, 1_000, 10_000].into_iter().filter(|batches| *batches <= rows) {
        let directory = bench.dataset(rows, batches).await?;
        let (mut opening, mut first) = (vec![], vec![]);
        for _ in 0..=OPENINGS {
            let start = Instant::now();
            let ctx = session(&directory, None).await?;
            opening.push(start.elapsed());
            let start = Instant::now();
            run(&ctx, COUNT).await?;
            first.push(start.elapsed());
        }
        // The first of the process finds nothing in the processor's caches.
        let mut times = vec![median(opening.split_off(1)), median(first.split_off(1))];
        let ctx = session(&directory, None).await?;
        for query in [COUNT, &filter, &scattered, STATIONS] {
            times.push(timed(&ctx, query).await?);
        }
        table.line(batches as f64, times);
    }
    Ok(())
}

async fn partitions(bench: &Bench) -> Result<()> {
    let rows = bench.large();
    let directory = bench.dataset(rows, BATCHES).await?;
    let copy = format!(
        "COPY (SELECT * FROM obs WHERE draw < {}) TO '{}' STORED AS ODP \
         OPTIONS ('mode' 'overwrite', 'format.compression' 'zstd(3)')",
        DRAWS / 10,
        bench.directory.join("copied.parquet").display()
    );
    let mut table =
        Table::new(&format!("Partitions, {rows} rows"), "target_partitions", &["stations", "copy"]);
    for partitions in [1, 2, 4, 8] {
        let ctx = session(&directory, Some(partitions)).await?;
        let times = vec![timed(&ctx, STATIONS).await?, timed(&ctx, &copy).await?];
        table.line(partitions as f64, times);
    }
    Ok(())
}

async fn vertices(bench: &Bench) -> Result<()> {
    let rows = bench.medium();
    let ctx = session(&bench.dataset(rows, BATCHES).await?, None).await?;
    run(&ctx, &within(&coast(4)?)).await?;
    let mut table = Table::new(&format!("Vertices, {rows} points"), "vertices", &["first", "again"]);
    for vertices in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        if vertices > bench.rows(1_000_000_000) {
            break;
        }
        let query = within(&coast(vertices)?);
        let start = Instant::now();
        run(&ctx, &query).await?;
        let first = start.elapsed();
        table.line(vertices as f64, vec![first, timed(&ctx, &query).await?]);
    }
    Ok(())
}

async fn kept_rows(bench: &Bench) -> Result<()> {
    let rows = bench.medium();
    let ctx = session(&bench.dataset(rows, BATCHES).await?, None).await?;
    let title = format!("Rows that a scattered filter keeps of {rows}, all columns");
    let mut table = Table::new(&title, "kept", &["pushed down", "not pushed down"]);
    for kept in [0.0, 0.0001, 0.001, 0.01, 0.1, 0.5, 1.0] {
        // An odd number is within the bounds, but never there.
        let filter = match kept {
            0.0 => format!("draw = {}", DRAWS / 2 + 1),
            _ => format!("draw < {:.0}", kept * DRAWS as f64),
        };
        let mut times = vec![];
        for is_pushed_down in [true, false] {
            ctx.sql(&format!("SET odp.pushdown_filters = {is_pushed_down}")).await?.collect().await?;
            times.push(timed(&ctx, &format!("SELECT * FROM obs WHERE {filter}")).await?);
        }
        table.line(kept, times);
    }
    Ok(())
}

/// A ring about the origin, roughly 60 degrees wide: radii displaced halfway between neighbours, less at each scale.
fn coast(vertices: usize) -> Result<String> {
    let mut random = StdRng::seed_from_u64(1);
    let mut radii = vec![30.0];
    let mut amplitude = 9.0;
    while radii.len() < vertices {
        let next = radii.iter().cycle().skip(1);
        let displaced =
            |(a, b): (&f64, &f64)| [*a, f64::midpoint(*a, *b) + amplitude * random.random_range(-1.0..1.0)];
        radii = radii.iter().zip(next).flat_map(displaced).collect();
        amplitude *= 0.55;
    }
    let mut text = String::from("POLYGON((");
    let point = |vertex: usize| {
        let angle = TAU * vertex as f64 / vertices as f64;
        let radius = radii[vertex * radii.len() / vertices].max(12.0);
        (radius * angle.cos(), radius * angle.sin())
    };
    for vertex in 0..vertices {
        let (x, y) = point(vertex);
        write!(text, "{x} {y},")?;
    }
    let (x, y) = point(0);
    write!(text, "{x} {y}))")?;
    Ok(text)
}

async fn measure() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let is_test = std::env::args().any(|argument| argument == "--test");
    let most_rows = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let bench = Bench {
        directory: temporary.path().to_owned(),
        divisor: if is_test { 1_000 } else { 1 },
        most_rows: most_rows.unwrap_or(10_000_000),
    };
    rows(&bench).await?;
    batches(&bench).await?;
    partitions(&bench).await?;
    vertices(&bench).await?;
    kept_rows(&bench).await
}

fn main() -> Result<()> {
    Runtime::new()?.block_on(measure())
}
