//! Small row groups behind a filter that keeps few rows: the answer, and the work saved.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;

use crate::fixtures::{Result, metric, observations, run, session, shown, write, write_with};

/// Row groups of which the columns of the filter were decoded first.
const FIRST: &str = "row_groups_filtered_first";
/// Row groups read by decoders that go on from one to the next.
const READ_ON: &str = "row_groups_read_in_runs";
const RETRIES: &str = "filter_retries";
/// Of 250 rows each, in two files.
const ROW_GROUPS: usize = 400;

/// The table in `dir` in sessions that decode filters first, that filter above the scan, and that do not prune.
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
            let expected = [first, first + others, 0];
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
        // Of one column so many values take the decoder as long as setting out for them.
        (10_000, false, "depth * 2 = 3", true),
        (10_000, false, "depth * 2 = id * 2 + 1", false),
        (40_000, false, "depth * 2 = 3", false),
        // Bloom filters are for it to read.
        (250, true, "station || 'x' = 'sx'", false),
    ];
    for (row_group, bloom, filter, is_first) in settings {
        let dir = tempfile::tempdir()?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group))
            .set_column_bloom_filter_enabled("station".into(), bloom)
            .build();
        write_with(&dir.path().join("a.parquet"), &observations(0, 100_000, 1)?, properties)?;
        let sessions = sessions(dir.path(), "1").await?;
        for ctx in &sessions {
            let sql = format!("SELECT temperature, id FROM t WHERE {filter}");
            let (rows, plan) = run(ctx, &sql).await?;
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
            if std::ptr::eq(ctx, &sessions[0]) {
                assert_eq!(metric(&plan, FIRST) > 0, is_first, "{row_group}, {filter}: {}", shown(&plan));
            }
        }
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

    // A conjunct that fails of a row that the one before it keeps, or does not.
    let contexts = sessions(dir.path(), "2").await?;
    let fails = "SELECT temperature FROM t WHERE depth >= 0 AND 10 / (id - 70000) = 3";
    assert_eq!(error(&contexts[0], fails).await?, error(&contexts[2], fails).await?);
    let (rows, plan) =
        run(&contexts[0], "SELECT id FROM t WHERE depth < -5 + id % 2 AND 10 / (id - 70000) = 3").await?;
    assert_eq!((rows.len(), metric(&plan, RETRIES)), (0, 0));

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
