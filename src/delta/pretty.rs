//! The text form of deltas that tests read and write: one row a line, its weight first.
//!
//! ```text
//! + 1 a
//! - 2 "two words"
//! +3 3 null
//! ```
//!
//! `+` and `-` alone are the weights 1 and −1. A value that is empty, holds white space or quotes, or reads `null`, stands
//! in double quotes with `\` before quotes.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::delta::{Delta, arrow_error};
use crate::error::{Error, Result};
use crate::types::{Column, schema_of};

/// Reads a delta, line by line. Blank lines are skipped.
pub fn parse(columns: &[Column], text: &str) -> Result<Delta> {
    let mut weights = Vec::new();
    let mut values = vec![Vec::new(); columns.len()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (weight, rest) = line.split_once(' ').unwrap_or((line, ""));
        weights.push(parse_weight(weight)?);
        let row = split(rest);
        if row.len() != columns.len() {
            return Err(Error::invalid_text(format!("\"{line}\" has {} values, not {}", row.len(), columns.len())));
        }
        for (column, value) in values.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let arrays = columns.iter().zip(values).map(|(c, v)| parse_column(c, v)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
    let batch = RecordBatch::try_new_with_options(schema_of(columns), arrays, &options).map_err(arrow_error)?;
    Ok(Delta::new(batch, weights.into()))
}

/// Writes a delta in the order of its rows.
pub fn print(delta: &Delta) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    let columns = delta.batch().columns();
    let formatters = columns.iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(arrow_error)?;
    let mut text = String::new();
    for (row, weight) in delta.weights().iter().enumerate() {
        match weight {
            1 => text.push('+'),
            -1 => text.push('-'),
            _ => write!(text, "{weight:+}").expect("a string takes all"),
        }
        for (column, formatter) in columns.iter().zip(&formatters) {
            let value = formatter.value(row).to_string();
            text.push(' ');
            text.push_str(&if column.is_null(row) { value } else { quote(value) });
        }
        text.push('\n');
    }
    Ok(text)
}

fn parse_weight(text: &str) -> Result<i64> {
    match text {
        "+" => Ok(1),
        "-" => Ok(-1),
        _ => text.parse().map_err(|_| Error::invalid_text(format!("\"{text}\" is no weight"))),
    }
}

/// The values of a line; `None` for NULL.
fn split(line: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(first) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut value = String::new();
        if first == '"' {
            while let Some(c) = chars.next().filter(|c| *c != '"') {
                value.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
            }
            values.push(Some(value));
            continue;
        }
        value.push(first);
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            value.push(c);
        }
        values.push(Some(value).filter(|v| v != "null"));
    }
    values
}

fn parse_column(column: &Column, values: Vec<Option<String>>) -> Result<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(values));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&text, &column.ty.arrow(), &options).map_err(|e| Error::invalid_text(e.to_string()))
}

fn quote(value: String) -> String {
    let plain = !value.is_empty() && value != "null" && !value.contains(|c: char| c.is_whitespace() || c == '"');
    match plain {
        true => value,
        false => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SqlType;

    #[test]
    fn what_is_printed_is_read_again() {
        let types = [SqlType::Integer, SqlType::Text, SqlType::Double, SqlType::Boolean, SqlType::Timestamp];
        let columns = types.map(|ty| Column::new("c", ty));
        let text = "+ 1 a 1.5 true 2024-01-01T00:00:00\n- null \"null\" null null null\n+7 -3 \"a \\\"b\\\" c\" -0.0 false null\n";
        assert_eq!(print(&parse(&columns, text).unwrap()).unwrap(), text);
    }

    #[test]
    fn says_what_cannot_be_read() {
        let columns = [Column::new("a", SqlType::Integer)];
        for text in ["+ x", "* 1", "+ 1 2", "+"] {
            assert!(parse(&columns, text).is_err(), "{text}");
        }
    }
}
