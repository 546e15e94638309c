//! Columns whose values lie in their pages as they are in memory, or as codes: the answer, what is copied, and what is looked up.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter,
};
use datafusion::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use datafusion::parquet::file::statistics::Statistics;
use datafusion::prelude::ParquetReadOptions;
use datafusion_odp::OdpTableProvider;

use crate::fixtures::{Result, metric, run, session, shown, write_with};

/// Column chunks whose values were copied.
const COPIED: &str = "column_chunks_copied";
/// Column chunks whose codes were looked up.
const LOOKED_UP: &str = "column_chunks_of_codes";
const RETRIES: &str = "run_retries";
const ROWS: i64 = 5_000;
/// Of 1,000 rows each.
const ROW_GROUPS: usize = 5;

/// Columns of many types, most of them plain values, and their names.
fn rows() -> Result<(Vec<&'static str>, RecordBatch)> {
    let numbers = || Int64Array::from_iter_values((0..ROWS).map(|i| i * 7_919 % 10_007 - 5_000));
    let zone = Some("+02:00".into());
    let types = [
        ("i32", DataType::Int32),
        ("u32", DataType::UInt32),
        ("date", DataType::Date32),
        ("time32", DataType::Time32(TimeUnit::Millisecond)),
        ("f32", DataType::Float32),
        ("i64", DataType::Int64),
        ("u64", DataType::UInt64),
        ("seconds", DataType::Timestamp(TimeUnit::Second, None)),
        ("zoned", DataType::Timestamp(TimeUnit::Microsecond, zone)),
        ("time64", DataType::Time64(TimeUnit::Nanosecond)),
        ("duration", DataType::Duration(TimeUnit::Millisecond)),
        ("f64", DataType::Float64),
        ("small", DataType::Int16),
        ("decimal", DataType::Decimal128(9, 2)),
    ];
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![];
    for (at, (name, data_type)) in types.into_iter().enumerate() {
        let is_positive =
            data_type.is_unsigned_integer() || matches!(data_type, DataType::Time32(_) | DataType::Time64(_));
        let offset = if is_positive { 5_000 } else { 0 };
        let values = numbers().unary::<_, datafusion::arrow::datatypes::Int64Type>(|value| value + offset);
        let values: ArrayRef = match data_type {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(&values, &DataType::Int32)?, &data_type)?,
            _ => cast(&values, &data_type)?,
        };
        columns.push((name, values, at % 2 == 0));
    }
    // NULL in the fourth row group.
    let null = (0..ROWS).map(|i| (i != 3_500).then_some(i));
    columns.insert(2, ("null", Arc::new(Int64Array::from_iter(null)), true));
    let text = (0..ROWS).map(|i| format!("text {}", i % 9));
    columns.insert(7, ("text", Arc::new(StringArray::from_iter_values(text)), true));
    let names = columns.iter().map(|(name, ..)| *name).collect();
    Ok((names, RecordBatch::try_from_iter_with_nullable(columns)?))
}

fn properties(compression: Compression, version: WriterVersion) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_encoding(Encoding::PLAIN)
        .set_column_encoding("text".into(), Encoding::PLAIN)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(1_000))
        .set_data_page_row_count_limit(300)
        .set_write_batch_size(100)
}

/// The rows of our table and those that DataFusion gives, and how many column chunks were copied.
async fn read(dir: &Path, columns: &str) -> Result<[(RecordBatch, usize); 2]> {
    let [(ours, [copied, _]), (theirs, [other_copied, _])] = read_both(dir, columns).await?;
    Ok([(ours, copied), (theirs, other_copied)])
}

/// The same, and how many were looked up.
async fn read_both(dir: &Path, columns: &str) -> Result<[(RecordBatch, [usize; 2]); 2]> {
    let ctx = session(1, &[("datafusion.execution.batch_size", "512"), ("odp.max_partitions", "1")])?;
    let location = dir.to_str().ok_or("path is not UTF-8")?;
    ctx.register_table("ours", Arc::new(OdpTableProvider::open(&ctx, location).await?))?;
    ctx.register_parquet("theirs", location, ParquetReadOptions::default()).await?;
    let mut found = vec![];
    for table in ["ours", "theirs"] {
        let (rows, plan) = run(&ctx, &format!("SELECT {columns} FROM {table}")).await?;
        assert_eq!(metric(&plan, RETRIES), 0, "{}", shown(&plan));
        let counts = [COPIED, LOOKED_UP].map(|name| metric(&plan, name));
        found.push((concat_batches(&plan.schema(), &rows)?, counts));
    }
    found.try_into().map_err(|_| "two tables".into())
}

#[tokio::test]
async fn values_are_copied_if_they_lie_in_their_pages_as_in_memory() -> Result<()> {
    let (names, rows) = rows()?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    for compression in [zstd, Compression::UNCOMPRESSED, Compression::SNAPPY] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let dir = tempfile::tempdir()?;
            let properties = properties(compression, version).build();
            write_with(&dir.path().join("a.parquet"), &rows, properties)?;
            for (columns, copied) in [
                // But for a small number, a decimal, and text, and one with NULL in a row group that is read at the same time.
                (names.join(", "), 12 * ROW_GROUPS),
                ("f64, text, i32 + 1 AS next, f64 * 2 AS twice, zoned".to_owned(), 3 * ROW_GROUPS),
                ("seconds, duration".to_owned(), 2 * ROW_GROUPS),
                ("text, small, decimal".to_owned(), 0),
            ] {
                let [(ours, found), (theirs, _)] = read(dir.path(), &columns).await?;
                assert_eq!(ours, theirs, "{columns} {compression} {version:?}");
                assert_eq!(found, copied, "{columns} {compression} {version:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn codes_are_looked_up_in_the_dictionaries_of_their_row_groups() -> Result<()> {
    let (names, rows) = rows()?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    for compression in [zstd, Compression::UNCOMPRESSED] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let dir = tempfile::tempdir()?;
            let properties = properties(compression, version)
                .set_dictionary_enabled(true)
                .set_column_dictionary_enabled("f32".into(), false)
                // It ends before the column does: pages of both kinds.
                .set_column_dictionary_page_size_limit("u64".into(), 400)
                .build();
            write_with(&dir.path().join("a.parquet"), &rows, properties)?;
            for (columns, counts) in [
                (names.join(", "), [1, 10]),
                ("f64, text, i32 + 1 AS next, f64 * 2 AS twice, zoned".to_owned(), [0, 3]),
                ("f32, text, small, u64".to_owned(), [1, 0]),
            ] {
                let [(ours, found), (theirs, _)] = read_both(dir.path(), &columns).await?;
                assert_eq!(ours, theirs, "{columns} {compression} {version:?}");
                assert_eq!(
                    found,
                    counts.map(|of_each| of_each * ROW_GROUPS),
                    "{columns} {compression} {version:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_statistics_a_column_may_have_null() -> Result<()> {
    let (_, rows) = rows()?;
    let dir = tempfile::tempdir()?;
    let properties = properties(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    write_with(&dir.path().join("a.parquet"), &rows, properties)?;
    // Of these, two cannot.
    let [(ours, copied), (theirs, _)] = read(dir.path(), "null, i32, u32, f64").await?;
    assert_eq!(ours, theirs);
    let required = ["null", "i32", "u32", "f64"]
        .iter()
        .filter(|name| rows.schema().field_with_name(name).is_ok_and(|field| !field.is_nullable()));
    assert_eq!(copied, required.count() * ROW_GROUPS);
    assert_eq!(copied, 2 * ROW_GROUPS);
    Ok(())
}

/// `footer` that says of all columns that they have no NULL.
fn without_null(footer: &ParquetMetaData) -> Result<ParquetMetaData> {
    let mut builder = ParquetMetaDataBuilder::new(footer.file_metadata().clone());
    for group in footer.row_groups() {
        let columns = group.columns().iter().map(|column| {
            let statistics = Statistics::int64(None, None, None, Some(0), false);
            column.clone().into_builder().set_statistics(statistics).build()
        });
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        builder = builder.add_row_group(group.clone().into_builder().set_column_metadata(columns).build()?);
    }
    Ok(builder.build())
}

#[tokio::test]
async fn null_that_statistics_deny_is_there() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    let numbers = Int64Array::from_iter((0..ROWS).map(|i| (i % 4_000 != 3_500).then_some(i)));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS)) as ArrayRef, true),
        ("number", Arc::new(numbers), true),
    ])?;
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        write_with(&path, &rows, properties(Compression::UNCOMPRESSED, version).build())?;
        let bytes = Bytes::from(std::fs::read(&path)?);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
        let length = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into()?);
        let mut lying = bytes[..bytes.len() - 8 - length as usize].to_vec();
        ParquetMetaDataWriter::new(&mut lying, &without_null(&footer)?).finish()?;
        std::fs::write(&path, lying)?;

        // Some record batches are given before it turns up.
        let ctx = session(1, &[("datafusion.execution.batch_size", "512"), ("odp.max_partitions", "1")])?;
        let location = dir.path().to_str().ok_or("path is not UTF-8")?;
        ctx.register_table("t", Arc::new(OdpTableProvider::open(&ctx, location).await?))?;
        let (found, plan) = run(&ctx, "SELECT id, number FROM t").await?;
        assert_eq!(concat_batches(&rows.schema(), &found)?, rows, "{version:?}");
        assert!(metric(&plan, COPIED) > 0 && metric(&plan, RETRIES) == 1, "{}", shown(&plan));
    }
    Ok(())
}
