//! Text to values: what Postgres' input functions read. [`super::text`] is the way back.

use arrow::array::Array;
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
use arrow::array::ListArray;
use arrow::array::StringArray;
use arrow::array::StringBuilder;
use arrow::array::Time64MicrosecondBuilder;
use arrow::array::TimestampMicrosecondBuilder;
use arrow::buffer::NullBuffer;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use std::sync::Arc;

use crate::error::Error;
use crate::error::Result;
use crate::types::SqlType;
use crate::types::UTC;
use crate::types::datetime;
use crate::types::interval::Interval;
use crate::types::numeric;
use crate::types::numeric::invalid_text;
use crate::types::numeric::is_space;
use crate::types::zone::Zone;

/// Reads one value: an array of one row. `varchar(n)` refuses what is longer (22001), as an assignment does.
pub fn parse(text: &str, ty: &SqlType, zone: Zone) -> Result<ArrayRef> {
    let mut builder = TextBuilder::new(ty, zone);
    builder.append(text)?;
    Ok(builder.finish())
}

/// An array of one NULL.
pub fn null(ty: &SqlType) -> ArrayRef {
    arrow::array::new_null_array(&ty.arrow(), 1)
}

/// Reads a whole column.
pub fn parse_array(texts: &StringArray, ty: &SqlType, zone: Zone) -> Result<ArrayRef> {
    let mut builder = TextBuilder::new(ty, zone);
    for text in texts {
        match text {
            Some(text) => builder.append(text)?,
            None => builder.append_null(),
        }
    }
    Ok(builder.finish())
}

/// Builds a column out of text forms.
pub struct TextBuilder {
    /// The column's type.
    ty: SqlType,
    /// Where timestamps without an offset are taken.
    zone: Zone,
    /// The values so far.
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Numeric(Decimal128Builder),
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Array { items: Box<TextBuilder>, lengths: Vec<usize>, valid: Vec<bool> },
}

impl TextBuilder {
    /// No values yet.
    pub fn new(ty: &SqlType, zone: Zone) -> TextBuilder {
        let values = match ty {
            SqlType::Boolean => Values::Boolean(BooleanBuilder::new()),
            SqlType::SmallInt => Values::SmallInt(Int16Builder::new()),
            SqlType::Integer => Values::Integer(Int32Builder::new()),
            SqlType::BigInt | SqlType::Oid => Values::BigInt(Int64Builder::new()),
            SqlType::Real => Values::Real(Float32Builder::new()),
            SqlType::Double => Values::Double(Float64Builder::new()),
            SqlType::Numeric { .. } => Values::Numeric(Decimal128Builder::new().with_data_type(ty.arrow())),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => Values::Text(StringBuilder::new()),
            SqlType::Bytea => Values::Bytea(BinaryBuilder::new()),
            SqlType::Date => Values::Date(Date32Builder::new()),
            SqlType::Time => Values::Time(Time64MicrosecondBuilder::new()),
            SqlType::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::new()),
            SqlType::Timestamptz => Values::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
            SqlType::Interval => Values::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Array(item) => {
                Values::Array { items: Box::new(TextBuilder::new(item, zone)), lengths: Vec::new(), valid: Vec::new() }
            }
        };
        TextBuilder { ty: ty.clone(), zone, values }
    }

    /// Reads a value; after an error the builder is as before.
    pub fn append(&mut self, text: &str) -> Result<()> {
        match &mut self.values {
            Values::Boolean(values) => values.append_value(parse_boolean(text)?),
            Values::SmallInt(values) => {
                let value = numeric::parse_integer(text, "smallint", i16::MIN as i64, i16::MAX as i64)?;
                values.append_value(value as i16)
            }
            Values::Integer(values) => {
                let value = numeric::parse_integer(text, "integer", i32::MIN as i64, i32::MAX as i64)?;
                values.append_value(value as i32)
            }
            Values::BigInt(values) if self.ty == SqlType::Oid => {
                values.append_value(numeric::parse_integer(text, "oid", 0, u32::MAX as i64)?)
            }
            Values::BigInt(values) => values.append_value(numeric::parse_integer(text, "bigint", i64::MIN, i64::MAX)?),
            Values::Real(values) => values.append_value(numeric::parse_real(text)?),
            Values::Double(values) => values.append_value(numeric::parse_double(text)?),
            Values::Numeric(values) => {
                let SqlType::Numeric { precision, scale } = self.ty else { return Err(Error::internal("no numeric")) };
                values.append_value(numeric::parse_decimal(text, precision, scale)?)
            }
            Values::Text(values) => match &self.ty {
                SqlType::Varchar(length) => values.append_value(fit_varchar(text, *length)?),
                _ => values.append_value(text),
            },
            Values::Bytea(values) => values.append_value(parse_bytea(text)?),
            Values::Date(values) => values.append_value(datetime::parse_date(text)?),
            Values::Time(values) => values.append_value(datetime::parse_time(text)?),
            Values::Timestamp(values) if self.ty == SqlType::Timestamptz => {
                values.append_value(datetime::parse_timestamptz(text, &self.zone)?)
            }
            Values::Timestamp(values) => values.append_value(datetime::parse_timestamp(text)?),
            Values::Interval(values) => values.append_value(Interval::parse(text)?.arrow()?),
            Values::Array { items, lengths, valid } => {
                lengths.push(append_items(text, items)?);
                valid.push(true);
            }
        }
        Ok(())
    }

    /// Appends a NULL.
    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append_null(),
            Values::SmallInt(values) => values.append_null(),
            Values::Integer(values) => values.append_null(),
            Values::BigInt(values) => values.append_null(),
            Values::Real(values) => values.append_null(),
            Values::Double(values) => values.append_null(),
            Values::Numeric(values) => values.append_null(),
            Values::Text(values) => values.append_null(),
            Values::Bytea(values) => values.append_null(),
            Values::Date(values) => values.append_null(),
            Values::Time(values) => values.append_null(),
            Values::Timestamp(values) => values.append_null(),
            Values::Interval(values) => values.append_null(),
            Values::Array { lengths, valid, .. } => {
                lengths.push(0);
                valid.push(false);
            }
        }
    }

    /// The column; the builder is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Boolean(values) => Arc::new(values.finish()),
            Values::SmallInt(values) => Arc::new(values.finish()),
            Values::Integer(values) => Arc::new(values.finish()),
            Values::BigInt(values) => Arc::new(values.finish()),
            Values::Real(values) => Arc::new(values.finish()),
            Values::Double(values) => Arc::new(values.finish()),
            Values::Numeric(values) => Arc::new(values.finish()),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Bytea(values) => Arc::new(values.finish()),
            Values::Date(values) => Arc::new(values.finish()),
            Values::Time(values) => Arc::new(values.finish()),
            Values::Timestamp(values) => Arc::new(values.finish()),
            Values::Interval(values) => Arc::new(values.finish()),
            Values::Array { items, lengths, valid } => {
                let values = items.finish();
                let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let nulls = NullBuffer::from(std::mem::take(valid));
                Arc::new(ListArray::new(field, offsets, values, Some(nulls)))
            }
        }
    }
}

/// Reads a boolean: any prefix of true, false, yes, no that is clear, on, off, 1, 0.
pub fn parse_boolean(text: &str) -> Result<bool> {
    let word = text.trim_matches(is_space).to_ascii_lowercase();
    let is = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    match () {
        () if is("true", 1) || is("yes", 1) || word == "on" || word == "1" => Ok(true),
        () if is("false", 1) || is("no", 1) || is("off", 2) || word == "0" => Ok(false),
        () => Err(invalid_text("boolean", text)),
    }
}

/// The text as a `varchar(length)`: trailing blanks beyond it are dropped, anything else is 22001.
pub fn fit_varchar(text: &str, length: u32) -> Result<&str> {
    let Some((at, _)) = text.char_indices().nth(length as usize) else { return Ok(text) };
    if text[at..].bytes().all(|byte| byte == b' ') {
        return Ok(&text[..at]);
    }
    Err(Error::string_too_long(format!("value too long for type character varying({length})")))
}

/// The first `length` characters: what an explicit cast to `varchar(length)` keeps.
pub fn cut_varchar(text: &str, length: u32) -> &str {
    text.char_indices().nth(length as usize).map_or(text, |(at, _)| &text[..at])
}

/// Reads a `bytea`, in hex (`\x...`) or with escapes (`\\`, `\ooo`).
pub fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return parse_hex(hex);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let octal = |digits: &[u8]| digits[0] <= b'3' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
        rest = match (first, more) {
            (b'\\', [b'\\', more @ ..]) => {
                bytes.push(b'\\');
                more
            }
            (b'\\', [a, b, c, more @ ..]) if octal(&[*a, *b, *c]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                more
            }
            (b'\\', _) => return Err(Error::invalid_text("invalid input syntax for type bytea")),
            (byte, more) => {
                bytes.push(*byte);
                more
            }
        };
    }
    Ok(bytes)
}

fn parse_hex(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high: Option<u32> = None;
    for c in text.chars().filter(|c| !is_space(*c) || *c == '\x0b' || *c == '\x0c') {
        let error = || Error::invalid_parameter(format!("invalid hexadecimal digit: \"{c}\""));
        let digit = c.to_digit(16).ok_or_else(error)?;
        match high.take() {
            Some(high) => bytes.push((high << 4 | digit) as u8),
            None => high = Some(digit),
        }
    }
    match high {
        Some(_) => Err(Error::invalid_parameter("invalid hexadecimal data: odd number of digits")),
        None => Ok(bytes),
    }
}

/// The items of `{1,NULL,"a b"}` as text.
pub fn array_items(text: &str) -> Result<Vec<Option<String>>> {
    let malformed = || Error::invalid_text(format!("malformed array literal: \"{text}\""));
    let trimmed = text.trim_matches(is_space);
    let body = trimmed.strip_prefix('{').and_then(|body| body.strip_suffix('}')).ok_or_else(malformed)?;
    split_items(body).ok_or_else(malformed)
}

/// Reads `{1,NULL,"a b"}` into `items`; answers how many there were. Nothing is appended after an error.
fn append_items(text: &str, items: &mut TextBuilder) -> Result<usize> {
    let parts = array_items(text)?;
    let mut fresh = TextBuilder::new(&items.ty, items.zone);
    for part in &parts {
        match part {
            Some(text) => fresh.append(text)?,
            None => fresh.append_null(),
        }
    }
    for part in &parts {
        match part {
            Some(text) => items.append(text)?,
            None => items.append_null(),
        }
    }
    Ok(parts.len())
}

/// The items between the braces; `None` when malformed.
fn split_items(body: &str) -> Option<Vec<Option<String>>> {
    let mut items = Vec::new();
    if body.trim_matches(is_space).is_empty() {
        return Some(items);
    }
    let mut chars = body.chars().peekable();
    loop {
        while chars.next_if(|c| is_space(*c)).is_some() {}
        let mut item = String::new();
        let mut depth = 0;
        let quoted = chars.next_if_eq(&'"').is_some();
        if quoted {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => item.push(chars.next()?),
                    c => item.push(c),
                }
            }
            while chars.next_if(|c| is_space(*c)).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| depth > 0 || *c != ',') {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    '"' if depth == 0 => return None,
                    _ => {}
                }
                match c {
                    '\\' if depth == 0 => item.push(chars.next()?),
                    c => item.push(c),
                }
                if depth < 0 {
                    return None;
                }
            }
            item.truncate(item.trim_end_matches(is_space).len());
            if item.is_empty() || depth != 0 {
                return None;
            }
        }
        let null = !quoted && item.eq_ignore_ascii_case("null");
        items.push((!null).then_some(item));
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}
