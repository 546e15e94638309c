//! What does each stage of a query cost beside DataFusion's own: skipping what a filter excludes, scanning, passing rows on
//! in order, writing them?
//!
//! Data: 2,000,000 observations of one minute each in 10 files with 100 row groups, made in a temporary directory. 2
//! threads. `listing` is DataFusion's ListingTable over the same files, with its defaults. The tables are open, and the
//! footers of their files known.
//! - `pruning`: count and mean of one day: `odp`, `unpruned` (`odp.pruning` is off), `listing`;
//! - `scan`: three columns of all rows, in any order: `odp`, `listing`;
//! - `ordered_concat`: the same columns, in the order of the source through one stream: `concat` by OrderedConcatExec,
//!   where no order is asked for; `sorted_concat` by the same, where the order of time is declared and asked for; `merge` by
//!   SortPreservingMergeExec for that; `coalesce` by CoalescePartitionsExec, which loses the order;
//! - `sink/one_file`: 500,000 rows to one file, in order: `odp` (which forces it to the disk and checks it), and `listing`
//!   as `STORED AS PARQUET`, which does neither and loses the order; `sink/by_year`: all rows to a directory for each year.
//!
//! ```sh
//! cargo bench --features cli --bench pipeline
//! cargo bench --features cli --bench pipeline -- --test   # each once, 20,000 rows
//! ```
//!
//! Result (2026-11-28, 2 virtual cores, ms, median; spread within a run 2 to 5 %, of `pruning/odp` 10 %): pruning 2.2 `odp`, 17
//! `unpruned`, 2.0 `listing`; scan 21.6 and 26.3; ordered_concat 22.9 `concat`, 23.0 `sorted_concat`, 130 `merge`, 20.9
//! `coalesce` (36, 36, 131 and 21 before partitions became short runs of batches); one file 122 and 181, by year 255 and 546.

use std::error::Error;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::physical_plan::{ExecutionPlanProperties, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const THREADS: usize = 2;
const COLUMNS: &str = "SELECT \"timestamp\", temperature_c, depth_m FROM obs";

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rows = if is_test { 20_000 } else { 2_000_000 };
    let (data, output) = (temporary.path().join("obs"), temporary.path().join("output"));
    runtime.block_on(make(&data, rows))?;
    let bench = Bench { runtime, data, output, rows };
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    bench.pruning(&mut criterion)?;
    bench.scan(&mut criterion)?;
    bench.ordered_concat(&mut criterion)?;
    bench.sink(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// Writes so many rows, ordered by time.
async fn make(directory: &Path, rows: usize) -> Result<()> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let copy = format!(
        "COPY (SELECT arrow_cast(1577836800000000 + i * 60000000, 'Timestamp(Microsecond, None)') AS \"timestamp\",
                'STATION-' || lpad(CAST(i % 50 AS VARCHAR), 3, '0') AS station_id,
                45 + 37 * random() AS latitude, 80 * random() - 30 AS longitude,
                8 + 12 * (random() + random() - 1) AS temperature_c, 34 + random() AS salinity_psu,
                CAST(5 * (1 + i * 7 % 40) AS BIGINT) AS depth_m, 6 + 2 * random() AS dissolved_oxygen
           FROM generate_series(1, {rows}) AS s(i))
         TO '{}/' STORED AS ODP OPTIONS ('format.compression' 'zstd(3)', 'batch_rows' '{}', 'max_file_rows' '{}')",
        directory.display(),
        rows / 100,
        rows / 10,
    );
    ctx.sql(&copy).await?.collect().await?;
    Ok(())
}

/// A statement, and the session it runs in.
struct Case {
    name: &'static str,
    ctx: SessionContext,
    sql: String,
}

impl Case {
    fn new(name: &'static str, ctx: SessionContext, sql: impl Into<String>) -> Self {
        Self { name, ctx, sql: sql.into() }
    }
}

struct Bench {
    runtime: Runtime,
    data: PathBuf,
    output: PathBuf,
    rows: usize,
}

impl Bench {
    fn pruning(&self, criterion: &mut Criterion) -> Result<()> {
        let day = 1_577_836_800_000_000 + self.rows as i64 / 2 * 60_000_000;
        let timestamp = |time: i64| format!("arrow_cast({time}, 'Timestamp(Microsecond, None)')");
        let sql = format!(
            "SELECT count(*), avg(temperature_c) FROM obs WHERE \"timestamp\" >= {} AND \"timestamp\" < {}",
            timestamp(day),
            timestamp(day + 86_400_000_000)
        );
        let cases = [
            Case::new("odp", self.odp(&[])?, &sql),
            Case::new("unpruned", self.odp(&["odp.pruning = false"])?, &sql),
            Case::new("listing", self.listing()?, &sql),
        ];
        self.measure(criterion, "pruning", &cases)
    }

    fn scan(&self, criterion: &mut Criterion) -> Result<()> {
        let cases = [
            Case::new("odp", self.odp(&["odp.source_order = false"])?, COLUMNS),
            Case::new("listing", self.listing()?, COLUMNS),
        ];
        self.measure(criterion, "scan", &cases)
    }

    fn ordered_concat(&self, criterion: &mut Criterion) -> Result<()> {
        let ordered = format!("{COLUMNS} ORDER BY \"timestamp\"");
        let declared = "STORED AS ODP WITH ORDER (\"timestamp\")";
        let without_concat = ["odp.ordered_concat = false", "odp.source_order = false"];
        let cases = [
            Case::new("concat", self.odp(&[])?, COLUMNS),
            Case::new("sorted_concat", self.session(declared, &[])?, &ordered),
            Case::new("merge", self.session(declared, &without_concat)?, &ordered),
            Case::new("coalesce", self.odp(&without_concat)?, COLUMNS),
        ];
        let operators =
            ["OrderedConcatExec", "OrderedConcatExec", "SortPreservingMergeExec", "CoalescePartitionsExec"];
        for (Case { name, ctx, sql }, operator) in cases.iter().zip(operators) {
            let plan = self.runtime.block_on(async { ctx.sql(sql).await?.create_physical_plan().await })?;
            // The query's stream coalesces partitions that nothing in the plan brings together.
            let is_coalesced = *name == "coalesce" && plan.output_partitioning().partition_count() > 1;
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            if !is_coalesced && !shown.contains(operator) {
                return Err(format!("{name} has no {operator}:\n{shown}").into());
            }
        }
        self.measure(criterion, "ordered_concat", &cases)
    }

    fn sink(&self, criterion: &mut Criterion) -> Result<()> {
        let options = "OPTIONS ('format.compression' 'zstd(3)', 'format.max_row_group_size' '100000')";
        let copies = |format: &str| {
            let file = format!(
                "COPY (SELECT * FROM obs WHERE depth_m <= 50) TO '{}' STORED AS {format} {options}",
                self.output.join("one.parquet").display()
            );
            let by_year = format!(
                "COPY (SELECT *, CAST(date_part('year', \"timestamp\") AS INT) AS year FROM obs) TO '{}/' \
                 STORED AS {format} PARTITIONED BY (year) {options}",
                self.output.display()
            );
            [file, by_year]
        };
        let ([odp_file, odp_by_year], [file, by_year]) = (copies("ODP"), copies("PARQUET"));
        let (odp, listing) = (self.odp(&[])?, self.listing()?);
        for (group, odp_sql, listing_sql) in
            [("sink/one_file", odp_file, file), ("sink/by_year", odp_by_year, by_year)]
        {
            let cases =
                [Case::new("odp", odp.clone(), odp_sql), Case::new("listing", listing.clone(), listing_sql)];
            self.measure(criterion, group, &cases)?;
        }
        Ok(())
    }

    /// A session with the data as table `obs`.
    fn session(&self, stored_as: &str, settings: &[&str]) -> Result<SessionContext> {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(THREADS));
        if stored_as.starts_with("STORED AS ODP") {
            datafusion_odp::register(&ctx)?;
        }
        let create = format!("CREATE EXTERNAL TABLE obs {stored_as} LOCATION '{}/'", self.data.display());
        self.runtime.block_on(async {
            for setting in settings {
                ctx.sql(&format!("SET {setting}")).await?.collect().await?;
            }
            ctx.sql(&create).await?.collect().await?;
            Ok(ctx)
        })
    }

    fn odp(&self, settings: &[&str]) -> Result<SessionContext> {
        self.session("STORED AS ODP", settings)
    }

    fn listing(&self) -> Result<SessionContext> {
        self.session("STORED AS PARQUET", &[])
    }

    /// Runs a statement to its end, and gives the number of its rows: of a copy, of those that it says it wrote.
    fn run(&self, case: &Case) -> Result<u64> {
        self.runtime.block_on(async {
            let mut stream = case.ctx.sql(&case.sql).await?.execute_stream().await?;
            let mut rows = 0;
            while let Some(batch) = stream.try_next().await? {
                rows += match case.sql.starts_with("COPY") {
                    true => batch.column(0).as_primitive::<UInt64Type>().values().iter().sum(),
                    false => batch.num_rows() as u64,
                };
            }
            Ok(rows)
        })
    }

    /// Measures all `cases`, which have the same number of rows.
    fn measure(&self, criterion: &mut Criterion, group: &str, cases: &[Case]) -> Result<()> {
        let mut expected = None;
        for case in cases {
            // Fails here, with its message, rather than while it is measured.
            self.clear()?;
            let rows = self.run(case)?;
            if rows == 0 || *expected.get_or_insert(rows) != rows {
                return Err(format!("{group}/{} has {rows} rows", case.name).into());
            }
        }
        let mut group = criterion.benchmark_group(format!("pipeline/{group}"));
        for case in cases {
            group.bench_function(case.name, |bencher| {
                bencher.iter_batched(
                    || self.clear(),
                    |cleared| cleared.and_then(|()| self.run(case)),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
        self.clear()
    }

    /// Removes what was written.
    fn clear(&self) -> Result<()> {
        if self.output.exists() {
            std::fs::remove_dir_all(&self.output)?;
        }
        Ok(std::fs::create_dir(&self.output)?)
    }
}
