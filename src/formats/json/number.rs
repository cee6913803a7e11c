//! Numbers from their text, exactly.

use std::str::FromStr;

/// The most digits that an `i128` holds for certain.
const DIGITS_MAX: i64 = 38;

/// A whole number: `3`, `-3.0`, `3e2`. `None` for any other text, and for one that no 128 bits hold.
pub(super) fn integer(text: &str) -> Option<i128> {
    if let Ok(short) = i64::from_str(text)
        && !text.starts_with('+')
    {
        return Some(short as i128);
    }
    let decimal = Decimal::parse(text)?;
    if decimal.last_digit_place() < 0 { None } else { decimal.scaled(0) }
}

/// A float; the inner `None` when a finite number is too large for it.
pub(super) fn float<F: FromStr + Into<f64> + Copy>(text: &str) -> Option<Option<F>> {
    let number = text.parse::<F>().ok()?;
    let wide: f64 = number.into();
    if wide.is_finite() {
        return Some(Some(number));
    }
    match text {
        "NaN" | "Infinity" | "-Infinity" => Some(Some(number)),
        _ if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') => Some(None),
        _ => None,
    }
}

/// A decimal times `10^scale`, rounded half away from zero; the inner `None` when it has more than `precision` digits.
pub(super) fn numeric(text: &str, precision: u8, scale: i8) -> Option<Option<i128>> {
    let value = Decimal::parse(text)?.scaled(scale as i64);
    Some(value.filter(|value| value.unsigned_abs() < 10u128.pow(precision as u32)))
}

/// A number's parts as written.
struct Decimal<'a> {
    negative: bool,
    /// The digits before and after the point.
    digits: [&'a str; 2],
    /// The power of ten.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Decimal<'a>> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if before.len() + after.len() == 0 || !all_digits(before) || !all_digits(after) {
            return None;
        }
        Some(Decimal { negative, digits: [before, after], exponent })
    }

    /// The power of ten of the last digit that is not zero.
    fn last_digit_place(&self) -> i64 {
        let digits = self.digits.iter().flat_map(|part| part.bytes());
        let last = digits.enumerate().filter(|(_, b)| *b != b'0').last();
        last.map_or(0, |(i, _)| self.digits[0].len() as i64 - 1 - i as i64 + self.exponent)
    }

    /// Times `10^scale`, rounded half away from zero; `None` when it has too many digits.
    fn scaled(&self, scale: i64) -> Option<i128> {
        let mut digits = self.digits.iter().flat_map(|part| part.bytes()).map(|b| (b - b'0') as i128);
        let leading = digits.clone().take_while(|d| *d == 0).count();
        if leading == self.digits[0].len() + self.digits[1].len() {
            return Some(0);
        }
        // How many of the digits, from the first that is not zero, lie before the new point.
        let kept = self.digits[0].len() as i64 + self.exponent + scale - leading as i64;
        if kept < 0 {
            return Some(0);
        }
        if kept > DIGITS_MAX {
            return None;
        }
        let mut significant = digits.by_ref().skip(leading);
        let mut value = 0i128;
        for _ in 0..kept {
            value = value * 10 + significant.next().unwrap_or(0);
        }
        if significant.next().is_some_and(|d| d >= 5) {
            value += 1;
        }
        Some(if self.negative { -value } else { value })
    }
}

/// An exponent, held within what no number we can hold exceeds.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let limit = i64::from(i32::MAX);
    let size = digits.parse::<i64>().unwrap_or(limit).min(limit);
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX as i128)),
            ("9223372036854775808", Some(i64::MAX as i128 + 1)),
            ("3.000", Some(3)),
            ("-3e2", Some(-300)),
            ("1500e-2", Some(15)),
            ("0.0", Some(0)),
            ("0e999999999999", Some(0)),
            ("1.5", None),
            ("1e-1", None),
            ("1e99999999999999999999", None),
            ("+3", None),
            ("", None),
            ("-", None),
            (" 3", None),
            ("0x10", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn numerics_are_exact_and_rounded_away_from_zero() {
        for (text, precision, scale, expected) in [
            ("12.34", 18, 2, Some(Some(1234))),
            ("12.345", 18, 2, Some(Some(1235))),
            ("-12.345", 18, 2, Some(Some(-1235))),
            ("12.3449999999999999999999999999999999999999999", 18, 2, Some(Some(1234))),
            ("0.005", 18, 2, Some(Some(1))),
            ("0.0049", 18, 2, Some(Some(0))),
            ("1e-400", 18, 2, Some(Some(0))),
            ("9.995", 3, 2, Some(None)),
            ("0.1e1", 3, 2, Some(Some(100))),
            ("12345678901234567890123456789.123456789", 38, 9, Some(Some(12345678901234567890123456789123456789))),
            ("1e38", 38, 0, Some(None)),
            ("1e2147483648", 38, 0, Some(None)),
            ("abc", 18, 2, None),
            ("1.2.3", 18, 2, None),
        ] {
            assert_eq!(numeric(text, precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(float::<f64>("0.1"), Some(Some(0.1)));
        assert_eq!(float::<f32>("1e39"), Some(None));
        assert_eq!(float::<f64>("-1e400"), Some(None));
        assert_eq!(float::<f64>("-Infinity"), Some(Some(f64::NEG_INFINITY)));
        assert!(float::<f64>("NaN").unwrap().unwrap().is_nan());
        for bad in ["inf", "nan", "", "1,5", "infinity"] {
            assert_eq!(float::<f64>(bad), None, "{bad}");
        }
    }
}
