//! Writing: order, bytes, partitions, memory, and what is left after a write that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DataFusionResult, exec_err};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_odp::{OdpTableProvider, WriteMode, WriteOdp, WriteOptions};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, observations, session, write, write_observations};

/// Rows of the larger tests; `ODP_SINK_ROWS=10000000` is what a release is tested with.
fn many_rows() -> usize {
    std::env::var("ODP_SINK_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(60_000)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// All data files below `dir` that other readers would find, by their path below it.
fn data_files(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let (mut found, mut directories) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('_') {
                directories.push(path);
            } else if name.ends_with(".parquet") {
                found.insert(path.strip_prefix(dir)?.display().to_string(), path);
            }
        }
    }
    Ok(found)
}

/// The contents of the data files, by directory and place among its files: without their names, which differ from write
/// to write.
fn contents(dir: &Path) -> Result<BTreeMap<(String, usize), Vec<u8>>> {
    let mut contents = BTreeMap::new();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (relative, path) in data_files(dir)? {
        let directory = relative.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        let number = count.entry(directory.clone()).or_default();
        contents.insert((directory, *number), fs::read(path)?);
        *number += 1;
    }
    Ok(contents)
}

/// The column `id` of a file, in the order of the file.
fn ids(path: &Path) -> Result<Vec<i64>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path)?)?.build()?;
    let mut ids = Vec::new();
    for batch in reader {
        let batch = batch?;
        let column = batch.column_by_name("id").ok_or("no id")?;
        ids.extend(column.as_primitive::<Int64Type>().values());
    }
    Ok(ids)
}

fn is_ascending(ids: &[i64]) -> bool {
    ids.windows(2).all(|pair| pair[0] < pair[1])
}

fn write_batches(path: &Path, batches: &[RecordBatch]) -> Result<()> {
    write(path, &concat_batches(&batches[0].schema(), batches)?, 8192)
}

async fn count(ctx: &SessionContext, sql: &str) -> Result<i64> {
    let batches = ctx.sql(sql).await?.collect().await?;
    let batch = batches.first().ok_or("no rows")?;
    Ok(batch.column(0).as_primitive::<Int64Type>().value(0))
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    Ok(ctx.sql(sql).await?.collect().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_are_the_same_bytes_for_any_number_of_threads_in_the_order_of_the_source() -> Result<()> {
    let source = tempfile::tempdir()?;
    let rows = many_rows();
    write_observations(source.path(), 3, 10, rows / 30)?;
    let mut first: Option<[BTreeMap<_, _>; 2]> = None;
    for (partitions, batch_size, settings) in [
        (1, "8192", vec![]),
        (2, "1000", vec![("odp.max_partitions", "0")]),
        (16, "333", vec![("odp.source_order", "false")]),
    ] {
        let ctx = session(partitions, &settings)?;
        ctx.state_ref()
            .write()
            .config_mut()
            .options_mut()
            .set("datafusion.execution.batch_size", batch_size)?;
        run(&ctx, &format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{}'", text(source.path())))
            .await?;
        let out = tempfile::tempdir()?;
        let (flat, hive) = (out.path().join("flat"), out.path().join("hive"));
        let filtered = "SELECT *, id % 3 AS part FROM t WHERE depth < 150";
        let options = "OPTIONS ('batch_rows' '2500', 'max_file_rows' '20000')";
        run(&ctx, &format!("COPY ({filtered}) TO '{}/' STORED AS ODP {options}", text(&flat))).await?;
        run(
            &ctx,
            &format!("COPY ({filtered}) TO '{}/' STORED AS ODP PARTITIONED BY (part) {options}", text(&hive)),
        )
        .await?;
        let mut all = Vec::new();
        for path in data_files(&flat)?.values() {
            all.extend(ids(path)?);
        }
        let expected = run(&ctx, "SELECT id FROM t WHERE depth < 150 ORDER BY id").await?;
        let expected: Vec<i64> = expected
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(all, expected, "{partitions} partitions");
        assert!(data_files(&flat)?.len() > 1);
        let mut of_part = BTreeMap::<String, Vec<i64>>::new();
        for (relative, path) in data_files(&hive)? {
            let directory = relative.rsplit_once('/').ok_or("no directory")?.0.to_owned();
            of_part.entry(directory).or_default().extend(ids(&path)?);
        }
        assert_eq!(of_part.keys().collect::<Vec<_>>(), ["part=0", "part=1", "part=2"]);
        assert!(of_part.values().all(|ids| is_ascending(ids)), "order in each partition");
        assert_eq!(of_part.values().map(Vec::len).sum::<usize>(), expected.len());
        let written = [contents(&flat)?, contents(&hive)?];
        match &first {
            None => first = Some(written),
            Some(first) => assert!(*first == written, "{partitions} partitions give other bytes"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn batches_of_overlapping_order_stay_in_the_order_of_batches_unless_it_is_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("source");
    for (file, values) in [[1_i64, 5, 9], [2, 3, 10], [0, 4, 8]].into_iter().enumerate() {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        write(&source.join(format!("{file}.parquet")), &RecordBatch::try_from_iter([("id", column)])?, 3)?;
    }
    let ctx = session(4, &[])?;
    let create = "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS ODP WITH ORDER (id)";
    run(&ctx, &format!("{create} LOCATION '{}'", text(&source))).await?;
    for (sql, expected) in [
        ("SELECT * FROM t", vec![1, 5, 9, 2, 3, 10, 0, 4, 8]),
        ("SELECT * FROM t ORDER BY id DESC", vec![10, 9, 8, 5, 4, 3, 2, 1, 0]),
    ] {
        let out = dir.path().join(format!("out-{}.parquet", expected[0]));
        run(&ctx, &format!("COPY ({sql}) TO '{}' STORED AS ODP", text(&out))).await?;
        assert_eq!(ids(&out)?, expected, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn inserted_rows_are_seen_by_the_table_and_by_whoever_opens_it_anew() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let location = text(&dir.path().join("new"));
    let ctx = session(2, &[])?;
    let create =
        "CREATE EXTERNAL TABLE t (id BIGINT, station VARCHAR, year INT) STORED AS ODP PARTITIONED BY (year)";
    run(&ctx, &format!("{create} LOCATION '{location}/'")).await?;
    assert_eq!(count(&ctx, "SELECT count(*) FROM t").await?, 0);
    run(&ctx, "INSERT INTO t VALUES (1, 'a', 2020), (2, 'b', 2021), (3, NULL, NULL)").await?;
    run(&ctx, "INSERT INTO t SELECT 4, 'd', 2021").await?;
    assert_eq!(count(&ctx, "SELECT count(*) FROM t").await?, 4);
    assert_eq!(count(&ctx, "SELECT sum(id) FROM t WHERE year = 2021").await?, 6);
    let other = session(2, &[])?;
    let table = OdpTableProvider::open(&other, &location).await?;
    assert_eq!(table.snapshot().num_rows(), 4);
    let year = table.snapshot().schema().field_with_name("year")?.data_type().clone();
    assert_eq!(year, DataType::Int32, "as it was inserted");
    run(&ctx, "INSERT OVERWRITE t VALUES (9, 'z', 1999)").await?;
    assert_eq!(count(&ctx, "SELECT sum(id) FROM t").await?, 9);
    assert_eq!(data_files(Path::new(&location))?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn modes_say_what_becomes_of_rows_that_are_there() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let location = text(&dir.path().join("d"));
    let ctx = session(2, &[])?;
    let rows = |values: &str| format!("SELECT column1 AS id, column2 AS part FROM (VALUES {values})");
    let mut expected: BTreeSet<(i64, i64)>;
    for (mode, values, outcome) in [
        (WriteMode::ErrorIfExists, "(1, 0), (2, 1)", Ok(vec![(1, 0), (2, 1)])),
        (WriteMode::ErrorIfExists, "(3, 0)", Err("already")),
        (WriteMode::Ignore, "(3, 0)", Ok(vec![(1, 0), (2, 1)])),
        (WriteMode::Append, "(3, 0)", Ok(vec![(1, 0), (2, 1), (3, 0)])),
        (WriteMode::OverwritePartitions, "(4, 0), (5, 2)", Ok(vec![(2, 1), (4, 0), (5, 2)])),
        (WriteMode::Overwrite, "(6, 7)", Ok(vec![(6, 7)])),
    ] {
        let options = WriteOptions::default().with_mode(mode).with_partition_by(["part"]);
        let written = ctx.sql(&rows(values)).await?.write_odp(&location, options).await;
        match (written, outcome) {
            (Ok(_), Ok(rows)) => {
                expected = rows.into_iter().collect();
                let ctx = session(2, &[])?;
                run(&ctx, &format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{location}'")).await?;
                let found = run(&ctx, "SELECT id, part FROM t").await?;
                let column = |i: usize| {
                    let of = move |batch: &RecordBatch| {
                        batch.column(i).as_primitive::<Int64Type>().values().to_vec()
                    };
                    found.iter().flat_map(of).collect::<Vec<_>>()
                };
                let found: BTreeSet<(i64, i64)> = column(0).into_iter().zip(column(1)).collect();
                assert_eq!(found, expected, "{mode}");
            }
            (Err(error), Err(reason)) => {
                let message = error.to_string();
                assert!(message.contains(&location) && message.contains("mode"), "{reason}: {message}");
            }
            (written, expected) => panic!("{mode}: {written:?}, expected {expected:?}"),
        }
    }
    Ok(())
}

/// Every kind of value that breaks paths, as text, with the one that other engines take for NULL.
fn odd_texts() -> Vec<Option<String>> {
    let texts = [
        "",
        "..",
        ".",
        "/",
        "a/b",
        "%",
        "%2F",
        "=",
        "a=b",
        "NULL",
        "null",
        "__HIVE_DEFAULT_PARTITION__",
        "🐋",
        "é",
        "e\u{301}",
        "a b",
        " a ",
        "a.",
        "#1",
        "CON",
        "\\",
        ":",
        "*?\"<>|",
        "\u{1}\n\t",
        "A",
        "a",
        "_x",
        ".x",
        "'",
        "x.parquet",
    ];
    let mut all: Vec<Option<String>> = texts.iter().map(|text| Some((*text).to_owned())).collect();
    all.extend([None, Some("x".repeat(300)), Some(format!("{}y", "x".repeat(299))), Some("🐋".repeat(75))]);
    all
}

#[tokio::test]
async fn a_large_file_is_on_its_way_to_the_disk_before_it_is_complete() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    for (rows, is_large) in [(10_000, false), (1_500_000, true)] {
        let copy = format!(
            "COPY (SELECT random() AS v FROM generate_series(1, {rows})) TO '{}' STORED AS ODP \
             OPTIONS ('format.compression' 'uncompressed', 'batch_rows' '100000')",
            text(&dir.path().join(format!("{rows}.parquet")))
        );
        let plan = ctx.sql(&copy).await?.create_physical_plan().await?;
        collect(Arc::clone(&plan), ctx.task_ctx()).await?;
        let early_syncs = plan.metrics().and_then(|metrics| metrics.sum_by_name("early_syncs"));
        let early_syncs = early_syncs.map_or(0, |value| value.as_usize());
        assert_eq!(early_syncs > 0, is_large && cfg!(unix), "{rows} rows");
    }
    Ok(())
}

#[tokio::test]
async fn odd_partition_values_come_back_as_they_were_and_stay_inside() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let texts = odd_texts();
    let numbers: Vec<i64> = (0..).take(texts.len()).collect();
    let floats = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 0.1, f64::MIN];
    let float_of = |i: i64| floats[usize::try_from(i).unwrap_or(0) % floats.len()];
    let dates = [0, -719_162, 2_932_896, i32::MAX, i32::MIN, 1];
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(numbers.clone())) as ArrayRef),
        ("name", Arc::new(StringArray::from(texts.clone())) as ArrayRef),
        (
            "f",
            Arc::new(datafusion::arrow::array::Float64Array::from_iter_values(
                numbers.iter().map(|&i| float_of(i)),
            )) as ArrayRef,
        ),
        (
            "day",
            Arc::new(datafusion::arrow::array::Date32Array::from_iter_values(
                numbers.iter().map(|&i| dates[usize::try_from(i).unwrap_or(0) % dates.len()]),
            )) as ArrayRef,
        ),
    ])?;
    for column in ["name", "f", "day"] {
        let ctx = session(2, &[])?;
        let location = dir.path().join("root").join(column);
        let options = WriteOptions::default().with_partition_by([column]);
        ctx.read_batch(rows.clone())?.write_odp(&text(&location), options).await?;
        let table = OdpTableProvider::open(&ctx, text(&location)).await?;
        ctx.register_table("t", Arc::new(table))?;
        let read = run(&ctx, "SELECT id, name, f, day FROM t ORDER BY id").await?;
        let read = concat_batches(&read[0].schema(), &read)?;
        assert_eq!(read.num_rows(), rows.num_rows());
        for (i, field) in rows.schema().fields().iter().enumerate() {
            let read = datafusion::arrow::compute::cast(read.column(i), field.data_type())?;
            match field.data_type() {
                // NaN is not itself, and zeros are each other.
                DataType::Float64 => {
                    let bits = |array: &ArrayRef| -> Vec<u64> {
                        let values =
                            array.as_primitive::<datafusion::arrow::datatypes::Float64Type>().values();
                        values.iter().map(|v| v.to_bits()).collect()
                    };
                    assert_eq!(bits(&read), bits(rows.column(i)), "partitions by {column}: {}", field.name());
                }
                _ => assert_eq!(&read, rows.column(i), "partitions by {column}: {}", field.name()),
            }
        }
        let distinct = match column {
            "name" => texts.len(),
            "f" => floats.len(),
            _ => dates.len(),
        };
        let directories: BTreeSet<String> = data_files(&location)?
            .keys()
            .filter_map(|path| path.rsplit_once('/').map(|(directory, _)| directory.to_owned()))
            .collect();
        assert_eq!(directories.len(), distinct, "{column}: {directories:?}");
        assert!(directories.iter().all(|directory| !directory.contains('/')), "{directories:?}");
    }
    let beside: Vec<_> = fs::read_dir(dir.path())?.collect::<std::io::Result<_>>()?;
    assert_eq!(beside.len(), 1, "nothing outside the root");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_in_random_order_keep_memory_and_open_files_bounded() -> Result<()> {
    let rows = many_rows();
    let partitions = (rows / 20).min(10_000);
    let highest = i32::try_from(partitions)?;
    let mut random = StdRng::seed_from_u64(7);
    let batches: Vec<RecordBatch> = (0..rows.div_ceil(8192))
        .map(|batch| {
            let first = batch * 8192;
            let ids: Vec<i64> = (first..rows.min(first + 8192)).map(|id| id as i64).collect();
            let part: Int32Array = ids.iter().map(|_| Some(random.random_range(0..highest))).collect();
            let label: StringArray = ids.iter().map(|id| Some(format!("label {id}"))).collect();
            Ok(RecordBatch::try_from_iter([
                ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
                ("part", Arc::new(part)),
                ("label", Arc::new(label)),
            ])?)
        })
        .collect::<Result<_>>()?;
    let pool = Arc::new(FairSpillPool::new(64 << 20));
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool) as Arc<dyn MemoryPool>).build_arc()?;
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
    datafusion_odp::register(&ctx)?;
    let dir = tempfile::tempdir()?;
    let location = text(&dir.path().join("d"));
    write_batches(&dir.path().join("source.parquet"), &batches)?;
    let source = OdpTableProvider::open(&ctx, text(&dir.path().join("source.parquet"))).await?;
    ctx.register_table("source", Arc::new(source))?;
    let copy = format!(
        "COPY source TO '{location}/' STORED AS ODP PARTITIONED BY (part)
         OPTIONS ('max_open_writers' '64', 'buffer_bytes' '300000', 'batch_rows' '1000')"
    );
    let plan = ctx.sql(&copy).await?.create_physical_plan().await?;
    collect(Arc::clone(&plan), ctx.task_ctx()).await?;
    let metric = |name: &str| {
        let metrics = plan.metrics().unwrap_or_default();
        metrics.sum_by_name(name).map_or(0, |value| value.as_usize())
    };
    assert!((1..=64).contains(&metric("open_writers")), "{} files open", metric("open_writers"));
    let spilled = plan.metrics().and_then(|metrics| metrics.spilled_bytes());
    assert!(spilled.is_some_and(|bytes| bytes > 0), "nothing was spilled");
    // As EXPLAIN ANALYZE shows them: those of a name go together.
    assert!(plan.metrics().unwrap_or_default().aggregate_by_name().to_string().contains("rows_written"));
    assert_eq!(metric("rows_written"), rows);
    assert_eq!(metric("files_written"), partitions, "one file a partition");
    assert_eq!(pool.reserved(), 0);
    run(&ctx, &format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{location}'")).await?;
    assert_eq!(count(&ctx, "SELECT count(*) FROM t").await?, rows as i64);
    let wrong = "SELECT count(*) FROM source s FULL JOIN t ON s.id = t.id
                 WHERE s.id IS NULL OR t.id IS NULL OR s.part <> t.part OR s.label <> t.label";
    assert_eq!(count(&ctx, wrong).await?, 0);
    for path in data_files(Path::new(&location))?.values() {
        assert!(is_ascending(&ids(path)?), "{}", path.display());
    }
    Ok(())
}

#[tokio::test]
async fn memory_that_does_not_suffice_is_an_error_and_leaves_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(&dir.path().join("source"), 1, 1, 20_000)?;
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(50_000))).build_arc()?;
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    datafusion_odp::register(&ctx)?;
    let table = OdpTableProvider::open(&ctx, text(&dir.path().join("source"))).await?;
    ctx.register_table("t", Arc::new(table))?;
    let out = dir.path().join("out");
    let error =
        run(&ctx, &format!("COPY t TO '{}/' STORED AS ODP", text(&out))).await.err().ok_or("no error")?;
    assert!(error.to_string().contains("OdpSink"), "{error}");
    assert!(data_files(&out)?.is_empty());
    Ok(())
}

/// `fail_at(id, n)`: an error, or a panic, at the row n; true for all others.
fn register_fail_at(ctx: &SessionContext, panics: bool) {
    let fail = move |args: &[ColumnarValue]| -> DataFusionResult<ColumnarValue> {
        let [ids, at] = args else { return exec_err!("two arguments") };
        let ids = ids.to_array(1)?;
        let at = at.to_array(1)?.as_primitive::<Int64Type>().value(0);
        let ids = ids.as_primitive::<Int64Type>();
        if ids.values().contains(&at) {
            assert!(!panics, "a function that panics");
            return exec_err!("a function that fails");
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![true; ids.len()]))))
    };
    let types = vec![DataType::Int64, DataType::Int64];
    ctx.register_udf(create_udf("fail_at", types, DataType::Boolean, Volatility::Volatile, Arc::new(fail)));
}

#[tokio::test]
async fn rows_that_are_not_a_row_group_yet_are_in_the_memory_pool() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(64 << 20));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc()?;
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), runtime);
    datafusion_odp::register(&ctx)?;
    let (most, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&pool));
    let noted = Arc::clone(&most);
    let note = move |args: &[ColumnarValue]| -> DataFusionResult<ColumnarValue> {
        noted.fetch_max(seen.reserved(), Ordering::SeqCst);
        Ok(args[0].clone())
    };
    let types = vec![DataType::Int64];
    ctx.register_udf(create_udf("note", types, DataType::Int64, Volatility::Volatile, Arc::new(note)));
    let copy = |rows: usize| {
        let path = text(&dir.path().join(format!("{rows}.parquet")));
        format!(
            "COPY (SELECT note(value) AS id FROM generate_series(1, {rows})) TO '{path}' STORED AS ODP \
             OPTIONS ('batch_rows' '10000000')"
        )
    };
    run(&ctx, &copy(200_000)).await?;
    let most = most.load(Ordering::SeqCst);
    assert!((1_000_000..2_000_000).contains(&most), "{most} bytes");
    assert_eq!(pool.reserved(), 0);
    // What has no room is refused before it is all there.
    let refused = ctx.sql(&copy(20_000_000)).await?.collect().await;
    let message = refused.err().ok_or("is not refused")?.to_string();
    assert!(message.contains("Resources exhausted") || message.contains("memory"), "{message}");
    assert_eq!(pool.reserved(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_or_panics_late_leaves_the_old_rows() -> Result<()> {
    for panics in [false, true] {
        for partitioned in [false, true] {
            let dir = tempfile::tempdir()?;
            let (source, target) = (dir.path().join("source"), dir.path().join("target"));
            write_observations(&source, 2, 10, 500)?;
            let ctx = session(2, &[])?;
            register_fail_at(&ctx, panics);
            run(&ctx, &format!("CREATE EXTERNAL TABLE s STORED AS ODP LOCATION '{}'", text(&source))).await?;
            let by = if partitioned { "PARTITIONED BY (station)" } else { "" };
            let copy = |filter: &str, mode: &str| {
                format!(
                    "COPY (SELECT * FROM s WHERE {filter}) TO '{}/' STORED AS ODP {by}
                     OPTIONS ('mode' '{mode}', 'batch_rows' '100')",
                    text(&target)
                )
            };
            run(&ctx, &copy("id < 1000", "error_if_exists")).await?;
            let before = contents(&target)?;
            for mode in ["append", "overwrite", "overwrite_partitions"] {
                let written = run(&ctx, &copy("fail_at(id, 9900)", mode)).await;
                assert!(written.is_err(), "{mode}");
                assert!(contents(&target)? == before, "{mode}, panics: {panics}");
                let table = OdpTableProvider::open(&session(2, &[])?, text(&target)).await?;
                assert_eq!(table.snapshot().num_rows(), 1000);
            }
            let staged: Vec<_> = match fs::read_dir(target.join("_odp/stage")) {
                Ok(entries) => entries.collect::<std::io::Result<_>>()?,
                Err(_) => vec![],
            };
            assert!(staged.is_empty(), "{staged:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_cancelled_leaves_nothing_or_all() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("source");
    write_observations(&source, 2, 10, 500)?;
    let ctx = session(2, &[])?;
    run(&ctx, &format!("CREATE EXTERNAL TABLE s STORED AS ODP LOCATION '{}'", text(&source))).await?;
    for round in 0..20_u32 {
        let target = dir.path().join(format!("target-{round}"));
        let copy = format!("COPY s TO '{}/' STORED AS ODP OPTIONS ('batch_rows' '100')", text(&target));
        let plan = ctx.sql(&copy).await?.create_physical_plan().await?;
        let mut stream = datafusion::physical_plan::execute_stream(plan, ctx.task_ctx())?;
        let after = std::time::Duration::from_millis(u64::from(round) * 12);
        let is_done = tokio::time::timeout(after, stream.try_next()).await.is_ok();
        drop(stream);
        // What had begun to commit goes on to its end.
        let mut rows = 0;
        for _ in 0..100 {
            rows = match OdpTableProvider::open(&session(2, &[])?, text(&target)).await {
                Ok(table) => table.snapshot().num_rows(),
                Err(_) => 0,
            };
            let is_staged =
                fs::read_dir(target.join("_odp/stage")).is_ok_and(|mut entries| entries.next().is_some());
            if !is_staged {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(rows == 10_000 || (rows == 0 && !is_done), "round {round}: {rows} rows");
    }
    Ok(())
}

#[tokio::test]
async fn an_append_that_could_not_be_read_beside_files_of_others_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ctx = session(2, &[])?;
    let (flat, hive) = (dir.path().join("flat"), dir.path().join("hive"));
    fs::create_dir_all(hive.join("year=2020"))?;
    fs::create_dir_all(&flat)?;
    for path in [flat.join("a.parquet"), hive.join("year=2020/a.parquet")] {
        write(&path, &observations(0, 10, 1)?, 10)?;
    }
    for (target, select, by, cause) in [
        (&flat, "SELECT 1 AS id, 2020 AS year", "PARTITIONED BY (year)", "partition columns"),
        (&flat, "SELECT 'one' AS id", "", "column \"id\" is Int64"),
        (&hive, "SELECT 1 AS id", "", "partition columns"),
        (&hive, "SELECT 1 AS id, 2020 AS month", "PARTITIONED BY (month)", "partition columns"),
        (
            &hive,
            "SELECT DATE '2020-01-01' AS id, 2020 AS year",
            "PARTITIONED BY (year)",
            "column \"id\" is Int64",
        ),
        (&hive, "SELECT 1 AS id, DATE '2020-01-01' AS year", "PARTITIONED BY (year)", "2020"),
    ] {
        let before = contents(target)?;
        let copy =
            format!("COPY ({select}) TO '{}/' STORED AS ODP {by} OPTIONS ('mode' 'append')", text(target));
        let Err(error) = run(&ctx, &copy).await else { panic!("{copy} is not refused") };
        let error = error.to_string();
        assert!(error.contains(cause) && error.contains("a.parquet"), "{copy}: {error}");
        assert!(contents(target)? == before, "{copy}");
        OdpTableProvider::open(&session(2, &[])?, text(target)).await?;
    }
    // A table that says how it reads its columns takes rows of these.
    let declared =
        format!("CREATE EXTERNAL TABLE declared (id VARCHAR) STORED AS ODP LOCATION '{}/'", text(&flat));
    run(&ctx, &declared).await?;
    run(&ctx, "INSERT INTO declared VALUES ('eleven')").await?;
    let all = run(&ctx, "SELECT count(*) FROM declared WHERE id IN ('3', 'eleven')").await?;
    assert_eq!(all[0].column(0).as_primitive::<Int64Type>().value(0), 2);
    // What fits is added; and what replaces the others need not fit.
    let rows = async |target: &PathBuf| -> Result<_> {
        Ok(OdpTableProvider::open(&session(2, &[])?, text(target)).await?.snapshot().num_rows())
    };
    for (mode, select, expected) in [
        ("append", "SELECT CAST(1 AS INT) AS id, 2021 AS year", 11),
        ("overwrite", "SELECT 'one' AS id, DATE '2020-01-01' AS year", 1),
    ] {
        let copy = format!(
            "COPY ({select}) TO '{}/' STORED AS ODP PARTITIONED BY (year) OPTIONS ('mode' '{mode}')",
            text(&hive)
        );
        run(&ctx, &copy).await?;
        assert_eq!(rows(&hive).await?, expected, "{mode}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_written_is_read_back_as_batches_of_the_size_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_observations(&source, 3, 7, 100)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(&source)).await?;
    let selection = table.select("depth >= 0").plan(&ctx).await?;
    let options = WriteOptions::default().with_option("batch_rows", "400")?;
    let report = selection.write(&text(&target), options).await?;
    assert_eq!((report.rows(), report.files.len(), report.files[0].row_groups), (2100, 1, 6));
    let id = report.files[0].columns.iter().find(|column| column.name == "id").ok_or("no id")?;
    assert_eq!((id.null_count, id.min.to_string(), id.max.to_string()), (Some(0), "0".into(), "2099".into()));
    let clustered = dir.path().join("clustered.parquet");
    let options = WriteOptions::default().with_option("cluster_by", "depth")?;
    selection.write(&text(&clustered), options).await?;
    let clustered = OdpTableProvider::open(&ctx, text(&clustered)).await?;
    let rows = ctx.read_table(Arc::new(clustered))?.select_columns(&["depth", "id"])?.collect().await?;
    let pairs: Vec<(i64, i64)> = rows
        .iter()
        .flat_map(|batch| {
            let column = |i: usize| batch.column(i).as_primitive::<Int64Type>().values().to_vec();
            column(0).into_iter().zip(column(1)).collect::<Vec<_>>()
        })
        .collect();
    assert!(pairs.len() == 2100 && pairs.is_sorted(), "by depth, then in the order of the source");
    let written = OdpTableProvider::open(&ctx, text(&target)).await?;
    let rows: Vec<u64> = written.snapshot().batches().iter().map(|batch| batch.rows).collect();
    assert_eq!(rows, [400, 400, 400, 400, 400, 100]);
    Ok(())
}
