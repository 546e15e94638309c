//! Partition values as text: exact to and from typed values, and read from `key=value` segments of paths.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, TimeUnit, i256};
use datafusion::common::ScalarValue;
use percent_encoding::percent_decode_str;

use crate::error::OdpError;

/// The segment value that stands for NULL, in Hive and all that read its directories.
pub(crate) const NULL_SEGMENT: &str = "__HIVE_DEFAULT_PARTITION__";

const SECONDS_PER_DAY: i64 = 86_400;
const MILLISECONDS_PER_DAY: i64 = 1_000 * SECONDS_PER_DAY;

/// A text that no value of a type has.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a {data_type}")]
pub(crate) struct InvalidPartitionText {
    text: String,
    data_type: DataType,
}

/// Whether columns of this type can be partition columns: neither nested, nor an interval.
pub(crate) fn is_partition_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_partition_type(values),
        DataType::Interval(_) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        other => !other.is_nested(),
    }
}

/// The exact text of a value: [`partition_value_from_text`] reads the same value from it. `None` is NULL.
///
/// Dates and times are those of the calendar, in UTC with a `Z` if they have a zone, and plain integers in their
/// unit where they are outside the years 0 to 9999 or, for times, outside a day. Binary values are hexadecimal.
/// Each value of a type has another text; all NaNs have one.
/// # Errors
/// [`OdpError::Unsupported`] for types that [`is_partition_type`] refuses.
pub(crate) fn partition_value_text(value: &ScalarValue) -> Result<Option<String>, OdpError> {
    use ScalarValue::*;
    if value.is_null() {
        return Ok(None);
    }
    let text = match value {
        Dictionary(_, value) => return partition_value_text(value),
        Boolean(Some(v)) => v.to_string(),
        Int8(Some(v)) => v.to_string(),
        Int16(Some(v)) => v.to_string(),
        Int32(Some(v)) => v.to_string(),
        Int64(Some(v)) => v.to_string(),
        UInt8(Some(v)) => v.to_string(),
        UInt16(Some(v)) => v.to_string(),
        UInt32(Some(v)) => v.to_string(),
        UInt64(Some(v)) => v.to_string(),
        // `Debug` of floats is their shortest text, with an exponent where they are large or small.
        Float16(Some(v)) => format!("{:?}", v.to_f32()),
        Float32(Some(v)) => format!("{v:?}"),
        Float64(Some(v)) => format!("{v:?}"),
        Utf8(Some(v)) | LargeUtf8(Some(v)) | Utf8View(Some(v)) => v.clone(),
        Binary(Some(v)) | LargeBinary(Some(v)) | BinaryView(Some(v)) | FixedSizeBinary(_, Some(v)) => {
            v.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        Decimal32(Some(v), _, scale) => decimal_text(&v.to_string(), *scale),
        Decimal64(Some(v), _, scale) => decimal_text(&v.to_string(), *scale),
        Decimal128(Some(v), _, scale) => decimal_text(&v.to_string(), *scale),
        Decimal256(Some(v), _, scale) => decimal_text(&v.to_string(), *scale),
        Date32(Some(v)) => date_text(i64::from(*v)).unwrap_or_else(|| v.to_string()),
        Date64(Some(v)) => date64_text(*v),
        Time32Second(Some(v)) => time_text(i64::from(*v), TimeUnit::Second),
        Time32Millisecond(Some(v)) => time_text(i64::from(*v), TimeUnit::Millisecond),
        Time64Microsecond(Some(v)) => time_text(*v, TimeUnit::Microsecond),
        Time64Nanosecond(Some(v)) => time_text(*v, TimeUnit::Nanosecond),
        TimestampSecond(Some(v), zone) => timestamp_text(*v, TimeUnit::Second, zone.is_some()),
        TimestampMillisecond(Some(v), zone) => timestamp_text(*v, TimeUnit::Millisecond, zone.is_some()),
        TimestampMicrosecond(Some(v), zone) => timestamp_text(*v, TimeUnit::Microsecond, zone.is_some()),
        TimestampNanosecond(Some(v), zone) => timestamp_text(*v, TimeUnit::Nanosecond, zone.is_some()),
        DurationSecond(Some(v))
        | DurationMillisecond(Some(v))
        | DurationMicrosecond(Some(v))
        | DurationNanosecond(Some(v)) => v.to_string(),
        other => {
            return Err(OdpError::Unsupported {
                what: format!("partition values of type {}", other.data_type()),
            });
        }
    };
    Ok(Some(text))
}

/// The value of type `data_type` that [`partition_value_text`] wrote as `text`. `None` is NULL.
pub(crate) fn partition_value_from_text(
    text: Option<&str>,
    data_type: &DataType,
) -> Result<ScalarValue, InvalidPartitionText> {
    let read = match text {
        None => ScalarValue::try_from(data_type).ok(),
        Some(text) => parse(text, data_type),
    };
    read.ok_or_else(|| InvalidPartitionText {
        text: text.unwrap_or("NULL").to_owned(),
        data_type: data_type.clone(),
    })
}

/// Key and value of a `key=value` segment of a path, without percent-encoding; a value of `None` is NULL.
///
/// `None` for other segments.
pub(crate) fn parse_partition_segment(segment: &str) -> Option<(String, Option<String>)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (key, value) = segment.split_once('=')?;
    (!key.is_empty()).then(|| (decode(key), (value != NULL_SEGMENT).then(|| decode(value))))
}

fn parse(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Dictionary(keys, values) => {
            ScalarValue::Dictionary(keys.clone(), Box::new(parse(text, values)?))
        }
        DataType::Boolean => ScalarValue::Boolean(Some(text.parse().ok()?)),
        DataType::Int8 => ScalarValue::Int8(Some(text.parse().ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(text.parse().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(text.parse().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(text.parse().ok()?)),
        DataType::UInt8 => ScalarValue::UInt8(Some(text.parse().ok()?)),
        DataType::UInt16 => ScalarValue::UInt16(Some(text.parse().ok()?)),
        DataType::UInt32 => ScalarValue::UInt32(Some(text.parse().ok()?)),
        DataType::UInt64 => ScalarValue::UInt64(Some(text.parse().ok()?)),
        DataType::Float16 => {
            let value = <Float16Type as ArrowPrimitiveType>::Native::from_f32(text.parse().ok()?);
            ScalarValue::Float16(Some(value))
        }
        DataType::Float32 => ScalarValue::Float32(Some(text.parse().ok()?)),
        DataType::Float64 => ScalarValue::Float64(Some(text.parse().ok()?)),
        DataType::Utf8 => ScalarValue::Utf8(Some(text.to_owned())),
        DataType::LargeUtf8 => ScalarValue::LargeUtf8(Some(text.to_owned())),
        DataType::Utf8View => ScalarValue::Utf8View(Some(text.to_owned())),
        DataType::Binary => ScalarValue::Binary(Some(bytes_of(text)?)),
        DataType::LargeBinary => ScalarValue::LargeBinary(Some(bytes_of(text)?)),
        DataType::BinaryView => ScalarValue::BinaryView(Some(bytes_of(text)?)),
        DataType::FixedSizeBinary(size) => {
            let bytes = bytes_of(text).filter(|bytes| usize::try_from(*size) == Ok(bytes.len()))?;
            ScalarValue::FixedSizeBinary(*size, Some(bytes))
        }
        DataType::Decimal32(precision, scale) => {
            ScalarValue::Decimal32(Some(digits_of(text, *scale)?.parse().ok()?), *precision, *scale)
        }
        DataType::Decimal64(precision, scale) => {
            ScalarValue::Decimal64(Some(digits_of(text, *scale)?.parse().ok()?), *precision, *scale)
        }
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(digits_of(text, *scale)?.parse().ok()?), *precision, *scale)
        }
        DataType::Decimal256(precision, scale) => {
            let value = i256::from_string(&digits_of(text, *scale)?)?;
            ScalarValue::Decimal256(Some(value), *precision, *scale)
        }
        DataType::Date32 => {
            let days = text.parse().ok().or_else(|| i32::try_from(days_of(text)?).ok())?;
            ScalarValue::Date32(Some(days))
        }
        DataType::Date64 => {
            let midnight = || days_of(text)?.checked_mul(MILLISECONDS_PER_DAY);
            let value = text.parse().ok().or_else(midnight);
            ScalarValue::Date64(Some(value.or_else(|| timestamp_of(text, TimeUnit::Millisecond, false))?))
        }
        DataType::Time32(TimeUnit::Second) => {
            ScalarValue::Time32Second(Some(time_of(text, TimeUnit::Second)?.try_into().ok()?))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            ScalarValue::Time32Millisecond(Some(time_of(text, TimeUnit::Millisecond)?.try_into().ok()?))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            ScalarValue::Time64Microsecond(Some(time_of(text, TimeUnit::Microsecond)?))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            ScalarValue::Time64Nanosecond(Some(time_of(text, TimeUnit::Nanosecond)?))
        }
        DataType::Timestamp(unit, zone) => {
            let value = text.parse().ok().or_else(|| timestamp_of(text, *unit, zone.is_some()));
            let (value, zone) = (Some(value?), zone.clone());
            match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(value, zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(value, zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(value, zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(value, zone),
            }
        }
        DataType::Duration(unit) => {
            let value = Some(text.parse().ok()?);
            match unit {
                TimeUnit::Second => ScalarValue::DurationSecond(value),
                TimeUnit::Millisecond => ScalarValue::DurationMillisecond(value),
                TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(value),
                TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(value),
            }
        }
        _ => return None,
    })
}

fn bytes_of(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hexadecimal.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// `unscaled`, an integer, as the decimal number that it is with `scale` digits after the point.
fn decimal_text(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    let places = usize::from(scale.unsigned_abs());
    if scale == 0 || (scale < 0 && digits == "0") {
        return unscaled.to_owned();
    }
    if scale < 0 {
        return format!("{unscaled}{}", "0".repeat(places));
    }
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// The unscaled integer of a decimal number.
fn digits_of(text: &str, scale: i8) -> Option<String> {
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        let is_plain = scale == 0 || text == "0";
        return if is_plain {
            Some(text.to_owned())
        } else {
            text.strip_suffix(&"0".repeat(places)).map(String::from)
        };
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fits = fraction.len() <= places && fraction.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| format!("{whole}{fraction:0<places$}"))
}

/// `YYYY-MM-DD`; `None` outside the years 0 to 9999.
fn date_text(days: i64) -> Option<String> {
    let date = DateTime::from_timestamp(days.checked_mul(SECONDS_PER_DAY)?, 0)?.date_naive();
    (0..=9999).contains(&date.year()).then(|| calendar_text(date))
}

fn calendar_text(date: NaiveDate) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
}

fn clock_text(time: NaiveTime, fraction: i64, unit: TimeUnit) -> String {
    let clock = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    if fraction == 0 { clock } else { format!("{clock}.{fraction:0width$}", width = places(unit)) }
}

fn date64_text(milliseconds: i64) -> String {
    match milliseconds.rem_euclid(MILLISECONDS_PER_DAY) {
        0 => date_text(milliseconds / MILLISECONDS_PER_DAY).unwrap_or_else(|| milliseconds.to_string()),
        _ => timestamp_text(milliseconds, TimeUnit::Millisecond, false),
    }
}

fn time_text(value: i64, unit: TimeUnit) -> String {
    let (seconds, fraction) = split_seconds(value, unit);
    u32::try_from(seconds)
        .ok()
        .and_then(|seconds| NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0))
        .map_or_else(|| value.to_string(), |time| clock_text(time, fraction, unit))
}

fn timestamp_text(value: i64, unit: TimeUnit, has_zone: bool) -> String {
    let (seconds, fraction) = split_seconds(value, unit);
    let utc = DateTime::from_timestamp(seconds, 0).map(|time| time.naive_utc());
    match utc.filter(|time| (0..=9999).contains(&time.year())) {
        None => value.to_string(),
        Some(time) => {
            let zone = if has_zone { "Z" } else { "" };
            format!("{}T{}{zone}", calendar_text(time.date()), clock_text(time.time(), fraction, unit))
        }
    }
}

fn split_seconds(value: i64, unit: TimeUnit) -> (i64, i64) {
    (value.div_euclid(per_second(unit)), value.rem_euclid(per_second(unit)))
}

const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Decimal digits of a fraction of a second.
const fn places(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn calendar_of(text: &str) -> Option<NaiveDate> {
    let [year, month, day] = numbers(text, '-', [4, 2, 2])?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

fn days_of(text: &str) -> Option<i64> {
    let midnight = calendar_of(text)?.and_time(NaiveTime::MIN).and_utc();
    Some(midnight.timestamp().div_euclid(SECONDS_PER_DAY))
}

/// Time of day, and fraction of a second in `unit`.
fn clock_of(text: &str, unit: TimeUnit) -> Option<(NaiveTime, i64)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let places = places(unit);
    if fraction.len() > places || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = if places == 0 { 0 } else { format!("{fraction:0<places$}").parse().ok()? };
    Some((NaiveTime::from_hms_opt(hour, minute, second)?, fraction))
}

fn time_of(text: &str, unit: TimeUnit) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let (time, fraction) = clock_of(text, unit)?;
        Some(i64::from(time.num_seconds_from_midnight()) * per_second(unit) + fraction)
    })
}

fn timestamp_of(text: &str, unit: TimeUnit, has_zone: bool) -> Option<i64> {
    let local = if has_zone { text.strip_suffix('Z')? } else { text };
    let (date, time) = local.split_once('T')?;
    let (time, fraction) = clock_of(time, unit)?;
    let seconds = NaiveDateTime::new(calendar_of(date)?, time).and_utc().timestamp();
    // Of the first second of the type's range, only the end is in it: the product alone can overflow.
    let value = i128::from(seconds) * i128::from(per_second(unit)) + i128::from(fraction);
    i64::try_from(value).ok()
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u32; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}
