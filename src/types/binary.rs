//! Values as bytes: Postgres' binary wire form, bit for bit, both ways.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::Date32Array;
use arrow::array::Decimal128Array;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int16Array;
use arrow::array::Int32Array;
use arrow::array::Int64Array;
use arrow::array::IntervalMonthDayNanoArray;
use arrow::array::ListArray;
use arrow::array::StringArray;
use arrow::array::Time64MicrosecondArray;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::types::Date32Type;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int16Type;
use arrow::array::types::Int32Type;
use arrow::array::types::Int64Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::array::types::Time64MicrosecondType;
use arrow::array::types::TimestampMicrosecondType;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;

use crate::error::Error;
use crate::error::Result;
use crate::types::SqlType;
use crate::types::UTC;
use crate::types::interval::Interval;
use crate::types::numeric;
use crate::types::parse;
use crate::types::text::from_utf8;

/// Postgres counts days from 2000-01-01; this is that day counted from 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
/// The sign word of a negative `numeric`.
const NEGATIVE: u16 = 0x4000;
/// Groups of four digits beyond which no `numeric` of ours reaches.
const GROUPS_MAX: i16 = 20;

/// Writes the values of one column. Made once for a column, so that the type is looked at once and not for every row.
pub struct BinaryColumn<'a> {
    /// The column.
    array: &'a dyn Array,
    /// Its type.
    ty: &'a SqlType,
}

impl<'a> BinaryColumn<'a> {
    /// The writer of a column; its Arrow type must be that of `ty`.
    pub fn new(array: &'a dyn Array, ty: &'a SqlType) -> Result<BinaryColumn<'a>> {
        if *array.data_type() != ty.arrow() {
            return Err(Error::internal(format!("a column of {} was taken for {ty}", array.data_type())));
        }
        Ok(BinaryColumn { array, ty })
    }

    /// Whether the value of this row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// Appends the value of this row, which is not NULL.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let array = self.array;
        match self.ty {
            SqlType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
            SqlType::SmallInt => out.extend(array.as_primitive::<Int16Type>().value(row).to_be_bytes()),
            SqlType::Integer => out.extend(array.as_primitive::<Int32Type>().value(row).to_be_bytes()),
            SqlType::BigInt => out.extend(array.as_primitive::<Int64Type>().value(row).to_be_bytes()),
            SqlType::Oid => out.extend((array.as_primitive::<Int64Type>().value(row) as u32).to_be_bytes()),
            SqlType::Real => out.extend(array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
            SqlType::Double => out.extend(array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
            SqlType::Numeric { scale, .. } => {
                write_numeric(array.as_primitive::<Decimal128Type>().value(row), *scale, out)
            }
            SqlType::Text | SqlType::Varchar(_) | SqlType::Name => {
                out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes())
            }
            SqlType::Char => out.push(array.as_string::<i32>().value(row).bytes().next().unwrap_or(0)),
            SqlType::Bytea => out.extend_from_slice(array.as_binary::<i32>().value(row)),
            SqlType::Date => {
                let days = match array.as_primitive::<Date32Type>().value(row) {
                    infinite @ (i32::MIN | i32::MAX) => infinite,
                    days => days.saturating_sub(EPOCH_DAYS),
                };
                out.extend(days.to_be_bytes());
            }
            SqlType::Time => out.extend(array.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
            SqlType::Timestamp | SqlType::Timestamptz => {
                let micros = match array.as_primitive::<TimestampMicrosecondType>().value(row) {
                    infinite @ (i64::MIN | i64::MAX) => infinite,
                    micros => micros.saturating_sub(EPOCH_MICROS),
                };
                out.extend(micros.to_be_bytes());
            }
            SqlType::Interval => {
                let interval = Interval::from(array.as_primitive::<IntervalMonthDayNanoType>().value(row));
                out.extend(interval.micros.to_be_bytes());
                out.extend(interval.days.to_be_bytes());
                out.extend(interval.months.to_be_bytes());
            }
            SqlType::Array(item) => write_items(&array.as_list::<i32>().value(row), item, out),
        }
    }
}

/// An array of one dimension: dimensions, whether there are NULLs, the type, the bounds, the items.
fn write_items(items: &ArrayRef, ty: &SqlType, out: &mut Vec<u8>) {
    let dimensions = i32::from(!items.is_empty());
    out.extend(dimensions.to_be_bytes());
    out.extend(i32::from(items.null_count() > 0).to_be_bytes());
    out.extend(ty.oid().to_be_bytes());
    if dimensions == 0 {
        return;
    }
    out.extend((items.len() as i32).to_be_bytes());
    out.extend(1i32.to_be_bytes());
    let column = BinaryColumn { array: items.as_ref(), ty };
    for row in 0..items.len() {
        let start = out.len();
        out.extend((-1i32).to_be_bytes());
        if !column.is_null(row) {
            column.write(row, out);
            let length = (out.len() - start - 4) as i32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Groups of four decimal digits, most significant first, without zero groups at either end.
fn write_numeric(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut text = String::new();
    numeric::write_decimal(value, scale, &mut text);
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let group = |digits: &[u8]| digits.iter().fold(0u16, |n, digit| n * 10 + u16::from(digit - b'0'));
    let mut groups: Vec<u16> = Vec::with_capacity(12);
    let first = whole.len() % 4;
    if first > 0 {
        groups.push(group(&whole.as_bytes()[..first]));
    }
    groups.extend(whole.as_bytes()[first..].chunks(4).map(group));
    let mut weight = groups.len() as i16 - 1;
    groups.extend(fraction.as_bytes().chunks(4).map(|chunk| group(chunk) * 10u16.pow(4 - chunk.len() as u32)));
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight = if groups.is_empty() { 0 } else { weight - leading as i16 };
    let sign = if value < 0 { NEGATIVE } else { 0 };
    out.extend((groups.len() as u16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend((fraction.len() as u16).to_be_bytes());
    out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
}

/// Reads one value: an array of one row.
pub fn parse(bytes: &[u8], ty: &SqlType) -> Result<ArrayRef> {
    Ok(match ty {
        SqlType::Boolean => Arc::new(BooleanArray::from(vec![fixed::<1>(bytes, ty)?[0] != 0])),
        SqlType::SmallInt => Arc::new(Int16Array::from(vec![i16::from_be_bytes(fixed(bytes, ty)?)])),
        SqlType::Integer => Arc::new(Int32Array::from(vec![i32::from_be_bytes(fixed(bytes, ty)?)])),
        SqlType::BigInt => Arc::new(Int64Array::from(vec![i64::from_be_bytes(fixed(bytes, ty)?)])),
        SqlType::Oid => Arc::new(Int64Array::from(vec![i64::from(u32::from_be_bytes(fixed(bytes, ty)?))])),
        SqlType::Real => Arc::new(Float32Array::from(vec![f32::from_be_bytes(fixed(bytes, ty)?)])),
        SqlType::Double => Arc::new(Float64Array::from(vec![f64::from_be_bytes(fixed(bytes, ty)?)])),
        SqlType::Numeric { precision, scale } => {
            let value = parse_numeric(bytes, ty, *precision, *scale)?;
            let array = Decimal128Array::from(vec![value]).with_precision_and_scale(*precision, *scale);
            Arc::new(array.map_err(|e| Error::internal(e.to_string()))?)
        }
        SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => {
            let text = from_utf8(bytes)?;
            let text = if let SqlType::Varchar(length) = ty { parse::fit_varchar(text, *length)? } else { text };
            Arc::new(StringArray::from(vec![text]))
        }
        SqlType::Bytea => Arc::new(BinaryArray::from(vec![bytes])),
        SqlType::Date => {
            let days = match i32::from_be_bytes(fixed(bytes, ty)?) {
                infinite @ (i32::MIN | i32::MAX) => infinite,
                days => days.checked_add(EPOCH_DAYS).ok_or_else(|| Error::datetime_overflow("date out of range"))?,
            };
            Arc::new(Date32Array::from(vec![days]))
        }
        SqlType::Time => Arc::new(Time64MicrosecondArray::from(vec![time(bytes, ty)?])),
        SqlType::Timestamp => Arc::new(TimestampMicrosecondArray::from(vec![moment(bytes, ty)?])),
        SqlType::Timestamptz => Arc::new(TimestampMicrosecondArray::from(vec![moment(bytes, ty)?]).with_timezone(UTC)),
        SqlType::Interval => Arc::new(IntervalMonthDayNanoArray::from(vec![interval(bytes, ty)?.arrow()?])),
        SqlType::Array(item) => Arc::new(parse_items(bytes, ty, item)?),
    })
}

fn invalid(ty: &SqlType) -> Error {
    Error::invalid_binary(format!("incorrect binary data format for type {ty}"))
}

fn fixed<const N: usize>(bytes: &[u8], ty: &SqlType) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| invalid(ty))
}

fn moment(bytes: &[u8], ty: &SqlType) -> Result<i64> {
    match i64::from_be_bytes(fixed(bytes, ty)?) {
        infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
        micros => micros.checked_add(EPOCH_MICROS).ok_or_else(|| Error::datetime_overflow("timestamp out of range")),
    }
}

fn time(bytes: &[u8], ty: &SqlType) -> Result<i64> {
    let micros = i64::from_be_bytes(fixed(bytes, ty)?);
    match (0..=86_400_000_000).contains(&micros) {
        true => Ok(micros),
        false => Err(Error::datetime_overflow("time out of range")),
    }
}

fn interval(bytes: &[u8], ty: &SqlType) -> Result<Interval> {
    let mut reader = Reader { bytes, ty };
    let micros = i64::from_be_bytes(reader.take()?);
    let days = i32::from_be_bytes(reader.take()?);
    let months = i32::from_be_bytes(reader.take()?);
    reader.end()?;
    Ok(Interval { months, days, micros })
}

/// By way of the text form, which knows rounding and limits.
fn parse_numeric(bytes: &[u8], ty: &SqlType, precision: u8, scale: i8) -> Result<i128> {
    let mut reader = Reader { bytes, ty };
    let count = u16::from_be_bytes(reader.take()?);
    let weight = i16::from_be_bytes(reader.take()?);
    let sign = u16::from_be_bytes(reader.take()?);
    let shown = u16::from_be_bytes(reader.take()?);
    if !matches!(sign, 0 | NEGATIVE) {
        return Err(Error::unsupported("NaN and infinity are not supported for numeric"));
    }
    let groups = (0..count).map(|_| Ok(u16::from_be_bytes(reader.take()?))).collect::<Result<Vec<_>>>()?;
    reader.end()?;
    if groups.iter().any(|group| *group > 9999) || shown > 16_383 {
        return Err(invalid(ty));
    }
    if groups.is_empty() || weight < -GROUPS_MAX {
        return Ok(0);
    }
    if weight > GROUPS_MAX {
        return Err(numeric::decimal_overflow(precision, scale));
    }
    let mut text = String::from(if sign == NEGATIVE { "-0" } else { "0" });
    for place in (0..=weight).rev() {
        text.push_str(&format!("{:04}", groups.get((weight - place) as usize).copied().unwrap_or(0)));
    }
    text.push('.');
    text.extend(std::iter::repeat_n("0000", usize::try_from(-1 - weight).unwrap_or(0)));
    let whole = usize::try_from(weight + 1).unwrap_or(0);
    text.extend(groups.iter().skip(whole).map(|group| format!("{group:04}")));
    numeric::parse_decimal(text.trim_end_matches('.'), precision, scale)
}

fn parse_items(bytes: &[u8], ty: &SqlType, item: &SqlType) -> Result<ListArray> {
    let mut reader = Reader { bytes, ty };
    let dimensions = i32::from_be_bytes(reader.take()?);
    let _has_nulls = i32::from_be_bytes(reader.take()?);
    let sent = u32::from_be_bytes(reader.take()?);
    if SqlType::from_oid(sent)
        .is_none_or(|sent| sent.arrow() != SqlType::from_oid(item.oid()).map_or(item.arrow(), |t| t.arrow()))
    {
        return Err(Error::type_mismatch(format!("the items of the array are not of type {item}")));
    }
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = i32::from_be_bytes(reader.take()?);
            let _lower_bound = i32::from_be_bytes(reader.take()?);
            count
        }
        _ => return Err(Error::unsupported("arrays of several dimensions are not supported")),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(reader.take()?);
        items.push(match usize::try_from(length) {
            Ok(length) => parse(reader.slice(length)?, item)?,
            Err(_) => parse::null(item),
        });
    }
    reader.end()?;
    let arrays: Vec<&dyn Array> = items.iter().map(AsRef::as_ref).collect();
    let values = match arrays.is_empty() {
        true => arrow::array::new_empty_array(&item.arrow()),
        false => arrow::compute::concat(&arrays).map_err(|e| Error::internal(e.to_string()))?,
    };
    let field = Arc::new(Field::new_list_field(item.arrow(), true));
    ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)
        .map_err(|e| Error::internal(e.to_string()))
}

/// What is left of a value.
struct Reader<'a> {
    bytes: &'a [u8],
    ty: &'a SqlType,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| invalid(self.ty))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        fixed(self.slice(N)?, self.ty)
    }

    fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(invalid(self.ty)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::text;
    use crate::types::zone::Zone;

    fn bytes_of(value: &str, ty: &SqlType) -> Vec<u8> {
        let array = parse::parse(value, ty, Zone::UTC).unwrap();
        let mut bytes = Vec::new();
        BinaryColumn::new(array.as_ref(), ty).unwrap().write(0, &mut bytes);
        bytes
    }

    #[test]
    fn bytes_are_those_of_postgres() {
        let numeric = SqlType::Numeric { precision: 12, scale: 4 };
        for (value, ty, expected) in [
            ("t", SqlType::Boolean, &[1][..]),
            ("-2", SqlType::SmallInt, &[0xff, 0xfe]),
            ("1", SqlType::Integer, &[0, 0, 0, 1]),
            ("2000-01-02", SqlType::Date, &[0, 0, 0, 1]),
            ("2000-01-01 00:00:00.000001", SqlType::Timestamp, &[0, 0, 0, 0, 0, 0, 0, 1]),
            ("infinity", SqlType::Date, &[0x7f, 0xff, 0xff, 0xff]),
            ("1 mon 2 days 00:00:00.000003", SqlType::Interval, &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1]),
            ("12345.678", numeric.clone(), &[0, 3, 0, 1, 0, 0, 0, 4, 0, 1, 0x09, 0x29, 0x1a, 0x7c]),
            ("-0.0001", numeric.clone(), &[0, 1, 0xff, 0xff, 0x40, 0, 0, 4, 0, 1]),
            ("0", numeric.clone(), &[0, 0, 0, 0, 0, 0, 0, 4]),
            ("\\x00ff", SqlType::Bytea, &[0, 0xff]),
        ] {
            assert_eq!(bytes_of(value, &ty), expected, "{value}");
        }
    }

    #[test]
    fn every_type_reads_back_what_it_wrote() {
        let numeric = SqlType::Numeric { precision: 38, scale: 9 };
        for (value, ty) in [
            ("f", SqlType::Boolean),
            ("-32768", SqlType::SmallInt),
            ("9223372036854775807", SqlType::BigInt),
            ("4294967295", SqlType::Oid),
            ("1.5", SqlType::Real),
            ("NaN", SqlType::Double),
            ("12345678901234567890123456789.123456789", numeric.clone()),
            ("-10000.000000001", numeric.clone()),
            ("0.000010000", numeric),
            ("straße", SqlType::Text),
            ("1969-12-31", SqlType::Date),
            ("23:59:59.5", SqlType::Time),
            ("1999-12-31 23:59:59.999999", SqlType::Timestamp),
            ("-infinity", SqlType::Timestamp),
            ("2024-02-29 12:00:00+00", SqlType::Timestamptz),
            ("-1 years +3 days -04:05:06", SqlType::Interval),
            ("{1,NULL,3}", SqlType::Array(Box::new(SqlType::Integer))),
            ("{}", SqlType::Array(Box::new(SqlType::Text))),
        ] {
            let array = parse(&bytes_of(value, &ty), &ty).unwrap();
            let mut shown = String::new();
            text::format(array.as_ref(), &ty, 0, Zone::UTC, &mut shown).unwrap();
            assert_eq!(shown, value);
        }
    }

    #[test]
    fn broken_bytes_are_refused() {
        for (bytes, ty) in [
            (&[0, 0, 0][..], SqlType::Integer),
            (&[0, 1, 0, 0], SqlType::NUMERIC),
            (&[0, 0, 0, 0, 0xc0, 0, 0, 0], SqlType::NUMERIC),
            (&[0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1], SqlType::NUMERIC),
            (&[0xff], SqlType::Text),
            (&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1], {
                SqlType::Array(Box::new(SqlType::Integer))
            }),
            (&[0xff; 8], SqlType::Time),
        ] {
            assert!(parse(bytes, &ty).is_err(), "{ty} {bytes:?}");
        }
    }
}
