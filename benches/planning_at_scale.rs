//! What do 1,000 to 100,000 files cost before any of them is read: to open, to plan a query, to count the batches of a
//! selection?
//!
//! Data: none. An object store in memory lists files of 10 row groups and 6 columns, and serves each a footer of its
//! own: one real footer, with the bounds of `id`, `longitude` and `latitude` patched. A file's row groups follow each
//! other by `id`, files too.
//!
//! Measured, with the median of three runs (one at 100,000 files without a snapshot file) and the resident memory after:
//!
//! | column | is |
//! |---|---|
//! | cold | [`OdpTableProvider::open`] in a new session: a listing, and each footer |
//! | cached | the same again in that session, as far as its footer cache goes (DataFusion's default limit) |
//! | snapshot | the same in a new session, with a snapshot file in the dataset: a listing, and one read |
//! | plan | SQL to physical plan, of a filter that keeps 10 batches; of all batches |
//! | listing | the peer: `register_parquet` in a new session, and the first plan of the same query, which reads footers for their statistics; then the second plan |
//! | count | `table.select(filter).plan()` and its `batch_count()`, of that filter, and of an area |
//!
//! ```sh
//! cargo bench --features cli --bench planning_at_scale            # to 10,000 files
//! cargo bench --features cli --bench planning_at_scale -- 100000  # two minutes, and a gigabyte
//! cargo bench --features cli --bench planning_at_scale -- 1000000 # 10,000,000 batches, without cached and listing
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    Attributes, CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result as StoreResult,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use datafusion_odp::{OdpTableProvider, SelectionFilter};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::runtime::Runtime;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const ROW_GROUPS: i64 = 10;
const ROWS: i64 = 10;
const FIRST_ID: i64 = 0x5A5A_0000_0000_0000;
const FIRST_DEGREE: f64 = 123_456.015_625;

/// Files that exist as footers alone.
#[derive(Debug)]
struct FooterStore {
    files: usize,
    template: Vec<u8>,
    /// Where bounds stand in the template: position, kind, row group, whether it is the upper one.
    patches: Vec<(usize, Bound, i64, bool)>,
    snapshot: Mutex<Option<Bytes>>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    Id,
    Longitude,
    Latitude,
}

impl FooterStore {
    fn new(files: usize) -> Result<Self> {
        let ids: Vec<i64> = (FIRST_ID..FIRST_ID + ROW_GROUPS * ROWS).collect();
        let degrees = |offset: f64| -> Float64Array {
            (0..ids.len()).map(|i| Some(FIRST_DEGREE + offset + i as f64 / 1024.0)).collect()
        };
        let (longitudes, latitudes) = (degrees(0.0), degrees(1000.0));
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids.clone())) as _),
            (
                "station",
                Arc::new(ids.iter().map(|id| Some(format!("S{}", id % 50))).collect::<StringArray>()) as _,
            ),
            (
                "time",
                Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| id % 1000))) as _,
            ),
            ("longitude", Arc::new(longitudes.clone()) as _),
            ("latitude", Arc::new(latitudes.clone()) as _),
            (
                "depth_m",
                Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| (id % 200) as f64))) as _,
            ),
        ])?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(usize::try_from(ROWS)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let mut template = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut template, rows.schema(), Some(properties))?;
        writer.write(&rows)?;
        writer.close()?;
        let length = u32::from_le_bytes(template[template.len() - 8..template.len() - 4].try_into()?);
        let footer = template.len() - 8 - usize::try_from(length)?;
        let mut patches = Vec::new();
        for at in footer..template.len() - 8 {
            let bytes: [u8; 8] = template[at..at + 8].try_into()?;
            for group in 0..ROW_GROUPS {
                for (row, is_upper) in [(group * ROWS, false), (group * ROWS + ROWS - 1, true)] {
                    let row_index = usize::try_from(row)?;
                    if bytes == (FIRST_ID + row).to_le_bytes() {
                        patches.push((at, Bound::Id, group, is_upper));
                    } else if bytes == longitudes.value(row_index).to_le_bytes() {
                        patches.push((at, Bound::Longitude, group, is_upper));
                    } else if bytes == latitudes.value(row_index).to_le_bytes() {
                        patches.push((at, Bound::Latitude, group, is_upper));
                    }
                }
            }
        }
        Ok(Self { files, template, patches, snapshot: Mutex::default() })
    }

    /// File `index`, all of it.
    fn file(&self, index: usize) -> Bytes {
        let mut bytes = self.template.clone();
        for (at, bound, group, is_upper) in &self.patches {
            let batch = i64::try_from(index).unwrap_or(0) * ROW_GROUPS + group;
            let value = match bound {
                Bound::Id => (batch * ROWS + if *is_upper { ROWS - 1 } else { 0 }).to_le_bytes(),
                // A track around the globe, a hundredth of a degree in each batch.
                Bound::Longitude => {
                    ((batch % 36_000) as f64 / 100.0 - 180.0 + f64::from(*is_upper) / 100.0).to_le_bytes()
                }
                Bound::Latitude => {
                    ((batch / 36_000) as f64 / 10.0 - 80.0 + f64::from(*is_upper) / 10.0).to_le_bytes()
                }
            };
            bytes[*at..at + 8].copy_from_slice(&value);
        }
        bytes.into()
    }

    fn meta(&self, location: Path, size: usize) -> ObjectMeta {
        ObjectMeta {
            location,
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size: size as u64,
            e_tag: Some("1".into()),
            version: None,
        }
    }

    fn snapshot(&self) -> Option<Bytes> {
        self.snapshot.lock().ok()?.clone()
    }
}

impl Display for FooterStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("FooterStore")
    }
}

fn unsupported() -> StoreError {
    StoreError::NotSupported { source: "there are only footers here".into() }
}

#[async_trait]
impl ObjectStore for FooterStore {
    async fn put_opts(&self, _: &Path, payload: PutPayload, _: PutOptions) -> StoreResult<PutResult> {
        if let Ok(mut snapshot) = self.snapshot.lock() {
            *snapshot = Some(payload.into());
        }
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(unsupported())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let name = location.filename().unwrap_or_default();
        let number = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".parquet"));
        let bytes = match number.and_then(|number| number.parse().ok()) {
            Some(index) => self.file(index),
            None => self.snapshot().ok_or_else(unsupported)?,
        };
        let meta = self.meta(location.clone(), bytes.len());
        let size = bytes.len() as u64;
        let range = match options.range {
            None => 0..size,
            Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
            Some(GetRange::Offset(start)) => start..size,
            Some(GetRange::Suffix(length)) => size.saturating_sub(length)..size,
        };
        let index = |at: u64| usize::try_from(at).unwrap_or(0);
        let part = bytes.slice(index(range.start)..index(range.end));
        let payload = GetResultPayload::Stream(stream::iter([Ok(part)]).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        locations
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let size = self.template.len();
        let files = (0..self.files).map(|i| self.meta(Path::from(format!("d/part-{i:07}.parquet")), size));
        let snapshot = self.snapshot().map(|bytes| self.meta(Path::from("d/_odp_snapshot"), bytes.len()));
        stream::iter(files.chain(snapshot).map(Ok).collect::<Vec<_>>()).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> StoreResult<ListResult> {
        Err(unsupported())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        Err(unsupported())
    }
}

fn session(store: &Arc<FooterStore>) -> Result<SessionContext> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let url = ObjectStoreUrl::parse("memory://")?;
    ctx.register_object_store(url.as_ref(), Arc::clone(store) as Arc<dyn ObjectStore>);
    Ok(ctx)
}

async fn open(ctx: &SessionContext) -> Result<OdpTableProvider> {
    Ok(OdpTableProvider::open(ctx, "memory:///d/").await?)
}

/// Resident memory of this process, in MB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The median time of `runs` runs, and what the last one gave.
macro_rules! timed {
    ($runs:expr, $run:expr) => {{
        let mut times = Vec::new();
        let mut last = None;
        for _ in 0..$runs {
            drop(last.take());
            let start = Instant::now();
            last = Some($run);
            times.push(start.elapsed());
        }
        (median(times), last.ok_or("not run")?)
    }};
}

async fn measure(files: usize) -> Result<()> {
    let store = Arc::new(FooterStore::new(files)?);
    let runs = if files >= 100_000 { 1 } else { 3 };
    let (cold, (ctx, table)) = timed!(runs, {
        let ctx = session(&store)?;
        let table = open(&ctx).await?;
        (ctx, table)
    });
    let batches = table.snapshot().num_batches();
    println!("{files} files, {batches} batches");
    println!("  cold      {cold:>10.1?}");
    let is_largest = files > 100_000;
    if !is_largest {
        let (cached, again) = timed!(runs, open(&ctx).await?);
        println!("  cached    {cached:>10.1?}");
        drop(again);
    }
    let start = Instant::now();
    table.write_snapshot(&ctx).await?;
    let bytes = store.snapshot().map_or(0, |bytes| bytes.len());
    println!("  written   {:>10.1?}  {bytes} bytes, {} a batch", start.elapsed(), bytes / batches.max(1));
    drop((table, ctx));
    let before = resident();
    let (by_snapshot, (ctx, table)) = timed!(3, {
        let ctx = session(&store)?;
        let table = open(&ctx).await?;
        (ctx, table)
    });
    println!("  snapshot  {by_snapshot:>10.1?}  resident {} MB, before {before} MB", resident());
    let first = i64::try_from(batches)? * ROWS / 2;
    let filter = format!("id >= {first} AND id < {}", first + 10 * ROWS);
    let middle = i64::try_from(batches)? / 2;
    let (west, south) = ((middle % 36_000) as f64 / 100.0 - 180.0, (middle / 36_000) as f64 / 10.0 - 80.0);
    let (east, north) = (west + 0.095, south + 0.05);
    let area =
        format!("POLYGON(({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))");
    let area = format!("st_within(st_point(longitude, latitude), '{area}')");
    let ids = format!("id >= {first} and id < {}", first + 10 * ROWS);
    for (name, filter) in [("ids", SelectionFilter::from(ids)), ("area", SelectionFilter::sql(area))] {
        let (count, selection) = timed!(5, table.select(filter.clone()).plan(&ctx).await?);
        let position = selection.batch_count() / 2;
        println!("  count     {count:>10.1?}  {name}: {} batches kept", selection.batch_count());
        let start = Instant::now();
        let stream = selection.batch(position).await?;
        println!("  batch(i)  {:>10.1?}  planned", start.elapsed());
        drop(stream);
        let start = Instant::now();
        let text = selection.ticket(position)?.to_string();
        println!("  ticket    {:>10.1?}  {} bytes", start.elapsed(), text.len());
    }
    let (all, selection) = timed!(3, table.select_all().plan(&ctx).await?);
    println!("  count     {all:>10.1?}  everything: {} batches", selection.batch_count());
    drop(selection);
    ctx.register_table("t", Arc::new(table))?;
    let sql = format!("SELECT station, avg(depth_m) FROM t WHERE {filter} GROUP BY station");
    let (plan, _) = timed!(5, ctx.sql(&sql).await?.create_physical_plan().await?);
    println!("  plan      {plan:>10.1?}  10 batches kept");
    let sql = "SELECT station, avg(depth_m) FROM t GROUP BY station";
    let (plan, _) = timed!(3, ctx.sql(sql).await?.create_physical_plan().await?);
    println!("  plan all  {plan:>10.1?}  {batches} batches kept, resident {} MB", resident());
    drop(ctx);
    if is_largest {
        return Ok(());
    }
    let ctx = session(&store)?;
    let sql = format!("SELECT station, avg(depth_m) FROM listing WHERE {filter} GROUP BY station");
    let start = Instant::now();
    ctx.register_parquet("listing", "memory:///d/", ParquetReadOptions::default()).await?;
    ctx.sql(&sql).await?.create_physical_plan().await?;
    println!("  listing   {:>10.1?}  to the first plan", start.elapsed());
    let (plan, _) = timed!(3, ctx.sql(&sql).await?.create_physical_plan().await?);
    println!("  listing   {plan:>10.1?}  the second plan");
    Ok(())
}

fn main() -> Result<()> {
    let most = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(10_000);
    let runtime = Runtime::new()?;
    for files in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|files| *files <= most) {
        runtime.block_on(measure(files))?;
    }
    Ok(())
}
