//! From the statistics in a footer to the bounds of its row groups, in the table's types.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use crate::dataset::{BatchBounds, ColumnBounds};

/// The bounds of all row groups of one file, for the columns of `table_schema` and then `partition_values`.
///
/// `file_schema` is the Arrow schema of the file itself.
pub(crate) fn row_group_bounds(
    footer: &ParquetMetaData,
    file_schema: &Schema,
    table_schema: &Schema,
    partition_values: &[ScalarValue],
) -> Result<BatchBounds> {
    let rows: UInt64Array =
        footer.row_groups().iter().map(|g| Some(u64::try_from(g.num_rows()).unwrap_or(0))).collect();
    let mut columns = Vec::with_capacity(table_schema.fields().len() + partition_values.len());
    for field in table_schema.fields() {
        columns.push(match file_schema.field_with_name(field.name()) {
            Err(_) => ColumnBounds::all_null(field.data_type(), &rows),
            Ok(found) => column_bounds(footer, file_schema, found, field.data_type(), &rows),
        });
    }
    for value in partition_values {
        columns.push(ColumnBounds::constant(value, &rows)?);
    }
    Ok(BatchBounds { rows, columns })
}

/// Unknown for every column whose statistics cannot be read; a scan does not need them.
fn column_bounds(
    footer: &ParquetMetaData,
    file_schema: &Schema,
    found: &Field,
    data_type: &DataType,
    rows: &UInt64Array,
) -> ColumnBounds {
    read_bounds(footer, file_schema, found, data_type, rows).unwrap_or_else(|error| {
        log::debug!("no statistics for column {:?}: {error}", found.name());
        ColumnBounds::unknown(data_type, rows.len())
    })
}

fn read_bounds(
    footer: &ParquetMetaData,
    file_schema: &Schema,
    found: &Field,
    data_type: &DataType,
    rows: &UInt64Array,
) -> Result<ColumnBounds> {
    let parquet_schema = footer.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(found.name(), file_schema, parquet_schema)?
        .with_missing_null_counts_as_zero(false);
    if found.data_type().is_nested() || converter.parquet_column_index().is_none() {
        return Ok(ColumnBounds::unknown(data_type, rows.len()));
    }
    let groups = || footer.row_groups().iter();
    let null_counts: UInt64Array = converter
        .row_group_null_counts(groups())?
        .iter()
        .zip(rows.values())
        .map(|(nulls, rows)| match (nulls, found.is_nullable()) {
            (_, false) => Some(0),
            // More NULLs than rows is a lie; what else the column says may be one too, but bounds were checked.
            (nulls, true) => nulls.filter(|nulls| nulls <= rows),
        })
        .collect();
    Ok(ColumnBounds {
        min: to_table_type(converter.row_group_mins(groups())?, data_type, Zero::Lower)?,
        max: to_table_type(converter.row_group_maxes(groups())?, data_type, Zero::Upper)?,
        min_exact: exact(&converter.row_group_is_min_value_exact(groups())?, found),
        max_exact: exact(&converter.row_group_is_max_value_exact(groups())?, found),
        null_counts,
    })
}

/// Bounds of fixed-width values are values unless the writer says otherwise; those of text and binary only if it says
/// so.
fn exact(flags: &BooleanArray, field: &Field) -> BooleanArray {
    let is_fixed = field.data_type().is_primitive() || *field.data_type() == DataType::Boolean;
    flags.iter().map(|flag| Some(flag.unwrap_or(false) || is_fixed)).collect()
}

/// A zero bound says nothing of the sign of zeros.
#[derive(Clone, Copy)]
enum Zero {
    Lower,
    Upper,
}

fn to_table_type(bounds: ArrayRef, data_type: &DataType, zero: Zero) -> Result<ArrayRef> {
    let bounds: ArrayRef = match bounds.data_type() {
        DataType::Float64 => {
            let widened = if matches!(zero, Zero::Lower) { -0.0 } else { 0.0 };
            let values = bounds.as_primitive::<Float64Type>();
            Arc::new(
                values
                    .iter()
                    .map(|v| v.map(|v| if v == 0.0 { widened } else { v }))
                    .collect::<Float64Array>(),
            )
        }
        DataType::Float32 => {
            let widened = if matches!(zero, Zero::Lower) { -0.0 } else { 0.0 };
            let values = bounds.as_primitive::<Float32Type>();
            Arc::new(
                values
                    .iter()
                    .map(|v| v.map(|v| if v == 0.0 { widened } else { v }))
                    .collect::<Float32Array>(),
            )
        }
        _ => bounds,
    };
    if bounds.data_type() == data_type {
        return Ok(bounds);
    }
    if !keeps_order(bounds.data_type(), data_type) {
        return Ok(new_null_array(data_type, bounds.len()));
    }
    // What does not fit the table's type becomes unknown.
    Ok(cast_with_options(&bounds, data_type, &CastOptions { safe: true, ..Default::default() })?)
}

/// Whether a cast keeps values in their order, so that cast bounds bound the cast values. A declared schema may ask for
/// casts that do not: the texts `"10"` and `"9"` as numbers.
pub(super) fn keeps_order(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (from, Dictionary(_, to)) => from == to.as_ref() || keeps_order(from, to),
        (Dictionary(_, from), to) => from.as_ref() == to || keeps_order(from, to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (Timestamp(_, zone), Timestamp(_, other)) => zone == other,
        (Decimal128(_, from), Decimal128(_, to)) => from <= to,
        (from, to) if from.is_integer() => to.is_integer() || to.is_floating(),
        (from, to) => from.is_floating() && to.is_floating(),
    }
}
