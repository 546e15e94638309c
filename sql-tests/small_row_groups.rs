//! Small row groups behind a filter that keeps few rows: the answer, and the work saved.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use datafusion_odp::{BatchUnit, OdpTableProvider};

use crate::fixtures::{Result, metric, observations, run, session, shown, write, write_with};

/// Row groups of which the columns of the filter were decoded first.
const FIRST: &str = "row_groups_filtered_first";
/// Row groups read by decoders that go on from one to the next.
const READ_ON: &str = "row_groups_read_in_runs";
const RETRIES: &str = "filter_retries";
/// Of 250 rows each, in two files.
const ROW_GROUPS: usize = 400;

/// The table in `dir` in sessions that decode filters first, that filter above the scan, and that decode filters first, but do not prune.
async fn sessions(dir: &Path, partitions: &str) -> Result<[SessionContext; 3]> {
    let limit = ("odp.max_partitions", partitions);
    let sessions = [
        session(2, &[limit])?,
        session(2, &[limit, ("odp.pushdown_filters", "false")])?,
        session(2, &[limit, ("odp.pruning", "false")])?,
    ];
    for ctx in &sessions {
        let location = dir.to_str().ok_or("path is not UTF-8")?;
        ctx.register_table("t", Arc::new(OdpTableProvider::open(ctx, location).await?))?;
    }
    Ok(sessions)
}

#[tokio::test]
async fn of_small_row_groups_the_filter_comes_first_and_others_only_with_a_match() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (name, first) in [("half=0/a.parquet", 0), ("half=1/b.parquet", 50_000)] {
        write(&dir.path().join(name), &observations(first, 50_000, first.cast_unsigned())?, 250)?;
    }
    for partitions in ["1", "3"] {
        let sessions = sessions(dir.path(), partitions).await?;
        // How many row groups the filter is decoded first of, and of how many other columns are then read.
        for (filter, first, others) in [
            ("depth * 2 = 3", ROW_GROUPS, 0),
            ("id % 1000 = 7", ROW_GROUPS, 100),
            ("id % 50000 = 7 AND half = 1", 200, 1),
            ("station || '' = 's3' AND id % 20000 = 9 AND depth >= 0", ROW_GROUPS, 1),
            ("id % 20000 = 9 AND half + 1 = 2", 200, 2),
            ("time + INTERVAL '1 minute' = TIMESTAMP '1970-01-01T10:00:00'", ROW_GROUPS, 1),
            ("id BETWEEN 30000 AND 30010 AND depth >= 0", 0, 0),
            ("nullif(depth % 2, id % 2) = 5", ROW_GROUPS, 0),
        ] {
            let sql = format!("SELECT temperature, station, id FROM t WHERE {filter} ORDER BY id + 0");
            let (rows, plan) = run(&sessions[0], &sql).await?;
            let expected = [first, others, 0];
            let found = [FIRST, READ_ON, RETRIES].map(|name| metric(&plan, name));
            assert!(!shown(&plan).contains("FilterExec"), "{}", shown(&plan));
            assert_eq!(found, expected, "{filter}: {}", shown(&plan));
            let rows = concat_batches(&plan.schema(), &rows)?;
            for other in &sessions[1..] {
                let (expected, plan) = run(other, &sql).await?;
                assert_eq!(rows, concat_batches(&plan.schema(), &expected)?, "{sql}: {}", shown(&plan));
            }
        }
        // Once matches turn up in most row groups, all columns are read together.
        let sql = "SELECT temperature, id FROM t WHERE id % 10 = 7 ORDER BY id + 0";
        let (rows, plan) = run(&sessions[0], sql).await?;
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 10_000);
        let (first, decoded) = (metric(&plan, FIRST), metric(&plan, "batches_filtered_decoded"));
        assert_eq!(first + decoded, ROW_GROUPS, "{}", shown(&plan));
        assert!(partitions != "1" || first == 200, "{first}, which are those of the first file");
    }
    Ok(())
}

#[tokio::test]
async fn rows_are_given_in_the_order_of_their_row_groups() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &observations(0, 100_000, 5)?, 250)?;
    let sessions = sessions(dir.path(), "1").await?;
    let (rows, plan) = run(&sessions[0], "SELECT id, time FROM t WHERE id % 1000 = 7 AND depth >= 0").await?;
    assert_eq!(metric(&plan, FIRST), ROW_GROUPS);
    let ids = concat_batches(&plan.schema(), &rows)?;
    let expected = run(&sessions[1], "SELECT id, time FROM t WHERE id % 1000 = 7 ORDER BY id").await?.0;
    assert_eq!(ids, concat_batches(&plan.schema(), &expected)?);
    Ok(())
}

#[tokio::test]
async fn where_the_decoder_may_save_more_it_filters() -> Result<()> {
    let settings: [(usize, bool, &str, bool); 5] = [
        (250, false, "depth * 2 = 3 OR id * 2 = 3 OR station || 'x' = 'sx'", true),
        (10_000, false, "depth * 2 = 3", true),
        // The columns of the filter are large, or the row groups are.
        (40_000, false, "depth * 2 = id * 2 + 1", false),
        (100_000, false, "depth * 2 = 3", false),
        // Bloom filters are for it to read.
        (250, true, "station = 's'", false),
    ];
    for (row_group, bloom, filter, is_first) in settings {
        let dir = tempfile::tempdir()?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group))
            .set_column_bloom_filter_enabled("station".into(), bloom)
            .build();
        write_with(&dir.path().join("a.parquet"), &observations(0, 300_000, 1)?, properties)?;
        let sessions = sessions(dir.path(), "1").await?;
        for (at, ctx) in sessions.iter().enumerate() {
            let sql = format!("SELECT temperature, id FROM t WHERE {filter} AND id + 1 > 0");
            let (rows, plan) = run(ctx, &sql).await?;
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
            if at == 0 {
                assert_eq!(metric(&plan, FIRST) > 0, is_first, "{row_group}, {filter}: {}", shown(&plan));
                assert_eq!(metric(&plan, READ_ON), 0, "{row_group}, {filter}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn of_wide_rows_only_those_that_match_are_decoded() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ids = Int64Array::from_iter_values(0..2_400);
    let texts = StringArray::from_iter_values((0..2_400).map(|id| format!("{id:05}").repeat(600)));
    let columns = [("id", Arc::new(ids) as ArrayRef), ("text", Arc::new(texts))];
    write(&dir.path().join("a.parquet"), &RecordBatch::try_from_iter(columns)?, 600)?;
    let sessions = sessions(dir.path(), "1").await?;
    for (filter, first) in [("id % 600 = 7", 4), ("text LIKE '%00007%' AND id % 600 = 7", 0)] {
        let sql = format!("SELECT id, text FROM t WHERE {filter}");
        let (rows, plan) = run(&sessions[0], &sql).await?;
        assert_eq!((metric(&plan, FIRST), metric(&plan, READ_ON)), (first, 0), "{filter}");
        let (expected, _) = run(&sessions[1], &sql).await?;
        assert_eq!(concat_batches(&plan.schema(), &rows)?, concat_batches(&plan.schema(), &expected)?);
        assert!(!expected.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn row_groups_that_bounds_exclude_within_a_batch_are_not_decoded() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &observations(0, 100_000, 5)?, 250)?;
    let ctx = session(1, &[("odp.max_partitions", "1")])?;
    let location = dir.path().to_str().ok_or("path is not UTF-8")?;
    let merged = OdpTableProvider::builder(location).with_batch_unit(BatchUnit::Rows(10_000));
    ctx.register_table("t", Arc::new(merged.open(&ctx).await?))?;
    let (rows, plan) = run(&ctx, "SELECT temperature FROM t WHERE id = 31000 OR id = 52000").await?;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    assert_eq!(metric(&plan, FIRST), 0);
    assert!(metric(&plan, "pushdown_rows_pruned") < 1_000, "{}", shown(&plan));
    Ok(())
}

#[tokio::test]
async fn page_indexes_of_very_many_small_row_groups_are_not_read() -> Result<()> {
    for (row_group, is_read) in [(10, false), (1_000, true)] {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("0.parquet");
        for file in 0..5 {
            let rows = observations(file * 8_200, 8_200, file.cast_unsigned())?;
            write(&dir.path().join(format!("{file}.parquet")), &rows, row_group)?;
        }
        let sessions = sessions(dir.path(), "1").await?;
        let sql = "SELECT temperature, id FROM t WHERE id BETWEEN 5 AND 40994";
        let (rows, plan) = run(&sessions[0], sql).await?;
        let (expected, _) = run(&sessions[1], &format!("{sql} ORDER BY id")).await?;
        let rows = concat_batches(&plan.schema(), &rows)?;
        assert_eq!(rows, concat_batches(&plan.schema(), &expected)?);
        assert_eq!(rows.num_rows(), 40_990);
        let cache = sessions[0].runtime_env().cache_manager.get_file_metadata_cache();
        let known = cache.get(&ObjectPath::from_absolute_path(&path)?).ok_or("no footer")?;
        let known =
            known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>().ok_or("no footer")?;
        assert_eq!(known.parquet_metadata().column_index().is_some(), is_read, "{row_group}");
    }
    Ok(())
}

#[tokio::test]
async fn what_fails_is_left_to_the_decoder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(250)).set_compression(zstd).build();
    write_with(&path, &observations(0, 100_000, 3)?, properties)?;
    let whole = std::fs::read(&path)?;
    let error = async |ctx: &SessionContext, sql: &str| {
        run(ctx, sql).await.err().map(|error| error.to_string()).ok_or(format!("no error: {sql}"))
    };

    // A conjunct that fails of a row that the one before it keeps: the error is that of the decoder.
    let contexts = sessions(dir.path(), "1").await?;
    let fails = "SELECT temperature FROM t WHERE id % 2 = 0 AND 10 / (id - 70000) = 3";
    let found = error(&contexts[0], fails).await?;
    assert!(found.contains("Error evaluating filter predicate"), "{found}");
    // Of one that it does not: the decoder does not evaluate it, and goes on from there.
    let sql = "SELECT id, time FROM t WHERE id % 2 = 1 AND 10 / (id - 70000) = 0";
    let (rows, plan) = run(&contexts[0], sql).await?;
    assert_eq!(metric(&plan, RETRIES), 1);
    let found = concat_batches(&plan.schema(), &rows)?;
    let expected = (0..100_000_i64).filter(|id| id % 2 == 1 && (id - 70_000).abs() > 10);
    assert_eq!(found.column(0).as_primitive::<Int64Type>(), &Int64Array::from_iter_values(expected));

    // A damaged page of the filter is the error that the decoder gives; one of other columns is never read.
    let footer = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(whole.clone()))?;
    for (column, is_read) in [(2, true), (3, false)] {
        let (start, length) = footer.row_group(200).column(column).byte_range();
        let mut damaged = whole.clone();
        damaged[usize::try_from(start + length / 2)?..usize::try_from(start + length)?].fill(0xff);
        std::fs::write(&path, &damaged)?;
        let sessions = sessions(dir.path(), "2").await?;
        let sql = "SELECT temperature FROM t WHERE depth * 2 = 3";
        if is_read {
            let found = error(&sessions[0], sql).await?;
            assert_eq!(found, error(&sessions[1], sql).await?);
            assert!(found.contains("a.parquet"), "{found}");
        } else {
            let (rows, plan) = run(&sessions[0], sql).await?;
            assert_eq!((rows.len(), metric(&plan, FIRST)), (0, ROW_GROUPS));
        }
    }
    Ok(())
}
