//! From the statistics in a footer to the bounds of its row groups, and on to those of a table's columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use datafusion::common::Result;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use crate::dataset::ColumnBounds;

/// The bounds of all row groups of one file, one list per field of `schema`, which is the file's own, in its types.
/// Nothing is known of columns whose statistics cannot be read: their lists have no type; a scan does not need them.
pub(super) fn row_group_bounds(footer: &ParquetMetaData, schema: &Schema) -> Vec<ColumnBounds> {
    let rows: Vec<u64> =
        footer.row_groups().iter().map(|g| u64::try_from(g.num_rows()).unwrap_or(0)).collect();
    let unknown = || ColumnBounds::unknown(&DataType::Null, rows.len());
    let read = |field: &Field| match read_bounds(footer, schema, field, &rows) {
        Ok(bounds) => bounds.unwrap_or_else(unknown),
        Err(error) => {
            log::debug!("no statistics for column {:?}: {error}", field.name());
            unknown()
        }
    };
    schema.fields().iter().map(|field| read(field)).collect()
}

fn read_bounds(
    footer: &ParquetMetaData,
    schema: &Schema,
    field: &Field,
    rows: &[u64],
) -> Result<Option<ColumnBounds>> {
    let converter =
        StatisticsConverter::try_new(field.name(), schema, footer.file_metadata().schema_descr())?
            .with_missing_null_counts_as_zero(false);
    if field.data_type().is_nested() || converter.parquet_column_index().is_none() {
        return Ok(None);
    }
    let groups = || footer.row_groups().iter();
    let null_counts: UInt64Array = converter
        .row_group_null_counts(groups())?
        .iter()
        .zip(rows)
        .map(|(nulls, rows)| match (nulls, field.is_nullable()) {
            (_, false) => Some(0),
            // More NULLs than rows is a lie; what else the column says may be one too, but bounds were checked.
            (nulls, true) => nulls.filter(|nulls| nulls <= rows),
        })
        .collect();
    Ok(Some(ColumnBounds {
        min: with_signed_zeros(converter.row_group_mins(groups())?, Zero::Lower),
        max: with_signed_zeros(converter.row_group_maxes(groups())?, Zero::Upper),
        min_exact: exact(&converter.row_group_is_min_value_exact(groups())?, field),
        max_exact: exact(&converter.row_group_is_max_value_exact(groups())?, field),
        null_counts,
    }))
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

fn with_signed_zeros(bounds: ArrayRef, zero: Zero) -> ArrayRef {
    match bounds.data_type() {
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
    }
}

/// The bounds of a file's column as those of a table's column of type `data_type`. Where a value may not fit that type, which is
/// an error once it is read, NULLs are not counted.
pub(super) fn in_table_type(bounds: &ColumnBounds, data_type: &DataType) -> Result<ColumnBounds> {
    let (min, max) = (cast_bounds(&bounds.min, data_type)?, cast_bounds(&bounds.max, data_type)?);
    let null_counts = match fits_always(bounds.min.data_type(), data_type) {
        true => bounds.null_counts.clone(),
        false => {
            let fits = |i: usize| min.is_valid(i) && max.is_valid(i);
            let counts = bounds.null_counts.iter().enumerate();
            counts.map(|(i, nulls)| nulls.filter(|_| fits(i))).collect()
        }
    };
    Ok(ColumnBounds {
        min,
        max,
        min_exact: bounds.min_exact.clone(),
        max_exact: bounds.max_exact.clone(),
        null_counts,
    })
}

fn cast_bounds(bounds: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if bounds.data_type() == data_type {
        return Ok(Arc::clone(bounds));
    }
    if !keeps_order(bounds.data_type(), data_type) {
        return Ok(new_null_array(data_type, bounds.len()));
    }
    // What does not fit the table's type becomes unknown.
    Ok(cast_with_options(bounds, data_type, &CastOptions { safe: true, ..Default::default() })?)
}

/// Whether whatever has the one type is something of the other.
fn fits_always(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (from, to) if from == to => true,
        (from, Dictionary(_, to)) => fits_always(from, to),
        (Dictionary(_, from), to) => fits_always(from, to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (from, to) => (from.is_integer() || from.is_floating()) && to.is_floating(),
    }
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
