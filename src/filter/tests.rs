//! Filters over the reference's table: which rows match, and what is said where none can.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    Decimal256Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int64Array, LargeStringArray,
    RecordBatch, StringArray, StringViewArray, StructArray, Time64MicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int8Type, Int64Type, Schema, i256};
use datafusion::common::ToDFSchema;
use datafusion::common::runtime::SpawnedTask;
use datafusion::prelude::{SessionContext, col};
use serde_json::Value;

use super::cases::{ANSWERED, DIFFERENT, expected, table};
use super::language::tests::{EXTENSIONS, cases_file};
use super::*;
use crate::geo::SpatialConjunct;

type Answer = Result<Vec<i64>, String>;

/// The values of column `id` in the rows that match.
async fn matching(batch: &RecordBatch, text: &str, variables: &FilterVariables) -> Answer {
    let ctx = SessionContext::new();
    let filter = lower_filter(text, variables, &batch.schema()).map_err(|error| error.to_string())?;
    let found = async {
        let frame = ctx.read_batch(batch.clone())?.filter(filter.expr)?;
        frame.sort(vec![col("id").sort(true, true)])?.select(vec![col("id")])?.collect().await
    };
    let found = found.await.map_err(|error| format!("running: {error}"))?;
    Ok(found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
}

#[tokio::test]
#[cfg_attr(not(has_cases), ignore = "needs ../shared/odp, or ODP_CASES")]
async fn the_cases_of_the_reference_match_its_rows() {
    let path = cases_file("filter_cases.jsonl");
    let batch = table(&fs::read_to_string(path.with_file_name("filter_table.json")).unwrap());
    let (mut matched, mut different, mut answered, mut errors) = (0, 0, 0, 0);
    for line in fs::read_to_string(path).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["filter"].as_str().unwrap();
        let variables = FilterVariables::from_json(&case["vars"].to_string()).unwrap();
        let answer = matching(&batch, text, &variables).await;
        if let Some((_, expected)) = DIFFERENT.iter().find(|(filter, _)| *filter == text) {
            match (&answer, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
                _ => panic!("{text}: {answer:?}"),
            }
            different += 1;
        } else if let Some((_, expected)) = ANSWERED.iter().find(|(filter, _)| *filter == text) {
            assert_eq!(answer.as_deref(), Ok(*expected), "{text}");
            answered += 1;
        } else if let Some(expected) = expected(&case) {
            assert_eq!(answer, Ok(expected), "{text}");
            matched += 1;
        } else {
            // Refused by its parser, or by both of its evaluators.
            let is_error_of_ours = answer.as_ref().is_err_and(|error| error.starts_with("filter at line"));
            assert!(is_error_of_ours, "{text}: {answer:?}");
            assert!(
                case["valid"] == true
                    || !EXTENSIONS.contains(&text)
                    || answer.unwrap_err().contains("no column")
            );
            errors += 1;
        }
    }
    assert_eq!((matched, different, answered, errors), (168, 8, 15, 130));
}

/// Rows `id` from 0 on, of the columns given.
fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let count = i64::try_from(columns[0].1.len()).unwrap();
    let ids: ArrayRef = Arc::new((0..count).collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable(
        std::iter::once(("id", ids, false))
            .chain(columns.into_iter().map(|(name, array)| (name, array, true))),
    )
    .unwrap()
}

async fn check(batch: &RecordBatch, filters: &[(&str, &[i64])]) {
    for (text, expected) in filters {
        let answer = matching(batch, text, &FilterVariables::default()).await;
        assert_eq!(answer.as_deref(), Ok(*expected), "{text}");
    }
}

fn refusal(batch: &RecordBatch, text: &str) -> String {
    lower_filter(text, &FilterVariables::default(), &batch.schema()).expect_err(text).to_string()
}

#[tokio::test]
async fn integers_are_compared_exactly() {
    let ends = [Some(i64::MIN), Some(-1), Some(2), Some(3), Some((1 << 53) + 1), Some(i64::MAX), None];
    let small = ends
        .map(|value| value.map(|value| i8::try_from(value).unwrap_or(if value < 0 { -128 } else { 127 })));
    let unsigned = ends.map(|value| {
        value.map(|value| if value == i64::MAX { u64::MAX } else { value.max(0).try_into().unwrap() })
    });
    let batch = rows(vec![
        ("n", Arc::new(Int64Array::from_iter(ends))),
        ("s", Arc::new(Int8Array::from_iter(small))),
        ("u", Arc::new(UInt64Array::from_iter(unsigned))),
    ]);
    check(
        &batch,
        &[
            ("n > 2.5", &[3, 4, 5]),
            ("n >= 2.5", &[3, 4, 5]),
            ("n < 2.5", &[0, 1, 2]),
            ("n <= -0.5", &[0, 1]),
            ("n == 2.5", &[]),
            ("n != 2.5", &[0, 1, 2, 3, 4, 5]),
            ("not (n == 2.5)", &[0, 1, 2, 3, 4, 5]),
            ("2.5 < n", &[3, 4, 5]),
            ("n == 3.0", &[3]),
            ("n == 9007199254740993", &[4]),
            ("n == 9007199254740992", &[]),
            ("n > 9007199254740992.5", &[4, 5]),
            ("n == 9223372036854775807", &[5]),
            ("n < 9223372036854775808", &[0, 1, 2, 3, 4, 5]),
            ("n > 1e300", &[]),
            ("not (n > 1e300)", &[0, 1, 2, 3, 4, 5]),
            ("n != -1e300", &[0, 1, 2, 3, 4, 5]),
            ("s == 300", &[]),
            ("s > -129", &[0, 1, 2, 3, 4, 5]),
            ("s >= 126.5", &[4, 5]),
            ("s < -128.5", &[]),
            ("u == 18446744073709551615", &[5]),
            ("u < 18446744073709551615", &[0, 1, 2, 3, 4]),
            ("u > -1", &[0, 1, 2, 3, 4, 5]),
            ("u >= -0.5", &[0, 1, 2, 3, 4, 5]),
            ("u == -1", &[]),
            ("n == 2 or n == 1e30 or n == 3", &[2, 3]),
            ("n != 2 and n != 3 and n != 2.5", &[0, 1, 4, 5]),
            // Sums and products do not wrap around.
            ("n + 1 == 9223372036854775808", &[5]),
            ("n * n > 9223372036854775807", &[0, 4, 5]),
            ("n + 9223372036854775807 < 0", &[0]),
            ("n - 1 < -9223372036854775808", &[0]),
            ("n == 9007199254740992 + 1", &[4]),
            ("n / 2 == 1.5", &[3]),
            ("n + 0.5 == 3.5", &[3]),
            ("n % 2 == 1", &[3, 4, 5]),
            ("n % 2 == -1", &[1]),
            ("n % 0 == 0", &[]),
            ("n % 0 is null", &[0, 1, 2, 3, 4, 5, 6]),
            ("5 % 3 == 2 and 7 / 2 == 3.5", &[0, 1, 2, 3, 4, 5, 6]),
            ("n + null is null", &[0, 1, 2, 3, 4, 5, 6]),
            ("s < u", &[0, 1, 4, 5]),
        ],
    )
    .await;
    let error = matching(&batch, "n * n * n > 0", &FilterVariables::default()).await.unwrap_err();
    assert!(error.contains("Overflow"), "{error}");
    for (text, words) in [
        ("n == 1 / 0", "inf"),
        ("n == 1e400", "beyond the range"),
        ("n + 'a' == 1", "`+` needs numbers: the text \"a\""),
        ("n == true", "compared with true"),
        ("n + ", "the end"),
    ] {
        assert!(refusal(&batch, text).contains(words), "{}", refusal(&batch, text));
    }
}

#[tokio::test]
async fn floating_point_is_compared_as_in_ieee_754() {
    let values = [
        Some(-1.5),
        Some(-0.0),
        Some(0.0),
        Some(0.1),
        Some(f64::INFINITY),
        Some(f64::NAN),
        Some(-f64::NAN),
        None,
    ];
    #[expect(clippy::cast_possible_truncation, reason = "the nearest is wanted")]
    let single = values.map(|value| value.map(|value| value as f32));
    let batch = rows(vec![
        ("x", Arc::new(Float64Array::from_iter(values))),
        ("y", Arc::new(Float64Array::from_iter([1.0, 0.0, -0.0, 0.1, 5.0, f64::NAN, 1.0, 1.0].map(Some)))),
        ("f", Arc::new(Float32Array::from_iter(single))),
    ]);
    check(
        &batch,
        &[
            ("x > 0", &[3, 4]),
            ("x >= 0", &[1, 2, 3, 4]),
            ("x < 0", &[0]),
            ("x <= 0", &[0, 1, 2]),
            ("x == 0", &[1, 2]),
            ("x == -0.0", &[1, 2]),
            ("x != 0", &[0, 3, 4, 5, 6]),
            ("x == 0 or x == 0.1", &[1, 2, 3]),
            ("not (x > 0)", &[0, 1, 2, 5, 6]),
            ("x == 0.1", &[3]),
            ("x > 1e300", &[4]),
            ("x < y", &[0]),
            ("x >= y", &[1, 2, 3, 4]),
            ("x == y", &[1, 2, 3]),
            ("x != y", &[0, 4, 5, 6]),
            ("x == x", &[0, 1, 2, 3, 4]),
            ("f > 0", &[3, 4]),
            ("f == 0", &[1, 2]),
            ("f == -1.5", &[0]),
            // As Python and Arrow have it: the nearest single to 0.1 is another number.
            ("f == 0.1", &[]),
            ("f > 0.1", &[3, 4]),
            ("x is null", &[7]),
        ],
    )
    .await;
}

/// Each of a number, NaN and NULL beside each: NULL beside anything is NULL, NaN is unequal and unordered.
#[tokio::test]
async fn nan_beside_null_is_null() {
    let nan = [f64::NAN, -f64::NAN];
    for nan in nan {
        let values = [Some(1.0), Some(nan), None];
        let column = |pick: fn(usize) -> usize| -> ArrayRef {
            Arc::new((0..9).map(|i| values[pick(i)]).collect::<Float64Array>())
        };
        let batch = rows(vec![("a", column(|i| i / 3)), ("b", column(|i| i % 3))]);
        check(
            &batch,
            &[
                ("a == b", &[0]),
                ("not (a == b)", &[1, 3, 4]),
                ("a != b", &[1, 3, 4]),
                ("not (a != b)", &[0]),
                ("a < b", &[]),
                ("not (a < b)", &[0, 1, 3, 4]),
                ("a <= b", &[0]),
                ("not (a <= b)", &[1, 3, 4]),
                ("a > b", &[]),
                ("not (a > b)", &[0, 1, 3, 4]),
                ("a >= b", &[0]),
                ("not (a >= b)", &[1, 3, 4]),
                ("(a > b) is null", &[2, 5, 6, 7, 8]),
                ("(a != b) is null", &[2, 5, 6, 7, 8]),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn numbers_at_the_ends_are_themselves() {
    let batch = rows(vec![
        ("n", Arc::new(Int64Array::from(vec![0, 1, -1]))),
        ("zero", Arc::new(Float64Array::from(vec![-0.0, 0.0, 2.0]))),
        ("d64", Arc::new(Date64Array::from(vec![4_102_444_800_000, 500, 0]))),
        ("ts", Arc::new(TimestampNanosecondArray::from(vec![0, 0, 0]))),
        (
            "big",
            Arc::new(
                Decimal256Array::from(vec![i256::from_i128(i128::MAX); 3])
                    .with_precision_and_scale(76, 30)
                    .unwrap(),
            ),
        ),
    ]);
    check(
        &batch,
        &[
            ("n == 0e99999999999", &[0]),
            ("n >= -1e-99999999999", &[0, 1]),
            ("n > 1e-99999999999", &[1]),
            ("(n % zero) is null", &[0, 1]),
            ("9007199254740993 > 9007199254740992.5 and n == 0", &[0]),
            ("9007199254740992.5 > 9007199254740993 and n == 0", &[]),
            ("d64 > ts", &[0, 1]),
            ("big > 5", &[0, 1, 2]),
        ],
    )
    .await;
    assert!(refusal(&batch, "big > 10000000000").contains("too large"), "{}", refusal(&batch, "big > 1e10"));
    let whole = FilterVariables::from_json(r#"{"v": 18446744073709551617}"#);
    assert!(whole.is_err(), "the nearest double is another number");
}

#[tokio::test]
async fn decimals_are_compared_exactly() {
    let prices = Decimal128Array::from(vec![Some(10), Some(1050), None, Some(-99999)]);
    let batch = rows(vec![("p", Arc::new(prices.with_precision_and_scale(5, 2).unwrap()))]);
    check(
        &batch,
        &[
            ("p == 0.1", &[0]),
            ("p == 10.50", &[1]),
            ("p > 10.499", &[1]),
            ("p >= 10.501", &[]),
            ("p == 0.101", &[]),
            ("p != 0.101", &[0, 1, 3]),
            ("p < 1000", &[0, 1, 3]),
            ("p > -1000", &[0, 1, 3]),
            ("p + 1 == 1.1", &[0]),
            ("p * 2 == 21", &[1]),
            ("p > id", &[0, 1]),
        ],
    )
    .await;
}

#[tokio::test]
async fn texts_of_every_layout_are_compared() {
    let texts = [Some("alpha"), Some("beta"), None, Some("O'Hara")];
    let dictionary: DictionaryArray<Int8Type> = texts.into_iter().collect();
    let batch = rows(vec![
        ("a", Arc::new(StringArray::from_iter(texts))),
        ("b", Arc::new(LargeStringArray::from_iter(texts))),
        ("c", Arc::new(StringViewArray::from_iter(texts))),
        ("d", Arc::new(dictionary)),
    ]);
    for column in ["a", "b", "c", "d"] {
        let other = if column == "a" { "d" } else { "a" };
        for (text, expected) in [
            ("@ == \"O'Hara\"", vec![3]),
            ("@ != 'beta'", vec![0, 3]),
            ("@ < 'b'", vec![0, 3]),
            ("@ == 'beta' or @ == 'alpha' or @ == 'x'", vec![0, 1]),
            ("@ != 'beta' and @ != 'alpha'", vec![3]),
            ("@ is null", vec![2]),
            ("@ == other", vec![0, 1, 3]),
        ] {
            let text = text.replace('@', column).replace("other", other);
            assert_eq!(matching(&batch, &text, &FilterVariables::default()).await, Ok(expected), "{text}");
        }
    }
    assert!(refusal(&batch, "d == 1").contains("column `d` is Dictionary"));
    assert!(refusal(&batch, "c > 1").contains("column `c` is Utf8View, compared with the number 1"));
}

#[tokio::test]
async fn times_are_utc_where_they_say_nothing_else() {
    let seconds = |text: &str| {
        i64::try_from(FilterTimestamp::read(text).unwrap().unix_nanoseconds() / 1_000_000_000).unwrap()
    };
    let times = [
        Some(seconds("2024-01-01T00:00")),
        Some(seconds("2024-01-01T12:00")),
        None,
        Some(seconds("2024-07-01")),
    ];
    let naive = TimestampSecondArray::from_iter(times);
    let days = [Some(19723), Some(19723), None, Some(19905)];
    let clock =
        Time64MicrosecondArray::from_iter([Some(0), Some(43_200_000_000), None, Some(86_399_999_999)]);
    let batch = rows(vec![
        ("plain", Arc::new(naive.clone())),
        ("oslo", Arc::new(naive.clone().with_timezone("Europe/Oslo"))),
        ("utc", Arc::new(naive.with_timezone("+00:00"))),
        ("day", Arc::new(Date32Array::from_iter(days))),
        ("clock", Arc::new(clock)),
    ]);
    let mut variables = FilterVariables::default();
    variables.set("t", FilterTimestamp::parse("2024-01-01T13:00:00+01:00").unwrap());
    variables.set("naive", FilterTimestamp::parse("2024-01-01T12:00:00").unwrap());
    variables.set("fine", FilterTimestamp::parse("2024-01-01T11:59:59.5Z").unwrap());
    variables.set("d", FilterDate::parse("2024-01-01").unwrap());
    variables.set("noon", FilterTime::parse("12:00").unwrap());
    for column in ["plain", "oslo", "utc"] {
        for (text, expected) in [
            ("@ == $t", vec![1]),
            ("@ == $naive", vec![1]),
            ("@ == '2024-01-01T12:00:00'", vec![1]),
            ("@ == '2024-01-01 12:00Z'", vec![1]),
            ("@ == '2024-01-01T13:00+01:00'", vec![1]),
            ("@ > '2024-01-01'", vec![1, 3]),
            ("@ == $d", vec![0]),
            ("'2024-07-01' == @", vec![3]),
            // Finer than the column.
            ("@ > $fine", vec![1, 3]),
            ("@ <= $fine", vec![0]),
            ("@ == $fine", vec![]),
            ("@ != $fine", vec![0, 1, 3]),
            ("@ < '9999-12-31'", vec![0, 1, 3]),
            ("@ == plain and @ == utc and @ == oslo", vec![0, 1, 3]),
            ("@ == day", vec![0, 3]),
            ("day < @", vec![1]),
        ] {
            let text = text.replace('@', column);
            assert_eq!(matching(&batch, &text, &variables).await, Ok(expected), "{text}");
        }
    }
    for (text, expected) in [
        ("day == '2024-01-01'", vec![0, 1]),
        ("day == $d", vec![0, 1]),
        ("day > $fine", vec![3]),
        ("day <= $fine", vec![0, 1]),
        ("day == $naive", vec![]),
        ("clock == $noon", vec![1]),
        ("clock >= '12:00:00'", vec![1, 3]),
        ("clock > '23:59:59.9999995'", vec![]),
        ("$d < $t and '2024-01-01T12:00' == $t and $noon < '12:00:01'", vec![0, 1, 2, 3]),
    ] {
        assert_eq!(matching(&batch, text, &variables).await, Ok(expected), "{text}");
    }
    // Beyond what nanoseconds of 64 bits can count.
    let fine = rows(vec![("ns", Arc::new(TimestampNanosecondArray::from(vec![Some(0), None])))]);
    check(
        &fine,
        &[("ns < '9999-12-31'", &[0]), ("ns == '0001-01-01'", &[]), ("not (ns < '1700-01-01')", &[0])],
    )
    .await;
    for (text, words) in [
        ("plain > 'yesterday'", "expected a time such as 2024-01-31T12:00:00Z, found \"yesterday\""),
        ("plain > 5", "compared with the number 5"),
        ("clock > '2024-01-01'", "expected a time of day"),
        ("clock == plain", "compared with column `plain`"),
        ("plain + 1 > plain", "`+` needs numbers: column `plain`"),
    ] {
        assert!(refusal(&batch, text).contains(words), "{}", refusal(&batch, text));
    }
}

#[tokio::test]
async fn names_are_columns_first_and_members_second() {
    let inner = Fields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("deep.er", DataType::Int64, true),
    ]);
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let place = StructArray::new(inner.clone(), vec![Arc::clone(&x), Arc::clone(&x)], None);
    let outer = Fields::from(vec![Field::new("place", DataType::Struct(inner), true)]);
    let nested = StructArray::new(outer, vec![Arc::new(place.clone())], None);
    let batch = rows(vec![
        ("place", Arc::new(place)),
        ("nested", Arc::new(nested)),
        ("place.y", Arc::new(Int64Array::from(vec![7, 8]))),
        ("Depth", x),
    ]);
    check(
        &batch,
        &[
            ("place.x == 1", &[0]),
            ("place.x is null", &[1]),
            ("place.y == 8", &[1]),
            ("nested.place.x == 1", &[0]),
            ("(nested.place).x == 1", &[0]),
            ("nested is null", &[]),
        ],
    )
    .await;
    for (text, words) in [
        ("depth == 1", "did you mean `Depth`?"),
        ("plce.x == 1", "did you mean `place.y`?"),
        ("unheard == 1", "the columns are id, place"),
        ("Depht == 1", "did you mean `Depth`?"),
        ("place.z == 1", "no member `z`; its members are x, deep.er"),
        ("place == 1", "is Struct"),
        ("Depth.x == 1", "expected a struct"),
        ("true.x", "no members"),
        ("place within 'POINT (1 1)'", "column `place` is Struct"),
    ] {
        assert!(refusal(&batch, text).contains(words), "{}", refusal(&batch, text));
    }
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let batch = rows(vec![
        ("a", Arc::new(BooleanArray::from(vec![true]))),
        ("g", Arc::new(StringArray::from(vec!["x"]))),
    ]);
    let warnings =
        |text: &str| lower_filter(text, &FilterVariables::default(), &batch.schema()).unwrap().warnings;
    assert!(warnings("(a or a) and a").is_empty());
    let mixed = warnings("a or a and id > 3");
    assert!(
        mixed.len() == 1
            && mixed[0].contains("at line 1, column 8")
            && mixed[0].ends_with("(a or a) and id > 3"),
        "{mixed:?}"
    );
    assert!(warnings("a == null")[0].contains("`a == null` matches no row"));
    assert!(warnings("g ~ 'POINT (1 1)'")[0].contains("true for every row"));
    let many = warnings(&join((0..1000).map(|_| "a == null".to_owned()), " or "));
    assert!(many.len() < 20 && many.last().unwrap().contains("992 more"), "{many:?}");
}

#[test]
fn long_conjunctions_inside_are_refused() {
    let batch = wide(true);
    let chain = |operator| join((0..300).map(|i| format!("c{} > c{} + {i}", i % 40, (i + 1) % 40)), operator);
    let (all, any) = (chain(" and "), chain(" or "));
    for text in [
        format!("({all}) == true"),
        format!("({all}) or false"),
        format!("({any}) == false"),
        format!("c1 > 2 or not ({any})"),
        format!("({all} and c1 > 5) or ({all} and c2 > 5)"),
        format!("({all}) is null"),
    ] {
        assert!(refusal(&batch, &text).contains("more than 256 conditions"), "{}", &text[text.len() - 40..]);
    }
    for text in [any.clone(), all.clone(), format!("({any}) and c1 > 2"), format!("not ({any})")] {
        let lowered = lower_filter(&text, &FilterVariables::default(), &batch.schema());
        assert!(lowered.is_ok(), "{}", &text[text.len() - 40..]);
    }
}

/// Keywords need no blanks: what follows an operand is looked at once, however long it is.
#[test]
fn a_filter_without_blanks_is_read_in_one_go() {
    let text = format!("{}1 == {}", "1or".repeat(99_000), "x".repeat(700_000));
    let start = std::time::Instant::now();
    assert!(print_filter(&text).is_ok());
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn equal_comparisons_of_a_column_become_a_list() {
    let batch = rows(vec![
        ("n", Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))),
        ("s", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
    ]);
    let lowered = |text: &str| {
        lower_filter(text, &FilterVariables::default(), &batch.schema()).unwrap().expr.to_string()
    };
    assert_eq!(
        lowered("n == 1 or s == 'a' or 2 == n or n == 2 or n == 2.5"),
        r#"n IN ([Int64(1), Int64(2)]) OR s = Utf8("a") OR n IS NULL AND Boolean(NULL)"#
    );
    assert_eq!(
        lowered("n != 1 and (s != 'a' and n != 2)"),
        r#"n NOT IN ([Int64(1), Int64(2)]) AND s != Utf8("a")"#
    );
    let many = (0..30).map(|n| format!("n == {n}")).collect::<Vec<_>>().join(" or ");
    assert!(lowered(&many).starts_with("n >= Int64(0) AND n <= Int64(29) AND n IN ("), "{}", lowered(&many));
    check(
        &batch,
        &[(&many, &[0, 1]), (&format!("not ({many})"), &[]), (&format!("{many} or s == 'c'"), &[0, 1, 2])],
    )
    .await;
}

fn join(parts: impl Iterator<Item = String>, operator: &str) -> String {
    parts.collect::<Vec<_>>().join(operator)
}

/// A table of 40 columns of numbers, `c0` and so on, with a row of 7 and one of NULL, or of -1 where there is no NULL.
fn wide(nullable: bool) -> RecordBatch {
    let column = || -> ArrayRef { Arc::new(Int64Array::from(vec![Some(7), (!nullable).then_some(-1)])) };
    let names = (0..40).map(|i| format!("c{i}"));
    RecordBatch::try_from_iter_with_nullable(names.map(|name| (name, column(), nullable))).unwrap()
}

/// Counts matches as a query of its own, on a thread with the stack that tokio gives, by DataFusion's own passes.
fn count_on_a_default_thread(batch: RecordBatch, text: String) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let counted = async move {
        let filter = lower_filter(&text, &FilterVariables::default(), &batch.schema()).unwrap();
        SessionContext::new().read_batch(batch).unwrap().filter(filter.expr).unwrap().count().await.unwrap()
    };
    runtime.block_on(async { SpawnedTask::spawn(counted).join().await.unwrap() })
}

#[test]
fn twenty_thousand_terms_are_planned_and_run() {
    let terms = |count: usize| (0..count).map(|i| format!("c{} == {i}", i % 40));
    assert_eq!(count_on_a_default_thread(wide(true), join(terms(20_000), " or ")), 1);
    // Of no list, and of 20,000 different ones.
    let pairs = (0..1000).map(|i| format!("(c{} > {i} and c{} < 5)", i % 40, (i + 1) % 40));
    assert_eq!(count_on_a_default_thread(wide(true), join(pairs, " or ")), 0);
    let sums = (0..1000).map(|i| format!("c{} < c{} + {i}", i % 40, (i + 1) % 40));
    assert_eq!(count_on_a_default_thread(wide(true), join(sums, " or ")), 1);
}

#[test]
fn long_conjunctions_do_not_become_long_chains() {
    let pairs = || (0..1000).map(|i| format!("(c{} > {i} or c{} < 8)", i % 40, (i + 1) % 40));
    for nullable in [true, false] {
        let matches = if nullable { 1 } else { 2 };
        assert_eq!(count_on_a_default_thread(wide(nullable), join(pairs(), " and ")), matches);
    }
    // The negation of many is a conjunction of negations.
    let many = join((0..1000).map(|i| format!("c{} > c{} + {i}", i % 40, (i + 1) % 40)), " or ");
    assert_eq!(count_on_a_default_thread(wide(true), format!("not ({many})")), 1);
    assert_eq!(count_on_a_default_thread(wide(true), format!("c0 == 7 and not ({many}) and c1 == 7")), 1);
}

#[test]
fn lowering_takes_little_stack() {
    let batch = wide(true);
    let lowered = move || {
        for text in [
            join((0..20_000).map(|i| format!("c{} > {i}", i % 40)), " or "),
            join((0..20_000).map(|i| format!("c{} > {i}", i % 40)), " and "),
            format!("{}c0 == 1{}", "not (".repeat(31), ")".repeat(31)),
            format!("c0{} == 1", " + c1".repeat(60)),
        ] {
            drop(lower_filter(&text, &FilterVariables::default(), &batch.schema()).unwrap());
        }
        for text in
            [format!("c0{} == 1", " + c1".repeat(100)), join((0..200_000).map(|_| "c0".to_owned()), " or ")]
        {
            drop(lower_filter(&text, &FilterVariables::default(), &batch.schema()).unwrap_err());
        }
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(lowered).unwrap().join().unwrap();
}

#[tokio::test]
async fn geometry_columns_of_every_kind_are_tested_and_pruned_by() {
    let points = [Some((1.0, 1.0)), Some((20.0, 20.0)), None];
    let xy = |pick: fn((f64, f64)) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(points.map(|point| point.map(pick))))
    };
    let native = StructArray::new(
        Fields::from(vec![
            Field::new("x", DataType::Float64, true),
            Field::new("y", DataType::Float64, true),
        ]),
        vec![xy(|point| point.0), xy(|point| point.1)],
        Some(vec![true, true, false].into()),
    );
    let wkt = StringViewArray::from_iter(points.map(|point| point.map(|(x, y)| format!("POINT ({x} {y})"))));
    let wkb = |(x, y): (f64, f64)| {
        let mut bytes = vec![1, 1, 0, 0, 0];
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        bytes
    };
    let wkb = BinaryArray::from_iter(points.map(|point| point.map(wkb)));
    let batch = rows(vec![("wkt", Arc::new(wkt)), ("wkb", Arc::new(wkb)), ("native", Arc::new(native))]);
    let mut variables = FilterVariables::default();
    variables.set("area", "POLYGON((0 0,10 0,10 10,0 10,0 0))");
    let ctx = SessionContext::new();
    for column in ["wkt", "wkb", "native"] {
        for (text, expected) in [
            ("@ within $area", vec![0]),
            ("$area contains @", vec![0]),
            ("@ intersect $area", vec![0]),
            ("@ intersects 'POINT (20 20)'", vec![1]),
            ("not (@ within $area)", vec![1]),
            ("@ contains 'POINT (1 1)'", vec![0]),
            ("@ within null", vec![]),
        ] {
            let text = text.replace('@', column);
            assert_eq!(matching(&batch, &text, &variables).await, Ok(expected), "{text}");
            if text.contains("null") {
                continue;
            }
            // What the scan prunes by is found in it.
            let filter = lower_filter(&text, &variables, &batch.schema()).unwrap();
            let schema = batch.schema().to_dfschema().unwrap();
            let physical = ctx.create_physical_expr(filter.expr, &schema).unwrap();
            let found = SpatialConjunct::try_from_physical(&physical, &batch.schema()).expect(&text);
            assert_eq!(found.predicates.len(), 1);
        }
    }
    for (text, words) in [
        ("id within 'POINT (1 1)'", "column `id` is Int64"),
        ("wkt within 5", "the number 5"),
        ("wkt within 'POLYGON ((0 0, 1 1'", "at line 1, column 12"),
        ("wkt within (id == 1)", "needs geometries"),
        ("wkt ~ id", "`~` needs geometries"),
        ("wkt == wkb", "compared with column `wkb` is Binary"),
    ] {
        assert!(refusal(&batch, text).contains(words), "{}", refusal(&batch, text));
    }
    let mut long = FilterVariables::default();
    long.set("area", format!("POLYGON(({}", "1 1, ".repeat(100_000)));
    let error = lower_filter("wkt within $area", &long, &batch.schema()).unwrap_err().to_string();
    assert!(error.len() < 600, "{}", error.len());
}

#[tokio::test]
async fn h3_is_a_function_where_it_is_built_in() {
    let marked = |role: &str| HashMap::from([("class".to_owned(), role.to_owned())]);
    let field = |name: &str| Field::new(name, DataType::Float64, true);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        field("here").with_metadata(marked("latitude")),
        field("there").with_metadata(marked("longitude")),
        Field::new("g", DataType::Utf8, true),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(vec![0, 1])),
            Arc::new(Float64Array::from(vec![Some(0.0), None])),
            Arc::new(Float64Array::from(vec![0.0, 0.0])),
            Arc::new(StringArray::from(vec!["POLYGON ((-1 -1, 1 -1, 1 1, -1 1, -1 -1))", "POINT EMPTY"])),
        ],
    )
    .unwrap();
    let filters = [
        "h3(0) == '8075fffffffffff'",
        "h3(here, there, 0) == '8075fffffffffff'",
        "h3(g, 0) == '8075fffffffffff'",
    ];
    if cfg!(feature = "h3") {
        check(&batch, &filters.map(|text| (text, [0].as_slice()))).await;
        for text in [
            "h3(16) == 'x'",
            "h3(here) == 'x'",
            "h3(1.5) == 'x'",
            "h3(id, 3) == 'x'",
            "h3(g, here, 3) == 'x'",
            "h3(3)",
        ] {
            refusal(&batch, text);
        }
    } else {
        assert!(refusal(&batch, filters[0]).contains("feature `h3`"));
    }
}
