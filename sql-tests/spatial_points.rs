//! Points in WKB that are tested where they lie in their pages: the answer, and how many are.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, metric, run, session, write_with};
use crate::planner::int64s;
use crate::shapes::{Shape, Wkb};

const READ: &str = "area_points_read";
const ROWS: usize = 5_000;

const SQUARE: &str = "'POLYGON((0 0, 40 0, 40 40, 0 40, 0 0))'";
const TRIANGLE: &str = "'POLYGON((10 -60, 70 20, 10 30, 10 -60))'";
const ACROSS: &str = "'POLYGON((170 -50, 190 -50, 190 50, 170 50, 170 -50))'";

/// Whole degrees, so that some lie on the boundary; more than one turn of longitudes.
fn positions(seed: u64) -> Vec<[f64; 2]> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut degree = |most: i32| f64::from(random.random_range(-most..=most));
    (0..ROWS).map(|_| [degree(190), degree(90)]).collect()
}

fn points(seed: u64) -> Vec<Option<Vec<u8>>> {
    positions(seed).into_iter().map(|at| Some(Shape::Point(Some(at)).wkb(Wkb::Little))).collect()
}

fn table(geometries: &[Option<Vec<u8>>]) -> Result<RecordBatch> {
    let ids = Int64Array::from_iter_values(0..i64::try_from(geometries.len())?);
    let geometries = BinaryArray::from_iter(geometries.iter().map(Option::as_deref));
    let (ids, geometries): (ArrayRef, ArrayRef) = (Arc::new(ids), Arc::new(geometries));
    Ok(RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("geometry", geometries, true)])?)
}

/// Row groups of 1,000 rows, and pages of 300.
fn properties(compression: Compression, version: WriterVersion) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_column_encoding("geometry".into(), Encoding::PLAIN)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(1_000))
        .set_data_page_row_count_limit(300)
        .set_write_batch_size(100)
}

fn plain() -> WriterProperties {
    properties(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0).build()
}

/// Rows, or an error; and points.
type Found = (std::result::Result<Vec<i64>, String>, usize);

/// The rows of the dataset in `dir` that match, or the error, and how many points were read from pages: with the filter in the
/// scan, and above it.
async fn on_and_off(dir: &Path, filter: &str) -> Result<[Found; 2]> {
    let mut found = vec![];
    for pushdown in ["true", "false"] {
        found.push(find(dir, filter, &[("odp.pushdown_filters", pushdown)]).await?);
    }
    found.try_into().map_err(|_| "two answers".into())
}

async fn find(dir: &Path, filter: &str, settings: &[(&str, &str)]) -> Result<Found> {
    let location = dir.to_str().ok_or("path is not UTF-8")?;
    let ctx = session_with(settings)?;
    ctx.register_table("t", Arc::new(OdpTableProvider::open(&ctx, location).await?))?;
    answer(&ctx, filter).await
}

fn session_with(settings: &[(&str, &str)]) -> Result<SessionContext> {
    let all = [&[("datafusion.execution.batch_size", "512"), ("odp.max_partitions", "1")], settings].concat();
    session(1, &all)
}

async fn answer(ctx: &SessionContext, filter: &str) -> Result<Found> {
    Ok(match run(ctx, &format!("SELECT id FROM t WHERE {filter}")).await {
        Ok((rows, plan)) => (Ok(int64s(&rows)), metric(&plan, READ)),
        Err(error) => (Err(error.to_string()), 0),
    })
}

#[tokio::test]
async fn points_are_tested_in_their_pages_by_any_logic() -> Result<()> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let filters = [
        format!("st_within(geometry, {SQUARE})"),
        format!("st_contains({SQUARE}, geometry)"),
        format!("st_covers({SQUARE}, geometry) AND NOT st_touches(geometry, {TRIANGLE})"),
        format!("st_intersects(geometry, {SQUARE}) OR st_within(geometry, {TRIANGLE})"),
        format!("NOT (st_intersects(geometry, {SQUARE}) AND st_disjoint(geometry, {TRIANGLE}))"),
        format!("st_intersects(geometry, {ACROSS})"),
        "st_disjoint(geometry, 'POLYGON EMPTY') AND st_intersects(geometry, 'LINESTRING(0 0, 50 50)')"
            .to_owned(),
    ];
    for (seed, compression) in [zstd, Compression::UNCOMPRESSED, Compression::SNAPPY].into_iter().enumerate()
    {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let dir = tempfile::tempdir()?;
            let rows = table(&points(seed as u64))?;
            write_with(&dir.path().join("a.parquet"), &rows, properties(compression, version).build())?;
            for filter in &filters {
                let [(found, read), (expected, not_read)] = on_and_off(dir.path(), filter).await?;
                assert_eq!(found, expected, "{filter} {compression} {version:?}");
                let matching = found.map(|ids| ids.len());
                assert!(
                    matching.as_ref().is_ok_and(|count| (1..ROWS).contains(count)),
                    "{filter}: {matching:?}"
                );
                assert_eq!((read, not_read), (ROWS, 0), "{filter} {compression} {version:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_made_of_points_alone_is_decoded() -> Result<()> {
    let within = format!("st_within(geometry, {SQUARE})");
    let with = |at: usize, geometry: Option<Vec<u8>>| {
        let mut geometries = points(9);
        geometries[at] = geometry;
        geometries
    };
    let empty = Shape::Point(None).wkb(Wkb::Little);
    let half_nan = Shape::Point(Some([f64::NAN, 1.0])).wkb(Wkb::Little);
    let big = Shape::Point(Some([10.0, 10.0])).wkb(Wkb::Big);
    let extended = Shape::Point(Some([10.0, 10.0])).wkb(Wkb::Extended);
    let line = Shape::Line(vec![[1.0, 1.0], [2.0, 2.0]]).wkb(Wkb::Little);
    // As long as a point.
    let mut malformed = Shape::Point(Some([10.0, 10.0])).wkb(Wkb::Little);
    malformed[1] = 9;
    let rows_at = 2_500;
    // Decided together: row groups next to each other that may be points by what the footer says.
    for (name, geometry, read, is_error) in [
        ("big-endian", Some(big), ROWS, false),
        // As long as points, and tested as other geometries are: a page of them.
        ("empty", Some(empty), ROWS - 300, false),
        ("half NaN", Some(half_nan), 0, true),
        ("with a coordinate system", Some(extended), 0, false),
        ("a line", Some(line), 0, false),
        ("NULL", None, ROWS - 1_000, false),
        ("malformed", Some(malformed), 0, true),
    ] {
        let dir = tempfile::tempdir()?;
        write_with(&dir.path().join("a.parquet"), &table(&with(rows_at, geometry))?, plain())?;
        let [(found, points), (expected, _)] = on_and_off(dir.path(), &within).await?;
        assert_eq!(found.is_err(), is_error, "{name}: {found:?}");
        match found {
            Ok(found) => assert_eq!(Ok(found), expected, "{name}"),
            Err(found) => assert!(found.contains("row 2500 of the file"), "{name}: {found}"),
        }
        assert_eq!(points, read, "{name}");
    }

    let dir = tempfile::tempdir()?;
    write_with(&dir.path().join("a.parquet"), &table(&points(9))?, plain())?;
    for (filter, read) in [
        (format!("{within} OR st_x(geometry) = 50"), 0),
        (format!("st_dwithin(geometry, {SQUARE}, 1.0)"), 0),
        // Filters of their own: the first needs no more than coordinates.
        (format!("{within} AND id % 2 = 0 AND st_y(geometry) > 3"), ROWS),
    ] {
        let [(found, points), (expected, _)] = on_and_off(dir.path(), &filter).await?;
        assert!(found == expected && found.is_ok_and(|ids| !ids.is_empty()), "{filter}");
        assert_eq!(points, read, "{filter}");
    }

    let dictionary = properties(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0)
        .set_column_dictionary_enabled("geometry".into(), true)
        .build();
    let dir = tempfile::tempdir()?;
    write_with(&dir.path().join("a.parquet"), &table(&points(9))?, dictionary)?;
    let [(found, points), (expected, _)] = on_and_off(dir.path(), &within).await?;
    assert_eq!((found, points), (expected, 0));
    Ok(())
}

#[tokio::test]
async fn text_of_as_many_bytes_is_no_point() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // `01 01 00 …` is text, too.
    let text = |_| String::from_utf8(Shape::Point(Some([0.0, 0.0])).wkb(Wkb::Little));
    let texts = (0..1_000).map(text).collect::<std::result::Result<Vec<_>, _>>()?;
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..1_000)) as ArrayRef),
        ("geometry", Arc::new(StringArray::from_iter_values(texts))),
    ])?;
    write_with(&dir.path().join("a.parquet"), &rows, plain())?;
    let [(found, _), (expected, _)] =
        on_and_off(dir.path(), &format!("st_intersects(geometry, {SQUARE})")).await?;
    assert!(found.is_err() && expected.is_err(), "{found:?}, {expected:?}");
    Ok(())
}

#[tokio::test]
async fn damaged_points_give_the_error_of_the_decoder_or_its_rows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let mut outcomes = [0, 0];
    for (compression, version) in [
        (zstd, WriterVersion::PARQUET_1_0),
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0),
    ] {
        write_with(&path, &table(&points(4))?, properties(compression, version).build())?;
        let bytes = std::fs::read(&path)?;
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(bytes.clone()))?;
        let (start, len) = footer.row_group(3).column(1).byte_range();
        for at in (start..start + len).step_by(usize::try_from(len / 60)?) {
            let mut damaged = bytes.clone();
            damaged[usize::try_from(at)?] ^= 0x55;
            std::fs::write(&path, damaged)?;
            // The other needs more than coordinates.
            let within = format!("st_within(geometry, {SQUARE})");
            let (found, read) = find(dir.path(), &within, &[]).await?;
            let decoded = format!("{within} OR (st_x(geometry) IS NULL AND st_x(geometry) IS NOT NULL)");
            let (expected, not_read) = find(dir.path(), &decoded, &[]).await?;
            assert_eq!(found, expected, "byte {at}");
            assert_eq!(not_read, 0);
            outcomes[0] += usize::from(read == ROWS);
            outcomes[1] += usize::from(found.is_err());
        }
    }
    assert!(outcomes.iter().all(|&count| count > 10), "{outcomes:?}");
    Ok(())
}

#[tokio::test]
async fn extents_are_learnt_of_points_in_their_pages() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut at = positions(5);
    at.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let sorted: Vec<_> = at.iter().map(|at| Some(Shape::Point(Some(*at)).wkb(Wkb::Little))).collect();
    write_with(&dir.path().join("a.parquet"), &table(&sorted)?, plain())?;
    let location = dir.path().to_str().ok_or("path is not UTF-8")?;
    let ctx = session_with(&[])?;
    let table = Arc::new(OdpTableProvider::open(&ctx, location).await?);
    ctx.register_table("t", Arc::clone(&table) as _)?;
    let plain = session_with(&[("odp.pushdown_filters", "false"), ("odp.pruning", "false")])?;
    plain.register_table("t", table)?;
    let mut points = vec![];
    for area in [SQUARE, SQUARE, TRIANGLE, ACROSS] {
        for filter in [format!("st_within(geometry, {area})"), format!("NOT st_intersects(geometry, {area})")]
        {
            let (found, read) = answer(&ctx, &filter).await?;
            let (expected, _) = answer(&plain, &filter).await?;
            assert_eq!(found, expected, "{filter}");
            points.push(read);
        }
    }
    assert_eq!(points[0], ROWS, "of none is known where it lies");
    assert!(points[1..].iter().all(|&read| read < ROWS / 2), "{points:?}");
    Ok(())
}

#[tokio::test]
async fn malformed_points_match_nothing_if_they_are_to() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut geometries = points(6);
    for row in [10, 700, 701, 4_999] {
        geometries[row] = Some([&[1, 9, 0, 0, 0], [0; 16].as_slice()].concat());
    }
    geometries[2_000] = Some(Shape::Point(None).wkb(Wkb::Little));
    write_with(&dir.path().join("a.parquet"), &table(&geometries)?, plain())?;
    for filter in [format!("st_within(geometry, {SQUARE})"), format!("st_disjoint(geometry, {SQUARE})")] {
        let lenient = ("odp.on_invalid_geometry", "no_match");
        let (found, read) = find(dir.path(), &filter, &[lenient]).await?;
        let (expected, _) = find(dir.path(), &filter, &[lenient, ("odp.pushdown_filters", "false")]).await?;
        assert!(found == expected && found.is_ok_and(|ids| ids.len() > 50), "{filter}");
        // Pages of 300 rows, the last of a row group of 100: four have others.
        assert_eq!(read, ROWS - 3 * 300 - 100, "{filter}");
    }
    Ok(())
}

#[tokio::test]
async fn files_of_a_dataset_may_store_points_in_their_own_ways() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = |seed| table(&points(seed));
    write_with(&dir.path().join("a.parquet"), &rows(1)?, plain())?;
    let dictionary = properties(Compression::SNAPPY, WriterVersion::PARQUET_1_0)
        .set_column_dictionary_enabled("geometry".into(), true);
    write_with(&dir.path().join("b.parquet"), &rows(2)?, dictionary.build())?;
    let without = rows(3)?.project(&[0])?;
    write_with(&dir.path().join("c.parquet"), &without, plain())?;
    // With a line among them; row groups that are read together are decoded together.
    let mut geometries = points(4);
    geometries[2_600] = Some(Shape::Line(vec![[1.0, 1.0], [2.0, 2.0]]).wkb(Wkb::Little));
    write_with(&dir.path().join("d.parquet"), &table(&geometries)?, plain())?;
    let no_statistics = properties(Compression::SNAPPY, WriterVersion::PARQUET_1_0)
        .set_statistics_enabled(EnabledStatistics::None);
    write_with(&dir.path().join("e.parquet"), &rows(5)?, no_statistics.build())?;
    let [(found, points), (expected, _)] =
        on_and_off(dir.path(), &format!("st_intersects(geometry, {SQUARE})")).await?;
    assert_eq!(found, expected);
    assert_eq!(points, 2 * ROWS);
    Ok(())
}

#[tokio::test]
async fn a_column_of_the_directory_hides_that_of_the_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let inside = "geometry=POINT(1 1)";
    std::fs::create_dir(dir.path().join(inside))?;
    write_with(&dir.path().join(inside).join("a.parquet"), &table(&points(1))?, plain())?;
    // As text, and as bytes that are no WKB: then no row matches.
    for (data_type, expected) in [("VARCHAR", ROWS), ("BYTEA", 0)] {
        let ctx = session(1, &[("odp.on_invalid_geometry", "no_match")])?;
        let sql = format!(
            "CREATE EXTERNAL TABLE t (id BIGINT, geometry {data_type}) STORED AS ODP PARTITIONED BY (geometry) \
             LOCATION '{}'",
            dir.path().display()
        );
        ctx.sql(&sql).await?.collect().await?;
        let (found, read) = answer(&ctx, &format!("st_within(geometry, {SQUARE})")).await?;
        assert_eq!((found.map(|ids| ids.len()), read), (Ok(expected), 0), "{data_type}");
    }
    Ok(())
}
