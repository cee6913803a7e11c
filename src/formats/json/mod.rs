//! `ENCODE JSON`: one JSON object a message to the columns of a source, made for exactly these columns.
//!
//! A message is scanned once (`scan`); only what a wanted column needs is looked at again (`column`). A column whose field
//! is missing is NULL, a field that nobody wants is ignored; of fields with one name the last counts. Names are compared
//! exactly. A message with an error in its syntax leaves no row and does not touch the others; a value that does not fit its
//! column is NULL there, and told.

use arrow::array::ArrayRef;

use self::column::ColumnBuilder;
use self::scan::Kind;
use self::scan::Shape;
use self::scan::Value;
use crate::error::Result;
use crate::formats::Broken;
use crate::formats::Fault;
use crate::types::SqlType;

mod scan;
mod column;

/// Decodes JSON messages into columns.
pub struct JsonDecoder {
    /// The field that fills each column.
    fields: Vec<String>,
    /// The rows so far.
    columns: Vec<ColumnBuilder>,
    /// The wanted values of the message at hand.
    found: Vec<Value>,
    /// The names of the fields of the message before.
    shape: Shape,
    /// The column that each of them fills, if any.
    filled: Vec<Option<usize>>,
}

impl JsonDecoder {
    /// A decoder for columns of these types, each filled by the field of this name.
    pub fn new(columns: impl IntoIterator<Item = (String, SqlType)>) -> Result<JsonDecoder> {
        let mut fields = Vec::new();
        let mut builders = Vec::new();
        for (field, ty) in columns {
            fields.push(field);
            builders.push(ColumnBuilder::new(&ty)?);
        }
        let found = vec![Value::NULL; fields.len()];
        Ok(JsonDecoder { fields, columns: builders, found, shape: Shape::default(), filled: Vec::new() })
    }

    /// Decodes one message; its row is among those of the next [`finish`](Self::finish), unless it is broken.
    pub fn decode(&mut self, payload: &[u8], faults: &mut Vec<Fault>) -> Result<(), Broken> {
        let json = std::str::from_utf8(payload)
            .map_err(|error| format!("the text is not valid UTF-8 after byte {}", error.valid_up_to()))?;
        self.scan(json)?;
        for (index, (column, value)) in self.columns.iter_mut().zip(&self.found).enumerate() {
            if let Err(reason) = column.append(value.kind, value.text(json)) {
                column.append_null();
                faults.push(Fault { column: index, reason });
            }
        }
        Ok(())
    }

    /// A row of NULLs.
    pub fn append_nulls(&mut self) {
        self.columns.iter_mut().for_each(ColumnBuilder::append_null);
    }

    /// The columns of all rows since the last call.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(ColumnBuilder::finish).collect()
    }

    /// Finds the wanted values of the message.
    fn scan(&mut self, json: &str) -> Result<(), scan::Reason> {
        let JsonDecoder { fields, found, shape, filled, .. } = self;
        found.fill(Value::NULL);
        scan::object(json, shape, |nth, name, value| {
            if let Some(name) = name {
                filled.truncate(nth);
                filled.push(column_of(fields, json, name));
            }
            if let Some(column) = filled[nth] {
                found[column] = value;
            }
        })
    }
}

/// The column that the field of this name fills.
fn column_of(fields: &[String], json: &str, name: Value) -> Option<usize> {
    let text = name.text(json);
    if name.kind == Kind::Escaped {
        let name = scan::unescape(text).ok()?;
        return fields.iter().position(|f| *f == name);
    }
    fields.iter().position(|f| f == text)
}

#[cfg(test)]
mod tests;
