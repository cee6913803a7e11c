//! Numbers as text: integers, decimals and floats, read and written as Postgres does.

use std::fmt::Write;

use crate::error::Error;
use crate::error::Result;

/// The greatest precision of a `numeric`.
pub const PRECISION_MAX: u8 = 38;

/// The powers of ten that 128 bits hold, by exponent.
const POWERS_OF_TEN: [i128; PRECISION_MAX as usize + 1] = {
    let mut powers = [1; PRECISION_MAX as usize + 1];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = 10 * powers[exponent - 1];
        exponent += 1;
    }
    powers
};

/// 10 to the power of `exponent`; `None` on overflow of 128 bits.
#[inline]
pub fn power_of_ten(exponent: u32) -> Option<i128> {
    POWERS_OF_TEN.get(exponent as usize).copied()
}

/// The error of text that is no value of a type.
pub fn invalid_text(ty: &str, text: &str) -> Error {
    Error::invalid_text(format!("invalid input syntax for type {ty}: \"{text}\""))
}

/// Reads an integer that lies in `least..=greatest`.
pub fn parse_integer(text: &str, ty: &str, least: i64, greatest: i64) -> Result<i64> {
    let digits = text.trim_matches(is_space);
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_text(ty, text));
    }
    let value = digits.parse::<i64>().ok().filter(|value| (least..=greatest).contains(value));
    value.ok_or_else(|| Error::out_of_range(format!("value \"{text}\" is out of range for type {ty}")))
}

/// What Postgres skips around a value.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Reads a decimal into units of its last digit, rounding half away from zero.
pub fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let syntax = || invalid_text("numeric", text);
    let trimmed = text.trim_matches(is_space);
    let (negative, unsigned) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if ["nan", "infinity", "inf"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return Err(Error::out_of_range(format!("type numeric does not hold \"{trimmed}\" here")));
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().map_err(|_| syntax())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || whole.len() + fraction.len() == 0 {
        return Err(syntax());
    }
    let digits = whole.bytes().chain(fraction.bytes()).map(|byte| (byte - b'0') as i128);
    let kept = (whole.len() as i64).saturating_add(exponent).saturating_add(scale as i64);
    let overflow = || decimal_overflow(precision, scale);
    let mut value: i128 = 0;
    let mut round_up = false;
    let mut seen = 0;
    for digit in digits {
        if seen == kept {
            round_up = digit >= 5;
        }
        if seen < kept {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or_else(overflow)?;
        }
        seen += 1;
    }
    while seen < kept && value != 0 {
        value = value.checked_mul(10).ok_or_else(overflow)?;
        seen += 1;
    }
    value = if negative { -(value + round_up as i128) } else { value + round_up as i128 };
    fit_decimal(value, precision, scale)
}

/// Whether so many digits hold the value.
#[inline]
pub fn fits_digits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < POWERS_OF_TEN[precision.min(PRECISION_MAX) as usize] as u128
}

/// The value, if `precision` digits hold it; else 22003.
#[inline]
pub fn fit_decimal(value: i128, precision: u8, scale: i8) -> Result<i128> {
    if fits_digits(value, precision) { Ok(value) } else { Err(decimal_overflow(precision, scale)) }
}

/// The error of a number that a `numeric(precision, scale)` does not hold.
pub fn decimal_overflow(precision: u8, scale: i8) -> Error {
    let whole = precision as i32 - scale as i32;
    let bound = if whole == 0 { "1".to_string() } else { format!("10^{whole}") };
    Error::out_of_range("numeric field overflow").detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
    ))
}

/// Writes a decimal with all digits of its scale.
pub fn write_decimal(value: i128, scale: i8, out: &mut String) {
    let written = if value < 0 {
        out.push('-');
        write!(out, "{:0>width$}", value.unsigned_abs(), width = scale.max(0) as usize + 1)
    } else {
        write!(out, "{:0>width$}", value, width = scale.max(0) as usize + 1)
    };
    written.expect("a String takes everything");
    if scale > 0 {
        out.insert(out.len() - scale as usize, '.');
    } else if value != 0 {
        out.extend(std::iter::repeat_n('0', -scale as usize));
    }
}

/// Changes a decimal's scale, rounding half away from zero; `None` on overflow of 128 bits.
#[inline]
pub fn rescale_decimal(value: i128, from: i8, to: i8) -> Option<i128> {
    if from == to || value == 0 {
        return Some(value);
    }
    let unit = power_of_ten(from.abs_diff(to).into());
    if from < to { product(value, unit?) } else { Some(unit.map_or(0, |unit| divide_half_away(value, unit))) }
}

/// `a * b`; `None` on overflow of 128 bits.
#[inline]
pub fn product(a: i128, b: i128) -> Option<i128> {
    // Most numbers are small, and one instruction multiplies them.
    match (i64::try_from(a), i64::try_from(b)) {
        (Ok(a), Ok(b)) => Some(a as i128 * b as i128),
        (Err(_), _) | (_, Err(_)) => a.checked_mul(b),
    }
}

/// `value / by` (above 0), rounded half away from zero.
pub fn divide_half_away(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    let away = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
    quotient + if away { value.signum() } else { 0 }
}

/// Reads a `double precision`.
pub fn parse_double(text: &str) -> Result<f64> {
    let (number, value) = parse_float::<f64>(text, "double precision")?;
    let zero_written = || number.bytes().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| !(b'1'..=b'9').contains(&b));
    if value.is_infinite() && !is_infinity(number) || value == 0.0 && !zero_written() {
        return Err(Error::out_of_range(format!("\"{number}\" is out of range for type double precision")));
    }
    Ok(value)
}

/// Reads a `real`.
pub fn parse_real(text: &str) -> Result<f32> {
    let (number, value) = parse_float::<f32>(text, "real")?;
    let zero_written = || number.bytes().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| !(b'1'..=b'9').contains(&b));
    if value.is_infinite() && !is_infinity(number) || value == 0.0 && !zero_written() {
        return Err(Error::out_of_range(format!("\"{number}\" is out of range for type real")));
    }
    Ok(value)
}

fn parse_float<'a, F: std::str::FromStr>(text: &'a str, ty: &str) -> Result<(&'a str, F)> {
    let number = text.trim_matches(is_space);
    let value = number.parse().map_err(|_| invalid_text(ty, text))?;
    Ok((number, value))
}

fn is_infinity(number: &str) -> bool {
    number.contains(['i', 'I'])
}

/// Writes a `double precision`: the fewest digits that read back as the same value.
pub fn write_double(value: f64, out: &mut String) {
    if !write_special(value, out) {
        let start = out.len();
        write!(out, "{value:e}").expect("a String takes everything");
        lay_out(out, start, 15);
    }
}

/// Writes a `real`.
pub fn write_real(value: f32, out: &mut String) {
    if !write_special(value as f64, out) {
        let start = out.len();
        write!(out, "{value:e}").expect("a String takes everything");
        lay_out(out, start, 6);
    }
}

fn write_special(value: f64, out: &mut String) -> bool {
    let word = match (value.is_nan(), value == f64::INFINITY, value == f64::NEG_INFINITY) {
        (true, _, _) => "NaN",
        (_, true, _) => "Infinity",
        (_, _, true) => "-Infinity",
        _ => return false,
    };
    out.push_str(word);
    true
}

/// Turns Rust's `-1.25e-7` at the end of `out` into the form of Postgres: fixed where −4 ≤ exponent < `bound`.
fn lay_out(out: &mut String, start: usize, bound: i32) {
    let at = start + out[start..].find('e').expect("the form has an exponent");
    let exponent: i32 = out[at + 1..].parse().expect("the exponent is a number");
    out.truncate(at);
    if exponent < -4 || exponent >= bound {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "e{sign}{:02}", exponent.abs()).expect("a String takes everything");
        return;
    }
    let digits_start = start + out[start..].starts_with('-') as usize;
    if out.len() > digits_start + 1 {
        out.remove(digits_start + 1);
    }
    if exponent < 0 {
        out.insert_str(digits_start, &"0.000"[..1 + (-exponent) as usize]);
        return;
    }
    let count = out.len() - digits_start;
    let whole = exponent as usize + 1;
    if count > whole {
        out.insert(digits_start + whole, '.');
    } else {
        out.extend(std::iter::repeat_n('0', whole - count));
    }
}
