//! The plain sequence: `n` counts from 0, `ts` is its event time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::TimestampMicrosecondArray;

use super::timeline::Timeline;
use crate::types::Column;
use crate::types::SqlType;

/// All columns.
pub(super) fn columns() -> Vec<Column> {
    vec![Column::new("n", SqlType::BigInt), Column::new("ts", SqlType::Timestamp)]
}

/// How many rows there are among these events, and the named columns of them.
pub(super) fn generate(timeline: &Timeline, fields: &[String], numbers: Range<u64>) -> (Vec<i64>, Vec<ArrayRef>) {
    let columns = fields.iter().map(|field| -> ArrayRef {
        match field.as_str() {
            "n" => Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64))),
            "ts" => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(numbers.clone().map(|n| timeline.event_time(n))))
            }
            other => unreachable!("validate let the column {other} pass"),
        }
    });
    let columns = columns.collect();
    (numbers.map(|n| n as i64).collect(), columns)
}
