//! JSON values to Arrow columns, exactly: no number takes a detour over a float.
//!
//! | SQL type | JSON |
//! |---|---|
//! | boolean | `true`, `false`, or a string of them |
//! | smallint, integer, bigint | a number without a fraction (`3` or `3.0`), or a string of one |
//! | numeric(p,s) | a number or a string of one; rounded to `s` digits, half away from zero |
//! | real, double precision | a number, or a string of one, of `NaN`, `Infinity`, `-Infinity` |
//! | text, varchar | a string; any other value as its JSON text |
//! | bytea | a string: `\\x` and hex digits, else base64 |
//! | date, time, interval | a string, read as Postgres does |
//! | timestamp, timestamptz | a string, read as Postgres does under `TimeZone = UTC`, or milliseconds since 1970 |

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryBuilder;
use arrow::array::BooleanBuilder;
use arrow::array::Date32Builder;
use arrow::array::Decimal128Builder;
use arrow::array::Float32Builder;
use arrow::array::Float64Builder;
use arrow::array::Int16Builder;
use arrow::array::Int32Builder;
use arrow::array::Int64Builder;
use arrow::array::IntervalMonthDayNanoBuilder;
use arrow::array::StringBuilder;
use arrow::array::Time64MicrosecondBuilder;
use arrow::array::TimestampMicrosecondBuilder;
use chrono::NaiveDate;

use super::scan::Kind;
use super::scan::Reason;
use super::scan::unescape;
use crate::error::Error;
use crate::error::Result;
use crate::types::SqlType;
use crate::types::datetime;
use crate::types::interval::Interval;
use crate::types::numeric;
use crate::types::zone::Zone;

/// One column of rows being decoded.
pub(super) struct ColumnBuilder {
    ty: SqlType,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    /// With the most characters there may be.
    Text(StringBuilder, Option<u32>),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
}

/// Calls a method that all builders have.
macro_rules! each {
    ($values:expr, $builder:ident => $call:expr) => {
        match $values {
            Values::Boolean($builder) => $call,
            Values::SmallInt($builder) => $call,
            Values::Integer($builder) => $call,
            Values::BigInt($builder) => $call,
            Values::Real($builder) => $call,
            Values::Double($builder) => $call,
            Values::Numeric($builder, _, _) => $call,
            Values::Text($builder, _) => $call,
            Values::Bytea($builder) => $call,
            Values::Date($builder) => $call,
            Values::Time($builder) => $call,
            Values::Timestamp($builder) => $call,
            Values::Interval($builder) => $call,
        }
    };
}

impl ColumnBuilder {
    /// A column of this type; 0A000 for a type that JSON is not read as.
    pub(super) fn new(ty: &SqlType) -> Result<ColumnBuilder> {
        let values = match ty {
            SqlType::Boolean => Values::Boolean(BooleanBuilder::new()),
            SqlType::SmallInt => Values::SmallInt(Int16Builder::new()),
            SqlType::Integer => Values::Integer(Int32Builder::new()),
            SqlType::BigInt => Values::BigInt(Int64Builder::new()),
            SqlType::Real => Values::Real(Float32Builder::new()),
            SqlType::Double => Values::Double(Float64Builder::new()),
            SqlType::Numeric { precision, scale } => {
                Values::Numeric(Decimal128Builder::new().with_data_type(ty.arrow()), *precision, *scale)
            }
            SqlType::Text => Values::Text(StringBuilder::new(), None),
            SqlType::Varchar(length) => Values::Text(StringBuilder::new(), Some(*length)),
            SqlType::Bytea => Values::Bytea(BinaryBuilder::new()),
            SqlType::Date => Values::Date(Date32Builder::new()),
            SqlType::Time => Values::Time(Time64MicrosecondBuilder::new()),
            SqlType::Timestamp | SqlType::Timestamptz => {
                Values::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(ty.arrow()))
            }
            SqlType::Interval => Values::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Oid | SqlType::Name | SqlType::Char | SqlType::Array(_) => {
                return Err(Error::unsupported(format!("JSON cannot be read into a column of type {ty}")));
            }
        };
        Ok(ColumnBuilder { ty: ty.clone(), values })
    }

    /// Appends NULL.
    pub(super) fn append_null(&mut self) {
        each!(&mut self.values, builder => builder.append_null())
    }

    /// Appends a value of this kind with this text, or says why it cannot; then nothing was appended.
    pub(super) fn append(&mut self, kind: Kind, text: &str) -> Result<(), Reason> {
        match kind {
            Kind::Null => {
                self.append_null();
                Ok(())
            }
            Kind::Escaped => self.append_text(Kind::Plain, &unescape(text)?),
            Kind::Plain | Kind::Number | Kind::True | Kind::False | Kind::Nested => self.append_text(kind, text),
        }
    }

    fn append_text(&mut self, kind: Kind, text: &str) -> Result<(), Reason> {
        let number = matches!(kind, Kind::Number | Kind::Plain);
        let string = kind == Kind::Plain;
        let ty = &self.ty;
        match &mut self.values {
            Values::Text(builder, length) => {
                if length.is_some_and(|most| text.len() > most as usize && text.chars().count() > most as usize) {
                    return Err(format!("value too long for type {ty}"));
                }
                builder.append_value(text);
            }
            Values::Boolean(builder) => builder.append_value(boolean(text).ok_or_else(|| mismatch(ty, kind, text))?),
            Values::SmallInt(builder) if number => {
                builder.append_value(integer(text, ty, i16::MIN as i64, i16::MAX as i64)? as i16)
            }
            Values::Integer(builder) if number => {
                builder.append_value(integer(text, ty, i32::MIN as i64, i32::MAX as i64)? as i32)
            }
            Values::BigInt(builder) if number => builder.append_value(integer(text, ty, i64::MIN, i64::MAX)?),
            Values::Real(builder) if number => {
                let quick = text.parse::<f32>().ok().filter(|value| value.is_normal());
                builder.append_value(quick.map_or_else(|| read(numeric::parse_real, text), Ok)?)
            }
            Values::Double(builder) if number => {
                let quick = text.parse::<f64>().ok().filter(|value| value.is_normal());
                builder.append_value(quick.map_or_else(|| read(numeric::parse_double, text), Ok)?)
            }
            Values::Numeric(builder, precision, scale) if number => {
                builder.append_value(read(|text| numeric::parse_decimal(text, *precision, *scale), text)?)
            }
            Values::Bytea(builder) if string => {
                builder.append_value(bytes(text).ok_or_else(|| mismatch(ty, kind, text))?)
            }
            Values::Date(builder) if string => builder.append_value(read(datetime::parse_date, text)?),
            Values::Time(builder) if string => builder.append_value(read(datetime::parse_time, text)?),
            Values::Interval(builder) if string => {
                builder.append_value(read(|text| Interval::parse(text)?.arrow(), text)?)
            }
            Values::Timestamp(builder) if string => {
                let slow = || match ty {
                    SqlType::Timestamptz => read(|text| datetime::parse_timestamptz(text, &Zone::UTC), text),
                    _ => read(datetime::parse_timestamp, text),
                };
                builder.append_value(quick_timestamp(text.as_bytes()).map_or_else(slow, Ok)?)
            }
            Values::Timestamp(builder) if number => builder.append_value(milliseconds(text, ty)?),
            Values::SmallInt(_)
            | Values::Integer(_)
            | Values::BigInt(_)
            | Values::Real(_)
            | Values::Double(_)
            | Values::Numeric(..)
            | Values::Bytea(_)
            | Values::Date(_)
            | Values::Time(_)
            | Values::Timestamp(_)
            | Values::Interval(_) => return Err(mismatch(ty, kind, text)),
        }
        Ok(())
    }

    /// The column; the builder is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        each!(&mut self.values, builder => Arc::new(builder.finish()))
    }
}

/// Reads a value as Postgres does; the reason of a failure shows no more than the beginning of a long text.
fn read<T>(parse: impl Fn(&str) -> Result<T>, text: &str) -> Result<T, Reason> {
    parse(text).map_err(|error| error.message.replace(&format!("\"{text}\""), &shortened(text)))
}

/// A whole number in this range: the digits, perhaps a point and zeros.
fn integer(text: &str, ty: &SqlType, least: i64, greatest: i64) -> Result<i64, Reason> {
    if let Some(value) = quick_integer(text.as_bytes()).filter(|value| (least..=greatest).contains(value)) {
        return Ok(value);
    }
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    match whole.parse::<i64>() {
        Ok(value) if (least..=greatest).contains(&value) => Ok(value),
        _ => read(|text| numeric::parse_integer(text, &ty.to_string(), least, greatest), whole),
    }
}

/// The usual form: at most 18 digits, perhaps after a minus.
fn quick_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !(1..=18).contains(&digits.len()) {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        value = value * 10 + digit.checked_sub(b'0').filter(|d| *d < 10)? as i64;
    }
    Some(if digits.len() < text.len() { -value } else { value })
}

/// Microseconds of a timestamp given in milliseconds, perhaps with a fraction.
fn milliseconds(text: &str, ty: &SqlType) -> Result<i64, Reason> {
    let micros = numeric::parse_decimal(text, numeric::PRECISION_MAX, 3).ok();
    let valid = micros.and_then(|micros| i64::try_from(micros).ok()).and_then(datetime::timestamp_in_range);
    valid.ok_or_else(|| format!("{} milliseconds are out of range for type {ty}", shortened(text)))
}

/// The usual form `YYYY-MM-DD HH:MM:SS[.ffffff][Z]`, with a blank or a `T`; `None` for any other and for what is no time.
fn quick_timestamp(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_at_checked(19)?;
    let [b'-', b'-', b' ' | b'T', b':', b':'] = [4, 7, 10, 13, 16].map(|at| head[at]) else { return None };
    let number = |digits: &[u8]| {
        let mut value = 0;
        for digit in digits {
            value = value * 10 + digit.checked_sub(b'0').filter(|d| *d < 10)? as u32;
        }
        Some(value)
    };
    let date = NaiveDate::from_ymd_opt(number(&head[..4])? as i32, number(&head[5..7])?, number(&head[8..10])?)?;
    let time = date.and_hms_opt(number(&head[11..13])?, number(&head[14..16])?, number(&head[17..19])?)?;
    let tail = tail.strip_suffix(b"Z").unwrap_or(tail);
    let micros = match tail {
        [] => 0,
        [b'.', fraction @ ..] if (1..=6).contains(&fraction.len()) => {
            number(fraction)? * 10u32.pow(6 - fraction.len() as u32)
        }
        _ => return None,
    };
    Some(time.and_utc().timestamp() * 1_000_000 + micros as i64)
}

/// The reason for a value of a kind that the column does not take.
fn mismatch(ty: &SqlType, kind: Kind, text: &str) -> Reason {
    let what = match kind {
        Kind::Nested => "an object or array",
        Kind::Plain | Kind::Escaped => "a string",
        Kind::Number => "a number",
        Kind::True | Kind::False | Kind::Null => "a literal",
    };
    format!("{what} cannot be read as {ty}: {}", shortened(text))
}

/// The text, or its first 64 characters.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => format!("\"{text}\""),
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(hex) => from_hex(hex.as_bytes()),
        None => from_base64(text.as_bytes()),
    }
}

fn from_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = hex.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// RFC 4648 §4; the padding may be left out.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = match text {
        [body @ .., b'=', b'='] | [body @ .., b'='] if text.len().is_multiple_of(4) => body,
        _ => text,
    };
    let mut out = Vec::with_capacity(unpadded.len() * 3 / 4);
    for group in unpadded.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            bits = bits << 6 | sextet(*byte)?;
        }
        bits <<= 6 * (4 - group.len());
        match group.len() {
            1 => return None,
            length => out.extend_from_slice(&bits.to_be_bytes()[1..length]),
        }
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u32> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    } as u32)
}
