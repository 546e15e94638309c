//! Tickets: another process opens them and finds the same rows, or that the file changed.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use datafusion::parquet::data_type::{Int32Type, Int96, Int96Type};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::prelude::{SessionContext, col, lit};
use datafusion_odp::{BatchTicket, BatchUnit, OdpError, OdpTableProvider, Selection, SelectionFilter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::fixtures::{Result, observations, session, write, write_observations, write_with};
use crate::selection::{RandomDataset, ids, is_changed, printed, random_session, read, text};

/// What opening a ticket gave.
#[derive(Debug, PartialEq)]
enum Opened {
    /// The schema, and the rows as text.
    Rows(SchemaRef, Vec<String>),
    Changed,
    Failed(String),
}

async fn open(ctx: &SessionContext, ticket: &str) -> Opened {
    let rows = async {
        let ticket: BatchTicket = ticket.parse()?;
        let stream = ticket.open(ctx).await?;
        let schema = stream.schema();
        let rows = read(stream).await.map_err(|error| {
            error.downcast().map_or_else(datafusion::common::DataFusionError::External, |e| *e)
        })?;
        Ok::<_, datafusion::common::DataFusionError>((schema, rows))
    };
    match rows.await {
        Ok((schema, rows)) => match printed(&rows) {
            Ok(rows) => Opened::Rows(schema, rows),
            Err(error) => Opened::Failed(error.to_string()),
        },
        Err(error) if is_changed(&error) => Opened::Changed,
        Err(error) => Opened::Failed(error.to_string()),
    }
}

/// The rows of a table as text, without its frame and names.
fn rows_of(table: &[impl AsRef<str>]) -> Vec<String> {
    let rows = table.iter().map(AsRef::as_ref).filter(|line| !line.starts_with('+'));
    rows.skip(1).map(str::to_owned).collect()
}

/// What another process makes of the tickets: the rows of each, none if it is refused, and the messages of those.
fn open_elsewhere(tickets: &[String]) -> Result<(Vec<Vec<String>>, Vec<String>)> {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("tickets.sql");
    let statements = tickets.iter().enumerate().map(|(i, ticket)| {
        format!("SELECT 'ticket {i}' AS ticket;\nSELECT * FROM odp_ticket('{ticket}');\n")
    });
    std::fs::write(&script, statements.collect::<String>())?;
    // Start-up files go on after an error.
    let output = Command::new(env!("CARGO_BIN_EXE_odp"))
        .args(["--quiet", "--format", "table", "--maxrows", "inf", "--rc", text(&script)?])
        .env("HOME", dir.path())
        .env("DATAFUSION_FORMAT_NULL", "")
        .stdin(Stdio::null())
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (output, errors) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let lines: Vec<&str> = output.lines().collect();
    let is_mark = |line: &str| {
        line.strip_prefix("| ticket ")
            .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()))
    };
    let marks: Vec<usize> = (0..lines.len()).filter(|&i| is_mark(lines[i])).collect();
    assert_eq!(marks.len(), tickets.len());
    let ends = marks.iter().skip(1).map(|next| next - 3).chain([lines.len()]);
    // After each mark comes the end of its frame.
    let found = marks.iter().zip(ends).map(|(mark, end)| rows_of(&lines[mark + 2..end])).collect();
    Ok((found, errors.lines().filter(|line| line.starts_with("Error")).map(str::to_owned).collect()))
}

/// Opens the tickets here and in another process, which must find the same.
async fn check(tickets: &[String], wanted: &[Opened], names: &[String]) -> Result<()> {
    assert_eq!((tickets.len(), names.len()), (wanted.len(), wanted.len()));
    let (elsewhere, errors) = open_elsewhere(tickets)?;
    assert_eq!(errors, Vec::<String>::new());
    for (i, (ticket, wanted)) in tickets.iter().zip(wanted).enumerate() {
        assert_eq!(open(&session(2, &[])?, ticket).await, *wanted, "{}", names[i]);
        let Opened::Rows(_, rows) = wanted else { return Err(format!("{}: {wanted:?}", names[i]).into()) };
        assert_eq!(elsewhere[i], rows_of(rows), "{}", names[i]);
    }
    Ok(())
}

fn texts(selection: &Selection) -> Result<Vec<String>> {
    Ok(selection.tickets()?.iter().map(ToString::to_string).collect())
}

/// What each batch of `selection` is to another process.
async fn expected(selection: &Selection) -> Result<Vec<Opened>> {
    let mut all = Vec::new();
    for position in 0..selection.batch_count() {
        let rows = read(selection.batch(position).await?).await?;
        all.push(Opened::Rows(selection.schema(), printed(&rows)?));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_finds_the_same_rows_each_of_them_once() -> Result<()> {
    let (mut tickets, mut wanted, mut names) = (vec![], vec![], vec![]);
    let mut datasets = vec![];
    for seed in 100..105 {
        let mut random = StdRng::seed_from_u64(seed);
        let dataset = RandomDataset::new(&mut random)?;
        for case in 0..8 {
            let ctx = random_session(&mut random)?;
            let table = dataset.open(&mut random, &ctx).await?;
            let filter = dataset.filter(&mut random);
            let selection = table.select(SelectionFilter::sql(&filter));
            let selection = match random.random_range(0..4) {
                0 => selection.columns(["s", "id"]),
                // No column of the file.
                2 if dataset.is_partitioned => selection.columns(["p"]),
                1 if dataset.is_partitioned => selection.columns(["p", "id", "p"].into_iter().skip(1)),
                _ => selection,
            };
            let selection = selection.plan(&ctx).await?;
            let all = printed(&read(selection.execute().await?).await?)?;
            let one_by_one = expected(&selection).await?;
            // Together they are the selection: each printed table has a frame of four lines round its rows.
            let count = |rows: &[String]| rows.len().saturating_sub(4);
            let sum: usize =
                one_by_one.iter().map(|b| if let Opened::Rows(_, rows) = b { count(rows) } else { 0 }).sum();
            assert_eq!(sum, count(&all), "seed {seed}, case {case}: {filter}");
            let of_selection = texts(&selection)?;
            for (position, ticket) in of_selection.iter().enumerate() {
                let ticket: BatchTicket = ticket.parse()?;
                assert_eq!((ticket.position(), ticket.total()), (position, selection.batch_count()));
                assert_eq!(
                    Some(ticket.batch_index()),
                    selection.selected_batch(position).map(|b| b.batch_index)
                );
                assert_eq!(Some(ticket.rows()), selection.selected_batch(position).map(|b| b.rows));
                names.push(format!("seed {seed}, case {case}, batch {position}: {filter}"));
            }
            tickets.extend(of_selection);
            wanted.extend(one_by_one);
        }
        datasets.push(dataset);
    }
    assert!(tickets.len() > 40, "{} tickets", tickets.len());
    check(&tickets, &wanted, &names).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_of_a_file_that_changed_say_so_and_the_others_work() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 7, 3, 50)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let selection = table.select("depth > 20 and id < 10000").columns(["id", "station"]).plan(&ctx).await?;
    let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
    assert_eq!(tickets.len(), 21);
    let part = |i: usize| dir.path().join(format!("part-{i}.parquet"));
    // Replaced by other rows, appended to, deleted, cut to nothing, replaced by rubbish, written anew as it was.
    write(&part(0), &observations(0, 150, 77)?, 50)?;
    std::fs::OpenOptions::new().append(true).open(part(1))?.write_all(b"more")?;
    std::fs::remove_file(part(2))?;
    std::fs::write(part(3), b"")?;
    std::fs::write(part(4), vec![b'x'; usize::try_from(std::fs::metadata(part(4))?.len())?])?;
    let same = std::fs::read(part(5))?;
    std::fs::write(part(5), same)?;
    let (elsewhere, errors) = open_elsewhere(&tickets)?;
    assert_eq!(errors.len(), 18);
    assert!(errors.iter().all(|error| error.contains("changed since")), "{errors:?}");
    for (i, (ticket, wanted)) in tickets.iter().zip(&wanted).enumerate() {
        let here = open(&session(2, &[])?, ticket).await;
        let Opened::Rows(_, rows) = wanted else { panic!("{wanted:?}") };
        match i / 3 < 6 {
            true => assert_eq!((here, &elsewhere[i]), (Opened::Changed, &vec![]), "part {}", i / 3),
            false => assert_eq!(
                (here, &elsewhere[i]),
                (Opened::Rows(selection.schema(), rows.clone()), &rows_of(rows))
            ),
        }
    }
    Ok(())
}

/// Files of two versions of a schema, in directories: 3 columns, one of them wider later, and a new one.
fn write_versions(dir: &Path) -> Result<()> {
    let old = RecordBatch::try_from_iter([
        ("n", Arc::new(Int32Array::from_iter_values(0..20)) as ArrayRef),
        ("s", Arc::new(StringArray::from_iter_values((0..20).map(|i| format!("s{i}"))))),
    ])?;
    let new = RecordBatch::try_from_iter([
        ("extra", Arc::new(Float64Array::from_iter_values((0..20).map(|i| f64::from(i) / 2.0))) as ArrayRef),
        ("n", Arc::new(Int64Array::from_iter_values(20..40))),
        ("s", Arc::new(StringArray::from_iter_values((0..20).map(|i| format!("t{i}"))))),
    ])?;
    write(&dir.join("cruise=__HIVE_DEFAULT_PARTITION__/day=2024-01-02/a b%25.parquet"), &old, 7)?;
    write(&dir.join("cruise=r%C3%B8d%2F1/day=2024-01-03/b#1.parquet"), &new, 20)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_partitions_and_kinds_of_filters_travel() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_versions(dir.path())?;
    let ctx = session(3, &[("odp.on_invalid_geometry", "no_match")])?;
    let table =
        OdpTableProvider::builder(text(dir.path())?).with_batch_unit(BatchUnit::Rows(9)).open(&ctx).await?;
    let plans = [
        table.select_all(),
        table.select_all().columns(["cruise"]),
        table.select_all().columns(["day", "extra", "n"]),
        table.select("n > $low and day >= '2024-01-02'").bind("low", 3_i64).columns(["cruise", "s"]),
        table.select("s == ? or extra > 8").bind_next("s5").columns(["n"]),
        table.select("n is not null or true == true").columns(["s"]),
        table.select(SelectionFilter::sql("cruise IS NULL AND n > 5")),
        table.select(SelectionFilter::sql("n BETWEEN 5 AND 30 AND now() > TIMESTAMP '2020-01-01'")),
        table.select(SelectionFilter::sql("n > 5 OR now() < TIMESTAMP '2020-01-01'")),
        table.select(SelectionFilter::sql("CAST(day AS TIMESTAMP) < now() AND \"s\" LIKE 't%'")),
        table.select(SelectionFilter::sql("cruise = 'rød/1'")),
        table.select(SelectionFilter::sql(
            "st_within(st_point(n, extra), 'POLYGON((20 0, 35 0, 35 9, 20 9, 20 0))')",
        )),
        table
            .select(col("n").gt(lit(5)).and(col("extra").is_null().or(col("extra").lt(lit(3.5)))))
            .columns(["s"]),
        table.select(col("s").in_list(vec![lit("s1"), lit("s2"), lit("t3"), lit("t4")], false)),
        table
            .select(SelectionFilter::sql("st_within(s, 'POLYGON((0 0, 1 0, 1 1, 0 0))') IS NULL"))
            .columns(["n"]),
    ];
    let (mut tickets, mut wanted) = (vec![], vec![]);
    for plan in plans {
        let name = format!("{plan:?}");
        let selection = plan.plan(&ctx).await?;
        assert!(selection.batch_count() > 0, "{name}");
        tickets.extend(texts(&selection)?);
        wanted.extend(expected(&selection).await?);
    }
    let names: Result<Vec<String>> = tickets.iter().map(|ticket| Ok(content(ticket)?.to_string())).collect();
    check(&tickets, &wanted, &names?).await?;
    for ticket in &tickets {
        assert!(ticket.len() < 1024 && !ticket.contains(char::is_whitespace), "{} bytes", ticket.len());
    }
    Ok(())
}

/// The rows that `odp_ticket` gives.
async fn through_sql(ctx: &SessionContext, ticket: &str) -> Result<Vec<String>> {
    let rows = ctx.sql(&format!("SELECT * FROM odp_ticket('{ticket}')")).await?.collect().await?;
    Ok(rows_of(&printed(&rows)?))
}

#[tokio::test]
async fn a_filter_that_reads_the_time_zone_finds_the_same_rows_in_another_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = RecordBatch::try_from_iter([
        ("s", Arc::new(StringArray::from(vec!["2020-01-01T00:30:00", "2020-01-01T03:30:00"])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![0, 7200]))),
    ])?;
    write(&dir.path().join("a.parquet"), &rows, 10)?;
    for zone in ["+02:00", "UTC", ""] {
        let ctx = session(2, &[])?;
        if !zone.is_empty() {
            ctx.sql(&format!("SET datafusion.execution.time_zone = '{zone}'")).await?;
        }
        let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
        for filter in ["to_unixtime(s) >= 1577836800", "date_part('hour', to_timestamp_seconds(n)) < 3"] {
            let selection = table.select(SelectionFilter::sql(filter)).plan(&ctx).await?;
            let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
            let Some(Opened::Rows(_, found)) = wanted.first() else { panic!("no rows") };
            assert_eq!(found.len() - 4, if zone == "+02:00" { 1 } else { 2 }, "{zone}: {filter}");
            for other in ["+02:00", "-05:00", "UTC"] {
                let other = session(1, &[("datafusion.execution.time_zone", other)])?;
                assert_eq!(open(&other, &tickets[0]).await, wanted[0], "{zone}: {filter}");
                assert_eq!(through_sql(&other, &tickets[0]).await?, rows_of(found), "{zone}: {filter}");
            }
            assert_eq!(open(&session(1, &[])?, &tickets[0]).await, wanted[0], "{zone}: {filter}");
        }
    }
    let dialect = [
        ("datafusion.sql_parser.dialect", "mysql"),
        ("datafusion.sql_parser.parse_float_as_decimal", "true"),
    ];
    let ctx = session(2, &dialect)?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let filter = SelectionFilter::sql("s > \"2020-01-01T01\" AND 0.1 + 0.2 = 0.3");
    let selection = table.select(filter).plan(&ctx).await?;
    assert_eq!(open(&session(1, &[])?, &texts(&selection)?[0]).await, expected(&selection).await?[0]);
    Ok(())
}

/// One column of row groups of so many rows, each row the days since 1970 of its number in the file, as INT96 or INT32.
fn write_by_hand(path: &Path, physical: &str, row_groups: &[usize], days: i32) -> Result<()> {
    let schema = parse_message_type(&format!("message m {{ required {physical} t; }}"))?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(std::fs::File::create(path)?, Arc::new(schema), properties)?;
    let mut next = days;
    for rows in row_groups {
        let numbers: Vec<i32> = (next..next + i32::try_from(*rows)?).collect();
        next += i32::try_from(*rows)?;
        let mut group = writer.next_row_group()?;
        let mut column = group.next_column()?.ok_or("no column")?;
        match physical {
            "int96" => {
                let values: Result<Vec<Int96>> = numbers
                    .iter()
                    .map(|day| {
                        let mut value = Int96::new();
                        // The Julian day of 1970-01-01.
                        value.set_data(0, 0, u32::try_from(day + 2_440_588)?);
                        Ok(value)
                    })
                    .collect();
                column.typed::<Int96Type>().write_batch(&values?, None, None)?;
            }
            _ => drop(column.typed::<Int32Type>().write_batch(&numbers, None, None)?),
        }
        column.close()?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

#[tokio::test]
async fn int96_is_read_as_where_the_ticket_was_made() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The year 3000: beyond nanoseconds of 64 bits.
    write_by_hand(&dir.path().join("a.parquet"), "int96", &[3], 376_200)?;
    let unit = "datafusion.execution.parquet.coerce_int96";
    let zone = "datafusion.execution.parquet.coerce_int96_tz";
    let settings: [&[(&str, &str)]; 3] = [&[(unit, "us")], &[(unit, "ms"), (zone, "+02:00")], &[]];
    for of_maker in settings {
        let ctx = session(2, of_maker)?;
        let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
        let selection = table.select_all().plan(&ctx).await?;
        let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
        let Opened::Rows(_, rows) = &wanted[0] else { panic!("no rows") };
        assert_eq!(rows[3].contains("3000-01-01"), !of_maker.is_empty(), "{}", rows[3]);
        for of_opener in settings {
            let found = through_sql(&session(1, of_opener)?, &tickets[0]).await?;
            assert_eq!(found, rows_of(rows), "{of_maker:?}, {of_opener:?}");
            assert_eq!(
                open(&session(1, of_opener)?, &tickets[0]).await,
                wanted[0],
                "{of_maker:?}, {of_opener:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn batches_with_empty_row_groups_at_their_ends_have_tickets() -> Result<()> {
    for row_groups in [&[4, 0][..], &[0, 4], &[0, 2, 0, 2, 0], &[9, 0, 1]] {
        let dir = tempfile::tempdir()?;
        write_by_hand(&dir.path().join("a.parquet"), "int32", row_groups, 0)?;
        let ctx = session(2, &[])?;
        for unit in [BatchUnit::RowGroup, BatchUnit::File, BatchUnit::Rows(4)] {
            let table = OdpTableProvider::builder(text(dir.path())?).with_batch_unit(unit).open(&ctx).await?;
            let selection = table.select_all().plan(&ctx).await?;
            for (ticket, wanted) in texts(&selection)?.iter().zip(expected(&selection).await?) {
                assert_eq!(open(&session(1, &[])?, ticket).await, wanted, "{row_groups:?}, {unit:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn files_that_name_one_crs_in_two_ways_have_tickets() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let crs84 = json!({"type": "GeographicCRS", "name": "WGS 84 (CRS84)", "id": {"authority": "OGC", "code": "CRS84"}});
    for (name, crs) in [("a.parquet", None), ("b.parquet", Some(crs84))] {
        let mut column = json!({"encoding": "WKB", "geometry_types": ["Point"]});
        if let Some(crs) = crs {
            column["crs"] = crs;
        }
        let geo = json!({"version": "1.1.0", "primary_column": "g", "columns": {"g": column}});
        let point = [&[1_u8, 1, 0, 0, 0][..], &5_f64.to_le_bytes(), &6_f64.to_le_bytes()].concat();
        let rows = RecordBatch::try_from_iter([
            ("g", Arc::new(BinaryArray::from_vec(vec![&point; 3])) as ArrayRef),
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ])?;
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_owned(), geo.to_string())]))
            .build();
        write_with(&dir.path().join(name), &rows, properties)?;
    }
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    for filter in ["g within 'POLYGON((0 0, 9 0, 9 9, 0 9, 0 0))'", "id > 1"] {
        let selection = table.select(filter).plan(&ctx).await?;
        let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
        assert_eq!(tickets.len(), 2);
        for (ticket, wanted) in tickets.iter().zip(&wanted) {
            assert_eq!(open(&session(1, &[])?, ticket).await, *wanted, "{filter}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn columns_that_the_filter_names_in_vain_are_known_to_its_tickets() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_versions(dir.path())?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    for filter in [
        "n > 3 or extra == null",
        "n > 3 and s ~ 'POINT (1 2)'",
        "n > 3 or extra + null > 1",
        "n > 3 or day == null",
        "n is not null or not (extra < null)",
    ] {
        let selection = table.select(filter).columns(["s"]).plan(&ctx).await?;
        let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
        assert!(!tickets.is_empty(), "{filter}");
        for (ticket, wanted) in tickets.iter().zip(&wanted) {
            assert_eq!(open(&session(1, &[])?, ticket).await, *wanted, "{filter}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_declared_schema_travels_with_its_metadata() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 2, 2, 50)?;
    let ctx = session(2, &[])?;
    let fields = vec![
        Field::new("id", DataType::Int32, true).with_metadata([("unit".to_owned(), "1".to_owned())].into()),
        Field::new("salinity", DataType::Float64, true),
    ];
    let schema = Schema::new_with_metadata(fields, [("title".to_owned(), "CTD".to_owned())].into());
    let table = OdpTableProvider::builder(text(dir.path())?).with_schema(Arc::new(schema)).open(&ctx).await?;
    let selection = table.select("id > 60 and salinity is null").plan(&ctx).await?;
    assert_eq!(selection.schema().metadata()["title"], "CTD");
    for (ticket, wanted) in texts(&selection)?.iter().zip(expected(&selection).await?) {
        assert_eq!(open(&session(2, &[])?, ticket).await, wanted);
    }
    Ok(())
}

/// Rows along a line, with their area columns as GeoParquet 1.1 has them.
fn write_covered(path: &Path) -> Result<()> {
    let geometry = |i: usize| format!("POINT({} {})", i as f64 / 4.0, 50.0);
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..100).map(|i| f64::from(i) / 4.0)));
    let y: ArrayRef = Arc::new(Float64Array::from(vec![50.0; 100]));
    let names = ["xmin", "ymin", "xmax", "ymax"];
    let fields: Vec<FieldRef> =
        names.iter().map(|name| Arc::new(Field::new(*name, DataType::Float64, false))).collect();
    let bbox = StructArray::new(fields.into(), vec![Arc::clone(&x), Arc::clone(&y), x, y], None);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(geometry)));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef),
        ("geometry", texts),
        ("bbox", Arc::new(bbox)),
    ])?;
    let covering: Value = names.iter().map(|name| ((*name).to_owned(), json!(["bbox", name]))).collect();
    let geo = json!({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {
        "encoding": "WKT", "geometry_types": ["Point"], "covering": {"bbox": covering}}}});
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(25))
        .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_owned(), geo.to_string())]))
        .build();
    write_with(path, &rows, properties)
}

#[tokio::test]
async fn areas_over_geometry_columns_travel() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_covered(&dir.path().join("a.parquet"))?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let selection = table
        .select("geometry within $area")
        .bind("area", "POLYGON((3 40, 9 40, 9 60, 3 60, 3 40))")
        .columns(["id"])
        .plan(&ctx)
        .await?;
    let wanted = expected(&selection).await?;
    let found: usize =
        wanted.iter().map(|b| if let Opened::Rows(_, rows) = b { rows.len() - 4 } else { 0 }).sum();
    assert_eq!(found, 23);
    for (ticket, wanted) in texts(&selection)?.iter().zip(wanted) {
        assert_eq!(open(&session(2, &[])?, ticket).await, wanted);
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_that_no_text_can_say_has_no_ticket() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 1, 2, 50)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let own: ScalarUDF = create_udf(
        "nobody_else_has_it",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(|_| Ok(ColumnarValue::from(datafusion::common::ScalarValue::from(true)))),
    );
    let selection = table.select(own.call(vec![col("id")])).plan(&ctx).await?;
    let error = selection.ticket(0).err().ok_or("no error")?;
    assert!(matches!(&error, OdpError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("nobody_else_has_it"), "{error}");
    // A session that has the function makes a ticket that one without it refuses.
    ctx.register_udf(own.clone());
    let selection = table.select(own.call(vec![col("id")])).plan(&ctx).await?;
    let ticket = selection.ticket(0)?.to_string();
    assert!(
        matches!(open(&session(1, &[])?, &ticket).await, Opened::Failed(message) if message.contains("nobody_else"))
    );
    assert!(selection.ticket(2).is_err());
    Ok(())
}

/// Tables of one file with one row per row group, and the session that they are in, as `t`.
async fn registered(dir: &Path, rows: &RecordBatch) -> Result<SessionContext> {
    write(&dir.join("a.parquet"), rows, 1)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir)?).await?;
    ctx.register_table("t", Arc::new(table))?;
    Ok(ctx)
}

#[tokio::test]
async fn tickets_are_made_one_after_the_other_and_only_if_they_are_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let point = |i: usize| format!("POINT ({} {})", i % 170, i % 80);
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..8)) as ArrayRef),
        ("g", Arc::new(StringArray::from_iter_values((0..8).map(point)))),
    ])?;
    let ctx = registered(dir.path(), &rows).await?;
    // Digits that no compression makes small.
    let mut random = StdRng::seed_from_u64(3);
    let mut ring: Vec<String> = (0..16_000)
        .map(|i| {
            let angle = f64::from(i) / 16_000.0 * std::f64::consts::TAU;
            let (x, y) =
                (angle.cos() * 170.0 + random.random::<f64>(), angle.sin() * 85.0 + random.random::<f64>());
            format!("{x:.14} {y:.14}")
        })
        .collect();
    ring.push(ring[0].clone());
    let area = format!("POLYGON(({}))", ring.join(", "));
    let sql = format!("SELECT * FROM odp_tickets('t', 'id >= 0 and g intersect ?', '[\"{area}\"]')");
    let all = ctx.sql(&sql).await?.collect().await?;
    assert!(all.len() > 1 && all.iter().map(RecordBatch::num_rows).sum::<usize>() == 8, "{}", all.len());
    for rows in &all {
        let tickets = rows.column_by_name("ticket").ok_or("no tickets")?.get_array_memory_size();
        assert!(tickets < 4 << 20, "{tickets} bytes of tickets at once");
    }
    let first: BatchTicket = all[0].column(4).as_string::<i32>().value(0).parse()?;
    assert!(!read(first.open(&session(1, &[])?).await?).await?.is_empty());
    let limited = ctx.sql(&format!("SELECT ticket, position FROM ({sql}) LIMIT 1")).await?.collect().await?;
    assert_eq!((limited.len(), limited[0].num_rows()), (1, 1));

    // A column that no ticket holds: whoever asks for none does not mind.
    let wide = FixedSizeBinaryArray::try_from_iter(std::iter::once(vec![0_u8; 2_200_000]))?;
    let dir = tempfile::tempdir()?;
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("wide", Arc::new(wide)),
    ])?;
    let ctx = registered(dir.path(), &rows).await?;
    let counted =
        ctx.sql("SELECT count(*), sum(max_rows), max(position) FROM odp_tickets('t', 'id > 0')").await?;
    assert!(printed(&counted.collect().await?)?.iter().any(|row| row.starts_with("| 1        | 1")));
    assert_eq!(ctx.sql("SELECT * FROM odp_tickets('t', 'id > 0') LIMIT 0").await?.count().await?, 0);
    let tickets = ctx.sql("SELECT ticket FROM odp_tickets('t', 'id > 0')").await?.collect().await;
    let message = tickets.err().ok_or("no error")?.to_string();
    assert!(message.contains("values in each row"), "{message}");
    Ok(())
}

#[tokio::test]
async fn odp_ticket_is_a_table_of_the_ticket_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_versions(dir.path())?;
    let ctx = session(2, &[])?;
    let table =
        OdpTableProvider::builder(text(dir.path())?).with_batch_unit(BatchUnit::File).open(&ctx).await?;
    let selection = table.select("n >= 20").columns(["n", "day", "s", "extra"]).plan(&ctx).await?;
    let ticket = selection.ticket(0)?;
    assert_eq!(ticket.schema()?, selection.schema());
    let other = session(2, &[])?;
    let run = async |sql: &str| -> Result<Vec<String>> {
        let rows =
            other.sql(&sql.replace("TICKET", &format!("odp_ticket('{ticket}')"))).await?.collect().await?;
        Ok(rows_of(&printed(&rows)?))
    };
    let whole = read(selection.batch(0).await?).await?;
    assert_eq!(run("SELECT * FROM TICKET").await?, rows_of(&printed(&whole)?));
    assert_eq!(run("SELECT count(*) FROM TICKET").await?, ["| 20       |"]);
    assert_eq!(
        run("SELECT s, n FROM TICKET WHERE extra > 1.0 AND n < 25").await?,
        ["| t3 | 23 |", "| t4 | 24 |"]
    );
    assert_eq!(run("SELECT n FROM TICKET LIMIT 2").await?, ["| 20 |", "| 21 |"]);
    assert_eq!(run("SELECT a.n FROM TICKET a JOIN TICKET AS b ON a.n = b.n + 19").await?, ["| 39 |"]);
    assert_eq!(
        run("DESCRIBE SELECT * FROM TICKET").await?,
        [
            "| n           | Int64     | NO          |",
            "| day         | Date32    | YES         |",
            "| s           | Utf8View  | NO          |",
            "| extra       | Float64   | YES         |"
        ]
    );
    let plan = run("EXPLAIN SELECT s FROM TICKET WHERE n = 22").await?.concat();
    assert!(plan.contains("projection=[s]") && plan.contains("n@0 = 22"), "{plan}");
    std::fs::remove_dir_all(dir.path())?;
    let gone = run("SELECT s FROM TICKET").await.err().ok_or("no error")?.to_string();
    assert!(gone.contains("changed since"), "{gone}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_odp_ticket_come_in_the_order_of_the_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &observations(0, 40_000, 3)?, 40_000)?;
    let ctx = session(4, &[("datafusion.execution.batch_size", "512")])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let selection = table.select("depth > 20").columns(["id"]).plan(&ctx).await?;
    let expected = ids(&read(selection.batch(0).await?).await?);
    assert!(expected.is_sorted() && expected.len() > 30_000);
    let ticket = selection.ticket(0)?;
    for _ in 0..3 {
        let rows = ctx.sql(&format!("SELECT id FROM odp_ticket('{ticket}')")).await?.collect().await?;
        assert_eq!(ids(&rows), expected);
    }
    let counted = format!("SELECT count(*) AS id FROM odp_ticket('{ticket}') WHERE id % 2 = 0");
    let even = i64::try_from(expected.iter().filter(|id| **id % 2 == 0).count())?;
    assert_eq!(ids(&ctx.sql(&counted).await?.collect().await?), [even]);
    Ok(())
}

/// As another setting would have the output of a query.
#[tokio::test]
async fn texts_are_views_where_the_session_expands_those_of_its_output() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 1, 2, 50)?;
    let ctx = session(2, &[("datafusion.optimizer.expand_views_at_output", "true")])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let selection = table.select("station >= 's1'").columns(["station"]).plan(&ctx).await?;
    assert_eq!(selection.schema().field(0).data_type(), &DataType::Utf8View);
    let ticket = selection.ticket(0)?;
    for stream in [selection.batch(0).await?, selection.execute().await?, ticket.open(&ctx).await?] {
        assert_eq!(stream.schema(), selection.schema());
        assert!(read(stream).await?.iter().all(|rows| rows.schema() == selection.schema()));
    }
    let sql =
        format!("SELECT max(station) AS most, count(*) FROM odp_ticket('{ticket}') WHERE station < 's3'");
    let rows = ctx.sql(&sql).await?.collect().await?;
    assert!(printed(&rows)?.concat().contains("| s2 "), "{rows:?}");
    assert_eq!(rows[0].column(0).data_type(), &DataType::LargeUtf8);
    Ok(())
}

/// The JSON inside a ticket.
fn content(ticket: &str) -> Result<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(ticket.strip_prefix("odp1.").ok_or("no prefix")?)?;
    let mut json = String::new();
    flate2::read::DeflateDecoder::new(&bytes[4..]).read_to_string(&mut json)?;
    Ok(serde_json::from_str(&json)?)
}

/// A ticket with this inside, as the format is documented.
fn made(content: &str) -> Result<String> {
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(content.as_bytes())?;
    let packed = packer.finish()?;
    let mut crc = flate2::Crc::new();
    crc.update(&packed);
    let bytes = [&crc.sum().to_le_bytes()[..], &packed].concat();
    Ok(format!("odp1.{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[tokio::test]
async fn garbled_and_forged_tickets_are_one_clear_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 1, 3, 50)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, text(dir.path())?).await?;
    let selection = table.select("depth > 20").plan(&ctx).await?;
    let ticket = selection.ticket(1)?.to_string();
    assert_eq!(ticket, ticket.parse::<BatchTicket>()?.to_string());
    assert_eq!(made(&content(&ticket)?.to_string())?.parse::<BatchTicket>()?, ticket.parse()?);
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..500 {
        let mut garbled = ticket.clone().into_bytes();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..garbled.len());
            match random.random_range(0..3) {
                0 => drop(garbled.remove(at)),
                1 => garbled.truncate(at),
                _ => garbled[at] = random.random_range(32..127),
            }
            if garbled.is_empty() {
                break;
            }
        }
        let garbled = String::from_utf8(garbled)?;
        match garbled.parse::<BatchTicket>() {
            Ok(_) => assert_eq!(garbled.trim(), ticket),
            Err(error) => assert!(matches!(error, OdpError::InvalidTicket { .. }), "{error}"),
        }
    }
    for (text, expected) in [
        ("", "starts with \"\""),
        ("odp2.AAAA", "starts with \"odp2.AAA\""),
        ("odp1.", "cut off"),
        ("odp1.!", "base64"),
        ("odp1.AAAAAA", "unpacked"),
        ("odp1.AAAAAQ", "checksum"),
    ] {
        let message = text.parse::<BatchTicket>().err().ok_or("no error")?.to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }

    // Well packed, but not what was planned.
    let forged = |key: &str, value: Value| -> Result<String> {
        let mut json = content(&ticket)?;
        json[key] = value;
        made(&json.to_string())
    };
    for (key, value, expected) in [
        ("size", json!(-1), "\"size\" is not a whole number"),
        ("modified", json!([i64::MAX, 0]), "out of range"),
        ("modified", json!([0, 4_000_000_000_u64]), "out of range"),
        ("path", json!("a//b"), "path"),
        ("fields", json!([["id", "Int65", 1]]), "not a type"),
        ("fields", json!([["id", {"list": 5}, 1]]), "not a column"),
        ("modified", json!([1]), "pair"),
        ("fields", json!([["id", "List(Int64)", 1]]), "not a type"),
        (
            "fields",
            json!([["id", format!("{}Int8{}", "List(".repeat(200_000), ")".repeat(200_000)), 1]]),
            "not a type",
        ),
        ("fields", json!([["id", {"fixed_list": [["x", "Int64", 1], -1]}, 1]]), "not a type"),
        (
            "fields",
            json!([["id", {"fixed_list": [["x", "Int64", 1], i32::MAX]}, 1]]),
            "2147483647 values in each row",
        ),
        ("fields", json!([["id", "FixedSizeBinary(-5)", 1]]), "not a type"),
        ("fields", json!([["id", "Decimal128(200, 5)", 1]]), "not a type"),
        ("fields", json!([["id", {"map": [["x", "Int64", 0], false]}, 1]]), "not a type"),
        ("fields", json!([["id", {"dictionary": ["Utf8", "Utf8"]}, 1]]), "not a type"),
        (
            "fields",
            json!([["id", {"dictionary": ["Int8", {"dictionary": ["Int8", "Utf8"]}]}, 1]]),
            "not a type",
        ),
        ("parts", json!([["p", {"fixed_list": [["x", "Int64", 1], -1]}, null]]), "not a type"),
        ("parts", json!([["p", {"fixed_list": [["x", "Int64", 1], i32::MAX]}, null]]), "not the value"),
        ("parts", json!([["p", {"struct": []}, null]]), "not the value"),
        ("parts", json!([["p", "FixedSizeBinary(2147483647)", null]]), "not the value"),
        ("columns", json!([7]), "not text"),
        ("sql", json!("id > 5"), "two filters"),
        ("vars", json!(format!("[{}0]", "0,".repeat(1 << 20))), "values, at most"),
        ("min", json!(vec![0; 1 << 20]), "values, at most"),
        ("set", json!({"odp.new": 1}), "not known"),
    ] {
        let message = forged(key, value)?.parse::<BatchTicket>().err().ok_or(key)?.to_string();
        assert!(message.contains(expected), "{key}: {message}");
    }
    for (key, value, expected) in [
        ("first", json!(49), "no batch of 50 rows from row 49 on"),
        ("first", json!(u64::MAX), "no batch of"),
        ("rows", json!(u64::MAX), "no batch of"),
        ("columns", json!(["nosuch"]), "nosuch"),
        ("columns", json!([]), "at least one column"),
        ("fields", json!([]), "depth"),
        ("fields", json!([["id", "Int64", 1], ["depth", {"struct": [["a", "Int64", 1]]}, 1]]), "depth"),
        ("odp", json!("depth > 21"), "in another way"),
        ("hash", json!("0"), "in another way"),
        ("store", json!("nowhere://x/"), "object store"),
        ("store", json!("not a url"), ""),
        ("vars", json!("{"), "variables"),
    ] {
        match open(&ctx, &forged(key, value)?).await {
            Opened::Failed(message) => assert!(message.contains(expected), "{key}: {message}"),
            other => panic!("{key}: {other:?}"),
        }
    }
    let sql = |text: String| -> Result<String> {
        let mut json = content(&ticket)?;
        json.as_object_mut().ok_or("no object")?.remove("odp");
        json["sql"] = json!(text);
        made(&json.to_string())
    };
    for text in [
        format!("id = 1{}", " OR id = 2".repeat(100_000)),
        format!("id{} > 5", " + 1".repeat(100_000)),
        format!("id{} > 5", "::bigint".repeat(100_000)),
        format!("{}id > 5", "NOT ".repeat(100_000)),
        format!("{}id > 5{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{}id{}", "abs(1 + ".repeat(40_000), ", 5)".repeat(40_000)),
        "id ".repeat(2_000_000),
    ] {
        let start: String = text.chars().take(20).collect();
        match open(&ctx, &sql(text)?).await {
            Opened::Failed(message) => assert!(message.contains("at most"), "{start}: {message}"),
            other => panic!("{start}: {other:?}"),
        }
    }
    assert_eq!(open(&ctx, &forged("size", json!(5))?).await, Opened::Changed);
    assert_eq!(open(&ctx, &forged("path", json!("tmp/nosuch.parquet"))?).await, Opened::Changed);
    Ok(())
}

#[tokio::test]
async fn no_password_is_in_a_ticket_and_the_other_session_brings_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &observations(0, 100, 1)?, 50)?;
    let store = Arc::new(InMemory::new());
    store.put(&"d/a.parquet".into(), std::fs::read(dir.path().join("a.parquet"))?.into()).await?;
    let ctx = session(2, &[])?;
    ctx.register_object_store(&"mem://host".parse()?, Arc::clone(&store) as Arc<dyn ObjectStore>);
    let table = OdpTableProvider::open(&ctx, "mem://user:secret@host/d/").await?;
    let selection = table.select("id > 60").plan(&ctx).await?;
    let (tickets, wanted) = (texts(&selection)?, expected(&selection).await?);
    assert_eq!(tickets.len(), 1);
    let inside = content(&tickets[0])?;
    assert_eq!(inside["store"], json!("mem://host/"));
    assert!(!inside.to_string().contains("secret") && !inside.to_string().contains("user"));
    let other = session(2, &[])?;
    assert!(matches!(open(&other, &tickets[0]).await, Opened::Failed(_)));
    other.register_object_store(&"mem://host".parse()?, store as Arc<dyn ObjectStore>);
    assert_eq!(open(&other, &tickets[0]).await, wanted[0]);
    Ok(())
}
