//! The reference's cases and its table, for the tests of this module and for those that use only the public API.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::Value;

/// The table of the case file.
pub(crate) fn table(text: &str) -> RecordBatch {
    let json: Value = serde_json::from_str(text).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let mut fields = vec![];
    let mut columns: Vec<ArrayRef> = vec![];
    for column in json["schema"].as_array().unwrap() {
        let name = column["name"].as_str().unwrap();
        let values: Vec<&Value> = rows.iter().map(|row| &row[name]).collect();
        let texts = || values.iter().map(|value| value.as_str());
        let as_type =
            |data_type| cast(&(Arc::new(texts().collect::<StringArray>()) as ArrayRef), &data_type).unwrap();
        let array: ArrayRef = match column["type"].as_str().unwrap() {
            "int64" => Arc::new(values.iter().map(|value| value.as_i64()).collect::<Int64Array>()),
            "double" => Arc::new(values.iter().map(|value| value.as_f64()).collect::<Float64Array>()),
            "bool" => Arc::new(values.iter().map(|value| value.as_bool()).collect::<BooleanArray>()),
            "string" => as_type(DataType::Utf8),
            "binary" => Arc::new(texts().map(|hex| hex.map(from_hex)).collect::<BinaryArray>()),
            "timestamp[us]" => as_type(DataType::Timestamp(TimeUnit::Microsecond, None)),
            "date32[day]" => as_type(DataType::Date32),
            other => panic!("{other}"),
        };
        let metadata = column["metadata"].as_object().unwrap().iter();
        let metadata = metadata.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
        let nullable = column["nullable"].as_bool().unwrap();
        fields.push(Field::new(name, array.data_type().clone(), nullable).with_metadata(metadata.collect()));
        columns.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What the case file expects: the answer of its evaluator that knows NULL; where that one has none, of the other one,
/// but for [`DIFFERENT`].
pub(crate) fn expected(case: &Value) -> Option<Vec<i64>> {
    let rows = if case["matches_arrow"].is_null() { &case["matches"] } else { &case["matches_arrow"] };
    Some(rows.as_array()?.iter().map(|id| id.as_i64().unwrap()).collect())
}

/// Cases that the evaluator without NULL answers, and this crate in another way.
pub(crate) const DIFFERENT: [(&str, Result<&[i64], &str>); 8] = [
    // A text is no number: false there, an error here, since it is a mistake in any filter.
    ("n == '3'", Err("column `n` is Int64, compared with the text \"3\"")),
    ("species == 3", Err("column `species` is Utf8, compared with the number 3")),
    ("id == $rid", Err("column `id` is Int64, compared with the text \"u-1\"")),
    // True and false are numbers there.
    ("1 < n < 3", Err("write `a < b and b < c`")),
    ("n < 3 < 2", Err("write `a < b and b < c`")),
    ("not n == 1", Err("put what it negates into parentheses")),
    ("not depth > 100", Err("put what it negates into parentheses")),
    // Nothing equals NULL.
    ("null == null", Ok(&[])),
];

/// Cases that neither evaluator answers, and extensions.
pub(crate) const ANSWERED: [(&str, &[i64]); 15] = [
    ("n % 2 == 1", &[2, 4, 7, 9, 12]),
    // A time with an offset against a column without: both are UTC.
    ("ts > $t", &[5, 6, 7, 8, 9, 10, 11, 12]),
    // The variable is a boolean, written as an integer.
    ("?", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    // A geometry that is NULL is no match.
    ("geo_null within 'POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))'", &[1, 5, 9]),
    ("geo_null is not null and geo_null within 'POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))'", &[1, 5, 9]),
    ("h3(geom, 5) == 'x'", &[]),
    ("name IS NOT NULL", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 12]),
    ("depth IS NOT NULL AND depth > 100", &[4, 7, 9, 10, 12]),
    ("name Is Null", &[3, 11]),
    ("name is NULL", &[3, 11]),
    ("name is Not null", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 12]),
    ("geom intersects 'POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))'", &[1, 2, 4, 5, 6, 7, 8, 9, 11]),
    ("n = 1", &[2, 7, 12]),
    ("NOT ok", &[3, 4, 6, 8, 11]),
    ("ok AND NOT nothing", &[2, 7, 10, 12]),
];
