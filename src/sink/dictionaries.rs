//! Which columns get no dictionary: those whose values hardly repeat. A dictionary of them is as large as they are, and
//! takes time to make.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::HashSet;
use parquet::schema::types::ColumnPath;

/// Fewer rows tell nothing.
const MIN_ROWS: usize = 1_000;

/// The leaves of `sample`, the first rows of a file, of whose values more than half differ from all others.
pub(super) fn leaves_without_dictionary(sample: &RecordBatch) -> Vec<ColumnPath> {
    let mut leaves = Vec::new();
    if sample.num_rows() >= MIN_ROWS {
        for (field, column) in sample.schema_ref().fields().iter().zip(sample.columns()) {
            add_leaves(vec![field.name().clone()], column, &mut leaves);
        }
    }
    leaves
}

fn add_leaves(path: Vec<String>, column: &ArrayRef, leaves: &mut Vec<ColumnPath>) {
    match column.data_type() {
        DataType::Struct(fields) => {
            for (field, child) in fields.iter().zip(column.as_struct().columns()) {
                let path = path.iter().chain([field.name()]).cloned().collect();
                add_leaves(path, child, leaves);
            }
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {}
        other if other.is_nested() => {}
        _ if hardly_repeats(column) => leaves.push(ColumnPath::new(path)),
        _ => {}
    }
}

fn hardly_repeats(column: &ArrayRef) -> bool {
    let values = column.len() - column.null_count();
    if values < MIN_ROWS {
        return false;
    }
    let Ok(converter) = RowConverter::new(vec![SortField::new(column.data_type().clone())]) else {
        return false;
    };
    let Ok(rows) = converter.convert_columns(std::slice::from_ref(column)) else { return false };
    let mut distinct = HashSet::new();
    for row in &rows {
        distinct.insert(row.data());
        if 2 * distinct.len() > values {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray, StructArray};
    use datafusion::arrow::datatypes::Field;

    use super::*;

    #[test]
    fn values_that_differ_have_no_dictionary() {
        let rows = 0..2_000_i64;
        let unique: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
        let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.clone().map(|i| i as f64 / 3.0)));
        let few: ArrayRef =
            Arc::new(StringArray::from_iter_values(rows.clone().map(|i| format!("s{}", i % 50))));
        let nulls: ArrayRef = Arc::new(rows.map(|i| (i < 900).then_some(i)).collect::<Int64Array>());
        let inner = StructArray::from(vec![
            (Arc::new(Field::new("x", DataType::Float64, false)), floats),
            (Arc::new(Field::new("name", DataType::Utf8, false)), Arc::clone(&few)),
        ]);
        let sample = RecordBatch::try_from_iter([
            ("unique", unique),
            ("few", few),
            ("box", Arc::new(inner) as ArrayRef),
            ("nulls", nulls),
        ])
        .unwrap();
        let leaves: Vec<String> = leaves_without_dictionary(&sample).iter().map(ColumnPath::string).collect();
        assert_eq!(leaves, ["unique", "box.x"]);
        assert!(leaves_without_dictionary(&sample.slice(0, 500)).is_empty());
    }
}
