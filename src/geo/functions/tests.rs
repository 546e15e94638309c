//! The functions through SQL.

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, Float32Array, Float64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use super::*;
use crate::error::OdpError;
use crate::geo::array::GeometryValue;
use crate::geo::sink::Outline;
use crate::geo::wkb::to_wkb;
use crate::geo::wkt::parse_wkt;
use crate::options::{OdpOptions, OnInvalidGeometry};

const SQUARE: &str = "POLYGON((0 0, 10 0, 10 10, 0 10, 0 0))";

/// Rows: inside, boundary, outside, NULL, NaN, inside again; as lon/lat, WKT and WKB.
fn context() -> SessionContext {
    with_table(SessionContext::new())
}

fn with_table(ctx: SessionContext) -> SessionContext {
    for function in scalar_functions() {
        ctx.register_udf(function);
    }
    let lon = [Some(5.0), Some(10.0), Some(11.0), None, Some(f64::NAN), Some(5.0)];
    let lat = [Some(5.0), Some(5.0), Some(5.0), Some(5.0), Some(5.0), Some(5.0)];
    let text: Vec<_> = lon
        .iter()
        .map(|x| x.map(|x| if x.is_nan() { "POINT EMPTY".to_owned() } else { format!("POINT({x} 5)") }))
        .collect();
    let wkb: Vec<_> = text
        .iter()
        .map(|text| text.as_ref().map(|text| to_wkb(&parse_wkt(text).unwrap()).unwrap()))
        .collect();
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    let lon32: Vec<_> = lon.iter().map(|x| x.map(|x: f64| x as f32)).collect();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Float64Array::from_iter_values((0..6).map(f64::from))) as ArrayRef),
        ("lon", Arc::new(Float64Array::from(lon.to_vec()))),
        ("lat", Arc::new(Float64Array::from(lat.to_vec()))),
        ("lon32", Arc::new(Float32Array::from(lon32))),
        ("text", Arc::new(StringArray::from(text))),
        ("wkb", Arc::new(BinaryArray::from_iter(wkb))),
    ])
    .unwrap();
    ctx.register_batch("t", batch).unwrap();
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<String> {
    let batches = ctx.sql(sql).await?.collect().await?;
    let text = pretty_format_batches(&batches)?.to_string();
    let cells = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells: Vec<_> = cells.flat_map(str::split_whitespace).filter(|cell| *cell != "|").collect();
    Ok(cells.join(" "))
}

/// Plans without running.
async fn plan(ctx: &SessionContext, sql: &str) -> Result<()> {
    ctx.sql(sql).await?.create_physical_plan().await.map(|_| ())
}

/// The answers for the six rows: t, f or n for NULL.
async fn answers(ctx: &SessionContext, predicate: &str) -> String {
    let sql = format!(
        "SELECT CASE WHEN p THEN 't' WHEN NOT p THEN 'f' ELSE 'n' END FROM (SELECT id, {predicate} AS p FROM t) ORDER BY id"
    );
    run(ctx, &sql).await.unwrap_or_else(|error| panic!("{predicate}: {error}")).replace(' ', "")
}

#[tokio::test]
async fn predicates_answer_for_every_form_of_point_and_either_argument_order() {
    let ctx = context();
    let points = [
        "st_point(lon, lat)",
        "st_point(lon32, lat)",
        "text",
        "wkb",
        "st_geomfromtext(text)",
        "st_geomfromwkb(wkb)",
        "arrow_cast(text, 'Utf8View')",
        "arrow_cast(text, 'LargeUtf8')",
        "arrow_cast(text, 'Dictionary(Int32, Utf8)')",
        "arrow_cast(wkb, 'BinaryView')",
        "arrow_cast(wkb, 'LargeBinary')",
    ];
    let areas = [format!("'{SQUARE}'"), format!("st_geomfromtext('{SQUARE}')")];
    for point in points {
        for area in &areas {
            for (predicate, expected) in [
                (format!("st_within({point}, {area})"), "tffnft"),
                (format!("within({point}, {area})"), "tffnft"),
                (format!("st_contains({area}, {point})"), "tffnft"),
                (format!("st_intersects({point}, {area})"), "ttfnft"),
                (format!("intersects({area}, {point})"), "ttfnft"),
                (format!("st_coveredby({point}, {area})"), "ttfnft"),
                (format!("st_covers({area}, {point})"), "ttfnft"),
                (format!("st_disjoint({point}, {area})"), "fftntf"),
                (format!("st_disjoint({area}, {point})"), "fftntf"),
                (format!("st_contains({point}, {area})"), "fffnff"),
                (format!("st_within({area}, {point})"), "fffnff"),
                (format!("st_covers({point}, 'POINT(5 5)')"), "tffnft"),
            ] {
                assert_eq!(answers(&ctx, &predicate).await, expected, "{predicate}");
            }
        }
    }
    for point in &points[..4] {
        let area = &areas[0];
        for (predicate, expected) in [
            (format!("st_equals({point}, 'POINT(5 5)')"), "tffnft"),
            (format!("st_equals({point}, 'POLYGON EMPTY')"), "fffntf"),
            (format!("st_touches({point}, {area})"), "ftfnff"),
            (format!("st_touches({area}, {point})"), "ftfnff"),
            (format!("st_crosses({point}, {area})"), "fffnff"),
            (format!("st_overlaps({area}, {point})"), "fffnff"),
            (format!("st_dwithin({point}, {area}, 0.5)"), "ttfnft"),
            (format!("st_dwithin({area}, {point}, 1)"), "tttnft"),
        ] {
            assert_eq!(answers(&ctx, &predicate).await, expected, "{predicate}");
        }
    }
    // Columns on both sides, and areas that are not constant.
    assert_eq!(answers(&ctx, "st_intersects(st_point(lon, lat), text)").await, "tttnft");
    let varying = format!("st_within(wkb, CASE WHEN id < 5 THEN '{SQUARE}' ELSE 'POINT(0 0)' END)");
    assert_eq!(answers(&ctx, &varying).await, "tffnff");
    assert_eq!(answers(&ctx, "st_dwithin(st_point(lon, lat), text, 0)").await, "tttnft");
    assert_eq!(answers(&ctx, "st_dwithin(text, wkb, 0)").await, "tttnft");
    let varying = format!("st_dwithin(wkb, CASE WHEN id < 5 THEN '{SQUARE}' ELSE 'POINT(8 9)' END, id)");
    assert_eq!(answers(&ctx, &varying).await, "tttnft");
    assert_eq!(answers(&ctx, "st_dwithin(wkb, 'POINT(5 5)', nullif(id, 0))").await, "nffnft");
    let repeated = format!("st_contains(CASE WHEN id < 5 THEN '{SQUARE}' END, text)");
    assert_eq!(answers(&ctx, &repeated).await, "tffnfn");
}

#[tokio::test]
async fn null_arguments_give_null() {
    let ctx = context();
    assert_eq!(answers(&ctx, "st_within(text, NULL)").await, "nnnnnn");
    assert_eq!(answers(&ctx, "st_intersects(NULL, st_point(lon, lat))").await, "nnnnnn");
    assert_eq!(run(&ctx, "SELECT st_within('POINT(1 1)', NULL) IS NULL").await.unwrap(), "true");
    assert_eq!(run(&ctx, "SELECT st_point(1, NULL) IS NULL, st_x(NULL) IS NULL").await.unwrap(), "true true");
    assert_eq!(answers(&ctx, "st_point(lon, lat) IS NULL").await, "ffftff");
}

#[tokio::test]
async fn constants_fold() {
    let ctx = context();
    let sql =
        format!("SELECT st_within(st_point(1, 1), '{SQUARE}'), st_intersects('POINT(10 1)', '{SQUARE}')");
    assert_eq!(run(&ctx, &sql).await.unwrap(), "true true");
}

#[tokio::test]
async fn constructors_and_accessors_agree() {
    let ctx = context();
    assert_eq!(run(&ctx, "SELECT st_astext(st_point(1, 2.5))").await.unwrap(), "POINT(1 2.5)");
    assert_eq!(run(&ctx, "SELECT st_astext(st_geomfromtext('point z(1 2 3)'))").await.unwrap(), "POINT(1 2)");
    assert_eq!(run(&ctx, "SELECT st_x('POINT(1 2)'), st_y(st_point(1, 2))").await.unwrap(), "1.0 2.0");
    assert_eq!(run(&ctx, "SELECT st_x(wkb) FROM t ORDER BY id LIMIT 2").await.unwrap(), "5.0 10.0");
    assert_eq!(run(&ctx, "SELECT st_x('POINT EMPTY') IS NULL").await.unwrap(), "true");
    assert_eq!(
        run(&ctx, "SELECT st_astext(st_geomfromwkb(wkb)) FROM t ORDER BY id LIMIT 1").await.unwrap(),
        "POINT(5 5)"
    );
    let error =
        run(&ctx, "SELECT st_x(concat(text, '')) FROM (SELECT 'LINESTRING(0 0,1 1)' AS text FROM t)").await;
    assert!(error.unwrap_err().to_string().contains("expected a point"));
    // The string function of this name stays what it is.
    assert_eq!(run(&ctx, "SELECT contains('POINT', 'OIN')").await.unwrap(), "true");
}

#[tokio::test]
async fn a_malformed_constant_is_a_planning_error_with_its_position() {
    let ctx = context();
    for sql in [
        "SELECT * FROM t WHERE within(wkb, 'POLYGON((0 0, 10 0, 10 x, 0 0))')",
        "SELECT * FROM t WHERE st_contains('POLYGON((0 0, 10 0, 10 x, 0 0))', st_point(lon, lat))",
        "SELECT * FROM t WHERE st_within(wkb, st_geomfromtext('POLYGON((0 0, 10 0, 10 x, 0 0))'))",
    ] {
        let error = plan(&ctx, sql).await.unwrap_err();
        assert!(matches!(error.find_root(), datafusion::error::DataFusionError::Plan(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("found \"x\", expected a number at byte 23"), "{text}");
    }
    let error = plan(&ctx, "SELECT * FROM t WHERE st_within(text, X'0102')").await.unwrap_err();
    assert!(error.to_string().contains("WKB geometry"), "{error}");
}

#[tokio::test]
async fn a_malformed_row_is_an_error_that_names_it() {
    let ctx = context();
    let sql = format!("SELECT st_within(CASE WHEN id = 2 THEN 'POINT(1' ELSE text END, '{SQUARE}') FROM t");
    let error = run(&ctx, &sql).await.unwrap_err();
    let datafusion::error::DataFusionError::External(inner) = error.find_root() else { panic!("{error:?}") };
    assert!(matches!(inner.downcast_ref::<OdpError>(), Some(OdpError::InvalidData { .. })));
    let text = error.to_string();
    assert!(text.contains("row 2 of the record batch"), "{text}");
}

#[tokio::test]
async fn wrong_types_and_counts_are_planning_errors() {
    let ctx = context();
    for (call, expected) in [
        ("st_within(id, 'POINT(1 2)')", "argument 1 is Float64, expected a geometry"),
        ("st_within(text)", "got 1 arguments, expected 2"),
        ("st_point(text, lat)", "argument 1 is Utf8"),
        ("st_geomfromtext(wkb)", "found Binary, expected text"),
        ("st_geomfromwkb(text)", "found Utf8, expected binary"),
        ("st_astext(id)", "argument 1 is Float64"),
    ] {
        let error = run(&ctx, &format!("SELECT {call} FROM t")).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{call}: {error}");
    }
}

#[tokio::test]
async fn structs_of_coordinates_are_points() {
    let ctx = context();
    let point = "named_struct('lon', lon, 'lat', lat)";
    assert_eq!(answers(&ctx, &format!("st_within({point}, '{SQUARE}')")).await, "tffnft");
    let error =
        run(&ctx, &format!("SELECT st_within(named_struct('a', lon, 'b', lat), '{SQUARE}') FROM t")).await;
    assert!(error.unwrap_err().to_string().contains("expected a geometry"));
}

/// A line across the antimeridian, if it is unwrapped; across 0 as written.
const CROSSING: &str = "'LINESTRING(170 0,-170 0)'";

#[tokio::test]
async fn literals_across_the_antimeridian_are_unwrapped_and_columns_never() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context();
    let with = |region: &str| {
        format!("SELECT column1 AS x, {region} AS region FROM VALUES (175.0), (0.0), (-175.0)")
    };
    // One region in all rows of a file is a constant: the Parquet reader puts it in as a literal.
    for (name, sql) in [
        ("same", with(CROSSING)),
        ("mixed", format!("{} UNION ALL SELECT 9.0, 'POINT(1 1)'", with(CROSSING))),
        ("binary", with(&format!("st_geomfromtext({CROSSING})"))),
    ] {
        let path = dir.path().join(format!("{name}.parquet")).display().to_string();
        let copy = format!("COPY ({sql}) TO '{path}' STORED AS PARQUET");
        ctx.sql(&copy).await.unwrap().collect().await.unwrap();
        ctx.register_parquet(name, path, ParquetReadOptions::default()).await.unwrap();
    }
    for name in ["same", "mixed", "binary"] {
        for (predicate, expected) in [
            ("st_intersects(st_point(x, 0), region)".to_owned(), "0.0"),
            ("st_contains(region, st_point(x, 0)) AND x < 5".to_owned(), "0.0"),
            ("st_dwithin(region, st_point(x, 0), 1)".to_owned(), "0.0"),
            ("st_intersects('POINT(0 0)', region)".to_owned(), "175.0 0.0 -175.0"),
            ("st_intersects(region, 'POINT(175 0)')".to_owned(), ""),
            ("st_dwithin('POINT(175 0)', region, 1)".to_owned(), ""),
            // The same place, if it is unwrapped.
            (format!("st_equals(region, {CROSSING})"), ""),
            (format!("st_intersects(st_point(x, 0), {CROSSING})"), "175.0 -175.0"),
            (format!("st_dwithin(st_geomfromtext({CROSSING}), st_point(x, 0), 1)"), "175.0 -175.0"),
        ] {
            let sql = format!("SELECT x FROM {name} WHERE x <> 9 AND {predicate} ORDER BY x DESC");
            assert_eq!(run(&ctx, &sql).await.unwrap(), expected, "{sql}");
            let sql = format!(
                "SELECT x FROM (SELECT x, {predicate} AS p FROM {name}) WHERE x <> 9 AND p ORDER BY x DESC"
            );
            assert_eq!(run(&ctx, &sql).await.unwrap(), expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn crossing_literals_are_unwrapped_in_every_form() {
    let ctx = context();
    let point = "st_point(lon + 170, lat - 5)";
    for area in [
        CROSSING.to_owned(),
        format!("st_geomfromtext({CROSSING})"),
        format!("st_geomfromwkb(st_asbinary({CROSSING}))"),
        format!("arrow_cast({CROSSING}, 'Utf8View')"),
        "st_makeenvelope(170, -1, -170, 1)".to_owned(),
    ] {
        for (predicate, expected) in [
            (format!("st_intersects({point}, {area})"), "tttnft"),
            (format!("st_contains({area}, {point})"), "tttnft"),
            (format!("st_dwithin({area}, {point}, 0)"), "tttnft"),
            (format!("st_disjoint('POINT(0 0)', {area})"), "tttttt"),
            (format!("st_dwithin('POINT(-179 0)', {area}, 0)"), "tttttt"),
        ] {
            assert_eq!(answers(&ctx, &predicate).await, expected, "{predicate}");
        }
    }
    assert_eq!(answers(&ctx, &format!("contains({CROSSING}, {point})")).await, "tttnft");
    // Only what changes is rewritten.
    let explained = |area: &'static str| {
        let sql = format!("EXPLAIN SELECT id FROM t WHERE st_within(wkb, {area})");
        let ctx = &ctx;
        async move { run(ctx, &sql).await.unwrap() }
    };
    assert!(!explained(CROSSING).await.contains("LINESTRING"));
    assert!(explained("'LINESTRING(17 0,-17 0)'").await.contains("LINESTRING(17"));
}

#[tokio::test]
async fn malformed_rows_are_null_to_every_function_if_the_setting_says_so() {
    let mut config = SessionConfig::new();
    config
        .options_mut()
        .extensions
        .insert(OdpOptions { on_invalid_geometry: OnInvalidGeometry::NoMatch, ..OdpOptions::default() });
    let ctx = with_table(SessionContext::new_with_config(config));
    let text = "CASE WHEN id < 2 THEN 'POINT(1' ELSE text END";
    let wkb = "CASE WHEN id < 2 THEN X'0102' ELSE wkb END";
    for geometry in [
        text.to_owned(),
        wkb.to_owned(),
        format!("st_geomfromtext({text})"),
        format!("st_geomfromwkb({wkb})"),
        format!("st_geomfromwkb(arrow_cast({wkb}, 'BinaryView'))"),
        format!("st_astext({text})"),
        format!("st_asbinary({wkb})"),
        format!("st_envelope({wkb})"),
        format!("st_centroid({text})"),
    ] {
        for (predicate, expected) in [
            (format!("st_within({geometry}, '{SQUARE}')"), "nnfnft"),
            (format!("NOT st_within({geometry}, '{SQUARE}')"), "nntntf"),
            (format!("st_dwithin('{SQUARE}', {geometry}, 1)"), "nntnft"),
            (format!("st_intersects({geometry}, text)"), "nntnft"),
        ] {
            // The centroid of an empty geometry is NULL.
            let expected = match geometry.starts_with("st_centroid") {
                true => format!("{}n{}", &expected[..4], &expected[5..]),
                false => expected.to_owned(),
            };
            assert_eq!(answers(&ctx, &predicate).await, expected, "{predicate}");
        }
    }
    for (call, expected) in [
        (format!("st_x({text}) > 0"), "nntnnt"),
        (format!("st_ymax({wkb}) > 0"), "nntnnt"),
        (format!("st_isempty({text})"), "nnfntf"),
        (format!("st_geometrytype({wkb}) = 'ST_Point'"), "nntnft"),
    ] {
        assert_eq!(answers(&ctx, &call).await, expected, "{call}");
    }
    // A null inside a geometry is a fault of its row.
    let end = "CASE WHEN id <> 2 THEN named_struct('x', 9.0, 'y', 9.0) END";
    let line = format!("st_intersects(make_array(named_struct('x', id, 'y', 0.0), {end}), '{SQUARE}')");
    assert_eq!(answers(&ctx, &line).await, "ttnttt");
    assert_eq!(answers(&ctx, &format!("id = 2 OR {line}")).await, "tttttt");
    let error = run(&context(), &format!("SELECT {line} FROM t")).await.unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("null inside"), "{error}");
    // A geometry of another type is no malformed one, and a constant is not in a row.
    let line = "CASE WHEN id < 2 THEN 'LINESTRING(0 0,1 1)' ELSE text END";
    assert!(run(&ctx, &format!("SELECT st_x({line}) FROM t")).await.is_err());
    assert!(run(&ctx, "SELECT st_geomfromtext('POINT(1') FROM t").await.is_err());
}

#[tokio::test]
async fn points_too_large_to_compute_with_are_empty() {
    let ctx = context();
    for (call, expected) in [
        ("st_isempty(st_point(lon * 1e100, lat))", "tttntt"),
        ("st_equals(st_point(lon * 1e100, lat), 'POINT EMPTY')", "tttntt"),
        ("st_equals(st_point(lon * 1e100, lat), st_point(lat * 1e101, lon))", "tttntt"),
        ("st_xmin(st_point(lon * 1e100, lat)) IS NULL", "tttttt"),
    ] {
        assert_eq!(answers(&ctx, call).await, expected, "{call}");
    }
    let value = GeometryValue::Point(1e101, 0.0);
    assert_eq!(value.outline().unwrap(), Outline::Empty);
}

/// Calls a function without a plan.
fn invoke(function: &ScalarUDF, arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = arguments[0].len();
    let field = |name: &str, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
    let arg_fields: Vec<_> = arguments.iter().map(|array| field("a", array.data_type())).collect();
    let types: Vec<_> = arguments.iter().map(|array| array.data_type().clone()).collect();
    let args = ScalarFunctionArgs {
        args: arguments.iter().map(|array| ColumnarValue::Array(Arc::clone(array))).collect(),
        arg_fields,
        number_rows: rows,
        return_field: field("r", &function.return_type(&types)?),
        config_options: Arc::default(),
    };
    function.invoke_with_args(args)?.into_array(rows)
}

#[test]
fn bombs_are_errors_and_deep_nesting_is_computed_on_a_small_stack() {
    let nested = |depth: usize| {
        let part = "POLYGON((0 0,4 0,4 4,0 0)),LINESTRING(0 0,5 5),POINT(1 1)";
        format!("{}{part}{}", "GEOMETRYCOLLECTION(".repeat(depth), ")".repeat(depth))
    };
    let run = move || {
        let one = |text: String| [Some(text.as_str()), None].into_iter().collect::<StringArray>();
        let deepest = nested(60);
        let binary = to_wkb(&parse_wkt(&deepest).unwrap()).unwrap();
        let counts = [1, 3, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
        let fine: [ArrayRef; 2] =
            [Arc::new(one(deepest)), Arc::new(BinaryArray::from(vec![Some(binary.as_slice()), None]))];
        let bombs: [ArrayRef; 5] = [
            Arc::new(one(nested(10_000))),
            Arc::new(one("((".repeat(100_000))),
            Arc::new(one(format!("POINT({} 1)", "9".repeat(1_000_000)))),
            Arc::new(BinaryArray::from(vec![Some(counts.as_slice()), None])),
            Arc::new(BinaryArray::from_iter([Some([1, 7, 0, 0, 0, 1, 0, 0, 0].repeat(100_000)), None])),
        ];
        let distance: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 1.0]));
        let mut called = 0;
        for function in scalar_functions() {
            let numbers =
                ["st_point", "st_makeenvelope", "h3_cell", "h3_boundary"].contains(&function.name());
            for array in fine.iter().chain(&bombs).filter(|_| !numbers) {
                let is_text = array.data_type().is_string();
                let arguments = match function.name() {
                    "st_geomfromtext" if !is_text => continue,
                    "st_geomfromwkb" if is_text => continue,
                    "contains" if is_text => continue,
                    "hilbert" => vec![Arc::clone(array)],
                    "st_dwithin" => vec![Arc::clone(array), Arc::clone(array), Arc::clone(&distance)],
                    name if FunctionKind::ALL
                        .iter()
                        .any(|kind| GeometryFunction::new(*kind).name() == name) =>
                    {
                        vec![Arc::clone(array)]
                    }
                    _ => vec![Arc::clone(array), Arc::clone(array)],
                };
                called += 1;
                let is_bomb = bombs.iter().any(|bomb| Arc::ptr_eq(bomb, array));
                let is_ordinate = ["st_x", "st_y"].contains(&function.name());
                match invoke(&function, &arguments) {
                    Ok(answer) => {
                        assert!(!is_bomb && answer.is_valid(0) && answer.is_null(1), "{}", function.name());
                    }
                    Err(error) => assert!(is_bomb || is_ordinate, "{}: {error}", function.name()),
                }
            }
        }
        assert!(called > 150, "{called}");
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
}

#[tokio::test]
async fn hilbert_takes_numbers_or_a_geometry_and_gives_null_where_there_is_no_place() {
    let ctx = context();
    let sql = "SELECT hilbert(lon, lat) = hilbert(text), hilbert(lon, lat) = hilbert(wkb) FROM t ORDER BY id";
    let expected = ["true", "true", "true", "true", "true", "true", "true", "true"].join(" ");
    assert_eq!(
        run(&ctx, sql).await.unwrap().replace("|", "").split_whitespace().collect::<Vec<_>>().join(" "),
        expected
    );
    let sql =
        "SELECT count(*), count(hilbert(lon, lat)), count(hilbert(wkb)), count(hilbert(lon32, 5)) FROM t";
    assert_eq!(run(&ctx, sql).await.unwrap(), "6 4 4 4");
    let sql =
        "SELECT arrow_typeof(hilbert(1, 2)), hilbert(NULL, 2) IS NULL, hilbert('POLYGON EMPTY') IS NULL";
    assert_eq!(run(&ctx, sql).await.unwrap(), "UInt64 true true");
    // The centre of its box.
    let sql = format!("SELECT hilbert('{SQUARE}') = hilbert(5, 5)");
    assert_eq!(run(&ctx, &sql).await.unwrap(), "true");
    for (sql, expected) in [
        ("SELECT hilbert(1, 2, 3)", "3 arguments"),
        ("SELECT hilbert(1)", "geometry"),
        ("SELECT hilbert('x', 2)", "number"),
    ] {
        let error = run(&ctx, sql).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    ctx.register_batch(
        "bad",
        RecordBatch::try_from_iter([(
            "g",
            Arc::new(StringArray::from(vec!["POINT(1 2)", "POINT(1"])) as ArrayRef,
        )])
        .unwrap(),
    )
    .unwrap();
    let error = run(&ctx, "SELECT hilbert(g) FROM bad").await.unwrap_err().to_string();
    assert!(error.contains("row 1"), "{error}");
}
