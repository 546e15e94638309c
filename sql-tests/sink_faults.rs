//! Writes of whole queries against a store that fails, and against a process that is killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

use crate::fixtures::{Result, session};
use crate::object_stores::FailingStore;

/// A session that finds `store` at `memory:///`.
fn session_with(store: Arc<dyn ObjectStore>) -> Result<SessionContext> {
    let ctx = session(2, &[])?;
    ctx.register_object_store(&Url::parse("memory:///")?, store);
    Ok(ctx)
}

async fn write(ctx: &SessionContext, first: i64, rows: i64, mode: &str) -> Result<()> {
    let copy = format!(
        "COPY (SELECT value AS id, value % 5 AS part FROM generate_series({first}, {}))
         TO 'memory:///d/' STORED AS ODP PARTITIONED BY (part) OPTIONS ('mode' '{mode}', 'batch_rows' '20')",
        first + rows - 1
    );
    ctx.sql(&copy).await?.collect().await?;
    Ok(())
}

async fn ids(ctx: &SessionContext, location: &str) -> Result<BTreeSet<i64>> {
    let table = OdpTableProvider::open(ctx, location).await?;
    let rows = ctx.read_table(Arc::new(table))?.select_columns(&["id"])?.collect().await?;
    let ids: Vec<i64> =
        rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len(), "a row is there twice");
    Ok(distinct)
}

#[tokio::test]
async fn a_fault_at_any_operation_of_a_query_leaves_the_old_rows_or_the_new_ones() -> Result<()> {
    let old: BTreeSet<i64> = (0..100).collect();
    for (mode, new) in [
        ("append", (0..160).collect::<BTreeSet<i64>>()),
        ("overwrite", (100..160).collect()),
        // All partitions get rows.
        ("overwrite_partitions", (100..160).collect()),
    ] {
        for has_effect in [false, true] {
            let mut number = 1;
            loop {
                let objects = Arc::new(InMemory::new());
                let plain = session_with(Arc::clone(&objects) as Arc<dyn ObjectStore>)?;
                write(&plain, 0, 100, "error_if_exists").await?;
                let failing = Arc::new(FailingStore::new(Arc::clone(&objects)));
                let ctx = session_with(Arc::clone(&failing) as Arc<dyn ObjectStore>)?;
                failing.fail(number, has_effect);
                let written = write(&ctx, 100, 60, mode).await;
                let operations = failing.operations();
                let context = format!("{mode}, operation {number} of {operations}, effect: {has_effect}");
                let found = ids(&plain, "memory:///d/").await?;
                match &written {
                    Ok(()) => assert!(found == new, "{context}: done, but not there"),
                    Err(error) => {
                        assert!(found == old || found == new, "{context}: neither old nor new after {error}");
                    }
                }
                // What is left is removed; what is live is not.
                let create = "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'memory:///d/'";
                plain.sql(create).await?.collect().await?;
                plain.sql("SELECT * FROM odp_clean('t', '0 seconds')").await?.collect().await?;
                assert!(ids(&plain, "memory:///d/").await? == found, "{context}: cleaned too much");
                let listed: Vec<_> = objects.list(None).try_collect().await?;
                let data =
                    listed.iter().filter(|object| object.location.as_ref().ends_with(".parquet")).count();
                let table = OdpTableProvider::open(&plain, "memory:///d/").await?;
                assert_eq!(data, table.snapshot().files().len(), "{context}: something is left");
                if number > operations {
                    break;
                }
                number += 1;
            }
            assert!(number > 20, "only {number} operations");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_refuses_reads_of_its_log_is_an_error_and_no_empty_table() -> Result<()> {
    let objects = Arc::new(InMemory::new());
    let plain = session_with(Arc::clone(&objects) as Arc<dyn ObjectStore>)?;
    write(&plain, 0, 100, "error_if_exists").await?;
    let log: Vec<_> = objects.list(Some(&"d/_odp/log".into())).try_collect().await?;
    let last = log.iter().map(|object| &object.location).max().ok_or("no log")?;
    let record = objects.get(last).await?.bytes().await?;
    objects.put(last, record.slice(0..record.len() / 2).into()).await?;
    let error = ids(&plain, "memory:///d/").await.err().ok_or("a damaged record is read")?.to_string();
    assert!(error.contains(last.as_ref()), "{error}");
    Ok(())
}

/// Every file that any reader would take for data decodes to its end.
fn assert_no_torn_file(dir: &Path) -> Result<()> {
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path)?)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                for batch in reader.build()? {
                    batch?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(feature = "cli")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_killed_leaves_the_old_rows_or_the_new_ones_and_no_torn_file() -> Result<()> {
    let kills = std::env::var("ODP_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let seed: u64 = 11;
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let location = dir.path().join("d").display().to_string();
    let ctx = session(2, &[])?;
    let copy = |first: i64, mode: &str| {
        format!(
            "COPY (SELECT value AS id, value % 5 AS part FROM generate_series({first}, {}))
             TO '{location}/' STORED AS ODP PARTITIONED BY (part) OPTIONS ('mode' '{mode}', 'batch_rows' '500')",
            first + 19_999
        )
    };
    ctx.sql(&copy(0, "error_if_exists")).await?.collect().await?;
    let mut rows = ids(&ctx, &location).await?;
    let (mut first, mut longest, mut killed) = (100_000, Duration::from_millis(1500), 0);
    for round in 0..kills {
        let mode = ["append", "overwrite", "overwrite_partitions"][round % 3];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_odp"));
        command.args(["-q", "-c", &copy(first, mode)]).current_dir(dir.path()).env("HOME", dir.path());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let start = std::time::Instant::now();
        let mut child = command.spawn()?;
        tokio::time::sleep(longest.mul_f64(random.random_range(0.0..1.0))).await;
        let is_done = child.try_wait()?.is_some();
        if is_done {
            longest = start.elapsed().min(longest);
        } else {
            child.kill()?;
            killed += 1;
        }
        child.wait()?;
        assert_no_torn_file(Path::new(&location))?;
        let written: BTreeSet<i64> = (first..first + 20_000).collect();
        let new: BTreeSet<i64> = match mode {
            "append" => rows.union(&written).copied().collect(),
            _ => written,
        };
        let found = ids(&session(2, &[])?, &location).await?;
        let context = format!("seed {seed}, round {round}, {mode}, done: {is_done}");
        assert!(found == new || (found == rows && !is_done), "{context}: {} rows", found.len());
        rows = found;
        first += 20_000;
    }
    assert!(killed > 0, "all writers were faster than their killer");
    let ctx = session(2, &[])?;
    ctx.sql(&format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{location}'")).await?.collect().await?;
    ctx.sql("SELECT * FROM odp_clean('t', '0 seconds')").await?.collect().await?;
    assert!(ids(&ctx, &location).await? == rows, "cleaned too much");
    let staged = fs::read_dir(Path::new(&location).join("_odp/stage"));
    assert!(staged.map_or(true, |mut entries| entries.next().is_none()), "stages are left");
    Ok(())
}
