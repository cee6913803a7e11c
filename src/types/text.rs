//! Values as text: what Postgres' output functions write. [`super::parse`] is the way back.

use std::fmt::Write;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::StringArray;
use arrow::array::StringBuilder;
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

use crate::error::Error;
use crate::error::Result;
use crate::types::SqlType;
use crate::types::datetime;
use crate::types::interval::Interval;
use crate::types::numeric;
use crate::types::zone::Zone;

/// The error for bytes that begin no character: as many of them are shown as the first one promises.
pub fn not_utf8(bytes: &[u8]) -> Error {
    let promised = match bytes.first() {
        Some(0xc0..0xe0) => 2,
        Some(0xe0..0xf0) => 3,
        Some(0xf0..0xf8) => 4,
        Some(_) | None => 1,
    };
    let shown = bytes.iter().take(promised).map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>();
    Error::invalid_encoding(format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
}

/// Bytes as text.
pub fn from_utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| not_utf8(&bytes[error.valid_up_to()..]))
}

/// Writes the values of one column. Made once for a column, so that the type is looked at once and not for every row.
pub struct TextColumn<'a> {
    /// The column.
    array: &'a dyn Array,
    /// Its type.
    ty: &'a SqlType,
    /// Where timestamps with time zone are read.
    zone: Zone,
}

impl<'a> TextColumn<'a> {
    /// The writer of a column; its Arrow type must be that of `ty`.
    pub fn new(array: &'a dyn Array, ty: &'a SqlType, zone: Zone) -> Result<TextColumn<'a>> {
        if *array.data_type() != ty.arrow() {
            return Err(Error::internal(format!("a column of {} was taken for {ty}", array.data_type())));
        }
        Ok(TextColumn { array, ty, zone })
    }

    /// Whether the value of this row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// Appends the value of this row, which is not NULL.
    pub fn write(&self, row: usize, out: &mut String) {
        let array = self.array;
        match self.ty {
            SqlType::Boolean => out.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
            SqlType::SmallInt => write_plain(array.as_primitive::<Int16Type>().value(row), out),
            SqlType::Integer => write_plain(array.as_primitive::<Int32Type>().value(row), out),
            SqlType::BigInt | SqlType::Oid => write_plain(array.as_primitive::<Int64Type>().value(row), out),
            SqlType::Real => numeric::write_real(array.as_primitive::<Float32Type>().value(row), out),
            SqlType::Double => numeric::write_double(array.as_primitive::<Float64Type>().value(row), out),
            SqlType::Numeric { scale, .. } => {
                numeric::write_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out)
            }
            SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => {
                out.push_str(array.as_string::<i32>().value(row))
            }
            SqlType::Bytea => write_bytea(array.as_binary::<i32>().value(row), out),
            SqlType::Date => datetime::write_date(array.as_primitive::<Date32Type>().value(row), out),
            SqlType::Time => datetime::write_time(array.as_primitive::<Time64MicrosecondType>().value(row), out),
            SqlType::Timestamp => {
                datetime::write_timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row), out)
            }
            SqlType::Timestamptz => {
                let moment = array.as_primitive::<TimestampMicrosecondType>().value(row);
                datetime::write_timestamptz(moment, &self.zone, out)
            }
            SqlType::Interval => Interval::from(array.as_primitive::<IntervalMonthDayNanoType>().value(row)).write(out),
            SqlType::Array(item) => self.write_items(&array.as_list::<i32>().value(row), item, out),
        }
    }

    /// `{1,NULL,"a b"}`
    fn write_items(&self, items: &ArrayRef, ty: &SqlType, out: &mut String) {
        let column = TextColumn { array: items.as_ref(), ty, zone: self.zone };
        let mut text = String::new();
        out.push('{');
        for row in 0..items.len() {
            if row > 0 {
                out.push(',');
            }
            if column.is_null(row) {
                out.push_str("NULL");
                continue;
            }
            text.clear();
            column.write(row, &mut text);
            if matches!(ty, SqlType::Array(_)) || !needs_quotes(&text) {
                out.push_str(&text);
                continue;
            }
            out.push('"');
            for c in text.chars() {
                if c == '"' || c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        }
        out.push('}');
    }
}

/// Appends the text of one value, which is not NULL.
pub fn format(array: &dyn Array, ty: &SqlType, row: usize, zone: Zone, out: &mut String) -> Result<()> {
    TextColumn::new(array, ty, zone)?.write(row, out);
    Ok(())
}

/// The text forms of a whole column.
pub fn format_array(array: &dyn Array, ty: &SqlType, zone: Zone) -> Result<StringArray> {
    let column = TextColumn::new(array, ty, zone)?;
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut text = String::new();
    for row in 0..array.len() {
        if column.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        column.write(row, &mut text);
        builder.append_value(&text);
    }
    Ok(builder.finish())
}

fn write_plain(value: impl std::fmt::Display, out: &mut String) {
    write!(out, "{value}").expect("a String takes everything");
}

fn write_bytea(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    for byte in bytes {
        out.push(HEX[(byte >> 4) as usize] as char);
        out.push(HEX[(byte & 15) as usize] as char);
    }
}

fn needs_quotes(text: &str) -> bool {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || numeric::is_space(c);
    text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special)
}
