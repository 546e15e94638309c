//! The spatial functions through SQL: the cases of the JTS test suite, and values that are odd or hostile.
//!
//! The suite lies in `../shared/corpora` (or `ODP_CORPORA`); without it its tests say so and end.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
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

    fn flipped(&self) -> Self {
        let flipped = PREDICATES[self.predicate].1;
        let predicate = PREDICATES.iter().position(|(name, _)| *name == flipped).unwrap_or(self.predicate);
        Self { left: self.right.clone(), right: self.left.clone(), predicate, expected: self.expected }
    }
}

fn session() -> Result<SessionContext> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    datafusion_odp::register(&ctx)?;
    Ok(ctx)
}

/// The files of the suite with their texts; `None` if it is not here.
fn suite() -> Result<Option<Vec<(String, String)>>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    let root = std::env::var_os("ODP_CORPORA").map_or_else(beside, PathBuf::from);
    let root = root.join("georust_geo/jts-test-runner/resources/testxml");
    if !root.exists() {
        println!("ignored: no {}", root.display());
        return Ok(None);
    }
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
    Ok(Some(files))
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
async fn cases(ctx: &SessionContext) -> Result<Option<Vec<Case>>> {
    let Some(files) = suite()? else { return Ok(None) };
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
                    let expected = match () {
                        () if function[3..] == *name => expected,
                        () if name == "relate" && expected && is_whole => {
                            of_matrix(function, matrix.as_bytes())
                        }
                        () => continue,
                    };
                    let case = Case { left: left.clone(), right: right.clone(), predicate, expected };
                    if seen.insert(case.clone()) {
                        found.push(case);
                    }
                }
            }
        }
    }
    Ok(Some(found))
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

fn table<'a>(cases: impl Iterator<Item = &'a Case> + Clone) -> Result<RecordBatch> {
    let text = |pick: fn(&Case) -> &str| -> ArrayRef {
        Arc::new(cases.clone().map(|case| Some(pick(case))).collect::<StringArray>())
    };
    let count = i64::try_from(cases.clone().count())?;
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef),
        ("a", text(|case| &case.left)),
        ("b", text(|case| &case.right)),
        ("expected", Arc::new(cases.clone().map(|case| Some(case.expected)).collect::<BooleanArray>())),
    ])?)
}

#[tokio::test]
async fn jts_predicates_between_columns() -> Result<()> {
    let ctx = session()?;
    let Some(cases) = cases(&ctx).await? else { return Ok(()) };
    assert!(cases.len() > 5_000, "{}", cases.len());
    for (predicate, (name, flipped)) in PREDICATES.iter().enumerate() {
        let cases: Vec<_> = cases.iter().filter(|case| case.predicate == predicate).collect();
        ctx.register_batch("cases", table(cases.iter().copied())?)?;
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
async fn jts_predicates_against_constants() -> Result<()> {
    let ctx = session()?;
    let Some(cases) = cases(&ctx).await? else { return Ok(()) };
    // Each geometry as the constant, on either side, for all the others it is compared with.
    let mut by_constant: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases {
        by_constant.entry(case.left.clone()).or_default().push(case.flipped());
        by_constant.entry(case.right.clone()).or_default().push(case);
    }
    for (index, (constant, cases)) in by_constant.into_iter().enumerate() {
        // Every other constant as WKB, and every other column.
        let constant =
            if index % 2 == 0 { format!("'{constant}'") } else { format!("st_geomfromtext('{constant}')") };
        let column = if index % 4 < 2 { "a" } else { "st_asbinary(a)" };
        let asked: Vec<_> =
            (0..PREDICATES.len()).filter(|at| cases.iter().any(|case| case.predicate == *at)).collect();
        let calls: Vec<_> = asked
            .iter()
            .map(|predicate| {
                let (name, flipped) = PREDICATES[*predicate];
                format!("{name}({column}, {constant}), {flipped}({constant}, {column})")
            })
            .collect();
        ctx.register_batch("cases", table(cases.iter())?)?;
        let rows = ctx.sql(&format!("SELECT {} FROM cases", calls.join(", "))).await?.collect().await?;
        let [rows] = rows.as_slice() else { return Err(format!("{} record batches", rows.len()).into()) };
        for (row, case) in cases.iter().enumerate() {
            let at = 2 * asked.iter().position(|predicate| *predicate == case.predicate).unwrap_or_default();
            for column in [at, at + 1] {
                let answers = rows.column(column).as_boolean();
                let answer = answers.is_valid(row).then(|| answers.value(row));
                let is_right = answer == Some(case.expected) || case.is_exception();
                assert!(is_right, "{answer:?} for {}: {case:?}", PREDICATES[case.predicate].0);
            }
        }
        ctx.deregister_table("cases")?;
    }
    Ok(())
}

#[tokio::test]
async fn jts_distances_and_centroids() -> Result<()> {
    let ctx = session()?;
    let Some(files) = suite()? else { return Ok(()) };
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
