//! Aggregates in one step, where bounds keep the groups of partitions apart: the answer, the plan, the work saved.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, metric, run, session, shown, write};

const ONE_STEP: &str = "mode=SinglePartitioned";
const MINUTE: i64 = 60_000_000;

/// `time` of these microseconds, `id`, `depth`, `station` and `year` made of it.
fn rows(times: &[i64]) -> Result<RecordBatch> {
    let ids = || 0..times.len() as i64;
    Ok(RecordBatch::try_from_iter([
        ("time", Arc::new(TimestampMicrosecondArray::from(times.to_vec())) as ArrayRef),
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("depth", Arc::new(Int64Array::from_iter_values(times.iter().map(|time| time / MINUTE % 7)))),
        (
            "temperature",
            Arc::new(Float64Array::from_iter_values(times.iter().map(|time| (time / MINUTE % 100) as f64))),
        ),
        ("station", Arc::new(StringArray::from_iter_values(ids().map(|id| format!("s{}", id % 5))))),
    ])?)
}

async fn open(ctx: &SessionContext, name: &str, dir: &Path) -> Result<()> {
    let location = dir.to_str().ok_or("path is not UTF-8")?;
    ctx.register_table(name, Arc::new(OdpTableProvider::open(ctx, location).await?))?;
    Ok(())
}

async fn sessions(dir: &Path, partitions: usize) -> Result<[SessionContext; 2]> {
    let sessions = [session(partitions, &[])?, session(partitions, &[("odp.groups_apart", "false")])?];
    for ctx in &sessions {
        open(ctx, "t", dir).await?;
    }
    Ok(sessions)
}

/// The answer of `sql` with and without it, which must be the same; whether it was in one step.
async fn is_one_step(sessions: &[SessionContext; 2], sql: &str) -> Result<bool> {
    let (on, plan) = run(&sessions[0], sql).await?;
    let (off, plan_off) = run(&sessions[1], sql).await?;
    assert!(!shown(&plan_off).contains(ONE_STEP), "{sql}: {}", shown(&plan_off));
    assert!(on.iter().map(RecordBatch::num_rows).sum::<usize>() > 0, "{sql}");
    assert_eq!(pretty_format_batches(&on)?.to_string(), pretty_format_batches(&off)?.to_string(), "{sql}");
    Ok(shown(&plan).contains(ONE_STEP))
}

#[tokio::test]
async fn groups_of_batches_that_follow_each_other_are_aggregated_in_one_step() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Two rows a minute, ascending; each batch begins at a full minute.
    let times: Vec<i64> = (0..80_000).map(|row| row * MINUTE / 2).collect();
    for (file, times) in times.chunks(20_000).enumerate() {
        write(&dir.path().join(format!("{file}.parquet")), &rows(times)?, 5_000)?;
    }
    let [on, off] = &sessions(dir.path(), 2).await?;
    let sql = "SELECT date_trunc('minute', time) AS m, count(*) AS n, sum(depth) AS d FROM t GROUP BY 1";
    let (found, plan) = run(on, sql).await?;
    let shown_plan = shown(&plan);
    assert!(shown_plan.contains(ONE_STEP), "{shown_plan}");
    assert!(!shown_plan.contains("RepartitionExec") && !shown_plan.contains("mode=Partial"), "{shown_plan}");
    let mut groups = std::collections::BTreeMap::new();
    for rows in &found {
        for row in 0..rows.num_rows() {
            let number = |at: usize| rows.column(at).as_primitive::<Int64Type>().value(row);
            let minute =
                rows.column(0).as_primitive::<datafusion::arrow::datatypes::TimestampMicrosecondType>();
            assert!(
                groups.insert(minute.value(row) / MINUTE, (number(1), number(2))).is_none(),
                "a group came twice"
            );
        }
    }
    assert!(groups.into_iter().eq((0..40_000).map(|minute| (minute, (2, 2 * (minute % 7))))));
    // No row went from one partition to another.
    let (_, plan_off) = run(off, sql).await?;
    assert!(metric(&plan_off, "send_time") > 0 && metric(&plan, "send_time") == 0);

    let sessions = [on.clone(), off.clone()];
    for (sql, one_step) in [
        ("SELECT time, depth, avg(temperature) FROM t GROUP BY time, depth ORDER BY 1, 2 LIMIT 1000", true),
        ("SELECT station, date_trunc('hour', time) AS h, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2", true),
        (
            "SELECT date_bin(INTERVAL '5 minutes', time) AS b, max(id), count(DISTINCT depth) FROM t GROUP BY b ORDER BY b",
            true,
        ),
        ("SELECT CAST(time AS DATE) AS d, count(*) FROM t GROUP BY d ORDER BY d", false),
        (
            "SELECT date_trunc('minute', time) AS m, count(*) AS n FROM t WHERE depth > 2 GROUP BY m ORDER BY m",
            true,
        ),
        (
            "SELECT date_trunc('minute', time) AS m, count(*) FILTER (WHERE id % 3 = 0) AS n FROM t GROUP BY m HAVING count(*) > 1 ORDER BY m",
            true,
        ),
        (
            "SELECT count(*), sum(n), min(m), max(m) FROM (SELECT date_trunc('minute', time) AS m, count(*) AS n FROM t GROUP BY m)",
            true,
        ),
        ("SELECT count(*) FROM (SELECT DISTINCT time FROM t)", true),
        (
            "SELECT n, count(*) FROM (SELECT date_trunc('minute', time) AS m, count(*) AS n FROM t GROUP BY m) GROUP BY n ORDER BY n",
            true,
        ),
        // Each counts on how the other is partitioned.
        (
            "SELECT count(*), sum(a.n + b.s) FROM (SELECT date_trunc('minute', time) AS m, count(*) AS n FROM t GROUP BY m) a \
          JOIN (SELECT date_trunc('minute', time) AS m, sum(depth) AS s FROM t GROUP BY m) b ON a.m = b.m",
            false,
        ),
        // Nothing is known of what these make of bounds, or it is known not to do.
        ("SELECT depth, count(*) FROM t GROUP BY depth ORDER BY depth", false),
        ("SELECT id % 10 AS d, count(*) FROM t GROUP BY d ORDER BY d", false),
        ("SELECT date_part('hour', time) AS h, count(*) FROM t GROUP BY h ORDER BY h", false),
        ("SELECT to_char(time, '%H') AS h, count(*) FROM t GROUP BY h ORDER BY h", false),
        ("SELECT time - INTERVAL '1 day' AS d, count(*) AS n FROM t GROUP BY d ORDER BY d LIMIT 10", false),
        ("SELECT temperature, count(*) FROM t GROUP BY temperature ORDER BY 1", false),
        (
            "SELECT time, depth, count(*) FROM t GROUP BY GROUPING SETS ((time), (depth)) ORDER BY 1, 2 LIMIT 100",
            false,
        ),
    ] {
        assert_eq!(is_one_step(&sessions, sql).await?, one_step, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn bounds_that_do_not_keep_groups_apart_are_not_taken_for_it() -> Result<()> {
    let ascending: Vec<i64> = (0..40_000).map(|row| row * MINUTE).collect();
    let descending: Vec<i64> = ascending.iter().rev().copied().collect();
    let mut shuffled = ascending.clone();
    let mut random = StdRng::seed_from_u64(3);
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, random.random_range(0..=at));
    }
    // Batches 3 and 4 share a minute; all others lie within the first.
    let mut shared = ascending.clone();
    shared[19_999] = shared[20_000];
    let mut within = ascending.clone();
    within[0] = within[39_999];
    let sql = "SELECT date_trunc('minute', time) AS m, count(*), sum(id) FROM t GROUP BY m ORDER BY m";
    for (name, times, one_step) in [
        ("ascending", &ascending, true),
        ("descending", &descending, true),
        ("shared", &shared, true),
        ("within", &within, false),
        ("shuffled", &shuffled, false),
    ] {
        let dir = tempfile::tempdir()?;
        write(&dir.path().join("a.parquet"), &rows(times)?, 5_000)?;
        for partitions in [2, 3] {
            let found = is_one_step(&sessions(dir.path(), partitions).await?, sql).await?;
            // Three cannot share seven runs.
            assert_eq!(found, one_step && (partitions == 2 || name != "shared"), "{name} {partitions}");
        }
    }
    // NULL may be in several batches.
    let dir = tempfile::tempdir()?;
    let times: TimestampMicrosecondArray =
        ascending.iter().enumerate().map(|(row, &time)| (row % 10_000 != 7).then_some(time)).collect();
    let with_null = RecordBatch::try_from_iter([("time", Arc::new(times) as ArrayRef)])?;
    write(&dir.path().join("a.parquet"), &with_null, 5_000)?;
    let sessions = sessions(dir.path(), 2).await?;
    assert!(
        !is_one_step(&sessions, "SELECT time, count(*) FROM t GROUP BY time ORDER BY 2 DESC, 1 LIMIT 10")
            .await?
    );
    Ok(())
}

#[tokio::test]
async fn sessions_of_many_processors_plan_as_others_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let times: Vec<i64> = (0..9_000).map(|row| row * MINUTE).collect();
    write(&dir.path().join("a.parquet"), &rows(&times)?, 100)?;
    for processors in [9, 16, 65, 90] {
        let sessions = sessions(dir.path(), processors).await?;
        for (sql, one_step) in [
            ("SELECT sum(n), count(*) FROM (SELECT time, count(*) AS n FROM t GROUP BY time)", true),
            ("SELECT time, count(*) FROM t GROUP BY time ORDER BY time", true),
            ("SELECT station, count(*) FROM t GROUP BY station ORDER BY station", false),
        ] {
            let found = is_one_step(&sessions, sql).await?;
            // There are 90 batches, which 65 processors cannot share.
            assert_eq!(found, one_step && processors != 65, "{processors}: {sql}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_do_not_grow_with_time_are_not_taken_for_apart() -> Result<()> {
    // Each is one batch.
    const DAY: i64 = 24 * 60 * MINUTE;
    let days = |from: i64, to: i64| (from..to).map(|day| day * DAY).collect::<Vec<i64>>();
    // 2020-02-01 is day 18,293, and 2020-03-01 18,322.
    for (batches, sql) in [
        (
            [days(18_293, 18_322), days(18_322, 18_353)],
            "SELECT date_bin(INTERVAL '-1 month', time, TIMESTAMP '2020-01-15') AS m, count(*) FROM t GROUP BY m ORDER BY m",
        ),
        (
            [days(18_293, 18_322), days(18_322, 18_353)],
            "SELECT date_trunc('month', arrow_cast(time, 'Date64')) AS m, count(*) FROM t GROUP BY m ORDER BY m",
        ),
    ] {
        let dir = tempfile::tempdir()?;
        for (file, times) in batches.iter().enumerate() {
            write(&dir.path().join(format!("{file}.parquet")), &rows(times)?, 1_000)?;
        }
        assert!(!is_one_step(&sessions(dir.path(), 2).await?, sql).await?, "{sql}");
    }
    // Of a stride that goes forward it is known.
    let dir = tempfile::tempdir()?;
    for (file, times) in [days(18_293, 18_322), days(18_322, 18_353)].iter().enumerate() {
        write(&dir.path().join(format!("{file}.parquet")), &rows(times)?, 1_000)?;
    }
    let sessions = sessions(dir.path(), 2).await?;
    let sql = "SELECT date_bin(INTERVAL '1 month', time, TIMESTAMP '2020-01-01') AS m, count(*) FROM t GROUP BY m ORDER BY m";
    assert!(is_one_step(&sessions, sql).await?);
    Ok(())
}

#[tokio::test]
async fn dictionaries_of_floats_hide_nan_no_more_than_floats() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (file, from) in [0, 100].into_iter().enumerate() {
        let values = (from..from + 100).map(|n| if n % 50 == 7 { f64::NAN } else { f64::from(n) });
        let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
        let of_floats = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Float64));
        let coded = cast(&floats, &of_floats)?;
        let rows = RecordBatch::try_from_iter([("floats", floats), ("coded", coded)])?;
        write(&dir.path().join(format!("{file}.parquet")), &rows, 100)?;
    }
    let sessions = sessions(dir.path(), 2).await?;
    for column in ["floats", "coded"] {
        // NaN is one group, and the greatest of all.
        let groups = format!(
            "SELECT count(*) AS groups, max(n) AS most FROM (SELECT {column}, count(*) AS n FROM t GROUP BY {column})"
        );
        assert!(!is_one_step(&sessions, &groups).await?);
        let (rows, plan) = run(&sessions[0], &groups).await?;
        let number = |at: usize| rows[0].column(at).as_primitive::<Int64Type>().value(0);
        assert_eq!((number(0), number(1)), (197, 4), "{column}: {}", shown(&plan));
        let sql = format!("SELECT CAST(max({column}) AS DOUBLE) FROM t");
        let (rows, plan) = run(&sessions[0], &sql).await?;
        let greatest = rows[0].column(0).as_primitive::<Float64Type>().value(0);
        assert!(greatest.is_nan(), "{column}: {greatest}: {}", shown(&plan));
        let sql = format!("SELECT CAST({column} AS DOUBLE) AS f FROM t ORDER BY {column} LIMIT 197");
        let (rows, _) = run(&sessions[0], &sql).await?;
        let read: Vec<f64> = rows
            .iter()
            .flat_map(|rows| rows.column(0).as_primitive::<Float64Type>().values().to_vec())
            .collect();
        assert!(read.iter().take(196).is_sorted() && read[196].is_nan(), "{column}");
    }
    Ok(())
}

#[tokio::test]
async fn directories_keep_groups_apart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let times: Vec<i64> = (0..6_000).map(|row| row * 7_919 % 5_000 * MINUTE).collect();
    for year in 2018..2024 {
        write(&dir.path().join(format!("year={year}/a.parquet")), &rows(&times)?, 1_000)?;
    }
    let sessions = sessions(dir.path(), 2).await?;
    for (sql, one_step) in [
        ("SELECT year, time, count(*) FROM t GROUP BY year, time ORDER BY 1, 2", true),
        ("SELECT time, year + 0, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2", false),
        // Two processors cannot share five years.
        ("SELECT year, count(*) FROM t WHERE year <> 2020 GROUP BY year ORDER BY 1", false),
    ] {
        assert_eq!(is_one_step(&sessions, sql).await?, one_step, "{sql}");
    }
    // Somebody wants each batch to be a partition, or bounds to be left alone.
    for (setting, value) in [("odp.max_partitions", "0"), ("odp.pruning", "false")] {
        let ctx = session(2, &[(setting, value)])?;
        open(&ctx, "t", dir.path()).await?;
        let (_, plan) = run(&ctx, "SELECT year, time, count(*) FROM t GROUP BY year, time").await?;
        assert!(!shown(&plan).contains(ONE_STEP), "{setting}");
    }
    Ok(())
}

#[tokio::test]
async fn one_step_or_two_the_answer_is_the_same() -> Result<()> {
    let mut random = StdRng::seed_from_u64(17);
    let mut in_one_step = 0;
    for _ in 0..25 {
        let dir = tempfile::tempdir()?;
        // Files of batches that mostly go on where the last one ended, or some minutes before.
        let mut time = 0;
        for file in 0..random.random_range(1..5) {
            let count = random.random_range(1..900);
            let step = random.random_range(1..3 * MINUTE);
            let times: Vec<i64> =
                (0..count).map(|row| time + row * step + random.random_range(0..step)).collect();
            time += count * step - if random.random_bool(0.2) { 5 * MINUTE } else { 0 };
            write(&dir.path().join(format!("{file}.parquet")), &rows(&times)?, random.random_range(20..300))?;
        }
        let unit = ["second", "minute", "hour", "day"][random.random_range(0..4)];
        let sql = format!(
            "SELECT date_trunc('{unit}', time) AS m, depth, count(*), sum(id), min(station) FROM t GROUP BY 1, 2 ORDER BY 1, 2"
        );
        let sessions = sessions(dir.path(), random.random_range(2..5)).await?;
        in_one_step += usize::from(is_one_step(&sessions, &sql).await?);
    }
    assert!((3..23).contains(&in_one_step), "{in_one_step} of 25");
    Ok(())
}
