//! One schema for all files of a dataset: the union of their columns by name.
//!
//! A column that a file lacks is NULL there. Types widen where no value can change: integers to wider ones,
//! small integers and floats to wider floats, text and binary to any of their layouts, timestamps to the finer
//! unit, decimals to one that holds both, dictionaries to their values, lists and structs by their parts.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::OdpError;

/// The union of `schemas`, each with the path of its file.
///
/// Columns are in order of their first appearance and nullable unless all files have them not null.
/// # Errors
/// [`OdpError::SchemaMismatch`] for two types with no common one, naming the column and both files.
pub(crate) fn union_by_name<'a>(
    schemas: impl Iterator<Item = (&'a str, &'a Schema)>,
) -> Result<Schema, OdpError> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    let mut files = 0;
    for (path, schema) in schemas {
        // Most files have the columns of the file before, in their order.
        let mut hint = 0;
        for field in schema.fields() {
            let at = match columns.get(hint) {
                Some(column) if column.field.name() == field.name() => Some(hint),
                _ => columns.iter().position(|column| column.field.name() == field.name()),
            };
            match at {
                Some(at) => {
                    hint = at + 1;
                    columns[at].add(path, field)?;
                }
                None => columns.push(Column { field: Arc::clone(field), path, files: 1 }),
            }
        }
        files += 1;
    }
    let fields: Fields = columns
        .into_iter()
        .map(|column| match column.files == files {
            true => column.field,
            false => Arc::new(column.field.as_ref().clone().with_nullable(true)),
        })
        .collect();
    Ok(Schema::new(fields))
}

/// A column, the file that first had its type, and the number of files that have it.
struct Column<'a> {
    field: FieldRef,
    path: &'a str,
    files: usize,
}

impl<'a> Column<'a> {
    fn add(&mut self, path: &'a str, field: &FieldRef) -> Result<(), OdpError> {
        self.files += 1;
        if Arc::ptr_eq(&self.field, field) || self.field == *field {
            return Ok(());
        }
        let Some(data_type) = widen(self.field.data_type(), field.data_type()) else {
            return Err(OdpError::SchemaMismatch {
                first: self.path.to_owned(),
                second: path.to_owned(),
                reason: format!(
                    "column {:?} is {} in one and {} in the other",
                    field.name(),
                    self.field.data_type(),
                    field.data_type()
                ),
            });
        };
        if data_type != *self.field.data_type() {
            self.path = path;
        }
        let nullable = self.field.is_nullable() || field.is_nullable();
        self.field = Arc::new(self.field.as_ref().clone().with_data_type(data_type).with_nullable(nullable));
        Ok(())
    }
}

/// The type that holds every value of both, unchanged.
fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Dictionary(_, value), other) | (other, Dictionary(_, value)) => match other {
            Dictionary(_, other) => widen(value, other),
            other => widen(value, other),
        },
        (a, b) if a.is_integer() && b.is_integer() => widen_integers(a, b),
        (Float16, Float32) | (Float32, Float16) => Some(Float32),
        (Float64, Float16 | Float32) | (Float16 | Float32, Float64) => Some(Float64),
        (int, Float64) | (Float64, int) if matches!(int, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => {
            Some(Float64)
        }
        (int, Float32) | (Float32, int) if matches!(int, Int8 | Int16 | UInt8 | UInt16) => Some(Float32),
        (int, Float32) | (Float32, int) if matches!(int, Int32 | UInt32) => Some(Float64),
        (Utf8 | LargeUtf8, Utf8 | LargeUtf8) => Some(LargeUtf8),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Some(Utf8View),
        (Binary | LargeBinary, Binary | LargeBinary) => Some(LargeBinary),
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => Some(BinaryView),
        (Timestamp(unit, zone), Timestamp(other, other_zone)) if zone == other_zone => {
            Some(Timestamp(*unit.max(other), zone.clone()))
        }
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            let scale = (*s1).max(*s2);
            let integral = (i16::from(*p1) - i16::from(*s1)).max(i16::from(*p2) - i16::from(*s2));
            let precision = u8::try_from(integral + i16::from(scale)).ok().filter(|p| *p <= 38)?;
            Some(Decimal128(precision, scale))
        }
        (List(x), List(y)) => Some(List(widen_field(x, y)?)),
        (LargeList(x), LargeList(y)) => Some(LargeList(widen_field(x, y)?)),
        (FixedSizeList(x, n), FixedSizeList(y, m)) if n == m => Some(FixedSizeList(widen_field(x, y)?, *n)),
        (Map(x, sorted), Map(y, also)) => Some(Map(widen_field(x, y)?, *sorted && *also)),
        (Struct(x), Struct(y)) => widen_struct(x, y),
        _ => None,
    }
}

fn widen_field(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let data_type = widen(a.data_type(), b.data_type())?;
    let nullable = a.is_nullable() || b.is_nullable();
    Some(Arc::new(a.as_ref().clone().with_data_type(data_type).with_nullable(nullable)))
}

fn widen_struct(a: &Fields, b: &Fields) -> Option<DataType> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(a.len());
    for field in a {
        fields.push(match b.iter().find(|other| other.name() == field.name()) {
            Some(other) => widen_field(field, other)?,
            None => Arc::new(field.as_ref().clone().with_nullable(true)),
        });
    }
    let is_new = |field: &&FieldRef| !a.iter().any(|other| other.name() == field.name());
    let added = b.iter().filter(is_new).map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Some(DataType::Struct(fields.into_iter().chain(added).collect()))
}

fn widen_integers(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    /// Bits a signed integer needs to hold the type, and whether it has a sign.
    fn bits(t: &DataType) -> (u32, bool) {
        match t {
            Int8 => (8, true),
            Int16 => (16, true),
            Int32 => (32, true),
            Int64 => (64, true),
            UInt8 => (8, false),
            UInt16 => (16, false),
            UInt32 => (32, false),
            _ => (64, false),
        }
    }
    let ((x, x_signed), (y, y_signed)) = (bits(a), bits(b));
    if x_signed == y_signed {
        return Some(if x >= y { a.clone() } else { b.clone() });
    }
    let (signed, unsigned) = if x_signed { (x, y) } else { (y, x) };
    match signed.max(2 * unsigned) {
        16 => Some(Int16),
        32 => Some(Int32),
        64 => Some(Int64),
        _ => None,
    }
}

/// Columns of `declared` that the files cannot be cast to: the first one, with its file and type.
pub(crate) fn check_declared<'a>(
    declared: &Schema,
    schemas: impl Iterator<Item = (&'a str, &'a Schema)>,
) -> Result<(), OdpError> {
    for (path, schema) in schemas {
        for field in declared.fields() {
            if let Ok(found) = schema.field_with_name(field.name())
                && !datafusion::arrow::compute::can_cast_types(found.data_type(), field.data_type())
            {
                return Err(OdpError::InvalidData {
                    location: path.to_owned(),
                    source: format!(
                        "column {:?} is {}, the table declares {}",
                        field.name(),
                        found.data_type(),
                        field.data_type()
                    )
                    .into(),
                });
            }
        }
    }
    Ok(())
}

/// `field` as a nullable column, for partition columns.
pub(crate) fn partition_field(name: &str, data_type: &DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type.clone(), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::TimeUnit;

    #[test]
    fn widening_is_symmetric_and_safe() {
        use DataType::*;
        let nano = Timestamp(TimeUnit::Nanosecond, None);
        let table = [
            (Int8, Int64, Some(Int64)),
            (UInt8, Int8, Some(Int16)),
            (UInt16, Int8, Some(Int32)),
            (UInt32, Int32, Some(Int64)),
            (UInt64, Int64, None),
            (Int32, Float64, Some(Float64)),
            (Int64, Float64, None),
            (Int32, Float32, Some(Float64)),
            (Int16, Float32, Some(Float32)),
            (Utf8, LargeUtf8, Some(LargeUtf8)),
            (Utf8, Utf8View, Some(Utf8View)),
            (Binary, BinaryView, Some(BinaryView)),
            (Utf8, Binary, None),
            (Utf8, Int32, None),
            (Null, Utf8, Some(Utf8)),
            (Timestamp(TimeUnit::Millisecond, None), nano.clone(), Some(nano.clone())),
            (Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), nano, None),
            (Decimal128(10, 2), Decimal128(8, 4), Some(Decimal128(12, 4))),
            (Decimal128(38, 0), Decimal128(38, 10), None),
            (Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8, Some(Utf8)),
            (Boolean, Int8, None),
            (Date32, Timestamp(TimeUnit::Second, None), None),
        ];
        for (a, b, expected) in table {
            assert_eq!(widen(&a, &b), expected, "{a} {b}");
            assert_eq!(widen(&b, &a), expected, "{b} {a}");
        }
    }

    #[test]
    fn types_that_differ_in_metadata_alone_are_one() {
        let number = |id: &str| {
            let metadata = [("PARQUET:field_id".to_owned(), id.to_owned())].into();
            Arc::new(Field::new("value", DataType::Int32, true).with_metadata(metadata))
        };
        let entries = |id: &str| {
            let key = Arc::new(Field::new("key", DataType::Utf8, false));
            Arc::new(Field::new("entries", DataType::Struct(vec![key, number(id)].into()), false))
        };
        for [a, b] in [
            ["1", "2"].map(|id| DataType::List(number(id))),
            ["1", "2"].map(|id| DataType::FixedSizeList(number(id), 2)),
            ["1", "2"].map(|id| DataType::Map(entries(id), false)),
            ["1", "2"].map(|id| DataType::Struct(vec![number(id)].into())),
        ] {
            assert_ne!(a, b);
            assert_eq!(widen(&a, &b), Some(a));
        }
    }

    #[test]
    fn missing_columns_are_nullable_and_errors_name_both_files() {
        let one = Schema::new(vec![
            Field::new("a", DataType::Int32, false),
            Field::new("b", DataType::Utf8, false),
        ]);
        let two = Schema::new(vec![
            Field::new("a", DataType::Int64, false),
            Field::new("c", DataType::Utf8, false),
        ]);
        let union = union_by_name([("1", &one), ("2", &two)].into_iter()).unwrap();
        let shown: Vec<_> = union
            .fields()
            .iter()
            .map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable()))
            .collect();
        assert_eq!(
            shown,
            [("a", DataType::Int64, false), ("b", DataType::Utf8, true), ("c", DataType::Utf8, true)]
        );
        let three = Schema::new(vec![Field::new("a", DataType::Utf8, false)]);
        let error = union_by_name([("one", &one), ("two", &two), ("three", &three)].into_iter()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("two") && message.contains("three") && message.contains("\"a\""),
            "{message}"
        );
    }
}
