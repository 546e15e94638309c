//! The spatial functions through SQL: the cases of the JTS test suite, and values that are odd or hostile.
//!
//! The suite lies in `../shared/corpora` (or `ODP_CORPORA`); without it its tests say so and end.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::fixtures::Result;

/// The predicates, each with the one that says the same of exchanged arguments.
const PREDICATES: [(&str, &str); 10] = [
    ("st_within", "st_contains"),
    ("st_contains", "st_within"),
    ("st_covers", "st_coveredby"),
    ("st_coveredby", "st_covers"),
    ("st_intersects", "st_intersects"),
    ("st_disjoint", "st_disjoint"),
    ("st_equals", "st_equals"),
    ("st_touches", "st_touches"),
    ("st_crosses", "st_crosses"),
    ("st_overlaps", "st_overlaps"),
];

/// In `TestRobustRelateFloat.xml`, where JTS itself fails: `POINT(0.95 0.05)` is on an edge in decimal, but inside
/// as the nearest `f64`s, and the answer is exact for those. Read from the left and from the right.
const EXCEPTIONS: [&str; 2] = [
    "st_contains(POLYGON ((0 0, 0.0000152587890625 0, 0 0.0000152587890625, 0 0)), POINT (0.000014495849609375 0.000000762939453125))",
    "st_within(POINT (0.000014495849609375 0.000000762939453125), POLYGON ((0 0, 0.0000152587890625 0, 0 0.0000152587890625, 0 0)))",
];

/// What the suite says of two geometries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Case {
    left: String,
    right: String,
    /// An index in [`PREDICATES`].
    predicate: usize,
    expected: bool,
}

impl Case {
    fn is_exception(&self) -> bool {
        let call = format!("{}({}, {})", PREDICATES[self.predicate].0, self.left, self.right);
        EXCEPTIONS.contains(&call.as_str())
    }
}

/// A session that folds constants, and optimizes nothing else: thousands of plans are made.
fn session() -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().optimizer.max_passes = 1;
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_optimizer_rules(vec![Arc::new(SimplifyExpressions::new())])
        .with_physical_optimizer_rules(vec![])
        .build();
    let ctx = SessionContext::new_with_state(state);
    datafusion_odp::register(&ctx)?;
    Ok(ctx)
}

/// The files of the suite with their texts.
fn suite() -> Result<Vec<(String, String)>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    let root = std::env::var_os("ODP_CORPORA").map_or_else(beside, PathBuf::from);
    let root = root.join("georust_geo/jts-test-runner/resources/testxml");
    let mut files = vec![];
    for folder in ["general", "misc", "robust", "validate"] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                files.push((path.display().to_string(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

/// The operations of one `<case>`: name, `arg1` to `arg3`, and the expected text.
fn operations(case: &str) -> Vec<(String, [String; 3], String)> {
    let mut found = vec![];
    for op in case.split("<op").skip(1) {
        let Some((head, body)) = op.split_once('>') else { continue };
        let head = head.replace('\'', "\"");
        let attribute =
            |name: &str| between(&head, &format!("{name}=\""), "\"").unwrap_or_default().to_ascii_lowercase();
        let expected = body.split('<').next().unwrap_or_default().trim().to_owned();
        found.push((attribute("name"), ["arg1", "arg2", "arg3"].map(attribute), expected));
    }
    found
}

/// WKT with all numbers divided by 65536: exact, and none is left to be taken for a longitude past 180.
fn scaled(wkt: &str) -> Result<String> {
    let mut text = String::new();
    let mut rest = wkt.trim();
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit() || matches!(first, '-' | '+' | '.');
        let end = match is_number {
            true => rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'))),
            false => Some(first.len_utf8()),
        };
        let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
        match is_number {
            true => text.push_str(&format!("{}", token.parse::<f64>()? / 65536.0)),
            false => text.push_str(if first.is_whitespace() { " " } else { token }),
        }
        rest = after;
    }
    Ok(text)
}

/// The geometry of a case as scaled WKT, from WKT or hex WKB; `None` for a type that is not in Simple Features, and
/// for malformed text.
async fn geometry(ctx: &SessionContext, case: &str, tag: &str) -> Result<Option<String>> {
    let Some(text) = between(case, &format!("<{tag}>"), &format!("</{tag}>")) else { return Ok(None) };
    let text = text.trim();
    // One case has a parenthesis too many.
    let is_balanced = text.matches('(').count() == text.matches(')').count();
    if text.starts_with("LINEARRING") || !is_balanced {
        return Ok(None);
    }
    if text.len() >= 10 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let rows = ctx.sql(&format!("SELECT st_astext(X'{text}')")).await?.collect().await?;
        return Ok(Some(scaled(rows[0].column(0).as_string::<i32>().value(0))?));
    }
    Ok(Some(scaled(text)?))
}

/// All that the suite says of predicates, each once.
async fn cases(ctx: &SessionContext) -> Result<Vec<Case>> {
    let files = suite()?;
    let mut found = vec![];
    let mut seen = HashSet::new();
    let names: BTreeMap<String, usize> =
        PREDICATES.iter().enumerate().map(|(index, (name, _))| (name[3..].to_owned(), index)).collect();
    for (_, text) in &files {
        for case in text.split("<case>").skip(1) {
            let operations = operations(case);
            let is_asked = |name: &str| name == "relate" || name == "equalstopo" || names.contains_key(name);
            if !operations.iter().any(|(name, ..)| is_asked(name)) {
                continue;
            }
            let (Some(a), Some(b)) = (geometry(ctx, case, "a").await?, geometry(ctx, case, "b").await?)
            else {
                continue;
            };
            for (name, [first, second, matrix], expected) in operations {
                let (left, right) = match (first.as_str(), second.as_str()) {
                    ("a", "b") => (&a, &b),
                    ("b", "a") => (&b, &a),
                    _ => continue,
                };
                let Ok(expected) = expected.parse::<bool>() else { continue };
                let is_whole = matrix.len() == 9 && matrix.bytes().all(|cell| b"f012".contains(&cell));
                let name = if name == "equalstopo" { "equals" } else { &name };
                for (predicate, (function, _)) in PREDICATES.iter().enumerate() {
                    let expected = if function[3..] == *name {
                        expected
                    } else if name == "relate" && expected && is_whole {
                        of_matrix(function, matrix.as_bytes())
                    } else {
                        continue;
                    };
                    let case = Case { left: left.clone(), right: right.clone(), predicate, expected };
                    if seen.insert(case.clone()) {
                        found.push(case);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What a DE-9IM matrix says, by the patterns of OGC 06-103r4, section 6.1.15.
fn of_matrix(function: &str, matrix: &[u8]) -> bool {
    let is = |pattern: &str| {
        pattern.bytes().zip(matrix).all(|(wanted, cell)| match wanted {
            b'*' => true,
            b'T' => *cell != b'f',
            b'F' => *cell == b'f',
            wanted => wanted == *cell,
        })
    };
    // The dimension of a geometry is that of its interior, which lies in the other's three parts.
    let dimension =
        |cells: [usize; 3]| cells.into_iter().map(|cell| matrix[cell]).filter(|cell| *cell != b'f').max();
    let (left, right) = (dimension([0, 1, 2]), dimension([0, 3, 6]));
    match function {
        "st_within" => is("T*F**F***"),
        "st_contains" => is("T*****FF*"),
        "st_covers" => ["T*****FF*", "*T****FF*", "***T**FF*", "****T*FF*"].into_iter().any(is),
        "st_coveredby" => ["T*F**F***", "*TF**F***", "**FT*F***", "**F*TF***"].into_iter().any(is),
        "st_intersects" => !is("FF*FF****"),
        "st_disjoint" => is("FF*FF****"),
        "st_equals" => is("T*F**FFF*") || is("FFFFFFFF2"),
        "st_touches" => ["FT*******", "F**T*****", "F***T****"].into_iter().any(is),
        "st_crosses" if left < right => is("T*T******"),
        "st_crosses" if left > right => is("T*****T**"),
        "st_crosses" => left == Some(b'1') && is("0********"),
        "st_overlaps" if left != right => false,
        "st_overlaps" if left == Some(b'1') => is("1*T***T**"),
        _ => is("T*T***T**"),
    }
}

fn table(cases: &[&Case]) -> Result<RecordBatch> {
    let text = |pick: fn(&Case) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(cases.iter().map(|case| pick(case))))
    };
    let count = i64::try_from(cases.len())?;
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef),
        ("a", text(|case| &case.left)),
        ("b", text(|case| &case.right)),
        ("expected", Arc::new(cases.iter().map(|case| Some(case.expected)).collect::<BooleanArray>())),
    ])?)
}

#[tokio::test]
#[cfg_attr(not(has_corpora), ignore = "needs ../shared/corpora, or ODP_CORPORA")]
async fn jts_predicates_between_columns() -> Result<()> {
    let ctx = session()?;
    let cases = cases(&ctx).await?;
    assert!(cases.len() > 5_000, "{}", cases.len());
    for (predicate, (name, flipped)) in PREDICATES.iter().enumerate() {
        let cases: Vec<_> = cases.iter().filter(|case| case.predicate == predicate).collect();
        ctx.register_batch("cases", table(&cases)?)?;
        let sql = format!(
            "SELECT id FROM (SELECT *, st_asbinary(a) AS x, st_asbinary(b) AS y FROM cases)
             WHERE {name}(a, b) IS DISTINCT FROM expected OR {name}(x, y) IS DISTINCT FROM expected
                OR {flipped}(b, a) IS DISTINCT FROM expected OR {flipped}(y, a) IS DISTINCT FROM expected"
        );
        for rows in ctx.sql(&sql).await?.collect().await? {
            for id in rows.column(0).as_primitive::<Int64Type>().values() {
                let case = cases[usize::try_from(*id)?];
                assert!(case.is_exception(), "{name}: {case:?}");
            }
        }
        ctx.deregister_table("cases")?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(not(has_corpora), ignore = "needs ../shared/corpora, or ODP_CORPORA")]
async fn jts_predicates_against_constants() -> Result<()> {
    let ctx = session()?;
    let cases = cases(&ctx).await?;
    // Each geometry as the constant, for all that it is compared with: on the left, and on the right.
    let mut by_constant: BTreeMap<(&str, bool), Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        by_constant.entry((&case.left, true)).or_default().push(case);
        by_constant.entry((&case.right, false)).or_default().push(case);
    }
    for (index, ((constant, on_left), cases)) in by_constant.into_iter().enumerate() {
        // Every other constant as WKB, and every other column.
        let is_wkb = |bit: usize| index >> bit & 1 == 1;
        let constant =
            if is_wkb(1) { format!("st_geomfromtext('{constant}')") } else { format!("'{constant}'") };
        let column = if on_left { "b" } else { "a" };
        let column = if is_wkb(2) { format!("st_asbinary({column})") } else { column.to_owned() };
        let asked: Vec<_> =
            (0..PREDICATES.len()).filter(|at| cases.iter().any(|case| case.predicate == *at)).collect();
        let calls: Vec<_> = asked
            .iter()
            .map(|predicate| match on_left {
                true => format!("{}({constant}, {column}) AS p{predicate}", PREDICATES[*predicate].0),
                false => format!("{}({column}, {constant}) AS p{predicate}", PREDICATES[*predicate].0),
            })
            .collect();
        ctx.register_batch("cases", table(&cases)?)?;
        let rows = ctx.sql(&format!("SELECT {} FROM cases", calls.join(", "))).await?.collect().await?;
        let [rows] = rows.as_slice() else { return Err(format!("{} record batches", rows.len()).into()) };
        for (row, case) in cases.iter().enumerate() {
            let at = asked.iter().position(|predicate| *predicate == case.predicate).unwrap_or_default();
            let answers = rows.column(at).as_boolean();
            let answer = answers.is_valid(row).then(|| answers.value(row));
            let is_right = answer == Some(case.expected) || case.is_exception();
            assert!(is_right, "{answer:?} for {}: {case:?}", PREDICATES[case.predicate].0);
        }
        ctx.deregister_table("cases")?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(not(has_corpora), ignore = "needs ../shared/corpora, or ODP_CORPORA")]
async fn jts_distances_and_centroids() -> Result<()> {
    let ctx = session()?;
    let files = suite()?;
    let (mut distances, mut centroids) = (0, 0);
    let ask = async |sql: String| ctx.sql(&sql).await?.collect().await;
    for case in files.iter().flat_map(|(_, text)| text.split("<case>").skip(1)) {
        for (name, [_, _, distance], expected) in operations(case) {
            if name == "iswithindistance" {
                let (a, b) = (geometry(&ctx, case, "a").await?, geometry(&ctx, case, "b").await?);
                let (Some(a), Some(b)) = (a, b) else { continue };
                let distance = distance.parse::<f64>()? / 65536.0;
                let sql = format!(
                    "SELECT st_dwithin('{a}', '{b}', {distance}::double), st_dwithin(y, x, {distance}::double),
                            st_dwithin(st_asbinary(x), '{b}', d), st_dwithin('{a}', y, d)
                     FROM (VALUES ('{a}', '{b}', {distance}::double)) AS v(x, y, d)"
                );
                let rows = ask(sql).await?;
                for column in rows[0].columns() {
                    assert_eq!(column.as_boolean().value(0), expected.parse::<bool>()?, "{a} {b} {distance}");
                }
                distances += 1;
            } else if name == "getcentroid" {
                let Some(a) = geometry(&ctx, case, "a").await? else { continue };
                let sql = format!("SELECT st_x(g), st_y(g) FROM (SELECT st_centroid('{a}') AS g)");
                let rows = ask(sql).await?;
                let found = [0, 1].map(|at| {
                    let column = rows[0].column(at).as_primitive::<Float64Type>();
                    column.is_valid(0).then(|| column.value(0) * 65536.0)
                });
                let expected = match expected.split(['(', ')']).nth(1) {
                    None => [None, None],
                    Some(point) => {
                        let mut numbers = point.split_whitespace().map(|number| number.parse::<f64>().ok());
                        [numbers.next().flatten(), numbers.next().flatten()]
                    }
                };
                for (found, expected) in found.into_iter().zip(expected) {
                    let is_near = match (found, expected) {
                        (Some(found), Some(expected)) => {
                            (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
                        }
                        (found, expected) => found == expected,
                    };
                    assert!(is_near, "{a}: {found:?}, expected {expected:?}");
                }
                centroids += 1;
            }
        }
    }
    assert!(distances > 15 && centroids > 25, "{distances} {centroids}");
    Ok(())
}

/// Coordinates of all kinds, and whether a geometry may have them.
const COORDINATES: [(f64, bool); 14] = [
    (0.0, true),
    (-0.0, true),
    (1.0, true),
    (5e-324, true),
    (-5e-324, true),
    (1e-300, true),
    (1e100, true),
    (-1e100, true),
    (1.1e100, false),
    (1e308, false),
    (-f64::MAX, false),
    (f64::NAN, false),
    (f64::INFINITY, false),
    (f64::NEG_INFINITY, false),
];

const SQUARE: &str = "POLYGON((-2 -2, 2 -2, 2 2, -2 2, -2 -2))";

/// Little-endian WKB of a type, with counts (each before its coordinates) and coordinates as given.
fn wkb(kind: u32, counts: &[u32], points: &[(f64, f64)]) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(kind.to_le_bytes());
    counts.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
    for (x, y) in points {
        if kind == 4 {
            bytes.extend([1, 1, 0, 0, 0]);
        }
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
    }
    bytes
}

/// One row per coordinate: points of it as x, y and as WKB and WKT, and shapes from it to the origin.
fn odd_coordinates() -> Result<RecordBatch> {
    let numbers = COORDINATES.map(|(number, _)| number);
    let binary = |make: &dyn Fn(f64) -> Vec<u8>| -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|number| make(*number))))
    };
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..14)) as ArrayRef),
        ("c", Arc::new(Float64Array::from(numbers.to_vec()))),
        ("point", binary(&|c| wkb(1, &[], &[(c, c)]))),
        ("line", binary(&|c| wkb(2, &[2], &[(0.0, 0.0), (c, 1.0)]))),
        ("polygon", binary(&|c| wkb(3, &[1, 4], &[(0.0, 0.0), (c, 0.0), (c, c), (0.0, 0.0)]))),
        ("points", binary(&|c| wkb(4, &[2], &[(c, c), (0.0, 0.0)]))),
        (
            "text",
            Arc::new(StringArray::from_iter_values(numbers.iter().map(|c| format!("POINT({c:e} {c:e})")))),
        ),
    ])?)
}

/// The answers of a query with an id and one answer per row, in order of the id.
async fn answers(ctx: &SessionContext, sql: &str) -> Result<Vec<Option<bool>>> {
    let mut found = BTreeMap::new();
    for rows in ctx.sql(sql).await.map_err(|error| format!("{sql}: {error}"))?.collect().await? {
        let answers = rows.column(1).as_boolean();
        for (row, id) in rows.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            found.insert(*id, answers.is_valid(row).then(|| answers.value(row)));
        }
    }
    Ok(found.into_values().collect())
}

#[tokio::test]
async fn odd_coordinates_have_the_documented_answers() -> Result<()> {
    let ctx = session()?;
    ctx.register_batch("odd", odd_coordinates()?)?;
    // The same area as a column.
    ctx.sql(&format!("CREATE VIEW areas AS SELECT *, concat('{SQUARE}', left(text, 0)) AS area FROM odd"))
        .await?;
    ctx.sql("SET odp.on_invalid_geometry = 'no_match'").await?;
    for geometry in ["st_point(c, c)", "point", "text", "line", "polygon", "points"] {
        for (name, flipped) in PREDICATES {
            let mut forms = vec![];
            for (area, table) in [(format!("'{SQUARE}'"), "odd"), ("area".to_owned(), "areas")] {
                forms.push(
                    answers(&ctx, &format!("SELECT id, {name}({geometry}, {area}) FROM {table}")).await?,
                );
                forms.push(
                    answers(&ctx, &format!("SELECT id, {flipped}({area}, {geometry}) FROM {table}")).await?,
                );
            }
            for (row, (c, is_usable)) in COORDINATES.into_iter().enumerate() {
                let is_inside = c.abs() < 2.0;
                let expected = match geometry {
                    // A point of x and y is empty where it cannot be computed with, and so is NaN in WKB.
                    "st_point(c, c)" => Some(is_inside),
                    "point" if c.is_nan() => Some(false),
                    // Empty parts of a multipoint are dropped.
                    _ if !(is_usable || (geometry == "points" && c.is_nan())) => None,
                    "point" | "text" => Some(is_inside),
                    // Not told here: shapes that may have no extent.
                    _ => {
                        let answer = forms[0][row];
                        assert!(answer.is_some(), "{name}({geometry}) at {c}");
                        assert!(
                            forms.iter().all(|form| form[row] == answer),
                            "{name}({geometry}) at {c}: {forms:?}"
                        );
                        let meets = answer == Some(name != "st_disjoint");
                        assert!(
                            !["st_intersects", "st_disjoint"].contains(&name) || meets,
                            "{name}({geometry}) at {c}"
                        );
                        continue;
                    }
                };
                let expected = expected.map(|is_inside| match name {
                    "st_within" | "st_coveredby" | "st_intersects" => is_inside,
                    "st_disjoint" => !is_inside,
                    _ => false,
                });
                for form in &forms {
                    assert_eq!(form[row], expected, "{name}({geometry}) at {c}");
                }
            }
        }
    }
    // Without the setting, the first malformed row is named.
    ctx.sql("SET odp.on_invalid_geometry = 'error'").await?;
    for (geometry, row) in [("point", 8), ("text", 8), ("line", 8), ("polygon", 8), ("points", 8)] {
        let sql = format!("SELECT id, st_within({geometry}, '{SQUARE}') FROM odd");
        let error = answers(&ctx, &sql).await.expect_err(geometry).to_string();
        assert!(error.contains(&format!("row {row} of the record batch")), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn distances_and_accessors_take_odd_coordinates() -> Result<()> {
    let ctx = session()?;
    ctx.register_batch("odd", odd_coordinates()?)?;
    ctx.sql("SET odp.on_invalid_geometry = 'no_match'").await?;
    for (sql, expected) in [
        ("st_dwithin(st_point(c, c), 'POINT(0 0)', 1)", "ttftttffffffff"),
        ("st_dwithin(point, text, 0)", "ttttttttnnnnnn"),
        ("st_dwithin('POINT(0 0)', text, 'infinity'::double)", "ttttttttnnnnnn"),
        // A triangle of no extent at 0 is 3 away, one that reaches 1 is 2 away, as is one with an edge past both.
        ("st_dwithin(polygon, 'POINT(3 0)', 2)", "fftffftfnnnnnn"),
        ("st_isempty(st_point(c, c))", "fffffffftttttt"),
        ("st_xmin(st_point(c, c)) IS NULL", "fffffffftttttt"),
        ("st_centroid(st_point(c, c)) IS NULL", "fffffffftttttt"),
    ] {
        let found: String = answers(&ctx, &format!("SELECT id, {sql} FROM odd"))
            .await?
            .into_iter()
            .map(|answer| answer.map_or('n', |answer| if answer { 't' } else { 'f' }))
            .collect();
        assert_eq!(found, expected, "{sql}");
    }
    Ok(())
}

/// A geometry, and whether it is valid.
type Shape = (&'static str, bool);

/// Empty, degenerate and invalid geometries.
const SHAPES: [Shape; 24] = [
    ("POINT EMPTY", true),
    ("LINESTRING EMPTY", true),
    ("POLYGON EMPTY", true),
    ("MULTIPOINT EMPTY", true),
    ("MULTILINESTRING EMPTY", true),
    ("MULTIPOLYGON EMPTY", true),
    ("GEOMETRYCOLLECTION EMPTY", true),
    ("GEOMETRYCOLLECTION(GEOMETRYCOLLECTION EMPTY, POINT EMPTY)", true),
    ("MULTIPOLYGON(EMPTY, ((0 0, 1 0, 1 1, 0 0)))", true),
    ("POINT(1 1)", true),
    ("MULTIPOINT(1 1, 1 1)", true),
    ("LINESTRING(0 0, 0 0, 1 1, 1 1, 2 2)", true),
    ("LINESTRING(0 0, 2 2)", true),
    ("POLYGON((0 0, 4 0, 4 0, 4 4, 4 4, 0 4, 0 0, 0 0))", true),
    ("POLYGON((0 0, 4 0, 4 4, 0 4, 0 0))", true),
    ("POLYGON((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 2 1, 2 2, 1 1))", true),
    ("GEOMETRYCOLLECTION(POINT(9 9), LINESTRING(0 0, 1 1), POLYGON((2 2, 3 2, 3 3, 2 2)))", true),
    ("LINESTRING(1 1, 1 1)", false),
    ("POLYGON((0 0, 4 4, 4 0, 0 4, 0 0))", false),
    ("POLYGON((1 1, 1 1, 1 1, 1 1))", false),
    ("POLYGON((0 0, 4 0, 0 0, 0 0))", false),
    ("POLYGON((0 0, 4 0, 4 4, 0 4, 0 0), (0 0, 4 0, 4 4, 0 4, 0 0))", false),
    ("POLYGON((0 0, 4 0, 4 4, 0 4, 0 0), (9 9, 10 9, 10 10, 9 9))", false),
    ("MULTIPOLYGON(((0 0, 4 0, 4 4, 0 0)), ((0 0, 4 0, 4 4, 0 0)))", false),
];

#[tokio::test]
async fn empty_and_degenerate_shapes_have_consistent_answers() -> Result<()> {
    let ctx = session()?;
    let is_empty = |shape: &str| shape.contains("EMPTY") && !shape.contains('1');
    let all: Vec<_> = (0..SHAPES.len() * SHAPES.len())
        .map(|id| (SHAPES[id / SHAPES.len()], SHAPES[id % SHAPES.len()]))
        .collect();
    let text = |pick: fn(&(Shape, Shape)) -> &'static str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(pick)))
    };
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..i64::try_from(all.len())?)) as ArrayRef),
        ("a", text(|pair| pair.0.0)),
        ("b", text(|pair| pair.1.0)),
    ])?;
    ctx.register_batch("pairs", batch)?;
    ctx.sql("SET odp.on_invalid_geometry = 'no_match'").await?;
    let mut by_name = BTreeMap::new();
    for (name, flipped) in PREDICATES {
        let answers_of = async |call: String| answers(&ctx, &format!("SELECT id, {call} FROM pairs")).await;
        let straight = answers_of(format!("{name}(a, b)")).await?;
        let exchanged = answers_of(format!("{flipped}(st_asbinary(b), a)")).await?;
        for (id, (left, right)) in all.iter().enumerate().filter(|(_, (left, right))| left.1 && right.1) {
            let answer = straight[id];
            assert!(
                answer.is_some() && answer == exchanged[id],
                "{name}({}, {}): {answer:?}",
                left.0,
                right.0
            );
            if is_empty(left.0) || is_empty(right.0) {
                let both = is_empty(left.0) && is_empty(right.0);
                let expected = name == "st_disjoint" || (both && name == "st_equals");
                assert_eq!(answer, Some(expected), "{name}({}, {})", left.0, right.0);
            }
        }
        by_name.insert(name, straight);
    }
    for (id, (left, right)) in all.iter().enumerate().filter(|(_, (left, right))| left.1 && right.1) {
        let holds = |name: &str| by_name[name][id] == Some(true);
        let pair = format!("{} and {}", left.0, right.0);
        assert_ne!(holds("st_disjoint"), holds("st_intersects"), "{pair}");
        assert!(!holds("st_within") || holds("st_coveredby"), "{pair}");
        assert!(!holds("st_contains") || holds("st_covers"), "{pair}");
        if !is_empty(left.0) {
            assert_eq!(holds("st_equals"), holds("st_within") && holds("st_contains"), "{pair}");
            let is_same = left.0 == right.0;
            assert!(!is_same || holds("st_equals"), "{pair}");
        }
        for pair_of in
            [["st_touches", "st_within"], ["st_touches", "st_overlaps"], ["st_crosses", "st_overlaps"]]
        {
            assert!(!(holds(pair_of[0]) && holds(pair_of[1])), "{pair_of:?}: {pair}");
        }
    }
    // Malformed, not only invalid.
    ctx.sql("SET odp.on_invalid_geometry = 'error'").await?;
    for shape in [
        "LINESTRING(1 1)",
        "POLYGON((0 0, 1 0, 1 1, 0 1))",
        "POLYGON((0 0, 1 1, 0 0))",
        "POLYGON(EMPTY, (0 0, 1 0, 1 1, 0 0))",
    ] {
        assert!(ctx.sql(&format!("SELECT st_within('{shape}', '{SQUARE}')")).await.is_err(), "{shape}");
    }
    Ok(())
}

#[cfg(feature = "h3")]
#[tokio::test]
async fn h3_cells_and_their_boundaries() -> Result<()> {
    let ctx = session()?;
    let ask = async |sql: &str| -> Result<Option<String>> {
        let rows = ctx.sql(&format!("SELECT arrow_cast({sql}, 'Utf8')")).await?.collect().await?;
        let column = rows[0].column(0).as_string::<i32>();
        Ok(column.is_valid(0).then(|| column.value(0).to_owned()))
    };
    assert_eq!(
        ask("h3_cell(37.7752702151959, -122.418307270836, 9)").await?.as_deref(),
        Some("8928308280fffff")
    );
    assert_eq!(ask("h3_cell(NULL, 5, 9)").await?, None);
    assert_eq!(ask("h3_cell(5, 5, NULL)").await?, None);
    assert_eq!(ask("h3_boundary(NULL)").await?, None);
    let inside = "CAST(contains(st_geomfromtext(h3_boundary(h3_cell(51.5, 179.999, 5))), st_point(179.999, 51.5)) AS text)";
    assert_eq!(ask(inside).await?.as_deref(), Some("true"));
    for (sql, expected) in [
        ("h3_cell(91, 0, 5)", "latitude 91, expected -90 to 90"),
        ("h3_cell(0, 'NaN'::double, 5)", "longitude NaN"),
        ("h3_cell(0, 0, 16)", "resolution 16, expected 0 to 15"),
        ("h3_boundary('x')", "expected an H3 cell of 15 hex digits"),
        ("h3_cell(0, 0)", "got 2 arguments"),
        ("h3_cell(0, 0, 1.5)", "argument 3"),
        ("h3_boundary(5)", "expected the text of a cell"),
    ] {
        let error = ask(sql).await.expect_err(sql).to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
    Ok(())
}
