//! How many requests and bytes, and how much time, does a query need on an object store where every request takes 30 ms,
//! beside DataFusion's own ListingTable on the same store?
//!
//! Data: `obs/` (time series) and `obs_geo/` (GeoParquet points along a Hilbert curve) below `ODP_BENCH_DATA`, copied
//! into memory; without it, 2,000,000 rows each are made there, in 10 files with 100 row groups and a commit log, which
//! `odp` reads when it opens them. The store waits 30 ms (`ODP_BENCH_LATENCY_MS`) before each request, as many at a
//! time as are asked for, and then gives its bytes at once. A request is a GET of one range (ranges less than 1 MiB
//! apart are one, as `object_store` reads them), a HEAD, a PUT, one part, the begin or the end of an upload in parts, a
//! listing of up to 1,000 objects, a deletion of up to 1,000.
//!
//! Engines, each in a new session for each query, with the table opened:
//! - `odp`;
//! - `odp, snapshot`: the same with a snapshot file in the dataset;
//! - `listing`: ListingTable by DataFusion's defaults. For the area it gets the box of the area too, and `st_within` to
//!   call.
//!
//! `first` is the first query after the table was opened, `second` the same query again in that session. Time is the
//! median of three sessions, requests and bytes are those of the last; `at once` is the greatest number of requests in
//! flight. Answers must be the same, floats to 1e-9 of their value; of `LIMIT 10` only their number. Partitions are
//! DataFusion's default, the cores, unless `DATAFUSION_EXECUTION_TARGET_PARTITIONS` says otherwise.
//!
//! ```sh
//! ODP_BENCH_DATA=~/.cache/odp-peers/10m cargo bench --features cli --bench object_store_latency
//! cargo bench --features cli --bench object_store_latency -- --requests   # lists the requests of each query, too
//! cargo bench --features cli --bench object_store_latency -- --test       # small data, 2 ms, one session
//! ```
//!
//! Result (2026-11-28, 2 virtual cores, 10,000,000 rows, 30 ms a request, first query; ms, `odp` against `listing`): means by
//! station 250 against 1,640, counts by year 247 against 1,668, top 10 with a filter 563 against 1,402, polygon 206 against 321,
//! filter to one file 700 against 1,917, opening 64 against 64, sums of three months 101 against 68 (one request more, for
//! the page index, the first time; then 69 against 69). Requests and bytes of each are in the README beside this.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

mod star;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::execution::FunctionRegistry;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result as StoreResult, UploadPart, coalesce_ranges,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_odp::OdpTableProvider;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Runtime;
use url::Url;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Entries of one answer to a listing, and of one deletion, as S3, GCS and Azure have it or more.
const PAGE: usize = 1_000;

const FILES: usize = 10;
const ROW_GROUPS: usize = 100;

/// What was asked of a store.
#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<&'static str, usize>,
    bytes_read: u64,
    bytes_written: u64,
    in_flight: usize,
    most_in_flight: usize,
    /// Each request, in the order in which they began.
    log: Vec<String>,
}

#[derive(Debug)]
struct Traffic {
    latency: Duration,
    counts: Mutex<Counts>,
}

impl Traffic {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked since the last call.
    fn take(&self) -> Counts {
        let mut counts = self.counts();
        let in_flight = counts.in_flight;
        std::mem::replace(&mut *counts, Counts { in_flight, ..Counts::default() })
    }

    /// One request that makes `call`, after the latency.
    async fn request<T>(
        &self,
        kind: &'static str,
        of: impl Display,
        call: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        {
            let mut counts = self.counts();
            *counts.requests.entry(kind).or_default() += 1;
            counts.in_flight += 1;
            counts.most_in_flight = counts.most_in_flight.max(counts.in_flight);
            counts.log.push(format!("{kind} {of}"));
        }
        let _in_flight = InFlight(self);
        tokio::time::sleep(self.latency).await;
        call.await
    }
}

/// A request that is being waited for; ends with it, or when nobody waits any more.
struct InFlight<'a>(&'a Traffic);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.in_flight = counts.in_flight.saturating_sub(1);
    }
}

/// A store that is far away.
#[derive(Debug)]
struct RemoteStore {
    inner: Arc<InMemory>,
    traffic: Arc<Traffic>,
}

impl Display for RemoteStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteStore")
    }
}

#[async_trait]
impl ObjectStore for RemoteStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.traffic.counts().bytes_written += payload.content_length() as u64;
        self.traffic.request("put", location, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let begin = self.inner.put_multipart_opts(location, options);
        let inner = self.traffic.request("begin", location, begin).await?;
        let (traffic, location) = (Arc::clone(&self.traffic), location.clone());
        Ok(Box::new(RemoteUpload { inner, traffic, location }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let is_head = options.head;
        let kind = if is_head { "head" } else { "get" };
        let of = match &options.range {
            Some(range) => format!("{location} {range}"),
            None => location.to_string(),
        };
        let found = self.traffic.request(kind, of, self.inner.get_opts(location, options)).await?;
        if !is_head {
            self.traffic.counts().bytes_read += found.range.end - found.range.start;
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        coalesce_ranges(ranges, |range| self.get_range(location, range), OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (inner, traffic) = (Arc::clone(&self.inner), Arc::clone(&self.traffic));
        let delete = move |locations: Vec<Path>| {
            let (inner, traffic) = (Arc::clone(&inner), Arc::clone(&traffic));
            async move {
                let of = format!("{} objects", locations.len());
                let deleted = inner.delete_stream(stream::iter(locations.into_iter().map(Ok)).boxed());
                let deleted: Vec<Path> = traffic.request("delete", of, deleted.try_collect()).await?;
                Ok(stream::iter(deleted.into_iter().map(Ok)))
            }
        };
        let chunks = locations.try_ready_chunks(PAGE).map_err(|error| error.1);
        chunks.and_then(delete).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let traffic = Arc::clone(&self.traffic);
        let of = prefix.map(Path::to_string).unwrap_or_default();
        let listed = self.inner.list(prefix);
        let pages = async move {
            // An empty listing is an answer, too.
            traffic.request("list", &of, std::future::ready(Ok(()))).await?;
            let next_page = move |(index, meta): (usize, StoreResult<ObjectMeta>)| {
                let (traffic, of) = (Arc::clone(&traffic), of.clone());
                async move {
                    if index > 0 && index % PAGE == 0 {
                        traffic.request("list", &of, std::future::ready(Ok(()))).await?;
                    }
                    meta
                }
            };
            Ok::<_, StoreError>(listed.enumerate().then(next_page))
        };
        stream::once(pages).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let of = prefix.map(Path::to_string).unwrap_or_default();
        let listed = self.traffic.request("list", &of, self.inner.list_with_delimiter(prefix)).await?;
        let entries = listed.objects.len() + listed.common_prefixes.len();
        for _ in 1..entries.div_ceil(PAGE) {
            self.traffic.request("list", &of, std::future::ready(Ok(()))).await?;
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.traffic.request("copy", from, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct RemoteUpload {
    inner: Box<dyn MultipartUpload>,
    traffic: Arc<Traffic>,
    location: Path,
}

#[async_trait]
impl MultipartUpload for RemoteUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (traffic, location) = (Arc::clone(&self.traffic), self.location.clone());
        traffic.counts().bytes_written += data.content_length() as u64;
        let part = self.inner.put_part(data);
        Box::pin(async move { traffic.request("part", location, part).await })
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        self.traffic.request("complete", &self.location, self.inner.complete()).await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.traffic.request("abort", &self.location, self.inner.abort()).await
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Listing,
    Odp,
    OdpSnapshot,
}

impl Display for Engine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listing => "listing",
            Self::Odp => "odp",
            Self::OdpSnapshot => "odp, snapshot",
        })
    }
}

/// What is measured.
enum Work {
    Open,
    /// SQL, and the SQL of ListingTable where that is another.
    Query(String, Option<String>),
    /// Any so many rows will do.
    AnyRows(String),
    /// The rows of this SELECT, to one file.
    Copy(String),
    /// A batch by its index, which ListingTable has not.
    Batch(usize),
}

struct Question {
    name: &'static str,
    table: &'static str,
    work: Work,
}

fn questions() -> Vec<Question> {
    let query = |name, sql: &str| Question { name, table: "obs", work: Work::Query(sql.to_owned(), None) };
    let star = star::star();
    let area = "SELECT count(*), avg(temperature_c) FROM obs_geo WHERE";
    let within = format!("st_within(geometry, '{star}')");
    let in_box = "longitude BETWEEN -2 AND 22 AND latitude BETWEEN 57 AND 69";
    vec![
        Question { name: "open the table", table: "obs", work: Work::Open },
        query("`count(*)`", "SELECT count(*) FROM obs"),
        query(
            "means by station",
            "SELECT station_id, avg(temperature_c), min(temperature_c), max(temperature_c), avg(depth_m), \
             count(depth_m) FROM obs GROUP BY station_id ORDER BY station_id",
        ),
        query(
            "sums of three months",
            "SELECT count(*), sum(temperature_c), avg(dissolved_oxygen) FROM obs WHERE \"timestamp\" >= \
             TIMESTAMP '2020-06-01' AND \"timestamp\" < TIMESTAMP '2020-09-01'",
        ),
        query(
            "counts by year",
            "SELECT date_part('year', \"timestamp\") AS y, count(*) FROM obs GROUP BY y ORDER BY y",
        ),
        query(
            "top 10 with a filter",
            "SELECT \"timestamp\", station_id, temperature_c, depth_m FROM obs WHERE depth_m >= 50 AND \
             salinity_psu > 34.5 ORDER BY temperature_c DESC, \"timestamp\" LIMIT 10",
        ),
        Question {
            name: "polygon of 100 vertices",
            table: "obs_geo",
            work: Work::Query(format!("{area} {within}"), Some(format!("{area} {in_box} AND {within}"))),
        },
        Question {
            name: "`LIMIT 10`",
            table: "obs",
            work: Work::AnyRows("SELECT * FROM obs LIMIT 10".to_owned()),
        },
        Question { name: "one batch", table: "obs", work: Work::Batch(37) },
        Question {
            name: "filter to one file",
            table: "obs",
            work: Work::Copy("SELECT * FROM obs WHERE temperature_c > 12.0 AND depth_m <= 50".to_owned()),
        },
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Number(f64),
    Other(String),
}

impl Cell {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            _ => self == other,
        }
    }
}

type Answer = Vec<Vec<Cell>>;

fn answer(batches: &[RecordBatch]) -> Result<Answer> {
    let mut rows = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &Arc<dyn Array>| -> Result<Cell> {
                if column.data_type().is_floating() && !column.is_null(row) {
                    let numbers = cast(column, &DataType::Float64)?;
                    return Ok(Cell::Number(numbers.as_primitive::<Float64Type>().value(row)));
                }
                Ok(Cell::Other(array_value_to_string(column, row)?))
            };
            rows.push(batch.columns().iter().map(cell).collect::<Result<_>>()?);
        }
    }
    Ok(rows)
}

fn is_same(a: &Answer, b: &Answer) -> bool {
    let same_row =
        |(a, b): (&Vec<Cell>, &Vec<Cell>)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b));
    a.len() == b.len() && a.iter().zip(b).all(same_row)
}

/// One question in one engine: the first time in a session, and the second.
struct Measured {
    times: [Vec<Duration>; 2],
    counts: [Counts; 2],
    answer: Answer,
}

struct Bench {
    objects: Arc<InMemory>,
    remote: Arc<RemoteStore>,
    sessions: usize,
}

impl Bench {
    fn session(&self, engine: Engine, is_remote: bool) -> Result<SessionContext> {
        let ctx = SessionContext::new_with_config(SessionConfig::from_env()?);
        let odp = SessionContext::new();
        datafusion_odp::register(&odp)?;
        match engine {
            Engine::Listing => ctx.register_udf(odp.udf("st_within")?.as_ref().clone()),
            Engine::Odp | Engine::OdpSnapshot => datafusion_odp::register(&ctx)?,
        }
        let store: Arc<dyn ObjectStore> = match is_remote {
            true => Arc::clone(&self.remote) as _,
            false => Arc::clone(&self.objects) as _,
        };
        ctx.register_object_store(&Url::parse("memory://")?, store);
        Ok(ctx)
    }

    async fn measure(&self, engine: Engine, question: &Question) -> Result<Measured> {
        let mut measured = Measured { times: Default::default(), counts: Default::default(), answer: vec![] };
        for session in 0..self.sessions {
            let ctx = self.session(engine, true)?;
            if !matches!(question.work, Work::Open) {
                open(&ctx, engine, question.table).await?;
            }
            for turn in 0..2 {
                self.remote.traffic.take();
                let start = Instant::now();
                let answer = run(&ctx, engine, question).await?;
                measured.times[turn].push(start.elapsed());
                measured.counts[turn] = self.remote.traffic.take();
                let answer = match &question.work {
                    Work::Copy(_) => self.read_back(engine).await?,
                    Work::AnyRows(_) => vec![vec![Cell::Other(answer.len().to_string())]],
                    _ => answer,
                };
                if (session, turn) == (0, 0) {
                    measured.answer = answer;
                } else if !is_same(&measured.answer, &answer) {
                    return Err(format!("{}: {engine} gives two answers", question.name).into());
                }
            }
        }
        Ok(measured)
    }

    /// What the file that was written holds; not measured.
    async fn read_back(&self, engine: Engine) -> Result<Answer> {
        let ctx = self.session(Engine::Listing, false)?;
        let create =
            format!("CREATE EXTERNAL TABLE copied STORED AS PARQUET LOCATION '{}'", destination(engine));
        ctx.sql(&create).await?.collect().await?;
        let sql = "SELECT count(*), min(\"timestamp\"), max(\"timestamp\"), sum(temperature_c), sum(depth_m), \
                   avg(longitude), count(DISTINCT station_id) FROM copied";
        answer(&ctx.sql(sql).await?.collect().await?)
    }
}

fn destination(engine: Engine) -> String {
    format!("memory:///copied/{}.parquet", engine.to_string().replace(", ", "_"))
}

/// Opens `table` and registers it.
async fn open(ctx: &SessionContext, engine: Engine, table: &str) -> Result<()> {
    let location = format!("memory:///{table}/");
    match engine {
        Engine::Listing => {
            let create = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}'");
            ctx.sql(&create).await?.collect().await?;
        }
        Engine::Odp | Engine::OdpSnapshot => {
            let opened = OdpTableProvider::open(ctx, location).await?;
            ctx.register_table(table, Arc::new(opened))?;
        }
    }
    Ok(())
}

async fn run(ctx: &SessionContext, engine: Engine, question: &Question) -> Result<Answer> {
    let sql = match &question.work {
        Work::Open => {
            ctx.deregister_table(question.table)?;
            open(ctx, engine, question.table).await?;
            return Ok(vec![]);
        }
        Work::Batch(index) => return batch(ctx, question.table, *index).await,
        Work::Query(_, Some(sql)) if engine == Engine::Listing => sql.clone(),
        Work::Query(sql, _) | Work::AnyRows(sql) => sql.clone(),
        Work::Copy(select) => {
            let format = if engine == Engine::Listing { "PARQUET" } else { "ODP" };
            format!(
                "COPY ({select}) TO '{}' STORED AS {format} OPTIONS ('format.compression' 'zstd(3)', \
                 'format.max_row_group_size' '100000')",
                destination(engine)
            )
        }
    };
    let batches = ctx.sql(&sql).await?.collect().await?;
    match &question.work {
        Work::Copy(_) => Ok(vec![]),
        _ => answer(&batches),
    }
}

/// The number of rows of one batch.
async fn batch(ctx: &SessionContext, table: &str, index: usize) -> Result<Answer> {
    let provider = ctx.table_provider(table).await?;
    let table = provider.downcast_ref::<OdpTableProvider>().ok_or("not an ODP table")?;
    let batches: Vec<RecordBatch> = table.batch(ctx, index)?.try_collect().await?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(vec![vec![Cell::Other(rows.to_string())]])
}

/// Copies `obs/` and `obs_geo/` into memory.
async fn copy_in(data: PathBuf, objects: &InMemory) -> Result<()> {
    for table in ["obs", "obs_geo"] {
        for entry in std::fs::read_dir(data.join(table))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "parquet") {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let bytes = std::fs::read(&path)?;
                objects.put(&Path::from_iter([table, name.as_ref()]), bytes.into()).await?;
            }
        }
    }
    Ok(())
}

/// Writes `obs/` and `obs_geo/` of so many rows.
async fn make(rows: usize, ctx: &SessionContext) -> Result<()> {
    let columns = "'STATION-' || lpad(CAST(i % 50 AS VARCHAR), 3, '0') AS station_id, 45 + 37 * random() AS latitude, \
                   80 * random() - 30 AS longitude, 8 + 12 * (random() + random() - 1) AS temperature_c, \
                   34 + random() AS salinity_psu, CAST(5 * (1 + i * 7 % 40) AS BIGINT) AS depth_m, \
                   6 + 2 * random() AS dissolved_oxygen";
    let time = "arrow_cast(1577836800000000 + i * 60000000, 'Timestamp(Microsecond, None)') AS \"timestamp\"";
    let tables = [
        ("obs", "", ""),
        (
            "obs_geo",
            ", st_point(longitude, latitude) AS geometry",
            ", 'cluster_by' 'hilbert(longitude, latitude)'",
        ),
    ];
    for (table, geometry, cluster_by) in tables {
        let copy = format!(
            "COPY (SELECT *{geometry} FROM (SELECT {time}, {columns} FROM generate_series(1, {rows}) AS s(i))) \
             TO 'memory:///{table}/' STORED AS ODP OPTIONS ('format.compression' 'zstd(3)', 'batch_rows' '{}', \
             'max_file_rows' '{}'{cluster_by})",
            rows / ROW_GROUPS,
            rows / FILES,
        );
        ctx.sql(&copy).await?.collect().await?;
    }
    Ok(())
}

fn shown(times: &[Duration], counts: &Counts) -> String {
    let mut times = times.to_vec();
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let total: usize = counts.requests.values().sum();
    let mut kinds = counts.requests.iter().map(|(kind, count)| format!("{count} {kind}"));
    let kinds = kinds.by_ref().collect::<Vec<_>>().join(", ");
    let kinds = if total == 0 { String::new() } else { format!(": {kinds}") };
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let written = match counts.bytes_written {
        0 => String::new(),
        bytes => format!(" + {:.2} written", mb(bytes)),
    };
    format!(
        "{median:.0} | {total}{kinds} | {:.2}{written} | {}",
        mb(counts.bytes_read),
        counts.most_in_flight
    )
}

async fn compare(bench: &Bench, is_listing_requests: bool) -> Result<()> {
    let questions = questions();
    let mut rows: Vec<Vec<(Engine, Measured)>> = questions.iter().map(|_| vec![]).collect();
    for engine in [Engine::Odp, Engine::Listing, Engine::OdpSnapshot] {
        if engine == Engine::OdpSnapshot {
            let ctx = bench.session(Engine::Odp, false)?;
            for table in ["obs", "obs_geo"] {
                let opened = OdpTableProvider::open(&ctx, format!("memory:///{table}/")).await?;
                opened.write_snapshot(&ctx).await?;
            }
        }
        for (question, row) in questions.iter().zip(&mut rows) {
            if engine == Engine::Listing && matches!(question.work, Work::Batch(_)) {
                continue;
            }
            let measured = bench.measure(engine, question).await?;
            if let Some((other, first)) = row.first()
                && !is_same(&first.answer, &measured.answer)
            {
                let (a, b) = (&first.answer, &measured.answer);
                return Err(format!("{}: {other} gives {a:?}, {engine} {b:?}", question.name).into());
            }
            row.push((engine, measured));
        }
    }
    println!("| | engine | first ms | requests | MB | at once | second ms | requests | MB | at once |");
    println!("|---|---|--:|---|--:|--:|--:|---|--:|--:|");
    for (question, row) in questions.iter().zip(&rows) {
        for (engine, measured) in row {
            let [first, second] = [0, 1].map(|turn| shown(&measured.times[turn], &measured.counts[turn]));
            println!("| {} | {engine} | {first} | {second} |", question.name);
        }
    }
    if is_listing_requests {
        for (question, row) in questions.iter().zip(&rows) {
            for (engine, measured) in row {
                for (turn, counts) in ["first", "second"].iter().zip(&measured.counts) {
                    println!("\n{}, {engine}, {turn}:", question.name);
                    counts.log.iter().for_each(|request| println!("    {request}"));
                }
            }
        }
    }
    Ok(())
}

async fn measure() -> Result<()> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let is_test = has("--test");
    let latency_ms = match std::env::var("ODP_BENCH_LATENCY_MS") {
        Ok(text) => text.parse()?,
        Err(_) if is_test => 2,
        Err(_) => 30,
    };
    let objects = Arc::new(InMemory::new());
    let traffic = Arc::new(Traffic { latency: Duration::from_millis(latency_ms), counts: Mutex::default() });
    let remote = Arc::new(RemoteStore { inner: Arc::clone(&objects), traffic });
    let bench = Bench { objects, remote, sessions: if is_test { 1 } else { 3 } };
    let ctx = bench.session(Engine::Odp, false)?;
    match std::env::var_os("ODP_BENCH_DATA") {
        Some(data) => copy_in(data.into(), &bench.objects).await?,
        None => make(if is_test { 20_000 } else { 2_000_000 }, &ctx).await?,
    }
    for table in ["obs", "obs_geo"] {
        let opened = OdpTableProvider::open(&ctx, format!("memory:///{table}/")).await?;
        let snapshot = opened.snapshot();
        let bytes: u64 = snapshot.files().iter().map(|file| file.object_meta.size).sum();
        println!(
            "{table}: {} rows in {} files with {} batches, {:.0} MB",
            snapshot.num_rows(),
            snapshot.files().len(),
            snapshot.num_batches(),
            bytes as f64 / 1e6
        );
    }
    let partitions = ctx.copied_config().target_partitions();
    println!("{latency_ms} ms a request, {partitions} target partitions, {} sessions\n", bench.sessions);
    compare(&bench, has("--requests")).await
}

fn main() -> Result<()> {
    Runtime::new()?.block_on(measure())
}
