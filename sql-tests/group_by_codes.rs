//! Groups of text by the codes of its dictionaries: the answer, the plan, the work saved.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::{Result as DataFusionResult, resources_err};
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::data_type::{ByteArray, ByteArrayType, Int64Type as ParquetInt64};
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_odp::OdpTableProvider;

use crate::fixtures::{Result, metric, run, session, shown, write_with};

const OPERATOR: &str = "GroupByCodesExec";
const CODED: &str = "row_groups_given_as_codes";
/// Column chunks whose codes were not decoded by `parquet`.
const LOOKED_UP: &str = "column_chunks_of_codes";
/// Values that were not copied out of their pages.
const IN_PLACE: &str = "values_in_place";

/// Text of `texts` kinds, some longer than a view holds, now and then NULL, and numbers.
fn rows(first: i64, rows: i64, texts: i64) -> Result<RecordBatch> {
    let name = |id: i64| match id % 101 {
        0 => None,
        _ => {
            Some(format!("{}-{}", if id % 2 == 0 { "st" } else { "a name of many letters" }, id * 7 % texts))
        }
    };
    let ids = first..first + rows;
    let columns = [
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef, false),
        ("station", Arc::new(StringArray::from_iter(ids.clone().map(name))), true),
        (
            "depth",
            Arc::new(Int64Array::from_iter(ids.clone().map(|id| (id % 13 != 5).then_some(id % 200)))),
            true,
        ),
        ("temperature", Arc::new(ids.map(|id| Some(id as f64 / 8.0)).collect::<Float64Array>()), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// The same with a text in each row.
fn rows_with_text(first: i64, rows: i64, texts: i64) -> Result<RecordBatch> {
    let with_null = self::rows(first, rows, texts)?;
    let text: StringArray =
        with_null.column(1).as_string::<i32>().iter().map(|text| Some(text.unwrap_or("none"))).collect();
    let mut columns = with_null.columns().to_vec();
    columns[1] = Arc::new(text);
    Ok(RecordBatch::try_new(with_null.schema(), columns)?)
}

fn properties(row_group: usize) -> Result<WriterProperties> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(row_group))
        .set_data_page_row_count_limit(9_000)
        .build())
}

async fn open(ctx: &SessionContext, dir: &Path) -> Result<()> {
    let location = dir.to_str().ok_or("path is not UTF-8")?;
    ctx.register_table("t", Arc::new(OdpTableProvider::open(ctx, location).await?))?;
    Ok(())
}

/// Rows, sum of depths, count of depths, least and greatest temperature of each text.
type Expected = BTreeMap<Option<String>, (i64, i64, i64, f64, f64)>;

fn by_hand(all: &[RecordBatch]) -> Expected {
    let mut groups = Expected::new();
    for rows in all {
        let stations = rows.column(1).as_string::<i32>();
        let depths = rows.column(2).as_primitive::<Int64Type>();
        let temperatures = rows.column(3).as_primitive::<Float64Type>();
        for row in 0..rows.num_rows() {
            let station = stations.is_valid(row).then(|| stations.value(row).to_owned());
            let temperature = temperatures.value(row);
            let group = groups.entry(station).or_insert((0, 0, 0, f64::INFINITY, f64::NEG_INFINITY));
            group.0 += 1;
            if depths.is_valid(row) {
                group.1 += depths.value(row);
                group.2 += 1;
            }
            (group.3, group.4) = (group.3.min(temperature), group.4.max(temperature));
        }
    }
    groups
}

const BY_STATION: &str = "SELECT station, count(*) AS n, sum(depth) AS d, count(depth) AS c, min(temperature) AS l, \
                          max(temperature) AS g FROM t GROUP BY station ORDER BY station NULLS FIRST";

fn check(rows: &[RecordBatch], expected: &Expected) -> Result<()> {
    let schema = rows.first().ok_or("no rows")?.schema();
    let rows = concat_batches(&schema, rows)?;
    assert_eq!(rows.num_rows(), expected.len());
    for (row, (station, (n, d, c, least, greatest))) in expected.iter().enumerate() {
        let found = rows.column(0).as_string_view();
        let found = found.is_valid(row).then(|| found.value(row).to_owned());
        let number = |at: usize| rows.column(at).as_primitive::<Int64Type>().value(row);
        let float = |at: usize| rows.column(at).as_primitive::<Float64Type>().value(row);
        assert_eq!((&found, number(1), number(2), number(3)), (station, *n, *d, *c));
        assert_eq!((float(4), float(5)), (*least, *greatest));
    }
    Ok(())
}

#[tokio::test]
async fn text_is_grouped_by_its_codes() -> Result<()> {
    for (version, row_group, has_null) in [
        (WriterVersion::PARQUET_1_0, 40_000, true),
        (WriterVersion::PARQUET_1_0, 40_000, false),
        (WriterVersion::PARQUET_2_0, 90_000, true),
        (WriterVersion::PARQUET_2_0, 90_000, false),
    ] {
        let dir = tempfile::tempdir()?;
        let rows = if has_null { rows } else { rows_with_text };
        let data = [rows(0, 120_000, 50)?, rows(120_000, 100_000, 61)?];
        for (file, rows) in data.iter().enumerate() {
            let properties = properties(row_group)?
                .into_builder()
                .set_writer_version(version)
                .set_column_dictionary_enabled("temperature".into(), false)
                .set_data_page_row_count_limit(33_000)
                .build();
            write_with(&dir.path().join(format!("{file}.parquet")), rows, properties)?;
        }
        let expected = by_hand(&data);
        let row_groups = 120_000_usize.div_ceil(row_group) + 100_000_usize.div_ceil(row_group);
        for partitions in [2, 5] {
            let ctx = session(partitions, &[])?;
            open(&ctx, dir.path()).await?;
            let (found, plan) = run(&ctx, BY_STATION).await?;
            check(&found, &expected)?;
            let shown = shown(&plan);
            assert!(shown.contains("GroupByCodesExec: mode=Partial, gby=[station], aggr=["), "{shown}");
            assert!(
                shown.contains("AggregateExec: mode=FinalPartitioned")
                    && !shown.contains("mode=Partial, gby=[station@")
            );
            assert!(shown.contains("CAST(station"), "{shown}");
            assert_eq!(metric(&plan, CODED), row_groups, "{shown}");
            // Partitions that take record batches in turn meet a dictionary again and again.
            let dictionaries = metric(&plan, "dictionaries");
            assert!(dictionaries == row_groups || partitions > 2 && dictionaries > row_groups, "{shown}");
            assert!(metric(&plan, "texts_compared") <= partitions * row_groups * 123, "{shown}");
            assert_eq!(metric(&plan, "counts_saved"), 440_000, "of two functions that count");
            assert_eq!(metric(&plan, "values_shared"), 220_000, "of the greatest temperature");
            assert_eq!(metric(&plan, "run_retries"), 0);
            // Those of text, if it has no NULL; depths have some.
            assert_eq!(metric(&plan, LOOKED_UP), if has_null { 0 } else { row_groups });
            // Of temperatures all record batches but those that begin in one page and end in another; none where partitions take
            // them in turn, and wait.
            let in_place = metric(&plan, IN_PLACE);
            match shown.contains("RoundRobinBatch") {
                true => assert_eq!(in_place, 0, "{shown}"),
                false => assert!((100_000..220_000).contains(&in_place), "{in_place}: {shown}"),
            }

            let off = session(partitions, &[("odp.group_by_codes", "false")])?;
            open(&off, dir.path()).await?;
            let (without, plan) = run(&off, BY_STATION).await?;
            assert!(!self::shown(&plan).contains(OPERATOR));
            let saved = [CODED, "counts_saved", "values_shared", LOOKED_UP, IN_PLACE];
            assert_eq!(saved.map(|name| metric(&plan, name)), [0; 5]);
            check(&without, &expected)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn all_that_groups_by_text_gives_what_it_gives_without_codes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Two files that nobody looks at while planning: one without dictionaries, and one whose dictionaries end before the column
    // does. And one with another order of columns.
    let plain = properties(40_000)?.into_builder().set_dictionary_enabled(false).build();
    let short = properties(40_000)?.into_builder().set_dictionary_page_size_limit(300).build();
    for file in 0..12_i64 {
        let path = dir.path().join(format!("year={}/{file}.parquet", 2020 + file / 6));
        let data = rows(33_000 * file, 33_000, if file == 5 { 300 } else { 50 })?;
        match file {
            2 => write_with(&path, &data, plain.clone())?,
            5 => write_with(&path, &data, short.clone())?,
            9 => write_with(&path, &data.project(&[3, 1, 0, 2])?, properties(40_000)?)?,
            _ => write_with(&path, &data, properties(40_000)?)?,
        }
    }

    let sessions = [session(3, &[])?, session(3, &[("odp.group_by_codes", "false")])?];
    for ctx in &sessions {
        open(ctx, dir.path()).await?;
    }
    for (sql, is_by_codes) in [
        (BY_STATION, true),
        ("SELECT DISTINCT station FROM t ORDER BY station", true),
        // Rows counted once for several functions: of groups without any value, with a filter, of other types, and none of it.
        (
            "SELECT station, avg(depth) AS a, count(depth) AS c, count(*) AS n, avg(temperature) AS t, count(NULL) AS z, \
             avg(CASE WHEN never THEN depth END) AS e FROM (SELECT *, depth IS NULL AND id < 0 AS never FROM t) \
             GROUP BY station ORDER BY station",
            true,
        ),
        (
            "SELECT station, avg(CASE WHEN id % 50 = 7 THEN temperature END), count(CASE WHEN id % 50 = 7 THEN 1 END), \
             count(temperature) FILTER (WHERE depth > 150), avg(temperature) FILTER (WHERE depth > 150) FROM t \
             GROUP BY station ORDER BY 1",
            true,
        ),
        (
            "SELECT station, sum(temperature) AS s, min(temperature) AS l, avg(temperature) AS m, max(temperature) AS g, \
             avg(depth) AS d, sum(CASE WHEN id % 50 = 7 THEN temperature END) AS u, \
             min(temperature) FILTER (WHERE depth > 150) AS f, max(depth) AS i FROM t GROUP BY station ORDER BY station",
            true,
        ),
        (
            "SELECT station, avg(CAST(depth AS DECIMAL(9, 2))) AS d, avg(CAST(id AS INT)) AS i FROM t \
             GROUP BY station ORDER BY 1",
            true,
        ),
        (
            "SELECT station, avg(depth), count(*) FILTER (WHERE depth > 100) FROM t GROUP BY station ORDER BY 1",
            true,
        ),
        (
            "SELECT upper(station) AS u, n FROM (SELECT station, sum(year) AS n FROM t GROUP BY station) ORDER BY u",
            true,
        ),
        (
            "SELECT station, round(stddev(temperature), 3), median(depth) FROM t GROUP BY station ORDER BY 1",
            true,
        ),
        (
            "SELECT station, count(*) AS n FROM t GROUP BY station HAVING count(*) > 4000 ORDER BY station",
            true,
        ),
        ("SELECT count(*), sum(n) FROM (SELECT station, count(*) AS n FROM t GROUP BY station)", true),
        // The text is needed, or there is more to do than to group by it.
        ("SELECT station, max(station) FROM t GROUP BY station ORDER BY 1", false),
        ("SELECT station, count(DISTINCT depth) FROM t GROUP BY station ORDER BY 1", false),
        ("SELECT station, year, count(*) FROM t GROUP BY station, year ORDER BY 1, 2", false),
        ("SELECT station, count(*) FROM t WHERE depth > 100 GROUP BY station ORDER BY 1", false),
        ("SELECT station, count(*) FROM t WHERE station <> 'st-2' GROUP BY station ORDER BY 1", false),
        ("SELECT station, count(*) FROM t GROUP BY ROLLUP (station) ORDER BY 1", false),
        ("SELECT upper(station) AS u, count(*) FROM t GROUP BY u ORDER BY u", false),
        (
            "SELECT station, first_value(id ORDER BY temperature DESC) FROM t GROUP BY station ORDER BY 1",
            true,
        ),
        ("SELECT count(*) FROM (SELECT DISTINCT station FROM t LIMIT 3)", false),
    ] {
        let mut answers = vec![];
        for (ctx, is_on) in sessions.iter().zip([true, false]) {
            let (rows, plan) = run(ctx, sql).await?;
            assert_eq!(shown(&plan).contains(OPERATOR), is_on && is_by_codes, "{sql}: {}", shown(&plan));
            if is_on && is_by_codes {
                assert_eq!(metric(&plan, CODED), 10, "{sql}");
            }
            answers.push(pretty_format_batches(&rows)?.to_string());
        }
        assert!(answers[0].lines().count() > 4, "{sql}");
        assert_eq!(answers[0], answers[1], "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_appears_late_has_no_value_before() -> Result<()> {
    // The second text comes after record batches without it and without NULL, and has NULL alone.
    let ids = 0..40_000_i64;
    let columns: [(&str, ArrayRef); 2] = [
        (
            "station",
            Arc::new(
                ids.clone().map(|id| Some(if id < 20_000 { "a" } else { "z" })).collect::<StringArray>(),
            ),
        ),
        ("depth", Arc::new(ids.map(|id| (id < 20_000).then_some(id % 50 + 1)).collect::<Int64Array>())),
    ];
    let dir = tempfile::tempdir()?;
    let rows = RecordBatch::try_from_iter(columns)?;
    for file in ["a", "b"] {
        write_with(&dir.path().join(format!("{file}.parquet")), &rows, properties(40_000)?)?;
    }
    let sql = "SELECT station, sum(depth) AS s, min(depth) AS l, max(depth) AS g, bit_and(depth) AS b, \
               bool_and(depth > 0) AS p, avg(CAST(depth * 2 AS DECIMAL(9, 2))) AS d, avg(depth) AS m, count(depth) AS c \
               FROM t GROUP BY station ORDER BY station";
    let mut answers = vec![];
    for setting in ["true", "false"] {
        let ctx = session(2, &[("odp.group_by_codes", setting)])?;
        open(&ctx, dir.path()).await?;
        let (rows, plan) = run(&ctx, sql).await?;
        assert_eq!(shown(&plan).contains(OPERATOR), setting == "true");
        answers.push(pretty_format_batches(&rows)?.to_string());
    }
    assert_eq!(answers[0], answers[1]);
    let last = answers[0].lines().rev().nth(1).ok_or("no rows")?;
    assert_eq!(
        last.split('|').map(str::trim).collect::<Vec<_>>(),
        ["", "z", "", "", "", "", "", "", "", "0", ""]
    );
    Ok(())
}

#[tokio::test]
async fn values_are_copied_for_those_who_keep_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = rows_with_text(0, 120_000, 50)?;
    let properties = properties(40_000)?
        .into_builder()
        .set_column_dictionary_enabled("temperature".into(), false)
        .set_data_page_row_count_limit(33_000)
        .build();
    write_with(&dir.path().join("a.parquet"), &data, properties)?;
    let ctx = session(2, &[])?;
    open(&ctx, dir.path()).await?;
    for (sql, stay) in [
        ("SELECT station, avg(temperature), sum(depth) FROM t GROUP BY station", true),
        ("SELECT station, array_length(array_agg(temperature)) FROM t GROUP BY station", false),
        ("SELECT station, median(temperature) FROM t GROUP BY station", false),
        ("SELECT arrow_cast(station, 'Dictionary(UInt16, Utf8)') AS d, temperature FROM t", false),
    ] {
        let (_, plan) = run(&ctx, sql).await?;
        assert_eq!(metric(&plan, CODED), 3, "{sql}: {}", shown(&plan));
        assert_eq!(metric(&plan, IN_PLACE) > 0, stay, "{sql}: {}", shown(&plan));
    }
    Ok(())
}

#[tokio::test]
async fn a_file_of_more_texts_than_codes_is_grouped_without_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Not one of the files that are looked at while planning. Its first record batches have few texts.
    let many = |id: i64| if id < 20_000 { id % 9 } else { id };
    for file in 0..12_i64 {
        let ids = 0..if file == 5 { 100_000_i64 } else { 33_000 };
        let text = |id: i64| Some(format!("t{}", if file == 5 { many(id) } else { id % 9 }));
        let columns: [(&str, ArrayRef); 2] = [
            ("station", Arc::new(ids.clone().map(text).collect::<StringArray>())),
            ("id", Arc::new(Int64Array::from_iter_values(ids))),
        ];
        let properties = properties(100_000)?.into_builder().set_dictionary_page_size_limit(8 << 20).build();
        write_with(
            &dir.path().join(format!("{file:02}.parquet")),
            &RecordBatch::try_from_iter(columns)?,
            properties,
        )?;
    }
    let sql = "SELECT count(*) AS groups, sum(n) AS n, sum(s) AS s FROM \
               (SELECT station, count(*) AS n, sum(id) AS s FROM t GROUP BY station)";
    let mut answers = vec![];
    for setting in ["true", "false"] {
        let ctx = session(2, &[("odp.group_by_codes", setting)])?;
        open(&ctx, dir.path()).await?;
        let (rows, plan) = run(&ctx, sql).await?;
        assert_eq!(shown(&plan).contains(OPERATOR), setting == "true", "{}", shown(&plan));
        assert_eq!(metric(&plan, "run_retries"), usize::from(setting == "true"), "{}", shown(&plan));
        answers.push(pretty_format_batches(&rows)?.to_string());
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].contains("80009"), "{}", answers[0]);
    Ok(())
}

#[tokio::test]
async fn codes_are_asked_for_where_they_pay() -> Result<()> {
    // Small row groups, more texts than codes pay for, and no dictionary at all.
    let plain = properties(40_000)?.into_builder().set_dictionary_enabled(false).build();
    for (name, texts, properties) in
        [("small", 50, properties(5_000)?), ("many", 80_000, properties(40_000)?), ("plain", 50, plain)]
    {
        let dir = tempfile::tempdir()?;
        let data = rows(0, 100_000, texts)?;
        write_with(&dir.path().join("a.parquet"), &data, properties)?;
        let ctx = session(2, &[])?;
        open(&ctx, dir.path()).await?;
        let (found, plan) = run(&ctx, BY_STATION).await?;
        assert!(!shown(&plan).contains(OPERATOR), "{name}: {}", shown(&plan));
        check(&found, &by_hand(&[data]))?;
    }
    // Batches that are parts of row groups, and the same of whole ones.
    let dir = tempfile::tempdir()?;
    let data = rows(0, 80_000, 50)?;
    write_with(&dir.path().join("a.parquet"), &data, properties(40_000)?)?;
    for (batch_rows, is_by_codes) in [(15_000, false), (40_000, true)] {
        let ctx = session(2, &[])?;
        let location = dir.path().display();
        let create = format!(
            "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{location}/' OPTIONS ('batch_rows' '{batch_rows}')"
        );
        ctx.sql(&create).await?.collect().await?;
        let (found, plan) = run(&ctx, BY_STATION).await?;
        assert_eq!(shown(&plan).contains(OPERATOR), is_by_codes, "{}", shown(&plan));
        check(&found, &by_hand(std::slice::from_ref(&data)))?;
    }
    Ok(())
}

/// Gives each of the operators that are tested no more than so much.
#[derive(Debug)]
struct ShortOfMemory {
    most: usize,
    inner: UnboundedMemoryPool,
}

impl Display for ShortOfMemory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "short({})", self.most)
    }
}

impl MemoryPool for ShortOfMemory {
    fn name(&self) -> &'static str {
        "short"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        let wanted = reservation.size() + additional;
        match reservation.consumer().name().starts_with(OPERATOR) && wanted > self.most {
            true => resources_err!("{wanted} bytes are too many"),
            false => self.inner.try_grow(reservation, additional),
        }
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }
}

#[tokio::test]
async fn what_is_not_said_to_be_text_is_grouped_as_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let schema = "message m { required binary station (JSON); required int64 depth; }";
    let file = std::fs::File::create(dir.path().join("a.parquet"))?;
    let schema = Arc::new(parse_message_type(schema)?);
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default()))?;
    for _ in 0..2 {
        let mut row_group = writer.next_row_group()?;
        let texts: Vec<ByteArray> =
            (0..40_000).map(|row| format!("{{\"s\": {}}}", row % 9).into_bytes().into()).collect();
        let mut column = row_group.next_column()?.ok_or("no column")?;
        column.typed::<ByteArrayType>().write_batch(&texts, None, None)?;
        column.close()?;
        let mut column = row_group.next_column()?.ok_or("no column")?;
        column.typed::<ParquetInt64>().write_batch(&(0..40_000).collect::<Vec<i64>>(), None, None)?;
        column.close()?;
        row_group.close()?;
    }
    writer.close()?;
    let ctx = session(2, &[])?;
    open(&ctx, dir.path()).await?;
    let counted = "SELECT station, count(*) FROM t GROUP BY station ORDER BY station";
    let cast = "SELECT arrow_cast(station, 'Dictionary(UInt16, Utf8)') AS d, depth FROM t";
    for (sql, rows) in [(counted, 9), (cast, 80_000)] {
        let (found, plan) = run(&ctx, sql).await?;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
        assert!(!shown(&plan).contains(OPERATOR), "{}", shown(&plan));
        assert_eq!((metric(&plan, CODED), metric(&plan, "run_retries")), (0, 0), "{sql}");
        let texts = found[0].column(0).to_data();
        assert!(texts.child_data().iter().all(|values| *values.data_type() == DataType::Utf8));
    }
    Ok(())
}

#[tokio::test]
async fn groups_are_given_on_early_where_memory_is_short() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = rows(0, 200_000, 3_000)?;
    write_with(&dir.path().join("a.parquet"), &data, properties(50_000)?)?;
    let sql = "SELECT sum(n) AS n, count(*) AS groups, sum(c) AS c, CAST(sum(round(a * c)) AS BIGINT) AS d FROM \
               (SELECT station, count(*) AS n, count(depth) AS c, avg(depth) AS a, min(id) FROM t GROUP BY station)";
    let expected = by_hand(std::slice::from_ref(&data));
    let sum = |of: fn(&(i64, i64, i64, f64, f64)) -> i64| expected.values().map(of).sum::<i64>();
    let mut given = vec![];
    for most in [usize::MAX, 150_000] {
        let pool = Arc::new(ShortOfMemory { most, inner: UnboundedMemoryPool::default() });
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let config = SessionConfig::new().with_target_partitions(2);
        let ctx = SessionContext::new_with_config_rt(config, runtime);
        datafusion_odp::register(&ctx)?;
        open(&ctx, dir.path()).await?;
        let (rows, plan) = run(&ctx, sql).await?;
        let number = |at: usize| rows[0].column(at).as_primitive::<Int64Type>().value(0);
        assert_eq!(
            [number(0), number(1), number(2), number(3)],
            [200_000, i64::try_from(expected.len())?, sum(|of| of.2), sum(|of| of.1)]
        );
        assert_eq!(metric(&plan, "counts_saved"), 600_000);
        given.push(rows_given(&plan));
    }
    assert!(given[0] > 0 && given[1] > given[0], "{given:?}");
    Ok(())
}

fn rows_given(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> usize {
    let own = match plan.name() {
        OPERATOR => plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or(0),
        _ => 0,
    };
    own + plan.children().into_iter().map(rows_given).sum::<usize>()
}

#[tokio::test]
async fn damaged_codes_and_dictionaries_are_the_errors_of_damaged_text() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.parquet");
    let plain = properties(40_000)?.into_builder().set_compression(Compression::UNCOMPRESSED).build();
    let mut cases = vec![];
    for rows in [rows(0, 80_000, 50)?, rows_with_text(0, 80_000, 50)?] {
        write_with(&path, &rows, plain.clone())?;
        let whole = std::fs::read(&path)?;
        let text = b"a name of many letters-";
        let place = whole.windows(text.len()).position(|window| window == text).ok_or("no text")?;
        // A dictionary that is no UTF-8, and lengths of texts that are none.
        cases.extend(
            [(place + 2, 0xff), (place - 3, 0x7f), (place - 4, 0xf0)].map(|case| (whole.clone(), case)),
        );
    }
    let mut failed = 0;
    for (whole, (at, byte)) in cases {
        let mut bytes = whole;
        bytes[at] = byte;
        std::fs::write(&path, bytes)?;
        let mut answers = vec![];
        for setting in ["true", "false"] {
            let ctx = session(2, &[("odp.group_by_codes", setting)])?;
            open(&ctx, dir.path()).await?;
            answers.push(match run(&ctx, BY_STATION).await {
                Ok((rows, _)) => pretty_format_batches(&rows)?.to_string(),
                Err(error) => {
                    failed += 1;
                    error.to_string()
                }
            });
        }
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(failed, 12);
    Ok(())
}
