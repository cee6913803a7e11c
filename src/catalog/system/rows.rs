//! A builder of system rows: columns are set by name, what is not set is NULL.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::types::UTC;

/// A value of a system row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
}

/// The rows of one relation, column by column.
pub(super) struct Rows {
    schema: SchemaRef,
    index: HashMap<String, usize>,
    columns: Vec<Vec<Value>>,
    rows: usize,
}

impl Rows {
    /// No rows yet.
    pub(super) fn new(schema: SchemaRef) -> Rows {
        let index = schema.fields().iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect();
        let columns = vec![Vec::new(); schema.fields().len()];
        Rows { schema, index, columns, rows: 0 }
    }

    /// Adds a row. A name that the relation does not have is a defect, which the tests find.
    pub(super) fn push<const N: usize>(&mut self, values: [(&str, Value); N]) {
        for column in &mut self.columns {
            column.push(Value::Null);
        }
        for (name, value) in values {
            let column = self.index.get(name).copied();
            debug_assert!(column.is_some(), "no column {name}");
            if let Some(column) = column {
                self.columns[column][self.rows] = value;
            }
        }
        self.rows += 1;
    }

    /// The rows as a batch.
    pub(super) fn finish(self) -> Result<RecordBatch> {
        let arrays = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .map(|(values, field)| array(values, field.data_type()))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(self.schema, arrays, &options)
            .map_err(|e| Error::internal(format!("system relation: {e}")))
    }
}

fn array(values: &[Value], data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Boolean => Arc::new(values.iter().map(boolean).collect::<BooleanArray>()),
        DataType::Int16 => Arc::new(values.iter().map(|v| int(v).map(|i| i as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(values.iter().map(|v| int(v).map(|i| i as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.iter().map(int).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(values.iter().map(|v| int(v).map(|i| i as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Utf8 => Arc::new(values.iter().map(text).collect::<StringArray>()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = values.iter().map(int).collect::<TimestampMicrosecondArray>();
            Arc::new(array.with_timezone_opt(zone.as_ref().map(|_| UTC)))
        }
        DataType::List(item) => {
            let lists = values.iter().map(|v| if let Value::List(items) = v { items.as_slice() } else { &[] });
            let flat: Vec<Value> = lists.clone().flatten().cloned().collect();
            let nulls = values.iter().map(|v| matches!(v, Value::List(_))).collect::<NullBuffer>();
            let offsets = OffsetBuffer::from_lengths(lists.map(<[Value]>::len));
            let items = array(&flat, item.data_type())?;
            Arc::new(
                ListArray::try_new(item.clone(), offsets, items, Some(nulls))
                    .map_err(|e| Error::internal(e.to_string()))?,
            )
        }
        other => return Err(Error::internal(format!("no system column has type {other}"))),
    })
}

fn boolean(value: &Value) -> Option<bool> {
    if let Value::Bool(b) = value { Some(*b) } else { None }
}

fn int(value: &Value) -> Option<i64> {
    if let Value::Int(i) = value { Some(*i) } else { None }
}

fn float(value: &Value) -> Option<f64> {
    if let Value::Float(f) = value { Some(*f) } else { None }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_string())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

macro_rules! integers {
    ($($name:ty),*) => { $(impl From<$name> for Value {
        fn from(value: $name) -> Value {
            Value::Int(value as i64)
        }
    })* };
}

integers!(i16, i32, i64, u32, u64, usize);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }
}
