//! Numbers as they are written: their first 38 digits, and the nearest double.

use std::cmp::Ordering;

/// The value of a number literal or of a variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    /// The nearest double; finite.
    pub(crate) double: f64,
    /// `None` where the exponent alone says how large or small it is.
    exact: Option<Decimal>,
}

/// Digits of a number that are kept: those of Arrow's decimals of 128 bits.
const MAX_DIGITS: usize = 38;

/// `digits * 10^exponent`; `digits` does not end in 0 unless it is 0, or more digits follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: i128,
    exponent: i32,
    /// Whether digits other than 0 follow that were not kept.
    has_more: bool,
}

/// Where a number lies among the whole multiples of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUnits {
    Exactly(i128),
    /// Between this multiple and the next.
    Above(i128),
    /// Below all that can be counted.
    TooSmall,
    /// Above all that can be counted.
    TooLarge,
}

impl Number {
    /// Reads a number of the filter language.
    ///
    /// # Errors
    /// A number beyond the range of doubles.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let double = text.parse::<f64>().ok().filter(|double| double.is_finite());
        let double =
            double.ok_or_else(|| "the number is beyond the range of 64-bit floating point".to_owned())?;
        Ok(Self { double, exact: Decimal::parse(text) })
    }

    /// # Errors
    /// NaN and the infinities, with which comparisons mean nothing.
    pub(crate) fn from_double(double: f64) -> Result<Self, String> {
        if !double.is_finite() {
            return Err(format!("{double} cannot be compared with anything"));
        }
        // The shortest text that means this double: 0.1 is then 0.1, and whole numbers are themselves.
        let exact = if double.fract() == 0.0 && double.abs() < 1e38 {
            Decimal::parse(&format!("{double:.0}"))
        } else {
            Decimal::parse(&format!("{double:e}"))
        };
        Ok(Self { double, exact })
    }

    pub(crate) fn from_integer(integer: i128) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is wanted")]
        let double = integer as f64;
        Self { double, exact: Some(Decimal::new(integer, 0, false)) }
    }

    /// The number counted in units of `10^-scale`.
    pub(crate) fn in_units(&self, scale: i32) -> InUnits {
        match self.exact {
            Some(decimal) => decimal.in_units(scale),
            // Its exponent is beyond 32 bits.
            None if self.double == 0.0 => InUnits::Above(if self.double.is_sign_negative() { -1 } else { 0 }),
            None if self.double < 0.0 => InUnits::TooSmall,
            None => InUnits::TooLarge,
        }
    }

    /// The number as an integer, if it is one of at most 38 digits.
    pub(crate) fn as_integer(&self) -> Option<i128> {
        match self.exact?.in_units(0) {
            InUnits::Exactly(integer) => Some(integer),
            _ => None,
        }
    }

    /// Exact, where 38 digits can tell.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        if let (Some(a), Some(b)) = (self.exact, other.exact) {
            let scale = a.exponent.min(b.exponent).min(0).saturating_neg();
            if let (InUnits::Exactly(a), InUnits::Exactly(b)) = (a.in_units(scale), b.in_units(scale)) {
                return a.cmp(&b);
            }
        }
        self.double.partial_cmp(&other.double).unwrap_or(Ordering::Equal)
    }

    /// Whether it was written, or given, without a fraction.
    pub(crate) fn is_whole(&self) -> bool {
        self.as_integer().is_some()
    }
}

impl Decimal {
    fn new(mut digits: i128, mut exponent: i32, has_more: bool) -> Self {
        if digits == 0 {
            return Self { digits, exponent: 0, has_more };
        }
        while digits % 10 == 0 && !has_more {
            digits /= 10;
            exponent += 1;
        }
        Self { digits, exponent, has_more }
    }

    /// `None` where the exponent is beyond 32 bits.
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, "0"),
        };
        if !mantissa.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
            return Some(Self::new(0, 0, false));
        }
        let exponent = exponent.parse::<i32>().ok()?;
        let is_negative = mantissa.starts_with('-');
        let mantissa = mantissa.trim_start_matches(['+', '-']);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let mut digits = 0i128;
        let (mut kept, mut has_more) = (0, false);
        for digit in whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0') {
            if kept < MAX_DIGITS {
                digits = digits * 10 + i128::from(digit - b'0');
                kept += 1;
            } else {
                exponent = exponent.checked_add(1)?;
                has_more |= digit != b'0';
            }
        }
        Some(Self::new(if is_negative { -digits } else { digits }, exponent, has_more))
    }

    fn in_units(self, scale: i32) -> InUnits {
        if self.digits == 0 {
            return InUnits::Exactly(0);
        }
        let beyond = if self.digits < 0 { InUnits::TooSmall } else { InUnits::TooLarge };
        let shift = self.exponent.saturating_add(scale);
        let power = 10i128.checked_pow(shift.unsigned_abs());
        let exactly = |units: i128| match (self.has_more, units < 0) {
            (false, _) => InUnits::Exactly(units),
            (true, false) => InUnits::Above(units),
            (true, true) => InUnits::Above(units - 1),
        };
        match (shift, power) {
            (1.., _) if self.has_more => beyond,
            (0.., Some(power)) => self.digits.checked_mul(power).map_or(beyond, exactly),
            (0.., None) => beyond,
            (_, Some(power)) if self.digits % power == 0 => exactly(self.digits / power),
            (_, Some(power)) => InUnits::Above(self.digits.div_euclid(power)),
            (_, None) => InUnits::Above(if self.digits < 0 { -1 } else { 0 }),
        }
    }
}

/// `count` small steps, of which `per_unit` make a unit, counted in units.
pub(crate) fn steps_in_units(count: i128, per_unit: i128) -> InUnits {
    if count % per_unit == 0 {
        InUnits::Exactly(count / per_unit)
    } else {
        InUnits::Above(count.div_euclid(per_unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, scale: i32) -> InUnits {
        Number::parse(text).unwrap().in_units(scale)
    }

    #[test]
    fn numbers_are_counted_exactly() {
        assert_eq!(units("9007199254740993", 0), InUnits::Exactly(9_007_199_254_740_993));
        assert_eq!(units("18446744073709551615.0", 0), InUnits::Exactly(i128::from(u64::MAX)));
        assert_eq!(units("2.5", 0), InUnits::Above(2));
        assert_eq!(units("-2.5", 0), InUnits::Above(-3));
        assert_eq!(units("-2.5", 1), InUnits::Exactly(-25));
        assert_eq!(units("1e3", 0), InUnits::Exactly(1000));
        assert_eq!(units("1500e-2", 0), InUnits::Exactly(15));
        assert_eq!(units("1e-300", 5), InUnits::Above(0));
        assert_eq!(units("-1e-300", 5), InUnits::Above(-1));
        assert_eq!(units("1e300", 0), InUnits::TooLarge);
        assert_eq!(units("-1e38", 1), InUnits::TooSmall);
        assert_eq!(units("0e999", 9), InUnits::Exactly(0));
        assert_eq!(units("+.50", 1), InUnits::Exactly(5));
        assert_eq!(units("100.", 0), InUnits::Exactly(100));
        assert_eq!(units(&format!("1{}", "0".repeat(37)), 0), InUnits::Exactly(10i128.pow(37)));
        assert_eq!(units(&format!("0.{}1", "0".repeat(100)), 0), InUnits::Above(0));
    }

    #[test]
    fn more_digits_than_fit_are_told_by_their_size() {
        let long = "1234567890".repeat(5);
        assert_eq!(units(&long, 0), InUnits::TooLarge);
        assert_eq!(units(&format!("-{long}"), 0), InUnits::TooSmall);
        assert!(Number::parse("1e400").is_err());
        // Of many digits, but small: its double stands for it.
        assert_eq!(units("0.11111111111111111111111111111111111111111111111111", 2), InUnits::Above(11));
        assert_eq!(units("7.11111111111111111111111111111111111111111111111111", 0), InUnits::Above(7));
    }

    #[test]
    fn doubles_are_what_they_are_written_as() {
        let units = |double: f64, scale| Number::from_double(double).unwrap().in_units(scale);
        assert_eq!(units(0.1, 2), InUnits::Exactly(10));
        assert_eq!(units(1_152_921_504_606_846_976.0, 0), InUnits::Exactly(1 << 60));
        assert_eq!(units(1e300, 0), InUnits::TooLarge);
        assert!(Number::from_double(f64::NAN).is_err());
        assert!(Number::from_double(f64::NEG_INFINITY).is_err());
    }
}
