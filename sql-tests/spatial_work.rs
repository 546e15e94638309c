//! What spatial filters read, and what they say of a malformed geometry.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use datafusion_odp::{BatchUnit, OdpTableProvider};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, metric, run, session, shown, write_with};
use crate::planner::int64s;
use crate::shapes::{Shape, Wkb};

/// Writes `id`, and the points as coordinates and as WKB, which has no statistics.
fn write(path: &Path, first: i64, points: &[[f64; 2]], row_group: usize, page: usize) -> Result<()> {
    let ordinate = |axis: usize| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(points.iter().map(|at| at[axis])))
    };
    let wkb = points.iter().map(|at| Shape::Point(Some(*at)).wkb(Wkb::Little));
    let ids = Int64Array::from_iter_values((first..).take(points.len()));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("lon", ordinate(0)),
        ("lat", ordinate(1)),
        ("geometry", Arc::new(BinaryArray::from_iter_values(wkb))),
    ])?;
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group))
        .set_data_page_row_count_limit(page)
        .set_write_batch_size(page)
        .set_dictionary_enabled(false)
        .build();
    write_with(path, &rows, properties)
}

/// Points that go eastward from 0, `step` degrees each, within 50 degrees of the equator.
fn eastward(first: usize, count: usize, step: f64) -> Vec<[f64; 2]> {
    let mut random = StdRng::seed_from_u64(first as u64);
    (first..first + count).map(|i| [i as f64 * step, random.random_range(-50.0..50.0)]).collect()
}

async fn open(dir: &Path) -> Result<Arc<OdpTableProvider>> {
    let path = dir.to_str().ok_or("temp dir is not UTF-8")?;
    Ok(Arc::new(OdpTableProvider::open(&session(2, &[])?, path).await?))
}

/// Row groups of 10 degrees and pages of one: 11 row groups inside, and two at the edge.
const AREA: &str = "'POLYGON((25.055 -80, 145.055 -80, 145.055 80, 25.055 80, 25.055 -80))'";
const MATCHING: i64 = 12_000;

/// What `SELECT count(*)` read and decided.
#[derive(Debug)]
struct Work {
    bytes: usize,
    row_groups_inside: usize,
    row_groups_boundary: usize,
    pages_inside: usize,
    rows_tested: usize,
    plan: String,
}

async fn count(table: &Arc<OdpTableProvider>, geometry: &str, settings: &[(&str, &str)]) -> Result<Work> {
    let ctx = session(2, settings)?;
    ctx.register_table("t", Arc::clone(table) as _)?;
    let sql = format!("SELECT count(*) FROM t WHERE st_within({geometry}, {AREA})");
    let (rows, plan) = run(&ctx, &sql).await?;
    assert_eq!(int64s(&rows), [MATCHING], "{sql}, {settings:?}");
    Ok(Work {
        bytes: metric(&plan, "bytes_scanned"),
        row_groups_inside: metric(&plan, "area_row_groups_inside"),
        row_groups_boundary: metric(&plan, "area_row_groups_boundary"),
        pages_inside: metric(&plan, "area_pages_inside"),
        rows_tested: metric(&plan, "area_rows_tested"),
        plan: shown(&plan),
    })
}

#[tokio::test]
async fn batches_inside_an_area_are_counted_without_reading() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), 0, &eastward(0, 20_000, 0.01), 1000, 100)?;
    let known = "area={inside: 11, boundary: 2}";
    for geometry in ["st_point(lon, lat)", "geometry"] {
        let table = open(dir.path()).await?;
        let all = count(&table, geometry, &[("odp.pruning", "false")]).await?;
        assert_eq!(all.rows_tested, 20_000);
        let is_plain = geometry != "geometry";
        if is_plain {
            let trusted = count(&table, geometry, &[("odp.finite_coordinates", "true")]).await?;
            assert!(trusted.plan.contains(known), "{}", trusted.plan);
            // A page of 100 rows, of 8 and 8 bytes a row, in each of the two row groups at the edge.
            assert_eq!((trusted.rows_tested, trusted.row_groups_inside), (200, 11), "{trusted:?}");
            assert!(trusted.bytes < all.bytes / 50, "{trusted:?}, of all {}", all.bytes);
            assert!(trusted.pages_inside > 0, "{trusted:?}");
        }
        // Without the setting the rows inside are looked through once.
        let table = open(dir.path()).await?;
        let first = count(&table, geometry, &[]).await?;
        let second = count(&table, geometry, &[]).await?;
        assert_eq!(first.row_groups_inside, 0, "{first:?}");
        assert_eq!(first.rows_tested, if is_plain { 200 } else { 20_000 }, "{first:?}");
        assert!(second.plan.contains(known), "{}", second.plan);
        assert_eq!((second.rows_tested, second.row_groups_inside), (200, 11), "{second:?}");
        assert_eq!(second.row_groups_boundary, 2, "{second:?}");
        assert!(second.bytes < first.bytes / 20, "{second:?}, first {}", first.bytes);
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_leaves_most_of_a_dataset_unread() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for file in 0..60 {
        let points = eastward(file * 1000, 1000, 0.003);
        write(
            &dir.path().join(format!("part-{file}.parquet")),
            i64::try_from(file * 1000)?,
            &points,
            500,
            100,
        )?;
    }
    let area = "'POLYGON((-1 -90, 181 -90, 181 80, -1 90, -1 -90))'";
    for geometry in ["st_point(lon, lat)", "geometry"] {
        for (partitions, share) in [("8", 3), ("1", 15)] {
            let ctx = session(2, &[("odp.max_partitions", partitions)])?;
            ctx.register_table("t", open(dir.path()).await? as _)?;
            let filter = format!("st_within({geometry}, {area})");
            let (rows, plan) = run(&ctx, &format!("SELECT id FROM t WHERE {filter} LIMIT 10")).await?;
            assert_eq!(int64s(&rows).len(), 10);
            let limited = metric(&plan, "bytes_scanned");
            let (_, plan) = run(&ctx, &format!("SELECT id FROM t WHERE NOT ({filter})")).await?;
            let all = metric(&plan, "bytes_scanned");
            assert!(limited * share < all, "{geometry}, {partitions} partitions: {limited} of {all} bytes");
        }
    }
    Ok(())
}

const FILES: usize = 3;
const FILE_ROWS: usize = 90;

/// Files of points, in row groups of 30 rows, with malformed geometries at these rows of the dataset.
fn write_malformed(dir: &Path, malformed: &[usize], random: &mut StdRng) -> Result<Vec<Option<[f64; 2]>>> {
    let points: Vec<Option<[f64; 2]>> = (0..FILES * FILE_ROWS)
        .map(|row| {
            let at = [row as f64 / 2.0, f64::from(random.random_range(-5..6))];
            (!malformed.contains(&row)).then_some(at)
        })
        .collect();
    for (file, points) in points.chunks(FILE_ROWS).enumerate() {
        let first = file * FILE_ROWS;
        let ids = Int64Array::from_iter_values((i64::try_from(first)?..).take(FILE_ROWS));
        let shape = |at: &Option<[f64; 2]>| Shape::Point(*at);
        let wkb = points.iter().map(|at| match at {
            Some(_) => shape(at).wkb(Wkb::Little),
            None => vec![1, 2, 0, 0, 0, 9],
        });
        let wkt = points.iter().map(|at| match at {
            Some(_) => shape(at).wkt(),
            None => "POLYGON((0 0, 1".to_owned(),
        });
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("wkb", Arc::new(BinaryArray::from_iter_values(wkb))),
            ("wkt", Arc::new(StringArray::from_iter_values(wkt))),
        ])?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(30))
            .set_data_page_row_count_limit(10)
            .set_write_batch_size(10)
            .set_dictionary_enabled(false)
            .build();
        write_with(&dir.join(format!("part-{file}.parquet")), &rows, properties)?;
    }
    Ok(points)
}

const UNITS: [BatchUnit; 4] = [BatchUnit::RowGroup, BatchUnit::File, BatchUnit::Rows(7), BatchUnit::Rows(45)];

async fn ids(ctx: &SessionContext, filter: &str) -> Result<Vec<i64>> {
    Ok(int64s(&run(ctx, &format!("SELECT id FROM t WHERE {filter}")).await?.0))
}

/// A box round the equator: whole batches lie inside, others outside.
const BELT: &str = "'POLYGON((20 -2.5, 100 -2.5, 100 2.5, 20 2.5, 20 -2.5))'";

#[tokio::test]
async fn a_malformed_geometry_is_named_by_file_batch_and_row() -> Result<()> {
    for seed in 0..5 {
        let mut random = StdRng::seed_from_u64(seed);
        let malformed: Vec<usize> =
            (0..random.random_range(1..5)).map(|_| random.random_range(0..FILES * FILE_ROWS)).collect();
        let dir = tempfile::tempdir()?;
        write_malformed(dir.path(), &malformed, &mut random)?;
        let path = dir.path().to_str().ok_or("temp dir is not UTF-8")?;
        for unit in UNITS {
            let size = ["3", "16", "8192"][random.random_range(0..3)];
            let partitions = ["0", "1", "8"][random.random_range(0..3)];
            let ctx =
                session(2, &[("datafusion.execution.batch_size", size), ("odp.max_partitions", partitions)])?;
            let table = OdpTableProvider::builder(path).with_batch_unit(unit).open(&ctx).await?;
            let table = Arc::new(table);
            ctx.register_table("t", Arc::clone(&table) as _)?;
            // The first malformed row of each batch that has any.
            let mut places = vec![];
            for batch in table.snapshot().batches() {
                let rows = batch.first_row..batch.first_row + batch.rows;
                let in_batch = malformed.iter().filter(|row| **row / FILE_ROWS == batch.file_index);
                let first =
                    in_batch.map(|row| (row % FILE_ROWS) as u64).filter(|row| rows.contains(row)).min();
                places.extend(first.map(|row| {
                    let (file, batch) = (batch.file_index, batch.batch_index);
                    format!("part-{file}.parquet, batch {batch}, row {row} of the file")
                }));
            }
            let column = ["wkb", "wkt"][random.random_range(0..2)];
            let filter = [
                format!("st_within({column}, {BELT})"),
                format!("NOT st_intersects({BELT}, {column})"),
                format!("st_dwithin({column}, {BELT}, 1.0)"),
                format!("id < 1000 AND st_within({column}, {BELT})"),
            ][random.random_range(0..4)]
            .clone();
            // The second time other rows are known.
            for turn in 0..2 {
                let error = ids(&ctx, &filter).await.expect_err(&filter).to_string();
                let is_named = places.iter().any(|place| error.contains(place));
                assert!(
                    is_named,
                    "seed {seed}, {unit:?}, turn {turn}, {filter}: {error}\nexpected {places:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_malformed_geometry_that_is_no_match_hides_no_row() -> Result<()> {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let malformed: Vec<usize> = (0..5).map(|_| random.random_range(0..FILES * FILE_ROWS)).collect();
        let dir = tempfile::tempdir()?;
        let points = write_malformed(dir.path(), &malformed, &mut random)?;
        let path = dir.path().to_str().ok_or("temp dir is not UTF-8")?;
        let where_point = |wanted: &dyn Fn(Option<[f64; 2]>) -> bool| -> Vec<i64> {
            (0..).zip(&points).filter(|(_, at)| wanted(**at)).map(|(id, _)| id).collect()
        };
        let in_belt = |[x, y]: [f64; 2]| x > 20.0 && x < 100.0 && y.abs() < 2.5;
        for unit in UNITS {
            let ctx = session(2, &[("odp.on_invalid_geometry", "no_match")])?;
            let table = OdpTableProvider::builder(path).with_batch_unit(unit).open(&ctx).await?;
            ctx.register_table("t", Arc::new(table))?;
            let column = ["wkb", "wkt"][random.random_range(0..2)];
            let filter = format!("st_within({column}, {BELT})");
            for turn in 0..3 {
                let context = format!("seed {seed}, {unit:?}, turn {turn}, {filter}");
                let inside = where_point(&|at| at.is_some_and(in_belt));
                assert_eq!(ids(&ctx, &filter).await?, inside, "{context}");
                let outside = where_point(&|at| at.is_some_and(|at| !in_belt(at)));
                assert_eq!(ids(&ctx, &format!("NOT {filter}")).await?, outside, "NOT {context}");
                let neither = where_point(&|at| at.is_none());
                assert_eq!(ids(&ctx, &format!("{filter} IS NULL")).await?, neither, "{context} IS NULL");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_malformed_geometry_in_a_batch_that_is_not_read_raises_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_malformed(dir.path(), &[FILE_ROWS + 3], &mut StdRng::seed_from_u64(0))?;
    let ctx = session(2, &[])?;
    ctx.register_table("t", open(dir.path()).await? as _)?;
    // Row groups of 30 rows: the first of the second file is skipped by its ids.
    let filter =
        format!("st_disjoint(wkb, 'POINT(-9 -9)') AND (id < {FILE_ROWS} OR id >= {})", FILE_ROWS + 30);
    for _ in 0..2 {
        assert_eq!(ids(&ctx, &filter).await?.len(), FILES * FILE_ROWS - 30);
        assert!(ids(&ctx, "st_disjoint(wkb, 'POINT(-9 -9)')").await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_match_everywhere_are_filtered_after_decoding_and_others_are_picked_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // In no order: each page has some of the area; and from west to east: most have none.
    let ordered = eastward(0, 40_000, 0.005);
    let mut mixed = ordered.clone();
    mixed.shuffle(&mut StdRng::seed_from_u64(4));
    for (name, points, expected) in [("mixed", mixed, 2), ("eastward", ordered, 0)] {
        write(&dir.path().join(format!("{name}/a.parquet")), 0, &points, 20_000, 1000)?;
        let narrow = "'POLYGON((31.2525 -80, 36.2525 -80, 36.2525 80, 31.2525 80, 31.2525 -80))'";
        let sql = format!("SELECT id, lon, lat FROM t WHERE st_within(geometry, {narrow})");
        let mut answers = vec![];
        for settings in [&[][..], &[("odp.pruning", "false")], &[("odp.pushdown_filters", "false")]] {
            let ctx = session(2, settings)?;
            ctx.register_table("t", open(&dir.path().join(name)).await?)?;
            let (rows, plan) = run(&ctx, &sql).await?;
            if settings.is_empty() {
                let read_on = metric(&plan, "row_groups_read_in_runs");
                assert_eq!(
                    (read_on, metric(&plan, "run_retries")),
                    (expected, 0),
                    "{name}: {}",
                    shown(&plan)
                );
            }
            let mut ids = int64s(&rows);
            ids.sort_unstable();
            answers.push(ids);
        }
        let inside = |at: &[f64; 2]| at[0] > 31.2525 && at[0] < 36.2525;
        let wanted: Vec<i64> = (0..).zip(&points).filter(|(_, at)| inside(at)).map(|(i, _)| i).collect();
        assert_eq!(wanted.len(), 1000);
        assert!(answers.iter().all(|answer| *answer == wanted), "{name}");
    }
    Ok(())
}
