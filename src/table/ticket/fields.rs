//! Columns of a ticket as JSON.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef,
    TimeUnit, validate_decimal_precision_and_scale,
};
use datafusion::common::ScalarValue;
use serde_json::{Map, Value, json};

use super::text::invalid;
use crate::error::OdpError;

/// Longest name of a type that is read, in bytes. What is in it is parsed by recursion.
const MAX_TYPE_NAME: usize = 128;

/// Most values that the columns of one row hold. A column that the file lacks is made of as many NULLs, for each row.
const MAX_WIDTH: u64 = 1 << 18;

/// `[name, type, nullable, metadata]`, without the last if there is none.
pub(super) fn field_to_json(field: &Field) -> Value {
    let mut parts =
        vec![json!(field.name()), type_to_json(field.data_type()), json!(u8::from(field.is_nullable()))];
    if !field.metadata().is_empty() {
        // Sorted: the same ticket is the same text.
        let sorted: std::collections::BTreeMap<_, _> = field.metadata().iter().collect();
        parts.push(json!(sorted));
    }
    Value::Array(parts)
}

pub(super) fn field_from_json(value: &Value) -> Result<FieldRef, OdpError> {
    let bad = || invalid(format!("{value} is not a column"));
    let parts = value.as_array().ok_or_else(bad)?;
    let (name, data_type, nullable, metadata) = match parts.as_slice() {
        [name, data_type, nullable] => (name, data_type, nullable, None),
        [name, data_type, nullable, metadata] => (name, data_type, nullable, Some(metadata)),
        _ => return Err(bad()),
    };
    let is_nullable = match nullable.as_u64() {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(bad()),
    };
    let field = Field::new(name.as_str().ok_or_else(bad)?, type_from_json(data_type)?, is_nullable);
    let Some(metadata) = metadata else { return Ok(Arc::new(field)) };
    let pairs = metadata.as_object().ok_or_else(bad)?;
    let pairs = pairs.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    let pairs: HashMap<String, String> = pairs.collect::<Option<_>>().ok_or_else(bad)?;
    Ok(Arc::new(field.with_metadata(pairs)))
}

/// A type's name; of one with parts, an object of its kind and the parts.
pub(super) fn type_to_json(data_type: &DataType) -> Value {
    match data_type {
        DataType::List(item) => json!({ "list": field_to_json(item) }),
        DataType::LargeList(item) => json!({ "large_list": field_to_json(item) }),
        DataType::ListView(item) => json!({ "list_view": field_to_json(item) }),
        DataType::LargeListView(item) => json!({ "large_list_view": field_to_json(item) }),
        DataType::FixedSizeList(item, size) => json!({ "fixed_list": [field_to_json(item), size] }),
        DataType::Struct(fields) => {
            json!({ "struct": fields.iter().map(|field| field_to_json(field)).collect::<Vec<_>>() })
        }
        DataType::Map(entries, is_sorted) => json!({ "map": [field_to_json(entries), is_sorted] }),
        DataType::Dictionary(key, value) => json!({ "dictionary": [type_to_json(key), type_to_json(value)] }),
        simple => json!(simple.to_string()),
    }
}

pub(super) fn type_from_json(value: &Value) -> Result<DataType, OdpError> {
    let bad = || invalid(format!("{value} is not a type of a column"));
    if let Some(name) = value.as_str() {
        let parsed = Some(name).filter(|name| name.len() <= MAX_TYPE_NAME).map(DataType::from_str);
        // Those of parts are objects: JSON has a limit of nesting.
        return parsed.and_then(Result::ok).filter(is_simple).ok_or_else(bad);
    }
    let mut object = value.as_object().ok_or_else(bad)?.iter();
    let (Some((kind, parts)), None) = (object.next(), object.next()) else { return Err(bad()) };
    let pair = || match parts.as_array().map(Vec::as_slice) {
        Some([first, second]) => Ok((first, second)),
        _ => Err(bad()),
    };
    let data_type = match kind.as_str() {
        "list" => DataType::List(field_from_json(parts)?),
        "large_list" => DataType::LargeList(field_from_json(parts)?),
        "list_view" => DataType::ListView(field_from_json(parts)?),
        "large_list_view" => DataType::LargeListView(field_from_json(parts)?),
        "fixed_list" => {
            let (item, size) = pair()?;
            let size = size.as_i64().and_then(|size| i32::try_from(size).ok()).ok_or_else(bad)?;
            DataType::FixedSizeList(field_from_json(item)?, size)
        }
        "struct" => {
            let fields = parts.as_array().ok_or_else(bad)?;
            DataType::Struct(fields.iter().map(field_from_json).collect::<Result<_, _>>()?)
        }
        "map" => {
            let (entries, is_sorted) = pair()?;
            DataType::Map(field_from_json(entries)?, is_sorted.as_bool().ok_or_else(bad)?)
        }
        "dictionary" => {
            let (key, value) = pair()?;
            DataType::Dictionary(Box::new(type_from_json(key)?), Box::new(type_from_json(value)?))
        }
        _ => return Err(bad()),
    };
    if has_valid_parts(&data_type) { Ok(data_type) } else { Err(bad()) }
}

/// Whether the type has no parts, and arrays of it exist.
fn is_simple(data_type: &DataType) -> bool {
    fn is_decimal<T: DecimalType>(precision: u8, scale: i8) -> bool {
        validate_decimal_precision_and_scale::<T>(precision, scale).is_ok()
    }
    match data_type {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => false,
        DataType::FixedSizeBinary(size) => *size >= 0,
        DataType::Time32(unit) => matches!(unit, TimeUnit::Second | TimeUnit::Millisecond),
        DataType::Time64(unit) => matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond),
        DataType::Decimal32(precision, scale) => is_decimal::<Decimal32Type>(*precision, *scale),
        DataType::Decimal64(precision, scale) => is_decimal::<Decimal64Type>(*precision, *scale),
        DataType::Decimal128(precision, scale) => is_decimal::<Decimal128Type>(*precision, *scale),
        DataType::Decimal256(precision, scale) => is_decimal::<Decimal256Type>(*precision, *scale),
        other => !other.is_nested(),
    }
}

/// Whether arrays of a type with such parts exist.
fn has_valid_parts(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(_, size) => *size >= 0,
        DataType::Map(entries, _) => {
            matches!(entries.data_type(), DataType::Struct(pair) if pair.len() == 2 && !entries.is_nullable())
        }
        DataType::Dictionary(key, value) => key.is_dictionary_key_type() && is_simple(value),
        _ => true,
    }
}

/// # Errors
/// [`OdpError::InvalidTicket`] if a row of `fields` has more values than the limit.
pub(super) fn check_width(fields: &[FieldRef]) -> Result<(), OdpError> {
    let width = fields.iter().map(|field| width(field.data_type())).fold(0, u64::saturating_add);
    match width <= MAX_WIDTH {
        true => Ok(()),
        false => {
            Err(invalid(format!("its columns hold {width} values in each row, at most {MAX_WIDTH} are read")))
        }
    }
}

/// Values in a row of a column of this type, if all of it is NULL.
fn width(data_type: &DataType) -> u64 {
    let positive = |size: i32| u64::try_from(size).unwrap_or(0);
    match data_type {
        DataType::FixedSizeBinary(size) => 1 + positive(*size) / 8,
        DataType::FixedSizeList(item, size) => positive(*size).saturating_mul(width(item.data_type())).max(1),
        DataType::Struct(fields) => {
            fields.iter().map(|field| width(field.data_type())).fold(1, u64::saturating_add)
        }
        _ => 1,
    }
}

/// # Errors
/// [`OdpError::Unsupported`] if the field does not come back from JSON as it is.
pub(super) fn check(field: &FieldRef) -> Result<(), OdpError> {
    match field_from_json(&field_to_json(field)) {
        Ok(back) if back == *field => Ok(()),
        _ => {
            let what = format!("a ticket for column {:?} of type {}", field.name(), field.data_type());
            Err(OdpError::Unsupported { what })
        }
    }
}

pub(super) fn value_to_json(name: &str, value: &ScalarValue) -> Value {
    let text = match value.is_null() {
        true => None,
        false => {
            value.cast_to(&DataType::Utf8).ok().and_then(|v| v.try_as_str().flatten().map(str::to_owned))
        }
    };
    json!([name, type_to_json(&value.data_type()), text])
}

pub(super) fn value_from_json(value: &Value) -> Result<(String, ScalarValue), OdpError> {
    let bad = || invalid(format!("{value} is not the value of a partition column"));
    let Some([name, data_type, text]) = value.as_array().map(Vec::as_slice) else { return Err(bad()) };
    // As partition columns may be declared.
    let data_type = type_from_json(data_type)?;
    let is_scalar = match &data_type {
        DataType::Dictionary(_, value) => is_simple(value),
        simple => is_simple(simple) && !matches!(simple, DataType::FixedSizeBinary(_)),
    };
    if !is_scalar {
        return Err(bad());
    }
    let parsed = match text {
        Value::Null => ScalarValue::try_from(&data_type),
        text => ScalarValue::from(text.as_str().ok_or_else(bad)?).cast_to(&data_type),
    };
    Ok((name.as_str().ok_or_else(bad)?.to_owned(), parsed.map_err(|_| bad())?))
}

/// # Errors
/// [`OdpError::Unsupported`] if the value does not come back from JSON as it is.
pub(super) fn check_value(name: &str, value: &ScalarValue) -> Result<(), OdpError> {
    match value_from_json(&value_to_json(name, value)) {
        Ok((_, back)) if back == *value => Ok(()),
        _ => Err(OdpError::Unsupported { what: format!("a ticket for partition column {name:?} = {value}") }),
    }
}

/// The entry `key` of `object`.
pub(super) fn entry<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, OdpError> {
    object.get(key).ok_or_else(|| invalid(format!("it has no {key:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{Fields, TimeUnit};

    #[test]
    fn every_kind_of_column_comes_back_as_it_was() {
        let number = |name: &str| Arc::new(Field::new(name, DataType::Float64, false));
        let annotated = Field::new("x", DataType::Int8, true).with_metadata(HashMap::from([
            ("a".to_owned(), "b".to_owned()),
            ("c".to_owned(), String::new()),
        ]));
        let entries = DataType::Struct(Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int32, true),
        ]));
        for data_type in [
            DataType::Utf8View,
            DataType::BinaryView,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Oslo".into())),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Decimal128(20, -3),
            DataType::Decimal256(60, 7),
            DataType::FixedSizeBinary(16),
            DataType::Null,
            DataType::Boolean,
            DataType::List(number("item")),
            DataType::LargeList(number("odd \"name\"")),
            DataType::FixedSizeList(number("xy"), 2),
            DataType::Struct(Fields::from(vec![annotated.clone(), Field::new("", DataType::Utf8, true)])),
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ] {
            let field = Arc::new(annotated.clone().with_data_type(data_type));
            check(&field).unwrap();
        }
        let values = Arc::new(annotated.with_data_type(DataType::Int64));
        let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        let runs = Field::new("r", DataType::RunEndEncoded(ends, values), true);
        assert!(check(&Arc::new(runs)).is_err(), "the metadata of the values are lost");
    }

    #[test]
    fn types_that_no_array_has_are_refused_and_so_is_depth() {
        let mut deep = json!("Int8");
        for _ in 0..100 {
            deep = json!({ "list": ["item", deep, 1] });
        }
        assert!(serde_json::from_str::<Value>(&deep.to_string()).is_err(), "JSON has a limit of nesting");
        for wrong in ["Time32(ns)", "Time64(s)", "Decimal32(10, 2)", "Decimal256(77, 2)", "Decimal128(5, 6)"]
        {
            assert!(type_from_json(&json!(wrong)).is_err(), "{wrong}");
        }
        for nested in [
            "Struct(\"a\": Int8)",
            "Dictionary(Int8, Utf8)",
            "RunEndEncoded(\"r\": non-null Int8, \"v\": Int8)",
        ] {
            assert!(DataType::from_str(nested).is_ok(), "{nested}");
            assert!(type_from_json(&json!(nested)).is_err(), "{nested}");
        }
    }

    #[test]
    fn partition_values_come_back_with_their_type() {
        for value in [
            ScalarValue::Int64(Some(-5)),
            ScalarValue::Int32(None),
            ScalarValue::Date32(Some(19000)),
            ScalarValue::Utf8(Some("a=ø/%".into())),
            ScalarValue::Float64(Some(0.1)),
            ScalarValue::Boolean(Some(true)),
            ScalarValue::Decimal128(Some(-1250), 9, 2),
            ScalarValue::Dictionary(Box::new(DataType::UInt16), Box::new(ScalarValue::from("a"))),
        ] {
            check_value("p", &value).unwrap();
        }
    }
}
