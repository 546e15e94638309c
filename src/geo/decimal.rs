//! Decimal numbers to `f64`, quickly where few digits allow it.

/// Powers of ten that are exact as `f64`.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// Digits that always fit into a `u64`.
const MAX_DIGITS: usize = 19;
/// Whole numbers up to this are exact as `f64`.
const MAX_EXACT: u64 = 1 << 53;

/// Reads the run of digits, signs, dots and exponents that `bytes` begins with: its value, and its length.
///
/// The value is what `str::parse` gives for the run, bit for bit; `None` if that is an error.
pub(super) fn parse_decimal(bytes: &[u8]) -> (Option<f64>, usize) {
    let length = bytes.iter().take_while(|byte| is_part(**byte)).count();
    (std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.parse().ok()), length)
}

/// [`parse_decimal`] for a plain decimal of few digits, which ends before a byte that is no digit and no dot.
/// `None` says nothing of the number.
#[inline]
pub(super) fn parse_plain(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let (whole, mut mantissa) = digits(bytes, start, 0);
    let mut at = whole;
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        (at, mantissa) = digits(bytes, whole + 1, mantissa);
        fraction = at - whole - 1;
    }
    let count = whole - start + fraction;
    if !(1..=MAX_DIGITS).contains(&count) || mantissa > MAX_EXACT {
        return None;
    }
    // A quotient of two exact numbers is rounded once, and so correctly (Clinger 1990).
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let value = mantissa as f64 / POWERS.get(fraction)?;
    Some((if negative { -value } else { value }, at))
}

/// Where a run of digits that starts at `at` ends, and `value` with them appended. It wraps past [`MAX_DIGITS`].
#[inline]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (usize, u64) {
    while let Some(byte) = bytes.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (at, value)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Checks one number; says how often the quick way was taken.
    fn check(text: &str) -> usize {
        let mut plain = 0;
        let expected = text.parse::<f64>().ok().map(f64::to_bits);
        for end in ["", ",", " 1", ")"] {
            let (value, length) = parse_decimal(format!("{text}{end}").as_bytes());
            assert_eq!(value.map(f64::to_bits), expected, "{text:?}");
            assert_eq!(length, text.len(), "{text:?}");
            if let Some((value, length)) = parse_plain(format!("{text}{end}").as_bytes())
                && length == text.len()
            {
                assert_eq!(Some(value.to_bits()), expected, "{text:?}");
                plain += 1;
            }
        }
        plain
    }

    #[test]
    fn values_are_those_of_the_standard_library() {
        for text in [
            "0",
            "-0",
            "+0",
            "-0.0",
            "1.",
            ".5",
            "-.5",
            "+2.",
            "1e3",
            "1E-3",
            "1e400",
            "-1e-400",
            "",
            ".",
            "-",
            "+",
            "--1",
            "1.2.3",
            "1e",
            "e5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0",
            "0.1",
            "123456789012345678901234567890",
            "0.00000000000000000000001",
            "18446744073709551616",
            "00000000000000000000000000000001.5",
            "179.99999999999997",
            "4503599627370497.5",
            "1-2",
            "5+",
        ] {
            check(text);
        }
    }

    #[test]
    fn random_values_are_those_of_the_standard_library() {
        let mut random = StdRng::seed_from_u64(41);
        let mut plain = 0;
        for _ in 0..20_000 {
            let value = f64::from_bits(random.random::<u64>());
            let degrees = random.random_range(-400.0..400.0);
            let places = random.random_range(0..22);
            plain += check(&format!("{degrees:.places$}"));
            check(&format!("{degrees}"));
            if value.is_finite() {
                check(&format!("{value:e}"));
            }
            check(&format!("{}.{}", random.random::<u64>(), random.random::<u32>()));
        }
        assert!(plain > 20_000, "{plain}");
    }
}
