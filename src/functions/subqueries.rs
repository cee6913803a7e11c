//! What subqueries and set operations are made of, where SQL has no name for it.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::array::Int64Array;
use arrow::array::ListArray;
use arrow::array::types::Int64Type;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;

use crate::error::Error;
use crate::error::Result;
use crate::functions::define::call;
use crate::functions::define::function;
use crate::functions::from_datafusion;
use crate::types::SqlType;

/// [`copies`] in plans; no SQL name can be spelt so without quotes.
pub const COPIES: &str = "Copies";

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    vec![single_function(), copies_function()]
}

/// The value of a scalar subquery that has `count` rows: more than one are Postgres' error 21000, of the row that asks.
pub fn single(value: Expr, count: Expr) -> Expr {
    call(single_function(), vec![value, count])
}

fn single_function() -> ScalarUDF {
    let types = |types: &[Option<SqlType>]| {
        let [value, _] = types else { return None };
        let value = value.clone().unwrap_or(SqlType::Text);
        Some((vec![value.clone(), SqlType::BigInt], value))
    };
    function("Single", &[], types, |args| {
        let [value, counts] = args.args.as_slice() else { return Err(Error::internal("Single() takes two arguments")) };
        let counts = counts.to_array(args.number_rows).map_err(from_datafusion)?;
        if counts.as_primitive::<Int64Type>().iter().flatten().any(|count| count > 1) {
            return Err(Error::cardinality("more than one row returned by a subquery used as an expression"));
        }
        Ok(value.clone())
    })
}

/// A list of `count` elements that nobody reads, to be unnested: so often the row is there.
pub fn copies(count: Expr) -> Expr {
    call(copies_function(), vec![count])
}

fn copies_function() -> ScalarUDF {
    let types = |types: &[Option<SqlType>]| {
        (types.len() == 1).then(|| (vec![SqlType::BigInt], SqlType::Array(Box::new(SqlType::BigInt))))
    };
    function(COPIES, &[], types, lists)
}

fn lists(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let [counts] = args.args.as_slice() else { return Err(Error::internal("Copies() takes one argument")) };
    let counts = counts.to_array(args.number_rows).map_err(from_datafusion)?;
    let lengths = counts.as_primitive::<Int64Type>().iter().map(|count| count.unwrap_or(0).max(0) as usize);
    let offsets = OffsetBuffer::from_lengths(lengths);
    let DataType::List(item) = SqlType::Array(Box::new(SqlType::BigInt)).arrow() else {
        return Err(Error::internal("an array is no list"));
    };
    let elements = Int64Array::from_value(1, offsets.last().copied().unwrap_or_default() as usize);
    Ok(ColumnarValue::Array(Arc::new(ListArray::new(item, offsets, Arc::new(elements), None)) as Arc<dyn Array>))
}
