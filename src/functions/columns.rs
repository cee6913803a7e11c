//! Functions over columns: a constant argument is not spread out, and a result of constants is a constant.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::ArrowPrimitiveType;
use arrow::array::AsArray;
use arrow::array::PrimitiveArray;
use arrow::compute::kernels::arity::try_binary;
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;

use crate::error::Error;
use crate::error::Result;
use crate::functions::bounded;
use crate::functions::raise::from_datafusion;
use crate::types::SqlType;
use crate::types::cast::unwrap_arrow;
use crate::types::zone::Zone;

/// The type of an argument.
pub fn type_of(args: &ScalarFunctionArgs, at: usize) -> Result<SqlType> {
    let field = &args.arg_fields[at];
    let ty = SqlType::of_field(field);
    ty.ok_or_else(|| Error::internal(format!("an argument of type {} was not cast", field.data_type())))
}

/// The time zone that follows the first `arity` arguments; UTC where none does. Whatever depends on the session is an argument, so that
/// a view keeps the zone it was created in.
pub fn zone(args: &ScalarFunctionArgs, arity: usize) -> Result<Zone> {
    match args.args.get(arity) {
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)))) => Zone::parse(name),
        _ => Ok(Zone::UTC),
    }
}

/// An argument as an array: of one row when it is a constant.
pub fn array(value: &ColumnarValue) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) => Ok(array.clone()),
        ColumnarValue::Scalar(scalar) => scalar.to_array().map_err(from_datafusion),
    }
}

/// An argument as an array of all rows.
pub fn full_array(value: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    if let ColumnarValue::Scalar(constant) = value {
        bounded::check(0, (constant.size() * rows) as u64)?;
    }
    value.to_array(rows).map_err(from_datafusion)
}

/// Whether every argument is a constant.
pub fn all_constant(args: &[ColumnarValue]) -> bool {
    args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)))
}

/// All arguments as arrays of one length: one row when all are constants.
pub fn arrays(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    let rows = if all_constant(&args.args) { 1 } else { args.number_rows };
    args.args.iter().map(|arg| full_array(arg, rows)).collect()
}

/// A result as DataFusion takes it: one row computed of constants is a constant.
pub fn result(array: ArrayRef, args: &[ColumnarValue]) -> Result<ColumnarValue> {
    if all_constant(args) && array.len() == 1 {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)?));
    }
    Ok(ColumnarValue::Array(array))
}

/// Computes a function of one column, row by row; NULL gives NULL.
pub fn unary<A: ArrowPrimitiveType, R: ArrowPrimitiveType>(
    args: &ScalarFunctionArgs,
    f: impl Fn(A::Native) -> Result<R::Native>,
) -> Result<PrimitiveArray<R>> {
    array(&args.args[0])?.as_primitive::<A>().try_unary(f)
}

/// Computes a function of two columns, row by row; NULL gives NULL.
pub fn binary<A: ArrowPrimitiveType, B: ArrowPrimitiveType, R: ArrowPrimitiveType>(
    args: &ScalarFunctionArgs,
    f: impl Fn(A::Native, B::Native) -> Result<R::Native>,
) -> Result<PrimitiveArray<R>> {
    let (left, right) = (array(&args.args[0])?, array(&args.args[1])?);
    let (a, b) = (left.as_primitive::<A>(), right.as_primitive::<B>());
    match (&args.args[0], &args.args[1]) {
        (ColumnarValue::Array(_), ColumnarValue::Scalar(_)) => {
            if b.is_null(0) {
                return Ok(PrimitiveArray::new_null(a.len()));
            }
            let constant = b.value(0);
            a.try_unary(|value| f(value, constant))
        }
        (ColumnarValue::Scalar(_), ColumnarValue::Array(_)) => {
            if a.is_null(0) {
                return Ok(PrimitiveArray::new_null(b.len()));
            }
            let constant = a.value(0);
            b.try_unary(|value| f(constant, value))
        }
        (ColumnarValue::Array(_), ColumnarValue::Array(_)) | (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) => {
            let external = |error: Error| ArrowError::ExternalError(Box::new(error));
            try_binary(a, b, |left, right| f(left, right).map_err(external)).map_err(unwrap_arrow)
        }
    }
}

/// The array as a result.
pub fn finish<R: ArrowPrimitiveType>(array: PrimitiveArray<R>, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let wanted = args.return_field.data_type();
    let array = if array.data_type() == wanted { array } else { array.with_data_type(wanted.clone()) };
    result(Arc::new(array), &args.args)
}
