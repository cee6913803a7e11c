//! Mathematical functions with Postgres' rounding and its errors.

use arrow::array::types::ArrowPrimitiveType;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int16Type;
use arrow::array::types::Int32Type;
use arrow::array::types::Int64Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::datatypes::ArrowNativeTypeOp;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::lit;

use crate::error::Error;
use crate::error::Result;
use crate::functions::arithmetic;
use crate::functions::columns::binary;
use crate::functions::columns::finish;
use crate::functions::columns::type_of;
use crate::functions::columns::unary;
use crate::functions::define::call;
use crate::functions::define::function;
use crate::functions::operator::Operator;
use crate::functions::operator::Symbol;
use crate::functions::operator::resolve;
use crate::functions::operator::scale_of;
use crate::types::SqlType;
use crate::types::cast::integer_out_of_range;
use crate::types::cast::is_integer;
use crate::types::cast::is_number;
use crate::types::interval::Interval;
use crate::types::numeric::PRECISION_MAX;
use crate::types::numeric::fits_digits;
use crate::types::numeric::power_of_ten;
use crate::types::numeric::rescale_decimal;
use crate::types::zone::Zone;

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    vec![
        negate_function(),
        function("abs", &["@"], same, |args| sign_aware(args, Signs::Absolute)),
        function("sign", &[], sign_types, |args| sign_aware(args, Signs::Sign)),
        function("round", &[], round_types, |args| round(args, Rounding::Nearest)),
        function("trunc", &[], round_types, |args| round(args, Rounding::Zero)),
        function("ceil", &["ceiling"], whole_types, |args| round(args, Rounding::Up)),
        function("floor", &[], whole_types, |args| round(args, Rounding::Down)),
        function("mod", &[], mod_types, |args| arithmetic::evaluate(Symbol::Modulo, args)),
        function("power", &["pow"], two_doubles, |args| doubles(args, arithmetic::power)),
        function("sqrt", &[], one_double, |args| double(args, square_root)),
        function("exp", &[], one_double, |args| double(args, exponential)),
        function("ln", &[], one_double, |args| double(args, |x| logarithm(x, f64::ln))),
        function("log", &["log10"], one_double, |args| double(args, |x| logarithm(x, f64::log10))),
    ]
}

/// `-operand`, which fails where the least integer has no opposite.
pub fn negate(operand: Expr) -> Expr {
    call(negate_function(), vec![operand])
}

fn negate_function() -> ScalarUDF {
    function("op_negate", &[], same_or_interval, |args| sign_aware(args, Signs::Negated))
}

/// A float, in which the two zeros are one: adding zero to the negative one gives the other.
pub fn without_negative_zero(operand: Expr, ty: &SqlType) -> Expr {
    let zero = match ty {
        SqlType::Real => lit(0f32),
        _ => lit(0f64),
    };
    Operator::resolved_expr(Symbol::Add, vec![operand, zero], ty, Zone::UTC)
}

fn one(types: &[Option<SqlType>]) -> Option<SqlType> {
    let [ty] = types else { return None };
    Some(ty.clone().unwrap_or(SqlType::Double))
}

fn same(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let ty = one(types).filter(is_number)?;
    Some((vec![ty.clone()], ty))
}

fn same_or_interval(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let ty = one(types).filter(|ty| is_number(ty) || *ty == SqlType::Interval)?;
    Some((vec![ty.clone()], ty))
}

fn sign_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    whole_types(types)
}

/// `numeric` without digits after the point, else `double precision`.
fn whole_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let ty = one(types).filter(is_number)?;
    Some(match ty {
        SqlType::Numeric { .. } => (vec![ty], SqlType::Numeric { precision: PRECISION_MAX, scale: 0 }),
        _ => (vec![SqlType::Double], SqlType::Double),
    })
}

fn round_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let [first, places] = types else { return whole_types(types) };
    let places = places.as_ref().is_none_or(is_integer);
    let ty = match first {
        Some(ty @ SqlType::Numeric { .. }) => ty.clone(),
        Some(SqlType::SmallInt | SqlType::Integer | SqlType::BigInt) | None => {
            SqlType::Numeric { precision: 38, scale: 0 }
        }
        Some(_) => return None,
    };
    let result = SqlType::Numeric { precision: PRECISION_MAX, scale: scale_of(&ty) };
    places.then(|| (vec![ty, SqlType::Integer], result))
}

fn mod_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let [left, right] = types else { return None };
    let resolved = resolve(Symbol::Modulo, left.as_ref(), right.as_ref()).ok()?;
    Some((vec![resolved.left, resolved.right], resolved.result))
}

fn one_double(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    one(types).filter(is_number)?;
    Some((vec![SqlType::Double], SqlType::Double))
}

fn two_doubles(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let numbers = types.len() == 2 && types.iter().flatten().all(is_number);
    numbers.then(|| (vec![SqlType::Double; 2], SqlType::Double))
}

/// What is done with a sign.
#[derive(Clone, Copy)]
enum Signs {
    Negated,
    Absolute,
    Sign,
}

fn sign_aware(args: &ScalarFunctionArgs, signs: Signs) -> Result<ColumnarValue> {
    match type_of(args, 0)? {
        SqlType::SmallInt => checked::<Int16Type>(args, signs),
        SqlType::Integer => checked::<Int32Type>(args, signs),
        SqlType::BigInt | SqlType::Oid => checked::<Int64Type>(args, signs),
        SqlType::Real => finish(
            unary::<Float32Type, Float32Type>(args, |x| {
                Ok(match signs {
                    Signs::Negated => -x,
                    Signs::Absolute => x.abs(),
                    Signs::Sign => sign_of(x as f64) as f32,
                })
            })?,
            args,
        ),
        SqlType::Double => finish(
            unary::<Float64Type, Float64Type>(args, |x| {
                Ok(match signs {
                    Signs::Negated => -x,
                    Signs::Absolute => x.abs(),
                    Signs::Sign => sign_of(x),
                })
            })?,
            args,
        ),
        SqlType::Numeric { .. } => finish(
            unary::<Decimal128Type, Decimal128Type>(args, |x| {
                Ok(match signs {
                    Signs::Negated => -x,
                    Signs::Absolute => x.abs(),
                    Signs::Sign => x.signum(),
                })
            })?,
            args,
        ),
        _ => finish(
            unary::<IntervalMonthDayNanoType, IntervalMonthDayNanoType>(args, |x| {
                Interval::from(x).negated()?.arrow()
            })?,
            args,
        ),
    }
}

fn sign_of(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x.abs() } else { x.signum() }
}

fn checked<T: ArrowPrimitiveType>(args: &ScalarFunctionArgs, signs: Signs) -> Result<ColumnarValue>
where
    T::Native: ArrowNativeTypeOp,
{
    let ty = type_of(args, 0)?;
    let overflow = |_| integer_out_of_range(&ty);
    let values = unary::<T, T>(args, |x| match signs {
        Signs::Absolute if x.is_ge(T::Native::ZERO) => Ok(x),
        Signs::Negated | Signs::Absolute => x.neg_checked().map_err(overflow),
        Signs::Sign if x.is_zero() => Ok(x),
        Signs::Sign => x.div_checked(x).map_err(overflow),
    })?;
    finish(values, args)
}

/// Which neighbour is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Nearest,
    Zero,
    Up,
    Down,
}

fn round(args: &ScalarFunctionArgs, rounding: Rounding) -> Result<ColumnarValue> {
    let ty = type_of(args, 0)?;
    let SqlType::Numeric { scale, .. } = ty else {
        return double(args, |x| {
            Ok(match rounding {
                Rounding::Nearest => x.round_ties_even(),
                Rounding::Zero => x.trunc(),
                Rounding::Up => x.ceil(),
                Rounding::Down => x.floor(),
            })
        });
    };
    let values = match args.args.len() {
        1 => unary::<Decimal128Type, Decimal128Type>(args, |x| round_decimal(x, scale, 0, 0, rounding))?,
        _ => binary::<Decimal128Type, Int32Type, Decimal128Type>(args, |x, places| {
            round_decimal(x, scale, places.clamp(-38, scale as i32) as i8, scale, rounding)
        })?,
    };
    finish(values, args)
}

/// The decimal of scale `from` at `places` digits after the point, given with a scale of `to`.
fn round_decimal(value: i128, from: i8, places: i8, to: i8, rounding: Rounding) -> Result<i128> {
    let unit = power_of_ten((from - places) as u32);
    let rounded = match (rounding, unit) {
        (Rounding::Nearest, _) => rescale_decimal(value, from, places).ok_or_else(arithmetic::numeric_overflow)?,
        (Rounding::Zero, Some(unit)) => value / unit,
        (Rounding::Up, Some(unit)) => -(-value).div_euclid(unit),
        (Rounding::Down, Some(unit)) => value.div_euclid(unit),
        (Rounding::Zero | Rounding::Up | Rounding::Down, None) => 0,
    };
    let value = rescale_decimal(rounded, places, to).filter(|value| fits_digits(*value, PRECISION_MAX));
    value.ok_or_else(arithmetic::numeric_overflow)
}

fn double(args: &ScalarFunctionArgs, f: impl Fn(f64) -> Result<f64>) -> Result<ColumnarValue> {
    finish(unary::<Float64Type, Float64Type>(args, f)?, args)
}

fn doubles(args: &ScalarFunctionArgs, f: impl Fn(f64, f64) -> Result<f64>) -> Result<ColumnarValue> {
    finish(binary::<Float64Type, Float64Type, Float64Type>(args, f)?, args)
}

fn square_root(x: f64) -> Result<f64> {
    if x < 0.0 {
        return Err(Error::invalid_power("cannot take square root of a negative number"));
    }
    Ok(x.sqrt())
}

fn exponential(x: f64) -> Result<f64> {
    arithmetic::check_range(x.exp(), x.is_infinite(), !x.is_infinite())
}

fn logarithm(x: f64, f: fn(f64) -> f64) -> Result<f64> {
    match x {
        0.0 => Err(Error::invalid_logarithm("cannot take logarithm of zero")),
        x if x < 0.0 => Err(Error::invalid_logarithm("cannot take logarithm of a negative number")),
        x => Ok(f(x)),
    }
}
