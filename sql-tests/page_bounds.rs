//! Pages that match as a whole, by their bounds: the answer, and the work saved.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::data_type::{Int64Type, Int96, Int96Type};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use datafusion::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, metric, run, session, shown, write_with};

/// Rows that no filter was evaluated for.
const KEPT: &str = "rows_matched_by_page_bounds";
const RETRIES: &str = "page_bounds_retries";
const ROWS: i32 = 200_000;
/// Positions in the file.
const ID: usize = 4;
const V: usize = 12;

fn v(i: i32) -> i32 {
    i % 10_007 * 7_919 % 10_007
}

/// Columns that ascend with the row number, or have stretches of the same value; `v` is of no order.
fn rows(first: i32) -> Result<RecordBatch> {
    let numbers = || first..first + ROWS;
    let zone = "+02:00";
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("id", DataType::Int32, true)),
        Arc::new(Int32Array::from_iter_values(numbers().map(|i| -i))) as ArrayRef,
    )]);
    let long = numbers().map(|i| format!("{}{:07}", "x".repeat(80), i / 10));
    let columns: [(&str, ArrayRef, bool); 13] = [
        ("nested", Arc::new(nested), true),
        (
            "zoned",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(numbers().map(|i| i64::from(i) * 1_000_000))
                    .with_timezone(zone),
            ),
            true,
        ),
        ("long", Arc::new(StringArray::from_iter_values(long)), true),
        (
            "coded",
            cast(
                &StringArray::from_iter_values(numbers().map(|i| format!("c{:04}", i / 1_000))),
                &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            )?,
            true,
        ),
        ("id", Arc::new(Int64Array::from_iter_values(numbers().map(i64::from))), false),
        (
            "maybe",
            Arc::new(Int32Array::from_iter(numbers().map(|i| (i % 50_000 > 2_000).then_some(i)))),
            true,
        ),
        ("day", Arc::new(Date32Array::from_iter_values(numbers().map(|i| i / 100))), true),
        ("name", Arc::new(StringArray::from_iter_values(numbers().map(|i| format!("n{:07}", i / 10)))), true),
        ("flag", Arc::new(BooleanArray::from_iter(numbers().map(|i| Some(i / 60_000 % 2 == 1)))), true),
        (
            "u",
            Arc::new(UInt32Array::from_iter_values(
                numbers().map(|i| i.cast_unsigned() + (1 << 31) - 90_000),
            )),
            true,
        ),
        (
            "price",
            Arc::new(
                Decimal128Array::from_iter_values(numbers().map(i128::from))
                    .with_precision_and_scale(20, 2)?,
            ),
            true,
        ),
        (
            "x",
            Arc::new(Float64Array::from_iter_values(
                numbers().map(|i| if i % 9_000 == 0 { f64::NAN } else { f64::from(i) }),
            )),
            true,
        ),
        ("v", Arc::new(Float64Array::from_iter_values(numbers().map(|i| f64::from(v(i))))), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn pages_of(rows: usize) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(100_000))
        .set_data_page_row_count_limit(rows)
        .set_write_batch_size(1_000)
        .set_compression(Compression::SNAPPY)
}

/// The table in `dir` in sessions with page bounds, and without: the last does not prune, the one before does not filter in scans.
async fn sessions(dir: &Path, partitions: usize) -> Result<[SessionContext; 3]> {
    let sessions = [
        session(partitions, &[])?,
        session(partitions, &[("odp.pushdown_filters", "false")])?,
        session(partitions, &[("odp.pruning", "false")])?,
    ];
    for ctx in &sessions {
        let location = dir.to_str().ok_or("path is not UTF-8")?;
        ctx.register_table("t", Arc::new(OdpTableProvider::open(ctx, location).await?))?;
    }
    Ok(sessions)
}

/// The answer of `sql`, which must be the same with and without page bounds; rows that matched by them.
async fn answer(sessions: &[SessionContext], sql: &str) -> Result<(RecordBatch, usize)> {
    let [on, others @ ..] = sessions else { return Err("no session".into()) };
    let (rows, plan) = run(on, sql).await?;
    assert_eq!(metric(&plan, RETRIES), 0, "{sql}");
    let rows = concat_batches(&plan.schema(), &rows)?;
    for other in others {
        let (expected, plan) = run(other, sql).await?;
        assert_eq!(metric(&plan, KEPT), 0, "{sql}: {}", shown(&plan));
        assert_eq!(rows, concat_batches(&plan.schema(), &expected)?, "{sql}");
    }
    Ok((rows, metric(&plan, KEPT)))
}

/// Whether a row matches, by its number.
type Matches = fn(i32) -> bool;

#[tokio::test]
async fn rows_of_pages_that_match_as_a_whole_are_not_tested() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_with(&dir.path().join("year=2020/a.parquet"), &rows(0)?, pages_of(10_000).build())?;
    let sessions = sessions(dir.path(), 2).await?;
    let cases: [(&str, Matches, usize); 23] = [
        ("id >= 15000 AND id < 185000", |i| (15_000..185_000).contains(&i), 160_000),
        ("id >= 15000 AND id < 185000 AND year = 2020", |i| (15_000..185_000).contains(&i), 160_000),
        ("16000 <= id AND NOT id >= 84000", |i| (16_000..84_000).contains(&i), 60_000),
        ("day > DATE '1970-02-15' AND name < 'n0009000'", |i| (4_600..90_000).contains(&i), 80_000),
        ("u > 2147483647 AND u < 2147573648", |i| (90_000..180_000).contains(&i), 80_000),
        ("price BETWEEN 200.00 AND 850.00", |i| (20_000..=85_000).contains(&i), 60_000),
        ("maybe IS NOT NULL", |i| i % 50_000 > 2_000, 160_000),
        ("maybe > 51000", |i| i % 50_000 > 2_000 && i > 51_000, 40_000 + 80_000),
        ("id <> 5 AND id <> 77777", |i| i != 5 && i != 77_777, 80_000),
        ("name IN ('n0000001', 'n0000002') OR id >= 21000", |i| (10..30).contains(&i) || i >= 21_000, 70_000),
        (
            // Of no zone: in that of the column.
            "zoned >= TIMESTAMP '1970-01-01T06:10:00' AND zoned < TIMESTAMP '1970-01-02T12:00:00'",
            |i| (15_000..122_400).contains(&i),
            80_000,
        ),
        // The bounds of a page have the first 64 bytes, which all texts have.
        ("long >= 'x' AND id > 15000", |i| i > 15_000, 80_000),
        ("long <> 'y' AND long > repeat('x', 80) AND id > 15000", |i| i > 15_000, 0),
        ("maybe IS NULL", |i| i % 50_000 <= 2_000, 0),
        ("nested['id'] <= 0 AND id > 15000", |i| i > 15_000, 0),
        // The second batch is known to match without its pages.
        ("id > 55000 OR id < 3000", |i| !(3_000..=55_000).contains(&i), 40_000),
        // Three pages are not worth it, and neither is one.
        ("id BETWEEN 42000 AND 88000", |i| (42_000..=88_000).contains(&i), 0),
        ("id >= 195000", |i| i >= 195_000, 0),
        // Not comparisons of a column with a constant.
        ("flag", |i| i / 60_000 % 2 == 1, 0),
        ("id > 15000 AND id % 2 = 0", |i| i > 15_000 && i % 2 == 0, 0),
        // A float may be NaN, which is greater than all numbers.
        ("x > 15000", |i| i > 15_000 || i % 9_000 == 0, 0),
        ("id > 15000 AND v < 9000", |i| i > 15_000 && v(i) < 9_000, 0),
        ("id > 15000 AND maybe + 0 > 20000", |i| i % 50_000 > 2_000 && i > 20_000, 0),
    ];
    for (at, (filter, matches, kept)) in cases.into_iter().enumerate() {
        // With columns of the filter, and without.
        let columns = ["v", "v, id, name"][at % 2];
        let (found, matched) =
            answer(&sessions, &format!("SELECT {columns}, flag FROM t WHERE {filter}")).await?;
        let expected: Float64Array =
            (0..ROWS).filter(|&i| matches(i)).map(|i| Some(f64::from(v(i)))).collect();
        assert_eq!(found.column(0).as_primitive::<Float64Type>(), &expected, "{filter}");
        assert_eq!(matched, kept, "{filter}");
    }
    Ok(())
}

#[tokio::test]
async fn what_pages_say_changes_no_answer() -> Result<()> {
    let mut random = StdRng::seed_from_u64(22);
    let mut matched_by_pages = 0;
    for layout in 0..3 {
        let dir = tempfile::tempdir()?;
        for file in 0..2 {
            let dictionaries = random.random_bool(0.5);
            let version = *[WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]
                .choose(&mut random)
                .ok_or("none")?;
            let properties = pages_of(random.random_range(2_000..20_000))
                .set_max_row_group_row_count(Some(random.random_range(70_000..200_000)))
                .set_data_page_size_limit(random.random_range(20_000..200_000))
                .set_dictionary_enabled(dictionaries)
                .set_writer_version(version)
                .build();
            write_with(&dir.path().join(format!("half={file}/f.parquet")), &rows(file * ROWS)?, properties)?;
        }
        let sessions = sessions(dir.path(), random.random_range(1..4)).await?;
        for _ in 0..4 {
            let mut number = || random.random_range(-10_000..2 * ROWS + 10_000);
            let (low, high) = (number(), number());
            let (low, high) = (low.min(high), low.max(high));
            let terms = [
                format!("id > {low}"),
                format!("id <= {high}"),
                format!("maybe < {high}"),
                "maybe IS NOT NULL".to_owned(),
                format!("NOT (maybe BETWEEN {low} AND {high})"),
                format!("day >= DATE '1970-01-01' + {}", low / 100),
                format!("name < 'n{:07}'", high.max(0) / 10),
                format!("u <> {}", i64::from(low) + (1 << 31)),
                format!("price > {low}.00 / 100"),
                "half = 1".to_owned(),
                format!("coded >= 'c{:04}'", low.max(0) / 1_000),
                format!("zoned < to_timestamp({high})"),
                "maybe IS NULL".to_owned(),
                "(flag = true OR id < 70000)".to_owned(),
            ];
            let terms: Vec<&str> = terms.choose_multiple(&mut random, 2).map(String::as_str).collect();
            let connective = if random.random_bool(0.8) { " AND " } else { " OR " };
            let sql = format!("SELECT v, half, day, id FROM t WHERE {}", terms.join(connective));
            let (_, matched) = answer(&sessions, &sql).await?;
            matched_by_pages += usize::from(matched > 0);
        }
        assert!(layout < 2 || matched_by_pages > 2, "{matched_by_pages}");
    }
    Ok(())
}

#[tokio::test]
async fn files_without_a_page_index_or_of_other_types_are_filtered_as_ever() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let all = rows(0)?;
    write_with(&dir.path().join("0.parquet"), &all, pages_of(10_000).build())?;
    let without = pages_of(10_000).set_statistics_enabled(EnabledStatistics::Chunk);
    write_with(&dir.path().join("1.parquet"), &all, without.build())?;
    let without = pages_of(10_000).set_column_statistics_enabled("id".into(), EnabledStatistics::None);
    write_with(&dir.path().join("2.parquet"), &all, without.build())?;
    let narrow: ArrayRef = Arc::new(Int32Array::from_iter_values(0..ROWS));
    let columns = ["v", "name"].map(|name| (name, all.column_by_name(name).cloned()));
    let columns = columns.into_iter().map(|(name, column)| Ok((name, column.ok_or("no column")?)));
    let columns: Vec<(&str, ArrayRef)> = columns.chain([Ok(("id", narrow))]).collect::<Result<_>>()?;
    write_with(
        &dir.path().join("3.parquet"),
        &RecordBatch::try_from_iter(columns)?,
        pages_of(5_000).build(),
    )?;
    let sessions = sessions(dir.path(), 2).await?;
    let (rows, matched) =
        answer(&sessions, "SELECT v, name, maybe FROM t WHERE id BETWEEN 12000 AND 96000").await?;
    assert_eq!(rows.num_rows(), 4 * 84_001);
    assert_eq!(matched, 70_000 + 80_000, "of the first file, and of that with a narrower column");
    Ok(())
}

#[tokio::test]
async fn of_the_pages_that_are_read_a_damaged_one_is_the_same_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    write_with(&path, &rows(0)?, pages_of(10_000).build())?;
    let whole = std::fs::read(&path)?;
    let footer = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = footer.parse_and_finish(&Bytes::from(whole.clone()))?;
    let pages = footer.offset_index().ok_or("no page index")?;
    let sql = "SELECT v FROM t WHERE id >= 15000 AND id < 98000";
    // Column and page: of `id` the first page is skipped, the second tested, the third matches; `v` is read of all but one.
    for (column, page, is_read) in
        [(ID, 0, false), (ID, 1, true), (ID, 2, false), (V, 0, false), (V, 2, true)]
    {
        let page_at = &pages[0][column].page_locations()[page];
        let mut damaged = whole.clone();
        // Behind the header of the page.
        let at = usize::try_from(page_at.offset)? + usize::try_from(page_at.compressed_page_size)? / 2;
        damaged[at..at + 100].fill(0xff);
        std::fs::write(&path, &damaged)?;
        let sessions = sessions(dir.path(), 1).await?;
        let error = async |ctx: &SessionContext| run(ctx, sql).await.err().map(|error| error.to_string());
        let (on, above) = (error(&sessions[0]).await, error(&sessions[1]).await);
        assert_eq!(on.is_some(), is_read, "column {column}, page {page}: {on:?}");
        if let Some(on) = on {
            assert!(on.contains("a.parquet"), "{on}");
            assert_eq!(Some(on), above, "column {column}, page {page}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn bounds_that_are_the_wrong_way_round_prove_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    write_with(&path, &rows(0)?, pages_of(10_000).build())?;
    let mut bytes = std::fs::read(&path)?;
    let footer = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = footer.parse_and_finish(&Bytes::from(bytes.clone()))?;
    let index = footer.row_group(0).column(ID).column_index_offset().ok_or("no column index")?;
    let index = usize::try_from(index)?;
    // The greatest `id` of the fourth page.
    let max = 39_999_i64.to_le_bytes();
    let at = bytes[index..].windows(8).position(|found| found == max).ok_or("no such bound")? + index;
    bytes[at..at + 8].copy_from_slice(&5_i64.to_le_bytes());
    std::fs::write(&path, bytes)?;
    let sessions = sessions(dir.path(), 1).await?;
    let (found, matched) = answer(&sessions, "SELECT v, name FROM t WHERE id <> 35000").await?;
    assert_eq!((found.num_rows(), matched), (199_999, 90_000));
    Ok(())
}

#[tokio::test]
async fn one_side_of_or_hides_no_error_of_the_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_with(&dir.path().join("a.parquet"), &rows(0)?, pages_of(10_000).build())?;
    let sessions = sessions(dir.path(), 1).await?;
    for (filter, kept) in [
        ("id >= 21000 OR 100 / (id - 21500) > 1", None),
        ("100 / (id - 21500) > 1 OR id >= 21000", None),
        ("id >= 21000 OR name > long", Some(70_000)),
        ("id >= 21000 OR NOT flag OR day IS NULL", Some(70_000)),
        // As a whole of no kind that bounds tell of, since floats may be NaN.
        ("id >= 21000 OR x > v", Some(0)),
    ] {
        let sql = format!("SELECT v, name FROM t WHERE {filter}");
        match kept {
            Some(kept) => assert_eq!(answer(&sessions, &sql).await?.1, kept, "{filter}"),
            None => {
                // In the record batch in which the first side is not true of all rows.
                for ctx in &sessions {
                    assert!(run(ctx, &sql).await.is_err(), "{filter}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn times_of_96_bits_are_left_to_the_decoder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let schema = "message m { required int96 ts; required int64 id; }";
    let schema = Arc::new(parse_message_type(schema)?);
    let properties = Arc::new(pages_of(10_000).build());
    let mut writer =
        SerializedFileWriter::new(std::fs::File::create(dir.path().join("a.parquet"))?, schema, properties)?;
    let mut group = writer.next_row_group()?;
    let mut column = group.next_column()?.ok_or("no column")?;
    // Days after the year 2262 are no nanoseconds.
    let times: Vec<Int96> = (0..90_000_u32)
        .map(|i| {
            let mut time = Int96::new();
            time.set_data(0, 0, if i % 1_000 == 0 { 5_373_484 } else { 2_440_588 + i / 100 });
            time
        })
        .collect();
    column.typed::<Int96Type>().write_batch(&times, None, None)?;
    column.close()?;
    let mut column = group.next_column()?.ok_or("no column")?;
    let ids: Vec<i64> = (0..90_000).collect();
    column.typed::<Int64Type>().write_batch(&ids, None, None)?;
    column.close()?;
    group.close()?;
    writer.close()?;
    let coerced = ("datafusion.execution.parquet.coerce_int96", "us");
    let sessions = [session(1, &[coerced])?, session(1, &[coerced, ("odp.pushdown_filters", "false")])?];
    for ctx in &sessions {
        let location = dir.path().to_str().ok_or("path is not UTF-8")?;
        ctx.register_table("t", Arc::new(OdpTableProvider::open(ctx, location).await?))?;
    }
    let sql = "SELECT id, ts FROM t WHERE id >= 15000 OR ts > TIMESTAMP '2250-01-01'";
    let (found, matched) = answer(&sessions, sql).await?;
    assert_eq!((found.num_rows(), matched), (75_000 + 15, 0));
    let sql = "SELECT ts FROM t WHERE id >= 15000";
    assert_eq!(answer(&sessions, sql).await?.1, 70_000, "the filter reads none of them");
    Ok(())
}
