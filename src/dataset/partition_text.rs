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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    type F16 = <Float16Type as ArrowPrimitiveType>::Native;

    const UNITS: [TimeUnit; 4] =
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

    fn types() -> Vec<DataType> {
        let mut types = vec![
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float16,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Binary,
            DataType::LargeBinary,
            DataType::BinaryView,
            DataType::FixedSizeBinary(8),
            DataType::Date32,
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Decimal32(9, 3),
            DataType::Decimal64(18, -2),
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
        ];
        for unit in UNITS {
            types.push(DataType::Duration(unit));
            types.extend(
                [None, Some("+02:00"), Some("Europe/Oslo")]
                    .map(|zone| DataType::Timestamp(unit, zone.map(Into::into))),
            );
        }
        for scale in [-3, 0, 1, 10, 38] {
            types.push(DataType::Decimal128(38, scale));
            types.push(DataType::Decimal256(76, scale));
        }
        types
    }

    /// The value of a type that `bits` stand for; a few types have fewer values than there are bits.
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    fn value(bits: i64, data_type: &DataType) -> ScalarValue {
        let text = String::from_utf8_lossy(&bits.to_le_bytes()).into_owned();
        let bytes = bits.to_le_bytes().to_vec();
        let (low32, wide) = (bits as i32, i128::from(bits) * 1_000_000_007 * 1_000_000_007);
        match data_type {
            DataType::Boolean => ScalarValue::from(bits % 2 == 0),
            DataType::Int8 => ScalarValue::from(bits as i8),
            DataType::Int16 => ScalarValue::from(bits as i16),
            DataType::Int32 => ScalarValue::from(low32),
            DataType::Int64 => ScalarValue::from(bits),
            DataType::UInt8 => ScalarValue::from(bits as u8),
            DataType::UInt16 => ScalarValue::from(bits as u16),
            DataType::UInt32 => ScalarValue::from(bits as u32),
            DataType::UInt64 => ScalarValue::from(bits as u64),
            DataType::Float16 => ScalarValue::Float16(Some(F16::from_bits(bits as u16))),
            DataType::Float32 => ScalarValue::from(f32::from_bits(bits as u32)),
            DataType::Float64 => ScalarValue::from(f64::from_bits(bits as u64)),
            DataType::Utf8 => ScalarValue::Utf8(Some(text)),
            DataType::LargeUtf8 => ScalarValue::LargeUtf8(Some(text)),
            DataType::Utf8View => ScalarValue::Utf8View(Some(text)),
            DataType::Binary => ScalarValue::Binary(Some(bytes)),
            DataType::LargeBinary => ScalarValue::LargeBinary(Some(bytes)),
            DataType::BinaryView => ScalarValue::BinaryView(Some(bytes)),
            DataType::FixedSizeBinary(size) => ScalarValue::FixedSizeBinary(*size, Some(bytes)),
            DataType::Date32 => ScalarValue::Date32(Some(low32)),
            DataType::Date64 => ScalarValue::Date64(Some(bits)),
            DataType::Time32(TimeUnit::Second) => ScalarValue::Time32Second(Some(low32)),
            DataType::Time32(_) => ScalarValue::Time32Millisecond(Some(low32)),
            DataType::Time64(TimeUnit::Microsecond) => ScalarValue::Time64Microsecond(Some(bits)),
            DataType::Time64(_) => ScalarValue::Time64Nanosecond(Some(bits)),
            DataType::Duration(TimeUnit::Second) => ScalarValue::DurationSecond(Some(bits)),
            DataType::Duration(TimeUnit::Millisecond) => ScalarValue::DurationMillisecond(Some(bits)),
            DataType::Duration(TimeUnit::Microsecond) => ScalarValue::DurationMicrosecond(Some(bits)),
            DataType::Duration(TimeUnit::Nanosecond) => ScalarValue::DurationNanosecond(Some(bits)),
            DataType::Timestamp(TimeUnit::Second, z) => ScalarValue::TimestampSecond(Some(bits), z.clone()),
            DataType::Timestamp(TimeUnit::Millisecond, z) => {
                ScalarValue::TimestampMillisecond(Some(bits), z.clone())
            }
            DataType::Timestamp(TimeUnit::Microsecond, z) => {
                ScalarValue::TimestampMicrosecond(Some(bits), z.clone())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, z) => {
                ScalarValue::TimestampNanosecond(Some(bits), z.clone())
            }
            DataType::Decimal32(p, s) => ScalarValue::Decimal32(Some(low32), *p, *s),
            DataType::Decimal64(p, s) => ScalarValue::Decimal64(Some(bits), *p, *s),
            DataType::Decimal128(p, s) => ScalarValue::Decimal128(Some(wide), *p, *s),
            DataType::Decimal256(p, s) => {
                ScalarValue::Decimal256(Some(i256::from_parts(u128::MAX, wide)), *p, *s)
            }
            DataType::Dictionary(k, v) => ScalarValue::Dictionary(k.clone(), Box::new(value(bits, v))),
            other => panic!("{other}"),
        }
    }

    fn is_nan(value: &ScalarValue) -> bool {
        matches!(value, ScalarValue::Float16(Some(v)) if v.is_nan())
            || matches!(value, ScalarValue::Float32(Some(v)) if v.is_nan())
            || matches!(value, ScalarValue::Float64(Some(v)) if v.is_nan())
    }

    /// `ScalarValue` compares the bits of floats. Its `Debug` panics for far dates.
    fn is_same(a: &ScalarValue, b: &ScalarValue) -> bool {
        a == b || (is_nan(a) && is_nan(b))
    }

    #[test]
    fn values_of_all_types_are_read_back_as_they_were_and_have_texts_of_their_own() {
        let seed = 20_240_229;
        let mut random = StdRng::seed_from_u64(seed);
        let day = 86_400;
        let mut bits = vec![
            0,
            1,
            -1,
            9,
            10,
            -10,
            59,
            60,
            1_000,
            day,
            day - 1,
            -day,
            100 * day,
            253_402_300_799,
            253_402_300_800,
            -62_167_219_200,
            -62_167_219_201,
            i64::MAX,
            i64::MIN,
            i64::from(i32::MAX),
            i64::from(i32::MIN),
            i64::from(u32::MAX),
            2_932_896,
            2_932_897,
            -719_528,
            -719_529,
            0x7fc0_0000,
            0x7f80_0000,
            0xff80_0000,
            0xffc0_0001,
            f64::NAN.to_bits() as i64,
            f64::INFINITY.to_bits() as i64,
            f64::MIN_POSITIVE.to_bits() as i64,
            f64::NEG_INFINITY.to_bits() as i64,
            0x7ff8_0000_0000_0001,
            f64::MAX.to_bits() as i64,
            0x7c00,
            0x7e00,
            1_582_934_400_123_456_789,
        ];
        bits.extend((0..500).map(|_| random.random::<i64>() >> random.random_range(0..60)));
        bits.extend((0..200).map(|_| random.random_range(-20_000..60_000) * 86_400_000));
        for data_type in types() {
            let mut seen: HashMap<String, ScalarValue> = HashMap::new();
            for bits in &bits {
                let value = value(*bits, &data_type);
                let text = partition_value_text(&value).unwrap().unwrap();
                let read = partition_value_from_text(Some(&text), &data_type).unwrap();
                assert!(is_same(&read, &value), "{data_type}: {text:?}, seed {seed}");
                assert_eq!(read.data_type(), data_type);
                let is_new = seen.get(&text).is_none_or(|other| is_same(other, &value));
                assert!(is_new, "{data_type}: {text:?} twice, seed {seed}");
                seen.insert(text, value);
            }
        }
    }

    #[test]
    fn null_is_no_text_and_empty_text_is_a_value() {
        for data_type in types() {
            let null = ScalarValue::try_from(&data_type).unwrap();
            assert_eq!(partition_value_text(&null).unwrap(), None);
            assert_eq!(partition_value_from_text(None, &data_type).unwrap(), null);
        }
        assert_eq!(partition_value_text(&ScalarValue::from("")).unwrap().as_deref(), Some(""));
        let empty = partition_value_from_text(Some(""), &DataType::Binary).unwrap();
        assert_eq!(empty, ScalarValue::Binary(Some(vec![])));
    }

    #[test]
    fn texts_are_those_that_people_write() {
        let timestamp =
            |value, zone: Option<&str>| ScalarValue::TimestampMillisecond(Some(value), zone.map(Into::into));
        for (value, text) in [
            (ScalarValue::Date32(Some(18_321)), "2020-02-29"),
            (ScalarValue::Date32(Some(-719_528)), "0000-01-01"),
            (ScalarValue::Date32(Some(2_932_897)), "2932897"),
            (ScalarValue::Date64(Some(-86_400_000)), "1969-12-31"),
            (ScalarValue::Date64(Some(i64::MIN)), "-9223372036854775808"),
            (timestamp(1_582_934_400_000, None), "2020-02-29T00:00:00"),
            (timestamp(-1, Some("Europe/Oslo")), "1969-12-31T23:59:59.999Z"),
            (timestamp(i64::MAX, None), "9223372036854775807"),
            (ScalarValue::Time64Nanosecond(Some(1)), "00:00:00.000000001"),
            (ScalarValue::Time32Second(Some(-1)), "-1"),
            (ScalarValue::Decimal128(Some(-5), 10, 2), "-0.05"),
            (ScalarValue::Decimal128(Some(12_345), 10, 2), "123.45"),
            (ScalarValue::Decimal128(Some(12), 10, -2), "1200"),
            (ScalarValue::from(-0.0_f64), "-0.0"),
            (ScalarValue::from(1e300_f64), "1e300"),
            (ScalarValue::from(-f64::NAN), "NaN"),
            (ScalarValue::from(f64::NEG_INFINITY), "-inf"),
            (ScalarValue::from(0.1_f32), "0.1"),
            (ScalarValue::from(true), "true"),
            (ScalarValue::Binary(Some(vec![0, 255])), "00ff"),
        ] {
            assert_eq!(partition_value_text(&value).unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn texts_of_no_value_are_errors() {
        for (text, data_type) in [
            ("256", DataType::UInt8),
            ("", DataType::Int32),
            ("yes", DataType::Boolean),
            ("2020-02-30", DataType::Date32),
            ("2020-2-3", DataType::Date32),
            ("2020-02-29T00:00:00Z", DataType::Timestamp(TimeUnit::Second, None)),
            ("2020-02-29T00:00:00", DataType::Timestamp(TimeUnit::Second, Some("UTC".into()))),
            ("2020-02-29T00:00:00.5", DataType::Timestamp(TimeUnit::Second, None)),
            ("9999-12-31T00:00:00", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("24:00:00", DataType::Time32(TimeUnit::Second)),
            ("1.234", DataType::Decimal128(10, 2)),
            ("1.-2", DataType::Decimal128(10, 2)),
            ("150", DataType::Decimal128(10, -2)),
            ("0f0", DataType::Binary),
            ("0g", DataType::Binary),
            ("00", DataType::FixedSizeBinary(2)),
            ("1", DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::YearMonth)),
        ] {
            let error = partition_value_from_text(Some(text), &data_type).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?} is not a")), "{error}");
        }
    }

    #[test]
    fn nested_values_are_not_supported() {
        let list = DataType::new_list(DataType::Int32, true);
        assert!(!is_partition_type(&list) && is_partition_type(&DataType::Utf8View));
        let error = partition_value_text(&ScalarValue::new_interval_ym(1, 1)).unwrap_err();
        assert!(matches!(error, OdpError::Unsupported { .. }), "{error}");
    }
}
