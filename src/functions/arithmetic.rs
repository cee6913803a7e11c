//! Arithmetic that fails instead of wrapping.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BinaryArray;
use arrow::array::StringBuilder;
use arrow::array::types::ArrowPrimitiveType;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int16Type;
use arrow::array::types::Int32Type;
use arrow::array::types::Int64Type;
use arrow::datatypes::ArrowNativeTypeOp;
use arrow::datatypes::i256;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;

use crate::error::Error;
use crate::error::Result;
use crate::functions::bounded;
use crate::functions::columns::arrays;
use crate::functions::columns::binary;
use crate::functions::columns::finish;
use crate::functions::columns::result;
use crate::functions::columns::type_of;
use crate::functions::operator::Symbol;
use crate::functions::operator::scale_of;
use crate::functions::patterns;
use crate::functions::temporal;
use crate::types::SqlType;
use crate::types::cast::integer_out_of_range;
use crate::types::numeric::PRECISION_MAX;
use crate::types::numeric::fits_digits;
use crate::types::numeric::power_of_ten;
use crate::types::numeric::product;
use crate::types::numeric::rescale_decimal;

/// The value of a resolved operator.
pub fn evaluate(symbol: Symbol, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (left, right) = (type_of(args, 0)?, type_of(args, 1)?);
    match symbol {
        Symbol::Concat => return concat(&left, args),
        Symbol::Matches | Symbol::MatchesAnyCase | Symbol::MatchesNot | Symbol::MatchesNotAnyCase => {
            return patterns::matches(symbol, args);
        }
        _ => {}
    }
    match (&left, &right) {
        (SqlType::SmallInt, _) => integers::<Int16Type>(symbol, &left, args),
        (SqlType::Integer, SqlType::Integer) => integers::<Int32Type>(symbol, &left, args),
        (SqlType::BigInt | SqlType::Oid, SqlType::Integer) => {
            finish(binary::<Int64Type, Int32Type, Int64Type>(args, |a, b| integer(symbol, &left, a, b as i64))?, args)
        }
        (SqlType::BigInt | SqlType::Oid, _) => integers::<Int64Type>(symbol, &left, args),
        (SqlType::Real, _) => {
            finish(binary::<Float32Type, Float32Type, Float32Type>(args, |a, b| real(symbol, a, b))?, args)
        }
        (SqlType::Double, SqlType::Double) => {
            finish(binary::<Float64Type, Float64Type, Float64Type>(args, |a, b| double(symbol, a, b))?, args)
        }
        (SqlType::Numeric { .. }, SqlType::Numeric { .. }) => decimals(symbol, scale_of(&left), scale_of(&right), args),
        _ => temporal::evaluate(symbol, &left, &right, args),
    }
}

/// The error of a division by zero.
pub fn division_by_zero() -> Error {
    Error::division_by_zero("division by zero")
}

fn unsupported(symbol: Symbol) -> Error {
    Error::internal(format!("operator {} got operands that it was not resolved for", symbol.text()))
}

fn integers<T>(symbol: Symbol, ty: &SqlType, args: &ScalarFunctionArgs) -> Result<ColumnarValue>
where
    T: ArrowPrimitiveType,
    T::Native: Whole,
{
    if *args.arg_fields[0].data_type() != *args.arg_fields[1].data_type() {
        let shift = |a: T::Native, b: i32| integer(symbol, ty, a, T::Native::from_i32(b));
        return finish(binary::<T, Int32Type, T>(args, shift)?, args);
    }
    finish(binary::<T, T, T>(args, |a, b| integer(symbol, ty, a, b))?, args)
}

/// What integers of all widths can do.
trait Whole: ArrowNativeTypeOp {
    /// Keeps the low bits.
    fn from_i32(value: i32) -> Self;
    /// With its sign.
    fn widen(self) -> i64;
    /// Keeps the low bits.
    fn narrow(value: i64) -> Self;
}

macro_rules! whole {
    ($($ty:ty),*) => {
        $(impl Whole for $ty {
            fn from_i32(value: i32) -> $ty {
                value as $ty
            }
            fn widen(self) -> i64 {
                self as i64
            }
            fn narrow(value: i64) -> $ty {
                value as $ty
            }
        })*
    };
}

whole!(i16, i32, i64);

#[inline]
fn integer<T: Whole>(symbol: Symbol, ty: &SqlType, a: T, b: T) -> Result<T> {
    let checked = match symbol {
        Symbol::Add => a.add_checked(b),
        Symbol::Subtract => a.sub_checked(b),
        Symbol::Multiply => a.mul_checked(b),
        Symbol::Divide if b.is_zero() => return Err(division_by_zero()),
        Symbol::Divide => a.div_checked(b),
        Symbol::Modulo if b.is_zero() => return Err(division_by_zero()),
        Symbol::Modulo => return Ok(a.mod_wrapping(b)),
        Symbol::BitAnd => return Ok(T::narrow(a.widen() & b.widen())),
        Symbol::BitOr => return Ok(T::narrow(a.widen() | b.widen())),
        Symbol::BitXor => return Ok(T::narrow(a.widen() ^ b.widen())),
        Symbol::ShiftLeft => return Ok(T::narrow(a.widen() << (b.widen() & bits::<T>()))),
        Symbol::ShiftRight => return Ok(T::narrow(a.widen() >> (b.widen() & bits::<T>()))),
        _ => return Err(unsupported(symbol)),
    };
    checked.map_err(|_| integer_out_of_range(ty))
}

/// The mask of a shift's distance: that of the processor, which Postgres leaves it to.
fn bits<T>() -> i64 {
    if size_of::<T>() == 8 { 63 } else { 31 }
}

/// A finite result that became infinite or lost everything is an error.
#[inline]
fn double(symbol: Symbol, a: f64, b: f64) -> Result<f64> {
    let value = match symbol {
        Symbol::Add => a + b,
        Symbol::Subtract => a - b,
        Symbol::Multiply => a * b,
        Symbol::Divide if b == 0.0 && !a.is_nan() => return Err(division_by_zero()),
        Symbol::Divide => a / b,
        Symbol::Power => return power(a, b),
        _ => return Err(unsupported(symbol)),
    };
    let vanished = match symbol {
        Symbol::Multiply => a != 0.0 && b != 0.0,
        Symbol::Divide => a != 0.0 && b.is_finite(),
        _ => false,
    };
    check_range(value, a.is_infinite() || b.is_infinite(), vanished)
}

#[inline]
fn real(symbol: Symbol, a: f32, b: f32) -> Result<f32> {
    let value = match symbol {
        Symbol::Add => a + b,
        Symbol::Subtract => a - b,
        Symbol::Multiply => a * b,
        Symbol::Divide if b == 0.0 && !a.is_nan() => return Err(division_by_zero()),
        Symbol::Divide => a / b,
        _ => return Err(unsupported(symbol)),
    };
    let vanished = match symbol {
        Symbol::Multiply => a != 0.0 && b != 0.0,
        Symbol::Divide => a != 0.0 && b.is_finite(),
        _ => false,
    };
    check_range(value as f64, a.is_infinite() || b.is_infinite(), vanished)?;
    Ok(value)
}

/// The value, unless it left the range of floats: infinite out of finite operands, or 0 where it cannot be.
#[inline]
pub fn check_range(value: f64, may_be_infinite: bool, must_not_vanish: bool) -> Result<f64> {
    if value.is_infinite() && !may_be_infinite {
        return Err(Error::out_of_range("value out of range: overflow"));
    }
    if value == 0.0 && must_not_vanish {
        return Err(Error::out_of_range("value out of range: underflow"));
    }
    Ok(value)
}

/// `a ^ b`.
pub fn power(a: f64, b: f64) -> Result<f64> {
    if a == 0.0 && b < 0.0 {
        return Err(Error::invalid_power("zero raised to a negative power is undefined"));
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        let message = "a negative number raised to a non-integer power yields a complex result";
        return Err(Error::invalid_power(message));
    }
    let special = a.is_infinite() || b.is_infinite() || a == 0.0;
    check_range(a.powf(b), special, !special && !a.is_nan() && !b.is_nan())
}

/// The error of a decimal with more digits than there can be.
pub fn numeric_overflow() -> Error {
    Error::out_of_range("value overflows numeric format")
}

fn decimals(symbol: Symbol, left: i8, right: i8, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Some(SqlType::Numeric { scale, .. }) = SqlType::of_field(&args.return_field) else {
        return Err(unsupported(symbol));
    };
    let values = binary::<Decimal128Type, Decimal128Type, Decimal128Type>(args, |a, b| {
        let value = decimal(symbol, (a, left), (b, right), scale)?;
        if fits_digits(value, PRECISION_MAX) { Ok(value) } else { Err(numeric_overflow()) }
    })?;
    finish(values, args)
}

/// `a symbol b` with `scale` digits after the point; each operand comes with its own scale, which is not larger.
#[inline]
pub fn decimal(symbol: Symbol, (a, left): (i128, i8), (b, right): (i128, i8), scale: i8) -> Result<i128> {
    let value = match symbol {
        Symbol::Add | Symbol::Subtract => {
            let a = rescale_decimal(a, left, scale).ok_or_else(numeric_overflow)?;
            let b = rescale_decimal(b, right, scale).ok_or_else(numeric_overflow)?;
            if symbol == Symbol::Add { a.checked_add(b) } else { a.checked_sub(b) }
        }
        Symbol::Multiply => match product(a, b) {
            Some(product) => rescale_decimal(product, left + right, scale),
            None => {
                let product = i256::from_i128(a).wrapping_mul(i256::from_i128(b));
                power_of_ten((left + right - scale).max(0) as u32).and_then(|unit| divide_wide(product, unit))
            }
        },
        Symbol::Divide if b == 0 => return Err(division_by_zero()),
        Symbol::Divide => {
            let places = (scale + right - left) as u32;
            divide_wide(i256::from_i128(a).wrapping_mul(wide_power(places)), b)
        }
        Symbol::Modulo if b == 0 => return Err(division_by_zero()),
        Symbol::Modulo => {
            let a = i256::from_i128(a).wrapping_mul(wide_power((scale - left) as u32));
            let b = i256::from_i128(b).wrapping_mul(wide_power((scale - right) as u32));
            a.wrapping_rem(b).to_i128()
        }
        _ => return Err(unsupported(symbol)),
    };
    value.ok_or_else(numeric_overflow)
}

/// 10 to the power of `places`, modulo 2^256.
pub fn wide_power(places: u32) -> i256 {
    power_of_ten(places).map_or_else(|| i256::from_i128(10).wrapping_pow(places), i256::from_i128)
}

/// `value / by`, rounded half away from zero; `None` when 128 bits do not hold it.
fn divide_wide(value: i256, by: i128) -> Option<i128> {
    if let Some(value) = value.to_i128() {
        let (quotient, rest) = (value.checked_div(by)?, value.wrapping_rem(by));
        let away = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
        let sign = if (value < 0) == (by < 0) { 1 } else { -1 };
        return quotient.checked_add(if away { sign } else { 0 });
    }
    let by = i256::from_i128(by);
    let (quotient, rest) = (value.wrapping_div(by), value.wrapping_rem(by).wrapping_abs());
    let away = rest.wrapping_add(rest) >= by.wrapping_abs();
    let sign = if value.is_negative() == by.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    quotient.wrapping_add(if away { sign } else { i256::ZERO }).to_i128()
}

fn concat(ty: &SqlType, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let rows = columns[0].len();
    let joined: ArrayRef = match ty {
        SqlType::Bytea => {
            let (left, right) = (columns[0].as_binary::<i32>(), columns[1].as_binary::<i32>());
            Arc::new(left.iter().zip(right).map(|(a, b)| Some([a?, b?].concat())).collect::<BinaryArray>())
        }
        SqlType::Array(_) => return Err(Error::unsupported("joining arrays with || is not supported")),
        _ => {
            let (left, right) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
            bounded::check_joined([left, right].into_iter())?;
            let mut builder = StringBuilder::with_capacity(rows, left.value_data().len() + right.value_data().len());
            let mut text = String::new();
            for row in 0..rows {
                if left.is_null(row) || right.is_null(row) {
                    builder.append_null();
                    continue;
                }
                text.clear();
                text.push_str(left.value(row));
                text.push_str(right.value(row));
                builder.append_value(&text);
            }
            Arc::new(builder.finish())
        }
    };
    result(joined, &args.args)
}
