//! `== != < <= > >=`: between what, and exactly.
//!
//! A constant is put into the units of the other side before it is compared: whole numbers for integers, hundredths
//! for a decimal of two places, milliseconds for a timestamp of that unit. One that lies between two units, or beyond
//! them all, changes the operator instead of losing its fraction: `n > 2.5` is `n > 2` for integers, and `n == 2.5`
//! is false. Columns are never cast to meet a constant, so that their bounds can be used.

use std::cmp::Ordering;

use datafusion::arrow::array::types::{
    Date32Type, Date64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, TimeUnit, i256};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit};
use datafusion::scalar::ScalarValue;

use crate::filter::language::ast::{BinaryOperator, NodeId};
use crate::filter::language::{Constant, FilterError, FilterTime, FilterTimestamp, InUnits, steps_in_units};
use crate::filter::lower::logic::membership;
use crate::filter::lower::{Lowering, Operand, Value, describe};

const NANOSECONDS_PER_DAY: i128 = 86_400_000_000_000;

/// Types that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Boolean,
    Number,
    Text,
    /// Timestamps and dates.
    Instant,
    TimeOfDay,
    Null,
    /// Only tested for NULL.
    Other,
}

/// The type of the values behind a dictionary.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value_type(value),
        other => other,
    }
}

impl Family {
    pub(super) fn of(data_type: &DataType) -> Self {
        match value_type(data_type) {
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Self::Instant,
            DataType::Time32(_) | DataType::Time64(_) => Self::TimeOfDay,
            DataType::Null => Self::Null,
            other if other.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }
}

impl Lowering<'_> {
    pub(super) fn comparison(
        &mut self,
        id: NodeId,
        operator: BinaryOperator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Operand, FilterError> {
        let operator = match operator {
            BinaryOperator::Equal => Operator::Eq,
            BinaryOperator::NotEqual => Operator::NotEq,
            BinaryOperator::Less => Operator::Lt,
            BinaryOperator::LessOrEqual => Operator::LtEq,
            BinaryOperator::Greater => Operator::Gt,
            _ => Operator::GtEq,
        };
        let (a, b) = (self.constant_or_value(left)?, self.constant_or_value(right)?);
        let expr = match (a, b) {
            (Ok(Constant::Null), _) | (_, Ok(Constant::Null)) => {
                self.warnings.push(format!(
                    "`{}` matches no row: nothing equals null, write `is null` or `is not null`",
                    self.written(id)
                ));
                return Ok(Operand::Constant(Constant::Null));
            }
            (Ok(a), Ok(b)) => {
                let ordering = compare_constants(&a, &b).map_err(|reason| self.error(id, reason))?;
                return Ok(Operand::Constant(Constant::Boolean(holds(operator, ordering))));
            }
            (Err(value), Ok(constant)) => self.against_constant(id, (left, value), operator, &constant)?,
            (Ok(constant), Err(value)) => {
                self.against_constant(id, (right, value), flipped(operator), &constant)?
            }
            (Err(a), Err(b)) => self.between_values(id, (left, a), operator, (right, b))?,
        };
        Ok(Operand::Value(Value::boolean(expr)))
    }

    fn against_constant(
        &self,
        id: NodeId,
        (side, value): (NodeId, Value),
        operator: Operator,
        constant: &Constant,
    ) -> Result<Expr, FilterError> {
        let data_type = value_type(&value.data_type).clone();
        let at = |reason: String| self.error(id, reason);
        let value_described = || self.typed(side, &value.data_type);
        let literal = match (Family::of(&data_type), constant) {
            (Family::Null, _) => return Ok(lit(ScalarValue::Boolean(None))),
            (Family::Boolean, Constant::Boolean(constant)) => lit(*constant),
            (Family::Text, Constant::Text(text)) => lit(text.as_ref()),
            (Family::Number, Constant::Number(number)) if data_type.is_floating() => {
                return Ok(against_double(value, operator, number.double));
            }
            (Family::Number, Constant::Number(number)) => {
                let scale = match data_type {
                    DataType::Decimal32(_, scale)
                    | DataType::Decimal64(_, scale)
                    | DataType::Decimal128(_, scale)
                    | DataType::Decimal256(_, scale) => scale,
                    _ => 0,
                };
                let units = number.in_units(scale.into());
                let is_counted = matches!(units, InUnits::Exactly(_) | InUnits::Above(_));
                if matches!(data_type, DataType::Decimal256(..)) && !is_counted {
                    let beyond = "is too large, or has too many digits, to be compared with";
                    return Err(at(format!("{} {beyond} {}", number.double, value_described())));
                }
                return Ok(against_units(value.expr, operator, units, &data_type));
            }
            (Family::Instant, constant) => {
                let nanoseconds = match constant {
                    Constant::Timestamp(time) => time.unix_nanoseconds(),
                    Constant::Date(date) => date.unix_nanoseconds(),
                    Constant::Text(text) => {
                        let time = FilterTimestamp::read(text)
                            .map_err(|reason| at(format!("{}: {reason}", value_described())))?;
                        time.unix_nanoseconds()
                    }
                    other => return Err(at(mismatch(&value_described(), &describe(other)))),
                };
                let units = steps_in_units(nanoseconds, nanoseconds_per_unit(&data_type));
                return Ok(against_units(value.expr, operator, units, &data_type));
            }
            (Family::TimeOfDay, constant) => {
                let time = match constant {
                    Constant::Time(time) => *time,
                    Constant::Text(text) => FilterTime::read(text)
                        .map_err(|reason| at(format!("{}: {reason}", value_described())))?,
                    other => return Err(at(mismatch(&value_described(), &describe(other)))),
                };
                let units = steps_in_units(time.nanoseconds(), nanoseconds_per_unit(&data_type));
                return Ok(against_units(value.expr, operator, units, &data_type));
            }
            _ => {
                let mut reason = mismatch(&value_described(), &describe(constant));
                if value.data_type == DataType::Boolean && self.is_chain(side) {
                    reason.push_str("; `a < b < c` is (a < b) < c, write `a < b and b < c`");
                }
                return Err(at(reason));
            }
        };
        Ok(binary(value.expr, operator, literal))
    }

    /// Whether a node is a comparison: then another one after it is likely meant to go on with it.
    fn is_chain(&self, id: NodeId) -> bool {
        use crate::filter::language::ast::{Level, NodeKind};
        matches!(self.bound.ast().kind(id), NodeKind::Binary(inner, ..)
            if [Level::Equality, Level::Order].contains(&inner.level()))
    }

    fn between_values(
        &self,
        id: NodeId,
        (left, a): (NodeId, Value),
        operator: Operator,
        (right, b): (NodeId, Value),
    ) -> Result<Expr, FilterError> {
        let (a_type, b_type) = (value_type(&a.data_type).clone(), value_type(&b.data_type).clone());
        let (a_family, b_family) = (Family::of(&a_type), Family::of(&b_type));
        if a_family == Family::Null || b_family == Family::Null {
            return Ok(lit(ScalarValue::Boolean(None)));
        }
        if a_family != b_family || a_family == Family::Other {
            let described = mismatch(&self.typed(left, &a.data_type), &self.typed(right, &b.data_type));
            return Err(self.error(id, described));
        }
        Ok(match a_family {
            Family::Instant => {
                let (a_expr, b_expr) = (as_utc(a.expr, &a_type, &b_type), as_utc(b.expr, &b_type, &a_type));
                binary(a_expr, operator, b_expr)
            }
            Family::Number if a_type.is_floating() || b_type.is_floating() => {
                between_doubles(in_double(a.expr, &a_type), operator, in_double(b.expr, &b_type))
            }
            _ => binary(a.expr, operator, b.expr),
        })
    }
}

fn mismatch(left: &str, right: &str) -> String {
    format!("cannot compare: {left}, compared with {right}")
}

fn binary(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn flipped(operator: Operator) -> Operator {
    operator.swap().unwrap_or(operator)
}

fn holds(operator: Operator, ordering: Ordering) -> bool {
    match operator {
        Operator::Eq => ordering.is_eq(),
        Operator::NotEq => ordering.is_ne(),
        Operator::Lt => ordering.is_lt(),
        Operator::LtEq => ordering.is_le(),
        Operator::Gt => ordering.is_gt(),
        _ => ordering.is_ge(),
    }
}

/// A comparison whose answer is the same for all values, but NULL for NULL.
fn always(value: Expr, answer: bool) -> Expr {
    let unknown = lit(ScalarValue::Boolean(None));
    if answer { value.is_not_null().or(unknown) } else { value.is_null().and(unknown) }
}

/// Compares values of a type that counts units with a constant.
fn against_units(value: Expr, operator: Operator, units: InUnits, data_type: &DataType) -> Expr {
    let (place, is_exact) = match units {
        InUnits::Exactly(units) => (units, true),
        InUnits::Above(units) => (units, false),
        InUnits::TooSmall => (i128::MIN, true),
        InUnits::TooLarge => (i128::MAX, true),
    };
    let Some(literal) = in_type(place, data_type) else {
        // Beyond all values of the type, on this side.
        let ordering = if place < 0 { Ordering::Greater } else { Ordering::Less };
        return always(value, holds(operator, ordering));
    };
    let operator = match (operator, is_exact) {
        (operator, true) => operator,
        // Between `place` and the unit above it lies no value.
        (Operator::Gt | Operator::GtEq, false) => Operator::Gt,
        (Operator::Lt | Operator::LtEq, false) => Operator::LtEq,
        (operator, false) => return always(value, operator == Operator::NotEq),
    };
    binary(value, operator, lit(literal))
}

/// So many units as a constant of a type; `None` if the type ends before.
fn in_type(units: i128, data_type: &DataType) -> Option<ScalarValue> {
    fn native<T: ArrowPrimitiveType>(units: i128) -> Option<ScalarValue>
    where
        T::Native: TryFrom<i128>,
    {
        ScalarValue::new_primitive::<T>(Some(units.try_into().ok()?), &T::DATA_TYPE).ok()
    }
    let fits =
        |precision: u8| 10i128.checked_pow(precision.into()).is_none_or(|end| -end < units && units < end);
    match data_type {
        DataType::Int8 => native::<Int8Type>(units),
        DataType::Int16 => native::<Int16Type>(units),
        DataType::Int32 => native::<Int32Type>(units),
        DataType::Int64 => native::<Int64Type>(units),
        DataType::UInt8 => native::<UInt8Type>(units),
        DataType::UInt16 => native::<UInt16Type>(units),
        DataType::UInt32 => native::<UInt32Type>(units),
        DataType::UInt64 => native::<UInt64Type>(units),
        DataType::Date32 => native::<Date32Type>(units),
        DataType::Date64 => native::<Date64Type>(units),
        DataType::Time32(TimeUnit::Second) => native::<Time32SecondType>(units),
        DataType::Time32(_) => native::<Time32MillisecondType>(units),
        DataType::Time64(TimeUnit::Microsecond) => native::<Time64MicrosecondType>(units),
        DataType::Time64(_) => native::<Time64NanosecondType>(units),
        DataType::Timestamp(unit, zone) => {
            let (units, zone) = (Some(i64::try_from(units).ok()?), zone.clone());
            Some(match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(units, zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(units, zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(units, zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(units, zone),
            })
        }
        DataType::Decimal32(precision, scale) => {
            let units = units.try_into().ok().filter(|_| fits(*precision))?;
            Some(ScalarValue::Decimal32(Some(units), *precision, *scale))
        }
        DataType::Decimal64(precision, scale) => {
            let units = units.try_into().ok().filter(|_| fits(*precision))?;
            Some(ScalarValue::Decimal64(Some(units), *precision, *scale))
        }
        DataType::Decimal128(precision, scale) => {
            fits(*precision).then_some(ScalarValue::Decimal128(Some(units), *precision, *scale))
        }
        DataType::Decimal256(precision, scale) if ![i128::MIN, i128::MAX].contains(&units) => fits(
            *precision,
        )
        .then_some(ScalarValue::Decimal256(Some(i256::from_i128(units)), *precision, *scale)),
        _ => None,
    }
}

fn nanoseconds_per_unit(data_type: &DataType) -> i128 {
    match data_type {
        DataType::Date32 => NANOSECONDS_PER_DAY,
        DataType::Date64 => 1_000_000,
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1000,
            TimeUnit::Nanosecond => 1,
        },
        _ => 1,
    }
}

/// Compares floating point values with a constant as IEEE 754 does. Arrow orders NaN above and below all numbers, and
/// `-0.0` below `0.0`.
fn against_double(value: Value, operator: Operator, constant: f64) -> Expr {
    let expr = in_double(value.expr, value_type(&value.data_type));
    match operator {
        Operator::Eq | Operator::NotEq if constant == 0.0 => {
            membership(expr, vec![lit(0.0), lit(-0.0)], operator == Operator::NotEq)
        }
        Operator::Eq | Operator::NotEq => binary(expr, operator, lit(constant)),
        _ => {
            let zero = if matches!(operator, Operator::Lt | Operator::GtEq) { -0.0 } else { 0.0 };
            let constant = if constant == 0.0 { zero } else { constant };
            let no_nan = no_nan(expr.clone(), operator);
            binary(expr, operator, lit(constant)).and(no_nan)
        }
    }
}

/// Leaves out the NaN that `value operator …` holds for in Arrow's order.
fn no_nan(value: Expr, operator: Operator) -> Expr {
    if matches!(operator, Operator::Lt | Operator::LtEq) {
        value.gt_eq(lit(f64::NEG_INFINITY))
    } else {
        value.lt_eq(lit(f64::INFINITY))
    }
}

fn between_doubles(a: Expr, operator: Operator, b: Expr) -> Expr {
    // Adding 0.0 makes 0.0 of -0.0.
    let (a, b) = (a + lit(0.0), b + lit(0.0));
    let plain = binary(a.clone(), operator, b.clone());
    // Beside a NULL the answer is NULL, NaN or not.
    let no_nan =
        |value: &Expr, operator, beside: &Expr| no_nan(value.clone(), operator).or(beside.clone().is_null());
    match operator {
        Operator::Eq => plain.and(no_nan(&a, Operator::Lt, &b)).and(no_nan(&a, Operator::Gt, &b)),
        Operator::NotEq => {
            let is_nan = a.clone().lt(lit(f64::NEG_INFINITY)).or(a.gt(lit(f64::INFINITY)));
            plain.or(is_nan.and(b.is_not_null()))
        }
        _ => plain.and(no_nan(&a, operator, &b)).and(no_nan(&b, flipped(operator), &a)),
    }
}

/// Numbers as doubles; columns of 64-bit floating point as they are.
fn in_double(expr: Expr, data_type: &DataType) -> Expr {
    if *data_type == DataType::Float64 { expr } else { cast(expr, DataType::Float64) }
}

/// Timestamps without a zone as UTC, where they meet one with a zone; dates as timestamps.
fn as_utc(expr: Expr, data_type: &DataType, other: &DataType) -> Expr {
    let utc = |unit: TimeUnit| DataType::Timestamp(unit, Some("UTC".into()));
    match (data_type, other) {
        (DataType::Timestamp(unit, None), DataType::Timestamp(_, Some(_))) => cast(expr, utc(*unit)),
        (DataType::Date32 | DataType::Date64, DataType::Timestamp(unit, zone)) => {
            // What it counts: a cast of it to another unit is not checked.
            let unit = if *data_type == DataType::Date64 { TimeUnit::Millisecond } else { *unit };
            let plain = cast(expr, DataType::Timestamp(unit, None));
            if zone.is_some() { cast(plain, utc(unit)) } else { plain }
        }
        _ => expr,
    }
}

fn compare_constants(a: &Constant, b: &Constant) -> Result<Ordering, String> {
    let instant = |constant: &Constant| match constant {
        Constant::Timestamp(time) => Some(time.unix_nanoseconds()),
        Constant::Date(date) => Some(date.unix_nanoseconds()),
        _ => None,
    };
    Ok(match (a, b) {
        (Constant::Boolean(a), Constant::Boolean(b)) => a.cmp(b),
        (Constant::Number(a), Constant::Number(b)) => a.compare(b),
        (Constant::Text(a), Constant::Text(b)) => a.cmp(b),
        (Constant::Time(a), Constant::Time(b)) => a.nanoseconds().cmp(&b.nanoseconds()),
        (Constant::Time(a), Constant::Text(b)) => a.nanoseconds().cmp(&FilterTime::read(b)?.nanoseconds()),
        (Constant::Text(a), Constant::Time(b)) => FilterTime::read(a)?.nanoseconds().cmp(&b.nanoseconds()),
        _ => match (instant(a), instant(b), a, b) {
            (Some(a), Some(b), ..) => a.cmp(&b),
            (Some(a), None, _, Constant::Text(b)) => a.cmp(&FilterTimestamp::read(b)?.unix_nanoseconds()),
            (None, Some(b), Constant::Text(a), _) => FilterTimestamp::read(a)?.unix_nanoseconds().cmp(&b),
            _ => return Err(mismatch(&describe(a), &describe(b))),
        },
    })
}
