//! Values as bytes: Postgres' binary wire form, bit for bit, as its send functions write and its receive functions read it.

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
use crate::types::cast::unwrap_arrow;
use crate::types::interval::Interval;
use crate::types::numeric::fit_decimal;
use crate::types::numeric::rescale_decimal;
use crate::types::parse::fit_varchar;
use crate::types::parse::null;

/// Days from 1970-01-01 to 2000-01-01, where Postgres counts from.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// A digit of a binary `numeric` stands for four.
const NUMERIC_BASE: u128 = 10_000;
const NUMERIC_NEGATIVE: u16 = 0x4000;

/// Appends the bytes of one value, which is not NULL.
pub fn write(array: &dyn Array, ty: &SqlType, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match ty {
        SqlType::Boolean => out.push(array.as_boolean().value(row) as u8),
        SqlType::SmallInt => out.extend(array.as_primitive::<Int16Type>().value(row).to_be_bytes()),
        SqlType::Integer => out.extend(array.as_primitive::<Int32Type>().value(row).to_be_bytes()),
        SqlType::BigInt => out.extend(array.as_primitive::<Int64Type>().value(row).to_be_bytes()),
        SqlType::Oid => out.extend((array.as_primitive::<Int64Type>().value(row) as u32).to_be_bytes()),
        SqlType::Real => out.extend(array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
        SqlType::Double => out.extend(array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
        SqlType::Numeric { scale, .. } => write_numeric(array.as_primitive::<Decimal128Type>().value(row), *scale, out),
        SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => {
            out.extend(array.as_string::<i32>().value(row).as_bytes())
        }
        SqlType::Bytea => out.extend(array.as_binary::<i32>().value(row)),
        SqlType::Date => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let infinite = days == i32::MAX || days == i32::MIN;
            out.extend(if infinite { days } else { days - EPOCH_DAYS }.to_be_bytes());
        }
        SqlType::Time => out.extend(array.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
        SqlType::Timestamp | SqlType::Timestamptz => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let infinite = micros == i64::MAX || micros == i64::MIN;
            out.extend(if infinite { micros } else { micros - EPOCH_MICROS }.to_be_bytes());
        }
        SqlType::Interval => {
            let interval = Interval::from(array.as_primitive::<IntervalMonthDayNanoType>().value(row));
            out.extend(interval.micros.to_be_bytes());
            out.extend(interval.days.to_be_bytes());
            out.extend(interval.months.to_be_bytes());
        }
        SqlType::Array(item) => write_items(array.as_list::<i32>().value(row).as_ref(), item, out)?,
    }
    Ok(())
}

/// Digits of base 10,000, the highest first: how many, the weight of the first, the sign, and the decimal digits after the point.
fn write_numeric(value: i128, scale: i8, out: &mut Vec<u8>) {
    let scale = scale.max(0) as u32;
    let fill = (4 - scale % 4) % 4;
    let unit = 10u128.pow(scale);
    let (mut whole, fraction) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
    let mut fraction = fraction * 10u128.pow(fill);
    let mut digits = Vec::new();
    for _ in 0..(scale + fill) / 4 {
        digits.push((fraction % NUMERIC_BASE) as u16);
        fraction /= NUMERIC_BASE;
    }
    let below = digits.len() as i16;
    while whole > 0 {
        digits.push((whole % NUMERIC_BASE) as u16);
        whole /= NUMERIC_BASE;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let weight = if digits.is_empty() { 0 } else { digits.len() as i16 - below - 1 };
    let trailing = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..trailing);
    out.extend((digits.len() as u16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(if value < 0 { NUMERIC_NEGATIVE } else { 0 }.to_be_bytes());
    out.extend((scale as u16).to_be_bytes());
    digits.iter().rev().for_each(|digit| out.extend(digit.to_be_bytes()));
}

fn write_items(items: &dyn Array, ty: &SqlType, out: &mut Vec<u8>) -> Result<()> {
    let dimensions = if items.is_empty() { 0i32 } else { 1 };
    out.extend(dimensions.to_be_bytes());
    out.extend(((items.null_count() > 0) as i32).to_be_bytes());
    out.extend(ty.oid().to_be_bytes());
    if items.is_empty() {
        return Ok(());
    }
    out.extend((items.len() as i32).to_be_bytes());
    out.extend(1i32.to_be_bytes());
    for row in 0..items.len() {
        if items.is_null(row) {
            out.extend((-1i32).to_be_bytes());
            continue;
        }
        let at = out.len();
        out.extend([0; 4]);
        write(items, ty, row, out)?;
        let length = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Reads one value: an array of one row. 22P03 where the bytes are none.
pub fn read(bytes: &[u8], ty: &SqlType) -> Result<ArrayRef> {
    let mut input = Input { bytes };
    let array: ArrayRef = match ty {
        SqlType::Boolean => Arc::new(BooleanArray::from(vec![input.take::<1>()? != [0]])),
        SqlType::SmallInt => Arc::new(Int16Array::from(vec![i16::from_be_bytes(input.take()?)])),
        SqlType::Integer => Arc::new(Int32Array::from(vec![input.int()?])),
        SqlType::BigInt => Arc::new(Int64Array::from(vec![input.long()?])),
        SqlType::Oid => Arc::new(Int64Array::from(vec![input.int()? as u32 as i64])),
        SqlType::Real => Arc::new(Float32Array::from(vec![f32::from_be_bytes(input.take()?)])),
        SqlType::Double => Arc::new(Float64Array::from(vec![f64::from_be_bytes(input.take()?)])),
        SqlType::Numeric { precision, scale } => {
            let value = read_numeric(&mut input, *precision, *scale)?;
            Arc::new(Decimal128Array::from(vec![value]).with_data_type(ty.arrow()))
        }
        SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => {
            let text = std::str::from_utf8(input.rest());
            let text = text.map_err(|_| Error::invalid_binary("invalid byte sequence for encoding \"UTF8\""))?;
            let text = if let SqlType::Varchar(length) = ty { fit_varchar(text, *length)? } else { text };
            Arc::new(StringArray::from(vec![text]))
        }
        SqlType::Bytea => Arc::new(BinaryArray::from(vec![input.rest()])),
        SqlType::Date => {
            let days = input.int()?;
            let infinite = days == i32::MAX || days == i32::MIN;
            let days = if infinite { Some(days) } else { days.checked_add(EPOCH_DAYS) };
            Arc::new(Date32Array::from(vec![days.ok_or_else(|| Error::datetime_overflow("date out of range"))?]))
        }
        SqlType::Time => Arc::new(Time64MicrosecondArray::from(vec![input.long()?])),
        SqlType::Timestamp | SqlType::Timestamptz => {
            let micros = input.long()?;
            let infinite = micros == i64::MAX || micros == i64::MIN;
            let micros = if infinite { Some(micros) } else { micros.checked_add(EPOCH_MICROS) };
            let micros = micros.ok_or_else(|| Error::datetime_overflow("timestamp out of range"))?;
            Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_data_type(ty.arrow()))
        }
        SqlType::Interval => {
            let interval = Interval { micros: input.long()?, days: input.int()?, months: input.int()? };
            Arc::new(IntervalMonthDayNanoArray::from(vec![interval.arrow()?]))
        }
        SqlType::Array(item) => read_items(&mut input, item)?,
    };
    match input.bytes.is_empty() {
        true => Ok(array),
        false => Err(malformed()),
    }
}

fn malformed() -> Error {
    Error::invalid_binary("incorrect binary data format")
}

fn read_numeric(input: &mut Input<'_>, precision: u8, scale: i8) -> Result<i128> {
    let count = u16::from_be_bytes(input.take()?);
    let weight = i16::from_be_bytes(input.take()?);
    let sign = u16::from_be_bytes(input.take()?);
    let _shown = u16::from_be_bytes(input.take()?);
    if sign != 0 && sign != NUMERIC_NEGATIVE {
        return Err(Error::out_of_range("numeric NaN and infinity are not supported"));
    }
    let overflow = || crate::types::numeric::decimal_overflow(precision, scale);
    let mut value: i128 = 0;
    for _ in 0..count {
        let digit = u16::from_be_bytes(input.take()?);
        if digit as u128 >= NUMERIC_BASE {
            return Err(Error::invalid_binary("invalid digit in external \"numeric\" value"));
        }
        value =
            value.checked_mul(NUMERIC_BASE as i128).and_then(|v| v.checked_add(digit as i128)).ok_or_else(overflow)?;
    }
    let below = (count as i32 - 1 - weight as i32) * 4;
    let from = i8::try_from(below).map_err(|_| overflow())?;
    let value = if sign == NUMERIC_NEGATIVE { -value } else { value };
    fit_decimal(rescale_decimal(value, from, scale).ok_or_else(overflow)?, precision, scale)
}

fn read_items(input: &mut Input<'_>, ty: &SqlType) -> Result<ArrayRef> {
    let dimensions = input.int()?;
    let (_flags, oid) = (input.int()?, input.int()? as u32);
    if oid != ty.oid() {
        return Err(Error::invalid_binary(format!(
            "binary data has array element type {oid} instead of expected {}",
            ty.oid()
        )));
    }
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = input.int()?;
            input.int()?;
            usize::try_from(count).map_err(|_| malformed())?
        }
        _ => return Err(Error::unsupported("arrays of more than one dimension are not supported")),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(match input.int()? {
            -1 => null(ty),
            length => read(input.slice(usize::try_from(length).map_err(|_| malformed())?)?, ty)?,
        });
    }
    let references: Vec<&dyn Array> = items.iter().map(|item| item.as_ref()).collect();
    let values = match references.is_empty() {
        true => arrow::array::new_empty_array(&ty.arrow()),
        false => arrow::compute::concat(&references).map_err(unwrap_arrow)?,
    };
    let field = Arc::new(Field::new_list_field(ty.arrow(), true));
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([values.len()]), values, None)))
}

/// Bytes that are still to be read.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }
}
