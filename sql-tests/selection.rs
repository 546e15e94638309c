//! Selections: every way to read one gives the rows of the filter, and what is said of its batches before is true.
//!
//! `ODP_SELECTION_CASES` sets the number of filters per dataset; a failure prints the seed and the filter.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::exec_err;
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::prelude::{SessionContext, col, lit};
use datafusion_odp::{BatchUnit, KeptReason, OdpError, OdpTableProvider, Selection, SelectionFilter};
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::equivalence::predicate;
use crate::fixtures::{
    Result, hostile, metric, observations, random_properties, session, shown, write, write_observations,
    write_with,
};
use crate::object_stores::RecordingStore;

pub(crate) fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("path is not UTF-8")?)
}

pub(crate) async fn read(stream: SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
    Ok(stream.try_collect().await?)
}

/// As text: layouts of strings differ between tables.
pub(crate) fn printed(rows: &[RecordBatch]) -> Result<Vec<String>> {
    let rows: Vec<RecordBatch> = rows.iter().filter(|rows| rows.num_rows() > 0).cloned().collect();
    Ok(pretty_format_batches(&rows)?.to_string().lines().map(str::to_owned).collect())
}

/// Random files with random filters, flat or in directories `p=…`.
pub(crate) struct RandomDataset {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) memory: SessionContext,
    pub(crate) is_partitioned: bool,
}

impl RandomDataset {
    pub(crate) fn new(random: &mut StdRng) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let is_partitioned = random.random_bool(0.5);
        let mut all: Vec<RecordBatch> = Vec::new();
        let mut first = 0;
        for file in 0..random.random_range(1..5) {
            let rows = random.random_range(1..36);
            let data = hostile(first, rows, random)?;
            first += i64::try_from(rows)?;
            let name = match is_partitioned {
                true => format!("p={}/f{file}.parquet", file / 2),
                false => format!("f{file}.parquet"),
            };
            write_with(&dir.path().join(name), &data, random_properties(random))?;
            let p: ArrayRef = Arc::new(Int64Array::from(vec![file / 2; rows]));
            let mut fields: Vec<_> = data.schema().fields().iter().cloned().collect();
            let mut columns = data.columns().to_vec();
            if is_partitioned {
                fields.push(Arc::new(datafusion::arrow::datatypes::Field::new(
                    "p",
                    p.data_type().clone(),
                    true,
                )));
                columns.push(p);
            }
            all.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?);
        }
        let memory = session(1, &[])?;
        memory.register_table("t", Arc::new(MemTable::try_new(all[0].schema(), vec![all])?))?;
        Ok(Self { dir, memory, is_partitioned })
    }

    pub(crate) async fn open(&self, random: &mut StdRng, ctx: &SessionContext) -> Result<OdpTableProvider> {
        let units = [
            BatchUnit::RowGroup,
            BatchUnit::RowGroup,
            BatchUnit::File,
            BatchUnit::Rows(11),
            BatchUnit::Rows(40),
        ];
        let unit = units[random.random_range(0..units.len())];
        Ok(OdpTableProvider::builder(text(self.dir.path())?).with_batch_unit(unit).open(ctx).await?)
    }

    pub(crate) fn filter(&self, random: &mut StdRng) -> String {
        let filter = predicate(random, 3);
        let op = ["=", "<", ">=", "<>"][random.random_range(0..4)];
        let p = random.random_range(0..3);
        match random.random_range(0..6) {
            0 if self.is_partitioned => format!("p {op} {p}"),
            1 if self.is_partitioned => format!("p {op} {p} AND {filter}"),
            2 if self.is_partitioned => format!("p {op} {p} OR {filter}"),
            // Few batches are proven to match a long filter.
            3 => format!("{} AND id {op} {}", predicate(random, 0), random.random_range(0..100)),
            4 => predicate(random, 0),
            _ => filter,
        }
    }
}

/// A session with random settings.
pub(crate) fn random_session(random: &mut StdRng) -> Result<SessionContext> {
    let switch = |random: &mut StdRng| if random.random_bool(0.7) { "true" } else { "false" };
    let settings = [
        ("odp.pruning", switch(random)),
        ("odp.pushdown_filters", switch(random)),
        ("odp.source_order", switch(random)),
        ("odp.max_partitions", ["0", "1", "3", "50"][random.random_range(0..4)]),
        ("odp.max_open_batches", ["1", "2", "100"][random.random_range(0..3)]),
    ];
    session([1, 2, 8][random.random_range(0..3)], &settings)
}

/// Batches that were skipped, and counts of rows that were known.
async fn compare(seed: u64, cases: usize) -> Result<(usize, usize)> {
    let mut random = StdRng::seed_from_u64(seed);
    let dataset = RandomDataset::new(&mut random)?;
    let (mut skipped, mut proven) = (0, 0);
    let mut ctx = random_session(&mut random)?;
    let mut table = dataset.open(&mut random, &ctx).await?;
    for case in 0..cases {
        if case % 5 == 4 {
            ctx = random_session(&mut random)?;
            table = dataset.open(&mut random, &ctx).await?;
        }
        let filter = dataset.filter(&mut random);
        let name = format!("seed {seed}, case {case}: {filter}");
        let columns = ["id", "f", "s", "lat"];
        let columns = &columns[..random.random_range(1..=columns.len())];
        let sql = format!("SELECT {} FROM t WHERE {filter} ORDER BY id", columns.join(", "));
        let expected = printed(&dataset.memory.sql(&sql).await?.collect().await?)?;
        let selection =
            table.select(SelectionFilter::sql(&filter)).columns(columns.iter().copied()).plan(&ctx).await?;
        skipped += selection.total_batches() - selection.batch_count();

        let mut one_by_one = Vec::new();
        for batch in selection.batches() {
            let rows = read(selection.batch(batch.position).await?).await?;
            let found: u64 = rows.iter().map(|rows| rows.num_rows() as u64).sum();
            assert!(batch.rows.min <= found && found <= batch.rows.max, "{name}: {found} of {batch:?}");
            assert!(rows.iter().all(|rows| rows.schema() == selection.schema()), "{name}");
            proven += usize::from(batch.rows.is_exact());
            one_by_one.extend(rows);
        }
        assert_eq!(printed(&one_by_one)?, expected, "{name}: batch by batch");
        let ordered = read(selection.execute().await?).await?;
        assert_eq!(printed(&ordered)?, expected, "{name}: execute");
        let mut unordered = printed(&read(selection.execute_unordered().await?).await?)?;
        unordered.sort();
        let mut sorted = expected.clone();
        sorted.sort();
        assert_eq!(unordered, sorted, "{name}: execute_unordered");
        let frame = selection.to_dataframe()?.sort(vec![col("id").sort(true, true)])?;
        assert_eq!(printed(&frame.collect().await?)?, expected, "{name}: to_dataframe");
        let rows = selection.estimated_rows();
        let found: u64 = ordered.iter().map(|rows| rows.num_rows() as u64).sum();
        assert!(rows.min <= found && found <= rows.max && rows.min <= rows.estimate(), "{name}: {rows}");
    }
    Ok((skipped, proven))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_selections_hold_the_rows_of_the_filter_and_bounds_are_true() -> Result<()> {
    let cases = std::env::var("ODP_SELECTION_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let (mut skipped, mut proven) = (0, 0);
    for seed in 0..10 {
        let of_dataset = compare(seed, cases).await?;
        (skipped, proven) = (skipped + of_dataset.0, proven + of_dataset.1);
    }
    assert!(skipped > 50 && proven > 30, "{skipped} batches skipped, {proven} counts proven");
    Ok(())
}

/// 4 files × 5 row groups × 100 rows, `id` and `time` ascending.
async fn observed(dir: &Path, ctx: &SessionContext) -> Result<OdpTableProvider> {
    write_observations(dir, 4, 5, 100)?;
    Ok(OdpTableProvider::open(ctx, text(dir)?).await?)
}

pub(crate) fn ids(rows: &[RecordBatch]) -> Vec<i64> {
    rows.iter()
        .filter_map(|rows| rows.column_by_name("id"))
        .flat_map(|ids| ids.as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

#[tokio::test]
async fn what_is_known_of_each_batch_comes_with_its_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(4, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let selection = table.select(SelectionFilter::sql("id >= 450 AND id < 1000")).plan(&ctx).await?;
    assert_eq!((selection.batch_count(), selection.total_batches()), (6, 20));
    let batches: Vec<_> = selection.batches().collect();
    let known: Vec<_> =
        batches.iter().map(|b| (b.position, b.batch_index, b.rows.min, b.rows.max, b.reason)).collect();
    use KeptReason::{AllRowsMatch, MayMatch};
    assert_eq!(known[0], (0, 4, 0, 100, MayMatch));
    assert_eq!(known[1], (1, 5, 100, 100, AllRowsMatch));
    assert_eq!(known[5], (5, 9, 100, 100, AllRowsMatch));
    assert_eq!(selection.estimated_rows().min, 500);
    assert_eq!(selection.estimated_rows().estimate(), 550);
    assert_eq!(batches[1].identity.first_row, 0);
    assert!(batches[1].identity.object_meta.location.as_ref().ends_with("part-1.parquet"));
    assert!(batches[1].compressed_bytes > 0 && batches[1].extent.is_none());
    let (first, last) = batches[1].time_range.clone().ok_or("no time range")?;
    assert_eq!((first.to_string(), last.to_string()), ("30000000000".into(), "35940000000".into()));
    assert_eq!(selection.selected_batch(6), None);

    let never = table.select(SelectionFilter::sql("id > 5 AND false")).plan(&ctx).await?;
    assert_eq!((never.batch_count(), never.estimated_rows().max), (0, 0));
    assert!(read(never.execute().await?).await?.iter().all(|rows| rows.num_rows() == 0));
    let all = table.select_all().columns(["time", "id"]).plan(&ctx).await?;
    assert_eq!((all.batch_count(), all.estimated_rows().min), (20, 2000));
    assert_eq!(all.schema().fields()[1].name(), "id");
    assert_eq!(ids(&read(all.execute().await?).await?), (0..2000).collect::<Vec<_>>());
    let floats = table.select(SelectionFilter::sql("temperature > -100.0")).plan(&ctx).await?;
    assert_eq!(floats.estimated_rows().min, 0, "NaN is not in the bounds of floats");
    Ok(())
}

#[tokio::test]
async fn an_area_tells_batches_inside_from_those_at_its_edge() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[("odp.finite_coordinates", "true")])?;
    let sql = format!(
        "COPY (SELECT value AS id, value / 10.0 AS longitude, 5.0 AS latitude FROM generate_series(0, 999) ORDER BY id)
         TO '{}/a.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '100')",
        text(dir.path())?
    );
    ctx.sql(&sql).await?.collect().await?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let area = "st_within(st_point(longitude, latitude), 'POLYGON((15 0, 45 0, 45 9, 15 9, 15 0))')";
    let selection = table.select(SelectionFilter::sql(area)).plan(&ctx).await?;
    let known: Vec<_> = selection.batches().map(|b| (b.batch_index, b.rows.min, b.reason)).collect();
    use KeptReason::{Boundary, Inside};
    assert_eq!(known, [(1, 0, Boundary), (2, 100, Inside), (3, 100, Inside), (4, 0, Boundary)]);
    let extent = selection.selected_batch(1).and_then(|b| b.extent);
    assert_eq!(extent, Some([20.0, 5.0, 29.9, 5.0]));
    let found: usize = read(selection.execute().await?).await?.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(found, 299);
    Ok(())
}

#[tokio::test]
async fn planning_and_counting_ask_the_store_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 4, 5, 100)?;
    let store = Arc::new(RecordingStore::new(Arc::new(LocalFileSystem::new_with_prefix(dir.path())?)));
    let ctx = session(2, &[])?;
    ctx.register_object_store(&"count://x".parse()?, Arc::clone(&store) as _);
    let table = OdpTableProvider::open(&ctx, "count://x/").await?;
    assert!(store.take().len() > 4);
    let filter = SelectionFilter::sql("id >= 450 AND depth > 100");
    let selection = table.select(filter).columns(["id"]).plan(&ctx).await?;
    assert_eq!((selection.batch_count(), selection.batches().len()), (16, 16));
    let _ = (selection.estimated_rows(), selection.batches().collect::<Vec<_>>(), selection.tickets()?);
    assert_eq!(store.take(), Vec::<String>::new());
    let stream = selection.batch(3).await?;
    assert_eq!(store.take(), Vec::<String>::new(), "nothing is read before the stream is polled");
    read(stream).await?;
    assert!(!store.take().is_empty());
    Ok(())
}

#[tokio::test]
async fn filters_that_cannot_be_decided_row_by_row_are_planning_errors() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    for (filter, expected) in [
        ("nosuch > 5", "nosuch"),
        ("depth + 1", "boolean"),
        ("sum(depth) > 5", "aggregate"),
        ("row_number() OVER () > 5", "window"),
        ("id IN (SELECT 1)", "subquery"),
        ("random() > 0.5", "same answer"),
        ("depth > $1", "no value is bound to $1"),
        ("depth >", "Expected"),
        ("depth = 'x'", "x"),
    ] {
        let planned = table.select(SelectionFilter::sql(filter)).plan(&ctx).await;
        let message = planned.err().ok_or(filter)?.to_string();
        assert!(message.contains(expected), "{filter}: {message}");
    }
    // A chain nests, a list does not.
    let chain = |terms: usize| SelectionFilter::sql(format!("id = 1{}", " OR depth = id".repeat(terms)));
    let list: Vec<String> = (0..20_000).map(|id| id.to_string()).collect();
    let list = SelectionFilter::sql(format!("id IN ({})", list.join(", ")));
    assert_eq!(table.select(list).plan(&ctx).await?.batch_count(), 20);
    assert!(table.select(chain(100)).plan(&ctx).await.is_ok());
    let message = table.select(chain(5_000)).plan(&ctx).await.err().ok_or("no error")?.to_string();
    assert!(message.contains("at most 2000"), "{message}");
    for (columns, expected) in [
        (vec!["nosuch"], "the columns are id, station"),
        (vec!["id", "id"], "twice"),
        (vec![], "at least one"),
    ] {
        let planned = table.select_all().columns(columns).plan(&ctx).await;
        let message = planned.err().ok_or(expected)?.to_string();
        assert!(message.contains(expected), "{message}");
    }
    let selection = table.select(col("depth").gt(lit(150))).plan(&ctx).await?;
    let past = selection.batch(selection.batch_count()).await.err().ok_or("no error")?;
    assert!(past.to_string().contains("the selection has 20 batches"), "{past}");
    Ok(())
}

#[tokio::test]
async fn now_is_the_time_of_planning() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let filter = SelectionFilter::sql("time < now() AND id < 150");
    let selection = table.select(filter).plan(&ctx).await?;
    assert_eq!(selection.batch_count(), 2);
    assert_eq!(selection.selected_batch(0).map(|b| b.reason), Some(KeptReason::AllRowsMatch));
    let plan = selection.to_dataframe()?.create_physical_plan().await?;
    assert!(!shown(&plan).contains("now()"), "{}", shown(&plan));
    Ok(())
}

#[tokio::test]
async fn one_batch_reads_its_own_rows_and_pages_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(4, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let selection = table.select(SelectionFilter::sql("id >= 450")).columns(["station"]).plan(&ctx).await?;
    let frame = selection.to_dataframe()?.filter(col("station").eq(lit("s3")))?;
    let plan = frame.create_physical_plan().await?;
    assert!(shown(&plan).contains("batches=16 of 16"), "{}", shown(&plan));
    assert!(
        shown(&plan).contains("id@0 >= 450") && shown(&plan).contains("station@1 = s3"),
        "{}",
        shown(&plan)
    );
    let more = selection.to_dataframe()?.filter(col("station").eq(lit("t")))?.create_physical_plan().await?;
    assert!(shown(&more).contains("EmptyExec"), "{}", shown(&more));
    assert_eq!(metric(&plan, "bytes_scanned"), 0);
    let counted = selection.to_dataframe()?.count().await?;
    assert_eq!(counted, 1550);
    Ok(())
}

#[tokio::test]
async fn batches_stream_with_their_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let selection = table.select(SelectionFilter::sql("id >= 1650")).plan(&ctx).await?;
    let mut batches = selection.stream_batches();
    let mut seen = Vec::new();
    while let Some(opened) = batches.try_next().await? {
        let rows = ids(&read(opened.stream).await?);
        seen.push((opened.batch.batch_index, opened.total, rows[0], rows.len()));
    }
    assert_eq!(seen, [(16, 4, 1650, 50), (17, 4, 1700, 100), (18, 4, 1800, 100), (19, 4, 1900, 100)]);
    Ok(())
}

async fn twenty(dir: &Path, target_partitions: usize) -> Result<Selection> {
    let ctx = session(target_partitions, &[])?;
    Ok(observed(dir, &ctx).await?.select_all().columns(["id"]).plan(&ctx).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_in_batch_order_whoever_is_ready_first() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let selection = twenty(dir.path(), 4).await?;
    let results: Vec<(usize, usize)> = selection
        .map_batches(|batch, stream| async move {
            tokio::time::sleep(Duration::from_millis((batch.position % 4 == 0) as u64 * 20)).await;
            let rows: Vec<RecordBatch> = stream.try_collect().await?;
            Ok((batch.position, rows.iter().map(RecordBatch::num_rows).sum()))
        })
        .try_collect()
        .await?;
    assert_eq!(results, (0..20).map(|i| (i, 100)).collect::<Vec<_>>());
    let firsts: Vec<i64> = selection
        .map_record_batches(|batch, rows| {
            std::thread::sleep(Duration::from_millis((batch.position % 4 == 0) as u64 * 10));
            Ok(ids(&rows)[0])
        })
        .try_collect()
        .await?;
    assert_eq!(firsts, (0..20).map(|i| i * 100).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_batches_start_than_results_are_taken() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let selection = twenty(dir.path(), 3).await?;
    let (started, running, peak) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&started), Arc::clone(&running), Arc::clone(&peak));
    let mut results = selection.map_batches(move |batch, _| {
        let (started, running, peak) = counters.clone();
        async move {
            started.fetch_add(1, Ordering::SeqCst);
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(batch.position)
        }
    });
    assert_eq!(started.load(Ordering::SeqCst), 0, "nothing runs before the stream is polled");
    for taken in 0..20 {
        assert_eq!(results.try_next().await?, Some(taken));
        tokio::time::sleep(Duration::from_millis(4)).await;
        assert!(started.load(Ordering::SeqCst) <= taken + 3, "{} started", started.load(Ordering::SeqCst));
    }
    assert_eq!(results.try_next().await?, None);
    assert!((2..=3).contains(&peak.load(Ordering::SeqCst)), "{} at a time", peak.load(Ordering::SeqCst));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_or_a_panic_is_the_last_result_and_names_the_batch() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let selection = twenty(dir.path(), 4).await?;
    let (finished, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let fails = |kind: &'static str, finished: &Arc<AtomicUsize>| {
        let (finished, running) = (Arc::clone(finished), Arc::clone(&running));
        selection.map_batches(move |batch, _| {
            let (finished, runs) = (Arc::clone(&finished), Arc::clone(&running));
            async move {
                match (batch.position, kind) {
                    (5, "error") => return exec_err!("no such luck"),
                    (5, _) => panic!("no such {}", "luck"),
                    // Until it is cancelled.
                    (6.., _) => futures::future::pending().await,
                    _ => {}
                }
                drop(runs);
                finished.fetch_add(1, Ordering::SeqCst);
                Ok(batch.position)
            }
        })
    };
    for kind in ["error", "panic"] {
        let results: Vec<_> = fails(kind, &finished).collect().await;
        assert_eq!(results.len(), 6, "{kind}");
        assert!(results[..5].iter().all(|result| result.is_ok()), "{kind}");
        let message = results[5].as_ref().err().ok_or("no error")?.to_string();
        for part in ["no such luck", "batch 5 of the dataset", "part-1.parquet"] {
            assert!(message.contains(part), "{kind}: {message}");
        }
    }
    let sync: Vec<_> = selection
        .map_record_batches(|batch, _| if batch.position == 1 { panic!("sync") } else { Ok(()) })
        .collect()
        .await;
    assert_eq!(sync.len(), 2);
    let message = sync[1].as_ref().err().ok_or("no error")?.to_string();
    assert!(message.contains("panicked") && message.contains("sync"), "{message}");
    assert_eq!(finished.load(Ordering::SeqCst), 10);
    let is_cancelled = async {
        while Arc::strong_count(&running) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_cancelled).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_results_cancels_what_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let selection = twenty(dir.path(), 4).await?;
    let (started, finished) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&started), Arc::clone(&finished));
    let mut results = selection.map_batches(move |batch, _| {
        let (started, finished) = counters.clone();
        async move {
            started.fetch_add(1, Ordering::SeqCst);
            if batch.position > 0 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                finished.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    results.try_next().await?;
    drop(results);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(started.load(Ordering::SeqCst) >= 1);
    assert_eq!(finished.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_replaced_is_an_error_of_its_batches_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let selection = table.select(SelectionFilter::sql("id >= 450")).plan(&ctx).await?;
    write(&dir.path().join("part-2.parquet"), &observations(0, 501, 9)?, 100)?;
    for batch in selection.batches() {
        let rows = read(selection.batch(batch.position).await?).await;
        match batch.identity.object_meta.location.as_ref().contains("part-2") {
            false => assert!(!rows?.is_empty()),
            true => {
                let error = rows.err().ok_or("no error")?;
                let error = error
                    .downcast::<datafusion::common::DataFusionError>()
                    .map_err(|_| "not DataFusion's")?;
                assert!(is_changed(&error), "{error}");
            }
        }
    }
    Ok(())
}

/// Whether the cause is [`OdpError::Changed`].
pub(crate) fn is_changed(error: &datafusion::common::DataFusionError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref::<OdpError>(), Some(OdpError::Changed { .. })) {
            return true;
        }
        cause = error.source();
    }
    error.to_string().contains("changed since")
}

#[tokio::test]
async fn one_of_very_many_batches_is_read_without_the_others() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &observations(0, 20_000, 1)?, 20_000)?;
    let store = Arc::new(RecordingStore::new(Arc::new(LocalFileSystem::new_with_prefix(dir.path())?)));
    let ctx = session(2, &[])?;
    ctx.register_object_store(&"count://x".parse()?, Arc::clone(&store) as _);
    let table =
        OdpTableProvider::builder("count://x/").with_batch_unit(BatchUnit::Rows(1)).open(&ctx).await?;
    let selection = table.select(SelectionFilter::sql("depth >= 0")).columns(["id"]).plan(&ctx).await?;
    assert_eq!(selection.batch_count(), 20_000);
    store.take();
    assert_eq!(ids(&read(selection.batch(17_000).await?).await?), [17_000]);
    // The page index, and the pages of two columns.
    let requests = store.take();
    assert!((1..=5).contains(&requests.len()), "{requests:?}");
    assert!(requests.iter().all(|request| request.ends_with(" a.parquet")), "{requests:?}");
    Ok(())
}

#[tokio::test]
async fn batches_of_one_value_that_is_in_a_list_match_as_a_whole() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let values =
        (0..6).flat_map(|k| [Some(k), if k == 4 { None } else { Some(k) }]).chain([Some(1), Some(3)]);
    let rows = RecordBatch::try_from_iter([("k", Arc::new(values.collect::<Int64Array>()) as ArrayRef)])?;
    write(&dir.path().join("a.parquet"), &rows, 2)?;
    let ctx = session(2, &[("odp.pruning", "true")])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let many: Vec<String> = (100..1100).map(|k| k.to_string()).collect();
    let filter = format!("k IN (1, 3, 4, NULL, {})", many.join(", "));
    let selection = table.select(SelectionFilter::sql(filter)).plan(&ctx).await?;
    let proven: Vec<usize> =
        selection.batches().filter(|batch| batch.rows.is_exact()).map(|batch| batch.batch_index).collect();
    // Not the one with a NULL, nor the one of two values that are both in the list.
    assert_eq!(proven, [1, 3]);
    let found: usize = read(selection.execute().await?).await?.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(found, 7);
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_deleted_has_changed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let table = observed(dir.path(), &ctx).await?;
    let selection = table.select("id >= 450 and depth > 20").columns(["id"]).plan(&ctx).await?;
    std::fs::remove_file(dir.path().join("part-2.parquet"))?;
    for batch in selection.batches() {
        let is_gone = batch.identity.object_meta.location.as_ref().contains("part-2");
        let rows = selection.batch(batch.position).await?.try_collect::<Vec<RecordBatch>>().await;
        match rows {
            Ok(_) => assert!(!is_gone),
            Err(error) => assert!(is_gone && is_changed(&error), "{error}"),
        }
    }
    let whole = selection.execute().await?.try_collect::<Vec<RecordBatch>>().await;
    assert!(is_changed(&whole.err().ok_or("no error")?));
    Ok(())
}
